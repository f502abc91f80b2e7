use super::*;
use crate::model::MacAddr;
use crate::model::ula::Ula;
use crate::service::dhcp4::testing::unix;
use crate::service::dhcp6::client::identify;
use dhcproto::v6::UnknownOption;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn params() -> Params {
    Params {
        prefix: Ula::drawn(0x12_3456_789a).link(0),
        server_id: duid_of(MAC),
        lease: LeasePolicy {
            lease_seconds: 1000,
            serve_all: false,
        },
        boot: Default::default(),
    }
}

fn table() -> LeaseTable6 {
    LeaseTable6::new(params().prefix, [])
}

fn arch(code: u16) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(
        OptionCode::ClientArchType,
        code.to_be_bytes().to_vec(),
    ))
}

fn ia(id: u32, wishes: &[Ipv6Addr]) -> DhcpOption {
    let opts = wishes.iter().map(|wish| wire::ia_address(*wish, 0)).collect();
    DhcpOption::IANA(ia_with(id, 0, opts))
}

/// A firmware's message; the server identifier where the kind needs one.
fn message(kind: MessageType, more: Vec<DhcpOption>) -> Message {
    let mut message = Message::new_with_id(kind, [7, 8, 9]);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 9]));
    use MessageType as M;
    if matches!(kind, M::Request | M::Renew | M::Release | M::Decline) {
        options.insert(DhcpOption::ServerId(params().server_id));
    }
    for option in more {
        options.insert(option);
    }
    wire::decode(&wire::encode(&message)).unwrap()
}

fn ask(table: &mut LeaseTable6, request: &Message, now: u64) -> Decision {
    let client = identify(request, "fe80::9".parse().unwrap());
    decide(
        &params(),
        table,
        Facts {
            request,
            client: &client,
            netbooted: false,
        },
        unix(now),
    )
}

fn replied(decision: Decision) -> Reply {
    match decision {
        Decision::Reply(reply) => *reply,
        Decision::Silence(reason) => panic!("silence: {reason}"),
    }
}

fn silent(decision: Decision) -> String {
    match decision {
        Decision::Reply(reply) => panic!("answered with {:?}", reply.message),
        Decision::Silence(reason) => reason,
    }
}

fn given(message: &Message) -> Vec<(Ipv6Addr, u32)> {
    let Some(DhcpOption::IANA(ia)) = message.opts().get(OptionCode::IANA) else {
        return Vec::new();
    };
    let address = |option: &DhcpOption| match option {
        DhcpOption::IAAddr(address) => Some((address.addr, address.valid_life)),
        _ => None,
    };
    ia.opts.iter().filter_map(address).collect()
}

fn status_in(options: &DhcpOptions) -> Option<Status> {
    match options.get(OptionCode::StatusCode) {
        Some(DhcpOption::StatusCode(code)) => Some(code.status),
        _ => None,
    }
}

fn url(message: &Message) -> String {
    match message.opts().get(OptionCode::OptBootfileUrl) {
        Some(DhcpOption::Unknown(option)) => String::from_utf8(option.data().to_vec()).unwrap(),
        _ => String::new(),
    }
}

#[test]
fn firmware_gets_address_and_loader_in_four_messages() {
    let mut table = table();
    let advertise = replied(ask(
        &mut table,
        &message(MessageType::Solicit, vec![ia(5, &[]), arch(7)]),
        0,
    ));
    assert_eq!(advertise.message.msg_type(), MessageType::Advertise);
    assert_eq!(advertise.message.xid(), [7, 8, 9]);
    assert!(!advertise.lease_changed && advertise.given.is_none());
    let [(address, life)] = given(&advertise.message)[..] else {
        panic!("not one address");
    };
    assert_eq!(life, 1000);
    let request = message(MessageType::Request, vec![ia(5, &[address]), arch(7)]);
    let reply = replied(ask(&mut table, &request, 1));
    assert_eq!(reply.message.msg_type(), MessageType::Reply);
    assert_eq!((reply.given, reply.lease_changed), (Some(address), true));
    assert_eq!(given(&reply.message), [(address, 1000)]);
    assert_eq!(url(&reply.message), "tftp://[fd12:3456:789a::1]/snponly.efi");
    assert_eq!(
        reply.message.opts().get(OptionCode::DomainNameServers),
        Some(&DhcpOption::DomainNameServers(vec![
            "fd12:3456:789a::1".parse().unwrap()
        ]))
    );
    let Some(DhcpOption::IANA(ia)) = reply.message.opts().get(OptionCode::IANA) else {
        panic!("no association");
    };
    assert_eq!((ia.id, ia.t1, ia.t2), (5, 500, 800));
    assert!(reply.message.opts().get(OptionCode::VendorClass).is_none());
}

