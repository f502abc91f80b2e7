//! Who is answered at all, and how often. Pure: time comes in as seconds of the run.
//!
//! A stick that was plugged into the wrong network must not hand addresses to anybody's laptop: answers go to machines
//! that boot from the network, to recon's own, and to a port that did so before, because the system it booted asks
//! again without saying what it is. And no client, however often it asks, may starve the others.

use std::collections::{HashMap, HashSet};

use crate::model::MacAddr;

use super::client::{Client, Kind};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Answer,
    /// It does not boot from the network.
    NotOurs,
    /// It asks more often than any firmware does. `first`: not said before in this run.
    TooOften {
        first: bool,
    },
    /// All of them together ask more often than is answered.
    TooMany {
        first: bool,
    },
}

/// Packets that one port may send at once, and how many more a second. Firmware, iPXE and an initrd together send some
/// ten packets in a boot, and repeat them seconds apart.
const MAC_BURST: f64 = 30.0;
const MAC_RATE: f64 = 2.0;
/// The same for all ports of a link. More than a data center that is switched on at once sends, and less than a
/// processor core can answer.
const ALL_BURST: f64 = 10_000.0;
const ALL_RATE: f64 = 20_000.0;
/// Ports remembered; twice as many are, for a while.
const GENERATION: usize = 16_384;

/// A bucket of tokens.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: f64,
    said: bool,
}

impl Bucket {
    fn full(burst: f64, now: f64) -> Self {
        Bucket {
            tokens: burst,
            at: now,
            said: false,
        }
    }

