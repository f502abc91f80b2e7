//! The whole medium: its table, the place of the partition in it, and what the kernel makes of that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::problem::{Problem, Reason, as_a_rule, is_optical, mounted_elsewhere, optical, problem, remedied, sentence};
use crate::formats::gpt::{GptError, Place, PlanError, Table};
use crate::formats::{Window, gpt, volume};
use crate::model::cause;
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::mount;

/// The kernel makes the device node at once; only a slow devtmpfs rule is waited for.
pub(super) const NODE_LIMIT: Duration = Duration::from_secs(10);
/// Start of the partition that is cleared before it enters the table, so that nothing old is taken for a volume.
pub(super) const WIPE_BYTES: usize = 1 << 20;

/// What the volume is reached through.
#[derive(Debug)]
pub(crate) enum Device {
    Partition(PathBuf),
    Loop(LoopDevice),
}

impl Device {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Device::Partition(path) => path,
            Device::Loop(device) => &device.path,
        }
    }

    #[cfg(test)]
    /// Gives a loop device back at once; a partition stays.
    pub(crate) fn release(self) -> io::Result<()> {
        match self {
            Device::Partition(_) => Ok(()),
            Device::Loop(device) => device.detach(),
        }
    }
}

/// The whole medium.
pub(super) struct Medium {
    pub(super) path: PathBuf,
    pub(super) disk: File,
    pub(super) bytes: u64,
    pub(super) is_file: bool,
    pub(super) read_only: bool,
}

