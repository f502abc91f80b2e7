//! An archive as a tree: every kind of entry, in the order that loses no attribute, inside the folder whatever names say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use super::pack::HOLE;
use crate::formats::oci::{self, Whiteout};
use crate::formats::tar::{Entry, Kind, Reader, TarError};
use crate::model::shown;
use crate::sys::tree::{self, Attributes, Numbers, Special, Tree};

/// Bytes that are read at once.
const BUFFER: usize = 64 * HOLE;

/// What an archive may come to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: u64,
    /// Of the contents of all files, without what is nothing but zeros.
    pub bytes: u64,
}

/// What it came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("{path}: {error}")]
    Entry { path: String, error: io::Error },
    #[error("it holds more than the {0} that it should")]
    Beyond(String),
}

impl UnpackError {
    /// For `map_err`: of the entry at this path below the root.
    fn at(path: &Path) -> impl Fn(io::Error) -> UnpackError {
        let shown = |path: &Path| shown::line(&format!("/{}", path.display())).into_owned();
        move |error| UnpackError::Entry {
            path: shown(path),
            error,
        }
    }
}

/// Reads a whole archive, and makes nothing.
///
/// # Errors
/// It is not whole, or holds more than it may.
pub fn read(archive: impl Read, limits: Limits) -> Result<Unpacked, UnpackError> {
    unpack(archive, None, limits)
}

/// Unpacks all entries of an archive and reads it to the end of its stream. With no tree everything is read and nothing made.
///
/// # Errors
/// The archive is not whole, holds more than it may, or an entry cannot be made; what was made until then stays.
pub(crate) fn unpack(archive: impl Read, tree: Option<&Tree>, limits: Limits) -> Result<Unpacked, UnpackError> {
    all(archive, tree, limits, None)
}

/// The same of a layer of a container image, over those below it. What it takes away from those is not made but collected.
///
/// # Errors
/// As of [`unpack`].
pub(crate) fn layer(
    archive: impl Read,
    tree: Option<&Tree>,
    limits: Limits,
    whiteouts: &mut Vec<Whiteout>,
) -> Result<Unpacked, UnpackError> {
    all(archive, tree, limits, Some(whiteouts))
}

fn all(
    archive: impl Read,
    tree: Option<&Tree>,
    limits: Limits,
    mut whiteouts: Option<&mut Vec<Whiteout>>,
) -> Result<Unpacked, UnpackError> {
    let mut reader = Reader::new(archive);
    let mut unpacked = Unpacked::default();
    // Of one that is said twice the last word counts.
    let mut folders: BTreeMap<PathBuf, Attributes> = BTreeMap::new();
    let mut buffer = vec![0; BUFFER];
    while let Some(entry) = reader.next()? {
        unpacked.entries += 1;
        if unpacked.entries > limits.entries {
            return Err(UnpackError::Beyond(format!("{} entries", limits.entries)));
        }
        let path = PathBuf::from(OsStr::from_bytes(&entry.path));
        let attributes = attributes(&entry);
        let failed = UnpackError::at(&path);
        if let Some(whiteouts) = whiteouts.as_deref_mut()
            && is_whiteout(&entry, tree, whiteouts).map_err(&failed)?
        {
            continue;
        }
        match (entry.kind, tree) {
            (Kind::File, tree) => {
                let file = tree.map(|tree| tree.file(&path)).transpose().map_err(&failed)?;
                let mut content = Content {
                    file: file.as_ref(),
                    left: limits.bytes - unpacked.bytes,
                };
                let took = content.take(&mut reader, &entry, &mut buffer);
                took.map_err(|wrong| match wrong {
                    Wrong::Tar(error) => error.into(),
                    Wrong::File(error) => failed(error),
                    Wrong::Beyond => UnpackError::Beyond(format!("{} bytes", limits.bytes)),
                })?;
                unpacked.bytes = limits.bytes - content.left;
                if let Some(file) = file {
                    tree::settle(&file, &attributes).map_err(&failed)?;
                }
            }
            (_, None) => {}
            (Kind::Folder, Some(tree)) => {
                tree.folder(&path).map_err(&failed)?;
                folders.insert(plain(&path), attributes);
            }
            (kind, Some(tree)) => other(tree, kind, &path, &entry, &attributes).map_err(&failed)?,
        }
    }
    // Another entry in a folder changes its time, and one that may not be written to takes none: so they come last, the inner ones first.
    for (path, attributes) in folders.iter().rev() {
        let ended = tree.map_or(Ok(()), |tree| tree.end_folder(path, attributes));
        ended.map_err(UnpackError::at(path))?;
    }
    let mut rest = reader.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| UnpackError::Tar(TarError::Io(error)))?;
    Ok(unpacked)
}

