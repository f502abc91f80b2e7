//! PCI functions.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Part, PartStatus, PciFunction};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/bus/pci/devices";

/// PCI functions.
pub fn functions(_root: &Root, _live: Option<Arc<dyn LiveSources>>, _limit: Duration) -> Part<Vec<PciFunction>> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
