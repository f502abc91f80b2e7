//! What a reply says. Whether there is one is decided in [`crate::service::dhcp4::decide`]. No socket, no clock.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};

use crate::config::{LeasePolicy, Subnet};
use crate::model::MacAddr;
use crate::service::boot::client::PXE_CLASS;
use crate::service::boot::source::BootSource;
use crate::service::dns::DOMAIN;

use super::boot_options::{NextStage, next_stage, set_boot_file};
use super::client::{Client, Kind};
use super::layout::{self, Form};
use super::probe::asks_boot;
use super::{CLIENT_PORT, MASTER_CLASS, option, relay};

/// What the decision needs to know of the link.
#[derive(Debug, Clone)]
pub struct Params {
    pub subnet: Subnet,
    pub lease: LeasePolicy,
    pub boot: BootSource,
}

/// iPXE encapsulated option 176 `no-pxedhcp` = 1: do not wait for a proxyDHCP offer.
const IPXE_NO_PXEDHCP: &[u8] = &[176, 1, 1];

/// A reply that leaves, of a server or of a proxy.
#[derive(Debug)]
pub struct Reply {
    pub message: Message,
    pub form: Form,
    pub to: SocketAddrV4,
    /// The client has no address yet and hears its own all the same: `to` is at this hardware address, of which no ARP
    /// table knows.
    pub alone: Option<MacAddr>,
    pub client: Client,
    /// An address nobody has asked the link for: to be done before this offer leaves.
    pub probe: Option<Ipv4Addr>,
    /// The first minimal offer to firmware that takes none: a person should know.
    pub first_minimal_offer: bool,
}

impl Reply {
    /// An answer to a request, which leaves at once.
    pub(super) fn new(message: Message, request: &Message, to: SocketAddrV4, client: Client) -> Self {
        Reply {
            message,
            form: Form::of(request),
            to,
            alone: None,
            client,
            probe: None,
            first_minimal_offer: false,
        }
    }

    /// The reply as it leaves.
    pub fn bytes(&self) -> Vec<u8> {
        layout::encode(&self.message, &self.form)
    }
}

/// Where clients without an address hear a reply.
pub(super) const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);

/// The address that a client asks for (option 50).
pub(super) fn requested_address(request: &Message) -> Option<Ipv4Addr> {
    option!(request, RequestedIpAddress)
        .copied()
        .filter(|address| !address.is_unspecified())
}

/// Options come back as they came.
pub(super) fn echo(message: &mut Message, request: &Message, codes: &[OptionCode]) {
    for said in codes.iter().filter_map(|code| request.opts().get(*code)) {
        message.opts_mut().insert(said.clone());
    }
}

/// What every reply has.
pub(super) fn header(request: &Message, kind: MessageType, server: Ipv4Addr) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_htype(request.htype())
        .set_xid(request.xid())
        .set_flags(request.flags())
        .set_giaddr(request.giaddr())
        .set_chaddr(request.chaddr());
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    let server = relay::server_override(request).unwrap_or(server);
    message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    message.opts_mut().insert(super::mark());
    // RFC 6842: the client identifier comes back, so that clients that share a MAC tell their replies apart.
    // RFC 3011 §2: so does the choice of a subnet, from a server that heeds it.
    echo(
        &mut message,
        request,
        &[OptionCode::ClientIdentifier, OptionCode::SubnetSelection],
    );
    message
}

pub(super) fn nak(params: &Params, request: &Message) -> Message {
    let mut message = header(request, MessageType::Nak, params.subnet.server);
    message.set_flags(Flags::default().set_broadcast());
    message
}

