//! The journal's file: what is known of leases is written to it, and it is begun anew where most of it is history.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journal::{self, Book};
use super::sync::Wish;
use crate::model::RunTime;
use crate::model::console::console;
use crate::model::layout::LEASES_PREFIX;
use crate::model::lease::LeaseChange;
use crate::store::fs_ops::Medium;
use crate::sys::file::open_plain;

/// Largest journal read; a /16 full of leases is below it.
const MAX_BYTES: u64 = 64 << 20;
/// A journal that grew by this much since it was begun is begun anew, if most of it is history.
pub(super) const COMPACT_BYTES: u64 = 8 << 20;
/// Bytes a line has on average; errs on the large side.
const LINE_BYTES: u64 = 160;
/// Blank lines that stand behind the last change of a durable journal, for the next ones to be written over: their sync then puts
/// nothing on the medium but themselves.
pub(super) const AHEAD_BYTES: u64 = 64 << 10;
/// Pause before a medium that failed is tried again, in seconds.
pub(super) const RETRY_SECONDS: f64 = 30.0;
/// `leases-<number>.jsonl`; the highest whole one counts. A new file under a new name, because a rename over a file is
/// not atomic on FAT and exFAT.
const SUFFIX: &str = ".jsonl";

/// The file and what is in it.
pub(super) struct Writer {
    folder: PathBuf,
    durable: bool,
    medium: Arc<dyn Medium>,
    name: u64,
    /// Of the present file, and of the last one on the medium before there is one.
    pub(super) number: u64,
    book: Book,
    pub(super) file: Option<File>,
    /// Bytes appended since it was begun.
    pub(super) grown: u64,
    /// Of the blank lines at its end.
    ahead: u64,
    pub(super) failing: bool,
    retry_at: RunTime,
    /// What was written is not on the medium; true where the file got longer by it.
    unsynced: Option<bool>,
}

impl Writer {
    /// Reads what `folder` remembers. There is no new journal before [`Self::begin`].
    pub(super) fn new(folder: &Path, durable: bool, name: u64, medium: Arc<dyn Medium>) -> Self {
        let (book, number) = load(folder);
        Writer {
            folder: folder.to_owned(),
            durable,
            medium,
            name,
            number,
            book,
            file: None,
            grown: 0,
            ahead: 0,
            failing: false,
            retry_at: RunTime::default(),
            unsynced: None,
        }
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// What the medium owes since the last of these.
    pub(super) fn take_wish(&mut self, now: RunTime) -> Option<Wish> {
        let is_longer = self.unsynced.take()?;
        // A handle of its own, because this one may be closed meanwhile.
        match self.file.as_ref()?.try_clone() {
            Ok(file) => Some(Wish {
                journal: self.number,
                file,
                is_longer,
            }),
            Err(error) => {
                self.failed(&error, now);
                None
            }
        }
    }

    /// The medium did not take a journal; a later one is another matter.
    pub(super) fn not_synced(&mut self, journal: u64, error: &io::Error, now: RunTime) {
        if journal == self.number && self.file.is_some() {
            self.failed(error, now);
        }
    }

    pub(super) fn write(&mut self, changes: &[LeaseChange], now: RunTime) {
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
        journal::append(&journal_name(self.name), changes, &mut bytes);
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

    /// Writes lines behind the last one.
    fn append(&mut self, file: &mut File, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if !self.durable {
            return self.medium.write(file, lines);
        }
        if length > self.ahead {
            self.extend(file, lines.to_vec())?;
            self.unsynced = Some(true);
            return Ok(());
        }
        self.medium.write(file, lines)?;
        self.ahead -= length;
        self.unsynced.get_or_insert(false);
        Ok(())
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
    pub(super) fn begin(&mut self, now: RunTime) {
        let old = self.number;
        self.number = old.saturating_add(1);
        self.name = self.name.wrapping_add(1);
        match self.make() {
            Ok(file) => {
                self.file = Some(file);
                self.unsynced = None;
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
        let bytes = journal::begin(&journal_name(self.name), self.number, &self.book);
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
        self.unsynced = None;
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

pub(super) fn file_name(number: u64) -> String {
    format!("{LEASES_PREFIX}{number}{SUFFIX}")
}

fn journal_name(number: u64) -> String {
    format!("{number:016x}")
}

/// Journals of a folder, the newest first. An unreadable folder has none.
pub(super) fn journals(folder: &Path) -> Vec<(u64, PathBuf)> {
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
pub(super) fn load(folder: &Path) -> (Book, u64) {
    let found = journals(folder);
    let highest = found.first().map_or(0, |(number, _)| *number);
    for (number, path) in &found {
        let mut bytes = Vec::new();
        let read = open_plain(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
        if let Err(error) = read {
            tracing::warn!(file = %path.display(), %error, "reading the leases of an earlier run");
            continue;
        }
        if let Some((book, bad)) = journal::read(&bytes, *number) {
            if bad > 0 {
                tracing::warn!(file = %path.display(), lines = bad, "lines of the lease journal do not count");
            }
            return (book, highest);
        }
    }
    (Book::default(), highest)
}
