use std::collections::HashMap;

use dhcproto::v4::Flags;
use proptest::prelude::*;

use super::super::client::{Client, identify};
use super::super::testing::{params, table, unix};
use super::*;
use crate::model::MacAddr;
use crate::store::leases::journal;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 3);

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 219, last)
}

/// What a client says, by the fields that tell its state. It asks for broadcasts, as one that hears nothing else does.
#[derive(Debug, Clone)]
struct Said {
    who: u8,
    kind: MessageType,
    /// Option 50.
    wish: Option<Ipv4Addr>,
    /// Option 54.
    server: Option<Ipv4Addr>,
    /// `ciaddr`.
    own: Option<Ipv4Addr>,
    /// `giaddr`.
    relay: Option<Ipv4Addr>,
}

impl Said {
    fn by(who: u8, kind: MessageType) -> Self {
        Said {
            who,
            kind,
            wish: None,
            server: None,
            own: None,
            relay: None,
        }
    }

    fn wish(self, wish: Ipv4Addr) -> Self {
        Said {
            wish: Some(wish),
            ..self
        }
    }

    fn to(self, server: Ipv4Addr) -> Self {
        Said {
            server: Some(server),
            ..self
        }
    }

    fn with(self, own: Ipv4Addr) -> Self {
        Said { own: Some(own), ..self }
    }

    fn through(self, relay: Ipv4Addr) -> Self {
        Said {
            relay: Some(relay),
            ..self
        }
    }

    fn message(&self) -> Message {
        let mut message = Message::default();
        message
            .set_chaddr(&mac(self.who).0)
            .set_flags(Flags::default().set_broadcast())
            .set_ciaddr(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED))
            .set_giaddr(self.relay.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(self.kind));
        options.insert(DhcpOption::ClassIdentifier(
            b"PXEClient:Arch:00007:UNDI:003000".to_vec(),
        ));
        if let Some(wish) = self.wish {
            options.insert(DhcpOption::RequestedIpAddress(wish));
        }
        if let Some(server) = self.server {
            options.insert(DhcpOption::ServerIdentifier(server));
        }
        message
    }
}

/// The answer's kind, its address and where it goes.
fn answer(leases: &mut LeaseTable, said: &Said, now: u64) -> Option<(MessageType, Ipv4Addr, String)> {
    match decide_on(&params(), leases, &said.message(), unix(now)) {
        Decision::Reply(reply) => Some((
            reply.message.opts().msg_type().unwrap(),
            reply.message.yiaddr(),
            reply.to.to_string(),
        )),
        _ => None,
    }
}

fn bound(leases: &mut LeaseTable, who: u8, at: Ipv4Addr) {
    leases.bind(mac(who), at, unix(1000));
    leases.take_changes();
}

const ALL: &str = "255.255.255.255:68";
use MessageType::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};

#[test]
fn selecting_takes_what_was_offered_and_nothing_else() {
    let mut leases = table();
    let (kind, offered, to) = answer(&mut leases, &Said::by(1, Discover), 0).unwrap();
    assert_eq!((kind, to.as_str()), (Offer, ALL));
    assert!(leases.take_changes().is_empty(), "an offer is no lease");
    let taken = leases.choose(mac(2), None, unix(0)).unwrap();
    bound(&mut leases, 2, taken);
    let wrong = answer(&mut leases, &Said::by(1, Request).to(SERVER).wish(taken), 0).unwrap();
    assert_eq!(wrong, (Nak, Ipv4Addr::UNSPECIFIED, ALL.to_owned()));
    let right = answer(&mut leases, &Said::by(1, Request).to(SERVER).wish(offered), 0).unwrap();
    assert_eq!(right, (Ack, offered, ALL.to_owned()));
    assert_eq!(leases.take_changes().len(), 1, "and that must be durable first");
}

