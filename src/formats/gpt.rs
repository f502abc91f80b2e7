//! The partition table of the stick: finds the data partition, and plans how to add it.
//!
//! xorriso writes the table for the image, not for the stick: the backup header stands at the end of the image, the
//! entry array may lie anywhere below the first partition (sector 20 where there is an Apple map as well), it has 176 or
//! 248 entries, and the first partition may begin inside the area other tools reserve. So entries are kept as raw bytes
//! and only the fields that have to change are changed. The crate `gptman` was looked at: it takes an entry array
//! elsewhere for the backup's, refuses a partition in front of the usable sectors, and allocates whatever count a header
//! claims.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use flate2::Crc;

use super::{ReadAt, iso9660, le};
use crate::model::cause;
use crate::model::layout::DATA_NAME;

/// Microsoft basic data, EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, as it stands on disk.
pub const BASIC_DATA: [u8; 16] = [
    0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7,
];

/// Smallest data partition worth making.
pub const MIN_DATA_BYTES: u64 = 64 << 20;

/// Attribute of a data partition whose volume is still being made: a bit the type "basic data" leaves unused. Whatever
/// such a partition holds may be formatted; nothing was ever acknowledged on it.
const UNFINISHED: u64 = 1 << 56;

const MIB: u64 = 1 << 20;
/// Sector sizes a table is looked for with.
pub const SECTOR_SIZES: [u64; 2] = [512, 4096];
/// Largest entry array read. The standard asks for 16 KiB; xorriso fills up to 32 KiB.
const MAX_ENTRY_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("no GUID partition table ({0})")]
    None(String),
    #[error("reading the partition table")]
    Io(#[source] io::Error),
}

/// Why no data partition can be added. The texts are for the screen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is a data partition already")]
    Exists,
    #[error(
        "the medium has {} MiB, the image takes {} MiB of it, and {} MiB behind it are too little for a data partition \
         (at least {} MiB)",
        disk_bytes / MIB, image_bytes.div_ceil(MIB), free_bytes / MIB, needed_bytes / MIB
    )]
    TooSmall {
        disk_bytes: u64,
        image_bytes: u64,
        free_bytes: u64,
        needed_bytes: u64,
    },
    #[error("the partition table has no free entry")]
    NoFreeEntry,
    #[error("the partition table is damaged: {0}")]
    Damaged(String),
}

