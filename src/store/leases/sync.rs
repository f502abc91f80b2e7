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

impl Wish {
    pub(super) fn sync(&self, medium: &dyn Medium) -> io::Result<()> {
        match self.is_longer {
            true => medium.sync_file(&self.file),
            false => medium.sync_data(&self.file),
        }
    }
}

#[derive(Default)]
struct State {
    wish: Option<Wish>,
    /// Since when it is wished, and since when what is being synced was.
    wished: Option<RunTime>,
    begun: Option<RunTime>,
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
        state.wished.get_or_insert(now);
        drop(state);
        self.wake.notify_one();
    }

    pub(super) fn owing_since(&self) -> Option<RunTime> {
        let state = self.lock();
        state.begun.or(state.wished)
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
        self.work(|wish| wish.sync(medium), failed);
    }

    fn work(&self, sync: impl Fn(&Wish) -> io::Result<()>, failed: impl Fn()) {
        let mut next = Instant::now();
        loop {
            let state = self.lock();
            let idle = |state: &mut State| state.wish.is_none() && !state.stop;
            let state = self.wake.wait_while(state, idle).expect("no holder panics");
            // More may come meanwhile; whoever ends this program waits for nothing else.
            let wait = next.saturating_duration_since(Instant::now()).max(GATHER);
            let waited = self.wake.wait_timeout_while(state, wait, |state| !state.stop);
            let (mut state, _) = waited.expect("no holder panics");
            let Some(wish) = state.wish.take() else { return };
            state.begun = state.wished.take();
            drop(state);
            let begun = Instant::now();
            let done = sync(&wish);
            next = begun + apart(begun.elapsed());
            let mut state = self.lock();
            state.begun = None;
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

    /// A stick that is always busy owes what came last, not what came first.
    #[test]
    fn what_is_owed_is_as_old_as_what_was_not_synced() {
        let file = || tempfile::tempfile().unwrap();
        let wish = || Wish {
            journal: 1,
            file: file(),
            is_longer: false,
        };
        let at = RunTime::from_seconds;
        let syncer = std::sync::Arc::new(Syncer::default());
        syncer.wants(wish(), at(1.0));
        syncer.wants(wish(), at(2.0));
        assert_eq!(syncer.owing_since(), Some(at(1.0)));
        /// Each sync ends once it may, and another change comes meanwhile.
        struct Gate(std::sync::mpsc::Sender<()>, Mutex<std::sync::mpsc::Receiver<()>>);
        impl Gate {
            fn pass(&self) -> io::Result<()> {
                self.0.send(()).unwrap();
                self.1.lock().unwrap().recv().map_err(io::Error::other)
            }
        }
        let (begins, begun) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel();
        let gate = Gate(begins, Mutex::new(goes));
        let working = std::sync::Arc::clone(&syncer);
        let thread = std::thread::spawn(move || working.work(|_| gate.pass(), || ()));
        begun.recv().unwrap();
        assert_eq!(syncer.owing_since(), Some(at(1.0)), "it is not there yet");
        syncer.wants(wish(), at(3.0));
        go.send(()).unwrap();
        begun.recv().unwrap();
        assert_eq!(syncer.owing_since(), Some(at(3.0)), "the first ones are there");
        syncer.stop();
        go.send(()).unwrap();
        thread.join().unwrap();
        assert_eq!(syncer.owing_since(), None);
    }

    #[test]
    fn half_of_the_time_may_go_to_syncs() {
        let of_millis = |took| apart(Duration::from_millis(took)).as_millis();
        assert_eq!([0, 1, 10, 500].map(of_millis), [20, 20, 20, 1000]);
    }
}