#[test]
fn rapid_commit_takes_two_messages() {
    let mut table = table();
    let solicit = message(MessageType::Solicit, vec![ia(5, &[]), arch(7), DhcpOption::RapidCommit]);
    let reply = replied(ask(&mut table, &solicit, 0));
    assert_eq!(reply.message.msg_type(), MessageType::Reply);
    assert!(reply.message.opts().get(OptionCode::RapidCommit).is_some());
    assert!(reply.lease_changed && reply.given.is_some());
}

#[test]
fn every_stage_is_sent_on_to_the_next() {
    let ipxe = DhcpOption::Unknown(UnknownOption::new(OptionCode::UserClass, b"\0\x04iPXE".to_vec()));
    let cases = [
        (vec![arch(7)], "tftp://[fd12:3456:789a::1]/snponly.efi"),
        (vec![arch(11)], "tftp://[fd12:3456:789a::1]/snponly-arm64.efi"),
        (vec![arch(16)], "http://[fd12:3456:789a::1]/loaders/snponly.efi"),
        (vec![arch(7), ipxe], "http://[fd12:3456:789a::1]/boot.ipxe"),
        (vec![arch(6)], ""),
    ];
    for (options, want) in cases {
        let mut more = vec![ia(1, &[])];
        more.extend(options.clone());
        let reply = replied(ask(&mut table(), &message(MessageType::Solicit, more), 0));
        assert_eq!(url(&reply.message), want, "{options:?}");
    }
    let http = message(MessageType::Solicit, vec![ia(1, &[]), arch(16)]);
    let client = identify(&http, "fe80::9".parse().unwrap());
    let other_port = Params {
        boot: BootSource {
            http_port: 8080,
            ..Default::default()
        },
        ..params()
    };
    let reply = replied(decide(
        &other_port,
        &mut table(),
        Facts {
            request: &http,
            client: &client,
            netbooted: false,
        },
        unix(0),
    ));
    assert_eq!(
        url(&reply.message),
        "http://[fd12:3456:789a::1]:8080/loaders/snponly.efi"
    );
    let bytes = wire::encode(&reply.message);
    assert!(
        bytes.windows(12).any(|part| part == b"\0\x0aHTTPClient"),
        "HTTP Boot wants its class back"
    );
}

#[test]
fn only_those_that_boot_from_the_network_are_answered() {
    let solicit = message(MessageType::Solicit, vec![ia(5, &[])]);
    let client = identify(&solicit, "fe80::9".parse().unwrap());
    let mut table = table();
    assert!(
        silent(decide(
            &params(),
            &mut table,
            Facts {
                request: &solicit,
                client: &client,
                netbooted: false
            },
            unix(0)
        ))
        .contains("serve-all")
    );
    assert!(table.is_empty(), "nor is an address promised");
    replied(decide(
        &params(),
        &mut table,
        Facts {
            request: &solicit,
            client: &client,
            netbooted: true,
        },
        unix(0),
    ));
    let all = Params {
        lease: LeasePolicy {
            serve_all: true,
            ..params().lease
        },
        ..params()
    };
    replied(decide(
        &all,
        &mut table,
        Facts {
            request: &solicit,
            client: &client,
            netbooted: false,
        },
        unix(0),
    ));
    for class in [super::super::PROBE_CLASS, super::super::AGENT_CLASS] {
        let ours = message(MessageType::Solicit, vec![ia(5, &[]), wire::vendor_class(343, class)]);
        let reply = replied(ask(&mut table, &ours, 0));
        assert!(
            wire::encode(&reply.message)
                .windows(MASTER_CLASS.len())
                .any(|part| part == MASTER_CLASS)
        );
    }
}

