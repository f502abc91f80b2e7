use std::os::unix::fs::{FileExt, OpenOptionsExt};

use super::problem::{Reason, is_optical, optical};
use super::*;
use crate::formats::{fixture, gpt, volume};
use crate::sys::program::Program;
use crate::sys::{cmd, loopdev, mount};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GUID: [u8; 16] = [7; 16];

fn stick(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&fixture("kiwi.iso.gz"), 0).unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

fn reason(disk: &Path) -> (Reason, String) {
    let problem = prepare(disk, GUID).unwrap_err();
    (problem.reason, problem.to_string())
}

#[test]
fn problems_are_sentences_for_the_screen() {
    let small = stick(20 * MIB);
    let (found, text) = reason(small.path());
    assert_eq!(found, Reason::TooSmall);
    assert_eq!(
        text,
        "The medium has 20 MiB, the image takes 1 MiB of it, and 18 MiB behind it are too little for a data \
         partition (at least 64 MiB). Use a larger stick."
    );
    let image = fixture("kiwi.iso.gz");
    assert_eq!(
        std::fs::read(small.path()).unwrap()[..image.len()],
        image,
        "nothing was written"
    );

    assert_eq!(reason(Path::new("/dev/nothing")).0, Reason::NoMedium);
    assert_eq!(reason(Path::new("/dev/null")).0, Reason::NoMedium);
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(reason(empty.path()).0, Reason::NoMedium);
    empty.as_file().set_len(100 * MIB).unwrap();
    let (found, text) = reason(empty.path());
    assert!(
        found == Reason::NoMedium && text.contains("is no recon stick"),
        "{text}"
    );

    let protected = stick(200 * MIB);
    let mut permissions = protected.as_file().metadata().unwrap().permissions();
    permissions.set_readonly(true);
    protected.as_file().set_permissions(permissions).unwrap();
    assert_eq!(reason(protected.path()).0, Reason::ReadOnly);
}

/// A loop device with partitions, which is what a USB stick looks like. Goes away with the value.
struct Disk(PathBuf);

