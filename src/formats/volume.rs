//! What a data partition holds, judged before anything is written to it.

use std::io;

use super::ReadAt;
use crate::model::cause;

use super::exfat::{ExFat, ExFatError};
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

/// Signatures of what people keep on disks: offset, bytes, name.
const SIGNATURES: [(u64, &[u8], &str); 20] = [
    (3, b"NTFS    ", "NTFS"),
    (3, b"-FVE-FS-", "BitLocker"),
    (3, b"ReFS", "ReFS"),
    (54, b"FAT1", "FAT"),
    (82, b"FAT32", "FAT32"),
    (0x438, &[0x53, 0xef], "ext2/3/4"),
    (0, b"XFSB", "XFS"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (512, b"LABELONE", "LVM"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "Linux RAID"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "Linux RAID"),
    (0, b"hsqs", "squashfs"),
    (32769, b"CD001", "ISO 9660"),
    (1024, b"H+", "HFS+"),
    (1024, b"HX", "HFS+"),
    (32, b"NXSB", "APFS"),
    (4086, b"SWAPSPACE2", "swap"),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "F2FS"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "EROFS"),
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
    for (offset, signature, name) in SIGNATURES {
        let mut bytes = vec![0u8; signature.len()];
        match data.read_exact_at(&mut bytes, offset) {
            Ok(()) if bytes == signature => return Ok(Content::Foreign(name)),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
    }
    Ok(Content::Nothing)
}

#[cfg(test)]
mod tests;