#[test]
fn who_can_hear_it_gets_its_answer_alone() {
    let mut leases = table();
    let reply = |leases: &mut LeaseTable, said: &Said| {
        let mut message = said.message();
        message.set_flags(Flags::default());
        match decide_on(&params(), leases, &message, unix(0)) {
            Decision::Reply(reply) => *reply,
            other => panic!("{other:?}"),
        }
    };
    let offer = reply(&mut leases, &Said::by(1, Discover));
    let offered = offer.message.yiaddr();
    assert_eq!((offer.to, offer.alone), (SocketAddrV4::new(offered, 68), Some(mac(1))));
    // One that asks again without taking it did not hear that.
    let mut message = Said::by(1, Discover).message();
    message.set_flags(Flags::default());
    let client = identify(&message).unwrap();
    let facts = Facts {
        ignored_offers: 1,
        ..Facts::new(&message, &client)
    };
    let Decision::Reply(again) = decide(&params(), &mut leases, &facts, unix(0)) else {
        panic!("no second offer");
    };
    assert_eq!((again.to.to_string().as_str(), again.alone), (ALL, None));
    let ack = reply(&mut leases, &Said::by(1, Request).to(SERVER).wish(offered));
    assert_eq!((ack.to, ack.alone), (SocketAddrV4::new(offered, 68), Some(mac(1))));
    for said in [
        Said::by(1, Request).wish(Ipv4Addr::new(10, 0, 0, 1)),
        Said::by(1, Request).with(offered),
        Said::by(1, Discover).through(RELAY),
    ] {
        assert_eq!(reply(&mut leases, &said).alone, None, "{said:?}");
    }
}

