//! Whole networks of elections: sticks of one site or of several, ports, foreign servers, forgers, lost packets, cut and healed cables. Time is the
//! simulation's own and chance comes from a seed, so that a failure is the same failure again.

use std::collections::{BTreeMap, BTreeSet};

use super::state::*;
use super::timing::*;
use super::*;
use crate::config::SiteKey;
use crate::model::api::{ForeignServer, LinkMode};
use crate::model::{MacAddr, RunTime};
use crate::role::link::proof::Voice;
use crate::service::dhcp4::probe::{Proof, Question, Role, Said};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// splitmix64: small, and good enough to lose packets.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What goes over a wire.
#[derive(Debug, Clone)]
enum Post {
    Event(Event),
    Question(Question, MacAddr, Option<Proof>),
    Announcement(Said, Option<Proof>),
    /// What a master's services say without a proof.
    Marked {
        address: Ipv4Addr,
        mac: MacAddr,
        boots: bool,
    },
}

/// Somebody with a port on the wire who hears everything and has no key.
struct Forger {
    from: f64,
    until: f64,
    /// Only questions.
    asks: bool,
    heard: Vec<Post>,
}

/// One port of one stick.
struct Port {
    stick: usize,
    wire: usize,
    /// Its carrier comes up this long after its stick started.
    late: f64,
    /// Of its stick.
    site: u8,
    mac: MacAddr,
    voice: Voice,
    election: Election,
    /// Its services answer from here on; `INFINITY` while they do not run.
    ready: f64,
    /// When it last changed to a mode that hands something out, and how often it did.
    entries: u32,
    modes: Vec<(f64, LinkMode)>,
}

struct Foreign {
    wire: usize,
    from: f64,
    until: f64,
    /// It pings an address this long before it offers it.
    ping: f64,
    boots: bool,
}

struct Net {
    now: f64,
    /// Start and end of every stick.
    life: Vec<(f64, f64)>,
    ports: Vec<Port>,
    foreign: Vec<Foreign>,
    loss: f64,
    /// While true, sticks 0 and 1 do not hear each other, and foreign servers are on the side of stick 0.
    split: (f64, f64),
    chance: Chance,
    queue: BTreeMap<(u64, u64), (usize, Post)>,
    forger: Option<Forger>,
    /// A stick that follows a master on every wire becomes its peer, and takes no part any more.
    leave: bool,
    /// Who yielded to one that is none of its site.
    fooled: Vec<String>,
    sequence: u64,
    /// Addresses given to clients, by wire: number and the stick that gave it.
    given: Vec<(usize, u32, usize)>,
    /// Moments at which two sticks handed out addresses on one wire.
    doubled: Vec<f64>,
    /// Packets a silent or told port sent.
    seconds: u64,
}

const STEP: f64 = 0.05;

impl Net {
    /// Sticks that start at these times, each on all of so many wires.
    fn new(seed: u64, starts: &[f64], wires: usize, foreign: Vec<Foreign>) -> Self {
        let sticks: Vec<_> = starts.iter().map(|start| (*start, (0..wires).collect())).collect();
        Net::of(seed, &sticks, foreign)
    }

    /// Sticks, each with its start and the wires that it is on.
    fn of(seed: u64, sticks: &[(f64, Vec<usize>)], foreign: Vec<Foreign>) -> Self {
        let mut chance = Chance(seed);
        // Whether the earlier or the later stick has the lower number is a matter of chance, too.
        let flip = chance.next() < 0.5;
        let mut ports = Vec::new();
        for (stick, (_, wires)) in sticks.iter().enumerate() {
            let number = if flip { sticks.len() - 1 - stick } else { stick };
            for wire in wires.iter().copied() {
                let machine = MacAddr([2, 0, 0, 0, 0, number as u8]);
                let mac = MacAddr([2, 0, 0, 1, wire as u8, number as u8]);
                ports.push(Port {
                    stick,
                    wire,
                    late: 0.0,
                    site: 0,
                    mac,
                    voice: Voice::new(SiteKey::new([0; 32]), machine, mac),
                    election: Election::new(machine, LinkRule::Auto),
                    ready: f64::INFINITY,
                    entries: 0,
                    modes: Vec::new(),
                });
            }
        }
        Net {
            now: 0.0,
            life: sticks.iter().map(|(start, _)| (*start, f64::INFINITY)).collect(),
            ports,
            foreign,
            loss: 0.0,
            split: (f64::INFINITY, f64::INFINITY),
            chance,
            queue: BTreeMap::new(),
            forger: None,
            leave: false,
            fooled: Vec::new(),
            sequence: 0,
            given: Vec::new(),
            doubled: Vec::new(),
            seconds: 0,
        }
    }

