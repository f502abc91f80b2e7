//! What an ISO 9660 image says of itself, and where a file lies in it (ECMA-119). Only what finding a boot file takes: no
//! extensions, no writing.

use std::io;

use super::ReadAt;
use super::bytes::{is, le16, le32};
use super::signatures::mark;

const SECTOR_BYTES: u64 = 2048;
/// ECMA-119 §6.2.1: the volume descriptors start here.
const FIRST_DESCRIPTOR_SECTOR: u64 = 16;
/// A boot medium's folders are tiny; a larger one is damage.
const MAX_FOLDER_BYTES: u32 = 1 << 20;

/// Bytes of one file within the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// The primary volume descriptor (§8.4), or its beginning. It is the first descriptor of nearly every image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Primary<'a>(&'a [u8]);

impl<'a> Primary<'a> {
    /// Where the first descriptor stands, and how long one is.
    pub(crate) const OFFSET: u64 = FIRST_DESCRIPTOR_SECTOR * SECTOR_BYTES;
    pub(crate) const BYTES: usize = SECTOR_BYTES as usize;
    /// Bytes up to the end of the volume id.
    pub(crate) const ID_BYTES: usize = 72;

    /// Type 1 is the primary descriptor, "CD001" the standard, 1 its version.
    pub(crate) fn parse(descriptor: &'a [u8]) -> Option<Self> {
        let is_primary = is(descriptor, 0, &[1]) && is(descriptor, 1, mark::ISO9660.bytes) && is(descriptor, 6, &[1]);
        is_primary.then_some(Primary(descriptor))
    }

    /// The volume id, without the blanks it is filled with.
    pub(crate) fn volume_id(self) -> Option<&'a [u8]> {
        Some(self.0.get(40..Self::ID_BYTES)?.trim_ascii_end())
    }

    /// Length of the volume in bytes; 0 for one that is empty.
    fn length(self) -> Option<u64> {
        Some(u64::from(le32(self.0, 80)?) * u64::from(le16(self.0, 128)?))
    }

    fn root(self) -> Option<Record> {
        Record::parse(self.0.get(156..190)?)
    }

    /// When the volume was made, as `2026-01-31-12-00-00-00`; `None` where it does not say (§8.4.26.1).
    pub(crate) fn created(self) -> Option<String> {
        self.date(813)
    }

    /// When it was changed.
    pub(crate) fn changed(self) -> Option<String> {
        self.date(830)
    }

    fn date(self, at: usize) -> Option<String> {
        let digits = self.0.get(at..at + 16)?;
        let is_set = digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|digit| *digit != b'0');
        let text = std::str::from_utf8(digits).ok().filter(|_| is_set)?;
        let fields = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
        Some(fields.map(|field| &text[field]).join("-"))
    }
}

/// Length of the image in bytes, as its primary volume descriptor says.
pub(crate) fn image_length(image: &impl ReadAt) -> io::Result<u64> {
    let descriptor = primary(image)?;
    let length = Primary::parse(&descriptor).and_then(Primary::length);
    length
        .filter(|length| *length > 0)
        .ok_or_else(|| not_iso("its volume is empty"))
}

/// Finds a file by its path of plain names. Upper and lower case count as equal, and versions (`;1`) are left out.
///
/// # Errors
/// `NotFound` where a name is missing, `InvalidData` where this is no ISO image or a damaged one.
pub(crate) fn find(image: &impl ReadAt, path: &[&str]) -> io::Result<Extent> {
    let descriptor = primary(image)?;
    let root = Primary::parse(&descriptor).and_then(Primary::root);
    let mut record = root.ok_or_else(|| not_iso("its root folder is unreadable"))?;
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no {} in the image", path.join("/")));
    for name in path {
        if !record.folder || record.length > MAX_FOLDER_BYTES {
            return Err(missing());
        }
        let mut folder = vec![0; record.length as usize];
        image.read_exact_at(&mut folder, u64::from(record.sector) * SECTOR_BYTES)?;
        record = records(&folder)
            .find(|record| record.is_named(name))
            .ok_or_else(missing)?;
    }
    if record.folder || record.more {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} is not one whole file", path.join("/")),
        ));
    }
    Ok(Extent {
        offset: u64::from(record.sector) * SECTOR_BYTES,
        length: u64::from(record.length),
    })
}

