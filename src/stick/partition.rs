//! The data partition of the medium the master booted from: found or made, checked, mounted, and left clean.
//!
//! The medium is in use (the running system lies on it), so the kernel is told of the new partition alone, and where it
//! keeps the whole medium to itself a loop device over the same bytes stands in. Nothing is formatted that could hold
//! an inventory: a partition is marked in the table until its volume is made, and only a marked one, or one that holds
//! no known file system, is ever formatted.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::formats::gpt::{GptError, Place, PlanError, Table};
use crate::formats::volume::Content;
use crate::formats::{Window, gpt, volume};
use crate::model::cause;
use crate::model::layout::DATA_NAME;
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::{cmd, mount};

/// Making a volume writes a few MiB; on the slowest stick seen that takes seconds.
const MKFS_LIMIT: Duration = Duration::from_secs(120);
/// Checking reads every folder; a stick with thousands of nodes takes well under a minute.
const FSCK_LIMIT: Duration = Duration::from_secs(180);
/// The kernel makes the device node at once; only a slow devtmpfs rule is waited for.
const NODE_LIMIT: Duration = Duration::from_secs(10);
/// How long an unmount waits for the last reader.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(10);
/// Start of the partition that is cleared before it enters the table, so that nothing old is taken for a volume.
const WIPE_BYTES: usize = 1 << 20;

/// Why there is no data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    TooSmall,
    ReadOnly,
    Damaged,
    NoMedium,
    MkfsFailed,
    /// The kernel refused a partition, a loop device or the mount.
    NotUsable,
}

/// Why uploads cannot go to the medium, and what a person can do, as sentences for the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub reason: Reason,
    pub text: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// A problem with what helps as a rule.
fn problem(reason: Reason, text: impl Into<String>) -> Problem {
    let remedy = match reason {
        Reason::TooSmall => "Use a larger stick.",
        Reason::ReadOnly => "Move the stick's write-protect switch, or use another stick.",
        Reason::Damaged => {
            "Keep the stick: `recon collect /dev/sdX -o inventory.tar.gz` on a Linux laptop, sdX being the stick there, takes every \
             whole inventory off it. Then write the image to it anew."
        }
        Reason::NoMedium => "Boot from a USB stick to keep inventories.",
        Reason::MkfsFailed => "Try another USB port or another stick.",
        Reason::NotUsable => "Boot again; if it stays so, try another stick.",
    };
    remedied(reason, text, remedy)
}

fn remedied(reason: Reason, text: impl Into<String>, remedy: &str) -> Problem {
    Problem {
        reason,
        text: text.into(),
        remedy: remedy.to_owned(),
    }
}

