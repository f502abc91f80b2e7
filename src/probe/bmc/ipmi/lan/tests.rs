use super::super::testing::linked;
use super::*;
use proptest::prelude::*;

/// Network function of requests (table 5-1).
const TRANSPORT: u8 = 0x0c;

fn address(last: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&[0xfd, 0]);
    bytes[15] = last;
    bytes
}

#[test]
fn a_lan_with_both_families() {
    let lan = linked(
        |netfn, cmd, data| {
            assert_eq!((netfn, cmd, data[0], data[3]), (TRANSPORT, 2, 8, 0));
            let value: Vec<u8> = match (data[1], data[2]) {
                (3, _) => vec![172, 16, 5, 9],
                (4, _) => vec![2],
                (5, _) => vec![0x3c, 0xec, 0xef, 1, 2, 8],
                (6, _) => vec![255, 255, 0, 0],
                (10, _) => vec![2],
                (12, _) => vec![0, 0, 0, 0],
                (20, _) => vec![0x64, 0x80],
                (50, _) => vec![0],
                (51, _) => vec![2],
                (55, _) => vec![2, 1, 3],
                (56, 0) => [&[0, 0x80][..], &address(1), &[64, 0]].concat(),
                (56, 1) => [&[1, 0][..], &[0; 16], &[0, 1]].concat(),
                (59, 0) => [&[0, 1][..], &address(2), &[64, 2]].concat(),
                (65, _) => address(9).to_vec(),
                (69, _) => vec![0; 16],
                (73, _) => vec![1],
                (74, 0) => [&[0][..], &address(10)].concat(),
                _ => return Ok(vec![0x80]),
            };
            Ok([&[0, 0x11], value.as_slice()].concat())
        },
        |ipmi| lan(ipmi, 8),
    )
    .unwrap();
    assert_eq!(lan.ipv4, Some([172, 16, 5, 9].into()));
    assert_eq!(lan.mac, "3c:ec:ef:01:02:08".parse().ok());
    assert_eq!((lan.gateway, lan.gateway_mac, lan.vlan), (None, None, Some(100)));
    assert_eq!(lan.answers_arp, Some(true));
    assert_eq!(lan.addressing.as_deref(), Some("both"));
    let told: Vec<_> = lan
        .ipv6
        .iter()
        .map(|ip| (ip.address.to_string(), ip.prefix_length, &*ip.source, &*ip.state))
        .collect();
    assert_eq!(
        told,
        [
            ("fd00::1".to_owned(), 64, "static", "active"),
            ("fd00::2".to_owned(), 64, "slaac", "pending")
        ]
    );
    assert_eq!(
        lan.ipv6_routers,
        [Ipv6Addr::from(address(9)), Ipv6Addr::from(address(10))]
    );
}

#[test]
fn a_channel_that_is_no_lan_is_refused() {
    let refusal = linked(|_, _, _| Ok(vec![0xcc]), |ipmi| lan(ipmi, 2).unwrap_err());
    assert_eq!(refusal, Refusal::Code(0xcc));
}

#[test]
fn channels_say_what_they_are() {
    let (channel, is_lan) = linked(
        |_, cmd, data| {
            Ok(match cmd {
                0x42 => vec![0, 1, 4, 1, 0x82, 0xf2, 0x1b, 0, 0, 0],
                _ => {
                    assert_eq!(data, [1, 0x80]);
                    vec![0, 0x22, 4]
                }
            })
        },
        |ipmi| channel(ipmi, 1),
    )
    .unwrap();
    assert!(is_lan);
    assert_eq!(
        (&*channel.medium, &*channel.protocol, &*channel.sessions),
        ("lan", "ipmb", "multi")
    );
    assert_eq!(channel.active_sessions, 2);
    assert_eq!(channel.access.as_deref(), Some("always"));
    assert_eq!(channel.privilege_limit.as_deref(), Some("administrator"));
}

#[test]
fn a_channel_without_sessions_is_not_asked_who_may_begin_one() {
    let (channel, _) = linked(
        |_, cmd, _| {
            assert_eq!(cmd, 0x42);
            Ok(vec![0, 0, 1, 1, 0x3f, 0xf2, 0x1b, 0, 0, 0])
        },
        |ipmi| channel(ipmi, 0),
    )
    .unwrap();
    assert_eq!((&*channel.sessions, channel.access), ("session-less", None));
}

#[test]
fn cipher_suites_come_in_pieces() {
    // Suites 0, 1, 3 and 17 of table 22-20, and a maker's own.
    let records = [
        0xc0, 0, 0x00, 0x40, 0x80, 0xc0, 1, 0x01, 0x40, 0x80, 0xc0, 3, 0x01, 0x41, 0x81, 0xc0, 17, 0x03, 0x44, 0x81,
        0xc1, 0x80, 0xf2, 0x1b, 0, 0x01, 0x7e,
    ];
    let suites = linked(
        move |_, _, data| {
            assert_eq!(data[..2], [1, 0]);
            let from = usize::from(data[2] & 0x3f) * 16;
            let piece = &records[from..(from + 16).min(records.len())];
            Ok([&[0, 1], piece].concat())
        },
        |ipmi| cipher_suites(ipmi, 1),
    )
    .unwrap();
    let ids: Vec<u8> = suites.iter().map(|suite| suite.id).collect();
    assert_eq!(ids, [0, 1, 3, 17, 0x80]);
    assert_eq!(suites[3].authentication.as_deref(), Some("HMAC-SHA256"));
    assert_eq!(suites[3].integrity.as_deref(), Some("HMAC-SHA256-128"));
    assert_eq!(suites[3].confidentiality.as_deref(), Some("AES-CBC-128"));
    assert_eq!(suites[4].oem, Some(7154));
    assert_eq!(suites[4].integrity.as_deref(), Some("0x3e"));
}

proptest! {
    #[test]
    fn any_answer_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = (channel_info(1, &data), ipv6_address(true, &data), ipv6_address(false, &data), vlan(&data));
        prop_assert!(read_suites(&data).len() <= data.len());
    }

    #[test]
    fn a_controller_that_answers_nonsense_is_asked_a_bounded_number_of_times(
        data in proptest::collection::vec(any::<u8>(), 1..24),
    ) {
        let mut asked = 0;
        let answer = [vec![0], data].concat();
        linked(
            move |_, _, _| {
                asked += 1;
                assert!(asked < 400);
                Ok(answer.clone())
            },
            |ipmi| {
                let _ = (channel(ipmi, 1), lan(ipmi, 1), cipher_suites(ipmi, 1));
                let _ = super::super::users::of_channel(ipmi, 1, &mut Default::default());
            },
        );
    }
}
