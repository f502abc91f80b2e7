//! Query bytes in, answer bytes out. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::config::subnet::Network;
use crate::model::MacAddr;
use crate::model::ula::{LINK_PREFIX, Prefix64};

use super::DOMAIN;

/// Largest answer over UDP without EDNS (RFC 1035 §4.2.1). Nothing here needs more.
pub const MAX_UDP_BYTES: usize = 512;
/// Records of one answer, so that it stays within [`MAX_UDP_BYTES`]; a machine has an address for each boot stage.
const MAX_ANSWERS: usize = 8;
/// Seconds; short, because a machine may come back under another address.
const TTL: u32 = 60;

/// Names of this master, each without the zone.
pub const OWN_NAMES: [&str; 3] = ["recon", "master", "bang"];

/// What there is to answer with.
#[derive(Debug, Clone)]
pub struct Names {
    /// Address of the master on the link that asks.
    pub server: Ipv4Addr,
    pub prefix: u8,
    /// The link's IPv6 prefix, where IPv6 is served.
    pub prefix6: Option<Prefix64>,
    /// Every leased address with the host's label.
    pub nodes: Vec<(IpAddr, String)>,
}

/// Label of a leased address: `node-192-168-219-60`.
pub fn node_label(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("node-{a}-{b}-{c}-{d}")
}

/// Names for the leases of a link, so that a machine has one name for its addresses of both families: that of its IPv4
/// address, `node-525400123456` by its port without one, else by the end of its IPv6 address, `node-1-c0ff-ee`.
pub fn node_names(
    v4: impl IntoIterator<Item = (MacAddr, Ipv4Addr)>,
    v6: impl IntoIterator<Item = (Option<MacAddr>, Ipv6Addr)>,
) -> Vec<(IpAddr, String)> {
    let mut by_mac = std::collections::HashMap::new();
    let mut nodes = Vec::new();
    for (mac, address) in v4 {
        by_mac.insert(mac, address);
        nodes.push((IpAddr::V4(address), node_label(address)));
    }
    for (mac, address) in v6 {
        let label = match mac {
            Some(mac) => match by_mac.get(&mac) {
                Some(v4) => node_label(*v4),
                None => format!("node-{}", mac.dashed().replace('-', "")),
            },
            None => {
                let [.., f, g, h] = address.segments();
                format!("node-{f:x}-{g:x}-{h:x}")
            }
        };
        nodes.push((IpAddr::V6(address), label));
    }
    nodes
}

/// Answers one query; `None` where RFC 1035 has nothing to send back (not a query, or not even a header).
pub fn answer(names: &Names, query: &[u8]) -> Option<Vec<u8>> {
    let request = match Message::from_vec(query) {
        Ok(request) => request,
        Err(_) => {
            let id = u16::from_be_bytes(query.get(..2)?.try_into().ok()?);
            let is_query = query.len() >= 12 && query[2] & 0x80 == 0;
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return is_query.then(|| reply.to_vec().ok()).flatten();
        }
    };
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice()) {
        (OpCode::Query, [question]) => {
            reply.add_query(question.clone());
            respond(names, question, &mut reply)
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    reply.to_vec().ok()
}

/// What a name is to us.
enum NameKind {
    /// The top of a zone of ours, `recon.internal` or a reverse one.
    Apex,
    /// A name of a zone of ours that has no records, and below which there may be some: a part of an address.
    Between,
    /// One label below the top of the forward zone, or alone.
    Host(String),
    Address(IpAddr),
    /// A name of the forward zone that cannot be.
    Nowhere,
    /// Not ours to judge. Names above ours are there, or ours would not be (RFC 8020): whoever denies them makes resolvers that ask
    /// label by label (RFC 9156) deny ours as well.
    Elsewhere,
}

fn respond(names: &Names, question: &Query, reply: &mut Message) -> ResponseCode {
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return ResponseCode::Refused;
    }
    // RFC 5936 §2.2.1; nobody keeps a copy of these zones.
    if matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return ResponseCode::Refused;
    }
    let Ok(apex) = Name::from_ascii(format!("{DOMAIN}.")) else {
        return ResponseCode::ServFail;
    };
    let (zone, place) = place_of(names, question.name());
    let zone = zone.unwrap_or_else(|| apex.clone());
    reply.metadata.authoritative = !matches!(place, NameKind::Elsewhere);
    match place {
        NameKind::Elsewhere => ResponseCode::Refused,
        NameKind::Nowhere => deny(reply, &zone, ResponseCode::NXDomain),
        NameKind::Between => deny(reply, &zone, ResponseCode::NoError),
        NameKind::Apex => {
            let Ok(server) = Name::from_ascii(format!("recon.{DOMAIN}.")) else {
                return ResponseCode::ServFail;
            };
            let (soa, ns) = (soa(&apex, &server), RData::NS(NS(server.clone())));
            let code = give(question, reply, &zone, [(RecordType::SOA, soa), (RecordType::NS, ns)]);
            if matches!(question.query_type(), RecordType::NS | RecordType::ANY) {
                // Where the server is that was just named.
                for (_, data) in own_addresses(names).map(record) {
                    reply.add_additional(Record::from_rdata(server.clone(), TTL, data));
                }
            }
            code
        }
        NameKind::Host(label) => match addresses_of(names, &label) {
            addresses if addresses.is_empty() => deny(reply, &zone, ResponseCode::NXDomain),
            addresses => give(question, reply, &zone, addresses.into_iter().map(record)),
        },
        NameKind::Address(address) => match label_of(names, address) {
            None => deny(reply, &zone, ResponseCode::NXDomain),
            Some(label) => match Name::from_ascii(format!("{label}.{DOMAIN}.")) {
                Ok(target) => give(question, reply, &zone, [(RecordType::PTR, RData::PTR(PTR(target)))]),
                Err(_) => ResponseCode::ServFail,
            },
        },
    }
}

