//! Frames put together by hand after the standards' field tables, and arbitrary bytes.

use proptest::prelude::*;

use super::wire::MAX_ENTRIES;
use super::*;
use crate::formats::pcap::Record;

fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = ((kind << 9) | value.len() as u16).to_be_bytes().to_vec();
    out.extend(value);
    out
}

fn ethernet(destination: [u8; 6], kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend([0x00, 0x1c, 0x73, 0x00, 0x00, 0x07]);
    frame.extend(kind.to_be_bytes());
    frame.extend(body);
    frame
}

const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

fn lldp_body() -> Vec<u8> {
    [
        tlv(1, &[4, 0x00, 0x1c, 0x73, 0x00, 0x00, 0x01]),
        tlv(2, b"\x05Ethernet7"),
        tlv(3, &[0, 120]),
        tlv(4, b"rack 12 unit 7"),
        tlv(5, b"leaf1.example.net"),
        tlv(6, b"Example OS 4.31\r\non EX-7050"),
        // Bridge and router, of which bridge is on.
        tlv(7, &[0, 0x14, 0, 0x04]),
        tlv(8, &[5, 1, 192, 0, 2, 1, 2, 0, 0, 0, 1, 0]),
        tlv(8, b"\x11\x02\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x01\0"),
        tlv(127, &[0x00, 0x80, 0xc2, 1, 0x00, 0x0a]),
        tlv(127, b"\x00\x80\xc2\x03\x00\x0a\x07servers"),
        // Aggregated, in bundle 1007.
        tlv(127, &[0x00, 0x80, 0xc2, 7, 3, 0, 0, 0x03, 0xef]),
        // Negotiation offered and on, MAU type 36.
        tlv(127, &[0x00, 0x12, 0x0f, 1, 3, 0, 0, 0, 36]),
        tlv(127, &[0x00, 0x12, 0x0f, 4, 0x24, 0x14]),
        // Another organization's, which is none of ours.
        tlv(127, &[0x00, 0x00, 0x00, 1, 1]),
        tlv(0, &[]),
    ]
    .concat()
}

