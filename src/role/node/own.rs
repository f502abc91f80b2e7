//! What a node is given besides its image: who it is, and the site's files, over the root that is ready.

use std::path::Path;

use anyhow::Context;
use hyper::body::Bytes;

use super::asking::{ASKING_FOR_FILES, asked};
use crate::image::unpack::{Limits, unpack};
use crate::model::{MacAddr, own};
use crate::role::peer::session::Session;
use crate::sys::tree::Tree;

const LIMITS: Limits = Limits {
    entries: own::MAX_ENTRIES,
    bytes: own::MAX_ARCHIVE_BYTES as u64,
};

/// Fetches them.
///
/// # Errors
/// The master does not give them; why not.
pub(super) async fn fetch(session: &Session, mac: MacAddr) -> anyhow::Result<Bytes> {
    let target = format!(
        "/api/v1/own-files?mac={mac}&uuid={}",
        session.uuid.as_deref().unwrap_or("")
    );
    asked(session, &target, ASKING_FOR_FILES, own::MAX_ARCHIVE_BYTES).await
}

/// Lays them over the root.
///
/// # Errors
/// They are not whole, or there is no room; the root is not to be used then.
pub(super) async fn lay(archive: Bytes, root: &Path) -> anyhow::Result<()> {
    let root = root.to_owned();
    let laid = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let tree = Tree::open(&root).with_context(|| root.display().to_string())?;
        unpack(&archive[..], Some(&tree), LIMITS)?;
        Ok(())
    });
    laid.await?.context("laying this node's own files over its root")
}
