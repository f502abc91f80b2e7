//! Work that may hang, even in an uninterruptible call, and must not take the rest with it.
//!
//! Each piece runs in a thread of its own. One that misses its deadline is left behind: it holds its own clones of
//! what it reads, and its answer, should it ever come, finds nobody listening.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::root::ReadError;
use crate::model::inventory::{Item, PartStatus};

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    Done {
        value: T,
        millis: u64,
    },
    TimedOut {
        millis: u64,
    },
    /// It panicked, or its thread could not be started; the text says which.
    Died {
        reason: String,
    },
}

impl<T> Outcome<T> {
    /// The value and the milliseconds it took, or the item that says why there is none.
    pub fn or_gap(self, item: impl Into<String>, source: impl Into<String>) -> Result<(T, u64), Item> {
        match self {
            Outcome::Done { value, millis } => Ok((value, millis)),
            Outcome::TimedOut { millis } => {
                let reason = format!("no answer within {millis} ms");
                Err(Item::gap(item, PartStatus::TimedOut, reason).from(source, millis))
            }
            Outcome::Died { reason } => Err(Item::gap(item, PartStatus::Failed, reason).from(source, 0)),
        }
    }
}

impl<T> Outcome<Result<T, ReadError>> {
    /// The same for work that reads.
    pub fn read_or_gap(
        self,
        item: impl Into<String> + Clone,
        source: impl Into<String> + Clone,
    ) -> Result<(T, u64), Item> {
        match self.or_gap(item.clone(), source.clone())? {
            (Ok(value), millis) => Ok((value, millis)),
            (Err(error), millis) => Err(Item::gap(item, error.status(), error.to_string()).from(source, millis)),
        }
    }
}

/// Work that was started.
#[derive(Debug)]
pub struct Pending<T> {
    answer: mpsc::Receiver<Result<(T, Duration), String>>,
    /// What the work handed out before it was done.
    latest: Arc<Mutex<Option<T>>>,
    started: Instant,
}

/// Lets work hand out what it knows so far; should the rest hang, that much is not lost.
#[derive(Debug)]
pub struct Publish<T>(Arc<Mutex<Option<T>>>);

impl<T> Publish<T> {
    /// For callers that only want the end result.
    pub fn nowhere() -> Self {
        Publish(Arc::new(Mutex::new(None)))
    }

    /// Replaces what was handed out before.
    pub fn so_far(&self, value: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }
}

/// Starts `work` in a thread called `name`.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    spawn_publishing(name, |_| work())
}

/// Starts `work`, which may hand out what it knows so far, in a thread called `name`.
pub fn spawn_publishing<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(Publish<T>) -> T + Send + 'static,
) -> Pending<T> {
    let started = Instant::now();
    let latest = Arc::new(Mutex::new(None));
    let publish = Publish(Arc::clone(&latest));
    let (sender, answer) = mpsc::channel();
    let failed = sender.clone();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(publish))).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("a fault in the probe itself: {}", text.unwrap_or_default())
        });
        // Nobody listens after the deadline; that is the point.
        let _ = sender.send(result.map(|value| (value, started.elapsed())));
    };
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
        let _ = failed.send(Err(format!("starting a thread: {error}")));
    }
    Pending {
        answer,
        latest,
        started,
    }
}

impl<T> Pending<T> {
    /// What the work handed out last, if anything. Taken, not copied.
    pub fn latest(&self) -> Option<T> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Since the work was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The answer, if it is there already. It is given once.
    pub fn poll(&self) -> Option<Outcome<T>> {
        match self.wait(Instant::now()) {
            Outcome::TimedOut { .. } => None,
            outcome => Some(outcome),
        }
    }

    /// Waits until `deadline` at most.
    pub fn wait(&self, deadline: Instant) -> Outcome<T> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answer.recv_timeout(left) {
            Ok(Ok((value, took))) => Outcome::Done {
                value,
                millis: millis(took),
            },
            Ok(Err(reason)) => Outcome::Died { reason },
            Err(mpsc::RecvTimeoutError::Timeout) => Outcome::TimedOut {
                millis: millis(self.started.elapsed()),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => Outcome::Died {
                reason: "the probe ended without an answer".to_owned(),
            },
        }
    }
}

/// Does the same work for every item at once, each within `limit`; the answers come in the order of the items.
pub fn each<I, T>(
    name: &str,
    items: Vec<I>,
    limit: Duration,
    work: impl Fn(I) -> T + Send + Sync + 'static,
) -> Vec<Outcome<T>>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let work = Arc::new(work);
    let deadline = Instant::now() + limit;
    let pending: Vec<Pending<T>> = items
        .into_iter()
        .map(|item| {
            let work = Arc::clone(&work);
            spawn(name, move || work(item))
        })
        .collect();
    pending.into_iter().map(|pending| pending.wait(deadline)).collect()
}

/// Whole milliseconds, for the record.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_hangs_does_not_hold_the_others() {
        let started = Instant::now();
        let outcomes = each("test", vec![1u32, 2, 3], Duration::from_secs(2), |item| {
            if item == 2 {
                thread::sleep(Duration::from_secs(3600));
            }
            item * 10
        });
        assert!(matches!(outcomes[0], Outcome::Done { value: 10, .. }));
        assert!(matches!(outcomes[1], Outcome::TimedOut { .. }));
        assert!(matches!(outcomes[2], Outcome::Done { value: 30, .. }));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_panic_is_an_answer() {
        let pending: Pending<()> = spawn("test", || panic!("as it happens"));
        let outcome = pending.wait(Instant::now() + Duration::from_secs(10));
        assert_eq!(
            outcome,
            Outcome::Died {
                reason: "a fault in the probe itself: as it happens".to_owned()
            }
        );
    }
}
