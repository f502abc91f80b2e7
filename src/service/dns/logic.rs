//! Query bytes in, answer bytes out. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::model::MacAddr;
use crate::model::ula::Prefix64;

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

fn respond(names: &Names, question: &Query, reply: &mut Message) -> ResponseCode {
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return ResponseCode::Refused;
    }
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    if let Some(address) = reverse_address(&name) {
        if !same_subnet(names, address) {
            return ResponseCode::Refused;
        }
        reply.metadata.authoritative = true;
        let Some(label) = label_of(names, address) else {
            return no_such_name(reply);
        };
        let Ok(target) = Name::from_ascii(format!("{label}.{DOMAIN}.")) else {
            return ResponseCode::ServFail;
        };
        return give(question, reply, [(RecordType::PTR, RData::PTR(PTR(target)))]);
    }
    // A client without a search domain asks for the bare label.
    let label = match name.strip_suffix(DOMAIN) {
        Some("") => {
            reply.metadata.authoritative = true;
            return no_data(reply);
        }
        Some(rest) => rest.strip_suffix('.').filter(|label| !label.is_empty()),
        None => Some(name.as_str()).filter(|name| !name.is_empty() && !name.contains('.')),
    };
    let Some(label) = label else {
        return ResponseCode::Refused;
    };
    reply.metadata.authoritative = true;
    let addresses = addresses_of(names, label);
    if addresses.is_empty() {
        return no_such_name(reply);
    }
    let records = addresses.into_iter().map(|address| match address {
        IpAddr::V4(address) => (RecordType::A, RData::A(A(address))),
        IpAddr::V6(address) => (RecordType::AAAA, RData::AAAA(AAAA(address))),
    });
    give(question, reply, records)
}

/// The records whose type was asked for, else an empty answer: the name exists without that type.
fn give(question: &Query, reply: &mut Message, records: impl IntoIterator<Item = (RecordType, RData)>) -> ResponseCode {
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
        return no_data(reply);
    }
    ResponseCode::NoError
}

fn no_data(reply: &mut Message) -> ResponseCode {
    add_soa(reply);
    ResponseCode::NoError
}

fn no_such_name(reply: &mut Message) -> ResponseCode {
    add_soa(reply);
    ResponseCode::NXDomain
}

/// RFC 2308 §3: a negative answer carries the SOA, so that resolvers know how long to believe it.
fn add_soa(reply: &mut Message) {
    let zone = Name::from_ascii(format!("{DOMAIN}."));
    let server = Name::from_ascii(format!("recon.{DOMAIN}."));
    let person = Name::from_ascii(format!("nobody.{DOMAIN}."));
    if let (Ok(zone), Ok(server), Ok(person)) = (zone, server, person) {
        let soa = SOA::new(server, person, 1, 3600, 600, 86_400, 5);
        reply.add_authority(Record::from_rdata(zone, TTL, RData::SOA(soa)));
    }
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
        IpAddr::V4(address) => {
            let shift = 32 - u32::from(names.prefix);
            u32::from(address).checked_shr(shift) == u32::from(names.server).checked_shr(shift)
        }
        IpAddr::V6(address) => names.prefix6.is_some_and(|prefix| prefix.contains(address)),
    }
}

/// The address whose name is asked for (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse_address(name: &str) -> Option<IpAddr> {
    reverse_v4(name)
        .map(IpAddr::V4)
        .or_else(|| reverse_v6(name).map(IpAddr::V6))
}

fn reverse_v6(name: &str) -> Option<Ipv6Addr> {
    let mut bits = 0u128;
    let mut count = 0;
    for part in name.strip_suffix(".ip6.arpa")?.split('.') {
        let [digit] = part.as_bytes() else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        bits |= u128::from(nibble) << (4 * count);
        count += 1;
    }
    (count == 32).then_some(Ipv6Addr::from(bits))
}

fn reverse_v4(name: &str) -> Option<Ipv4Addr> {
    let octets: Vec<u8> = name
        .strip_suffix(".in-addr.arpa")?
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let [d, c, b, a] = octets.try_into().ok()?;
    Some(Ipv4Addr::new(a, b, c, d))
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
        for name in ["nobody.recon.internal.", "nobody.", "61.219.168.192.in-addr.arpa."] {
            let reply = ask(name, RecordType::A);
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{name}");
            assert_eq!(reply.authorities.len(), 1, "{name}");
        }
        for name in ["example.com.", "1.0.0.10.in-addr.arpa.", "."] {
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
            let reverse: String = address
                .octets()
                .iter()
                .rev()
                .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
                .collect();
            assert_eq!(data(&ask(&format!("{reverse}ip6.arpa."), RecordType::PTR)), [name]);
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
