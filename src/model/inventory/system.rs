//! Whose machine it is, and its firmware: what the SMBIOS table says besides processors and memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose machine it is: SMBIOS types 1 to 3, and what firmware lists of slots, connectors and supplies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct System {
    pub vendor: Option<String>,
    pub product: Option<String>,
    pub version: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    /// Canonical lower case, in the byte order that `dmidecode` and the kernel print.
    #[schemars(extend("x-sensitive" = true))]
    pub uuid: Option<String>,
    pub sku: Option<String>,
    pub family: Option<String>,
    /// What switched the machine on: `power switch`, `lan remote`, `ac power restored`, …
    pub wake_up: Option<String>,
    /// How far one can trust the names of this machine.
    pub identity: Option<Identity>,
    /// The main board.
    pub board: Option<Board>,
    /// The other boards listed: risers, blades, memory boards.
    pub other_boards: Vec<Board>,
    pub chassis: Option<Chassis>,
    /// Enclosures beyond the first: a blade centre around a blade.
    pub other_chassis: Vec<Chassis>,
    /// SMBIOS type 9, empty slots included.
    pub slots: Vec<SystemSlot>,
    /// SMBIOS type 41, else type 10.
    pub onboard_devices: Vec<OnboardDevice>,
    /// SMBIOS type 8.
    pub ports: Vec<PortConnector>,
    /// SMBIOS type 7, by socket and level.
    pub caches: Vec<CacheFacts>,
    /// SMBIOS type 39.
    pub power_supplies: Vec<PowerSupply>,
    /// SMBIOS type 11, free text of the maker.
    #[schemars(extend("x-sensitive" = true))]
    pub oem_strings: Vec<String>,
    /// SMBIOS type 12, jumpers and switches.
    pub configuration_options: Vec<String>,
    /// SMBIOS type 32: `no errors`, or what the last start met.
    pub boot_status: Option<String>,
}

/// How well this machine can be told from all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// 0: nothing names it; 100: UUID, serial numbers and addresses agree.
    pub score: u8,
    /// The name it goes by: its UUID, else the address of a port.
    #[schemars(extend("x-sensitive" = true))]
    pub chosen: Option<String>,
    /// What `chosen` is: `uuid`, `mac`; `null` where there is neither.
    pub basis: Option<String>,
    /// What counted for and against, for a person. Holds no names.
    pub reasons: Vec<String>,
}

/// SMBIOS type 2.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Board {
    pub vendor: Option<String>,
    pub product: Option<String>,
    pub version: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
    /// Where the board sits in its chassis: slot of a blade or of a multi-node box.
    pub location: Option<String>,
    /// `motherboard`, `server blade`, `riser`, …
    pub kind: Option<String>,
}

/// SMBIOS type 3.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chassis {
    pub vendor: Option<String>,
    /// Name of the SMBIOS chassis type, such as `rack mount chassis`.
    pub kind: Option<String>,
    pub version: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
    pub sku: Option<String>,
    pub height_units: Option<u8>,
    pub power_cords: Option<u8>,
    /// States at the last start: `safe`, `warning`, `critical`, `non-recoverable`, `other`.
    pub boot_up_state: Option<String>,
    pub power_supply_state: Option<String>,
    pub thermal_state: Option<String>,
}

/// SMBIOS type 9.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSlot {
    /// As printed on the board.
    pub name: Option<String>,
    /// `PCI Express 4 x16`, `M.2 Socket 3`, …
    pub kind: Option<String>,
    /// `x16`; how many lanes are wired.
    pub width: Option<String>,
    /// `short`, `long`, `2.5-inch drive`, …
    pub length: Option<String>,
    /// `null` where firmware does not know.
    pub in_use: Option<bool>,
    /// `unavailable`: the processor for it is missing.
    pub unavailable: bool,
    /// PCI address of what is or would be in it, `0000:3b:00.0`.
    pub bus_address: Option<String>,
    pub physical_width: Option<String>,
}

/// SMBIOS types 41 and 10.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnboardDevice {
    pub name: Option<String>,
    /// `ethernet`, `video`, `sata controller`, …
    pub kind: Option<String>,
    pub instance: Option<u8>,
    pub enabled: bool,
    /// PCI address, `0000:04:00.0`.
    pub bus_address: Option<String>,
}

/// SMBIOS type 8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortConnector {
    /// As printed on the board.
    pub internal: Option<String>,
    /// As printed on the case.
    pub external: Option<String>,
    /// `network`, `usb`, `video`, …
    pub kind: Option<String>,
}

/// SMBIOS type 7.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheFacts {
    /// Socket of the processor it belongs to, where the table says.
    pub socket: Option<String>,
    pub name: Option<String>,
    pub level: u8,
    pub size_bytes: Option<u64>,
    /// `unified`, `data`, `instruction`.
    pub kind: Option<String>,
    /// `8-way`, `fully`, …
    pub associativity: Option<String>,
    pub error_correction: Option<String>,
    pub enabled: bool,
}

/// SMBIOS type 39.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PowerSupply {
    pub name: Option<String>,
    pub location: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub serial: Option<String>,
    #[schemars(extend("x-sensitive" = true))]
    pub asset_tag: Option<String>,
    pub revision: Option<String>,
    pub max_capacity_watts: Option<u16>,
    pub present: bool,
    /// Plugged into the mains.
    pub plugged: bool,
    pub hot_swappable: bool,
    /// `ok`, `non-critical`, `critical`, `other`.
    pub status: Option<String>,
}

/// How the firmware started the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareMode {
    #[default]
    Bios,
    Uefi,
    /// No firmware tables at all, only a device tree.
    DeviceTree,
}

/// SMBIOS type 0 and the boot mode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Size of the flash chip.
    pub rom_size_bytes: Option<u64>,
    /// The table says that this is a virtual machine.
    pub virtual_machine: Option<bool>,
    /// The table says that the firmware can start by UEFI, whichever way it did.
    pub uefi_capable: Option<bool>,
}
