//! The medium this system booted from: where its kernel, initrd and image are, on which disk the running system lies ([`live_disk`]), and
//! whether it is certain enough that a stick is that medium to write to it ([`may_write`]).

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::formats::first_stage::{FirstStage, PACK};
use crate::formats::mountinfo::mounted_at;
use crate::formats::{ReadAt as _, gpt, iso9660};
use crate::model::slice::{Patch, Slice};
use crate::sys::block;

/// Kernel, initrd and image, as they lie on the boot medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Medium {
    pub kernel: Slice,
    pub initrd: Slice,
    /// The first stage, where the medium has one; or why it cannot be used, as a sentence: the initrd does as well.
    pub first_stage: Result<Option<FirstStage>, String>,
    pub image: Option<Slice>,
    /// Whole disk that holds the image, if it is one: `/dev/sda`.
    pub disk: Option<PathBuf>,
}

/// Where dracut's dmsquash-live mounts the medium.
pub(crate) const LIVE_MOUNT: &str = "/run/initramfs/live";
/// KIWI's folder on the medium, and ours beside it.
const LOADER_DIR: [&str; 3] = ["boot", "x86_64", "loader"];
const FIRST_DIR: [&str; 3] = ["boot", "x86_64", "first"];
const KERNEL: &str = "linux";
const INITRD: &str = "initrd";
/// How long all disks together may take to tell whether they carry the image.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Looks for the medium of a live system.
///
/// # Errors
/// Not found where this is no live system; whatever reading the medium gives otherwise.
pub(crate) fn of_live_system() -> io::Result<Medium> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let none = || format!("nothing is mounted at {LIVE_MOUNT}: not a live system");
    let mount = mounted_at(&mounts, Path::new(LIVE_MOUNT));
    let mount = mount.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, none()))?;
    // By its number: a link such as by-label/RECON may lead to another medium by now.
    let device = node_of(Path::new("/sys"), &mount.device_number).unwrap_or_else(|| PathBuf::from(mount.source));
    let disk = whole_disk(Path::new("/sys"), &device);
    let mut medium = in_folder(Path::new(LIVE_MOUNT))?;
    // The image starts with its disk, or the mounted device is the image (a loop device over a file in memory).
    medium.image = disk.iter().chain([&device]).find_map(|path| {
        let found = whole_image(path);
        let say = |error: &io::Error| tracing::warn!(device = %path.display(), %error, "looking for the whole image");
        found.inspect_err(say).ok()
    });
    medium.disk = disk;
    Ok(medium)
}

/// A medium given by hand: an ISO image, a device that starts with one, or a folder laid out like one.
pub(crate) fn at(path: &Path) -> io::Result<Medium> {
    if path.is_dir() { in_folder(path) } else { in_image(path) }
}

fn in_folder(folder: &Path) -> io::Result<Medium> {
    let file = |names: &[&str]| {
        let path = folder.join(names.iter().collect::<PathBuf>());
        match fs::metadata(&path) {
            Ok(file) => Ok(plain(&path, 0, file.len())),
            Err(error) => {
                let text = format!("the boot medium has no {}: {error}", path.display());
                Err(io::Error::new(error.kind(), text))
            }
        }
    };
    with_files(file, None)
}

fn in_image(path: &Path) -> io::Result<Medium> {
    let image = File::open(path)?;
    let file = |names: &[&str]| {
        let extent = iso9660::find(&image, names)?;
        Ok(plain(path, extent.offset, extent.length))
    };
    with_files(file, Some(whole_image(path)?))
}

/// `file` finds a file by the names that lead to it.
fn with_files(file: impl Fn(&[&str]) -> io::Result<Slice>, image: Option<Slice>) -> io::Result<Medium> {
    let [a, b, c] = LOADER_DIR;
    Ok(Medium {
        kernel: file(&[a, b, c, KERNEL])?,
        initrd: file(&[a, b, c, INITRD])?,
        first_stage: first_stage(&file).map_err(|why| format!("the first stage on the boot medium is not used: {why}")),
        image,
        disk: None,
    })
}

/// The first stage; `None` on a medium that has none.
fn first_stage(file: &impl Fn(&[&str]) -> io::Result<Slice>) -> Result<Option<FirstStage>, String> {
    let [a, b, c] = FIRST_DIR;
    let below = |names: &[&str]| file(&[&[a, b, c], names].concat());
    match FirstStage::read(&below, &content)? {
        Some(stage) if stage.pack.is_none() => Err(format!("there is no {PACK}")),
        stage => Ok(stage),
    }
}

