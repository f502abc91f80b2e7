//! Captured DHCPv6 messages of real firmware (tests/fixtures/packets/INDEX) meet the decisions.

use std::net::Ipv6Addr;
use std::sync::Arc;

use dhcproto::v6::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use recon::model::ula::Ula;
use recon::model::{Arch, UnixTime};
use recon::role::link::shared::chooser;
use recon::service::boot::loaders::Loaders;
use recon::service::boot::source::BootSource;
use recon::service::dhcp6::client::{Kind, identify};
use recon::service::dhcp6::decide::{Decision, Facts, Params, decide, duid_of};
use recon::service::dhcp6::leases::LeaseTable6;
use recon::service::dhcp6::wire;

use crate::lifecycle::site;

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
        lease: Default::default(),
        boot: Default::default(),
    }
}

fn kind_of(message: &Message) -> Kind {
    identify(message, FROM.parse().unwrap()).kind
}

fn answer(leases: &mut LeaseTable6, request: &Message, netbooted: bool) -> Option<Message> {
    let client = identify(request, FROM.parse().unwrap());
    match decide(
        &params(),
        leases,
        Facts {
            request,
            client: &client,
            netbooted,
        },
        UnixTime::from_seconds(1000),
    ) {
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

/// OVMF's question by a DUID-UUID (RFC 6355), as many servers' firmware sends, from an address that holds no MAC either. On a
/// system with openSUSE Leap 15.4's files: no `snponly.efi`, nothing for ARM, shim without its GRUB.
#[test]
fn a_client_without_a_mac_is_told_of_what_is_here() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["undionly.kpxe", "ipxe-x86_64.efi", "shim.efi"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let mut site = site(folder.path());
    Arc::get_mut(&mut site).unwrap().boot.loaders = Loaders::find(&[folder.path().to_owned()]);
    let params = Params {
        boot: BootSource {
            loaders: chooser(&site),
            ..BootSource::default()
        },
        ..params()
    };
    for (arch, url) in [
        (0, "tftp://[fd12:3456:789a::1]/undionly.kpxe"),
        (7, "tftp://[fd12:3456:789a::1]/ipxe.efi"),
        (16, "http://[fd12:3456:789a::1]/loaders/ipxe.efi"),
        (11, ""),
        (19, ""),
    ] {
        let mut request = packet("ovmf-efi-solicit6.bin");
        request.opts_mut().remove(OptionCode::ClientId);
        request.opts_mut().remove(OptionCode::VendorClass);
        request.opts_mut().remove(OptionCode::ClientArchType);
        let duid = [&[0, 4][..], &[0x42; 16]].concat();
        request.opts_mut().insert(DhcpOption::ClientId(duid));
        request.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::ClientArchType,
            u16::to_be_bytes(arch).to_vec(),
        )));
        let request = wire::decode(&wire::encode(&request)).unwrap();
        let client = identify(&request, "fe80::1".parse().unwrap());
        assert_eq!(client.mac, None);
        let mut leases = LeaseTable6::new(params.prefix, []);
        let Decision::Reply(reply) = decide(
            &params,
            &mut leases,
            Facts {
                request: &request,
                client: &client,
                netbooted: false,
            },
            UnixTime::from_seconds(1000),
        ) else {
            panic!("{arch}: no reply")
        };
        assert_eq!(boot_file(&reply.message), url, "{arch}");
        // Who has a port is told the same, and a lack is said in a sentence both times.
        let with = chooser(&site).loader(
            recon::model::MacAddr([2, 0, 0, 0, 0, arch as u8]),
            Arch::from_option93(arch),
        );
        let without = params.boot.loaders.loader(None, Arch::from_option93(arch));
        assert_eq!(with, without, "{arch}");
        assert_eq!(without.is_err(), url.is_empty(), "{arch}");
        if let Err(reason) = without {
            assert!(reason.contains("ARM") && reason.contains("on this system"), "{reason}");
        }
    }
    let rows = site.node_table().all();
    let arm = rows.iter().find(|row| row.firmware == Some(Arch::UefiArm64)).unwrap();
    assert!(arm.failure.as_ref().unwrap().contains("ARM"), "{:?}", arm.failure);
}
