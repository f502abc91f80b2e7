//! What an image is made of: a tree, an archive of one, or a container image as a folder. The last two become a tree beside the image, for as
//! long as that is made.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::unpack::{self, Limits};
use super::{ImageError, Summed, open, unpacked};
use crate::formats::image::MAX_ENTRIES;
use crate::formats::oci::{self, Descriptor, INDEX, LAYOUT, Named, Whiteout};
use crate::sys::tree::Tree;

/// What unpacking xz may take; its highest level takes 65 MiB (xz(1)).
const XZ_MEMORY_KIB: u32 = 128 << 10;
const LIMITS: Limits = Limits {
    entries: MAX_ENTRIES,
    bytes: u64::MAX,
};

/// A tree to be packed; one that was made for that goes with this value.
pub(crate) struct Source {
    root: PathBuf,
    is_made: bool,
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
                is_made: false,
            });
        }
        let mut name = output.as_os_str().to_owned();
        name.push(".root.part");
        let source = Source {
            root: name.into(),
            is_made: true,
        };
        // Of a run that was killed.
        source.remove().map_err(ImageError::at(&source.root))?;
        fs::create_dir_all(&source.root).map_err(ImageError::at(&source.root))?;
        let tree = Tree::open(&source.root).map_err(ImageError::at(&source.root))?;
        match is_layout {
            true => Layout(given).unpack(&tree)?,
            false => archive(given, open(given)?, Some(&tree), None)?,
        }
        Ok(source)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.is_made {
            // What is left is taken away by the next run.
            let _ = self.remove();
        }
    }
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
                return Err(wrong(&path, "it is not what its digest says"));
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
        let mut path = self.0.join(INDEX);
        for _ in 0..oci::MAX_DEPTH {
            let mut bytes = Vec::new();
            let mut file = open(&path)?.take(oci::MAX_BYTES + 1);
            file.read_to_end(&mut bytes).map_err(ImageError::at(&path))?;
            if bytes.len() as u64 > oci::MAX_BYTES {
                return Err(wrong(&path, "it is too long"));
            }
            match oci::read(&bytes, architecture).map_err(|why| wrong(&path, &why))? {
                Named::Layers(layers) => return Ok(layers),
                Named::Next(next) => path = self.blob(&next)?,
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
