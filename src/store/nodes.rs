//! Uploads of the nodes.
//!
//! `nodes/<id>/<seq>-<sha256>.tar.gz` is one upload. An upload is acknowledged once the file is synced under that name,
//! its folder is synced and the file system is synced; whatever happens later, the name proves whether the content is
//! the one that was acknowledged. Nothing else is authoritative: `inventory.json` beside it is a convenience copy, and
//! what is known about a folder is read from its file names at start.
//!
//! A folder is a machine. Machines may call themselves the same; which of them an upload is of is decided by what its
//! inventory tells, against the inventories that are kept (`naming.rs`).

mod checking;
mod error;
mod found;
mod incoming;
mod make_tarball;
pub(crate) mod naming;
mod records;
mod residents;
mod shared;
mod tarball;
mod tidy;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use archive::GoOn;
use sha2::{Digest, Sha256};

use self::checking::Checking;
pub use self::error::StoreError;
use self::found::{check_all, scan};
pub use self::incoming::Incoming;
pub use self::records::Limits;
use self::records::{Inner, Record, State};
use self::shared::{ByName, Shared};
pub use self::shared::{Stored, StoredNode};
pub use self::tarball::Made;
use self::tarball::Tarball;
use super::{Sha, archive};
use crate::model::{NodeId, layout};
use crate::store::fs_ops::{Disk, Medium, io_error};

/// How often is asked whether the list is still wanted.
const LIST_LOOK: Duration = Duration::from_millis(500);

/// The uploads under one data folder. Cheap to clone; all clones are one store. One process at a time.
///
/// ```
/// use recon::store::digest_of;
/// use recon::store::nodes::{Limits, NodeStore};
///
/// // An upload is a tar.gz with an inventory.json at its root.
/// let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
/// let mut header = tar::Header::new_gnu();
/// header.set_size(2);
/// tar.append_data(&mut header, "inventory.json", b"{}".as_slice())?;
/// let upload = tar.into_inner()?.finish()?;
///
/// let folder = tempfile::tempdir()?;
/// let store = NodeStore::open(folder.path(), Limits::default())?;
/// let (sha256, length) = digest_of(upload.as_slice())?;
/// let mut incoming = store.begin(&"mac-525400000001".parse()?, length, sha256)?;
/// incoming.write(&upload)?;
/// // What this gives is the acknowledgement: the bytes are on the medium.
/// let stored = incoming.commit()?;
/// assert_eq!((stored.seq, store.list().len()), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct NodeStore(Arc<Shared>);

