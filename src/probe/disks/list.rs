//! Whole disks and optical drives, from `/sys/block`.
//!
//! Each disk is read in a time box of its own: the serial of a virtio disk, for one, is asked of the device on every
//! read, and a device that hangs must not hide its neighbours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::formats::text::natural_key;
use crate::model::inventory::{Disk, Item, Part, PartStatus};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::{Pending, Publish};
use crate::probe::disks::content::Content;
use crate::probe::disks::entry::{BLOCK, OwnNames, is_optical, nameless};
use crate::probe::disks::{by_path, content, drive, facts, why};
use crate::sys::block::{is_area_of_disk, is_never_a_disk};

/// After this long, what the disks have told is handed out, whether or not all have.
const FIRST_ANSWERS: Duration = Duration::from_secs(3);

/// Disks of the machine. `boot_medium` names the devices this system runs from (`sdb`, `/dev/sdb1`).
///
/// First what the kernel knows, which is handed out at once; then each disk is read and asked, each for itself.
pub(crate) fn disks(
    root: &Root,
    boot_medium: &BTreeSet<String>,
    limit: Duration,
    publish: &Publish<Part<Vec<Disk>>>,
) -> Part<Vec<Disk>> {
    let all = root.list(BLOCK);
    disks_of(root, all, boot_medium, limit, publish)
}

/// The same for these names of block devices, or for what listing them gave.
pub(crate) fn disks_of(
    root: &Root,
    names: Result<Vec<String>, ReadError>,
    boot_medium: &BTreeSet<String>,
    limit: Duration,
    publish: &Publish<Part<Vec<Disk>>>,
) -> Part<Vec<Disk>> {
    let deadline = Instant::now() + limit;
    let mut items = Vec::new();
    let names = match names {
        Ok(names) => names,
        // Kernels without block devices have no such folder either.
        Err(error) if facts::drives_without_namespace(root, &[]).is_empty() => {
            return Part::missing(error.status(), BLOCK, error.to_string());
        }
        Err(error) => {
            items.push(Item::gap("block devices", error.status(), error.to_string()));
            Vec::new()
        }
    };
    let mut disks = known_to_the_kernel(root, names, boot_medium, limit, &mut items);
    let known: Vec<Disk> = disks.iter().map(|(disk, _)| disk.clone()).collect();
    let bare = facts::drives_without_namespace(root, &known);
    disks.extend(bare.into_iter().map(|drive| (drive, true)));
    let disks = by_unit(disks);
    let answering: Vec<usize> = disks
        .iter()
        .enumerate()
        .filter_map(|(index, (_, answers))| answers.then_some(index))
        .collect();
    let disks = disks.into_iter().map(|(disk, _)| disk).collect();
    let mut part = Part::ok(BLOCK, disks).with_items(items);
    publish.so_far(part.clone());
    ask_all(root, &mut part, &answering, deadline, publish);
    part
}

/// The disks of these names as the kernel knows them, each with whether it answers.
fn known_to_the_kernel(
    root: &Root,
    names: Vec<String>,
    boot_medium: &BTreeSet<String>,
    limit: Duration,
    items: &mut Vec<Item>,
) -> Vec<(Disk, bool)> {
    let names: Vec<String> = names.into_iter().filter(|name| is_listed(root, name)).collect();
    let (tree, medium) = (root.clone(), Arc::new(boot_medium.clone()));
    let links = Arc::new(by_path::links(root));
    let outcomes = timebox::each("probe-disk", names.clone(), limit, move |name| {
        facts::disk(&tree, &name, &medium, &links)
    });
    let mut disks: Vec<(Disk, bool)> = Vec::new();
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome.or_gap(&name, "") {
            Ok(((disk, found), _)) => {
                disks.push((disk, true));
                items.extend(found);
            }
            // It exists, and that alone is worth telling.
            Err(gap) => {
                items.push(gap);
                disks.push((nameless(&name), false));
            }
        }
    }
    disks
}

