//! Whole disks of the running system: list them, and make the kernel refuse writes to them.
//!
//! Read-only here is the kernel's own flag (`BLKROSET`), set on the whole disk. From Linux 5.11 on, partitions follow
//! their disk, so nothing on the machine can write to it by accident: no mount, no journal replay, no swap. It does not
//! reach the device and is gone after a reboot. From 5.12 on, the driver's own flag is kept apart from ours, so that
//! looking at the disk again does not clear it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{fmt, thread};

use super::{checked, file};
use crate::formats::iso9660::Primary;

/// Volume id of the recon medium's ISO 9660 file system.
pub(crate) const MEDIUM_VOLUME_ID: &str = "RECON";
/// How long one device may take to be judged and set. A device that does not even answer a read is no medium of ours
/// and is set read-only unread.
pub(crate) const GUARD_LIMIT: Duration = Duration::from_secs(15);
/// More block devices than any machine has; what is beyond is reported, not set.
const MAX_DEVICES: usize = 64 * 1024;

const BLKROSET: libc::c_ulong = 0x125d;
const BLKROGET: libc::c_ulong = 0x125e;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

/// Prefixes of block devices that are no hardware, or, like optical drives and floppies, nothing to protect.
const NOT_DISKS: [&str; 10] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "rbd", "drbd"];

/// True for kernel names such as `loop0` and `dm-3` that never are a disk of the machine.
pub(crate) fn is_never_a_disk(name: &str) -> bool {
    NOT_DISKS.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
    })
}

/// True for what the kernel shows beside an eMMC or UFS disk although it is a part of it: boot areas, general purpose areas
/// and the replay-protected block (`mmcblk0boot0`, `mmcblk0gp1`, `mmcblk0rpmb`). To be protected like a disk, not counted.
pub(crate) fn is_area_of_disk(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("mmcblk") else {
        return false;
    };
    let area = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    area.len() < rest.len() && ["boot", "gp", "rpmb"].iter().any(|kind| area.starts_with(kind))
}

/// Whole disks with a device behind them, by kernel name. `sys` is `/sys`, or a captured one.
pub(crate) fn whole_disks(sys: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(sys.join("block"))?.take(MAX_DEVICES) {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if is_whole_disk(sys, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_whole_disk(sys: &Path, name: &str) -> bool {
    let entry = sys.join("block").join(name);
    // `hidden` marks the single paths of an NVMe multipath disk: they have no device node and cannot be opened.
    let hidden = fs::read_to_string(entry.join("hidden")).is_ok_and(|text| text.trim() == "1");
    !is_never_a_disk(name) && !hidden && entry.join("device").exists()
}

/// Opens a block device for questions and flags. Never blocks on a missing medium, never for writing.
pub(super) fn open(device: &Path) -> io::Result<File> {
    let file = file::open(device)?;
    if !file.metadata()?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
    }
    Ok(file)
}

/// Opens a disk for reading and writing, if nothing on it is in use (O_EXCL on a block device).
pub(crate) fn open_exclusive(device: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(device)
}

/// Makes the kernel forget what it holds of a disk, so that the next read comes from the disk itself.
pub(crate) fn drop_cache(disk: &File) -> io::Result<()> {
    const BLKFLSBUF: libc::c_ulong = 0x1261;
    // SAFETY: BLKFLSBUF takes no argument.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKFLSBUF as _, 0) }).map(drop)
}

/// The kernel's read-only flag.
pub(crate) fn is_read_only(device: &Path) -> io::Result<bool> {
    read_only_flag(&open(device)?)
}

fn read_only_flag(file: &File) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: BLKROGET writes one int through the pointer.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), BLKROGET as _, &mut flag) })?;
    Ok(flag != 0)
}

/// Sets or clears the kernel's read-only flag and reads it back; an answer that differs is an error.
pub(crate) fn set_read_only(device: &Path, on: bool) -> io::Result<()> {
    let file = open(device)?;
    let flag = libc::c_int::from(on);
    // SAFETY: BLKROSET reads one int through the pointer.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), BLKROSET as _, &flag) })?;
    if read_only_flag(&file)? == on {
        Ok(())
    } else {
        Err(io::Error::other("the kernel did not keep the read-only flag"))
    }
}