#[test]
fn who_takes_another_offer_frees_ours_and_keeps_its_lease() {
    let mut leases = table();
    answer(&mut leases, &Said::by(1, Discover), 0);
    let elsewhere = Said::by(1, Request)
        .to(Ipv4Addr::new(10, 0, 0, 1))
        .wish(Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(answer(&mut leases, &elsewhere, 0), None);
    assert_eq!(leases.iter().count(), 0);
    bound(&mut leases, 1, address(40));
    assert_eq!(answer(&mut leases, &elsewhere, 0), None);
    assert_eq!(leases.get(mac(1)).unwrap().address, address(40));
}

#[test]
fn init_reboot_is_confirmed_refused_or_left_alone() {
    let mut leases = table();
    bound(&mut leases, 1, address(40));
    let ask = |who, wish| Said::by(who, Request).wish(wish);
    let cases = [
        (ask(1, address(40)), Some(Ack), "its own"),
        (ask(1, address(41)), Some(Nak), "another of the pool"),
        (ask(1, Ipv4Addr::new(10, 0, 0, 1)), Some(Nak), "another network"),
        (ask(2, address(40)), None, "no record of it"),
        (ask(2, address(41)), None, "no record of it, though free"),
        (
            ask(2, Ipv4Addr::new(10, 0, 0, 1)),
            Some(Nak),
            "no record, another network",
        ),
        (Said::by(1, Request), None, "no address at all"),
    ];
    for (said, want, why) in cases {
        let got = answer(&mut leases.clone(), &said, 0);
        assert_eq!(got.as_ref().map(|(kind, ..)| *kind), want, "{why}");
        assert!(got.is_none_or(|(_, _, to)| to == ALL), "{why}");
    }
}

#[test]
fn renewing_and_rebinding_go_to_the_address_in_use() {
    let mut leases = table();
    bound(&mut leases, 1, address(40));
    let renew = |who, own| Said::by(who, Request).with(own);
    assert_eq!(
        answer(&mut leases, &renew(1, address(40)), 500),
        Some((Ack, address(40), "192.168.219.40:68".to_owned()))
    );
    assert_eq!(leases.get(mac(1)).unwrap().expires_unix, unix(500 + 3600));
    assert_eq!(
        answer(&mut leases, &renew(2, address(40)), 500),
        Some((Nak, Ipv4Addr::UNSPECIFIED, ALL.to_owned())),
        "somebody else's; a refusal is for all, as its address is in doubt"
    );
    // Known before a restart without a medium, and free.
    assert_eq!(answer(&mut leases, &renew(3, address(60)), 500).unwrap().0, Ack);
    assert_eq!(answer(&mut leases, &renew(4, address(1)), 500).unwrap().0, Nak, "ours");
}

#[test]
fn inform_tells_all_but_gives_nothing() {
    let mut leases = table();
    let Decision::Reply(reply) = decide_on(
        &params(),
        &mut leases,
        &Said::by(1, Inform).with(address(9)).message(),
        unix(0),
    ) else {
        panic!("no answer");
    };
    assert_eq!(reply.to, "192.168.219.9:68".parse().unwrap());
    assert_eq!(reply.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert!(reply.message.opts().get(OptionCode::AddressLeaseTime).is_none());
    assert!(reply.message.opts().get(OptionCode::SubnetMask).is_some());
    assert_eq!(leases.iter().count(), 0);
    assert_eq!(answer(&mut leases, &Said::by(1, Inform), 0), None, "from nowhere");
}

#[test]
fn decline_and_release_count_for_their_server_and_holder() {
    let mut leases = table();
    bound(&mut leases, 1, address(40));
    let other = Ipv4Addr::new(10, 0, 0, 1);
    for said in [
        Said::by(1, Decline).wish(address(40)).to(other),
        Said::by(2, Decline).wish(address(40)).to(SERVER),
        Said::by(1, Release).with(address(40)).to(other),
        Said::by(1, Release).with(address(41)).to(SERVER),
        Said::by(2, Release).with(address(40)).to(SERVER),
    ] {
        assert_eq!(answer(&mut leases, &said, 0), None);
        assert_eq!(
            leases.get(mac(1)).map(|lease| lease.expires_unix),
            Some(unix(1000)),
            "{said:?}"
        );
    }
    assert_eq!(
        answer(&mut leases, &Said::by(1, Release).with(address(40)).to(SERVER), 0),
        None
    );
    assert_eq!(leases.choose(mac(2), Some(address(40)), unix(0)), Some(address(40)));
    bound(&mut leases, 3, address(50));
    assert_eq!(
        answer(&mut leases, &Said::by(3, Decline).wish(address(50)).to(SERVER), 0),
        None
    );
    assert_ne!(leases.choose(mac(3), Some(address(50)), unix(0)), Some(address(50)));
}

#[test]
fn everything_through_a_relay_goes_back_to_its_server_port() {
    let mut leases = table();
    let to = |answer: Option<(MessageType, Ipv4Addr, String)>| answer.map(|(kind, _, to)| (kind, to));
    let relayed = "192.168.219.3:67".to_owned();
    let discover = Said::by(1, Discover).through(RELAY);
    assert_eq!(to(answer(&mut leases, &discover, 0)), Some((Offer, relayed.clone())));
    let offered = leases.offered(mac(1)).unwrap();
    let request = Said::by(1, Request).to(SERVER).wish(offered).through(RELAY);
    assert_eq!(to(answer(&mut leases, &request, 0)), Some((Ack, relayed.clone())));
    let wrong = Said::by(1, Request).wish(Ipv4Addr::new(10, 0, 0, 1)).through(RELAY);
    assert_eq!(to(answer(&mut leases, &wrong, 0)), Some((Nak, relayed)));
    let Decision::Reply(nak) = decide_on(&params(), &mut leases, &wrong.message(), unix(0)) else {
        panic!("no answer");
    };
    assert!(
        nak.message.flags().broadcast(),
        "the relay has to broadcast a refusal (RFC 2131 §4.3.2)"
    );
    assert_eq!(nak.message.giaddr(), RELAY);
    for stranger in [Ipv4Addr::new(10, 0, 0, 254), SERVER] {
        assert_eq!(answer(&mut leases, &Said::by(2, Discover).through(stranger), 0), None);
    }
}

#[test]
fn one_port_has_one_address_whatever_it_calls_itself() {
    // RFC 4361 identifiers of an initrd, an installed system and firmware: the reply names what the request named
    // (RFC 6842), and the address is the port's.
    let mut leases = table();
    let mut addresses = Vec::new();
    let ids: [&[u8]; 3] = [&[1, 2, 0, 0, 0, 0, 1], &[255, 1, 2, 3, 4, 0, 1, 9, 9], &[0, 7]];
    for id in ids {
        let mut request = Said::by(1, Discover).message();
        request.opts_mut().insert(DhcpOption::ClientIdentifier(id.to_vec()));
        let Decision::Reply(reply) = decide_on(&params(), &mut leases, &request, unix(0)) else {
            panic!("no answer");
        };
        assert_eq!(
            reply.message.opts().get(OptionCode::ClientIdentifier),
            Some(&DhcpOption::ClientIdentifier(id.to_vec()))
        );
        addresses.push(reply.message.yiaddr());
    }
    addresses.dedup();
    assert_eq!(addresses.len(), 1);
}

#[test]
fn a_machine_that_looks_for_servers_takes_no_address() {
    let mut leases = table();
    let mut probe = Said::by(1, Discover).message();
    probe
        .opts_mut()
        .insert(DhcpOption::ClassIdentifier(super::super::PROBE_CLASS.to_vec()));
    leases.probe_first();
    let Decision::Reply(reply) = decide_on(&params(), &mut leases, &probe, unix(0)) else {
        panic!("no answer");
    };
    assert_eq!(reply.probe, None, "and does not wait");
    assert_eq!(leases.iter().count(), 0);
}

fn said() -> impl Strategy<Value = Said> {
    let near = || (20u8..26).prop_map(address);
    let maybe = || proptest::option::weighted(0.6, near());
    let kind = prop_oneof![4 => Just(Discover), 6 => Just(Request), 1 => Just(Release), 1 => Just(Decline)];
    let server = prop_oneof![3 => Just(Some(SERVER)), 2 => Just(None), 1 => Just(Some(Ipv4Addr::new(10, 0, 0, 1)))];
    (1u8..9, kind, maybe(), server, proptest::option::weighted(0.3, near())).prop_map(
        |(who, kind, wish, server, own)| Said {
            who,
            kind,
            wish,
            server,
            own,
            relay: None,
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Said(Said),
    /// The medium has everything up to here.
    Synced,
    /// The power goes; of what was not synced, this part reached the medium.
    Cut(prop::sample::Index),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => said().prop_map(Step::Said),
        3 => Just(Step::Synced),
        1 => any::<prop::sample::Index>().prop_map(Step::Cut),
        2 => (1u64..2000).prop_map(Step::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever clients say and whenever the power goes: an address that was acknowledged to one machine is not
    /// acknowledged to another before its time is over, unless the machine gave it up.
    #[test]
    fn no_address_is_leased_twice_after_any_cut(steps in proptest::collection::vec(step(), 1..120)) {
        let pool = || (address(20), address(25));
        let mut leases = LeaseTable::new(pool().0, pool().1, []);
        let (mut number, mut now) = (1u64, 0u64);
        let mut medium = journal::begin("j1", number, &journal::Book::default());
        let mut unsynced = Vec::new();
        // Acknowledged and not yet sent, then what clients were told: address → machine and end.
        let mut waiting: Vec<(Ipv4Addr, u8, u64)> = Vec::new();
        let mut told: HashMap<Ipv4Addr, (u8, u64)> = HashMap::new();
        for step in steps {
            match step {
                Step::Later(seconds) => now += seconds,
                Step::Said(said) => {
                    // A machine that gives its address up does not use it any more, whether or not that is remembered.
                    let given_up = match said.kind {
                        Release => said.own,
                        Decline => said.wish,
                        _ => None,
                    };
                    if let Some(given_up) = given_up
                        && told.get(&given_up).is_some_and(|(who, _)| *who == said.who)
                    {
                        told.remove(&given_up);
                    }
                    let got = answer(&mut leases, &said, now);
                    let changes = leases.take_changes();
                    journal::append(&format!("j{number}"), &changes, &mut unsynced);
                    if let Some((Ack, address, _)) = got {
                        prop_assert!(!changes.is_empty());
                        waiting.push((address, said.who, now + 3600));
                    }
                }
                Step::Synced => {
                    medium.append(&mut unsynced);
                    for (address, who, end) in waiting.drain(..) {
                        // The loop looks once more before a reply leaves.
                        if !leases.is_reserved_for(mac(who), address, unix(now)) {
                            continue;
                        }
                        if let Some((before, until)) = told.get(&address) {
                            prop_assert!(*before == who || *until <= now, "{} of {} given to {}", address, before, who);
                        }
                        // A machine has one address: it left the one before.
                        told.retain(|_, (other, _)| *other != who);
                        told.insert(address, (who, end));
                    }
                }
                Step::Cut(at) => {
                    waiting.clear();
                    let reached = at.index(unsynced.len() + 1);
                    medium.extend(&unsynced[..reached]);
                    unsynced.clear();
                    let (known, _) = journal::read(&medium, number).unwrap();
                    number += 1;
                    medium = journal::begin(&format!("j{number}"), number, &known);
                    leases = LeaseTable::new(pool().0, pool().1, known.leases().cloned());
                    leases.restore_abandoned(known.abandoned());
                }
            }
        }
    }
}

#[test]
fn a_person_is_told_once_of_firmware_that_takes_no_offer() {
    let message = Said::by(1, Discover).message();
    let client = Client {
        kind: Kind::Pxe(crate::model::Arch::Bios),
        ..identify(&message).unwrap()
    };
    let told: Vec<u32> = (0..9)
        .filter(|ignored_offers| {
            let facts = Facts {
                ignored_offers: *ignored_offers,
                ..Facts::new(&message, &client)
            };
            match decide(&params(), &mut table(), &facts, unix(0)) {
                Decision::Reply(reply) => reply.first_minimal_offer,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(told, [MINIMAL_OFFER_AFTER]);
}
