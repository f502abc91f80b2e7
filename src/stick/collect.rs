//! Takes the inventories off sticks: `recon collect SOURCE… -o FILE`, on a laptop, without mounting anything.
//!
//! The sources are only read. Only uploads whose content has the digest in their name are taken, the newest of each machine,
//! so a stick that was pulled while it was written to gives exactly what was acknowledged. The tarball is built anew
//! from them; the one on the stick is not trusted.
//!
//! Which uploads are of one machine is decided by what they tell (`machines.rs`), not by the names of their folders: two
//! masters may have given one name to two machines.

mod machines;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::formats::exfat::{Entry, ExFat, ExFatError, Listing};
use crate::formats::gpt::GptError;
use crate::formats::{ReadAt, Window, gpt};
use crate::model::clash::{Claimant, Clash};
use crate::model::{NodeId, cause, layout};
use crate::store::archive::{self, ArchiveError, Upload};
use crate::store::inventory::InventoryFacts;
use crate::store::upload::{self, UploadLimits};
use crate::store::{UploadName, digest_of, hex};
use crate::sys::{file, mount, process};

/// Node folders read, four times what a store takes. Further ones are left out, and the report is not complete.
const MAX_NODES: usize = 400_000;
/// Partitions begin on whole MiB, so this is where a volume is looked for when the table is gone.
const SEARCH_STEP: u64 = 1 << 20;
/// How far it is looked for: a terabyte, which a fast disk answers in a minute.
const SEARCH_LIMIT: u64 = 1 << 40;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace the output file if it exists.
    pub force: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("{} may not be read; try again as root", path.display())]
    NotPermitted { path: PathBuf },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} has no RECON-DATA: {reason}", path.display())]
    NoData { path: PathBuf, reason: String },
    #[error("the RECON-DATA volume on {} does not read", path.display())]
    Volume {
        path: PathBuf,
        #[source]
        source: ExFatError,
    },
    #[error("{} has no nodes: no machine finished an upload to it", path.display())]
    NoNodes { path: PathBuf },
    #[error("no node has a whole upload, so nothing was written\n{0}")]
    NothingWhole(Box<Report>),
    #[error("{} exists; choose another name or use --force", path.display())]
    Exists { path: PathBuf },
    #[error("{} is there and is no file; choose another name", path.display())]
    NoFile { path: PathBuf },
    #[error("{} is on the source, which is never written to; choose another place", path.display())]
    OnSource { path: PathBuf },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing {}", path.display())]
    Archive {
        path: PathBuf,
        #[source]
        source: ArchiveError,
    },
}

/// How a node came home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its newest upload is whole.
    Whole,
    /// Its newest upload is torn, an older one is whole and was taken.
    Older,
    /// None of its uploads is whole.
    Torn,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Whole => "whole",
            State::Older => "older one taken",
            State::Torn => "torn, left out",
        })
    }
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: NodeId,
    /// Vendor, product, serial.
    pub machine: Option<String>,
    /// Seconds since 1970, by the clock of the master.
    pub stored_unix: Option<i64>,
    /// Of the upload that was taken.
    pub size_bytes: u64,
    /// Uploads of the machine on the sources, torn ones included.
    pub uploads: usize,
    pub state: State,
}

/// What was found and taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Machines that call themselves the same.
    pub clashes: Vec<Clash>,
    /// What a person should know, a sentence each: torn uploads by name, a volume that was not unmounted.
    pub warnings: Vec<String>,
    /// What was not read, a sentence each, so that nobody knows what is in it: folders and entries that do not read, bounds that
    /// were met.
    pub unread: Vec<String>,
    pub out: PathBuf,
    pub out_bytes: u64,
    pub out_sha256: String,
    /// Files in the tarball whose sum was checked when it was read back.
    pub files: usize,
}

impl Report {
    /// Nodes in the tarball.
    pub fn taken(&self) -> usize {
        self.rows.iter().filter(|row| row.state != State::Torn).count()
    }

