//! Reads the partition table of the stick, from either copy, and finds the data partition in it.

use std::io;

use super::header::{self, GptEntry, Header};
use crate::formats::ReadAt;
use crate::model::cause;
use crate::model::layout::DATA_NAME;

/// Microsoft basic data, EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, as it stands on disk.
pub const BASIC_DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];

/// Attribute of a data partition whose volume is still being made: a bit the type "basic data" leaves unused. Whatever
/// such a partition holds may be formatted; nothing was ever acknowledged on it.
pub(super) const UNFINISHED: u64 = 1 << 56;

/// Sector sizes a table is looked for with.
pub const SECTOR_SIZES: [u64; 2] = [512, 4096];
/// Largest entry array read. The standard asks for 16 KiB; xorriso fills up to 32 KiB.
const MAX_ENTRIES_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("no GUID partition table ({0})")]
    None(String),
    #[error("reading the partition table")]
    Io(#[source] io::Error),
}

/// Where the data partition lies, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub number: u32,
    pub offset: u64,
    pub length: u64,
    pub sector_size: u64,
    /// False while its volume is being made.
    pub finished: bool,
}

/// A table whose header and entries have the right checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub sector_size: u64,
    /// Sector this header was read from: 1, or the last one.
    pub lba: u64,
    pub alternate_lba: u64,
    pub first_usable_lba: u64,
    pub(super) entries_lba: u64,
    pub(super) entry_size: usize,
    pub(super) header: Vec<u8>,
    pub(super) entries: Vec<u8>,
}

impl Table {
    /// Reads the table of a disk of `disk_bytes`: the one at its start, else the backup at its very end.
    ///
    /// # Errors
    /// `None` only where both places were read and hold no table.
    pub fn read(disk: &impl ReadAt, disk_bytes: u64) -> Result<Self, GptError> {
        let mut reasons = Vec::new();
        for sector_size in SECTOR_SIZES {
            match Table::read_at(disk, disk_bytes, sector_size, 1) {
                Ok(table) => return Ok(table),
                Err(GptError::None(reason)) => reasons.push(format!("{sector_size}-byte sectors: {reason}")),
                Err(error) => return Err(error),
            }
        }
        match Table::read_backup(disk, disk_bytes) {
            Ok(table) => Ok(table),
            Err(GptError::None(_)) => Err(GptError::None(reasons.join("; "))),
            // It may be there, with a data partition in it: that nobody can tell is not that there is none.
            Err(GptError::Io(error)) => {
                reasons.push(format!("the copy at the end of the disk: {}", cause::told(&error)));
                Err(GptError::Io(io::Error::new(error.kind(), reasons.join("; "))))
            }
        }
    }

    /// Reads the backup table in the last sector.
    pub fn read_backup(disk: &impl ReadAt, disk_bytes: u64) -> Result<Self, GptError> {
        let mut last = GptError::None("the disk is too small".into());
        for sector_size in SECTOR_SIZES {
            let Some(lba) = (disk_bytes / sector_size).checked_sub(1).filter(|lba| *lba > 1) else {
                continue;
            };
            match Table::read_at(disk, disk_bytes, sector_size, lba) {
                Ok(table) => return Ok(table),
                // That it cannot be read says more than that there is none.
                Err(error) if !matches!(last, GptError::Io(_)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    pub(super) fn read_at(disk: &impl ReadAt, disk_bytes: u64, sector_size: u64, lba: u64) -> Result<Self, GptError> {
        let none = |text: &str| GptError::None(text.to_owned());
        if lba >= disk_bytes / sector_size {
            return Err(none("the disk is too small"));
        }
        let mut sector = vec![0u8; usize::try_from(sector_size).unwrap_or(512)];
        disk.read_exact_at(&mut sector, lba * sector_size)
            .map_err(GptError::Io)?;
        let header = Header::parse(&sector).ok_or_else(|| none("no header"))?;
        if !(header::MIN_HEADER_BYTES..=sector.len()).contains(&header.length) {
            return Err(none("the header has an impossible size"));
        }
        if !header.checksum_is_right {
            return Err(none("the header has a wrong checksum"));
        }
        let length = header
            .array_bytes()
            .filter(|length| header.entry_bytes % 8 == 0 && (1..=MAX_ENTRIES_BYTES).contains(length))
            .ok_or_else(|| none("the entries have an impossible size"))?;
        let begin = header.entries_lba.saturating_mul(sector_size);
        let is_inside = begin.saturating_add(length as u64) <= disk_bytes;
        if header.own_lba != lba || header.entries_lba < 2 || !is_inside {
            return Err(none("the header points outside the disk"));
        }
        let mut entries = vec![0u8; length];
        disk.read_exact_at(&mut entries, begin).map_err(GptError::Io)?;
        if header::crc(&entries) != header.entries_crc {
            return Err(none("the entries have a wrong checksum"));
        }
        sector.truncate(header.length);
        Ok(Table {
            sector_size,
            lba,
            alternate_lba: header.alternate_lba,
            first_usable_lba: header.first_usable_lba,
            entries_lba: header.entries_lba,
            entry_size: header.entry_bytes,
            header: sector,
            entries,
        })
    }

    /// True when the copy at the start of the disk was broken and this is the backup.
    pub fn is_backup(&self) -> bool {
        self.lba != 1
    }

    /// The used entries.
    pub fn partitions(&self) -> impl Iterator<Item = GptEntry> + '_ {
        header::used(&self.entries, self.entry_size)
    }

    /// The data partition: type and name have to be ours, and it has to lie on the disk.
    pub fn data(&self, disk_bytes: u64) -> Option<Place> {
        let partition = self.partitions().find(is_data)?;
        let offset = partition.first_lba.checked_mul(self.sector_size)?;
        let length = partition
            .last_lba
            .checked_add(1)?
            .checked_mul(self.sector_size)?
            .checked_sub(offset)?;
        let inside = length > 0 && offset.checked_add(length)? <= disk_bytes;
        inside.then_some(Place {
            number: partition.number,
            offset,
            length,
            sector_size: self.sector_size,
            finished: partition.attributes & UNFINISHED == 0,
        })
    }

    pub(super) fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector_size)
    }
}

/// Finds the data partition of a disk or a whole-disk image.
pub fn find_data(disk: &impl ReadAt, disk_bytes: u64) -> Result<Option<Place>, GptError> {
    Ok(Table::read(disk, disk_bytes)?.data(disk_bytes))
}

/// Where a table of an earlier image had the data partition: writing a new image onto a stick replaces the table at its
/// start, but not the backup at its end, nor what lies behind the image.
///
/// # Errors
/// Where it could not be read: nobody knows then whether there is one, and nothing may be put in its place.
pub fn find_former_data(disk: &impl ReadAt, disk_bytes: u64) -> Result<Option<Place>, GptError> {
    match Table::read_backup(disk, disk_bytes) {
        Ok(table) => Ok(table.data(disk_bytes)),
        Err(GptError::None(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether type and name are ours, and it does not lie over the table.
pub(super) fn is_data(partition: &GptEntry) -> bool {
    partition.type_guid == BASIC_DATA && partition.name == DATA_NAME && partition.first_lba > 1
}
