//! What is on a disk or partition, recognised by its first and last sectors. Pure: bytes come from `read`.
//!
//! The places are the formats' own; each function names its source. Nothing here interprets more than a name.

use super::partitions::Read;
use crate::model::inventory::Signature;

/// Bytes at the beginning that nearly every format puts its mark into: a page, and a superblock behind it. No more than
/// that is read at once, because a capture keeps it, and behind it come people's data.
const HEAD_BYTES: usize = 4096 + 256;

/// What a device of `size` bytes holds. Several answers are possible: what an older use left behind is still there.
pub(crate) fn signatures(size: u64, read: &mut Read<'_>) -> Vec<Signature> {
    let mut found = Vec::new();
    // Zeros behind a device's end are no marks.
    let head = read(0, HEAD_BYTES).unwrap_or_default();
    found.extend(members::luks(&head));
    found.extend(members::lvm(&head, read));
    found.extend(members::md(size, &head, read));
    found.extend(members::bcache(&head));
    found.extend(members::bluestore(&head));
    found.extend(members::zfs(read));
    found.extend(members::vmfs(read));
    found.extend(members::firmware_raid(size, read));
    found.extend(filesystems::swap(&head, read));
    found.extend(filesystems::ext(&head));
    found.extend(filesystems::xfs(&head));
    found.extend(filesystems::btrfs(read));
    found.extend(filesystems::fat(&head, read));
    found.extend(filesystems::exfat(&head, read));
    found.extend(filesystems::ntfs(&head, read));
    found.extend(filesystems::squashfs(&head));
    found.extend(filesystems::f2fs_or_erofs(&head));
    found.extend(filesystems::iso9660(read));
    found
}

pub(crate) mod filesystems;
pub(crate) mod mark;
pub(crate) mod members;
#[cfg(test)]
mod tests;
