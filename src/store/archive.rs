//! `recon-inventory.tar.gz`: the newest upload of every node in one file, with sums that `sha256sum -c` checks.
//!
//! The file is a row of gzip members, which every gunzip reads as one stream: one member with `SHA256SUMS`, one for each
//! node, one with the end of the tar. The sums come first, so the uploads are read twice: for their sums, then for their
//! content. Nothing is kept of an upload but a short list of sums, as long as all of them take little memory; beyond that its
//! sums are made once more. So a tarball of any size is made in bounded memory, into a file or onto a socket.

mod error;
mod names;
mod parallel;
mod verify;
mod writers;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

pub use self::error::ArchiveError;
use self::error::io_error;
pub use self::names::{CLASHES_NAME, LACKS_NAME, SUMS_NAME, Upload};
use self::names::{PROOF, belongs, clashes_text, proof_digest, proof_text, sum_line};
use self::parallel::{in_parallel, workers};
pub use self::verify::{Verified, holds, verify};
pub use self::writers::GoOn;
use self::writers::{Hashing, Short, Steps, Stoppable, pad};
use super::upload::{self, Item, UploadError, UploadLimits};
use super::{Sha, digest_of};
use crate::model::NodeId;
use crate::model::layout::TARBALL;
use crate::store::fs_ops;
use crate::store::fs_ops::{Disk, Medium};

/// The fastest level: the tarball is made on a server that has better things to do, and written to a slow stick.
const LEVEL: u32 = 1;
/// Uploads up to this length are packed in memory, several at once; larger ones are streamed one by one.
const SMALL_BYTES: u64 = 512 * 1024;
/// Longest member made in memory; what packs less well is made once more, streamed.
const MEMBER_BYTES: usize = 1 << 20;
/// Sums kept of all uploads together, in bytes; those of further ones are made once more.
const KEPT_BYTES: usize = 32 << 20;
/// Sums kept of one upload, likewise.
const KEPT_OF_ONE: usize = 64 * 1024;
/// Uploads summed before the next ones begin: what their threads hold is bounded by it.
const SUMMED_AT_ONCE: usize = 64;

/// What a build wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    pub nodes: usize,
    pub files: usize,
    pub size_bytes: u64,
    /// Uploads that were left out, with the reason: bytes that changed on the medium since they were stored.
    pub left_out: Vec<(NodeId, String)>,
}

/// Sums of one upload's files as they stand in `SHA256SUMS`, and the files' count.
#[derive(Default)]
struct Sums {
    /// `None` where they are too long to be kept.
    kept: Option<Vec<u8>>,
    length: u64,
    files: usize,
}

impl Sums {
    fn add(&mut self, line: &[u8]) {
        self.length += line.len() as u64;
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(line);
            if kept.len() > KEPT_OF_ONE {
                self.kept = None;
            }
        }
    }
}

/// What goes into a tarball, in its order.
struct Plan<'a, U> {
    nodes: Vec<(&'a U, Sums)>,
    left_out: Vec<(NodeId, String)>,
    /// Content of `INCOMPLETE.txt` and `CLASHES.txt`; empty where there is none.
    lacks: String,
    clashes: String,
}

impl<U> Plan<'_, U> {
    fn files(&self) -> usize {
        self.nodes.iter().map(|(_, sums)| sums.files).sum::<usize>() + self.lists().count()
    }

    /// Lists for people that stand beside `SHA256SUMS`: name and content.
    fn lists(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let lists = [(LACKS_NAME, self.lacks.as_str()), (CLASHES_NAME, self.clashes.as_str())];
        lists.into_iter().filter(|(_, text)| !text.is_empty())
    }
}