    /// Everything was read, and every node came home with its newest upload. Decides the exit status.
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty() && self.rows.iter().all(|row| row.state == State::Whole)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = |row: &Row| crate::model::shown::line(row.machine.as_deref().unwrap_or("-")).into_owned();
        let widest = self
            .rows
            .iter()
            .map(|row| machine(row).chars().count())
            .max()
            .unwrap_or(0)
            .clamp(7, 48);
        // A name that several have is longer.
        let name = self
            .rows
            .iter()
            .map(|row| row.id.as_str().len())
            .max()
            .unwrap_or(0)
            .max(36);
        writeln!(
            f,
            "{:<name$}  {:<widest$}  {:<17}  {:>10}  {:>7}  STATE",
            "NODE", "MACHINE", "STORED", "SIZE", "UPLOADS"
        )?;
        for row in &self.rows {
            let machine: String = machine(row).chars().take(widest).collect();
            let stored = row
                .stored_unix
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
                .map_or_else(|| "-".into(), |time| time.strftime("%Y-%m-%d %H:%MZ").to_string());
            let clash = self.clashes.iter().find(|clash| clash.name == row.id.base());
            let clash = clash.map_or(String::new(), |clash| {
                format!(", ONE OF {} MACHINES OF THIS NAME", clash.count)
            });
            writeln!(
                f,
                "{:<name$}  {machine:<widest$}  {stored:<17}  {:>10}  {:>7}  {}{clash}",
                row.id.as_str(),
                row.size_bytes,
                row.uploads,
                row.state
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {}", crate::model::shown::line(warning))?;
        }
        for unread in &self.unread {
            writeln!(f, "not read: {unread}")?;
        }
        for clash in &self.clashes {
            writeln!(f, "CLASH: {clash}")?;
        }
        let total = self.rows.len();
        let taken = self.taken();
        let nodes = match (total, self.unread.is_empty()) {
            (1, true) => "node",
            (_, true) => "nodes",
            (_, false) => "nodes that were found",
        };
        if taken > 0 {
            write!(
                f,
                "{taken} of {total} {nodes} whole, {} files checked, {} bytes in {}\nsha256 {}",
                self.files,
                self.out_bytes,
                crate::model::shown::line(&self.out.to_string_lossy()),
                self.out_sha256
            )
        } else {
            write!(f, "0 of {total} {nodes} whole")
        }
    }
}

/// Collects the nodes of `source` into the tarball `out`.
pub fn collect(source: &Path, out: &Path, options: Options) -> Result<Report, CollectError> {
    collect_all(&[source], out, options)
}

/// Collects the nodes of all `sources` into the tarball `out`.
pub fn collect_all<P: AsRef<Path>>(sources: &[P], out: &Path, options: Options) -> Result<Report, CollectError> {
    let sources: Vec<&Path> = sources.iter().map(AsRef::as_ref).collect();
    collect_within(&sources, out, options, MAX_NODES)
}

/// At most `most` folders are read of each source.
fn collect_within(sources: &[&Path], out: &Path, options: Options, most: usize) -> Result<Report, CollectError> {
    let mut disks = Vec::new();
    for source in sources {
        check_out(source, out, options)?;
        disks.push(open_disk(source)?);
    }
    let mut volumes = Vec::new();
    for (source, disk) in sources.iter().zip(&disks) {
        let volume = disk.as_ref().map(|(disk, length)| find_volume(disk, *length, source));
        volumes.push(volume.transpose()?);
    }
    let mut found = Found::default();
    let mut empty = None;
    for (at, source) in sources.iter().enumerate() {
        let read = match (&volumes[at], &disks[at]) {
            (Some((volume, warnings)), Some((_, length))) => {
                found.warnings.extend(warnings.iter().cloned());
                if volume.is_dirty() {
                    found
                        .warnings
                        .push("the volume was not unmounted; what was being written then may be missing".into());
                }
                volume_uploads(volume, *length, (at, source), most, &mut found)
            }
            _ => folder_uploads((at, source), most, &mut found),
        };
        match read {
            Err(error @ CollectError::NoNodes { .. }) => {
                found.warnings.push(error.to_string());
                empty.get_or_insert(error);
            }
            other => other?,
        }
    }
    match empty {
        Some(error) if found.nodes.is_empty() && found.unread.is_empty() => Err(error),
        _ => finish(found, sources, out),
    }
}

