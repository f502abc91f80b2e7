//! What to do on one link: serve, proxy, yield or stay silent. A pure state machine; time is the clock of the run.
//!
//! A link is asked who serves it, decided [`timing::VERDICT_SECONDS`] after its carrier came, or later where somebody who was heard has
//! to be waited for, and watched for ever after. `clock.rs` decides when the time has come; what ends a mode is a server (`servers.rs`),
//! another recon machine (`candidates.rs`), or the carrier and a second port on the same network ([`Election::on`]).
//!
//! - nobody answers → serve: addresses and boot files;
//! - a foreign DHCP server, at any time → proxy: boot files only. It is asked as network boot firmware asks, too: where it
//!   answers that, the boot service there is somebody else's, and the link stays silent;
//! - another recon machine of this site → one of the two, see [`Event::Candidate`];
//! - one that calls itself a recon master and does not prove that it has this site's key → a foreign server like any other, and
//!   never one to yield to.
//!
//! Of two recon machines that ask at once the lower machine ID wins; one that decided already wins over one that asks; of two
//! that both decided, because their networks grew together, the lower machine ID stays. The machine ID is one for the whole
//! machine (its lowest MAC), so that one of two sticks wins on every link they share. Two things could share those links out between them,
//! each serving some for ever, and [`Event::Beside`] is against both: a question that comes to one link before the verdict and to the
//! next one after it (in its last second a link waits for what the others do), and links that came up at different times (after
//! [`timing::SHARED_SECONDS`] the higher machine ID gives way).
//!
//! Of two with different keys the one that serves already stays as well, because the other one hears it first; of two that ask at
//! once the higher machine ID waits a little for the lower one; of two that both serve the lower machine ID stays for a while, and gives way if the other
//! one does not. What an unproven word can do is what any DHCP server can do: make this machine hand out no addresses.

mod candidates;
mod clock;
mod reason;
mod servers;
mod state;
mod timing;

use crate::config::LinkRule;
use crate::model::RunTime;

use self::state::{State, changes_mode};

pub(crate) use self::reason::HELD;
pub(crate) use self::state::{Action, Election, Event};
pub(crate) use self::timing::{MASTER_QUIET_SECONDS, WATCH_SECONDS};

impl Election {
    /// Takes one event; the actions are to be done in order.
    pub(crate) fn on(&mut self, event: Event, now: RunTime) -> Vec<Action> {
        let before = self.state.clone();
        let mut actions = Vec::new();
        match event {
            Event::Carrier(true) if before == State::Down && self.rule >= LinkRule::Silent => {
                self.state = State::Disabled
            }
            Event::Carrier(true) if before == State::Down => self.ask_anew(now),
            Event::Carrier(true) => {}
            Event::Carrier(false) => {
                self.state = State::Down;
                self.foreign.clear();
                self.strangers.clear();
                self.proven.clear();
            }
            Event::Server {
                server,
                machine,
                proxies: true,
            } if server.recon && !server.ours => self.proxying_stranger(server, machine, now),
            Event::Server { server, machine, .. } => self.server(server, machine, now, &mut actions),
            Event::Candidate { machine, ours } => self.rival(machine, ours, now, &mut actions),
            Event::Chosen(server) => self.chosen(server, now, &mut actions),
            Event::SameSegment { name, before: true } => match &mut self.state {
                State::Probing { .. } | State::Serve | State::Foreign { .. } => {
                    self.state = State::SameSegment { name, heard: now };
                }
                State::SameSegment { heard, .. } => *heard = now,
                State::Down | State::Disabled | State::Yield { .. } => {}
            },
            Event::Beside { speaks, follows } => (self.speaks_beside, self.follows_beside) = (speaks, follows),
            Event::SameSegment { before: false, .. } | Event::Tick => {}
        }
        self.clock(now, &mut actions);
        if changes_mode(&before, &self.state) {
            self.changed = now;
            actions.push(Action::Changed);
            if self.decided() {
                actions.push(Action::Announce);
            }
        }
        actions
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
