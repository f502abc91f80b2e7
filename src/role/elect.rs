//! What to do on one link: serve, stay silent, or yield. A pure state machine; time is seconds of a monotonic clock.
//!
//! A link is asked who serves it, then decided within [`VERDICT_SECONDS`] of carrier, and watched for ever after:
//! a foreign DHCP server that shows up ends our service there, and a quiet link is asked anew. Of two recon machines that
//! ask at once the lower MAC wins; one that serves already wins over one that asks, because it answers.

use std::net::Ipv4Addr;

use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode};

/// Something that happened to the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Carrier(bool),
    /// A DHCP server that is not ours spoke.
    Server(ForeignServer),
    /// Another recon machine asks who serves.
    Rival(MacAddr),
    /// A packet of another port of this machine came in: both hang on one network. Its name, and whether it comes
    /// before this port in the kernel's order.
    Twin {
        name: String,
        before: bool,
    },
    /// Time passed.
    Tick,
}

/// What the driver of the link has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask who serves.
    Probe,
    /// The mode changed; start or stop services accordingly.
    Changed,
}

/// A silent link is decided after this many seconds. Servers that ping an address before they offer it take 1 s (ISC)
/// to 3 s (dnsmasq); the last question leaves them 2 s more.
pub const VERDICT_SECONDS: f64 = 6.0;
/// When the questions go out, in seconds after carrier.
const PROBE_SECONDS: [f64; 4] = [0.0, 1.0, 2.0, 4.0];
/// A decided link is asked again this often.
const WATCH_SECONDS: f64 = 10.0;
/// A foreign server that says nothing for this long is gone: six questions unanswered.
const QUIET_SECONDS: f64 = 60.0;
/// A rival that announced itself has this long to serve.
const RIVAL_SECONDS: f64 = 15.0;
/// Servers kept by name; more on one link are counted by nobody.
const MAX_FOREIGN: usize = 8;

/// The state of one link.
#[derive(Debug)]
pub struct Election {
    mac: MacAddr,
    state: State,
    foreign: Vec<ForeignServer>,
    /// When the last question went out.
    probed: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Down,
    Probing {
        since: f64,
        sent: usize,
    },
    Serve,
    Silent {
        heard: f64,
    },
    Twin {
        name: String,
        heard: f64,
    },
    Yield {
        rival: MacAddr,
        master: Option<Ipv4Addr>,
        until: f64,
    },
}

impl Election {
    pub fn new(mac: MacAddr) -> Self {
        Election {
            mac,
            state: State::Down,
            foreign: Vec::new(),
            probed: 0.0,
        }
    }

    pub fn mode(&self) -> LinkMode {
        match self.state {
            State::Down => LinkMode::Down,
            State::Probing { .. } => LinkMode::Probing,
            State::Serve => LinkMode::Serve,
            State::Silent { .. } | State::Twin { .. } => LinkMode::Silent,
            State::Yield { .. } => LinkMode::Yield,
        }
    }

    /// The recon master this link yields to, once it has spoken.
    pub fn master(&self) -> Option<Ipv4Addr> {
        match self.state {
            State::Yield { master, .. } => master,
            _ => None,
        }
    }

    pub fn foreign(&self) -> &[ForeignServer] {
        &self.foreign
    }

    /// Plain sentence: why this mode.
    pub fn reason(&self) -> String {
        match &self.state {
            State::Down => "no carrier: plug in a cable or check the switch port".to_owned(),
            State::Probing { .. } => "asking who serves this network".to_owned(),
            State::Serve => "no other DHCP server answered: this machine serves".to_owned(),
            State::Silent { .. } => {
                let names: Vec<String> = self
                    .foreign
                    .iter()
                    .map(|server| format!("{} ({})", server.address, server.mac))
                    .collect();
                format!(
                    "another DHCP server is here: {}; nothing is handed out",
                    names.join(", ")
                )
            }
            State::Twin { name, .. } => format!("on the same network as {name}, which speaks for both"),
            State::Yield {
                master: Some(master), ..
            } => format!("recon master {master} serves this network"),
            State::Yield { rival, .. } => format!("recon machine {rival} is about to serve this network"),
        }
    }

