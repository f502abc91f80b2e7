//! The operating system's own way to switch the machine off, or to start it again.

use std::io;
use std::process::Command;

use super::program::Program;
use super::{checked, console, watchdog};

/// Asks systemd to power the machine off; where no systemd answers, tells the kernel, after writing out what is cached.
/// Returns only on failure or when the request was handed over.
pub(crate) async fn off() -> io::Result<()> {
    if is_done(Program::Systemctl.command(), ["--no-block", "poweroff"]).await {
        return Ok(());
    }
    off_at_once()
}

/// Writes out what is cached and powers the machine off.
pub(crate) fn off_at_once() -> io::Result<()> {
    leave();
    // SAFETY: no pointers are handed over.
    checked(unsafe { libc::reboot(libc::RB_POWER_OFF) }).map(drop)
}

/// Asks systemd to start the machine again; where no systemd answers, does so itself. Returns only on failure or when the request was handed
/// over.
pub(crate) async fn reboot() -> io::Result<()> {
    if is_done(Program::Systemctl.command(), ["--no-block", "reboot"]).await {
        return Ok(());
    }
    restart()
}

/// Whether a program ran with these words, and succeeded.
async fn is_done(program: Command, words: [&str; 2]) -> bool {
    let status = tokio::process::Command::from(program).args(words).status().await;
    status.is_ok_and(|status| status.success())
}

/// Writes out what is cached and restarts the machine.
pub(crate) fn restart() -> io::Result<()> {
    leave();
    // SAFETY: no pointers are handed over.
    checked(unsafe { libc::reboot(libc::RB_AUTOBOOT) }).map(drop)
}

/// What comes before this kernel ends: what was said is on the consoles, what is cached is on the disks, and no watchdog is left to whoever
/// comes next, who may know nothing of it.
pub(super) fn leave() {
    watchdog::stop();
    console::drain();
    // SAFETY: takes no pointer.
    unsafe { libc::sync() };
}

/// From here on Ctrl-Alt-Del is a signal to process 1 and no longer an immediate restart (reboot(2)).
pub(crate) fn hear_ctrl_alt_del() -> io::Result<()> {
    // SAFETY: no pointer is handed over.
    checked(unsafe { libc::reboot(libc::RB_DISABLE_CAD) }).map(drop)
}
