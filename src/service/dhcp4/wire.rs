//! Datagram to message. Pure, and the only way by which bytes from the wire reach dhcproto.
//!
//! dhcproto 0.15 panics on some malformed options (a wrong length in RFC 6926 options, a prefix above 32 in option 121)
//! and drops every option behind one that it cannot read. So the options are walked here first: the ones this program
//! uses go on if their length is right, all others are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Message, Opcode, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder};

/// Fixed part of a message up to the options: RFC 2131 §2 header and the magic cookie.
pub(super) const HEADER_BYTES: usize = 240;
pub(super) const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Says that header fields hold options (RFC 2132 §9.3).
const OVERLOAD: u8 = 52;
/// Room for a hardware address; dhcproto trusts the length.
const CHADDR_BYTES: usize = 16;
/// The relay's address.
const GIADDR: std::ops::Range<usize> = 24..28;
/// Those fields.
pub(super) const SNAME: std::ops::Range<usize> = 44..108;
pub(super) const FILE: std::ops::Range<usize> = 108..236;
/// Nothing on an Ethernet without jumbo frames is longer; a datagram is cut to this before it gets here.
pub const MAX_DATAGRAM: usize = 1500;
/// What one piece of an option holds (RFC 2132 §2).
const LONGEST: usize = 255;
/// Relay agent information (RFC 3046). Kept as it came: it goes back as it came.
pub const RELAY_AGENT: OptionCode = OptionCode::Unknown(82);

/// Why a datagram is not a DHCPv4 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a DHCP header")]
    Short,
    #[error("no DHCP magic cookie")]
    Cookie,
    #[error("hardware address is longer than its field")]
    Hardware,
    #[error("header does not parse")]
    Header,
}

/// More name servers than anybody asks.
const MAX_NAME_SERVERS: usize = 8;

/// Lengths an option may have for us to read it; `None`: we do not read it.
fn lengths(code: u8) -> Option<std::ops::RangeInclusive<usize>> {
    match code {
        // Addresses: mask, requested address, server identifier.
        1 | 50 | 54 => Some(4..=4),
        // Routers, of which the first counts. Subnet selection (RFC 3011).
        // Likewise name servers, of which the first few count.
        3 | 6 => Some(4..=MAX_DATAGRAM),
        118 => Some(4..=4),
        // Lease time, and T1 and T2 of it.
        51 | 58 | 59 => Some(4..=4),
        53 | OVERLOAD => Some(1..=1),
        // Parameter request list, vendor class, client identifier. These and the next may be longer, in pieces.
        55 | 60 | 61 => Some(1..=MAX_DATAGRAM),
        // Maximum message size.
        57 => Some(2..=2),
        // PXE's encapsulated options, boot file name, user class, iPXE's encapsulated options.
        43 | 67 | 77 | 175 => Some(0..=MAX_DATAGRAM),
        // Relay agent information: one or more suboptions of two bytes and more, in as many options as they need.
        82 => Some(2..=MAX_DATAGRAM),
        // The mark of a recon server.
        224 => Some(5..=5),
        // The number of a recon machine's question, and the proof of an answer.
        225 => Some(16..=16),
        226 => Some(17..=17),
        // Architectures: the first two bytes are the preferred one.
        93 => Some(2..=MAX_DATAGRAM),
        // Machine identifier: a type and 16 bytes; other lengths are a known firmware fault and are left out.
        97 => Some(17..=17),
        _ => None,
    }
}

/// A text without the zeros that some senders put behind it: "receivers must be prepared" for them (RFC 2132 §2).
pub fn text(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &value[..end]
}

/// What an option says that dhcproto has no name for.
pub(super) fn unknown(message: &Message, code: OptionCode) -> Option<&[u8]> {
    match message.opts().get(code) {
        Some(DhcpOption::Unknown(option)) => Some(option.data()),
        _ => None,
    }
}

/// The options of one field, code and value. What is cut off is left out: firmware sends fields without an end mark, and of
/// odd lengths.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let (&code, tail) = rest.split_first()?;
            match code {
                0 => rest = tail,
                255 => return None,
                code => {
                    let (&length, tail) = tail.split_first()?;
                    let value = tail.get(..usize::from(length))?;
                    rest = &tail[value.len()..];
                    return Some((code, value));
                }
            }
        }
    })
}

