//! Request in, reply and destination out (RFC 2131 §4.3). No socket, no clock.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};

use crate::config::settings::Subnet;
use crate::service::{bootfiles, ipxe};

use super::MASTER_CLASS;
use super::client::{Client, Kind, identify};
use super::leases::LeaseTable;

/// What the decision needs to know of the link.
#[derive(Debug, Clone)]
pub struct Params {
    pub subnet: Subnet,
    pub lease_seconds: u32,
    /// Zone of the node names.
    pub domain: String,
    pub http_port: u16,
    /// Which boot program a machine gets.
    pub loaders: bootfiles::Chooser,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Decision {
    Reply(Box<Reply>),
    /// Nothing is sent; why.
    Silence(String),
}

#[derive(Debug)]
pub struct Reply {
    pub message: Message,
    pub to: SocketAddrV4,
    pub client: Client,
    /// The lease table changed in a way that must be durable before the reply leaves.
    pub lease_changed: bool,
}

/// How long an offered address is held for the client that has not asked for it yet, in seconds.
const OFFER_SECONDS: u64 = 60;
const CLIENT_PORT: u16 = 68;
/// RFC 4578 §2.4.1 and PXE 2.1 table 2-1: option 43, PXE_DISCOVERY_CONTROL (6) bit 3: take the boot file as given, ask no boot server.
const PXE_SKIP_DISCOVERY: &[u8] = &[6, 1, 8, 255];
/// iPXE encapsulated option 176 `no-pxedhcp` = 1: do not wait for a proxyDHCP offer.
const IPXE_NO_PXEDHCP: &[u8] = &[176, 1, 1];

/// Decides on one request.
pub fn decide(params: &Params, leases: &mut LeaseTable, request: &Message, now_unix: u64) -> Decision {
    if request.opcode() != Opcode::BootRequest {
        return Decision::Silence("not a request".to_owned());
    }
    if !request.giaddr().is_unspecified() {
        return Decision::Silence(format!(
            "came through relay {}, whose subnet is not ours",
            request.giaddr()
        ));
    }
    let client = match identify(request) {
        Ok(client) => client,
        Err(reason) => return Decision::Silence(reason.to_owned()),
    };
    match request.opts().msg_type() {
        Some(MessageType::Discover) => discover(params, leases, request, client, now_unix),
        Some(MessageType::Request) => on_request(params, leases, request, client, now_unix),
        Some(MessageType::Decline) => {
            if let Some(address) = requested_address(request) {
                leases.set_aside(client.mac, address, now_unix);
            }
            Decision::Silence("address declined: another machine uses it".to_owned())
        }
        Some(MessageType::Release) => {
            leases.release(client.mac);
            Decision::Silence("address released".to_owned())
        }
        Some(MessageType::Inform) => {
            let message = reply(params, request, &client, MessageType::Ack, Ipv4Addr::UNSPECIFIED);
            send(message, request, client, false)
        }
        other => Decision::Silence(format!("message type {other:?} asks nothing of a server")),
    }
}

fn discover(params: &Params, leases: &mut LeaseTable, request: &Message, client: Client, now_unix: u64) -> Decision {
    let Some(address) = leases.choose(client.mac, requested_address(request), now_unix) else {
        return Decision::Silence(
            "every address of the pool is leased: widen network.lease-range in recon.toml or wait for leases to end"
                .to_owned(),
        );
    };
    // A lease that still runs stays as it is; a new promise is short until the client asks for it.
    if leases
        .get(client.mac)
        .is_none_or(|lease| lease.expires_unix <= now_unix)
    {
        leases.bind(client.mac, address, now_unix + OFFER_SECONDS);
    }
    let message = reply(params, request, &client, MessageType::Offer, address);
    send(message, request, client, false)
}

fn on_request(params: &Params, leases: &mut LeaseTable, request: &Message, client: Client, now_unix: u64) -> Decision {
    let server = match request.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    };
    if server.is_some_and(|server| server != params.subnet.server) {
        // RFC 2131 §3.1 (4): it took another server's offer, ours is free again.
        leases.release(client.mac);
        return Decision::Silence(format!("took the offer of {}", server.unwrap_or(Ipv4Addr::UNSPECIFIED)));
    }
    let wanted = if request.ciaddr().is_unspecified() {
        requested_address(request)
    } else {
        Some(request.ciaddr())
    };
    let Some(wanted) = wanted else {
        return Decision::Silence("names no address".to_owned());
    };
    if !leases.may_have(client.mac, wanted, now_unix) {
        let message = nak(params, request);
        return Decision::Reply(Box::new(Reply {
            message,
            to: broadcast(),
            client,
            lease_changed: false,
        }));
    }
    leases.bind(client.mac, wanted, now_unix + u64::from(params.lease_seconds));
    let message = reply(params, request, &client, MessageType::Ack, wanted);
    send(message, request, client, true)
}

