//! Writers that a tarball goes through: stopped, or held in memory up to a bound.

use std::io::{self, Write};

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

/// Asked again and again: false ends the making.
pub type GoOn<'a> = &'a (dyn Fn() -> bool + Sync);