    /// Every stick has a key of its own.
    fn of_many_sites(mut self) -> Self {
        for port in &mut self.ports {
            port.site = port.stick as u8;
            port.voice = Voice::new(SiteKey::new([port.site; 32]), port.election.machine_id, port.mac);
        }
        self
    }

    fn post(&mut self, to: usize, delay: f64, post: Post) {
        if self.chance.next() < self.loss {
            return;
        }
        self.sequence += 1;
        let at = ((self.now + delay) * 1e6) as u64;
        self.queue.insert((at, self.sequence), (to, post));
    }

    fn apart(&self, a: usize, b: usize) -> bool {
        a != b && (self.split.0..self.split.1).contains(&self.now)
    }

    /// Everything on the wire hears a packet of a port.
    fn broadcast(&mut self, from: usize, post: &Post) {
        if let Some(forger) = &mut self.forger {
            forger.heard.push(post.clone());
        }
        let (stick, wire) = (self.ports[from].stick, self.ports[from].wire);
        for to in 0..self.ports.len() {
            let other = &self.ports[to];
            if to == from || other.wire != wire || self.apart(stick, other.stick) {
                continue;
            }
            let delay = 0.001 + self.chance.next() * 0.1;
            self.post(to, delay, post.clone());
        }
    }

    /// A packet comes to a port.
    fn deliver(&mut self, to: usize, post: Post) {
        let voice = &mut self.ports[to].voice;
        let event = match post {
            Post::Event(event) => event,
            Post::Question(question, mac, proof) => {
                let ours = voice.is_proven(&Said::asking(question.machine, mac), proof);
                voice.heard(question);
                Event::Candidate {
                    machine: question.machine,
                    ours,
                }
            }
            Post::Announcement(said, proof) => Event::Server {
                server: ForeignServer {
                    address: said.server,
                    mac: said.mac,
                    recon: true,
                    ours: voice.is_proven(&said, proof),
                    boots: false,
                },
                machine: Some(said.machine),
                proxies: said.role == Role::Proxy,
            },
            Post::Marked { address, mac, boots } => Event::Server {
                server: ForeignServer {
                    address,
                    mac,
                    recon: true,
                    ours: false,
                    boots,
                },
                machine: None,
                proxies: false,
            },
        };
        self.feed(to, event);
    }

    /// One that has no key says whatever it likes: what others said, as they said it or with its own port, number or address in it, and
    /// what it made up.
    fn forge(&mut self) {
        let now = self.now;
        let Some(forger) = self
            .forger
            .as_mut()
            .filter(|forger| (forger.from..forger.until).contains(&now))
        else {
            return;
        };
        let mac = MacAddr([2, 6, 6, 6, 6, 6]);
        let number = MacAddr([0, 0, 0, 0, 0, 1]);
        let address = Ipv4Addr::new(192, 168, 219, 66);
        let nonce = std::array::from_fn(|_| (self.chance.next() * 256.0) as u8);
        let question = Question { machine: number, nonce };
        let mut said = vec![Post::Question(
            question,
            mac,
            Some(Proof {
                role: Role::Ask,
                tag: nonce,
            }),
        )];
        if !forger.asks {
            let role = Role::Serve;
            let lie = Said {
                role,
                machine: number,
                mac,
                server: address,
            };
            said.push(Post::Announcement(lie, Some(Proof { role, tag: nonce })));
            for _ in 0..4 {
                let at = (self.chance.next() * forger.heard.len() as f64) as usize;
                let Some(post) = forger.heard.get(at) else { continue };
                said.push(post.clone());
                if let Post::Announcement(true_one, proof) = post {
                    said.push(Post::Announcement(Said { mac, ..*true_one }, *proof));
                    said.push(Post::Announcement(
                        Said {
                            server: address,
                            ..*true_one
                        },
                        *proof,
                    ));
                    said.push(Post::Announcement(
                        Said {
                            machine: number,
                            ..*true_one
                        },
                        *proof,
                    ));
                }
                if let Post::Question(question, _, proof) = post {
                    said.push(Post::Question(
                        Question {
                            machine: number,
                            ..*question
                        },
                        mac,
                        *proof,
                    ));
                    // The proof of one that asks, for an announcement.
                    let serving = Said {
                        role,
                        machine: question.machine,
                        mac,
                        server: address,
                    };
                    said.push(Post::Announcement(serving, proof.map(|proof| Proof { role, ..proof })));
                }
            }
        }
        // On every wire: what is heard on one is carried to the others.
        for to in 0..self.ports.len() {
            for post in said.clone() {
                self.post(to, 0.01, post);
            }
        }
    }

