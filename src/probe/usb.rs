//! USB devices.

use super::root::Root;
use crate::model::inventory::{Part, PartStatus, UsbDevice};

/// Named when nothing else is known.
pub const SOURCE: &str = "/sys/bus/usb/devices";

/// USB devices.
pub fn devices(_root: &Root) -> Part<Vec<UsbDevice>> {
    Part::missing(PartStatus::Unsupported, SOURCE, "not written yet")
}
