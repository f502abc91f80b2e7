//! A shell on a console of this machine, where nobody else gives one.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use super::checked;
use super::program::Program;

/// Programs, a home and a kind of terminal that every console is.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/"),
    ("TERM", "linux"),
    ("PS1", "failsafe:\\w# "),
];

/// Runs a shell that has this console for its terminal, and waits for its end.
///
/// # Errors
/// There is no such console, or no shell.
pub(crate) fn on(console: &Path) -> io::Result<()> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(console)?;
    let mut shell = Program::Sh.command();
    shell
        .arg("-i")
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(terminal.try_clone()?)
        .stdout(terminal.try_clone()?)
        .stderr(terminal);
    // SAFETY: both calls are async-signal-safe (signal-safety(7)), and nothing is allocated.
    unsafe {
        shell.pre_exec(|| {
            checked(libc::setsid())?;
            checked(libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0)).map(drop)
        });
    }
    shell.status().map(drop)
}