/// Kernel names of the disks and optical drives there are now, in natural order.
pub(crate) fn names(root: &Root) -> Vec<String> {
    let mut names = root.list(BLOCK).unwrap_or_default();
    names.retain(|name| is_listed(root, name));
    names
}

/// Takes disks in that came after the list was made. An NVMe drive that was listed for want of a namespace gives its place to
/// the namespace, and one that came by a second way is a way to the disk that is there.
pub(crate) fn add(part: &mut Part<Vec<Disk>>, late: Part<Vec<Disk>>) {
    let late_disks = late.value.unwrap_or_default();
    let is_known = |name: &str, disks: &[Disk]| disks.iter().any(|disk| disk.name == name);
    let mut disks = part.value.take().unwrap_or_default();
    disks.retain(|disk| {
        let is_controller = |late: &Disk| late.nvme.as_ref().is_some_and(|nvme| nvme.controller == disk.name);
        !late_disks.iter().any(is_controller)
    });
    let fresh: Vec<Disk> = late_disks
        .into_iter()
        .filter(|late| !is_known(&late.name, &disks))
        .collect();
    // An entry without a world wide name or serial number is never taken for another, so all may be said to answer.
    let units = by_unit(disks.into_iter().chain(fresh).map(|disk| (disk, true)).collect());
    let mut disks: Vec<Disk> = units.into_iter().map(|(disk, _)| disk).collect();
    disks.sort_by_cached_key(|disk| natural_key(&disk.name));
    part.value = Some(disks);
    part.items.extend(late.items);
    // A list that could not be read at first is there now.
    if matches!(part.status, PartStatus::Absent) {
        part.status = PartStatus::Ok;
        part.reason = None;
    }
}

/// One entry a disk, however many ways lead to it: a disk with two ports behind two adapters is two devices to the kernel. They
/// are one where the world wide name of the logical unit, serial number, model and size are the same. Two actuators of one
/// disk have the serial number in common and a name each; USB bridges make names up.
fn by_unit(disks: Vec<(Disk, bool)>) -> Vec<(Disk, bool)> {
    let mut units: Vec<(Disk, bool)> = Vec::new();
    for (disk, answers) in disks {
        let is_same = |(other, other_answers): &&mut (Disk, bool)| {
            answers
                && *other_answers
                && disk.hctl.is_some()
                && other.hctl.is_some()
                && disk.transport.as_deref() != Some("usb")
                && disk.wwn.is_some()
                && disk.serial.is_some()
                && (&disk.wwn, &disk.serial, &disk.model, disk.size_bytes)
                    == (&other.wwn, &other.serial, &other.model, other.size_bytes)
        };
        match units.iter_mut().find(is_same) {
            Some((first, _)) => {
                first.boot_medium |= disk.boot_medium;
                first.other_paths.push(disk.name);
            }
            None => units.push((disk, answers)),
        }
    }
    units
}

/// What one disk is asked for beyond what the kernel knows.
enum Question {
    Content(Pending<(Content, Result<(), ReadError>)>),
    Drive(Pending<drive::Answers>),
}

/// Reads and asks every disk at once, each in time boxes of its own; those that answer are not held up by others.
fn ask_all(
    root: &Root,
    part: &mut Part<Vec<Disk>>,
    answering: &[usize],
    deadline: Instant,
    publish: &Publish<Part<Vec<Disk>>>,
) {
    let disks = part.value.as_deref().unwrap_or_default();
    let mut open: Vec<(usize, Question)> = Vec::new();
    for index in answering {
        let Some(disk) = disks.get(*index).cloned() else {
            continue;
        };
        let tree = root.clone();
        if let Some(size) = disk.size_bytes.filter(|size| *size > 0) {
            let (name, sector) = (disk.name.clone(), disk.logical_sector_bytes.unwrap_or(512));
            let (tree, known) = (tree.clone(), disk.partitions.clone());
            let work = move || content::content(&tree, &name, size, sector, known);
            open.push((*index, Question::Content(timebox::spawn("probe-disk-content", work))));
        }
        let work = move || drive::ask(&tree, &disk);
        open.push((*index, Question::Drive(timebox::spawn("probe-disk-drive", work))));
    }
    let first = deadline.min(Instant::now() + FIRST_ANSWERS);
    for until in [first, deadline] {
        let is_last = until == deadline;
        open.retain_mut(|(index, question)| !settle(part, *index, question, until, is_last));
        if open.is_empty() {
            return;
        }
        publish.so_far(part.clone());
    }
}

