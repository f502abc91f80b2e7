//! Reading and preparing boot media: partition tables, exFAT volumes, and what a stick brought home.
//!
//! Everything is bounded and takes its bytes through `ReadAt`, so that a device, an image file and a byte array are the
//! same thing. Only `gpt::Plan::apply` writes.

pub(crate) mod boot_image;
pub(crate) mod bytes;
pub mod cpio;
pub(crate) mod exfat;
pub mod first_stage;
pub mod gpt;
pub(crate) mod image;
pub(crate) mod iso9660;
pub mod modules;
pub(crate) mod mountinfo;
pub(crate) mod oci;
pub(crate) mod partition_types;
pub(crate) mod partitions;
pub mod pcap;
pub(crate) mod signatures;
pub(crate) mod spd;
pub(crate) mod tables;
pub mod tar;
pub(crate) mod text;
pub(crate) mod volume;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes at an offset, without a shared position.
pub trait ReadAt: Sync {
    /// Reads some bytes; 0 only at the end or for an empty buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills the buffer, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                    offset = offset.saturating_add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// A part of something larger.
#[derive(Debug, Clone, Copy)]
pub struct Window<D> {
    inner: D,
    start: u64,
    length: u64,
}

impl<D> Window<D> {
    pub fn new(inner: D, start: u64, length: u64) -> Self {
        Window { inner, start, length }
    }
}

impl<D: ReadAt> ReadAt for Window<D> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        let Some(at) = self.start.checked_add(offset) else {
            return Ok(0);
        };
        self.inner.read_at(&mut buffer[..count], at)
    }
}

/// A file of tests/fixtures/media, unpacked.
#[cfg(test)]
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/media/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    let packed = File::open(&path).expect(&path);
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).expect(&path);
    bytes
}

/// A disk that fails from here on.
#[cfg(test)]
pub(crate) struct Failing {
    pub disk: Vec<u8>,
    pub from: u64,
}

#[cfg(test)]
impl ReadAt for Failing {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset.saturating_add(buffer.len() as u64) > self.from {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        ReadAt::read_at(&self.disk, buffer, offset)
    }
}
