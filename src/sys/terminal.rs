//! Terminals: size and waiting for a key.

use std::os::fd::RawFd;
use std::time::Duration;

/// Columns and rows; `None` where the terminal does not know, as serial lines do not.
pub fn size(fd: RawFd) -> Option<(u16, u16)> {
    // SAFETY: winsize is plain data, and the ioctl writes one.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    }?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Waits until there is something to read, or for `limit`.
pub fn readable(fd: RawFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one pollfd is passed, and its count says so.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
}
