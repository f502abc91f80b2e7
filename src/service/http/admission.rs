//! How many big files are sent at once. Pure: arrivals, bytes and the clock in, who may start out.
//!
//! A medium that is read at a hundred places at once is slower for everybody than one that is read at a few, and a link
//! that is shared by all makes all of them wait for the last. So big transfers run a few at a time, first come first served.
//! The others wait with their connection open, which every boot loader bears; refusal is the last resort.

use std::collections::{HashMap, VecDeque};

/// Bodies up to this many bytes never wait.
pub const SMALL_BYTES: u64 = 4 << 20;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Big transfers at once.
    pub running: usize,
    /// Those that wait; further ones are refused.
    pub waiting: usize,
    /// Transfers that were found too slow for their place and go on beside the others.
    pub aside: usize,
}

impl Default for Limits {
    /// Sixteen clients fill a 10 Gbit/s link, as far as boot loaders go; a thousand wait before one is refused.
    fn default() -> Self {
        Limits {
            running: 16,
            waiting: 1024,
            aside: 64,
        }
    }
}

/// Seconds between two looks at who is slow.
pub const LOOK_SECONDS: f64 = 4.0;
/// A transfer this many times slower than the mean loses its place, though not its connection.
const SLOW: u64 = 8;
/// Bounds of `Retry-After`, in seconds.
const RETRY: (f64, f64) = (5.0, 120.0);
/// Taken for the length of a transfer until one has ended.
const GUESS_SECONDS: f64 = 10.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    Go(u64),
    Wait(u64),
    Refused { retry_after_seconds: u64 },
}

#[derive(Debug)]
struct Progress {
    started: f64,
    /// Since the last look.
    bytes: u64,
    aside: bool,
}

