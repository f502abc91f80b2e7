//! The volume in the partition: what it is, making it, checking it.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use super::problem::*;
use crate::formats::gpt::Place;
use crate::formats::volume::Content;
use crate::formats::{Window, volume};
use crate::model::cause;
use crate::model::layout::DATA_NAME;
use crate::sys::cmd;
use crate::sys::program::Program;

/// Making a volume writes a few MiB; on the slowest stick seen that takes seconds.
pub(super) const MKFS_LIMIT: Duration = Duration::from_secs(120);
/// Checking reads every folder; a stick with thousands of nodes takes well under a minute.
pub(super) const FSCK_LIMIT: Duration = Duration::from_secs(180);

pub(super) fn open_to_read(device: &Path) -> Result<File, Problem> {
    File::open(device).map_err(|e| problem(Reason::Damaged, format!("{} cannot be opened: {e}.", device.display())))
}

pub(super) fn inspect(device: &Path, place: &Place) -> Result<Content, Problem> {
    let file = open_to_read(device)?;
    // Through the device that will be mounted, never through the whole disk: their caches do not know of each other.
    volume::inspect(&Window::new(&file, 0, place.length))
        .map_err(|e| problem(Reason::Damaged, format!("{} cannot be read: {e}.", device.display())))
}

pub(super) fn make_volume(device: &Path) -> Result<(), Problem> {
    let failed = |text: String| problem(Reason::MkfsFailed, text);
    let args = [Path::new("-L"), Path::new(DATA_NAME), device];
    cmd::run(Program::MkfsExfat, &args, MKFS_LIMIT)
        .map_err(|e| failed(format!("Making the data volume failed: {}.", cause::told(&e))))?;
    let synced = OpenOptions::new()
        .write(true)
        .open(device)
        .and_then(|file| file.sync_all());
    synced.map_err(|e| failed(format!("Writing the data volume failed: {e}.")))
}

/// Repairs a volume that was not unmounted. Gives a note for the screen.
pub(super) fn check(device: &Path) -> Result<Option<String>, Problem> {
    // 1 means "errors, all repaired".
    match cmd::run_codes(Program::FsckExfat, &[Path::new("-p"), device], FSCK_LIMIT, &[0, 1]) {
        Ok(output) if output.code == 0 => Ok(Some("The file system check found nothing wrong.".into())),
        Ok(_) => Ok(Some("The file system was repaired.".into())),
        Err(error @ cmd::CmdError::Missing { .. }) => Ok(Some(format!(
            "The file system was not checked: {}.",
            cause::told(&error)
        ))),
        Err(error) => Err(problem(
            Reason::Damaged,
            format!("The data partition could not be repaired: {}.", cause::told(&error)),
        )),
    }
}
