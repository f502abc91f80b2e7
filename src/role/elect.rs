//! What to do on one link: serve, proxy, yield or stay silent. A pure state machine; time is seconds of a monotonic clock.
//!
//! A link is asked who serves it, decided within [`VERDICT_SECONDS`] of carrier, and watched for ever after:
//!
//! - nobody answers → serve: addresses and boot files;
//! - a foreign DHCP server, at any time → proxy: boot files only. It is asked as network boot firmware asks, too: where it
//!   answers that, the boot service there is somebody else's, and the link stays silent;
//! - another recon machine → one of the two, see [`Event::Rival`].
//!
//! Of two recon machines that ask at once the lower number wins; one that decided already wins over one that asks; of two
//! that both decided, because their networks grew together, the lower number stays. The number is one for the whole
//! machine (its lowest MAC), so that one of two sticks wins on every link they share.

use std::net::Ipv4Addr;

use crate::config::settings::LinkRule;
use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode};

mod words;

pub use words::HELD;

/// Something that happened to the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Carrier(bool),
    /// A server that is not ours spoke. `machine` is its number if it said that it is a recon master.
    Server {
        server: ForeignServer,
        machine: MacAddr,
    },
    /// Another recon machine asks who serves; its number.
    Rival(MacAddr),
    /// A client told everybody which server it takes.
    Chosen(Ipv4Addr),
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
    /// Ask who answers network boot firmware.
    AskBoot,
    /// Say that this machine serves or proxies here, once it does.
    Announce,
    /// The mode changed; start or stop services accordingly.
    Changed,
}

/// A quiet link is decided after this many seconds. Servers that ping an address before they offer it take 1 s (ISC)
/// to 3 s (dnsmasq); the last question leaves them 1 s more.
pub const VERDICT_SECONDS: f64 = 6.0;
/// When the questions go out, in seconds after carrier: often enough that a network that loses every third packet is
/// rarely taken for a quiet one.
const PROBE_SECONDS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0];
/// When the question of network boot firmware goes out.
const ASK_BOOT_SECONDS: f64 = 2.5;
/// A decided link is asked again this often: with the 3 s of a server that pings first, one that appears is known within 10 s.
pub const WATCH_SECONDS: f64 = 4.0;
/// Every so many watch questions one is asked as network boot firmware asks.
const BOOT_EVERY: u32 = 3;
/// A foreign server is asked for its boot service this long before the link is decided. It checked its address already.
const BOOT_WAIT_SECONDS: f64 = 2.0;
/// A foreign server that says nothing for this long is gone: fifteen questions unanswered.
pub const QUIET_SECONDS: f64 = 60.0;
/// The same of a recon master, which answers at once: five questions unanswered, and seven more before anybody serves.
pub const MASTER_QUIET_SECONDS: f64 = 20.0;
/// A rival that announced itself has this long to serve, from its last word.
const RIVAL_SECONDS: f64 = 15.0;
/// Shortest time between two answers to rivals, so that two machines cannot keep each other talking.
const ANSWER_SECONDS: f64 = 0.3;
/// Servers kept by name; more on one link are counted by nobody.
const MAX_FOREIGN: usize = 8;

/// The state of one link.
#[derive(Debug)]
pub struct Election {
    /// This machine's number.
    machine: MacAddr,
    rule: LinkRule,
    state: State,
    foreign: Vec<Known>,
    /// When the last question went out.
    probed: f64,
    /// Watch questions since the last one that firmware would ask.
    watched: u32,
    /// When a rival was last answered.
    answered: f64,
}

/// A server that spoke on this link.
#[derive(Debug, Clone)]
struct Known {
    server: ForeignServer,
    heard: f64,
    booted: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Down,
    Probing {
        since: f64,
        sent: usize,
        asked_boot: bool,
    },
    Serve,
    /// Somebody else hands out addresses, or boot files, or recon.toml forbids to do so.
    Foreign {
        since: f64,
        heard: f64,
        verdict: Option<Verdict>,
    },
    /// Told so: nothing is sent, not even a question.
    Told,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Proxy,
    Silent,
}

impl Election {
    /// `machine`: a number no other machine has, the same on every link of this one.
    pub fn new(machine: MacAddr, rule: LinkRule) -> Self {
        Election {
            machine,
            rule,
            state: State::Down,
            foreign: Vec::new(),
            probed: 0.0,
            watched: 0,
            answered: f64::NEG_INFINITY,
        }
    }