pub(super) fn reply(
    params: &Params,
    request: &Message,
    client: &Client,
    kind: MessageType,
    address: Ipv4Addr,
) -> Message {
    let server = params.subnet.server;
    let mut message = header(request, kind, server);
    message.set_yiaddr(address).set_siaddr(server);
    // RFC 2131 table 3: zero in an OFFER.
    if kind == MessageType::Ack {
        message.set_ciaddr(request.ciaddr());
    }
    let options = message.opts_mut();
    if !address.is_unspecified() {
        let seconds = params.lease.lease_seconds;
        options.insert(DhcpOption::AddressLeaseTime(seconds));
        options.insert(DhcpOption::Renewal(seconds / 2));
        options.insert(DhcpOption::Rebinding(seconds / 8 * 7));
    }
    options.insert(DhcpOption::SubnetMask(params.subnet.netmask()));
    options.insert(DhcpOption::BroadcastAddr(params.subnet.broadcast()));
    if let Some(router) = params.subnet.router {
        options.insert(DhcpOption::Router(vec![router]));
    }
    options.insert(DhcpOption::DomainNameServer(vec![server]));
    options.insert(DhcpOption::DomainName(DOMAIN.to_owned()));
    boot(params, request, client, &mut message);
    message
}

/// What each stage of a network boot is told to fetch next.
fn boot(params: &Params, request: &Message, client: &Client, message: &mut Message) {
    // RFC 4578 §2.3: the machine identifier comes back as it came.
    echo(message, request, &[OptionCode::ClientMachineIdentifier]);
    // None of the boot programs could work on it.
    if client.stranger.is_some() {
        return;
    }
    if matches!(client.kind, Kind::Probe | Kind::Agent) {
        // Who asks as firmware does hears that machines are booted here; it fetches nothing.
        if asks_boot(request) {
            set_boot_file(message, PROBED_BOOT_FILE);
        }
        let class = DhcpOption::ClassIdentifier(MASTER_CLASS.to_vec());
        message.opts_mut().insert(class);
    }
    let server = params.subnet.server;
    let Some(NextStage { class, file }) = next_stage(&params.boot, server, client, request) else {
        return;
    };
    let ipxe = client.kind == Kind::Ipxe;
    if !ipxe {
        message.opts_mut().insert(DhcpOption::ClassIdentifier(class.to_vec()));
    }
    if let Ok(file) = file {
        if class == PXE_CLASS && !ipxe {
            let server = server.to_string().into_bytes();
            message.opts_mut().insert(DhcpOption::TFTPServerName(server));
        }
        set_boot_file(message, &file);
    }
    if ipxe || (class == PXE_CLASS && request.opts().get(OptionCode::Unknown(175)).is_some()) {
        let options = UnknownOption::new(OptionCode::Unknown(175), IPXE_NO_PXEDHCP.to_vec());
        message.opts_mut().insert(DhcpOption::Unknown(options));
    }
}

/// What a machine hears that only asks whether machines are booted here.
const PROBED_BOOT_FILE: &str = "recon";

