//! What is known in memory of the uploads, and what is wrong with them; the bounds of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::NodeId;
use crate::model::identity::Evidence;
use crate::store::UploadName;
use crate::store::nodes::error::StoreError;
use crate::store::room;
use crate::store::upload::UploadLimits;

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

/// Machines that may go by one name, far more than one firmware's mistake makes in a room. Each upload of the name is weighed
/// against all of them; a further machine is refused.
pub(super) const MAX_OF_ONE_NAME: usize = 256;
/// Uploads of shared names whose evidence stays in memory, 8 MiB at most; that of further ones is read each time it is needed.
pub(super) const MAX_KEPT_EVIDENCE: usize = 8192;
/// Problems kept for the screen; later ones are counted and logged.
pub(super) const MAX_PROBLEMS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Renamed, not yet synced; holds its place in the row.
    Pending,
    /// Found at start, not hashed yet.
    Unchecked,
    Whole,
    /// The content is not what the name says.
    Torn,
}

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) name: UploadName,
    pub(super) size: u64,
    pub(super) state: State,
    /// What it tells of its machine. Kept while it is on its way, and where machines share a name and it is small; else it is
    /// read from the medium when the next upload of the name comes.
    pub(super) evidence: Option<Arc<Kept>>,
}

impl Record {
    pub(super) fn found(name: UploadName, size: u64) -> Self {
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
pub(super) struct Kept {
    pub(super) evidence: Evidence,
    /// Counts it, as long as it lives, where it stays for good.
    pub(super) _counted: Option<Arc<()>>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) nodes: BTreeMap<NodeId, Vec<Record>>,
    /// Announced lengths of the uploads under way.
    pub(super) reserved_bytes: u64,
    /// Shared by all evidence that stays in memory.
    pub(super) kept: Arc<()>,
    /// Uploads found at start that are still to be hashed, the next one last.
    pub(super) to_check: Vec<(NodeId, Record)>,
    pub(super) problems: Vec<String>,
    pub(super) more_problems: usize,
    /// What on the medium could not be looked at, a sentence each.
    pub(super) unread: Vec<String>,
}

impl Inner {
    /// Free bytes that an upload of this length needs.
    pub(super) fn needed(&self, declared_len: u64, limits: &Limits) -> u64 {
        room::for_upload(declared_len, self.reserved_bytes, limits.reserve_bytes)
    }

    pub(super) fn record(&mut self, id: &NodeId, name: UploadName) -> Option<&mut Record> {
        self.nodes.get_mut(id)?.iter_mut().find(|record| record.name == name)
    }

    /// All nodes that go by the name of this one.
    pub(super) fn named_as(&self, id: &NodeId) -> impl Iterator<Item = (&NodeId, &Vec<Record>)> {
        let base = id.base();
        let from = self.nodes.range(base.clone()..);
        from.take_while(move |(id, _)| id.base() == base)
    }

    /// Gives a node that has nothing yet its place among the nodes; a place that stays empty goes with the upload.
    ///
    /// # Errors
    /// Where there are as many nodes as are taken, or as many of its name.
    pub(super) fn add_node(&mut self, id: &NodeId, limits: &Limits) -> Result<(), StoreError> {
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
    pub(super) fn kept(&self, evidence: &Evidence) -> Option<Arc<Kept>> {
        (evidence.is_small() && Arc::strong_count(&self.kept) <= MAX_KEPT_EVIDENCE).then(|| {
            Arc::new(Kept {
                evidence: evidence.clone(),
                _counted: Some(Arc::clone(&self.kept)),
            })
        })
    }
}

pub(super) fn report(inner: &mut Inner, problem: String) {
    tracing::warn!("{problem}");
    if inner.problems.len() < MAX_PROBLEMS {
        inner.problems.push(problem);
    } else {
        inner.more_problems += 1;
    }
}

pub(super) fn report_unread(inner: &mut Inner, problem: String) {
    inner.unread.push(problem.clone());
    report(inner, problem);
}
