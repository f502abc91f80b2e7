//! What an archive holds, and what stands in the way of reading it.

use std::io;

/// Why an archive could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("the archive breaks off after {at} bytes")]
    BreaksOff { at: u64 },
    #[error("the archive is damaged: {what} at byte {at}")]
    Damaged { what: &'static str, at: u64 },
    #[error("{what} at byte {at}, which is not taken")]
    Refused { what: &'static str, at: u64 },
    #[error(transparent)]
    Io(io::Error),
}

/// What stands at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    SymbolicLink,
    /// Another name of a file that came before.
    HardLink,
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Seconds and nanoseconds since 1970; the second is counted forward from the first, also before that year.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Bytes of a file that are in the archive: where they are in the file, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

/// One entry. Its content follows, read by [`super::Reader::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From the root of the archive, without `.`, `..` or a slash before it; empty for the root itself.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target: as it stands there of a symbolic link, a path as above of a hard one.
    pub(crate) link: Vec<u8>,
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    /// Length of the file, holes included.
    pub(crate) size: u64,
    /// What is no hole, in its order.
    pub(crate) pieces: Vec<Piece>,
    /// Names and values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A number in a record or a map: decimal digits alone.
pub(super) fn number(digits: &[u8]) -> Result<u64, &'static str> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok())
        .ok_or("a number in a pax record")
}
