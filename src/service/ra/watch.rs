//! Whether we speak IPv6 on a link at all. Pure: time comes in.
//!
//! We ask first, and keep asking: another router or DHCPv6 server silences us, and we come back once it was not heard for a
//! while.

use crate::model::RunTime;
use crate::model::api::Foreign6;

/// Questions before the first verdict, a second apart, and how long their answers are waited for.
const FIRST_QUESTIONS: u32 = 3;
const FIRST_QUESTIONS_APART_SECONDS: f64 = 1.0;
const FIRST_ANSWERS_SECONDS: f64 = 1.5;
/// Pause between questions afterwards.
const QUESTIONS_APART_SECONDS: f64 = 8.0;
/// A foreign server counts as gone when it left this many seconds of questions unanswered.
const GONE_AFTER_SECONDS: f64 = 60.0;
/// Foreign servers listed; more make no difference.
const MAX_FOREIGN: usize = 8;

/// Where we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6Service {
    /// The first questions are out.
    Asking,
    /// Nobody else is there: we advertise and hand out addresses.
    Serving,
    /// Somebody else is there.
    Silent,
}

/// Watches one link.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    state: Ipv6Service,
    asked: u32,
    next_question: RunTime,
    decide_at: RunTime,
    last_foreign: Option<RunTime>,
    foreign: Vec<Foreign6>,
}

impl Watch {
    pub(crate) fn new(now: RunTime) -> Self {
        Watch {
            state: Ipv6Service::Asking,
            asked: 0,
            next_question: now,
            decide_at: RunTime::from_seconds(f64::INFINITY),
            last_foreign: None,
            foreign: Vec::new(),
        }
    }

    pub(crate) fn state(&self) -> Ipv6Service {
        self.state
    }

    pub(crate) fn foreign(&self) -> &[Foreign6] {
        &self.foreign
    }

    /// True when a question is due. One that could not be sent is not told to [`Self::asked`] and stays due.
    pub(crate) fn should_ask(&self, now: RunTime) -> bool {
        self.next_question <= now
    }

    /// A question left.
    pub(crate) fn asked(&mut self, now: RunTime) {
        self.asked = self.asked.saturating_add(1);
        let pause = if self.asked < FIRST_QUESTIONS {
            FIRST_QUESTIONS_APART_SECONDS
        } else {
            QUESTIONS_APART_SECONDS
        };
        self.next_question = now + pause;
        if self.asked == FIRST_QUESTIONS {
            self.decide_at = now + FIRST_ANSWERS_SECONDS;
        }
    }

    /// Another router or DHCPv6 server spoke. True if the state changed.
    pub(crate) fn heard(&mut self, foreign: Foreign6, now: RunTime) -> bool {
        self.last_foreign = Some(now);
        let room = self.foreign.len() < MAX_FOREIGN;
        match self.foreign.iter_mut().find(|known| known.address == foreign.address) {
            Some(known) => {
                known.mac = known.mac.or(foreign.mac);
                known.dhcp |= foreign.dhcp;
                known.router |= foreign.router;
                known.recon |= foreign.recon;
            }
            None if room => self.foreign.push(foreign),
            None => {}
        }
        let changed = self.state != Ipv6Service::Silent;
        self.state = Ipv6Service::Silent;
        changed
    }

    /// Time passed. True if the state changed.
    pub(crate) fn tick(&mut self, now: RunTime) -> bool {
        let before = self.state;
        match self.state {
            Ipv6Service::Asking if now >= self.decide_at => self.state = Ipv6Service::Serving,
            // Only silence to questions counts, not silence while none could be asked.
            Ipv6Service::Silent
                if self.asked > FIRST_QUESTIONS
                    && self.last_foreign.is_none_or(|last| now - last >= GONE_AFTER_SECONDS) =>
            {
                self.foreign.clear();
                self.state = Ipv6Service::Serving;
            }
            _ => {}
        }
        self.state != before
    }