#[test]
fn identifiers_are_as_the_rfc_wants_them() {
    let mut table = table();
    let other = || DhcpOption::ServerId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 99]);
    for kind in [
        MessageType::Request,
        MessageType::Renew,
        MessageType::Release,
        MessageType::Decline,
    ] {
        let mut to_other = message(kind, vec![ia(5, &[]), arch(7)]);
        to_other.opts_mut().remove(OptionCode::ServerId);
        assert_eq!(silent(ask(&mut table, &to_other, 0)), "names no server", "{kind:?}");
        to_other.opts_mut().insert(other());
        assert_eq!(silent(ask(&mut table, &to_other, 0)), "asks another server", "{kind:?}");
    }
    for kind in [MessageType::Solicit, MessageType::Confirm, MessageType::Rebind] {
        let named = message(kind, vec![ia(5, &[]), arch(7), other()]);
        assert!(
            silent(ask(&mut table, &named, 0)).contains("names a server"),
            "{kind:?}"
        );
        let mut nameless = message(kind, vec![ia(5, &[]), arch(7)]);
        nameless.opts_mut().remove(OptionCode::ClientId);
        assert!(
            silent(ask(&mut table, &nameless, 0)).contains("no client identifier"),
            "{kind:?}"
        );
    }
    for kind in [MessageType::Advertise, MessageType::Reply, MessageType::Reconfigure] {
        assert!(silent(ask(&mut table, &message(kind, vec![arch(7)]), 0)).contains("asks nothing"));
    }
    assert!(table.is_empty());
}

#[test]
fn a_lease_is_renewed_and_what_is_not_ours_runs_out() {
    let mut table = table();
    let request = message(MessageType::Request, vec![ia(5, &[]), arch(7)]);
    let address = replied(ask(&mut table, &request, 0)).given.unwrap();
    let elsewhere: Ipv6Addr = "2001:db8::7".parse().unwrap();
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let again = message(kind, vec![ia(5, &[elsewhere, address]), arch(7)]);
        let reply = replied(ask(&mut table, &again, 900));
        let mut answer = given(&reply.message);
        answer.sort();
        assert_eq!(answer, [(elsewhere, 0), (address, 1000)], "{kind:?}");
    }
    assert_eq!(table.iter().next().unwrap().expires_unix, unix(1900));
}

#[test]
fn confirm_says_whether_the_link_is_the_same() {
    let mut table = table();
    let here = params().prefix.host(77);
    let elsewhere: Ipv6Addr = "2001:db8::7".parse().unwrap();
    for (named, want) in [
        (vec![here], Status::Success),
        (vec![elsewhere], Status::NotOnLink),
        (vec![here, elsewhere], Status::NotOnLink),
    ] {
        let reply = replied(ask(
            &mut table,
            &message(MessageType::Confirm, vec![ia(5, &named), arch(7)]),
            0,
        ));
        assert_eq!(status_in(reply.message.opts()), Some(want), "{named:?}");
        assert!(given(&reply.message).is_empty());
    }
    silent(ask(
        &mut table,
        &message(MessageType::Confirm, vec![ia(5, &[]), arch(7)]),
        0,
    ));
}

