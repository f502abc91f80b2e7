//! The data partition of the medium the master booted from: found or made, checked, mounted, and left clean.
//!
//! The medium is in use (the running system lies on it), so the kernel is told of the new partition alone, and where it
//! keeps the whole medium to itself a loop device over the same bytes stands in. Nothing is formatted that could hold
//! an inventory: a partition is marked in the table until its volume is made, and only a marked one, or one that holds
//! no known file system, is ever formatted.

mod medium;
mod problem;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::formats::Window;
use crate::formats::gpt::Place;
use crate::formats::volume::{self, Content};
use crate::model::cause;
use crate::model::layout::DATA_NAME;
use crate::sys::program::Program;
use crate::sys::{cmd, mount};

pub(crate) use self::medium::Device;
use self::medium::{Medium, belongs_to, is_read_only};
pub(crate) use self::problem::Problem;
use self::problem::{mount_problem, mounted_elsewhere, problem};

/// How long an unmount waits for the last reader.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);

/// The mounted data partition.
#[derive(Debug)]
pub(crate) struct DataPartition {
    pub device: PathBuf,
    pub mount_point: PathBuf,
    /// Made in this call; false when an earlier boot made it.
    pub created: bool,
    /// What was repaired or is unusual, a sentence each.
    pub notes: Vec<String>,
}

impl DataPartition {
    /// Writes everything out and unmounts, so that the stick can be pulled. Every file on it must be closed; a reader
    /// that is still there is waited for, for ten seconds.
    pub(crate) fn close(self) -> io::Result<()> {
        mount::sync_filesystem(&self.mount_point)?;
        let deadline = Instant::now() + UNMOUNT_LIMIT;
        loop {
            match mount::unmount(&self.mount_point) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                other => return other,
            }
        }
    }
}

/// Finds or makes the data partition on `disk` (the whole device, or an image file) and mounts it at `mount_point`,
/// which is made if it is not there. `guid` becomes the unique GUID of a new partition. Blocks, for minutes at worst.
pub(crate) fn ensure(disk: &Path, mount_point: &Path, guid: [u8; 16]) -> Result<DataPartition, Problem> {
    if let Some(mounted) = mounted_before(disk, mount_point)? {
        return Ok(mounted);
    }
    let prepared = prepare(disk, guid)?;
    let Prepared {
        device, created, notes, ..
    } = prepared;
    fs::create_dir_all(mount_point)
        .map_err(|e| problem!(NotUsable, "Making {} failed: {e}.", mount_point.display()))?;
    mount::mount_exfat(device.path(), mount_point).map_err(|error| mount_problem(device.path(), &error))?;
    if is_read_only(mount_point) {
        // Nothing was written, and the error that matters is the one below.
        let _ = mount::unmount(mount_point);
        return Err(problem!(
            ReadOnly,
            "{} can only be mounted read-only.",
            device.path().display()
        ));
    }
    Ok(DataPartition {
        device: device.path().to_owned(),
        mount_point: mount_point.to_owned(),
        created,
        notes,
    })
}

/// A data partition with a checked volume on it, not mounted.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub device: Device,
    pub created: bool,
    pub notes: Vec<String>,
    #[cfg(test)]
    pub place: Place,
}

/// Everything `ensure` does short of mounting.
pub(crate) fn prepare(disk: &Path, guid: [u8; 16]) -> Result<Prepared, Problem> {
    let medium = Medium::open(disk)?;
    let (place, created) = medium.place(guid)?;
    let device = medium.device(&place)?;
    let mut notes = Vec::new();
    if let (Device::Loop(_), false) = (&device, medium.is_file) {
        notes.push("The kernel keeps the whole stick to itself; a loop device is used.".to_owned());
    }

    let content = inspect(device.path(), &place)?;
    let make = !place.finished
        || match content {
            Content::Nothing => true,
            Content::Foreign(name) => {
                return Err(problem!(
                    Damaged,
                    "The data partition {} holds {name} instead of exFAT.",
                    device.path().display()
                ));
            }
            Content::ExFat { needs_check: false, .. } => false,
            Content::ExFat { needs_check: true, .. } => {
                notes.push("The stick was pulled or lost power last time.".to_owned());
                notes.extend(check(device.path())?);
                false
            }
            Content::Broken(reason) => {
                notes.push(format!("The data partition did not read: {reason}."));
                notes.extend(check(device.path())?);
                false
            }
        };
    if make {
        make_volume(device.path())?;
        let made = volume::is_ours(&Window::new(&open_to_read(device.path())?, 0, place.length));
        let made = made.map_err(|error| {
            problem!(
                MkfsFailed,
                "Reading back the new volume on {} failed: {error}.",
                device.path().display()
            )
        })?;
        if !made {
            return Err(problem!(
                MkfsFailed,
                "The new volume does not read back as it was written."
            ));
        }
    }
    if !place.finished {
        medium.finish()?;
    }
    Ok(Prepared {
        device,
        created: created || make,
        notes,
        #[cfg(test)]
        place,
    })
}

