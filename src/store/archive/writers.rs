//! Writers and readers that a tarball goes through: stopped, held in memory up to a bound, put onto the medium, hashed.

use std::fs::File;
use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::store::fs_ops::Medium;

pub(super) fn pad(writer: &mut impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % 512).unwrap_or(0);
    if over > 0 {
        writer.write_all(&[0u8; 512][over..])?;
    }
    Ok(())
}

/// Fails once nobody wants what is written.
pub(super) struct Stoppable<'a, W> {
    pub(super) writer: &'a mut W,
    pub(super) go_on: GoOn<'a>,
}

impl<W: Write> Write for Stoppable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.go_on)() {
            true => self.writer.write(bytes),
            false => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Holds so many bytes and fails beyond.
pub(super) struct Short {
    pub(super) bytes: Vec<u8>,
    pub(super) most: usize,
}

impl Write for Short {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The file, written through the medium.
pub(super) struct Steps<'a> {
    pub(super) medium: &'a dyn Medium,
    pub(super) file: File,
    pub(super) length: u64,
}

impl Write for Steps<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.medium.write(&mut self.file, bytes)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Hashing<R> {
    pub(super) inner: R,
    pub(super) sha: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sha.update(&buffer[..count]);
        Ok(count)
    }
}

/// Asked again and again: false ends the making.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);
