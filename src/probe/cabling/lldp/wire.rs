//! How both protocols write numbers, addresses, texts and bits.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::formats::text::{clean, decoded};
use crate::model::MacAddr;

/// Names of numbers and bits. The file names its sources.
pub(super) const NAMES: &str = include_str!("names.tsv");
/// Of anything that comes in numbers: more than fit into the largest frame that a port takes.
pub(super) const MAX_ENTRIES: usize = 4096;

pub(super) fn mac(bytes: &[u8]) -> Option<MacAddr> {
    Some(MacAddr(bytes.try_into().ok()?))
}

/// Text of the wire, fit for a document.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    clean(&decoded(bytes))
}

/// Text where it is text and says something, else hex with colons. Nothing for no bytes.
pub(super) fn text_or_hex(bytes: &[u8]) -> Option<String> {
    let words = std::str::from_utf8(bytes).ok();
    words
        .filter(|words| !words.trim_end_matches('\0').chars().any(char::is_control))
        .and_then(clean)
        .or_else(|| Some(colons(bytes)).filter(|hex| !hex.is_empty()))
}

pub(super) fn colons(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(":")
}

/// An address by its family's number in IANA's Address Family Numbers: 1 is IPv4, 2 is IPv6, 6 is a hardware address.
pub(super) fn address(family: u8, bytes: &[u8]) -> Option<String> {
    match family {
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        2 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        6 => Some(mac(bytes)?.to_string()),
        _ => text_or_hex(bytes),
    }
}
