//! What to do on one link: serve, proxy, yield or stay silent. A pure state machine; time is seconds of a monotonic clock.
//!
//! A link is asked who serves it, decided within [`VERDICT_SECONDS`] of carrier, and watched for ever after:
//!
//! - nobody answers → serve: addresses and boot files;
//! - a foreign DHCP server, at any time → proxy: boot files only. It is asked as network boot firmware asks, too: where it
//!   answers that, the boot service there is somebody else's, and the link stays silent;
//! - another recon machine of this site → one of the two, see [`Event::Rival`];
//! - one that calls itself a recon master and does not prove that it has this site's key → a foreign server like any other, and
//!   never one to yield to.
//!
//! Of two recon machines that ask at once the lower number wins; one that decided already wins over one that asks; of two
//! that both decided, because their networks grew together, the lower number stays. The number is one for the whole
//! machine (its lowest MAC), so that one of two sticks wins on every link they share.
//!
//! Of two with different keys the one that serves already stays as well, because the other one hears it first; of two that ask at
//! once the higher number waits a little for the lower one; of two that both serve the lower number stays for a while, and gives way if the other
//! one does not. What an unproven word can do is what any DHCP server can do: make this machine hand out no addresses.

use std::net::Ipv4Addr;

use crate::config::LinkRule;
use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode};

pub(crate) use crate::role::link::election::reason::HELD;

/// Something that happened to the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Carrier(bool),
    /// A server that is not this machine spoke. `machine` is its number if it said that it is a recon master.
    Server {
        server: ForeignServer,
        machine: Option<MacAddr>,
        /// It is a recon master that says that it hands out boot files only.
        proxies: bool,
    },
    /// Another recon machine asks who serves; its number, and whether it proved that it has the site's key.
    Rival {
        machine: MacAddr,
        ours: bool,
    },
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
pub(crate) enum Action {
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
pub(crate) const VERDICT_SECONDS: f64 = 6.0;
/// When the questions go out, in seconds after carrier: often enough that a network that loses every third packet is
/// rarely taken for a quiet one.
const PROBE_SECONDS: [f64; 7] = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0];
/// When the question of network boot firmware goes out.
const ASK_BOOT_SECONDS: f64 = 2.5;
/// A decided link is asked again this often: with the 3 s of a server that pings first, one that appears is known within 10 s.
pub(crate) const WATCH_SECONDS: f64 = 4.0;
/// Every so many watch questions one is asked as network boot firmware asks.
const BOOT_EVERY: u32 = 3;
/// A foreign server is asked for its boot service this long before the link is decided. It checked its address already.
const BOOT_WAIT_SECONDS: f64 = 2.0;
/// A foreign server that says nothing for this long is gone: fifteen questions unanswered.
pub(crate) const QUIET_SECONDS: f64 = 60.0;
/// The same of a recon master, which answers at once: five questions unanswered, and seven more before anybody serves.
pub(crate) const MASTER_QUIET_SECONDS: f64 = 20.0;
/// A rival that announced itself has this long to serve, from its last word.
const RIVAL_SECONDS: f64 = 15.0;
/// Shortest time between two answers to rivals, so that two machines cannot keep each other talking.
const ANSWER_SECONDS: f64 = 0.3;
/// One that calls itself a recon master has this long to prove it: a question and an answer, several times over.
const PROOF_SECONDS: f64 = 2.5;
/// How often it is asked meanwhile.
const PROOF_PAUSE: f64 = 0.5;
/// A machine with a lower number that has not proven anything is waited for, once: for as long as it takes to decide, and this much longer
/// for its services to start.
const START_SECONDS: f64 = 1.5;
/// It counts as asking for this long after it was heard.
const ASKING_SECONDS: f64 = 2.0;
/// Of two with different keys that both serve, the higher number has this long to give way.
const CONTEST_SECONDS: f64 = 10.0;
/// One that was not heard for this long at the end of its time is gone: three questions unanswered.
const GONE_SECONDS: f64 = 1.5;
/// Servers kept by name; more on one link are counted by nobody.
const MAX_FOREIGN: usize = 8;

