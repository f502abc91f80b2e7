//! What a machine is made of: the document a peer uploads as `inventory.json`.
//!
//! Rules of the document: units are in the names (`size_bytes`, `speed_mbps`); a value the machine does not tell is
//! `null`, never an invented default; every part carries how it was obtained and, when it could not be, why. Parts
//! fail one by one. [`SCHEMA_VERSION`] rises when a field changes its meaning or goes away, not when one is added.

mod bmc;
mod bmc_records;
mod cabling;
mod controllers;
mod cpu;
mod firmware;
mod health;
mod memory;
mod network;
mod pci;
mod security;
mod smart;
mod storage;
mod system;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MacAddr;
pub use bmc::*;
pub use bmc_records::*;
pub use cabling::*;
pub use controllers::*;
pub use cpu::*;
pub use firmware::*;
pub use health::*;
pub use memory::*;
pub use network::*;
pub use pci::*;
pub use security::*;
pub use smart::*;
pub use storage::*;
pub use system::*;

/// Version of the document's shape.
pub const SCHEMA_VERSION: u32 = 2;

/// How the attempt to learn something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part<T> {
    pub status: PartStatus,
    /// Why there is no value; also set on an `ok` part that needs a remark.
    pub reason: Option<String>,
    /// Files, ioctls or commands the value comes from, separated by `, `.
    pub source: String,
    /// How long the attempt took.
    pub millis: u64,
    pub value: Option<T>,
    /// Pieces of the part, each with its own source and outcome, as far as they differ from the part's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
}

/// How one piece of a part was learnt, or why it was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// Which piece, as a path inside the part: `numa`, `sda.serial`, `lan.1`.
    pub item: String,
    pub status: PartStatus,
    /// File, ioctl, command or IPMI command. Empty where it is the part's own source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// How long the attempt took.
    #[serde(default)]
    pub millis: u64,
    /// Why there is no value; `null` for a piece that was learnt.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Item {
    /// A piece that was learnt.
    pub fn ok(item: impl Into<String>, source: impl Into<String>, millis: u64) -> Self {
        Item {
            item: item.into(),
            status: PartStatus::Ok,
            source: source.into(),
            millis,
            reason: None,
        }
    }

    /// A piece that is missing although somebody would expect it.
    pub fn gap(item: impl Into<String>, status: PartStatus, reason: impl Into<String>) -> Self {
        Item {
            item: item.into(),
            status,
            source: String::new(),
            millis: 0,
            reason: Some(reason.into()),
        }
    }

    /// The same piece, with where it was looked for and how long that took.
    pub fn from(mut self, source: impl Into<String>, millis: u64) -> Self {
        self.source = source.into();
        self.millis = millis;
        self
    }

    /// True for a piece that somebody would expect and did not get.
    pub fn is_gap(&self) -> bool {
        !matches!(self.status, PartStatus::Ok | PartStatus::Absent)
    }
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
            items: Vec::new(),
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
            items: Vec::new(),
        }
    }

    /// The same part with these pieces.
    pub fn with_items(mut self, items: Vec<Item>) -> Self {
        self.items = items;
        self
    }

    fn info(&self, name: &'static str) -> PartInfo<'_> {
        PartInfo {
            name,
            status: self.status,
            reason: self.reason.as_deref(),
            source: &self.source,
            millis: self.millis,
            items: &self.items,
        }
    }
}

/// Everything learnt about one machine in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    pub schema_version: u32,
    pub run: Part<Run>,
    pub system: Part<System>,
    pub bios: Part<Bios>,
    pub cpus: Part<Cpus>,
    pub memory: Part<Memory>,
    pub disks: Part<Vec<Disk>>,
    pub storage_controllers: Part<Vec<StorageController>>,
    pub nics: Part<Vec<Nic>>,
    pub cabling: Part<Cabling>,
    pub pci: Part<Vec<PciFunction>>,
    pub usb: Part<Vec<UsbDevice>>,
    pub gpus: Part<Vec<Gpu>>,
    pub security: Part<Security>,
    pub bmc: Part<Bmc>,
    pub health: Part<Health>,
    /// All firmware of the machine, from the other parts and from what the firmware itself lists.
    #[serde(default = "not_told")]
    pub firmware: Part<Vec<Firmware>>,
}

/// Of documents from before there was that part.
fn not_told() -> Part<Vec<Firmware>> {
    Part::missing(PartStatus::Unsupported, "", "not in this document")
}

/// What every part tells about itself, whatever it holds.
#[derive(Debug, Clone, Copy)]
pub struct PartInfo<'a> {
    /// Its name in the document.
    pub name: &'static str,
    pub status: PartStatus,
    pub reason: Option<&'a str>,
    pub source: &'a str,
    pub millis: u64,
    pub items: &'a [Item],
}

