//! For which network a request is, by what relays and clients say of it. Pure.
//!
//! RFC 2131 §4.3.1 (`giaddr`), RFC 3011 (subnet selection), RFC 3046 (relay agent information), RFC 3527 (link selection), RFC 5107
//! (server identifier override).

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Message, OptionCode};

use crate::config::Subnet;

use super::{SERVER_PORT, option, wire};

/// Suboptions of option 82.
const LINK_SELECTION: u8 = 5;
const SERVER_OVERRIDE: u8 = 11;

/// Whose addresses a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The link that it came in by.
    Link,
    /// A network behind a router, by its place in the list.
    Routed(usize),
    /// A network that nobody wrote down, by an address in it.
    Unknown(Ipv4Addr),
}

/// Finds the network of a request, among that of the link and the ones behind routers. `behind` says which of those has an address.
pub fn scope(link: &Subnet, behind: impl Fn(Ipv4Addr) -> Option<usize>, request: &Message) -> Scope {
    match network_of(request) {
        Some(named) if link.contains(named) => Scope::Link,
        Some(named) => behind(named).map_or(Scope::Unknown(named), Scope::Routed),
        // Renewals come from the client itself, through routers that are no relays.
        None if link.contains(request.ciaddr()) => Scope::Link,
        None => behind(request.ciaddr()).map_or(Scope::Link, Scope::Routed),
    }
}

/// An address in the network that the request names: the relay's choice (RFC 3527 §3), else the client's (RFC 3011 §3), else the
/// relay itself. `None`: it names none, and is from the link.
pub fn network_of(request: &Message) -> Option<Ipv4Addr> {
    let named = |address: &Ipv4Addr| !address.is_unspecified();
    let chosen = option!(request, SubnetSelection).copied().filter(named);
    suboption(request, LINK_SELECTION)
        .or(chosen)
        .or(Some(request.giaddr()).filter(named))
}

/// The relay that a request came through, at the port where it listens.
pub(super) fn relay_of(request: &Message) -> Option<SocketAddrV4> {
    let relay = request.giaddr();
    (!relay.is_unspecified()).then(|| SocketAddrV4::new(relay, SERVER_PORT))
}

/// The address that the relay wants for a server identifier, so that all the client says comes through it.
pub fn server_override(request: &Message) -> Option<Ipv4Addr> {
    suboption(request, SERVER_OVERRIDE)
}

/// An address that the relay says. Without a relay option 82 is the client's own invention.
fn suboption(request: &Message, code: u8) -> Option<Ipv4Addr> {
    if request.giaddr().is_unspecified() {
        return None;
    }
    let said = wire::unknown(request, wire::RELAY_AGENT)?;
    let mut found = wire::fields(said).filter(|(known, _)| *known == code);
    let value: [u8; 4] = found.next()?.1.try_into().ok()?;
    Some(Ipv4Addr::from(value)).filter(|address| !address.is_unspecified())
}

/// What a person writes into `recon.toml` for a network of which a machine asked. `relay`: who sent its question.
pub fn advice(named: Ipv4Addr, relay: Ipv4Addr) -> String {
    let [a, b, c, _] = named.octets();
    format!(
        "machines ask through a relay for addresses of the network of {named}, which nobody wrote down: they are not served. For recon.toml: \
         [[subnet]] with subnet = \"{a}.{b}.{c}.0/24\" (its real size) and via = \"{relay}\" (the router on this link that leads there)"
    )
}