    /// Nobody follows one that has not the key of its site, nor waits for one.
    fn follows(&mut self, port: usize) {
        let State::Yield { rival, master, .. } = &self.ports[port].election.state else {
            return;
        };
        let site = self.ports[port].site;
        let known = self.ports.iter().any(|other| {
            other.site == site
                && other.election.machine_id == *rival
                && master.is_none_or(|master| master == address_of(other.stick))
        });
        if !known {
            self.fooled
                .push(format!("{} follows {rival} at {master:?}", self.ports[port].stick));
        }
    }

    fn alive(&self, port: usize) -> bool {
        let (start, end) = self.life[self.ports[port].stick];
        (start + self.ports[port].late..end).contains(&self.now)
    }

    fn feed(&mut self, port: usize, event: Event) {
        if !self.alive(port) {
            return;
        }
        let now = self.now;
        let actions = self.ports[port].election.on(event, RunTime::from_seconds(now));
        self.follows(port);
        for action in actions {
            let stick = self.ports[port].stick;
            match action {
                Action::Changed => {
                    let mode = self.ports[port].election.mode();
                    self.ports[port].modes.push((now, mode));
                    if matches!(mode, LinkMode::Serve | LinkMode::Proxy) {
                        // Sockets take a moment, the lease of a proxy some seconds.
                        let lag = self.chance.next() * if mode == LinkMode::Serve { 0.3 } else { 4.0 };
                        self.ports[port].ready = now + lag;
                        self.ports[port].entries += 1;
                    } else {
                        self.ports[port].ready = f64::INFINITY;
                    }
                }
                Action::Announce => self.announce(port),
                Action::Probe | Action::AskBoot => {
                    if action == Action::Probe {
                        self.sequence += 1;
                        let nonce = u128::from(self.sequence).to_be_bytes();
                        let mac = self.ports[port].mac;
                        let (question, proof) = self.ports[port].voice.ask(nonce);
                        self.broadcast(port, &Post::Question(question, mac, proof));
                    }
                    self.services_answer(port, action == Action::AskBoot);
                    self.foreign_answers(port, stick, action == Action::AskBoot);
                }
            }
        }
    }

    fn announce(&mut self, port: usize) {
        if self.ports[port].ready > self.now {
            return;
        }
        let role = match self.ports[port].election.mode() {
            LinkMode::Proxy => Role::Proxy,
            _ => Role::Serve,
        };
        let (said, proof) = self.ports[port]
            .voice
            .announce(role, address_of(self.ports[port].stick));
        self.broadcast(port, &Post::Announcement(said, proof));
    }

    /// The DHCP servers of those that serve answer everybody, without a proof.
    fn services_answer(&mut self, asker: usize, boots: bool) {
        let (stick, wire) = (self.ports[asker].stick, self.ports[asker].wire);
        for from in 0..self.ports.len() {
            let port = &self.ports[from];
            let serves = self.alive(from) && port.election.mode() == LinkMode::Serve && port.ready <= self.now;
            if serves && from != asker && port.wire == wire && !self.apart(stick, port.stick) {
                let (address, mac) = (address_of(port.stick), port.mac);
                self.broadcast(from, &Post::Marked { address, mac, boots });
            }
        }
    }

    fn foreign_answers(&mut self, port: usize, stick: usize, boot: bool) {
        let wire = self.ports[port].wire;
        for at in 0..self.foreign.len() {
            let foreign = &self.foreign[at];
            let there = foreign.wire == wire && (foreign.from..foreign.until).contains(&self.now);
            if !there || self.apart(0, stick) {
                continue;
            }
            let mac = MacAddr([0x52, 0, 0, 0, 1, at as u8]);
            let server = ForeignServer {
                address: Ipv4Addr::new(10, 0, 0, 1),
                mac,
                recon: false,
                ours: false,
                boots: boot && foreign.boots,
            };
            let ping = if boot { 0.0 } else { foreign.ping };
            let event = Event::Server {
                server,
                machine: None,
                proxies: false,
            };
            for to in 0..self.ports.len() {
                if self.ports[to].wire == wire && !self.apart(0, self.ports[to].stick) {
                    let delay = 0.001 + ping + self.chance.next() * 0.1;
                    self.post(to, delay, Post::Event(event.clone()));
                }
            }
        }
    }

