//! What a machine is made of: the document a peer uploads as `inventory.json`.
//!
//! Rules of the document: units are in the names (`size_bytes`, `speed_mbps`); a value the machine does not tell is
//! `null`, never an invented default; every part carries how it was obtained and, when it could not be, why. Parts
//! fail one by one. [`SCHEMA_VERSION`] rises when a field changes its meaning or goes away, not when one is added.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// Version of the document's shape.
pub const SCHEMA_VERSION: u32 = 1;

/// How the attempt to learn something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartStatus {
    /// Learnt.
    Ok,
    /// The machine has no such thing.
    Absent,
    /// The thing is there, but cannot answer this question.
    Unsupported,
    /// The kernel or the thing itself refused us.
    Denied,
    /// No answer within the time box. The attempt may still hang in the background.
    TimedOut,
    /// Anything else that went wrong.
    Failed,
}

impl PartStatus {
    /// The word that stands in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            PartStatus::Ok => "ok",
            PartStatus::Absent => "absent",
            PartStatus::Unsupported => "unsupported",
            PartStatus::Denied => "denied",
            PartStatus::TimedOut => "timed_out",
            PartStatus::Failed => "failed",
        }
    }
}

/// One part of the inventory: a value, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part<T> {
    pub status: PartStatus,
    /// Why there is no value; also set on an `ok` part that needs a remark.
    pub reason: Option<String>,
    /// Files, ioctls or commands the value comes from, separated by `, `.
    pub source: String,
    /// How long the attempt took.
    pub millis: u64,
    pub value: Option<T>,
    /// Pieces of an otherwise learnt part that could not be learnt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// A piece of a part that is missing although somebody would expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What is missing, as a path inside the part: `sda.serial`, `lan`.
    pub item: String,
    pub status: PartStatus,
    pub reason: String,
}

impl<T> Part<T> {
    /// A part that was learnt.
    pub fn ok(source: impl Into<String>, value: T) -> Self {
        Part {
            status: PartStatus::Ok,
            reason: None,
            source: source.into(),
            millis: 0,
            value: Some(value),
            gaps: Vec::new(),
        }
    }

    /// A part that was not learnt.
    pub fn missing(status: PartStatus, source: impl Into<String>, reason: impl Into<String>) -> Self {
        Part {
            status,
            reason: Some(reason.into()),
            source: source.into(),
            millis: 0,
            value: None,
            gaps: Vec::new(),
        }
    }

    /// The same part with these gaps.
    pub fn with_gaps(mut self, gaps: Vec<Gap>) -> Self {
        self.gaps = gaps;
        self
    }
}

/// Everything learnt about one machine in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    pub schema_version: u32,
    pub run: Part<Run>,
    pub system: Part<System>,
    pub bios: Part<Bios>,
    pub cpus: Part<Cpus>,
    pub memory: Part<Memory>,
    pub disks: Part<Vec<Disk>>,
    pub nics: Part<Vec<Nic>>,
    pub bmc: Part<Bmc>,
}

/// The run that made this document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub recon_version: String,
    /// RFC 3339, by the clock of the machine itself, which may be wrong.
    pub started_at: String,
    pub duration_ms: u64,
    pub kernel_release: Option<String>,
    /// With the value of `recon.token=` blotted out.
    pub kernel_command_line: Option<String>,
}

/// SMBIOS types 1 to 3: whose machine it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareMode {
    Bios,
    Uefi,
    /// No firmware tables at all, only a device tree.
    DeviceTree,
}

/// SMBIOS type 0 and the boot mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Processors, summed up and by socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Memory, summed up and by slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryTotal {
    pub source: String,
    pub bytes: u64,
}

/// One memory slot, SMBIOS type 17.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// Broad kind of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskKind {
    Disk,
    Optical,
}