/// A used entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Counted from 1, as in device names.
    pub number: u32,
    pub type_guid: [u8; 16],
    pub unique_guid: [u8; 16],
    pub first_lba: u64,
    pub last_lba: u64,
    pub attributes: u64,
    pub name: String,
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
    entries_lba: u64,
    entry_size: usize,
    header: Vec<u8>,
    entries: Vec<u8>,
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

    fn read_at(disk: &impl ReadAt, disk_bytes: u64, sector_size: u64, lba: u64) -> Result<Self, GptError> {
        let none = |text: &str| Err(GptError::None(text.to_owned()));
        let sectors = disk_bytes / sector_size;
        if lba >= sectors {
            return none("the disk is too small");
        }
        let mut sector = vec![0u8; usize::try_from(sector_size).unwrap_or(512)];
        disk.read_exact_at(&mut sector, lba * sector_size)
            .map_err(GptError::Io)?;
        if !sector.starts_with(b"EFI PART") {
            return none("no header");
        }
        let header_size = usize::try_from(le::u32(&sector, 12)).unwrap_or(usize::MAX);
        if header_size < 92 || header_size > sector.len() {
            return none("the header has an impossible size");
        }
        let header = sector[..header_size].to_vec();
        if crc_of_header(&header) != le::u32(&header, 16) {
            return none("the header has a wrong checksum");
        }
        let entries_lba = le::u64(&header, 72);
        let count = u64::from(le::u32(&header, 80));
        let entry_size = u64::from(le::u32(&header, 84));
        let length = count.saturating_mul(entry_size);
        if !(128..=4096).contains(&entry_size) || entry_size % 8 != 0 || count == 0 || length > MAX_ENTRY_BYTES {
            return none("the entries have an impossible size");
        }
        let end = entries_lba.saturating_mul(sector_size).saturating_add(length);
        if le::u64(&header, 24) != lba || entries_lba < 2 || end > disk_bytes {
            return none("the header points outside the disk");
        }
        let mut entries = vec![0u8; usize::try_from(length).unwrap_or(0)];
        disk.read_exact_at(&mut entries, entries_lba * sector_size)
            .map_err(GptError::Io)?;
        if crc(&entries) != le::u32(&header, 88) {
            return none("the entries have a wrong checksum");
        }
        Ok(Table {
            sector_size,
            lba,
            alternate_lba: le::u64(&header, 32),
            first_usable_lba: le::u64(&header, 40),
            entries_lba,
            entry_size: usize::try_from(entry_size).unwrap_or(128),
            header,
            entries,
        })
    }

    /// True when the copy at the start of the disk was broken and this is the backup.
    pub fn is_backup(&self) -> bool {
        self.lba != 1
    }

    /// The used entries.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        self.entries
            .chunks_exact(self.entry_size)
            .zip(1u32..)
            .filter_map(|(entry, number)| {
                let type_guid = le::guid(entry, 0);
                if type_guid == [0; 16] {
                    return None;
                }
                let units = entry[56..128]
                    .chunks_exact(2)
                    .map(|pair| le::u16(pair, 0))
                    .take_while(|unit| *unit != 0);
                Some(Partition {
                    number,
                    type_guid,
                    unique_guid: le::guid(entry, 16),
                    first_lba: le::u64(entry, 32),
                    last_lba: le::u64(entry, 40),
                    attributes: le::u64(entry, 48),
                    name: char::decode_utf16(units)
                        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                        .collect(),
                })
            })
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

    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector_size)
    }

    /// This header with another place and other entries, filling a sector.
    fn header_at(&self, lba: u64, alternate: u64, entries_lba: u64, last_usable: u64, entries: &[u8]) -> Vec<u8> {
        let mut header = self.header.clone();
        header[24..32].copy_from_slice(&lba.to_le_bytes());
        header[32..40].copy_from_slice(&alternate.to_le_bytes());
        header[48..56].copy_from_slice(&last_usable.to_le_bytes());
        header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        header[88..92].copy_from_slice(&crc(entries).to_le_bytes());
        let sum = crc_of_header(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(usize::try_from(self.sector_size).unwrap_or(512), 0);
        header
    }

    /// Both copies of this table with new entries, laid out for a disk of `sectors`. The backup comes first: until the
    /// first copy is whole again, it is what a reader falls back to.
    fn writes(&self, sectors: u64, primary_entries_lba: u64, entries: &[u8]) -> Vec<Write> {
        let backup_lba = sectors - 1;
        let backup_entries_lba = backup_lba - self.entry_sectors();
        let last_usable = backup_entries_lba - 1;
        let header = |lba: u64, alternate: u64, entries_lba: u64| Write {
            offset: lba * self.sector_size,
            bytes: self.header_at(lba, alternate, entries_lba, last_usable, entries),
        };
        let array = |lba: u64| Write {
            offset: lba * self.sector_size,
            bytes: entries.to_vec(),
        };
        vec![
            array(backup_entries_lba),
            header(backup_lba, 1, backup_entries_lba),
            array(primary_entries_lba),
            header(1, backup_lba, primary_entries_lba),
        ]
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Checksum of a header, whose own field counts as zero.
fn crc_of_header(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    if let Some(field) = header.get_mut(16..20) {
        field.fill(0);
    }
    crc(&header)
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

/// Length of the ISO 9660 image at the start of the disk, as its volume descriptor has it; 0 without one.
///
/// # Errors
/// Where it could not be read: what is behind an image of unknown length is not free.
pub fn iso_bytes(disk: &impl ReadAt) -> io::Result<u64> {
    match iso9660::image_length(disk) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => Ok(0),
        other => other,
    }
}

/// The image as it was before the data partition was added to its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub bytes: u64,
    /// What to put over the bytes on the medium to get the image that was written to it.
    pub patches: Vec<Write>,
}

/// Finds the image on a medium: its length, and its own table. The image's backup table is still there, behind its last
/// partition, and has everything that `plan` changed at the start. `None` if there is no such backup, or if the table
/// was not made for an image but for the whole medium.
///
/// # Errors
/// Where the table could not be read.
pub fn find_image(disk: &impl ReadAt, disk_bytes: u64) -> io::Result<Option<Image>> {
    match Table::read(disk, disk_bytes) {
        Ok(table) => Ok(image_of(disk, disk_bytes, &table)),
        Err(GptError::None(_)) => Ok(None),
        Err(GptError::Io(error)) => Err(error),
    }
}

fn image_of(disk: &impl ReadAt, disk_bytes: u64, table: &Table) -> Option<Image> {
    let size = table.sector_size;
    let end = table
        .partitions()
        .filter(|p| p.name != DATA_NAME)
        .map(|p| p.last_lba)
        .max()?;
    // Right behind the last partition come the backup's entries and its header; xorriso rounds the end up a little.
    let first = end.checked_add(1 + table.entry_sectors())?;
    let last = first.checked_add(MIB / size)?.min((disk_bytes / size).checked_sub(1)?);
    let backup = (first..last).find_map(|lba| {
        Table::read_at(disk, disk_bytes, size, lba)
            .ok()
            .filter(|backup| backup.alternate_lba == 1)
    })?;
    let same = backup.header.len() == table.header.len() && backup.entries.len() == table.entries.len();
    if !same || backup.data(disk_bytes).is_some() {
        return None;
    }
    let header = backup.header_at(
        1,
        backup.lba,
        table.entries_lba,
        le::u64(&backup.header, 48),
        &backup.entries,
    );
    Some(Image {
        bytes: (backup.lba + 1) * size,
        patches: vec![
            Write {
                offset: table.entries_lba * size,
                bytes: backup.entries.clone(),
            },
            Write {
                offset: size,
                bytes: header,
            },
        ],
    })
}

/// Bytes to put at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// A checked edit of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The data partition once the edit is made.
    pub data: Place,
    /// In this order, each synced before the next.
    pub writes: Vec<Write>,
}

