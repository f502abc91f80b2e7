//! Uploads that are there when the store opens: their names are read, then their content is hashed.

use std::path::Path;
use std::sync::Weak;
use std::{fs, io};

use crate::model::{NodeId, layout};
use crate::store::fs_ops::{Medium, io_error};
use crate::store::nodes::error::StoreError;
use crate::store::nodes::records::{Inner, Limits, Record, State, report, report_unread};
use crate::store::nodes::shared::Shared;
use crate::store::{UploadName, digest_of};
use crate::sys::file::open_plain;

pub(super) fn check_all(weak: &Weak<Shared>) {
    // Upgraded anew for each file, so that a store nobody uses any more goes away.
    while let Some(shared) = weak.upgrade() {
        if !shared.check_one() {
            return;
        }
    }
}

/// Reads the names under `nodes/` and removes temporary files of earlier runs.
pub(super) fn scan(folder: &Path, limits: &Limits, medium: &dyn Medium, inner: &mut Inner) -> Result<(), StoreError> {
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
            let (folder, most) = (folder.display(), limits.nodes);
            let text = format!("{folder} holds more than {most} nodes, the rest is left alone");
            report_unread(inner, text);
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

pub(super) fn scan_node(folder: &Path, medium: &dyn Medium) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let unfinished = name.strip_suffix(layout::PART);
        if unfinished.is_some_and(|name| name == layout::INVENTORY || name.starts_with(layout::INCOMING_PREFIX)) {
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

impl Shared {
    pub(super) fn next_unchecked(&self) -> Option<(NodeId, Record)> {
        self.lock().to_check.last().cloned()
    }

    /// Hashes one upload that was found at start; false when none is left. One caller at a time.
    pub(super) fn check_one(&self) -> bool {
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
}
