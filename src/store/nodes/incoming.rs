//! An upload on its way in, up to its acknowledgement.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::{StoreError, from_upload};
use super::records::{Kept, MAX_OF_ONE_NAME, Record, State};
use super::residents::upload_names;
use super::shared::{Shared, Stored};
use crate::formats::bytes::hex;
use crate::model::NodeId;
use crate::model::identity::Evidence;
use crate::store::fs_ops::{MediumFile, io_error};
use crate::store::inventory::InventoryFacts;
use crate::store::nodes::naming;
use crate::store::{Hashing, Sha, UploadName, digest_of, upload};
use crate::sys::file::open_plain;

/// Highest place in the row that a file of the folder has.
fn highest_seq(folder: &Path) -> io::Result<u64> {
    let names = upload_names(folder)?;
    Ok(names.iter().map(|name| name.seq).max().unwrap_or(0))
}

/// An upload under way. Dropping it removes what was written.
pub struct Incoming {
    pub(super) shared: Arc<Shared>,
    pub(super) id: NodeId,
    pub(super) declared_len: u64,
    pub(super) sha256: Sha,
    pub(super) folder: PathBuf,
    pub(super) path: PathBuf,
    pub(super) file: Option<File>,
    pub(super) hasher: Sha256,
    pub(super) received: u64,
    pub(super) failed: bool,
    pub(super) renamed: bool,
}

/// Where an upload belongs.
enum Home {
    /// With its node, where the same bytes are already.
    Stored { seq: u64 },
    New {
        name: UploadName,
        /// The first whole one of its node.
        first: bool,
        /// Folder and node it was announced for, where its own is another.
        moves: Option<(PathBuf, NodeId)>,
    },
}

