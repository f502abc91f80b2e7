//! Captured packets of real clients (tests/fixtures/packets/INDEX) meet the DHCPv4 decisions.

use std::path::PathBuf;

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use recon::config::Settings;
use recon::model::{Arch, UnixTime};
use recon::service::dhcp4::client::{Kind, identify};
use recon::service::dhcp4::decide::{Decision, decide};
use recon::service::dhcp4::leases::LeaseTable;
use recon::service::dhcp4::quirks::Facts;
use recon::service::dhcp4::reply::Params;
use recon::service::dhcp4::wire;

pub(crate) fn packet(name: &str) -> Message {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/packets")
        .join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    wire::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn params() -> Params {
    let subnet = Settings::default().subnet(0).unwrap();
    Params {
        subnet,
        lease: Default::default(),
        boot: Default::default(),
    }
}

fn table() -> LeaseTable {
    let subnet = params().subnet;
    LeaseTable::new(subnet.lease_first, subnet.lease_last, [])
}

fn answer(leases: &mut LeaseTable, request: &Message) -> Message {
    let client = identify(request).unwrap();
    match decide(
        &params(),
        leases,
        &Facts::new(request, &client),
        UnixTime::from_seconds(1000),
    ) {
        Decision::Reply(reply) => {
            // What leaves is read back as a client would.
            let bytes = reply.bytes();
            assert!(
                (300..=548).contains(&bytes.len()),
                "{} bytes: RFC 2131 §2 promises room for 576 with IP and UDP header",
                bytes.len()
            );
            wire::decode(&bytes).unwrap();
            reply.message
        }
        other => panic!("no reply: {other:?}"),
    }
}

fn boot_file(message: &Message) -> String {
    String::from_utf8(message.fname().unwrap_or_default().to_vec()).unwrap()
}

#[test]
fn real_firmware_is_recognised() {
    assert_eq!(
        identify(&packet("ovmf-efi-discover.bin")).unwrap().kind,
        Kind::Pxe(Arch::UefiX64)
    );
    for name in [
        "ipxe-efi-discover.bin",
        "ipxe-efi-request.bin",
        "ipxe-bios-discover.bin",
        "ipxe-bios-request.bin",
    ] {
        assert_eq!(identify(&packet(name)).unwrap().kind, Kind::Ipxe, "{name}");
    }
    for name in ["dhclient-discover.bin", "udhcpc-discover.bin"] {
        assert_eq!(identify(&packet(name)).unwrap().kind, Kind::Other, "{name}");
    }
}

#[test]
fn one_port_has_one_name_through_firmware_and_ipxe() {
    for name in [
        "ovmf-efi-discover.bin",
        "ipxe-efi-discover.bin",
        "ipxe-bios-discover.bin",
    ] {
        let client = identify(&packet(name)).unwrap();
        let uuid = client.uuid.unwrap_or_else(|| panic!("{name} sends option 97"));
        assert!(uuid.parse::<recon::model::NodeId>().is_ok(), "{uuid}");
    }
}

#[test]
fn ovmf_is_given_the_loader_that_uses_its_own_driver() {
    let request = packet("ovmf-efi-discover.bin");
    let offer = answer(&mut table(), &request);
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    assert_eq!(offer.xid(), request.xid());
    assert_eq!(boot_file(&offer), "snponly.efi");
    assert_eq!(offer.siaddr(), params().subnet.server);
    assert_eq!(
        offer.opts().get(OptionCode::ClientMachineIdentifier),
        request.opts().get(OptionCode::ClientMachineIdentifier),
        "RFC 4578 §2.3"
    );
}

#[test]
fn ipxe_is_sent_to_its_script_and_keeps_the_address() {
    let mut leases = table();
    let offer = answer(&mut leases, &packet("ipxe-efi-discover.bin"));
    assert!(
        boot_file(&offer).starts_with("http://192.168.219.1/boot.ipxe?mac="),
        "{}",
        boot_file(&offer)
    );
    // The captured REQUEST speaks to the server it was captured with; here it asks us for what we offered.
    let mut request = packet("ipxe-efi-request.bin");
    request
        .opts_mut()
        .insert(DhcpOption::ServerIdentifier(params().subnet.server));
    request
        .opts_mut()
        .insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
    let ack = answer(&mut leases, &request);
    assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
    assert_eq!(ack.yiaddr(), offer.yiaddr());
    assert_eq!(boot_file(&ack), boot_file(&offer));
}

#[test]
fn a_request_to_another_server_is_left_alone() {
    for name in ["ovmf-efi-request.bin", "ipxe-bios-request.bin", "dhclient-request.bin"] {
        // Captured with a server that had our address; another one is put in its place.
        let mut request = packet(name);
        assert_eq!(
            answer(&mut table(), &request).opts().msg_type(),
            Some(MessageType::Ack),
            "{name} as captured"
        );
        request
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier([192, 168, 219, 2].into()));
        assert!(
            matches!(
                decide(
                    &params(),
                    &mut table(),
                    &Facts::new(&request, &identify(&request).unwrap()),
                    UnixTime::from_seconds(1000)
                ),
                Decision::Silence(_)
            ),
            "{name}"
        );
    }
}
