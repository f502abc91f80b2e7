//! Mounts, free space, and getting what was written onto the medium.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Advice;

use super::checked;
use crate::formats::mountinfo::{self, Mount};

/// Room on a file system, as a program without special rights may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

fn c_string(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn c_path(path: &Path) -> io::Result<CString> {
    c_string(path.as_os_str().as_bytes())
}

/// Room on the file system that holds `path`.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let unit = stat.f_frsize;
    Ok(Space {
        free_bytes: stat.f_bavail.saturating_mul(unit),
        total_bytes: stat.f_blocks.saturating_mul(unit),
    })
}

/// Writes everything the file system of `path` still holds in memory to its medium. Since Linux 5.8 this also reports
/// write errors that happened before.
pub(crate) fn sync_filesystem(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Lets the kernel forget what it keeps in memory of a device, so that reading shows the medium. A disk and its partitions
/// have caches that do not know of each other: what was read of the one before the other was written to is old.
pub(crate) fn forget_cached(device: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(device, 0, None, Advice::DontNeed)?)
}

/// Mounts the exFAT volume on `device` at `target`: no programs, no device files, read-only after the first error, so
/// that a failing stick stops taking uploads instead of losing them.
pub(crate) fn mount_exfat(device: &Path, target: &Path) -> io::Result<()> {
    let flags = libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NOATIME;
    mount(device, target, c"exfat", flags, c"errors=remount-ro")
}

/// Mounts an empty file system in memory at `target`, with the options of tmpfs(5): no device files, no set-uid programs.
pub(crate) fn memory(target: &Path, options: &str) -> io::Result<()> {
    let options = c_string(options.as_bytes())?;
    let flags = libc::MS_NODEV | libc::MS_NOSUID;
    mount(Path::new("tmpfs"), target, c"tmpfs", flags, &options)
}

/// Mounts an empty root file system in memory at `target`, with the options of tmpfs(5): whatever a root may hold works in it.
pub(crate) fn root(target: &Path, options: &str) -> io::Result<()> {
    mount(Path::new("root"), target, c"tmpfs", 0, &c_string(options.as_bytes())?)
}

/// Mounts a squashfs read-only at `target`; whatever a root may hold works in it.
pub(crate) fn squashfs(device: &Path, target: &Path) -> io::Result<()> {
    mount(device, target, c"squashfs", libc::MS_RDONLY, c"")
}

/// Shows at `target` what is in `lower`, and over it what is written, which goes to `upper`; `work` is an empty folder beside that
/// (Documentation/filesystems/overlayfs.rst). The paths have no comma and no colon.
pub(crate) fn overlay(target: &Path, lower: &Path, upper: &Path, work: &Path) -> io::Result<()> {
    let (lower, upper, work) = (lower.display(), upper.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    mount(Path::new("root"), target, c"overlay", 0, &c_string(options.as_bytes())?)
}

/// Shows a file or folder at a second place (mount(8), `--bind`).
pub(crate) fn bind(from: &Path, target: &Path) -> io::Result<()> {
    mount(from, target, c"", libc::MS_BIND, c"")
}

/// Moves a mount, with all that is mounted below it (mount(8), `--move`).
pub(super) fn shift(from: &Path, target: &Path) -> io::Result<()> {
    mount(from, target, c"", libc::MS_MOVE, c"")
}

/// Mounts a file system of the kernel's own, with its options and flags of mount(2). One that is mounted there already is no error.
pub(super) fn kernel(kind: &CStr, target: &Path, options: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    match mount(Path::new("none"), target, kind, flags, options) {
        Err(error) if error.raw_os_error() != Some(libc::EBUSY) => Err(error),
        _ => Ok(()),
    }
}

fn mount(device: &Path, target: &Path, kind: &CStr, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    let device = c_path(device)?;
    let target = c_path(target)?;
    // SAFETY: four NUL-terminated strings that outlive the call; the kernel copies them.
    checked(unsafe {
        libc::mount(
            device.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Unmounts `target`. Fails with `EBUSY` while a file on it is open; nothing is detached lazily, because a lazily
/// detached volume would look clean to the person who pulls the stick.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: a NUL-terminated path.
    checked(unsafe { libc::umount2(target.as_ptr(), libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// What is mounted now.
pub(crate) fn mounted() -> io::Result<Vec<Mount>> {
    Ok(mountinfo::mounts(&std::fs::read_to_string("/proc/self/mountinfo")?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_room_of_a_folder() {
        let space = space(Path::new("/")).unwrap();
        assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
        assert!(super::space(Path::new("/nothing/here")).is_err());
    }
}
