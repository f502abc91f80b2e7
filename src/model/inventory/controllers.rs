//! Storage controllers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::smart::Smart;

/// A storage controller: a PCI function of that class, or a SCSI host without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StorageController {
    /// Address of the PCI function.
    pub pci_address: Option<String>,
    /// `raid`, `sas`, `sata`, `nvme`, `ide`, `scsi`, `fc`, … (PCI class and subclass, or the driver of the host).
    pub kind: String,
    /// Maker, from the PCI identifiers.
    pub vendor: Option<String>,
    /// Name of the device, from the PCI identifiers.
    pub device: Option<String>,
    /// `1000:005d`
    pub pci_id: Option<String>,
    /// The same of the board it is on.
    pub pci_subsystem_id: Option<String>,
    /// Kernel driver; `null` where none took it, so that disks behind it cannot be seen.
    pub driver: Option<String>,
    /// Version of the driver, where it has one of its own.
    pub driver_version: Option<String>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Model as the controller itself tells it.
    pub model: Option<String>,
    /// Firmware of the controller.
    pub firmware: Option<String>,
    /// BIOS or option ROM of the controller.
    pub option_rom: Option<String>,
    /// Serial number.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// SCSI hosts the driver made of it.
    pub hosts: Vec<StorageHost>,
    /// NVMe controllers by kernel name.
    pub nvme_controllers: Vec<String>,
    /// Disks behind it, by kernel name.
    pub disks: Vec<String>,
    /// Disks as smartctl reaches them through the controller, those of its volumes included. The kernel sees only some of
    /// them, or none.
    #[serde(default)]
    pub physical_disks: Vec<PhysicalDisk>,
    /// What the maker's own program says of it, if that program is on the image.
    pub tool: Option<ToolOutput>,
}

/// A SCSI host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StorageHost {
    /// `host0`
    pub name: String,
    /// Driver, as the host names it.
    pub driver: Option<String>,
    /// `running`, `recovery`, …
    pub state: Option<String>,
    /// World wide name of a Fibre Channel port.
    #[schemars(extend("x-sensitive" = true))]
    pub port_wwn: Option<String>,
    /// State of a Fibre Channel port: `Online`, `Linkdown`.
    pub port_state: Option<String>,
    /// Speed of a Fibre Channel port: `32 Gbit`.
    pub port_speed: Option<String>,
}

/// One disk behind a controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhysicalDisk {
    /// How smartctl addresses it, for its option `-d`: `megaraid,5`, `cciss,0`.
    pub address: String,
    /// What the address counts from: `/dev/bus/0`, `/dev/sg2`.
    pub device: String,
    /// Entry of `disks` that is the same disk, where the controller passes it through.
    pub kernel_name: Option<String>,
    /// `ata`, `scsi` or `nvme`.
    pub protocol: Option<String>,
    /// Model, with the maker where it tells both.
    pub model: Option<String>,
    /// Serial number.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// World wide name, `naa.…`.
    #[schemars(extend("x-sensitive" = true))]
    pub wwn: Option<String>,
    /// Firmware revision.
    pub firmware: Option<String>,
    /// Size.
    pub size_bytes: Option<u64>,
    /// What the disk is addressed in.
    pub logical_sector_bytes: Option<u32>,
    /// What the disk writes at once.
    pub physical_sector_bytes: Option<u32>,
    /// Rotation speed; 0 for flash.
    pub rotation_rpm: Option<u32>,
    /// `2.5 inches`, `M.2`.
    pub form_factor: Option<String>,
    /// What the disk tells of its health.
    pub smart: Option<Smart>,
}

/// Output of a maker's program, as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolOutput {
    /// The command line.
    pub command: String,
    /// Its standard output, at most 64 KiB. Names serial numbers.
    #[schemars(extend("x-sensitive" = true))]
    pub text: String,
    /// True where the output was longer.
    pub truncated: bool,
}
