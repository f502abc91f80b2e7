//! The raw SMBIOS table: entry point, walk over the structures, fields of one structure.
//!
//! Written for tables as firmware makes them: a length may point past the end, a string may not exist, a version may be
//! wrong. Nothing here trusts a number from the table; a field that is not there is `None`. (DMTF DSP0134.)

pub(crate) mod platform;
pub(crate) mod platform_names;
pub mod types;

use crate::formats::text::burnt;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::Pending;

/// Where the kernel publishes the table as firmware left it.
pub const SOURCE: &str = "/sys/firmware/dmi/tables/DMI";
/// And its entry point.
pub const ENTRY_POINT: &str = "/sys/firmware/dmi/tables/smbios_entry_point";
/// Bound of the table. Large servers have some tens of KiB.
pub const TABLE_LIMIT: u64 = 1024 * 1024;

/// Structures looked at in one table. Real ones have up to a few hundred; the table itself is bounded, too.
const MAX_STRUCTURES: usize = 16 * 1024;

/// A table as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTable {
    pub version: Option<Version>,
    pub bytes: Vec<u8>,
}

impl RawTable {
    /// The table, taken apart.
    pub fn table(&self) -> Table<'_> {
        Table::parse(self.version, &self.bytes)
    }
}

/// [`load`] in a thread of its own, for parts that have more to tell than the table.
pub fn start(root: &Root) -> Pending<Result<RawTable, ReadError>> {
    let root = root.clone();
    timebox::spawn("probe-smbios", move || load(&root))
}

/// Reads table and entry point. The table without its entry point is still worth reading.
pub fn load(root: &Root) -> Result<RawTable, ReadError> {
    let bytes = root.bytes(SOURCE, TABLE_LIMIT)?;
    let version = root.bytes(ENTRY_POINT, 4096).ok().and_then(|bytes| entry_point(&bytes));
    Ok(RawTable { version, bytes })
}

/// What the entry point says about the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u8,
    pub minor: u8,
}

/// Reads a 32-bit (`_SM_`, and its `_DMI_` inner part) or 64-bit (`_SM3_`) entry point, refusing wrong checksums.
pub fn entry_point(bytes: &[u8]) -> Option<Version> {
    let sums_to_zero = |length: usize| {
        let area = bytes.get(..length)?;
        (area.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0).then_some(())
    };
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
    sums_to_zero(usize::from(length)).or_else(|| (length == 0x1e).then(|| sums_to_zero(0x1f))?)?;
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
        Some(u16::from_le_bytes(self.bytes(offset)?))
    }

    pub fn dword(&self, offset: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(offset)?))
    }

    pub fn qword(&self, offset: usize) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(offset)?))
    }

    /// `N` bytes from an offset of the formatted area.
    pub fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.formatted.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    /// The string that the byte at `offset` numbers, cleaned. Number 0 means none; a number beyond the last string,
    /// which real firmware has, means none as well.
    pub fn string(&self, offset: usize) -> Option<String> {
        let number = usize::from(self.byte(offset)?);
        let text = self.strings().nth(number.checked_sub(1)?)?;
        burnt(text)
    }

    /// All strings, in order.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> {
        self.strings
            .split(|byte| *byte == 0)
            .take_while(|text| !text.is_empty())
    }
}

/// A table, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<'a> {
    pub version: Version,
    pub structures: Vec<Structure<'a>>,
    /// What is wrong with the table: where and why the walk ended before the end-of-table structure, or what it had to skip.
    pub broken: Option<String>,
}