fn heard(frame: &[u8]) -> Neighbour {
    match parse(frame) {
        Frame::Neighbour(told) => *told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_switch_tells_by_lldp() {
    let told = heard(&ethernet(NEAREST_BRIDGE, LLDP, &lldp_body()));
    assert_eq!(told.protocol, "lldp");
    assert_eq!(told.source_mac, "00:1c:73:00:00:07".parse().ok());
    assert_eq!(told.chassis_id.as_deref(), Some("00:1c:73:00:00:01"));
    assert_eq!(told.chassis_id_kind.as_deref(), Some("mac"));
    assert_eq!(told.port_id.as_deref(), Some("Ethernet7"));
    assert_eq!(told.port_id_kind.as_deref(), Some("interface name"));
    assert_eq!(told.ttl_s, Some(120));
    assert_eq!(told.port_description.as_deref(), Some("rack 12 unit 7"));
    assert_eq!(told.system_name.as_deref(), Some("leaf1.example.net"));
    assert_eq!(told.system_description.as_deref(), Some("Example OS 4.31 on EX-7050"));
    assert_eq!(told.capabilities, ["bridge", "router"]);
    assert_eq!(told.capabilities_enabled, ["bridge"]);
    assert_eq!(told.management_addresses, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(told.port_vlan, Some(10));
    assert_eq!(told.vlans.len(), 1);
    assert_eq!((told.vlans[0].id, told.vlans[0].name.as_deref()), (10, Some("servers")));
    assert_eq!(
        (told.aggregation_capable, told.aggregated, told.aggregation_id),
        (Some(true), Some(true), Some(1007))
    );
    assert_eq!((told.autoneg_supported, told.autoneg_enabled), (Some(true), Some(true)));
    assert_eq!(
        (told.mau_type, told.mau_name.as_deref()),
        (Some(36), Some("10GBASE-SR"))
    );
    assert_eq!(told.max_frame_bytes, Some(9236));
}

#[test]
fn a_priority_tag_is_looked_through() {
    let tagged = [&0xe000u16.to_be_bytes()[..], &LLDP.to_be_bytes()[..], &lldp_body()].concat();
    let told = heard(&ethernet(NEAREST_BRIDGE, 0x8100, &tagged));
    assert_eq!(told.port_id.as_deref(), Some("Ethernet7"));
}

#[test]
fn what_does_not_begin_as_demanded_is_damaged() {
    for body in [
        vec![],
        tlv(5, b"no ids"),
        [tlv(1, b"\x07x"), tlv(3, &[0, 120]), tlv(2, b"\x07y")].concat(),
        [tlv(1, b"\x07x"), tlv(2, b"\x07y")].concat(),
        [tlv(1, b"\x07"), tlv(2, b"\x07y"), tlv(3, &[0, 120])].concat(),
    ] {
        assert_eq!(
            parse(&ethernet(NEAREST_BRIDGE, LLDP, &body)),
            Frame::Damaged,
            "{body:?}"
        );
    }
    let goodbye = [tlv(1, b"\x07x"), tlv(2, b"\x07y"), tlv(3, &[0, 0]), tlv(0, &[])].concat();
    assert_eq!(parse(&ethernet(NEAREST_BRIDGE, LLDP, &goodbye)), Frame::Goodbye);
    assert_eq!(parse(&ethernet(NEAREST_BRIDGE, 0x0800, &lldp_body())), Frame::Foreign);
    assert_eq!(parse(&[]), Frame::Foreign);
}

#[test]
fn an_id_that_is_not_text_is_shown_in_hex() {
    let body = [
        tlv(1, b"\x07\x01\xff"),
        tlv(2, b"\x04\x01\xc0\x00\x02\x09"),
        tlv(3, &[0, 9]),
    ]
    .concat();
    let told = heard(&ethernet(NEAREST_BRIDGE, LLDP, &body));
    assert_eq!(told.chassis_id.as_deref(), Some("01:ff"));
    assert_eq!(told.port_id.as_deref(), Some("192.0.2.9"));
}

fn cdp_frame() -> Vec<u8> {
    let field = |kind: u16, value: &[u8]| {
        let mut out = kind.to_be_bytes().to_vec();
        out.extend((value.len() as u16 + 4).to_be_bytes());
        out.extend(value);
        out
    };
    let packet = [
        vec![2, 180, 0, 0],
        field(1, b"sw2.example.net"),
        field(2, &[0, 0, 0, 1, 1, 1, 0xcc, 0, 4, 192, 0, 2, 2]),
        field(3, b"GigabitEthernet1/0/7"),
        // Router, switch, IGMP.
        field(4, &0x29u32.to_be_bytes()),
        field(5, b"Example IOS, Version 15.2(7)"),
        field(6, b"example C2960X"),
        field(9, b"lab"),
        field(0x0a, &20u16.to_be_bytes()),
        field(0x0b, &[1]),
        field(0x11, &1500u32.to_be_bytes()),
        field(
            0x16,
            b"\0\0\0\x02\x01\x01\xcc\x00\x04\xc0\x00\x02\x02\x02\x08\xaa\xaa\x03\0\0\0\x86\xdd\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02",
        ),
    ]
    .concat();
    let body = [&CDP_SNAP[..], &packet].concat();
    let mut frame = ethernet(CDP_GROUP, body.len() as u16, &body);
    frame.extend([0xee; 7]);
    frame
}

#[test]
fn a_switch_tells_by_cdp() {
    let told = heard(&cdp_frame());
    assert_eq!(told.protocol, "cdp");
    assert_eq!(told.chassis_id.as_deref(), Some("sw2.example.net"));
    assert_eq!(told.system_name.as_deref(), Some("sw2.example.net"));
    assert_eq!(told.port_id.as_deref(), Some("GigabitEthernet1/0/7"));
    assert_eq!(told.capabilities_enabled, ["router", "switch", "igmp"]);
    assert_eq!(told.platform.as_deref(), Some("example C2960X"));
    assert_eq!(told.port_vlan, Some(20));
    assert_eq!(told.duplex.as_deref(), Some("full"));
    assert_eq!(told.vtp_domain.as_deref(), Some("lab"));
    assert_eq!(told.max_frame_bytes, Some(1500));
    assert_eq!(told.ttl_s, Some(180));
    assert_eq!(told.management_addresses, ["192.0.2.2", "2001:db8::2"]);
}

#[test]
fn a_capture_file_is_read_back() {
    let records: Vec<Record> = [0, 1_500_000, 34_999_999]
        .into_iter()
        .map(|micros| Record {
            micros,
            frame: cdp_frame(),
        })
        .collect();
    let file = crate::formats::pcap::write(&records);
    assert_eq!(crate::formats::pcap::read(&file).unwrap(), records);
    assert_eq!(
        crate::formats::pcap::read(&file[..file.len() - 1]).unwrap(),
        records[..2]
    );
    assert_eq!(
        crate::formats::pcap::read(b"something else, long enough to be one"),
        None
    );
}

proptest! {
    #[test]
    fn any_bytes_give_a_frame_of_bounded_size(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
        let _ = crate::formats::pcap::read(&bytes);
        for frame in [
            bytes.clone(),
            ethernet(NEAREST_BRIDGE, LLDP, &bytes),
            ethernet(CDP_GROUP, bytes.len() as u16 + 12, &[&CDP_SNAP[..], &[2, 180, 0, 0], &bytes].concat()),
        ] {
            if let Frame::Neighbour(told) = parse(&frame) {
                prop_assert!(told.management_addresses.len() <= MAX_ENTRIES && told.vlans.len() <= MAX_ENTRIES);
                prop_assert!(serde_json::to_string(&told).unwrap().len() < 64 * 1024);
            }
        }
    }

    /// A whole frame with some bytes wrong reaches further than random bytes do.
    #[test]
    fn damaged_frames_are_read_or_not(
        damage in proptest::collection::vec((0usize..600, any::<u8>()), 1..8),
        cut in 0usize..600,
    ) {
        for mut frame in [ethernet(NEAREST_BRIDGE, LLDP, &lldp_body()), cdp_frame()] {
            let length = frame.len();
            for (at, byte) in &damage {
                frame[at % length] = *byte;
            }
            frame.truncate(length - cut % length);
            if let Frame::Neighbour(told) = parse(&frame) {
                prop_assert!(told.chassis_id.is_some() && told.port_id.is_some());
                for text in [&told.system_name, &told.port_id, &told.chassis_id].into_iter().flatten() {
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}

/// A frame with these mandatory TLVs and a system name.
fn with_ids(chassis: &[u8], port: &[u8], more: &[u8]) -> Vec<u8> {
    let tlvs = [
        tlv(1, chassis),
        tlv(2, port),
        tlv(3, &[0, 120]),
        tlv(5, b"sw1"),
        more.to_vec(),
        tlv(0, &[]),
    ];
    ethernet(NEAREST_BRIDGE, LLDP, &tlvs.concat())
}

#[test]
fn an_id_of_any_bytes_leaves_the_neighbour_known() {
    let chassis = [4, 0x2c, 0xb0, 0x5d, 0, 0, 1];
    let id = |port: &[u8]| {
        let told = heard(&with_ids(&chassis, port, &[]));
        assert_eq!(told.system_name.as_deref(), Some("sw1"));
        (told.port_id, told.port_id_kind)
    };
    let some = |id: &str, kind: &str| (Some(id.to_owned()), Some(kind.to_owned()));
    assert_eq!(id(b"\x07\0\0\0\0"), some("00:00:00:00", "local"));
    assert_eq!(id(b"\x05   "), some("20:20:20", "interface name"));
    assert_eq!(id(b"\x05"), (None, Some("interface name".to_owned())));
    assert_eq!(id(b""), (None, None));
    assert_eq!(id(b"\x03\xff\xff"), some("ff:ff", "mac"));
    assert_eq!(id(b"\x05\x1b[2J"), some("1b:5b:32:4a", "interface name"));
    assert_eq!(id(&[&[7][..], &[0xee; 255]].concat()).0.unwrap().len(), 255 * 3 - 1);
    let told = heard(&with_ids(b"\x07\0\0", b"\x05eth0\0", &[]));
    assert_eq!(
        (told.chassis_id.as_deref(), told.port_id.as_deref()),
        (Some("00:00"), Some("eth0"))
    );
}

#[test]
fn a_mandatory_tlv_that_comes_again_discards_the_frame() {
    let chassis = [4, 0x2c, 0xb0, 0x5d, 0, 0, 1];
    for again in [tlv(1, &chassis), tlv(2, b"\x05Gi9/9/9"), tlv(3, &[0, 120])] {
        assert_eq!(parse(&with_ids(&chassis, b"\x05Gi1/0/1", &again)), Frame::Damaged);
    }
    // Behind the end is padding.
    let mut padded = with_ids(&chassis, b"\x05Gi1/0/1", &[]);
    padded.extend(tlv(2, b"\x05Gi9/9/9"));
    assert_eq!(heard(&padded).port_id.as_deref(), Some("Gi1/0/1"));
}

#[test]
fn names_that_are_no_utf_8_are_latin_1() {
    let frame = with_ids(&[4, 0, 0, 0, 0, 0, 1], b"\x05Gi1/0/1", &tlv(4, b"caf\xe9"));
    assert_eq!(heard(&frame).port_description.as_deref(), Some("café"));
}

#[test]
fn a_cdp_port_of_blanks_leaves_the_neighbour_known() {
    let field =
        |kind: u16, value: &[u8]| [&kind.to_be_bytes()[..], &(value.len() as u16 + 4).to_be_bytes(), value].concat();
    let packet = |port: &[u8]| [vec![2, 180, 0, 0], field(1, b"sw1"), field(3, port)].concat();
    assert_eq!(cdp::parse(&packet(b"  ")).unwrap().port_id.as_deref(), Some("20:20"));
    assert_eq!(cdp::parse(&packet(b"")).unwrap().port_id, None);
}
