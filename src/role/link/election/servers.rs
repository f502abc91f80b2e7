//! What a server that speaks changes: one of this site, one that calls itself a recon master, or anybody else's.

use std::net::Ipv4Addr;

use crate::model::api::ForeignServer;
use crate::model::{MacAddr, RunTime};

use super::state::{Action, Election, Known, MAX_FOREIGN, NEVER, State, Stranger};
use super::timing::{CONTEST_SECONDS, GONE_SECONDS, MASTER_QUIET_SECONDS, PROOF_PAUSE_SECONDS, PROOF_SECONDS};

impl Election {
    pub(super) fn server(
        &mut self,
        server: ForeignServer,
        machine: Option<MacAddr>,
        now: RunTime,
        actions: &mut Vec<Action>,
    ) {
        if self.state == State::Down {
            return;
        }
        match (server.ours, server.recon) {
            (true, _) => {
                let (address, mac) = (server.address, server.mac);
                self.trust(mac, now);
                self.note(server, now);
                self.master_spoke(address, machine.unwrap_or(mac), now, actions);
            }
            (false, true) => self.stranger(server, machine, now, actions),
            (false, false) => self.foreigner(server, now, actions),
        }
    }

    /// A port proved that it has the key.
    fn trust(&mut self, mac: MacAddr, now: RunTime) {
        self.strangers.retain(|stranger| stranger.server.mac != mac);
        self.proven
            .retain(|(known, at)| *known != mac && now - *at < MASTER_QUIET_SECONDS);
        if self.proven.len() < MAX_FOREIGN {
            self.proven.push((mac, now));
        }
    }

    /// One calls itself a recon master and hands out boot files only: no reason to hand out no addresses, or two of them would
    /// keep each other from it for ever. Of two that proxy with different keys the lower machine ID goes on.
    pub(super) fn proxying_stranger(&mut self, server: ForeignServer, machine: Option<MacAddr>, now: RunTime) {
        let lower = machine.is_some_and(|machine| machine < self.machine_id);
        if matches!(self.state, State::Foreign { .. }) && lower && !self.is_trusted(server.mac, now) {
            self.note(ForeignServer { boots: true, ..server }, now);
        }
    }

    fn is_trusted(&self, mac: MacAddr, now: RunTime) -> bool {
        let known = self.proven.iter().find(|(known, _)| *known == mac);
        known.is_some_and(|(_, at)| now - *at < MASTER_QUIET_SECONDS)
    }

    /// One calls itself a recon master. What it says may be the answer of a service that proves nothing, so it is asked for proof before it
    /// counts as what it is without.
    fn stranger(&mut self, server: ForeignServer, machine: Option<MacAddr>, now: RunTime, actions: &mut Vec<Action>) {
        match self.state {
            State::Probing { .. } | State::Serve | State::Foreign { .. } => {}
            State::Down | State::Disabled | State::SameSegment { .. } | State::Yield { .. } => return,
        }
        if self.is_trusted(server.mac, now) {
            return;
        }
        let same = |known: &ForeignServer| (known.address, known.mac) == (server.address, server.mac);
        if self
            .foreign
            .iter()
            .any(|known| known.server.recon && same(&known.server))
        {
            return self.foreigner(server, now, actions);
        }
        let room = self.strangers.len() < MAX_FOREIGN;
        match self.strangers.iter_mut().find(|stranger| same(&stranger.server)) {
            Some(stranger) => {
                stranger.heard = now;
                stranger.machine = stranger.machine.or(machine);
                stranger.server.boots |= server.boots;
                // It has to hear who has the lower machine ID.
                if self.state == State::Serve {
                    self.answer(Action::Announce, now, actions);
                }
            }
            None if room => {
                self.strangers.push(Stranger {
                    server,
                    machine,
                    since: now,
                    heard: now,
                });
                if now - self.probed >= PROOF_PAUSE_SECONDS {
                    self.probed = now;
                    actions.push(Action::Probe);
                }
            }
            // So many are no accident: no more time is given.
            None => self.foreigner(server, now, actions),
        }
    }

    /// Judges those whose time for a proof is over.
    pub(super) fn judge(&mut self, now: RunTime, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Probing { .. } | State::Serve | State::Foreign { .. }) {
            self.strangers.clear();
            return;
        }
        let serving = self.state == State::Serve;
        let mut counted = Vec::new();
        let ours = self.machine_id;
        self.strangers.retain(|stranger| {
            let waited = now - stranger.since;
            let contest = serving && stranger.machine.is_some_and(|number| number > ours);
            let limit = if contest { CONTEST_SECONDS } else { PROOF_SECONDS };
            let over = waited >= limit;
            // One that says nothing any more, though it was asked, is gone or gave way.
            if over && now - stranger.heard < GONE_SECONDS {
                counted.push(stranger.server.clone());
            }
            !over
        });
        for server in counted {
            self.foreigner(server, now, actions);
        }
        if !self.strangers.is_empty() && now - self.probed >= PROOF_PAUSE_SECONDS {
            self.probed = now;
            actions.push(Action::Probe);
        }
    }

    /// A server of somebody else's spoke, or of one that is taken for somebody else's.
    fn foreigner(&mut self, server: ForeignServer, now: RunTime, actions: &mut Vec<Action>) {
        self.note(server, now);
        match &mut self.state {
            State::Foreign { heard, .. } => *heard = now,
            State::Probing { .. } | State::Serve => {
                self.state = State::Foreign {
                    since: now,
                    heard: now,
                    verdict: None,
                };
                actions.push(Action::AskBoot);
                (self.probed, self.watched) = (now, 0);
            }
            // The recon master there, the port beside, or nobody deals with it.
            State::Yield { .. } | State::SameSegment { .. } | State::Disabled | State::Down => {}
        }
    }

    fn note(&mut self, server: ForeignServer, now: RunTime) {
        let booted = if server.boots { now } else { NEVER };
        let same = |known: &&mut Known| {
            let key = |server: &ForeignServer| (server.address, server.mac, server.recon);
            key(&known.server) == key(&server)
        };
        let room = self.foreign.len() < MAX_FOREIGN;
        match self.foreign.iter_mut().find(same) {
            Some(known) => {
                known.heard = now;
                known.booted = if server.boots { now } else { known.booted };
                known.server.boots |= server.boots;
                known.server.ours |= server.ours;
            }
            // One MAC that speaks from several addresses, or the other way round, is several lines on screen.
            None if room => self.foreign.push(Known {
                server,
                heard: now,
                booted,
            }),
            None => {}
        }
    }

    /// A recon master of this site serves or proxies here.
    fn master_spoke(&mut self, address: Ipv4Addr, machine: MacAddr, now: RunTime, actions: &mut Vec<Action>) {
        let stays = match &self.state {
            State::Down | State::Disabled | State::SameSegment { .. } => return,
            _ if self.decided() => self.machine_id < machine,
            // One master is enough to yield to: a second one on this network will yield to it as well.
            State::Yield {
                rival, master: Some(_), ..
            } => *rival < machine,
            _ => false,
        };
        if !stays {
            self.state = State::Yield {
                rival: machine,
                master: Some(address),
                until: now + MASTER_QUIET_SECONDS,
            };
        } else if self.decided() {
            // Two networks that each had a master grew together; it has to hear of this one.
            self.answer(Action::Announce, now, actions);
        }
    }
}