#[cfg(test)]
mod tests {
    use super::super::leases::LeaseTable;
    use super::super::quirks::{self, Workaround};
    use super::*;
    use crate::config::Settings;
    use crate::service::dhcp4::decide::{Decision, decide_on};
    use crate::service::dhcp4::reply::{Params, Reply};
    use crate::service::dhcp4::testing::unix;
    use dhcproto::v4::{MessageType, UnknownOption};
    use proptest::prelude::*;

    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 77);

    fn settings() -> Settings {
        Settings::parse(
            "[[subnet]]\nsubnet = \"10.1.0.0/24\"\n[[subnet]]\nsubnet = \"10.2.0.0/16\"\nrouter = \"10.2.0.1\"\n",
        )
        .unwrap()
    }

    fn link() -> Subnet {
        settings().subnet(0).unwrap()
    }

    fn routed() -> Vec<Subnet> {
        settings().routed(link().server).collect()
    }

    fn params(subnet: Subnet) -> Params {
        Params {
            subnet,
            lease: Default::default(),
            boot: Default::default(),
        }
    }

    fn request(kind: MessageType, relay: Ipv4Addr, said: &[u8]) -> Message {
        let mut message = Message::default();
        message.set_chaddr(&[2, 0, 0, 0, 0, 7]).set_giaddr(relay);
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClassIdentifier(
            b"PXEClient:Arch:00007:UNDI:003000".to_vec(),
        ));
        if !said.is_empty() {
            options.insert(DhcpOption::Unknown(UnknownOption::new(
                wire::RELAY_AGENT,
                said.to_vec(),
            )));
        }
        message
    }

    fn select(message: &mut Message, subnet: Ipv4Addr) {
        message.opts_mut().insert(DhcpOption::SubnetSelection(subnet));
    }

    fn find(request: &Message) -> Scope {
        let routed = routed();
        scope(
            &link(),
            |address| routed.iter().position(|subnet| subnet.contains(address)),
            request,
        )
    }

    fn answer(table: &mut LeaseTable, subnet: Subnet, request: &Message) -> Reply {
        match decide_on(&params(subnet), table, request, unix(0)) {
            Decision::Reply(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    fn table(subnet: Subnet) -> LeaseTable {
        LeaseTable::new(subnet.lease_first, subnet.lease_last, [])
    }

    #[test]
    fn the_relays_choice_comes_before_the_clients_and_both_before_the_relays_address() {
        let none = Ipv4Addr::UNSPECIFIED;
        let discover = |relay, said: &[u8]| request(MessageType::Discover, relay, said);
        assert_eq!(find(&discover(none, &[])), Scope::Link);
        assert_eq!(find(&discover(Ipv4Addr::new(192, 168, 219, 3), &[])), Scope::Link);
        assert_eq!(find(&discover(RELAY, &[])), Scope::Routed(0));
        // RFC 3527: the relay asks from its loopback, for a link.
        let loopback = Ipv4Addr::new(10, 255, 0, 1);
        assert_eq!(find(&discover(loopback, &[])), Scope::Unknown(loopback));
        let linked = discover(loopback, &[1, 1, b'p', 5, 4, 10, 2, 9, 0]);
        assert_eq!(find(&linked), Scope::Routed(1));
        // RFC 3011, and both of them.
        let mut chosen = discover(RELAY, &[]);
        select(&mut chosen, Ipv4Addr::new(10, 2, 0, 0));
        assert_eq!(find(&chosen), Scope::Routed(1));
        let mut both = discover(loopback, &[5, 4, 10, 1, 0, 0]);
        select(&mut both, Ipv4Addr::new(10, 2, 0, 0));
        assert_eq!(find(&both), Scope::Routed(0));
        // Without a relay nobody added option 82.
        assert_eq!(find(&discover(none, &[5, 4, 10, 1, 0, 0])), Scope::Link);
        for broken in [&[5, 3, 10, 1, 0][..], &[5, 4, 10, 1], &[5, 4, 0, 0, 0, 0], &[5]] {
            assert_eq!(find(&discover(RELAY, broken)), Scope::Routed(0), "{broken:?}");
        }
    }

    #[test]
    fn a_renewal_comes_without_a_relay() {
        let mut renewal = request(MessageType::Request, Ipv4Addr::UNSPECIFIED, &[]);
        renewal.set_ciaddr(FAR);
        assert_eq!(find(&renewal), Scope::Routed(0));
        let subnet = routed()[0];
        let reply = answer(&mut table(subnet), subnet, &renewal);
        assert_eq!(reply.message.opts().msg_type(), Some(MessageType::Ack));
        assert_eq!(reply.to, "10.1.0.77:68".parse().unwrap(), "by way of the router");
        renewal.set_ciaddr(Ipv4Addr::new(192, 168, 219, 50));
        assert_eq!(find(&renewal), Scope::Link);
        renewal.set_ciaddr(Ipv4Addr::new(10, 9, 0, 50));
        assert_eq!(find(&renewal), Scope::Link, "which refuses it");
    }

    #[test]
    fn a_machine_behind_a_router_gets_an_address_there_and_everything_from_this_server() {
        let subnet = routed()[0];
        let said = [1, 2, 0, 7, 11, 4, 10, 1, 0, 1];
        let mut leases = table(subnet);
        let mut discover = request(MessageType::Discover, RELAY, &said);
        select(&mut discover, Ipv4Addr::new(10, 1, 0, 0));
        let offer = answer(&mut leases, subnet, &discover);
        assert_eq!(offer.to, "10.1.0.1:67".parse().unwrap());
        assert!(offer.alone.is_none() && offer.probe.is_none());
        let message = wire::decode(&offer.bytes()).unwrap();
        let options = message.opts();
        assert!(subnet.contains(message.yiaddr()) && message.yiaddr() >= subnet.lease_first);
        assert_eq!(message.siaddr(), link().server, "which it reaches through its router");
        assert_eq!(options.get(OptionCode::Router), Some(&DhcpOption::Router(vec![RELAY])));
        assert_eq!(
            options.get(OptionCode::SubnetMask),
            Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)))
        );
        let server = DhcpOption::ServerIdentifier(RELAY);
        assert_eq!(options.get(OptionCode::ServerIdentifier), Some(&server), "RFC 5107");
        let back = DhcpOption::Unknown(UnknownOption::new(wire::RELAY_AGENT, said.to_vec()));
        assert_eq!(options.get(wire::RELAY_AGENT), Some(&back));
        let chosen = DhcpOption::SubnetSelection(Ipv4Addr::new(10, 1, 0, 0));
        assert_eq!(options.get(OptionCode::SubnetSelection), Some(&chosen));
        let mut lean = offer.message.clone();
        quirks::apply(&mut lean, &[Workaround::MinimalOffer]);
        for needed in [OptionCode::Router, OptionCode::SubnetSelection] {
            assert!(lean.opts().get(needed).is_some(), "a lean offer lacks {needed:?}");
        }
        // What it takes by the relay's name is ours; what it takes from another server is not.
        for (server, want) in [
            (RELAY, true),
            (link().server, true),
            (Ipv4Addr::new(10, 1, 0, 9), false),
        ] {
            let mut take = request(MessageType::Request, RELAY, &said);
            take.opts_mut().insert(DhcpOption::RequestedIpAddress(message.yiaddr()));
            take.opts_mut().insert(DhcpOption::ServerIdentifier(server));
            let taken = matches!(
                decide_on(&params(subnet), &mut leases, &take, unix(0)),
                Decision::Reply(_)
            );
            assert_eq!(taken, want, "{server}");
        }
        // Without the suboption the relay's name is another server's.
        let mut take = request(MessageType::Request, RELAY, &[]);
        take.opts_mut().insert(DhcpOption::RequestedIpAddress(message.yiaddr()));
        take.opts_mut().insert(DhcpOption::ServerIdentifier(RELAY));
        assert!(matches!(
            decide_on(&params(subnet), &mut leases, &take, unix(0)),
            Decision::Silence(_)
        ));
    }

    #[test]
    fn a_machine_that_moved_is_refused_through_its_relay() {
        let subnet = routed()[1];
        let mut moved = request(MessageType::Request, Ipv4Addr::new(10, 2, 0, 1), &[]);
        moved.opts_mut().insert(DhcpOption::RequestedIpAddress(FAR));
        let reply = answer(&mut table(subnet), subnet, &moved);
        assert_eq!(reply.message.opts().msg_type(), Some(MessageType::Nak));
        assert_eq!(reply.to, "10.2.0.1:67".parse().unwrap());
    }

    #[test]
    fn the_link_of_another_network_gives_nothing() {
        let mut leases = table(link());
        let discover = request(MessageType::Discover, RELAY, &[]);
        let decided = decide_on(&params(link()), &mut leases, &discover, unix(0));
        assert!(matches!(decided, Decision::Silence(_)));
        assert_eq!(leases.iter().count(), 0);
    }

    #[test]
    fn what_is_to_be_written_is_read_back() {
        let advice = advice(Ipv4Addr::new(10, 9, 3, 1), Ipv4Addr::new(192, 168, 219, 3));
        let value = |key: &str| {
            let rest = advice.split_once(&format!("{key} = \"")).unwrap().1;
            rest.split_once('"').unwrap().0.to_owned()
        };
        let text = format!(
            "[[subnet]]\nsubnet = \"{}\"\nvia = \"{}\"\n",
            value("subnet"),
            value("via")
        );
        let read = Settings::parse(&text).unwrap();
        assert!(
            read.routed(link().server)
                .next()
                .unwrap()
                .contains(Ipv4Addr::new(10, 9, 3, 1))
        );
        assert_eq!(read.ways(|address| link().contains(address)).len(), 1);
    }

    proptest! {
        #[test]
        fn whatever_a_relay_says_leads_to_a_network_or_to_none(
            said in proptest::collection::vec(any::<u8>(), 0..80),
            relay in any::<u32>(),
            own in any::<u32>(),
        ) {
            let mut message = request(MessageType::Discover, relay.into(), &said);
            message.set_ciaddr(Ipv4Addr::from(own));
            if let Scope::Routed(index) = find(&message) {
                prop_assert!(index < 2);
            }
        }
    }
}
