//! What a node is given besides its image: who it is, and the site's files, over the root that is ready.

use std::path::Path;

use anyhow::Context;
use hyper::body::Bytes;

use super::asking::{ASKING_FOR_FILES, asked};
use crate::image::unpack::{Limits, unpack};
use crate::model::own;
use crate::model::own::IDENTITY;
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
pub(super) async fn fetch(session: &Session) -> anyhow::Result<Bytes> {
    let target = format!("/api/v1/own-files?{}", session.marks());
    asked(session, &target, ASKING_FOR_FILES, own::MAX_ARCHIVE_BYTES).await
}

/// Of an archive, the files that say who a node is, and nothing that runs or lets somebody in.
fn of_identity(archive: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut kept = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let is_plain = entry.header().entry_type() == tar::EntryType::Regular;
        if is_plain && IDENTITY.iter().any(|own| path == Path::new(own)) {
            let mut header = entry.header().clone();
            kept.append_data(&mut header, path, entry)?;
        }
    }
    kept.into_inner()
}

/// Lays them over the root. `is_signed`: the root is one that has to be signed.
///
/// # Errors
/// They are not whole, or there is no room; the root is not to be used then.
pub(super) async fn lay(archive: Bytes, root: &Path, is_signed: bool) -> anyhow::Result<()> {
    // Who wants a root that somebody signed does not want other files over it that nobody did.
    let archive = match is_signed {
        true => of_identity(&archive).context("what this node is called")?.into(),
        false => archive,
    };
    let root = root.to_owned();
    let laid = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let tree = Tree::open(&root).with_context(|| root.display().to_string())?;
        unpack(&archive[..], Some(&tree), LIMITS)?;
        Ok(())
    });
    laid.await?.context("laying this node's own files over its root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_signed_root_lies_nothing_but_who_a_node_is() {
        let mut builder = tar::Builder::new(Vec::new());
        let names = [
            IDENTITY[0],
            "sbin/init",
            "root/.ssh/authorized_keys",
            IDENTITY[1],
            "etc/hostname/x",
            "./etc/hostname",
        ];
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, IDENTITY[2], "/etc/shadow").unwrap();
        let kept = of_identity(&builder.into_inner().unwrap()).unwrap();
        let kept: Vec<(String, u32)> = tar::Archive::new(&kept[..])
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().mode().unwrap(),
                )
            })
            .collect();
        assert!(
            kept.iter()
                .all(|(name, mode)| IDENTITY.contains(&name.trim_start_matches("./")) && *mode == 0o600),
            "{kept:?}"
        );
        assert_eq!(kept.len(), 3, "{kept:?}");
    }
}
