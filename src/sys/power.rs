//! The operating system's own way to switch the machine off.

use std::io;

use super::checked;
use super::program::Program;

/// Asks systemd to power the machine off; where no systemd answers, tells the kernel, after writing out what is cached.
/// Returns only on failure or when the request was handed over.
pub(crate) async fn off() -> io::Result<()> {
    let status = tokio::process::Command::from(Program::Systemctl.command())
        .args(["--no-block", "poweroff"])
        .status()
        .await;
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    // SAFETY: sync and reboot take no pointers.
    unsafe {
        libc::sync();
        checked(libc::reboot(libc::RB_POWER_OFF)).map(drop)
    }
}