fn content(slice: &Slice) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; slice.length as usize];
    File::open(&slice.path)?.read_exact_at(&mut bytes, slice.offset)?;
    Ok(bytes)
}

fn plain(path: &Path, offset: u64, length: u64) -> Slice {
    Slice {
        path: path.to_owned(),
        offset,
        length,
        patches: Vec::new(),
    }
}

/// The image at the start of a file or device, as it was before a data partition was added to its table.
fn whole_image(path: &Path) -> io::Result<Slice> {
    let mut file = File::open(path)?;
    let bytes = file.seek(SeekFrom::End(0))?;
    let Some(image) = gpt::find_image(&file, bytes)? else {
        // No table of its own, as in a plain ISO file: the file system is the image.
        return Ok(plain(path, 0, iso9660::image_length(&file)?));
    };
    let patches = image.patches.into_iter().map(|write| Patch {
        offset: write.offset,
        bytes: write.bytes,
    });
    Ok(Slice {
        patches: patches.collect(),
        ..plain(path, 0, image.bytes)
    })
}

/// Whether the running system lies on a medium of ours.
pub(crate) fn is_live() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    mounts.is_ok_and(|mounts| mounted_at(&mounts, Path::new(LIVE_MOUNT)).is_some())
}

/// The disk of the medium that the running system lies on; `None` where this is no live system, or none on a disk.
pub(crate) fn live_disk() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounted_at(&mounts, Path::new(LIVE_MOUNT))?;
    whole_disk(Path::new("/sys"), &node_of(Path::new("/sys"), &mount.device_number)?)
}

/// The node of a block device number.
fn node_of(sys: &Path, number: &str) -> Option<PathBuf> {
    let device = fs::canonicalize(sys.join("dev/block").join(number)).ok()?;
    // The kernel writes `!` where a name has a slash.
    let name = device.file_name()?.to_str()?.replace('!', "/");
    Some(Path::new("/dev").join(name))
}

/// A disk that carries our image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carrier {
    /// `/dev/sda`
    pub disk: PathBuf,
    /// On USB, or with a medium that can be taken out: what a person carries from machine to machine.
    pub portable: bool,
}

/// Nothing tells which of several media this machine was started from.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Ambiguous(String);

/// Whether it is certain enough that `own`, which the system found by its label, is what this machine was started from, to
/// write to it. The label and the image say nothing: every stick of one image has the same.
///
/// # Errors
/// Why not, and what a person can do, as sentences.
pub(crate) fn may_write(own: &Carrier, others: &[Carrier]) -> Result<Option<String>, Ambiguous> {
    let names = |media: &[&Carrier]| {
        let names: Vec<String> = media.iter().map(|other| other.disk.display().to_string()).collect();
        names.join(", ")
    };
    let shown = own.disk.display();
    let portable: Vec<&Carrier> = others.iter().filter(|other| other.portable).collect();
    let fixed: Vec<&Carrier> = others.iter().filter(|other| !other.portable).collect();
    match (own.portable, portable.as_slice(), fixed.as_slice()) {
        (true, [], []) => Ok(None),
        // Whoever wrote the image to a disk of the machine and starts a stick beside it means the stick.
        (true, [], fixed) => Ok(Some(format!(
            "{} carries the image as well: it is left read-only, inventories are kept on {shown}",
            names(fixed)
        ))),
        (false, [], []) => Ok(Some(format!(
            "this system was started from {shown}, a disk of the machine: inventories are kept on it"
        ))),
        (true, portable, _) => Err(Ambiguous(format!(
            "{shown} and {} both carry the image, and nothing tells which of them this machine was started from, so neither is \
             written to: take one out and start again",
            names(portable)
        ))),
        (false, ..) => {
            // Its partition 1, by the kernel's rule for names that end in a digit.
            let instead = portable.first().map(|stick| {
                let disk = stick.disk.display().to_string();
                let part = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p1" } else { "1" };
                format!(
                    ", or for the stick press e in the boot menu and write root=live:{disk}{part} in place of root=live:CDLABEL=RECON"
                )
            });
            Err(Ambiguous(format!(
                "the system runs from {shown}, a disk of the machine, and {} carries the image as well; nothing tells which of \
                 them was started, so neither is written to: take one out and start again{}",
                names(&others.iter().collect::<Vec<_>>()),
                instead.unwrap_or_default()
            )))
        }
    }
}