/// The state of one link.
#[derive(Debug)]
pub(crate) struct Election {
    /// This machine's number.
    machine: MacAddr,
    rule: LinkRule,
    state: State,
    foreign: Vec<Known>,
    /// Those that call themselves recon masters and have not proven it yet.
    strangers: Vec<Stranger>,
    /// Ports that proved it, and when last. What else they say is not held against them.
    proven: Vec<(MacAddr, f64)>,
    /// When a lower number that proved nothing was first and last heard asking, since this machine asks.
    lower_asked: Option<(f64, f64)>,
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

#[derive(Debug, Clone)]
struct Stranger {
    server: ForeignServer,
    /// Its number, as it says.
    machine: Option<MacAddr>,
    since: f64,
    heard: f64,
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
    pub(crate) fn new(machine: MacAddr, rule: LinkRule) -> Self {
        Election {
            machine,
            rule,
            state: State::Down,
            foreign: Vec::new(),
            strangers: Vec::new(),
            proven: Vec::new(),
            lower_asked: None,
            probed: 0.0,
            watched: 0,
            answered: f64::NEG_INFINITY,
        }
    }

    pub(crate) fn mode(&self) -> LinkMode {
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
    pub(crate) fn master(&self) -> Option<Ipv4Addr> {
        match self.state {
            State::Yield { master, .. } => master,
            _ => None,
        }
    }

    pub(crate) fn foreign(&self) -> impl Iterator<Item = &ForeignServer> {
        self.foreign.iter().map(|known| &known.server)
    }

    /// Takes one event; the actions are to be done in order.
    pub(crate) fn on(&mut self, event: Event, now: f64) -> Vec<Action> {
        let before = self.state.clone();
        let mut actions = Vec::new();
        match event {
            Event::Carrier(true) if before == State::Down && self.rule >= LinkRule::Silent => self.state = State::Told,
            Event::Carrier(true) if before == State::Down => self.ask_anew(now),
            Event::Carrier(true) => {}
            Event::Carrier(false) => {
                self.state = State::Down;
                self.foreign.clear();
                self.strangers.clear();
                self.proven.clear();
            }
            Event::Server {
                server,
                machine,
                proxies: true,
            } if server.recon && !server.ours => self.proxying_stranger(server, machine, now),
            Event::Server { server, machine, .. } => self.server(server, machine, now, &mut actions),
            Event::Rival { machine, ours } => self.rival(machine, ours, now, &mut actions),
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

    fn server(&mut self, server: ForeignServer, machine: Option<MacAddr>, now: f64, actions: &mut Vec<Action>) {
        if self.state == State::Down {
            return;
        }
        match (server.ours, server.recon) {
            (true, _) => {
                let (address, mac) = (server.address, server.mac);
                self.trust(mac, now);
                self.note(server, now);
                self.master_spoke(address, machine.unwrap_or(mac), now, actions);
            }
            (false, true) => self.stranger(server, machine, now, actions),
            (false, false) => self.foreigner(server, now, actions),
        }
    }

    /// A port proved that it has the key.
    fn trust(&mut self, mac: MacAddr, now: f64) {
        self.strangers.retain(|stranger| stranger.server.mac != mac);
        self.proven
            .retain(|(known, at)| *known != mac && now - *at < MASTER_QUIET_SECONDS);
        if self.proven.len() < MAX_FOREIGN {
            self.proven.push((mac, now));
        }
    }

    /// One calls itself a recon master and hands out boot files only: no reason to hand out no addresses, or two of them would
    /// keep each other from it for ever. Of two that proxy with different keys the lower number goes on.
    fn proxying_stranger(&mut self, server: ForeignServer, machine: Option<MacAddr>, now: f64) {
        let lower = machine.is_some_and(|machine| machine < self.machine);
        if matches!(self.state, State::Foreign { .. }) && lower && !self.is_trusted(server.mac, now) {
            self.note(ForeignServer { boots: true, ..server }, now);
        }
    }

    fn is_trusted(&self, mac: MacAddr, now: f64) -> bool {
        let known = self.proven.iter().find(|(known, _)| *known == mac);
        known.is_some_and(|(_, at)| now - *at < MASTER_QUIET_SECONDS)
    }

    /// One calls itself a recon master. What it says may be the answer of a service that proves nothing, so it is asked for proof before it
    /// counts as what it is without.
    fn stranger(&mut self, server: ForeignServer, machine: Option<MacAddr>, now: f64, actions: &mut Vec<Action>) {
        match self.state {
            State::Probing { .. } | State::Serve | State::Foreign { .. } => {}
            State::Down | State::Told | State::Twin { .. } | State::Yield { .. } => return,
        }
        if self.is_trusted(server.mac, now) {
            return;
        }
        let same = |known: &ForeignServer| (known.address, known.mac) == (server.address, server.mac);
        if self
            .foreign
            .iter()
            .any(|known| known.server.recon && same(&known.server))
        {
            return self.foreigner(server, now, actions);
        }
        let room = self.strangers.len() < MAX_FOREIGN;
        match self.strangers.iter_mut().find(|stranger| same(&stranger.server)) {
            Some(stranger) => {
                stranger.heard = now;
                stranger.machine = stranger.machine.or(machine);
                stranger.server.boots |= server.boots;
                // It has to hear who has the lower number.
                if self.state == State::Serve {
                    self.answer(Action::Announce, now, actions);
                }
            }
            None if room => {
                self.strangers.push(Stranger {
                    server,
                    machine,
                    since: now,
                    heard: now,
                });
                if now - self.probed >= PROOF_PAUSE {
                    self.probed = now;
                    actions.push(Action::Probe);
                }
            }
            // So many are no accident: no more time is given.
            None => self.foreigner(server, now, actions),
        }
    }

    /// Judges those whose time for a proof is over.
    fn judge(&mut self, now: f64, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Probing { .. } | State::Serve | State::Foreign { .. }) {
            self.strangers.clear();
            return;
        }
        let serving = self.state == State::Serve;
        let mut counted = Vec::new();
        let ours = self.machine;
        self.strangers.retain(|stranger| {
            let waited = now - stranger.since;
            let contest = serving && stranger.machine.is_some_and(|number| number > ours);
            let limit = if contest { CONTEST_SECONDS } else { PROOF_SECONDS };
            let over = waited >= limit;
            // One that says nothing any more, though it was asked, is gone or gave way.
            if over && now - stranger.heard < GONE_SECONDS {
                counted.push(stranger.server.clone());
            }
            !over
        });
        for server in counted {
            self.foreigner(server, now, actions);
        }
        if !self.strangers.is_empty() && now - self.probed >= PROOF_PAUSE {
            self.probed = now;
            actions.push(Action::Probe);
        }
    }

    /// A server of somebody else's spoke, or of one that is taken for somebody else's.
    fn foreigner(&mut self, server: ForeignServer, now: f64, actions: &mut Vec<Action>) {
        self.note(server, now);
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
            let key = |server: &ForeignServer| (server.address, server.mac, server.recon);
            key(&known.server) == key(&server)
        };
        let room = self.foreign.len() < MAX_FOREIGN;
        match self.foreign.iter_mut().find(same) {
            Some(known) => {
                known.heard = now;
                known.booted = known.booted.max(booted);
                known.server.boots |= server.boots;
                known.server.ours |= server.ours;
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

    /// A recon master of this site serves or proxies here.
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

    fn rival(&mut self, rival: MacAddr, ours: bool, now: f64, actions: &mut Vec<Action>) {
        let wait = State::Yield {
            rival,
            master: None,
            until: now + RIVAL_SECONDS,
        };
        match &self.state {
            State::Probing { .. } | State::Foreign { verdict: None, .. } => {
                if rival < self.machine && ours {
                    self.state = wait;
                } else if rival < self.machine {
                    // Anybody can say so: it is asked for proof, and not waited for as one of ours is.
                    let first = self.lower_asked.map_or(now, |(first, _)| first);
                    self.lower_asked = Some((first, now));
                    if now - self.probed >= PROOF_PAUSE {
                        self.probed = now;
                        actions.push(Action::Probe);
                    }
                } else {
                    // It may have missed the questions so far; hearing one, it yields.
                    self.answer(Action::Probe, now, actions);
                }
            }
            State::Yield {
                rival: known,
                master: None,
                ..
            } if ours && rival <= *known => self.state = wait,
            _ if self.decided() => self.answer(Action::Announce, now, actions),
            _ => {}
        }
    }

    /// A server that answers known machines only is heard of by what those say to it.
    fn chosen(&mut self, server: Ipv4Addr, now: f64, actions: &mut Vec<Action>) {
        let known = self
            .foreign
            .iter_mut()
            .find(|known| known.server.address == server && !known.server.ours);
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
        self.judge(now, actions);
        let boots = self.foreign().any(|server| server.boots && !server.ours) && self.rule != LinkRule::Proxy;
        match &mut self.state {
            State::Down | State::Told => return,
            State::Probing {
                since,
                sent,
                asked_boot,
            } => {
                let elapsed = now - *since;
                // Who may still prove something, or have the lower number, is waited for.
                let waits = !self.strangers.is_empty()
                    || self.lower_asked.is_some_and(|(first, last)| {
                        now - last < ASKING_SECONDS && now - first < VERDICT_SECONDS + START_SECONDS
                    });
                if elapsed >= VERDICT_SECONDS && !waits {
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
                let foreign = self.foreign.iter().any(|known| !known.server.ours);
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
        self.strangers.clear();
        self.lower_asked = None;
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

mod reason;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
