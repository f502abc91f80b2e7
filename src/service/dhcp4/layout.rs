//! How a reply is laid out in bytes: order, room, and what goes where when there is too little. Pure.
//!
//! RFC 2131 §4.1 (sizes, overload), RFC 2132 §9.8 (order), RFC 3046 §2.2 (relay information last), RFC 3396 (long options).

use std::net::SocketAddrV4;
use std::ops::Range;

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Encodable, Encoder};
use etherparse::PacketBuilder;

use super::option;
use super::wire::{self, FILE, HEADER_BYTES, MAGIC_COOKIE, SNAME};

/// Shortest message some clients and relays accept (RFC 951: the BOOTP message of 300 bytes).
pub(super) const MIN_MESSAGE: usize = 300;
/// What every client has to take: an IP datagram of 576 bytes (RFC 2131 §2).
const MIN_MAX_DATAGRAM: usize = 576;
/// IPv4 and UDP header, which the sizes of option 57 include.
const IP_UDP_BYTES: usize = 28;
/// An Ethernet frame's worth; a client may say that it takes more.
const MAX_DATAGRAM: usize = 1500;
/// EncodedOptions of most replies, and how many those are: what is reserved for them.
const USUAL_BYTES: usize = 360;
const USUAL_OPTIONS: usize = 20;
const CHADDR: Range<usize> = 28..44;

/// What a request says about the form of its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Parameter request list (option 55): the order in which the client wants options.
    order: Vec<u8>,
    /// Largest message, without IP and UDP header.
    room: usize,
    /// Relay agent information, to go back as it came.
    relay: Option<Vec<u8>>,
}

impl Form {
    pub fn of(request: &Message) -> Self {
        let codes = option!(request, ParameterRequestList).into_iter().flatten();
        let order = codes.map(|code| (*code).into()).collect();
        let datagram = option!(request, MaxMessageSize).map_or(MIN_MAX_DATAGRAM, |size| {
            usize::from(*size).clamp(MIN_MAX_DATAGRAM, MAX_DATAGRAM)
        });
        Form {
            order,
            room: datagram - IP_UDP_BYTES,
            relay: wire::unknown(request, wire::RELAY_AGENT).map(<[u8]>::to_vec),
        }
    }
}

/// A reply as bytes. What has no room even in the header fields is left out, the least asked for first.
pub fn encode(reply: &Message, form: &Form) -> Vec<u8> {
    let mut bytes = header(reply);
    let relay = form.relay.as_deref().map(|value| pieces(82, value)).unwrap_or_default();
    // End mark, and the overload option that may have to say where the rest is. An odd byte of room is none: the message is padded
    // to an even length in the end.
    let room = (form.room & !1).saturating_sub(HEADER_BYTES + 1 + 3 + relay.len());
    let options = EncodedOptions::of(reply, &form.order);
    let mut main = Vec::<u8>::with_capacity(options.bytes.len());
    // Message type and server stand before all else, also before the option that says where the rest is: there are readers that
    // look for them there.
    let mut head = 0;
    let mut left = Vec::new();
    for option in options.order.iter().map(|range| &options.bytes[range.clone()]) {
        if main.len() + option.len() <= room {
            main.extend(option);
            if matches!(option[0], 53 | 54) {
                head = main.len();
            }
        } else {
            left.push(option);
        }
    }
    let mut overload = 0;
    for (bit, field) in [(1, FILE), (2, SNAME)] {
        // A field that says something keeps saying it: there is firmware that reads nothing else.
        if left.is_empty() || bytes[field.start] != 0 {
            continue;
        }
        let mut inside = Vec::new();
        left.retain(|option| {
            let fits = inside.len() + option.len() < field.len();
            if fits {
                inside.extend(*option);
            }
            !fits
        });
        if !inside.is_empty() {
            inside.push(255);
            bytes[field.start..field.start + inside.len()].copy_from_slice(&inside);
            overload |= bit;
        }
    }
    bytes.extend(&main[..head]);
    if overload != 0 {
        bytes.extend([52, 1, overload]);
    }
    bytes.extend(&main[head..]);
    bytes.extend(relay);
    bytes.push(255);
    // The least length, and no odd ones.
    let length = bytes.len().max(MIN_MESSAGE);
    bytes.resize(length + length % 2, 0);
    bytes
}

/// A datagram as a packet, IPv4 header first, where one end has no address yet.
pub(crate) fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64).udp(from.port(), to.port());
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut packet, payload)
        .expect("a Vec takes everything and a datagram is far below 64 KiB");
    packet
}

/// RFC 2131 §2, by hand: dhcproto encodes a whole message only, and this is done for every packet.
fn header(reply: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + USUAL_BYTES);
    bytes.extend([reply.opcode().into(), reply.htype().into(), reply.hlen(), reply.hops()]);
    bytes.extend(reply.xid().to_be_bytes());
    bytes.extend(reply.secs().to_be_bytes());
    bytes.extend(u16::from(reply.flags()).to_be_bytes());
    for address in [reply.ciaddr(), reply.yiaddr(), reply.siaddr(), reply.giaddr()] {
        bytes.extend(address.octets());
    }
    bytes.resize(HEADER_BYTES - MAGIC_COOKIE.len(), 0);
    put(&mut bytes[CHADDR], reply.chaddr());
    put(&mut bytes[SNAME], reply.sname().unwrap_or_default());
    put(&mut bytes[FILE], reply.fname().unwrap_or_default());
    bytes.extend(MAGIC_COOKIE);
    bytes
}

