//! How often one sender, and all together, are answered. Pure: time comes in as seconds of the run.

use std::collections::HashMap;
use std::hash::Hash;

use crate::model::RunTime;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
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
const SENDER_BURST_PACKETS: f64 = 30.0;
const SENDER_PACKETS_PER_SECOND: f64 = 2.0;
/// The same for all senders of a link. More than a data center that is switched on at once sends, and less than a
/// processor core can answer.
const LINK_BURST_PACKETS: f64 = 10_000.0;
const LINK_PACKETS_PER_SECOND: f64 = 20_000.0;
/// Of these, requests that begin something leave the rest to those that go on: where more is asked than is answered, those
/// who began get to the end, instead of everybody half way.
const KEPT_FOR_GOING_ON_PACKETS: f64 = LINK_BURST_PACKETS / 2.0;
/// Senders remembered; twice as many are, for a while.
pub(super) const SENDERS_PER_GENERATION: usize = 16_384;

/// Where in its exchange a sender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It looks for a server.
    Begins,
    /// It was answered before.
    GoesOn,
}

/// A bucket of tokens.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: RunTime,
    said: bool,
}

impl Bucket {
    fn full(burst: f64, now: RunTime) -> Self {
        Bucket {
            tokens: burst,
            at: now,
            said: false,
        }
    }

    /// A clock that stands still or goes back fills nothing.
    fn fill(&mut self, burst: f64, rate: f64, now: RunTime) {
        if now > self.at {
            self.tokens = burst.min(self.tokens + (now - self.at) * rate);
            self.at = now;
        }
    }

    /// Takes a token if there are more than `left`.
    fn take(&mut self, burst: f64, rate: f64, left: f64, now: RunTime) -> bool {
        self.fill(burst, rate, now);
        let enough = self.tokens >= left + 1.0;
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

/// What is remembered of each key, of two generations: when the young one is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Keys of a generation.
    most: usize,
}

impl<K: Hash + Eq + Copy, V: Copy> Generations<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Generations { young, old, most }
    }

    /// What is remembered of `key`, else `fresh`.
    pub(crate) fn of(&mut self, key: K, fresh: V) -> &mut V {
        let mut known = fresh;
        if !self.young.contains_key(&key) {
            if self.young.len() >= self.most {
                std::mem::swap(&mut self.young, &mut self.old);
                self.young.clear();
            }
            known = self.old.get(&key).copied().unwrap_or(fresh);
        }
        self.young.entry(key).or_insert(known)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The rates of one link; `K` names a sender.
#[derive(Debug)]
pub(crate) struct RateLimiter<K> {
    /// What one sender may ask at once, and how much more a second.
    one: (f64, f64),
    /// One that looped in the last generation still loops.
    senders: Generations<K, Bucket>,
    all: Bucket,
}

impl<K: Hash + Eq + Copy> RateLimiter<K> {
    /// For packets of a boot.
    pub(crate) fn new(now: RunTime) -> Self {
        RateLimiter::with(SENDER_BURST_PACKETS, SENDER_PACKETS_PER_SECOND, now)
    }

    /// With another `burst` of one sender, and another `rate` a second.
    pub(crate) fn with(burst: f64, rate: f64, now: RunTime) -> Self {
        RateLimiter {
            one: (burst, rate),
            senders: Generations::new(SENDERS_PER_GENERATION),
            all: Bucket::full(LINK_BURST_PACKETS, now),
        }
    }

    /// Counts a request.
    pub(crate) fn count(&mut self, sender: K, turn: Turn, now: RunTime) -> Rate {
        let (burst, rate) = self.one;
        let bucket = self.senders.of(sender, Bucket::full(burst, now));
        if !bucket.take(burst, rate, 0.0, now) {
            return Rate::TooOften { first: bucket.first() };
        }
        let left = match turn {
            Turn::Begins => KEPT_FOR_GOING_ON_PACKETS,
            Turn::GoesOn => 0.0,
        };
        if !self.all.take(LINK_BURST_PACKETS, LINK_PACKETS_PER_SECOND, left, now) {
            return Rate::TooMany {
                first: self.all.first(),
            };
        }
        Rate::Within
    }

    /// Whether a request of the sender would be within its rate; counts none.
    pub(crate) fn look(&mut self, sender: K, now: RunTime) -> Rate {
        let (burst, rate) = self.one;
        let bucket = self.senders.of(sender, Bucket::full(burst, now));
        bucket.fill(burst, rate, now);
        match bucket.tokens >= 1.0 {
            true => Rate::Within,
            false => Rate::TooOften { first: bucket.first() },
        }
    }

    /// Senders remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: f64) -> RunTime {
        RunTime::from_seconds(seconds)
    }

    #[test]
    fn a_loop_is_slowed_said_once_and_costs_nobody_else() {
        let mut rates = RateLimiter::new(second(0.0));
        let counted: Vec<Rate> = (0..1000)
            .map(|at| rates.count(1, Turn::GoesOn, second(f64::from(at) / 1000.0)))
            .collect();
        let within = counted.iter().filter(|rate| **rate == Rate::Within).count();
        assert!((30..=33).contains(&within), "{within}");
        let said = counted.iter().filter(|rate| **rate == Rate::TooOften { first: true });
        assert_eq!(said.count(), 1);
        assert_eq!(rates.count(2, Turn::GoesOn, second(1.0)), Rate::Within);
        assert_eq!(
            rates.count(1, Turn::GoesOn, second(3.0)),
            Rate::Within,
            "it may ask again after a while"
        );
    }

    #[test]
    fn a_flood_of_senders_is_bounded_in_number_and_memory() {
        let mut rates = RateLimiter::new(second(0.0));
        let counted: Vec<Rate> = (0..60_000u32)
            .map(|at| rates.count(at, Turn::GoesOn, second(f64::from(at) / 60_000.0)))
            .collect();
        let within = counted.iter().filter(|rate| **rate == Rate::Within).count();
        assert!((29_000..=30_001).contains(&within), "{within} of 60000 in a second");
        let said = counted.iter().filter(|rate| **rate == Rate::TooMany { first: true });
        assert_eq!(said.count(), 1);
        assert!(rates.len() <= 2 * SENDERS_PER_GENERATION);
    }

    #[test]
    fn in_a_flood_those_who_began_get_to_the_end() {
        let mut rates = RateLimiter::new(second(0.0));
        let (mut begun, mut ended) = (0, 0);
        // In every millisecond 30 begin, which with their second request is three times what is answered.
        for at in 0..3000u32 {
            let now = second(f64::from(at) / 1000.0);
            for one in 0..30 {
                let sender = at * 30 + one;
                if rates.count(sender, Turn::Begins, now) == Rate::Within {
                    begun += 1;
                    ended += u32::from(rates.count(sender, Turn::GoesOn, now) == Rate::Within);
                }
            }
        }
        assert_eq!(begun, ended);
        assert!((30_000..=35_000).contains(&ended), "{ended} in three seconds");
    }

    #[test]
    fn one_that_loops_does_so_after_a_crowd_went_by() {
        let mut rates = RateLimiter::new(second(0.0));
        for _ in 0..40 {
            rates.count(0, Turn::GoesOn, second(0.0));
        }
        for at in 1..=SENDERS_PER_GENERATION as u32 {
            rates.count(at, Turn::GoesOn, second(0.0));
        }
        assert_eq!(
            rates.count(0, Turn::GoesOn, second(0.0)),
            Rate::TooOften { first: false }
        );
    }
}
