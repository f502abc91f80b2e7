//! `recon-inventory.tar.gz`: the newest upload of every node in one file, with sums that `sha256sum -c` checks.
//!
//! The file is a row of gzip members, which every gunzip reads as one stream: one member with `SHA256SUMS`, one for each
//! node, one with the end of the tar. The sums come first, so the uploads are read twice: for their sums, then for their
//! content. Nothing is kept of an upload but a short list of sums, as long as all of them take little memory; beyond that its
//! sums are made once more. So a tarball of any size is made in bounded memory, into a file or onto a socket.

mod names;
mod parallel;
mod verify;
mod writers;

use std::io::{self, BufWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

pub use self::names::{CLASHES_NAME, LACKS_NAME, SUMS_NAME, Upload};
use self::names::{PROOF, belongs, clashes_text, proof_text, sum_line};
use self::parallel::{in_parallel, workers};
pub use self::verify::{Verified, Wrong, holds, verify};
pub use self::writers::GoOn;
use self::writers::{Short, Stoppable};
use super::upload::{self, Item, UploadError, UploadLimits};
use super::{Hashing, digest_of, room};
use crate::model::layout::TARBALL;
use crate::model::{NodeId, cause};
use crate::store::fs_ops::{Disk, Medium, MediumError, MediumFile, folder_of, io_error};

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

/// Why there is no tarball.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("no room for the tarball: {needed} bytes needed, {free} free")]
    NoSpace { needed: u64, free: u64 },
    #[error(transparent)]
    Io(#[from] MediumError),
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("the tarball was given up before it was whole")]
    Stopped,
}

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
            lacks: Vec::new(),
            kept_bytes: KEPT_BYTES,
            member_bytes: MEMBER_BYTES,
        }
    }

    /// What is known to be missing among the uploads, a line each; it stands in `INCOMPLETE.txt`.
    pub fn lacks(mut self, lacks: Vec<String>) -> Self {
        self.lacks = lacks;
        self
    }

    /// Writes the tarball of `uploads` to `out` and syncs its content; replaces what is there. Leaves at least `reserve` bytes
    /// free. The same uploads give the same bytes, whatever their order. An error leaves no file.
    pub fn write<U: Upload>(
        &self,
        uploads: &[U],
        out: &Path,
        reserve: u64,
        go_on: GoOn<'_>,
    ) -> Result<Built, ArchiveError> {
        let medium = self.medium.as_ref();
        medium.remove_if_there(out).map_err(io_error("removing", out))?;
        let plan = self.plan(uploads, go_on)?;
        let content = plan.nodes.iter().map(|(upload, _)| upload.size_bytes());
        let needed = room::for_tarball(content, reserve);
        let folder = folder_of(out);
        let have = medium.free_bytes(folder);
        let free = have.map_err(io_error("asking for the room on", folder))?;
        if needed > free {
            return Err(ArchiveError::NoSpace { needed, free });
        }
        let written = (|| {
            let steps = MediumFile {
                medium,
                file: medium.create(out)?,
                length: 0,
            };
            let mut writer = BufWriter::with_capacity(256 * 1024, steps);
            self.members(&plan, &mut writer, go_on)?;
            let steps = writer.into_inner()?;
            medium.sync_file(&steps.file)?;
            Ok(steps.length)
        })();
        let size_bytes = written.map_err(|error: io::Error| {
            // Told before the part is removed: the room that it gives back was not there.
            let told = match error {
                _ if !go_on() => ArchiveError::Stopped,
                error if room::is_no_space(&error) => ArchiveError::NoSpace {
                    needed,
                    free: medium.free_bytes(folder).unwrap_or(0),
                },
                error => io_error("writing", out)(error).into(),
            };
            // The first error is the one to report.
            let _ = medium.remove_file(out);
            told
        })?;
        Ok(Built {
            nodes: plan.nodes.len(),
            files: plan.files(),
            size_bytes,
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
            error => io_error("sending", Path::new(TARBALL))(error).into(),
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
                Ok::<_, UploadError>(sums)
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
                    Err(reason) => plan.left_out.push((upload.id().clone(), cause::told(&reason))),
                }
            }
        }
        let left_out = plan.left_out.iter().map(|(id, reason)| format!("nodes/{id}: {reason}"));
        let lacks = self.lacks.iter().cloned().chain(left_out);
        plan.lacks.extend(lacks.map(|line| line + "\n"));
        let ids: Vec<&NodeId> = plan.nodes.iter().map(|(upload, _)| upload.id()).collect();
        plan.clashes = clashes_text(&ids);
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
        let mut header = header(length);
        header.set_path(SUMS_NAME)?;
        header.set_cksum();
        member.write_all(header.as_bytes())?;
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
        // Up to a whole block of the tar.
        io::copy(
            &mut io::repeat(0).take(length.next_multiple_of(512) - length),
            &mut member,
        )?;
        for (name, text) in plan.lists() {
            file(&mut member, name, text.len() as u64, text.as_bytes())?;
        }
        member.finish().map(drop)
    }

    /// Reads an upload once: checks its digest, and gives a line for each of its files. Gives their count.
    fn sums_of<U: Upload>(&self, upload: &U, take: &mut dyn FnMut(&[u8])) -> Result<usize, UploadError> {
        let (mut line, mut files) = (Vec::new(), 0);
        self.each_file(upload, |path, _, reader| {
            let (digest, _) = digest_of(reader)?;
            line.clear();
            sum_line(&mut line, &digest, path);
            take(&line);
            files += 1;
            Ok(())
        })?;
        Ok(files)
    }

    /// Writes the member of one node. Its files were summed from the same bytes before.
    fn node<U: Upload>(&self, upload: &U, writer: &mut impl Write) -> io::Result<()> {
        let mut member = GzEncoder::new(writer, Compression::new(LEVEL));
        let written = self.each_file(upload, |path, size, reader| file(&mut member, path, size, reader));
        written.map_err(|error| match error {
            UploadError::Refused(_) => changed(upload.id()),
            other => other.into(),
        })?;
        member.finish().map(drop)
    }

    /// Hands over each file of an upload that goes into the tarball: its path there, its length and its content. The last one,
    /// which proves the others, only if the content of the upload is what its name says.
    fn each_file<U: Upload>(
        &self,
        upload: &U,
        mut visit: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), UploadError> {
        let prefix = format!("nodes/{}", upload.id());
        let mut hashing = Hashing::new(upload.open().map_err(UploadError::Io)?);
        upload::walk(
            &mut hashing,
            &self.limits,
            |Item { path, size, reader }| match belongs(path) {
                true => visit(&format!("{prefix}/{path}"), size, reader),
                false => Ok(()),
            },
        )?;
        if hashing.digest() != upload.name().sha256 {
            return Err(UploadError::Refused("its content is not what its name says".into()));
        }
        let proof = proof_text(upload.name());
        let (size, reader) = (proof.len() as u64, &mut proof.as_bytes());
        visit(&format!("{prefix}/{PROOF}"), size, reader).map_err(UploadError::Visit)
    }
}

/// Writes one entry.
fn file(writer: &mut impl Write, path: &str, size: u64, content: impl Read) -> io::Result<()> {
    let mut content = content.take(size);
    // Dropping it would write the end of the tar, which has a member of its own.
    let mut builder = ManuallyDrop::new(tar::Builder::new(writer));
    builder.append_data(&mut header(size), path, &mut content)?;
    match content.limit() {
        0 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The header of a file that has no name yet. Without a time: the same uploads give the same bytes.
fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn changed(id: &NodeId) -> io::Error {
    let text = format!("nodes/{id} changed while it was read");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;