/// A path as one folder is always written: `./usr/` is `usr`.
fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir | Component::RootDir))
        .collect()
}

/// Whether an entry of a layer only takes something away. Any other that is no folder goes in the place of a folder of the layers below,
/// whatever is in that.
fn is_whiteout(entry: &Entry, tree: Option<&Tree>, whiteouts: &mut Vec<Whiteout>) -> io::Result<bool> {
    if let Some(whiteout) = oci::whiteout(&entry.path) {
        whiteouts.push(whiteout);
        return Ok(true);
    }
    if let Some(tree) = tree.filter(|_| entry.kind != Kind::Folder) {
        tree.remove_folder(Path::new(OsStr::from_bytes(&entry.path)))?;
    }
    Ok(false)
}

fn attributes(entry: &Entry) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: (entry.modified.seconds, entry.modified.nanoseconds),
        xattrs: entry.xattrs.clone(),
    }
}

/// What is neither a file nor a folder.
fn other(tree: &Tree, kind: Kind, path: &Path, entry: &Entry, attributes: &Attributes) -> io::Result<()> {
    let link = Path::new(OsStr::from_bytes(&entry.link));
    let special = match kind {
        Kind::SymbolicLink => return tree.symbolic_link(path, link, attributes),
        // Its attributes are those of what it is another name of.
        Kind::HardLink => return tree.hard_link(path, link),
        Kind::CharacterDevice { major, minor } => Special::Character(Numbers { major, minor }),
        Kind::BlockDevice { major, minor } => Special::Block(Numbers { major, minor }),
        _ => Special::Fifo,
    };
    tree.special(path, special, attributes)
}

enum Wrong {
    Tar(TarError),
    File(io::Error),
    Beyond,
}

/// Where the bytes of one file go.
struct Content<'a> {
    file: Option<&'a File>,
    /// Bytes that may still come.
    left: u64,
}

impl Content<'_> {
    fn take(&mut self, reader: &mut Reader<impl Read>, entry: &Entry, buffer: &mut [u8]) -> Result<(), Wrong> {
        // Before its content: where there is no room for it, or no file so long, that is known at once.
        if let Some(file) = self.file {
            file.set_len(entry.size).map_err(Wrong::File)?;
        }
        for piece in &entry.pieces {
            let (mut at, mut left) = (piece.at, piece.bytes);
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let mut have = 0;
                while have < most {
                    match reader.read(&mut buffer[have..most]).map_err(Wrong::Tar)? {
                        // No piece is longer than what is stored.
                        0 => return Err(Wrong::File(io::ErrorKind::UnexpectedEof.into())),
                        read => have += read,
                    }
                }
                self.write(&buffer[..most], at)?;
                at += most as u64;
                left -= most as u64;
            }
        }
        Ok(())
    }

    /// What is nothing but zeros stays a hole.
    fn write(&mut self, bytes: &[u8], mut at: u64) -> Result<(), Wrong> {
        for step in bytes.chunks(HOLE) {
            if step.iter().any(|byte| *byte != 0) {
                self.left = self.left.checked_sub(step.len() as u64).ok_or(Wrong::Beyond)?;
                if let Some(file) = self.file {
                    file.write_all_at(step, at).map_err(Wrong::File)?;
                }
            }
            at += step.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod against_tar;
#[cfg(test)]
mod tests;
