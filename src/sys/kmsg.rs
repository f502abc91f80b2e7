//! The kernel's log as `/dev/kmsg` hands it out.

use std::io::{self, Read};
use std::path::Path;

use super::file;

/// The longest record the kernel hands out (`PRINTK_MESSAGE_MAX` is 2 KiB, and what escapes and keys add).
const RECORD_BYTES: usize = 8192;
/// More records than any log buffer holds.
const MAX_RECORDS: usize = 200_000;

/// Records of severity `worst` to emergency, one after the other, the last `keep_bytes` of them; in front a line
/// `# <records read> <records kept or dropped by the bound>`. Never waits for new ones.
pub(crate) fn records(worst: u8, keep_bytes: usize) -> io::Result<Vec<u8>> {
    let mut log = file::open(Path::new("/dev/kmsg"))?;
    let (mut read, mut wanted) = (0usize, 0usize);
    let mut kept: Vec<u8> = Vec::new();
    let mut record = vec![0u8; RECORD_BYTES];
    while read < MAX_RECORDS {
        let length = match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // Overwritten while we read, or longer than any the kernel writes: the next read goes on behind it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::EINVAL | libc::EINTR)) => {
                read += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        read += 1;
        let Some(line) = record.get(..length) else { break };
        if severity(line).is_none_or(|severity| severity > worst) {
            continue;
        }
        wanted += 1;
        kept.extend_from_slice(line.trim_ascii_end());
        kept.push(b'\n');
        if kept.len() > 2 * keep_bytes {
            drop_front(&mut kept, keep_bytes);
        }
    }
    drop_front(&mut kept, keep_bytes);
    let mut answer = format!("# {read} {wanted}\n").into_bytes();
    answer.extend(kept);
    Ok(answer)
}

/// The lower three bits of the number a record begins with.
fn severity(record: &[u8]) -> Option<u8> {
    let end = record.iter().position(|byte| *byte == b',')?;
    let number: u32 = std::str::from_utf8(record.get(..end)?).ok()?.parse().ok()?;
    Some((number & 7) as u8)
}

/// Whole lines only.
fn drop_front(kept: &mut Vec<u8>, keep_bytes: usize) {
    let Some(excess) = kept.len().checked_sub(keep_bytes).filter(|excess| *excess > 0) else {
        return;
    };
    let cut = kept
        .iter()
        .skip(excess)
        .position(|byte| *byte == b'\n')
        .map_or(kept.len(), |at| excess + at + 1);
    kept.drain(..cut);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_is_in_the_lower_bits() {
        assert_eq!(severity(b"30,5,1,-;text"), Some(6));
        assert_eq!(severity(b"3,5,1,-;text"), Some(3));
        assert_eq!(severity(b"x,5"), None);
        assert_eq!(severity(b""), None);
    }

    #[test]
    fn the_front_goes_by_whole_lines() {
        let mut kept = b"one\ntwo\nthree\n".to_vec();
        drop_front(&mut kept, 8);
        assert_eq!(kept, b"three\n");
        drop_front(&mut kept, 100);
        assert_eq!(kept, b"three\n");
    }
}