/// What a name is to us, and the top of its zone where that is not the forward one's.
fn place_of(names: &Names, name: &Name) -> (Option<Name>, NameKind) {
    let labels: Vec<Vec<u8>> = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
    let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
    match labels.as_slice() {
        [parts @ .., b"in-addr", b"arpa"] => return reverse(names, name, reverse_v4(parts)),
        [parts @ .., b"ip6", b"arpa"] => return reverse(names, name, reverse_v6(parts)),
        _ => {}
    }
    let text = |label: &[u8]| String::from_utf8_lossy(label).into_owned();
    let zone: Vec<&[u8]> = DOMAIN.split('.').map(str::as_bytes).collect();
    let place = match (labels.strip_suffix(zone.as_slice()), labels.as_slice()) {
        (Some([]), _) => NameKind::Apex,
        (Some([label]), _) => NameKind::Host(text(label)),
        (Some(_), _) => NameKind::Nowhere,
        // A client without a search domain asks for the bare label.
        (None, [label]) => match text(label) {
            label if addresses_of(names, &label).is_empty() && may_be_top_level(&label) => NameKind::Elsewhere,
            label => NameKind::Host(label),
        },
        (None, _) => NameKind::Elsewhere,
    };
    (None, place)
}

/// A top-level domain is alphabetic (RFC 1123 §2.1), or of an alphabet that is not ASCII (RFC 5890 §2.3.2.1).
fn may_be_top_level(label: &str) -> bool {
    label.starts_with("xn--") || label.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// `part`: the bits of the address that the name has, and how many those are.
fn reverse(names: &Names, name: &Name, part: Option<(IpAddr, u32)>) -> (Option<Name>, NameKind) {
    let Some((address, bits)) = part else {
        return (None, NameKind::Elsewhere);
    };
    // Zones end between labels: a subnet of 22 bits is four zones of 24.
    let (apex, label_bits, whole) = match address {
        IpAddr::V4(_) => (u32::from(names.prefix).next_multiple_of(8), 8, 32),
        IpAddr::V6(_) => (u32::from(LINK_PREFIX), 4, 128),
    };
    // The first address below the name; all the others are as near.
    if bits < apex || !same_subnet(names, address) {
        return (None, NameKind::Elsewhere);
    }
    let zone = name.trim_to((apex / label_bits) as usize + 2);
    let place = match bits {
        // Of a subnet within the last label there is no zone, only names.
        bits if bits == whole => NameKind::Address(address),
        bits if bits == apex => NameKind::Apex,
        _ => NameKind::Between,
    };
    (Some(zone), place)
}

fn record(address: IpAddr) -> (RecordType, RData) {
    match address {
        IpAddr::V4(address) => (RecordType::A, RData::A(A(address))),
        IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(address))),
    }
}