/// One whole disk with hardware behind it. Partitions, loop devices, RAM disks and mapped devices are not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// One network port with hardware behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    /// `ethernet`, `infiniband`, or `arphrd-N`.
    pub kind: String,
    /// Address in use.
    pub mac: Option<MacAddr>,
    /// Address burnt in.
    pub permanent_mac: Option<MacAddr>,
    pub driver: Option<String>,
    pub driver_version: Option<String>,
    pub firmware: Option<String>,
    pub pci_address: Option<String>,
    /// `vendor:device` in hex.
    pub pci_id: Option<String>,
    pub numa_node: Option<u32>,
    pub operstate: Option<String>,
    /// Unknown while the port is administratively down.
    pub carrier: Option<bool>,
    pub speed_mbps: Option<u32>,
    /// `full` or `half`.
    pub duplex: Option<String>,
    pub mtu: Option<u32>,
    /// True for the port the machine was netbooted through, as `BOOTIF=` of the kernel line tells.
    pub boot_port: bool,
}

/// The management controller, asked over the local interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bmc {
    /// Device node it answers on.
    pub device: String,
    pub device_id: Option<u8>,
    pub device_revision: Option<u8>,
    /// `major.minor`.
    pub firmware: Option<String>,
    /// Vendor specific rest of the firmware version, in hex.
    pub firmware_aux: Option<String>,
    pub ipmi_version: Option<String>,
    /// IANA enterprise number.
    pub manufacturer_id: Option<u32>,
    pub product_id: Option<u16>,
    pub chassis_power_on: Option<bool>,
    /// What happens when mains returns: `always off`, `previous`, `always on`.
    pub power_restore_policy: Option<String>,
    /// Channels with a LAN behind them, in order of their number.
    pub lan: Vec<BmcLan>,
    /// SMBIOS type 38: what the firmware says about the interface.
    pub smbios_interface: Option<String>,
}

/// LAN settings of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BmcLan {
    pub channel: u8,
    pub mac: Option<MacAddr>,
    /// `static`, `dhcp`, …
    pub address_source: Option<String>,
    pub ipv4: Option<Ipv4Addr>,
    pub netmask: Option<Ipv4Addr>,
    pub gateway: Option<Ipv4Addr>,
    /// Set when the channel is on a tagged VLAN.
    pub vlan: Option<u16>,
}

/// Text that firmware carries when nobody filled the field in.
const PLACEHOLDERS: [&str; 24] = [
    "",
    "0",
    "0123456789",
    "123456789",
    "1234567890",
    "asset tag",
    "chassis serial number",
    "default string",
    "empty",
    "n/a",
    "na",
    "no asset tag",
    "none",
    "not applicable",
    "not available",
    "not specified",
    "o.e.m.",
    "oem",
    "system manufacturer",
    "system product name",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
    "xxxxxxxxxxx",
];

/// True for text that names no machine: a known default, or one character repeated.
pub fn is_placeholder(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    let mut chars = text.chars();
    let repeated = chars.next().is_some_and(|first| chars.all(|c| c == first)) && !text.is_empty();
    PLACEHOLDERS.contains(&text.as_str()) || (repeated && text.len() > 3)
}

impl Inventory {
    /// One line for a table: vendor, product, serial, leaving out what firmware never filled in.
    pub fn summary(&self) -> String {
        let Some(system) = &self.system.value else {
            return "unknown machine".to_owned();
        };
        let told = |field: &Option<String>| field.clone().filter(|text| !is_placeholder(text));
        let mut words: Vec<String> = Vec::new();
        let product = told(&system.product);
        if let Some(vendor) = told(&system.vendor)
            && !product.as_ref().is_some_and(|p| p.starts_with(&vendor))
        {
            words.push(vendor);
        }
        words.extend(product);
        if words.is_empty() {
            words.push("unknown machine".to_owned());
        }
        words.extend(told(&system.serial));
        words.join(" ")
    }

