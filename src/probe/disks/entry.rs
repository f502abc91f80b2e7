//! What every reader of the list of disks needs: where it lies, an empty entry, a missing piece.

use crate::model::inventory::{Disk, DiskKind, Item, PartStatus};

/// A folder for every block device.
pub(crate) const BLOCK: &str = "/sys/block";

pub(crate) fn is_optical(name: &str) -> bool {
    name.strip_prefix("sr")
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// A piece that is missing.
pub(crate) fn gap(item: &str, status: PartStatus, reason: String) -> Item {
    Item::gap(item.to_owned(), status, reason)
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
