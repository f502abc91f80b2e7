//! An upload on its way in, up to its acknowledgement.

use crate::formats::bytes::hex;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::{StoreError, from_upload, io_error};
use super::limits::MAX_OF_ONE_NAME;
use super::records::{Kept, Record, State};
use super::residents::upload_names;
use super::shared::Shared;
use super::stored::Stored;
use crate::model::NodeId;
use crate::model::identity::Evidence;
use crate::store::inventory::InventoryFacts;
use crate::store::nodes::naming;
use crate::store::{Sha, UploadName, digest_of, upload};
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
enum Place {
    /// The same bytes are there.
    Stored(Box<Stored>),
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
        if self.failed || received > self.declared_len {
            self.failed = true;
            return Err(StoreError::LengthMismatch {
                declared: self.declared_len,
                received,
            });
        }
        let Some(file) = self.file.as_mut() else {
            return Err(StoreError::LengthMismatch {
                declared: self.declared_len,
                received,
            });
        };
        if let Err(error) = self.shared.medium.write(file, bytes) {
            self.failed = true;
            return Err(self.shared.full_or("writing", &self.path, error, self.declared_len));
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
        let place = shared.checking.enter()?;
        let content = File::open(&self.path).map_err(io_error("opening", &self.path))?;
        let facts = upload::check(content, &shared.limits.upload).map_err(|error| from_upload(error, &self.path))?;
        drop(place);

        let (name, first, moves) = match self.place(&facts)? {
            Place::Stored(stored) => {
                shared.tidy(&self.id);
                return Ok(*stored);
            }
            Place::New { name, first, moves } => (name, first, moves),
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
        Ok(Stored {
            id: self.id.clone(),
            facts,
            seq: name.seq,
            sha256: hex(&self.sha256),
            size_bytes: self.declared_len,
            already: false,
        })
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
    fn place(&mut self, facts: &InventoryFacts) -> Result<Place, StoreError> {
        let shared = Arc::clone(&self.shared);
        let _one_at_a_time = shared.placing.lock(&self.id);
        let id = self.node_of(&facts.evidence)?;
        shared.lock().add_node(&id, &shared.limits)?;
        let moves = (id != self.id).then(|| (self.folder.clone(), self.id.clone()));
        if moves.is_some() {
            let folder = shared.folder.join(id.as_str());
            match shared.medium.make_folder(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let mut inner = shared.lock();
                    if inner.nodes.get(&id).is_some_and(Vec::is_empty) {
                        inner.nodes.remove(&id);
                    }
                    drop(inner);
                    return Err(shared.full_or("making the folder", &folder, error, self.declared_len));
                }
                _ => {}
            }
            (self.id, self.folder) = (id, folder);
        }
        if let Some(stored) = self.stored_before(facts)? {
            if let Some((folder, id)) = moves {
                self.discard(&folder, &id);
            }
            return Ok(Place::Stored(Box::new(stored)));
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
        Ok(Place::New { name, first, moves })
    }

    /// Brings the content to its folder and makes it durable there.
    fn settle(&mut self, name: UploadName, first: bool, moves: Option<(PathBuf, NodeId)>) -> Result<(), StoreError> {
        if let Some((folder, id)) = moves {
            self.move_here(&folder, &id)?;
        }
        // Content first, so that the final name never stands on the medium before what it promises.
        let file = self
            .file
            .take()
            .ok_or_else(|| io_error("syncing", &self.path)(io::ErrorKind::NotFound.into()))?;
        let shared = Arc::clone(&self.shared);
        shared
            .medium
            .sync_file(&file)
            .map_err(|e| shared.full_or("syncing", &self.path, e, self.declared_len))?;
        self.make_durable(&file, name, first)
    }

    /// Copies the content from the folder it was announced for: a rename between folders can leave both names after a power
    /// cut, and one content with two names is lost with either.
    fn move_here(&mut self, from: &Path, announced: &NodeId) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let needed = self.declared_len;
        let (path, mut file) = match self.copy_to() {
            Ok(made) => made,
            Err(error) => {
                self.discard(from, announced);
                return Err(error);
            }
        };
        let copied = (|| {
            let mut source = File::open(&self.path)?;
            let mut hasher = Sha256::new();
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = source.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(&buffer[..count]);
                shared.medium.write(&mut file, &buffer[..count])?;
            }
            match Sha::from(hasher.finalize()) == self.sha256 {
                true => Ok(()),
                false => Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        })();
        self.discard(from, announced);
        self.path = path;
        self.file = Some(file);
        copied.map_err(|error| shared.full_or("copying to", &self.path, error, needed))
    }

    /// A new file in the upload's own folder, for which there is room. What was announced is written, so what is reserved for
    /// it stands for the copy from here on.
    fn copy_to(&self) -> Result<(PathBuf, File), StoreError> {
        let shared = &self.shared;
        drop(shared.room_for(0)?);
        loop {
            let path = {
                let mut inner = shared.lock();
                inner.next_temporary += 1;
                self.folder.join(format!("incoming-{}.part", inner.next_temporary))
            };
            match shared.medium.create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(shared.full_or("making", &path, error, self.declared_len)),
            }
        }
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

    /// The newest upload of this node, if it is this very one and is certainly on the medium.
    fn stored_before(&self, facts: &InventoryFacts) -> Result<Option<Stored>, StoreError> {
        let shared = &self.shared;
        let newest = {
            let inner = shared.lock();
            let records = inner.nodes.get(&self.id);
            let newest = records.and_then(|records| records.iter().max_by_key(|record| record.name));
            match newest {
                Some(record) if record.state == State::Whole && record.name.sha256 == self.sha256 => record.clone(),
                _ => return Ok(None),
            }
        };
        let path = shared.path_of(&self.id, newest.name);
        // The copy may have gone bad since it was checked; then the new one is stored beside it.
        let Ok(file) = open_plain(&path) else { return Ok(None) };
        if !matches!(digest_of(&file), Ok((digest, _)) if digest == self.sha256) {
            return Ok(None);
        }
        shared.medium.sync_file(&file).map_err(io_error("syncing", &path))?;
        shared
            .medium
            .sync_folder(&self.folder)
            .map_err(io_error("syncing", &self.folder))?;
        shared
            .medium
            .sync_all(&shared.folder)
            .map_err(io_error("syncing", &shared.folder))?;
        Ok(Some(Stored {
            id: self.id.clone(),
            facts: facts.clone(),
            seq: newest.name.seq,
            sha256: hex(&self.sha256),
            size_bytes: newest.size,
            already: true,
        }))
    }

    fn make_durable(&mut self, file: &File, name: UploadName, first: bool) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let target = shared.path_of(&self.id, name);
        let medium = shared.medium.as_ref();
        medium
            .rename(&self.path, &target)
            .map_err(|e| shared.full_or("naming", &target, e, self.declared_len))?;
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
        match synced {
            Ok(()) => {
                // From here on the file is not ours to remove.
                self.path.clear();
                Ok(())
            }
            Err(error) => Err(shared.full_or("syncing", &self.path, error, self.declared_len)),
        }
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
