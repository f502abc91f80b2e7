//! Where the root of a node goes in memory: unpacked into a tmpfs, or as a squashfs in one, under an overlay that has what the node writes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::root::Place;
use crate::formats::image::{self, Part, Root};
use crate::image::{ImageError, check};
use crate::sys::loopdev::LoopDevice;
use crate::sys::mount;
use crate::sys::tree::Tree;

/// A tmpfs with the packed root and what the node writes. Below /run, which the node's own system takes over: the kernel reads from it for
/// as long as that runs.
const KEPT: &str = "/run/recon/root";
/// Where the packed root is seen, read-only: inside of that, which is root's alone, as its programs have the rights that they had when it was
/// packed.
const SEEN: &str = "/run/recon/root/image";
const WRITTEN: &str = "written";
/// What overlayfs itself needs beside that.
const WORK: &str = "work";
const SECTOR: u64 = 512;

/// Takes away what a try before this one left.
pub(super) fn remove(root: &Path) -> io::Result<()> {
    let mounted = mount::mounted()?;
    // The overlay first, whose parts the others are.
    for place in [root, Path::new(SEEN), Path::new(KEPT)] {
        if mounted.iter().any(|mount| mount.target == place) {
            mount::unmount(place)?;
        }
    }
    Ok(())
}

/// The unpacked root.
pub(super) struct Unpacked {
    pub(super) root: PathBuf,
    pub(super) options: String,
    pub(super) said: Root,
}

impl Place for Unpacked {
    fn empty(&self) -> io::Result<()> {
        fs::create_dir_all(&self.root)?;
        remove(&self.root)?;
        mount::root(&self.root, &self.options)
    }

    fn take(&self, packed: &mut dyn Read) -> Result<(), ImageError> {
        let tree = Tree::open(&self.root).map_err(ImageError::at(&self.root))?;
        check::archive(Path::new(image::ROOT), packed, &self.said, Some(&tree))
    }
}

/// The packed root.
pub(super) struct Packed {
    pub(super) root: PathBuf,
    pub(super) options: String,
    pub(super) said: Part,
}

impl Place for Packed {
    fn empty(&self) -> io::Result<()> {
        for folder in [self.root.as_path(), Path::new(KEPT)] {
            fs::create_dir_all(folder)?;
        }
        remove(&self.root)?;
        mount::root(Path::new(KEPT), &self.options)?;
        fs::create_dir(SEEN)
    }

    /// The kernel sees it only once it was compared.
    fn take(&self, packed: &mut dyn Read) -> Result<(), ImageError> {
        let path = Path::new(KEPT).join(image::SQUASHFS);
        let mut file = File::create(&path).map_err(ImageError::at(&path))?;
        check::copied(Path::new(image::SQUASHFS), packed, &mut file, &self.said)?;
        file.flush().map_err(ImageError::at(&path))?;
        drop(file);
        self.show(&path)
            .map_err(|(step, error)| ImageError::Wrong(format!("{step}: {error}")))
    }
}

impl Packed {
    /// An error with what was being done.
    fn show(&self, path: &Path) -> Result<(), (&'static str, io::Error)> {
        let at = |step: &'static str| move |error: io::Error| (step, error);
        let file = File::open(path).map_err(at("opening the packed root"))?;
        // Whole sectors are shown; sqfstar fills the last one up.
        let device = LoopDevice::read_only(&file, path, self.said.bytes, SECTOR);
        let device = device.map_err(at("a loop device over the packed root"))?;
        mount::squashfs(&device.path, Path::new(SEEN)).map_err(at("mounting the packed root (squashfs)"))?;
        let kept = Path::new(KEPT);
        let (written, work) = (kept.join(WRITTEN), kept.join(WORK));
        for folder in [&written, &work] {
            fs::create_dir(folder).map_err(at("a folder for what this node writes"))?;
        }
        // What is seen of the root's own folder is that of the upper layer.
        let like = fs::metadata(SEEN).and_then(|metadata| {
            std::os::unix::fs::chown(&written, Some(metadata.uid()), Some(metadata.gid()))?;
            fs::set_permissions(&written, metadata.permissions())
        });
        like.map_err(at("the root's own folder"))?;
        mount::overlay(&self.root, Path::new(SEEN), &written, &work).map_err(at("mounting the overlay"))
    }
}

/// Whether this kernel, as far as its modules are here, mounts what is needed.
///
/// # Errors
/// It does not; as a sentence.
pub(super) fn must_mount() -> Result<(), String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    match ["squashfs", "overlay"]
        .iter()
        .find(|name| !known.split_whitespace().any(|word| word == **name))
    {
        Some(missing) => Err(format!(
            "this image's kernel knows no {missing}, so its root cannot stay packed: root = \"tmpfs\""
        )),
        None => Ok(()),
    }
}
