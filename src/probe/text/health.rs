//! Health for people.

use super::Page;
use crate::model::inventory::Health;

pub(super) fn lines(_page: &mut Page, _health: &Health) {}