    /// Takes one event; the actions are to be done in order.
    pub fn on(&mut self, event: Event, now: f64) -> Vec<Action> {
        let before = self.state.clone();
        let mut actions = Vec::new();
        match event {
            Event::Carrier(true) if before == State::Down => self.ask_anew(now),
            Event::Carrier(true) => {}
            Event::Carrier(false) => {
                self.state = State::Down;
                self.foreign.clear();
            }
            Event::Server(server) => self.server(server, now),
            Event::Rival(rival) => {
                if matches!(self.state, State::Probing { .. }) && rival < self.mac {
                    self.state = State::Yield {
                        rival,
                        master: None,
                        until: now + RIVAL_SECONDS,
                    };
                }
            }
            Event::Twin { name, before: true } => match &mut self.state {
                State::Probing { .. } | State::Serve => self.state = State::Twin { name, heard: now },
                State::Twin { heard, .. } => *heard = now,
                _ => {}
            },
            Event::Twin { before: false, .. } => {}
            Event::Tick => {}
        }
        if self.due(now) {
            self.probed = now;
            actions.push(Action::Probe);
        }
        if changes_mode(&before, &self.state) {
            actions.push(Action::Changed);
        }
        actions
    }

    fn server(&mut self, server: ForeignServer, now: f64) {
        if self.state == State::Down {
            return;
        }
        let (address, mac, recon) = (server.address, server.mac, server.recon);
        // One MAC that speaks from several addresses, or the other way round, is several lines on screen.
        if !self.foreign.contains(&server) && self.foreign.len() < MAX_FOREIGN {
            self.foreign.push(server);
        }
        self.state = match &self.state {
            // Foreign servers outweigh recon masters: silence does no harm.
            _ if !recon => State::Silent { heard: now },
            State::Silent { heard } => State::Silent { heard: *heard },
            // Two networks that each had a master grew together.
            State::Serve if self.mac < mac => State::Serve,
            _ => State::Yield {
                rival: mac,
                master: Some(address),
                until: now + QUIET_SECONDS,
            },
        };
    }

    /// Moves the clocks; true when a question is due.
    fn due(&mut self, now: f64) -> bool {
        match &mut self.state {
            State::Down => false,
            State::Probing { since, sent } => {
                let elapsed = now - *since;
                if elapsed >= VERDICT_SECONDS {
                    self.state = State::Serve;
                    return false;
                }
                let due = PROBE_SECONDS.get(*sent).is_some_and(|at| elapsed >= *at);
                *sent += usize::from(due);
                due
            }
            State::Silent { heard } | State::Twin { heard, .. } if now - *heard >= QUIET_SECONDS => {
                self.ask_anew(now);
                self.due(now)
            }
            State::Yield { until, .. } if now >= *until => {
                self.ask_anew(now);
                self.due(now)
            }
            State::Yield { master: None, .. } => now - self.probed >= 1.0,
            _ => now - self.probed >= WATCH_SECONDS,
        }
    }

    fn ask_anew(&mut self, now: f64) {
        self.foreign.clear();
        self.state = State::Probing { since: now, sent: 0 };
    }
}

