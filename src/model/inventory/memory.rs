//! Memory, summed up, by slot, by NUMA node, and its errors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory, summed up, by slot, by NUMA node, and its errors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// What the kernel has to give, `MemTotal`: less than what is plugged in.
    pub total_bytes: Option<u64>,
    /// The total as each source sees it. They differ by design.
    pub totals: Vec<MemoryTotal>,
    /// Set when the kernel sees so much less or more than the modules add up to that a person should look.
    #[serde(default)]
    pub disagreement: Option<MemoryDisagreement>,
    /// Error correction of the memory array, SMBIOS type 16.
    pub error_correction: Option<String>,
    /// What the arrays can hold at most, SMBIOS type 16.
    pub max_capacity_bytes: Option<u64>,
    /// Slots for modules.
    pub slots: Option<u32>,
    /// Slots with a module in them.
    pub slots_populated: Option<u32>,
    /// SMBIOS type 17, empty slots included, in the firmware's order.
    pub dimms: Vec<Dimm>,
    /// Memory devices on Compute Express Link, by number.
    #[serde(default)]
    pub cxl_devices: Vec<CxlDevice>,
    /// NUMA nodes, by number.
    #[serde(default)]
    pub numa_nodes: Vec<NumaNode>,
    /// Memory controllers whose errors the kernel counts (EDAC), by number.
    #[serde(default)]
    pub ecc_controllers: Vec<EccController>,
}

/// One opinion on how much memory there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryTotal {
    /// File or call that says so.
    pub source: String,
    /// The total.
    pub bytes: u64,
}

/// A difference that reserved memory does not explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryDisagreement {
    /// What the modules add up to, SMBIOS type 17.
    pub modules_bytes: u64,
    /// What the kernel was left with, `MemTotal`.
    pub kernel_bytes: u64,
    /// How much difference would have been let pass.
    pub tolerance_bytes: u64,
    /// The finding in words.
    pub finding: String,
}

/// One memory slot, SMBIOS type 17.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dimm {
    /// Name of the slot on the board.
    pub locator: Option<String>,
    /// Bank the slot belongs to.
    pub bank: Option<String>,
    /// False for an empty slot.
    pub populated: bool,
    /// Size of the module; `null` where it does not tell.
    pub size_bytes: Option<u64>,
    /// `DDR4`, `DDR5`, …
    pub memory_type: Option<String>,
    /// What tells more than the type: `DRAM`, `NVDIMM-N`, `Intel Optane persistent memory`, …
    #[serde(default)]
    pub technology: Option<String>,
    /// What it can be used as: `volatile`, `byte-accessible persistent`, `block-accessible persistent`.
    #[serde(default)]
    pub operating_modes: Vec<String>,
    /// `registered`, `unbuffered`, `load-reduced`.
    #[serde(default)]
    pub buffering: Option<String>,
    /// Maker of the module by its JEDEC code (JEP106), which the module itself carries.
    #[serde(default)]
    pub module_manufacturer: Option<String>,
    /// The maker's number of the product, in hex.
    #[serde(default)]
    pub module_product_id: Option<String>,
    /// Maker of the controller on the module, likewise; plain memory has none.
    #[serde(default)]
    pub controller_manufacturer: Option<String>,
    /// The maker's number of that controller, in hex.
    #[serde(default)]
    pub controller_product_id: Option<String>,
    /// Maker of the module's power management circuit, by its JEDEC code.
    #[serde(default)]
    pub pmic_manufacturer: Option<String>,
    /// Its revision: the byte of SPD in hex.
    #[serde(default)]
    pub pmic_revision: Option<String>,
    /// Maker of the module's registering clock driver, by its JEDEC code.
    #[serde(default)]
    pub clock_driver_manufacturer: Option<String>,
    /// Its revision, likewise.
    #[serde(default)]
    pub clock_driver_revision: Option<String>,
    /// How much of it is a cache before other memory.
    #[serde(default)]
    pub cache_bytes: Option<u64>,
    /// Unit of the BMC's list of field replaceable units that holds what the module says of itself (SPD), found by its serial
    /// number.
    #[serde(default)]
    pub fru: Option<u8>,
    /// When it was made, from there: ISO 8601, such as `2017-W02`.
    #[serde(default)]
    pub made_in_week: Option<String>,
    /// Version of the module's own firmware, of modules that have one.
    #[serde(default)]
    pub firmware: Option<String>,
    /// How much of it is memory like any other, as it is set up now.
    #[serde(default)]
    pub volatile_bytes: Option<u64>,
    /// How much of it keeps its content without power, and is not given out by the kernel as memory.
    #[serde(default)]
    pub non_volatile_bytes: Option<u64>,
    /// `DIMM`, `SODIMM`, …
    pub form_factor: Option<String>,
    /// Rated, in mega-transfers a second.
    pub speed_mtps: Option<u32>,
    /// As it runs.
    pub configured_speed_mtps: Option<u32>,
    /// As it runs.
    pub configured_voltage_mv: Option<u16>,
    /// Least it runs at.
    #[serde(default)]
    pub min_voltage_mv: Option<u16>,
    /// Most it runs at.
    #[serde(default)]
    pub max_voltage_mv: Option<u16>,
    /// Ranks of the module.
    pub ranks: Option<u8>,
    /// Width of the data.
    pub data_width_bits: Option<u16>,
    /// Data width plus the bits of error correction.
    pub total_width_bits: Option<u16>,
    /// Maker, as text or as a JEDEC number.
    pub manufacturer: Option<String>,
    /// Part number.
    pub part_number: Option<String>,
    /// Serial number.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// Asset tag.
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
}