/// Plans the data partition: all of the space behind the image, in whole MiB. It is marked as unfinished until `finish`.
///
/// `image_bytes` is where the image ends (`iso_bytes`); the partitions and the image's own backup header are kept clear
/// of as well. With `former`, the partition gets exactly that
/// place, and counts as finished, if it lies in the free space. Sector 0 is never
/// written, so that a hybrid MBR stays as it is; every entry of the table stays as it is.
pub fn plan(
    table: &Table,
    disk_bytes: u64,
    image_bytes: u64,
    former: Option<Place>,
    unique_guid: [u8; 16],
) -> Result<Plan, PlanError> {
    let damaged = |text: &str| PlanError::Damaged(text.to_owned());
    if table.is_backup() {
        return Err(damaged("its first copy does not read"));
    }
    if table.data(disk_bytes).is_some() {
        return Err(PlanError::Exists);
    }
    let size = table.sector_size;
    let sectors = disk_bytes / size;
    let mut used: Vec<(u64, u64)> = table.partitions().map(|p| (p.first_lba, p.last_lba)).collect();
    used.sort_unstable();
    if used.iter().any(|(first, last)| first > last || *last >= sectors) {
        return Err(damaged("a partition ends outside the medium"));
    }
    if used.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return Err(damaged("partitions overlap"));
    }
    let mut end = image_bytes
        .div_ceil(size)
        .max(table.entries_lba + table.entry_sectors());
    if let Some((_, last)) = used.last() {
        end = end.max(last + 1);
    }
    // The image's own backup header is part of the image; a backup at the end of the medium moves with it.
    if table.alternate_lba < sectors.saturating_sub(1) {
        end = end.max(table.alternate_lba + 1);
    }

    let per_mib = MIB / size;
    let first = end.div_ceil(per_mib) * per_mib;
    // Behind the partition: the backup entries and the backup header.
    let usable_end = sectors.saturating_sub(1 + table.entry_sectors());
    let behind = usable_end / per_mib * per_mib;
    let free_bytes = behind.saturating_sub(first) * size;
    if free_bytes < MIN_DATA_BYTES {
        return Err(PlanError::TooSmall {
            disk_bytes,
            image_bytes: end * size,
            free_bytes,
            needed_bytes: MIN_DATA_BYTES,
        });
    }
    let (first, behind, adopted) = match former {
        Some(place)
            if place.finished
                && place.offset % size == 0
                && place.length % size == 0
                && place.offset / size >= end
                && (place.offset.saturating_add(place.length)) / size <= usable_end =>
        {
            (place.offset / size, (place.offset + place.length) / size, true)
        }
        _ => (first, behind, false),
    };

    let mut entries = table.entries.clone();
    let (entry, number) = entries
        .chunks_exact_mut(table.entry_size)
        .zip(1u32..)
        .find(|(entry, _)| le::guid(entry, 0) == [0; 16])
        .ok_or(PlanError::NoFreeEntry)?;
    entry.fill(0);
    entry[..16].copy_from_slice(&BASIC_DATA);
    entry[16..32].copy_from_slice(&unique_guid);
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&(behind - 1).to_le_bytes());
    let attributes = if adopted { 0 } else { UNFINISHED };
    entry[48..56].copy_from_slice(&attributes.to_le_bytes());
    for (unit, field) in DATA_NAME.encode_utf16().zip(entry[56..128].chunks_exact_mut(2)) {
        field.copy_from_slice(&unit.to_le_bytes());
    }
    let data = Place {
        number,
        offset: first * size,
        length: (behind - first) * size,
        sector_size: size,
        finished: adopted,
    };
    Ok(Plan {
        data,
        writes: table.writes(sectors, table.entries_lba, &entries),
    })
}

