//! What the bytes of a GUID partition table say: its header and its entries (UEFI 2.10, 5.3.2 and 5.3.3).

use flate2::Crc;

use crate::formats::bytes::{is, le32, le64, take, until_nul, utf16, utf16_units};

/// Bytes of a header that hold fields; the rest of its sector is reserved.
pub(crate) const MIN_HEADER_BYTES: usize = 92;
/// Smallest entry, and largest that counts as one.
pub(crate) const ENTRY_BYTES: std::ops::RangeInclusive<usize> = 128..=4096;

/// The fields of a header, whether or not they are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes its checksum is about.
    pub length: usize,
    pub checksum_is_right: bool,
    /// Where it says it stands, and where its copy does.
    pub own_lba: u64,
    pub alternate_lba: u64,
    pub first_usable_lba: u64,
    pub disk_guid: [u8; 16],
    pub entries_lba: u64,
    pub entry_count: usize,
    pub entry_bytes: usize,
    pub entries_crc: u32,
}

impl Header {
    /// Reads a sector; `None` where no header begins there.
    pub(crate) fn parse(sector: &[u8]) -> Option<Self> {
        if !is(sector, 0, b"EFI PART") {
            return None;
        }
        let length = usize::try_from(le32(sector, 12)?).ok()?;
        let checked = sector.get(..length).filter(|_| length >= MIN_HEADER_BYTES);
        Some(Header {
            length,
            checksum_is_right: checked.map(crc_of_header) == le32(sector, 16),
            own_lba: le64(sector, 24)?,
            alternate_lba: le64(sector, 32)?,
            first_usable_lba: le64(sector, 40)?,
            disk_guid: take(sector, 56)?,
            entries_lba: le64(sector, 72)?,
            entry_count: usize::try_from(le32(sector, 80)?).ok()?,
            entry_bytes: usize::try_from(le32(sector, 84)?).ok()?,
            entries_crc: le32(sector, 88)?,
        })
    }

    /// Length of the whole array of entries, where an entry has a size that is possible.
    pub(crate) fn array_bytes(&self) -> Option<usize> {
        let count = self.entry_count;
        ENTRY_BYTES
            .contains(&self.entry_bytes)
            .then(|| count.saturating_mul(self.entry_bytes))
    }
}

/// A used entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptEntry {
    /// Counted from 1, as in device names.
    pub number: u32,
    pub type_guid: [u8; 16],
    pub unique_guid: [u8; 16],
    pub first_lba: u64,
    pub last_lba: u64,
    pub attributes: u64,
    pub name: String,
}

/// The used entries of an array; all zeros for a type is none.
pub(crate) fn used(entries: &[u8], entry_bytes: usize) -> impl Iterator<Item = GptEntry> + '_ {
    let numbered = entries.chunks_exact(entry_bytes.max(*ENTRY_BYTES.start())).zip(1u32..);
    numbered.filter_map(|(entry, number)| {
        Some(GptEntry {
            number,
            type_guid: take(entry, 0).filter(|guid| *guid != [0; 16])?,
            unique_guid: take(entry, 16)?,
            first_lba: le64(entry, 32)?,
            last_lba: le64(entry, 40)?,
            attributes: le64(entry, 48)?,
            name: utf16(until_nul(utf16_units(entry.get(56..128)?))),
        })
    })
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Checksum of a header, whose own field counts as zero.
pub(crate) fn crc_of_header(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    if let Some(field) = header.get_mut(16..20) {
        field.fill(0);
    }
    crc(&header)
}
