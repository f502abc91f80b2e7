//! What switches say on a cable: Ethernet frames of LLDP and CDP → [`Neighbour`]. Pure.

mod cdp;
#[allow(clippy::module_inception)]
mod lldp;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::formats::text::{clean, decoded};
use crate::model::MacAddr;
use crate::model::inventory::Neighbour;

/// EtherType of LLDP (IEEE 802.1AB).
const LLDP: u16 = 0x88cc;
/// Where CDP is sent.
const CDP_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];
/// LLC and SNAP header of CDP: Cisco's company ID and protocol 0x2000.
const CDP_SNAP: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00];
/// Tags of IEEE 802.1Q and 802.1ad.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Of anything that comes in numbers: more than fit into the largest frame that a port takes.
const MAX_ENTRIES: usize = 4096;

/// What a frame is.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Neither LLDP nor CDP.
    Foreign,
    /// Its type says so, its content does not hold.
    Damaged,
    /// The neighbour takes back what it said: it goes down.
    Goodbye,
    Neighbour(Box<Neighbour>),
}

/// Reads a frame from its destination address on.
pub fn parse(frame: &[u8]) -> Frame {
    let Some((addresses, mut rest)) = frame.split_at_checked(12) else {
        return Frame::Foreign;
    };
    // Some switches send with a priority tag; at most two of them.
    for _ in 0..2 {
        if be16(rest, 0).is_some_and(|kind| VLAN_TAGS.contains(&kind)) {
            rest = rest.get(4..).unwrap_or_default();
        }
    }
    let (Some(kind), Some(body)) = (be16(rest, 0), rest.get(2..)) else {
        return Frame::Foreign;
    };
    let parsed = if kind == LLDP {
        lldp::parse(body)
    } else if addresses.starts_with(&CDP_GROUP) && body.starts_with(&CDP_SNAP) {
        // An 802.3 frame: the type is a length, and what is beyond it is padding.
        let body = body.get(..usize::from(kind)).unwrap_or(body);
        cdp::parse(body.get(CDP_SNAP.len()..).unwrap_or_default())
    } else {
        return Frame::Foreign;
    };
    let Some(mut neighbour) = parsed else {
        return Frame::Damaged;
    };
    if neighbour.ttl_s == Some(0) {
        return Frame::Goodbye;
    }
    neighbour.source_mac = mac(&addresses[6..]);
    Frame::Neighbour(Box::new(neighbour))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    Some(MacAddr(bytes.try_into().ok()?))
}

/// Text of the wire, fit for a document.
fn text(bytes: &[u8]) -> Option<String> {
    clean(&decoded(bytes))
}

/// Text where it is text and says something, else hex with colons. Nothing for no bytes.
fn text_or_hex(bytes: &[u8]) -> Option<String> {
    let words = std::str::from_utf8(bytes).ok();
    words
        .filter(|words| !words.trim_end_matches('\0').chars().any(char::is_control))
        .and_then(clean)
        .or_else(|| Some(colons(bytes)).filter(|hex| !hex.is_empty()))
}

fn colons(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(":")
}

/// An address by its family's number in IANA's Address Family Numbers: 1 is IPv4, 2 is IPv6, 6 is a hardware address.
fn address(family: u8, bytes: &[u8]) -> Option<String> {
    match family {
        1 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        2 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        6 => Some(mac(bytes)?.to_string()),
        _ => text_or_hex(bytes),
    }
}

/// The names whose bits are set.
fn named_bits(bits: u32, names: &[&str]) -> Vec<String> {
    let is_set = |at: &usize| bits & (1 << at) != 0;
    let name = |at: usize| names.get(at).map(|name| (*name).to_owned());
    (0..names.len()).filter(is_set).filter_map(name).collect()
}
