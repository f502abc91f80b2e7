//! Work that may hang, even in an uninterruptible call, and must not take the rest with it.
//!
//! Each piece runs in a thread of its own. One that misses its deadline is left behind: it holds its own clones of
//! what it reads, and its answer, should it ever come, finds nobody listening.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::lock;
use super::root::ReadError;
use crate::model::inventory::{Item, PartStatus};

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
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
    pub(crate) fn or_gap(self, item: impl Into<String>, source: impl Into<String>) -> Result<(T, u64), Item> {
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
    pub(crate) fn read_or_gap(
        self,
        item: impl Into<String> + Clone,
        source: impl Into<String> + Clone,
    ) -> Result<(T, u64), Item> {
        match self.or_gap(item.clone(), source.clone())? {
            (Ok(value), millis) => Ok((value, millis)),
            (Err(error), millis) => Err(error.gap(item).from(source, millis)),
        }
    }
}

/// Threads of one [`Pool`]. Work on few devices has a thread for each; thousands of virtual functions or disks share these.
/// Devices that hang hold a thread each, and only when as many hang as there are threads do others wait in vain.
const POOL_THREADS: usize = 512;

/// Work that was started.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    answer: mpsc::Receiver<Outcome<T>>,
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
        *lock(&self.0) = Some(value);
    }
}

/// Starts `work` in a thread called `name`.
pub(crate) fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    spawn_publishing(name, |_| work())
}

/// Starts `work`, which may hand out what it knows so far, in a thread called `name`.
pub(crate) fn spawn_publishing<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(Publish<T>) -> T + Send + 'static,
) -> Pending<T> {
    let (pending, body, sender) = prepare(work);
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
        let _ = sender.send(not_started(&error));
    }
    pending
}

/// What the work gives and how long it took, or what its panic said.
fn caught<T>(work: impl FnOnce() -> T) -> Outcome<T> {
    let started = Instant::now();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Outcome::Done {
            value,
            millis: millis(started.elapsed()),
        },
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let reason = format!("a fault in the probe itself: {}", text.unwrap_or_default());
            Outcome::Died { reason }
        }
    }
}

fn not_started<T>(error: &io::Error) -> Outcome<T> {
    let reason = format!("starting a thread: {error}");
    Outcome::Died { reason }
}

/// Work whose answer several parts take, each waiting as long as it likes.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    answer: Arc<(Mutex<Option<Outcome<T>>>, Condvar)>,
    started: Instant,
}

impl<T: Clone + Send + 'static> Shared<T> {
    /// Starts `work` in a thread called `name`.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (answer, started) = (Arc::<(Mutex<Option<Outcome<T>>>, Condvar)>::default(), Instant::now());
        let give = |answer: &(Mutex<_>, Condvar), outcome| {
            *lock(&answer.0) = Some(outcome);
            answer.1.notify_all();
        };
        let given = Arc::clone(&answer);
        let body = move || give(&given, caught(work));
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
            give(&answer, not_started(&error));
        }
        Shared { answer, started }
    }

    /// Waits until `deadline` at most; without one for as long as it takes.
    pub(crate) fn wait(&self, deadline: impl Into<Option<Instant>>) -> Outcome<T> {
        let (answer, came) = &*self.answer;
        let held = lock(answer);
        let left = match deadline.into() {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::MAX,
        };
        let held = came.wait_timeout_while(held, left, |answer| answer.is_none());
        let (held, _) = held.unwrap_or_else(PoisonError::into_inner);
        held.clone().unwrap_or_else(|| Outcome::TimedOut {
            millis: millis(self.started.elapsed()),
        })
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Work ready to be run in some thread, the promise of its answer, and where else the answer can be given.
fn prepare<T: Send + 'static>(
    work: impl FnOnce(Publish<T>) -> T + Send + 'static,
) -> (Pending<T>, Job, mpsc::Sender<Outcome<T>>) {
    let latest = Arc::new(Mutex::new(None));
    let publish = Publish(Arc::clone(&latest));
    let (sender, answer) = mpsc::channel();
    let given = sender.clone();
    let body = Box::new(move || {
        // Nobody listens after the deadline; that is the point.
        let _ = given.send(caught(|| work(publish)));
    });
    let pending = Pending {
        answer,
        latest,
        started: Instant::now(),
    };
    (pending, body, sender)
}

/// Runs pieces of work side by side in at most [`POOL_THREADS`] threads, in the order they were handed in. The threads end
/// when there is nothing left to do.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    threads: usize,
    shared: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    running: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting, {} threads", self.jobs.len(), self.running)
    }
}

impl Pool {
    /// Its threads are called `name`.
    pub(crate) fn new(name: &str) -> Pool {
        Pool::with_threads(name, POOL_THREADS)
    }

