//! Cabling for people.

use super::Page;
use crate::model::inventory::Cabling;

pub(super) fn lines(_page: &mut Page, _cabling: &Cabling) {}