/// The device or image with its length; `None` for a folder.
fn open_disk(source: &Path) -> Result<Option<(File, u64)>, CollectError> {
    let metadata = fs::metadata(source).map_err(|error| read_error(source, error))?;
    if metadata.is_dir() {
        return Ok(None);
    }
    let is_device = metadata.file_type().is_block_device();
    if !is_device && !metadata.is_file() {
        return Err(CollectError::NoData {
            path: source.to_owned(),
            reason: "it is neither a disk, nor an image of one, nor a folder".to_owned(),
        });
    }
    let disk = File::open(source).map_err(|error| read_error(source, error))?;
    if is_device {
        // Only matters where a partition of it is in use, and is no loss where it fails.
        let _ = mount::forget_cached(&disk);
    }
    let length = (&disk)
        .seek(SeekFrom::End(0))
        .map_err(|error| read_error(source, error))?;
    Ok(Some((disk, length)))
}

fn read_error(path: &Path, source: io::Error) -> CollectError {
    let path = path.to_owned();
    if source.kind() == io::ErrorKind::PermissionDenied && !process::is_root() {
        CollectError::NotPermitted { path }
    } else {
        CollectError::Read { path, source }
    }
}

/// The output must be a new file (or one that may be replaced), and never on the source.
fn check_out(source: &Path, out: &Path, options: Options) -> Result<(), CollectError> {
    let on_source = || CollectError::OnSource { path: out.to_owned() };
    if let Ok(existing) = fs::metadata(out) {
        let same = fs::metadata(source).is_ok_and(|s| (s.dev(), s.ino()) == (existing.dev(), existing.ino()));
        if same {
            return Err(on_source());
        }
        if !existing.is_file() {
            return Err(CollectError::NoFile { path: out.to_owned() });
        }
        if !options.force {
            return Err(CollectError::Exists { path: out.to_owned() });
        }
    }
    let folder = parent(out).canonicalize();
    if let (Ok(source), Ok(folder)) = (source.canonicalize(), folder)
        && source.is_dir()
        && folder.starts_with(source)
    {
        return Err(on_source());
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

type Volume<'a, D = File> = ExFat<Window<&'a D>>;

/// The data volume of a device or image: by the partition table, else the source is the volume, else it is searched for.
fn find_volume<'a, D: ReadAt>(
    disk: &'a D,
    length: u64,
    path: &Path,
) -> Result<(Volume<'a, D>, Vec<String>), CollectError> {
    let no_data = |reason: String| CollectError::NoData {
        path: path.to_owned(),
        reason,
    };
    if length == 0 {
        return Err(no_data("it is empty, or there is no medium in it".into()));
    }
    // Where a table may be that does not read. The volume may be found all the same.
    let mut table_unread = None;
    let reason = match gpt::find_data(disk, length) {
        Ok(Some(place)) => match ExFat::open(Window::new(disk, place.offset, place.length)) {
            Ok(volume) => return Ok((volume, Vec::new())),
            Err(ExFatError::NotExFat) => format!("partition {} is not formatted", place.number),
            Err(source) => {
                return Err(CollectError::Volume {
                    path: path.to_owned(),
                    source,
                });
            }
        },
        Ok(None) => "its partition table has no such partition; was it booted as a master?".into(),
        Err(error) => match (ExFat::open(Window::new(disk, 0, length)), error) {
            (Ok(volume), _) => return Ok((volume, Vec::new())),
            (Err(_), GptError::Io(source)) => {
                let reason = format!("its partition table does not read: {source}");
                table_unread = Some(source);
                reason
            }
            (Err(ExFatError::NotExFat), _) => "it has neither a partition table nor an exFAT volume".into(),
            (Err(source), _) => {
                return Err(CollectError::Volume {
                    path: path.to_owned(),
                    source,
                });
            }
        },
    };
    // The table may be gone, or belong to an image that was written over a stick with inventories on it.
    let mut offset = SEARCH_STEP;
    let mut unread: Option<String> = None;
    while offset < length.min(SEARCH_LIMIT) {
        let mut name = [0u8; 8];
        let read = disk.read_exact_at(&mut name, offset + 3);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            unread.get_or_insert_with(|| format!("; reading it at byte {offset} failed: {error}"));
        }
        if read.is_ok()
            && &name == b"EXFAT   "
            && let Ok(volume) = ExFat::open(Window::new(disk, offset, length - offset))
            && volume
                .list(&volume.root())
                .is_ok_and(|root| root.label.as_deref() == Some(layout::DATA_NAME))
        {
            let warning = format!("{reason}; the volume was found at byte {offset}");
            return Ok((volume, vec![warning]));
        }
        offset += SEARCH_STEP;
    }
    match table_unread {
        Some(source) => Err(read_error(path, source)),
        None => Err(no_data(reason + &unread.unwrap_or_default())),
    }
}

