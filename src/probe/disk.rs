//! Whole disks and optical drives, from `/sys/block`.
//!
//! Each disk is read in a time box of its own: the serial of a virtio disk, for one, is asked of the device on every
//! read, and a device that hangs must not hide its neighbours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::bus;
use super::live::LiveSources;
use super::root::{ReadError, Root};
use super::scsi;
use super::timebox::{self, Outcome, Publish};
use crate::model::inventory::{Disk, DiskKind, Item, Part, PartStatus};
use crate::sys::block::is_never_a_disk;

const BLOCK: &str = "/sys/block";
/// What the kernel says of a drive without a disc (drivers/scsi/sr.c: 1fffffh sectors).
const EMPTY_OPTICAL_BYTES: u64 = 0x1f_ffff * 512;

/// Disks of the machine. `boot_medium` names the devices this system runs from (`sdb`, `/dev/sdb1`).
pub fn disks(
    root: &Root,
    _live: Option<Arc<dyn LiveSources>>,
    boot_medium: &BTreeSet<String>,
    limit: Duration,
    _publish: &Publish<Part<Vec<Disk>>>,
) -> Part<Vec<Disk>> {
    let names = match root.list(BLOCK) {
        Ok(names) => names,
        // Kernels without block devices have no such folder either.
        Err(error) => return Part::missing(error.status(), BLOCK, error.to_string()),
    };
    let names: Vec<String> = names.into_iter().filter(|name| is_listed(root, name)).collect();
    let (tree, medium) = (root.clone(), Arc::new(boot_medium.clone()));
    let outcomes = timebox::each("probe-disk", names.clone(), limit, move |name| {
        disk(&tree, &name, &medium)
    });
    let (mut disks, mut gaps) = (Vec::new(), Vec::new());
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Done {
                value: (disk, found), ..
            } => {
                disks.push(disk);
                gaps.extend(found);
            }
            // It exists, and that alone is worth telling.
            Outcome::TimedOut { millis } => {
                gaps.push(gap(
                    &name,
                    PartStatus::TimedOut,
                    format!("no answer within {millis} ms"),
                ));
                disks.push(nameless(&name));
            }
            Outcome::Died { reason } => {
                gaps.push(gap(&name, PartStatus::Failed, reason));
                disks.push(nameless(&name));
            }
        }
    }
    Part::ok(BLOCK, disks).with_items(gaps)
}

/// Where the live system keeps the medium it runs from (dracut's dmsquash-live, and its copy in RAM).
const MEDIUM_MOUNTS: [&str; 2] = ["/run/initramfs/live", "/run/initramfs/isoscan"];

/// Devices the running system was started from, for [`disks`], from the text of `/proc/self/mountinfo` (proc(5)).
pub fn boot_medium(mountinfo: &str) -> BTreeSet<String> {
    let mut devices = BTreeSet::new();
    for line in mountinfo.lines() {
        // … (5) mount point … optional fields … "-" type source options
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let place = before.split(' ').nth(4);
        if let (Some(place), Some(source)) = (place, after.split(' ').nth(1))
            && MEDIUM_MOUNTS.contains(&place)
            && source.starts_with("/dev/")
        {
            devices.insert(source.to_owned());
        }
    }
    devices
}

fn is_optical(name: &str) -> bool {
    name.strip_prefix("sr")
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_listed(root: &Root, name: &str) -> bool {
    let entry = format!("{BLOCK}/{name}");
    (is_optical(name) || !is_never_a_disk(name))
        && root.exists(format!("{entry}/device"))
        && root.flag(format!("{entry}/hidden")) != Some(true)
}

fn gap(item: &str, status: PartStatus, reason: String) -> Item {
    Item::gap(item.to_owned(), status, reason)
}

fn nameless(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        kind: if is_optical(name) {
            DiskKind::Optical
        } else {
            DiskKind::Disk
        },
        size_bytes: None,
        logical_sector_bytes: None,
        physical_sector_bytes: None,
        vendor: None,
        model: None,
        serial: None,
        wwn: None,
        firmware: None,
        transport: None,
        hctl: None,
        pci_address: None,
        numa_node: None,
        rotational: None,
        read_only: None,
        removable: None,
        boot_medium: false,
    }
}

