//! Reading a few sectors of a block device, never writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::block;

/// Read at once: nearly everything that tells what is on a partition lies in its first 68 KiB, and one read of this
/// size costs a turning disk no more than one of a sector.
const CHUNK_BYTES: usize = 72 * 1024;
/// Chunks begin at multiples of this, as the kernel's pages do.
const PAGE_BYTES: u64 = 4096;

/// An open block device. Holding it open keeps what was read in the kernel's cache.
#[derive(Debug)]
pub(crate) struct BlockReader {
    file: File,
    /// What was read last, and from where.
    chunk: (u64, Vec<u8>),
}

impl BlockReader {
    /// Opens `/dev/<name>` for reading. A drive without a medium opens, and then fails to read.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        // The kernel writes `/` in names as `!`.
        let file = block::open(&Path::new("/dev").join(name.replace('!', "/")))?;
        Ok(BlockReader {
            file,
            chunk: (0, Vec::new()),
        })
    }

    /// At most `length` bytes at `offset`; fewer only at the end of the device.
    pub(crate) fn read_at(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        if let Some(held) = self.held(offset, length) {
            return Ok(held.to_vec());
        }
        let start = offset - offset % PAGE_BYTES;
        let skipped = (offset - start) as usize;
        let mut bytes = vec![0u8; CHUNK_BYTES.max(skipped.saturating_add(length))];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A bad spot behind what was asked for is none of ours.
                Err(_) if filled >= skipped + length => break,
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        let end = filled.min(skipped.saturating_add(length));
        let answer = bytes.get(skipped..end).unwrap_or_default().to_vec();
        self.chunk = (start, bytes);
        Ok(answer)
    }

    fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.chunk.0)?).ok()?;
        self.chunk.1.get(start..start.checked_add(length)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_block_devices_are_read() {
        assert_eq!(
            BlockReader::open("null").unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            BlockReader::open("no-such-device").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
