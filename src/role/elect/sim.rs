//! Whole networks of elections: sticks, ports, foreign servers, lost packets, cut and healed cables. Time is the
//! simulation's own and chance comes from a seed, so that a failure is the same failure again.

use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

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

/// One port of one stick.
struct Port {
    stick: usize,
    wire: usize,
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
    queue: BTreeMap<(u64, u64), (usize, Event)>,
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
    fn new(seed: u64, starts: &[f64], wires: usize, foreign: Vec<Foreign>) -> Self {
        let mut chance = Chance(seed);
        // Whether the earlier or the later stick has the lower number is a matter of chance, too.
        let flip = chance.next() < 0.5;
        let mut ports = Vec::new();
        for stick in 0..starts.len() {
            let number = if flip { starts.len() - 1 - stick } else { stick };
            for wire in 0..wires {
                ports.push(Port {
                    stick,
                    wire,
                    election: Election::new(MacAddr([2, 0, 0, 0, 0, number as u8]), LinkRule::Auto),
                    ready: f64::INFINITY,
                    entries: 0,
                    modes: Vec::new(),
                });
            }
        }
        Net {
            now: 0.0,
            life: starts.iter().map(|start| (*start, f64::INFINITY)).collect(),
            ports,
            foreign,
            loss: 0.0,
            split: (f64::INFINITY, f64::INFINITY),
            chance,
            queue: BTreeMap::new(),
            sequence: 0,
            given: Vec::new(),
            doubled: Vec::new(),
            seconds: 0,
        }
    }

    fn post(&mut self, to: usize, delay: f64, event: Event) {
        if self.chance.next() < self.loss {
            return;
        }
        self.sequence += 1;
        let at = ((self.now + delay) * 1e6) as u64;
        self.queue.insert((at, self.sequence), (to, event));
    }

    fn apart(&self, a: usize, b: usize) -> bool {
        a != b && (self.split.0..self.split.1).contains(&self.now)
    }

    /// Everything on the wire hears a packet of a port.
    fn broadcast(&mut self, from: usize, event: &Event) {
        let (stick, wire) = (self.ports[from].stick, self.ports[from].wire);
        for to in 0..self.ports.len() {
            let other = &self.ports[to];
            if to == from || other.wire != wire || self.apart(stick, other.stick) {
                continue;
            }
            let delay = 0.001 + self.chance.next() * 0.1;
            self.post(to, delay, event.clone());
        }
    }

    fn alive(&self, port: usize) -> bool {
        let (start, end) = self.life[self.ports[port].stick];
        (start..end).contains(&self.now)
    }

    fn feed(&mut self, port: usize, event: Event) {
        if !self.alive(port) {
            return;
        }
        let now = self.now;
        let actions = self.ports[port].election.on(event, now);
        for action in actions {
            let (stick, machine) = (self.ports[port].stick, self.ports[port].election.machine);
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
                        self.broadcast(port, &Event::Rival(machine));
                    }
                    self.foreign_answers(port, stick, action == Action::AskBoot);
                }
            }
        }
    }

    fn announce(&mut self, port: usize) {
        if self.ports[port].ready > self.now {
            return;
        }
        let machine = self.ports[port].election.machine;
        let server = ForeignServer {
            address: Ipv4Addr::new(192, 168, 219, 1 + self.ports[port].stick as u8),
            mac: machine,
            recon: true,
            boots: false,
        };
        self.broadcast(port, &Event::Server { server, machine });
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
                boots: boot && foreign.boots,
            };
            let ping = if boot { 0.0 } else { foreign.ping };
            let event = Event::Server { server, machine: mac };
            for to in 0..self.ports.len() {
                if self.ports[to].wire == wire && !self.apart(0, self.ports[to].stick) {
                    let delay = 0.001 + ping + self.chance.next() * 0.1;
                    self.post(to, delay, event.clone());
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
                let (port, event) = entry.remove();
                self.feed(port, event);
            }
            for port in 0..self.ports.len() {
                if self.alive(port) {
                    self.feed(port, Event::Carrier(true));
                    self.feed(port, Event::Tick);
                    // The driver says so itself as soon as its services run.
                    if (self.ports[port].ready..self.ports[port].ready + STEP).contains(&self.now) {
                        self.announce(port);
                    }
                }
            }
            if self.now as u64 > self.seconds {
                self.seconds = self.now as u64;
                self.clients();
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
        let line = |port: &Port| format!("stick {} wire {}: {:?}", port.stick, port.wire, port.modes);
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

fn foreign(wire: usize, from: f64, until: f64, ping: f64) -> Foreign {
    Foreign {
        wire,
        from,
        until,
        ping,
        boots: false,
    }
}

/// Seconds between the starts of two sticks: together, within one election, or any time later.
fn delay() -> impl Strategy<Value = f64> {
    prop_oneof![0.0f64..0.5, 0.0f64..8.0, 0.0f64..60.0]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

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
        let owners: std::collections::BTreeSet<usize> = (0..wires).flat_map(|wire| net.masters(wire, LinkMode::Serve)).map(|at| net.ports[at].stick).collect();
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
            let posted: Vec<_> = net.queue.iter().map(|(key, (to, event))| (*key, *to, event.clone())).collect();
            for (key, to, event) in posted {
                let own = matches!(&event, Event::Rival(_)) || matches!(&event, Event::Server { server, .. } if server.recon);
                if own {
                    net.queue.insert(key, (to, Event::Twin { name: format!("eno{}", 1 - to), before: to == 1 }));
                }
            }
            net.run(net.now + STEP);
        }
        net.settled(if beside { LinkMode::Proxy } else { LinkMode::Serve })?;
    }
}