/// What does not fit is cut; the makers of names see to it that nothing is.
fn put(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// The options as bytes, one behind another.
struct EncodedOptions {
    bytes: Vec<u8>,
    /// Where each lies, in the order in which they leave: message type and server first, which clients look for; then what
    /// the client asked for, in its order; then the rest.
    order: Vec<Range<usize>>,
}

impl EncodedOptions {
    fn of(reply: &Message, asked: &[u8]) -> Self {
        let place = |code: u8| match code {
            53 => 0,
            54 => 1,
            51 => 2,
            // RFC 6842: it has to come back.
            61 => 3,
            code => 4 + asked.iter().position(|asked| *asked == code).unwrap_or(256),
        };
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        let mut encoder = Encoder::new(&mut bytes);
        let mut found = Vec::with_capacity(USUAL_OPTIONS);
        for (code, option) in reply.opts().iter().filter(|(code, _)| **code != wire::RELAY_AGENT) {
            let start = encoder.len_filled();
            if option.encode(&mut encoder).is_ok() {
                found.push((place((*code).into()), start..encoder.len_filled()));
            }
        }
        // Stable: what was not asked for stays in the order of its numbers.
        found.sort_by_key(|(place, _)| *place);
        let order = found.into_iter().map(|(_, range)| range).collect();
        EncodedOptions { bytes, order }
    }
}

/// One option, in as many pieces as its length needs.
fn pieces(code: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in value.chunks(255) {
        bytes.extend([code, piece.len() as u8]);
        bytes.extend(piece);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::{MessageType, UnknownOption};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn request(options: Vec<DhcpOption>) -> Message {
        let mut message = Message::default();
        message.set_chaddr(&[2, 0, 0, 0, 0, 7]);
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }

    fn offer() -> Message {
        let mut message = request(vec![
            DhcpOption::MessageType(MessageType::Offer),
            DhcpOption::ServerIdentifier([10, 0, 0, 1].into()),
            DhcpOption::SubnetMask([255, 255, 255, 0].into()),
            DhcpOption::AddressLeaseTime(600),
            DhcpOption::DomainName("recon.internal".to_owned()),
            DhcpOption::BootfileName(b"snponly.efi".to_vec()),
        ]);
        message.set_opcode(dhcproto::v4::Opcode::BootReply);
        message
    }

    /// Codes in the order they stand, of the options field alone.
    fn codes(bytes: &[u8]) -> Vec<u8> {
        let (mut at, mut codes) = (HEADER_BYTES, Vec::new());
        while bytes[at] != 255 {
            codes.push(bytes[at]);
            at += 2 + usize::from(bytes[at + 1]);
        }
        codes
    }

    #[test]
    fn the_header_is_the_one_dhcproto_writes() {
        let mut reply = offer();
        reply
            .set_xid(0x0102_0304)
            .set_secs(5)
            .set_hops(3)
            .set_flags(dhcproto::v4::Flags::default().set_broadcast())
            .set_ciaddr(Ipv4Addr::new(10, 0, 0, 2))
            .set_yiaddr(Ipv4Addr::new(10, 0, 0, 3))
            .set_siaddr(Ipv4Addr::new(10, 0, 0, 4))
            .set_giaddr(Ipv4Addr::new(10, 0, 0, 5))
            .set_sname_str("server")
            .set_fname_str("file");
        let mut whole = Vec::new();
        reply.encode(&mut Encoder::new(&mut whole)).unwrap();
        assert_eq!(header(&reply), whole[..HEADER_BYTES]);
    }

    #[test]
    fn the_order_is_the_clients() {
        let asked = [15, 67, 1, 99].map(OptionCode::from).to_vec();
        let form = Form::of(&request(vec![DhcpOption::ParameterRequestList(asked)]));
        assert_eq!(codes(&encode(&offer(), &form)), [53, 54, 51, 15, 67, 1]);
        assert_eq!(
            codes(&encode(&offer(), &Form::of(&request(vec![])))),
            [53, 54, 51, 1, 15, 67]
        );
    }

    #[test]
    fn what_the_relay_said_comes_back_last_however_long() {
        for length in [2, 255, 256, 290] {
            let said = vec![7; length];
            let relayed = request(vec![DhcpOption::Unknown(UnknownOption::new(
                wire::RELAY_AGENT,
                said.clone(),
            ))]);
            let bytes = encode(&offer(), &Form::of(&relayed));
            assert!(bytes.len() <= 548, "{}", bytes.len());
            let codes = codes(&bytes);
            assert_eq!(codes.last(), Some(&82));
            let back = wire::decode(&bytes).unwrap();
            let kept = DhcpOption::Unknown(UnknownOption::new(wire::RELAY_AGENT, said));
            assert_eq!(back.opts().get(wire::RELAY_AGENT), Some(&kept));
            assert_eq!(back.opts().msg_type(), Some(MessageType::Offer));
        }
    }

    #[test]
    fn a_long_option_is_cut_in_pieces_and_a_large_client_gets_it_whole() {
        let mut long = offer();
        let text: Vec<u8> = (0..600).map(|at| b'a' + (at % 26) as u8).collect();
        long.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::Unknown(175),
            text.clone(),
        )));
        let form = Form::of(&request(vec![DhcpOption::MaxMessageSize(1500)]));
        let bytes = encode(&long, &form);
        assert_eq!(codes(&bytes).iter().filter(|code| **code == 175).count(), 3);
        // A client that takes 576 bytes gets everything else.
        let small = encode(&long, &Form::of(&request(vec![])));
        assert!(small.len() <= 548);
        assert_eq!(codes(&small), [53, 54, 51, 1, 15, 67]);
    }

    #[test]
    fn options_without_room_go_into_empty_header_fields_and_never_over_a_boot_file() {
        let mut large = offer();
        large.opts_mut().insert(DhcpOption::ClientIdentifier(vec![2; 100]));
        large.opts_mut().insert(DhcpOption::VendorExtensions(vec![1; 100]));
        large.opts_mut().insert(DhcpOption::TFTPServerName(vec![b'x'; 60]));
        let form = Form::of(&request(vec![]));
        let bytes = encode(&large, &form);
        assert!(bytes.len() <= 548);
        let overload = codes(&bytes);
        assert_eq!(overload[..3], [53, 54, 52], "{overload:?}");
        let at = HEADER_BYTES + 3 + 6;
        assert_eq!(bytes[at..at + 3], [52, 1, 1], "the file field alone had room for it");
        let back = wire::decode(&bytes).unwrap();
        assert!(back.opts().get(OptionCode::ClientIdentifier).is_some());
        assert_eq!(
            &bytes[FILE.start..FILE.start + 2],
            &[67, 11],
            "what was cut off is there"
        );
        large.set_fname_str("snponly.efi");
        let bytes = encode(&large, &form);
        assert_eq!(&bytes[FILE.start..FILE.start + 11], b"snponly.efi");
        assert!(
            bytes[at] != 52 || bytes[at + 2] & 1 == 0,
            "the file field keeps the file"
        );
    }

    #[test]
    fn nothing_is_short_or_odd() {
        for length in 1..60 {
            let mut message = offer();
            message
                .opts_mut()
                .insert(DhcpOption::ClassIdentifier(vec![b'x'; length]));
            let bytes = encode(&message, &Form::of(&request(vec![])));
            assert!(bytes.len() >= MIN_MESSAGE && bytes.len().is_multiple_of(2));
        }
    }

    #[test]
    fn an_odd_size_is_kept_too() {
        for size in [577, 693, 701] {
            for length in 1..=255 {
                let mut reply = offer();
                reply.opts_mut().insert(DhcpOption::ClientIdentifier(vec![1; 254]));
                reply.opts_mut().insert(DhcpOption::VendorExtensions(vec![2; length]));
                reply.set_fname_str("a-file-that-keeps-its-field");
                let bytes = encode(&reply, &Form::of(&request(vec![DhcpOption::MaxMessageSize(size)])));
                assert!(
                    bytes.len() <= usize::from(size) - 28,
                    "{size} {length}: {}",
                    bytes.len()
                );
            }
        }
    }

    proptest! {
        #[test]
        fn everything_fits_and_the_heart_is_there(
            id in proptest::collection::vec(any::<u8>(), 1..255),
            relay in proptest::collection::vec(any::<u8>(), 2..280),
            vendor in proptest::collection::vec(any::<u8>(), 1..255),
            asked in proptest::collection::vec(any::<u8>(), 1..80),
            size in any::<u16>(),
            file in "[a-z]{0,90}",
        ) {
            let mut reply = offer();
            reply.opts_mut().insert(DhcpOption::ClientIdentifier(id));
            reply.opts_mut().insert(DhcpOption::VendorExtensions(vendor));
            if !file.is_empty() {
                reply.set_fname_str(&file);
            }
            let request = request(vec![
                DhcpOption::MaxMessageSize(size),
                DhcpOption::ParameterRequestList(asked.into_iter().map(OptionCode::from).collect()),
                DhcpOption::Unknown(UnknownOption::new(wire::RELAY_AGENT, relay.clone())),
            ]);
            let bytes = encode(&reply, &Form::of(&request));
            prop_assert!(bytes.len() <= usize::from(size).clamp(576, 1500) - 28);
            let back = wire::decode(&bytes).unwrap();
            prop_assert_eq!(back.opts().msg_type(), Some(MessageType::Offer));
            prop_assert!(back.opts().get(OptionCode::ServerIdentifier).is_some());
            let kept = DhcpOption::Unknown(UnknownOption::new(wire::RELAY_AGENT, relay));
            prop_assert_eq!(back.opts().get(wire::RELAY_AGENT), Some(&kept));
            let named = back.fname().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
            prop_assert_eq!(named.trim_end_matches('\0'), file);
        }
    }
}
