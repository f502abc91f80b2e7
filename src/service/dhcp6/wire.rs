//! Datagram to message and back. Pure, and the only way by which DHCPv6 bytes from the wire reach dhcproto.
//!
//! dhcproto 0.15 computes lengths by subtraction without a check (status code, vendor class, vendor options,
//! authentication, preference and others), reads relay messages within relay messages by recursion, and stops at the
//! first option that it cannot read. So the options are walked here first: the ones this program uses go on if their
//! shape is right, all others are left out.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

/// Message type and transaction (RFC 8415 §8).
const HEADER_BYTES: usize = 4;
/// Nothing on an Ethernet without jumbo frames is longer; a datagram is cut to this before it gets here.
pub const MAX_DATAGRAM: usize = 1500;
/// Longest DUID (RFC 8415 §11.1): a type of 2 bytes and at most 128 more.
pub const MAX_DUID: usize = 130;
/// Identity associations read of one message; a machine has one for each port.
const MAX_ASSOCIATIONS: usize = 8;

/// Why a datagram is not a DHCPv6 message of a client or a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a DHCPv6 header")]
    Short,
    #[error("a relay's message that holds none, or relays without end")]
    Relay,
    #[error("does not parse")]
    Parse,
}

/// One option: its code, its bytes.
pub(super) type Raw<'a> = (u16, &'a [u8]);

/// Walks options up to the first that is longer than what is left.
pub(super) fn options(bytes: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, tail) = tail.split_at_checked(length)?;
        rest = tail;
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    })
}

pub(super) fn put(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

/// Options within an identity association: addresses without options of their own, and well-formed status codes.
fn association(value: &[u8], fixed: usize) -> Option<Vec<u8>> {
    let (head, inner) = value.split_at_checked(fixed)?;
    let mut clean = head.to_vec();
    for (code, value) in options(inner) {
        match OptionCode::from(code) {
            OptionCode::IAAddr if value.len() >= 24 => put(&mut clean, code, &value[..24]),
            OptionCode::StatusCode if value.len() >= 2 && std::str::from_utf8(&value[2..]).is_ok() => {
                put(&mut clean, code, value);
            }
            _ => {}
        }
    }
    Some(clean)
}

/// Reads one datagram. Unknown and malformed options are left out, and of an option that may stand once the first is kept.
pub fn decode(datagram: &[u8]) -> Result<Message, Malformed> {
    let (header, body) = datagram.split_at_checked(HEADER_BYTES).ok_or(Malformed::Short)?;
    if matches!(
        MessageType::from(header[0]),
        MessageType::RelayForw | MessageType::RelayRepl
    ) {
        return Err(Malformed::Relay);
    }
    let mut clean = header.to_vec();
    let mut seen = Vec::new();
    let mut associations = 0;
    for (code, value) in options(body) {
        let option = OptionCode::from(code);
        let many = matches!(option, OptionCode::IANA | OptionCode::IATA | OptionCode::IAPD);
        if !many && seen.contains(&code) {
            continue;
        }
        let kept = match option {
            OptionCode::ClientId | OptionCode::ServerId if (3..=MAX_DUID).contains(&value.len()) => {
                Some(value.to_vec())
            }
            OptionCode::IANA => association(value, 12),
            OptionCode::IATA => association(value, 4),
            // Prefixes are not given; the identifier is all that the answer needs.
            OptionCode::IAPD if value.len() >= 12 => Some(value[..12].to_vec()),
            OptionCode::ORO => Some(value.to_vec()),
            OptionCode::StatusCode if value.len() >= 2 && std::str::from_utf8(&value[2..]).is_ok() => {
                Some(value.to_vec())
            }
            OptionCode::RapidCommit => Some(Vec::new()),
            OptionCode::UserClass => Some(value.to_vec()),
            OptionCode::VendorClass if value.len() >= 4 => Some(value.to_vec()),
            // Whole addresses, of which there is one at least (RFC 3646 §3).
            OptionCode::DomainNameServers if !value.is_empty() && value.len().is_multiple_of(16) => {
                Some(value.to_vec())
            }
            OptionCode::OptBootfileUrl if std::str::from_utf8(value).is_ok() => Some(value.to_vec()),
            OptionCode::ClientArchType if value.len() >= 2 => Some(value[..2].to_vec()),
            _ => None,
        };
        let Some(kept) = kept else { continue };
        if many {
            associations += 1;
            if associations > MAX_ASSOCIATIONS {
                continue;
            }
        } else {
            seen.push(code);
        }
        put(&mut clean, code, &kept);
    }
    Message::decode(&mut Decoder::new(&clean)).map_err(|_| Malformed::Parse)
}

/// A message as bytes.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message
        .encode(&mut Encoder::new(&mut bytes))
        .expect("every message is made here, with options that fit");
    bytes
}