fn primary(image: &impl ReadAt) -> io::Result<[u8; 2048]> {
    let mut sector = [0; 2048];
    for number in FIRST_DESCRIPTOR_SECTOR..FIRST_DESCRIPTOR_SECTOR + 16 {
        image.read_exact_at(&mut sector, number * SECTOR_BYTES)?;
        if Primary::parse(&sector).is_some() {
            return Ok(sector);
        }
        // 255 ends the list.
        if !is(&sector, 1, mark::ISO9660.bytes) || sector[0] == 255 {
            break;
        }
    }
    Err(not_iso("there is no primary volume descriptor"))
}

fn not_iso(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not an ISO 9660 image: {why}"))
}

/// A directory record (§9.1).
struct Record {
    sector: u32,
    length: u32,
    folder: bool,
    /// The file goes on in another record.
    more: bool,
    name: Vec<u8>,
}

impl Record {
    fn parse(bytes: &[u8]) -> Option<Record> {
        let name_length = usize::from(*bytes.get(32)?);
        let flags = *bytes.get(25)?;
        Some(Record {
            sector: le32(bytes, 2)?,
            length: le32(bytes, 10)?,
            folder: flags & 2 != 0,
            more: flags & 0x80 != 0,
            name: bytes.get(33..33 + name_length)?.to_vec(),
        })
    }

    fn is_named(&self, wanted: &str) -> bool {
        let bare = self.name.split(|byte| *byte == b';').next().unwrap_or_default();
        let bare = bare.strip_suffix(b".").unwrap_or(bare);
        bare.eq_ignore_ascii_case(wanted.as_bytes())
    }
}

/// Records of a folder; none crosses a sector (§6.8.1.1), so an empty length goes on in the next one.
fn records(folder: &[u8]) -> impl Iterator<Item = Record> {
    folder.chunks(SECTOR_BYTES as usize).flat_map(|sector| {
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = usize::from(*sector.get(at)?);
            let record = Record::parse(sector.get(at..at + length)?)?;
            at += length.max(1);
            Some(record)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(name: &[u8], sector: u32, length: u32, folder: bool) -> Vec<u8> {
        let mut bytes = vec![0; 33 + name.len() + (name.len() + 1) % 2];
        bytes[0] = bytes.len() as u8;
        bytes[2..6].copy_from_slice(&sector.to_le_bytes());
        bytes[10..14].copy_from_slice(&length.to_le_bytes());
        bytes[25] = if folder { 2 } else { 0 };
        bytes[32] = name.len() as u8;
        bytes[33..33 + name.len()].copy_from_slice(name);
        bytes
    }

    /// An image by hand from the standard's tables: root at sector 20, `BOOT` at 21, `LINUX.;1` of 5 bytes at 22.
    fn image() -> Vec<u8> {
        let mut image = vec![0; 23 * 2048];
        image[16 * 2048..16 * 2048 + 7].copy_from_slice(b"\x01CD001\x01");
        image[16 * 2048 + 80..16 * 2048 + 84].copy_from_slice(&23u32.to_le_bytes());
        image[16 * 2048 + 128..16 * 2048 + 130].copy_from_slice(&2048u16.to_le_bytes());
        image[16 * 2048 + 156..16 * 2048 + 190].copy_from_slice(&record(b"\0", 20, 2048, true));
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        let first = record(b"\0", 20, 2048, true);
        put(20 * 2048, &first);
        put(20 * 2048 + first.len(), &record(b"BOOT", 21, 2048, true));
        put(21 * 2048, &record(b"LINUX.;1", 22, 5, false));
        put(22 * 2048, b"hello");
        image
    }

    #[test]
    fn finds_a_file() {
        assert_eq!(
            find(&image(), &["boot", "linux"]).unwrap(),
            Extent {
                offset: 22 * 2048,
                length: 5
            }
        );
        assert_eq!(image_length(&image()).unwrap(), 23 * 2048);
    }

    #[test]
    fn says_what_is_missing() {
        let missing = find(&image(), &["boot", "initrd"]).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.to_string().contains("boot/initrd"));
        assert_eq!(find(&image(), &["boot"]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(
            find(&image(), &["boot", "linux", "x"]).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            find(&vec![0; 64 * 1024], &["boot"]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_never_more(at in 16 * 2048usize..23 * 2048, bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let mut image = image();
            let end = (at + bytes.len()).min(image.len());
            image[at..end].copy_from_slice(&bytes[..end - at]);
            let _ = find(&image, &["boot", "linux"]).is_ok();
            let _ = image_length(&image).is_ok();
        }
    }
}