    /// Runs until `end`. Every second a client asks for an address on every wire.
    fn run(&mut self, end: f64) {
        while self.now < end {
            self.now += STEP;
            let due = (self.now * 1e6) as u64;
            while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= due) {
                let (port, post) = entry.remove();
                self.deliver(port, post);
            }
            for port in 0..self.ports.len() {
                if self.alive(port) {
                    let beside = self.ports.iter().enumerate();
                    let beside = beside.filter(|(at, other)| *at != port && other.stick == self.ports[port].stick);
                    let beside = Event::beside(
                        beside.map(|(_, other)| &other.election),
                        RunTime::from_seconds(self.now),
                    );
                    self.feed(port, beside);
                    self.feed(port, Event::Carrier(true));
                    self.feed(port, Event::Tick);
                    // The driver says so itself as soon as its services run.
                    if (self.ports[port].ready..self.ports[port].ready + STEP).contains(&self.now) {
                        self.announce(port);
                        if self.masters(self.ports[port].wire, LinkMode::Serve).len() > 1 {
                            self.doubled.push(self.now);
                        }
                    }
                }
            }
            if self.leave {
                self.followers_leave();
            }
            if self.now as u64 > self.seconds {
                self.seconds = self.now as u64;
                self.clients();
                self.forge();
            }
        }
    }

    fn masters(&self, wire: usize, mode: LinkMode) -> Vec<usize> {
        let ready = |at: &usize| {
            let port = &self.ports[*at];
            self.alive(*at) && port.wire == wire && port.election.mode() == mode && port.ready <= self.now
        };
        (0..self.ports.len()).filter(ready).collect()
    }

    fn followers_leave(&mut self) {
        for stick in 0..self.life.len() {
            let ports = self.ports.iter().filter(|port| port.stick == stick);
            let busy = |port: &Port| match port.election.mode() {
                LinkMode::Serve | LinkMode::Proxy | LinkMode::Probing => true,
                LinkMode::Down | LinkMode::Silent | LinkMode::Yield => false,
            };
            if !ports.clone().any(busy) && ports.clone().any(|port| port.election.master().is_some()) {
                self.life[stick].1 = self.life[stick].1.min(self.now);
            }
        }
    }

    /// Of the sticks that take part, by wire.
    fn on_wire(&self, wire: usize) -> BTreeSet<usize> {
        let ports = (0..self.ports.len()).filter(|at| self.ports[*at].wire == wire && self.alive(*at));
        ports.map(|at| self.ports[at].stick).collect()
    }

    /// Every wire with a stick has exactly one that speaks, and of two sticks that share two wires one speaks on neither.
    fn shared_out(&self) -> Result<(), TestCaseError> {
        let mut speakers = Vec::new();
        for wire in 0..=self.ports.iter().map(|port| port.wire).max().unwrap_or(0) {
            if self.on_wire(wire).is_empty() {
                continue;
            }
            let there = |foreign: &Foreign| foreign.wire == wire && (foreign.from..foreign.until).contains(&self.now);
            let foreign = self.foreign.iter().any(there);
            let mode = if foreign { LinkMode::Proxy } else { LinkMode::Serve };
            let found: Vec<_> = [LinkMode::Serve, LinkMode::Proxy]
                .into_iter()
                .flat_map(|mode| self.masters(wire, mode))
                .collect();
            prop_assert_eq!(found.len(), 1, "wire {} at {}: {:#?}", wire, self.now, self.story());
            prop_assert_eq!(
                self.ports[found[0]].election.mode(),
                mode,
                "wire {} at {}: {:#?}",
                wire,
                self.now,
                self.story()
            );
            speakers.push((wire, self.ports[found[0]].stick));
        }
        for (wire, stick) in &speakers {
            for (other, rival) in &speakers {
                let both = BTreeSet::from([*stick, *rival]);
                let shared =
                    both.len() == 2 && both.is_subset(&self.on_wire(*wire)) && both.is_subset(&self.on_wire(*other));
                prop_assert!(
                    !shared,
                    "{:?} share out wires {} and {}: {:#?}",
                    both,
                    wire,
                    other,
                    self.story()
                );
            }
        }
        Ok(())
    }

    fn clients(&mut self) {
        let wires = self.ports.iter().map(|port| port.wire).max().unwrap_or(0);
        for wire in 0..=wires {
            let serving = self.masters(wire, LinkMode::Serve);
            if serving.len() > 1 {
                self.doubled.push(self.now);
            }
            for at in serving {
                let stick = self.ports[at].stick;
                let number = self.given.iter().filter(|(w, _, s)| (*w, *s) == (wire, stick)).count() as u32;
                self.given.push((wire, number, stick));
            }
        }
    }

    /// Every wire has exactly one that speaks, in this mode.
    fn settled(&self, mode: LinkMode) -> Result<(), TestCaseError> {
        let wires = self.ports.iter().map(|port| port.wire).max().unwrap_or(0);
        for wire in 0..=wires {
            for which in [LinkMode::Serve, LinkMode::Proxy] {
                let found = self.masters(wire, which);
                let wanted = usize::from(which == mode);
                prop_assert_eq!(
                    found.len(),
                    wanted,
                    "wire {} at {}: {:?} in {:?}",
                    wire,
                    self.now,
                    found,
                    self.story()
                );
            }
        }
        Ok(())
    }

    fn story(&self) -> Vec<String> {
        let line = |port: &Port| {
            format!(
                "stick {} ({}) wire {}: {:?}",
                port.stick, port.election.machine_id, port.wire, port.modes
            )
        };
        self.ports.iter().map(line).collect()
    }

    fn no_address_twice(&self) -> Result<(), TestCaseError> {
        for (at, (wire, number, stick)) in self.given.iter().enumerate() {
            let twice = self.given[..at]
                .iter()
                .any(|(w, n, s)| (w, n) == (wire, number) && s != stick);
            prop_assert!(!twice, "address {} twice: {:?}", number, self.story());
        }
        Ok(())
    }
}