    fn with_threads(name: &str, threads: usize) -> Pool {
        Pool {
            name: name.to_owned(),
            threads,
            shared: Arc::default(),
        }
    }

    /// Hands in a piece of work. Its time in the answer begins when a thread takes it up.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (pending, body, _) = prepare(|_| work());
        let needs_thread = {
            let mut queue = lock(&self.shared);
            queue.jobs.push_back(body);
            let room = queue.running < self.threads;
            queue.running += usize::from(room);
            room
        };
        let shared = Arc::clone(&self.shared);
        let body = move || {
            loop {
                let job = {
                    let mut queue = lock(&shared);
                    match queue.jobs.pop_front() {
                        Some(job) => job,
                        None => {
                            queue.running -= 1;
                            return;
                        }
                    }
                };
                job();
            }
        };
        if needs_thread && thread::Builder::new().name(self.name.clone()).spawn(body).is_err() {
            let mut queue = lock(&self.shared);
            queue.running -= 1;
            // With no thread at all nobody would ever answer; who waits is told by the channels that close.
            if queue.running == 0 {
                queue.jobs.clear();
            }
        }
        pending
    }
}

impl<T> Pending<T> {
    /// What the work handed out last, if anything. Taken, not copied.
    pub(crate) fn latest(&self) -> Option<T> {
        lock(&self.latest).take()
    }

    /// Since the work was started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The answer, if it is there already. It is given once.
    pub(crate) fn poll(&self) -> Option<Outcome<T>> {
        match self.wait(Instant::now()) {
            Outcome::TimedOut { .. } => None,
            outcome => Some(outcome),
        }
    }

    /// Waits until `deadline` at most.
    pub(crate) fn wait(&self, deadline: Instant) -> Outcome<T> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.answer.recv_timeout(left) {
            Ok(outcome) => outcome,
            Err(mpsc::RecvTimeoutError::Timeout) => Outcome::TimedOut {
                millis: millis(self.started.elapsed()),
            },
            Err(mpsc::RecvTimeoutError::Disconnected) => Outcome::Died {
                reason: "the probe ended without an answer".to_owned(),
            },
        }
    }
}

/// Does the same work for every item side by side in a [`Pool`], each within `limit`; the answers come in the order of the
/// items.
pub(crate) fn each<I, T>(
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
    let pool = Pool::new(name);
    let pending: Vec<Pending<T>> = items
        .into_iter()
        .map(|item| {
            let work = Arc::clone(&work);
            pool.spawn(move || work(item))
        })
        .collect();
    pending.into_iter().map(|pending| pending.wait(deadline)).collect()
}

/// Whole milliseconds, for the record.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Notes as an item how work ended that took so many milliseconds.
pub(crate) fn note<T>(
    items: &mut Vec<Item>,
    item: impl Into<String>,
    source: &str,
    millis: u64,
    ended: Result<T, (PartStatus, String)>,
) -> Option<T> {
    match ended {
        Ok(value) => {
            items.push(Item::ok(item, source, millis));
            Some(value)
        }
        Err((status, reason)) => {
            items.push(Item::gap(item, status, reason).from(source, millis));
            None
        }
    }
}

/// Does work, and notes as an item how it ended and how long it took.
pub(crate) fn timed<T>(
    items: &mut Vec<Item>,
    item: impl Into<String>,
    source: &str,
    work: impl FnOnce() -> Result<T, (PartStatus, String)>,
) -> Option<T> {
    let begun = Instant::now();
    let ended = work();
    note(items, item, source, self::millis(begun.elapsed()), ended)
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
    fn a_pool_answers_everything_with_few_threads() {
        let pool = Pool::with_threads("test", 3);
        let at_once = Arc::new(Mutex::new((0, 0)));
        let pending: Vec<Pending<u32>> = (0..200)
            .map(|number| {
                let at_once = Arc::clone(&at_once);
                pool.spawn(move || {
                    {
                        let mut seen = at_once.lock().unwrap();
                        seen.0 += 1;
                        seen.1 = seen.1.max(seen.0);
                    }
                    thread::sleep(Duration::from_micros(200));
                    at_once.lock().unwrap().0 -= 1;
                    assert_ne!(number, 7, "one dies, and its thread goes on");
                    number
                })
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        for (number, pending) in pending.iter().enumerate() {
            match pending.wait(deadline) {
                Outcome::Done { value, .. } => assert_eq!(value as usize, number),
                outcome => assert!(
                    number == 7 && matches!(outcome, Outcome::Died { .. }),
                    "{number}: {outcome:?}"
                ),
            }
        }
        assert!(at_once.lock().unwrap().1 <= 3);
        // Threads that ended are started again.
        assert!(matches!(
            pool.spawn(|| 1).wait(deadline),
            Outcome::Done { value: 1, .. }
        ));
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
