//! The only durable state: uploads, the tarball made from them, and leases.
//!
//! Everything here lives under one folder that may be exFAT, vfat, ext4 or tmpfs. So there are no links, no modes, no
//! renames between folders, and nothing that must survive a power cut depends on a rename being atomic: an upload's
//! name carries the digest of its content. All calls block.

pub mod archive;
pub(crate) mod fs_ops;
pub(crate) mod images;
pub mod inventory;
mod json;
pub(crate) mod json_lines;
pub(crate) mod leases;
pub mod nodes;
pub(crate) mod overlays;
mod room;
pub mod upload;

use crate::formats::bytes::hex;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, Read};

/// A SHA-256 digest.
pub type Sha = [u8; 32];

/// Reads exactly 64 lower-case hex digits.
pub fn parse_hex(text: &str) -> Option<Sha> {
    let mut digest = [0u8; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    // What is longer, in capitals or has a sign is written otherwise.
    (hex(&digest) == text).then_some(digest)
}

/// Name of an upload inside its node's folder: its place in the row and the digest of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadName {
    pub seq: u64,
    pub sha256: Sha,
}

impl UploadName {
    /// Reads `<six or more digits>-<64 hex digits>.tar.gz`, and nothing else.
    pub fn parse(name: &str) -> Option<Self> {
        let (seq, sha256) = name.strip_suffix(".tar.gz")?.split_once('-')?;
        if !(6..=12).contains(&seq.len()) || !seq.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(UploadName {
            seq: seq.parse().ok()?,
            sha256: parse_hex(sha256)?,
        })
    }
}

impl std::fmt::Display for UploadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}-{}.tar.gz", self.seq, hex(&self.sha256))
    }
}

/// Digest and length of everything `reader` gives.
pub fn digest_of(reader: impl Read) -> io::Result<(Sha, u64)> {
    let mut hasher = Sha256::new();
    let length = io::copy(&mut BufReader::with_capacity(64 * 1024, reader), &mut hasher)?;
    Ok((hasher.finalize().into(), length))
}

/// Hashes what is read through it.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        let hasher = Sha256::new();
        Hashing { inner, hasher }
    }

    pub(crate) fn digest(self) -> Sha {
        self.hasher.finalize().into()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// A scratch folder in memory: tests that sync thousands of times should not wait for the disk of a busy machine.
#[cfg(test)]
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn upload_names_survive_printing(seq in 0u64..=999_999_999_999, sha256 in any::<[u8; 32]>()) {
            let name = UploadName { seq, sha256 };
            prop_assert_eq!(UploadName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,90}") {
            if let Some(name) = UploadName::parse(&text) {
                prop_assert!(text.ends_with(".tar.gz") && text.contains(&hex(&name.sha256)));
            }
        }
    }
}