/// Takes an answer into the part. False for a question that may still be answered.
fn settle(part: &mut Part<Vec<Disk>>, index: usize, question: &Question, until: Instant, is_last: bool) -> bool {
    let Some(disk) = part.value.as_mut().and_then(|disks| disks.get_mut(index)) else {
        return true;
    };
    let name = disk.name.clone();
    let missing = match question {
        Question::Content(pending) => match pending.wait(until).or_gap(format!("{name}.content"), "") {
            Ok(((found, outcome), millis)) => {
                disk.partition_table = found.table;
                disk.partitions = found.partitions;
                disk.signatures = found.signatures;
                let item = format!("{name}.content");
                part.items.push(match outcome {
                    Ok(()) => Item::ok(item, content::SOURCE, millis),
                    Err(error) => Item::gap(item, error.status(), why(&error)).from(content::SOURCE, millis),
                });
                return true;
            }
            Err(missing) => missing,
        },
        Question::Drive(pending) => match pending.wait(until).or_gap(format!("{name}.smart"), "") {
            Ok((answers, _)) => {
                disk.nvme = answers.nvme.or(disk.nvme.take());
                disk.smart = answers.smart;
                if let Some(own) = answers.own_names {
                    take_names(disk, own);
                }
                part.items.extend(answers.items);
                return true;
            }
            Err(missing) => missing,
        },
    };
    if missing.status == PartStatus::TimedOut && !is_last {
        return false;
    }
    part.items.push(missing);
    true
}

/// What a disk is called by itself. Behind USB the kernel has the names of the bridge; elsewhere only gaps are filled.
fn take_names(disk: &mut Disk, own: OwnNames) {
    if disk.transport.as_deref() == Some("usb") && own.model.is_some() {
        // The bridge's maker, and numbers that are the bridge's, would be wrong beside the disk's name.
        disk.vendor = None;
        disk.model = own.model;
        disk.serial = own.serial;
        disk.firmware = own.firmware;
        disk.wwn = own.wwn;
        return;
    }
    let fill = |field: &mut Option<String>, own| *field = field.take().or(own);
    fill(&mut disk.model, own.model);
    fill(&mut disk.serial, own.serial);
    fill(&mut disk.firmware, own.firmware);
    fill(&mut disk.wwn, own.wwn);
}