/// Disks of the running system that carry our image, our own among them or not, and those that did not answer within some
/// seconds; they stay read-only.
pub(crate) fn carriers() -> io::Result<(Vec<Carrier>, Vec<PathBuf>)> {
    let sys = Path::new("/sys");
    let asked: Vec<(PathBuf, mpsc::Receiver<bool>)> = block::whole_disks(sys)?
        .into_iter()
        .filter_map(|name| {
            let disk = Path::new("/dev").join(name.replace('!', "/"));
            let (answer, verdict) = mpsc::channel();
            let node = disk.clone();
            let work = move || {
                // Nobody listens to one that is late.
                let _ = answer.send(block::is_recon_device(&node));
            };
            let thread = thread::Builder::new().name(format!("look-{name}")).spawn(work);
            thread.is_ok().then_some((disk, verdict))
        })
        .collect();
    let until = Instant::now() + LOOK_LIMIT;
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for (disk, verdict) in asked {
        let left = until.saturating_duration_since(Instant::now());
        match verdict.recv_timeout(left) {
            Ok(true) => found.push(carrier(sys, disk)),
            Ok(false) => {}
            Err(_) => silent.push(disk),
        }
    }
    Ok((found, silent))
}

/// What kind of a disk it is.
pub(crate) fn carrier(sys: &Path, disk: PathBuf) -> Carrier {
    let name = disk
        .strip_prefix("/dev")
        .unwrap_or(&disk)
        .to_string_lossy()
        .replace('/', "!");
    let entry = sys.join("class/block").join(name);
    let removable = fs::read_to_string(entry.join("removable")).is_ok_and(|text| text.trim() == "1");
    let place = fs::canonicalize(&entry).unwrap_or_default();
    let is_usb = place.iter().filter_map(|part| part.to_str()?.strip_prefix("usb"));
    let is_usb = is_usb
        .into_iter()
        .any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    Carrier {
        portable: removable || is_usb,
        disk,
    }
}

