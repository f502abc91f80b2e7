//! Makes an image of a root file system: archive, kernel and manifest, each under its name once it is whole.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::kernel;
use super::manifest::{MAX_ENTRIES, Manifest, Part, Root};
use super::pack::{self, Options};
use super::{ImageError, KERNEL, MANIFEST, ROOT, Summed};
use crate::formats::bytes::hex;

/// Level of zstd: beyond it minutes are paid for percents.
pub(crate) const LEVEL: i32 = 12;
/// Largest kernel that is taken.
const MAX_KERNEL: u64 = 1 << 30;

/// What is asked of it.
pub(crate) struct Wishes {
    pub(crate) root: PathBuf,
    /// The folder of the image, made where it is not there.
    pub(crate) output: PathBuf,
    /// Version of the kernel, where the root has several.
    pub(crate) kernel: Option<String>,
    pub(crate) level: i32,
    /// The latest time of an entry, in seconds since 1970.
    pub(crate) newest: u64,
}

/// # Errors
/// The root has no kernel, cannot be read whole, or the output cannot be written; an image that was there stays as it was until the new
/// one is whole.
pub(crate) fn make(wishes: &Wishes) -> Result<Manifest, ImageError> {
    let (root, output) = (&wishes.root, &wishes.output);
    // Also where a link leads to it.
    if !fs::metadata(root).map_err(ImageError::at(root))?.is_dir() {
        return Err(ImageError::Wrong(format!("{} is no folder", root.display())));
    }
    must_be_apart(root, output)?;
    let found = kernel::find(&wishes.root, wishes.kernel.as_deref())?;
    let content = read_kernel(&found.path)?;
    kernel::must_be(&content, &found.version)
        .map_err(|error| ImageError::Wrong(format!("{}: {error}", found.path.display())))?;
    fs::create_dir_all(output).map_err(ImageError::at(output))?;
    let archive = Unfinished::begin(output, ROOT)?;
    let packed = packed(wishes, &archive)?;
    let mut kernel = Unfinished::begin(output, KERNEL)?;
    kernel.write(&content)?;
    let part = Part {
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(&content)),
    };
    let manifest = Manifest::new(found.version, part, packed);
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(|error| ImageError::Wrong(error.to_string()))?;
    text.push(b'\n');
    let mut described = Unfinished::begin(output, MANIFEST)?;
    described.write(&text)?;
    // The manifest goes first and comes last: what has one is whole.
    let old = output.join(MANIFEST);
    match fs::remove_file(&old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(ImageError::at(&old)(error)),
        _ => {}
    }
    for part in [archive, kernel, described] {
        part.end()?;
    }
    File::open(output)
        .and_then(|folder| folder.sync_all())
        .map_err(ImageError::at(output))?;
    Ok(manifest)
}

fn packed(wishes: &Wishes, part: &Unfinished) -> Result<Root, ImageError> {
    let at = ImageError::at(&part.path);
    let out = Summed::new(BufWriter::new(part.file.try_clone().map_err(&at)?));
    let mut encoder = zstd::Encoder::new(out, wishes.level).map_err(&at)?;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    // One at least, as the bytes do not depend on their number from there on.
    encoder.multithread(u32::try_from(threads).unwrap_or(1)).map_err(&at)?;
    encoder.include_checksum(true).map_err(&at)?;
    let options = Options {
        newest: wishes.newest,
        leave_out: &kernel::is_for_boot_loader,
    };
    let packed = pack::pack(&wishes.root, &mut encoder, &options)?;
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

fn read_kernel(path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut content = Vec::new();
    let file = File::open(path).map_err(ImageError::at(path))?;
    file.take(MAX_KERNEL)
        .read_to_end(&mut content)
        .map_err(ImageError::at(path))?;
    Ok(content)
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