/// Makes tarballs of one kind.
pub struct Builder {
    limits: UploadLimits,
    medium: Arc<dyn Medium>,
    mtime: u64,
    lacks: Vec<String>,
    kept_bytes: usize,
    member_bytes: usize,
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
            lacks: Vec::new(),
            kept_bytes: KEPT_BYTES,
            member_bytes: MEMBER_BYTES,
        }
    }

    /// Time stamp of every entry, in seconds since 1970; 0 unless set.
    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    /// What is known to be missing among the uploads, a line each; it stands in `INCOMPLETE.txt`.
    pub fn lacks(mut self, lacks: Vec<String>) -> Self {
        self.lacks = lacks;
        self
    }

    /// Writes the tarball of `uploads` to `out`: temporary name beside it, fsync, rename, sync of the folder. The same
    /// uploads give the same bytes, whatever their order. An error leaves the tarball that was there before.
    pub fn rebuild<U: Upload>(&self, uploads: &[U], out: &Path) -> Result<Built, ArchiveError> {
        let mut temporary = out.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        let built = self.write(uploads, &temporary, 0, &|| true)?;
        let named = self.medium.rename(&temporary, out).map_err(io_error("naming", out));
        if named.is_err() {
            // The first error is the one to report.
            let _ = self.medium.remove_file(&temporary);
        }
        named?;
        let folder = folder_of(out);
        // The rename is done; a folder that does not sync leaves the old tarball after a power cut, not a torn one.
        self.medium.sync_folder(folder).map_err(io_error("syncing", folder))?;
        Ok(built)
    }

    /// Writes the tarball of `uploads` to `out` and syncs its content; replaces what is there. Leaves at least `reserve` bytes
    /// free. An error leaves no file.
    pub fn write<U: Upload>(
        &self,
        uploads: &[U],
        out: &Path,
        reserve: u64,
        go_on: GoOn<'_>,
    ) -> Result<Built, ArchiveError> {
        let written = self.try_write(uploads, out, reserve, go_on);
        if written.is_err() {
            // The first error is the one to report.
            let _ = self.medium.remove_file(out);
        }
        written
    }

    fn try_write<U: Upload>(
        &self,
        uploads: &[U],
        out: &Path,
        reserve: u64,
        go_on: GoOn<'_>,
    ) -> Result<Built, ArchiveError> {
        match self.medium.remove_file(out) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("removing", out)(error)),
            _ => {}
        }
        let plan = self.plan(uploads, go_on)?;
        // A little more than the uploads themselves, as the members are packed less tightly.
        let content: u64 = plan.nodes.iter().map(|(upload, _)| upload.size_bytes() + 1024).sum();
        let needed = (content + content / 4).saturating_add(reserve);
        let folder = folder_of(out);
        let free = || self.medium.free_bytes(folder);
        let have = free().map_err(io_error("asking for the room on", folder))?;
        if needed > have {
            return Err(ArchiveError::NoSpace { needed, free: have });
        }
        let failed = |error: io::Error| match error {
            _ if !go_on() => ArchiveError::Stopped,
            error if fs_ops::is_no_space(&error) => ArchiveError::NoSpace {
                needed,
                free: free().unwrap_or(0),
            },
            error => io_error("writing", out)(error),
        };
        let file = self.medium.create(out).map_err(failed)?;
        let steps = Steps {
            medium: self.medium.as_ref(),
            file,
            length: 0,
        };
        let mut writer = BufWriter::with_capacity(256 * 1024, steps);
        self.members(&plan, &mut writer, go_on).map_err(failed)?;
        let steps = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        self.medium.sync_file(&steps.file).map_err(failed)?;
        Ok(Built {
            nodes: plan.nodes.len(),
            files: plan.files(),
            size_bytes: steps.length,
            left_out: plan.left_out,
        })
    }

    /// Writes the tarball of `uploads` to a socket or the like. What was written before an error is no tarball, and its reader
    /// has to be told so.
    pub fn stream<U: Upload>(
        &self,
        uploads: &[U],
        writer: &mut impl Write,
        go_on: GoOn<'_>,
    ) -> Result<(), ArchiveError> {
        let plan = self.plan(uploads, go_on)?;
        self.members(&plan, writer, go_on).map_err(|error| match error {
            _ if !go_on() => ArchiveError::Stopped,
            error => io_error("sending", Path::new(TARBALL))(error),
        })
    }

    /// Reads every upload once: checks its digest, and sums its files.
    fn plan<'a, U: Upload>(&self, uploads: &'a [U], go_on: GoOn<'_>) -> Result<Plan<'a, U>, ArchiveError> {
        let mut sorted: Vec<&U> = uploads.iter().collect();
        sorted.sort_by(|a, b| a.id().cmp(b.id()));
        let mut plan = Plan {
            nodes: Vec::with_capacity(sorted.len()),
            left_out: Vec::new(),
            lacks: String::new(),
            clashes: String::new(),
        };
        let mut room = self.kept_bytes;
        for some in sorted.chunks(SUMMED_AT_ONCE) {
            let summed = in_parallel(some, |upload| {
                let mut sums = Sums {
                    kept: Some(Vec::new()),
                    ..Sums::default()
                };
                if go_on() {
                    sums.files = self.sums_of(*upload, &mut |line| sums.add(line))?;
                }
                Ok(sums)
            });
            if !go_on() {
                return Err(ArchiveError::Stopped);
            }
            for (upload, sums) in some.iter().zip(summed) {
                match sums {
                    Ok(mut sums) => {
                        match room.checked_sub(sums.kept.as_ref().map_or(0, Vec::len)) {
                            Some(left) => room = left,
                            None => sums.kept = None,
                        }
                        plan.nodes.push((*upload, sums));
                    }
                    Err(reason) => plan.left_out.push((upload.id().clone(), reason)),
                }
            }
        }
        let left_out = plan.left_out.iter().map(|(id, reason)| format!("nodes/{id}: {reason}"));
        for line in self.lacks.iter().cloned().chain(left_out) {
            plan.lacks.push_str(&line);
            plan.lacks.push('\n');
        }
        plan.clashes = clashes_text(plan.nodes.iter().map(|(upload, _)| upload.id()));
        Ok(plan)
    }

    fn members<U: Upload>(&self, plan: &Plan<'_, U>, writer: &mut impl Write, go_on: GoOn<'_>) -> io::Result<()> {
        self.sums_member(plan, writer, go_on)?;
        let mut rest = plan.nodes.as_slice();
        while !rest.is_empty() {
            let small = |(upload, _): &&(&U, Sums)| upload.size_bytes() <= SMALL_BYTES;
            let count = rest.iter().take_while(small).take(2 * workers()).count();
            let (now, later) = rest.split_at(count.max(1));
            rest = later;
            // Members made ahead, at most a window of small ones at a time.
            let ahead = in_parallel(now, |(upload, _)| {
                let mut member = Short {
                    bytes: Vec::new(),
                    most: self.member_bytes,
                };
                match count > 0 && go_on() {
                    true => self.node(*upload, &mut member).map(|()| member.bytes).ok(),
                    false => None,
                }
            });
            for ((upload, _), member) in now.iter().zip(ahead) {
                if !go_on() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                match member {
                    Some(member) => writer.write_all(&member)?,
                    None => self.node(*upload, &mut Stoppable { writer, go_on })?,
                }
            }
        }
        let mut member = GzEncoder::new(&mut *writer, Compression::new(LEVEL));
        member.write_all(&[0u8; 1024])?;
        member.finish()?;
        writer.flush()
    }

    /// `SHA256SUMS`, and the lists beside it.
    fn sums_member<U: Upload>(&self, plan: &Plan<'_, U>, writer: &mut impl Write, go_on: GoOn<'_>) -> io::Result<()> {
        let mut first = Vec::new();
        for (name, text) in plan.lists() {
            sum_line(&mut first, &Sha256::digest(text.as_bytes()).into(), name);
        }
        let length = first.len() as u64 + plan.nodes.iter().map(|(_, sums)| sums.length).sum::<u64>();
        let mut writer = Stoppable { writer, go_on };
        let mut member = GzEncoder::new(&mut writer, Compression::new(LEVEL));
        self.header(&mut member, SUMS_NAME, length)?;
        member.write_all(&first)?;
        for (upload, sums) in &plan.nodes {
            if let Some(kept) = &sums.kept {
                member.write_all(kept)?;
                continue;
            }
            let (mut again, mut wrote) = (0, Ok(()));
            let summed = self.sums_of(*upload, &mut |line| {
                again += line.len() as u64;
                if wrote.is_ok() {
                    wrote = member.write_all(line);
                }
            });
            wrote?;
            if summed.is_err() || again != sums.length {
                return Err(changed(upload.id()));
            }
        }
        pad(&mut member, length)?;
        for (name, text) in plan.lists() {
            self.header(&mut member, name, text.len() as u64)?;
            member.write_all(text.as_bytes())?;
            pad(&mut member, text.len() as u64)?;
        }
        member.finish().map(drop)
    }

    /// Reads an upload once: checks its digest, and gives a line for each of its files. Gives their count.
    fn sums_of<U: Upload>(&self, upload: &U, take: &mut dyn FnMut(&[u8])) -> Result<usize, String> {
        let name = upload.name();
        let mut hashing = Hashing {
            inner: upload.open().map_err(|e| format!("cannot be read: {e}"))?,
            sha: Sha256::new(),
        };
        let prefix = format!("nodes/{}", upload.id());
        let mut line = Vec::new();
        let mut files = 0;
        upload::walk(&mut hashing, &self.limits, |item| {
            if belongs(item.path) {
                let (digest, _) = digest_of(item.reader)?;
                line.clear();
                sum_line(&mut line, &digest, &format!("{prefix}/{}", item.path));
                take(&line);
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
        line.clear();
        sum_line(&mut line, &proof_digest(name), &format!("{prefix}/{PROOF}"));
        take(&line);
        Ok(files + 1)
    }

    /// Writes the member of one node. Its files were summed from the same bytes before.
    fn node<U: Upload>(&self, upload: &U, writer: &mut impl Write) -> io::Result<()> {
        let mut member = GzEncoder::new(writer, Compression::new(LEVEL));
        let prefix = format!("nodes/{}", upload.id());
        let mut hashing = Hashing {
            inner: upload.open()?,
            sha: Sha256::new(),
        };
        upload::walk(&mut hashing, &self.limits, |Item { path, size, reader }| {
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
        if upload.name().sha256 != Sha::from(hashing.sha.finalize()) {
            return Err(changed(upload.id()));
        }
        let proof = proof_text(upload.name());
        self.header(&mut member, &format!("{prefix}/{PROOF}"), proof.len() as u64)?;
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

fn folder_of(out: &Path) -> &Path {
    match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn changed(id: &NodeId) -> io::Error {
    let text = format!("nodes/{id} changed while it was read");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
