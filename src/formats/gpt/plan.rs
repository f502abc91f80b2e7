//! Plans how the partition table of the stick changes: the data partition added, its mark taken away, the first copy
//! written anew. Also finds the image on a medium as it was before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::header::{crc, crc_of_header};
use super::read::{BASIC_DATA, GptError, Place, Table, UNFINISHED, is_data};
use crate::formats::bytes::{le64, take};
use crate::formats::{ReadAt, iso9660};
use crate::model::layout::DATA_NAME;

/// Smallest data partition worth making.
pub const MIN_DATA_BYTES: u64 = 64 << 20;

const MIB: u64 = 1 << 20;

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
        le64(&backup.header, 48)?,
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

impl Table {
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
    pub(super) fn writes(&self, sectors: u64, primary_entries_lba: u64, entries: &[u8]) -> Vec<Write> {
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
/// of as well. With `former`, the partition gets exactly that place, and counts as finished, if it lies in the free
/// space. Sector 0 is never written, so that a hybrid MBR stays as it is; every entry of the table stays as it is.
pub fn plan(
    table: &Table,
    disk_bytes: u64,
    image_bytes: u64,
    former: Option<Place>,
    unique_guid: [u8; 16],
) -> Result<Plan, PlanError> {
    if table.is_backup() {
        return Err(PlanError::Damaged("its first copy does not read".to_owned()));
    }
    if table.data(disk_bytes).is_some() {
        return Err(PlanError::Exists);
    }
    let size = table.sector_size;
    let sectors = disk_bytes / size;
    let end = end_of_used(table, sectors, image_bytes)?;
    // Behind the partition: the backup entries and the backup header.
    let usable_end = sectors.saturating_sub(1 + table.entry_sectors());
    let per_mib = MIB / size;
    let first = end.div_ceil(per_mib) * per_mib;
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
    let adopted = former.filter(|place| {
        place.finished
            && place.offset % size == 0
            && place.length % size == 0
            && place.offset / size >= end
            && (place.offset.saturating_add(place.length)) / size <= usable_end
    });
    let place = adopted.unwrap_or(Place {
        number: 0,
        offset: first * size,
        length: (behind - first) * size,
        sector_size: size,
        finished: false,
    });
    let mut entries = table.entries.clone();
    let (entry, number) = entries
        .chunks_exact_mut(table.entry_size)
        .zip(1u32..)
        .find(|(entry, _)| take(entry, 0) == Some([0; 16]))
        .ok_or(PlanError::NoFreeEntry)?;
    let data = Place {
        number,
        sector_size: size,
        ..place
    };
    fill(entry, &data, unique_guid);
    Ok(Plan {
        data,
        writes: table.writes(sectors, table.entries_lba, &entries),
    })
}

/// The first sector behind the image, every partition and the table itself.
fn end_of_used(table: &Table, sectors: u64, image_bytes: u64) -> Result<u64, PlanError> {
    let damaged = |text: &str| Err(PlanError::Damaged(text.to_owned()));
    let mut used: Vec<(u64, u64)> = table.partitions().map(|p| (p.first_lba, p.last_lba)).collect();
    used.sort_unstable();
    if used.iter().any(|(first, last)| first > last || *last >= sectors) {
        return damaged("a partition ends outside the medium");
    }
    if used.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return damaged("partitions overlap");
    }
    let behind_image = image_bytes.div_ceil(table.sector_size);
    let mut end = behind_image.max(table.entries_lba + table.entry_sectors());
    if let Some((_, last)) = used.last() {
        end = end.max(last + 1);
    }
    // The image's own backup header is part of the image; a backup at the end of the medium moves with it.
    if table.alternate_lba < sectors.saturating_sub(1) {
        end = end.max(table.alternate_lba + 1);
    }
    Ok(end)
}

/// Writes the entry of the data partition.
fn fill(entry: &mut [u8], data: &Place, unique_guid: [u8; 16]) {
    let (first, behind) = (
        data.offset / data.sector_size,
        (data.offset + data.length) / data.sector_size,
    );
    let attributes = if data.finished { 0 } else { UNFINISHED };
    entry.fill(0);
    entry[..16].copy_from_slice(&BASIC_DATA);
    entry[16..32].copy_from_slice(&unique_guid);
    entry[32..40].copy_from_slice(&first.to_le_bytes());
    entry[40..48].copy_from_slice(&(behind - 1).to_le_bytes());
    entry[48..56].copy_from_slice(&attributes.to_le_bytes());
    for (unit, field) in DATA_NAME.encode_utf16().zip(entry[56..128].chunks_exact_mut(2)) {
        field.copy_from_slice(&unit.to_le_bytes());
    }
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

/// Plans how to take the mark of an unfinished volume away, once the volume is on the medium. `None` if there is no mark.
pub fn finish(table: &Table, disk_bytes: u64) -> Option<Plan> {
    let data = table
        .data(disk_bytes)
        .filter(|data| !data.finished && !table.is_backup())?;
    let mut entries = table.entries.clone();
    let index = usize::try_from(data.number).ok()?.checked_sub(1)?;
    let entry = entries.chunks_exact_mut(table.entry_size).nth(index)?;
    let attributes = le64(entry, 48)? & !UNFINISHED;
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