/// The records whose type was asked for, else an empty answer: the name exists without that type.
fn give(
    question: &Query,
    reply: &mut Message,
    zone: &Name,
    records: impl IntoIterator<Item = (RecordType, RData)>,
) -> ResponseCode {
    let asked = question.query_type();
    let matching = records
        .into_iter()
        .filter(|(kind, _)| *kind == asked || asked == RecordType::ANY);
    let mut count = 0;
    for (_, data) in matching.take(MAX_ANSWERS) {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        count += 1;
    }
    if count == 0 {
        return deny(reply, zone, ResponseCode::NoError);
    }
    ResponseCode::NoError
}

/// RFC 2308 §3: a negative answer carries the zone's SOA, so that resolvers know how long to believe it.
fn deny(reply: &mut Message, zone: &Name, code: ResponseCode) -> ResponseCode {
    if let (Ok(apex), Ok(server)) = (
        Name::from_ascii(format!("{DOMAIN}.")),
        Name::from_ascii(format!("recon.{DOMAIN}.")),
    ) {
        reply.add_authority(Record::from_rdata(zone.clone(), TTL, soa(&apex, &server)));
    }
    code
}

fn soa(apex: &Name, server: &Name) -> RData {
    let person = apex.prepend_label("nobody").unwrap_or_else(|_| apex.clone());
    RData::SOA(SOA::new(server.clone(), person, 1, 3600, 600, 86_400, 5))
}

fn addresses_of(names: &Names, label: &str) -> Vec<IpAddr> {
    if OWN_NAMES.contains(&label) {
        return own_addresses(names).collect();
    }
    let matching = names.nodes.iter().filter(|(_, known)| known.as_str() == label);
    matching.map(|(address, _)| *address).collect()
}

fn own_addresses(names: &Names) -> impl Iterator<Item = IpAddr> {
    let v6 = names.prefix6.map(|prefix| IpAddr::V6(prefix.server()));
    std::iter::once(IpAddr::V4(names.server)).chain(v6)
}

fn label_of(names: &Names, address: IpAddr) -> Option<&str> {
    if own_addresses(names).any(|own| own == address) {
        return Some("recon");
    }
    let known = names.nodes.iter().find(|(known, _)| *known == address);
    known.map(|(_, label)| label.as_str())
}

fn same_subnet(names: &Names, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => Network::around(names.server, names.prefix).contains(address),
        IpAddr::V6(address) => names.prefix6.is_some_and(|prefix| prefix.contains(address)),
    }
}

/// What a name below `in-addr.arpa` says of an address (RFC 1035 §3.5): its first bits, and how many. `None` for what is none.
fn reverse_v4(parts: &[&[u8]]) -> Option<(IpAddr, u32)> {
    let mut octets = [0; 4];
    for (octet, part) in octets.iter_mut().zip(parts.iter().rev()) {
        *octet = std::str::from_utf8(part).ok()?.parse().ok()?;
    }
    (parts.len() <= 4).then_some((IpAddr::V4(octets.into()), 8 * parts.len() as u32))
}