/// An option as it stands in a packet: all its pieces, one behind another.
struct Pieces<'a> {
    /// The first one that is not empty.
    first: &'a [u8],
    whole: Cow<'a, [u8]>,
    /// Every piece says what the first one says.
    copies: bool,
}

impl<'a> Pieces<'a> {
    fn add(&mut self, value: &'a [u8]) {
        // An empty piece adds nothing, in front as little as behind.
        if self.first.is_empty() {
            (self.first, self.whole) = (value, Cow::Borrowed(value));
        } else if !value.is_empty() {
            self.copies &= value == self.first;
            self.whole.to_mut().extend(value);
        }
    }

    /// What the option says. RFC 3396 §5 puts pieces together; RFC 2131 §4.1 has an option stand once otherwise, and there are
    /// clients that list theirs twice. So a value that is there again and again counts once; only pieces of 255 bytes may be equal
    /// by chance, as parts of a longer value. And of several values of a fixed length the first counts.
    fn value(self, code: u8) -> Cow<'a, [u8]> {
        let fixed = lengths(code).filter(|lengths| lengths.start() == lengths.end());
        match fixed.map(|lengths| *lengths.start()) {
            Some(length) if self.whole.len() > length && self.whole.len().is_multiple_of(length) => match self.whole {
                Cow::Borrowed(whole) => Cow::Borrowed(&whole[..length]),
                Cow::Owned(mut whole) => {
                    whole.truncate(length);
                    Cow::Owned(whole)
                }
            },
            // A relay's words go back as they came.
            None if self.copies && self.first.len() < LONGEST && code != 82 => Cow::Borrowed(self.first),
            _ => self.whole,
        }
    }
}

/// Adds the options of one field.
fn walk<'a>(field: &'a [u8], options: &mut BTreeMap<u8, Pieces<'a>>) {
    for (code, value) in fields(field).filter(|(code, _)| lengths(*code).is_some()) {
        match options.entry(code) {
            Entry::Vacant(entry) => {
                entry.insert(Pieces {
                    first: value,
                    whole: Cow::Borrowed(value),
                    copies: true,
                });
            }
            Entry::Occupied(mut entry) => entry.get_mut().add(value),
        }
    }
}

/// What a client's packet is about, seen without reading all of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PeekedHeader<'a> {
    /// Message type (option 53).
    pub kind: u8,
    /// Vendor class (option 60).
    pub class: &'a [u8],
    /// Server identifier (option 54).
    pub server: Option<Ipv4Addr>,
    /// It came through a relay.
    pub relayed: bool,
}

/// Looks at a client's packet; `None` where it has to be decoded: it is a server's, or in several pieces.
pub fn peek(datagram: &[u8]) -> Option<PeekedHeader<'_>> {
    if *datagram.first()? != u8::from(Opcode::BootRequest) {
        return None;
    }
    let mut seen = PeekedHeader {
        relayed: datagram.get(GIADDR)? != [0; 4],
        ..PeekedHeader::default()
    };
    for (code, value) in fields(datagram.get(HEADER_BYTES..)?) {
        match code {
            53 if seen.kind == 0 && matches!(value, [1..=255]) => seen.kind = value[0],
            54 if seen.server.is_none() && value.len() == 4 => {
                seen.server = Some(Ipv4Addr::new(value[0], value[1], value[2], value[3]));
            }
            60 if seen.class.is_empty() => seen.class = value,
            OVERLOAD | 53 | 54 | 60 => return None,
            _ => {}
        }
    }
    Some(seen)
}

