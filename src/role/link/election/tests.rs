use super::state::*;
use super::timing::*;
use super::*;
use crate::model::api::{ForeignServer, LinkMode};
use crate::model::{MacAddr, RunTime};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
const LOWER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const HIGHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn spoke(machine: MacAddr, recon: bool, boots: bool) -> Event {
    Event::Server {
        server: ForeignServer {
            address: Ipv4Addr::new(10, 0, 0, 1),
            mac: machine,
            recon,
            ours: recon,
            boots,
        },
        machine: Some(machine),
        proxies: false,
    }
}

fn foreign() -> Event {
    spoke(HIGHER, false, false)
}

fn master(machine: MacAddr) -> Event {
    spoke(machine, true, false)
}

/// What anybody can send.
fn stranger(machine: MacAddr) -> Event {
    match spoke(machine, true, false) {
        Event::Server { server, machine, .. } => Event::Server {
            server: ForeignServer { ours: false, ..server },
            machine,
            proxies: false,
        },
        other => other,
    }
}

fn rival(machine: MacAddr) -> Event {
    Event::Candidate { machine, ours: true }
}

/// Tests count seconds.
trait Hears {
    fn hears(&mut self, event: Event, now: f64) -> Vec<Action>;
}

impl Hears for Election {
    fn hears(&mut self, event: Event, now: f64) -> Vec<Action> {
        self.on(event, RunTime::from_seconds(now))
    }
}

fn fresh() -> Election {
    Election::new(US, LinkRule::Auto)
}

/// Runs the clock in quarter seconds; answers when each question went out.
fn run(election: &mut Election, from: f64, to: f64) -> Vec<f64> {
    let mut probes = Vec::new();
    let mut now = from;
    while now < to {
        if election.hears(Event::Tick, now).contains(&Action::Probe) {
            probes.push(now);
        }
        now += 0.25;
    }
    probes
}

fn serving() -> Election {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    run(&mut election, 0.25, 7.0);
    assert_eq!(election.mode(), LinkMode::Serve);
    election
}

#[test]
fn a_quiet_link_is_served_within_ten_seconds() {
    let mut election = fresh();
    assert_eq!(election.hears(Event::Tick, 0.0), []);
    assert_eq!(
        election.hears(Event::Carrier(true), 100.0),
        [Action::Probe, Action::Changed]
    );
    assert_eq!(
        run(&mut election, 100.25, 106.0),
        [100.5, 101.0, 102.0, 103.0, 104.0, 105.0]
    );
    assert_eq!(election.mode(), LinkMode::Probing);
    assert_eq!(election.hears(Event::Tick, 106.0), [Action::Changed, Action::Announce]);
    assert_eq!(election.mode(), LinkMode::Serve);
}

#[test]
fn a_foreign_server_makes_a_proxy_at_any_time_and_is_named() {
    let mut early = fresh();
    early.hears(Event::Carrier(true), 0.0);
    let mut late = serving();
    for (election, at) in [(&mut early, 3.0), (&mut late, 100.0)] {
        assert!(election.hears(foreign(), at).contains(&Action::Changed));
        assert_eq!(
            election.mode(),
            LinkMode::Probing,
            "nothing is handed out from the first word on"
        );
        run(election, at, at + BOOT_WAIT_SECONDS + 0.5);
        assert_eq!(election.mode(), LinkMode::Proxy);
        let reason = election.reason();
        assert!(
            reason.contains("10.0.0.1") && reason.contains(&HIGHER.to_string()),
            "{reason}"
        );
    }
}

#[test]
fn a_foreign_boot_service_makes_it_silent_and_its_end_a_proxy() {
    let mut election = serving();
    election.hears(foreign(), 10.0);
    election.hears(spoke(HIGHER, false, true), 10.5);
    assert_eq!(election.mode(), LinkMode::Silent);
    assert!(election.reason().contains("boots machines"), "{}", election.reason());
    for second in 0..70 {
        election.hears(foreign(), 11.0 + f64::from(second));
    }
    assert_eq!(election.mode(), LinkMode::Proxy, "it boots nobody any more");
    election.hears(spoke(LOWER, false, true), 90.0);
    assert_eq!(election.mode(), LinkMode::Silent);
}

