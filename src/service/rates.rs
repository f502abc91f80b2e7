//! How often one sender, and all together, are answered. Pure: time comes in as seconds of the run.

use std::collections::HashMap;
use std::hash::Hash;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Within,
    /// Its sender asks more often than any firmware does. `first`: not said before in this run.
    TooOften {
        first: bool,
    },
    /// All of them together ask more often than is answered.
    TooMany {
        first: bool,
    },
}

/// Packets that one sender may send at once, and how many more a second. Firmware, iPXE and an initrd together send some
/// ten packets in a boot, and repeat them seconds apart.
const ONE_BURST: f64 = 30.0;
const ONE_RATE: f64 = 2.0;
/// The same for all senders of a link. More than a data center that is switched on at once sends, and less than a
/// processor core can answer.
const ALL_BURST: f64 = 10_000.0;
const ALL_RATE: f64 = 20_000.0;
/// Senders remembered; twice as many are, for a while.
pub(super) const GENERATION: usize = 16_384;

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

    /// True the first time it is empty.
    fn first(&mut self) -> bool {
        !std::mem::replace(&mut self.said, true)
    }
}

/// The rates of one link; `K` names a sender.
#[derive(Debug)]
pub struct Rates<K> {
    /// Two generations: when the young one is full, the old one is forgotten.
    senders: [HashMap<K, Bucket>; 2],
    all: Bucket,
}

impl<K: Hash + Eq + Copy> Rates<K> {
    pub fn new(now: f64) -> Self {
        Rates {
            senders: Default::default(),
            all: Bucket::full(ALL_BURST, now),
        }
    }

    /// Counts a request.
    pub fn count(&mut self, sender: K, now: f64) -> Rate {
        let bucket = self.bucket(sender, now);
        if !bucket.take(ONE_BURST, ONE_RATE, now) {
            return Rate::TooOften { first: bucket.first() };
        }
        if !self.all.take(ALL_BURST, ALL_RATE, now) {
            return Rate::TooMany {
                first: self.all.first(),
            };
        }
        Rate::Within
    }

    /// Senders remembered.
    pub fn len(&self) -> usize {
        self.senders.iter().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bucket(&mut self, sender: K, now: f64) -> &mut Bucket {
        let mut old = None;
        if !self.senders[0].contains_key(&sender) {
            if self.senders[0].len() >= GENERATION {
                self.senders.swap(0, 1);
                self.senders[0].clear();
            }
            // One that looped in the last generation still loops.
            old = self.senders[1].get(&sender).copied();
        }
        self.senders[0]
            .entry(sender)
            .or_insert(old.unwrap_or(Bucket::full(ONE_BURST, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_slowed_said_once_and_costs_nobody_else() {
        let mut rates = Rates::new(0.0);
        let counted: Vec<Rate> = (0..1000).map(|at| rates.count(1, f64::from(at) / 1000.0)).collect();
        let within = counted.iter().filter(|rate| **rate == Rate::Within).count();
        assert!((30..=33).contains(&within), "{within}");
        let said = counted.iter().filter(|rate| **rate == Rate::TooOften { first: true });
        assert_eq!(said.count(), 1);
        assert_eq!(rates.count(2, 1.0), Rate::Within);
        assert_eq!(rates.count(1, 3.0), Rate::Within, "it may ask again after a while");
    }

    #[test]
    fn a_flood_of_senders_is_bounded_in_number_and_memory() {
        let mut rates = Rates::new(0.0);
        let counted: Vec<Rate> = (0..60_000u32)
            .map(|at| rates.count(at, f64::from(at) / 60_000.0))
            .collect();
        let within = counted.iter().filter(|rate| **rate == Rate::Within).count();
        assert!((29_000..=30_001).contains(&within), "{within} of 60000 in a second");
        let said = counted.iter().filter(|rate| **rate == Rate::TooMany { first: true });
        assert_eq!(said.count(), 1);
        assert!(rates.len() <= 2 * GENERATION);
    }

    #[test]
    fn one_that_loops_does_so_after_a_crowd_went_by() {
        let mut rates = Rates::new(0.0);
        for _ in 0..40 {
            rates.count(0, 0.0);
        }
        for at in 1..=GENERATION as u32 {
            rates.count(at, 0.0);
        }
        assert_eq!(rates.count(0, 0.0), Rate::TooOften { first: false });
    }
}
