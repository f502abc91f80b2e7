//! What every reader of the list of disks needs: where it lies, an empty entry, a disk's own names.

use crate::model::inventory::{Disk, DiskKind};
use crate::probe::bus::is_numbered;

/// A folder for every block device.
pub(crate) const BLOCK: &str = "/sys/block";

pub(crate) fn is_optical(name: &str) -> bool {
    is_numbered(name, "sr")
}

/// A disk of which only the name is known.
pub(crate) fn nameless(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        kind: if is_optical(name) {
            DiskKind::Optical
        } else {
            DiskKind::Disk
        },
        ..Disk::default()
    }
}

/// What a disk calls itself, as it or smartctl tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnNames {
    pub model: Option<String>,
    pub serial: Option<String>,
    pub firmware: Option<String>,
    pub wwn: Option<String>,
}
