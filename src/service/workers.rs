//! Threads of their own for what moves packets.
//!
//! A transfer is a packet there and a packet back, a thousand times. On a runtime of several threads every packet wakes a second
//! thread to look for work, which costs more than the work; so each of these threads keeps to what it was given.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A link is full long before more of them are busy.
const MAX_THREADS: usize = 8;

/// Does work that waits for a medium in a thread that may wait.
///
/// # Errors
/// Those of the work, and its panic.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A thread that runs tasks. It ends when this is dropped, and what still runs on it.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    _stop: DropGuard,
}

impl Worker {
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Worker {
            handle,
            _stop: stop.drop_guard(),
        })
    }

    /// Where its tasks are spawned. Sockets belong to the thread that is entered when they are made.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// One for each processor.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<(Worker, Arc<AtomicUsize>)>,
}

/// Work on one of several threads; it counts as that thread's until this is dropped.
#[derive(Debug)]
pub struct WorkerSlot {
    handle: Handle,
    busy: Arc<AtomicUsize>,
}

impl Workers {
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MAX_THREADS);
        let threads = (0..count).map(|number| Ok((Worker::start(&format!("worker-{number}"))?, Arc::default())));
        Ok(Workers {
            threads: threads.collect::<io::Result<_>>()?,
        })
    }

    /// A place on the thread that has the least to do.
    pub fn place(&self) -> WorkerSlot {
        let least = self.threads.iter().min_by_key(|(_, busy)| busy.load(Ordering::Relaxed));
        let (worker, busy) = least.expect("there is at least one processor");
        busy.fetch_add(1, Ordering::Relaxed);
        WorkerSlot {
            handle: worker.handle.clone(),
            busy: Arc::clone(busy),
        }
    }
}

impl WorkerSlot {
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_where_there_is_least_of_it() {
        let workers = Workers {
            threads: (0..3)
                .map(|number| (Worker::start(&number.to_string()).unwrap(), Arc::default()))
                .collect(),
        };
        let busy = || {
            let counts = workers.threads.iter().map(|(_, busy)| busy.load(Ordering::Relaxed));
            counts.collect::<Vec<_>>()
        };
        let mut places: Vec<WorkerSlot> = (0..7).map(|_| workers.place()).collect();
        assert_eq!(busy(), [3, 2, 2]);
        places.remove(1);
        places.push(workers.place());
        assert_eq!(busy(), [3, 2, 2], "it takes the gap");
        drop(places);
        assert_eq!(busy(), [0, 0, 0]);
    }

    #[test]
    fn a_thread_ends_with_its_owner_and_drops_what_ran_on_it() {
        let worker = Worker::start("test").unwrap();
        let (held, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        worker.handle().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(worker);
        assert_eq!(gone.blocking_recv(), None);
    }
}