    /// Takes a token if there is one. A clock that stands still or goes back fills nothing.
    fn take(&mut self, burst: f64, rate: f64, now: f64) -> bool {
        self.tokens = burst.min(self.tokens + (now - self.at).max(0.0) * rate);
        self.at = self.at.max(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// The door of one link.
#[derive(Debug)]
pub struct Door {
    serve_all: bool,
    /// Ports that booted from the network, in two generations: when the young one is full, the old one is forgotten.
    guests: [HashSet<MacAddr>; 2],
    buckets: [HashMap<MacAddr, Bucket>; 2],
    all: Bucket,
}

impl Door {
    /// `serve_all`: everybody is answered, as `serve-all` in recon.toml says.
    pub fn new(serve_all: bool, now: f64) -> Self {
        Door {
            serve_all,
            guests: Default::default(),
            buckets: Default::default(),
            all: Bucket::full(ALL_BURST, now),
        }
    }

    /// Judges a request. `known`: the port has a lease or a reservation.
    pub fn judge(&mut self, client: &Client, known: bool, now: f64) -> Verdict {
        if !self.lets_in(client, known) {
            return Verdict::NotOurs;
        }
        let bucket = self.bucket(client.mac, now);
        if !bucket.take(MAC_BURST, MAC_RATE, now) {
            let first = !std::mem::replace(&mut bucket.said, true);
            return Verdict::TooOften { first };
        }
        if !self.all.take(ALL_BURST, ALL_RATE, now) {
            let first = !std::mem::replace(&mut self.all.said, true);
            return Verdict::TooMany { first };
        }
        Verdict::Answer
    }

    fn lets_in(&mut self, client: &Client, known: bool) -> bool {
        match client.kind {
            Kind::Pxe(_) | Kind::HttpBoot(_) | Kind::Ipxe | Kind::Agent => {
                self.remember(client.mac);
                true
            }
            Kind::Probe => true,
            Kind::Other => self.serve_all || known || self.guests.iter().any(|guests| guests.contains(&client.mac)),
        }
    }

    fn remember(&mut self, mac: MacAddr) {
        if self.guests[0].len() >= GENERATION && !self.guests[0].contains(&mac) {
            self.guests.swap(0, 1);
            self.guests[0].clear();
        }
        self.guests[0].insert(mac);
    }

    fn bucket(&mut self, mac: MacAddr, now: f64) -> &mut Bucket {
        if !self.buckets[0].contains_key(&mac) {
            if self.buckets[0].len() >= GENERATION {
                self.buckets.swap(0, 1);
                self.buckets[0].clear();
            }
            // One that looped in the last generation still loops.
            let bucket = self.buckets[1].get(&mac).copied();
            self.buckets[0].insert(mac, bucket.unwrap_or(Bucket::full(MAC_BURST, now)));
        }
        self.buckets[0].entry(mac).or_insert(Bucket::full(MAC_BURST, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arch;

    fn client(number: u32, kind: Kind) -> Client {
        let [a, b, c, d] = number.to_be_bytes();
        Client {
            mac: MacAddr([2, 0, a, b, c, d]),
            kind,
            uuid: None,
        }
    }

    #[test]
    fn only_netbooting_machines_get_in() {
        let mut door = Door::new(false, 0.0);
        for kind in [
            Kind::Pxe(Arch::Bios),
            Kind::HttpBoot(Arch::HttpX64),
            Kind::Ipxe,
            Kind::Agent,
            Kind::Probe,
        ] {
            assert_eq!(door.judge(&client(1, kind), false, 0.0), Verdict::Answer, "{kind:?}");
        }
        assert_eq!(door.judge(&client(2, Kind::Other), false, 0.0), Verdict::NotOurs);
        assert_eq!(
            door.judge(&client(2, Kind::Other), true, 0.0),
            Verdict::Answer,
            "it has a lease"
        );
        assert_eq!(
            Door::new(true, 0.0).judge(&client(2, Kind::Other), false, 0.0),
            Verdict::Answer,
            "serve-all"
        );
    }

    #[test]
    fn what_the_machine_boots_gets_in_by_its_port() {
        let mut door = Door::new(false, 0.0);
        door.judge(&client(7, Kind::Pxe(Arch::UefiX64)), false, 0.0);
        assert_eq!(door.judge(&client(7, Kind::Other), false, 60.0), Verdict::Answer);
        // Asking who serves here is not booting.
        door.judge(&client(8, Kind::Probe), false, 0.0);
        assert_eq!(door.judge(&client(8, Kind::Other), false, 60.0), Verdict::NotOurs);
    }

    #[test]
    fn a_loop_is_slowed_said_once_and_costs_nobody_else() {
        let mut door = Door::new(false, 0.0);
        let looping = client(1, Kind::Ipxe);
        let verdicts: Vec<Verdict> = (0..1000)
            .map(|at| door.judge(&looping, true, f64::from(at) / 1000.0))
            .collect();
        let answered = verdicts.iter().filter(|verdict| **verdict == Verdict::Answer).count();
        assert!((30..=33).contains(&answered), "{answered}");
        let said = verdicts
            .iter()
            .filter(|verdict| **verdict == Verdict::TooOften { first: true });
        assert_eq!(said.count(), 1);
        assert_eq!(door.judge(&client(2, Kind::Ipxe), false, 1.0), Verdict::Answer);
        assert_eq!(
            door.judge(&looping, true, 3.0),
            Verdict::Answer,
            "it may ask again after a while"
        );
    }

    #[test]
    fn strangers_cost_no_tokens() {
        let mut door = Door::new(false, 0.0);
        for at in 0..20_000 {
            door.judge(&client(at, Kind::Other), false, 0.0);
        }
        assert_eq!(door.judge(&client(1, Kind::Ipxe), false, 0.0), Verdict::Answer);
        assert!(door.buckets.iter().all(|buckets| buckets.len() <= 1));
    }

    #[test]
    fn a_flood_of_ports_is_bounded_in_number_and_memory() {
        let mut door = Door::new(false, 0.0);
        let mut verdicts = Vec::new();
        for at in 0..60_000u32 {
            verdicts.push(door.judge(&client(at, Kind::Ipxe), false, f64::from(at) / 60_000.0));
        }
        let answered = verdicts.iter().filter(|verdict| **verdict == Verdict::Answer).count();
        assert!((29_000..=30_001).contains(&answered), "{answered} of 60000 in a second");
        assert_eq!(
            verdicts
                .iter()
                .filter(|v| **v == Verdict::TooMany { first: true })
                .count(),
            1
        );
        assert!(door.buckets.iter().map(HashMap::len).sum::<usize>() <= 2 * GENERATION);
        assert!(door.guests.iter().map(HashSet::len).sum::<usize>() <= 2 * GENERATION);
    }
}
