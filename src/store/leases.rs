//! DHCPv4 leases that survive a restart of the master and a power cut. Which lease to give is decided elsewhere.
//!
//! One thread writes for all links. While it waits for the medium, changes gather; one sync then covers all of them. A
//! change gets a number when it is handed over, and [`Journal::written`] tells up to which number everything is on the
//! medium: a reply that rests on a change waits for that.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::model::RunTime;
use crate::model::console::console;
use crate::model::layout::LEASES_PREFIX;
use crate::model::lease::LeaseChange;
use crate::store::fs_ops::{Disk, Medium};
use crate::sys::clock;
use crate::sys::file::open_plain;

pub(crate) mod journal;
#[cfg(test)]
mod tests;

pub(crate) use crate::store::leases::journal::Book;

/// Largest journal read; a /16 full of leases is below it.
const MAX_BYTES: u64 = 64 << 20;
/// A journal that grew by this much since it was begun is begun anew, if most of it is history.
const COMPACT_BYTES: u64 = 8 << 20;
/// Bytes a line has on average; errs on the large side.
const LINE_BYTES: u64 = 160;
/// Changes gather this long at most before the next sync begins.
const GATHER: Duration = Duration::from_millis(1);
/// Blank lines that stand behind the last change of a durable journal, for the next ones to be written over: their sync then puts
/// nothing on the medium but themselves.
const AHEAD_BYTES: u64 = 64 << 10;
/// Pause before a medium that failed is tried again, in seconds.
const RETRY_SECONDS: f64 = 30.0;
/// `leases-<number>.jsonl`; the highest whole one counts. A new file under a new name, because a rename over a file is
/// not atomic on FAT and exFAT.
const SUFFIX: &str = ".jsonl";

/// Hands changes to the writing thread.
pub(crate) struct Journal {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
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
    /// costs the memory across restarts, nothing else. `durable`: wait for the medium at all; false where the folder is
    /// memory itself. `name`: a number drawn by the caller that no earlier journal had. Blocks.
    pub(crate) fn open(folder: &Path, durable: bool, name: u64) -> (Self, Book) {
        Self::on(folder, durable, name, Arc::new(Disk))
    }

    pub(crate) fn on(folder: &Path, durable: bool, name: u64, medium: Arc<dyn Medium>) -> (Self, Book) {
        let (book, number) = load(folder);
        let mut writer = Writer {
            folder: folder.to_owned(),
            durable,
            medium,
            name,
            number,
            book: book.clone(),
            file: None,
            grown: 0,
            ahead: 0,
            failing: false,
            retry_at: RunTime::default(),
        };
        writer.begin(clock::run_time());
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            written: watch::Sender::new(0),
        });
        let work = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("leases".to_owned())
            .spawn(move || work.serve(writer))
            .inspect_err(|error| console!("leases are not remembered: no thread: {error}"))
            .ok();
        if thread.is_none() {
            // Nobody will write: nobody shall wait.
            queue.written.send_replace(u64::MAX);
        }
        let journal = Journal {
            queue,
            thread: Mutex::new(thread),
        };
        (journal, book)
    }

    /// Hands over changes; the number by which [`Self::written`] tells that they are on the medium. Does not block.
    pub(crate) fn append(&self, changes: Vec<LeaseChange>) -> u64 {
        let mut waiting = self.queue.waiting.lock().expect("no holder panics");
        waiting.changes.extend(changes);
        waiting.last += 1;
        let last = waiting.last;
        drop(waiting);
        self.queue.wake.notify_one();
        last
    }

    /// Up to which number all changes are on the medium, or will never be because it fails, which was said.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.queue.written.subscribe()
    }

    /// Writes what waits and closes the file. Blocks.
    pub(crate) fn close(&self) {
        self.queue.waiting.lock().expect("no holder panics").stop = true;
        self.queue.wake.notify_one();
        let thread = self.thread.lock().expect("no holder panics").take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            console!("the last leases were not written");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// How far apart two syncs begin, where the first one took so long: half of the time may go to syncs, so that a quick medium
/// does not sync for every change, and on a slow one nothing waits longer than for the sync before.
fn apart(took: Duration) -> Duration {
    GATHER.min(2 * took)
}

impl Queue {
    /// Waits until there is something to write, or the end.
    fn wait(&self) -> MutexGuard<'_, Waiting> {
        let waiting = self.waiting.lock().expect("no holder panics");
        let idle = |waiting: &mut Waiting| {
            waiting.changes.is_empty() && waiting.last == *self.written.borrow() && !waiting.stop
        };
        self.wake.wait_while(waiting, idle).expect("no holder panics")
    }

    fn serve(&self, mut writer: Writer) {
        let mut next = Instant::now();
        loop {
            drop(self.wait());
            // Where one change follows another, those of a moment share a sync.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let (changes, last, stop) = {
                let mut waiting = self.wait();
                (std::mem::take(&mut waiting.changes), waiting.last, waiting.stop)
            };
            let begun = Instant::now();
            writer.write(&changes, clock::run_time());
            next = begun + apart(begun.elapsed());
            self.written.send_replace(last);
            if stop {
                return;
            }
        }
    }
}

