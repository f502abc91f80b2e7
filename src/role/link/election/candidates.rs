//! What other recon machines that ask, and clients that choose, change.

use std::net::Ipv4Addr;

use crate::model::{MacAddr, RunTime};

use super::state::{Action, Election, State};
use super::timing::{CANDIDATE_SECONDS, LATE_SECONDS, PROOF_PAUSE_SECONDS, START_SECONDS, VERDICT_SECONDS};

impl Election {
    pub(super) fn rival(&mut self, rival: MacAddr, ours: bool, now: RunTime, actions: &mut Vec<Action>) {
        let wait = State::Yield {
            rival,
            master: None,
            until: now + CANDIDATE_SECONDS,
        };
        match &self.state {
            State::Probing { .. } | State::Foreign { verdict: None, .. } => {
                let asked = if ours {
                    &mut self.lower_proven
                } else {
                    &mut self.lower_asked
                };
                let first = asked.map_or(now, |(first, _)| first);
                // Links that asked together may hear it on both sides of their verdict: what the others do counts, once they do it.
                let late = matches!(&self.state, State::Probing { since, .. } if first - *since >= VERDICT_SECONDS - LATE_SECONDS);
                let holds = late && (self.speaks_beside || now - first < START_SECONDS);
                if rival < self.machine_id && ours && !holds {
                    self.state = wait;
                } else if rival < self.machine_id {
                    // Anybody can say so: it is asked for proof, and not waited for as one of ours is.
                    *asked = Some((first, now));
                    if now - self.probed >= PROOF_PAUSE_SECONDS {
                        self.probed = now;
                        actions.push(Action::Probe);
                    }
                } else {
                    // It may have missed the questions so far; hearing one, it yields.
                    self.answer(Action::Probe, now, actions);
                }
            }
            State::Yield {
                rival: known,
                master: None,
                ..
            } if ours && rival <= *known => self.state = wait,
            // Its master, with a higher number, may follow it on another link. Asked back, it has a proof that this machine is here too, or
            // answers nothing, as it gave way.
            State::Yield {
                rival: known,
                master: Some(_),
                ..
            } if self.speaks_beside && rival == *known && rival > self.machine_id => {
                self.answer(Action::Probe, now, actions);
            }
            // Of two that share out the links they are both on, the lower number gets them all.
            _ if self.decided() && ours && rival < self.machine_id && self.follows_beside.contains(&rival) => {
                self.state = wait
            }
            _ if self.decided() => self.answer(Action::Announce, now, actions),
            _ => {}
        }
    }

    /// A server that answers known machines only is heard of by what those say to it.
    pub(super) fn chosen(&mut self, server: Ipv4Addr, now: RunTime, actions: &mut Vec<Action>) {
        let known = self
            .foreign
            .iter_mut()
            .find(|known| known.server.address == server && !known.server.ours);
        match (&mut self.state, known) {
            (State::Foreign { heard, .. }, Some(known)) => (*heard, known.heard) = (now, now),
            (State::Serve | State::Foreign { .. }, None) => self.answer(Action::Probe, now, actions),
            _ => {}
        }
    }
}
