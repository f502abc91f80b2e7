//! By what a client is known: its MAC, or what stands for it where it has none. Pure.
//!
//! RFC 2131 §2 (`htype`, `hlen`, `chaddr`), RFC 4390 (InfiniBand: `chaddr` empty, the client identifier says who it is), RFC 2855 (the same
//! for IEEE 1394), RFC 4361 (what is in the identifier). IANA, ARP parameters, "Hardware Types".

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use sha2::{Digest, Sha256};

use crate::formats::bytes::hex;
use crate::model::MacAddr;

use super::option;

const ETHERNET: u8 = 1;
/// Bridges of other networks, with Ethernet's addresses.
const IEEE_802: u8 = 6;
const INFINIBAND: u8 = 32;
/// RFC 4361 §6.1: an identity association and a DUID follow.
const RFC4361: u8 = 255;
/// RFC 8415 §11: DUID types of a link-layer address, with a time and without, ...
const DUID_LLT: u16 = 1;
const DUID_EN: u16 = 2;
const DUID_LL: u16 = 3;
/// ... and the enterprise number that NVIDIA's (Mellanox's) boot ROMs give, before a zero byte and the port's GUID.
const MELLANOX: u32 = 0x2c9;
/// Bytes of an identifier that are shown where nothing in it is known.
const MAX_SHOWN: usize = 20;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its MAC. Where it has none: a locally administered address that follows from what it has, the same in every run, by which leases
    /// and tables know it and which nothing on the wire has.
    pub mac: MacAddr,
    /// What it has instead of a MAC, for people.
    pub instead: Option<String>,
}

/// Reads who sent a request, or says why that cannot be told.
pub(crate) fn of(request: &Message) -> Result<Port, &'static str> {
    let kind: u8 = request.htype().into();
    let address = request.chaddr();
    if let (ETHERNET | IEEE_802, Ok(bytes)) = (kind, <[u8; 6]>::try_from(address)) {
        let mac = MacAddr(bytes);
        return match mac.is_unusable() {
            true => Err("hardware address is all zero or a group address"),
            false => Ok(Port { mac, instead: None }),
        };
    }
    if kind == ETHERNET {
        return Err("hardware address is not six bytes long");
    }
    let id = option!(request, ClientIdentifier).map_or(&[][..], Vec::as_slice);
    let network = match kind {
        INFINIBAND => "InfiniBand".to_owned(),
        24 => "IEEE 1394".to_owned(),
        other => format!("hardware type {other}"),
    };
    let guid = (kind == INFINIBAND)
        .then(|| guid(id).or(address.try_into().ok()))
        .flatten();
    if let Some(guid) = guid.filter(|guid| *guid != [0; 8]) {
        let words: Vec<String> = guid
            .chunks(2)
            .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]))
            .collect();
        return Ok(Port {
            mac: stand_in(kind, &guid),
            instead: Some(format!("{network} {}", words.join(":"))),
        });
    }
    // An identifier of one byte or of nothing but zeros is everybody's.
    let says = |bytes: &&[u8]| bytes.len() > 1 && bytes.iter().skip(1).any(|byte| *byte != 0);
    let what = Some(id).filter(says).or(Some(address).filter(says));
    let what = what.ok_or("it has neither a hardware address nor a client identifier (RFC 4390)")?;
    let shown = hex(&what[..what.len().min(MAX_SHOWN)]);
    Ok(Port {
        mac: stand_in(kind, what),
        instead: Some(format!("{network} {shown}")),
    })
}

