//! What an image is made of: a tree, an archive of one, or a container image as a folder. The last two become a tree beside the image, for as
//! long as that is made.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::stage::tree::XZ_MEMORY_KIB;
use super::unpack::{self, Limits};
use super::{ImageError, Summed, open, unpacked};
use crate::formats::image::{self, MAX_ENTRIES};
use crate::formats::oci::{self, Descriptor, INDEX, LAYOUT, Named, Whiteout};
use crate::sys::tree::{Attributes, Tree};

const LIMITS: Limits = Limits {
    entries: MAX_ENTRIES,
    bytes: u64::MAX,
};

const NOT_SO: &str = "it is not what its digest says";

/// A tree to be packed; one that was made for that goes with this value.
pub(crate) struct Source {
    root: PathBuf,
    /// The folder that holds it, for its owner alone.
    made: Option<PathBuf>,
}

impl Source {
    /// `output`: the folder of the image.
    ///
    /// # Errors
    /// It is neither of these, not whole, or cannot be unpacked (owners and devices want root).
    pub(crate) fn of(given: &Path, output: &Path) -> Result<Source, ImageError> {
        let metadata = fs::metadata(given).map_err(ImageError::at(given))?;
        let is_layout = metadata.is_dir() && given.join(LAYOUT).is_file() && given.join(INDEX).is_file();
        if metadata.is_dir() && !is_layout {
            return Ok(Source {
                root: given.to_owned(),
                made: None,
            });
        }
        // Without a slash at its end, which would put it into the image.
        let mut name = output.components().as_path().as_os_str().to_owned();
        name.push(".root.part");
        let folder = PathBuf::from(name);
        let source = Source {
            root: folder.join("root"),
            made: Some(folder),
        };
        source.fill(given, is_layout)?;
        Ok(source)
    }

    fn fill(&self, given: &Path, is_layout: bool) -> Result<(), ImageError> {
        let Some(folder) = &self.made else { return Ok(()) };
        // Of a run that was killed.
        self.remove().map_err(ImageError::at(folder))?;
        // Nobody else gets to what is in it: programs with other rights, and what only its owner may read.
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.map_err(ImageError::at(folder))?;
        fs::create_dir(&self.root).map_err(ImageError::at(&self.root))?;
        // A file system's clock is behind by some milliseconds.
        let began = SystemTime::now() - Duration::from_secs(1);
        let tree = Tree::open(&self.root).map_err(ImageError::at(&self.root))?;
        match is_layout {
            true => Layout(given).unpack(&tree)?,
            false => archive(given, open(given)?, Some(&tree), None)?,
        }
        if [LAYOUT, "manifest.json"]
            .iter()
            .any(|name| self.root.join(name).is_file())
        {
            return Err(wrong(
                given,
                "it is a container image in an archive: copy it into a folder first (skopeo copy … oci:FOLDER)",
            ));
        }
        settle(&tree, &self.root, began).map_err(ImageError::at(&self.root))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn remove(&self) -> io::Result<()> {
        match self.made.as_ref().map(fs::remove_dir_all) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // What is left is taken away by the next run.
        let _ = self.remove();
    }
}

/// Of a root's own folder, where no entry of an archive said anything: the same each time.
fn settle(tree: &Tree, root: &Path, began: SystemTime) -> io::Result<()> {
    let own = fs::metadata(root)?;
    if own.modified()? < began {
        return Ok(());
    }
    let attributes = Attributes {
        mode: 0o755,
        uid: own.uid(),
        gid: own.gid(),
        modified: (0, 0),
        xattrs: Vec::new(),
    };
    tree.end_folder(Path::new(""), &attributes)
}

/// A container image as a folder.
struct Layout<'a>(&'a Path);

impl Layout<'_> {
    fn unpack(&self, tree: &Tree) -> Result<(), ImageError> {
        for layer in self.layers()? {
            let path = self.blob(&layer)?;
            let mut file = open(&path)?;
            let sum = layer.sha256().map_err(ImageError::Wrong)?;
            // Before anything of it is made.
            let mut summed = Summed::new(&mut file);
            io::copy(&mut summed, &mut io::sink()).map_err(ImageError::at(&path))?;
            if summed.sum() != (layer.size, sum.to_owned()) {
                return Err(wrong(&path, NOT_SO));
            }
            let mut whiteouts = Vec::new();
            file.rewind().map_err(ImageError::at(&path))?;
            archive(&path, &file, None, Some(&mut whiteouts))?;
            // They are of the layers below, wherever they stand in this one.
            for whiteout in std::mem::take(&mut whiteouts) {
                let gone = match &whiteout {
                    Whiteout::Path(gone) => tree.remove(Path::new(OsStr::from_bytes(gone))),
                    Whiteout::Inside(folder) => tree.remove_inside(Path::new(OsStr::from_bytes(folder))),
                };
                gone.map_err(ImageError::at(&path))?;
            }
            file.rewind().map_err(ImageError::at(&path))?;
            archive(&path, &file, Some(tree), Some(&mut whiteouts))?;
        }
        Ok(())
    }

    fn layers(&self) -> Result<Vec<Descriptor>, ImageError> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let (mut path, mut said) = (self.0.join(INDEX), None::<Descriptor>);
        for _ in 0..oci::MAX_DEPTH {
            let mut bytes = Vec::new();
            let mut file = open(&path)?.take(oci::MAX_BYTES + 1);
            file.read_to_end(&mut bytes).map_err(ImageError::at(&path))?;
            if bytes.len() as u64 > oci::MAX_BYTES {
                return Err(wrong(&path, "it is too long"));
            }
            if let Some(said) = &said
                && (said.size, said.sha256()) != (bytes.len() as u64, Ok(&*image::sum(&bytes)))
            {
                return Err(wrong(&path, NOT_SO));
            }
            match oci::read(&bytes, architecture).map_err(|why| wrong(&path, &why))? {
                Named::Layers(layers) => return Ok(layers),
                Named::Next(next) => (path, said) = (self.blob(&next)?, Some(next)),
            }
        }
        Err(wrong(&path, "it is an index of indexes without an end"))
    }

    fn blob(&self, blob: &Descriptor) -> Result<PathBuf, ImageError> {
        let sum = blob.sha256().map_err(|why| wrong(self.0, &why))?;
        Ok(self.0.join("blobs/sha256").join(sum))
    }
}

fn wrong(path: &Path, why: &str) -> ImageError {
    ImageError::Wrong(format!("{}: {why}", path.display()))
}

/// Unpacks an archive into a tree, if one is given. `whiteouts`: it is a layer, of which these are collected and not made. What packed it is
/// seen by its first bytes.
fn archive(
    path: &Path,
    file: impl Read,
    tree: Option<&Tree>,
    whiteouts: Option<&mut Vec<Whiteout>>,
) -> Result<(), ImageError> {
    let plain = plain(file).map_err(ImageError::at(path))?;
    let done = match whiteouts {
        Some(whiteouts) => unpack::layer(plain, tree, LIMITS, whiteouts),
        None => unpack::unpack(plain, tree, LIMITS),
    };
    done.map(drop).map_err(|error| wrong(path, &error.to_string()))
}

fn plain<'a>(file: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut file = BufReader::with_capacity(1 << 17, file);
    let head = file.fill_buf()?;
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(unpacked(file)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB)),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests;
