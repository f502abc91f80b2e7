//! Captured DHCPv6 messages of real firmware (tests/fixtures/packets/INDEX) meet the decisions.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, Message, MessageType, OptionCode};
use recon::model::Arch;
use recon::model::ula::Ula;
use recon::service::dhcp6::client::{Kind, identify};
use recon::service::dhcp6::leases::LeaseTable6;
use recon::service::dhcp6::logic::{Decision, Params, decide, duid_of};
use recon::service::dhcp6::wire;

const FROM: &str = "fe80::5054:ff:fe66:6601";

fn packet(name: &str) -> Message {
    let path = format!("{}/tests/fixtures/packets/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    wire::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn params() -> Params {
    Params {
        prefix: Ula::drawn(0x12_3456_789a).link(0),
        server_id: duid_of("02:00:00:00:00:01".parse().unwrap()),
        lease_seconds: 3600,
        domain: "recon.internal".to_owned(),
        http_port: 80,
        serve_all: false,
        loaders: Default::default(),
    }
}

fn kind_of(message: &Message) -> Kind {
    identify(message, FROM.parse().unwrap()).kind
}

fn answer(leases: &mut LeaseTable6, request: &Message, netbooted: bool) -> Option<Message> {
    let client = identify(request, FROM.parse().unwrap());
    match decide(&params(), leases, &client, netbooted, request, 1000) {
        Decision::Reply(reply) => {
            let bytes = wire::encode(&reply.message);
            assert!(
                bytes.len() <= 1232,
                "{} bytes do not fit RFC 8200's smallest link",
                bytes.len()
            );
            Some(wire::decode(&bytes).map(|_| reply.message).unwrap())
        }
        Decision::Silence(_) => None,
    }
}

fn boot_file(message: &Message) -> String {
    match message.opts().get(OptionCode::OptBootfileUrl) {
        Some(DhcpOption::Unknown(option)) => String::from_utf8(option.data().to_vec()).unwrap(),
        _ => String::new(),
    }
}

/// The request as the client would have sent it to us: our identifier, the address we gave.
fn aimed(name: &str, advertise: &Message) -> Message {
    let mut request = packet(name);
    request.opts_mut().remove(OptionCode::ServerId);
    request.opts_mut().remove(OptionCode::IANA);
    request.opts_mut().insert(DhcpOption::ServerId(params().server_id));
    request
        .opts_mut()
        .insert(advertise.opts().get(OptionCode::IANA).unwrap().clone());
    request
}

fn address(message: &Message) -> Option<Ipv6Addr> {
    let Some(DhcpOption::IANA(ia)) = message.opts().get(OptionCode::IANA) else {
        return None;
    };
    ia.opts.iter().find_map(|option| match option {
        DhcpOption::IAAddr(address) => Some(address.addr),
        _ => None,
    })
}

#[test]
fn real_firmware_is_recognised() {
    assert_eq!(kind_of(&packet("ovmf-efi-solicit6.bin")), Kind::Pxe(Arch::UefiX64));
    assert_eq!(kind_of(&packet("ovmf-efi-request6.bin")), Kind::Pxe(Arch::UefiX64));
    assert_eq!(kind_of(&packet("ipxe-efi-solicit6.bin")), Kind::Ipxe);
    assert_eq!(kind_of(&packet("ipxe-efi-request6.bin")), Kind::Ipxe);
    assert_eq!(kind_of(&packet("plain-solicit6.bin")), Kind::Other);
    let mac = identify(&packet("ovmf-efi-solicit6.bin"), FROM.parse().unwrap()).mac;
    assert_eq!(mac, Some("52:54:00:66:66:01".parse().unwrap()));
}

#[test]
fn each_stage_gets_its_address_and_the_next_stage() {
    let mut leases = LeaseTable6::new(params().prefix, []);
    for (stage, url) in [
        ("ovmf-efi", "tftp://[fd12:3456:789a::1]/snponly.efi"),
        ("ipxe-efi", "http://[fd12:3456:789a::1]/boot.ipxe"),
    ] {
        let advertise = answer(&mut leases, &packet(&format!("{stage}-solicit6.bin")), false).unwrap();
        assert_eq!(advertise.msg_type(), MessageType::Advertise, "{stage}");
        assert_eq!(boot_file(&advertise), url);
        let request = aimed(&format!("{stage}-request6.bin"), &advertise);
        let reply = answer(&mut leases, &request, false).unwrap();
        assert_eq!(reply.msg_type(), MessageType::Reply, "{stage}");
        assert!(
            address(&reply).is_some() && address(&reply) == address(&advertise),
            "{stage}"
        );
        assert_eq!(boot_file(&reply), url);
    }
    assert_eq!(leases.len(), 2, "firmware and iPXE call their association differently");
}

#[test]
fn firmware_that_asks_plainly_is_answered_once_it_is_known() {
    let mut leases = LeaseTable6::new(params().prefix, []);
    assert!(answer(&mut leases, &packet("plain-solicit6.bin"), false).is_none());
    let advertise = answer(&mut leases, &packet("plain-solicit6.bin"), true).unwrap();
    assert_eq!(boot_file(&advertise), "");
    assert!(address(&advertise).is_some());
}