impl Incoming {
    /// Takes the next bytes. After an error the upload can only be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let received = self.received.saturating_add(bytes.len() as u64);
        let fits = !self.failed && received <= self.declared_len;
        let Some(file) = self.file.as_mut().filter(|_| fits) else {
            self.failed = true;
            return Err(StoreError::LengthMismatch {
                declared: self.declared_len,
                received,
            });
        };
        if let Err(error) = self.shared.medium.write(file, bytes) {
            self.failed = true;
            return Err(self.full_or("writing")(error));
        }
        self.hasher.update(bytes);
        self.received = received;
        Ok(())
    }

    /// Checks the upload and makes it durable. `Ok` is the acknowledgement: the bytes are on the medium under their
    /// final name. On any error nothing of it stays, and what was stored before is as it was.
    pub fn commit(mut self) -> Result<Stored, StoreError> {
        if self.failed || self.received != self.declared_len {
            return Err(StoreError::LengthMismatch {
                declared: self.declared_len,
                received: self.received,
            });
        }
        let received: Sha = std::mem::take(&mut self.hasher).finalize().into();
        if received != self.sha256 {
            return Err(StoreError::DigestMismatch {
                declared: hex(&self.sha256),
                received: hex(&received),
            });
        }
        let shared = Arc::clone(&self.shared);
        let permit = shared.checking.enter()?;
        let content = File::open(&self.path).map_err(io_error("opening", &self.path))?;
        let facts = upload::check(content, &shared.limits.upload).map_err(|error| from_upload(error, &self.path))?;
        drop(permit);

        let (name, first, moves) = match self.home(&facts)? {
            Home::Stored { seq } => {
                shared.tidy(&self.id);
                return Ok(self.stored(facts, seq, true));
            }
            Home::New { name, first, moves } => (name, first, moves),
        };
        let _changing = shared.tarball.changing();
        let result = self.settle(name, first, moves);
        let mut inner = shared.lock();
        match result {
            Ok(()) => {
                let alone = inner.named_as(&self.id).nth(1).is_none();
                let kept = if alone { None } else { inner.kept(&facts.evidence) };
                if let Some(record) = inner.record(&self.id, name) {
                    record.state = State::Whole;
                    record.evidence = kept;
                }
            }
            Err(error) => {
                // Not acknowledged, so it must not count later. After a failed sync the kernel may still show good
                // bytes that the medium does not have.
                if let Some(records) = inner.nodes.get_mut(&self.id) {
                    records.retain(|record| record.name != name);
                }
                drop(inner);
                return Err(error);
            }
        }
        drop(inner);
        shared.tidy(&self.id);
        Ok(self.stored(facts, name.seq, false))
    }

    /// What is told of it once it is on the medium.
    fn stored(&self, facts: InventoryFacts, seq: u64, already: bool) -> Stored {
        Stored {
            id: self.id.clone(),
            facts,
            seq,
            sha256: hex(&self.sha256),
            size_bytes: self.declared_len,
            already,
        }
    }

    /// The error of a step on the file under way.
    fn full_or(&self, operation: &'static str) -> impl FnOnce(io::Error) -> StoreError + '_ {
        self.shared.full_or(operation, &self.path, self.declared_len)
    }

    /// The node of the machine whose upload this is: one that goes by its name, else a new one. The caller holds `placing`.
    fn node_of(&self, evidence: &Evidence) -> Result<NodeId, StoreError> {
        let shared = &self.shared;
        let mut residents = shared.residents(&self.id)?;
        let are_all = shared.lock().named_as(&self.id).nth(MAX_OF_ONE_NAME).is_none();
        loop {
            let id = naming::choose(&self.id, &residents, evidence, &self.sha256);
            if residents.iter().any(|resident| resident.id == id) {
                return Ok(id);
            }
            if !are_all {
                // It may be one that was not looked at.
                return Err(StoreError::TooManyOfOneName {
                    name: id.base(),
                    limit: MAX_OF_ONE_NAME,
                });
            }
            // A new name, unless the medium holds more than is known in memory.
            if shared.lock().nodes.get(&id).is_some_and(|records| !records.is_empty()) {
                return Ok(id);
            }
            let records = shared.unlisted(&id)?;
            let known = |record: &Record| Some((record.name.sha256, shared.evidence_of(&id, record)?));
            let uploads: Vec<(Sha, Evidence)> = records.iter().filter_map(known).collect();
            if uploads.is_empty() {
                return Ok(id);
            }
            residents.push(naming::Resident { id, uploads });
        }
    }

    /// Finds the machine whose upload this is, and takes the next place in its row.
    fn home(&mut self, facts: &InventoryFacts) -> Result<Home, StoreError> {
        let shared = Arc::clone(&self.shared);
        let _one_at_a_time = shared.placing.lock(&self.id);
        let id = self.node_of(&facts.evidence)?;
        shared.lock().add_node(&id, &shared.limits)?;
        let moves = (id != self.id).then(|| (self.folder.clone(), self.id.clone()));
        if moves.is_some() {
            let folder = shared.folder.join(id.as_str());
            if let Err(error) = shared.medium.make_missing_folder(&folder) {
                let mut inner = shared.lock();
                if inner.nodes.get(&id).is_some_and(Vec::is_empty) {
                    inner.nodes.remove(&id);
                }
                drop(inner);
                return Err(shared.full_or("making the folder", &folder, self.declared_len)(error));
            }
            (self.id, self.folder) = (id, folder);
        }
        if let Some(seq) = self.stored_before()? {
            if let Some((folder, id)) = moves {
                self.discard(&folder, &id);
            }
            return Ok(Home::Stored { seq });
        }
        // From the medium as well as from memory: a folder that did not read at start may read now.
        let highest = highest_seq(&self.folder).map_err(io_error("reading the folder", &self.folder))?;
        let mut inner = shared.lock();
        let records = inner.nodes.entry(self.id.clone()).or_default();
        let first = !records.iter().any(|record| record.state == State::Whole);
        let known = records.iter().map(|record| record.name.seq).max().unwrap_or(0);
        let seq = known.max(highest).saturating_add(1);
        let name = UploadName {
            seq,
            sha256: self.sha256,
        };
        records.push(Record {
            name,
            size: self.declared_len,
            state: State::Pending,
            evidence: Some(Arc::new(Kept {
                evidence: facts.evidence.clone(),
                _counted: None,
            })),
        });
        Ok(Home::New { name, first, moves })
    }

    /// Brings the content to its folder and makes it durable there.
    fn settle(&mut self, name: UploadName, first: bool, moves: Option<(PathBuf, NodeId)>) -> Result<(), StoreError> {
        if let Some((folder, id)) = moves {
            self.move_here(&folder, &id)?;
        }
        // Content first, so that the final name never stands on the medium before what it promises.
        let file = self.file.take().ok_or(io::ErrorKind::NotFound.into());
        let file = file.map_err(io_error("syncing", &self.path))?;
        let synced = self.shared.medium.sync_file(&file);
        synced.map_err(self.full_or("syncing"))?;
        self.make_durable(&file, name, first)
    }

    /// Copies the content from the folder it was announced for: a rename between folders can leave both names after a power
    /// cut, and one content with two names is lost with either.
    fn move_here(&mut self, from: &Path, announced: &NodeId) -> Result<(), StoreError> {
        // For which there is room: what was announced is written, so what is reserved for it stands for the copy from here on.
        let made = self.shared.room_for(0).map(drop);
        let made = made.and_then(|()| self.shared.temporary(&self.folder, self.declared_len));
        let Ok((path, file)) = made else {
            self.discard(from, announced);
            return made.map(drop);
        };
        let shared = Arc::clone(&self.shared);
        let mut copy = MediumFile {
            medium: shared.medium.as_ref(),
            file,
            length: 0,
        };
        let copied = (|| {
            let mut source = BufReader::with_capacity(64 * 1024, Hashing::new(File::open(&self.path)?));
            io::copy(&mut source, &mut copy)?;
            match source.into_inner().digest() == self.sha256 {
                true => Ok(()),
                false => Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        })();
        self.discard(from, announced);
        self.path = path;
        self.file = Some(copy.file);
        copied.map_err(self.full_or("copying to"))
    }

    /// Removes what was written in the folder that it was announced for.
    fn discard(&mut self, folder: &Path, announced: &NodeId) {
        drop(self.file.take());
        let shared = &self.shared;
        if let Err(error) = shared.medium.remove_file(&self.path) {
            // The next start removes it.
            tracing::warn!(file = %self.path.display(), %error, "removing an upload that was moved");
        }
        self.path.clear();
        let inner = shared.lock();
        if inner.nodes.get(announced).is_none_or(Vec::is_empty) {
            // Fails when another upload is under way there, and then it must stay.
            let _ = shared.medium.remove_folder(folder);
        }
    }

    /// The place in its row of the newest upload of this node, if it is this very one and is certainly on the medium.
    fn stored_before(&self) -> Result<Option<u64>, StoreError> {
        let shared = &self.shared;
        let newest = {
            let inner = shared.lock();
            let records = inner.nodes.get(&self.id);
            let newest = records.and_then(|records| records.iter().max_by_key(|record| record.name));
            match newest {
                Some(record) if record.state == State::Whole && record.name.sha256 == self.sha256 => record.name,
                _ => return Ok(None),
            }
        };
        let path = shared.path_of(&self.id, newest);
        // The copy may have gone bad since it was checked; then the new one is stored beside it.
        let Ok(file) = open_plain(&path) else { return Ok(None) };
        if !matches!(digest_of(&file), Ok((digest, _)) if digest == self.sha256) {
            return Ok(None);
        }
        let medium = &shared.medium;
        medium.sync_file(&file).map_err(io_error("syncing", &path))?;
        let synced = medium.sync_folder(&self.folder);
        synced.map_err(io_error("syncing", &self.folder))?;
        let synced = medium.sync_all(&shared.folder);
        synced.map_err(io_error("syncing", &shared.folder))?;
        Ok(Some(newest.seq))
    }

    fn make_durable(&mut self, file: &File, name: UploadName, first: bool) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let target = shared.path_of(&self.id, name);
        let medium = shared.medium.as_ref();
        let renamed = medium.rename(&self.path, &target);
        renamed.map_err(shared.full_or("naming", &target, self.declared_len))?;
        self.path = target;
        self.renamed = true;
        let synced = (|| {
            medium.sync_file(file)?;
            medium.sync_folder(&self.folder)?;
            if first {
                // The folder of a new node is itself a new name.
                medium.sync_folder(&shared.folder)?;
            }
            medium.sync_all(&shared.folder)
        })();
        synced.map_err(self.full_or("syncing"))?;
        // From here on the file is not ours to remove.
        self.path.clear();
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.path.as_os_str().is_empty() {
            if let Err(error) = self.shared.medium.remove_file(&self.path) {
                tracing::warn!(file = %self.path.display(), %error, "removing an unfinished upload");
            } else if self.renamed {
                // A name that was never acknowledged should not come back after a power cut.
                let _ = self.shared.medium.sync_folder(&self.folder);
            }
        }
        let mut inner = self.shared.lock();
        inner.reserved_bytes = inner.reserved_bytes.saturating_sub(self.declared_len);
        if inner.nodes.get(&self.id).is_none_or(Vec::is_empty) {
            inner.nodes.remove(&self.id);
            // Fails when another upload of the node is under way, and then it must stay.
            let _ = self.shared.medium.remove_folder(&self.folder);
        }
    }
}
