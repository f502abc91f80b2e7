//! How many big files are sent at once. Pure: arrivals, bytes and the clock in, who may start out.
//!
//! A medium that is read at a hundred places at once is slower for everybody than one that is read at a few, and a link
//! that is shared by all makes all of them wait for the last. So big transfers run a few at a time, first come first served.
//! The others wait with their connection open, which every boot loader bears; refusal is the last resort.
//!
//! One address with many transfers does not hold up one with few: who has none running takes a place from who has several, of
//! those that wait the one starts whose address has the fewest, and no address waits with more than are left for others.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::model::RunTime;

/// Bodies up to this many bytes never wait.
pub(crate) const SMALL_BYTES: u64 = 4 << 20;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Big transfers at once.
    pub running: usize,
    /// Those that wait; further ones are refused.
    pub waiting: usize,
    /// Transfers that were found too slow for their place and go on beside the others.
    pub aside: usize,
}

/// Sixteen clients fill a 10 Gbit/s link, as far as boot loaders go; two thousand wait before one is refused.
pub(crate) const LIMITS: Limits = Limits {
    running: 16,
    waiting: 2048,
    aside: 64,
};

/// Seconds between two looks at who is slow.
pub(crate) const LOOK_SECONDS: f64 = 4.0;
/// A transfer this many times slower than the mean loses its place, though not its connection.
const SLOW: u64 = 8;
/// Bounds of `Retry-After`, in seconds.
const RETRY: (f64, f64) = (5.0, 120.0);
/// Taken for the length of a transfer until one has ended.
const GUESS_SECONDS: f64 = 10.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Go(u64),
    Wait(u64),
    Refused { retry_after_seconds: u64 },
}

#[derive(Debug)]
struct Progress {
    who: IpAddr,
    started: RunTime,
    /// Since the last look.
    bytes: u64,
    aside: bool,
}

