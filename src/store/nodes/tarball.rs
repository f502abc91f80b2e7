//! The tarball beside `nodes/`, for people who copy a file and go.
//!
//! A file named `recon-inventory.tar.gz` is on the medium only while it holds every stored upload: before an upload becomes
//! durable, the file gets the name `recon-inventory-INCOMPLETE.tar.gz`, and whatever is being made has that name until it is whole.
//! So of the two names at most one is there, a stick that is pulled at any time says what it holds, and the tarball takes room
//! once. It never takes the room of an upload.

use crate::model::layout::{TARBALL, TARBALL_INCOMPLETE};
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NodeStore;
use crate::store::archive::{self, ArchiveError, Builder, GoOn};
use crate::store::fs_ops::Medium;

/// What is known of the two files.
pub(super) struct Tarball {
    folder: PathBuf,
    medium: Arc<dyn Medium>,
    /// Counts every change of what is stored, begun and ended. While it stands still, a tarball that is being made is current.
    changes: AtomicU64,
    state: Mutex<Named>,
    /// Held while a tarball is made.
    making: Mutex<()>,
}

#[derive(Default)]
struct Named {
    /// The whole name is there.
    whole: bool,
    /// And what it names is known to hold everything.
    current: bool,
    /// Uploads that are becoming durable.
    under_way: usize,
    /// What kept an old file from being renamed.
    stuck: Option<String>,
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

    fn lock(&self) -> MutexGuard<'_, Named> {
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
    fn withdraw(&self, named: &mut Named) {
        named.current = false;
        if !named.whole {
            return;
        }
        let (whole, incomplete) = (self.folder.join(TARBALL), self.folder.join(TARBALL_INCOMPLETE));
        let gone = match self.medium.rename(&whole, &incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.medium.remove_file(&whole),
            _ => Ok(()),
        };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                // The upload is worth more than the name of a copy.
                let text = format!("{TARBALL} is out of date and can be neither renamed nor removed: {error}");
                tracing::warn!("{text}");
                named.stuck = Some(text);
            }
            _ => {
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

    /// Gives an upload the room of the tarball. False if there is none.
    pub(super) fn make_room(&self) -> bool {
        // Ends a making under way.
        self.changes.fetch_add(1, Ordering::Relaxed);
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = self.lock();
        self.withdraw(&mut named);
        self.medium.remove_file(&self.folder.join(TARBALL_INCOMPLETE)).is_ok()
    }

    /// Names what was made, if nothing changed since.
    fn publish(&self, since: u64) -> Result<bool, ArchiveError> {
        let mut named = self.lock();
        if named.under_way > 0 || self.changes.load(Ordering::Relaxed) != since {
            return Ok(false);
        }
        let (whole, incomplete) = (self.folder.join(TARBALL), self.folder.join(TARBALL_INCOMPLETE));
        let failed = |operation: &'static str, path: PathBuf| {
            move |source| ArchiveError::Io {
                operation,
                path,
                source,
            }
        };
        // Whatever the error: the name may be there.
        named.whole = true;
        self.medium
            .rename(&incomplete, &whole)
            .map_err(failed("naming", whole))?;
        self.medium
            .sync_folder(&self.folder)
            .map_err(failed("syncing", self.folder.clone()))?;
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

impl NodeStore {
    /// A number that changes whenever what is stored does.
    pub fn changes(&self) -> u64 {
        self.0.tarball.changes.load(Ordering::Relaxed)
    }

    /// The tarball on the medium, while it is known to hold everything.
    pub fn current_tarball(&self) -> Option<PathBuf> {
        let tarball = &self.0.tarball;
        tarball.lock().current.then(|| tarball.folder.join(TARBALL))
    }

    /// Why a tarball that is not current has the name of one that is.
    pub fn tarball_stuck(&self) -> Option<String> {
        self.0.tarball.lock().stuck.clone()
    }

    /// Makes the tarball on the medium, unless it is current. Waits until every upload found at start is hashed. Ends early when
    /// `go_on` says so, or an upload comes and `yielding`. Blocks.
    pub fn make_tarball(&self, yielding: bool, go_on: GoOn<'_>) -> Result<Made, ArchiveError> {
        let tarball = &self.0.tarball;
        let since = tarball.changes.load(Ordering::Relaxed);
        let nodes = self.list_while(go_on).ok_or(ArchiveError::Stopped)?;
        // Not while waiting for the list: an upload that needs room would wait for it too.
        let _making = tarball.making.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = self.lacks();
        let whole = tarball.folder.join(TARBALL);
        let (is_whole, is_current) = {
            let named = tarball.lock();
            (named.whole, named.current)
        };
        // One of an earlier run says itself what it holds.
        let found =
            || is_whole && lacks.is_empty() && File::open(&whole).is_ok_and(|file| archive::holds(file, &nodes));
        if is_current || found() {
            let mut named = tarball.lock();
            named.current = named.under_way == 0 && tarball.changes.load(Ordering::Relaxed) == since;
            return Ok(match named.current {
                true => Made::Current { nodes: nodes.len() },
                false => Made::Overtaken,
            });
        }
        let overtaken = || tarball.changes.load(Ordering::Relaxed) != since;
        let go_on = || go_on() && !(yielding && overtaken());
        let missing = lacks.len();
        let builder = Builder::on(self.0.limits.upload, Arc::clone(&tarball.medium)).lacks(lacks);
        let out = tarball.folder.join(TARBALL_INCOMPLETE);
        // The old one is no use, and its room may be.
        tarball.withdraw(&mut tarball.lock());
        // What uploads under way were promised is not free.
        let leave = self.0.lock().needed(0, &self.0.limits);
        match builder.write(&nodes, &out, leave, &go_on) {
            Ok(built) if missing + built.left_out.len() > 0 => Ok(Made::Lacking {
                nodes: built.nodes,
                lacks: missing + built.left_out.len(),
            }),
            Ok(built) => Ok(match tarball.publish(since)? {
                true => Made::Current { nodes: built.nodes },
                false => Made::Overtaken,
            }),
            Err(ArchiveError::Stopped) if overtaken() => Ok(Made::Overtaken),
            Err(error) => Err(error),
        }
    }

    /// Sends a tarball of what is stored now to a socket or the like; see [`Builder::stream`]. Waits as [`NodeStore::list`] does.
    pub fn stream_tarball(&self, writer: &mut impl io::Write, go_on: GoOn<'_>) -> Result<(), ArchiveError> {
        let nodes = self.list_while(go_on).ok_or(ArchiveError::Stopped)?;
        Builder::on(self.0.limits.upload, Arc::clone(&self.0.medium))
            .lacks(self.lacks())
            .stream(&nodes, writer, go_on)
    }
}
