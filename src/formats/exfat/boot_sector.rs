//! The boot sector of an exFAT volume (specification, 3.1), and the one entry that names the volume (7.3).

use crate::formats::bytes::{le16, le32, le64, utf16, utf16_units};
use crate::formats::signatures::mark;

/// Type of the directory entry that is the volume's label.
pub(crate) const LABEL_ENTRY: u8 = 0x83;

/// What the boot sector says; only that the shifts are possible is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootSector {
    /// Binary logarithms: bytes of a sector, and sectors of a cluster.
    pub sector_shift: u32,
    pub cluster_shift: u32,
    pub volume_sectors: u64,
    /// In sectors.
    pub fat_offset: u32,
    pub fat_length: u32,
    pub fat_count: u8,
    pub heap_offset: u32,
    pub cluster_count: u32,
    pub root_cluster: u32,
    pub serial: u32,
    flags: u16,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoBootSector {
    NotExFat,
    ImpossibleCluster,
}

impl BootSector {
    pub(crate) fn parse(sector: &[u8]) -> Result<Self, NoBootSector> {
        if !mark::EXFAT.stands_in(sector) {
            return Err(NoBootSector::NotExFat);
        }
        let boot = Self::fields(sector).ok_or(NoBootSector::NotExFat)?;
        if !(9..=12).contains(&boot.sector_shift) || boot.cluster_shift > 25 - boot.sector_shift {
            return Err(NoBootSector::ImpossibleCluster);
        }
        Ok(boot)
    }

    fn fields(sector: &[u8]) -> Option<Self> {
        Some(BootSector {
            volume_sectors: le64(sector, 72)?,
            fat_offset: le32(sector, 80)?,
            fat_length: le32(sector, 84)?,
            heap_offset: le32(sector, 88)?,
            cluster_count: le32(sector, 92)?,
            root_cluster: le32(sector, 96)?,
            serial: le32(sector, 100)?,
            flags: le16(sector, 106)?,
            sector_shift: u32::from(*sector.get(108)?),
            cluster_shift: u32::from(*sector.get(109)?),
            fat_count: *sector.get(110)?,
        })
    }

    /// The second FAT is in use; only volumes of TexFAT have one.
    pub(crate) fn is_second_fat_active(&self) -> bool {
        self.fat_count == 2 && self.flags & 1 != 0
    }

    /// The volume was not unmounted.
    pub(crate) fn is_dirty(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Where a number of sectors ends, in bytes.
    pub(crate) fn bytes(&self, sectors: u32) -> u64 {
        u64::from(sectors) << self.sector_shift
    }
}

/// The label in an entry of type [`LABEL_ENTRY`], as it stands there.
pub(crate) fn label(entry: &[u8]) -> String {
    let units = usize::from(entry.get(1).copied().unwrap_or(0)).min(11);
    utf16(utf16_units(entry.get(2..).unwrap_or_default()).take(units))
}
