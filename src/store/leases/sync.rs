//! Puts the journal on its medium, beside whoever writes to it. Changes of a moment share a sync.

use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::model::RunTime;
use crate::store::fs_ops::Medium;

/// Changes gather this long before a sync: nobody waits for it, and each wears the stick.
const GATHER: Duration = Duration::from_millis(20);

/// What is to be on the medium.
pub(super) struct Wish {
    /// The number of the journal.
    pub(super) journal: u64,
    pub(super) file: File,
    /// Its length has changed.
    pub(super) is_longer: bool,
}

#[derive(Default)]
struct State {
    wish: Option<Wish>,
    owing_since: Option<RunTime>,
    /// The number of a journal, and what its sync came to.
    failure: Option<(u64, io::Error)>,
    stop: bool,
}

#[derive(Default)]
pub(super) struct Syncer {
    state: Mutex<State>,
    wake: Condvar,
}

/// How long after the begin of a sync, which took so long, the next one begins: half of the time may go to syncs, so that a slow stick has
/// some for uploads.
fn apart(took: Duration) -> Duration {
    GATHER.max(2 * took)
}

impl Syncer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Takes the place of what was wished before, and was not begun.
    pub(super) fn wants(&self, mut wish: Wish, now: RunTime) {
        let mut state = self.lock();
        if let Some(before) = state.wish.take() {
            wish.is_longer |= before.is_longer && before.journal == wish.journal;
        }
        state.wish = Some(wish);
        state.owing_since.get_or_insert(now);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn owing_since(&self) -> Option<RunTime> {
        self.lock().owing_since
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    pub(super) fn take_failure(&self) -> Option<(u64, io::Error)> {
        self.lock().failure.take()
    }

    /// Nothing is wished any more: it ends once what was is done.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    /// Works until [`Self::stop`]. `failed`: there is a failure to be taken.
    pub(super) fn serve(&self, medium: &dyn Medium, failed: impl Fn()) {
        let mut wait = GATHER;
        loop {
            let state = self.lock();
            let idle = |state: &mut State| state.wish.is_none() && !state.stop;
            let state = self.wake.wait_while(state, idle).expect("no holder panics");
            // More may come meanwhile; whoever ends this program waits for nothing else.
            let waited = self.wake.wait_timeout_while(state, wait, |state| !state.stop);
            let (mut state, _) = waited.expect("no holder panics");
            let Some(wish) = state.wish.take() else { return };
            drop(state);
            let begun = Instant::now();
            let done = match wish.is_longer {
                true => medium.sync_file(&wish.file),
                false => medium.sync_data(&wish.file),
            };
            let took = begun.elapsed();
            wait = apart(took).saturating_sub(took);
            let mut state = self.lock();
            if state.wish.is_none() {
                state.owing_since = None;
            }
            if let Err(error) = done {
                state.failure = Some((wish.journal, error));
                drop(state);
                failed();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_time_may_go_to_syncs() {
        let of_millis = |took| apart(Duration::from_millis(took)).as_millis();
        assert_eq!([0, 1, 10, 500].map(of_millis), [20, 20, 20, 1000]);
    }
}
