//! A run of bytes within a file or device.

use std::path::PathBuf;

/// `length` bytes of `path` from `offset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub path: PathBuf,
    pub offset: u64,
    pub length: u64,
}