/// One upload on the source.
struct OnSource<'a> {
    /// Which source, by its place on the command line.
    source: usize,
    /// Its folder there; in the end the name it is taken under.
    id: NodeId,
    name: UploadName,
    size: u64,
    stored_unix: Option<i64>,
    /// One line of its machine, once it is checked.
    summary: Option<String>,
    place: Place<'a>,
}

enum Place<'a> {
    Path(PathBuf),
    Volume(&'a Volume<'a>, Entry),
}

impl Upload for OnSource<'_> {
    fn id(&self) -> &NodeId {
        &self.id
    }

    fn name(&self) -> UploadName {
        self.name
    }

    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.place {
            Place::Path(path) => Box::new(file::open_plain(path)?),
            Place::Volume(volume, entry) => Box::new(volume.reader(&entry.stream)),
        })
    }
}

#[derive(Default)]
struct Found<'a> {
    /// By folder; sources may share the name of one.
    nodes: BTreeMap<NodeId, Vec<OnSource<'a>>>,
    warnings: Vec<String>,
    unread: Vec<String>,
}

/// The copy of its inventory that a node's folder has for people, beside the upload.
const COPY: &str = layout::INVENTORY;

/// The sentence for a folder with a copy and without an upload.
fn gone(id: &NodeId) -> String {
    format!("nodes/{id}: its upload is gone; there is {COPY}, which nothing proves")
}

/// The sentence for a bound that was met.
fn too_many(most: usize) -> String {
    format!("nodes holds more than {most} nodes; the rest was left alone")
}

impl Found<'_> {
    /// What a listing of `folder` says that it lacks.
    fn entries_unread(&mut self, folder: &str, listing: &Listing) {
        match listing.damaged {
            0 => {}
            1 => self.unread.push(format!("1 damaged entry in {folder}")),
            damaged => self.unread.push(format!("{damaged} damaged entries in {folder}")),
        }
        if listing.cut {
            self.unread.push(format!(
                "the rest of {folder}: the folder is larger than any that is read"
            ));
        }
    }
}

fn folder_uploads((at, source): (usize, &Path), most: usize, found: &mut Found<'_>) -> Result<(), CollectError> {
    let nodes = source.join(layout::NODES);
    // What a link leads to is not on this medium.
    if fs::symlink_metadata(&nodes).is_ok_and(|found| !found.is_dir()) {
        return Err(CollectError::NoData {
            path: source.to_owned(),
            reason: "nodes is no folder".to_owned(),
        });
    }
    let entries = match fs::read_dir(&nodes) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::NoNodes {
                path: source.to_owned(),
            });
        }
        Err(error) => return Err(read_error(&nodes, error)),
    };
    let mut folders = 0;
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.unread.push(format!("the rest of {}: {error}", nodes.display()));
                break;
            }
        };
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
            continue;
        };
        if folders >= most {
            found.unread.push(too_many(most));
            break;
        }
        folders += 1;
        let shown = entry.path().display().to_string();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => {
                found.unread.push(format!("{shown} is no folder, left out"));
                continue;
            }
            Err(error) => {
                found.unread.push(format!("{shown}: {error}"));
                continue;
            }
        }
        let uploads = found.nodes.entry(id.clone()).or_default();
        let (before, mut copied) = (uploads.len(), false);
        let files = match fs::read_dir(entry.path()) {
            Ok(files) => files,
            Err(error) => {
                found.unread.push(format!("{shown}: {error}"));
                continue;
            }
        };
        for file in files {
            let file = match file {
                Ok(file) => file,
                Err(error) => {
                    found.unread.push(format!("the rest of {shown}: {error}"));
                    break;
                }
            };
            copied |= file.file_name() == COPY;
            let Some(name) = file.file_name().to_str().and_then(UploadName::parse) else {
                continue;
            };
            let metadata = file.metadata().ok();
            uploads.push(OnSource {
                source: at,
                id: id.clone(),
                name,
                size: metadata.as_ref().map_or(0, fs::Metadata::len),
                stored_unix: metadata.as_ref().map(MetadataExt::mtime),
                summary: None,
                place: Place::Path(file.path()),
            });
        }
        if copied && uploads.len() == before {
            found.unread.push(gone(&id));
        }
    }
    Ok(())
}

