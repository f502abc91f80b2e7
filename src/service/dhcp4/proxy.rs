//! Boot files beside somebody else's DHCP server: PXE 2.1 §2.2.3 (proxyDHCP on port 67, boot server on port 4011). Pure.
//!
//! Only clients that say that they boot from the network hear anything, and nobody ever hears of an address. What is said has the
//! form of a server's replies: [`super::quirks`] adapts it to firmware, [`super::layout`] lays it out.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode};

use crate::config::Subnet;
use crate::config::subnet::Network;
use crate::service::boot::client::PXE_CLASS;
use crate::service::boot::source::BootSource;

use super::boot_options::{NextStage, next_stage, set_boot_file};
use super::client::{Client, identify};
use super::quirks::{self, Facts, Workaround, no_discovery_for};
use super::relay;
use super::reply::{EVERYBODY, Reply, echo, header, requested_address};

/// The port a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67: everybody's DISCOVERs and REQUESTs.
    Dhcp,
    /// 4011: requests to this machine, from clients that have their address.
    BootServer,
}

/// What the decision needs to know of the link.
#[derive(Debug, Clone)]
pub struct Params {
    /// Address of this machine there.
    pub server: Ipv4Addr,
    pub prefix: u8,
    /// Networks behind routers.
    pub routed: Vec<Subnet>,
    pub boot: BootSource,
}

impl Params {
    /// True for an address of the link or of a network behind a router that stands in `recon.toml`.
    fn is_ours(&self, address: Ipv4Addr) -> bool {
        let link = Network::around(self.server, self.prefix);
        link.contains(address) || self.routed.iter().any(|subnet| subnet.contains(address))
    }
}

