//! Where the stored bytes of a file with holes belong: the maps of GNU tar's old format, and of its pax formats 0.0, 0.1 and 1.0.

use super::entry::{Piece, number};

/// Pieces of one file, at most; 16 bytes of memory each.
const MAX_PIECES: usize = 1 << 16;
/// Longest map that stands before the content: two numbers of 20 digits a piece, and their number.
pub(super) const MAX_TEXT: usize = (2 * MAX_PIECES + 1) * 21;

/// A file: how long it is, and what of it is no hole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) size: u64,
    pub(super) pieces: Vec<Piece>,
}

impl Map {
    pub(super) fn none() -> Self {
        Self {
            size: 0,
            pieces: Vec::new(),
        }
    }

    pub(super) fn whole(size: u64) -> Self {
        let piece = Piece { at: 0, bytes: size };
        let pieces = Some(piece).filter(|piece| piece.bytes > 0);
        Self {
            size,
            pieces: pieces.into_iter().collect(),
        }
    }

    /// Bytes that the archive holds of it.
    pub(super) fn stored(&self) -> Option<u64> {
        self.pieces
            .iter()
            .try_fold(0_u64, |sum, piece| sum.checked_add(piece.bytes))
    }
}

/// Pieces as they come.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    fn push(&mut self, at: u64, bytes: u64) -> Result<(), &'static str> {
        if self.0.len() == MAX_PIECES {
            return Err("a sparse file of more than 65536 pieces");
        }
        self.0.push(Piece { at, bytes });
        Ok(())
    }

    /// Those of one header.
    pub(super) fn take_gnu(&mut self, headers: &[tar::GnuSparseHeader]) -> Result<(), &'static str> {
        for header in headers.iter().filter(|header| !header.is_empty()) {
            let (Ok(at), Ok(bytes)) = (header.offset(), header.length()) else {
                return Err("the map of a sparse file");
            };
            self.push(at, bytes)?;
        }
        Ok(())
    }

    /// In order, apart, and within the file.
    pub(super) fn map(self, size: u64) -> Result<Map, &'static str> {
        let mut end = 0;
        for piece in &self.0 {
            if piece.at < end {
                return Err("the map of a sparse file goes back");
            }
            end = piece.at.checked_add(piece.bytes).ok_or("the map of a sparse file")?;
        }
        // A last piece of nothing stands for the end.
        let pieces = self.0.into_iter().filter(|piece| piece.bytes > 0).collect();
        match end <= size {
            true => Ok(Map { size, pieces }),
            false => Err("the map of a sparse file goes beyond its end"),
        }
    }
}

/// What pax records say of a sparse file.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    major: Option<u64>,
    pieces: Pieces,
    /// Of a piece whose length comes next.
    at: Option<u64>,
}

impl Said {
    /// One record; those that are of something else are passed over.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"GNU.sparse.name" => self.path = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.size = Some(number(value)?),
            b"GNU.sparse.major" => self.major = Some(number(value)?),
            b"GNU.sparse.offset" => self.at = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let at = self.at.take().ok_or("the map of a sparse file")?;
                self.pieces.push(at, number(value)?)?;
            }
            b"GNU.sparse.map" => {
                self.pieces = Pieces::default();
                pairs(value.split(|byte| *byte == b','), &mut self.pieces)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Format 1.0.
    pub(super) fn is_in_content(&self) -> bool {
        self.major == Some(1)
    }

    /// Formats 0.0 and 0.1.
    pub(super) fn map(&self) -> Result<Map, &'static str> {
        match (self.major, self.size) {
            (None | Some(0), Some(size)) => self.pieces.clone().map(size),
            _ => Err("a sparse file of a format that is not known"),
        }
    }
}

/// Numbers in turn: where, and how many.
fn pairs<'a>(mut words: impl Iterator<Item = &'a [u8]>, pieces: &mut Pieces) -> Result<(), &'static str> {
    while let Some(at) = words.next().filter(|word| !word.is_empty()) {
        let bytes = words.next().ok_or("the map of a sparse file")?;
        pieces.push(number(at)?, number(bytes)?)?;
    }
    Ok(())
}

/// How many numbers the map has that begins so; `None`: more has to be read.
fn wanted(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let pieces = number(&text[..end])
        .ok()
        .and_then(|pieces| usize::try_from(pieces).ok());
    // What cannot be read is found to be so where it is read.
    Some(
        pieces
            .filter(|pieces| *pieces <= MAX_PIECES)
            .map_or(0, |pieces| 2 * pieces),
    )
}

/// Whether all of a map of format 1.0 is there.
pub(super) fn is_whole(text: &[u8]) -> bool {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    wanted(text).is_some_and(|wanted| lines > wanted)
}

/// Reads it.
pub(super) fn of_content(text: &[u8], size: Option<u64>) -> Result<Map, &'static str> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let count = number(lines.next().unwrap_or_default())?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PIECES);
    let count = count.ok_or("a sparse file of more than 65536 pieces")?;
    let mut pieces = Pieces::default();
    pairs(lines.take(2 * count), &mut pieces)?;
    match pieces.0.len() == count {
        true => pieces.map(size.ok_or("a sparse file without its size")?),
        false => Err("the map of a sparse file"),
    }
}