/// The disk a partition lies on, or the device itself if it is a whole disk. Loop devices have none.
fn whole_disk(sys: &Path, device: &Path) -> Option<PathBuf> {
    let name = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    let name = name.file_name()?.to_str()?;
    let node = fs::canonicalize(sys.join("class/block").join(name)).ok()?;
    let disk = if node.join("partition").exists() {
        node.parent()?.file_name()?.to_str()?
    } else {
        name
    };
    let is_disk = sys.join("class/block").join(disk).join("device").exists();
    is_disk.then(|| Path::new("/dev").join(disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_media_with_one_label_are_told_apart_or_not_written_to() {
        let disk = |name: &str, portable| Carrier {
            disk: Path::new("/dev").join(name),
            portable,
        };
        let (stick, other) = (disk("sda", true), disk("sdb", true));
        let (inside, also_inside) = (disk("nvme0n1", false), disk("sdc", false));
        assert_eq!(may_write(&stick, &[]), Ok(None));
        let said = may_write(&stick, std::slice::from_ref(&inside)).unwrap().unwrap();
        assert!(
            said.contains("/dev/nvme0n1 carries the image as well: it is left read-only"),
            "{said}"
        );
        let said = may_write(&inside, &[]).unwrap().unwrap();
        assert!(said.contains("/dev/nvme0n1, a disk of the machine"), "{said}");
        for (own, others) in [
            (&stick, vec![other.clone()]),
            (&stick, vec![inside.clone(), other.clone()]),
            (&inside, vec![stick.clone()]),
            (&inside, vec![also_inside]),
        ] {
            let said = may_write(own, &others).unwrap_err().to_string();
            assert!(said.contains("take one out and start again"), "{said}");
            assert!(said.contains(&own.disk.display().to_string()), "{said}");
            let has_way = said.contains("root=live:/dev/sda1 in place of");
            assert_eq!(has_way, !own.portable && others[0].portable, "{said}");
        }
    }

    #[test]
    fn a_device_number_leads_to_its_node_and_kind() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        for (place, name, removable) in [
            ("devices/pci0/usb2/2-1/block/sda", "sda", "0"),
            ("devices/pci0/ata1/block/sdb", "sdb", "0"),
            ("devices/pci0/mmc/block/sdc", "sdc", "1"),
        ] {
            std::fs::create_dir_all(sys.join(place)).unwrap();
            std::fs::write(sys.join(place).join("removable"), removable).unwrap();
            std::fs::create_dir_all(sys.join("class/block")).unwrap();
            std::os::unix::fs::symlink(sys.join(place), sys.join("class/block").join(name)).unwrap();
        }
        std::fs::create_dir_all(sys.join("dev/block")).unwrap();
        std::os::unix::fs::symlink(sys.join("devices/pci0/usb2/2-1/block/sda"), sys.join("dev/block/8:0")).unwrap();
        assert_eq!(node_of(sys, "8:0"), Some(PathBuf::from("/dev/sda")));
        assert_eq!(node_of(sys, "8:16"), None);
        let portable = |name: &str| carrier(sys, Path::new("/dev").join(name)).portable;
        assert_eq!([portable("sda"), portable("sdb"), portable("sdc")], [true, false, true]);
    }

    /// A medium as a folder, with these files of a first stage.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let loader = dir.path().join("boot/x86_64/loader");
        std::fs::create_dir_all(&loader).unwrap();
        std::fs::write(loader.join(KERNEL), "kernel").unwrap();
        std::fs::write(loader.join(INITRD), "initrd").unwrap();
        for (name, bytes) in files {
            let path = dir.path().join("boot/x86_64/first").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }

    use crate::formats::first_stage::{BASE, PORTS, TABLE};

    const LINES: &[u8] =
        b"pci:v00008086d0000100Esv*sd*bc*sc*i*\te1000\npci:v00001AF4d*sv*sd*bc*sc*i*\tvirtio_pci\tbase\n";
    const WHOLE: [(&str, &[u8]); 5] = [
        (BASE, b"base"),
        (PORTS, b"ports"),
        (PACK, b"pack"),
        (TABLE, LINES),
        ("port/e1000.img", b"e1000!"),
    ];

    #[test]
    fn a_medium_has_a_first_stage_or_none() {
        let medium = folder(&WHOLE);
        let stage = at(medium.path()).unwrap().first_stage.unwrap().unwrap();
        let lengths = [
            &stage.base,
            &stage.ports,
            stage.pack.as_ref().unwrap(),
            &stage.port["e1000"],
        ]
        .map(|file| file.length);
        assert_eq!(lengths, [4, 5, 4, 6]);
        assert_eq!(stage.port.len(), 1, "virtio_pci is in the base");
        assert_eq!(
            stage.initrds("01-80-86-10-0e".parse().ok()),
            ["base.img", "port/e1000.img"]
        );
        assert_eq!(at(folder(&[]).path()).unwrap().first_stage, Ok(None));
    }

    #[test]
    fn a_first_stage_that_is_not_whole_is_not_used_and_kernel_and_initrd_are() {
        let large = vec![b'x'; (1 << 20) + 1];
        let cases: [(&str, Option<&[u8]>, &str); 10] = [
            (PORTS, None, "there is no ports.img"),
            (PACK, None, "there is no modules.pack"),
            (TABLE, None, "there is no ports.tsv"),
            (BASE, Some(b""), "base.img is empty"),
            ("port/e1000.img", Some(b""), "port/e1000.img is empty"),
            ("port/e1000.img", None, "there is no port/e1000.img"),
            (TABLE, Some(b"e1000\n"), "line 1 of ports.tsv is no alias"),
            (TABLE, Some(b"pci:v*d*sv*\te1000\n\xff"), "ports.tsv is no text"),
            (TABLE, Some(&large), "ports.tsv has 1048577 bytes, more than 1048576"),
            (TABLE, Some(b""), "ports.tsv is empty"),
        ];
        for (name, bytes, why) in cases {
            let mut files = WHOLE.to_vec();
            files.retain(|(other, _)| *other != name);
            files.extend(bytes.map(|bytes| (name, bytes)));
            let medium = at(folder(&files).path()).unwrap();
            let said = medium.first_stage.unwrap_err();
            assert_eq!(said, format!("the first stage on the boot medium is not used: {why}"));
            assert_eq!((medium.kernel.length, medium.initrd.length), (6, 6));
        }
    }

    #[test]
    fn a_partition_leads_to_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let disk = sys.join("devices/usb1/block/sda");
        std::fs::create_dir_all(disk.join("sda1")).unwrap();
        std::fs::create_dir_all(disk.join("device")).unwrap();
        std::fs::write(disk.join("sda1/partition"), "1\n").unwrap();
        std::fs::create_dir_all(sys.join("class/block")).unwrap();
        for (name, target) in [
            ("sda", "../../devices/usb1/block/sda"),
            ("sda1", "../../devices/usb1/block/sda/sda1"),
        ] {
            std::os::unix::fs::symlink(target, sys.join("class/block").join(name)).unwrap();
        }
        for device in ["/dev/sda", "/dev/sda1"] {
            assert_eq!(
                whole_disk(sys, Path::new(device)),
                Some(PathBuf::from("/dev/sda")),
                "{device}"
            );
        }
        assert_eq!(whole_disk(sys, Path::new("/dev/loop0")), None);
    }
}
