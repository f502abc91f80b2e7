//! What all clones of a store share: the folder and its medium, the records, and the room that uploads have.

use crate::formats::bytes::hex;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::model::NodeId;
use crate::store::fs_ops::Medium;
use crate::store::nodes::checking::Checking;
use crate::store::nodes::error::{StoreError, io_error};
use crate::store::nodes::limits::Limits;
use crate::store::nodes::records::{Inner, Record, State};
use crate::store::nodes::stored::StoredNode;
use crate::store::nodes::tarball::Tarball;
use crate::store::{UploadName, fs_ops};

pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) limits: Limits,
    pub(super) medium: Arc<dyn Medium>,
    pub(super) inner: Mutex<Inner>,
    pub(super) checked: Condvar,
    pub(super) checking: Checking,
    pub(super) tarball: Tarball,
    /// Bytes that copies of inventories leave free besides the reserve: half of what was free at the start.
    pub(super) copies_leave: u64,
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
        let free = || {
            self.medium
                .free_bytes(&self.folder)
                .map_err(io_error("asking for the room on", &self.folder))
        };
        let mut free_bytes = free()?;
        let inner = self.lock();
        let needed = inner.needed(declared_len, &self.limits);
        if needed <= free_bytes {
            return Ok(inner);
        }
        drop(inner);
        let is_enough = needed <= free_bytes.saturating_add(self.tarball.bytes());
        if is_enough && self.tarball.make_room() {
            free_bytes = free()?;
        }
        let inner = self.lock();
        let needed = inner.needed(declared_len, &self.limits);
        match needed <= free_bytes {
            true => Ok(inner),
            false => Err(StoreError::NoSpace {
                needed,
                free: free_bytes,
            }),
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

    pub(super) fn full_or(&self, operation: &'static str, path: &Path, error: io::Error, needed: u64) -> StoreError {
        if fs_ops::is_no_space(&error) {
            let free = self.medium.free_bytes(&self.folder).unwrap_or(0);
            return StoreError::NoSpace { needed, free };
        }
        io_error(operation, path)(error)
    }
}