impl Disk {
    fn over(file: &Path, options: &[&str]) -> Self {
        let mut args = options.to_vec();
        args.extend(["--show", "-f", file.to_str().unwrap()]);
        let output = cmd::run(Program::OfTests("losetup"), &args, Duration::from_secs(10)).unwrap();
        Disk(PathBuf::from(output.stdout.trim()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = cmd::run(
            Program::OfTests("losetup"),
            &[Path::new("-d"), &self.0],
            Duration::from_secs(10),
        );
    }
}

fn fsck(device: &Path) {
    cmd::run(Program::FsckExfat, &[Path::new("-n"), device], Duration::from_secs(30)).unwrap();
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_partition_is_made_once_and_found_later() {
    let file = stick(200 * MIB);
    let disk = Disk::over(file.path(), &["-P"]);
    let first = prepare(&disk.0, GUID).unwrap();
    assert!(first.created && first.notes.is_empty(), "{first:?}");
    assert!(matches!(first.device, Device::Partition(_)), "{first:?}");
    fsck(first.device.path());
    assert!(volume::is_ours(&File::open(first.device.path()).unwrap()).unwrap());

    let second = prepare(&disk.0, GUID).unwrap();
    assert!(!second.created && second.notes.is_empty(), "{second:?}");
    assert_eq!(second.device.path(), first.device.path());
    assert!(second.place.finished);

    // The kernel knows another partition under this number: an image was written while the stick was in.
    let raw = File::open(&disk.0).unwrap();
    loopdev::remove_partition(&raw, first.place.number).unwrap();
    loopdev::add_partition(&raw, first.place.number, 50 * MIB, 10 * MIB).unwrap();
    let third = prepare(&disk.0, GUID).unwrap();
    assert!(!third.created && volume::is_ours(&File::open(third.device.path()).unwrap()).unwrap());
    loopdev::remove_partition(&raw, first.place.number).unwrap();
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_the_kernel_keeps_to_itself_is_reached_through_a_loop_device() {
    let file = stick(200 * MIB);
    let disk = Disk::over(file.path(), &["-P"]);
    let whole = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&disk.0)
        .unwrap();
    let prepared = prepare(&disk.0, GUID).unwrap();
    assert!(
        matches!(prepared.device, Device::Loop(_)) && prepared.created,
        "{prepared:?}"
    );
    fsck(prepared.device.path());
    prepared.device.release().unwrap();
    drop(whole);
    let again = prepare(&disk.0, GUID).unwrap();
    assert!(
        matches!(again.device, Device::Partition(_)) && !again.created,
        "{again:?}"
    );
    fsck(again.device.path());
    let raw = File::open(&disk.0).unwrap();
    loopdev::remove_partition(&raw, again.place.number).unwrap();
}

#[test]
#[ignore = "needs root and loop devices"]
fn an_image_file_works_too() {
    let file = stick(200 * MIB);
    let prepared = prepare(file.path(), GUID).unwrap();
    assert!(
        matches!(prepared.device, Device::Loop(_)) && prepared.created,
        "{prepared:?}"
    );
    fsck(prepared.device.path());
    prepared.device.release().unwrap();
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_power_cut_while_the_volume_was_made_is_made_good() {
    let file = stick(200 * MIB);
    let medium = Medium::open(file.path()).unwrap();
    let (place, created) = medium.place(GUID).unwrap();
    assert!(created && !place.finished);
    // Half a volume: boot sectors, and nothing they speak of.
    let made = tempfile::NamedTempFile::new().unwrap();
    made.as_file().set_len(place.length).unwrap();
    make_volume(made.path()).unwrap();
    let mut front = vec![0; 12 * 512];
    FileExt::read_exact_at(made.as_file(), &mut front, 0).unwrap();
    file.as_file().write_all_at(&front, place.offset).unwrap();

    let prepared = prepare(file.path(), GUID).unwrap();
    assert!(prepared.created, "{prepared:?}");
    fsck(prepared.device.path());
    prepared.device.release().unwrap();
    assert!(medium.table().unwrap().data(medium.bytes).unwrap().finished);
}

#[test]
#[ignore = "needs root and loop devices"]
fn what_could_hold_inventories_is_never_formatted() {
    let file = stick(200 * MIB);
    prepare(file.path(), GUID).unwrap().device.release().unwrap();
    let place = gpt::find_data(file.as_file(), 200 * MIB).unwrap().unwrap();
    let whole = std::fs::read(file.path()).unwrap();

    // Not unmounted: checked, kept.
    file.as_file().write_all_at(&[2], place.offset + 106).unwrap();
    let prepared = prepare(file.path(), GUID).unwrap();
    assert!(!prepared.created && prepared.notes.len() == 2, "{prepared:?}");
    prepared.device.release().unwrap();

    // Broken for good: reported, and left as it is.
    for copy in [0, 12 * 512] {
        file.as_file()
            .write_all_at(&[0xff; 8], place.offset + copy + 80)
            .unwrap();
    }
    let broken = std::fs::read(file.path()).unwrap();
    let (found, text) = reason(file.path());
    assert!(
        found == Reason::Damaged && text.contains("could not be repaired"),
        "{text}"
    );
    assert!(broken == std::fs::read(file.path()).unwrap());

    // Another file system: somebody's.
    std::fs::write(file.path(), &whole).unwrap();
    file.as_file().write_all_at(&[0; 1 << 20], place.offset).unwrap();
    file.as_file().write_all_at(b"NTFS    ", place.offset + 3).unwrap();
    let (found, text) = reason(file.path());
    assert!(found == Reason::Damaged && text.contains("holds NTFS"), "{text}");
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_stick_with_a_new_image_keeps_its_inventories() {
    let file = stick(200 * MIB);
    prepare(file.path(), GUID).unwrap().device.release().unwrap();
    let place = gpt::find_data(file.as_file(), 200 * MIB).unwrap().unwrap();
    let mut before = vec![0; 1 << 20];
    FileExt::read_exact_at(file.as_file(), &mut before, place.offset).unwrap();
    file.as_file().write_all_at(&fixture("kiwi.iso.gz"), 0).unwrap();

    let prepared = prepare(file.path(), [8; 16]).unwrap();
    assert!(!prepared.created && prepared.place == place, "{prepared:?}");
    prepared.device.release().unwrap();
    let mut after = vec![0; 1 << 20];
    FileExt::read_exact_at(file.as_file(), &mut after, place.offset).unwrap();
    assert!(before == after);
}

fn upload(store: &crate::store::nodes::NodeStore, serial: &str, last: u8) {
    use sha2::{Digest, Sha256};
    let bytes = crate::store::upload::samples::upload(serial);
    let id = crate::model::NodeId::from_mac(crate::model::MacAddr([2, 0, 0, 0, 0, last]));
    let mut incoming = store
        .begin(&id, bytes.len() as u64, Sha256::digest(&bytes).into())
        .unwrap();
    incoming.write(&bytes).unwrap();
    incoming.commit().unwrap();
}

/// A master's life on a stick: first boot, uploads, a restart of the service, a clean stop, a second boot.
fn life(disk: &Path, mount_point: &Path, rounds: u8) -> DataPartition {
    use crate::store::nodes::{Limits, Made, NodeStore};
    let partition = ensure(disk, mount_point, GUID).unwrap();
    let store = NodeStore::open(mount_point, Limits::default()).unwrap();
    let before = store.list().len();
    for last in 0..rounds {
        upload(&store, &format!("{before}-{last}"), last);
        let made = store.make_tarball(false, &|| true).unwrap();
        assert!(matches!(made, Made::Current { .. }), "{made:?}");
    }
    assert_eq!(store.list().len(), before.max(usize::from(rounds)));
    partition
}

fn collected(disk: &Path) -> crate::stick::collect::Report {
    let out = tempfile::tempdir().unwrap();
    crate::stick::collect::collect(disk, &out.path().join("a.tar.gz"), Default::default()).unwrap()
}

/// The live system on the stick: the ISO is mounted from `device`, a partition of `disk` or all of it.
fn on_a_running_stick(disk: &Path, device: &Path) -> DataPartition {
    let live = tempfile::tempdir().unwrap();
    let args = [
        Path::new("-t"),
        Path::new("iso9660"),
        Path::new("-o"),
        Path::new("ro"),
        device,
        live.path(),
    ];
    cmd::run(Program::OfTests("mount"), &args, Duration::from_secs(10)).unwrap();
    let target = tempfile::tempdir().unwrap();

    let first = life(disk, target.path(), 5);
    // The service is started again without having stopped.
    let again = life(disk, target.path(), 8);
    assert!(
        !again.created && again.notes.len() == 1 && again.device == first.device,
        "{again:?}"
    );
    let reader = File::open(target.path().join("nodes")).unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(reader);
    });
    again.close().unwrap();
    assert_eq!(
        mount::mounted()
            .unwrap()
            .iter()
            .filter(|m| m.target == target.path())
            .count(),
        0
    );
    let second = life(disk, target.path(), 3);
    assert!(
        !second.created && second.notes.iter().all(|note| note.contains("loop device")),
        "{second:?}"
    );
    second.close().unwrap();
    cmd::run(Program::OfTests("umount"), &[live.path()], Duration::from_secs(10)).unwrap();
    let report = collected(disk);
    assert!(
        report.is_complete() && report.warnings.is_empty() && report.rows.len() == 8,
        "{report}"
    );
    first
}

#[test]
#[ignore = "needs root, loop devices, and a kernel with exFAT and ISO 9660"]
fn a_master_lives_on_a_stick_mounted_by_partition_or_whole() {
    for by_partition in [true, false] {
        let file = stick(200 * MIB);
        let disk = Disk::over(file.path(), &["-P"]);
        let raw = File::open(&disk.0).unwrap();
        let device = if by_partition {
            // Kernels without GPT support do not know it yet; where they do, this says EBUSY.
            let _ = loopdev::add_partition(&raw, 1, 64 * 512, 992 * 512);
            PathBuf::from(format!("{}p1", disk.0.display()))
        } else {
            disk.0.clone()
        };
        let first = on_a_running_stick(&disk.0, &device);
        assert!(first.created);
        assert_eq!(first.notes.is_empty(), by_partition, "{first:?}");
        for number in [1, 3] {
            let _ = loopdev::remove_partition(&raw, number);
        }
    }
}

#[test]
#[ignore = "needs root, loop devices, and a kernel with exFAT"]
fn a_stick_that_was_pulled_is_checked_and_used_again() {
    let file = stick(200 * MIB);
    let disk = Disk::over(file.path(), &[]);
    let target = tempfile::tempdir().unwrap();
    let first = life(&disk.0, target.path(), 12);
    // What is on the medium now, with the volume still mounted.
    let pulled = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(file.path(), pulled.path()).unwrap();
    let report = collected(pulled.path());
    assert!(report.is_complete() && report.rows.len() == 12, "{report}");
    first.close().unwrap();

    let second = life(pulled.path(), target.path(), 3);
    assert!(!second.created, "{second:?}");
    assert_eq!(second.notes.len(), 2, "{second:?}");
    second.close().unwrap();
    let report = collected(pulled.path());
    assert!(report.is_complete() && report.rows.len() == 12, "{report}");
}

#[test]
fn a_cd_is_called_one_and_no_stick() {
    assert!(is_optical(Path::new("/dev/sr0")) && is_optical(Path::new("/dev/sr12")));
    for other in ["/dev/sda", "/dev/sr", "/dev/srx", "/tmp/sr0.iso"] {
        assert!(!is_optical(Path::new(other)), "{other}");
    }
    let text = optical(Path::new("/dev/sr0")).to_string();
    assert!(
        text.contains("USB stick") && !text.contains("larger") && !text.contains("switch"),
        "{text}"
    );
}
