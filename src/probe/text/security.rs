//! Firmware and security for people.

use super::Page;
use crate::model::inventory::Security;

pub(super) fn lines(_page: &mut Page, _security: &Security) {}
