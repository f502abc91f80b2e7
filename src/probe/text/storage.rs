//! Storage controllers for people.

use super::Page;
use crate::model::inventory::StorageController;

pub(super) fn controllers(_page: &mut Page, _controllers: &Vec<StorageController>) {}