/// One memory device on Compute Express Link (Linux Documentation/ABI/testing/sysfs-bus-cxl).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CxlDevice {
    /// `mem0`
    pub name: String,
    /// Address of its PCI function.
    pub pci_address: Option<String>,
    /// Maker by the PCI ID database.
    pub vendor: Option<String>,
    /// Model by the PCI ID database.
    pub model: Option<String>,
    /// The 64 bits of the PCI Express device serial number, in hex with `0x`.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// Revision of its firmware.
    pub firmware: Option<String>,
    /// What is memory like any other.
    pub volatile_bytes: Option<u64>,
    /// What keeps its content without power.
    pub persistent_bytes: Option<u64>,
    /// NUMA node of its slot; that of its memory may be another one.
    pub numa_node: Option<u32>,
    /// `disabled`, `locked`, `unlocked`, `frozen`, `sanitize`.
    pub security: Option<String>,
    /// Largest message its mailbox takes.
    pub mailbox_bytes: Option<u64>,
    /// Memory regions it takes part in: `region0`.
    pub regions: Vec<String>,
}

/// One NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaNode {
    /// The kernel's number.
    pub node: u32,
    /// Memory of the node; 0 for one that has processors only.
    pub memory_bytes: Option<u64>,
    /// Threads of the node as the kernel lists them: `0-3,8-11`. Empty for one that has memory only.
    pub cpus: String,
    /// How many threads that are.
    pub threads: u32,
    /// Distance to each node, in the order of the nodes; 10 is local (ACPI SLIT).
    pub distances: Vec<u32>,
}

/// One memory controller as the kernel's EDAC driver sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EccController {
    /// `mc0`
    pub name: String,
    /// The driver's name for it: `Skylake Socket#0 IMC#0`.
    pub model: Option<String>,
    /// Memory it drives.
    pub size_bytes: Option<u64>,
    /// Errors corrected since the driver started counting.
    pub corrected_errors: Option<u64>,
    /// Errors that could not be corrected.
    pub uncorrected_errors: Option<u64>,
    /// Corrected errors that could not be put down to a module.
    pub corrected_errors_unplaced: Option<u64>,
    /// Uncorrected errors that could not be put down to a module.
    pub uncorrected_errors_unplaced: Option<u64>,
    /// How long it has been counting.
    pub counting_seconds: Option<u64>,
    /// Its modules or ranks, whichever the driver counts by.
    pub modules: Vec<EccModule>,
}

/// What one module or rank had to correct.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EccModule {
    /// `dimm0`, `rank3`
    pub name: String,
    /// The driver's label, from firmware where it knows: `CPU_SrcID#0_MC#0_Chan#0_DIMM#0`.
    pub label: Option<String>,
    /// Slot of the same name among `dimms`, where the label names exactly one.
    pub locator: Option<String>,
    /// Where the controller reaches it: `channel 0 slot 1`.
    pub location: Option<String>,
    /// The driver's word: `Registered-DDR4`.
    pub memory_type: Option<String>,
    /// The driver's word for the error correction in use: `S4ECD4ED`.
    pub correction: Option<String>,
    /// Size of the module or rank.
    pub size_bytes: Option<u64>,
    /// Errors corrected since the driver started counting.
    pub corrected_errors: Option<u64>,
    /// Errors that could not be corrected.
    pub uncorrected_errors: Option<u64>,
}
