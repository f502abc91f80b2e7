//! GPUs.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Gpu, Part, PartStatus};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/bus/pci/devices";

/// GPUs.
pub fn gpus(_root: &Root, _live: Option<Arc<dyn LiveSources>>, _limit: Duration) -> Part<Vec<Gpu>> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
