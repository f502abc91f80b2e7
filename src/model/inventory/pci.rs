//! PCI functions, USB devices, GPUs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One PCI function.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PciFunction {
    /// `domain:bus:device.function` in hex.
    pub address: String,
    /// `vendor:device` in hex.
    pub id: Option<String>,
    /// `vendor:device` in hex of the board that carries the chip.
    pub subsystem_id: Option<String>,
    /// Class, subclass and programming interface in hex: `020000`.
    pub class: Option<String>,
    /// Name of class and subclass by the PCI ID database.
    pub class_name: Option<String>,
    pub vendor_name: Option<String>,
    pub device_name: Option<String>,
    pub subsystem_name: Option<String>,
    /// In hex.
    pub revision: Option<String>,
    pub driver: Option<String>,
    pub numa_node: Option<u32>,
    pub iommu_group: Option<u32>,
    /// Name of the slot, as printed on the machine, where firmware tells.
    pub slot: Option<String>,
    /// `D0` runs, `D3hot` and `D3cold` sleep.
    pub power_state: Option<String>,
    /// The link to the bridge above; `null` for functions that are not PCI Express.
    pub link: Option<PciLink>,
    /// Errors the function counted (Advanced Error Reporting); `null` where it does not count.
    pub aer: Option<PciAer>,
    /// SR-IOV: how many virtual functions there can be.
    pub vfs_total: Option<u32>,
    /// SR-IOV: how many there are.
    pub vfs_enabled: Option<u32>,
    /// PCI address of the physical function, for a virtual one.
    pub physical_function: Option<String>,
    pub vpd: Option<Vpd>,
}

/// A PCI Express link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PciLink {
    /// GT/s a lane, now.
    pub speed_gtps: Option<f64>,
    /// GT/s a lane this function can do.
    pub max_speed_gtps: Option<f64>,
    /// Lanes in use now.
    pub width: Option<u32>,
    /// Lanes this function can use.
    pub max_width: Option<u32>,
    /// GT/s a lane the bridge at the other end can do.
    pub upstream_max_speed_gtps: Option<f64>,
    /// Lanes the bridge at the other end can use.
    pub upstream_max_width: Option<u32>,
    /// Slower, or with fewer lanes, than both ends can do. Of GPUs, accelerators and what the kernel put to sleep only the
    /// lanes count: they lower their speed while nothing is to be done.
    pub degraded: bool,
}

/// Errors counted by one function since boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PciAer {
    pub correctable: u64,
    pub nonfatal: u64,
    pub fatal: u64,
    /// Each kind that was seen, as `correctable.BadTLP`.
    pub kinds: BTreeMap<String, u64>,
}

/// Vital Product Data: what the maker of the card wrote into it (PCI Local Bus Specification 3.0, appendix I).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vpd {
    pub product_name: Option<String>,
    /// `PN`.
    pub part_number: Option<String>,
    /// `SN`.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// `EC`: engineering change level.
    pub engineering_changes: Option<String>,
    /// `MN`.
    pub manufacture_id: Option<String>,
    /// `YA`.
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
    /// All other fields by their two letters. Makers put addresses and serial numbers there too.
    #[schemars(extend("x-sensitive" = true))]
    pub fields: BTreeMap<String, String>,
    /// Whether the checksum over the read-only part is right; `null` where there is none.
    pub checksum_ok: Option<bool>,
}

/// One USB device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsbDevice {
    /// Bus and ports: `1-1.4`; `usb1` is the root hub of bus 1.
    pub path: String,
    /// True for what the host controller itself shows as a hub.
    pub root_hub: bool,
    /// `vendor:product` in hex.
    pub id: Option<String>,
    /// By the USB ID database.
    pub vendor_name: Option<String>,
    pub product_name: Option<String>,
    /// As the device says.
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    pub speed_mbps: Option<f64>,
    /// `2.00`, `3.20`.
    pub usb_version: Option<String>,
    /// Class of the device, or of each of its interfaces, by the USB ID database.
    pub classes: Vec<String>,
    /// Drivers of its interfaces.
    pub drivers: Vec<String>,
    /// PCI address of the host controller.
    pub controller: Option<String>,
}

/// One GPU, display adapter or accelerator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    pub pci_address: String,
    /// `vendor:device` in hex.
    pub id: Option<String>,
    pub vendor: Option<String>,
    /// As the driver says, else by the PCI ID database.
    pub name: Option<String>,
    pub driver: Option<String>,
    pub driver_version: Option<String>,
    pub numa_node: Option<u32>,
    pub memory_bytes: Option<u64>,
    /// Where the size comes from: `amdgpu` or `nvidia-smi`.
    pub memory_source: Option<String>,
    /// Largest window into its memory (BAR). No size of the memory: that may be larger, and behind a window that was rounded up
    /// smaller.
    #[serde(default)]
    pub window_bytes: Option<u64>,
    #[schemars(extend("x-sensitive" = true))]
    pub uuid: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// Version of its firmware.
    pub vbios: Option<String>,
    pub temperature_celsius: Option<f64>,
    pub power_limit_watts: Option<f64>,
    /// Memory errors that could not be corrected, since the driver was loaded.
    pub uncorrected_errors: Option<u64>,
}
