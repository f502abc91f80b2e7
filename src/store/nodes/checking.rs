//! How many uploads are checked at once: each takes a processor and up to three megabytes of memory.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::StoreError;

/// Uploads that wait for their check, each with a thread of its own; further ones are sent back and come again.
const MAX_WAITING: usize = 64;
/// A server has more processors, but its stick is one.
const MAX_AT_ONCE: usize = 4;

/// Places for checks.
pub(super) struct Checking {
    at_once: usize,
    waiting: usize,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    sent_back: u64,
}

impl Default for Checking {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Checking::new(processors.min(MAX_AT_ONCE), MAX_WAITING)
    }
}

impl Checking {
    fn new(at_once: usize, waiting: usize) -> Self {
        Checking {
            at_once,
            waiting,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Three numbers, each changed in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place; an error at once where too many wait.
    pub(super) fn enter(&self) -> Result<Permit<'_>, StoreError> {
        let mut state = self.lock();
        if state.running >= self.at_once {
            if state.waiting >= self.waiting {
                state.sent_back += 1;
                return Err(StoreError::Busy { waiting: self.waiting });
            }
            state.waiting += 1;
            let waited = self.freed.wait_while(state, |state| state.running >= self.at_once);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.running += 1;
        Ok(Permit(self))
    }

    /// How many were sent back so far.
    pub(super) fn sent_back(&self) -> u64 {
        self.lock().sent_back
    }
}

/// A place for a check, until it is dropped.
pub(super) struct Permit<'a>(&'a Checking);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_checked_so_many_wait_and_the_rest_is_sent_back() {
        let checking = Checking::new(2, 1);
        let (first, _second) = (checking.enter().unwrap(), checking.enter().unwrap());
        std::thread::scope(|scope| {
            let third = scope.spawn(|| drop(checking.enter().unwrap()));
            while checking.lock().waiting == 0 {
                std::thread::yield_now();
            }
            assert!(matches!(checking.enter(), Err(StoreError::Busy { waiting: 1 })));
            assert!(!third.is_finished());
            drop(first);
            third.join().unwrap();
        });
        assert_eq!((checking.sent_back(), checking.lock().running), (1, 1));
        drop(checking.enter().unwrap());
    }
}
