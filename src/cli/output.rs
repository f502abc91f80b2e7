//! What a command writes to standard output.

use anyhow::Context;

use crate::model::shown::Shown;
use crate::sys::terminal;

/// Writes to standard output; a reader that went away is no error.
pub(super) fn print(text: &Shown) -> anyhow::Result<()> {
    match terminal::stdout(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}
