//! `recon-inventory.tar.gz`: the newest upload of every node in one file, with sums that `sha256sum -c` checks.
//!
//! The file is a row of gzip members, which every gunzip reads as one stream: one member with `SHA256SUMS`, one for each
//! node, one with the end of the tar. A node's member depends on nothing but its upload, so a rebuild copies the
//! members of unchanged nodes out of the file it replaces, and costs what the new nodes cost. The result is the same,
//! byte for byte, as if it had been built anew.

mod verify;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use sha2::{Digest, Sha256};

use super::medium::{self, Disk, Medium};
use super::upload::{self, Item, UploadError, UploadLimits};
use super::{Sha, UploadName, digest_of, hex};
use crate::model::NodeId;

pub use verify::{Verified, verify};

/// Name of the tarball on the data partition.
pub const FILE_NAME: &str = "recon-inventory.tar.gz";
/// Name of the list of sums inside it, which is its first entry.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// Name of the list of nodes that call themselves the same; only there where there are some.
pub const CLASHES_NAME: &str = "CLASHES.txt";

/// The fastest level: the tarball is rebuilt on a server that has better things to do, and written to a slow stick.
const LEVEL: u32 = 1;

/// Uploads up to this length are packed in memory, several at once; larger ones are streamed one by one.
const SMALL_BYTES: u64 = 512 * 1024;

/// Threads that pack: a master has many cores and little else to do with them, but memory is bounded by their number.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

/// `work` on every item, on some threads, with the results in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers().min(items.len()))
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, run).ok())
            .collect();
        let mut results = run();
        for other in others {
            match other.join() {
                Ok(done) => results.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A whole upload that goes into the tarball.
pub trait Upload: Sync {
    fn id(&self) -> &NodeId;
    fn name(&self) -> UploadName;
    fn size_bytes(&self) -> u64;
    /// A new reader at the start of the upload.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("no room for the tarball: {needed} bytes needed, {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error("{operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the tarball does not read back: {0}")]
    Wrong(String),
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io {
        operation,
        path,
        source,
    }
}

/// What a build wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    pub nodes: usize,
    pub files: usize,
    pub size_bytes: u64,
    /// Nodes whose member was copied from the tarball before.
    pub reused: usize,
    /// Uploads that were left out, with the reason: bytes that changed on the medium since they were stored.
    pub left_out: Vec<(NodeId, String)>,
}

/// Sums of one upload's files as they stand in `SHA256SUMS`, and the files' count.
#[derive(Debug, Clone)]
struct Sums {
    lines: Arc<[u8]>,
    files: usize,
}

/// Where a node's member lies in the tarball.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: u64,
    /// CRC-32 of the member as it was written: what a bad medium gives back is not copied.
    crc: u32,
}

/// A node's upload, as the builder remembers it.
type Key = (NodeId, UploadName);

/// What `write` made.
struct Draft {
    places: HashMap<Key, Place>,
    files: usize,
    reused: usize,
    size_bytes: u64,
}

/// Builds the tarball again and again for one store. Holds about 100 bytes of memory for each file in it.
pub struct Builder {
    limits: UploadLimits,
    medium: Arc<dyn Medium>,
    mtime: u64,
    sums: HashMap<Key, Sums>,
    /// Members of the tarball as this builder wrote it.
    places: HashMap<Key, Place>,
    written: Option<(PathBuf, u64)>,
}

impl Builder {
    pub fn new(limits: UploadLimits) -> Self {
        Builder::on(limits, Arc::new(Disk))
    }

    pub fn on(limits: UploadLimits, medium: Arc<dyn Medium>) -> Self {
        Builder {
            limits,
            medium,
            mtime: 0,
            sums: HashMap::new(),
            places: HashMap::new(),
            written: None,
        }
    }