/// The same below `ip6.arpa` (RFC 3596 §2.5).
fn reverse_v6(parts: &[&[u8]]) -> Option<(IpAddr, u32)> {
    let mut bits = 0u128;
    for (at, part) in parts.iter().rev().enumerate() {
        let [digit] = part else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        bits |= u128::from(nibble).checked_shl(124u32.checked_sub(4 * at as u32)?)?;
    }
    Some((IpAddr::V6(bits.into()), 4 * parts.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 60);
    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn names() -> Names {
        let nodes = node_names(
            [(MAC, NODE)],
            [(Some(MAC), node6(7)), (None, node6(8)), (Some(OTHER), node6(9))],
        );
        Names {
            server: Ipv4Addr::new(192, 168, 219, 1),
            prefix: 24,
            prefix6: Some(prefix6()),
            nodes,
        }
    }

    fn prefix6() -> Prefix64 {
        crate::model::ula::Ula::drawn(0x12_3456_789a).link(0)
    }

    fn node6(last: u64) -> Ipv6Addr {
        prefix6().host((1 << 32) | last)
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = answer(&names(), &query.to_vec().unwrap()).expect("an answer");
        assert!(bytes.len() <= MAX_UDP_BYTES);
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.metadata.id, query.metadata.id);
        reply
    }

    fn data(reply: &Message) -> Vec<String> {
        reply.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn own_names_and_nodes_forward_and_reverse() {
        for name in [
            "recon.",
            "MASTER.",
            "bang.",
            "recon.recon.internal.",
            "bang.Recon.Internal.",
        ] {
            assert_eq!(data(&ask(name, RecordType::A)), ["192.168.219.1"], "{name}");
        }
        assert_eq!(
            data(&ask("node-192-168-219-60.recon.internal.", RecordType::A)),
            ["192.168.219.60"]
        );
        assert_eq!(
            data(&ask("60.219.168.192.in-addr.arpa.", RecordType::PTR)),
            ["node-192-168-219-60.recon.internal."]
        );
        assert_eq!(
            data(&ask("1.219.168.192.in-addr.arpa.", RecordType::PTR)),
            ["recon.recon.internal."]
        );
    }

    #[test]
    fn what_does_not_exist_is_said_to_and_what_is_not_ours_is_refused() {
        for name in [
            "nobody.recon.internal.",
            "recon.recon.recon.internal.",
            // No top-level domain is called so.
            "node-192-168-219-61.",
            "61.219.168.192.in-addr.arpa.",
        ] {
            let reply = ask(name, RecordType::A);
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert_eq!(reply.authorities.len(), 1, "{name}");
        }
        for name in ["example.com.", "1.0.0.10.in-addr.arpa.", ".", "nobody.", "localhost."] {
            assert_eq!(
                ask(name, RecordType::A).metadata.response_code,
                ResponseCode::Refused,
                "{name}"
            );
        }
        let reply = ask("recon.", RecordType::MX);
        assert_eq!(
            (reply.metadata.response_code, reply.answers.len()),
            (ResponseCode::NoError, 0)
        );
    }

    #[test]
    fn the_top_of_every_zone_has_its_soa_and_its_server() {
        let v6: String = reversed(prefix6().server()).chars().skip(32).collect();
        for zone in ["recon.internal.", "Recon.INTERNAL.", "219.168.192.in-addr.arpa.", &v6] {
            let soa = ask(zone, RecordType::SOA);
            assert_eq!(soa.metadata.response_code, ResponseCode::NoError, "{zone}");
            assert!(soa.metadata.authoritative, "{zone}");
            assert_eq!(
                data(&soa),
                ["recon.recon.internal. nobody.recon.internal. 1 3600 600 86400 5"],
                "{zone}"
            );
            let ns = ask(zone, RecordType::NS);
            assert_eq!(data(&ns), ["recon.recon.internal."], "{zone}");
            assert_eq!(ns.additionals.len(), 2, "{zone}: its addresses");
            assert_eq!(data(&ask(zone, RecordType::ANY)).len(), 2, "{zone}");
            let nothing = ask(zone, RecordType::A);
            assert_eq!(
                (nothing.metadata.response_code, nothing.answers.len()),
                (ResponseCode::NoError, 0)
            );
            assert_eq!(
                nothing.authorities[0].name.to_ascii().to_lowercase(),
                zone.to_lowercase()
            );
            for copy in [RecordType::AXFR, RecordType::IXFR] {
                assert_eq!(ask(zone, copy).metadata.response_code, ResponseCode::Refused, "{zone}");
            }
        }
    }

    #[test]
    fn what_is_above_or_between_our_names_is_never_denied() {
        for kind in [
            RecordType::A,
            RecordType::NS,
            RecordType::SOA,
            RecordType::DS,
            RecordType::AAAA,
        ] {
            for above in [
                ".",
                "internal.",
                "arpa.",
                "com.",
                "xn--p1ai.",
                "in-addr.arpa.",
                "192.in-addr.arpa.",
                "168.192.in-addr.arpa.",
                "ip6.arpa.",
                "d.f.ip6.arpa.",
            ] {
                let reply = ask(above, kind);
                assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{above} {kind}");
                assert!(!reply.metadata.authoritative, "{above} {kind}");
            }
            // Part of an address of ours.
            let node: String = reversed(node6(7)).chars().skip(10).collect();
            let reply = ask(&node, kind);
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError, "{node} {kind}");
            assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 1));
            // A whole name without that type.
            let reply = ask("recon.recon.internal.", RecordType::NS);
            assert_eq!(
                (reply.metadata.response_code, reply.answers.len()),
                (ResponseCode::NoError, 0)
            );
        }
        // A dot within a label does not make two of it.
        let escaped = ask("x\\.recon.internal.", RecordType::A);
        assert_eq!(escaped.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn reverse_zones_end_between_labels() {
        let code = |prefix, name: &str, kind| {
            let names = Names { prefix, ..names() };
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            let reply = Message::from_vec(&answer(&names, &query.to_vec().unwrap()).unwrap()).unwrap();
            (reply.metadata.response_code, reply.answers.len())
        };
        let (yes, nothing) = ((ResponseCode::NoError, 1), (ResponseCode::NoError, 0));
        let (refused, denied) = ((ResponseCode::Refused, 0), (ResponseCode::NXDomain, 0));
        for (prefix, name, wanted) in [
            (16, "168.192.in-addr.arpa.", yes),
            (16, "219.168.192.in-addr.arpa.", nothing),
            (16, "7.219.168.192.in-addr.arpa.", denied),
            (16, "192.in-addr.arpa.", refused),
            (22, "219.168.192.in-addr.arpa.", yes),
            (22, "216.168.192.in-addr.arpa.", yes),
            (22, "215.168.192.in-addr.arpa.", refused),
            (22, "168.192.in-addr.arpa.", refused),
            (25, "219.168.192.in-addr.arpa.", refused),
            (25, "7.219.168.192.in-addr.arpa.", denied),
            (25, "200.219.168.192.in-addr.arpa.", refused),
            (24, "x.219.168.192.in-addr.arpa.", refused),
            (24, "1.60.219.168.192.in-addr.arpa.", refused),
        ] {
            assert_eq!(code(prefix, name, RecordType::SOA), wanted, "/{prefix} {name}");
        }
    }

    /// The name of an address below `ip6.arpa`.
    fn reversed(address: Ipv6Addr) -> String {
        let nibbles = address.octets().into_iter().rev();
        let digits: String = nibbles
            .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
            .collect();
        format!("{digits}ip6.arpa.")
    }

    #[test]
    fn both_families_lead_to_one_name_and_back() {
        let zone = "recon.internal.";
        for name in ["recon.", "master.recon.internal.", "BANG."] {
            assert_eq!(data(&ask(name, RecordType::AAAA)), ["fd12:3456:789a::1"], "{name}");
            assert_eq!(data(&ask(name, RecordType::ANY)).len(), 2, "{name}");
        }
        for (label, address) in [
            ("node-192-168-219-60", node6(7)),
            ("node-1-0-8", node6(8)),
            ("node-020000000009", node6(9)),
        ] {
            let name = format!("{label}.{zone}");
            assert_eq!(data(&ask(&name, RecordType::AAAA)), [address.to_string()], "{name}");
            assert_eq!(data(&ask(&reversed(address), RecordType::PTR)), [name]);
        }
        assert_eq!(ask("node-1-0-8.recon.internal.", RecordType::A).answers.len(), 0);
    }

    #[test]
    fn reverse_names_beyond_our_prefix_are_refused() {
        let ours = "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.";
        let free = format!("{}0.0.0.0.{ours}", "9.".repeat(16));
        assert_eq!(
            ask(&free, RecordType::PTR).metadata.response_code,
            ResponseCode::NXDomain
        );
        let elsewhere = format!("{}1.0.0.0.{ours}", "9.".repeat(16));
        let long = format!("{}ip6.arpa.", "1.".repeat(33));
        for name in [elsewhere.as_str(), ours, "x.ip6.arpa.", &long] {
            assert_eq!(
                ask(name, RecordType::PTR).metadata.response_code,
                ResponseCode::Refused,
                "{name}"
            );
        }
    }

    #[test]
    fn a_response_is_never_answered() {
        let reply = Message::response(7, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&names(), &reply), None, "or two servers would talk for ever");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_within_bounds_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(reply) = answer(&names(), &bytes) {
                prop_assert!(reply.len() <= bytes.len() + MAX_UDP_BYTES);
            }
        }
    }
}
