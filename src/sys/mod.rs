//! The edge: everything that asks or changes the running system. Decides nothing, except that what may be sent to
//! hardware is listed here and all else refused. The only home of `unsafe`.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

pub(crate) mod block;
pub(crate) mod blockread;
pub(crate) mod clock;
pub(crate) mod cmd;
pub(crate) mod console;
pub(crate) mod cpuid;
pub(crate) mod devlink;
pub(crate) mod ethtool;
pub(crate) mod ethtool_netlink;
pub(crate) mod file;
pub(crate) mod icmp6;
pub(crate) mod init;
pub(crate) mod ipmi;
pub(crate) mod kexec;
pub(crate) mod kmodule;
pub(crate) mod kmsg;
pub(crate) mod lldp_socket;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod neighbours;
pub(crate) mod netif;
pub(crate) mod nvme;
pub(crate) mod packet;
pub(crate) mod ports;
pub(crate) mod power;
pub mod process;
pub mod program;
pub(crate) mod sandbox;
pub(crate) mod sgio;
pub(crate) mod shell;
pub(crate) mod systemd;
pub mod terminal;
pub(crate) mod tpm;
pub(crate) mod tree;
pub(crate) mod udp;
pub(crate) mod uevent;
pub(crate) mod watchdog;

/// What a system call gave, or why it failed, where it says so by a negative number (errno(3)).
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Sets an option of a socket (setsockopt(2)); `value` is what the option's description has.
fn set_option<T: Copy>(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value), size_of::<T>() as libc::socklen_t);
    // SAFETY: the descriptor is open, the value outlives the call, and its true size is told.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), length) }).map(drop)
}

/// Waits until one of these is ready, at most `limit`, and tells how many are (poll(2)).
fn poll(polled: &mut [libc::pollfd], limit: Duration) -> io::Result<libc::c_int> {
    // Rounded up: a wait of 0 ms just before the end would spin.
    let millis = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the array is ours for the call, and its length is told.
    checked(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) })
}
