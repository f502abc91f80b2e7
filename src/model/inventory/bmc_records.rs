//! What the management controller keeps in its stores: field replaceable units, sensors, the event log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One field replaceable unit (Platform Management FRU Information Storage Definition 1.0).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fru {
    pub id: u8,
    /// What the sensor repository calls it; `null` for the controller's own board, which it need not list.
    pub name: Option<String>,
    /// What it belongs to: `system board`, `power supply`, …
    pub entity: Option<String>,
    pub size_bytes: u32,
    pub chassis: Option<FruChassis>,
    pub board: Option<FruBoard>,
    pub product: Option<FruProduct>,
    pub multirecords: Vec<FruMultirecord>,
    /// What a memory module says of itself, where the unit is its description (SPD) and no inventory of areas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<FruMemory>,
    /// What is wrong with its bytes, such as a checksum. Fields of a damaged area are given as they are.
    pub damage: Vec<String>,
}

/// Chassis info area.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FruChassis {
    /// As in SMBIOS type 3.
    pub kind: Option<String>,
    pub part_number: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub extra: Vec<String>,
}

/// A memory module's description of itself (JEDEC serial presence detect).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FruMemory {
    /// `DDR4` and so on.
    pub memory_type: String,
    pub size_bytes: Option<u64>,
    /// By its JEDEC code; the code itself where the maker is not known.
    pub manufacturer: Option<String>,
    pub part_number: Option<String>,
    /// Four bytes in hex.
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// ISO 8601, such as `2017-W02`.
    pub made_in_week: Option<String>,
}

/// Board info area.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FruBoard {
    /// RFC 3339, minutes exact; the specification does not say which zone, makers use UTC.
    pub made_at: Option<String>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    pub part_number: Option<String>,
    pub fru_file_id: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub extra: Vec<String>,
}

/// Product info area.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FruProduct {
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub part_number: Option<String>,
    pub version: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
    pub fru_file_id: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub extra: Vec<String>,
}

/// One record of the multi-record area.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FruMultirecord {
    /// `power supply`, `dc output`, `management access`, … or its number.
    pub kind: String,
    /// Overall capacity of a power supply.
    pub capacity_watts: Option<u16>,
    /// Its data in hex, for what is not taken apart.
    #[schemars(extend("x-sensitive" = true))]
    pub data: String,
}

/// The sensor data repository and what its sensors read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sensors {
    /// Records in the repository, as it says itself.
    pub records_told: Option<u16>,
    /// Records read.
    pub records_read: u32,
    /// False where records are missing: too many, too slow, or refused.
    pub complete: bool,
    pub sensors: Vec<Sensor>,
}

/// One sensor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sensor {
    pub name: String,
    /// Its number; unique for one owner and logical unit.
    pub number: u8,
    pub lun: u8,
    /// Bus address of the controller that owns it; `null` is the management controller itself. Others are not asked.
    pub owner: Option<u8>,
    /// `temperature`, `fan`, `voltage`, `power supply`, …
    pub kind: String,
    /// What it watches: `processor 1`, `power supply 2`, …
    pub entity: Option<String>,
    /// In `unit`; `null` for sensors that know states only, or where the reading cannot be had.
    pub value: Option<f64>,
    /// `degrees C`, `RPM`, `Volts`, …
    pub unit: Option<String>,
    /// For sensors with thresholds: `ok`, `lower non-critical`, `upper critical`, …
    pub status: Option<String>,
    /// For the others, the states that hold, by name: `presence detected`, `power supply input lost`, …
    pub states: Vec<String>,
    pub lower_non_recoverable: Option<f64>,
    pub lower_critical: Option<f64>,
    pub lower_non_critical: Option<f64>,
    pub upper_non_critical: Option<f64>,
    pub upper_critical: Option<f64>,
    pub upper_non_recoverable: Option<f64>,
    /// Why there is no reading: `not present`, `scanning is off`, …
    pub unavailable: Option<String>,
}

/// The system event log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sel {
    /// Entries in the log.
    pub entries_total: u16,
    pub free_bytes: Option<u16>,
    /// True where the log was full and lost entries.
    pub overflow: Option<bool>,
    /// When an entry was added or the log was cleared last, RFC 3339 by the controller's clock.
    pub last_added_at: Option<String>,
    pub last_cleared_at: Option<String>,
    /// The controller's clock when we asked, RFC 3339.
    pub clock: Option<String>,
    /// The newest entries in order of time, at most 512.
    pub entries: Vec<SelEntry>,
    /// False where entries of the newest 512 are missing.
    pub complete: bool,
}

/// One entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SelEntry {
    pub id: u16,
    /// RFC 3339 by the controller's clock; `null` for entries from before it was set.
    pub at: Option<String>,
    /// Seconds since the controller started, for entries from before its clock was set.
    pub after_start_s: Option<u32>,
    /// `event`, `oem timestamped`, `oem`, or the number of the record type.
    pub kind: String,
    /// Name of the sensor where the repository knows it.
    pub sensor: Option<String>,
    pub sensor_number: Option<u8>,
    pub sensor_kind: Option<String>,
    /// What happened: `upper critical going high`, `uncorrectable ECC`, …
    pub event: Option<String>,
    /// False where the state went away again.
    pub asserted: Option<bool>,
    /// The 16 bytes in hex.
    pub raw: String,
}