fn is_listed(root: &Root, name: &str) -> bool {
    let entry = format!("{BLOCK}/{name}");
    (is_optical(name) || !is_never_a_disk(name) && !is_area_of_disk(name))
        && root.exists(format!("{entry}/device"))
        && root.flag(format!("{entry}/hidden")) != Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_disk_that_hangs_costs_its_own_answers_only() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let work = move || {
            // Until the test is over.
            let _ = held.recv();
            drive::Answers::default()
        };
        let hung = Question::Drive(timebox::spawn("test", work));
        let answered = Question::Content(timebox::spawn("test", || {
            let content = Content {
                partitions: vec![Default::default()],
                ..Content::default()
            };
            (content, Ok(()))
        }));
        let mut part = Part::ok("test", vec![nameless("sda"), nameless("sdb")]);
        let later = Instant::now() + Duration::from_secs(30);
        assert!(settle(&mut part, 1, &answered, later, false));
        let now = Instant::now();
        assert!(!settle(&mut part, 0, &hung, now, false), "there is time left");
        assert!(settle(&mut part, 0, &hung, now, true));
        let told: Vec<_> = part.items.iter().map(|item| (&*item.item, item.status)).collect();
        assert_eq!(
            told,
            [("sdb.content", PartStatus::Ok), ("sda.smart", PartStatus::TimedOut)]
        );
        assert_eq!(part.value.unwrap()[1].partitions.len(), 1);
        drop(release);
    }

    #[test]
    fn a_drive_without_namespace_is_a_drive() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("sys/class/nvme");
        fs::create_dir_all(&class).unwrap();
        let controller = |name: &str, bus: &str, serial: &str, transport: &str, namespace: Option<&str>| {
            let place = format!("sys/devices/pci0000:{bus}/0000:{bus}:00.0/nvme/{name}");
            let folder = dir.path().join(&place);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in [
                ("model", "EX"),
                ("serial", serial),
                ("transport", transport),
                ("state", "live"),
            ] {
                fs::write(folder.join(file), text).unwrap();
            }
            if let Some(namespace) = namespace {
                fs::create_dir_all(folder.join(namespace)).unwrap();
            }
            symlink(format!("/{place}"), class.join(name)).unwrap();
        };
        controller("nvme0", "64", "S0", "pcie", None);
        controller("nvme1", "65", "S1", "pcie", Some("nvme1n1"));
        controller("nvme2", "66", "S2", "pcie", Some("nvme2c2n1"));
        controller("nvme3", "67", "S3", "tcp", None);
        let answers = dir.path().join(".recon/nvme/nvme0");
        fs::create_dir_all(&answers).unwrap();
        let mut identify = vec![0u8; 4096];
        identify[280..288].copy_from_slice(&(3840u64 << 30).to_le_bytes());
        identify[296..304].copy_from_slice(&(3840u64 << 30).to_le_bytes());
        fs::write(answers.join("identify-controller"), identify).unwrap();
        let mut log = vec![0u8; 512];
        log[5] = 12;
        fs::write(answers.join("smart-log"), log).unwrap();
        // With and without a folder of block devices.
        for _ in 0..2 {
            let root = Root::at(dir.path());
            let part = disks(&root, &BTreeSet::new(), Duration::from_secs(60), &Publish::nowhere());
            let told = part.value.unwrap();
            assert_eq!(told.len(), 1);
            assert_eq!((&*told[0].name, told[0].serial.as_deref()), ("nvme0", Some("S0")));
            assert_eq!((told[0].transport.as_deref(), told[0].size_bytes), (Some("nvme"), None));
            let nvme = told[0].nvme.as_ref().unwrap();
            assert_eq!(
                (nvme.total_bytes, nvme.unallocated_bytes),
                (Some(3840 << 30), Some(3840 << 30))
            );
            assert_eq!((nvme.namespace, nvme.state.as_deref()), (None, Some("live")));
            assert_eq!(told[0].smart.as_ref().unwrap().percentage_used, Some(12));
            fs::create_dir_all(dir.path().join("sys/block")).unwrap();
        }
    }

    #[test]
    fn a_disk_behind_usb_goes_by_its_own_name() {
        let own = || OwnNames {
            model: Some("Example NVMe 2TB".to_owned()),
            serial: Some("SNX1".to_owned()),
            firmware: None,
            wwn: None,
        };
        let bridge = |transport: &str| Disk {
            transport: Some(transport.to_owned()),
            vendor: Some("Tech".to_owned()),
            model: Some("USB Bridge".to_owned()),
            firmware: Some("0001".to_owned()),
            ..nameless("sda")
        };
        let mut disk = bridge("usb");
        take_names(&mut disk, own());
        assert_eq!(
            (disk.model.as_deref(), disk.serial.as_deref()),
            (Some("Example NVMe 2TB"), Some("SNX1"))
        );
        assert_eq!((disk.vendor, disk.firmware), (None, None));
        let mut disk = bridge("sata");
        take_names(&mut disk, own());
        assert_eq!(
            (disk.model.as_deref(), disk.serial.as_deref()),
            (Some("USB Bridge"), Some("SNX1"))
        );
        let mut disk = bridge("usb");
        take_names(&mut disk, OwnNames::default());
        assert_eq!(disk.vendor.as_deref(), Some("Tech"));
    }

    #[test]
    fn a_disk_with_two_ways_to_it_is_one() {
        let disk = |name: &str, wwn: &str, serial: &str, transport: &str| Disk {
            wwn: Some(wwn.to_owned()),
            serial: Some(serial.to_owned()),
            size_bytes: Some(1 << 40),
            transport: Some(transport.to_owned()),
            hctl: Some(format!("0:0:{name}:0")),
            ..nameless(name)
        };
        let told = |disks: Vec<Disk>| -> Vec<(String, Vec<String>)> {
            let disks = disks.into_iter().map(|disk| (disk, true)).collect();
            let units = by_unit(disks).into_iter();
            units.map(|(disk, _)| (disk.name, disk.other_paths)).collect()
        };
        let two = ("naa.5000c50000000001", "naa.5000c50000000005");
        let ways = told(vec![
            disk("sda", two.0, "S1", "sas"),
            disk("sdb", two.1, "S2", "sas"),
            Disk {
                boot_medium: true,
                ..disk("sdc", two.0, "S1", "sas")
            },
            disk("sdd", two.1, "S2", "sas"),
        ]);
        let own = |name: &str| vec![name.to_owned()];
        assert_eq!(ways, [("sda".to_owned(), own("sdc")), ("sdb".to_owned(), own("sdd"))]);
        // Two actuators of one disk; two bridges with one made-up name; two cheap disks with one name.
        for (one, other) in [
            (disk("sda", two.0, "S1", "sas"), disk("sdb", two.1, "S1", "sas")),
            (disk("sda", two.0, "S1", "usb"), disk("sdb", two.0, "S1", "usb")),
            (disk("sda", two.0, "S1", "sata"), disk("sdb", two.0, "S2", "sata")),
        ] {
            assert_eq!(told(vec![one, other]).len(), 2);
        }
    }

    #[test]
    fn areas_of_an_emmc_are_no_disks() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "mmcblk0",
            "mmcblk0boot0",
            "mmcblk0boot1",
            "mmcblk0gp3",
            "mmcblk1rpmb",
            "sda",
        ] {
            fs::create_dir_all(dir.path().join(format!("sys/block/{name}/device"))).unwrap();
        }
        let root = Root::at(dir.path());
        let found = disks(&root, &BTreeSet::new(), Duration::from_secs(60), &Publish::nowhere());
        let names: BTreeSet<String> = found.value.unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, BTreeSet::from(["mmcblk0".to_owned(), "sda".to_owned()]));
        // They stay protected like disks.
        assert!(!is_never_a_disk("mmcblk0boot0"));
    }

    #[test]
    fn the_boot_medium_is_marked_by_disk_or_partition() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sda", "sdb"] {
            fs::create_dir_all(dir.path().join(format!("sys/devices/{name}/{name}1"))).unwrap();
            fs::create_dir_all(dir.path().join(format!("sys/devices/{name}/device"))).unwrap();
            fs::create_dir_all(dir.path().join("sys/block")).unwrap();
            symlink(
                format!("../devices/{name}"),
                dir.path().join(format!("sys/block/{name}")),
            )
            .unwrap();
        }
        fs::write(dir.path().join("sys/devices/sda/size"), "2048\n").unwrap();
        let root = Root::at(dir.path());
        let marked = |medium: &str| {
            let medium = BTreeSet::from([medium.to_owned()]);
            let disks = disks(&root, &medium, Duration::from_secs(5), &Publish::nowhere())
                .value
                .unwrap();
            assert_eq!(disks[0].size_bytes, Some(1 << 20));
            disks.iter().map(|disk| disk.boot_medium).collect::<Vec<_>>()
        };
        assert_eq!(marked("sdb"), [false, true]);
        assert_eq!(marked("/dev/sdb1"), [false, true]);
        assert_eq!(marked("sdb9"), [false, false]);
        assert_eq!(marked("sd"), [false, false]);
    }
}
