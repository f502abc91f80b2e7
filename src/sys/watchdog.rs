//! The machine's watchdog: a timer that resets it unless somebody goes on feeding it (Documentation/watchdog/watchdog-api.rst). Nothing
//! starts it but opening it, and only the letter V, written last, stops it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The first one that the kernel found, and what it says of it.
pub(crate) const DEVICE: &str = "/dev/watchdog0";
const FACTS: &str = "/sys/class/watchdog/watchdog0";
/// Driver of one that every machine has: a timer of the kernel itself.
pub(crate) const SOFTWARE: &str = "softdog";

/// What is written to feed it: anything but the letter that stops it.
const FED: &[u8] = b"\0";
const STOPPED: &[u8] = b"V";

/// The one that this process holds.
static HELD: Mutex<Option<Held<File>>> = Mutex::new(None);

/// One that runs. Where this goes without [`Held::stop`], it runs on.
#[derive(Debug)]
struct Held<W>(W);

impl<W: Write> Held<W> {
    fn feed(&mut self) -> io::Result<()> {
        self.0.write_all(FED)
    }

    fn stop(mut self) -> io::Result<()> {
        self.0.write_all(STOPPED)
    }
}

/// What the kernel says of it: `nowayout`, `timeout`, `state` …; `None` where there is none, or it does not say.
pub(crate) fn fact(name: &str) -> Option<String> {
    let path: PathBuf = Path::new(FACTS).join(name);
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn open() -> io::Result<Held<File>> {
    Ok(Held(OpenOptions::new().write(true).open(DEVICE)?))
}

/// Starts it. False where this process did so before.
pub(crate) fn start() -> io::Result<bool> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.is_some() {
        return Ok(false);
    }
    *held = Some(open()?);
    Ok(true)
}

/// False where this process holds none, or no longer.
pub(crate) fn feed() -> io::Result<bool> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.as_mut().map_or(Ok(false), |held| held.feed().map(|()| true))
}

/// Stops the one that this process holds; before the machine is another kernel's, or nobody's. Nothing where there is none.
pub(crate) fn stop() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Err(error)) = held.map(Held::stop) {
        tracing::warn!(%error, "stopping the watchdog");
    }
}

/// Stops one that a process left running which is gone.
pub(crate) fn stop_left() -> io::Result<()> {
    match fact("state").as_deref() {
        Some("active") => open()?.stop(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_word_stops_it() {
        let mut written = Vec::new();
        let mut held = Held(&mut written);
        held.feed().unwrap();
        held.feed().unwrap();
        held.stop().unwrap();
        assert_eq!(written, b"\0\0V");
        // A process that ends without a word leaves it running.
        let mut written = Vec::new();
        Held(&mut written).feed().unwrap();
        assert!(!written.contains(&b'V'));
    }
}
