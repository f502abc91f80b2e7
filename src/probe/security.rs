//! Firmware and security.

use std::sync::Arc;
use std::time::Duration;

use super::live::LiveSources;
use super::root::Root;
use crate::model::inventory::{Part, PartStatus, Security};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/firmware/efi/efivars";

/// Firmware and security.
pub fn security(_root: &Root, _live: Option<Arc<dyn LiveSources>>, _limit: Duration) -> Part<Security> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