/// Whether the driver has to act; a clock that moved within a state is no change.
fn changes_mode(before: &State, after: &State) -> bool {
    match (before, after) {
        (State::Yield { master: a, .. }, State::Yield { master: b, .. }) => a != b,
        _ => std::mem::discriminant(before) != std::mem::discriminant(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
    const LOWER: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const HIGHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn foreign(mac: MacAddr, recon: bool) -> Event {
        Event::Server(ForeignServer {
            address: Ipv4Addr::new(10, 0, 0, 1),
            mac,
            recon,
        })
    }

    /// Runs the clock in quarter seconds; answers when each question went out.
    fn run(election: &mut Election, from: f64, to: f64) -> Vec<f64> {
        let mut probes = Vec::new();
        let mut now = from;
        while now < to {
            if election.on(Event::Tick, now).contains(&Action::Probe) {
                probes.push(now);
            }
            now += 0.25;
        }
        probes
    }

    fn serving() -> Election {
        let mut election = Election::new(US);
        election.on(Event::Carrier(true), 0.0);
        run(&mut election, 0.25, 8.0);
        assert_eq!(election.mode(), LinkMode::Serve);
        election
    }

    #[test]
    fn a_quiet_link_is_served_within_ten_seconds() {
        let mut election = Election::new(US);
        assert_eq!(election.on(Event::Tick, 0.0), []);
        assert_eq!(
            election.on(Event::Carrier(true), 100.0),
            [Action::Probe, Action::Changed]
        );
        assert_eq!(run(&mut election, 100.25, 106.0), [101.0, 102.0, 104.0]);
        assert_eq!(election.mode(), LinkMode::Probing);
        assert_eq!(election.on(Event::Tick, 106.0), [Action::Changed]);
        assert_eq!(election.mode(), LinkMode::Serve);
    }

    #[test]
    fn a_foreign_server_silences_us_at_any_time_and_is_named() {
        let mut election = Election::new(US);
        election.on(Event::Carrier(true), 0.0);
        assert_eq!(election.on(foreign(HIGHER, false), 3.0), [Action::Changed]);
        assert_eq!(election.mode(), LinkMode::Silent);
        assert!(election.reason().contains("10.0.0.1") && election.reason().contains(&HIGHER.to_string()));
        let mut election = serving();
        assert!(election.on(foreign(HIGHER, false), 9.0).contains(&Action::Changed));
        assert_eq!(election.mode(), LinkMode::Silent);
    }

    #[test]
    fn a_server_that_left_is_forgotten_after_a_quiet_minute() {
        let mut election = serving();
        election.on(foreign(HIGHER, false), 9.0);
        let probes = run(&mut election, 9.0, 9.0 + QUIET_SECONDS);
        assert!(probes.len() >= 5, "it is asked for: {probes:?}");
        assert_eq!(election.mode(), LinkMode::Silent);
        run(&mut election, 69.0, 76.0);
        assert_eq!(election.mode(), LinkMode::Serve);
        assert!(election.foreign().is_empty());
    }

    #[test]
    fn of_two_that_ask_the_lower_mac_serves() {
        let mut election = Election::new(US);
        election.on(Event::Carrier(true), 0.0);
        election.on(Event::Rival(HIGHER), 1.0);
        assert_eq!(election.mode(), LinkMode::Probing);
        assert!(election.on(Event::Rival(LOWER), 1.5).contains(&Action::Changed));
        assert_eq!((election.mode(), election.master()), (LinkMode::Yield, None));
        assert!(election.on(foreign(LOWER, true), 5.0).contains(&Action::Changed));
        assert_eq!(election.master(), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_rival_that_never_serves_is_not_waited_for() {
        let mut election = Election::new(US);
        election.on(Event::Carrier(true), 0.0);
        election.on(Event::Rival(LOWER), 1.0);
        run(&mut election, 1.25, 1.0 + RIVAL_SECONDS + VERDICT_SECONDS + 1.0);
        assert_eq!(election.mode(), LinkMode::Serve);
    }

    #[test]
    fn of_two_that_serve_the_lower_mac_stays() {
        let mut election = serving();
        election.on(foreign(HIGHER, true), 9.0);
        assert_eq!(election.mode(), LinkMode::Serve);
        election.on(foreign(LOWER, true), 9.0);
        assert_eq!(election.mode(), LinkMode::Yield);
    }

    #[test]
    fn who_serves_does_not_yield_to_one_that_asks() {
        let mut election = serving();
        election.on(Event::Rival(LOWER), 9.0);
        assert_eq!(election.mode(), LinkMode::Serve);
    }

    #[test]
    fn two_ports_on_one_network_serve_once() {
        let mut election = serving();
        election.on(
            Event::Twin {
                name: "eno2".into(),
                before: false,
            },
            9.0,
        );
        assert_eq!(election.mode(), LinkMode::Serve);
        election.on(
            Event::Twin {
                name: "eno1".into(),
                before: true,
            },
            9.0,
        );
        assert_eq!(election.mode(), LinkMode::Silent);
        assert!(election.reason().contains("eno1"));
    }

    #[test]
    fn a_pulled_cable_starts_over() {
        let mut election = serving();
        assert_eq!(election.on(Event::Carrier(false), 9.0), [Action::Changed]);
        assert_eq!(election.mode(), LinkMode::Down);
        assert_eq!(
            election.on(Event::Carrier(true), 20.0),
            [Action::Probe, Action::Changed]
        );
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let mac = prop_oneof![Just(LOWER), Just(HIGHER)];
        prop_oneof![
            any::<bool>().prop_map(Event::Carrier),
            (mac.clone(), any::<bool>()).prop_map(|(mac, recon)| foreign(mac, recon)),
            mac.prop_map(Event::Rival),
            any::<bool>().prop_map(|before| Event::Twin {
                name: "eno1".into(),
                before
            }),
            Just(Event::Tick),
        ]
    }

    proptest! {
        #[test]
        fn nobody_serves_within_a_minute_of_hearing_a_foreign_server(
            events in proptest::collection::vec((any_event(), 0.0f64..5.0), 1..80)
        ) {
            let mut election = Election::new(US);
            let (mut now, mut heard, mut up) = (0.0, f64::NEG_INFINITY, false);
            for (event, later) in events {
                now += later;
                match &event {
                    Event::Carrier(state) => {
                        // A new carrier is a new network: what was heard on the old one does not count.
                        if !state || !up { heard = f64::NEG_INFINITY; }
                        up = *state;
                    }
                    Event::Server(server) if !server.recon && up => heard = now,
                    _ => {}
                }
                election.on(event, now);
                prop_assert!(election.mode() != LinkMode::Serve || now - heard >= QUIET_SECONDS);
                prop_assert!(up || election.mode() == LinkMode::Down);
            }
        }
    }
}