#[test]
fn what_is_given_back_is_free_or_rests() {
    let mut table = table();
    let request = message(MessageType::Request, vec![ia(5, &[]), arch(7)]);
    let address = replied(ask(&mut table, &request, 0)).given.unwrap();
    let foreign = message(MessageType::Release, vec![ia(6, &[address]), arch(7)]);
    let reply = replied(ask(&mut table, &foreign, 0));
    let Some(DhcpOption::IANA(refused)) = reply.message.opts().get(OptionCode::IANA) else {
        panic!("no association");
    };
    assert_eq!(status_in(&refused.opts), Some(Status::NoBinding));
    assert!(!reply.lease_changed && !table.is_empty());
    let release = message(MessageType::Release, vec![ia(5, &[address]), arch(7)]);
    let reply = replied(ask(&mut table, &release, 0));
    assert_eq!(status_in(reply.message.opts()), Some(Status::Success));
    assert!(reply.lease_changed && table.is_empty());
    assert_eq!(replied(ask(&mut table, &request, 1)).given, Some(address));
    replied(ask(
        &mut table,
        &message(MessageType::Decline, vec![ia(5, &[address]), arch(7)]),
        2,
    ));
    assert_ne!(replied(ask(&mut table, &request, 3)).given, Some(address));
}

#[test]
fn what_we_do_not_have_is_said() {
    let prefix = DhcpOption::IAPD(IAPD {
        id: 3,
        t1: 0,
        t2: 0,
        opts: DhcpOptions::new(),
    });
    let temporary = DhcpOption::IATA(IATA {
        id: 4,
        opts: DhcpOptions::new(),
    });
    let reply = replied(ask(
        &mut table(),
        &message(MessageType::Request, vec![prefix, temporary, arch(7)]),
        0,
    ));
    let (mut prefixes, mut addresses) = (None, None);
    for option in reply.message.opts().iter() {
        match option {
            DhcpOption::IAPD(ia) => prefixes = status_in(&ia.opts),
            DhcpOption::IATA(ia) => addresses = status_in(&ia.opts),
            _ => {}
        }
    }
    assert_eq!(
        (prefixes, addresses),
        (Some(Status::NoPrefixAvail), Some(Status::NoAddrsAvail))
    );
    let information = replied(ask(
        &mut table(),
        &message(MessageType::InformationRequest, vec![arch(7)]),
        0,
    ));
    assert_eq!(url(&information.message), "tftp://[fd12:3456:789a::1]/snponly.efi");
}

proptest! {
    #[test]
    fn any_message_is_answered_with_one_that_reads_back(
        kind in 0u8..12,
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        ours in any::<bool>(),
    ) {
        let mut request = message(kind.into(), vec![ia(5, &[]), arch(7)]);
        let mut bytes = wire::encode(&request);
        bytes.extend(tail);
        if ours {
            request = wire::decode(&bytes).unwrap();
        }
        if let Decision::Reply(reply) = ask(&mut table(), &request, 0) {
            let read = wire::decode(&wire::encode(&reply.message)).unwrap();
            prop_assert_eq!(read.xid(), request.xid());
            prop_assert!(read.opts().get(OptionCode::ServerId).is_some());
        }
    }
}

/// What two boards send whose firmware has one UUID: the same DUID (RFC 6355), and the same IAID.
#[test]
fn two_machines_with_one_duid_of_a_uuid_get_two_addresses() {
    let mut table = table();
    let mut lease = |from: &str, now: u64| {
        let mut request = message(MessageType::Solicit, vec![ia(1, &[]), arch(7), DhcpOption::RapidCommit]);
        let duid = [[0, 4].as_slice(), &[0x93; 16]].concat();
        request.opts_mut().remove(OptionCode::ClientId);
        request.opts_mut().insert(DhcpOption::ClientId(duid));
        let client = identify(&request, from.parse().unwrap());
        replied(decide(
            &params(),
            &mut table,
            Facts {
                request: &request,
                client: &client,
                netbooted: false,
            },
            unix(now),
        ))
        .given
        .unwrap()
    };
    let first = lease("fe80::d263:b4ff:fe00:1", 0);
    let second = lease("fe80::d263:b4ff:fe00:2", 1);
    assert_ne!(first, second);
    assert_eq!(lease("fe80::d263:b4ff:fe00:1", 2), first);
    assert_eq!(lease("fe80::d263:b4ff:fe00:2", 3), second);
}
