//! Reads archives of tar as a root file system comes in: POSIX ustar and pax (IEEE Std 1003.1, pax, "ustar Interchange Format" and "pax
//! Header Block"), and what GNU tar adds (long names, sparse files; the tar manual, "GNU tar Archive Format" and "Storing Sparse Files").
//! Fields of a header are read by the crate `tar`; its own walk over an archive keeps headers of any length in memory, splits values of
//! extended attributes at newlines, and takes an archive that lost its end for a whole one. Everything here has a bound. Nothing is written.

mod entry;
mod pax;
mod sparse;

use std::io::{self, Read};

pub use self::entry::TarError;
pub(crate) use self::entry::{Entry, Kind, Time};
use self::pax::Pax;
use self::sparse::Map;

/// Headers and contents fill blocks of so many bytes.
const BLOCK: usize = 512;
/// Longest name, target of a link included: `PATH_MAX` of Linux, which counts the closing zero.
const MAX_NAME: usize = 4095;
/// Longest pax header: the extended attributes of one file may have 64 KiB each in Linux, and a few do.
const MAX_PAX: u64 = 1 << 20;

/// An archive, entry by entry.
pub(crate) struct Reader<R> {
    from: R,
    /// Bytes read so far.
    at: u64,
    /// Of the entry's content, not read yet; and what fills its last block.
    left: u64,
    padding: u64,
    /// What a global pax header says of all that follow.
    global: Pax,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            at: 0,
            left: 0,
            padding: 0,
            global: Pax::default(),
        }
    }

    /// The next entry; what is left of the one before is passed over. `None` at the archive's own end.
    ///
    /// # Errors
    /// The stream ends before the archive does, or what stands there is none.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let (mut pax, mut long_path, mut long_link) = (self.global.clone(), None, None);
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = self.field("a size", header.entry_size())?;
            match header.entry_type().as_byte() {
                b'L' => long_path = Some(self.long_name(size)?),
                b'K' => long_link = Some(self.long_name(size)?),
                b'x' => {
                    let records = self.pax_header(size)?;
                    pax.take(&records).map_err(|what| self.damaged(what))?;
                }
                b'g' => {
                    let records = self.pax_header(size)?;
                    self.global.take(&records).map_err(|what| self.damaged(what))?;
                    pax = self.global.clone();
                }
                // A label of the volume, and a list of what a folder held when an incremental archive was made.
                b'V' => self.content_of(size),
                _ => return self.entry(&header, size, pax, (long_path, long_link)).map(Some),
            }
        }
    }

    /// Some bytes of the entry's content, holes left out; 0 at its end.
    ///
    /// # Errors
    /// The stream ends before the content does.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.some(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(TarError::BreaksOff { at: self.at });
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// What the archive was read from, for what comes after it.
    pub(crate) fn into_inner(self) -> R {
        self.from
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.from.read(buffer) {
                Ok(read) => {
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Io(error)),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let mut have = 0;
        while have < buffer.len() {
            match self.some(&mut buffer[have..])? {
                0 => return Err(TarError::BreaksOff { at: self.at }),
                read => have += read,
            }
        }
        Ok(())
    }

    fn damaged(&self, what: &'static str) -> TarError {
        TarError::Damaged { what, at: self.at }
    }

    fn refused(&self, what: &'static str) -> TarError {
        TarError::Refused { what, at: self.at }
    }

    /// A number that the crate read.
    fn field<T>(&self, what: &'static str, read: io::Result<T>) -> Result<T, TarError> {
        read.map_err(|_| self.damaged(what))
    }

    fn content_of(&mut self, bytes: u64) {
        self.left = bytes;
        self.padding = (BLOCK as u64 - bytes % BLOCK as u64) % BLOCK as u64;
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 16 * BLOCK];
        while self.left > 0 {
            self.read(&mut buffer)?;
        }
        let padding = self.padding as usize;
        self.padding = 0;
        self.fill(&mut buffer[..padding])
    }

    /// The next header; `None` for a block of zeros, which ends an archive.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        /// Where the sum of all bytes stands, which counts as spaces itself.
        const SUM: std::ops::Range<usize> = 148..156;
        let mut header = tar::Header::new_old();
        self.fill(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let of = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let sum = of(&bytes[..SUM.start]) + SUM.len() as u32 * u32::from(b' ') + of(&bytes[SUM.end..]);
        match header.cksum() {
            Ok(said) if said == sum => Ok(Some(header)),
            _ => Err(self.damaged("a header has another sum than it says")),
        }
    }

    /// The content of a header of GNU for the next one.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_NAME as u64 + 1 {
            return Err(self.refused("a name of more than 4095 bytes"));
        }
        let mut name = self.whole(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn pax_header(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_PAX {
            return Err(self.refused("a pax header of more than 1 MiB"));
        }
        self.whole(size)
    }

    /// So many bytes of content, which were found to be few.
    fn whole(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.content_of(size);
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        size: u64,
        pax: Pax,
        long: (Option<Vec<u8>>, Option<Vec<u8>>),
    ) -> Result<Entry, TarError> {
        let path = pax
            .path()
            .or(long.0)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.clone().or(long.1);
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let link = link.unwrap_or_default();
        if path.len() > MAX_NAME || link.len() > MAX_NAME || [&path, &link].iter().any(|name| name.contains(&0)) {
            return Err(self.refused("a name of more than 4095 bytes, or with a zero in it"));
        }
        let stored = pax.size.unwrap_or(size);
        let kind = self.kind(header, &path)?;
        // A hard link may have the size of what it leads to, and a folder any: nothing is stored of either.
        match kind {
            Kind::File => self.content_of(stored),
            Kind::HardLink | Kind::Folder => self.content_of(0),
            _ if stored == 0 => self.content_of(0),
            _ => return Err(self.damaged("what is no file has a content")),
        }
        let map = match kind {
            Kind::File => self.map(header, stored, &pax)?,
            _ => Map::none(),
        };
        let owner = |said: Option<u64>, read: io::Result<u64>| match said.map_or(read, Ok).map(u32::try_from) {
            Ok(Ok(id)) => Ok(id),
            _ => Err(self.damaged("an owner")),
        };
        let modified = |read: io::Result<u64>| {
            let seconds = read.ok().and_then(|seconds| i64::try_from(seconds).ok());
            let nanoseconds = 0;
            seconds
                .map(|seconds| Time { seconds, nanoseconds })
                .ok_or_else(|| self.damaged("a time"))
        };
        Ok(Entry {
            link: match kind {
                Kind::HardLink => self.clean(&link)?,
                _ => link,
            },
            path: self.clean(&path)?,
            kind,
            mode: self.field("permissions", header.mode())? & 0o7777,
            uid: owner(pax.uid, header.uid())?,
            gid: owner(pax.gid, header.gid())?,
            modified: match pax.modified {
                Some(time) => time,
                None => modified(header.mtime())?,
            },
            size: map.size,
            pieces: map.pieces,
            xattrs: pax.xattrs,
        })
    }

    fn kind(&self, header: &tar::Header, path: &[u8]) -> Result<Kind, TarError> {
        let device = || {
            let number = |read: io::Result<Option<u32>>| read.ok().flatten().ok_or_else(|| self.damaged("a device"));
            Ok((number(header.device_major())?, number(header.device_minor())?))
        };
        Ok(match header.entry_type().as_byte() {
            // Before POSIX, folders were told by their names.
            0 if path.ends_with(b"/") => Kind::Folder,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => device().map(|(major, minor)| Kind::CharacterDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            _ => return Err(self.refused("an entry of a kind that is not known")),
        })
    }

    /// Where the stored bytes belong.
    fn map(&mut self, header: &tar::Header, stored: u64, pax: &Pax) -> Result<Map, TarError> {
        let is_gnu = header.entry_type().as_byte() == b'S';
        let map = match (&pax.sparse, header.as_gnu()) {
            (sparse, _) if sparse.is_in_content() => {
                let text = self.map_in_content()?;
                sparse::of_content(&text, sparse.size)
            }
            (sparse, _) if sparse.size.is_some() => sparse.map(),
            (_, Some(gnu)) if is_gnu => {
                let mut pieces = sparse::Pieces::default();
                let mut took = pieces.take_gnu(&gnu.sparse);
                let mut goes_on = gnu.is_extended();
                while goes_on && took.is_ok() {
                    let mut more = tar::GnuExtSparseHeader::new();
                    self.fill(more.as_mut_bytes())?;
                    took = pieces.take_gnu(&more.sparse);
                    goes_on = more.is_extended();
                }
                let size = gnu.real_size().map_err(|_| "a size");
                took.and_then(|()| pieces.map(size?))
            }
            (_, None) if is_gnu => Err("a sparse file without a map"),
            _ => return Ok(Map::whole(stored)),
        };
        let map = map.map_err(|what| self.damaged(what))?;
        match map.stored() == Some(self.left) {
            true => Ok(map),
            false => Err(self.damaged("a sparse file has more or less than its map says")),
        }
    }

    /// The map that stands before the content, in whole blocks.
    fn map_in_content(&mut self) -> Result<Vec<u8>, TarError> {
        let mut text = Vec::new();
        while !sparse::is_whole(&text) {
            if text.len() >= sparse::MAX_TEXT || self.left < BLOCK as u64 {
                return Err(self.damaged("a sparse file without the end of its map"));
            }
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            self.left -= BLOCK as u64;
            text.extend_from_slice(&block);
        }
        Ok(text)
    }

    /// A path below the root, whatever its writer thought the root to be.
    fn clean(&self, path: &[u8]) -> Result<Vec<u8>, TarError> {
        let parts = path.split(|byte| *byte == b'/');
        let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
        match parts.contains(&&b".."[..]) {
            true => Err(self.refused("a name with .. in it")),
            false => Ok(parts.join(&b'/')),
        }
    }
}

#[cfg(test)]
mod tests;
