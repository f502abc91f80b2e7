//! Makes an image of a root file system: archive, kernel and manifest, each under its name once it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::kernel;
use super::pack::{self, Options};
use super::signature::Trusted;
use super::squashfs;
use super::stage::table::Table;
use super::stage::tree::Tree;
use super::stage::{self, Stage};
use super::{ImageError, Summed};
use crate::formats::image::{
    FIRST_STAGE, INIT, KERNEL, MANIFEST, MAX_ENTRIES, Manifest, OF_SQUASHFS, Part, ROOT, Root, SIGNATURE, SQUASHFS,
    version,
};

/// Level of zstd: beyond it minutes are paid for percents.
pub(crate) const LEVEL: i32 = 12;
/// Largest kernel or program that is taken.
const MAX_FILE: u64 = 1 << 30;

/// What is asked of it.
pub(crate) struct Wishes {
    pub(crate) root: PathBuf,
    /// The folder of the image, made where it is not there.
    pub(crate) output: PathBuf,
    /// Version of the kernel, where the root has several.
    pub(crate) kernel: Option<String>,
    /// The program that a node starts with.
    pub(crate) recon: PathBuf,
    /// Public keys of which one has to have signed what such a node starts, as text; none where no signature is asked for.
    pub(crate) trusted: Option<String>,
    pub(crate) level: i32,
    /// The latest time of an entry, in seconds since 1970.
    pub(crate) newest: u64,
    /// Beside the archive, the same root as a squashfs.
    pub(crate) squashfs: bool,
}

/// An image that is whole.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) version: String,
    pub(crate) manifest: Manifest,
}

/// # Errors
/// The root has no kernel, cannot be read whole, or the output cannot be written; an image that was there stays as it was until the new
/// one is whole.
pub(crate) fn make(wishes: &Wishes) -> Result<Made, ImageError> {
    let (root, output) = (&wishes.root, &wishes.output);
    // Also where a link leads to it.
    if !fs::metadata(root).map_err(ImageError::at(root))?.is_dir() {
        return Err(ImageError::Wrong(format!("{} is no folder", root.display())));
    }
    must_be_apart(root, output)?;
    must_start(root)?;
    let found = kernel::find(root, wishes.kernel.as_deref())?;
    let content = read_file(&found.path)?;
    kernel::must_be(&content, &found.version)
        .map_err(|error| ImageError::Wrong(format!("{}: {error}", found.path.display())))?;
    if let Some(keys) = &wishes.trusted {
        Trusted::read(keys).map_err(ImageError::Wrong)?;
    }
    let first = first_stage(wishes, &found.version)?;
    if wishes.squashfs {
        must_take_squashfs(&first)?;
    }
    fs::create_dir_all(output).map_err(ImageError::at(output))?;
    let archive = Unfinished::begin(output, ROOT)?;
    let packed = packed(wishes, &archive)?;
    let other_form = || {
        let part = Unfinished::begin(output, SQUASHFS)?;
        let made = squashfs::make(root, &packing(wishes), &part.path)?;
        Ok((part, made))
    };
    let squashfs = wishes.squashfs.then(other_form).transpose()?;
    let mut kernel = Unfinished::begin(output, KERNEL)?;
    kernel.write(&content)?;
    let mut folder = UnfinishedFolder::begin(output, FIRST_STAGE)?;
    let mut parts = BTreeMap::new();
    for (path, bytes) in first.files() {
        folder.write(&path, bytes)?;
        parts.insert(path, Part::of(bytes));
    }
    let mut manifest = Manifest::new(found.version, Part::of(&content), parts, packed);
    manifest.squashfs = squashfs.as_ref().map(|(_, part)| part.clone());
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(|error| ImageError::Wrong(error.to_string()))?;
    text.push(b'\n');
    Manifest::read(&text).map_err(ImageError::Wrong)?;
    let mut described = Unfinished::begin(output, MANIFEST)?;
    described.write(&text)?;
    // The manifest goes first and comes last: what has one is whole. A signature of another one is none, nor is its other form.
    for name in [MANIFEST, SIGNATURE, SQUASHFS] {
        let old = output.join(name);
        absent_is_fine(fs::remove_file(&old)).map_err(ImageError::at(&old))?;
    }
    folder.end()?;
    let squashfs = squashfs.map(|(part, _)| part);
    for part in [archive, kernel].into_iter().chain(squashfs).chain([described]) {
        part.end()?;
    }
    sync_folder(output)?;
    Ok(Made {
        version: version(&text),
        manifest,
    })
}

fn must_start(root: &Path) -> Result<(), ImageError> {
    match Tree::new(root).real(INIT) {
        Some(_) => Ok(()),
        None => Err(ImageError::Wrong(format!(
            "{} has no {INIT}, so a node would have nothing to start: install its distribution's systemd in it (Debian: systemd-sysv)",
            root.display()
        ))),
    }
}

/// A root that stays packed is of use where the program that packs it and what mounts it are there.
fn must_take_squashfs(first: &Stage) -> Result<(), ImageError> {
    squashfs::must_be_here()?;
    let missing: Vec<&str> = OF_SQUASHFS.into_iter().filter(|module| !first.has(module)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(ImageError::Wrong(format!(
            "this kernel mounts no squashfs under an overlay ({} is missing, or forbidden in modprobe.d): pack with --no-squashfs",
            missing.join(", ")
        ))),
    }
}