#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    running: HashMap<u64, Progress>,
    aside: usize,
    waiting: VecDeque<u64>,
    next: u64,
    looked: f64,
    /// Length of a transfer, recent ones counting more.
    typical_seconds: f64,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Admission {
            limits,
            running: HashMap::new(),
            aside: 0,
            waiting: VecDeque::new(),
            next: 0,
            looked: 0.0,
            typical_seconds: GUESS_SECONDS,
        }
    }

    /// Running and waiting transfers.
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    fn has_room(&self) -> bool {
        self.running.len() - self.aside < self.limits.running
    }

    pub fn arrive(&mut self, now: f64) -> Arrival {
        if self.waiting.is_empty() && self.has_room() {
            let id = self.number();
            self.start(id, now);
            Arrival::Go(id)
        } else if self.waiting.len() < self.limits.waiting {
            let id = self.number();
            self.waiting.push_back(id);
            Arrival::Wait(id)
        } else {
            let turns = self.waiting.len() as f64 / self.limits.running.max(1) as f64;
            let seconds = (turns * self.typical_seconds).clamp(RETRY.0, RETRY.1);
            Arrival::Refused {
                retry_after_seconds: seconds.ceil() as u64,
            }
        }
    }

    /// Bytes of a running transfer were handed to its connection.
    pub fn sent(&mut self, id: u64, bytes: u64) {
        if let Some(progress) = self.running.get_mut(&id) {
            progress.bytes += bytes;
        }
    }

    /// A transfer ended, or its client went while it waited. Returns who starts now.
    pub fn leave(&mut self, id: u64, now: f64) -> Vec<u64> {
        match self.running.remove(&id) {
            Some(progress) => {
                self.aside -= usize::from(progress.aside);
                self.typical_seconds += (now - progress.started - self.typical_seconds) / 8.0;
            }
            None => self.waiting.retain(|other| *other != id),
        }
        self.admit(now)
    }

    /// Takes the place of those that are far slower than the rest, if somebody waits for it. Returns who starts now.
    pub fn look(&mut self, now: f64) -> Vec<u64> {
        if now - self.looked < LOOK_SECONDS {
            return Vec::new();
        }
        let since = self.looked;
        self.looked = now;
        if !self.waiting.is_empty() {
            // Only who had a place all the time can be judged.
            let judged = || self.running.values().filter(|one| !one.aside && one.started <= since);
            let count = judged().count() as u64;
            let mean = judged().map(|one| one.bytes).sum::<u64>() / count.max(1);
            let mut room = self.limits.aside - self.aside.min(self.limits.aside);
            for progress in self.running.values_mut() {
                let slow = progress.bytes == 0 || progress.bytes.saturating_mul(SLOW) < mean;
                if slow && !progress.aside && progress.started <= since && room > 0 {
                    progress.aside = true;
                    self.aside += 1;
                    room -= 1;
                }
            }
        }
        for progress in self.running.values_mut() {
            progress.bytes = 0;
        }
        self.admit(now)
    }

    fn admit(&mut self, now: f64) -> Vec<u64> {
        let mut admitted = Vec::new();
        while self.has_room() {
            let Some(id) = self.waiting.pop_front() else { break };
            self.start(id, now);
            admitted.push(id);
        }
        admitted
    }

    fn start(&mut self, id: u64, now: f64) {
        let progress = Progress {
            started: now,
            bytes: 0,
            aside: false,
        };
        self.running.insert(id, progress);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        running: 2,
        waiting: 3,
        aside: 2,
    };

    fn full() -> Admission {
        let mut gate = Admission::new(LIMITS);
        assert_eq!(gate.arrive(0.0), Arrival::Go(1));
        assert_eq!(gate.arrive(0.0), Arrival::Go(2));
        for id in 3..6 {
            assert_eq!(gate.arrive(0.0), Arrival::Wait(id));
        }
        gate
    }

    #[test]
    fn first_come_first_served_and_then_refused() {
        let mut gate = full();
        assert_eq!(
            gate.arrive(0.0),
            Arrival::Refused {
                retry_after_seconds: 15
            }
        );
        assert_eq!(gate.leave(2, 1.0), [3]);
        // A client that went while it waited holds nobody up.
        assert_eq!(gate.leave(4, 1.0), [] as [u64; 0]);
        assert_eq!(gate.leave(1, 2.0), [5]);
        assert_eq!(gate.counts(), (2, 0));
    }

    #[test]
    fn a_stuck_client_does_not_hold_its_place() {
        let mut gate = full();
        for id in [1, 2] {
            gate.sent(id, 9);
        }
        gate.look(10.0);
        gate.sent(1, 80);
        gate.sent(2, 4);
        // A look too early changes nothing.
        assert_eq!(gate.look(12.0), [] as [u64; 0]);
        assert_eq!(gate.look(10.0 + LOOK_SECONDS), [3]);
        assert_eq!(gate.counts(), (3, 2));
        // The slow one ends: its place was given away already.
        assert_eq!(gate.leave(2, 15.0), [] as [u64; 0]);
        assert_eq!(gate.leave(1, 15.0), [4]);
    }

    #[test]
    fn equally_slow_clients_keep_their_places_and_nobody_loses_one_for_nothing() {
        let mut gate = full();
        for id in [1, 2] {
            gate.sent(id, 9);
        }
        gate.look(10.0);
        gate.sent(1, 5);
        gate.sent(2, 4);
        assert_eq!(gate.look(20.0), [] as [u64; 0]);
        let mut alone = Admission::new(LIMITS);
        alone.arrive(0.0);
        alone.look(10.0);
        alone.look(20.0);
        assert_eq!(alone.aside, 0);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_nobody_is_forgotten(steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>(), 0u64..100), 0..200)) {
            let mut gate = Admission::new(LIMITS);
            let (mut now, mut inside, mut started) = (0.0, Vec::new(), Vec::new());
            for (step, pick, bytes) in steps {
                now += 1.0;
                let admitted = match step {
                    0 => match gate.arrive(now) {
                        Arrival::Go(id) => { inside.push(id); vec![id] }
                        Arrival::Wait(id) => { inside.push(id); vec![] }
                        Arrival::Refused { retry_after_seconds } => {
                            prop_assert!((5..=120).contains(&retry_after_seconds));
                            vec![]
                        }
                    },
                    1 if !inside.is_empty() => gate.leave(inside.swap_remove(pick.index(inside.len())), now),
                    2 if !inside.is_empty() => { gate.sent(inside[pick.index(inside.len())], bytes); vec![] }
                    _ => gate.look(now),
                };
                started.extend(admitted);
                let (running, waiting) = gate.counts();
                prop_assert!(running - gate.aside <= LIMITS.running && gate.aside <= LIMITS.aside && waiting <= LIMITS.waiting);
                prop_assert_eq!(running + waiting, inside.len());
                prop_assert!(waiting == 0 || running - gate.aside == LIMITS.running, "someone waits beside a free place");
            }
            let mut sorted = started.clone();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), started.len(), "nobody starts twice");
            prop_assert!(started.is_sorted(), "first come, first served");
        }
    }
}