/// The partition as an earlier run of this program left it mounted, when that run was ended without a clean stop.
fn mounted_before(disk: &Path, mount_point: &Path) -> Result<Option<DataPartition>, Problem> {
    let mounts =
        mount::mounted().map_err(|error| problem!(NotUsable, "What is mounted could not be read: {error}."))?;
    let Some(found) = mounts
        .into_iter()
        .rev()
        .find(|m| m.target == mount_point && m.kind == "exfat")
    else {
        return Ok(None);
    };
    let device = PathBuf::from(&found.source);
    if !belongs_to(&found.device_number, disk) {
        return Err(mounted_elsewhere(&device, mount_point));
    }
    if found.read_only {
        // The kernel turned it read-only after an error; check it and mount it again.
        return match mount::unmount(mount_point) {
            Ok(()) => Ok(None),
            Err(error) => Err(problem!(Damaged, "{} has errors: {error}.", device.display())),
        };
    }
    let notes = vec!["The data partition was mounted by an earlier run.".into()];
    Ok(Some(DataPartition {
        device,
        mount_point: mount_point.to_owned(),
        created: false,
        notes,
    }))
}

/// Making a volume writes a few MiB; on the slowest stick seen that takes seconds.
const MKFS_LIMIT: Duration = Duration::from_secs(120);
/// Checking reads every folder; a stick with thousands of nodes takes well under a minute.
const FSCK_LIMIT: Duration = Duration::from_secs(180);

fn open_to_read(device: &Path) -> Result<File, Problem> {
    File::open(device).map_err(|e| problem!(Damaged, "{} cannot be opened: {e}.", device.display()))
}

fn inspect(device: &Path, place: &Place) -> Result<Content, Problem> {
    let file = open_to_read(device)?;
    // Through the device that will be mounted, never through the whole disk: their caches do not know of each other.
    volume::inspect(&Window::new(&file, 0, place.length))
        .map_err(|e| problem!(Damaged, "{} cannot be read: {e}.", device.display()))
}

fn make_volume(device: &Path) -> Result<(), Problem> {
    let args = [Path::new("-L"), Path::new(DATA_NAME), device];
    cmd::run(Program::MkfsExfat, &args, MKFS_LIMIT)
        .map_err(|e| problem!(MkfsFailed, "Making the data volume failed: {}.", cause::told(&e)))?;
    let device = OpenOptions::new().write(true).open(device);
    let synced = device.and_then(|file| file.sync_all());
    synced.map_err(|e| problem!(MkfsFailed, "Writing the data volume failed: {e}."))
}

/// Repairs a volume that was not unmounted. Gives a note for the screen.
fn check(device: &Path) -> Result<Option<String>, Problem> {
    // 1 means "errors, all repaired".
    match cmd::run_codes(Program::FsckExfat, &[Path::new("-p"), device], FSCK_LIMIT, &[0, 1]) {
        Ok(output) if output.code == 0 => Ok(Some("The file system check found nothing wrong.".into())),
        Ok(_) => Ok(Some("The file system was repaired.".into())),
        Err(error @ cmd::CmdError::Missing { .. }) => Ok(Some(format!(
            "The file system was not checked: {}.",
            cause::told(&error)
        ))),
        Err(error) => Err(problem!(
            Damaged,
            "The data partition could not be repaired: {}.",
            cause::told(&error)
        )),
    }
}

#[cfg(test)]
mod tests;
