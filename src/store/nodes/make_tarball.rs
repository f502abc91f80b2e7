//! When the store makes its tarball, what it leaves as it is, and what became of it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::NodeStore;
use super::tarball::Made;
use crate::model::layout::{TARBALL, TARBALL_INCOMPLETE};
use crate::store::archive::{self, ArchiveError, Builder, GoOn};

impl NodeStore {
    /// A number that changes whenever what is stored does.
    pub fn changes(&self) -> u64 {
        self.0.tarball.changes.load(Ordering::Relaxed)
    }

    /// The tarball on the medium, while it is known to hold everything.
    pub fn current_tarball(&self) -> Option<PathBuf> {
        let tarball = &self.0.tarball;
        tarball.lock().current.then(|| tarball.folder.join(TARBALL))
    }

    /// Why a tarball that is not current has the name of one that is.
    pub fn tarball_stuck(&self) -> Option<String> {
        self.0.tarball.lock().stuck.clone()
    }

    /// Makes the tarball on the medium, unless it is current. Waits until every upload found at start is hashed. Ends early when
    /// `go_on` says so, or an upload comes and `yielding`. Blocks.
    pub fn make_tarball(&self, yielding: bool, go_on: GoOn<'_>) -> Result<Made, ArchiveError> {
        let tarball = &self.0.tarball;
        let since = tarball.changes.load(Ordering::Relaxed);
        let nodes = self.list_while(go_on).ok_or(ArchiveError::Stopped)?;
        // Not while waiting for the list: an upload that needs room would wait for it too.
        let _making = tarball.making.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = self.lacks();
        let whole = tarball.folder.join(TARBALL);
        let (is_whole, is_current) = {
            let named = tarball.lock();
            (named.whole, named.current)
        };
        // One of an earlier run says itself what it holds.
        let found =
            || is_whole && lacks.is_empty() && File::open(&whole).is_ok_and(|file| archive::holds(file, &nodes));
        if is_current || found() {
            let mut named = tarball.lock();
            named.current = named.under_way == 0 && tarball.changes.load(Ordering::Relaxed) == since;
            return Ok(match named.current {
                true => Made::Current { nodes: nodes.len() },
                false => Made::Overtaken,
            });
        }
        let overtaken = || tarball.changes.load(Ordering::Relaxed) != since;
        let go_on = || go_on() && !(yielding && overtaken());
        let missing = lacks.len();
        let builder = Builder::on(self.0.limits.upload, Arc::clone(&tarball.medium)).lacks(lacks);
        let out = tarball.folder.join(TARBALL_INCOMPLETE);
        // The old one is no use, and its room may be.
        tarball.withdraw(&mut tarball.lock());
        // What uploads under way were promised is not free.
        let leave = self.0.lock().needed(0, &self.0.limits);
        match builder.write(&nodes, &out, leave, &go_on) {
            Ok(built) if missing + built.left_out.len() > 0 => Ok(Made::Lacking {
                nodes: built.nodes,
                lacks: missing + built.left_out.len(),
            }),
            Ok(built) => Ok(match tarball.publish(since)? {
                true => Made::Current { nodes: built.nodes },
                false => Made::Overtaken,
            }),
            Err(ArchiveError::Stopped) if overtaken() => Ok(Made::Overtaken),
            Err(error) => Err(error),
        }
    }

    /// Sends a tarball of what is stored now to a socket or the like; see [`Builder::stream`]. Waits as [`NodeStore::list`] does.
    pub fn stream_tarball(&self, writer: &mut impl io::Write, go_on: GoOn<'_>) -> Result<(), ArchiveError> {
        let nodes = self.list_while(go_on).ok_or(ArchiveError::Stopped)?;
        Builder::on(self.0.limits.upload, Arc::clone(&self.0.medium))
            .lacks(self.lacks())
            .stream(&nodes, writer, go_on)
    }
}