/// Size in bytes.
pub(crate) fn size_bytes(device: &Path) -> io::Result<u64> {
    let file = open(device)?;
    let mut size: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes one u64 through the pointer.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64 as _, &mut size) })?;
    Ok(size)
}

/// True when what is read is a recon medium: an ISO 9660 primary volume descriptor (ECMA-119 8.4) with our volume id.
/// Reads 72 bytes at 32 KiB and nothing else.
pub(crate) fn is_recon_medium(reader: &mut (impl Read + Seek)) -> bool {
    let mut descriptor = [0u8; Primary::ID_BYTES];
    if reader.seek(SeekFrom::Start(Primary::OFFSET)).is_err() || reader.read_exact(&mut descriptor).is_err() {
        return false;
    }
    Primary::parse(&descriptor).and_then(Primary::volume_id) == Some(MEDIUM_VOLUME_ID.as_bytes())
}

/// [`is_recon_medium`] for a device node; one that cannot be read is none.
pub(crate) fn is_recon_device(device: &Path) -> bool {
    open(device).is_ok_and(|mut file| is_recon_medium(&mut file))
}

/// What happened to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuardOutcome {
    /// Read-only now, checked by reading the flag back.
    ReadOnly,
    /// The medium this system runs from; its flag was not touched.
    Exempt,
    /// Nothing to protect: a partition (it follows its disk), no hardware behind it, an optical drive.
    Skipped(&'static str),
    /// Still writable, and why. Somebody must know.
    Failed(String),
}

/// One device, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuardResult {
    /// Kernel name.
    pub device: String,
    pub outcome: GuardOutcome,
}

impl fmt::Display for GuardResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            GuardOutcome::ReadOnly => write!(f, "{}: read-only", self.device),
            GuardOutcome::Exempt => write!(f, "{}: left as it is, this system runs from it", self.device),
            GuardOutcome::Skipped(reason) => write!(f, "{}: left alone, {reason}", self.device),
            GuardOutcome::Failed(reason) => write!(f, "{}: STILL WRITABLE, {reason}", self.device),
        }
    }
}

impl GuardResult {
    /// False when the device is still writable although it should not be.
    pub(crate) fn is_safe(&self) -> bool {
        !matches!(self.outcome, GuardOutcome::Failed(_))
    }
}

/// Judges a device node: true keeps it writable. Runs in a thread of its own, which is left behind if it hangs.
pub(crate) type Exempt = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Sets disks read-only, except those that `exempt` knows. `devices` are kernel names or paths of nodes, as udev hands
/// them out; none means every disk the machine has now.
///
/// All devices are judged at once, each within [`GUARD_LIMIT`], so that a dying disk does not leave the others open.
pub(crate) fn guard(devices: &[String], exempt: &Exempt) -> io::Result<Vec<GuardResult>> {
    let sys = Path::new("/sys");
    let names = if devices.is_empty() {
        whole_disks(sys)?
    } else {
        devices.iter().map(|device| kernel_name(device)).collect()
    };
    Ok(guard_in(sys, Path::new("/dev"), &names, exempt, GUARD_LIMIT, |path| {
        set_read_only(path, true)
    }))
}

/// `/dev/disk/by-id/x`, `/dev/sda` and `sda` all mean `sda`.
fn kernel_name(device: &str) -> String {
    let path = Path::new(device);
    let real = fs::canonicalize(path).ok().filter(|_| path.is_absolute());
    let path: PathBuf = real.unwrap_or_else(|| path.to_path_buf());
    match path.strip_prefix("/dev") {
        // `/dev/cciss/c0d0` is called `cciss!c0d0` in sysfs.
        Ok(name) => name.to_string_lossy().replace('/', "!"),
        Err(_) => device.to_owned(),
    }
}

/// The device node of a kernel name.
fn node(dev: &Path, name: &str) -> PathBuf {
    dev.join(name.replace('!', "/"))
}

