//! Cable map of the machine, by LLDP and CDP.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Cabling, Part, PartStatus};

/// Named when nothing else is known.
pub const SOURCE: &str = "LLDP, CDP";

/// Cable map of the machine, by LLDP and CDP.
pub fn cabling(_root: &Root, _live: Option<Arc<dyn LiveSources>>, _limit: Duration) -> Part<Cabling> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
