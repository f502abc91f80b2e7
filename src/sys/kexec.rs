//! Another kernel in the place of this one (kexec_file_load(2), reboot(2)), and memory that holds its files.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::cmd::{self, CmdError};
use super::program::Program;
use super::{checked, power};

/// A folder that is there where systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// systemctl only hands the request over.
const HANDED_OVER: Duration = Duration::from_secs(60);

/// Whether this kernel has kexec_file_load(2). Asked with a flag that there is none of, which does nothing.
pub(crate) fn is_there() -> bool {
    const NO_FLAG: libc::c_ulong = 1 << 30;
    // SAFETY: no pointer is followed before the flags are looked at, and the descriptors are none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            -1,
            -1,
            0,
            std::ptr::null::<libc::c_char>(),
            NO_FLAG,
        )
    };
    !(result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS))
}

/// A file in memory that no name leads to, and that cannot be run as a program: where `vm.memfd_noexec` is 2, the kernel makes no other
/// (Documentation/userspace-api/mfd_noexec.rst).
pub(crate) fn memory_file(name: &str) -> io::Result<File> {
    let create = |flags| rustix::fs::memfd_create(name, flags);
    Ok(File::from(not_to_be_run(create)?))
}

/// Kernels before 6.3 do not know the flag, and refuse what they do not know.
fn not_to_be_run<T>(create: impl Fn(MemfdFlags) -> Result<T, Errno>) -> Result<T, Errno> {
    match create(MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => create(MemfdFlags::CLOEXEC),
        made => made,
    }
}

/// The same file for reading alone; the kernel takes none that somebody may write to (`ETXTBSY`).
pub(crate) fn read_only(file: File) -> io::Result<File> {
    File::open(Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()))
}

/// Has the kernel take these in, to be started by [`start`]. Both files have been opened by [`read_only`].
///
/// # Errors
/// What the kernel says: `EKEYREJECTED` and `EBADMSG` for a signature, `ENOEXEC` for what it cannot start, `ENOMEM`, `EPERM`.
pub(crate) fn load(kernel: &File, initrd: Option<&File>, command_line: &str) -> io::Result<()> {
    let line = CString::new(command_line)?;
    let length = line.as_bytes_with_nul().len() as libc::c_ulong;
    let flags = match initrd {
        Some(_) => 0,
        None => libc::KEXEC_FILE_NO_INITRAMFS,
    };
    let initrd = initrd.map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: the descriptors are open, and the line outlives the call with its length, closing zero included.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd,
            length,
            line.as_ptr(),
            libc::c_ulong::from(flags.unsigned_abs()),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has what was loaded started: systemd stops what runs before; where there is none, at once, after writing out what is cached.
/// Returns only on failure or when the request was handed over.
///
/// # Errors
/// systemd is there and refuses: what runs under it is not ended behind its back.
pub(crate) async fn start() -> io::Result<()> {
    let ask = || cmd::run(Program::Systemctl, &["--no-block", "kexec"], HANDED_OVER).map(drop);
    let asked = tokio::task::spawn_blocking(move || Path::new(SYSTEMD).is_dir().then(ask));
    if is_handed_over(asked.await.map_err(io::Error::other)?)? {
        return Ok(());
    }
    power::leave();
    // SAFETY: no pointers are handed over.
    checked(unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_KEXEC) }).map(drop)
}

/// What systemd said, where there is one.
fn is_handed_over(asked: Option<Result<(), CmdError>>) -> io::Result<bool> {
    match asked {
        Some(Ok(())) => Ok(true),
        None | Some(Err(CmdError::Missing { .. })) => Ok(false),
        Some(Err(error)) => Err(io::Error::other(format!(
            "systemd refused ({error}); it is loaded, `systemctl kexec` starts it"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_file_in_memory_is_read_and_no_longer_written() {
        let mut file = memory_file("test").unwrap();
        file.write_all(b"content").unwrap();
        let mut again = read_only(file).unwrap();
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
        assert!(again.write_all(b"x").is_err());
    }

    #[test]
    fn a_file_in_memory_is_no_program_where_the_kernel_knows_that() {
        use std::os::unix::fs::PermissionsExt;

        let flag = MemfdFlags::NOEXEC_SEAL;
        let old = |flags: MemfdFlags| match flags.contains(flag) {
            true => Err(Errno::INVAL),
            false => Ok(flags),
        };
        assert_eq!(not_to_be_run(old), Ok(MemfdFlags::CLOEXEC));
        assert_eq!(not_to_be_run(Ok), Ok(MemfdFlags::CLOEXEC | flag));
        let full = |_| Err::<(), _>(Errno::MFILE);
        assert_eq!(not_to_be_run(full), Err(Errno::MFILE));
        // What the kernel of this machine makes of it.
        let knows = rustix::fs::memfd_create("test", flag).is_ok();
        let mode = memory_file("test").unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o111 == 0, knows, "{mode:o}");
    }

    #[test]
    fn only_where_there_is_no_systemd_it_is_not_asked() {
        let asked = |program| cmd::run(Program::OfTests(program), &["--no-block", "kexec"], HANDED_OVER).map(drop);
        assert!(is_handed_over(Some(asked("true"))).unwrap());
        assert!(!is_handed_over(Some(asked("recon-no-such-program"))).unwrap());
        assert!(!is_handed_over(None).unwrap());
        let refused = is_handed_over(Some(asked("false"))).unwrap_err().to_string();
        assert!(
            refused.starts_with("systemd refused (false --no-block kexec: ended with")
                && refused.ends_with("it is loaded, `systemctl kexec` starts it"),
            "{refused}"
        );
    }

    #[test]
    fn what_is_no_kernel_is_not_loaded() {
        // Whether it may not, cannot or finds no kernel: it fails, and nothing is followed that is not there.
        is_there();
        let file = read_only(memory_file("test").unwrap()).unwrap();
        assert!(load(&file, None, "x").is_err());
        assert!(load(&file, Some(&file), "a\0b").is_err());
    }
}