fn address_of(stick: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 219, 1 + stick as u8)
}

fn foreign(wire: usize, from: f64, until: f64, ping: f64) -> Foreign {
    Foreign {
        wire,
        from,
        until,
        ping,
        boots: false,
    }
}

/// So many cases where `PROPTEST_CASES` says nothing else.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if told { default.cases } else { cases },
        ..default
    }
}

/// Where one stick's beginning meets another one's decision.
const MOMENTS: [f64; 5] = [0.0, 5.0, 6.0, 6.04, 12.0];

/// A start near such a moment, or any.
fn start() -> impl Strategy<Value = f64> {
    let near = (0..MOMENTS.len(), -0.1f64..0.2).prop_map(|(at, off)| (MOMENTS[at] + off).max(0.0));
    prop_oneof![near, 0.0f64..20.0]
}

/// The wires of a stick.
fn wires() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![0]),
        Just(vec![1]),
        Just(vec![0, 1]),
        Just(vec![0, 1]),
        Just(vec![0, 1, 2]),
        Just(vec![0, 2])
    ]
}

/// How long after the start of its stick a port has its carrier.
fn late() -> impl Strategy<Value = f64> {
    prop_oneof![4 => Just(0.0), 2 => 0.0f64..3.0, 1 => 0.0f64..60.0]
}

/// Seconds between the starts of two sticks: together, within one election, or any time later.
fn delay() -> impl Strategy<Value = f64> {
    prop_oneof![0.0f64..0.5, 0.0f64..8.0, 0.0f64..60.0]
}

