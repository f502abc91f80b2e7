//! What switches say on a cable: Ethernet frames of LLDP and CDP → [`Neighbour`]. Pure.

mod cdp;
#[allow(clippy::module_inception)]
mod lldp;
#[cfg(test)]
mod tests;
mod wire;

use crate::formats::bytes::be16;
use crate::model::inventory::Neighbour;
use wire::mac;

/// EtherType of LLDP (IEEE 802.1AB).
const LLDP: u16 = 0x88cc;
/// Where CDP is sent.
const CDP_GROUP: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc];
/// LLC and SNAP header of CDP: Cisco's company ID and protocol 0x2000.
const CDP_SNAP: [u8; 8] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x0c, 0x20, 0x00];
/// Tags of IEEE 802.1Q and 802.1ad.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];
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