#[test]
fn who_is_told_to_be_silent_says_nothing_ever() {
    let mut election = Election::new(US, LinkRule::Silent);
    assert_eq!(election.hears(Event::Carrier(true), 0.0), [Action::Changed]);
    for event in [foreign(), master(LOWER), rival(HIGHER), rival(LOWER)] {
        assert_eq!(election.hears(event, 1.0), []);
    }
    assert_eq!(run(&mut election, 2.0, 200.0), [0.0; 0]);
    assert_eq!(election.mode(), LinkMode::Silent);
    assert!(election.reason().contains("recon.toml"));
}

#[test]
fn who_is_told_to_proxy_never_serves_and_minds_no_other_boot_service() {
    let mut election = Election::new(US, LinkRule::Proxy);
    election.hears(Event::Carrier(true), 0.0);
    run(&mut election, 0.25, 200.0);
    assert_eq!(election.mode(), LinkMode::Silent);
    assert!(election.reason().contains("no DHCP server"), "{}", election.reason());
    election.hears(spoke(HIGHER, false, true), 200.0);
    run(&mut election, 200.0, 203.0);
    assert_eq!(election.mode(), LinkMode::Proxy);
}

#[test]
fn a_server_that_left_is_forgotten_after_a_quiet_minute() {
    let mut election = serving();
    election.hears(foreign(), 9.0);
    let probes = run(&mut election, 9.0, 9.0 + QUIET_SECONDS);
    assert!(probes.len() >= 14, "it is asked for: {probes:?}");
    assert_eq!(election.mode(), LinkMode::Proxy);
    run(&mut election, 69.0, 76.0);
    assert_eq!(election.mode(), LinkMode::Serve);
    assert_eq!(election.foreign().count(), 0);
}

#[test]
fn clients_that_take_another_server_keep_its_memory_and_raise_suspicion() {
    let theirs = Ipv4Addr::new(10, 0, 0, 1);
    let mut election = serving();
    assert_eq!(election.hears(Event::Chosen(theirs), 8.0), [Action::Probe]);
    assert_eq!(
        election.mode(),
        LinkMode::Serve,
        "a client's word alone does not end service"
    );
    election.hears(foreign(), 9.0);
    for at in 10..120 {
        election.hears(Event::Chosen(theirs), f64::from(at));
    }
    assert_eq!(election.mode(), LinkMode::Proxy);
}

#[test]
fn of_two_that_ask_the_lower_number_serves() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    assert_eq!(
        election.hears(rival(HIGHER), 1.1),
        [Action::Probe, Action::Probe],
        "it is to hear us"
    );
    assert_eq!(election.mode(), LinkMode::Probing);
    assert!(election.hears(rival(LOWER), 1.5).contains(&Action::Changed));
    assert_eq!((election.mode(), election.master()), (LinkMode::Yield, None));
    assert!(election.hears(master(LOWER), 5.0).contains(&Action::Changed));
    assert_eq!(election.master(), Some(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn a_rival_that_never_serves_is_not_waited_for() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    election.hears(rival(LOWER), 1.0);
    run(&mut election, 1.25, 1.0 + CANDIDATE_SECONDS + VERDICT_SECONDS + 1.0);
    assert_eq!(election.mode(), LinkMode::Serve);
}

#[test]
fn a_master_that_is_gone_is_followed() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    election.hears(master(HIGHER), 0.1);
    assert_eq!(election.mode(), LinkMode::Yield);
    run(&mut election, 0.25, MASTER_QUIET_SECONDS + VERDICT_SECONDS + 1.0);
    assert_eq!(election.mode(), LinkMode::Serve);
}

#[test]
fn of_two_that_serve_the_lower_number_stays_and_says_so() {
    let mut election = serving();
    assert_eq!(election.hears(master(HIGHER), 8.0), [Action::Announce]);
    assert_eq!(election.mode(), LinkMode::Serve);
    election.hears(master(LOWER), 9.0);
    assert_eq!(election.mode(), LinkMode::Yield);
}

