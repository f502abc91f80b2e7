//! The SMBIOS table: entry point, walk over the structures, fields of one structure (DMTF DSP0134). Pure.
//!
//! Written for tables as firmware makes them: a length may point past the end, a string may not exist, a version may be
//! wrong. Nothing here trusts a number from the table; a field that is not there is `None`.

use uuid::Uuid;

use super::names::name;
use crate::formats::bytes::{le16, le32, le64, sum8, take};
use crate::formats::text::burnt;

/// Structures looked at in one table. Real ones have up to a few hundred; the table itself is bounded, too.
const MAX_STRUCTURES: usize = 16 * 1024;

/// What the entry point says about the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
}

/// Reads a 32-bit (`_SM_`, and its `_DMI_` inner part) or 64-bit (`_SM3_`) entry point, refusing wrong checksums.
pub fn entry_point(bytes: &[u8]) -> Option<Version> {
    let is_whole = |length: usize| bytes.get(..length).is_some_and(|area| sum8(area) == 0);
    let (length, version) = match bytes {
        [b'_', b'S', b'M', b'3', b'_', _, length, major, minor, ..] => (*length, (*major, *minor)),
        [b'_', b'S', b'M', b'_', _, length, major, minor, ..] => (*length, (*major, *minor)),
        [b'_', b'D', b'M', b'I', b'_', ..] => {
            let bcd = bytes.get(14)?;
            (15, (bcd >> 4, bcd & 0x0f))
        }
        _ => return None,
    };
    if length < 9 {
        return None;
    }
    // Some 2.1 firmware gives 1Eh for the length of a 1Fh structure; its checksum still covers 1Fh bytes.
    let is_sound = is_whole(usize::from(length)) || length == 0x1e && is_whole(0x1f);
    if !is_sound {
        return None;
    }
    let (major, minor) = version;
    // Firmware that encoded 2.x in odd ways, as the kernel corrects it.
    let (major, minor) = match (major, minor) {
        (2, 31) => (2, 3),
        (2, 33) => (2, 3),
        (2, 51) => (2, 6),
        other => other,
    };
    Some(Version { major, minor })
}

/// One structure: its formatted area (header included, so that offsets are those of the specification) and strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure<'a> {
    pub kind: u8,
    pub handle: u16,
    formatted: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    pub fn byte(&self, offset: usize) -> Option<u8> {
        self.formatted.get(offset).copied()
    }

    pub fn word(&self, offset: usize) -> Option<u16> {
        le16(self.formatted, offset)
    }

    pub fn dword(&self, offset: usize) -> Option<u32> {
        le32(self.formatted, offset)
    }

    pub fn qword(&self, offset: usize) -> Option<u64> {
        le64(self.formatted, offset)
    }

    /// `N` bytes from an offset of the formatted area.
    pub fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        take(self.formatted, offset)
    }

    /// The string that the byte at `offset` numbers, cleaned. Number 0 means none; a number beyond the last string,
    /// which real firmware has, means none as well.
    pub fn string(&self, offset: usize) -> Option<String> {
        let number = usize::from(self.byte(offset)?);
        let text = self.strings().nth(number.checked_sub(1)?)?;
        burnt(text)
    }

    /// What the number in the byte at `offset` is called by one of the lists of [`names`](super::names).
    pub(crate) fn name(&self, list: &str, offset: usize) -> Option<String> {
        name(list, self.byte(offset)?)
    }

    /// All strings, in order.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.strings
            .split(|byte| *byte == 0)
            .take_while(|text| !text.is_empty())
    }
}

/// A table as it was read, and where its structures begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosTable {
    /// As the entry point has it; `None` where that could not be read.
    pub told_version: Option<Version>,
    /// What is wrong with the table: where and why the walk ended before the end-of-table structure, or what it had to skip.
    pub broken: Option<String>,
    bytes: Vec<u8>,
    begins: Vec<usize>,
}

impl SmbiosTable {
    /// Walks a raw table.
    pub fn parse(told_version: Option<Version>, data: &[u8]) -> SmbiosTable {
        let mut table = SmbiosTable {
            told_version,
            broken: None,
            bytes: data.to_vec(),
            begins: Vec::new(),
        };
        let mut rest = data;
        while !rest.is_empty() {
            let offset = data.len() - rest.len();
            if table.begins.len() == MAX_STRUCTURES {
                table.broken = Some(format!("more than {MAX_STRUCTURES} structures"));
                break;
            }
            match split_structure(rest) {
                Some((structure, after)) => {
                    table.begins.push(offset);
                    if structure.kind == 127 {
                        break;
                    }
                    rest = after;
                }
                // Pairs of zeros that belong to no structure, as some firmware writes them; what comes behind is read.
                None if rest.starts_with(&[0, 0]) => {
                    let zeros = rest.chunks_exact(2).take_while(|pair| *pair == [0, 0]).count() * 2;
                    rest = rest.get(zeros..).unwrap_or_default();
                    let remark = format!(
                        "{zeros} zero bytes at {offset} of {} belong to no structure",
                        data.len()
                    );
                    table.broken.get_or_insert(remark);
                }
                None => {
                    table.broken = Some(format!("the structure at byte {offset} of {} is torn", data.len()));
                    break;
                }
            }
        }
        table
    }

    /// Without an entry point it is taken for 2.8, the usual one of the last tables that were published without; it matters
    /// only to the byte order of the UUID.
    pub fn version(&self) -> Version {
        self.told_version.unwrap_or(Version { major: 2, minor: 8 })
    }

    /// All structures, in order.
    pub fn structures(&self) -> impl Iterator<Item = Structure<'_>> {
        let rest = |begin: &usize| self.bytes.get(*begin..).and_then(split_structure);
        self.begins.iter().filter_map(rest).map(|(structure, _)| structure)
    }

    /// All structures of one type.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = Structure<'_>> {
        self.structures().filter(move |structure| structure.kind == kind)
    }

    pub fn first(&self, kind: u8) -> Option<Structure<'_>> {
        self.of_kind(kind).next()
    }
}

/// Takes one structure off the front. Its strings end with two zero bytes, which are there even without strings.
fn split_structure(data: &[u8]) -> Option<(Structure<'_>, &[u8])> {
    let [kind, length, low, high, ..] = data else {
        return None;
    };
    if *length < 4 {
        return None;
    }
    let (formatted, tail) = data.split_at_checked(usize::from(*length))?;
    let end = tail.windows(2).position(|pair| pair == [0, 0]);
    let (strings, after) = match end {
        Some(end) => tail.split_at_checked(end + 2)?,
        // Tables exist whose last structure lacks its terminator; an end-of-table structure has nothing to lose by it.
        None if *kind == 127 => (tail, &tail[..0]),
        None => return None,
    };
    let structure = Structure {
        kind: *kind,
        handle: u16::from_le_bytes([*low, *high]),
        formatted,
        strings,
    };
    Some((structure, after))
}

/// 7.2.1: from 2.6 on the first three fields are little-endian; the kernel prints them the same way.
pub(crate) fn uuid(version: Version, bytes: [u8; 16]) -> Option<String> {
    // All zero: not set. All FFh: could be set, but was not.
    if bytes == [0; 16] || bytes == [0xff; 16] {
        return None;
    }
    let uuid = match version >= (Version { major: 2, minor: 6 }) {
        true => Uuid::from_bytes_le(bytes),
        false => Uuid::from_bytes(bytes),
    };
    Some(uuid.to_string())
}

#[cfg(test)]
mod tests;
