//! What all clones of a store share: the folder and its medium, the records, the room that uploads have, and what is told of
//! an upload that is kept.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{io, mem};

use crate::formats::bytes::hex;
use crate::model::{NodeId, layout};
use crate::store::fs_ops::{Medium, io_error};
use crate::store::inventory::InventoryFacts;
use crate::store::nodes::checking::Checking;
use crate::store::nodes::error::StoreError;
use crate::store::nodes::records::{Inner, Limits, Record, State};
use crate::store::nodes::tarball::Tarball;
use crate::store::upload::{self, UploadError, UploadLimits};
use crate::store::{Sha, UploadName, archive, room};
use crate::sys::file::open_plain;

pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) limits: Limits,
    pub(super) medium: Arc<dyn Medium>,
    pub(super) inner: Mutex<Inner>,
    pub(super) checked: Condvar,
    pub(super) checking: Checking,
    pub(super) tarball: Tarball,
    /// Bytes that were free at the start, of which copies of inventories leave half.
    pub(super) free_at_start: u64,
    /// Number of the next file for an upload on its way.
    pub(super) next_temporary: AtomicU64,
    /// Copies that were not written for want of room.
    pub(super) copies_left_out: AtomicU64,
    /// Held while a node's older uploads are pruned and its copy of the inventory is written.
    pub(super) tidying: ByName,
    /// Held from looking at the uploads of a name until the new one has its place among them.
    pub(super) placing: ByName,
}

/// Locks for what is done to the nodes of one name one at a time. Other names seldom share one, so that a slow file of one
/// machine does not hold up all.
pub(super) struct ByName(pub(super) [Mutex<()>; NAME_LOCKS]);

impl Default for ByName {
    fn default() -> Self {
        ByName(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl ByName {
    pub(super) fn place_of(id: &NodeId) -> usize {
        let mut hasher = DefaultHasher::new();
        id.base().hash(&mut hasher);
        usize::try_from(hasher.finish() % NAME_LOCKS as u64).unwrap_or(0)
    }

    pub(super) fn lock(&self, id: &NodeId) -> MutexGuard<'_, ()> {
        // It holds nothing that could be half done.
        self.0[ByName::place_of(id)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) const NAME_LOCKS: usize = 64;

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of the map is complete in itself, so a panic elsewhere leaves it usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map, once this many bytes more have room; the tarball gives way to them where that is enough.
    pub(super) fn room_for(&self, declared_len: u64) -> Result<MutexGuard<'_, Inner>, StoreError> {
        let mut is_first = true;
        loop {
            // Before the free bytes: where it goes in between, for another upload, it counts at least once.
            let tarball = self.tarball.bytes();
            let free = self.medium.free_bytes(&self.folder);
            let free = free.map_err(io_error("asking for the room on", &self.folder))?;
            let inner = self.lock();
            let needed = inner.needed(declared_len, &self.limits);
            if needed <= free {
                return Ok(inner);
            }
            drop(inner);
            if !mem::take(&mut is_first) || !room::tarball_gives_way(needed, free, tarball) {
                return Err(StoreError::NoSpace { needed, free });
            }
            self.tarball.make_room();
        }
    }

    /// A new file in `folder` for the content of an upload, for which so many free bytes are `needed`.
    pub(super) fn temporary(&self, folder: &Path, needed: u64) -> Result<(PathBuf, File), StoreError> {
        loop {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}{number}{}", layout::INCOMING_PREFIX, layout::PART));
            match self.medium.create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.full_or("making", &path, needed)(error)),
            }
        }
    }

    pub(super) fn path_of(&self, id: &NodeId, name: UploadName) -> PathBuf {
        self.folder.join(id.as_str()).join(name.to_string())
    }

    pub(super) fn whole_of(&self, inner: &Inner) -> Vec<StoredNode> {
        let newest = |(id, records): (&NodeId, &Vec<Record>)| {
            let whole = || records.iter().filter(|record| record.state == State::Whole);
            let record = whole().max_by_key(|record| record.name)?;
            Some(StoredNode {
                id: id.clone(),
                seq: record.name.seq,
                sha256: hex(&record.name.sha256),
                size_bytes: record.size,
                path: self.path_of(id, record.name),
                uploads: whole().count(),
                digest: record.name.sha256,
                limits: self.limits.upload,
            })
        };
        inner.nodes.iter().filter_map(newest).collect()
    }

    /// The error of a step for which so many free bytes were `needed`, told as what it is where the medium is full.
    pub(super) fn full_or<'a>(
        &'a self,
        operation: &'static str,
        path: &'a Path,
        needed: u64,
    ) -> impl FnOnce(io::Error) -> StoreError + 'a {
        move |error| match room::is_no_space(&error) {
            true => StoreError::NoSpace {
                needed,
                free: self.medium.free_bytes(&self.folder).unwrap_or(0),
            },
            false => io_error(operation, path)(error).into(),
        }
    }
}

/// An acknowledged upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The name it is kept under. Another than was asked for, where that is another machine's.
    pub id: NodeId,
    /// What its inventory says of the machine.
    pub facts: InventoryFacts,
    pub seq: u64,
    pub sha256: String,
    pub size_bytes: u64,
    /// The same bytes were here already, and still are.
    pub already: bool,
}

/// The newest whole upload of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNode {
    pub id: NodeId,
    pub seq: u64,
    pub sha256: String,
    pub size_bytes: u64,
    pub path: PathBuf,
    /// Whole uploads of this node that are kept.
    pub uploads: usize,
    pub(super) digest: Sha,
    pub(super) limits: UploadLimits,
}

impl StoredNode {
    /// What its inventory says of the machine, read from the medium at each call; nothing where it does not read.
    pub fn facts(&self) -> InventoryFacts {
        read_facts(&self.path, &self.limits).ok().flatten().unwrap_or_default()
    }

    /// When the file was written, by the clock the master had then.
    pub fn stored_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).ok()?.modified().ok()
    }
}

impl archive::Upload for StoredNode {
    fn id(&self) -> &NodeId {
        &self.id
    }

    fn name(&self) -> UploadName {
        UploadName {
            seq: self.seq,
            sha256: self.digest,
        }
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn open(&self) -> io::Result<Box<dyn io::Read + '_>> {
        Ok(Box::new(open_plain(&self.path)?))
    }
}

/// What the inventory of an upload says of its machine; `None` where the file is no whole upload.
pub(super) fn read_facts(path: &Path, limits: &UploadLimits) -> io::Result<Option<InventoryFacts>> {
    match upload::facts(open_plain(path)?, limits) {
        Ok(facts) => Ok(Some(facts)),
        Err(UploadError::Io(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