/// What to do with a request.
#[derive(Debug)]
pub enum Decision {
    Reply(Box<Reply>),
    /// A client that boots takes this address of the other server; nothing is sent.
    Takes(Client, Ipv4Addr),
    /// No image has a system for this machine; nothing is sent.
    Stranger(Client),
    /// A relay asks for the network of this address, which nobody wrote down; nothing is sent.
    Unknown(Ipv4Addr),
    /// Nothing is sent; why.
    Silence(&'static str),
}

/// Decides on one request. `from` is its sender.
pub fn decide(params: &Params, request: &Message, from: SocketAddrV4, port: Port) -> Decision {
    if request.giaddr() == params.server {
        return Decision::Silence("names this machine as its relay");
    }
    let client = match identify(request) {
        Ok(client) => client,
        Err(reason) => return Decision::Silence(reason),
    };
    if !client.kind.boots() {
        return Decision::Silence("not a client that boots from the network");
    }
    if client.stranger.is_some() {
        return Decision::Stranger(client);
    }
    // The other server says whose network it is and gives the address there; somebody has to have said that it is one of ours, too.
    if let Some(named) = relay::network_of(request)
        && !params.is_ours(named)
    {
        return Decision::Unknown(named);
    }
    let kind = match (port, request.opts().msg_type()) {
        (Port::Dhcp, Some(MessageType::Discover)) => MessageType::Offer,
        (Port::Dhcp, Some(MessageType::Request)) => {
            let own = Some(request.ciaddr()).filter(|address| !address.is_unspecified());
            return match own.or_else(|| requested_address(request)) {
                Some(address) => Decision::Takes(client, address),
                None => Decision::Silence("names no address"),
            };
        }
        (Port::BootServer, Some(MessageType::Request | MessageType::Inform)) => MessageType::Ack,
        _ => return Decision::Silence("a message of the address exchange"),
    };
    match reply(params, request, &client, kind) {
        Ok(message) => {
            let to = destination(port, from, request);
            Decision::Reply(Box::new(Reply::new(message, request, to, client)))
        }
        Err(reason) => Decision::Silence(reason),
    }
}

/// A client that was offered no address by us can be reached by broadcast only, its relay's where there is one; on port 4011 it has one and says so.
fn destination(port: Port, from: SocketAddrV4, request: &Message) -> SocketAddrV4 {
    match port {
        Port::Dhcp => relay::relay_of(request).unwrap_or(EVERYBODY),
        Port::BootServer if from.ip().is_unspecified() => EVERYBODY,
        Port::BootServer => from,
    }
}

/// The answer, or why there is none.
fn reply(params: &Params, request: &Message, client: &Client, kind: MessageType) -> Result<Message, &'static str> {
    let server = params.server;
    let NextStage { class, file } =
        next_stage(&params.boot, server, client, request).ok_or("not a client that boots from the network")?;
    let file = file?;
    let mut message = header(request, kind, server);
    message.set_ciaddr(request.ciaddr()).set_siaddr(server);
    if kind == MessageType::Offer {
        message.set_flags(Flags::default().set_broadcast());
    }
    // RFC 4578 §2.3: the machine identifier comes back as it came.
    echo(&mut message, request, &[OptionCode::ClientMachineIdentifier]);
    set_boot_file(&mut message, &file);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClassIdentifier(class.to_vec()));
    if class == PXE_CLASS {
        options.insert(no_discovery_for(request));
        options.insert(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
    }
    let workarounds: Vec<Workaround> = quirks::workarounds(&Facts::new(request, client)).collect();
    quirks::apply(&mut message, &workarounds);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::super::client::Kind;
    use super::super::testing::request;
    use super::*;
    use crate::service::boot::programs;
    use crate::service::dhcp4::{AGENT_CLASS, probe, wire};
    use crate::service::loader_choice::LoaderChoice;
    use dhcproto::v4::UnknownOption;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    fn routed() -> Vec<Subnet> {
        let settings = crate::config::Settings::parse("[[subnet]]\nsubnet = \"10.5.0.0/24\"\n").unwrap();
        settings.routed(SERVER).collect()
    }

    fn params() -> Params {
        Params {
            server: SERVER,
            prefix: 24,
            routed: routed(),
            boot: Default::default(),
        }
    }
    const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);

    fn class(text: &str) -> DhcpOption {
        DhcpOption::ClassIdentifier(text.as_bytes().to_vec())
    }

    fn answer(request: &Message, from: SocketAddrV4, port: Port) -> Reply {
        match decide(&params(), request, from, port) {
            Decision::Reply(reply) => *reply,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn file(message: &Message) -> &str {
        std::str::from_utf8(message.fname().unwrap_or_default()).unwrap()
    }

    const SCRIPT: &str =
        "http://10.0.0.9/boot.ipxe?mac=02-00-00-00-00-07&uuid=${uuid}&arch=${buildarch}&serial=${serial:uristring}";
    const X64: &str = "PXEClient:Arch:00007:UNDI:003000";

    #[test]
    fn a_machine_behind_a_relay_of_a_network_that_stands_in_the_file_is_answered_through_it() {
        for relay in [Ipv4Addr::new(10, 5, 0, 1), Ipv4Addr::new(10, 0, 0, 3)] {
            let mut relayed = request(MessageType::Discover, [class(X64)]);
            relayed.set_giaddr(relay);
            let Decision::Reply(reply) = decide(&params(), &relayed, NOBODY, Port::Dhcp) else {
                panic!("{relay}: no answer");
            };
            assert_eq!(reply.to, SocketAddrV4::new(relay, 67));
            assert_eq!(reply.message.giaddr(), relay);
            assert_eq!(reply.message.siaddr(), SERVER);
            assert!(reply.message.yiaddr().is_unspecified() && reply.message.flags().broadcast());
        }
    }

    #[test]
    fn each_stage_is_told_the_next_and_never_an_address() {
        let features = |bytes: &[u8]| DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), bytes.to_vec()));
        let cases: [(Vec<DhcpOption>, &str, &str); 6] = [
            // A ROM's iPXE without HTTP.
            (
                vec![class(X64), features(&[0x15, 1, 1, 0x24, 1, 1])],
                "snponly.efi",
                "PXEClient",
            ),
            (
                vec![class("PXEClient:Arch:00000:UNDI:002001")],
                "undionly.kpxe",
                "PXEClient",
            ),
            (vec![class(X64)], "snponly.efi", "PXEClient"),
            (
                vec![class("HTTPClient:Arch:00016:UNDI:003000")],
                "http://10.0.0.9/loaders/snponly.efi",
                "HTTPClient",
            ),
            (
                vec![class(X64), DhcpOption::UserClass(b"iPXE".to_vec())],
                SCRIPT,
                "PXEClient",
            ),
            (
                vec![
                    class(X64),
                    DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), vec![1])),
                ],
                SCRIPT,
                "PXEClient",
            ),
        ];
        for (options, wanted, as_class) in cases {
            let reply = answer(&request(MessageType::Discover, options), NOBODY, Port::Dhcp);
            let message = &reply.message;
            assert_eq!(file(message), wanted);
            assert_eq!(message.opts().msg_type(), Some(MessageType::Offer));
            assert_eq!((message.yiaddr(), message.siaddr()), (Ipv4Addr::UNSPECIFIED, SERVER));
            assert_eq!(
                message.opts().get(OptionCode::ClassIdentifier),
                Some(&class(as_class)),
                "{wanted}"
            );
            assert_eq!(reply.to, "255.255.255.255:68".parse().unwrap());
            for code in [
                OptionCode::SubnetMask,
                OptionCode::AddressLeaseTime,
                OptionCode::Router,
                OptionCode::DomainNameServer,
            ] {
                assert!(message.opts().get(code).is_none(), "{code:?}");
            }
            let bytes = reply.bytes();
            assert!((300..=548).contains(&bytes.len()), "{} bytes", bytes.len());
            assert_eq!(wire::decode(&bytes).unwrap().siaddr(), SERVER);
        }
    }

    /// Codes in the order they stand.
    fn codes(bytes: &[u8]) -> Vec<u8> {
        let (mut at, mut codes) = (240, Vec::new());
        while bytes[at] != 255 {
            codes.push(bytes[at]);
            at += 2 + usize::from(bytes[at + 1]);
        }
        codes
    }

    #[test]
    fn a_reply_has_the_form_of_a_servers() {
        let said = DhcpOption::Unknown(UnknownOption::new(wire::RELAY_AGENT, b"\x01\x04eth7".to_vec()));
        let asked =
            |codes: &[u8]| DhcpOption::ParameterRequestList(codes.iter().map(|code| OptionCode::from(*code)).collect());
        let id = DhcpOption::ClientMachineIdentifier(vec![0; 17]);
        let ask = |kind, codes: &[u8], port| {
            let request = request(kind, [class(X64), asked(codes), id.clone(), said.clone()]);
            answer(&request, NOBODY, port).bytes()
        };
        let both = ask(MessageType::Discover, &[1, 67, 66, 43, 60], Port::Dhcp);
        // Message type and server first, what a switch put in last and as it came (RFC 3046 §2.2), the rest as it was asked.
        assert_eq!(codes(&both), [53, 54, 67, 66, 43, 60, 97, 224, 82]);
        let back = wire::decode(&both).unwrap();
        assert_eq!(back.opts().get(wire::RELAY_AGENT), Some(&said));
        assert_eq!(both[44], 0, "no server name in the header");
        let neither = ask(MessageType::Discover, &[1, 3, 43, 54], Port::Dhcp);
        assert_eq!(
            &neither[44..53],
            b"10.0.0.9\0",
            "who asks for neither 66 nor 67 reads the header"
        );
        assert_eq!(&neither[108..120], b"snponly.efi\0");
        let boot_server = ask(MessageType::Request, &[1, 3, 43, 54], Port::BootServer);
        assert_eq!(
            (&boot_server[44..53], codes(&boot_server)),
            (&b"10.0.0.9\0"[..], codes(&neither))
        );
        // Names end where a reader of C strings ends them, and an identifier that is none is not confirmed.
        let text = |name: &[u8]| both.windows(name.len()).any(|part| part == name);
        assert!(text(b"\x43\x0csnponly.efi\0") && text(b"\x42\x0910.0.0.9\0"));
        let strange = DhcpOption::ClientMachineIdentifier(vec![9; 17]);
        let reply = answer(
            &request(MessageType::Discover, [class(X64), strange]),
            NOBODY,
            Port::Dhcp,
        );
        assert!(!codes(&reply.bytes()).contains(&97));
    }

    #[test]
    fn clients_that_do_not_boot_hear_nothing() {
        let agent = DhcpOption::ClassIdentifier(AGENT_CLASS.to_vec());
        for options in [vec![], vec![class("MSFT 5.0")], vec![class("udhcp 1.36")], vec![agent]] {
            for kind in [MessageType::Discover, MessageType::Request, MessageType::Inform] {
                for port in [Port::Dhcp, Port::BootServer] {
                    let decision = decide(&params(), &request(kind, options.clone()), NOBODY, port);
                    assert!(matches!(decision, Decision::Silence(_)), "{kind:?} {options:?}");
                }
            }
        }
        let who_boots = probe::packet(probe::Ask::WhoBoots, crate::model::MacAddr([2, 0, 0, 0, 0, 7]), 9);
        let question = wire::decode(&who_boots[28..]).unwrap();
        assert!(matches!(
            decide(&params(), &question, NOBODY, Port::Dhcp),
            Decision::Silence(_)
        ));
    }

    #[test]
    fn the_address_exchange_is_the_other_servers_and_only_watched() {
        let wish = Ipv4Addr::new(10, 0, 0, 77);
        let chosen = [
            class(X64),
            DhcpOption::RequestedIpAddress(wish),
            DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1)),
        ];
        let decision = decide(&params(), &request(MessageType::Request, chosen), NOBODY, Port::Dhcp);
        assert!(
            matches!(&decision, Decision::Takes(_, address) if *address == wish),
            "{decision:?}"
        );
        for kind in [MessageType::Release, MessageType::Decline, MessageType::Inform] {
            assert!(matches!(
                decide(&params(), &request(kind, [class(X64)]), NOBODY, Port::Dhcp),
                Decision::Silence(_)
            ));
        }
    }

    #[test]
    fn the_boot_server_answers_where_it_was_asked_from() {
        let from: SocketAddrV4 = "10.0.0.77:4011".parse().unwrap();
        let mut asked = request(
            MessageType::Request,
            [
                class("PXEClient:Arch:00000:UNDI:002001"),
                DhcpOption::VendorExtensions(vec![0, 9, 1, 7, 71, 4, 0, 1, 0, 0, 255]),
            ],
        );
        asked.set_ciaddr(*from.ip());
        let reply = answer(&asked, from, Port::BootServer);
        assert_eq!(reply.to, from);
        assert_eq!(reply.message.opts().msg_type(), Some(MessageType::Ack));
        assert_eq!(file(&reply.message), "undionly.kpxe");
        assert_eq!(
            reply.message.opts().get(OptionCode::VendorExtensions),
            Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 71, 4, 0, 1, 0, 0, 255]))
        );
        let discover = request(MessageType::Discover, [class(X64)]);
        assert!(matches!(
            decide(&params(), &discover, from, Port::BootServer),
            Decision::Silence(_)
        ));
    }

    #[test]
    fn what_cannot_be_booted_is_offered_nothing() {
        let x86 = request(MessageType::Discover, [class("PXEClient:Arch:00006:UNDI:003000")]);
        assert!(matches!(
            decide(&params(), &x86, NOBODY, Port::Dhcp),
            Decision::Stranger(client) if client.stranger.as_ref().is_some_and(|why| why.contains("32-bit"))
        ));
        let nothing = Params {
            boot: BootSource {
                loaders: LoaderChoice::Fixed(|arch| programs::first_held(arch, |_| false)),
                ..BootSource::default()
            },
            ..params()
        };
        let bios = request(MessageType::Discover, [class("PXEClient:Arch:00000:UNDI:002001")]);
        assert!(matches!(
            decide(&nothing, &bios, NOBODY, Port::Dhcp),
            Decision::Silence(why) if why.contains("on this system")
        ));
        let mut relayed = request(MessageType::Discover, [class(X64)]);
        relayed.set_giaddr(Ipv4Addr::new(10, 9, 0, 1));
        assert!(matches!(
            decide(&params(), &relayed, NOBODY, Port::Dhcp),
            Decision::Unknown(named) if named == relayed.giaddr()
        ));
    }

    proptest! {
        /// Whatever comes in: no panic, no address, nothing to a client without a PXE class.
        #[test]
        fn no_packet_makes_it_give_an_address(
            noise in proptest::collection::vec(any::<u8>(), 0..80), kind in 1u8..9, boots: bool, four_thousand_eleven: bool
        ) {
            let mut bytes = probe::encode(&request(MessageType::Discover, []));
            bytes.truncate(240);
            bytes.extend([53, 1, kind]);
            if boots {
                bytes.extend([60, 9]);
                bytes.extend(b"PXEClient");
            }
            bytes.extend(&noise);
            bytes.resize(bytes.len().max(300), 0);
            let Ok(message) = wire::decode(&bytes) else { return Ok(()) };
            let port = if four_thousand_eleven { Port::BootServer } else { Port::Dhcp };
            if let Decision::Reply(reply) = decide(&params(), &message, NOBODY, port) {
                prop_assert!(reply.message.yiaddr().is_unspecified());
                prop_assert!(reply.message.opts().get(OptionCode::AddressLeaseTime).is_none());
                let netboot = matches!(reply.client.kind, Kind::Pxe(_) | Kind::HttpBoot(_) | Kind::Ipxe);
                prop_assert!(netboot);
            }
        }

        #[test]
        fn any_vendor_options_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut request = Message::default();
            request.opts_mut().insert(DhcpOption::VendorExtensions(bytes));
            let _ = no_discovery_for(&request);
        }
    }
}
