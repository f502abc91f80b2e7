//! Images of diskless nodes: a root file system as one archive, the kernel that its modules belong to, and a manifest that says what
//! both have to be; and what a machine starts from before it has any root (`stage`).

pub(crate) mod check;
pub(crate) mod kernel;
pub(crate) mod make;
pub(crate) mod pack;
pub(crate) mod signature;
pub(crate) mod source;
mod squashfs;
pub mod stage;
pub mod unpack;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::formats::bytes::hex;

/// Largest window of an archive that is unpacked: 32 MiB of memory. zstd's levels up to 19 take 8 MiB.
const MAX_WINDOW_LOG: u32 = 25;

/// Why there is no image, or not the one that the manifest says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("{path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Wrong(String),
}

impl ImageError {
    /// For `map_err`.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> ImageError {
        move |error| ImageError::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// What passes through it is counted and summed.
struct Summed<T> {
    inner: T,
    bytes: u64,
    digest: Sha256,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            bytes: 0,
            digest: Sha256::new(),
        }
    }

    fn sum(self) -> (u64, String) {
        (self.bytes, hex(&self.digest.finalize()))
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

impl<W: io::Write> io::Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The archive, as it was before it was packed.
fn unpacked<R: Read>(packed: R) -> io::Result<impl Read> {
    let mut decoder = zstd::Decoder::new(packed)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}

/// Opens a plain file of an image.
fn open(path: &Path) -> Result<File, ImageError> {
    crate::sys::file::open_plain(path).map_err(ImageError::at(path))
}
