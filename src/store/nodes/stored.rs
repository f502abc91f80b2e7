//! What the store tells of an upload that it keeps.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use crate::model::NodeId;
use crate::store::inventory::InventoryFacts;
use crate::store::upload::{self, UploadError, UploadLimits};
use crate::store::{Sha, UploadName, archive};
use crate::sys::file::open_plain;

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