#[cfg(test)]
mod tests {
    use super::super::decide::{Decision, decide_on};
    use super::super::leases::LeaseTable;
    use super::super::quirks::no_discovery;
    use super::super::testing::{params, request, table, unix};
    use super::*;
    use crate::model::MacAddr;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 1);

    fn answer(leases: &mut LeaseTable, request: &Message, now: u64) -> Message {
        match decide_on(&params(), leases, request, unix(now)) {
            Decision::Reply(reply) => reply.message,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn file(message: &Message) -> String {
        match message.opts().get(OptionCode::BootfileName) {
            // Firmware's ends with a zero byte (quirks::Workaround::TerminateStrings).
            Some(DhcpOption::BootfileName(bytes)) => {
                String::from_utf8(bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec()).unwrap()
            }
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
        assert_eq!(
            leases.get(MacAddr([2, 0, 0, 0, 0, 7])).unwrap().expires_unix,
            unix(3601)
        );
    }

    /// Two boards whose firmware has one UUID send it in option 97, and in option 61 as the client identifier.
    #[test]
    fn two_machines_with_one_uuid_get_two_addresses() {
        let mut leases = table();
        let uuid = [[0].as_slice(), &[0x93; 16]].concat();
        let mut lease = |last: u8, now: u64| {
            let identifiers = [
                DhcpOption::ClientIdentifier(uuid.clone()),
                DhcpOption::ClientMachineIdentifier(uuid.clone()),
            ];
            let mut discover = request(MessageType::Discover, identifiers);
            discover.set_chaddr(&[2, 0, 0, 0, 0, last]);
            answer(&mut leases, &discover, now).yiaddr()
        };
        let (first, second) = (lease(7, 0), lease(8, 1));
        assert_ne!(first, second);
        assert_eq!((lease(7, 2), lease(8, 3)), (first, second));
    }

    #[test]
    fn another_servers_choice_frees_our_offer() {
        let mut leases = table();
        answer(&mut leases, &request(MessageType::Discover, []), 0);
        let other = [DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1))];
        assert!(matches!(
            decide_on(&params(), &mut leases, &request(MessageType::Request, other), unix(1)),
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
        match decide_on(&params(), &mut leases, &renewal, unix(5)) {
            Decision::Reply(reply) => {
                assert_eq!(reply.to, "192.168.219.99:68".parse().unwrap());
                assert_eq!(reply.message.opts().msg_type(), Some(MessageType::Ack));
            }
            other => panic!("{other:?}"),
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
                // No image has a system for it.
                "",
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
        assert_eq!(offer.opts().get(OptionCode::VendorExtensions), Some(&no_discovery()));
        let ipxe = [DhcpOption::UserClass(b"iPXE".to_vec())];
        let offer = answer(&mut table(), &request(MessageType::Discover, ipxe), 0);
        assert!(offer.opts().get(OptionCode::Unknown(175)).is_some());
    }

    #[test]
    fn an_ipxe_without_http_or_a_way_to_start_a_kernel_gets_ours() {
        let rom = |arch: u16, features: &[u8]| {
            let said = features.iter().flat_map(|code| [*code, 1, 1]).collect();
            let options = [
                DhcpOption::ClassIdentifier(format!("PXEClient:Arch:{arch:05}:UNDI:002001").into_bytes()),
                DhcpOption::UserClass(b"iPXE".to_vec()),
                DhcpOption::ClientSystemArchitecture(arch.into()),
                DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(175), said)),
            ];
            let mut leases = table();
            let offer = answer(&mut leases, &request(MessageType::Discover, options.clone()), 0);
            let wish = [
                DhcpOption::RequestedIpAddress(offer.yiaddr()),
                DhcpOption::ServerIdentifier(SERVER),
            ];
            let ack = answer(
                &mut leases,
                &request(MessageType::Request, options.into_iter().chain(wish)),
                0,
            );
            assert_eq!(file(&ack), file(&offer));
            assert!(
                ack.opts().get(OptionCode::Unknown(175)).is_some(),
                "no wait for a proxy"
            );
            assert_eq!(ack.siaddr(), SERVER);
            file(&ack)
        };
        assert!(rom(0, &[0x13, 0x15, 0x18]).starts_with("http://192.168.219.1/boot.ipxe?"));
        assert!(rom(7, &[0x13, 0x15, 0x24]).starts_with("http://192.168.219.1/boot.ipxe?"));
        assert_eq!(rom(0, &[0x15, 0x18]), "undionly.kpxe");
        assert_eq!(rom(0, &[0x13, 0x15]), "undionly.kpxe");
        assert_eq!(rom(7, &[0x15, 0x24]), "snponly.efi");
        assert_eq!(
            rom(0, &[0x13]),
            "http://192.168.219.1/loaders/undionly.kpxe",
            "without TFTP, by what it can"
        );
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
        leases.bind(MacAddr([2, 0, 0, 0, 0, 1]), subnet.lease_first, unix(1000));
        match decide_on(&params(), &mut leases, &request(MessageType::Discover, []), unix(0)) {
            Decision::Exhausted => {
                let said = super::super::notices::exhausted(leases.counts(unix(0)), "network.lease-range");
                assert!(said.contains("every address of the pool is leased") && said.contains("lease-range"));
            }
            other => panic!("from an empty pool: {other:?}"),
        }
    }

    #[test]
    fn nobody_hears_that_all_is_leased_while_it_is_not() {
        let said = super::super::notices::exhausted(
            super::super::leases::Counts {
                size: 10,
                leased: 3,
                offered: 1,
                abandoned: 4,
            },
            "network.lease-range",
        );
        assert!(
            !said.contains("every") && said.contains("3 are leased") && said.contains("4 rest"),
            "{said}"
        );
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
                decide_on(&params(), &mut table(), &message, unix(0)),
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
            let _ = decide_on(&params(), &mut table(), &message, unix(0));
        }
    }
}