fn disk(root: &Root, name: &str, boot_medium: &BTreeSet<String>) -> (Disk, Vec<Item>) {
    let entry = format!("{BLOCK}/{name}");
    let at = |file: &str| format!("{entry}/{file}");
    let mut gaps = Vec::new();
    let place = root.resolve(&entry).unwrap_or_default();
    let mut disk = nameless(name);
    // The kernel counts in 512 bytes whatever the sector size.
    disk.size_bytes = root
        .number::<u64>(at("size"))
        .and_then(|sectors| sectors.checked_mul(512));
    disk.logical_sector_bytes = root.number(at("queue/logical_block_size"));
    disk.physical_sector_bytes = root.number(at("queue/physical_block_size"));
    disk.rotational = root.flag(at("queue/rotational"));
    disk.read_only = root.flag(at("ro"));
    disk.removable = root.flag(at("removable"));
    if disk.kind == DiskKind::Optical && disk.size_bytes == Some(EMPTY_OPTICAL_BYTES) {
        disk.size_bytes = None;
    }
    disk.hctl = hctl(&place);
    let hardware = nvme_controller(root, &entry, name).unwrap_or_else(|| place.clone());
    disk.pci_address = bus::pci_address(&hardware);
    disk.numa_node = bus::numa_node(root, &hardware);
    disk.boot_medium = boot_medium.iter().any(|medium| {
        let medium = medium.strip_prefix("/dev/").unwrap_or(medium);
        medium == name || (medium.starts_with(name) && !medium.contains("..") && root.exists(at(medium)))
    });

    let mut get = |item: &str, file: &str| match root.attribute(at(file)) {
        Ok(value) => value,
        Err(ReadError::Absent { .. } | ReadError::Unsupported { .. }) => None,
        Err(error) => {
            gaps.push(gap(&format!("{name}.{item}"), error.status(), error.to_string()));
            None
        }
    };
    if name.starts_with("nvme") {
        disk.model = get("model", "device/model");
        disk.serial = get("serial", "device/serial");
        disk.firmware = get("firmware", "device/firmware_rev");
        disk.wwn = get("wwn", "wwid").and_then(|name| scheme_name(&name));
    } else if name.starts_with("mmcblk") {
        disk.model = get("model", "device/name");
        disk.serial = get("serial", "device/serial");
        disk.firmware = get("firmware", "device/fwrev");
    } else if disk.hctl.is_some() {
        disk.vendor = get("vendor", "device/vendor");
        disk.model = get("model", "device/model");
        disk.firmware = get("firmware", "device/rev");
        disk.wwn = get("wwn", "device/wwid").and_then(|name| scheme_name(&name));
        scsi_pages(root, &entry, &mut disk);
    } else {
        // virtio; others have no such file.
        disk.serial = get("serial", "serial");
    }
    if let Some(usb) = bus::ancestor_with(root, &place, "idVendor") {
        let usb_value = |file: &str| root.value(Path::new("/").join(&usb).join(file));
        disk.serial = disk.serial.or_else(|| usb_value("serial"));
        disk.model = disk.model.or_else(|| usb_value("product"));
        disk.vendor = disk.vendor.or_else(|| usb_value("manufacturer"));
    }
    disk.transport = transport(root, name, &place, &hardware, disk.vendor.as_deref());
    (disk, gaps)
}

fn scsi_pages(root: &Root, entry: &str, disk: &mut Disk) {
    let page = |number: &str| {
        root.bytes(format!("{entry}/device/vpd_pg{number}"), scsi::PAGE_LIMIT)
            .ok()
    };
    disk.serial = page("80").and_then(|page| scsi::unit_serial(&page));
    if let Some(wwn) = page("83").and_then(|page| scsi::wwn(&page)) {
        disk.wwn = Some(wwn);
    }
    if let Some(ata) = page("89").and_then(|page| scsi::ata_identity(&page)) {
        disk.model = ata.model.or(disk.model.take());
        disk.serial = ata.serial.or(disk.serial.take());
        disk.firmware = ata.firmware.or(disk.firmware.take());
        disk.wwn = disk.wwn.take().or(ata.wwn);
    }
}