fn volume_uploads<'a>(
    volume: &'a Volume<'a>,
    length: u64,
    (at, path): (usize, &Path),
    most: usize,
    found: &mut Found<'a>,
) -> Result<(), CollectError> {
    let failed = |source| CollectError::Volume {
        path: path.to_owned(),
        source,
    };
    let root = volume.list(&volume.root()).map_err(failed)?;
    let is_nodes = |entry: &&Entry| entry.is_folder && entry.name.eq_ignore_ascii_case(layout::NODES);
    let nodes = match root.entries.iter().find(is_nodes) {
        Some(nodes) => nodes,
        None if root.damaged > 0 || root.cut => {
            let reason = "no folder nodes is among what can be read of its root folder";
            return Err(failed(ExFatError::Damaged(reason.into())));
        }
        None => return Err(CollectError::NoNodes { path: path.to_owned() }),
    };
    let listing = volume.list(&nodes.stream).map_err(failed)?;
    found.entries_unread(layout::NODES, &listing);
    let mut folders = 0;
    for folder in listing.entries.into_iter().filter(|entry| entry.is_folder) {
        let Ok(id) = folder.name.parse::<NodeId>() else {
            continue;
        };
        if folders >= most {
            found.unread.push(too_many(most));
            break;
        }
        folders += 1;
        found.nodes.entry(id.clone()).or_default();
        let files = match volume.list(&folder.stream) {
            Ok(files) => files,
            Err(error) => {
                found.unread.push(format!("nodes/{id}: {}", cause::told(&error)));
                continue;
            }
        };
        found.entries_unread(&format!("nodes/{id}"), &files);
        let uploads = found.nodes.entry(id.clone()).or_default();
        let (before, mut copied) = (uploads.len(), false);
        for entry in files.entries {
            copied |= entry.name == COPY;
            let Some(name) = UploadName::parse(&entry.name).filter(|_| !entry.is_folder) else {
                continue;
            };
            if entry.size() > length {
                found
                    .unread
                    .push(format!("nodes/{id}/{name}: it claims to be larger than the medium"));
                continue;
            }
            uploads.push(OnSource {
                source: at,
                id: id.clone(),
                name,
                size: entry.size(),
                stored_unix: entry.modified_unix,
                summary: None,
                place: Place::Volume(volume, entry),
            });
        }
        if copied && uploads.len() == before {
            found.unread.push(gone(&id));
        }
    }
    Ok(())
}

