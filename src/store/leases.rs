//! DHCPv4 leases that survive the end of the master, however it ends, and but for the last moment a power cut. Which lease to give is
//! decided elsewhere.
//!
//! One thread writes for all links. A change gets a number when it is handed over, and [`Journal::written`] tells up to which number
//! everything is in the file, where it outlives this program: a reply that rests on a change waits for that. Another thread puts the file
//! on the medium a moment later ([`sync`]), because a stick takes milliseconds to seconds for it, and a machine that asks for an address
//! would wait as long.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::model::RunTime;
use crate::model::console::console;
use crate::model::lease::LeaseChange;
use crate::store::fs_ops::{Disk, Medium};
use crate::sys::clock;

pub(crate) mod journal;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use crate::store::leases::journal::Book;
use sync::Syncer;
use writer::Writer;

/// Hands changes to the writing thread.
pub(crate) struct Journal {
    queue: Arc<Queue>,
    syncer: Arc<Syncer>,
    /// Who writes and who syncs.
    threads: [Mutex<Option<JoinHandle<()>>>; 2],
}

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    written: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    changes: Vec<LeaseChange>,
    last: u64,
    stop: bool,
}

impl Journal {
    /// Reads what `folder` remembers and begins a new journal there. A folder that cannot be written to is said and
    /// costs the memory across restarts, nothing else. `durable`: put it on the medium at all; false where the folder is
    /// memory itself. `name`: a number drawn by the caller that no earlier journal had. Blocks.
    pub(crate) fn open(folder: &Path, durable: bool, name: u64) -> (Self, Book) {
        Self::on(folder, durable, name, Arc::new(Disk))
    }

    pub(crate) fn on(folder: &Path, durable: bool, name: u64, medium: Arc<dyn Medium>) -> (Self, Book) {
        let mut writer = Writer::new(folder, durable, name, Arc::clone(&medium));
        let book = writer.book().clone();
        writer.begin(clock::run_time());
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            written: watch::Sender::new(0),
        });
        let syncer = Arc::new(Syncer::default());
        let (work, wishes) = (Arc::clone(&queue), Arc::clone(&syncer));
        let writing = spawn("leases", move || work.serve(writer, &wishes));
        if writing.is_none() {
            // Nobody will write: nobody shall wait.
            queue.written.send_replace(u64::MAX);
        }
        let (sync, told) = (Arc::clone(&syncer), Arc::clone(&queue));
        let syncing = spawn("leases-sync", move || sync.serve(&*medium, || told.wake_up()));
        let journal = Journal {
            queue,
            syncer,
            threads: [writing, syncing].map(Mutex::new),
        };
        (journal, book)
    }

    /// Hands over changes; the number by which [`Self::written`] tells that they are in the file. Does not block.
    pub(crate) fn append(&self, changes: Vec<LeaseChange>) -> u64 {
        let mut waiting = self.queue.waiting.lock().expect("no holder panics");
        waiting.changes.extend(changes);
        waiting.last += 1;
        let last = waiting.last;
        drop(waiting);
        self.queue.wake.notify_one();
        last
    }

    /// Up to which number all changes are in the file, or will never be because it fails, which was said.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.queue.written.subscribe()
    }

    /// Since when the medium has been owing something that is in the file.
    pub(crate) fn owing_since(&self) -> Option<RunTime> {
        self.syncer.owing_since()
    }

    /// Writes what waits, puts it on the medium and closes the file. Blocks.
    pub(crate) fn close(&self) {
        self.queue.waiting.lock().expect("no holder panics").stop = true;
        self.queue.wake.notify_one();
        for thread in &self.threads {
            let thread = thread.lock().expect("no holder panics").take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                console!("the last leases were not written");
            }
            // Nobody writes any more.
            self.syncer.stop();
        }
        if let Some((_, error)) = self.syncer.take_failure() {
            console!("the last leases were not written: {error}");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread
        .inspect_err(|error| console!("leases may be forgotten: no thread: {error}"))
        .ok()
}

impl Queue {
    /// For what does not stand in `waiting`. Whoever looked before it was there waits by then.
    fn wake_up(&self) {
        drop(self.waiting.lock().expect("no holder panics"));
        self.wake.notify_one();
    }

    fn serve(&self, mut writer: Writer, syncer: &Syncer) {
        loop {
            let (changes, last, failure, stop) = {
                let waiting = self.waiting.lock().expect("no holder panics");
                let idle = |waiting: &mut Waiting| {
                    waiting.last == *self.written.borrow() && !waiting.stop && !syncer.has_failed()
                };
                let mut waiting = self.wake.wait_while(waiting, idle).expect("no holder panics");
                let changes = std::mem::take(&mut waiting.changes);
                (changes, waiting.last, syncer.take_failure(), waiting.stop)
            };
            let now = clock::run_time();
            if let Some((journal, error)) = failure {
                writer.not_synced(journal, &error, now);
            }
            writer.write(&changes, now);
            // Before anybody hears that it is written, so that whoever looks then sees that it is owed.
            if let Some(wish) = writer.take_wish(now) {
                syncer.wants(wish, now);
            }
            self.written.send_replace(last);
            if stop {
                return;
            }
        }
    }
}
