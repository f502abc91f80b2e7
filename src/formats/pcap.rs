//! Frames of one port as a capture file, which people open in Wireshark and a captured tree is read back from.
//!
//! The classic format: a header of 24 bytes, then for each frame seconds, microseconds, kept and true length, bytes.
//! Times count from when listening began.

use super::bytes::le32;

const MAGIC: u32 = 0xa1b2_c3d4;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;
/// More than a frame has; also the snap length in the header.
const MAX_FRAME_BYTES: usize = 65535;
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;

/// A frame and when it came, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub micros: u64,
    pub frame: Vec<u8>,
}

/// Makes a capture file.
pub fn write(records: &[Record]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(MAGIC.to_le_bytes());
    file.extend(2u16.to_le_bytes());
    file.extend(4u16.to_le_bytes());
    file.extend([0; 8]);
    file.extend((MAX_FRAME_BYTES as u32).to_le_bytes());
    file.extend(ETHERNET.to_le_bytes());
    for record in records {
        let frame = record.frame.get(..MAX_FRAME_BYTES).unwrap_or(&record.frame);
        let seconds = u32::try_from(record.micros / 1_000_000).unwrap_or(u32::MAX);
        file.extend(seconds.to_le_bytes());
        file.extend(((record.micros % 1_000_000) as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    file
}

/// Reads a capture file made by [`write()`]. `None` for anything else; a record that is cut ends the list.
pub fn read(file: &[u8]) -> Option<Vec<Record>> {
    let le32 = |at: usize| le32(file, at);
    if le32(0)? != MAGIC || le32(20)? != ETHERNET {
        return None;
    }
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    while let (Some(seconds), Some(micros), Some(length)) = (le32(at), le32(at + 4), le32(at + 8)) {
        let length = usize::try_from(length).ok()?;
        let begin = at + RECORD_BYTES;
        let Some(frame) = begin.checked_add(length).and_then(|end| file.get(begin..end)) else {
            break;
        };
        records.push(Record {
            micros: u64::from(seconds) * 1_000_000 + u64::from(micros),
            frame: frame.to_vec(),
        });
        at = begin + length;
    }
    Some(records)
}
