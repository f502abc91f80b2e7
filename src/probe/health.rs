//! Health as the kernel has noticed it.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Health, Part, PartStatus};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/devices/system";

/// Health as the kernel has noticed it.
pub fn health(_root: &Root, _live: Option<Arc<dyn LiveSources>>, _limit: Duration) -> Part<Health> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
