//! Cisco Discovery Protocol packets, as Cisco's documentation of their format and the free dissectors describe them.

use super::wire::{MAX_ENTRIES, NAMES, address, text, text_or_hex};
use crate::formats::bytes::{be16, be32};
use crate::formats::tables::set_names;
use crate::model::inventory::Neighbour;

/// Reads a packet from its version on. `None` unless it has its sender and the port, empty or not.
///
/// The checksum is not looked at: old senders compute it wrongly for odd lengths, and the Ethernet frame has its own.
pub(super) fn parse(packet: &[u8]) -> Option<Neighbour> {
    let (header, mut rest) = packet.split_at_checked(4)?;
    if !(1..=2).contains(&header[0]) {
        return None;
    }
    let mut told = Neighbour {
        protocol: "cdp".to_owned(),
        ttl_s: Some(header[1].into()),
        ..Neighbour::default()
    };
    while let (Some(kind), Some(length)) = (be16(rest, 0), be16(rest, 2)) {
        // The length counts its own four bytes.
        let Some(value) = rest.get(4..usize::from(length)) else {
            break;
        };
        rest = rest.get(usize::from(length)..).unwrap_or_default();
        match kind {
            0x01 => {
                told.chassis_id = text_or_hex(value);
                told.chassis_id_kind = Some("device id".to_owned());
            }
            0x02 | 0x16 => addresses(&mut told.management_addresses, value),
            0x03 => {
                told.port_id = text_or_hex(value);
                told.port_id_kind = Some("interface name".to_owned());
            }
            0x04 => told.capabilities_enabled = set_names(NAMES, "cdp capability", be32(value, 0).unwrap_or(0)),
            0x05 => told.system_description = text(value),
            0x06 => told.platform = text(value),
            0x09 => told.vtp_domain = text(value),
            0x0a => told.port_vlan = be16(value, 0).filter(|id| (1..=4094).contains(id)),
            0x0b => {
                told.duplex = value
                    .first()
                    .map(|full| if *full == 0 { "half" } else { "full" }.to_owned());
            }
            0x11 => told.max_frame_bytes = be32(value, 0),
            0x14 => told.system_name = text(value),
            _ => {}
        }
    }
    // What most senders put into the device ID is the name.
    told.system_name = told.system_name.or_else(|| told.chassis_id.clone());
    (told.chassis_id_kind.is_some() && told.port_id_kind.is_some()).then_some(told)
}

/// A count, then protocol type, protocol length, protocol, address length, address of each.
fn addresses(known: &mut Vec<String>, value: &[u8]) {
    let Some(mut rest) = value.get(4..) else { return };
    while let Some(length) = rest.get(1).map(|length| usize::from(*length)) {
        let (Some(protocol), Some(size)) = (rest.get(2..2 + length), be16(rest, 2 + length)) else {
            return;
        };
        let begin = 4 + length;
        let Some(bytes) = rest.get(begin..begin + usize::from(size)) else {
            return;
        };
        rest = rest.get(begin + usize::from(size)..).unwrap_or_default();
        let family = match protocol {
            [0xcc] => 1,
            [0xaa, 0xaa, 0x03, 0, 0, 0, 0x86, 0xdd] => 2,
            _ => continue,
        };
        let told = address(family, bytes).filter(|told| !known.contains(told));
        if known.len() < MAX_ENTRIES {
            known.extend(told);
        }
    }
}