/// The run that made this document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub recon_version: String,
    /// RFC 3339, by the clock of the machine itself, which may be wrong.
    pub started_at: String,
    pub duration_ms: u64,
    /// The kernel's number of this boot: uploads that carry the same are of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    pub kernel_release: Option<String>,
    /// With the value of `recon.token=` blotted out.
    pub kernel_command_line: Option<String>,
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

/// A machine in one line, of the words that are known of it; a vendor that the product begins with is not said twice.
pub(crate) fn machine_line(vendor: Option<String>, product: Option<String>, serial: Option<String>) -> Option<String> {
    let is_said = |vendor: &String| product.as_ref().is_some_and(|product| product.starts_with(vendor));
    let vendor = vendor.filter(|vendor| !is_said(vendor));
    let words: Vec<String> = [vendor, product, serial].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// What is said of every part alike, in the order of the document.
macro_rules! parts {
    ($($part:ident),+) => {
        impl Inventory {
            /// Names of the parts, in the document's order.
            pub const PARTS: [&'static str; 16] = [$(stringify!($part)),+];

            /// An inventory without any part, for this reason.
            pub(crate) fn missing(reason: &str) -> Self {
                Inventory {
                    schema_version: SCHEMA_VERSION,
                    $($part: Part::missing(PartStatus::Unsupported, "", reason)),+
                }
            }

            /// Every part, in the document's order.
            pub fn parts(&self) -> [PartInfo<'_>; 16] {
                [$(self.$part.info(stringify!($part))),+]
            }
        }
    };
}

parts! {
    run, system, bios, cpus, memory, disks, storage_controllers, nics, cabling, pci, usb, gpus, security, bmc, health,
    firmware
}

impl Inventory {
    /// One line for a table: vendor, product, serial, leaving out what firmware never filled in.
    pub fn summary(&self) -> String {
        let system = self.system.value.as_ref();
        let told = |of: fn(&System) -> &Option<String>| of(system?).clone().filter(|text| !is_placeholder(text));
        let (vendor, product) = (told(|system| &system.vendor), told(|system| &system.product));
        let product = product.or_else(|| vendor.is_none().then(|| "unknown machine".to_owned()));
        machine_line(vendor, product, told(|system| &system.serial)).unwrap_or_default()
    }

    /// What names a node: the system UUID as firmware gives it, and the burnt-in address of every port that a cable may end
    /// in, in order of the port names and without repeats. `NodeId::from_facts` decides what is worth a name.
    pub fn node_id_facts(&self) -> (Option<String>, Vec<MacAddr>) {
        let uuid = self.system.value.as_ref().and_then(|system| system.uuid.clone());
        let mut seen = BTreeSet::new();
        let macs = self
            .nics
            .value
            .iter()
            .flatten()
            .filter(|nic| nic.is_own_port())
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
        let trouble = |part: &PartInfo<'_>| !matches!(part.status, PartStatus::Ok | PartStatus::Absent);
        let told = |part: PartInfo<'_>| (part.name, part.status, part.reason.unwrap_or_default().to_owned());
        self.parts().into_iter().filter(trouble).map(told).collect()
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
            storage_controllers: none(),
            nics: none(),
            cabling: none(),
            pci: none(),
            usb: none(),
            gpus: none(),
            security: none(),
            bmc: none(),
            health: none(),
            firmware: none(),
        }
    }

    #[test]
    fn the_bmcs_usb_function_names_no_node() {
        let nic = |name: &str, driver: &str, last: u8| Nic {
            name: name.to_owned(),
            driver: Some(driver.to_owned()),
            permanent_mac: Some(MacAddr([0xb4, 0x96, 0x91, 0, 0, last])),
            ..Nic::default()
        };
        let virtual_function = Nic {
            physical_function: Some("0000:18:00.0".to_owned()),
            ..nic("enp24s0f0v0", "iavf", 3)
        };
        let mut inventory = empty();
        let nics = vec![
            nic("enp0s20f0u12c2", "cdc_ether", 1),
            virtual_function,
            nic("ens1f0", "ice", 2),
        ];
        inventory.nics = Part::ok("test", nics);
        assert_eq!(inventory.boot_mac(), Some(MacAddr([0xb4, 0x96, 0x91, 0, 0, 2])));
        assert_eq!(inventory.node_id_facts().1.len(), 1);
        // With nothing else there is no name: the address is the same on the next machine.
        inventory.nics = Part::ok("test", vec![nic("usb0", "rndis_host", 1)]);
        assert_eq!(inventory.boot_mac(), None);
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
