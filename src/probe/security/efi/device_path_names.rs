//! The longer nodes of a device path (UEFI 2.10, 10.3). `None` where the data are too short.

use crate::formats::bytes::hex;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::formats::text::clean;

/// Mixed order: the first three groups are little-endian. Sixteen bytes.
pub(crate) fn guid(bytes: &[u8]) -> String {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, at) in order.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", byte(at)));
    }
    text
}

/// 10.3.3: a compressed name of three letters and a number.
pub(crate) fn acpi(hid: u32, uid: u32) -> String {
    // 41D0h is "PNP".
    let number = hid >> 16;
    if hid & 0xffff == 0x41d0 {
        return match number {
            0x0a03 => format!("PciRoot({uid:#x})"),
            0x0a08 => format!("PcieRoot({uid:#x})"),
            0x0604 => format!("Floppy({uid:#x})"),
            0x0501 => format!("Serial({uid:#x})"),
            other => format!("Acpi(PNP{other:04X},{uid:#x})"),
        };
    }
    format!("Acpi({hid:#010x},{uid:#x})")
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
    let address = |at: usize| {
        let bytes = data.get(at..at + size)?;
        let text = match <[u8; 16]>::try_from(bytes) {
            Ok(bytes) => Ipv6Addr::from(bytes).to_string(),
            Err(_) => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
        };
        Some(text)
    };
    let (local, remote) = (address(0)?, address(size)?);
    let protocol = match u16::from_le_bytes([*data.get(size * 2 + 4)?, *data.get(size * 2 + 5)?]) {
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
    let number = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    let start = u64::from_le_bytes(data.get(4..12)?.try_into().ok()?);
    let blocks = u64::from_le_bytes(data.get(12..20)?.try_into().ok()?);
    let signature = data.get(20..36)?;
    let (format, signature) = match (*data.get(36)?, *data.get(37)?) {
        (_, 2) => ("GPT", guid(signature)),
        (_, 1) => {
            let signature = u32::from_le_bytes(signature.get(..4)?.try_into().ok()?);
            ("MBR", format!("{signature:#010x}"))
        }
        (format, _) => (if format == 2 { "GPT" } else { "MBR" }, String::new()),
    };
    Some(format!("HD({number},{format},{signature},{start:#x},{blocks:#x})"))
}

/// 10.3.6: kind of device and its name.
pub(crate) fn bbs(kind: u16, text: &[u8]) -> String {
    let name = match kind {
        1 => "Floppy".to_owned(),
        2 => "HD".to_owned(),
        3 => "CDROM".to_owned(),
        4 => "PCMCIA".to_owned(),
        5 => "USB".to_owned(),
        6 => "Network".to_owned(),
        other => format!("{other:#x}"),
    };
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    format!(
        "BBS({name},{})",
        clean(&String::from_utf8_lossy(text)).unwrap_or_default()
    )
}
