//! The tarball beside `nodes/`, for people who copy a file and go.
//!
//! A file named `recon-inventory.tar.gz` is on the medium only while it holds every stored upload: before an upload becomes
//! durable, the file gets the name `recon-inventory-INCOMPLETE.tar.gz`, and whatever is being made has that name until it is whole.
//! So of the two names at most one is there, a stick that is pulled at any time says what it holds, and the tarball takes room
//! once. It never takes the room of an upload.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use crate::model::layout::{TARBALL, TARBALL_INCOMPLETE};
use crate::store::archive::ArchiveError;
use crate::store::fs_ops::{Medium, io_error};

/// What is known of the two files.
pub(super) struct Tarball {
    pub(super) folder: PathBuf,
    pub(super) medium: Arc<dyn Medium>,
    /// Counts every change of what is stored, begun and ended. While it stands still, a tarball that is being made is current.
    pub(super) changes: AtomicU64,
    pub(super) state: Mutex<Named>,
    /// Held while a tarball is made.
    pub(super) making: Mutex<()>,
}

#[derive(Default)]
pub(super) struct Named {
    /// The whole name is there.
    pub(super) whole: bool,
    /// And what it names is known to hold everything.
    pub(super) current: bool,
    /// Uploads that are becoming durable.
    pub(super) under_way: usize,
    /// What kept an old file from being renamed.
    pub(super) stuck: Option<String>,
}

/// What making a tarball came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// `recon-inventory.tar.gz` holds everything.
    Current { nodes: usize },
    /// There is a tarball, but something is missing in it or from it; its name and `INCOMPLETE.txt` in it say so.
    Lacking { nodes: usize, lacks: usize },
    /// Uploads came meanwhile.
    Overtaken,
}

impl Tarball {
    pub(super) fn new(folder: PathBuf, medium: Arc<dyn Medium>) -> Self {
        let whole = folder.join(TARBALL).exists();
        Tarball {
            folder,
            medium,
            changes: AtomicU64::new(0),
            state: Mutex::new(Named {
                whole,
                ..Named::default()
            }),
            making: Mutex::new(()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Named> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An upload is about to become durable: from here on the tarball is not whole. Hold what this gives until it is known what
    /// became of the upload.
    pub(super) fn changing(&self) -> Changing<'_> {
        let mut named = self.lock();
        self.changes.fetch_add(1, Ordering::Relaxed);
        named.under_way += 1;
        self.withdraw(&mut named);
        Changing(self)
    }

    /// Takes the whole name away. The file system is synced before the upload is acknowledged, and this with it.
    pub(super) fn withdraw(&self, named: &mut Named) {
        named.current = false;
        if !named.whole {
            return;
        }
        let (whole, incomplete) = (self.folder.join(TARBALL), self.folder.join(TARBALL_INCOMPLETE));
        let gone = match self.medium.rename(&whole, &incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.medium.remove_if_there(&whole),
            _ => Ok(()),
        };
        match gone {
            Err(error) => {
                // The upload is worth more than the name of a copy.
                let text = format!("{TARBALL} is out of date and can be neither renamed nor removed: {error}");
                tracing::warn!("{text}");
                named.stuck = Some(text);
            }
            Ok(()) => {
                named.whole = false;
                named.stuck = None;
            }
        }
    }

    /// What the tarball takes, whole or not.
    pub(super) fn bytes(&self) -> u64 {
        let names = [TARBALL, TARBALL_INCOMPLETE].into_iter();
        let there = names.filter_map(|name| fs::metadata(self.folder.join(name)).ok());
        there.map(|file| file.len()).fold(0, u64::saturating_add)
    }

    /// Gives an upload the room of the tarball.
    pub(super) fn make_room(&self) {
        // Ends a making under way.
        self.changes.fetch_add(1, Ordering::Relaxed);
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = self.lock();
        self.withdraw(&mut named);
        // Gone or not: whether there is room now is asked of the medium.
        let _ = self.medium.remove_file(&self.folder.join(TARBALL_INCOMPLETE));
    }

    /// Names what was made, if nothing changed since.
    pub(super) fn publish(&self, since: u64) -> Result<bool, ArchiveError> {
        let mut named = self.lock();
        if named.under_way > 0 || self.changes.load(Ordering::Relaxed) != since {
            return Ok(false);
        }
        let (whole, incomplete) = (self.folder.join(TARBALL), self.folder.join(TARBALL_INCOMPLETE));
        // Whatever the error: the name may be there.
        named.whole = true;
        let renamed = self.medium.rename(&incomplete, &whole);
        renamed.map_err(io_error("naming", &whole))?;
        let synced = self.medium.sync_folder(&self.folder);
        synced.map_err(io_error("syncing", &self.folder))?;
        named.current = true;
        named.stuck = None;
        Ok(true)
    }
}

/// While this lives, no tarball is current.
pub(super) struct Changing<'a>(&'a Tarball);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut named = self.0.lock();
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        named.under_way -= 1;
    }
}