    /// The state as a sentence.
    pub(crate) fn reason(&self) -> String {
        let Some(first) = self.foreign.first() else {
            return match self.state {
                Ipv6Service::Asking => "asking who else speaks IPv6 here".to_owned(),
                _ => "alone".to_owned(),
            };
        };
        let what = match (first.router, first.dhcp) {
            (true, true) => "an IPv6 router and DHCPv6 server",
            (false, true) => "a DHCPv6 server",
            _ => "an IPv6 router",
        };
        let mac = first.mac.map(|mac| format!(" ({mac})")).unwrap_or_default();
        format!("{what} is here already: {}{mac}", first.address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::model::MacAddr;

    fn router() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    /// A DHCPv6 server, or a router.
    fn server(address: Ipv6Addr, mac: Option<MacAddr>, dhcp: bool) -> Foreign6 {
        Foreign6 {
            address,
            mac,
            router: !dhcp,
            dhcp,
            recon: false,
        }
    }

    /// Runs the clock in quarter seconds, asking whenever asked to.
    fn run(watch: &mut Watch, from: f64, to: f64) -> Vec<(f64, Ipv6Service)> {
        let mut changes = Vec::new();
        let mut now = RunTime::from_seconds(from);
        while now.seconds() <= to {
            if watch.should_ask(now) {
                watch.asked(now);
            }
            if watch.tick(now) {
                changes.push((now.seconds(), watch.state()));
            }
            now += 0.25;
        }
        changes
    }

    #[test]
    fn alone_it_serves_after_three_questions() {
        let mut watch = Watch::new(RunTime::from_seconds(0.0));
        assert_eq!(run(&mut watch, 0.0, 100.0), [(3.5, Ipv6Service::Serving)]);
        assert_eq!(watch.reason(), "alone");
    }

    #[test]
    fn it_does_not_decide_before_it_could_ask() {
        let mut watch = Watch::new(RunTime::from_seconds(0.0));
        assert!(!watch.tick(RunTime::from_seconds(50.0)));
        assert_eq!(run(&mut watch, 50.0, 60.0), [(53.5, Ipv6Service::Serving)]);
    }

    #[test]
    fn a_router_that_is_there_silences_it_for_as_long_as_it_is_heard() {
        let mut watch = Watch::new(RunTime::from_seconds(0.0));
        run(&mut watch, 0.0, 1.0);
        assert!(watch.heard(server(router(), None, false), RunTime::from_seconds(1.0)));
        assert!(!watch.heard(
            server(router(), Some(MacAddr([2, 0, 0, 0, 0, 1])), true),
            RunTime::from_seconds(1.2)
        ));
        assert_eq!(
            watch.reason(),
            "an IPv6 router and DHCPv6 server is here already: fe80::1 (02:00:00:00:00:01)"
        );
        assert_eq!(run(&mut watch, 1.25, 50.0), []);
        watch.heard(server(router(), None, false), RunTime::from_seconds(50.0));
        assert_eq!(run(&mut watch, 50.0, 109.0), []);
        assert_eq!(run(&mut watch, 109.25, 120.0), [(110.0, Ipv6Service::Serving)]);
        assert!(watch.foreign().is_empty());
    }

    #[test]
    fn one_that_comes_later_silences_it_at_once() {
        let mut watch = Watch::new(RunTime::from_seconds(0.0));
        run(&mut watch, 0.0, 20.0);
        assert!(watch.heard(server(router(), None, true), RunTime::from_seconds(20.0)));
        assert_eq!(watch.state(), Ipv6Service::Silent);
        assert_eq!(watch.reason(), "a DHCPv6 server is here already: fe80::1");
    }

    #[test]
    fn the_list_of_foreign_servers_is_bounded() {
        let mut watch = Watch::new(RunTime::from_seconds(0.0));
        for last in 0..100 {
            watch.heard(
                server(Ipv6Addr::from(u128::from(0xfe80u16) << 112 | last), None, false),
                RunTime::from_seconds(0.0),
            );
        }
        assert_eq!(watch.foreign().len(), MAX_FOREIGN);
    }
}
