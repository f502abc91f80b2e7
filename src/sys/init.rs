//! What only process 1 does: the first mounts, its children's ends, and the machine's.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{checked, mount};

/// File systems that a running system has. `(kind, place, options)`, in order.
const MOUNTS: [(&CStr, &str, &CStr); 8] = [
    (c"proc", "/proc", c""),
    (c"sysfs", "/sys", c""),
    (c"devtmpfs", "/dev", c"mode=0755"),
    (c"devpts", "/dev/pts", c"mode=0620,gid=5"),
    (c"tmpfs", "/run", c"mode=0755"),
    (c"tmpfs", "/tmp", c"mode=1777"),
    (c"securityfs", "/sys/kernel/security", c""),
    (c"cgroup2", "/sys/fs/cgroup", c""),
];
/// There where UEFI firmware started the machine.
pub(crate) const EFI: &str = "/sys/firmware/efi";
/// Where the kernel shows variables of UEFI firmware. Mounted once its module is there.
const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// Mounts what there is; what could not be, with why. One that is there already is no error.
pub(crate) fn mount_all() -> Vec<(&'static str, io::Error)> {
    let failed = |(kind, place, options): (&'static CStr, &'static str, &'static CStr)| {
        let _ = std::fs::create_dir_all(place);
        mount::kernel(kind, Path::new(place), options, libc::MS_NOSUID)
            .err()
            .map(|error| (place, error))
    };
    MOUNTS.into_iter().filter_map(failed).collect()
}

/// The variables of UEFI firmware, read-only.
pub(crate) fn mount_efivars() -> io::Result<()> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    mount::kernel(c"efivarfs", Path::new(EFIVARS), c"", flags)
}

/// Lets nothing of ours reach the console that the kernel opened, so that lines of the log do not stand there beside those for people.
pub(crate) fn leave_console() -> io::Result<()> {
    let nowhere = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    for standard in 0..=2 {
        // SAFETY: both are descriptors of this process.
        checked(unsafe { libc::dup2(nowhere.as_raw_fd(), standard) })?;
    }
    Ok(())
}

/// What ends a machine, said to process 1: Ctrl-Alt-Del is SIGINT (reboot(2)); who means it by hand sends SIGTERM, and SIGPWR comes where
/// power fails or a host wants a guest off (signal(7)).
const END_SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGPWR];

/// Mounts that a system takes over from the one before it.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];
/// What the kernel gives the first program (init/main.c).
const ENVIRONMENT: [&CStr; 2] = [c"HOME=/", c"TERM=linux"];

/// Leaves this root for another one and starts the first program there, in the place of this one; what is in the old root, which is
/// memory, is freed. As switch_root(8) does it. Returns only where that failed.
pub(crate) fn switch_root(root: &Path, program: &str) -> io::Error {
    match leave_for(root, program) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn leave_for(root: &Path, program: &str) -> io::Result<std::convert::Infallible> {
    let program = CString::new(program)?;
    for place in MOVED {
        let target = root.join(place.trim_start_matches('/'));
        match std::fs::create_dir(&target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        mount::shift(Path::new(place), &target)?;
    }
    std::env::set_current_dir(root)?;
    empty(Path::new("/"), std::fs::metadata("/")?.dev());
    mount::shift(Path::new("."), Path::new("/"))?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    hear_end_signals()?;
    let console = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
    if let Ok(console) = &console {
        for standard in 0..=2 {
            // SAFETY: both are descriptors of this process.
            checked(unsafe { libc::dup2(console.as_raw_fd(), standard) })?;
        }
    }
    drop(console);
    let arguments = [program.as_ptr(), std::ptr::null()];
    let environment = [ENVIRONMENT[0].as_ptr(), ENVIRONMENT[1].as_ptr(), std::ptr::null()];
    // SAFETY: both lists end with a null pointer, and their texts outlive the call. Rust ignores SIGPIPE, which the next program would as well.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    Err(io::Error::last_os_error())
}

/// Removes what is in a folder and on the same file system. What cannot be removed stays in memory, and is no reason not to go on.
fn empty(folder: &Path, device: u64) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.dev() != device {
            continue;
        }
        let _ = match metadata.is_dir() {
            true => {
                empty(&path, device);
                std::fs::remove_dir(&path)
            }
            false => std::fs::remove_file(&path),
        };
    }
}

/// Keeps these from this thread and all that it starts later; for [`wait_for_end`]. Children inherit it, so the worker takes it back
/// ([`hear_end_signals`]).
pub(crate) fn hold_end_signals() -> io::Result<()> {
    mask(libc::SIG_BLOCK)
}

/// Lets them reach this thread again, and all that it starts later.
pub(crate) fn hear_end_signals() -> io::Result<()> {
    mask(libc::SIG_UNBLOCK)
}

fn mask(how: libc::c_int) -> io::Result<()> {
    // SAFETY: the set outlives the call.
    let failed = unsafe { libc::pthread_sigmask(how, &end_signals(), std::ptr::null_mut()) };
    (failed == 0)
        .then_some(())
        .ok_or_else(|| io::Error::from_raw_os_error(failed))
}

/// Blocks until one of them comes, and gives it.
pub(crate) fn wait_for_end() -> io::Result<libc::c_int> {
    let mut signal = 0;
    // SAFETY: set and number outlive the call.
    let failed = unsafe { libc::sigwait(&end_signals(), &mut signal) };
    (failed == 0)
        .then_some(signal)
        .ok_or_else(|| io::Error::from_raw_os_error(failed))
}

fn end_signals() -> libc::sigset_t {
    // SAFETY: a set that sigemptyset(3) fills.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in END_SIGNALS {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// Waits for the end of any child, and gives its number and how it ended (wait(2)).
pub(crate) fn reap() -> io::Result<(u32, std::process::ExitStatus)> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let child = checked(unsafe { libc::waitpid(-1, &mut status, 0) })?;
    Ok((
        child.unsigned_abs(),
        std::os::unix::process::ExitStatusExt::from_raw(status),
    ))
}

/// Everything but process 1 and its threads gets the signal.
pub(crate) fn signal_all(signal: libc::c_int) {
    // SAFETY: no pointers are handed over.
    unsafe { libc::kill(-1, signal) };
}

/// So many files may this process and its children have open.
pub(crate) fn allow_open_files(files: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: files,
        rlim_max: files,
    };
    // SAFETY: the limit outlives the call.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held is not lost, and only what ends a machine is held.
    #[test]
    fn what_ends_a_machine_is_waited_for() {
        std::thread::spawn(|| {
            let signals = [libc::SIGINT, libc::SIGTERM, libc::SIGPWR];
            // SAFETY: the set is filled by the call, and outlives it.
            let held = || unsafe {
                let mut held = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut held);
                signals.map(|signal| libc::sigismember(&held, signal))
            };
            hold_end_signals().unwrap();
            assert_eq!(held(), [1; 3]);
            for signal in signals {
                // To this thread alone; the process does not hear it.
                // SAFETY: no pointers are handed over.
                assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal) }, 0);
                assert_eq!(wait_for_end().unwrap(), signal);
            }
            hear_end_signals().unwrap();
            assert_eq!(held(), [0; 3]);
        })
        .join()
        .unwrap();
    }
}
