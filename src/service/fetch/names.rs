//! Names of hosts: what the system's files say of them, and what is asked of a name server. Pure. (A static program cannot use the
//! system's own resolver: glibc would have to load its modules.)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Most name servers that are asked (resolv.conf(5), `MAXNS`).
const MAX_SERVERS: usize = 3;
/// Most domains that are tried behind a short name.
const MAX_SEARCH: usize = 6;
/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;

/// Addresses of a name in a file as `/etc/hosts` (hosts(5)).
pub(super) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| -> Option<IpAddr> {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    let mut found: Vec<IpAddr> = text.lines().filter_map(line).take(MAX_ADDRESSES).collect();
    if found.is_empty() && name.rsplit('.').next() == Some("localhost") {
        // RFC 6761 §6.3.
        found.extend([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()]);
    }
    found
}

/// What resolv.conf(5) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolver {
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Resolver {
    /// `index_of`: the number of an interface, by its name.
    pub(super) fn read(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Self {
        let mut resolver = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if resolver.servers.len() < MAX_SERVERS => {
                    let server = words.next().and_then(|word| server(word, &index_of));
                    resolver.servers.extend(server);
                }
                Some("search" | "domain") => resolver.search = words.take(MAX_SEARCH).map(str::to_owned).collect(),
                Some("options") => {
                    let dots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = dots.unwrap_or(resolver.ndots).min(15);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The full names that a name may mean, likeliest first.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut out: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let place = match name.matches('.').count() >= self.ndots {
            true => 0,
            false => out.len(),
        };
        out.insert(place, name.to_owned());
        out
    }
}

/// An address as resolv.conf(5) has it; behind `%` the interface by which a link's own address is reached (RFC 4007 §11).
fn server(word: &str, index_of: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    const DNS_PORT: u16 = 53;
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, DNS_PORT));
    };
    let scope = zone.parse().ok().or_else(|| index_of(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into())
}

/// A question in bytes, nothing for a name that cannot be asked for.
pub(super) fn question(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.to_vec().ok()
}

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Of this name and of those that it stands for; none, where there is no such name or it has no address of this kind.
    Addresses(Vec<IpAddr>),
    /// Too long for a datagram: to be asked again by TCP.
    Cut,
    /// The server does not know; another one may.
    NotKnown(String),
    /// It answers something else: as if it had not come.
    Other,
}

pub(super) fn reply(bytes: &[u8], asked: &[u8]) -> Reply {
    let (Ok(message), Ok(question)) = (Message::from_vec(bytes), Message::from_vec(asked)) else {
        return Reply::Other;
    };
    let same = message.metadata.id == question.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.queries == question.queries;
    let Some(query) = question.queries.first().filter(|_| same) else {
        return Reply::Other;
    };
    if message.metadata.truncation {
        return Reply::Cut;
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        other => return Reply::NotKnown(other.to_string()),
    }
    let mut names = vec![query.name().clone()];
    let mut found = Vec::new();
    for record in &message.answers {
        if !names.contains(&record.name) || names.len() > MAX_ADDRESSES {
            continue;
        }
        match &record.data {
            RData::A(address) => found.push(IpAddr::V4(address.0)),
            RData::AAAA(address) => found.push(IpAddr::V6(address.0)),
            RData::CNAME(other) => names.push(other.0.clone()),
            _ => {}
        }
    }
    found.truncate(MAX_ADDRESSES);
    Reply::Addresses(found)
}

/// Both kinds by turns, those of IPv6 first (RFC 8305 §4).
pub(super) fn by_turns(six: Vec<IpAddr>, four: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut out = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            out.truncate(MAX_ADDRESSES);
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, CNAME};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_files_of_the_system_are_read() {
        let hosts = "127.0.0.1 localhost\n192.0.2.1 a.example A # b\n2001:db8::1\ta\nx a\n";
        let a: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(in_hosts(hosts, "a"), a);
        assert_eq!(in_hosts(hosts, "a.example."), a[..1]);
        assert!(in_hosts(hosts, "b").is_empty());
        assert_eq!(in_hosts("", "x.localhost").len(), 2);
        let resolver = Resolver::read(
            "# x\nnameserver 192.0.2.53\nnameserver x\nnameserver 2001:db8::53\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n\
             domain q\nsearch a.example b.example\noptions rotate ndots:2\n",
            |_| None,
        );
        assert_eq!(resolver.servers.len(), 3);
        assert_eq!(resolver.candidates("x"), ["x.a.example", "x.b.example", "x"]);
        assert_eq!(
            resolver.candidates("x.y.z"),
            ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]
        );
        assert_eq!(resolver.candidates("x."), ["x."]);
    }

    #[test]
    fn a_server_on_the_link_is_reached_by_its_interface() {
        let text = "nameserver fe80::1%eth0\nnameserver fe80::2%7\nnameserver fe80::3%gone\nnameserver 192.0.2.1%eth0\n\
                    nameserver fe80::4%\nnameserver 2001:db8::53\n";
        let resolver = Resolver::read(text, |name| (name == "eth0").then_some(3));
        let on = |address: &str, scope| SocketAddr::from(SocketAddrV6::new(address.parse().unwrap(), 53, 0, scope));
        assert_eq!(
            resolver.servers,
            [on("fe80::1", 3), on("fe80::2", 7), on("2001:db8::53", 0)]
        );
    }

    #[test]
    fn an_answer_is_followed_from_name_to_name() {
        let asked = question(7, "a.example", RecordType::A).unwrap();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let mut message = Message::from_vec(&asked).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.add_answer(Record::from_rdata(
            name("a.example."),
            60,
            RData::CNAME(CNAME(name("b.example."))),
        ));
        message.add_answer(Record::from_rdata(
            name("b.example."),
            60,
            RData::A(A(Ipv4Addr::new(192, 0, 2, 1))),
        ));
        message.add_answer(Record::from_rdata(
            name("c.example."),
            60,
            RData::A(A(Ipv4Addr::new(192, 0, 2, 2))),
        ));
        let found = vec![IpAddr::from([192, 0, 2, 1])];
        assert_eq!(reply(&message.to_vec().unwrap(), &asked), Reply::Addresses(found));
        message.metadata.truncation = true;
        assert_eq!(reply(&message.to_vec().unwrap(), &asked), Reply::Cut);
        message.metadata.truncation = false;
        message.metadata.response_code = ResponseCode::ServFail;
        assert!(matches!(reply(&message.to_vec().unwrap(), &asked), Reply::NotKnown(_)));
        message.metadata.id = 8;
        assert_eq!(reply(&message.to_vec().unwrap(), &asked), Reply::Other);
        assert_eq!(reply(&asked, &asked), Reply::Other, "a question is no answer");
    }

    #[test]
    fn addresses_of_both_kinds_take_turns() {
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let four = |last| IpAddr::from([192, 0, 2, last]);
        assert_eq!(by_turns(vec![six], vec![four(1), four(2)]), [six, four(1), four(2)]);
        assert_eq!(by_turns(vec![], vec![four(1); 40]).len(), MAX_ADDRESSES);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..100), name in "[ -~é.]{0,80}") {
            let asked = question(7, "a.example", RecordType::A).unwrap();
            reply(&bytes, &asked);
            question(1, &name, RecordType::AAAA);
            in_hosts(&name, &name);
            Resolver::read(&name, |_| Some(1)).candidates(&name);
        }
    }
}
