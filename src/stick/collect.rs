//! Takes the inventories off sticks: `recon collect SOURCE… -o FILE`, on a laptop, without mounting anything.
//!
//! The sources are only read. Only uploads whose content has the digest in their name are taken, the newest of each machine,
//! so a stick that was pulled while it was written to gives exactly what was acknowledged. The tarball is built anew
//! from them; the one on the stick is not trusted.
//!
//! Which uploads are of one machine is decided by what they tell (`machines.rs`), not by the names of their folders: two
//! masters may have given one name to two machines.

mod choose;
mod error;
mod machines;
mod output;
mod report;
mod uploads;
mod volume;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use self::choose::finish;
pub use self::error::CollectError;
use self::error::read_error;
pub use self::output::Options;
use self::output::check_out;
pub use self::report::{Report, Row, State};
use self::uploads::{Found, folder_uploads, volume_uploads};
use self::volume::find_volume;
use crate::sys::mount;

/// Node folders read, four times what a store takes. Further ones are left out, and the report is not complete.
const MAX_NODES: usize = 400_000;

/// Collects the nodes of `source` into the tarball `out`.
pub fn collect(source: &Path, out: &Path, options: Options) -> Result<Report, CollectError> {
    collect_all(&[source], out, options)
}

/// Collects the nodes of all `sources` into the tarball `out`.
pub fn collect_all<P: AsRef<Path>>(sources: &[P], out: &Path, options: Options) -> Result<Report, CollectError> {
    let sources: Vec<&Path> = sources.iter().map(AsRef::as_ref).collect();
    collect_within(&sources, out, options, MAX_NODES)
}

/// At most `most` folders are read of each source.
fn collect_within(sources: &[&Path], out: &Path, options: Options, most: usize) -> Result<Report, CollectError> {
    let mut disks = Vec::new();
    for source in sources {
        check_out(source, out, options)?;
        disks.push(open_disk(source)?);
    }
    let mut volumes = Vec::new();
    for (source, disk) in sources.iter().zip(&disks) {
        let volume = disk.as_ref().map(|(disk, length)| find_volume(disk, *length, source));
        volumes.push(volume.transpose()?);
    }
    let mut found = Found::default();
    let mut empty = None;
    for (at, source) in sources.iter().enumerate() {
        let read = match (&volumes[at], &disks[at]) {
            (Some((volume, warnings)), Some((_, length))) => {
                found.warnings.extend(warnings.iter().cloned());
                if volume.is_dirty() {
                    found
                        .warnings
                        .push("the volume was not unmounted; what was being written then may be missing".into());
                }
                volume_uploads(volume, *length, (at, source), most, &mut found)
            }
            _ => folder_uploads((at, source), most, &mut found),
        };
        match read {
            Err(error @ CollectError::NoNodes { .. }) => {
                found.warnings.push(error.to_string());
                empty.get_or_insert(error);
            }
            other => other?,
        }
    }
    match empty {
        Some(error) if found.nodes.is_empty() && found.unread.is_empty() => Err(error),
        _ => finish(found, sources, out),
    }
}

/// The device or image with its length; `None` for a folder.
fn open_disk(source: &Path) -> Result<Option<(File, u64)>, CollectError> {
    let metadata = fs::metadata(source).map_err(|error| read_error(source, error))?;
    if metadata.is_dir() {
        return Ok(None);
    }
    let is_device = metadata.file_type().is_block_device();
    if !is_device && !metadata.is_file() {
        return Err(CollectError::NoData {
            path: source.to_owned(),
            reason: "it is neither a disk, nor an image of one, nor a folder".to_owned(),
        });
    }
    let disk = File::open(source).map_err(|error| read_error(source, error))?;
    if is_device {
        // Only matters where a partition of it is in use, and is no loss where it fails.
        let _ = mount::forget_cached(&disk);
    }
    let length = (&disk)
        .seek(SeekFrom::End(0))
        .map_err(|error| read_error(source, error))?;
    Ok(Some((disk, length)))
}

#[cfg(test)]
mod tests;