    /// What names a node: the system UUID as firmware gives it, and the burnt-in address of every port, in order of
    /// the port names and without repeats. `NodeId::from_facts` decides what is worth a name.
    pub fn node_id_facts(&self) -> (Option<String>, Vec<MacAddr>) {
        let uuid = self.system.value.as_ref().and_then(|system| system.uuid.clone());
        let mut seen = BTreeSet::new();
        let macs = self
            .nics
            .value
            .iter()
            .flatten()
            .filter_map(|nic| nic.permanent_mac.filter(|mac| !mac.is_unusable()).or(nic.mac))
            .filter(|mac| !mac.is_unusable() && seen.insert(*mac))
            .collect();
        (uuid, macs)
    }

    /// The port that names a node without a usable UUID: the one it was netbooted through, else the first.
    pub fn boot_mac(&self) -> Option<MacAddr> {
        let nics = self.nics.value.as_ref()?;
        let booted = nics.iter().find(|nic| nic.boot_port);
        booted
            .and_then(|nic| nic.permanent_mac.or(nic.mac))
            .or_else(|| self.node_id_facts().1.first().copied())
    }

    /// Parts that are neither learnt nor plainly absent, with status and reason: what a person should be told.
    pub fn troubles(&self) -> Vec<(&'static str, PartStatus, String)> {
        let mut list = Vec::new();
        let mut note = |name, status: PartStatus, reason: &Option<String>| {
            if !matches!(status, PartStatus::Ok | PartStatus::Absent) {
                list.push((name, status, reason.clone().unwrap_or_default()));
            }
        };
        note("run", self.run.status, &self.run.reason);
        note("system", self.system.status, &self.system.reason);
        note("bios", self.bios.status, &self.bios.reason);
        note("cpus", self.cpus.status, &self.cpus.reason);
        note("memory", self.memory.status, &self.memory.reason);
        note("disks", self.disks.status, &self.disks.reason);
        note("nics", self.nics.status, &self.nics.reason);
        note("bmc", self.bmc.status, &self.bmc.reason);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Inventory {
        fn none<T>() -> Part<T> {
            Part::missing(PartStatus::Absent, "test", "test")
        }
        Inventory {
            schema_version: SCHEMA_VERSION,
            run: none(),
            system: none(),
            bios: none(),
            cpus: none(),
            memory: none(),
            disks: none(),
            nics: none(),
            bmc: none(),
        }
    }

    #[test]
    fn a_summary_leaves_out_what_nobody_filled_in() {
        let mut inventory = empty();
        assert_eq!(inventory.summary(), "unknown machine");
        inventory.system = Part::ok(
            "test",
            System {
                vendor: Some("Supermicro".into()),
                product: Some("SYS-6018R".into()),
                serial: Some("0123456789".into()),
                ..System::default()
            },
        );
        assert_eq!(inventory.summary(), "Supermicro SYS-6018R");
        if let Some(system) = &mut inventory.system.value {
            system.serial = Some("S15317126100000".into());
            system.product = Some("Supermicro SYS-6018R".into());
        }
        assert_eq!(inventory.summary(), "Supermicro SYS-6018R S15317126100000");
    }

    #[test]
    fn placeholders_are_known() {
        for text in [
            "To Be Filled By O.E.M.",
            " Not Specified ",
            "00000000",
            "FFFFFFFFFFFF",
            "....",
        ] {
            assert!(is_placeholder(text), "{text:?}");
        }
        for text in ["CZ3407A1BC", "PowerEdge R640", "11", "001"] {
            assert!(!is_placeholder(text), "{text:?}");
        }
    }

    #[test]
    fn a_part_tells_its_reason_in_json() {
        let part: Part<Vec<Disk>> = Part::missing(PartStatus::TimedOut, "/sys/block", "no answer within 10 s");
        let json = serde_json::to_value(&part).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "status": "timed_out", "reason": "no answer within 10 s", "source": "/sys/block",
                "millis": 0, "value": null
            })
        );
        assert_eq!(serde_json::from_value::<Part<Vec<Disk>>>(json).unwrap(), part);
    }
}
