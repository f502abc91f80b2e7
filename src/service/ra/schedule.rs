//! When router advertisements are sent (RFC 4861 §6.2.4, §6.2.6). Pure: time and chance come in.

use std::net::Ipv6Addr;

use crate::model::RunTime;

/// MaxRtrAdvInterval and MinRtrAdvInterval in seconds: the defaults of the RFC.
const INTERVAL_SECONDS: std::ops::Range<f64> = 200.0..600.0;
/// The first few come sooner (MAX_INITIAL_RTR_ADVERTISEMENTS, MAX_INITIAL_RTR_ADVERT_INTERVAL).
const INITIAL: u32 = 3;
const INITIAL_INTERVAL_SECONDS: f64 = 16.0;
/// An answer to one host waits up to this long (MAX_RA_DELAY_TIME).
const ANSWER_DELAY_SECONDS: f64 = 0.5;
/// Between two to everybody lies at least this (MIN_DELAY_BETWEEN_RAS).
const APART_SECONDS: f64 = 3.0;
/// Hosts that wait for an answer of their own; with more of them, everybody is answered at once.
const MAX_WAITING: usize = 32;

/// Whom to send an advertisement now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Send {
    Everybody,
    Host(Ipv6Addr),
}

/// What is due when.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    sent: u32,
    last: Option<RunTime>,
    next: RunTime,
    waiting: Vec<(RunTime, Ipv6Addr)>,
}

impl Schedule {
    /// Starts with one to everybody at once.
    pub(crate) fn new(now: RunTime) -> Self {
        Schedule {
            sent: 0,
            last: None,
            next: now,
            waiting: Vec::new(),
        }
    }

    /// A host asks. `chance` is between 0 and 1.
    pub(crate) fn solicited(&mut self, host: Ipv6Addr, now: RunTime, chance: f64) {
        let due = now + ANSWER_DELAY_SECONDS * chance;
        if self.waiting.iter().any(|(_, waiting)| *waiting == host) {
            return;
        }
        if host.is_unspecified() || self.waiting.len() >= MAX_WAITING {
            let apart = self.last.map(|last| last + APART_SECONDS);
            let earliest = apart.filter(|apart| *apart > due).unwrap_or(due);
            if earliest < self.next {
                self.next = earliest;
            }
        } else {
            self.waiting.push((due, host));
        }
    }

    #[cfg(test)]
    /// When [`Self::due`] has something next.
    pub(crate) fn wake(&self) -> RunTime {
        self.waiting
            .iter()
            .fold(self.next, |wake, (due, _)| if *due < wake { *due } else { wake })
    }

    /// Takes what is due.
    pub(crate) fn due(&mut self, now: RunTime, chance: f64) -> Vec<Send> {
        if self.next <= now {
            self.sent = self.sent.saturating_add(1);
            self.last = Some(now);
            let mut wait = INTERVAL_SECONDS.start + (INTERVAL_SECONDS.end - INTERVAL_SECONDS.start) * chance;
            if self.sent < INITIAL {
                wait = wait.min(INITIAL_INTERVAL_SECONDS);
            }
            self.next = now + wait;
            // Everybody hears it, those that wait among them.
            self.waiting.clear();
            return vec![Send::Everybody];
        }
        let ready = self.waiting.extract_if(.., |(due, _)| *due <= now);
        ready.map(|(_, host)| Send::Host(host)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::dhcp4::testing::run;
    use proptest::prelude::*;

    fn host(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
    }

    #[test]
    fn the_first_come_soon_and_the_rest_seldom() {
        let mut schedule = Schedule::new(run(10.0));
        let mut times = Vec::new();
        for _ in 0..5 {
            let now = schedule.wake();
            assert_eq!(schedule.due(now, 0.5), [Send::Everybody]);
            times.push(now);
        }
        assert_eq!(times, [10.0, 26.0, 42.0, 442.0, 842.0].map(run));
    }

    #[test]
    fn a_host_that_asks_is_answered_soon_and_alone() {
        let mut schedule = Schedule::new(run(0.0));
        schedule.due(run(0.0), 0.5);
        schedule.solicited(host(7), run(1.0), 0.5);
        schedule.solicited(host(7), run(1.1), 0.0);
        assert_eq!(schedule.due(run(1.2), 0.5), []);
        assert_eq!(schedule.wake(), run(1.25));
        assert_eq!(schedule.due(run(1.25), 0.5), [Send::Host(host(7))]);
        assert_eq!(schedule.due(run(2.0), 0.5), []);
    }

    #[test]
    fn a_host_without_an_address_is_answered_through_everybody_but_not_often() {
        let mut schedule = Schedule::new(run(0.0));
        schedule.due(run(0.0), 0.5);
        schedule.solicited(Ipv6Addr::UNSPECIFIED, run(1.0), 0.0);
        assert_eq!(schedule.wake(), run(3.0));
        assert_eq!(schedule.due(run(3.0), 0.5), [Send::Everybody]);
    }

    proptest! {
        #[test]
        fn a_crowd_costs_no_more_than_its_bound(asks in proptest::collection::vec((0u16..200, 0.0f64..0.2, 0.0f64..1.0), 0..300)) {
            let mut schedule = Schedule::new(run(0.0));
            let (mut now, mut last) = (run(0.0), run(f64::NEG_INFINITY));
            for (who, later, chance) in asks {
                now += later;
                schedule.solicited(host(who), now, chance);
                let sends = schedule.due(now, chance);
                prop_assert!(sends.len() <= MAX_WAITING);
                if sends.contains(&Send::Everybody) {
                    prop_assert!(now - last >= APART_SECONDS - 1e-9);
                    last = now;
                }
            }
        }
    }
}
