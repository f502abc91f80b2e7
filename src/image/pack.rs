//! A tree as an archive of tar (ustar, and pax headers where that does not do): in the order of its names, with times no later than
//! asked, so that the same tree gives the same bytes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::ImageError;
use crate::sys::tree;

/// Longest name in a header; a longer one stands in a pax record.
const NAME: usize = 100;
/// Largest owner, and length or time, that a header's octal digits say.
const MAX_OWNER: u64 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
/// Bytes that are looked at for nothing but zeros at once: what file systems keep apart as a hole.
pub(super) const HOLE: usize = 4096;

/// What went in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) entries: u64,
    /// Of the contents of all files, without what is nothing but zeros.
    pub(crate) bytes: u64,
}

/// What is asked of it.
pub(crate) struct Options<'a> {
    /// The latest time of an entry, in seconds since 1970.
    pub(crate) newest: u64,
    /// Paths below the root that stay out, where they are no folders.
    pub(crate) leave_out: &'a dyn Fn(&[u8]) -> bool,
    /// With access lists. Without them the group has what its list gives it: the permissions of who has a list say what all in it may have
    /// at most (acl(5)).
    pub(crate) access_lists: bool,
}

/// Writes the tree at `root` as an archive, with its end. Other file systems that are mounted below it stay out, and so do sockets.
///
/// # Errors
/// Something of it cannot be read, or changed while it was read.
pub(crate) fn pack(root: &Path, out: impl Write, options: &Options<'_>) -> Result<Packed, ImageError> {
    // Where a link leads to it, what it leads to is packed.
    let root = &fs::canonicalize(root).map_err(ImageError::at(root))?;
    let metadata = fs::metadata(root).map_err(ImageError::at(root))?;
    let mut packing = Packing {
        builder: tar::Builder::new(out),
        options,
        device: metadata.dev(),
        links: HashMap::new(),
        packed: Packed::default(),
    };
    packing.folder(root, Path::new(""), &metadata)?;
    let mut out = packing.builder.into_inner().map_err(ImageError::at(root))?;
    out.flush().map_err(ImageError::at(root))?;
    Ok(packing.packed)
}

struct Packing<'a, W: Write> {
    builder: tar::Builder<W>,
    options: &'a Options<'a>,
    device: u64,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    packed: Packed,
}

