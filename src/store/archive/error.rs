//! Why there is no tarball.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("no room for the tarball: {needed} bytes needed, {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error("{operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the tarball does not read back: {0}")]
    Wrong(String),
    #[error("the tarball was given up before it was whole")]
    Stopped,
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io {
        operation,
        path,
        source,
    }
}