#[test]
fn who_serves_does_not_yield_to_one_that_asks() {
    let mut election = serving();
    assert_eq!(election.hears(rival(LOWER), 8.0), [Action::Announce]);
    assert_eq!(election.mode(), LinkMode::Serve);
}

#[test]
fn of_two_masters_one_is_followed_without_a_change_at_every_word() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    election.hears(master(LOWER), 0.1);
    for at in 1..50 {
        let at = f64::from(at);
        assert!(!election.hears(master(HIGHER), at).contains(&Action::Changed));
        assert!(!election.hears(master(LOWER), at + 0.5).contains(&Action::Changed));
    }
}

#[test]
fn two_ports_on_one_network_serve_once() {
    let twin = |name: &str, before| Event::SameSegment {
        name: name.into(),
        before,
    };
    let mut election = serving();
    election.hears(twin("eno2", false), 9.0);
    assert_eq!(election.mode(), LinkMode::Serve);
    election.hears(twin("eno1", true), 9.0);
    assert_eq!(election.mode(), LinkMode::Silent);
    assert!(election.reason().contains("eno1"));
    assert_eq!(
        run(&mut election, 9.0, 9.0 + MASTER_QUIET_SECONDS),
        [0.0; 0],
        "one voice a network"
    );
    let mut proxy = serving();
    proxy.hears(foreign(), 9.0);
    run(&mut proxy, 9.0, 12.0);
    proxy.hears(twin("eno1", true), 12.0);
    assert_eq!(proxy.mode(), LinkMode::Silent);
}

#[test]
fn a_pulled_cable_starts_over() {
    let mut election = serving();
    assert_eq!(election.hears(Event::Carrier(false), 9.0), [Action::Changed]);
    assert_eq!(election.mode(), LinkMode::Down);
    assert_eq!(
        election.hears(Event::Carrier(true), 20.0),
        [Action::Probe, Action::Changed]
    );
}

#[test]
fn one_without_the_key_is_never_followed_and_only_its_staying_counts() {
    // One forged word: asked for a proof, and forgotten.
    let mut election = serving();
    assert!(election.hears(stranger(LOWER), 8.0).contains(&Action::Probe));
    run(&mut election, 8.25, 30.0);
    assert_eq!((election.mode(), election.master()), (LinkMode::Serve, None));
    // One that stays and has the lower number is a foreign server.
    for quarter in 0..20 {
        let now = 30.0 + f64::from(quarter) / 4.0;
        election.hears(stranger(LOWER), now);
        election.hears(Event::Tick, now);
        assert!(quarter < 10 || election.mode() != LinkMode::Serve, "{now}");
    }
    assert_eq!(election.mode(), LinkMode::Proxy);
    let reason = election.reason();
    assert!(
        reason.contains("site.key") && reason.contains("does not have this stick's key"),
        "{reason}"
    );
    // Proven, it is one of ours.
    election.hears(master(LOWER), 35.0);
    assert_eq!(election.mode(), LinkMode::Yield);
}

#[test]
fn a_higher_number_without_the_key_has_ten_seconds_to_give_way() {
    for stays in [3, 60] {
        let mut election = serving();
        for quarter in 0..60 {
            let now = 8.0 + f64::from(quarter) / 4.0;
            if quarter < stays {
                election.hears(stranger(HIGHER), now);
            }
            election.hears(Event::Tick, now);
            assert!(
                now - 8.0 >= CONTEST_SECONDS || election.mode() == LinkMode::Serve,
                "{now}"
            );
        }
        assert_eq!(election.mode() == LinkMode::Serve, stays == 3);
    }
}

#[test]
fn a_question_without_a_proof_is_waited_for_once_and_not_for_long() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    let forged = Event::Candidate {
        machine: LOWER,
        ours: false,
    };
    for quarter in 0..60 {
        let now = f64::from(quarter) / 4.0;
        election.hears(forged.clone(), now);
        election.hears(Event::Tick, now);
        assert_eq!(
            election.mode() == LinkMode::Serve,
            now >= VERDICT_SECONDS + START_SECONDS,
            "{now}"
        );
    }
    assert!(!election.hears(forged, 20.0).contains(&Action::Changed));
}