impl<W: Write> Packing<'_, W> {
    /// A folder and all below it. `path` is its own, `below` counts from the root.
    fn folder(&mut self, path: &Path, below: &Path, metadata: &Metadata) -> Result<(), ImageError> {
        self.entry(path, below, metadata, EntryType::Directory, None)?;
        if metadata.dev() != self.device {
            return Ok(());
        }
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(path).map_err(ImageError::at(path))? {
            names.push(entry.map_err(ImageError::at(path))?.file_name());
        }
        names.sort();
        for name in names {
            let (path, below) = (path.join(&name), below.join(&name));
            let metadata = fs::symlink_metadata(&path).map_err(ImageError::at(&path))?;
            if !metadata.is_dir() && (self.options.leave_out)(below.as_os_str().as_bytes()) {
                continue;
            }
            self.one(&path, &below, &metadata)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, below: &Path, metadata: &Metadata) -> Result<(), ImageError> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.folder(path, below, metadata);
        }
        if kind.is_socket() {
            return Ok(());
        }
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode).cloned() {
                return self.entry(path, below, metadata, EntryType::Link, Some(first.into_os_string()));
            }
            self.links.insert(inode, below.to_owned());
        }
        let kind = match () {
            () if kind.is_file() => EntryType::Regular,
            () if kind.is_symlink() => {
                let target = fs::read_link(path).map_err(ImageError::at(path))?;
                return self.entry(path, below, metadata, EntryType::Symlink, Some(target.into_os_string()));
            }
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () => EntryType::Fifo,
        };
        self.entry(path, below, metadata, kind, None)
    }

    fn entry(
        &mut self,
        path: &Path,
        below: &Path,
        metadata: &Metadata,
        kind: EntryType,
        link: Option<OsString>,
    ) -> Result<(), ImageError> {
        let at = ImageError::at(path);
        let mut head = Head::new(below, metadata, kind, self.options.newest);
        head.name("linkpath", &link.map(OsString::into_vec).unwrap_or_default());
        // Another name of a file has no attributes of its own.
        if kind != EntryType::Link {
            for (name, value) in tree::xattrs(path).map_err(&at)? {
                if !self.options.access_lists && ACCESS_LISTS.contains(&name.as_slice()) {
                    if name == ACCESS_LISTS[0] {
                        head.header.set_mode(without_list(metadata.mode(), &value) & 0o7777);
                    }
                    continue;
                }
                let name = String::from_utf8(name);
                let name = name.map_err(|_| at(io::Error::other("an extended attribute has no name in UTF-8")))?;
                head.records.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        if kind.is_character_special() || kind.is_block_special() {
            let numbers = tree::numbers(metadata.rdev());
            head.header.set_device_major(numbers.major).map_err(&at)?;
            head.header.set_device_minor(numbers.minor).map_err(&at)?;
        }
        head.header.set_cksum();
        let records = head
            .records
            .iter()
            .map(|(word, value)| (word.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records).map_err(&at)?;
        let size = if kind == EntryType::Regular { metadata.len() } else { 0 };
        self.content(path, &head.header, size)?;
        self.packed.entries += 1;
        Ok(())
    }

    fn content(&mut self, path: &Path, header: &Header, size: u64) -> Result<(), ImageError> {
        let at = ImageError::at(path);
        if size == 0 {
            return self.builder.append(header, io::empty()).map_err(at);
        }
        let file = File::open(path).map_err(&at)?;
        let mut whole = Whole {
            file: file.take(size),
            buffer: vec![0; HOLE],
            have: 0..0,
            bytes: 0,
        };
        self.builder.append(header, &mut whole).map_err(&at)?;
        self.packed.bytes += whole.bytes;
        // The archive has the length that its header says in any case; a shorter content would shift what follows.
        match whole.file.limit() {
            0 => Ok(()),
            _ => Err(at(io::Error::other("it became shorter while it was read"))),
        }
    }
}

/// A file's own list, and that of what will be made in a folder.
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// The permissions of a file whose list goes: the group's, as far as the mask lets them (include/uapi/linux/posix_acl_xattr.h: a version,
/// then entries of tag, permissions and id). A list that is not understood leaves the group nothing.
fn without_list(mode: u32, list: &[u8]) -> u32 {
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let of = |tag: u16| {
        let mut entries = entries.clone();
        let entry = entries.find(|entry| entry[..2] == tag.to_le_bytes())?;
        Some(u32::from(entry[2] & 0o7))
    };
    let group = of(GROUP_OBJ).unwrap_or(0) & of(MASK).unwrap_or(0o7);
    mode & !0o070 | group << 3
}

/// A header, and the records of what does not fit into it.
struct Head {
    header: Header,
    records: Vec<(String, Vec<u8>)>,
}

impl Head {
    fn new(below: &Path, metadata: &Metadata, kind: EntryType, newest: u64) -> Self {
        let mut head = Self {
            header: Header::new_ustar(),
            records: Vec::new(),
        };
        let mut name = below.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            name.push(b'/');
        }
        if name == b"/" {
            name = b"./".to_vec();
        }
        head.name("path", &name);
        head.header.set_entry_type(kind);
        head.header.set_mode(metadata.mode() & 0o7777);
        let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
        head.header.set_mtime(modified.min(newest).min(MAX_SIZE));
        let uid = head.number("uid", metadata.uid().into(), MAX_OWNER);
        head.header.set_uid(uid);
        let gid = head.number("gid", metadata.gid().into(), MAX_OWNER);
        head.header.set_gid(gid);
        let size = if kind == EntryType::Regular { metadata.len() } else { 0 };
        let size = head.number("size", size, MAX_SIZE);
        head.header.set_size(size);
        head
    }

    /// A name as it is, which the setters of the crate would not take.
    fn name(&mut self, word: &str, name: &[u8]) {
        // Where POSIX has them: the name first, the target behind the kind.
        const TARGET: usize = 157;
        let at = if word == "path" { 0 } else { TARGET };
        let length = name.len().min(NAME);
        self.header.as_mut_bytes()[at..at + length].copy_from_slice(&name[..length]);
        if name.len() > NAME {
            self.records.push((word.to_owned(), name.to_vec()));
        }
    }

    /// What the field says, at most.
    fn number(&mut self, word: &str, number: u64, most: u64) -> u64 {
        if number > most {
            self.records.push((word.to_owned(), number.to_string().into_bytes()));
        }
        number.min(most)
    }
}

/// A file in steps of what may be a hole.
struct Whole {
    file: io::Take<File>,
    buffer: Vec<u8>,
    have: std::ops::Range<usize>,
    /// Of steps that are more than zeros.
    bytes: u64,
}

impl Read for Whole {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.have.is_empty() {
            let mut end = 0;
            while end < self.buffer.len() {
                match self.file.read(&mut self.buffer[end..])? {
                    0 => break,
                    read => end += read,
                }
            }
            self.have = 0..end;
            if self.buffer[..end].iter().any(|byte| *byte != 0) {
                self.bytes += end as u64;
            }
        }
        let length = self.have.len().min(out.len());
        out[..length].copy_from_slice(&self.buffer[self.have.start..][..length]);
        self.have.start += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_keeps_what_list_and_mask_gave_it() {
        let list = |entries: &[(u8, u8)]| {
            let entries = entries
                .iter()
                .flat_map(|(tag, rights)| [*tag, 0, *rights, 0, 255, 255, 255, 255]);
            [2, 0, 0, 0].into_iter().chain(entries).collect::<Vec<u8>>()
        };
        for (entries, group) in [
            (&[(1, 7), (4, 4), (0x10, 6), (0x20, 0)][..], 0o040),
            (&[(1, 7), (4, 6), (0x10, 4), (0x20, 0)], 0o040),
            (&[(1, 7), (4, 6), (0x20, 0)], 0o060),
            (&[], 0),
        ] {
            assert_eq!(
                without_list(0o104_775, &list(entries)),
                0o104_705 | group,
                "{entries:?}"
            );
        }
        assert_eq!(without_list(0o664, b"x"), 0o604);
    }
}
