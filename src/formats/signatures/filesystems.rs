//! File systems and swap space. Each function names where the layout is written down.

use super::mark;
use crate::formats::bytes::{be16, is, le16, le32, le64, power16, text, text16, uuid};
use crate::formats::exfat::boot_sector::{self, BootSector};
use crate::formats::iso9660::Primary;
use crate::formats::partitions::Read;
use crate::formats::text::clean;
use crate::model::inventory::{Signature, SignatureUse};

fn filesystem(kind: &str, uuid: Option<String>, label: Option<String>) -> Signature {
    Signature {
        kind: kind.to_owned(),
        uuid,
        label,
        ..Signature::default()
    }
}

/// The number of a FAT or exFAT volume, as it is written.
fn serial(id: u32) -> String {
    format!("{:04X}-{:04X}", id >> 16, id & 0xffff)
}

/// The first entry of a FAT or exFAT folder that is as `wanted` says; a zero in front ends the folder.
fn folder_entry(folder: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
    let mut used = folder.chunks_exact(32).take_while(|entry| entry[0] != 0);
    used.find(|entry| wanted(entry))
}

/// ext2, 3 and 4, told apart by what they use (kernel documentation, ext4 superblock, at 1 KiB).
pub(crate) fn ext(head: &[u8]) -> Option<Signature> {
    let block = mark::EXT.block(head, 1024)?;
    let (compatible, incompatible, read_only) = (le32(block, 0x5c)?, le32(block, 0x60)?, le32(block, 0x64)?);
    // Extents, 64 bit, flexible groups; huge files, group checksums, many folders, large inodes, checksums.
    const EXT4: u32 = 0x40 | 0x80 | 0x200;
    const EXT4_READ_ONLY: u32 = 0x8 | 0x10 | 0x20 | 0x40 | 0x400;
    let kind = if incompatible & 0x8 != 0 {
        "ext_journal"
    } else if incompatible & EXT4 != 0 || read_only & EXT4_READ_ONLY != 0 {
        "ext4"
    } else if compatible & 0x4 != 0 {
        "ext3"
    } else {
        "ext2"
    };
    Some(filesystem(kind, uuid(block, 0x68), text(block, 0x78, 16)))
}

/// XFS (XFS Algorithms & Data Structures, superblock).
pub(crate) fn xfs(head: &[u8]) -> Option<Signature> {
    let block = mark::XFS.block(head, 0)?;
    let mut found = filesystem("xfs", uuid(block, 32), text(block, 108, 12));
    found.version = be16(block, 100).map(|version| (version & 0xf).to_string());
    Some(found)
}

/// btrfs (its on-disk format, superblock at 64 KiB).
pub(crate) fn btrfs(read: &mut Read<'_>) -> Option<Signature> {
    let block = read(mark::BTRFS_SUPERBLOCK_OFFSET, 1024)?;
    if !is(&block, 0x40, mark::BTRFS.bytes) {
        return None;
    }
    let mut found = filesystem("btrfs", uuid(&block, 0x20), text(&block, 0x12b, 256));
    found.detail = le64(&block, 0x88)
        .filter(|devices| *devices > 1)
        .map(|devices| format!("on {devices} devices"));
    Some(found)
}

/// FAT (Microsoft, FAT: General Overview of On-Disk Format). The label that counts is in the root folder; the boot
/// sector holds the one it was made with.
pub(crate) fn fat(head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    let plausible = matches!(head.first()?, 0xeb | 0xe9)
        && is(head, 510, &[0x55, 0xaa])
        && !mark::NTFS.stands_in(head)
        && !mark::EXFAT.stands_in(head);
    let sector = power16(head, 11).filter(|size| (512..=4096).contains(size))?;
    let cluster = u64::from(*head.get(13)?);
    let (reserved, copies) = (u64::from(le16(head, 14)?), u64::from(*head.get(16)?));
    let media = *head.get(21)?;
    if !plausible || !cluster.is_power_of_two() || reserved == 0 || !(1..=2).contains(&copies) || media < 0xf0 {
        return None;
    }
    let short = |at| le16(head, at).map(u64::from);
    let wide = |at| le32(head, at).map(u64::from);
    let root_entries = short(17)?;
    let total = short(19).filter(|n| *n != 0).or_else(|| wide(32))?;
    let fat_sectors = short(22).filter(|n| *n != 0).or_else(|| wide(36))?;
    let is_fat32 = short(22)? == 0;
    let root_sectors = (root_entries * 32).div_ceil(sector);
    let data = reserved + copies * fat_sectors + root_sectors;
    let clusters = total.checked_sub(data)? / cluster;
    let version = match clusters {
        _ if is_fat32 => "FAT32",
        0..4085 => "FAT12",
        _ => "FAT16",
    };
    let (number, label, root) = if is_fat32 {
        let root = wide(44)?.checked_sub(2)?;
        (67, 71, data + root * cluster)
    } else {
        (39, 43, reserved + copies * fat_sectors)
    };
    let number = le32(head, number).filter(|id| *id != 0).map(serial);
    let folder = root.checked_mul(sector).and_then(|place| read(place, 2048));
    let in_root = folder.as_deref().and_then(fat_label);
    let label = in_root.or_else(|| text(head, label, 11).filter(|label| label != "NO NAME"));
    let mut found = filesystem("vfat", number, label);
    found.version = Some(version.to_owned());
    Some(found)
}

/// The entry of a FAT folder that is the volume's label, if there is one.
fn fat_label(folder: &[u8]) -> Option<String> {
    // Deleted entries begin with E5h; long names have all four lower attributes set.
    let is_label = |entry: &[u8]| entry[0] != 0xe5 && entry[11] & 0x0f != 0x0f && entry[11] & 0x08 != 0;
    folder_entry(folder, is_label).and_then(|entry| text(entry, 0, 11))
}

