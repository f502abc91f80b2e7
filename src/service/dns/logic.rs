//! Query bytes in, answer bytes out. Pure.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::DOMAIN;

/// Largest answer over UDP without EDNS (RFC 1035 §4.2.1). Nothing here needs more.
pub const MAX_UDP_BYTES: usize = 512;
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
    /// Every leased address with the host's label.
    pub nodes: HashMap<Ipv4Addr, String>,
}

/// Label of a leased address: `node-192-168-219-60`.
pub fn node_label(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("node-{a}-{b}-{c}-{d}")
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
        return give(question, reply, RecordType::PTR, RData::PTR(PTR(target)));
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
    match address_of(names, label) {
        Some(address) => give(question, reply, RecordType::A, RData::A(A(address))),
        None => no_such_name(reply),
    }
}

/// The record if its type was asked for, else an empty answer: the name exists without that type.
fn give(question: &Query, reply: &mut Message, kind: RecordType, data: RData) -> ResponseCode {
    if question.query_type() == kind || question.query_type() == RecordType::ANY {
        reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        ResponseCode::NoError
    } else {
        no_data(reply)
    }
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

fn address_of(names: &Names, label: &str) -> Option<Ipv4Addr> {
    if OWN_NAMES.contains(&label) {
        return Some(names.server);
    }
    names
        .nodes
        .iter()
        .find(|(_, known)| known.as_str() == label)
        .map(|(address, _)| *address)
}

fn label_of(names: &Names, address: Ipv4Addr) -> Option<&str> {
    if address == names.server {
        return Some("recon");
    }
    names.nodes.get(&address).map(String::as_str)
}

fn same_subnet(names: &Names, address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(names.prefix);
    u32::from(address).checked_shr(shift) == u32::from(names.server).checked_shr(shift)
}

fn reverse_address(name: &str) -> Option<Ipv4Addr> {
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

    fn names() -> Names {
        let nodes = HashMap::from([(NODE, node_label(NODE))]);
        Names {
            server: Ipv4Addr::new(192, 168, 219, 1),
            prefix: 24,
            nodes,
        }
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
        let reply = ask("recon.", RecordType::AAAA);
        assert_eq!(
            (reply.metadata.response_code, reply.answers.len()),
            (ResponseCode::NoError, 0)
        );
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
