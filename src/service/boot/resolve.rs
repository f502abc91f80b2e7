//! Which boot file does a name mean? The one table behind TFTP and behind `/loaders/` of HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;

use hyper::body::Bytes;

use crate::service::boot::programs::Made;
use crate::service::boot::{autoexec, grub, programs};
use crate::service::http::site::Site;

/// A boot file: on this system, or made for this request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootFile {
    File(PathBuf),
    Made(Bytes),
}

/// Looks `name` up, as a client wrote it: case and kind of slash mean nothing, and what is not in the table does not exist, so
/// no path can leave it. `master` is where the link's clients reach HTTP, for files that say it. Returns the name in the table too.
pub(crate) fn boot_file(site: &Site, name: &str, master: SocketAddr) -> Option<(&'static str, BootFile)> {
    if let Some(made) = programs::made(name) {
        return Some((made.name(), BootFile::Made(self::made(made, master).into())));
    }
    let known = programs::loader_named(name)?;
    let path = site.loaders.path(known)?;
    Some((known, BootFile::File(path.to_owned())))
}

/// A file that is made for the link.
pub(crate) fn made(made: Made, master: SocketAddr) -> String {
    match made {
        Made::Autoexec => autoexec::autoexec(master),
        Made::GrubConfig => grub::config(master),
    }
}