fn guard_in(
    sys: &Path,
    dev: &Path,
    names: &[String],
    exempt: &Exempt,
    limit: Duration,
    set: impl Fn(&Path) -> io::Result<()> + Send + Copy + 'static,
) -> Vec<GuardResult> {
    let pending: Vec<_> = names
        .iter()
        .map(|name| {
            if let Some(reason) = nothing_to_guard(sys, name) {
                return Err(GuardOutcome::Skipped(reason));
            }
            let (judge, judged) = mpsc::channel();
            let (node, exempt) = (node(dev, name), Arc::clone(exempt));
            let work = move || {
                let exempt = exempt(&node);
                // A late answer finds nobody listening; then the device is already being set by the one who waited.
                if judge.send(None).is_ok() && !exempt {
                    let _ = judge.send(Some(set(&node)));
                }
            };
            match thread::Builder::new().name(format!("guard-{name}")).spawn(work) {
                Ok(_) => Ok(judged),
                Err(error) => Err(GuardOutcome::Failed(format!("starting a thread: {error}"))),
            }
        })
        .collect();
    let started = std::time::Instant::now();
    let left = || limit.saturating_sub(started.elapsed()).max(Duration::from_millis(10));

    names
        .iter()
        .zip(pending)
        .map(|(name, pending)| {
            let outcome = match pending {
                Err(outcome) => outcome,
                Ok(judged) => match judged.recv_timeout(left()) {
                    // Judged; what follows is the result of setting, or the end of the channel for an exempt device.
                    Ok(_) => match judged.recv_timeout(left()) {
                        Ok(Some(result)) => set_outcome(result),
                        Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => GuardOutcome::Exempt,
                        Err(mpsc::RecvTimeoutError::Timeout) => {
                            GuardOutcome::Failed("setting it read-only did not finish in time".to_owned())
                        }
                    },
                    // No answer: it hangs, or the judge died. Unknown means protect.
                    Err(_) => {
                        drop(judged);
                        set_unread(node(dev, name), set)
                    }
                },
            };
            GuardResult {
                device: name.clone(),
                outcome,
            }
        })
        .collect()
}

/// Sets a device whose content could not be read, again without waiting for ever.
fn set_unread(node: PathBuf, set: impl Fn(&Path) -> io::Result<()> + Send + 'static) -> GuardOutcome {
    let (answer, answered) = mpsc::channel();
    let spawned = thread::Builder::new().spawn(move || {
        // Nobody listens any more when this took too long; the flag is set all the same.
        let _ = answer.send(set(&node));
    });
    match spawned.map(|_| answered.recv_timeout(Duration::from_secs(2))) {
        Ok(Ok(result)) => set_outcome(result),
        Ok(Err(_)) => GuardOutcome::Failed("neither reading it nor setting it read-only finished in time".to_owned()),
        Err(error) => GuardOutcome::Failed(format!("starting a thread: {error}")),
    }
}

fn set_outcome(result: io::Result<()>) -> GuardOutcome {
    match result {
        Ok(()) => GuardOutcome::ReadOnly,
        Err(error) => GuardOutcome::Failed(format!("setting it read-only: {error}")),
    }
}

