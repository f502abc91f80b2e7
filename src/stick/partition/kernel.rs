//! What the kernel tells of disks, partitions and what is mounted of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::mount;

/// Name below `/dev` of a device in sysfs, which writes `!` where the name has a slash.
pub(super) fn node_name(device: &Path) -> Option<String> {
    Some(device.file_name()?.to_str()?.replace('!', "/"))
}

pub(super) fn is_read_only(target: &Path) -> bool {
    let mounts = mount::mounted().unwrap_or_default();
    mounts
        .iter()
        .rev()
        .find(|mounted| mounted.target == target)
        .is_some_and(|mounted| mounted.read_only)
}

pub(super) fn mounted_at(device: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(device).ok()?;
    let wanted = device_number(&metadata);
    mount::mounted()
        .ok()?
        .into_iter()
        .find(|mounted| mounted.device_number == wanted)
        .map(|mounted| mounted.target)
}

/// Is the device with this number a partition of `disk`, or a loop device over it?
pub(super) fn belongs_to(device_number: &str, disk: &Path) -> bool {
    let folder = Path::new("/sys/dev/block").join(device_number);
    if let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) {
        return disk
            .canonicalize()
            .is_ok_and(|disk| Path::new(backing.trim_end()) == disk);
    }
    let (Ok(folder), Ok(metadata)) = (folder.canonicalize(), fs::metadata(disk)) else {
        return false;
    };
    let disk = sys_folder(&metadata).canonicalize();
    disk.is_ok_and(|disk| folder.parent() == Some(disk.as_path()))
}

/// The kernel's view of one partition.
pub(super) struct KnownPartition {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) length: u64,
}

pub(super) fn known_partition(disk: &Path, wanted: u32) -> Option<KnownPartition> {
    fs::read_dir(disk).ok()?.flatten().find_map(|entry| {
        let folder = entry.path();
        if number(&folder.join("partition"))? != u64::from(wanted) {
            return None;
        }
        // sysfs counts in units of 512 bytes whatever the sector size.
        Some(KnownPartition {
            name: node_name(&folder)?,
            offset: number(&folder.join("start"))?.checked_mul(512)?,
            length: number(&folder.join("size"))?.checked_mul(512)?,
        })
    })
}

pub(super) fn sys_folder(metadata: &fs::Metadata) -> PathBuf {
    Path::new("/sys/dev/block").join(device_number(metadata))
}

/// As sysfs and mountinfo write it.
fn device_number(metadata: &fs::Metadata) -> String {
    let device = metadata.rdev();
    format!("{}:{}", libc::major(device), libc::minor(device))
}

pub(super) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