    /// Time stamp of every entry, in seconds since 1970; 0 unless set.
    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self.places.clear();
        self
    }

    /// Writes the tarball of `uploads` to `out`: temporary name beside it, fsync, rename, sync of the folder. The same
    /// uploads give the same bytes, whatever their order. An error leaves the tarball that was there before.
    pub fn rebuild<U: Upload>(&mut self, uploads: &[U], out: &Path) -> Result<Built, ArchiveError> {
        let result = self.attempt(uploads, out);
        if matches!(&result, Err(error) if !matches!(error, ArchiveError::NoSpace { .. })) && !self.sums.is_empty() {
            // The old tarball, or an upload that was well when it was summed, may be what cannot be read.
            self.places.clear();
            self.sums.clear();
            return self.attempt(uploads, out);
        }
        result
    }

    fn attempt<U: Upload>(&mut self, uploads: &[U], out: &Path) -> Result<Built, ArchiveError> {
        let folder = match out.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut left_out = Vec::new();
        let mut nodes: BTreeMap<&NodeId, (&U, Sums)> = BTreeMap::new();
        for (upload, sums) in uploads.iter().zip(in_parallel(uploads, |upload| self.sums_of(upload))) {
            match sums {
                Ok(sums) => {
                    self.sums.insert((upload.id().clone(), upload.name()), sums.clone());
                    nodes.insert(upload.id(), (upload, sums));
                }
                Err(reason) => left_out.push((upload.id().clone(), reason)),
            }
        }
        self.sums
            .retain(|(id, name), _| nodes.get(id).is_some_and(|(upload, _)| upload.name() == *name));

        // A little more than the uploads themselves, as the members are packed less tightly.
        let content: u64 = nodes.values().map(|(upload, _)| upload.size_bytes() + 1024).sum();
        let needed = content + content / 4;
        let free = self
            .medium
            .free_bytes(folder)
            .map_err(io_error("asking for the room on", folder))?;
        if needed > free {
            return Err(ArchiveError::NoSpace { needed, free });
        }

        let mut temporary = out.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        match self.write(&nodes, out, &temporary, needed) {
            Ok(Draft {
                places,
                files,
                reused,
                size_bytes,
            }) => {
                self.places = places;
                self.written = Some((out.to_owned(), size_bytes));
                // The rename is done; a folder that does not sync leaves the old tarball after a power cut, not a torn one.
                self.medium.sync_folder(folder).map_err(io_error("syncing", folder))?;
                Ok(Built {
                    nodes: nodes.len(),
                    files,
                    size_bytes,
                    reused,
                    left_out,
                })
            }
            Err(error) => {
                // The first error is the one to report.
                let _ = self.medium.remove_file(&temporary);
                Err(error)
            }
        }
    }

    fn write<U: Upload>(
        &self,
        nodes: &BTreeMap<&NodeId, (&U, Sums)>,
        out: &Path,
        temporary: &Path,
        needed: u64,
    ) -> Result<Draft, ArchiveError> {
        let failed = |error: io::Error| {
            if medium::is_no_space(&error) {
                let free = self
                    .medium
                    .free_bytes(temporary.parent().unwrap_or(temporary))
                    .unwrap_or(0);
                return ArchiveError::NoSpace { needed, free };
            }
            io_error("writing", temporary)(error)
        };
        match self.medium.remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = self.medium.create(temporary).map_err(failed)?;
        let mut writer = BufWriter::with_capacity(256 * 1024, Steps::new(self.medium.as_ref(), file));
        let mut previous = self.previous(out);
        let mut places = HashMap::new();
        let (mut files, mut reused) = (0, 0);

        let clashes = clashes_text(nodes.keys().copied());
        let mut clashes_line = Vec::new();
        if !clashes.is_empty() {
            sum_line(&mut clashes_line, &Sha256::digest(&clashes).into(), CLASHES_NAME);
        }
        let sums_length: u64 = nodes.values().map(|(_, sums)| sums.lines.len() as u64).sum();
        let sums_length = sums_length + clashes_line.len() as u64;
        let mut member = GzEncoder::new(&mut writer, Compression::new(LEVEL));
        self.header(&mut member, SUMS_NAME, sums_length).map_err(failed)?;
        for (_, sums) in nodes.values() {
            member.write_all(&sums.lines).map_err(failed)?;
        }
        member.write_all(&clashes_line).map_err(failed)?;
        pad(&mut member, sums_length).map_err(failed)?;
        if !clashes.is_empty() {
            files += 1;
            let length = clashes.len() as u64;
            self.header(&mut member, CLASHES_NAME, length).map_err(failed)?;
            member.write_all(clashes.as_bytes()).map_err(failed)?;
            pad(&mut member, length).map_err(failed)?;
        }
        member.finish().map_err(failed)?;

        let all: Vec<(Key, &U, usize)> = nodes
            .iter()
            .map(|(id, (upload, sums))| (((*id).clone(), upload.name()), *upload, sums.files))
            .collect();
        // Members made ahead, at most a window of small ones at a time.
        let mut ahead: HashMap<Key, Vec<u8>> = HashMap::new();
        for (index, (key, upload, node_files)) in all.iter().enumerate() {
            writer.flush().map_err(failed)?;
            let offset = writer.get_mut().begin_member();
            let old = self.places.get(key).copied();
            let copied = match (old, previous.as_mut()) {
                (Some(place), Some(previous)) => copy_member(previous, place, &mut writer).map_err(failed)?,
                _ => false,
            };
            if copied {
                reused += 1;
            } else {
                if !ahead.contains_key(key) && upload.size_bytes() <= SMALL_BYTES {
                    let wanted = |(key, upload, _): &&(Key, &U, usize)| {
                        upload.size_bytes() <= SMALL_BYTES && !self.places.contains_key(key)
                    };
                    let window: Vec<&(Key, &U, usize)> =
                        all[index..].iter().filter(wanted).take(2 * workers()).collect();
                    let made = in_parallel(&window, |(_, upload, _)| {
                        let mut member = Vec::new();
                        self.node(*upload, &mut member).map(|()| member)
                    });
                    for ((key, _, _), member) in window.into_iter().zip(made) {
                        ahead.insert(key.clone(), member.map_err(failed)?);
                    }
                }
                match ahead.remove(key) {
                    Some(member) => writer.write_all(&member).map_err(failed)?,
                    None => self.node(*upload, &mut writer).map_err(failed)?,
                }
            }
            writer.flush().map_err(failed)?;
            let (length, crc) = (writer.get_ref().length - offset, writer.get_ref().crc.sum());
            if copied && old.is_none_or(|place| place.crc != crc || place.length != length) {
                return Err(failed(io::ErrorKind::InvalidData.into()));
            }
            places.insert(key.clone(), Place { offset, length, crc });
            files += node_files;
        }

        let mut member = GzEncoder::new(&mut writer, Compression::new(LEVEL));
        member.write_all(&[0u8; 1024]).map_err(failed)?;
        member.finish().map_err(failed)?;
        let steps = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        self.medium.sync_file(&steps.file).map_err(failed)?;
        let length = steps.length;
        drop(steps);
        self.medium.rename(temporary, out).map_err(io_error("naming", out))?;
        Ok(Draft {
            places,
            files,
            reused,
            size_bytes: length,
        })
    }

    /// The tarball this builder wrote last, if it still looks like it.
    fn previous(&self, out: &Path) -> Option<File> {
        let (path, length) = self.written.as_ref()?;
        let file = File::open(path).ok()?;
        (path == out && file.metadata().ok()?.len() == *length).then_some(file)
    }

    /// Reads an upload once: checks its digest, and sums its files.
    fn sums_of<U: Upload>(&self, upload: &U) -> Result<Sums, String> {
        let name = upload.name();
        let key = (upload.id().clone(), name);
        if let Some(sums) = self.sums.get(&key) {
            return Ok(sums.clone());
        }
        let mut hashing = Hashing {
            inner: upload.open().map_err(|e| format!("cannot be read: {e}"))?,
            sha: Sha256::new(),
        };
        let prefix = format!("nodes/{}", upload.id());
        let mut lines = Vec::new();
        let mut files = 0;
        upload::walk(&mut hashing, &self.limits, |item| {
            if belongs(item.path) {
                let (digest, _) = digest_of(item.reader)?;
                sum_line(&mut lines, &digest, &format!("{prefix}/{}", item.path));
                files += 1;
            }
            Ok(())
        })
        .map_err(|error| match error {
            UploadError::Refused(text) => text,
            UploadError::Io(source) | UploadError::Visit(source) => format!("cannot be read: {source}"),
        })?;
        let digest: Sha = hashing.sha.finalize().into();
        if digest != name.sha256 {
            return Err("its content is not what its name says".into());
        }
        let proof = proof_text(name);
        sum_line(
            &mut lines,
            &Sha256::digest(proof.as_bytes()).into(),
            &format!("{prefix}/upload.sha256"),
        );
        Ok(Sums {
            lines: lines.into(),
            files: files + 1,
        })
    }

    /// Writes the member of one node. Its files were summed from the same bytes before.
    fn node<U: Upload>(&self, upload: &U, writer: &mut impl Write) -> io::Result<()> {
        let mut member = GzEncoder::new(writer, Compression::new(LEVEL));
        let prefix = format!("nodes/{}", upload.id());
        upload::walk(upload.open()?, &self.limits, |Item { path, size, reader }| {
            if belongs(path) {
                self.header(&mut member, &format!("{prefix}/{path}"), size)?;
                let copied = io::copy(reader, &mut member)?;
                if copied != size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                pad(&mut member, size)?;
            }
            Ok(())
        })
        .map_err(|error| match error {
            UploadError::Refused(text) => io::Error::new(io::ErrorKind::InvalidData, text),
            UploadError::Io(source) | UploadError::Visit(source) => source,
        })?;
        let proof = proof_text(upload.name());
        self.header(&mut member, &format!("{prefix}/upload.sha256"), proof.len() as u64)?;
        member.write_all(proof.as_bytes())?;
        pad(&mut member, proof.len() as u64)?;
        member.finish()?;
        Ok(())
    }

    fn header(&self, writer: &mut impl Write, path: &str, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        if path.len() > 100 {
            header.set_entry_type(tar::EntryType::GNULongName);
            header.set_size(path.len() as u64 + 1);
            self.finish_header(&mut header, "././@LongLink")?;
            writer.write_all(header.as_bytes())?;
            writer.write_all(path.as_bytes())?;
            writer.write_all(&[0])?;
            pad(writer, path.len() as u64 + 1)?;
            header = tar::Header::new_gnu();
        }
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        self.finish_header(&mut header, path)?;
        writer.write_all(header.as_bytes())
    }

    fn finish_header(&self, header: &mut tar::Header, path: &str) -> io::Result<()> {
        let name = &mut header.as_gnu_mut().ok_or(io::ErrorKind::InvalidData)?.name;
        let length = path.len().min(name.len());
        name[..length].copy_from_slice(&path.as_bytes()[..length]);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_cksum();
        Ok(())
    }
}

