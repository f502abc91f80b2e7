//! What time changes: who is gone, what is decided, and which question is due.

use crate::config::LinkRule;
use crate::model::RunTime;

use super::state::{Action, Election, State, Verdict};
use super::timing::{
    ASK_BOOT_SECONDS, ASKING_SECONDS, BOOT_EVERY, BOOT_WAIT_SECONDS, LATE_SECONDS, MASTER_QUIET_SECONDS, PROBE_SECONDS,
    QUIET_SECONDS, START_SECONDS, VERDICT_SECONDS, WATCH_SECONDS,
};

impl Election {
    /// Moves the clocks, and asks what is due.
    pub(super) fn clock(&mut self, now: RunTime, actions: &mut Vec<Action>) {
        for known in &mut self.foreign {
            known.server.boots &= now - known.booted < QUIET_SECONDS;
        }
        self.judge(now, actions);
        match &self.state {
            State::Down | State::Disabled => return,
            State::Probing { .. } => return self.probing(now, actions),
            State::Foreign { heard, .. } if now - *heard >= QUIET_SECONDS && self.rule == LinkRule::Auto => {
                return self.restart(now, actions);
            }
            State::Foreign { .. } => self.judge_foreign(now),
            State::SameSegment { heard, .. } if now - *heard >= MASTER_QUIET_SECONDS => {
                return self.restart(now, actions);
            }
            State::Yield { until, .. } if now >= *until => return self.restart(now, actions),
            // The port beside speaks for this one.
            State::SameSegment { .. } => return,
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
    /// Asks what is due, until the link is decided.
    fn probing(&mut self, now: RunTime, actions: &mut Vec<Action>) {
        let State::Probing {
            since,
            sent,
            asked_boot,
        } = &mut self.state
        else {
            return;
        };
        let elapsed = now - *since;
        // Who may still prove something, or have the lower identifier, is waited for.
        let waits = !self.strangers.is_empty()
            || self.lower_proven.or(self.lower_asked).is_some_and(|(first, last)| {
                let decides = self.speaks_beside && first - *since >= VERDICT_SECONDS - LATE_SECONDS;
                let limit = if decides { 0.0 } else { VERDICT_SECONDS };
                now - last < ASKING_SECONDS && now - first < limit + START_SECONDS
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
    }

    /// What is left to do beside another server.
    fn judge_foreign(&mut self, now: RunTime) {
        let boots = self.foreign().any(|server| server.boots && !server.ours) && self.rule != LinkRule::Proxy;
        let foreign = self.foreign().any(|server| !server.ours);
        let State::Foreign { since, heard, verdict } = &mut self.state else {
            return;
        };
        if now - *heard >= QUIET_SECONDS {
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

    fn restart(&mut self, now: RunTime, actions: &mut Vec<Action>) {
        self.ask_anew(now);
        self.clock(now, actions);
    }
}