fn nothing_to_guard(sys: &Path, name: &str) -> Option<&'static str> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Some("not a kernel name of a block device");
    }
    if is_never_a_disk(name) {
        return Some("no disk of the machine");
    }
    if sys.join("class/block").join(name).join("partition").exists() {
        return Some("a partition, which follows its disk");
    }
    if !is_whole_disk(sys, name) {
        return Some("no hardware behind it");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::sync::Mutex;

    fn iso(volume_id: &str) -> Vec<u8> {
        let mut image = vec![0u8; 34 * 1024];
        image[32768..32775].copy_from_slice(b"\x01CD001\x01");
        image[32768 + 40..32768 + 72].fill(b' ');
        image[32768 + 40..32768 + 40 + volume_id.len()].copy_from_slice(volume_id.as_bytes());
        image
    }

    #[test]
    fn only_our_volume_is_our_medium() {
        assert!(is_recon_medium(&mut Cursor::new(iso("RECON"))));
        for other in ["RECON-DATA", "CDROM", "", "recon", " RECON"] {
            assert!(!is_recon_medium(&mut Cursor::new(iso(other))), "{other:?}");
        }
        let mut no_iso = iso("RECON");
        no_iso[32769] = b'X';
        assert!(!is_recon_medium(&mut Cursor::new(no_iso)));
        assert!(!is_recon_medium(&mut Cursor::new(vec![1u8; 100])));
    }

    proptest! {
        #[test]
        fn any_content_is_judged(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut image = vec![0u8; 32768];
            image.extend(content);
            let _ = is_recon_medium(&mut Cursor::new(image));
        }
    }

    #[test]
    fn names_that_never_are_disks() {
        for name in [
            "loop0", "ram15", "zram0", "dm-1", "md127", "md_d0", "sr0", "fd0", "nbd3",
        ] {
            assert!(is_never_a_disk(name), "{name}");
        }
        for name in [
            "sda", "vda", "nvme0n1", "mmcblk0", "xvda", "dasda", "pmem0", "sdra", "mdisk",
        ] {
            assert!(!is_never_a_disk(name), "{name}");
        }
    }

    /// A /sys with two disks, a partition, a loop device, a hidden NVMe path and a disk without hardware.
    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sda", "sdb", "nvme0n1", "nvme0c0n1", "loop0", "virt0"] {
            let entry = dir.path().join("block").join(name);
            fs::create_dir_all(&entry).unwrap();
            if name != "virt0" {
                fs::create_dir(entry.join("device")).unwrap();
            }
        }
        fs::write(dir.path().join("block/nvme0c0n1/hidden"), "1\n").unwrap();
        fs::create_dir_all(dir.path().join("class/block/sda1")).unwrap();
        fs::write(dir.path().join("class/block/sda1/partition"), "1\n").unwrap();
        dir
    }

    #[test]
    fn lists_disks_with_hardware() {
        let sys = machine();
        assert_eq!(whole_disks(sys.path()).unwrap(), ["nvme0n1", "sda", "sdb"]);
    }

    static SET: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    #[test]
    fn guards_all_but_the_exempt_even_when_one_hangs() {
        let sys = machine();
        let exempt: Exempt = Arc::new(|node: &Path| {
            if node.ends_with("nvme0n1") {
                thread::sleep(Duration::from_secs(3600));
            }
            node.ends_with("sdb")
        });
        let names: Vec<String> = ["nvme0n1", "sda", "sda1", "sdb", "loop0", "virt0", "../etc"]
            .map(str::to_owned)
            .to_vec();
        let results = guard_in(
            sys.path(),
            Path::new("/nodes"),
            &names,
            &exempt,
            Duration::from_secs(3),
            |path| {
                SET.lock().unwrap().push(path.to_path_buf());
                if path.ends_with("sda") {
                    return Err(io::Error::other("refused"));
                }
                Ok(())
            },
        );
        let outcomes: Vec<_> = results.iter().map(|r| r.outcome.clone()).collect();
        assert_eq!(
            outcomes,
            [
                GuardOutcome::ReadOnly,
                GuardOutcome::Failed("setting it read-only: refused".into()),
                GuardOutcome::Skipped("a partition, which follows its disk"),
                GuardOutcome::Exempt,
                GuardOutcome::Skipped("no disk of the machine"),
                GuardOutcome::Skipped("no hardware behind it"),
                GuardOutcome::Skipped("not a kernel name of a block device"),
            ]
        );
        let mut set = SET.lock().unwrap().clone();
        set.sort();
        assert_eq!(set, [Path::new("/nodes/nvme0n1"), Path::new("/nodes/sda")]);
        assert!(!results[1].is_safe());
        assert_eq!(results[0].to_string(), "nvme0n1: read-only");
        assert_eq!(
            results[1].to_string(),
            "sda: STILL WRITABLE, setting it read-only: refused"
        );
    }

    #[test]
    fn a_node_path_becomes_a_kernel_name() {
        assert_eq!(kernel_name("sda"), "sda");
        assert_eq!(kernel_name("/dev/no-such-disk"), "no-such-disk");
        assert_eq!(kernel_name("/dev/cciss/c9d9"), "cciss!c9d9");
        assert_eq!(node(Path::new("/dev"), "cciss!c9d9"), Path::new("/dev/cciss/c9d9"));
    }

    #[test]
    fn what_is_no_block_device_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(set_read_only(file.path(), true).is_err());
        assert!(is_read_only(file.path()).is_err());
        assert!(size_bytes(file.path()).is_err());
        assert!(!is_recon_device(file.path()));
    }
}
