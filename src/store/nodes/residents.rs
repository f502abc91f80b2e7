//! Which machines go by a name, and what their uploads tell of them.

use std::path::Path;
use std::{fs, io};

use crate::model::NodeId;
use crate::model::identity::Evidence;
use crate::store::UploadName;
use crate::store::fs_ops::io_error;
use crate::store::nodes::error::StoreError;
use crate::store::nodes::naming::Resident;
use crate::store::nodes::records::{MAX_OF_ONE_NAME, Record, State};
use crate::store::nodes::shared::{Shared, read_facts};

/// The uploads that a folder holds, by their names.
pub(super) fn upload_names(folder: &Path) -> io::Result<Vec<UploadName>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().to_str().and_then(UploadName::parse));
    }
    Ok(names)
}

impl Shared {
    /// What an upload tells of its machine; `None` for one that is torn or gone. What cannot be read now tells nothing.
    pub(super) fn evidence_of(&self, id: &NodeId, record: &Record) -> Option<Evidence> {
        self.told_by(id, record).map(|(evidence, _)| evidence)
    }

    /// As `evidence_of`, and whether it was read: what failed now may tell something the next time.
    pub(super) fn told_by(&self, id: &NodeId, record: &Record) -> Option<(Evidence, bool)> {
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
    pub(super) fn residents(&self, asked: &NodeId) -> Result<Vec<Resident>, StoreError> {
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
    pub(super) fn unlisted(&self, id: &NodeId) -> Result<Vec<Record>, StoreError> {
        let folder = self.folder.join(id.as_str());
        let failed = io_error("reading the folder", &folder);
        let names = match upload_names(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error).into()),
        };
        Ok(names.into_iter().map(|name| Record::found(name, 0)).collect())
    }
}
