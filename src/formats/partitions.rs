//! Partition tables: GPT (UEFI 2.10, 5.3) and MBR with its chain of logical partitions (UEFI 2.10, 5.2). Pure: bytes
//! come from `read`, which gives what there is at an offset, at most the length asked for.

use super::bytes::{guid, hex, is, le16, le32, take};
use super::gpt::header::{self as gpt, GptEntry, Header, crc};
use super::partition_types;
use super::signatures::mark;
use super::text::clean;
use crate::model::inventory::{Partition, PartitionTable};

/// Gives bytes of the device at an offset, or nothing where they cannot be read.
pub(crate) type Read<'a> = dyn FnMut(u64, usize) -> Option<Vec<u8>> + 'a;

/// Logical partitions followed in an extended one, as many as the kernel takes. What is behind them is not looked at.
const MAX_LOGICAL: u32 = 256;
/// Real tables have 128 entries of 128 bytes. A longer one counts as damaged.
const MAX_TABLE_BYTES: usize = 256 * 1024;

/// A table and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitioning {
    pub table: PartitionTable,
    pub partitions: Vec<Partition>,
}

/// Reads the table of a disk of `size` bytes. `sector` is its logical sector size.
pub(crate) fn table(size: u64, sector: u32, read: &mut Read<'_>) -> Option<Partitioning> {
    let sector = if matches!(sector, 512 | 1024 | 2048 | 4096) {
        u64::from(sector)
    } else {
        512
    };
    let first = read(0, 512)?;
    let records = mbr_records(&first);
    // A disk may carry a GPT without the protective record, though it should not.
    let primary = gpt_header(1, sector, read);
    let backup = (size / sector)
        .checked_sub(1)
        .filter(|last| primary.is_some() || (*last > 1 && has_protective(&records)))
        .and_then(|last| gpt_header(last, sector, read));
    if primary.is_some() || backup.is_some() {
        return from_gpt(primary, backup, sector, read);
    }
    mbr(&first, records.filter(|_| !looks_like_volume(&first))?, sector, read)
}

/// The header in a sector, and whether it is right.
fn gpt_header(lba: u64, sector: u64, read: &mut Read<'_>) -> Option<(Header, bool)> {
    let header = Header::parse(&read(lba.checked_mul(sector)?, 512)?)?;
    let valid = header.checksum_is_right && header.own_lba == lba;
    Some((header, valid))
}

/// The entries of one copy, and whether their checksum is right.
fn gpt_entries(header: &Header, sector: u64, read: &mut Read<'_>) -> Option<(Vec<u8>, bool)> {
    let whole = header.array_bytes()?;
    let bytes = read(header.entries_lba.checked_mul(sector)?, whole.min(MAX_TABLE_BYTES))?;
    let valid = bytes.len() == whole && crc(&bytes) == header.entries_crc;
    Some((bytes, valid))
}

fn from_gpt(
    primary: Option<(Header, bool)>,
    backup: Option<(Header, bool)>,
    sector: u64,
    read: &mut Read<'_>,
) -> Option<Partitioning> {
    let mut whole = |header: &Option<(Header, bool)>| {
        let (header, _) = header.as_ref().filter(|(_, valid)| *valid)?;
        gpt_entries(header, sector, read).filter(|(_, valid)| *valid)
    };
    let (first, second) = (whole(&primary), whole(&backup));
    let (valid, backup_valid) = (first.is_some(), second.is_some());
    // The copy that is whole; with none, what the first says, marked as damaged.
    let (header, entries) = match (first, second, primary, backup) {
        (Some((entries, _)), _, Some((header, _)), _) | (None, Some((entries, _)), _, Some((header, _))) => {
            (header, entries)
        }
        (_, _, Some((header, _)), _) | (_, _, None, Some((header, _))) => {
            let entries = gpt_entries(&header, sector, read).map(|(entries, _)| entries);
            (header, entries.unwrap_or_default())
        }
        (_, _, None, None) => return None,
    };
    let entries = gpt::used(&entries, header.entry_bytes);
    let partitions = entries.filter_map(|entry| gpt_partition(entry, sector)).collect();
    Some(Partitioning {
        table: PartitionTable {
            kind: "gpt".to_owned(),
            id: guid(&header.disk_guid, 0),
            valid: Some(valid),
            backup_valid: Some(backup_valid),
        },
        partitions,
    })
}

