//! What every reader of the list of disks needs: where it lies, what drivers its ways have, an empty entry, a disk's own names.

use crate::model::inventory::{Disk, DiskKind};
use crate::probe::bus::is_numbered;
use crate::probe::collect::root::Root;

/// A folder for every block device.
pub(crate) const BLOCK: &str = "/sys/block";
/// For every NVMe controller.
pub(crate) const NVME: &str = "/sys/class/nvme";
/// For every SCSI host, and what Fibre Channel ones tell beside it.
pub(crate) const SCSI_HOSTS: &str = "/sys/class/scsi_host";
pub(crate) const FC_HOSTS: &str = "/sys/class/fc_host";

/// Driver of a SCSI host; some tell none.
pub(crate) fn host_driver(root: &Root, host: &str) -> Option<String> {
    let driver = root.value(format!("{SCSI_HOSTS}/{host}/proc_name"))?;
    (!matches!(driver.as_str(), "<NULL>" | "(null)")).then_some(driver)
}

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