/// Reads one datagram.
pub fn decode(datagram: &[u8]) -> Result<Message, Malformed> {
    let header = datagram.get(..HEADER_BYTES).ok_or(Malformed::Short)?;
    if header[236..] != MAGIC_COOKIE {
        return Err(Malformed::Cookie);
    }
    if usize::from(header[2]) > CHADDR_BYTES {
        return Err(Malformed::Hardware);
    }
    let mut clean = Vec::with_capacity(datagram.len() + 1);
    clean.extend(header);
    let mut options = BTreeMap::new();
    walk(&datagram[HEADER_BYTES..], &mut options);
    // Option overload; the order file, sname is RFC 3396 §5's.
    let overload = options.remove(&OVERLOAD).map(|pieces| pieces.value(OVERLOAD));
    let overload = match overload.as_deref() {
        Some([what @ 1..=3]) => *what,
        _ => 0,
    };
    for (bit, field) in [(1, FILE), (2, SNAME)] {
        if overload & bit != 0 {
            walk(&header[field.clone()], &mut options);
            // Nobody shall take options for a name.
            clean[field].fill(0);
        }
    }
    let (mut relay, mut id) = (None, None);
    for (code, pieces) in options {
        let value = pieces.value(code);
        if !lengths(code).is_some_and(|lengths| lengths.contains(&value.len())) {
            continue;
        }
        match code {
            82 => relay = Some(value.into_owned()),
            61 if value.len() > LONGEST => id = Some(value.into_owned()),
            code => {
                // What is said behind a long option's first 255 bytes is nothing that this program asks for.
                let length = value.len().min(match code {
                    93 => 2,
                    3 => 4,
                    6 => (value.len() & !3).min(4 * MAX_NAME_SERVERS),
                    _ => LONGEST,
                });
                clean.extend([code, length as u8]);
                clean.extend(&value[..length]);
            }
        }
    }
    clean.push(255);
    let mut message = Message::decode(&mut Decoder::new(&clean)).map_err(|_| Malformed::Header)?;
    let options = message.opts_mut();
    // These go back as they came (RFC 3046 §2.2, RFC 6842), however long.
    if let Some(relay) = relay {
        options.insert(DhcpOption::Unknown(UnknownOption::new(RELAY_AGENT, relay)));
    }
    if let Some(id) = id {
        options.insert(DhcpOption::ClientIdentifier(id));
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v4::MessageType;
    use proptest::prelude::*;

    fn datagram(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        bytes[236..240].copy_from_slice(&MAGIC_COOKIE);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn a_bad_option_costs_only_itself() {
        // Options 154 (RFC 6926) and 121 as they make dhcproto panic, a cut 97, then the ones that matter.
        let options = [154, 1, 0, 121, 1, 200, 97, 3, 0, 1, 2, 53, 1, 1, 93, 4, 0, 7, 0, 9, 255];
        let message = decode(&datagram(&options)).unwrap();
        assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
        assert_eq!(
            message.opts().get(OptionCode::ClientSystemArchitecture),
            Some(&DhcpOption::ClientSystemArchitecture(7u16.into()))
        );
        assert!(message.opts().get(OptionCode::ClientMachineIdentifier).is_none());
    }

    #[test]
    fn what_is_not_dhcp_is_named() {
        assert_eq!(decode(&[1; 100]), Err(Malformed::Short));
        assert_eq!(decode(&[1; 300]), Err(Malformed::Cookie));
        let mut long = datagram(&[53, 1, 1]);
        long[2] = 17;
        assert_eq!(decode(&long), Err(Malformed::Hardware));
        // RFC 4390.
        let mut infiniband = datagram(&[53, 1, 1]);
        (infiniband[1], infiniband[2]) = (32, 0);
        let infiniband = decode(&infiniband).unwrap();
        assert_eq!((u8::from(infiniband.htype()), infiniband.chaddr()), (32, &[][..]));
        assert!(
            decode(&datagram(&[53, 9, 1])).unwrap().opts().is_empty(),
            "an option that ends behind the packet"
        );
    }

    #[test]
    fn a_value_in_pieces_is_put_together_and_options_hide_in_header_fields() {
        // RFC 3396: two halves of option 60; the class is continued in the file field, the user class is in sname.
        let mut bytes = datagram(&[
            52, 1, 3, 53, 1, 1, 60, 3, b'P', b'X', b'E', 60, 3, b'C', b'l', b'i', 255,
        ]);
        bytes[108..115].copy_from_slice(&[60, 3, b'e', b'n', b't', 255, 9]);
        bytes[44..51].copy_from_slice(&[77, 4, b'i', b'P', b'X', b'E', 255]);
        let message = decode(&bytes).unwrap();
        assert_eq!(
            message.opts().get(OptionCode::ClassIdentifier),
            Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec()))
        );
        assert_eq!(
            message.opts().get(OptionCode::UserClass),
            Some(&DhcpOption::UserClass(b"iPXE".to_vec()))
        );
        assert!(message.fname().is_none_or(|name| name.iter().all(|byte| *byte == 0)));
    }

    fn option(code: u8, value: &[u8]) -> Vec<u8> {
        [&[code, value.len() as u8], value].concat()
    }

    #[test]
    fn an_option_that_is_there_twice_counts_once() {
        let all = [
            option(53, &[3]),
            option(50, &[10, 0, 0, 7]),
            option(54, &[10, 0, 0, 1]),
            option(57, &[5, 192]),
            option(55, &[1, 3, 67]),
            option(60, b"recon:agent"),
            option(61, &[1, 2, 0, 0, 0, 0, 9]),
            option(77, b"iPXE"),
            option(93, &[0, 7]),
            option(97, &[0; 17]),
            option(175, &[0x13, 1, 1]),
        ];
        let once = decode(&datagram(&all.concat())).unwrap();
        assert_eq!(once.opts().len(), all.len());
        let twice = [all.concat(), all.concat()].concat();
        assert_eq!(decode(&datagram(&twice)).unwrap(), once, "the whole list again");
        let each: Vec<u8> = all.iter().flat_map(|option| option.repeat(3)).collect();
        assert_eq!(decode(&datagram(&each)).unwrap(), once, "each three times");
        // And through option overload, that itself is there twice.
        let mut bytes = datagram(&[option(52, &[1]).repeat(2), all.concat()].concat());
        bytes[FILE.start..][..all.concat().len()].copy_from_slice(&all.concat());
        assert_eq!(decode(&bytes).unwrap(), once, "once more in the file field");
    }

    #[test]
    fn zeros_behind_a_text_are_none_of_it() {
        for (value, wanted) in [
            (&b"iPXE\0\0"[..], &b"iPXE"[..]),
            (b"a\0b", b"a\0b"),
            (b"\0\0", b""),
            (b"", b""),
        ] {
            assert_eq!(text(value), wanted);
        }
        for (options, kind) in [
            (option(77, b"iPXE\0"), super::super::client::Kind::Ipxe),
            (option(60, b"recon:agent\0"), super::super::client::Kind::Agent),
        ] {
            let message = decode(&datagram(&options)).unwrap();
            assert_eq!(super::super::client::identify(&message).unwrap().kind, kind);
        }
    }

    #[test]
    fn of_several_values_of_a_fixed_length_the_first_counts() {
        let several = [
            option(53, &[]),
            option(53, &[1]),
            option(53, &[3]),
            option(50, &[10, 0, 0, 7]),
            option(50, &[10, 0, 0, 8]),
            // Two in one piece; and one that is no multiple, which is none.
            option(54, &[10, 0, 0, 1, 10, 0, 0, 2]),
            option(51, &[0, 0, 1]),
            option(51, &[0, 0]),
        ];
        let message = decode(&datagram(&several.concat())).unwrap();
        assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
        assert_eq!(
            message.opts().get(OptionCode::RequestedIpAddress),
            Some(&DhcpOption::RequestedIpAddress([10, 0, 0, 7].into()))
        );
        assert_eq!(
            message.opts().get(OptionCode::ServerIdentifier),
            Some(&DhcpOption::ServerIdentifier([10, 0, 0, 1].into()))
        );
        assert!(message.opts().get(OptionCode::AddressLeaseTime).is_none());
    }

    #[test]
    fn what_is_too_long_does_not_hide_what_is_in_front() {
        let class = [&b"PXEClient:Arch:00007:UNDI:003016"[..], &[b'x'; 240]].concat();
        let id: Vec<u8> = (0..300u16).map(|at| at as u8).collect();
        let pieces =
            |code, value: &[u8]| -> Vec<u8> { value.chunks(255).flat_map(|piece| option(code, piece)).collect() };
        let long = [
            option(60, &class[..32]),
            option(60, &class[32..]),
            pieces(61, &id),
            pieces(55, &[67; 300]),
            // Two pieces that are the same and parts of one value.
            pieces(43, &[7; 510]),
            option(53, &[1]),
        ];
        let message = decode(&datagram(&long.concat())).unwrap();
        assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
        assert_eq!(
            message.opts().get(OptionCode::ClassIdentifier),
            Some(&DhcpOption::ClassIdentifier(class[..255].to_vec()))
        );
        assert_eq!(
            message.opts().get(OptionCode::ClientIdentifier),
            Some(&DhcpOption::ClientIdentifier(id)),
            "it goes back whole (RFC 6842)"
        );
        assert!(message.opts().get(OptionCode::ParameterRequestList).is_some());
        assert_eq!(
            message.opts().get(OptionCode::VendorExtensions),
            Some(&DhcpOption::VendorExtensions(vec![7; 255]))
        );
    }

    #[test]
    fn what_the_relay_said_is_kept_as_it_is() {
        let said: Vec<u8> = (0..=255).cycle().take(300).map(|byte: u16| byte as u8).collect();
        let mut options = vec![53, 1, 1, 82, 255];
        options.extend(&said[..255]);
        options.extend([82, 45]);
        options.extend(&said[255..]);
        let message = decode(&datagram(&options)).unwrap();
        let kept = DhcpOption::Unknown(UnknownOption::new(RELAY_AGENT, said));
        assert_eq!(message.opts().get(RELAY_AGENT), Some(&kept));
    }

    #[test]
    fn packets_of_odd_length_and_without_an_end_are_read_as_far_as_they_go() {
        for (options, kind) in [
            (&[53, 1, 1][..], Some(MessageType::Discover)),
            (&[53, 1, 1, 60][..], Some(MessageType::Discover)),
            (&[53, 1, 1, 60, 9, b'P'][..], Some(MessageType::Discover)),
            (&[0, 0, 0, 53, 1, 3][..], Some(MessageType::Request)),
            (&[53][..], None),
            (&[][..], None),
        ] {
            assert_eq!(
                decode(&datagram(options)).unwrap().opts().msg_type(),
                kind,
                "{options:?}"
            );
        }
    }

    #[test]
    fn a_glance_says_what_the_whole_says_or_nothing() {
        let request = datagram(&[53, 1, 3, 0, 54, 4, 10, 0, 0, 1, 60, 3, b'a', b'b', b'c', 255, 53, 1, 9]);
        let seen = peek(&request).unwrap();
        assert_eq!((seen.kind, seen.class), (3, b"abc".as_slice()));
        assert_eq!(seen.server, Some([10, 0, 0, 1].into()));
        assert_eq!(peek(&datagram(&[255])), Some(PeekedHeader::default()));
        // Options elsewhere, an option in two pieces, a server's packet, a part of one.
        assert_eq!(peek(&datagram(&[53, 1, 3, 52, 1, 1])), None);
        assert_eq!(peek(&datagram(&[60, 1, b'a', 60, 1, b'b'])), None);
        assert_eq!(peek(&datagram(&[53, 1, 0, 53, 1, 3])), None);
        let mut reply = datagram(&[53, 1, 5]);
        reply[0] = 2;
        assert_eq!(peek(&reply), None);
        assert_eq!(peek(&request[..200]), None);
        assert_eq!(peek(&[]), None);
    }

    proptest! {
        #[test]
        fn a_glance_agrees_with_the_whole(options in proptest::collection::vec(0..70u8, 0..60)) {
            let bytes = datagram(&options);
            if let (Some(seen), Ok(message)) = (peek(&bytes), decode(&bytes)) {
                let kind = message.opts().msg_type().map(u8::from);
                prop_assert_eq!(kind.unwrap_or_default(), seen.kind);
                let class = match message.opts().get(OptionCode::ClassIdentifier) {
                    Some(DhcpOption::ClassIdentifier(class)) => class.as_slice(),
                    _ => &[],
                };
                prop_assert_eq!(class, seen.class);
            }
        }

        #[test]
        fn any_options_are_read_or_left(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let message = decode(&datagram(&options)).unwrap();
            prop_assert!(message.opts().len() <= 20);
        }

        #[test]
        fn header_fields_full_of_anything_do_no_harm(
            overload in any::<u8>(),
            fields in proptest::collection::vec(any::<u8>(), 192),
            options in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = datagram(&[52, 1, overload]);
            bytes[44..236].copy_from_slice(&fields);
            bytes.extend(options);
            prop_assert!(decode(&bytes).is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode(&bytes).is_ok();
        }
    }
}
