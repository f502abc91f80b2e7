//! Processors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Processors, summed up and by socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpus {
    /// As `uname -m` says it.
    pub arch: Option<String>,
    pub vendor: Option<String>,
    pub model: Option<String>,
    /// Family, model and stepping as numbers, for errata lists.
    pub family_number: Option<u32>,
    pub model_number: Option<u32>,
    pub stepping: Option<u32>,
    pub microcode: Option<String>,
    /// Sockets with a processor the kernel uses.
    pub sockets: Option<u32>,
    pub cores: Option<u32>,
    pub threads: Option<u32>,
    pub flags: Vec<String>,
    /// SMBIOS type 4, empty sockets included.
    pub packages: Vec<CpuPackage>,
}

/// One socket, SMBIOS type 4.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuPackage {
    pub socket: Option<String>,
    pub populated: bool,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub cores: Option<u16>,
    pub cores_enabled: Option<u16>,
    pub threads: Option<u16>,
    pub max_speed_mhz: Option<u16>,
    pub boot_speed_mhz: Option<u16>,
    pub serial: Option<String>,
    pub part_number: Option<String>,
}
