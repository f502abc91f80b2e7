//! What is known and decided of one link.

use std::net::Ipv4Addr;

use crate::config::LinkRule;
use crate::model::api::{ForeignServer, LinkMode};
use crate::model::{MacAddr, RunTime};

use super::timing::{ANSWER_SECONDS, SHARED_SECONDS};

/// Something that happened to the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Carrier(bool),
    /// A server that is not this machine spoke. `machine` is its ID if it said that it is a recon master.
    Server {
        server: ForeignServer,
        machine: Option<MacAddr>,
        /// It is a recon master that says that it hands out boot files only.
        proxies: bool,
    },
    /// Another recon machine asks who serves; its machine ID, and whether it proved that it has the site's key.
    Candidate {
        machine: MacAddr,
        ours: bool,
    },
    /// A client told everybody which server it takes.
    Chosen(Ipv4Addr),
    /// A packet of another port of this machine came in: both hang on one network. Its name, and whether it comes
    /// before this port in the kernel's order.
    SameSegment {
        name: String,
        before: bool,
    },
    /// What this machine does on its other links: whether it speaks for one of them, and the masters of this site that it
    /// [follows](Election::follows) there.
    Beside {
        speaks: bool,
        follows: Vec<MacAddr>,
    },
    /// Time passed.
    Tick,
}

impl Event {
    /// `others`: the elections of this machine's other links.
    pub(crate) fn beside<'a>(others: impl Iterator<Item = &'a Election> + Clone, now: RunTime) -> Self {
        Event::Beside {
            speaks: others.clone().any(Election::decided),
            follows: others.filter_map(|election| election.follows(now)).collect(),
        }
    }
}

/// What the driver of the link has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask who serves.
    Probe,
    /// Ask who answers network boot firmware.
    AskBoot,
    /// Say that this machine serves or proxies here, once it does.
    Announce,
    /// The mode changed; start or stop services accordingly.
    Changed,
}

/// Servers kept by name; more on one link are counted by nobody.
pub(super) const MAX_FOREIGN: usize = 8;

/// Longer ago than anything counts.
pub(super) const NEVER: RunTime = RunTime::from_seconds(f64::NEG_INFINITY);

/// The state of one link.
#[derive(Debug)]
pub(crate) struct Election {
    /// This machine's ID.
    pub(super) machine_id: MacAddr,
    pub(super) rule: LinkRule,
    pub(super) state: State,
    pub(super) foreign: Vec<Known>,
    /// Those that call themselves recon masters and have not proven it yet.
    pub(super) strangers: Vec<Stranger>,
    /// Ports that proved it, and when last. What else they say is not held against them.
    pub(super) proven: Vec<(MacAddr, RunTime)>,
    /// When a lower machine ID was first and last heard asking and not yielded to, since this machine asks.
    pub(super) lower_asked: Option<(RunTime, RunTime)>,
    /// The same of those that proved that they are of this site: what a stranger asks makes none of them early.
    pub(super) lower_proven: Option<(RunTime, RunTime)>,
    /// As the last [`Event::Beside`] said.
    pub(super) speaks_beside: bool,
    pub(super) follows_beside: Vec<MacAddr>,
    /// When the mode last changed.
    pub(super) changed: RunTime,
    /// When the last question went out.
    pub(super) probed: RunTime,
    /// Watch questions since the last one that firmware would ask.
    pub(super) watched: u32,
    /// When a rival was last answered.
    pub(super) answered: RunTime,
}

/// A server that spoke on this link.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) server: ForeignServer,
    pub(super) heard: RunTime,
    pub(super) booted: RunTime,
}

#[derive(Debug, Clone)]
pub(super) struct Stranger {
    pub(super) server: ForeignServer,
    /// Its machine ID, as it says.
    pub(super) machine: Option<MacAddr>,
    pub(super) since: RunTime,
    pub(super) heard: RunTime,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Down,
    Probing {
        since: RunTime,
        sent: usize,
        asked_boot: bool,
    },
    Serve,
    /// Somebody else hands out addresses, or boot files, or recon.toml forbids to do so.
    Foreign {
        since: RunTime,
        heard: RunTime,
        verdict: Option<Verdict>,
    },
    /// Told so: nothing is sent, not even a question.
    Disabled,
    SameSegment {
        name: String,
        heard: RunTime,
    },
    Yield {
        rival: MacAddr,
        master: Option<Ipv4Addr>,
        until: RunTime,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Proxy,
    Silent,
}

impl Election {
    /// `machine_id`: an identifier no other machine has, the same on every link of this one.
    pub(crate) fn new(machine_id: MacAddr, rule: LinkRule) -> Self {
        Election {
            machine_id,
            rule,
            state: State::Down,
            foreign: Vec::new(),
            strangers: Vec::new(),
            proven: Vec::new(),
            lower_asked: None,
            lower_proven: None,
            speaks_beside: false,
            follows_beside: Vec::new(),
            changed: RunTime::default(),
            probed: RunTime::default(),
            watched: 0,
            answered: NEVER,
        }
    }

    pub(crate) fn mode(&self) -> LinkMode {
        match self.state {
            State::Down => LinkMode::Down,
            State::Probing { .. } | State::Foreign { verdict: None, .. } => LinkMode::Probing,
            State::Serve => LinkMode::Serve,
            State::Foreign {
                verdict: Some(Verdict::Proxy),
                ..
            } => LinkMode::Proxy,
            State::Foreign { .. } | State::Disabled | State::SameSegment { .. } => LinkMode::Silent,
            State::Yield { .. } => LinkMode::Yield,
        }
    }

    /// The recon master this link yields to, once it has spoken.
    pub(crate) fn master(&self) -> Option<Ipv4Addr> {
        match self.state {
            State::Yield { master, .. } => master,
            _ => None,
        }
    }

    /// The machine ID of the recon master that this link has yielded to for so long that it is no passing state.
    fn follows(&self, now: RunTime) -> Option<MacAddr> {
        match self.state {
            State::Yield {
                rival, master: Some(_), ..
            } if now - self.changed >= SHARED_SECONDS => Some(rival),
            _ => None,
        }
    }

    pub(crate) fn foreign(&self) -> impl Iterator<Item = &ForeignServer> {
        self.foreign.iter().map(|known| &known.server)
    }

    /// True while this machine speaks for the link.
    pub(super) fn decided(&self) -> bool {
        matches!(self.mode(), LinkMode::Serve | LinkMode::Proxy)
    }

    pub(super) fn answer(&mut self, action: Action, now: RunTime, actions: &mut Vec<Action>) {
        if now - self.answered >= ANSWER_SECONDS {
            self.answered = now;
            actions.push(action);
        }
    }

    pub(super) fn ask_anew(&mut self, now: RunTime) {
        self.foreign.clear();
        self.strangers.clear();
        (self.lower_asked, self.lower_proven) = (None, None);
        self.state = State::Probing {
            since: now,
            sent: 0,
            asked_boot: false,
        };
    }
}

/// Whether the driver has to act; a clock that moved within a state is no change.
pub(super) fn changes_mode(before: &State, after: &State) -> bool {
    match (before, after) {
        (State::Yield { master: a, .. }, State::Yield { master: b, .. }) => a != b,
        (State::Foreign { verdict: a, .. }, State::Foreign { verdict: b, .. }) => a != b,
        _ => std::mem::discriminant(before) != std::mem::discriminant(after),
    }
}