/// A line for each name that several nodes have. Their inventories say who they are.
fn clashes_text<'a>(ids: impl Iterator<Item = &'a NodeId>) -> String {
    let mut text = String::new();
    let mut ids = ids.peekable();
    while let Some(id) = ids.next() {
        let name = id.base();
        let mut nodes = vec![format!("nodes/{id}")];
        while let Some(other) = ids.next_if(|other| other.base() == name) {
            nodes.push(format!("nodes/{other}"));
        }
        if nodes.len() > 1 {
            let (count, nodes) = (nodes.len(), nodes.join(" "));
            text.push_str(&format!(
                "{count} machines name themselves by {}: {nodes}\n",
                name.described()
            ));
        }
    }
    text
}

/// What of an upload goes into the tarball.
fn belongs(path: &str) -> bool {
    path == "inventory.json" || path.starts_with("raw/") || path.starts_with("post/")
}

/// Content of `nodes/<id>/upload.sha256`: digest and name of the upload, as `sha256sum` prints them.
fn proof_text(name: UploadName) -> String {
    format!("{}  {name}\n", hex(&name.sha256))
}

/// Adds a line of `SHA256SUMS`. Names with a line break or backslash are escaped as coreutils does.
fn sum_line(lines: &mut Vec<u8>, digest: &Sha, path: &str) {
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    if escaped != path {
        lines.push(b'\\');
    }
    lines.extend_from_slice(hex(digest).as_bytes());
    lines.extend_from_slice(b"  ");
    lines.extend_from_slice(escaped.as_bytes());
    lines.push(b'\n');
}