impl Medium {
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let disk = File::open(path).map_err(|e| problem!(NoMedium, "{shown} cannot be opened: {e}."))?;
        let unknown = |e: io::Error| problem!(NoMedium, "{shown} does not answer: {e}.");
        let metadata = disk.metadata().map_err(unknown)?;
        let is_file = metadata.is_file();
        if !is_file && !metadata.file_type().is_block_device() {
            return Err(problem!(NoMedium, "{shown} is no disk."));
        }
        if !is_file && is_optical(path) {
            return Err(optical(path));
        }
        let bytes = (&disk).seek(SeekFrom::End(0)).map_err(unknown)?;
        if bytes == 0 {
            return Err(problem!(NoMedium, "{shown} has no medium in it."));
        }
        let folder = sys_folder(&metadata);
        let read_only = if is_file {
            metadata.permissions().readonly()
        } else {
            number(&folder.join("ro")).is_some_and(|ro| ro != 0)
        };
        if !is_file && folder.join("partition").exists() {
            return Err(problem!(NoMedium, "{shown} is a partition, not a whole disk."));
        }
        let medium = Medium {
            path: path.to_owned(),
            disk,
            bytes,
            is_file,
            read_only,
        };
        if let Some(block) = number(&folder.join("queue/logical_block_size"))
            && !is_file
            && let Ok(table) = Table::read(&medium.disk, bytes)
            && table.sector_size != block
        {
            let text = format!(
                "{shown} has sectors of {block} bytes, the image on it was made for {} bytes.",
                table.sector_size
            );
            let remedy = format!("Use a stick with sectors of {} bytes.", table.sector_size);
            return Err(remedied(Reason::NotUsable, text, &remedy));
        }
        Ok(medium)
    }

    pub(super) fn table(&self) -> Result<Table, Problem> {
        Table::read(&self.disk, self.bytes).map_err(|error| match error {
            GptError::None(reason) => problem!(NoMedium, "{} is no recon stick: {reason}.", self.path.display()),
            GptError::Io(source) => problem!(Damaged, "{} cannot be read: {source}.", self.path.display()),
        })
    }

    /// Where the partition is, and whether this call put it into the table.
    pub(super) fn place(&self, guid: [u8; 16]) -> Result<(Place, bool), Problem> {
        let table = self.table()?;
        if let Some(place) = table.data(self.bytes) {
            if self.read_only {
                return Err(self.write_protected());
            }
            if let Some(plan) = gpt::repair(&table, self.bytes) {
                self.apply(&plan)?;
            }
            return Ok((place, false));
        }
        // What cannot be read may hold inventories: nothing is put in its place.
        let unread = |what: &str, error: &(dyn std::error::Error + 'static)| {
            problem!(
                Damaged,
                "{} cannot be read to look for {what}: {}.",
                self.path.display(),
                cause::told(error)
            )
        };
        let former =
            gpt::find_former_data(&self.disk, self.bytes).map_err(|e| unread("an earlier data partition", &e))?;
        let former = match former {
            Some(place) => {
                let ours = volume::is_ours(&Window::new(&self.disk, place.offset, place.length));
                ours.map_err(|e| unread("earlier inventories", &e))?.then_some(place)
            }
            None => None,
        };
        let image_bytes = gpt::iso_bytes(&self.disk).map_err(|e| unread("the end of the image", &e))?;
        let plan = gpt::plan(&table, self.bytes, image_bytes, former, guid);
        let plan = plan.map_err(|error| match error {
            PlanError::TooSmall { .. } => as_a_rule(Reason::TooSmall, sentence(&error.to_string())),
            other => as_a_rule(Reason::Damaged, sentence(&other.to_string())),
        })?;
        if self.read_only {
            return Err(self.write_protected());
        }
        if !plan.data.finished {
            self.wipe(&plan.data)?;
        }
        self.apply(&plan)?;
        Ok((plan.data, !plan.data.finished))
    }

    pub(super) fn write_protected(&self) -> Problem {
        problem!(ReadOnly, "{} is write-protected.", self.path.display())
    }

    pub(super) fn writer(&self) -> Result<File, Problem> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(|error| self.write_problem(&error))
    }

    pub(super) fn write_problem(&self, error: &io::Error) -> Problem {
        match error.raw_os_error() {
            Some(libc::EROFS | libc::EPERM | libc::EACCES) => self.write_protected(),
            _ => problem!(Damaged, "Writing to {} failed: {error}.", self.path.display()),
        }
    }

    pub(super) fn apply(&self, plan: &gpt::Plan) -> Result<(), Problem> {
        plan.apply(&self.writer()?).map_err(|error| self.write_problem(&error))
    }

    pub(super) fn wipe(&self, place: &Place) -> Result<(), Problem> {
        use std::os::unix::fs::FileExt;
        let disk = self.writer()?;
        let zeros = vec![0u8; WIPE_BYTES.min(usize::try_from(place.length).unwrap_or(WIPE_BYTES))];
        disk.write_all_at(&zeros, place.offset)
            .and_then(|()| disk.sync_all())
            // The partition's own node is written to next, and these zeros must not be what is read later.
            .and_then(|()| mount::forget_cached(&disk))
            .map_err(|e| self.write_problem(&e))
    }

    /// Takes the mark of an unfinished volume out of the table.
    pub(super) fn finish(&self) -> Result<(), Problem> {
        match gpt::finish(&self.table()?, self.bytes) {
            Some(plan) => self.apply(&plan),
            None => Ok(()),
        }
    }

    /// A device over the partition that can be written to: the kernel's own, else a loop device.
    pub(super) fn device(&self, place: &Place) -> Result<Device, Problem> {
        if !self.is_file {
            let path = self.partition(place)?;
            if let Some(path) = path {
                // Exclusive, as mkfs and mount will ask for it.
                match OpenOptions::new()
                    .read(true)
                    .write(true)
                    .custom_flags(libc::O_EXCL)
                    .open(&path)
                {
                    Ok(_) => return Ok(Device::Partition(path)),
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        if let Some(target) = mounted_at(&path) {
                            return Err(mounted_elsewhere(&path, &target));
                        }
                    }
                    Err(error) => return Err(self.write_problem(&error)),
                }
            }
        }
        let disk = self.writer()?;
        // The loop device reads through the whole disk's cache, which knows nothing of what an earlier run may have
        // written through the partition's own node.
        mount::forget_cached(&disk).map_err(|error| self.write_problem(&error))?;
        LoopDevice::over(&disk, &self.path, place.offset, place.length, place.sector_size)
            .map(Device::Loop)
            .map_err(|error| {
                problem!(
                    NotUsable,
                    "No loop device for the data partition of {}: {error}.",
                    self.path.display()
                )
            })
    }

    /// The kernel's node of the partition; tells the kernel of it first where it does not know it. `None` where it
    /// cannot have partitions.
    pub(super) fn partition(&self, place: &Place) -> Result<Option<PathBuf>, Problem> {
        let refused = |what: &str, error: io::Error| {
            problem!(NotUsable, "The kernel did not {what} the data partition: {error}.")
        };
        let metadata = self.disk.metadata().map_err(|error| refused("find", error))?;
        let folder = sys_folder(&metadata);
        let known = known_partition(&folder, place.number);
        let fits = |known: &KnownPartition| (known.offset, known.length) == (place.offset, place.length);
        let stale = known.as_ref().is_some_and(|known| !fits(known));
        if stale && let Err(error) = loopdev::remove_partition(&self.disk, place.number) {
            return Err(refused("forget what it took for", error));
        }
        if stale || known.is_none() {
            match loopdev::add_partition(&self.disk, place.number, place.offset, place.length) {
                Ok(()) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY | libc::ENXIO)) => {
                    return Ok(None);
                }
                // Somebody else told it in between.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(refused("take", error)),
            }
        }
        let deadline = Instant::now() + NODE_LIMIT;
        loop {
            if let Some(known) = known_partition(&folder, place.number).filter(fits) {
                let node = Path::new("/dev").join(&known.name);
                if node.exists() {
                    return Ok(Some(node));
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Name below `/dev` of a device in sysfs, which writes `!` where the name has a slash.
fn node_name(device: &Path) -> Option<String> {
    Some(device.file_name()?.to_str()?.replace('!', "/"))
}

pub(super) fn is_read_only(target: &Path) -> bool {
    let mounts = mount::mounted().unwrap_or_default();
    mounts
        .iter()
        .rev()
        .find(|mounted| mounted.target == target)
        .is_some_and(|mounted| mounted.read_only)
}

fn mounted_at(device: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(device).ok()?;
    let wanted = device_number(&metadata);
    mount::mounted()
        .ok()?
        .into_iter()
        .find(|mounted| mounted.device_number == wanted)
        .map(|mounted| mounted.target)
}

/// Is the device with this number a partition of `disk`, or a loop device over it?
pub(super) fn belongs_to(device_number: &str, disk: &Path) -> bool {
    let folder = Path::new("/sys/dev/block").join(device_number);
    if let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) {
        return disk
            .canonicalize()
            .is_ok_and(|disk| Path::new(backing.trim_end()) == disk);
    }
    let (Ok(folder), Ok(metadata)) = (folder.canonicalize(), fs::metadata(disk)) else {
        return false;
    };
    let disk = sys_folder(&metadata).canonicalize();
    disk.is_ok_and(|disk| folder.parent() == Some(disk.as_path()))
}

/// The kernel's view of one partition.
struct KnownPartition {
    name: String,
    offset: u64,
    length: u64,
}

fn known_partition(disk: &Path, wanted: u32) -> Option<KnownPartition> {
    fs::read_dir(disk).ok()?.flatten().find_map(|entry| {
        let folder = entry.path();
        if number(&folder.join("partition"))? != u64::from(wanted) {
            return None;
        }
        // sysfs counts in units of 512 bytes whatever the sector size.
        Some(KnownPartition {
            name: node_name(&folder)?,
            offset: number(&folder.join("start"))?.checked_mul(512)?,
            length: number(&folder.join("size"))?.checked_mul(512)?,
        })
    })
}

fn sys_folder(metadata: &fs::Metadata) -> PathBuf {
    Path::new("/sys/dev/block").join(device_number(metadata))
}

/// As sysfs and mountinfo write it.
fn device_number(metadata: &fs::Metadata) -> String {
    let device = metadata.rdev();
    format!("{}:{}", libc::major(device), libc::minor(device))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
