//! What a master says of itself: `/api/v1/status`.

use std::sync::{Arc, Mutex, Weak};

use super::storage::{StickFiles, Storage};
use super::tarball::Keeper;
use crate::config::live::REMEDY;
use crate::config::load::Loaded;
use crate::model::api::{LinkStatus, Status, StorageStatus};
use crate::service::http::set_image;
use crate::service::http::site::{Master, Site};
use crate::store::nodes::NodeStore;
use crate::sys::clock;

/// Where the parts of the status come from.
pub(crate) struct StatusSources {
    /// Not held, so that the partition can be unmounted at the end.
    pub storage: Weak<Storage>,
    pub files: StickFiles,
    pub keeper: Keeper,
    /// What was wrong at the start, a sentence each.
    pub problems: Vec<String>,
    pub links: Arc<Mutex<Vec<LinkStatus>>>,
    pub http_port: u16,
}

impl Master for StatusSources {
    fn status(&self, site: &Site) -> Status {
        let settings = &site.settings;
        let (nodes_seen, nodes_unlisted, (clashes, more_clashes)) = {
            let node_table = site.node_table();
            (node_table.counts().0, node_table.unlisted(), node_table.clashes())
        };
        let nodes_stored = self.keeper.uploads().stored();
        let links = self.links.lock().expect("no holder panics").clone();
        let storage = self.storage.upgrade();
        let storage = storage.map_or_else(Default::default, |storage| {
            storage.status(&links, nodes_stored, self.http_port)
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            site: settings.now().site.clone(),
            uptime_seconds: clock::run_time().seconds() as u64,
            storage: StorageStatus {
                tarball: self.keeper.status(),
                notices: notices(self.keeper.uploads()),
                ..storage
            },
            settings_problems: self.problems.iter().cloned().chain(settings.problems()).collect(),
            settings_held: settings.is_held().then(|| REMEDY.to_owned()),
            links,
            nodes_seen: nodes_seen.max(nodes_stored),
            nodes_stored,
            nodes_unlisted,
            clashes,
            more_clashes,
            rolling: set_image::rolling(site),
            rss_bytes: crate::sys::process::rss_bytes(),
        }
    }

    fn read_settings(&self) -> Loaded {
        self.files.settings()
    }
}

/// What a person should know of the uploads.
fn notices(uploads: &NodeStore) -> Vec<String> {
    let unchecked = match uploads.unchecked() {
        1 => "upload of an earlier run is still to be checked; it counts from then on",
        _ => "uploads of earlier runs are still to be checked; they count from then on",
    };
    let sent_back = "times an upload was sent back because too many were being checked; the machines try again";
    let left_out =
        "uploads have no inventory.json beside them, to leave room for uploads; it is in them and in the tarball";
    let counted = [
        (uploads.unchecked() as u64, unchecked),
        (uploads.sent_back(), sent_back),
        (uploads.copies_left_out(), left_out),
    ];
    let counted = counted.into_iter().filter(|(count, _)| *count > 0);
    let counted = counted.map(|(count, what)| format!("{count} {what}"));
    uploads.problems().into_iter().chain(counted).collect()
}
