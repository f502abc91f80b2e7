//! When the tarball on the stick is made, and what is said of it.
//!
//! It is made when no upload came for a while: by then it is whole, and nobody waits for the stick. The while grows with what
//! the last one took, so that making it costs a bounded share of the time however many nodes there are.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::model::RunTime;
use crate::model::api::TarballStatus;
use crate::model::cause;
use crate::model::console::console;
use crate::model::layout::{TARBALL, TARBALL_INCOMPLETE};
use crate::store::archive::{ArchiveError, GoOn};
use crate::store::nodes::{Made, NodeStore};
use crate::sys::clock;

/// How often is looked whether it is time.
const LOOK: Duration = Duration::from_millis(500);
/// Seconds without an upload before the tarball is made: machines of one rack are done at about the same time.
const QUIET_SECONDS: f64 = 3.0;
/// The longest such wait, in seconds.
const MOST_QUIET_SECONDS: f64 = 600.0;
/// At the end it is waited for this long; systemd waits 180 s.
const END_LIMIT: Duration = Duration::from_secs(100);

/// Decides when.
#[derive(Debug, Default)]
struct Pace {
    /// The number of changes that was seen last, and when it was new.
    seen: Option<u64>,
    since: RunTime,
    /// How long the last try took, in seconds.
    took: f64,
    /// The number of changes for which nothing is left to do.
    done: Option<u64>,
}

impl Pace {
    /// True once nothing changed for long enough.
    fn is_due(&mut self, changes: u64, now: RunTime) -> bool {
        if self.seen != Some(changes) {
            (self.seen, self.since) = (Some(changes), now);
        }
        let quiet = (2.0 * self.took).clamp(QUIET_SECONDS, MOST_QUIET_SECONDS);
        self.done != Some(changes) && now - self.since >= quiet
    }

    /// A tarball of the state with this number was made or could not be made, in so many seconds; or was overtaken.
    fn tried(&mut self, changes: u64, took: f64, overtaken: bool) {
        self.took = took;
        if !overtaken {
            self.done = Some(changes);
        }
    }
}

/// What the last try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    /// None was due yet, or it was overtaken.
    Waiting,
    Making,
    Lacking {
        nodes: usize,
        lacks: usize,
    },
    Failed(String),
}

/// Keeps the tarball of one master.
#[derive(Clone)]
pub struct Keeper {
    uploads: NodeStore,
    /// False where uploads live in memory: a second copy there would take the room of the first, and is lost with it.
    durable: bool,
    last: Arc<Mutex<Last>>,
}

impl Keeper {
    pub fn new(uploads: NodeStore, durable: bool) -> Self {
        Keeper {
            uploads,
            durable,
            last: Arc::new(Mutex::new(Last::Waiting)),
        }
    }

    /// The store that it packs.
    pub fn uploads(&self) -> &NodeStore {
        &self.uploads
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().expect("no holder panics")
    }

