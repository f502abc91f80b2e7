//! Storage controllers and RAID.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Part, PartStatus, StorageController};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/bus/pci/devices";

/// Storage controllers and RAID.
pub fn storage_controllers(
    _root: &Root,
    _live: Option<Arc<dyn LiveSources>>,
    _limit: Duration,
) -> Part<Vec<StorageController>> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
