//! Uploads of the nodes.
//!
//! `nodes/<id>/<seq>-<sha256>.tar.gz` is one upload. An upload is acknowledged once the file is synced under that name,
//! its folder is synced and the file system is synced; whatever happens later, the name proves whether the content is
//! the one that was acknowledged. Nothing else is authoritative: `inventory.json` beside it is a convenience copy, and
//! what is known about a folder is read from its file names at start.
//!
//! A folder is a machine. Machines may call themselves the same; which of them an upload is of is decided by what its
//! inventory tells, against the inventories that are kept (`home.rs`).

mod checking;
mod incoming;
pub(crate) mod naming;
mod tarball;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use sha2::{Digest, Sha256};

use super::upload::{self, UploadError, UploadLimits};
use super::{Sha, UploadName, archive, digest_of, hex};
use crate::model::identity::Evidence;
use crate::model::{NodeId, layout, shown};
use crate::store::fs_ops;
use crate::store::fs_ops::{Disk, Medium};
use crate::store::inventory::InventoryFacts;
use crate::store::nodes::naming::Resident;
use crate::sys::file::open_plain;
use archive::GoOn;

use checking::Checking;
pub use incoming::Incoming;
pub use tarball::Made;
use tarball::Tarball;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest upload taken.
    pub upload_bytes: u64,
    /// What an upload may hold.
    pub upload: UploadLimits,
    /// Room that uploads leave free, for the tarball and the person who edits `recon.toml`.
    pub reserve_bytes: u64,
    /// Whole uploads kept of each machine, the newest ones. At least 1.
    pub keep: usize,
    /// Bytes hashed before `open` returns; the rest is hashed on a thread.
    pub check_at_open_bytes: u64,
    /// Nodes; folders of further ones are reported and left alone, and uploads of further ones are refused.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            upload_bytes: 256 << 20,
            upload: UploadLimits::default(),
            reserve_bytes: 16 << 20,
            keep: 2,
            check_at_open_bytes: 16 << 20,
            nodes: 100_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("an upload of {declared} bytes is over the limit of {limit} bytes")]
    TooLarge { declared: u64, limit: u64 },
    #[error("{declared} bytes were announced, {received} came")]
    LengthMismatch { declared: u64, received: u64 },
    #[error("the content has SHA-256 {received}, {declared} was announced")]
    DigestMismatch { declared: String, received: String },
    #[error("not an upload: {0}")]
    NotAnUpload(String),
    #[error("no room on the data partition: {needed} bytes needed, {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error("{limit} nodes are stored here, which is all that one stick takes")]
    TooManyNodes { limit: usize },
    #[error(
        "{limit} machines that call themselves {name} are stored here, and no further one is taken of a name; take the \
         inventories off the stick (recon collect), then remove the folders nodes/{name}-* of machines that are done"
    )]
    TooManyOfOneName { name: NodeId, limit: usize },
    #[error("{waiting} uploads wait to be checked already; ask again")]
    Busy { waiting: usize },
    #[error("{operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        operation,
        path,
        source,
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
    digest: Sha,
    limits: UploadLimits,
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

