//! Block devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Broad kind of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    Disk,
    Optical,
}

/// One whole disk with hardware behind it. Partitions, loop devices, RAM disks and mapped devices are not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Kernel name, such as `nvme0n1`.
    pub name: String,
    pub kind: DiskKind,
    pub size_bytes: Option<u64>,
    pub logical_sector_bytes: Option<u32>,
    pub physical_sector_bytes: Option<u32>,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub serial: Option<String>,
    /// World wide name in lower case with its scheme: `naa.5000c500…`, `eui.0025…`, `nvme.…`, `uuid.…`.
    pub wwn: Option<String>,
    pub firmware: Option<String>,
    /// `nvme`, `nvme-tcp`, `sata`, `sas`, `usb`, `virtio`, `scsi`, `iscsi`, `fc`, `mmc`, …
    pub transport: Option<String>,
    /// `host:channel:target:lun` of a SCSI device.
    pub hctl: Option<String>,
    /// Address of the PCI function it hangs on.
    pub pci_address: Option<String>,
    pub numa_node: Option<u32>,
    pub rotational: Option<bool>,
    pub read_only: Option<bool>,
    pub removable: Option<bool>,
    /// True for the medium this system runs from.
    pub boot_medium: bool,
}

/// A storage controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StorageController {}
