//! Kernel modules: into the kernel, and which are there.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::checked;

/// Loads the module in this file with its options, as `modprobe.d` writes them (finit_module(2)). One that is loaded already is no error.
/// Blocks as long as the module takes to start, which for drivers that look at their devices can be many seconds.
pub(crate) fn load(file: &Path, options: &str) -> io::Result<()> {
    let file = File::open(file)?;
    let options = CString::new(options).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the descriptor is open and the text ends in zero; the kernel copies both.
    let done = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), 0) };
    match checked(done as libc::c_int) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(()),
    }
}
