//! The bytes by which formats on disks are known, and where they stand. Each place is from the format's own description,
//! which is named where the rest of it is read.

use crate::formats::bytes::is;

/// Bytes at an offset from the beginning of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub offset: u64,
    pub bytes: &'static [u8],
}

const fn mark(offset: u64, bytes: &'static [u8]) -> Mark {
    Mark { offset, bytes }
}

impl Mark {
    /// Whether it stands in these first bytes of a volume.
    pub(crate) fn stands_in(&self, head: &[u8]) -> bool {
        usize::try_from(self.offset).is_ok_and(|at| is(head, at, self.bytes))
    }

    /// What begins `at` bytes into these first bytes of a volume, where it stands in them.
    pub(super) fn block<'a>(&self, head: &'a [u8], at: usize) -> Option<&'a [u8]> {
        head.get(at..).filter(|_| self.stands_in(head))
    }
}

pub(crate) const NTFS: Mark = mark(3, b"NTFS    ");
pub(crate) const BITLOCKER: Mark = mark(3, b"-FVE-FS-");
pub(crate) const REFS: Mark = mark(3, b"ReFS\0\0\0\0");
pub(crate) const EXFAT: Mark = mark(3, b"EXFAT   ");
/// FAT12 and FAT16; only makers write it, and nothing reads it.
pub(crate) const FAT16: Mark = mark(54, b"FAT1");
pub(crate) const FAT32: Mark = mark(82, b"FAT32");
pub(crate) const EXT: Mark = mark(0x438, &[0x53, 0xef]);
pub(crate) const XFS: Mark = mark(0, b"XFSB");
pub(crate) const BTRFS: Mark = mark(BTRFS_SUPERBLOCK_OFFSET + 0x40, b"_BHRfS_M");
pub(crate) const BTRFS_SUPERBLOCK_OFFSET: u64 = 64 * 1024;
pub(crate) const LUKS: Mark = mark(0, b"LUKS\xba\xbe");
/// In any of the first four sectors; it is written into the second.
pub(crate) const LVM: Mark = mark(512, b"LABELONE");
/// Linux RAID, version 1.1 and 1.2.
pub(crate) const MD_FIRST: Mark = mark(0, MD);
pub(crate) const MD_SECOND: Mark = mark(4096, MD);
pub(crate) const MD: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
pub(crate) const SQUASHFS: Mark = mark(0, b"hsqs");
pub(crate) const ISO9660: Mark = mark(16 * 2048 + 1, b"CD001");
pub(crate) const HFS_PLUS: Mark = mark(1024, b"H+");
pub(crate) const HFSX: Mark = mark(1024, b"HX");
pub(crate) const APFS: Mark = mark(32, b"NXSB");
/// At the end of the first page, here one of 4 KiB.
pub(crate) const SWAP: Mark = mark(4096 - 10, b"SWAPSPACE2");
pub(crate) const F2FS: Mark = mark(1024, &[0x10, 0x20, 0xf5, 0xf2]);
pub(crate) const EROFS: Mark = mark(1024, &[0xe2, 0xe1, 0xf5, 0xe0]);
