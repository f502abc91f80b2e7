//! Where words leave this program for a person's eyes: terminals, standard output, standard error. All of them take
//! [`Shown`], so words that a terminal would obey cannot be sent by mistake.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::poll;
use crate::model::shown::Shown;

/// To the top of the screen, and clear it (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Writes to standard output.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn stdout(text: &Shown) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

/// Writes to standard error; where that is gone there is nobody to tell.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn stderr(text: &Shown) {
    io::stderr().write_all(text.as_bytes()).ok();
}

/// A terminal to draw on.
#[derive(Debug)]
pub struct Terminal(File);

impl Terminal {
    /// Opens what is to be read and what is to be written: the same device, or standard input and output.
    /// Gives the path that failed with the error.
    pub fn open(device: Option<&Path>) -> Result<(File, Terminal), (std::path::PathBuf, io::Error)> {
        let opened = |standard: &str, write: bool| {
            let path = device.unwrap_or(Path::new(standard));
            let file = OpenOptions::new().read(!write).write(write).open(path);
            file.map_err(|error| (path.to_owned(), error))
        };
        Ok((opened("/dev/stdin", false)?, Terminal(opened("/dev/stdout", true)?)))
    }

    /// Where the cursor is.
    pub fn write(&mut self, text: &Shown) -> io::Result<()> {
        self.0.write_all(as_drawn(text).as_bytes())?;
        self.0.flush()
    }

    /// In place of all that was there.
    pub fn redraw(&mut self, text: &Shown) -> io::Result<()> {
        self.0.write_all(format!("{CLEAR}{}", as_drawn(text)).as_bytes())?;
        self.0.flush()
    }

    /// In place of the line that the cursor is in, and stays there.
    pub fn overwrite(&mut self, text: &Shown) -> io::Result<()> {
        self.0
            .write_all(format!("\r{}", text.trim_end_matches('\n')).as_bytes())?;
        self.0.flush()
    }

    /// For a program that takes the terminal over.
    pub fn lend(&self) -> io::Result<Stdio> {
        Ok(self.0.try_clone()?.into())
    }

    /// Columns and rows, as [`size`].
    pub fn size(&self) -> Option<(u16, u16)> {
        size(self.0.as_raw_fd())
    }
}

/// The terminal may be one that does not return by itself.
fn as_drawn(text: &Shown) -> String {
    text.replace('\n', "\r\n")
}

/// Columns and rows; `None` where the terminal does not know, as serial lines do not.
fn size(fd: RawFd) -> Option<(u16, u16)> {
    // SAFETY: winsize is plain data, and the ioctl writes one.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) == 0).then_some(size)
    }?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Waits until there is something to read, or for `limit`.
pub fn readable(fd: RawFd, limit: Duration) -> bool {
    let polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    poll(&mut [polled], limit).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shown::{EVIL, assert_harmless};

    /// What arrives at a terminal, less the control sequences that are ours.
    fn drawn(draw: impl FnOnce(&mut Terminal)) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        draw(&mut Terminal(file.reopen().unwrap()));
        let text = std::fs::read_to_string(file.path()).unwrap();
        text.replace(CLEAR, "").replace("\r\n", "\n")
    }

    #[test]
    fn no_terminal_obeys_a_stranger() {
        let line = Shown::line(EVIL);
        assert_harmless(&drawn(|terminal| terminal.write(&line).unwrap()));
        assert_harmless(&drawn(|terminal| terminal.redraw(&line).unwrap()));
        let over = drawn(|terminal| terminal.overwrite(&line).unwrap());
        assert_harmless(over.strip_prefix('\r').unwrap());
        assert!(!over.contains('\n'));
    }
}