/// An address in an identity association (RFC 8415 §21.6), for so long.
pub(super) fn ia_address(address: Ipv6Addr, seconds: u32) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr {
        addr: address,
        preferred_life: seconds,
        valid_life: seconds,
        opts: DhcpOptions::new(),
    })
}

/// Vendor class option (RFC 8415 §21.16) with one entry. Built as bytes: dhcproto 0.15 writes a wrong length.
pub fn vendor_class(enterprise: u32, class: &[u8]) -> DhcpOption {
    let mut data = enterprise.to_be_bytes().to_vec();
    data.extend((class.len() as u16).to_be_bytes());
    data.extend(class);
    DhcpOption::Unknown(UnknownOption::new(OptionCode::VendorClass, data))
}

/// Boot file URL (RFC 5970 §3.1): text without an end mark.
pub fn boot_file(url: &str) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::OptBootfileUrl, url.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datagram(kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![kind, 1, 2, 3];
        for (code, value) in options {
            put(&mut bytes, *code, value);
        }
        bytes
    }

    #[test]
    fn a_bad_option_costs_only_itself() {
        // As they make dhcproto panic or stop: status, vendor class, vendor options, authentication, preference.
        let bytes = datagram(
            1,
            &[
                (13, &[0]),
                (16, &[0, 0]),
                (17, &[1]),
                (11, &[1, 2]),
                (7, &[]),
                (3, &[0; 11]),
                (56, &[0, 9]),
                (61, &[0, 7, 0, 9]),
                (1, &[0, 4, 1, 2, 3]),
            ],
        );
        let message = decode(&bytes).unwrap();
        assert_eq!(message.msg_type(), MessageType::Solicit);
        let kinds: Vec<u16> = message
            .opts()
            .iter()
            .map(|option| OptionCode::from(option).into())
            .collect();
        assert_eq!(kinds, [1, 61]);
    }

    #[test]
    fn addresses_and_status_of_an_association_are_kept() {
        let mut ia = vec![0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        put(&mut ia, 5, &[0xfd; 24]);
        put(&mut ia, 13, &[0, 2, b'n', b'o']);
        put(&mut ia, 13, &[0]);
        let message = decode(&datagram(7, &[(3, &ia)])).unwrap();
        let Some(DhcpOption::IANA(ia)) = message.opts().get(OptionCode::IANA) else {
            panic!("no association");
        };
        assert_eq!(ia.id, 9);
        assert_eq!(ia.opts.iter().count(), 2);
    }

    #[test]
    fn what_is_not_for_us_is_named() {
        assert_eq!(decode(&[1, 2]), Err(Malformed::Short));
        assert_eq!(decode(&[12; 200]), Err(Malformed::Relay));
        let many: Vec<(u16, &[u8])> = vec![(3, &[0; 12]); 20];
        let message = decode(&datagram(1, &many)).unwrap();
        assert_eq!(message.opts().iter().count(), MAX_ASSOCIATIONS);
    }

    #[test]
    fn classes_and_urls_are_written_as_the_rfc_says() {
        let mut message = Message::new_with_id(MessageType::Reply, [1, 2, 3]);
        message.opts_mut().insert(vendor_class(343, b"HTTPClient"));
        message.opts_mut().insert(boot_file("tftp://[fd00::1]/x"));
        let bytes = encode(&message);
        assert_eq!(bytes[..8], [7, 1, 2, 3, 0, 16, 0, 16]);
        assert_eq!(bytes[8..14], [0, 0, 1, 87, 0, 10]);
        assert_eq!(bytes[14..24], *b"HTTPClient");
        assert_eq!(bytes[24..28], [0, 59, 0, 18]);
    }

    fn tail() -> impl Strategy<Value = Vec<u8>> {
        let option = (0u16..80, proptest::collection::vec(any::<u8>(), 0..60));
        proptest::collection::vec(option, 0..12).prop_map(|options| {
            let mut bytes = Vec::new();
            for (code, value) in options {
                put(&mut bytes, code, &value);
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_options_are_read_or_left(kind in (0u8..40).prop_filter("no relay", |k| ![12, 13].contains(k)), tail in tail()) {
            let mut bytes = vec![kind, 1, 2, 3];
            bytes.extend(tail);
            let message = decode(&bytes).unwrap();
            prop_assert!(message.opts().iter().count() <= 20);
            prop_assert_eq!(message.xid(), [1, 2, 3]);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes).is_ok();
        }
    }
}
