//! What goes once a node has a newer upload, and its copy of the inventory for people.

use std::io;
use std::sync::atomic::Ordering;

use crate::model::identity::Evidence;
use crate::model::{NodeId, layout, shown};
use crate::store::nodes::records::{Record, State};
use crate::store::nodes::shared::Shared;
use crate::store::{Sha, UploadName, fs_ops, room, upload};
use crate::sys::file::open_plain;

impl Shared {
    /// Uploads of a node that its newest ones replace.
    pub(super) fn given_way(&self, id: &NodeId) -> Vec<UploadName> {
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

    /// Removes what the newest uploads of a node replace, and writes its copy of the inventory. What fails here costs
    /// room or convenience, never an upload.
    pub(super) fn tidy(&self, id: &NodeId) {
        let _one_at_a_time = self.tidying.lock(id);
        for name in self.given_way(id) {
            let path = self.path_of(id, name);
            match self.medium.remove_if_there(&path) {
                Err(error) => tracing::warn!(file = %path.display(), %error, "removing a replaced upload"),
                Ok(()) => {
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
    pub(super) fn copy_inventory(&self, id: &NodeId) {
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
        // Asked for anew at each piece: other copies are written at the same time.
        let room = || {
            let free = self.medium.free_bytes(&self.folder).unwrap_or(0);
            room::for_copy(free, self.limits.reserve_bytes, self.free_at_start)
        };
        // For people, who look at it with whatever shows a file; the upload keeps every byte.
        let mut shown = shown::JsonStream::default();
        let written = fs_ops::replace_lazily(self.medium.as_ref(), &copy, |file| {
            upload::inventory(open_plain(&source)?, &self.limits.upload, |bytes| {
                let text = shown.feed(bytes);
                match text.len() as u64 <= room() {
                    true => self.medium.write(file, text.as_bytes()),
                    false => Err(io::ErrorKind::StorageFull.into()),
                }
            })
            .map_err(io::Error::from)
        });
        if let Err(error) = written {
            tracing::debug!(file = %copy.display(), %error, "no copy of the inventory beside its upload");
            self.copies_left_out.fetch_add(1, Ordering::Relaxed);
            // One that is not there misleads nobody.
            let _ = self.medium.remove_file(&copy);
        }
    }
}