/// The file and what is in it.
struct Writer {
    folder: PathBuf,
    durable: bool,
    medium: Arc<dyn Medium>,
    name: u64,
    /// Of the present file, and of the last one on the medium before there is one.
    number: u64,
    book: Book,
    file: Option<File>,
    /// Bytes appended since it was begun.
    grown: u64,
    /// Of the blank lines at its end.
    ahead: u64,
    failing: bool,
    retry_at: RunTime,
}

impl Writer {
    fn write(&mut self, changes: &[LeaseChange], now: RunTime) {
        for change in changes {
            self.book.apply(change);
        }
        if changes.is_empty() {
            return;
        }
        let Some(mut file) = self.file.take() else {
            if now >= self.retry_at {
                self.begin(now);
            }
            return;
        };
        let mut bytes = Vec::new();
        crate::store::leases::journal::append(&journal_name(self.name), changes, &mut bytes);
        let written = self.append(&mut file, &bytes);
        self.file = Some(file);
        self.grown += bytes.len() as u64;
        match written {
            // What reached the file of these changes is unknown, so it is not added to any more.
            Err(error) => self.failed(&error, now),
            Ok(()) if self.grown > COMPACT_BYTES.max(4 * LINE_BYTES * self.book.len() as u64) => self.begin(now),
            Ok(()) => {}
        }
    }

    /// Writes lines behind the last one and waits until they are on the medium.
    fn append(&mut self, file: &mut File, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if !self.durable {
            return self.medium.write(file, lines);
        }
        if length > self.ahead {
            self.extend(file, lines.to_vec())?;
            return self.medium.sync_file(file);
        }
        self.medium.write(file, lines)?;
        self.ahead -= length;
        self.medium.sync_data(file)
    }

    /// Writes lines and, behind them, blank ones for those that will follow.
    fn extend(&mut self, file: &mut File, mut lines: Vec<u8>) -> io::Result<()> {
        lines.resize(lines.len() + AHEAD_BYTES as usize, b'\n');
        self.medium.write(file, &lines)?;
        file.seek(SeekFrom::Current(-(AHEAD_BYTES as i64)))?;
        self.ahead = AHEAD_BYTES;
        Ok(())
    }

    /// Begins a new file with all that is known, and removes the old one once that is on the medium.
    fn begin(&mut self, now: RunTime) {
        let old = self.number;
        self.number = old.saturating_add(1);
        self.name = self.name.wrapping_add(1);
        match self.make() {
            Ok(file) => {
                self.file = Some(file);
                self.grown = 0;
                if std::mem::take(&mut self.failing) {
                    console!("leases are remembered again");
                }
                self.remove_others();
            }
            Err(error) => {
                // A part of a file helps nobody, and one every half minute fills the folder.
                let _ = self.medium.remove_file(&self.folder.join(file_name(self.number)));
                self.failed(&error, now);
            }
        }
    }

    fn make(&mut self) -> io::Result<File> {
        let path = self.folder.join(file_name(self.number));
        let mut file = self.medium.create(&path)?;
        let bytes = crate::store::leases::journal::begin(&journal_name(self.name), self.number, &self.book);
        if !self.durable {
            self.medium.write(&mut file, &bytes)?;
        } else {
            self.extend(&mut file, bytes)?;
            self.medium.sync_file(&file)?;
            self.medium.sync_folder(&self.folder)?;
            self.medium.sync_all(&self.folder)?;
        }
        Ok(file)
    }

    fn remove_others(&self) {
        for (number, path) in journals(&self.folder) {
            if number != self.number
                && let Err(error) = self.medium.remove_file(&path)
            {
                tracing::warn!(file = %path.display(), %error, "removing an old lease journal");
            }
        }
    }

    fn failed(&mut self, error: &io::Error, now: RunTime) {
        self.file = None;
        self.retry_at = now + RETRY_SECONDS;
        if !std::mem::replace(&mut self.failing, true) {
            console!(
                "LEASES: they cannot be written to {}: {error}. Machines are served all the same, but a restart of the \
                 master will not know their addresses",
                self.folder.display()
            );
        }
    }
}

fn file_name(number: u64) -> String {
    format!("{LEASES_PREFIX}{number}{SUFFIX}")
}

fn journal_name(number: u64) -> String {
    format!("{number:016x}")
}

/// Journals of a folder, the newest first. An unreadable folder has none.
fn journals(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "looking for leases of an earlier run");
            None
        }
    };
    let entries = entries.into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_prefix(LEASES_PREFIX)?.strip_suffix(SUFFIX)?;
            Some((number.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// The newest journal that was finished, and the highest number in use.
fn load(folder: &Path) -> (Book, u64) {
    let found = journals(folder);
    let highest = found.first().map_or(0, |(number, _)| *number);
    for (number, path) in &found {
        let mut bytes = Vec::new();
        let read = open_plain(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        if let Err(error) = read {
            tracing::warn!(file = %path.display(), %error, "reading the leases of an earlier run");
            continue;
        }
        if let Some((book, bad)) = crate::store::leases::journal::read(&bytes, *number) {
            if bad > 0 {
                tracing::warn!(file = %path.display(), lines = bad, "lines of the lease journal do not count");
            }
            return (book, highest);
        }
    }
    (Book::default(), highest)
}