fn pad(writer: &mut impl Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % 512).unwrap_or(0);
    if over > 0 {
        writer.write_all(&[0u8; 512][over..])?;
    }
    Ok(())
}

/// Copies a member; false, with nothing written, when it does not lie there.
fn copy_member(previous: &mut File, place: Place, writer: &mut impl Write) -> io::Result<bool> {
    let mut magic = [0u8; 2];
    let begins = previous
        .seek(SeekFrom::Start(place.offset))
        .and_then(|_| previous.read_exact(&mut magic));
    if begins.is_err() || magic != [0x1f, 0x8b] {
        return Ok(false);
    }
    writer.write_all(&magic)?;
    let rest = place.length.saturating_sub(2);
    if io::copy(&mut previous.take(rest), writer)? != rest {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(true)
}

/// The temporary file, written through the medium.
struct Steps<'a> {
    medium: &'a dyn Medium,
    file: File,
    length: u64,
    /// Of the member under way.
    crc: Crc,
}

impl<'a> Steps<'a> {
    fn new(medium: &'a dyn Medium, file: File) -> Self {
        Steps {
            medium,
            file,
            length: 0,
            crc: Crc::new(),
        }
    }

    fn begin_member(&mut self) -> u64 {
        self.crc.reset();
        self.length
    }
}

impl Write for Steps<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.medium.write(&mut self.file, bytes)?;
        self.length += bytes.len() as u64;
        self.crc.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashing<R> {
    inner: R,
    sha: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.sha.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