    /// Keeps it until `stop`.
    pub async fn keep(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            let changes = self.uploads.changes();
            if !self.durable || !pace.is_due(changes, clock::run_time()) {
                continue;
            }
            let (keeper, token, started) = (self.clone(), stop.clone(), Instant::now());
            let work = move || keeper.make(true, &|| !token.is_cancelled());
            let made = tokio::task::spawn_blocking(work).await?;
            let overtaken = matches!(made, Ok(Made::Overtaken) | Err(ArchiveError::Stopped));
            pace.tried(changes, started.elapsed().as_secs_f64(), overtaken);
        }
    }

    /// Makes it a last time, however long ago the last upload came; what is wrong is said. Blocks.
    pub fn end(&self) {
        if !self.durable {
            return;
        }
        let deadline = Instant::now() + END_LIMIT;
        if self.uploads.current_tarball().is_none() {
            console!("writing {TARBALL}");
        }
        if let Err(ArchiveError::Stopped) = self.make(false, &|| Instant::now() < deadline) {
            console!(
                "{TARBALL} was not done in {} s and is not on the stick; nodes/ holds every stored upload: recon collect makes it",
                END_LIMIT.as_secs()
            );
        }
    }

    fn make(&self, yielding: bool, go_on: GoOn<'_>) -> Result<Made, ArchiveError> {
        let before = std::mem::replace(&mut *self.last(), Last::Making);
        let made = self.uploads.make_tarball(yielding, go_on);
        let last = match &made {
            Ok(Made::Current { nodes }) => {
                tracing::info!(nodes, "{TARBALL} holds everything");
                Last::Waiting
            }
            Ok(Made::Overtaken) | Err(ArchiveError::Stopped) => Last::Waiting,
            Ok(Made::Lacking { nodes, lacks }) => Last::Lacking {
                nodes: *nodes,
                lacks: *lacks,
            },
            Err(error) => Last::Failed(cause::told(error)),
        };
        *self.last() = last;
        // It stays on the screen; the console's scroll gets it once.
        if !matches!(before, Last::Lacking { .. } | Last::Failed(_))
            && let Some(problem) = self.status().problem
        {
            console!("{problem}");
        }
        made
    }

    /// For screen and API.
    pub fn status(&self) -> TarballStatus {
        let (stored, last) = (self.uploads.stored(), self.last().clone());
        let current = self.durable && self.uploads.current_tarball().is_some();
        let (state, problem) = if !self.durable {
            let state = "not kept beside uploads in memory; /export/ makes it on request";
            (state.to_owned(), None)
        } else if current {
            (format!("{TARBALL} holds all {stored} nodes"), None)
        } else if let Some(stuck) = self.uploads.tarball_stuck() {
            let problem = format!("{stuck}; nodes/ holds every stored upload: recon collect");
            (stuck, Some(problem))
        } else {
            told(last, stored)
        };
        TarballStatus {
            current,
            state,
            problem,
        }
    }
}

/// What the last try came to with this many stored nodes, in words, and what to do about it.
fn told(last: Last, stored: usize) -> (String, Option<String>) {
    match last {
        Last::Waiting => {
            let state = "is made as soon as no upload came for a while; nodes/ holds every stored upload";
            (format!("{TARBALL} {state}"), None)
        }
        Last::Making => (format!("{TARBALL} is being made of {stored} nodes"), None),
        Last::Lacking { nodes, lacks } => {
            let state = format!(
                "{TARBALL_INCOMPLETE} holds {nodes} nodes and lacks {lacks} uploads or folders that are torn or do not read"
            );
            let problem = format!("{state}; INCOMPLETE.txt in it names them");
            (state, Some(problem))
        }
        Last::Failed(why) => {
            let state = format!("there is no {TARBALL} on the stick");
            let problem = format!(
                "{why}. There is no {TARBALL} on the stick; nodes/ holds every stored upload: recon collect makes it at home, \
                 and /export/{TARBALL} of this master on request"
            );
            (state, Some(problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: f64) -> RunTime {
        RunTime::from_seconds(second)
    }

    #[test]
    fn it_is_made_once_after_the_last_upload_and_not_between_them() {
        let mut pace = Pace::default();
        let mut made = Vec::new();
        let (mut changes, mut now) = (0, 0.0);
        while now < 40.0 {
            // An upload a second up to 20 s; each is two changes.
            if now <= 20.0 {
                changes += 2;
            }
            for step in 0..2 {
                if pace.is_due(changes, at(now + 0.5 * f64::from(step))) {
                    made.push(now + 0.5 * f64::from(step));
                    pace.tried(changes, 0.2, false);
                }
            }
            now += 1.0;
        }
        assert_eq!(made, [23.0]);
    }

    #[test]
    fn what_takes_long_is_made_less_often() {
        let mut pace = Pace::default();
        let mut busy = 0.0;
        // One upload every 20 s, and a tarball takes 15 s.
        for second in 0..4000 {
            let now = f64::from(second);
            if pace.is_due(u64::from(second as u32 / 20), at(now)) {
                busy += 15.0;
                pace.tried(u64::from(second as u32 / 20), 15.0, false);
            }
        }
        assert!(busy <= 15.0, "{busy} of 4000 s");
        // It comes as soon as there is peace.
        assert!((4000..4100).any(|second| pace.is_due(200, at(f64::from(second)))));
    }

    #[test]
    fn what_was_overtaken_is_made_again() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(1, at(0.0)) && pace.is_due(1, at(3.0)));
        pace.tried(1, 1.0, true);
        assert!(pace.is_due(1, at(4.0)));
        pace.tried(1, 1.0, false);
        assert!(!pace.is_due(1, at(400.0)));
    }
}