/// What to write so that the table fits a disk of `disk_bytes` and names no data partition: for a fresh copy of an image.
pub fn without_data(table: &Table, disk_bytes: u64) -> Vec<Write> {
    let mut entries = table.entries.clone();
    for partition in table.partitions().filter(is_data) {
        let start = (partition.number as usize - 1) * table.entry_size;
        entries[start..start + table.entry_size].fill(0);
    }
    table.writes(disk_bytes / table.sector_size, table.entries_lba, &entries)
}

fn is_data(partition: &Partition) -> bool {
    partition.type_guid == BASIC_DATA && partition.name == DATA_NAME && partition.first_lba > 1
}

/// Plans how to take the mark of an unfinished volume away, once the volume is on the medium. `None` if there is no mark.
pub fn finish(table: &Table, disk_bytes: u64) -> Option<Plan> {
    let data = table
        .data(disk_bytes)
        .filter(|data| !data.finished && !table.is_backup())?;
    let mut entries = table.entries.clone();
    let index = usize::try_from(data.number).ok()?.checked_sub(1)?;
    let entry = entries.chunks_exact_mut(table.entry_size).nth(index)?;
    let attributes = le::u64(entry, 48) & !UNFINISHED;
    entry[48..56].copy_from_slice(&attributes.to_le_bytes());
    let writes = table.writes(disk_bytes / table.sector_size, table.entries_lba, &entries);
    Some(Plan {
        data: Place { finished: true, ..data },
        writes,
    })
}

/// Plans how to write the first copy anew from the backup, after a power cut in the middle of an edit. `None` where
/// there is nothing to repair, or no room for the entries below the first partition.
pub fn repair(table: &Table, disk_bytes: u64) -> Option<Plan> {
    let data = table.data(disk_bytes)?;
    let room = 2 + table.entry_sectors();
    let first = table.partitions().map(|p| p.first_lba).filter(|lba| *lba > 0).min()?;
    if !table.is_backup() || first < room || table.first_usable_lba < room {
        return None;
    }
    let mut writes = table.writes(disk_bytes / table.sector_size, 2, &table.entries);
    // The backup is whole; it must not be touched before the first copy is.
    writes.drain(..2);
    Some(Plan { data, writes })
}

impl Plan {
    /// Makes the edit on a device or image file, syncing after each write.
    pub fn apply(&self, disk: &File) -> io::Result<()> {
        for write in &self.writes {
            disk.write_all_at(&write.bytes, write.offset)?;
            disk.sync_all()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
