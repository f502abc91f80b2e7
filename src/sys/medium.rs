//! The medium this system booted from: where its kernel, initrd and image are.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::media::gpt;
use crate::media::iso9660;
use crate::model::slice::{Patch, Slice};

/// Kernel, initrd and image, as they lie on the boot medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    pub kernel: Slice,
    pub initrd: Slice,
    pub image: Option<Slice>,
    /// Whole disk that holds the image, if it is one: `/dev/sda`.
    pub disk: Option<PathBuf>,
}

/// Where dracut's dmsquash-live mounts the medium.
pub const LIVE_MOUNT: &str = "/run/initramfs/live";
/// KIWI's folder on the medium.
const LOADER_DIR: [&str; 3] = ["boot", "x86_64", "loader"];
const KERNEL: &str = "linux";
const INITRD: &str = "initrd";

/// Looks for the medium of a live system.
///
/// # Errors
/// Not found where this is no live system; whatever reading the medium gives otherwise.
pub fn of_live_system() -> io::Result<Medium> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let source = mount_source(&mounts, LIVE_MOUNT).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("nothing is mounted at {LIVE_MOUNT}: not a live system"),
        )
    })?;
    let device = PathBuf::from(source);
    let disk = whole_disk(Path::new("/sys"), &device);
    let mut medium = in_folder(Path::new(LIVE_MOUNT))?;
    // The image starts with its disk, or the mounted device is the image (a loop device over a file in memory).
    medium.image = disk.iter().chain([&device]).find_map(|path| whole_image(path).ok());
    medium.disk = disk;
    Ok(medium)
}

/// A medium given by hand: an ISO image, a device that starts with one, or a folder laid out like one.
pub fn at(path: &Path) -> io::Result<Medium> {
    if path.is_dir() { in_folder(path) } else { in_image(path) }
}

fn in_folder(folder: &Path) -> io::Result<Medium> {
    let file = |name: &str| {
        let path = folder.join(LOADER_DIR.iter().collect::<PathBuf>()).join(name);
        let length = std::fs::metadata(&path)
            .map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("the boot medium has no {}: {error}", path.display()),
                )
            })?
            .len();
        Ok::<_, io::Error>(plain(path, 0, length))
    };
    Ok(Medium {
        kernel: file(KERNEL)?,
        initrd: file(INITRD)?,
        image: None,
        disk: None,
    })
}

fn in_image(path: &Path) -> io::Result<Medium> {
    let image = File::open(path)?;
    let file = |name: &str| {
        let [a, b, c] = LOADER_DIR;
        let extent = iso9660::find(&image, &[a, b, c, name])?;
        Ok::<_, io::Error>(plain(path.to_owned(), extent.offset, extent.length))
    };
    Ok(Medium {
        kernel: file(KERNEL)?,
        initrd: file(INITRD)?,
        image: Some(whole_image(path)?),
        disk: None,
    })
}

fn plain(path: PathBuf, offset: u64, length: u64) -> Slice {
    Slice {
        path,
        offset,
        length,
        patches: Vec::new(),
    }
}

/// The image at the start of a file or device, as it was before a data partition was added to its table.
fn whole_image(path: &Path) -> io::Result<Slice> {
    let mut file = File::open(path)?;
    let bytes = file.seek(SeekFrom::End(0))?;
    let whole = |length, patches| Slice {
        path: path.to_owned(),
        offset: 0,
        length,
        patches,
    };
    match gpt::find_image(&file, bytes) {
        Some(image) => {
            let patches = image.patches.into_iter().map(|write| Patch {
                offset: write.offset,
                bytes: write.bytes,
            });
            Ok(whole(image.bytes, patches.collect()))
        }
        // No table of its own, as in a plain ISO file: the file system is the image.
        None => Ok(whole(iso9660::image_length(&file)?, Vec::new())),
    }
}

/// Source of a mount point in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); the last mount wins.
fn mount_source<'a>(mountinfo: &'a str, mount_point: &str) -> Option<&'a str> {
    mountinfo.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(4)? == mount_point)
            .then(|| right.split(' ').nth(1))
            .flatten()
    })
}

/// The disk a partition lies on, or the device itself if it is a whole disk. Loop devices have none.
fn whole_disk(sys: &Path, device: &Path) -> Option<PathBuf> {
    let name = std::fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let name = name.file_name()?.to_str()?;
    let node = std::fs::canonicalize(sys.join("class/block").join(name)).ok()?;
    let disk = if node.join("partition").exists() {
        node.parent()?.file_name()?.to_str()?
    } else {
        name
    };
    sys.join("class/block")
        .join(disk)
        .join("device")
        .exists()
        .then(|| Path::new("/dev").join(disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_mounted_where() {
        let text = "21 1 0:20 / /run rw - tmpfs tmpfs rw\n\
                    40 21 8:1 / /run/initramfs/live ro,relatime shared:5 - iso9660 /dev/sda1 ro,nojoliet\n";
        assert_eq!(mount_source(text, LIVE_MOUNT), Some("/dev/sda1"));
        assert_eq!(mount_source(text, "/data"), None);
        assert_eq!(mount_source("short line\n", LIVE_MOUNT), None);
    }

    #[test]
    fn a_partition_leads_to_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let disk = sys.join("devices/usb1/block/sda");
        std::fs::create_dir_all(disk.join("sda1")).unwrap();
        std::fs::create_dir_all(disk.join("device")).unwrap();
        std::fs::write(disk.join("sda1/partition"), "1\n").unwrap();
        std::fs::create_dir_all(sys.join("class/block")).unwrap();
        for (name, target) in [
            ("sda", "../../devices/usb1/block/sda"),
            ("sda1", "../../devices/usb1/block/sda/sda1"),
        ] {
            std::os::unix::fs::symlink(target, sys.join("class/block").join(name)).unwrap();
        }
        for device in ["/dev/sda", "/dev/sda1"] {
            assert_eq!(
                whole_disk(sys, Path::new(device)),
                Some(PathBuf::from("/dev/sda")),
                "{device}"
            );
        }
        assert_eq!(whole_disk(sys, Path::new("/dev/loop0")), None);
    }
}