/// What a node starts from, by the rows of the table that are for nodes.
fn first_stage(wishes: &Wishes, version: &str) -> Result<Stage, ImageError> {
    let recon = read_file(&wishes.recon)?;
    if !stage::is_alone(&recon) {
        return Err(ImageError::Wrong(format!(
            "{} needs libraries, and a node has none when it starts: name a recon that is linked statically with --recon, such as \
             that of the live image",
            wishes.recon.display()
        )));
    }
    let (tree, trusted) = (Tree::new(&wishes.root), wishes.trusted.as_deref());
    let made = Table::of_nodes().and_then(|table| Stage::make(&tree, Some(version), &recon, &table, trusted));
    made.map_err(|error| ImageError::Wrong(format!("{}: {error:#}", wishes.root.display())))
}

fn packing(wishes: &Wishes) -> Options<'static> {
    Options {
        newest: wishes.newest,
        leave_out: &kernel::is_for_boot_loader,
        access_lists: true,
    }
}

fn packed(wishes: &Wishes, part: &Unfinished) -> Result<Root, ImageError> {
    let at = ImageError::at(&part.path);
    let out = Summed::new(BufWriter::new(part.file.try_clone().map_err(&at)?));
    let mut encoder = zstd::Encoder::new(out, wishes.level).map_err(&at)?;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    // One at least, as the bytes do not depend on their number from there on.
    encoder.multithread(u32::try_from(threads).unwrap_or(1)).map_err(&at)?;
    encoder.include_checksum(true).map_err(&at)?;
    let packed = pack::pack(&wishes.root, &mut encoder, &packing(wishes))?;
    if packed.entries > MAX_ENTRIES {
        return Err(ImageError::Wrong(format!(
            "{} has {} entries, and an image {MAX_ENTRIES} at most",
            wishes.root.display(),
            packed.entries
        )));
    }
    let mut out = encoder.finish().map_err(&at)?;
    out.flush().map_err(&at)?;
    let (bytes, sha256) = out.sum();
    Ok(Root {
        packed: Part { bytes, sha256 },
        entries: packed.entries,
        unpacked_bytes: packed.bytes,
    })
}

/// Puts a file into the folder of an image, whole.
///
/// # Errors
/// It cannot be written.
pub(crate) fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let mut file = Unfinished::begin(folder, name)?;
    file.write(bytes)?;
    file.end()?;
    sync_folder(folder)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(ImageError::at(path))?;
    file.take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(ImageError::at(path))?;
    Ok(content)
}

fn sync_folder(folder: &Path) -> Result<(), ImageError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(ImageError::at(folder))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An archive of a folder that it is in would hold itself.
fn must_be_apart(root: &Path, output: &Path) -> Result<(), ImageError> {
    let real = fs::canonicalize(root).map_err(ImageError::at(root))?;
    // It need not be there yet.
    let absolute = std::path::absolute(output).map_err(ImageError::at(output))?;
    let there = absolute.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
    match there.is_some_and(|there| there.starts_with(real)) {
        true => Err(ImageError::Wrong(format!(
            "{} is in {}, which is packed: name another folder",
            output.display(),
            root.display()
        ))),
        false => Ok(()),
    }
}

/// A file that is not whole yet, under a name of its own; removed where it does not become so.
struct Unfinished {
    name: PathBuf,
    path: PathBuf,
    file: File,
    is_whole: bool,
}

impl Unfinished {
    fn begin(folder: &Path, name: &str) -> Result<Self, ImageError> {
        let path = folder.join(format!("{name}.part"));
        Ok(Self {
            name: folder.join(name),
            file: File::create(&path).map_err(ImageError::at(&path))?,
            path,
            is_whole: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.file.write_all(bytes).map_err(ImageError::at(&self.path))
    }

    fn end(mut self) -> Result<(), ImageError> {
        self.file.sync_all().map_err(ImageError::at(&self.path))?;
        fs::rename(&self.path, &self.name).map_err(ImageError::at(&self.name))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            // What went wrong is said; this comes on top.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The same of a folder with one more in it, at most.
struct UnfinishedFolder {
    name: PathBuf,
    path: PathBuf,
    is_whole: bool,
}

impl UnfinishedFolder {
    fn begin(folder: &Path, name: &str) -> Result<Self, ImageError> {
        let path = folder.join(format!("{name}.part"));
        let made = absent_is_fine(fs::remove_dir_all(&path)).and_then(|()| fs::create_dir(&path));
        made.map_err(ImageError::at(&path))?;
        Ok(Self {
            name: folder.join(name),
            path,
            is_whole: false,
        })
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let path = self.path.join(path);
        let written = || {
            fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        written().map_err(ImageError::at(&path))
    }

    /// In the place of one that was there.
    fn end(mut self) -> Result<(), ImageError> {
        sync_folder(&self.path)?;
        let moved = absent_is_fine(fs::remove_dir_all(&self.name)).and_then(|()| fs::rename(&self.path, &self.name));
        moved.map_err(ImageError::at(&self.name))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