#[test]
fn a_master_that_proved_itself_may_say_more_without_a_proof() {
    let mut election = serving();
    election.hears(master(HIGHER), 8.0);
    for quarter in 0..60 {
        let now = 8.0 + f64::from(quarter) / 4.0;
        election.hears(stranger(HIGHER), now);
        election.hears(Event::Tick, now);
        assert_eq!(election.mode(), LinkMode::Serve, "{now}");
    }
}

fn beside(speaks: bool, follows: &[MacAddr]) -> Event {
    Event::Beside {
        speaks,
        follows: follows.to_vec(),
    }
}

/// One that asks first heard a quarter of a second before the verdict: it may be heard after it on another link.
#[test]
fn links_that_asked_together_decide_together_about_one_that_asks_late() {
    for (speaks, ours) in [(true, true), (false, true), (true, false)] {
        let late = Event::Candidate { machine: LOWER, ours };
        let mut election = fresh();
        election.hears(Event::Carrier(true), 0.0);
        run(&mut election, 0.25, 5.75);
        for quarter in 0..6 {
            let now = 5.75 + f64::from(quarter) / 4.0;
            election.hears(late.clone(), now);
            election.hears(beside(speaks, &[]), now);
            assert_eq!(election.mode(), LinkMode::Probing, "it may serve by now: {now}");
        }
        election.hears(Event::Tick, 7.25);
        election.hears(late, 7.5);
        let wanted = if speaks { LinkMode::Serve } else { LinkMode::Yield };
        assert_eq!(election.mode(), wanted);
    }
    // Both have just begun: the number counts, whatever this machine does elsewhere.
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    election.hears(beside(true, &[]), 0.25);
    election.hears(rival(LOWER), 4.75);
    assert_eq!(election.mode(), LinkMode::Yield);
}

/// What a stranger asked before makes one of ours no earlier.
#[test]
fn links_decide_together_about_one_that_asks_late_whoever_asked_early() {
    for (speaks, wanted) in [(true, LinkMode::Serve), (false, LinkMode::Yield)] {
        let mut election = fresh();
        election.hears(Event::Carrier(true), 0.0);
        run(&mut election, 0.25, 2.0);
        let early = Event::Candidate {
            machine: LOWER,
            ours: false,
        };
        election.hears(early, 2.0);
        run(&mut election, 2.25, 5.75);
        for quarter in 0..6 {
            let now = 5.75 + f64::from(quarter) / 4.0;
            election.hears(rival(LOWER), now);
            election.hears(beside(speaks, &[]), now);
            assert_eq!(election.mode(), LinkMode::Probing, "it may serve by now: {now}");
        }
        election.hears(Event::Tick, 7.25);
        election.hears(rival(LOWER), 7.5);
        assert_eq!(election.mode(), wanted);
    }
}

#[test]
fn who_speaks_beside_still_minds_a_foreign_server_and_a_stranger() {
    for word in [foreign(), stranger(LOWER)] {
        let mut election = fresh();
        election.hears(Event::Carrier(true), 0.0);
        run(&mut election, 0.25, 5.25);
        election.hears(beside(true, &[]), 5.25);
        for quarter in 0..40 {
            let now = 5.25 + f64::from(quarter) / 4.0;
            election.hears(word.clone(), now);
            if quarter < 20 {
                election.hears(
                    Event::Candidate {
                        machine: LOWER,
                        ours: false,
                    },
                    now,
                );
            }
            election.hears(Event::Tick, now);
            assert_ne!(election.mode(), LinkMode::Serve, "{now}");
        }
        assert_eq!(election.mode(), LinkMode::Proxy);
    }
}