/// exFAT (Microsoft's specification, 3.1 and 7.3). The label is an entry of the root folder.
pub(crate) fn exfat(head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    let boot = BootSector::parse(head).ok()?;
    let root = u64::from(boot.root_cluster.checked_sub(2)?) << (boot.sector_shift + boot.cluster_shift);
    let folder = read(boot.bytes(boot.heap_offset).checked_add(root)?, 2048).unwrap_or_default();
    let label = folder_entry(&folder, |entry| entry[0] == boot_sector::LABEL_ENTRY);
    let label = label.and_then(|entry| clean(&boot_sector::label(entry)));
    Some(filesystem("exfat", Some(serial(boot.serial)), label))
}

/// NTFS (linux-ntfs documentation). The label is attribute 60h of the fourth record of the master file table.
pub(crate) fn ntfs(head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    if mark::REFS.stands_in(head) {
        return Some(filesystem("refs", None, None));
    }
    let head = mark::NTFS.block(head, 0)?;
    let number = le64(head, 72).map(|id| format!("{id:016X}"));
    Some(filesystem("ntfs", number, ntfs_label(head, read)))
}

fn ntfs_label(head: &[u8], read: &mut Read<'_>) -> Option<String> {
    let sector = power16(head, 11)?;
    // Large clusters and small records are told as negative powers of two.
    let cluster = match *head.get(13)? {
        count @ 1..=128 => u64::from(count),
        power => 1u64.checked_shl(256 - u32::from(power)).filter(|n| *n != 0)?,
    }
    .checked_mul(sector)?;
    let record = match *head.get(64)? as i8 {
        count @ 1.. => cluster.checked_mul(u64::from(count.unsigned_abs()))?,
        power => 1u64.checked_shl(u32::from(power.unsigned_abs()))?,
    };
    if !(256..=65536).contains(&record) {
        return None;
    }
    let place = le64(head, 48)?.checked_mul(cluster)?.checked_add(record * 3)?;
    let bytes = read(place, usize::try_from(record.min(4096)).ok()?)?;
    if !is(&bytes, 0, b"FILE") {
        return None;
    }
    let mut at = usize::from(le16(&bytes, 20)?);
    for _ in 0..64 {
        let attribute = bytes.get(at..)?;
        let (kind, length) = (le32(attribute, 0)?, usize::try_from(le32(attribute, 4)?).ok()?);
        if kind == 0x60 {
            let size = usize::try_from(le32(attribute, 16)?).ok()?.min(256);
            return text16(attribute, usize::from(le16(attribute, 20)?), size);
        }
        if kind == u32::MAX || length == 0 {
            return None;
        }
        at = at.checked_add(length)?;
    }
    None
}

/// Linux swap: ten bytes at the end of the first page, whose size is the machine's that made it (linux/swap.h).
pub(crate) fn swap(head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    let mark = |page: usize, bytes: &[u8]| -> Option<(&'static str, usize)> {
        [
            (mark::SWAP.bytes, "swap"),
            (b"SWAP-SPACE", "swap"),
            (b"S1SUSPEND\0", "swap_suspended"),
            (b"S2SUSPEND\0", "swap_suspended"),
        ]
        .into_iter()
        .find(|(mark, _)| bytes == *mark)
        .map(|(_, kind)| (kind, page))
    };
    let in_head = |page: usize| mark(page, head.get(page - 10..page)?);
    let (kind, page) = in_head(4096).or_else(|| {
        [8 * 1024usize, 16 * 1024, 64 * 1024]
            .into_iter()
            .find_map(|page| mark(page, &read(page as u64 - 10, 10)?))
    })?;
    let mut found = filesystem(kind, uuid(head, 1024 + 12), text(head, 1024 + 28, 16));
    found.used_as = SignatureUse::Swap;
    found.version = le32(head, 1024)
        .filter(|version| (1..=2).contains(version))
        .map(|n| n.to_string());
    found.detail = (page != 4096).then(|| format!("pages of {} KiB", page / 1024));
    Some(found)
}

/// SquashFS: no name and no id (its format documentation, superblock).
pub(crate) fn squashfs(head: &[u8]) -> Option<Signature> {
    let head = mark::SQUASHFS.block(head, 0)?;
    let mut found = filesystem("squashfs", None, None);
    found.version = Some(format!("{}.{}", le16(head, 28)?, le16(head, 30)?));
    Some(found)
}

/// F2FS and EROFS, both at 1 KiB (linux/f2fs_fs.h, fs/erofs/erofs_fs.h).
pub(crate) fn f2fs_or_erofs(head: &[u8]) -> Option<Signature> {
    if let Some(block) = mark::F2FS.block(head, 1024) {
        return Some(filesystem("f2fs", uuid(block, 108), text16(block, 124, 1024)));
    }
    let block = mark::EROFS.block(head, 1024)?;
    Some(filesystem("erofs", uuid(block, 48), text(block, 64, 16)))
}

/// ISO 9660. Its id is when it was made or changed.
pub(crate) fn iso9660(read: &mut Read<'_>) -> Option<Signature> {
    let block = read(Primary::OFFSET, Primary::BYTES)?;
    let primary = Primary::parse(&block)?;
    let made = primary.changed().or_else(|| primary.created());
    let found = filesystem("iso9660", made, text(primary.volume_id()?, 0, 32));
    // The block size has one value in practice; anything else is chance.
    (be16(&block, 130) == Some(2048)).then_some(found)
}
