//! What a data partition holds, judged before anything is written to it.

use std::io;

use super::ReadAt;
use super::exfat::{ExFat, ExFatError};
use super::signatures::mark::{self, Mark};
use crate::model::cause;
use crate::model::layout::DATA_NAME;

/// What stands on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An exFAT volume that reads. `needs_check` when it was not unmounted, or has broken entries.
    ExFat { label: Option<String>, needs_check: bool },
    /// Says it is exFAT, but does not read.
    Broken(String),
    /// Something else, which somebody may want to keep.
    Foreign(&'static str),
    /// No file system that is known here.
    Nothing,
}

/// What people keep on disks, by its mark.
const FOREIGN: [(Mark, &str); 20] = [
    (mark::NTFS, "NTFS"),
    (mark::BITLOCKER, "BitLocker"),
    (mark::REFS, "ReFS"),
    (mark::FAT16, "FAT"),
    (mark::FAT32, "FAT32"),
    (mark::EXT, "ext2/3/4"),
    (mark::XFS, "XFS"),
    (mark::BTRFS, "btrfs"),
    (mark::LUKS, "LUKS"),
    (mark::LVM, "LVM"),
    (mark::MD_SECOND, "Linux RAID"),
    (mark::MD_FIRST, "Linux RAID"),
    (mark::SQUASHFS, "squashfs"),
    (mark::ISO9660, "ISO 9660"),
    (mark::HFS_PLUS, "HFS+"),
    (mark::HFSX, "HFS+"),
    (mark::APFS, "APFS"),
    (mark::SWAP, "swap"),
    (mark::F2FS, "F2FS"),
    (mark::EROFS, "EROFS"),
];

/// Looks at a partition. Only reads.
pub(crate) fn inspect(data: &impl ReadAt) -> io::Result<Content> {
    let volume = match ExFat::open(data) {
        Ok(volume) => volume,
        Err(ExFatError::NotExFat) => return other(data),
        Err(ExFatError::Damaged(reason)) => return Ok(Content::Broken(reason)),
        Err(ExFatError::Io(error)) => return Err(error),
    };
    match volume.list(&volume.root()) {
        Ok(root) if !root.has_bitmap || !root.has_upcase => Ok(Content::Broken(
            "its root folder has no allocation bitmap or no up-case table".into(),
        )),
        Ok(root) => {
            let needs_check = volume.is_dirty() || root.damaged > 0;
            Ok(Content::ExFat {
                label: root.label,
                needs_check,
            })
        }
        Err(ExFatError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Err(error) => Ok(Content::Broken(cause::told(&error))),
    }
}

/// True for a readable exFAT volume with our label.
///
/// # Errors
/// Where it could not be read, which does not mean that it is none.
pub(crate) fn is_ours(data: &impl ReadAt) -> io::Result<bool> {
    Ok(matches!(inspect(data)?, Content::ExFat { label: Some(label), .. } if label == DATA_NAME))
}

fn other(data: &impl ReadAt) -> io::Result<Content> {
    for (mark, name) in FOREIGN {
        let mut bytes = vec![0u8; mark.bytes.len()];
        match data.read_exact_at(&mut bytes, mark.offset) {
            Ok(()) if bytes == mark.bytes => return Ok(Content::Foreign(name)),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
    }
    Ok(Content::Nothing)
}

#[cfg(test)]
mod tests;
