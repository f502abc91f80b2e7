//! What other recon machines that ask, and clients that choose, change.

use std::net::Ipv4Addr;

use crate::model::MacAddr;

use super::state::{Action, Election, State};
use super::timing::{CANDIDATE_SECONDS, PROOF_PAUSE_SECONDS};

impl Election {
    pub(super) fn rival(&mut self, rival: MacAddr, ours: bool, now: f64, actions: &mut Vec<Action>) {
        let wait = State::Yield {
            rival,
            master: None,
            until: now + CANDIDATE_SECONDS,
        };
        match &self.state {
            State::Probing { .. } | State::Foreign { verdict: None, .. } => {
                if rival < self.machine_id && ours {
                    self.state = wait;
                } else if rival < self.machine_id {
                    // Anybody can say so: it is asked for proof, and not waited for as one of ours is.
                    let first = self.lower_asked.map_or(now, |(first, _)| first);
                    self.lower_asked = Some((first, now));
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
            _ if self.decided() => self.answer(Action::Announce, now, actions),
            _ => {}
        }
    }

    /// A server that answers known machines only is heard of by what those say to it.
    pub(super) fn chosen(&mut self, server: Ipv4Addr, now: f64, actions: &mut Vec<Action>) {
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
