//! Memory, summed up and by slot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Memory, summed up and by slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// What the kernel has to give, `MemTotal`: less than what is plugged in.
    pub total_bytes: Option<u64>,
    /// The total as each source sees it. They differ by design; a large difference is a fault worth a look.
    pub totals: Vec<MemoryTotal>,
    /// Error correction of the memory array, SMBIOS type 16.
    pub error_correction: Option<String>,
    pub max_capacity_bytes: Option<u64>,
    pub slots: Option<u32>,
    pub slots_populated: Option<u32>,
    /// SMBIOS type 17, empty slots included, in the firmware's order.
    pub dimms: Vec<Dimm>,
}

/// One opinion on how much memory there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryTotal {
    pub source: String,
    pub bytes: u64,
}

/// One memory slot, SMBIOS type 17.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dimm {
    pub locator: Option<String>,
    pub bank: Option<String>,
    pub populated: bool,
    pub size_bytes: Option<u64>,
    /// `DDR4`, `DDR5`, …
    pub memory_type: Option<String>,
    pub form_factor: Option<String>,
    /// Rated, in mega-transfers a second.
    pub speed_mtps: Option<u32>,
    /// As it runs.
    pub configured_speed_mtps: Option<u32>,
    pub configured_voltage_mv: Option<u16>,
    pub ranks: Option<u8>,
    pub data_width_bits: Option<u16>,
    /// Data width plus the bits of error correction.
    pub total_width_bits: Option<u16>,
    pub manufacturer: Option<String>,
    pub part_number: Option<String>,
    pub serial: Option<String>,
    pub asset_tag: Option<String>,
}