proptest! {
    #![proptest_config(cases(128))]

    /// Any order, any delay up to a minute, one wire or two: one master a wire, the second one's verdict within 3 s, no
    /// address twice, and nobody ever takes over or gives up again.
    #[test]
    fn two_sticks_settle(seed: u64, delay in delay(), wires in 1usize..3, swap: bool) {
        let starts = if swap { [delay, 0.0] } else { [0.0, delay] };
        let mut net = Net::new(seed, &starts, wires, Vec::new());
        net.run(delay + 3.0);
        let second = usize::from(!swap);
        for port in net.ports.iter().filter(|port| port.stick == second) {
            if delay > VERDICT_SECONDS + 1.0 {
                prop_assert_eq!(port.election.mode(), LinkMode::Yield, "{:?}", net.story());
            }
        }
        net.run(delay + 12.0);
        net.settled(LinkMode::Serve)?;
        net.run(delay + 240.0);
        net.settled(LinkMode::Serve)?;
        net.no_address_twice()?;
        prop_assert!(net.doubled.is_empty());
        for wire in 0..wires {
            let entries: u32 = net.ports.iter().filter(|port| port.wire == wire).map(|port| port.entries).sum();
            prop_assert_eq!(entries, 1, "flapping: {:?}", net.story());
        }
        // One of the sticks has all the wires.
        let owners: BTreeSet<usize> = (0..wires).flat_map(|wire| net.masters(wire, LinkMode::Serve)).map(|at| net.ports[at].stick).collect();
        prop_assert_eq!(owners.len(), 1);
    }

    #[test]
    fn three_sticks_settle(seed: u64, delays in prop::array::uniform3(0.0f64..20.0)) {
        let mut net = Net::new(seed, &delays, 1, Vec::new());
        net.run(60.0);
        net.settled(LinkMode::Serve)?;
        net.no_address_twice()?;
    }

    /// A wire that loses up to every fifth packet: settled after a while, and it stays so.
    #[test]
    fn two_sticks_settle_on_a_bad_wire(seed: u64, delay in delay(), loss in 0.0f64..0.2) {
        let mut net = Net::new(seed, &[0.0, delay], 1, Vec::new());
        net.loss = loss;
        net.run(delay + 60.0);
        let doubled = net.doubled.len();
        for second in 61..180 {
            net.run(delay + f64::from(second));
            net.settled(LinkMode::Serve)?;
        }
        prop_assert_eq!(net.doubled.len(), doubled);
    }

    /// A cable between two sticks is cut and mended at any time.
    #[test]
    fn a_split_network_that_heals_settles(seed: u64, delay in delay(), cut in 0.0f64..60.0, mended in 1.0f64..90.0) {
        let mut net = Net::new(seed, &[0.0, delay], 1, Vec::new());
        net.split = (cut, cut + mended);
        let healed = cut + mended;
        net.run(healed.max(delay) + 15.0);
        net.settled(LinkMode::Serve)?;
        let entries: u32 = net.ports.iter().map(|port| port.entries).sum();
        prop_assert!(entries <= 3, "{:?}", net.story());
        net.run(net.now + 120.0);
        net.settled(LinkMode::Serve)?;
        let after: u32 = net.ports.iter().map(|port| port.entries).sum();
        prop_assert_eq!(entries, after, "flapping: {:?}", net.story());
    }

    /// The master's power fails: the other one serves within half a minute.
    #[test]
    fn the_second_stick_takes_over(seed: u64, delay in 7.0f64..30.0, end in 40.0f64..60.0) {
        let mut net = Net::new(seed, &[0.0, delay], 1, Vec::new());
        net.life[0].1 = end;
        net.run(end + MASTER_QUIET_SECONDS + VERDICT_SECONDS + 1.0);
        net.settled(LinkMode::Serve)?;
        prop_assert!(net.doubled.is_empty());
    }

    /// A foreign server from the start: nobody ever serves, one of the sticks proxies.
    #[test]
    fn beside_a_foreign_server_one_proxies(seed: u64, delay in delay(), ping in 0.0f64..3.2, wires in 1usize..3) {
        let all = (0..wires).map(|wire| foreign(wire, 0.0, f64::INFINITY, ping)).collect();
        let mut net = Net::new(seed, &[0.0, delay], wires, all);
        net.run(delay + 16.0);
        net.settled(LinkMode::Proxy)?;
        net.run(delay + 200.0);
        net.settled(LinkMode::Proxy)?;
        prop_assert!(net.given.is_empty(), "{:?}", net.story());
        for port in &net.ports {
            prop_assert!(port.entries <= 1, "flapping: {:?}", net.story());
        }
    }

    /// A foreign server appears: within 10 s addresses are its business alone. It goes: after the quiet time they are
    /// the master's again, once.
    #[test]
    fn a_foreign_server_comes_and_goes(seed: u64, from in 7.0f64..60.0, stays in 30.0f64..120.0, ping in 0.0f64..3.0, sticks in 1usize..3) {
        let starts = [0.0, 3.0];
        let until = from + stays;
        let mut net = Net::new(seed, &starts[..sticks], 1, vec![foreign(0, from, until, ping)]);
        net.run(from);
        net.run(from + 10.0);
        prop_assert!(net.masters(0, LinkMode::Serve).is_empty(), "{:?}", net.story());
        let served = net.ports.iter().flat_map(|port| &port.modes).filter(|(at, mode)| *at > from && *mode == LinkMode::Proxy).count();
        prop_assert!(from < 12.0 || served == 1, "{:?}", net.story());
        let before = net.given.len();
        net.run(until);
        prop_assert_eq!(before, net.given.len(), "leases beside a foreign server: {:?}", net.story());
        net.run(until + QUIET_SECONDS + 30.0);
        net.settled(LinkMode::Serve)?;
        net.run(until + 300.0);
        net.settled(LinkMode::Serve)?;
    }

    /// Two ports of one stick on one wire: one voice.
    #[test]
    fn two_ports_on_one_wire_speak_once(seed: u64, beside: bool) {
        let all = if beside { vec![foreign(0, 0.0, f64::INFINITY, 1.0)] } else { Vec::new() };
        let mut net = Net::new(seed, &[0.0], 1, all);
        let mut twin = Net::new(seed, &[0.0], 1, Vec::new());
        net.ports.push(twin.ports.remove(0));
        // The simulation's broadcasts come as a rival's: the driver knows its own ports by their MAC.
        for _ in 0..1200 {
            let posted: Vec<_> = net.queue.iter().map(|(key, (to, post))| (*key, *to, post.clone())).collect();
            for (key, to, post) in posted {
                let own = !matches!(&post, Post::Event(_));
                if own {
                    let twin = Event::SameSegment { name: format!("eno{}", 1 - to), before: to == 1 };
                    net.queue.insert(key, (to, Post::Event(twin)));
                }
            }
            net.run(net.now + STEP);
        }
        net.settled(if beside { LinkMode::Proxy } else { LinkMode::Serve })?;
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Two sticks with different keys: one serves, the other one says nothing and follows nobody; the earlier one stays.
    #[test]
    fn sticks_of_two_sites_settle(seed: u64, delay in delay(), wires in 1usize..3) {
        let mut net = Net::new(seed, &[0.0, delay], wires, Vec::new()).of_many_sites();
        net.run(delay + 25.0);
        net.settled(LinkMode::Serve)?;
        net.run(delay + 300.0);
        net.settled(LinkMode::Serve)?;
        net.no_address_twice()?;
        prop_assert!(net.doubled.is_empty(), "{:?} {:?}", net.doubled, net.story());
        prop_assert!(net.fooled.is_empty(), "{:?}", net.fooled);
        for port in &net.ports {
            prop_assert!(port.modes.iter().all(|(_, mode)| *mode != LinkMode::Yield), "{:?}", net.story());
            prop_assert!(port.entries <= 1, "flapping: {:?}", net.story());
        }
        if delay > 2.0 * VERDICT_SECONDS + START_SECONDS + 1.0 {
            prop_assert!(net.masters(0, LinkMode::Serve).iter().all(|at| net.ports[*at].stick == 0), "{:?}", net.story());
        }
    }

    /// Networks of two sites grow together: the lower number stays, the other falls silent for good.
    #[test]
    fn networks_of_two_sites_that_grow_together_settle(seed: u64, delay in delay(), mended in 30.0f64..90.0) {
        let mut net = Net::new(seed, &[0.0, delay], 1, Vec::new()).of_many_sites();
        net.split = (0.0, mended);
        let healed = mended.max(delay);
        net.run(healed + 30.0);
        net.settled(LinkMode::Serve)?;
        let entries: u32 = net.ports.iter().map(|port| port.entries).sum();
        net.run(healed + 200.0);
        net.settled(LinkMode::Serve)?;
        prop_assert_eq!(entries, net.ports.iter().map(|port| port.entries).sum::<u32>(), "flapping: {:?}", net.story());
        prop_assert!(net.fooled.is_empty(), "{:?}", net.fooled);
    }

    /// Whatever is forged, replayed or carried from wire to wire, nobody follows who has not the key, and what the forger costs ends with him.
    #[test]
    fn a_forger_is_followed_by_nobody(seed: u64, delay in delay(), from in 0.0f64..60.0, stays in 1.0f64..60.0, wires in 1usize..3, sites: bool) {
        let mut net = Net::new(seed, &[0.0, delay], wires, Vec::new());
        if sites {
            net = net.of_many_sites();
        }
        net.forger = Some(Forger { from, until: from + stays, asks: false, heard: Vec::new() });
        net.run(from + stays + delay + QUIET_SECONDS + 60.0);
        prop_assert!(net.fooled.is_empty(), "{:?}", net.fooled);
        net.settled(LinkMode::Serve)?;
    }

    /// Two sticks of two sites beside a foreign server: one proxies, the other says nothing.
    #[test]
    fn sticks_of_two_sites_beside_a_foreign_server(seed: u64, delay in delay(), ping in 0.0f64..3.2) {
        let mut net = Net::new(seed, &[0.0, delay], 1, vec![foreign(0, 0.0, f64::INFINITY, ping)]).of_many_sites();
        net.run(delay + 30.0);
        for _ in 0..40 {
            net.run(net.now + 5.0);
            net.settled(LinkMode::Proxy)?;
        }
        prop_assert!(net.given.is_empty() && net.fooled.is_empty(), "{:?} {:?}", net.fooled, net.story());
    }

    /// A forger who only asks, with the lowest number there is, keeps nobody from serving.
    #[test]
    fn forged_questions_keep_nobody_from_serving(seed: u64, from in 0.0f64..20.0) {
        let mut net = Net::new(seed, &[0.0], 1, Vec::new());
        net.forger = Some(Forger { from, until: f64::INFINITY, asks: true, heard: Vec::new() });
        net.run(2.0 * VERDICT_SECONDS + START_SECONDS + 1.0);
        net.settled(LinkMode::Serve)?;
        net.run(100.0);
        net.settled(LinkMode::Serve)?;
        prop_assert!(net.fooled.is_empty(), "{:?}", net.fooled);
        prop_assert_eq!(net.ports[0].entries, 1);
    }
}

/// The question of the lower number comes to one wire just before the verdict, to the other one just after it.
#[test]
fn a_question_that_meets_the_verdict_shares_out_nothing() {
    let delay = 6.03706174351496;
    let mut net = Net::new(6039484796886964645, &[0.0, delay], 2, Vec::new());
    net.run(delay + 12.0);
    net.shared_out().expect("one master");
    net.run(delay + 240.0);
    net.shared_out().expect("one master");
    assert!(net.ports.iter().all(|port| port.entries <= 1), "{:#?}", net.story());
    net.no_address_twice().expect("no address twice");
}

/// Two sticks on two wires whose starts are as far apart as the moments at which one decides, swept in small steps: one gets both wires, and
/// nobody changes its mind.
#[test]
fn starts_around_every_moment_of_decision_settle() {
    for (at, moment) in MOMENTS.into_iter().enumerate() {
        for step in 0..30u32 {
            let delay = (moment - 0.1 + f64::from(step) / 100.0).max(0.0);
            let mut net = Net::new(u64::from(step) + 100 * at as u64, &[0.0, delay], 2, Vec::new());
            net.run(delay + 12.0);
            net.shared_out().expect("one master");
            assert!(net.doubled.is_empty(), "{:#?}", net.story());
            assert!(net.ports.iter().all(|port| port.entries <= 1), "{:#?}", net.story());
        }
    }
}

proptest! {
    #![proptest_config(cases(8))]

    /// Two or three sticks on different wires, ports whose carrier comes later, packets lost for the first minutes.
    #[test]
    fn sticks_on_different_wires_settle(
        seed: u64,
        sticks in prop::collection::vec((start(), wires()), 2..4),
        lates in prop::collection::vec(late(), 9),
        loss in prop_oneof![Just(0.0), 0.0f64..0.2],
        leave: bool,
    ) {
        let mut net = Net::of(seed, &sticks, Vec::new());
        for (port, late) in net.ports.iter_mut().zip(lates) {
            port.late = late;
        }
        (net.loss, net.leave) = (loss, leave);
        net.run(80.0);
        net.loss = 0.0;
        net.run(300.0);
        net.shared_out()?;
        let entries: Vec<_> = net.ports.iter().map(|port| port.entries).collect();
        let doubled = net.doubled.len();
        net.run(400.0);
        net.shared_out()?;
        prop_assert_eq!(entries, net.ports.iter().map(|port| port.entries).collect::<Vec<_>>(), "flapping: {:#?}", net.story());
        prop_assert_eq!(doubled, net.doubled.len());
    }

    /// The same beside foreign servers that come and go: while one answers on a wire, nobody serves it.
    #[test]
    fn sticks_on_different_wires_mind_foreign_servers(
        seed: u64,
        sticks in prop::collection::vec((start(), wires()), 1..4),
        lates in prop::collection::vec(late(), 9),
        servers in prop::collection::vec((0usize..3, start(), 15.0f64..90.0, 0.0f64..3.0), 1..4),
        leave: bool,
    ) {
        let all = servers.iter().map(|(wire, from, stays, ping)| foreign(*wire, *from, from + stays, *ping)).collect();
        let mut net = Net::of(seed, &sticks, all);
        for (port, late) in net.ports.iter_mut().zip(lates) {
            port.late = late;
        }
        net.leave = leave;
        for second in 1..120 {
            net.run(f64::from(second));
            for foreign in net.foreign.iter().filter(|foreign| (foreign.from + 10.0..foreign.until).contains(&net.now)) {
                prop_assert!(net.masters(foreign.wire, LinkMode::Serve).is_empty(), "{} at {}: {:#?}", foreign.wire, net.now, net.story());
            }
        }
        net.run(400.0);
        net.shared_out()?;
        let entries: Vec<_> = net.ports.iter().map(|port| port.entries).collect();
        net.run(500.0);
        net.shared_out()?;
        prop_assert_eq!(entries, net.ports.iter().map(|port| port.entries).collect::<Vec<_>>(), "flapping: {:#?}", net.story());
    }
}