/// The kernel's name of an optical drive, also of one that a BMC plays.
fn is_optical(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("sr")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Nothing that is wrong with a CD otherwise (its sectors, its room) is of use to a person.
fn optical(device: &Path) -> Problem {
    let text = format!(
        "{} is a CD, perhaps a virtual one, and cannot be written.",
        device.display()
    );
    remedied(Reason::ReadOnly, text, "Boot from a USB stick to keep inventories.")
}

/// Something else uses the device.
fn mounted_elsewhere(device: &Path, target: &Path) -> Problem {
    let text = format!("{} is mounted at {} already.", device.display(), target.display());
    remedied(
        Reason::NotUsable,
        text,
        "Unmount it there, and start recon again (`systemctl restart recon`).",
    )
}

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
    fs::create_dir_all(mount_point).map_err(|e| {
        problem(
            Reason::NotUsable,
            format!("Making {} failed: {e}.", mount_point.display()),
        )
    })?;
    mount::mount_exfat(device.path(), mount_point).map_err(|error| mount_problem(device.path(), &error))?;
    if is_read_only(mount_point) {
        // Nothing was written, and the error that matters is the one below.
        let _ = mount::unmount(mount_point);
        return Err(problem(
            Reason::ReadOnly,
            format!("{} can only be mounted read-only.", device.path().display()),
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
                let text = format!(
                    "The data partition {} holds {name} instead of exFAT.",
                    device.path().display()
                );
                return Err(problem(Reason::Damaged, text));
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
            let text = format!(
                "Reading back the new volume on {} failed: {error}.",
                device.path().display()
            );
            problem(Reason::MkfsFailed, text)
        })?;
        if !made {
            return Err(problem(
                Reason::MkfsFailed,
                "The new volume does not read back as it was written.",
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

/// The whole medium.
struct Medium {
    path: PathBuf,
    disk: File,
    bytes: u64,
    is_file: bool,
    read_only: bool,
}

impl Medium {
    fn open(path: &Path) -> Result<Self, Problem> {
        let shown = path.display();
        let disk =
            File::open(path).map_err(|e| problem(Reason::NoMedium, format!("{shown} cannot be opened: {e}.")))?;
        let unknown = |e: io::Error| problem(Reason::NoMedium, format!("{shown} does not answer: {e}."));
        let metadata = disk.metadata().map_err(unknown)?;
        let is_file = metadata.is_file();
        if !is_file && !metadata.file_type().is_block_device() {
            return Err(problem(Reason::NoMedium, format!("{shown} is no disk.")));
        }
        if !is_file && is_optical(path) {
            return Err(optical(path));
        }
        let bytes = (&disk).seek(SeekFrom::End(0)).map_err(unknown)?;
        if bytes == 0 {
            return Err(problem(Reason::NoMedium, format!("{shown} has no medium in it.")));
        }
        let folder = sys_folder(&metadata);
        let read_only = if is_file {
            metadata.permissions().readonly()
        } else {
            number(&folder.join("ro")).is_some_and(|ro| ro != 0)
        };
        if !is_file && folder.join("partition").exists() {
            return Err(problem(
                Reason::NoMedium,
                format!("{shown} is a partition, not a whole disk."),
            ));
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

    fn table(&self) -> Result<Table, Problem> {
        Table::read(&self.disk, self.bytes).map_err(|error| match error {
            GptError::None(reason) => problem(
                Reason::NoMedium,
                format!("{} is no recon stick: {reason}.", self.path.display()),
            ),
            GptError::Io(source) => problem(
                Reason::Damaged,
                format!("{} cannot be read: {source}.", self.path.display()),
            ),
        })
    }

    /// Where the partition is, and whether this call put it into the table.
    fn place(&self, guid: [u8; 16]) -> Result<(Place, bool), Problem> {
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
            let text = format!(
                "{} cannot be read to look for {what}: {}.",
                self.path.display(),
                cause::told(error)
            );
            problem(Reason::Damaged, text)
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
            PlanError::TooSmall { .. } => problem(Reason::TooSmall, sentence(&error.to_string())),
            other => problem(Reason::Damaged, sentence(&other.to_string())),
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

    fn write_protected(&self) -> Problem {
        problem(Reason::ReadOnly, format!("{} is write-protected.", self.path.display()))
    }

    fn writer(&self) -> Result<File, Problem> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(|error| self.write_problem(&error))
    }

    fn write_problem(&self, error: &io::Error) -> Problem {
        match error.raw_os_error() {
            Some(libc::EROFS | libc::EPERM | libc::EACCES) => self.write_protected(),
            _ => problem(
                Reason::Damaged,
                format!("Writing to {} failed: {error}.", self.path.display()),
            ),
        }
    }

    fn apply(&self, plan: &gpt::Plan) -> Result<(), Problem> {
        plan.apply(&self.writer()?).map_err(|error| self.write_problem(&error))
    }

    fn wipe(&self, place: &Place) -> Result<(), Problem> {
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
    fn finish(&self) -> Result<(), Problem> {
        match gpt::finish(&self.table()?, self.bytes) {
            Some(plan) => self.apply(&plan),
            None => Ok(()),
        }
    }

    /// A device over the partition that can be written to: the kernel's own, else a loop device.
    fn device(&self, place: &Place) -> Result<Device, Problem> {
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
                let text = format!(
                    "No loop device for the data partition of {}: {error}.",
                    self.path.display()
                );
                problem(Reason::NotUsable, text)
            })
    }

    /// The kernel's node of the partition; tells the kernel of it first where it does not know it. `None` where it
    /// cannot have partitions.
    fn partition(&self, place: &Place) -> Result<Option<PathBuf>, Problem> {
        let refused = |what: &str, error: io::Error| {
            problem(
                Reason::NotUsable,
                format!("The kernel did not {what} the data partition: {error}."),
            )
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

/// Name below `/dev` of a device in sysfs, which writes `!` where the name has a slash.
fn node_name(device: &Path) -> Option<String> {
    Some(device.file_name()?.to_str()?.replace('!', "/"))
}

fn sys_folder(metadata: &fs::Metadata) -> PathBuf {
    let device = metadata.rdev();
    PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        libc::major(device),
        libc::minor(device)
    ))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_to_read(device: &Path) -> Result<File, Problem> {
    File::open(device).map_err(|e| problem(Reason::Damaged, format!("{} cannot be opened: {e}.", device.display())))
}

fn inspect(device: &Path, place: &Place) -> Result<Content, Problem> {
    let file = open_to_read(device)?;
    // Through the device that will be mounted, never through the whole disk: their caches do not know of each other.
    volume::inspect(&Window::new(&file, 0, place.length))
        .map_err(|e| problem(Reason::Damaged, format!("{} cannot be read: {e}.", device.display())))
}

fn make_volume(device: &Path) -> Result<(), Problem> {
    let failed = |text: String| problem(Reason::MkfsFailed, text);
    let args = [Path::new("-L"), Path::new(DATA_NAME), device];
    cmd::run("mkfs.exfat", &args, MKFS_LIMIT)
        .map_err(|e| failed(format!("Making the data volume failed: {}.", cause::told(&e))))?;
    let synced = OpenOptions::new()
        .write(true)
        .open(device)
        .and_then(|file| file.sync_all());
    synced.map_err(|e| failed(format!("Writing the data volume failed: {e}.")))
}

/// Repairs a volume that was not unmounted. Gives a note for the screen.
fn check(device: &Path) -> Result<Option<String>, Problem> {
    // 1 means "errors, all repaired".
    match cmd::run_codes("fsck.exfat", &[Path::new("-p"), device], FSCK_LIMIT, &[0, 1]) {
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

fn mount_problem(device: &Path, error: &io::Error) -> Problem {
    let device = device.display();
    match error.raw_os_error() {
        Some(libc::ENODEV) => remedied(
            Reason::NotUsable,
            "This kernel has no exFAT driver.",
            "Boot recon's own image, which has one.",
        ),
        Some(libc::EROFS) => problem(Reason::ReadOnly, format!("{device} is write-protected.")),
        Some(libc::EINVAL | libc::EIO) => problem(
            Reason::Damaged,
            format!("The exFAT volume on {device} cannot be mounted: {error}."),
        ),
        _ => problem(Reason::NotUsable, format!("Mounting {device} failed: {error}.")),
    }
}

fn is_read_only(target: &Path) -> bool {
    let mounts = mount::mounted().unwrap_or_default();
    mounts
        .iter()
        .rev()
        .find(|mounted| mounted.target == target)
        .is_some_and(|mounted| mounted.read_only)
}

fn mounted_at(device: &Path) -> Option<PathBuf> {
    let metadata = fs::metadata(device).ok()?;
    let wanted = format!("{}:{}", libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    mount::mounted()
        .ok()?
        .into_iter()
        .find(|mounted| mounted.device_number == wanted)
        .map(|mounted| mounted.target)
}

/// The partition as an earlier run of this program left it mounted, when that run was ended without a clean stop.
fn mounted_before(disk: &Path, mount_point: &Path) -> Result<Option<DataPartition>, Problem> {
    let mounts = mount::mounted().map_err(|error| {
        let text = format!("What is mounted could not be read: {error}.");
        problem(Reason::NotUsable, text)
    })?;
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
            Err(error) => Err(problem(
                Reason::Damaged,
                format!("{} has errors: {error}.", device.display()),
            )),
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

/// Is the device with this number a partition of `disk`, or a loop device over it?
fn belongs_to(device_number: &str, disk: &Path) -> bool {
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

/// A library's message as a sentence.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

#[cfg(test)]
mod tests;
