//! Partition tables: GPT (UEFI 2.10, 5.3) and MBR with its chain of logical partitions (UEFI 2.10, 5.2). Pure: bytes
//! come from `read`, which gives what there is at an offset, at most the length asked for.

use flate2::Crc;

use super::bytes::{guid, hex, is, le16, le32, le64, take, text16};
use super::partition_types;
use crate::model::inventory::{Partition, PartitionTable};

/// Gives bytes of the device at an offset, or nothing where they cannot be read.
pub(crate) type Read<'a> = dyn FnMut(u64, usize) -> Option<Vec<u8>> + 'a;

/// Logical partitions followed in an extended one, as many as the kernel takes. What is behind them is not looked at.
const MAX_LOGICAL: u32 = 256;
/// Real tables have 128 entries of 128 bytes. A longer one counts as damaged.
const MAX_TABLE_BYTES: usize = 256 * 1024;

/// A table and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub table: PartitionTable,
    pub partitions: Vec<Partition>,
}

/// Reads the table of a disk of `size` bytes. `sector` is its logical sector size.
pub(crate) fn table(size: u64, sector: u32, read: &mut Read<'_>) -> Option<Table> {
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
        return gpt(primary, backup, sector, read);
    }
    mbr(&first, records.filter(|_| !looks_like_volume(&first))?, sector, read)
}

struct Header {
    guid: Option<String>,
    entries_lba: u64,
    count: usize,
    entry_size: usize,
    entries_crc: u32,
    valid: bool,
}

fn gpt_header(lba: u64, sector: u64, read: &mut Read<'_>) -> Option<Header> {
    let bytes = read(lba.checked_mul(sector)?, 512)?;
    if !is(&bytes, 0, b"EFI PART") {
        return None;
    }
    let length = usize::try_from(le32(&bytes, 12)?).ok()?;
    let mut checked = bytes.get(..length).unwrap_or_default().to_vec();
    let valid = length >= 92 && le64(&bytes, 24) == Some(lba) && {
        checked.get_mut(16..20).into_iter().for_each(|field| field.fill(0));
        Some(crc(&checked)) == le32(&bytes, 16)
    };
    Some(Header {
        guid: guid(&bytes, 56),
        entries_lba: le64(&bytes, 72)?,
        count: usize::try_from(le32(&bytes, 80)?).ok()?,
        entry_size: usize::try_from(le32(&bytes, 84)?).ok()?,
        entries_crc: le32(&bytes, 88)?,
        valid,
    })
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The entries of one copy, and whether their checksum is right.
fn gpt_entries(header: &Header, sector: u64, read: &mut Read<'_>) -> Option<(Vec<u8>, bool)> {
    if !(128..=4096).contains(&header.entry_size) {
        return None;
    }
    let whole = header.count.checked_mul(header.entry_size)?;
    let bytes = read(header.entries_lba.checked_mul(sector)?, whole.min(MAX_TABLE_BYTES))?;
    let valid = bytes.len() == whole && crc(&bytes) == header.entries_crc;
    Some((bytes, valid))
}

fn gpt(primary: Option<Header>, backup: Option<Header>, sector: u64, read: &mut Read<'_>) -> Option<Table> {
    let mut whole = |header: &Option<Header>| {
        let header = header.as_ref().filter(|header| header.valid)?;
        gpt_entries(header, sector, read).filter(|(_, valid)| *valid)
    };
    let (first, second) = (whole(&primary), whole(&backup));
    let (valid, backup_valid) = (first.is_some(), second.is_some());
    // The copy that is whole; with none, what the first says, marked as damaged.
    let (header, entries) = match (first, second, primary, backup) {
        (Some((entries, _)), _, Some(header), _) | (None, Some((entries, _)), _, Some(header)) => (header, entries),
        (_, _, Some(header), _) | (_, _, None, Some(header)) => {
            let entries = gpt_entries(&header, sector, read).map(|(entries, _)| entries);
            (header, entries.unwrap_or_default())
        }
        (_, _, None, None) => return None,
    };
    let mut partitions = Vec::new();
    for (index, entry) in entries.chunks_exact(header.entry_size.max(128)).enumerate() {
        partitions.extend(gpt_entry(index, entry, sector));
    }
    Some(Table {
        table: PartitionTable {
            kind: "gpt".to_owned(),
            id: header.guid,
            valid: Some(valid),
            backup_valid: Some(backup_valid),
        },
        partitions,
    })
}

fn gpt_entry(index: usize, entry: &[u8], sector: u64) -> Option<Partition> {
    // All zeros is an unused entry.
    let type_id = guid(entry, 0)?;
    let (first, last) = (le64(entry, 32)?, le64(entry, 40)?);
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let attributes = le64(entry, 48)?;
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
        number: u32::try_from(index).ok()?.checked_add(1)?,
        start_bytes: first.checked_mul(sector)?,
        size_bytes: sectors.checked_mul(sector)?,
        type_name: partition_types::gpt(&type_id).map(str::to_owned),
        type_id: Some(type_id),
        guid: guid(entry, 16),
        label: text16(entry, 56, 72),
        flags: flags
            .iter()
            .filter(|(bit, _)| attributes & (1 << bit) != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect(),
        ..Partition::default()
    })
}

/// One of the four records of a table.
#[derive(Debug, Clone, Copy)]
struct Record {
    active: bool,
    kind: u8,
    start: u32,
    sectors: u32,
}

/// The four records, if the sector looks like a table and not like the first sector of a file system.
fn mbr_records(sector: &[u8]) -> Option<[Record; 4]> {
    if !is(sector, 510, &[0x55, 0xaa]) {
        return None;
    }
    let mut records = [Record {
        active: false,
        kind: 0,
        start: 0,
        sectors: 0,
    }; 4];
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
    let used = |record: &Record| record.kind != 0 && record.sectors != 0;
    records.iter().any(used).then_some(records)
}

fn has_protective(records: &Option<[Record; 4]>) -> bool {
    records.is_some_and(|records| records.iter().any(|record| record.kind == 0xee))
}

fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

fn mbr(first: &[u8], records: [Record; 4], sector: u64, read: &mut Read<'_>) -> Option<Table> {
    let mut partitions = Vec::new();
    let mut extended = None;
    for (number, record) in (1..).zip(records) {
        if record.kind != 0 && record.sectors != 0 {
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
            if own.kind != 0 && own.sectors != 0 {
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
    Some(Table {
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
        flags: if record.active {
            vec!["active".to_owned()]
        } else {
            Vec::new()
        },
        ..Partition::default()
    }
}

/// True for the partition of an MBR that only holds others.
pub(crate) fn is_container(partition: &Partition) -> bool {
    matches!(partition.type_id.as_deref(), Some("0x05" | "0x0f" | "0x85"))
}

/// True for the first sector of a FAT or NTFS volume, whose boot code can pass for a table.
fn looks_like_volume(first: &[u8]) -> bool {
    is(first, 3, b"NTFS    ")
        || is(first, 3, b"EXFAT   ")
        || is(first, 3, b"-FVE-FS-")
        || ((is(first, 54, b"FAT1") || is(first, 82, b"FAT32")) && le16(first, 11).is_some_and(|size| size >= 512))
}

#[cfg(test)]
mod tests;