#[test]
fn of_two_that_share_out_their_links_the_higher_number_gives_way() {
    let unproven = Event::Candidate {
        machine: LOWER,
        ours: false,
    };
    let cases = [
        (rival(LOWER), vec![LOWER], LinkMode::Yield),
        (rival(LOWER), vec![HIGHER, LOWER], LinkMode::Yield),
        (rival(LOWER), vec![HIGHER], LinkMode::Serve),
        (rival(LOWER), vec![], LinkMode::Serve),
        (rival(HIGHER), vec![HIGHER], LinkMode::Serve),
        (unproven, vec![LOWER], LinkMode::Serve),
    ];
    for (asks, follows, wanted) in cases {
        let mut election = serving();
        election.hears(beside(false, &follows), 8.0);
        election.hears(asks.clone(), 8.0);
        assert_eq!(
            (election.mode(), election.master()),
            (wanted, None),
            "{asks:?} {follows:?}"
        );
        // The lower number never serves after all: this machine does again.
        run(&mut election, 8.25, 8.0 + CANDIDATE_SECONDS + VERDICT_SECONDS + 1.0);
        assert_eq!(election.mode(), LinkMode::Serve);
    }
}

#[test]
fn a_master_counts_as_followed_once_it_was_for_long() {
    let mut election = fresh();
    election.hears(Event::Carrier(true), 0.0);
    for second in 1..40 {
        let now = f64::from(second);
        election.hears(master(LOWER), now);
        let follows = if now < 31.0 { vec![] } else { vec![LOWER] };
        let wanted = Event::Beside { speaks: false, follows };
        assert_eq!(
            Event::beside([&election].into_iter(), RunTime::from_seconds(now)),
            wanted
        );
    }
    let serving = serving();
    assert_eq!(
        Event::beside([&serving, &election].into_iter(), RunTime::from_seconds(40.0)),
        beside(true, &[LOWER])
    );
}

#[test]
fn a_master_that_may_have_to_give_way_is_asked_back() {
    for (speaks, machine) in [(true, HIGHER), (false, HIGHER), (true, LOWER)] {
        let mut election = fresh();
        election.hears(Event::Carrier(true), 0.0);
        election.hears(master(machine), 0.1);
        election.hears(beside(speaks, &[]), 0.2);
        let asked = election.hears(rival(machine), 1.0).contains(&Action::Probe);
        assert_eq!(asked, speaks && machine == HIGHER);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let machine = prop_oneof![Just(LOWER), Just(HIGHER)];
    prop_oneof![
        any::<bool>().prop_map(Event::Carrier),
        (machine.clone(), any::<bool>(), any::<bool>()).prop_map(|(machine, recon, boots)| spoke(
            machine,
            recon,
            boots && !recon
        )),
        (machine.clone(), any::<bool>()).prop_map(|(machine, ours)| Event::Candidate { machine, ours }),
        machine.prop_map(stranger),
        any::<bool>().prop_map(|before| Event::SameSegment {
            name: "eno1".into(),
            before
        }),
        Just(Event::Chosen(Ipv4Addr::new(10, 0, 0, 1))),
        (any::<bool>(), any::<bool>()).prop_map(|(speaks, follows)| beside(speaks, &[LOWER][..usize::from(follows)])),
        Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn nobody_serves_soon_after_hearing_a_foreign_server(
        events in proptest::collection::vec((any_event(), 0.0f64..5.0), 1..80)
    ) {
        let mut election = fresh();
        let (mut now, mut heard, mut up, mut left) = (0.0, f64::NEG_INFINITY, false, f64::NEG_INFINITY);
        for (event, later) in events {
            now += later;
            match &event {
                Event::Carrier(state) => {
                    // A new carrier is a new network: what was heard on the old one does not count.
                    if !state || !up { heard = f64::NEG_INFINITY; }
                    up = *state;
                }
                Event::Server { server, .. } if !server.recon && up => heard = now,
                _ => {}
            }
            // Who follows a master, or the port beside, leaves foreign servers to it, and asks anew when that one is gone.
            let beside = |election: &Election| election.mode() == LinkMode::Yield || election.reason().contains("same network");
            let before = beside(&election);
            election.hears(event, now);
            if before || beside(&election) {
                left = now;
            }
            let long = if left >= heard { VERDICT_SECONDS } else { QUIET_SECONDS };
            prop_assert!(election.mode() != LinkMode::Serve || now - heard.max(left) >= long);
            prop_assert!(up || election.mode() == LinkMode::Down);
        }
    }
}