fn gpt_partition(entry: GptEntry, sector: u64) -> Option<Partition> {
    let type_id = guid(&entry.type_guid, 0)?;
    let sectors = entry.last_lba.checked_sub(entry.first_lba)?.checked_add(1)?;
    let flags = [
        (0, "required"),
        (1, "no block io"),
        (2, "legacy boot"),
        (59, "growfs"),
        (60, "read-only"),
        (62, "hidden"),
        (63, "no auto"),
    ];
    Some(Partition {
        number: entry.number,
        start_bytes: entry.first_lba.checked_mul(sector)?,
        size_bytes: sectors.checked_mul(sector)?,
        type_name: partition_types::gpt(&type_id).map(str::to_owned),
        type_id: Some(type_id),
        guid: guid(&entry.unique_guid, 0),
        label: clean(&entry.name),
        flags: flags
            .iter()
            .filter(|(bit, _)| entry.attributes & (1 << bit) != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect(),
        ..Partition::default()
    })
}

/// One of the four records of a table.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    active: bool,
    kind: u8,
    start: u32,
    sectors: u32,
}

impl Record {
    fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }
}

/// The four records, if the sector looks like a table and not like the first sector of a file system.
fn mbr_records(sector: &[u8]) -> Option<[Record; 4]> {
    if !is(sector, 510, &[0x55, 0xaa]) {
        return None;
    }
    let mut records = [Record::default(); 4];
    for (index, record) in records.iter_mut().enumerate() {
        let raw: [u8; 16] = take(sector, 446 + index * 16)?;
        if raw[0] & 0x7f != 0 {
            return None;
        }
        *record = Record {
            active: raw[0] == 0x80,
            kind: raw[4],
            start: le32(&raw, 8)?,
            sectors: le32(&raw, 12)?,
        };
    }
    records.iter().any(Record::is_used).then_some(records)
}

fn has_protective(records: &Option<[Record; 4]>) -> bool {
    records.is_some_and(|records| records.iter().any(|record| record.kind == 0xee))
}

fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

fn mbr(first: &[u8], records: [Record; 4], sector: u64, read: &mut Read<'_>) -> Option<Partitioning> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for (number, record) in (1..).zip(records) {
        if record.is_used() {
            partitions.push(mbr_partition(number, record, u64::from(record.start), sector));
            if is_extended(record.kind) && extended.is_none() {
                extended = Some(u64::from(record.start));
            }
        }
    }
    if let Some(base) = extended {
        let mut table = base;
        for number in 5..5 + MAX_LOGICAL {
            let Some(records) = read(table.saturating_mul(sector), 512).as_deref().and_then(mbr_records) else {
                break;
            };
            let [own, next, ..] = records;
            if own.is_used() {
                partitions.push(mbr_partition(number, own, table + u64::from(own.start), sector));
            }
            // Further tables are counted from the first, and only forward, so that none is visited twice.
            let after = base + u64::from(next.start);
            if !is_extended(next.kind) || after <= table {
                break;
            }
            table = after;
        }
    }
    Some(Partitioning {
        table: PartitionTable {
            kind: "mbr".to_owned(),
            id: le32(first, 440).filter(|id| *id != 0).map(|id| hex(&id.to_be_bytes())),
            valid: None,
            backup_valid: None,
        },
        partitions,
    })
}

fn mbr_partition(number: u32, record: Record, start: u64, sector: u64) -> Partition {
    Partition {
        number,
        start_bytes: start.saturating_mul(sector),
        size_bytes: u64::from(record.sectors).saturating_mul(sector),
        type_id: Some(format!("{:#04x}", record.kind)),
        type_name: partition_types::mbr(record.kind).map(str::to_owned),
        flags: record.active.then(|| "active".to_owned()).into_iter().collect(),
        ..Partition::default()
    }
}

/// True for the partition of an MBR that only holds others.
pub(crate) fn is_container(partition: &Partition) -> bool {
    matches!(partition.type_id.as_deref(), Some("0x05" | "0x0f" | "0x85"))
}

/// True for the first sector of a FAT or NTFS volume, whose boot code can pass for a table.
fn looks_like_volume(first: &[u8]) -> bool {
    [mark::NTFS, mark::EXFAT, mark::BITLOCKER]
        .iter()
        .any(|mark| mark.stands_in(first))
        || ((mark::FAT16.stands_in(first) || mark::FAT32.stands_in(first))
            && le16(first, 11).is_some_and(|size| size >= 512))
}

#[cfg(test)]
mod tests;