    pub fn mode(&self) -> LinkMode {
        match self.state {
            State::Down => LinkMode::Down,
            State::Probing { .. } | State::Foreign { verdict: None, .. } => LinkMode::Probing,
            State::Serve => LinkMode::Serve,
            State::Foreign {
                verdict: Some(Verdict::Proxy),
                ..
            } => LinkMode::Proxy,
            State::Foreign { .. } | State::Told | State::Twin { .. } => LinkMode::Silent,
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

    pub fn foreign(&self) -> impl Iterator<Item = &ForeignServer> {
        self.foreign.iter().map(|known| &known.server)
    }

    /// Takes one event; the actions are to be done in order.
    pub fn on(&mut self, event: Event, now: f64) -> Vec<Action> {
        let before = self.state.clone();
        let mut actions = Vec::new();
        match event {
            Event::Carrier(true) if before == State::Down && self.rule >= LinkRule::Silent => self.state = State::Told,
            Event::Carrier(true) if before == State::Down => self.ask_anew(now),
            Event::Carrier(true) => {}
            Event::Carrier(false) => {
                self.state = State::Down;
                self.foreign.clear();
            }
            Event::Server { server, machine } => self.server(server, machine, now, &mut actions),
            Event::Rival(rival) => self.rival(rival, now, &mut actions),
            Event::Chosen(server) => self.chosen(server, now, &mut actions),
            Event::Twin { name, before: true } => match &mut self.state {
                State::Probing { .. } | State::Serve | State::Foreign { .. } => {
                    self.state = State::Twin { name, heard: now };
                }
                State::Twin { heard, .. } => *heard = now,
                State::Down | State::Told | State::Yield { .. } => {}
            },
            Event::Twin { before: false, .. } | Event::Tick => {}
        }
        self.clock(now, &mut actions);
        if changes_mode(&before, &self.state) {
            actions.push(Action::Changed);
            if self.decided() {
                actions.push(Action::Announce);
            }
        }
        actions
    }

    /// True while this machine speaks for the link.
    fn decided(&self) -> bool {
        matches!(self.mode(), LinkMode::Serve | LinkMode::Proxy)
    }

    fn server(&mut self, server: ForeignServer, machine: MacAddr, now: f64, actions: &mut Vec<Action>) {
        if self.state == State::Down {
            return;
        }
        let (address, recon) = (server.address, server.recon);
        self.note(server, now);
        if recon {
            return self.master_spoke(address, machine, now, actions);
        }
        match &mut self.state {
            State::Foreign { heard, .. } => *heard = now,
            State::Probing { .. } | State::Serve => {
                self.state = State::Foreign {
                    since: now,
                    heard: now,
                    verdict: None,
                };
                actions.push(Action::AskBoot);
                (self.probed, self.watched) = (now, 0);
            }
            // The recon master there, the port beside, or nobody deals with it.
            State::Yield { .. } | State::Twin { .. } | State::Told | State::Down => {}
        }
    }

    fn note(&mut self, server: ForeignServer, now: f64) {
        let booted = if server.boots { now } else { f64::NEG_INFINITY };
        let same = |known: &&mut Known| {
            (known.server.address, known.server.mac, known.server.recon) == (server.address, server.mac, server.recon)
        };
        let room = self.foreign.len() < MAX_FOREIGN;
        match self.foreign.iter_mut().find(same) {
            Some(known) => {
                known.heard = now;
                known.booted = known.booted.max(booted);
                known.server.boots |= server.boots;
            }
            // One MAC that speaks from several addresses, or the other way round, is several lines on screen.
            None if room => self.foreign.push(Known {
                server,
                heard: now,
                booted,
            }),
            None => {}
        }
    }

    /// A recon master serves or proxies here.
    fn master_spoke(&mut self, address: Ipv4Addr, machine: MacAddr, now: f64, actions: &mut Vec<Action>) {
        let stays = match &self.state {
            State::Down | State::Told | State::Twin { .. } => return,
            _ if self.decided() => self.machine < machine,
            // One master is enough to yield to: a second one on this network will yield to it as well.
            State::Yield {
                rival, master: Some(_), ..
            } => *rival < machine,
            _ => false,
        };
        if !stays {
            self.state = State::Yield {
                rival: machine,
                master: Some(address),
                until: now + MASTER_QUIET_SECONDS,
            };
        } else if self.decided() {
            // Two networks that each had a master grew together; it has to hear of this one.
            self.answer(Action::Announce, now, actions);
        }
    }

    fn rival(&mut self, rival: MacAddr, now: f64, actions: &mut Vec<Action>) {
        let wait = State::Yield {
            rival,
            master: None,
            until: now + RIVAL_SECONDS,
        };
        match &self.state {
            State::Probing { .. } | State::Foreign { verdict: None, .. } => {
                if rival < self.machine {
                    self.state = wait;
                } else {
                    // It may have missed the questions so far; hearing one, it yields.
                    self.answer(Action::Probe, now, actions);
                }
            }
            State::Yield {
                rival: known,
                master: None,
                ..
            } if rival <= *known => self.state = wait,
            _ if self.decided() => self.answer(Action::Announce, now, actions),
            _ => {}
        }
    }

    /// A server that answers known machines only is heard of by what those say to it.
    fn chosen(&mut self, server: Ipv4Addr, now: f64, actions: &mut Vec<Action>) {
        let known = self
            .foreign
            .iter_mut()
            .find(|known| known.server.address == server && !known.server.recon);
        match (&mut self.state, known) {
            (State::Foreign { heard, .. }, Some(known)) => (*heard, known.heard) = (now, now),
            (State::Serve | State::Foreign { .. }, None) => self.answer(Action::Probe, now, actions),
            _ => {}
        }
    }

    fn answer(&mut self, action: Action, now: f64, actions: &mut Vec<Action>) {
        if now - self.answered >= ANSWER_SECONDS {
            self.answered = now;
            actions.push(action);
        }
    }

    /// Moves the clocks, and asks what is due.
    fn clock(&mut self, now: f64, actions: &mut Vec<Action>) {
        for known in &mut self.foreign {
            known.server.boots &= now - known.booted < QUIET_SECONDS;
        }
        let boots = self.foreign().any(|server| server.boots && !server.recon) && self.rule != LinkRule::Proxy;
        match &mut self.state {
            State::Down | State::Told => return,
            State::Probing {
                since,
                sent,
                asked_boot,
            } => {
                let elapsed = now - *since;
                if elapsed >= VERDICT_SECONDS {
                    self.state = match self.rule {
                        LinkRule::Auto => State::Serve,
                        LinkRule::Proxy | LinkRule::Silent | LinkRule::Held => State::Foreign {
                            since: now,
                            heard: now,
                            verdict: Some(Verdict::Silent),
                        },
                    };
                    return;
                }
                if PROBE_SECONDS.get(*sent).is_some_and(|at| elapsed >= *at) {
                    *sent += 1;
                    self.probed = now;
                    actions.push(Action::Probe);
                }
                if elapsed >= ASK_BOOT_SECONDS && !*asked_boot {
                    *asked_boot = true;
                    actions.push(Action::AskBoot);
                }
                return;
            }
            State::Foreign { since, heard, verdict } => {
                let foreign = self.foreign.iter().any(|known| !known.server.recon);
                if now - *heard >= QUIET_SECONDS {
                    if self.rule == LinkRule::Auto {
                        return self.restart(now, actions);
                    }
                    self.foreign.clear();
                    (*heard, *verdict) = (now, Some(Verdict::Silent));
                } else if foreign {
                    *verdict = match *verdict {
                        _ if boots => Some(Verdict::Silent),
                        None if now - *since < BOOT_WAIT_SECONDS => None,
                        _ => Some(Verdict::Proxy),
                    };
                }
            }
            State::Twin { heard, .. } if now - *heard >= MASTER_QUIET_SECONDS => return self.restart(now, actions),
            State::Yield { until, .. } if now >= *until => return self.restart(now, actions),
            // The port beside speaks for this one.
            State::Twin { .. } => return,
            State::Serve | State::Yield { .. } => {}
        }
        let every = match &self.state {
            State::Yield { master: None, .. } | State::Foreign { verdict: None, .. } => 1.0,
            _ => WATCH_SECONDS,
        };
        if now - self.probed >= every {
            self.probed = now;
            self.watched += 1;
            actions.push(Action::Probe);
            let undecided = matches!(self.state, State::Foreign { verdict: None, .. });
            if undecided || (!matches!(self.state, State::Yield { .. }) && self.watched >= BOOT_EVERY) {
                self.watched = 0;
                actions.push(Action::AskBoot);
            }
        }
    }

    fn ask_anew(&mut self, now: f64) {
        self.foreign.clear();
        self.state = State::Probing {
            since: now,
            sent: 0,
            asked_boot: false,
        };
    }

    fn restart(&mut self, now: f64, actions: &mut Vec<Action>) {
        self.ask_anew(now);
        self.clock(now, actions);
    }
}

/// Whether the driver has to act; a clock that moved within a state is no change.
fn changes_mode(before: &State, after: &State) -> bool {
    match (before, after) {
        (State::Yield { master: a, .. }, State::Yield { master: b, .. }) => a != b,
        (State::Foreign { verdict: a, .. }, State::Foreign { verdict: b, .. }) => a != b,
        _ => std::mem::discriminant(before) != std::mem::discriminant(after),
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
