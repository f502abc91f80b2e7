//! A UEFI device path as text (UEFI 2.10, 10.3 and 10.6). Pure.
//!
//! The nodes that lead to disks, sticks and networks are spelled out; of the others, type and data are shown in hex.

use super::device_path_names::{acpi, bbs, guid, hard_disk, ip, mac};
use crate::formats::bytes::{self, le16, le32, text16};
use crate::formats::text::{clean, line};

/// Nodes of one path, and characters of its text. Real paths have a dozen nodes.
const MAX_NODES: usize = 64;
const MAX_TEXT: usize = 2048;
/// Bytes of a node that is shown in hex.
const MAX_HEX: usize = 32;

/// What a path leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    #[default]
    Other,
    Disk,
    Optical,
    Usb,
    Firmware,
    Network,
    Http,
    Legacy,
}

/// A path, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path {
    pub text: String,
    pub kind: Kind,
}

/// Reads all nodes. A path that is torn ends where it is torn.
pub(crate) fn parse(bytes: &[u8]) -> Path {
    let mut path = Path::default();
    let mut rest = bytes;
    for _ in 0..MAX_NODES {
        let Some((&[kind, sub, low, high], _)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        // The length counts the head; a shorter one would never get on.
        let (Some(data), Some(after)) = (rest.get(4..length), rest.get(length..)) else {
            break;
        };
        rest = after;
        if kind == 0x7f {
            if sub == 0xff {
                break;
            }
            // The next instance of several.
            path.text.push(',');
            continue;
        }
        let (text, leads_to) = node(kind, sub, data);
        path.kind = path.kind.max(leads_to);
        if !path.text.is_empty() && !path.text.ends_with(',') {
            path.text.push('/');
        }
        path.text.push_str(&text);
        if path.text.len() > MAX_TEXT {
            break;
        }
    }
    path.text = line(&path.text).unwrap_or_default().chars().take(MAX_TEXT).collect();
    path
}

fn hex(data: &[u8]) -> String {
    bytes::hex(data.get(..MAX_HEX).unwrap_or(data))
}

/// One node; one too short for its type is shown in hex.
fn node(kind: u8, sub: u8, data: &[u8]) -> (String, Kind) {
    match spelled(kind, sub, data) {
        (Some(text), leads_to) => (text, leads_to),
        (None, _) => (format!("Path({kind},{sub},{})", hex(data)), Kind::Other),
    }
}

/// `name(arguments)`; nothing where the node is too short for one of them.
fn call<const N: usize>(name: &str, arguments: [Option<String>; N]) -> Option<String> {
    let arguments: Option<Vec<String>> = arguments.into_iter().collect();
    Some(format!("{name}({})", arguments?.join(",")))
}

/// The nodes of chapter 10.3, a row for each type.
fn spelled(kind: u8, sub: u8, data: &[u8]) -> (Option<String>, Kind) {
    let byte = |at: usize| data.get(at).map(|number| format!("{number:#x}"));
    let upper = |at: usize| data.get(at).map(|number| format!("0x{number:X}"));
    let word = |at: usize| le16(data, at).map(|number| format!("{number:#x}"));
    let long = |at: usize| le32(data, at).map(|number| format!("{number:#x}"));
    let either = |at: usize, zero: &str, other: &str| {
        let number = *data.get(at)?;
        Some(if number == 0 { zero } else { other }.to_owned())
    };
    let port = || data.get(4..12).map(hex);
    // The identifier is kept with its last byte first.
    let eui = || {
        let bytes = data.get(4..12)?.iter().rev();
        Some(Vec::from_iter(bytes.map(|byte| format!("{byte:02X}"))).join("-"))
    };
    let uri = || clean(&String::from_utf8_lossy(data)).unwrap_or_default();
    match (kind, sub) {
        // Hardware (10.3.2).
        (1, 1) => (call("Pci", [upper(1), upper(0)]), Kind::Other),
        (1, 4) => (call("VenHw", [guid(data)]), Kind::Other),
        (1, 5) => (call("Ctrl", [long(0)]), Kind::Other),
        // ACPI (10.3.3).
        (2, 1) => (acpi(data), Kind::Other),
        // Messaging (10.3.4).
        (3, 1) => {
            let (bus, unit) = (either(0, "Primary", "Secondary"), either(1, "Master", "Slave"));
            (call("Ata", [bus, unit, word(2)]), Kind::Disk)
        }
        (3, 2) => (call("Scsi", [word(0), word(2)]), Kind::Disk),
        (3, 3) => (call("Fibre", [port()]), Kind::Disk),
        (3, 5) => (call("USB", [byte(0), byte(1)]), Kind::Usb),
        (3, 10) => (call("VenMsg", [guid(data)]), Kind::Other),
        (3, 11) => (mac(data), Kind::Network),
        (3, 12 | 13) => (ip(sub == 13, data), Kind::Network),
        (3, 15) => (call("UsbClass", [word(0), word(2), byte(4)]), Kind::Usb),
        (3, 16) => (call("UsbWwid", [word(2), word(4), word(0)]), Kind::Usb),
        (3, 17) => (call("Unit", [byte(0)]), Kind::Other),
        (3, 18) => (call("Sata", [word(0), word(2), word(4)]), Kind::Disk),
        (3, 20) => (call("Vlan", [le16(data, 0).map(|id| id.to_string())]), Kind::Network),
        (3, 21) => (call("FibreEx", [port()]), Kind::Disk),
        (3, 22) => (call("SasEx", [port().or_else(|| data.get(..8).map(hex))]), Kind::Disk),
        (3, 23) => (call("NVMe", [long(0), eui()]), Kind::Disk),
        (3, 24) => (call("Uri", [Some(uri())]), Kind::Http),
        (3, 26) => (call("SD", [byte(0)]), Kind::Disk),
        (3, 29) => (call("eMMC", [byte(0)]), Kind::Disk),
        (3, 31) => (call("Dns", []), Kind::Network),
        // Media (10.3.5).
        (4, 1) => (hard_disk(data), Kind::Disk),
        (4, 2) => (call("CDROM", [long(0)]), Kind::Optical),
        (4, 3) => (call("VenMedia", [guid(data)]), Kind::Other),
        (4, 4) => (Some(text16(data, 0, data.len()).unwrap_or_default()), Kind::Other),
        (4, 6) => (call("FvFile", [guid(data)]), Kind::Firmware),
        (4, 7) => (call("Fv", [guid(data)]), Kind::Firmware),
        (4, 9) => (call("RamDisk", []), Kind::Disk),
        // What BIOS boots (10.3.6).
        (5, 1) => (bbs(data), Kind::Legacy),
        _ => (None, Kind::Other),
    }
}

#[cfg(test)]
mod tests;