fn from_upload(error: UploadError, path: &Path) -> StoreError {
    match error {
        UploadError::Refused(text) => StoreError::NotAnUpload(text),
        UploadError::Io(source) | UploadError::Visit(source) => io_error("reading", path)(source),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Renamed, not yet synced; holds its place in the row.
    Pending,
    /// Found at start, not hashed yet.
    Unchecked,
    Whole,
    /// The content is not what the name says.
    Torn,
}

#[derive(Debug, Clone)]
struct Record {
    name: UploadName,
    size: u64,
    state: State,
    /// What it tells of its machine. Kept while it is on its way, and where machines share a name and it is small; else it is
    /// read from the medium when the next upload of the name comes.
    evidence: Option<Arc<Kept>>,
}

impl Record {
    fn found(name: UploadName, size: u64) -> Self {
        Record {
            name,
            size,
            state: State::Unchecked,
            evidence: None,
        }
    }
}

/// What an upload tells, in memory.
#[derive(Debug)]
struct Kept {
    evidence: Evidence,
    /// Counts it, as long as it lives, where it stays for good.
    _counted: Option<Arc<()>>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<NodeId, Vec<Record>>,
    /// Announced lengths of the uploads under way.
    reserved_bytes: u64,
    /// Shared by all evidence that stays in memory.
    kept: Arc<()>,
    /// Uploads found at start that are still to be hashed, the next one last.
    to_check: Vec<(NodeId, Record)>,
    next_temporary: u64,
    problems: Vec<String>,
    more_problems: usize,
    /// What on the medium could not be looked at, a sentence each.
    unread: Vec<String>,
}

impl Inner {
    /// Free bytes that an upload of this length needs.
    fn needed(&self, declared_len: u64, limits: &Limits) -> u64 {
        declared_len
            .saturating_add(self.reserved_bytes)
            .saturating_add(limits.reserve_bytes)
    }

    fn record(&mut self, id: &NodeId, name: UploadName) -> Option<&mut Record> {
        self.nodes.get_mut(id)?.iter_mut().find(|record| record.name == name)
    }

    /// All nodes that go by the name of this one.
    fn named_as(&self, id: &NodeId) -> impl Iterator<Item = (&NodeId, &Vec<Record>)> {
        let base = id.base();
        let from = self.nodes.range(base.clone()..);
        from.take_while(move |(id, _)| id.base() == base)
    }

    /// Gives a node that has nothing yet its place among the nodes; a place that stays empty goes with the upload.
    ///
    /// # Errors
    /// Where there are as many nodes as are taken, or as many of its name.
    fn add_node(&mut self, id: &NodeId, limits: &Limits) -> Result<(), StoreError> {
        if self.nodes.contains_key(id) {
            return Ok(());
        }
        if self.nodes.len() >= limits.nodes {
            return Err(StoreError::TooManyNodes { limit: limits.nodes });
        }
        if self.named_as(id).take(MAX_OF_ONE_NAME).count() >= MAX_OF_ONE_NAME {
            return Err(StoreError::TooManyOfOneName {
                name: id.base(),
                limit: MAX_OF_ONE_NAME,
            });
        }
        self.nodes.insert(id.clone(), Vec::new());
        Ok(())
    }

    /// Evidence that may stay in memory; `None` for what is large, and once there is much of it. It is read from the medium
    /// again then.
    fn kept(&self, evidence: &Evidence) -> Option<Arc<Kept>> {
        (evidence.is_small() && Arc::strong_count(&self.kept) <= MAX_KEPT_EVIDENCE).then(|| {
            Arc::new(Kept {
                evidence: evidence.clone(),
                _counted: Some(Arc::clone(&self.kept)),
            })
        })
    }
}

struct Shared {
    folder: PathBuf,
    limits: Limits,
    medium: Arc<dyn Medium>,
    inner: Mutex<Inner>,
    checked: Condvar,
    checking: Checking,
    tarball: Tarball,
    /// Bytes that copies of inventories leave free besides the reserve: half of what was free at the start.
    copies_leave: u64,
    /// Copies that were not written for want of room.
    copies_left_out: AtomicU64,
    /// Held while a node's older uploads are pruned and its copy of the inventory is written.
    tidying: ByName,
    /// Held from looking at the uploads of a name until the new one has its place among them.
    placing: ByName,
}

/// Locks for what is done to the nodes of one name one at a time. Other names seldom share one, so that a slow file of one
/// machine does not hold up all.
struct ByName([Mutex<()>; NAME_LOCKS]);

impl Default for ByName {
    fn default() -> Self {
        ByName(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl ByName {
    fn place_of(id: &NodeId) -> usize {
        let mut hasher = DefaultHasher::new();
        id.base().hash(&mut hasher);
        usize::try_from(hasher.finish() % NAME_LOCKS as u64).unwrap_or(0)
    }

    fn lock(&self, id: &NodeId) -> MutexGuard<'_, ()> {
        // It holds nothing that could be half done.
        self.0[ByName::place_of(id)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const NAME_LOCKS: usize = 64;
/// Machines that may go by one name, far more than one firmware's mistake makes in a room. Each upload of the name is weighed
/// against all of them; a further machine is refused.
const MAX_OF_ONE_NAME: usize = 256;
/// Uploads of shared names whose evidence stays in memory, 8 MiB at most; that of further ones is read each time it is needed.
const MAX_KEPT_EVIDENCE: usize = 8192;

/// How often is asked whether the list is still wanted.
const LIST_LOOK: Duration = Duration::from_millis(500);

/// Problems kept for the screen; later ones are counted and logged.
const MAX_PROBLEMS: usize = 200;

/// The uploads under one data folder. Cheap to clone; all clones are one store. One process at a time.
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
        match medium.make_folder(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("making the folder", &folder)(error));
            }
            _ => {}
        }
        let mut inner = Inner::default();
        scan(&folder, &limits, medium.as_ref(), &mut inner)?;
        let found = inner.nodes.iter().rev();
        inner.to_check = found
            .flat_map(|(id, records)| records.iter().map(|record| (id.clone(), record.clone())))
            .collect();
        let copies_leave = medium.free_bytes(&folder).unwrap_or(0) / 2;
        let store = NodeStore(Arc::new(Shared {
            folder,
            copies_leave,
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
        let made_folder = match shared.medium.make_folder(&folder) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(shared.full_or("making the folder", &folder, error, needed)),
        };
        let (path, file) = loop {
            inner.next_temporary += 1;
            let path = folder.join(format!("incoming-{}.part", inner.next_temporary));
            match shared.medium.create(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    if made_folder {
                        // Only tidiness; the next upload of this node uses the folder again.
                        let _ = shared.medium.remove_folder(&folder);
                    }
                    return Err(shared.full_or("making", &path, error, needed));
                }
            }
        };
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
        let promised = self.0.lock().reserved_bytes.saturating_add(self.0.limits.reserve_bytes);
        Ok(free.saturating_sub(promised))
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change of the map is complete in itself, so a panic elsewhere leaves it usable.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map, once this many bytes more have room; the tarball gives way to them where that is enough.
    fn room_for(&self, declared_len: u64) -> Result<MutexGuard<'_, Inner>, StoreError> {
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

    fn path_of(&self, id: &NodeId, name: UploadName) -> PathBuf {
        self.folder.join(id.as_str()).join(name.to_string())
    }

    fn whole_of(&self, inner: &Inner) -> Vec<StoredNode> {
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

    fn full_or(&self, operation: &'static str, path: &Path, error: io::Error, needed: u64) -> StoreError {
        if fs_ops::is_no_space(&error) {
            let free = self.medium.free_bytes(&self.folder).unwrap_or(0);
            return StoreError::NoSpace { needed, free };
        }
        io_error(operation, path)(error)
    }

    fn next_unchecked(&self) -> Option<(NodeId, Record)> {
        self.lock().to_check.last().cloned()
    }

    /// Hashes one upload that was found at start; false when none is left. One caller at a time.
    fn check_one(&self) -> bool {
        let Some((id, record)) = self.next_unchecked() else {
            return false;
        };
        let path = self.path_of(&id, record.name);
        let problem = match open_plain(&path).and_then(digest_of) {
            Ok((digest, _)) if digest == record.name.sha256 => None,
            Ok(_) => Some(format!("{} is torn, left out", path.display())),
            Err(error) => Some(format!("{} cannot be read ({error}), left out", path.display())),
        };
        let mut inner = self.lock();
        if let Some(found) = inner.record(&id, record.name) {
            found.state = if problem.is_none() { State::Whole } else { State::Torn };
        }
        inner.to_check.pop();
        if let Some(problem) = problem {
            report(&mut inner, problem);
        }
        self.checked.notify_all();
        true
    }

    /// Uploads of a node that its newest ones replace.
    fn given_way(&self, id: &NodeId) -> Vec<UploadName> {
        let mut whole: Vec<Record> = Vec::new();
        let mut torn: Vec<UploadName> = Vec::new();
        for record in self.lock().nodes.get(id).into_iter().flatten() {
            match record.state {
                State::Whole => whole.push(record.clone()),
                State::Torn => torn.push(record.name),
                State::Pending | State::Unchecked => {}
            }
        }
        whole.sort_unstable_by_key(|record| std::cmp::Reverse(record.name));
        let keep = self.limits.keep.max(1);
        let Some(oldest_kept) = whole.get(keep - 1).or(whole.last()).map(|record| record.name) else {
            return Vec::new();
        };
        torn.retain(|name| *name < oldest_kept);
        if whole.len() > keep {
            // What does not read names no machine, and nothing replaces it.
            let known = |record: &Record| (record.name.sha256, self.evidence_of(id, record).unwrap_or_default());
            let told: Vec<(Sha, Evidence)> = whole.iter().map(known).collect();
            let replaced = crate::store::nodes::naming::replaced(&told, keep);
            let old = whole.iter().zip(replaced).filter(|(_, replaced)| *replaced);
            torn.extend(old.map(|(record, _)| record.name));
        }
        torn
    }

    /// What an upload tells of its machine; `None` for one that is torn or gone. What cannot be read now tells nothing.
    fn evidence_of(&self, id: &NodeId, record: &Record) -> Option<Evidence> {
        self.told_by(id, record).map(|(evidence, _)| evidence)
    }

    /// As `evidence_of`, and whether it was read: what failed now may tell something the next time.
    fn told_by(&self, id: &NodeId, record: &Record) -> Option<(Evidence, bool)> {
        if let Some(kept) = &record.evidence {
            return Some((kept.evidence.clone(), true));
        }
        let path = self.path_of(id, record.name);
        match read_facts(&path, &self.limits.upload) {
            Ok(facts) => Some((facts?.evidence, true)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "reading whose upload it is");
                Some((Evidence::default(), false))
            }
        }
    }

    /// Nodes that go by the name of `asked` and have uploads: all of them, unless there are more than are taken of a name. The
    /// caller holds `placing`.
    fn residents(&self, asked: &NodeId) -> Result<Vec<Resident>, StoreError> {
        let base = asked.base();
        let mut nodes: Vec<(NodeId, Vec<Record>)> = {
            let inner = self.lock();
            // A place without uploads may be on the medium all the same, as one that is not known here.
            let used = |(_, records): &(&NodeId, &Vec<Record>)| !records.is_empty();
            let own = inner.nodes.get_key_value(asked).filter(used);
            let others = inner.named_as(asked).filter(used).filter(|(id, _)| *id != asked);
            let named = own.into_iter().chain(others).take(MAX_OF_ONE_NAME);
            named.map(|(id, records)| (id.clone(), records.clone())).collect()
        };
        for id in [&base, asked] {
            // A folder that did not read at start, or was one too many, may hold another machine's.
            if nodes.iter().all(|(known, _)| known != id) {
                nodes.push((id.clone(), self.unlisted(id)?));
            }
        }
        let shared_name = nodes.len() > 1;
        let mut residents = Vec::new();
        for (id, records) in nodes {
            let mut uploads = Vec::new();
            for record in records.iter().filter(|record| record.state != State::Torn) {
                let Some((evidence, is_read)) = self.told_by(&id, record) else {
                    continue;
                };
                if shared_name && is_read && record.evidence.is_none() {
                    let mut inner = self.lock();
                    let kept = inner.kept(&evidence);
                    if let Some(record) = inner.record(&id, record.name) {
                        record.evidence = kept;
                    }
                }
                uploads.push((record.name.sha256, evidence));
            }
            if !uploads.is_empty() {
                residents.push(Resident { id, uploads });
            }
        }
        Ok(residents)
    }

    /// Uploads on the medium in a folder of which nothing is known in memory.
    fn unlisted(&self, id: &NodeId) -> Result<Vec<Record>, StoreError> {
        let folder = self.folder.join(id.as_str());
        let failed = io_error("reading the folder", &folder);
        let names = match upload_names(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        Ok(names.into_iter().map(|name| Record::found(name, 0)).collect())
    }

    /// Removes what the newest uploads of a node replace, and writes its copy of the inventory. What fails here costs
    /// room or convenience, never an upload.
    fn tidy(&self, id: &NodeId) {
        let _one_at_a_time = self.tidying.lock(id);
        for name in self.given_way(id) {
            let path = self.path_of(id, name);
            match self.medium.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), %error, "removing a replaced upload");
                }
                _ => {
                    if let Some(records) = self.lock().nodes.get_mut(id) {
                        records.retain(|record| record.name != name);
                    }
                }
            }
        }
        self.copy_inventory(id);
    }

    /// Writes `inventory.json` beside the newest upload of a node. Where that fails or there is no room, there is none rather
    /// than one of an older upload.
    fn copy_inventory(&self, id: &NodeId) {
        let newest = {
            let inner = self.lock();
            let whole = inner.nodes.get(id).into_iter().flatten();
            whole
                .filter(|record| record.state == State::Whole)
                .map(|record| record.name)
                .max()
        };
        let Some(newest) = newest else { return };
        let copy = self.folder.join(id.as_str()).join(layout::INVENTORY);
        let source = self.path_of(id, newest);
        // An inventory is several times its upload, or a thousand times where somebody wants that, and must not take the room of
        // uploads.
        let kept_free = self.limits.reserve_bytes.saturating_add(self.copies_leave);
        // Asked for anew at each piece: other copies are written at the same time.
        let room = || {
            let free = self.medium.free_bytes(&self.folder).unwrap_or(0);
            free.saturating_sub(kept_free)
        };
        // For people, who look at it with whatever shows a file; the upload keeps every byte.
        let mut shown = shown::JsonStream::default();
        let written = fs_ops::replace_lazily(self.medium.as_ref(), &copy, |write| {
            upload::inventory(open_plain(&source)?, &self.limits.upload, |bytes| {
                let text = shown.feed(bytes);
                match text.len() as u64 <= room() {
                    true => write(text.as_bytes()),
                    false => Err(io::ErrorKind::StorageFull.into()),
                }
            })
            .map_err(|error| match error {
                UploadError::Refused(text) => io::Error::new(io::ErrorKind::InvalidData, text),
                UploadError::Io(source) | UploadError::Visit(source) => source,
            })
        });
        if let Err(error) = written {
            tracing::debug!(file = %copy.display(), %error, "no copy of the inventory beside its upload");
            self.copies_left_out.fetch_add(1, Ordering::Relaxed);
            // One that is not there misleads nobody.
            let _ = self.medium.remove_file(&copy);
        }
    }
}

/// What the inventory of an upload says of its machine; `None` where the file is no whole upload.
fn read_facts(path: &Path, limits: &UploadLimits) -> io::Result<Option<InventoryFacts>> {
    match upload::facts(open_plain(path)?, limits) {
        Ok(facts) => Ok(Some(facts)),
        Err(UploadError::Io(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The uploads that a folder holds, by their names.
fn upload_names(folder: &Path) -> io::Result<Vec<UploadName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().to_str().and_then(UploadName::parse));
    }
    Ok(names)
}

fn report(inner: &mut Inner, problem: String) {
    tracing::warn!("{problem}");
    if inner.problems.len() < MAX_PROBLEMS {
        inner.problems.push(problem);
    } else {
        inner.more_problems += 1;
    }
}

fn report_unread(inner: &mut Inner, problem: String) {
    inner.unread.push(problem.clone());
    report(inner, problem);
}

fn check_all(weak: &Weak<Shared>) {
    // Upgraded anew for each file, so that a store nobody uses any more goes away.
    while let Some(shared) = weak.upgrade() {
        if !shared.check_one() {
            return;
        }
    }
}

/// Reads the names under `nodes/` and removes temporary files of earlier runs.
fn scan(folder: &Path, limits: &Limits, medium: &dyn Medium, inner: &mut Inner) -> Result<(), StoreError> {
    let entries = fs::read_dir(folder).map_err(io_error("reading the folder", folder))?;
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                report_unread(inner, format!("reading {}: {error}", folder.display()));
                break;
            }
        };
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
            continue;
        };
        if inner.nodes.len() >= limits.nodes {
            report_unread(
                inner,
                format!(
                    "{} holds more than {} nodes, the rest is left alone",
                    folder.display(),
                    limits.nodes
                ),
            );
            break;
        }
        match scan_node(&entry.path(), medium) {
            Ok(records) if records.is_empty() => {}
            Ok(records) => {
                inner.nodes.insert(id, records);
            }
            Err(error) => report_unread(inner, format!("reading {}: {error}", entry.path().display())),
        }
    }
    Ok(())
}

fn scan_node(folder: &Path, medium: &dyn Medium) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == "inventory.json.part" || (name.starts_with("incoming-") && name.ends_with(".part")) {
            // A leftover that stays costs room only; the next start tries again.
            let _ = medium.remove_file(&entry.path());
        } else if let Some(name) = UploadName::parse(name) {
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                records.push(Record::found(name, metadata.len()));
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