fn requested_address(request: &Message) -> Option<Ipv4Addr> {
    match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address),
        _ => None,
    }
}

/// RFC 2131 §4.1: to the address the client already uses, else by broadcast, which a client without an address hears.
fn send(message: Message, request: &Message, client: Client, lease_changed: bool) -> Decision {
    let to = if request.ciaddr().is_unspecified() {
        broadcast()
    } else {
        SocketAddrV4::new(request.ciaddr(), CLIENT_PORT)
    };
    Decision::Reply(Box::new(Reply {
        message,
        to,
        client,
        lease_changed,
    }))
}

fn broadcast() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
}

fn header(request: &Message, kind: MessageType, server: Ipv4Addr) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_htype(request.htype())
        .set_xid(request.xid())
        .set_flags(request.flags())
        .set_giaddr(request.giaddr())
        .set_chaddr(request.chaddr());
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    // RFC 6842: the client identifier comes back, so that clients that share a MAC tell their replies apart.
    if let Some(id) = request.opts().get(OptionCode::ClientIdentifier) {
        message.opts_mut().insert(id.clone());
    }
    message
}

fn nak(params: &Params, request: &Message) -> Message {
    let mut message = header(request, MessageType::Nak, params.subnet.server);
    message.set_flags(Flags::default().set_broadcast());
    message
}

fn reply(params: &Params, request: &Message, client: &Client, kind: MessageType, address: Ipv4Addr) -> Message {
    let server = params.subnet.server;
    let mut message = header(request, kind, server);
    message
        .set_yiaddr(address)
        .set_siaddr(server)
        .set_ciaddr(request.ciaddr());
    let options = message.opts_mut();
    if !address.is_unspecified() {
        let lease = params.lease_seconds;
        options.insert(DhcpOption::AddressLeaseTime(lease));
        options.insert(DhcpOption::Renewal(lease / 2));
        options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    }
    options.insert(DhcpOption::SubnetMask(params.subnet.netmask()));
    options.insert(DhcpOption::BroadcastAddr(params.subnet.broadcast()));
    options.insert(DhcpOption::DomainNameServer(vec![server]));
    options.insert(DhcpOption::DomainName(params.domain.clone()));
    boot(params, request, client, &mut message);
    message
}

