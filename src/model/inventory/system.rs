//! Whose machine it is, and its firmware: SMBIOS types 0 to 3 and the boot mode.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// SMBIOS types 1 to 3: whose machine it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct System {
    pub vendor: Option<String>,
    pub product: Option<String>,
    pub version: Option<String>,
    pub serial: Option<String>,
    /// Canonical lower case, in the byte order that `dmidecode` and the kernel print.
    pub uuid: Option<String>,
    pub sku: Option<String>,
    pub family: Option<String>,
    pub board: Option<Board>,
    pub chassis: Option<Chassis>,
}

/// SMBIOS type 2.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Board {
    pub vendor: Option<String>,
    pub product: Option<String>,
    pub version: Option<String>,
    pub serial: Option<String>,
    pub asset_tag: Option<String>,
    /// Where the board sits in its chassis: slot of a blade or of a multi-node box.
    pub location: Option<String>,
}

/// SMBIOS type 3.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chassis {
    pub vendor: Option<String>,
    /// Name of the SMBIOS chassis type, such as `rack mount chassis`.
    pub kind: Option<String>,
    pub version: Option<String>,
    pub serial: Option<String>,
    pub asset_tag: Option<String>,
    pub sku: Option<String>,
    pub height_units: Option<u8>,
}

/// How the firmware started the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareMode {
    Bios,
    Uefi,
    /// No firmware tables at all, only a device tree.
    DeviceTree,
}

/// SMBIOS type 0 and the boot mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bios {
    pub vendor: Option<String>,
    pub version: Option<String>,
    /// As the firmware writes it, usually `mm/dd/yyyy`.
    pub date: Option<String>,
    /// `major.minor` of the system firmware.
    pub release: Option<String>,
    /// `major.minor` of the embedded controller.
    pub embedded_controller_release: Option<String>,
    pub mode: FirmwareMode,
    /// 32 or 64: word size of UEFI, which need not be the kernel's.
    pub uefi_bits: Option<u8>,
    /// `major.minor` of the SMBIOS table.
    pub smbios_version: Option<String>,
}