/// Names with a registered scheme; `t10.` names are model and serial once more, not a world wide name.
fn scheme_name(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let known = ["naa.", "eui.", "nvme.", "uuid."]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    known.then_some(text)
}

/// `0:0:1:0` from `…/host0/target0:0:1/0:0:1:0/block/sdb`.
fn hctl(place: &Path) -> Option<String> {
    let is_address = |name: &&str| {
        let mut fields = 0;
        name.split(':').all(|field| {
            fields += 1;
            !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit())
        }) && fields == 4
    };
    bus::names(place).rev().find(is_address).map(str::to_owned)
}

/// With native multipath, the disk hangs below a virtual subsystem; the first of its controllers tells the hardware.
fn nvme_controller(root: &Root, entry: &str, name: &str) -> Option<PathBuf> {
    if !name.starts_with("nvme") {
        return None;
    }
    let device = format!("{entry}/device");
    let is_controller = |name: &String| {
        name.strip_prefix("nvme")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let controller = root.list(&device).ok()?.into_iter().find(is_controller)?;
    root.resolve(format!("{device}/{controller}")).ok()
}

/// How the disk is attached, from the chain of devices above it.
fn transport(root: &Root, name: &str, place: &Path, hardware: &Path, vendor: Option<&str>) -> Option<String> {
    let above = |prefix: &str| {
        bus::names(place).any(|part| {
            part.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let transport = if name.starts_with("nvme") {
        // Told by the controller, which is where `nvme_controller` led, or one folder up.
        let told = [hardware, hardware.parent().unwrap_or(hardware)]
            .iter()
            .find_map(|folder| root.value(folder.join("transport")));
        return Some(match told.as_deref() {
            None | Some("pcie") => "nvme".to_owned(),
            Some(fabric) => format!("nvme-{fabric}"),
        });
    } else if above("usb") {
        "usb"
    } else if above("ata") {
        "sata"
    } else if above("end_device-") {
        // A SATA disk behind a SAS controller is announced with this vendor (SAT-3 8.2).
        if vendor == Some("ATA") { "sata" } else { "sas" }
    } else if above("session") {
        "iscsi"
    } else if above("rport-") {
        "fc"
    } else if name.starts_with("mmcblk") {
        "mmc"
    } else if name.starts_with("vd") && above("virtio") {
        "virtio"
    } else if name.starts_with("xvd") {
        "xen"
    } else if hctl(place).is_some() {
        "scsi"
    } else {
        return None;
    };
    Some(transport.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn places_tell_address_and_transport() {
        let root = Root::at("/nonexistent");
        let sas = Path::new(
            "sys/devices/pci0000:00/0000:03:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda",
        );
        assert_eq!(hctl(sas).as_deref(), Some("0:0:0:0"));
        assert_eq!(
            transport(&root, "sda", sas, sas, Some("SEAGATE")).as_deref(),
            Some("sas")
        );
        assert_eq!(transport(&root, "sda", sas, sas, Some("ATA")).as_deref(), Some("sata"));
        let usb = Path::new("sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb");
        assert_eq!(transport(&root, "sdb", usb, usb, None).as_deref(), Some("usb"));
        let raid = Path::new("sys/devices/pci0000:00/0000:02:00.0/host0/target0:2:0/0:2:0:0/block/sda");
        assert_eq!(
            transport(&root, "sda", raid, raid, Some("DELL")).as_deref(),
            Some("scsi")
        );
        assert_eq!(
            transport(&root, "nvme0n1", Path::new(""), Path::new(""), None).as_deref(),
            Some("nvme")
        );
    }

    #[test]
    fn the_boot_medium_is_found_among_the_mounts() {
        let text = "22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n\
                    30 1 8:17 / /run/initramfs/live ro,relatime shared:1 - iso9660 /dev/sdb1 ro\n\
                    31 1 0:30 / /run/initramfs/live rw - tmpfs tmpfs rw\n\
                    32 1 8:1 / / rw - ext4 /dev/sda1 rw\nshort - \n";
        assert_eq!(boot_medium(text), BTreeSet::from(["/dev/sdb1".to_owned()]));
        assert!(boot_medium("").is_empty());
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
            let disks = disks(&root, None, &medium, Duration::from_secs(5), &Publish::nowhere())
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