impl NodeStore {
    /// Opens the store in `dir`, which must exist: makes `nodes/`, removes what interrupted uploads left, and hashes the
    /// uploads that are there. What is not hashed within `check_at_open_bytes` is hashed on a thread; `list` waits for it.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        NodeStore::open_on(dir, limits, Arc::new(Disk))
    }

    pub fn open_on(dir: &Path, limits: Limits, medium: Arc<dyn Medium>) -> Result<Self, StoreError> {
        let folder = dir.join(layout::NODES);
        let made = medium.make_missing_folder(&folder);
        made.map_err(io_error("making the folder", &folder))?;
        let mut inner = Inner::default();
        scan(&folder, &limits, medium.as_ref(), &mut inner)?;
        let found = inner.nodes.iter().rev();
        inner.to_check = found
            .flat_map(|(id, records)| records.iter().map(|record| (id.clone(), record.clone())))
            .collect();
        let store = NodeStore(Arc::new(Shared {
            free_at_start: medium.free_bytes(&folder).unwrap_or(0),
            next_temporary: AtomicU64::new(1),
            folder,
            copies_left_out: AtomicU64::new(0),
            limits,
            tarball: Tarball::new(dir.to_owned(), Arc::clone(&medium)),
            medium,
            inner: Mutex::new(inner),
            checked: Condvar::new(),
            checking: Checking::default(),
            tidying: ByName::default(),
            placing: ByName::default(),
        }));
        let mut budget = limits.check_at_open_bytes;
        while let Some(size) = store.0.next_unchecked().map(|(_, record)| record.size) {
            let Some(left) = budget.checked_sub(size) else { break };
            budget = left;
            store.0.check_one();
        }
        if store.0.next_unchecked().is_some() {
            let weak = Arc::downgrade(&store.0);
            if let Err(error) = std::thread::Builder::new()
                .name("check uploads".into())
                .spawn(move || check_all(&weak))
            {
                tracing::warn!(%error, "starting the thread that checks uploads; checking them now");
                while store.0.check_one() {}
            }
        }
        Ok(store)
    }

    /// Begins an upload. Fails before a byte is written when it cannot fit.
    pub fn begin(&self, id: &NodeId, declared_len: u64, sha256: Sha) -> Result<Incoming, StoreError> {
        let shared = &self.0;
        if declared_len > shared.limits.upload_bytes {
            return Err(StoreError::TooLarge {
                declared: declared_len,
                limit: shared.limits.upload_bytes,
            });
        }
        let folder = shared.folder.join(id.as_str());
        let mut inner = shared.room_for(declared_len)?;
        let needed = inner.needed(declared_len, &shared.limits);
        if !inner.nodes.contains_key(id) && inner.nodes.len() >= shared.limits.nodes {
            return Err(StoreError::TooManyNodes {
                limit: shared.limits.nodes,
            });
        }
        // Under the lock, so that nobody removes the empty folder in between.
        let made = shared.medium.make_missing_folder(&folder);
        let made = made.map_err(shared.full_or("making the folder", &folder, needed))?;
        let (path, file) = shared.temporary(&folder, needed).inspect_err(|_| {
            if made {
                // Only tidiness; the next upload of this node uses the folder again.
                let _ = shared.medium.remove_folder(&folder);
            }
        })?;
        inner.reserved_bytes += declared_len;
        drop(inner);
        Ok(Incoming {
            shared: Arc::clone(shared),
            id: id.clone(),
            declared_len,
            sha256,
            folder,
            path,
            file: Some(file),
            hasher: Sha256::new(),
            received: 0,
            failed: false,
            renamed: false,
        })
    }

    /// Bytes that an upload may have: free, beyond what is kept free, and promised to no other.
    pub fn room_bytes(&self) -> io::Result<u64> {
        let free = self.0.medium.free_bytes(&self.0.folder)?;
        Ok(free.saturating_sub(self.0.lock().needed(0, &self.0.limits)))
    }

    /// The newest whole upload of every node, by id. Waits until every upload found at start is hashed.
    pub fn list(&self) -> Vec<StoredNode> {
        self.list_while(&|| true).unwrap_or_default()
    }

    /// As `list`, as long as `go_on` says so; `None` once it does not. A slow stick is hashed for minutes, and nobody who ends
    /// waits for that.
    pub fn list_while(&self, go_on: GoOn<'_>) -> Option<Vec<StoredNode>> {
        let mut inner = self.0.lock();
        while !inner.to_check.is_empty() {
            // Without the lock: nobody knows what it does.
            drop(inner);
            if !go_on() {
                return None;
            }
            inner = self.0.lock();
            if inner.to_check.is_empty() {
                break;
            }
            let waited = self.0.checked.wait_timeout(inner, LIST_LOOK);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(self.0.whole_of(&inner))
    }

    /// As `list`, without waiting: uploads not yet hashed are missing.
    pub fn list_checked(&self) -> Vec<StoredNode> {
        self.0.whole_of(&self.0.lock())
    }

    /// Nodes of which a whole upload is known.
    pub fn stored(&self) -> usize {
        let inner = self.0.lock();
        let whole = |records: &&Vec<Record>| records.iter().any(|record| record.state == State::Whole);
        inner.nodes.values().filter(whole).count()
    }

    /// What [`NodeStore::list`] lacks of what is on the medium, a sentence each: what could not be looked at, and torn uploads
    /// that are newer than what is listed.
    pub fn lacks(&self) -> Vec<String> {
        let inner = self.0.lock();
        let mut lacks = inner.unread.clone();
        for (id, records) in &inner.nodes {
            let of = |state| {
                records
                    .iter()
                    .filter(move |record| record.state == state)
                    .map(|record| record.name)
            };
            let newest = of(State::Whole).max();
            let torn = of(State::Torn).filter(|name| newest.is_none_or(|newest| *name > newest));
            lacks.extend(torn.map(|name| format!("nodes/{id}/{name} is torn")));
        }
        lacks
    }

    /// How many uploads found at start are still to be hashed.
    pub fn unchecked(&self) -> usize {
        self.0.lock().to_check.len()
    }

    /// Uploads sent back since the start because too many were being checked; they come again.
    pub fn sent_back(&self) -> u64 {
        self.0.checking.sent_back()
    }

    /// Inventories that were not copied beside their uploads since the start, because there was no room or the medium failed.
    pub fn copies_left_out(&self) -> u64 {
        self.0.copies_left_out.load(Ordering::Relaxed)
    }

    /// What is wrong in the store: torn uploads and folders that cannot be read, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let inner = self.0.lock();
        let mut problems = inner.problems.clone();
        if inner.more_problems > 0 {
            problems.push(format!("and {} more like these, in the log", inner.more_problems));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
