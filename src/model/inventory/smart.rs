//! What disks tell of their health, and NVMe controllers of themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an NVMe controller tells of itself and of one namespace (Identify, NVM Express Base Specification 2.0, 5.17.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nvme {
    /// `nvme0`
    pub controller: String,
    /// Other controllers that lead to the same namespace.
    pub other_paths: Vec<String>,
    /// State of the controller in the kernel's words: `live`, `dead`.
    pub state: Option<String>,
    /// NVMe qualified name of the subsystem.
    #[schemars(extend("x-sensitive" = true))]
    pub subsystem_nqn: Option<String>,
    /// Number of the controller within its subsystem.
    pub controller_id: Option<u16>,
    /// Version of the specification it follows: `1.4`.
    pub version: Option<String>,
    /// All the storage of the controller, used by namespaces or not.
    pub total_bytes: Option<u64>,
    /// What no namespace uses.
    pub unallocated_bytes: Option<u64>,
    /// How many namespaces it can have.
    pub max_namespaces: Option<u32>,
    /// Entries its error log can hold.
    pub error_log_size: Option<u32>,
    /// Whether a power cut loses what was written last.
    pub volatile_write_cache: Option<bool>,
    /// From this temperature on it warns.
    pub warning_celsius: Option<i32>,
    /// From this temperature on it may shut down.
    pub critical_celsius: Option<i32>,
    /// Number of this namespace.
    pub namespace: Option<u32>,
    /// EUI-64 of the namespace, in lower-case hex.
    #[schemars(extend("x-sensitive" = true))]
    pub eui64: Option<String>,
    /// NGUID of the namespace, in lower-case hex.
    #[schemars(extend("x-sensitive" = true))]
    pub nguid: Option<String>,
    /// UUID of the namespace.
    #[schemars(extend("x-sensitive" = true))]
    pub uuid: Option<String>,
    /// What the namespace occupies at present, where it allocates as it is written.
    pub used_bytes: Option<u64>,
    /// How its blocks are laid out at present.
    pub lba_format: Option<LbaFormat>,
    /// Layouts it could be formatted to.
    pub lba_formats: Vec<LbaFormat>,
}

/// How the blocks of a namespace are laid out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LbaFormat {
    /// Data of one block.
    pub data_bytes: u64,
    /// Metadata beside it.
    pub metadata_bytes: u32,
    /// `best`, `better`, `good` or `degraded`, as the controller rates it.
    pub performance: String,
}

/// What a disk tells of its health. What it does not count is `null`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Smart {
    /// The disk's own verdict; false means it expects to fail.
    pub passed: Option<bool>,
    /// What the disk warns of, and what is out of bounds by its own thresholds, in words. Empty for a healthy disk.
    pub warnings: Vec<String>,
    /// Temperature now.
    pub temperature_celsius: Option<i32>,
    /// Time under power.
    pub power_on_hours: Option<u64>,
    /// Times it was switched on.
    pub power_cycles: Option<u64>,
    /// Times power went away without warning.
    pub unsafe_shutdowns: Option<u64>,
    /// Wear of flash; 100 is what the maker vouches for, and it may go on beyond.
    pub percentage_used: Option<u8>,
    /// Spare blocks left.
    pub available_spare_percent: Option<u8>,
    /// Below this, the disk warns.
    pub available_spare_threshold_percent: Option<u8>,
    /// Read by the host over the disk's life.
    pub data_read_bytes: Option<u64>,
    /// Written by the host over the disk's life.
    pub data_written_bytes: Option<u64>,
    /// Times data could not be given back as it was written.
    pub media_errors: Option<u64>,
    /// Entries ever made in the error log.
    pub error_log_entries: Option<u64>,
    /// Minutes spent above the warning temperature.
    pub warning_temperature_minutes: Option<u64>,
    /// Minutes spent above the critical temperature.
    pub critical_temperature_minutes: Option<u64>,
    /// ATA: sectors moved to spare ones. SCSI: defects that came up since the disk was made.
    pub reallocated_sectors: Option<u64>,
    /// ATA: sectors that could not be read and wait to be written.
    pub pending_sectors: Option<u64>,
    /// ATA: sectors that could not be read in the disk's own scan.
    pub offline_uncorrectable_sectors: Option<u64>,
    /// ATA: transfers that arrived broken; a cable or backplane more often than a disk.
    pub interface_crc_errors: Option<u64>,
    /// SCSI: reads and writes that could not be corrected.
    pub uncorrected_errors: Option<u64>,
    /// ATA attributes, by number.
    #[serde(default)]
    pub attributes: Vec<SmartAttribute>,
}

/// One ATA SMART attribute. The meaning of most raw values is the maker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmartAttribute {
    /// Number.
    pub id: u8,
    /// Usual name of that number, where there is one.
    pub name: Option<String>,
    /// Rating now; higher is better.
    pub value: u8,
    /// Worst rating so far.
    pub worst: u8,
    /// At or below it, the attribute has failed.
    pub threshold: Option<u8>,
    /// Raw value, the six bytes as a number.
    pub raw: u64,
}