/// What each stage of a network boot is told to fetch next.
fn boot(params: &Params, request: &Message, client: &Client, message: &mut Message) {
    let server = params.subnet.server;
    let base = match params.http_port {
        80 => format!("http://{server}"),
        port => format!("http://{server}:{port}"),
    };
    // RFC 4578 §2.3: the machine identifier comes back as it came.
    if let Some(id) = request.opts().get(OptionCode::ClientMachineIdentifier) {
        message.opts_mut().insert(id.clone());
    }
    match client.kind {
        Kind::Ipxe => {
            let master = SocketAddrV4::new(server, params.http_port);
            set_boot_file(message, &ipxe::script_url(master, Some(client.mac)));
            let options = UnknownOption::new(OptionCode::Unknown(175), IPXE_NO_PXEDHCP.to_vec());
            message.opts_mut().insert(DhcpOption::Unknown(options));
        }
        Kind::Pxe(arch) => {
            message
                .opts_mut()
                .insert(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            message
                .opts_mut()
                .insert(DhcpOption::VendorExtensions(PXE_SKIP_DISCOVERY.to_vec()));
            if let Ok(loader) = params.loaders.loader(client.mac, arch) {
                message
                    .opts_mut()
                    .insert(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
                set_boot_file(message, loader);
            }
        }
        Kind::HttpBoot(arch) => {
            message
                .opts_mut()
                .insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
            if let Ok(loader) = params.loaders.loader(client.mac, arch) {
                set_boot_file(message, &format!("{base}/loaders/{loader}"));
            }
        }
        Kind::Probe | Kind::Agent => {
            message
                .opts_mut()
                .insert(DhcpOption::ClassIdentifier(MASTER_CLASS.to_vec()));
        }
        Kind::Other => {}
    }
}

/// In both places, because some firmware reads only the header field and some only option 67. The header field holds
/// 127 characters; every name made here is far shorter.
fn set_boot_file(message: &mut Message, file: &str) {
    message.set_fname_str(file);
    message
        .opts_mut()
        .insert(DhcpOption::BootfileName(file.as_bytes().to_vec()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MacAddr;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 1);

    fn params() -> Params {
        let subnet = crate::config::Settings::default().subnet(0).unwrap();
        Params {
            subnet,
            lease_seconds: 3600,
            domain: "recon.internal".to_owned(),
            http_port: 80,
            loaders: Default::default(),
        }
    }

    fn table() -> LeaseTable {
        let subnet = params().subnet;
        LeaseTable::new(subnet.lease_first, subnet.lease_last, [])
    }

    fn request(kind: MessageType, options: impl IntoIterator<Item = DhcpOption>) -> Message {
        let mut message = Message::default();
        message.set_chaddr(&[2, 0, 0, 0, 0, 7]).set_xid(0x1234_5678);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in options {
            message.opts_mut().insert(option);
        }
        message
    }

    fn answer(leases: &mut LeaseTable, request: &Message, now: u64) -> Message {
        match decide(&params(), leases, request, now) {
            Decision::Reply(reply) => reply.message,
            Decision::Silence(reason) => panic!("no reply: {reason}"),
        }
    }

    fn file(message: &Message) -> String {
        match message.opts().get(OptionCode::BootfileName) {
            Some(DhcpOption::BootfileName(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
            _ => String::new(),
        }
    }

    #[test]
    fn four_way_exchange_gives_one_address() {
        let mut leases = table();
        let offer = answer(&mut leases, &request(MessageType::Discover, []), 0);
        assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
        let wish = [
            DhcpOption::RequestedIpAddress(offer.yiaddr()),
            DhcpOption::ServerIdentifier(SERVER),
        ];
        let ack = answer(&mut leases, &request(MessageType::Request, wish), 1);
        assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
        assert_eq!(ack.yiaddr(), offer.yiaddr());
        assert_eq!(ack.xid(), 0x1234_5678);
        assert_eq!(leases.get(MacAddr([2, 0, 0, 0, 0, 7])).unwrap().expires_unix, 3601);
    }

    #[test]
    fn another_servers_choice_frees_our_offer() {
        let mut leases = table();
        answer(&mut leases, &request(MessageType::Discover, []), 0);
        let other = [DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1))];
        assert!(matches!(
            decide(&params(), &mut leases, &request(MessageType::Request, other), 1),
            Decision::Silence(_)
        ));
        assert_eq!(leases.iter().count(), 0);
    }

    #[test]
    fn an_address_of_another_network_is_refused() {
        let mut leases = table();
        let wish = [DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 1, 2, 3))];
        let nak = answer(&mut leases, &request(MessageType::Request, wish), 0);
        assert_eq!(nak.opts().msg_type(), Some(MessageType::Nak));
        assert!(nak.flags().broadcast());
        assert_eq!(nak.yiaddr(), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn a_machine_renews_what_it_had_before_the_master_restarted() {
        let mut leases = table();
        let mut renewal = request(MessageType::Request, []);
        renewal.set_ciaddr(Ipv4Addr::new(192, 168, 219, 99));
        match decide(&params(), &mut leases, &renewal, 5) {
            Decision::Reply(reply) => {
                assert_eq!(reply.to, "192.168.219.99:68".parse().unwrap());
                assert_eq!(reply.message.opts().msg_type(), Some(MessageType::Ack));
                assert!(reply.lease_changed);
            }
            Decision::Silence(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn each_stage_is_told_the_next() {
        let class = |text: &str| DhcpOption::ClassIdentifier(text.as_bytes().to_vec());
        let cases: [(Vec<DhcpOption>, &str); 6] = [
            (vec![class("PXEClient:Arch:00000:UNDI:002001")], "undionly.kpxe"),
            (vec![class("PXEClient:Arch:00007:UNDI:003000")], "snponly.efi"),
            (
                vec![
                    class("PXEClient:Arch:00007:UNDI:003000"),
                    DhcpOption::ClientSystemArchitecture(11u16.into()),
                ],
                "snponly-arm64.efi",
            ),
            (
                vec![class("HTTPClient:Arch:00016:UNDI:003000")],
                "http://192.168.219.1/loaders/snponly.efi",
            ),
            (
                vec![class("PXEClient:Arch:00007"), DhcpOption::UserClass(b"iPXE".to_vec())],
                "http://192.168.219.1/boot.ipxe?mac=02-00-00-00-00-07&uuid=${uuid}&arch=${buildarch}&serial=${serial:uristring}",
            ),
            (vec![], ""),
        ];
        for (options, want) in cases {
            let shown = format!("{options:?}");
            assert_eq!(
                file(&answer(&mut table(), &request(MessageType::Discover, options), 0)),
                want,
                "{shown}"
            );
        }
    }

    #[test]
    fn firmware_is_told_not_to_look_for_a_boot_server_and_ipxe_not_to_wait_for_a_proxy() {
        let pxe = [DhcpOption::ClassIdentifier(
            b"PXEClient:Arch:00007:UNDI:003000".to_vec(),
        )];
        let offer = answer(&mut table(), &request(MessageType::Discover, pxe), 0);
        assert_eq!(
            offer.opts().get(OptionCode::ClassIdentifier),
            Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec()))
        );
        assert_eq!(
            offer.opts().get(OptionCode::VendorExtensions),
            Some(&DhcpOption::VendorExtensions(PXE_SKIP_DISCOVERY.to_vec()))
        );
        let ipxe = [DhcpOption::UserClass(b"iPXE".to_vec())];
        let offer = answer(&mut table(), &request(MessageType::Discover, ipxe), 0);
        assert!(offer.opts().get(OptionCode::Unknown(175)).is_some());
    }

    #[test]
    fn a_probe_learns_that_this_is_a_recon_master() {
        let probe = [DhcpOption::ClassIdentifier(super::super::PROBE_CLASS.to_vec())];
        let offer = answer(&mut table(), &request(MessageType::Discover, probe), 0);
        assert_eq!(
            offer.opts().get(OptionCode::ClassIdentifier),
            Some(&DhcpOption::ClassIdentifier(MASTER_CLASS.to_vec()))
        );
    }

    #[test]
    fn an_exhausted_pool_names_the_remedy() {
        let subnet = params().subnet;
        let mut leases = LeaseTable::new(subnet.lease_first, subnet.lease_first, []);
        leases.bind(MacAddr([2, 0, 0, 0, 0, 1]), subnet.lease_first, 1000);
        match decide(&params(), &mut leases, &request(MessageType::Discover, []), 0) {
            Decision::Silence(reason) => assert!(reason.contains("lease-range"), "{reason}"),
            Decision::Reply(_) => panic!("an address from an empty pool"),
        }
    }

    #[test]
    fn what_is_not_for_us_is_left_alone() {
        let mut relayed = request(MessageType::Discover, []);
        relayed.set_giaddr(Ipv4Addr::new(10, 0, 0, 254));
        let mut group = request(MessageType::Discover, []);
        group.set_chaddr(&[1, 0, 0, 0, 0, 1]);
        let mut answer = request(MessageType::Offer, []);
        answer.set_opcode(Opcode::BootReply);
        for message in [relayed, group, answer, request(MessageType::Ack, [])] {
            assert!(matches!(
                decide(&params(), &mut table(), &message, 0),
                Decision::Silence(_)
            ));
        }
    }

    proptest! {
        #[test]
        fn any_options_are_answered_or_left(kind in 0u8..20, options in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = vec![0u8; 236];
            bytes[..3].copy_from_slice(&[1, 1, 6]);
            bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
            bytes.extend([99, 130, 83, 99, 53, 1, kind]);
            bytes.extend(options);
            let message = super::super::wire::decode(&bytes).unwrap();
            let _ = decide(&params(), &mut table(), &message, 0);
        }
    }
}
