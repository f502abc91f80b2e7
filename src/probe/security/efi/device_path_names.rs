//! The longer nodes of a device path (UEFI 2.10, 10.3). `None` where the data are too short.

use std::net::{Ipv4Addr, Ipv6Addr};

use uuid::Uuid;

use crate::formats::bytes::{hex, le16, le32, le64, take};
use crate::formats::text::clean;

/// Mixed order: the first three groups are little-endian.
pub(crate) fn guid(data: &[u8]) -> Option<String> {
    Some(Uuid::from_bytes_le(take(data, 0)?).to_string())
}

/// 10.3.3: a compressed name of three letters and a number.
pub(crate) fn acpi(data: &[u8]) -> Option<String> {
    let (hid, uid) = (le32(data, 0)?, le32(data, 4)?);
    // 41D0h is "PNP".
    Some(match (hid & 0xffff, hid >> 16) {
        (0x41d0, 0x0a03) => format!("PciRoot({uid:#x})"),
        (0x41d0, 0x0a08) => format!("PcieRoot({uid:#x})"),
        (0x41d0, 0x0604) => format!("Floppy({uid:#x})"),
        (0x41d0, 0x0501) => format!("Serial({uid:#x})"),
        (0x41d0, other) => format!("Acpi(PNP{other:04X},{uid:#x})"),
        _ => format!("Acpi({hid:#010x},{uid:#x})"),
    })
}

/// 10.3.4.11: an address padded to 32 bytes, and the type of the interface; Ethernet (0 and 1) has six.
pub(crate) fn mac(data: &[u8]) -> Option<String> {
    let kind = *data.get(32)?;
    let length = if kind <= 1 { 6 } else { 32 };
    let address = hex(data.get(..length)?);
    Some(format!("MAC({address},{kind:#x})"))
}

/// 10.3.4.12 and 13: addresses of both ends, and how ours is found. Unset addresses are left out.
pub(crate) fn ip(six: bool, data: &[u8]) -> Option<String> {
    let (name, size) = if six { ("IPv6", 16) } else { ("IPv4", 4) };
    let address = |at: usize| match six {
        true => take(data, at).map(|bytes: [u8; 16]| Ipv6Addr::from(bytes).to_string()),
        false => take(data, at).map(|bytes: [u8; 4]| Ipv4Addr::from(bytes).to_string()),
    };
    let (local, remote) = (address(0)?, address(size)?);
    let protocol = match le16(data, size * 2 + 4)? {
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        other => format!("{other:#x}"),
    };
    let origin = match (six, *data.get(size * 2 + 6)?) {
        (false, 0) => "DHCP",
        (true, 1) => "StatelessAutoConfigure",
        (true, 2) => "StatefulAutoConfigure",
        _ => "Static",
    };
    let unset = |text: &str| matches!(text, "0.0.0.0" | "::");
    if unset(&local) && unset(&remote) {
        return Some(format!("{name}({origin})"));
    }
    Some(format!("{name}({remote},{protocol},{origin},{local})"))
}

/// 10.3.5.1: number, first block, blocks, signature and its kind.
pub(crate) fn hard_disk(data: &[u8]) -> Option<String> {
    let (number, start, blocks) = (le32(data, 0)?, le64(data, 4)?, le64(data, 12)?);
    let signature = data.get(20..36)?;
    let (format, signature) = match (*data.get(36)?, *data.get(37)?) {
        (_, 2) => ("GPT", guid(signature)?),
        (_, 1) => ("MBR", format!("{:#010x}", le32(signature, 0)?)),
        (format, _) => (if format == 2 { "GPT" } else { "MBR" }, String::new()),
    };
    Some(format!("HD({number},{format},{signature},{start:#x},{blocks:#x})"))
}

/// 10.3.6: kind of device and its name.
pub(crate) fn bbs(data: &[u8]) -> Option<String> {
    const KINDS: [&str; 6] = ["Floppy", "HD", "CDROM", "PCMCIA", "USB", "Network"];
    let (kind, text) = (le16(data, 0)?, data.get(4..)?);
    let name = KINDS.get(usize::from(kind).wrapping_sub(1));
    let name = name.map_or_else(|| format!("{kind:#x}"), |name| (*name).to_owned());
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = clean(&String::from_utf8_lossy(text)).unwrap_or_default();
    Some(format!("BBS({name},{text})"))
}
