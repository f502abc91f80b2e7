//! LLDP data units (IEEE 802.1AB-2016 clause 8), with the organizationally specific TLVs of 802.1Q annex D and
//! 802.3 clause 79.

use super::wire::{MAX_ENTRIES, NAMES, address, colons, mac, text, text_or_hex};
use crate::formats::bytes::{be16, be32};
use crate::formats::tables;
use crate::model::inventory::{NamedVlan, Neighbour};

const OUI_802_1: [u8; 3] = [0x00, 0x80, 0xc2];
const OUI_802_3: [u8; 3] = [0x00, 0x12, 0x0f];

/// Reads a data unit. `None` unless it begins with chassis ID, port ID and time to live, as 8.2 demands.
pub(super) fn parse(mut rest: &[u8]) -> Option<Neighbour> {
    let mut told = Neighbour {
        protocol: "lldp".to_owned(),
        ..Neighbour::default()
    };
    let mut count = 0;
    while let Some(head) = be16(rest, 0) {
        // Seven bits of type, nine of length.
        let (kind, length) = (head >> 9, usize::from(head & 0x1ff));
        let Some(value) = rest.get(2..2 + length) else {
            // The frame was cut. What came whole is still worth having.
            break;
        };
        rest = rest.get(2 + length..).unwrap_or_default();
        // The first three in their order, and none of them again (9.2.7.7.2): of two port IDs nobody knows which one is true.
        if count < 3 && kind != count + 1 || count >= 3 && (1..=3).contains(&kind) {
            return None;
        }
        count += 1;
        match kind {
            0 => break,
            1 => {
                (told.chassis_id, told.chassis_id_kind) = named(value, chassis_kind);
                // A sender without a name is none.
                told.chassis_id.as_ref()?;
            }
            2 => (told.port_id, told.port_id_kind) = named(value, port_kind),
            3 => told.ttl_s = Some(be16(value, 0)?),
            4 => told.port_description = text(value),
            5 => told.system_name = text(value),
            6 => told.system_description = text(value),
            7 => {
                let bits = |at| tables::set_names(NAMES, "lldp capability", be16(value, at).unwrap_or(0));
                (told.capabilities, told.capabilities_enabled) = (bits(0), bits(2));
            }
            8 if told.management_addresses.len() < MAX_ENTRIES => {
                told.management_addresses.extend(management_address(value));
            }
            127 => organization(&mut told, value),
            _ => {}
        }
    }
    (count >= 3).then_some(told)
}

/// What an ID's number means: its name, and how its bytes are read.
type Kind = (&'static str, fn(&[u8]) -> Option<String>);

/// An ID and its kind. An ID is 1 to 255 bytes of any value; one that does not hold what its kind promises is shown as it
/// is, and one that is empty costs us nothing else of the frame.
fn named(value: &[u8], kinds: fn(u8) -> Kind) -> (Option<String>, Option<String>) {
    let Some((kind, id)) = value.split_first() else {
        return (None, None);
    };
    let (name, read) = kinds(*kind);
    (read(id).or_else(|| text_or_hex(id)), Some(name.to_owned()))
}

/// 802.1AB table 8-2.
fn chassis_kind(kind: u8) -> Kind {
    match kind {
        1 => ("chassis component", text_or_hex),
        2 => ("interface alias", text_or_hex),
        3 => ("port component", text_or_hex),
        4 => ("mac", |id| mac(id).map(|mac| mac.to_string())),
        5 => ("network address", network_address),
        6 => ("interface name", text_or_hex),
        7 => ("local", text_or_hex),
        _ => ("reserved", text_or_hex),
    }
}

/// 802.1AB table 8-3.
fn port_kind(kind: u8) -> Kind {
    match kind {
        1 => ("interface alias", text_or_hex),
        2 => ("port component", text_or_hex),
        3 => ("mac", |id| mac(id).map(|mac| mac.to_string())),
        4 => ("network address", network_address),
        5 => ("interface name", text_or_hex),
        6 => ("agent circuit id", |id| Some(colons(id)).filter(|hex| !hex.is_empty())),
        7 => ("local", text_or_hex),
        _ => ("reserved", text_or_hex),
    }
}

/// The family in one byte, then the address.
fn network_address(id: &[u8]) -> Option<String> {
    let (family, id) = id.split_first()?;
    address(*family, id)
}

/// 8.5.9: length, family and address; interface number and object identifier follow, which nobody needs.
fn management_address(value: &[u8]) -> Option<String> {
    let length = usize::from(*value.first()?);
    network_address(value.get(1..1 + length)?)
}

fn organization(told: &mut Neighbour, value: &[u8]) {
    let (Some(oui), Some(subtype), Some(value)) = (value.get(..3), value.get(3), value.get(4..)) else {
        return;
    };
    let vlan = |at| be16(value, at).filter(|id| (1..=4094).contains(id));
    match (oui, subtype) {
        // 0 says that the port has none.
        (oui, 1) if oui == OUI_802_1 => told.port_vlan = vlan(0),
        (oui, 3) if oui == OUI_802_1 && told.vlans.len() < MAX_ENTRIES => {
            let length = value.get(2).map_or(0, |length| usize::from(*length));
            if let Some(id) = vlan(0) {
                let name = value.get(3..3 + length).and_then(text);
                told.vlans.push(NamedVlan { id, name });
            }
        }
        // Link aggregation began in 802.3 and moved to 802.1; the layout stayed.
        (oui, 7) if oui == OUI_802_1 => aggregation(told, value),
        (oui, 3) if oui == OUI_802_3 => aggregation(told, value),
        (oui, 1) if oui == OUI_802_3 => {
            if let (Some(flags), Some(mau)) = (value.first(), be16(value, 3)) {
                told.autoneg_supported = Some(flags & 1 != 0);
                told.autoneg_enabled = Some(flags & 2 != 0);
                // 0 is "other or unknown".
                told.mau_type = (mau != 0).then_some(mau);
                told.mau_name = tables::name(NAMES, "mau", mau).map(str::to_owned);
            }
        }
        (oui, 4) if oui == OUI_802_3 => told.max_frame_bytes = be16(value, 0).map(u32::from),
        _ => {}
    }
}

fn aggregation(told: &mut Neighbour, value: &[u8]) {
    if let (Some(status), Some(id)) = (value.first(), be32(value, 1)) {
        let aggregated = status & 2 != 0;
        told.aggregation_capable = Some(status & 1 != 0);
        told.aggregated = Some(aggregated);
        told.aggregation_id = Some(id).filter(|id| aggregated && *id != 0);
    }
}