/// Checks every upload, and writes the newest whole ones.
fn finish(found: Found<'_>, sources: &[&Path], out: &Path) -> Result<Report, CollectError> {
    let limits = UploadLimits::default();
    let mut report = Report {
        rows: Vec::new(),
        clashes: Vec::new(),
        warnings: found.warnings,
        unread: found.unread,
        out: out.to_owned(),
        out_bytes: 0,
        out_sha256: String::new(),
        files: 0,
    };
    let mut chosen = Vec::new();
    let mut nodes = found.nodes.into_iter().peekable();
    // One name after the other, so that only its evidence is in memory.
    while let Some((id, mut uploads)) = nodes.next() {
        let name = id.base();
        while let Some((_, more)) = nodes.next_if(|(other, _)| other.base() == name) {
            uploads.extend(more);
        }
        let mut known = Vec::new();
        for mut upload in uploads {
            let told = check(&upload, &limits).map(|facts| {
                upload.summary = facts.summary;
                facts.evidence
            });
            if let Err(reason) = &told {
                let place = match sources {
                    [_] => String::new(),
                    _ => format!("{}: ", sources[upload.source].display()),
                };
                let warning = format!("{place}nodes/{}/{} {reason}, left out", upload.id, upload.name);
                report.warnings.push(warning);
            }
            known.push(machines::Known {
                source: upload.source,
                id: upload.id.clone(),
                name: upload.name,
                stored_unix: upload.stored_unix,
                evidence: told.ok(),
                upload,
            });
        }
        let mut found = machines::sort(&name, known);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let mut claimants = Vec::new();
        for mut found in found {
            let machine = found.taken.as_ref().and_then(|upload| upload.summary.clone());
            if found.sources > 1 {
                report.warnings.push(format!(
                    "node {} is on {} of the sources; the upload that was stored last, by the clocks of their masters, is taken",
                    found.id, found.sources
                ));
            }
            claimants.extend(found.taken.is_some().then(|| Claimant {
                id: found.id.clone(),
                machine: machine.clone(),
                macs: found.evidence.ports.iter().copied().collect(),
            }));
            report.rows.push(Row {
                id: found.id.clone(),
                machine,
                stored_unix: found.taken.as_ref().and_then(|upload| upload.stored_unix),
                size_bytes: found.taken.as_ref().map_or(0, |upload| upload.size),
                uploads: found.uploads,
                state: match (&found.taken, found.newer_torn) {
                    (None, _) => State::Torn,
                    (Some(_), true) => State::Older,
                    (Some(_), false) => State::Whole,
                },
            });
            if let Some(mut upload) = found.taken.take() {
                upload.id = found.id;
                chosen.push(upload);
            }
        }
        report.clashes.extend(Clash::of(name, claimants));
    }
    report.rows.sort_by(|a, b| a.id.cmp(&b.id));
    if report.rows.is_empty() && report.unread.is_empty() {
        let path = sources.first().map(|source| source.to_path_buf()).unwrap_or_default();
        return Err(CollectError::NoNodes { path });
    }
    if chosen.is_empty() {
        return Err(CollectError::NothingWhole(Box::new(report)));
    }
    write(&chosen, out, &mut report)?;
    Ok(report)
}

/// What an upload tells of its machine, or why it is not taken.
fn check(upload: &OnSource<'_>, limits: &UploadLimits) -> Result<InventoryFacts, String> {
    let content = upload.open().and_then(digest_of);
    match content {
        Ok((digest, _)) if digest == upload.name.sha256 => {}
        Ok(_) => return Err("is torn".into()),
        Err(error) => return Err(format!("cannot be read ({error})")),
    }
    let content = upload.open().map_err(|error| format!("cannot be read ({error})"))?;
    upload::check(content, limits).map_err(|error| format!("is whole but no upload ({})", cause::told(&error)))
}

/// Builds under another name, reads that back and checks every sum, and only then gives it its name.
fn write(chosen: &[OnSource<'_>], out: &Path, report: &mut Report) -> Result<(), CollectError> {
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".unchecked");
    let temporary = PathBuf::from(temporary);
    let result = write_checked(chosen, &temporary, out, report);
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_checked(
    chosen: &[OnSource<'_>],
    temporary: &Path,
    out: &Path,
    report: &mut Report,
) -> Result<(), CollectError> {
    let archive_error = |source| CollectError::Archive {
        path: out.to_owned(),
        source,
    };
    let write_error = |source| CollectError::Write {
        path: out.to_owned(),
        source,
    };
    let built = archive::Builder::new(UploadLimits::default())
        .rebuild(chosen, temporary)
        .map_err(archive_error)?;
    for (id, reason) in built.left_out {
        // Read well a moment ago; a medium this bad deserves the truth in the table as well.
        report
            .warnings
            .push(format!("nodes/{id} changed while it was read: {reason}, left out"));
        for row in report.rows.iter_mut().filter(|row| row.id == id) {
            row.state = State::Torn;
        }
    }
    let verified = File::open(temporary)
        .map_err(write_error)
        .and_then(|f| archive::verify(f).map_err(archive_error))?;
    if verified.nodes != report.taken() {
        return Err(archive_error(ArchiveError::Wrong(format!(
            "{} nodes written, {} read back",
            report.taken(),
            verified.nodes
        ))));
    }
    let (sha256, bytes) = File::open(temporary).and_then(digest_of).map_err(write_error)?;
    fs::rename(temporary, out).map_err(write_error)?;
    File::open(parent(out))
        .and_then(|folder| folder.sync_all())
        .map_err(write_error)?;
    report.files = verified.files;
    report.out_bytes = bytes;
    report.out_sha256 = hex(&sha256);
    Ok(())
}

#[cfg(test)]
mod tests;