/// The GUID of an InfiniBand port in a client identifier, in the forms in which boot ROMs, iPXE and systems write it; each calls itself
/// differently, and one port keeps one address.
fn guid(id: &[u8]) -> Option<[u8; 8]> {
    let last = |bytes: &[u8]| bytes.get(bytes.len().checked_sub(8)?..)?.try_into().ok();
    match id {
        // A hardware type and an address: the GUID itself, or the 20 bytes of RFC 4391 §9.1.1, which end in it.
        [INFINIBAND, address @ ..] if matches!(address.len(), 8 | 20) => last(address),
        [RFC4361, _, _, _, _, duid @ ..] => {
            let (kind, rest) = duid.split_first_chunk::<2>()?;
            match u16::from_be_bytes(*kind) {
                DUID_EN => {
                    let (enterprise, rest) = rest.split_first_chunk::<4>()?;
                    (u32::from_be_bytes(*enterprise) == MELLANOX && rest.len() == 9).then(|| last(rest))?
                }
                kind @ (DUID_LL | DUID_LLT) => {
                    let (hardware, rest) = rest.split_first_chunk::<2>()?;
                    let address = rest.get(if kind == DUID_LLT { 4 } else { 0 }..)?;
                    let fits = *hardware == [0, INFINIBAND] && matches!(address.len(), 8 | 20);
                    fits.then(|| last(address))?
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn stand_in(kind: u8, what: &[u8]) -> MacAddr {
    let digest = Sha256::new().chain_update([kind]).chain_update(what).finalize();
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&digest[..6]);
    // Locally administered, of one port.
    bytes[0] = bytes[0] & !1 | 2;
    MacAddr(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUID: [u8; 8] = [0xf4, 0x52, 0x14, 0x03, 0x00, 0x38, 0x39, 0x81];

    fn request(kind: u8, address: &[u8], id: &[u8]) -> Message {
        let mut message = Message::default();
        message.set_htype(kind.into()).set_chaddr(address);
        if !id.is_empty() {
            message.opts_mut().insert(DhcpOption::ClientIdentifier(id.to_vec()));
        }
        message
    }

    fn port(kind: u8, address: &[u8], id: &[u8]) -> Port {
        of(&request(kind, address, id)).unwrap()
    }

    #[test]
    fn one_port_of_infiniband_is_one_whatever_it_calls_itself() {
        let long = [&[0x80, 0, 0x02, 0x08, 0xfe, 0x80, 0, 0, 0, 0, 0, 0][..], &GUID].concat();
        let forms = [
            // A boot ROM, iPXE, and RFC 4390 with RFC 4361.
            [&[0xff, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0xc9, 0][..], &GUID].concat(),
            [&[32][..], &GUID].concat(),
            [&[32][..], &long].concat(),
            [&[0xff, 1, 2, 3, 4, 0, 3, 0, 32][..], &long].concat(),
            [&[0xff, 1, 2, 3, 4, 0, 1, 0, 32, 9, 9, 9, 9][..], &long].concat(),
        ];
        let first = port(32, &[], &forms[0]);
        assert_eq!(first.instead.as_deref(), Some("InfiniBand f452:1403:0038:3981"));
        for form in &forms {
            assert_eq!(port(32, &[], form), first, "{form:02x?}");
        }
        assert_eq!(port(32, &GUID, &[]), first, "in its place as a hardware address");
        assert!(first.mac.0[0] & 3 == 2, "{}: no port of Ethernet has it", first.mac);
        let mut other = GUID;
        other[7] ^= 1;
        assert_ne!(port(32, &other, &[]).mac, first.mac);
    }

    #[test]
    fn other_identifiers_tell_machines_apart_as_a_whole() {
        // systemd: an enterprise number and a number of the machine; each port has its own association.
        let id = |association: u8, machine: u8| {
            [
                255,
                0,
                0,
                0,
                association,
                0,
                2,
                0,
                0,
                0xab,
                0x11,
                machine,
                1,
                2,
                3,
                4,
                5,
                6,
                7,
            ]
        };
        let one = port(32, &[], &id(1, 1));
        assert!(
            one.instead.as_ref().unwrap().starts_with("InfiniBand ff00000001"),
            "{one:?}"
        );
        assert_ne!(one.mac, port(32, &[], &id(2, 1)).mac);
        assert_ne!(one.mac, port(32, &[], &id(1, 2)).mac);
        assert_ne!(one.mac, port(24, &[], &id(1, 1)).mac, "of another kind of network");
        assert!(port(24, &[], &id(1, 1)).instead.unwrap().starts_with("IEEE 1394 "));
    }

    #[test]
    fn who_has_nothing_is_nobody() {
        for (kind, address, id) in [
            (32, &[][..], &[][..]),
            (32, &[0; 8], &[]),
            (32, &[0; 16], &[255]),
            (32, &[], &[0, 0, 0, 0, 0]),
            (1, &[], &[1, 2, 0, 0, 0, 0, 7]),
            (1, &[0; 6], &[1, 2, 0, 0, 0, 0, 7]),
            (1, &[3, 0, 0, 0, 0, 1], &[]),
            (6, &[0; 6], &[]),
        ] {
            assert!(of(&request(kind, address, id)).is_err(), "{kind} {address:?} {id:?}");
        }
        // Token ring and its like have Ethernet's addresses.
        let plain = port(6, &[2, 0, 0, 0, 0, 7], &[]);
        assert_eq!((plain.mac, plain.instead), (MacAddr([2, 0, 0, 0, 0, 7]), None));
    }

    proptest! {
        #[test]
        fn whoever_it_is_it_is_a_port(
            kind: u8,
            address in proptest::collection::vec(any::<u8>(), 0..17),
            id in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(port) = of(&request(kind, &address, &id)) {
                prop_assert!(!port.mac.is_unusable());
                prop_assert!(port.instead.is_none_or(|shown| shown.len() < 70));
            }
        }
    }
}
