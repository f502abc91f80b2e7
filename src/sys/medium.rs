//! The medium this system booted from: where its kernel, initrd and image are.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Kernel, initrd and image, as they lie on the boot medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// File or block device that starts with the ISO image, and the image's length in bytes.
    pub image: Option<(PathBuf, u64)>,
    /// Whole disk that holds the image, if it is one: `/dev/sda`.
    pub disk: Option<PathBuf>,
}

/// Where dracut's dmsquash-live mounts the medium.
pub const LIVE_MOUNT: &str = "/run/initramfs/live";
/// KIWI's folder on the medium.
const LOADER_DIR: &str = "boot/x86_64/loader";

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
    let mut medium = at(Path::new(LIVE_MOUNT))?;
    let device = PathBuf::from(source);
    medium.disk = whole_disk(Path::new("/sys"), &device);
    // The image starts with its disk, or the mounted device is the image (a loop device over a file in memory).
    let candidates = medium.disk.iter().chain([&device]);
    medium.image = candidates
        .filter_map(|path| Some((path.clone(), image_length(path).ok()?)))
        .next();
    Ok(medium)
}

/// A medium given by hand: a folder laid out like the image, optionally with the image itself as `recon.iso`.
pub fn at(folder: &Path) -> io::Result<Medium> {
    let loader = folder.join(LOADER_DIR);
    let (kernel, initrd) = (loader.join("linux"), loader.join("initrd"));
    for path in [&kernel, &initrd] {
        if !path.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the boot medium has no {}", path.display()),
            ));
        }
    }
    let iso = folder.join("recon.iso");
    let image = image_length(&iso).ok().map(|length| (iso, length));
    Ok(Medium {
        kernel,
        initrd,
        image,
        disk: None,
    })
}

/// Length of an ISO 9660 image from its primary volume descriptor (ECMA-119 §8.4): volume space size times logical
/// block size.
pub fn image_length(path: &Path) -> io::Result<u64> {
    let mut descriptor = [0; 132];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(16 * 2048))?;
    file.read_exact(&mut descriptor)?;
    image_length_of(&descriptor).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is not an ISO image", path.display()),
        )
    })
}

fn image_length_of(descriptor: &[u8; 132]) -> Option<u64> {
    if descriptor[..7] != *b"\x01CD001\x01" {
        return None;
    }
    let blocks = u32::from_le_bytes(descriptor[80..84].try_into().ok()?);
    let block_bytes = u16::from_le_bytes(descriptor[128..130].try_into().ok()?);
    Some(u64::from(blocks) * u64::from(block_bytes)).filter(|length| *length > 0)
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
    fn the_image_says_how_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.iso");
        let mut bytes = vec![0u8; 16 * 2048 + 132];
        bytes[32768..32775].copy_from_slice(b"\x01CD001\x01");
        bytes[32848..32852].copy_from_slice(&1000u32.to_le_bytes());
        bytes[32896..32898].copy_from_slice(&2048u16.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(image_length(&path).unwrap(), 2_048_000);
        bytes[32768] = 2;
        std::fs::write(&path, &bytes).unwrap();
        assert!(image_length(&path).is_err());
        std::fs::write(&path, b"short").unwrap();
        assert!(image_length(&path).is_err());
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