#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    running: HashMap<u64, Progress>,
    aside: usize,
    waiting: VecDeque<(u64, IpAddr)>,
    next: u64,
    looked: RunTime,
    /// Length of a transfer, recent ones counting more.
    typical_seconds: f64,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Admission {
            limits,
            running: HashMap::new(),
            aside: 0,
            waiting: VecDeque::new(),
            next: 0,
            looked: RunTime::default(),
            typical_seconds: GUESS_SECONDS,
        }
    }

    /// Running and waiting transfers.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    fn has_room(&self) -> bool {
        self.running.len() - self.aside < self.limits.running
    }

    /// Transfers of each address that hold a place.
    fn holders(&self) -> HashMap<IpAddr, usize> {
        let mut holders = HashMap::new();
        for progress in self.running.values().filter(|one| !one.aside) {
            *holders.entry(progress.who).or_default() += 1;
        }
        holders
    }

    pub(crate) fn arrive(&mut self, who: IpAddr, now: RunTime) -> Arrival {
        let wait = |(_, other): &&(u64, IpAddr)| *other == who;
        let free = self.limits.waiting - self.waiting.len();
        if (self.waiting.is_empty() && self.has_room()) || self.gives_way(who) {
            let id = self.number();
            self.start(id, who, now);
            Arrival::Go(id)
        } else if self.waiting.iter().filter(wait).count() < free {
            let id = self.number();
            self.waiting.push_back((id, who));
            Arrival::Wait(id)
        } else {
            let turns = self.waiting.len() as f64 / self.limits.running.max(1) as f64;
            let seconds = (turns * self.typical_seconds).clamp(RETRY.0, RETRY.1).ceil();
            Arrival::Refused {
                retry_after_seconds: seconds as u64,
            }
        }
    }

    /// True if a transfer of an address with several lost its place to `who`, which has none.
    fn gives_way(&mut self, who: IpAddr) -> bool {
        let holders = self.holders();
        let most = holders.iter().max_by_key(|(_, held)| **held);
        let Some((hog, _)) = most.filter(|(_, held)| **held > 1) else {
            return false;
        };
        if self.has_room() || holders.contains_key(&who) || self.aside >= self.limits.aside {
            return false;
        }
        let theirs = self.running.iter_mut().filter(|(_, one)| one.who == *hog && !one.aside);
        let Some((_, slowest)) = theirs.min_by_key(|(id, one)| (one.bytes, **id)) else {
            return false;
        };
        slowest.aside = true;
        self.aside += 1;
        true
    }

    /// Bytes of a running transfer were handed to its connection.
    pub(crate) fn sent(&mut self, id: u64, bytes: u64) {
        if let Some(progress) = self.running.get_mut(&id) {
            progress.bytes += bytes;
        }
    }

    /// A transfer ended, or its client went while it waited. Returns who starts now.
    pub(crate) fn leave(&mut self, id: u64, now: RunTime) -> Vec<u64> {
        match self.running.remove(&id) {
            Some(progress) => {
                self.aside -= usize::from(progress.aside);
                self.typical_seconds += (now - progress.started - self.typical_seconds) / 8.0;
            }
            None => self.waiting.retain(|(other, _)| *other != id),
        }
        self.admit(now)
    }

    /// Takes the place of those that are far slower than the rest, if somebody waits for it. Returns who starts now.
    pub(crate) fn look(&mut self, now: RunTime) -> Vec<u64> {
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

    fn admit(&mut self, now: RunTime) -> Vec<u64> {
        let mut admitted = Vec::new();
        while self.has_room() {
            let holders = self.holders();
            let held = |who: &IpAddr| holders.get(who).copied().unwrap_or(0);
            // The first of those with the fewest.
            let next = (0..self.waiting.len()).min_by_key(|at| held(&self.waiting[*at].1));
            let Some((id, who)) = next.and_then(|at| self.waiting.remove(at)) else {
                break;
            };
            self.start(id, who, now);
            admitted.push(id);
        }
        admitted
    }

    fn start(&mut self, id: u64, who: IpAddr, now: RunTime) {
        let progress = Progress {
            who,
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

    const FEW: Limits = Limits {
        running: 2,
        waiting: 3,
        aside: 2,
    };

    const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn second(seconds: f64) -> RunTime {
        RunTime::from_seconds(seconds)
    }

    fn who(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Full, and looked at; then its two sent these bytes.
    fn looked_at(one: u64, other: u64) -> Admission {
        let mut gate = full();
        for id in [1, 2] {
            gate.sent(id, 9);
        }
        gate.look(second(10.0));
        gate.sent(1, one);
        gate.sent(2, other);
        gate
    }

    fn full() -> Admission {
        let mut gate = Admission::new(FEW);
        assert_eq!(gate.arrive(ME, second(0.0)), Arrival::Go(1));
        assert_eq!(gate.arrive(ME, second(0.0)), Arrival::Go(2));
        // Each from an address of its own, so that all may wait.
        for id in 3..6 {
            gate.waiting.push_back((id, ME));
            gate.next = id;
        }
        gate
    }

    #[test]
    fn first_come_first_served_and_then_refused() {
        let mut gate = full();
        assert_eq!(
            gate.arrive(ME, second(0.0)),
            Arrival::Refused {
                retry_after_seconds: 15
            }
        );
        assert_eq!(gate.leave(2, second(1.0)), [3]);
        // A client that went while it waited holds nobody up.
        assert_eq!(gate.leave(4, second(1.0)), [] as [u64; 0]);
        assert_eq!(gate.leave(1, second(2.0)), [5]);
        assert_eq!(gate.counts(), (2, 0));
    }

    #[test]
    fn a_stuck_client_does_not_hold_its_place() {
        let mut gate = looked_at(80, 4);
        // A look too early changes nothing.
        assert_eq!(gate.look(second(12.0)), [] as [u64; 0]);
        assert_eq!(gate.look(second(10.0 + LOOK_SECONDS)), [3]);
        assert_eq!(gate.counts(), (3, 2));
        // The slow one ends: its place was given away already.
        assert_eq!(gate.leave(2, second(15.0)), [] as [u64; 0]);
        assert_eq!(gate.leave(1, second(15.0)), [4]);
    }

    #[test]
    fn equally_slow_clients_keep_their_places_and_nobody_loses_one_for_nothing() {
        let mut gate = looked_at(5, 4);
        assert_eq!(gate.look(second(20.0)), [] as [u64; 0]);
        let mut alone = Admission::new(FEW);
        alone.arrive(ME, second(0.0));
        alone.look(second(10.0));
        alone.look(second(20.0));
        assert_eq!(alone.aside, 0);
    }

    #[test]
    fn one_address_with_many_does_not_hold_up_another() {
        let limits = Limits {
            running: 4,
            waiting: 100,
            aside: 3,
        };
        let mut gate = Admission::new(limits);
        let hog = (0..200).map(|_| gate.arrive(who(7), second(0.0))).collect::<Vec<_>>();
        let waits = hog.iter().filter(|one| matches!(one, Arrival::Wait(_))).count();
        assert_eq!(waits, 50, "as many are left for others");
        for id in 1..=4 {
            gate.sent(id, 100 - id);
        }
        // Machines that have nothing yet start at once, each in the place of one of the hog's, the slowest first.
        for machine in 1..=3 {
            assert_eq!(
                gate.arrive(who(machine), second(1.0)),
                Arrival::Go(54 + u64::from(machine))
            );
        }
        let aside: Vec<bool> = (1..=4).map(|id| gate.running[&id].aside).collect();
        assert_eq!(aside, [false, true, true, true]);
        // No more than that are beside the others. Then they wait, and come before what the hog has waiting.
        assert_eq!(gate.arrive(who(4), second(1.0)), Arrival::Wait(58));
        assert_eq!(gate.leave(55, second(2.0)), [58]);
        assert_eq!(gate.leave(1, second(3.0)), [5], "nobody else waits");
    }

    #[test]
    fn machines_with_one_each_come_in_their_order() {
        let mut gate = Admission::new(FEW);
        let arrivals: Vec<_> = (1..=6).map(|machine| gate.arrive(who(machine), second(0.0))).collect();
        use Arrival::*;
        assert_eq!(arrivals[..5], [Go(1), Go(2), Wait(3), Wait(4), Wait(5)]);
        assert!(matches!(arrivals[5], Refused { .. }));
        assert_eq!(gate.leave(1, second(1.0)), [3]);
        assert_eq!(gate.leave(3, second(1.0)), [4]);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_nobody_is_forgotten(steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>(), 0u64..100), 0..200), many in any::<bool>()) {
            let mut gate = Admission::new(FEW);
            let (mut now, mut inside, mut started) = (second(0.0), Vec::new(), Vec::new());
            for (step, pick, bytes) in steps {
                now += 1.0;
                let admitted = match step {
                    0 => match gate.arrive(who(if many { bytes as u8 % 5 } else { 0 }), now) {
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
                prop_assert!(running - gate.aside <= FEW.running && gate.aside <= FEW.aside && waiting <= FEW.waiting);
                prop_assert_eq!(running + waiting, inside.len());
                prop_assert!(waiting == 0 || running - gate.aside == FEW.running, "someone waits beside a free place");
            }
            let mut sorted = started.clone();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), started.len(), "nobody starts twice");
            prop_assert!(many || started.is_sorted(), "first come, first served");
        }
    }
}