impl<'a> Table<'a> {
    /// Walks a raw table. Without an entry point the version is taken for 2.8, the usual one of the last tables that
    /// were published without; it matters only to the byte order of the UUID.
    pub fn parse(version: Option<Version>, data: &'a [u8]) -> Table<'a> {
        let mut table = Table {
            version: version.unwrap_or(Version { major: 2, minor: 8 }),
            structures: Vec::new(),
            broken: None,
        };
        let mut rest = data;
        while !rest.is_empty() {
            let offset = data.len() - rest.len();
            if table.structures.len() == MAX_STRUCTURES {
                table.broken = Some(format!("more than {MAX_STRUCTURES} structures"));
                break;
            }
            match split_structure(rest) {
                Some((structure, after)) => {
                    table.structures.push(structure);
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

    /// All structures of one type.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = &Structure<'a>> {
        self.structures.iter().filter(move |structure| structure.kind == kind)
    }

    pub fn first(&self, kind: u8) -> Option<&Structure<'a>> {
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

#[cfg(test)]
pub mod testing {
    //! Tables put together for tests.

    /// One structure from its type, handle, formatted area after the header, and strings.
    pub fn structure(kind: u8, handle: u16, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, 4 + body.len() as u8];
        bytes.extend(handle.to_le_bytes());
        bytes.extend(body);
        for text in strings {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        if strings.is_empty() {
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::structure;
    use super::*;
    use proptest::prelude::*;

    fn with_checksum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[at] = 0u8.wrapping_sub(sum);
        bytes
    }

    #[test]
    fn reads_both_entry_points() {
        let mut v3 = b"_SM3_\0\x18\x03\x04\0\x01\0".to_vec();
        v3.resize(24, 0);
        assert_eq!(
            entry_point(&with_checksum(v3.clone(), 5)),
            Some(Version { major: 3, minor: 4 })
        );
        let mut wrong = with_checksum(v3, 5);
        wrong[10] ^= 1;
        assert_eq!(entry_point(&wrong), None);

        let mut v2 = b"_SM_\0\x1f\x02\x08".to_vec();
        v2.resize(31, 0);
        assert_eq!(entry_point(&with_checksum(v2, 4)), Some(Version { major: 2, minor: 8 }));
        assert_eq!(entry_point(b""), None);
        assert_eq!(entry_point(b"_SM3_"), None);
    }

    #[test]
    fn walks_structures_and_their_strings() {
        let mut data = structure(1, 0x100, &[1, 2, 0, 9], &["Vendor", " Product "]);
        data.extend(structure(32, 0x200, &[], &[]));
        data.extend(structure(127, 0x300, &[], &[]));
        data.extend(b"what follows the end is not read");
        let table = Table::parse(None, &data);
        assert_eq!(table.broken, None);
        assert_eq!(table.structures.len(), 3);
        let system = table.first(1).unwrap();
        assert_eq!(system.handle, 0x100);
        assert_eq!(system.string(4).as_deref(), Some("Vendor"));
        assert_eq!(system.string(5).as_deref(), Some("Product"));
        assert_eq!(system.string(6), None, "number 0 is no string");
        assert_eq!(system.string(7), None, "there is no string 9");
        assert_eq!(system.byte(8), None);
        assert_eq!(system.word(7), None);
        assert_eq!(system.qword(usize::MAX), None);
    }

    #[test]
    fn zeros_between_structures_are_skipped_and_remarked() {
        let modules = |zeros: usize| {
            [
                structure(17, 1, &[0; 80], &["A1"]),
                vec![0; zeros],
                structure(0, 2, &[1, 2, 3], &["Example BIOS"]),
                structure(17, 3, &[0; 80], &["A2"]),
                structure(127, 4, &[], &[]),
            ]
            .concat()
        };
        for zeros in [2, 4] {
            let data = modules(zeros);
            let table = Table::parse(None, &data);
            assert_eq!((table.of_kind(17).count(), table.of_kind(0).count()), (2, 1), "{zeros}");
            let remark = table.broken.unwrap();
            assert!(remark.starts_with(&format!("{zeros} zero bytes at ")), "{remark}");
        }
        assert_eq!(Table::parse(None, &modules(0)).broken, None);
        // Nothing but zeros behind the last structure.
        let padded = [structure(17, 1, &[0; 80], &["A1"]), vec![0; 64]].concat();
        let table = Table::parse(None, &padded);
        assert_eq!(table.structures.len(), 1);
        assert!(table.broken.is_some());
    }

    #[test]
    fn a_torn_table_keeps_what_came_before() {
        let mut data = structure(1, 1, &[1], &["Vendor"]);
        let good = data.len();
        data.extend([17, 200, 0, 0, 1, 2, 3]);
        let table = Table::parse(None, &data);
        assert_eq!(table.structures.len(), 1);
        assert_eq!(
            table.broken.as_deref(),
            Some(&*format!("the structure at byte {good} of {} is torn", data.len()))
        );
        assert!(Table::parse(None, &[1, 3, 0, 0, 0, 0]).broken.is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_within_bounds(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let table = Table::parse(entry_point(&data), &data);
            let used: usize = table.structures.iter().map(|s| s.formatted.len() + s.strings.len()).sum();
            prop_assert!(used <= data.len());
            for structure in &table.structures {
                for offset in 0..=260 {
                    let _ = (structure.string(offset), structure.qword(offset), structure.bytes::<16>(offset));
                }
            }
        }

        #[test]
        fn almost_a_table_is_walked(
            body in proptest::collection::vec(any::<u8>(), 0..60),
            strings in proptest::collection::vec("[ -~]{1,8}", 0..4),
            cut in 0usize..100,
        ) {
            let names: Vec<&str> = strings.iter().map(String::as_str).collect();
            let mut data = structure(17, 7, &body, &names);
            data.extend(structure(127, 8, &[], &[]));
            data.truncate(data.len().saturating_sub(cut));
            let table = Table::parse(None, &data);
            prop_assert!(table.structures.len() <= 2);
            if cut == 0 {
                prop_assert_eq!(table.structures[0].strings().count(), names.len());
                prop_assert!(table.broken.is_none());
            }
        }
    }
}
