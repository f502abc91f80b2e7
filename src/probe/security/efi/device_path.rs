//! A UEFI device path as text (UEFI 2.10, 10.3 and 10.6). Pure.
//!
//! The nodes that lead to disks, sticks and networks are spelled out; of the others, type and data are shown in hex.

use super::device_path_names::{acpi, bbs, guid, hard_disk, ip, mac};
use crate::formats::bytes::{self, le16, le32};
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
    spelled(kind, sub, data).unwrap_or_else(|| (format!("Path({kind},{sub},{})", hex(data)), Kind::Other))
}

/// The nodes of chapter 10.3. Long because it is a table, a row for each type.
fn spelled(kind: u8, sub: u8, data: &[u8]) -> Option<(String, Kind)> {
    Some(match (kind, sub) {
        // Hardware (10.3.2).
        (1, 1) => (
            format!("Pci({:#X},{:#X})", data.get(1)?, data.first()?).replace("0X", "0x"),
            Kind::Other,
        ),
        (1, 4) => (format!("VenHw({})", guid(data.get(..16)?)), Kind::Other),
        (1, 5) => (format!("Ctrl({:#x})", le32(data, 0)?), Kind::Other),
        // ACPI (10.3.3).
        (2, 1) => (acpi(le32(data, 0)?, le32(data, 4)?), Kind::Other),
        // Messaging (10.3.4).
        (3, 1) => {
            let bus = if *data.first()? == 0 { "Primary" } else { "Secondary" };
            let unit = if *data.get(1)? == 0 { "Master" } else { "Slave" };
            (format!("Ata({bus},{unit},{:#x})", le16(data, 2)?), Kind::Disk)
        }
        (3, 2) => (format!("Scsi({:#x},{:#x})", le16(data, 0)?, le16(data, 2)?), Kind::Disk),
        (3, 3) => (format!("Fibre({})", hex(data.get(4..12)?)), Kind::Disk),
        (3, 5) => (format!("USB({:#x},{:#x})", data.first()?, data.get(1)?), Kind::Usb),
        (3, 10) => (format!("VenMsg({})", guid(data.get(..16)?)), Kind::Other),
        (3, 11) => (mac(data)?, Kind::Network),
        (3, 12 | 13) => (ip(sub == 13, data)?, Kind::Network),
        (3, 15) => (
            format!(
                "UsbClass({:#x},{:#x},{:#x})",
                le16(data, 0)?,
                le16(data, 2)?,
                data.get(4)?
            ),
            Kind::Usb,
        ),
        (3, 16) => (
            format!(
                "UsbWwid({:#x},{:#x},{:#x})",
                le16(data, 2)?,
                le16(data, 4)?,
                le16(data, 0)?
            ),
            Kind::Usb,
        ),
        (3, 17) => (format!("Unit({:#x})", data.first()?), Kind::Other),
        (3, 18) => (
            format!(
                "Sata({:#x},{:#x},{:#x})",
                le16(data, 0)?,
                le16(data, 2)?,
                le16(data, 4)?
            ),
            Kind::Disk,
        ),
        (3, 20) => (format!("Vlan({})", le16(data, 0)?), Kind::Network),
        (3, 21) => (format!("FibreEx({})", hex(data.get(4..12)?)), Kind::Disk),
        (3, 22) => (
            format!("SasEx({})", hex(data.get(4..12).or(data.get(..8))?)),
            Kind::Disk,
        ),
        (3, 23) => {
            // The identifier is kept with its last byte first.
            let eui: Vec<String> = data
                .get(4..12)?
                .iter()
                .rev()
                .map(|byte| format!("{byte:02X}"))
                .collect();
            (format!("NVMe({:#x},{})", le32(data, 0)?, eui.join("-")), Kind::Disk)
        }
        (3, 24) => (
            format!("Uri({})", clean(&String::from_utf8_lossy(data)).unwrap_or_default()),
            Kind::Http,
        ),
        (3, 26) => (format!("SD({:#x})", data.first()?), Kind::Disk),
        (3, 29) => (format!("eMMC({:#x})", data.first()?), Kind::Disk),
        (3, 31) => ("Dns()".to_owned(), Kind::Network),
        // Media (10.3.5).
        (4, 1) => (hard_disk(data)?, Kind::Disk),
        (4, 2) => (format!("CDROM({:#x})", le32(data, 0)?), Kind::Optical),
        (4, 3) => (format!("VenMedia({})", guid(data.get(..16)?)), Kind::Other),
        (4, 4) => {
            let units = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            let text: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            (clean(&String::from_utf16_lossy(&text)).unwrap_or_default(), Kind::Other)
        }
        (4, 6) => (format!("FvFile({})", guid(data.get(..16)?)), Kind::Firmware),
        (4, 7) => (format!("Fv({})", guid(data.get(..16)?)), Kind::Firmware),
        (4, 9) => ("RamDisk()".to_owned(), Kind::Disk),
        // What BIOS boots (10.3.6).
        (5, 1) => (bbs(le16(data, 0)?, data.get(4..)?), Kind::Legacy),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
