//! Why nothing comes home.

use std::io;
use std::path::{Path, PathBuf};

use crate::formats::exfat::ExFatError;
use crate::stick::collect::report::Report;
use crate::store::archive::ArchiveError;
use crate::sys::process;

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("{} may not be read; try again as root", path.display())]
    NotPermitted { path: PathBuf },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} has no RECON-DATA: {reason}", path.display())]
    NoData { path: PathBuf, reason: String },
    #[error("the RECON-DATA volume on {} does not read", path.display())]
    Volume {
        path: PathBuf,
        #[source]
        source: ExFatError,
    },
    #[error("{} has no nodes: no machine finished an upload to it", path.display())]
    NoNodes { path: PathBuf },
    #[error("no node has a whole upload, so nothing was written\n{0}")]
    NothingWhole(Box<Report>),
    #[error("{} exists; choose another name or use --force", path.display())]
    Exists { path: PathBuf },
    #[error("{} is there and is no file; choose another name", path.display())]
    NoFile { path: PathBuf },
    #[error("{} is on the source, which is never written to; choose another place", path.display())]
    OnSource { path: PathBuf },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {}", path.display())]
    Archive {
        path: PathBuf,
        #[source]
        source: ArchiveError,
    },
}

pub(super) fn read_error(path: &Path, source: io::Error) -> CollectError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::PermissionDenied && !process::is_root() {
        CollectError::NotPermitted { path }
    } else {
        CollectError::Read { path, source }
    }
}
