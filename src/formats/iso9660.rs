//! Where a file lies in an ISO 9660 image (ECMA-119). Only what finding a boot file takes: no extensions, no writing.

use std::io;

use super::ReadAt;

const SECTOR: u64 = 2048;
/// ECMA-119 §6.2.1: the volume descriptors start here.
const DESCRIPTORS: u64 = 16;
/// A boot medium's folders are tiny; a larger one is damage.
const MAX_FOLDER_BYTES: u32 = 1 << 20;

/// Bytes of one file within the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// Length of the image in bytes, as its primary volume descriptor says (§8.4).
pub(crate) fn image_length(image: &impl ReadAt) -> io::Result<u64> {
    let descriptor = primary(image)?;
    let blocks = u32::from_le_bytes([descriptor[80], descriptor[81], descriptor[82], descriptor[83]]);
    let block_bytes = u16::from_le_bytes([descriptor[128], descriptor[129]]);
    match u64::from(blocks) * u64::from(block_bytes) {
        0 => Err(not_iso("its volume is empty")),
        length => Ok(length),
    }
}

/// Finds a file by its path of plain names. Upper and lower case count as equal, and versions (`;1`) are left out.
///
/// # Errors
/// `NotFound` where a name is missing, `InvalidData` where this is no ISO image or a damaged one.
pub(crate) fn find(image: &impl ReadAt, path: &[&str]) -> io::Result<Extent> {
    let descriptor = primary(image)?;
    let mut record = Record::parse(&descriptor[156..190]).ok_or_else(|| not_iso("its root folder is unreadable"))?;
    for name in path {
        if !record.folder || record.length > MAX_FOLDER_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no {} in the image", path.join("/")),
            ));
        }
        let mut folder = vec![0; record.length as usize];
        image.read_exact_at(&mut folder, u64::from(record.sector) * SECTOR)?;
        record = records(&folder)
            .find(|record| record.is_named(name))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {} in the image", path.join("/"))))?;
    }
    if record.folder || record.more {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{} is not one whole file", path.join("/")),
        ));
    }
    Ok(Extent {
        offset: u64::from(record.sector) * SECTOR,
        length: u64::from(record.length),
    })
}

fn primary(image: &impl ReadAt) -> io::Result<[u8; 2048]> {
    let mut sector = [0; 2048];
    for number in DESCRIPTORS..DESCRIPTORS + 16 {
        image.read_exact_at(&mut sector, number * SECTOR)?;
        match (&sector[1..6], sector[0]) {
            (b"CD001", 1) => return Ok(sector),
            (b"CD001", kind) if kind != 255 => {}
            _ => break,
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
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let flags = *bytes.get(25)?;
        Some(Record {
            sector: number(2)?,
            length: number(10)?,
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
    folder.chunks(SECTOR as usize).flat_map(|sector| {
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
