//! What the kernel knows of one disk, from `/sys/block` and the devices above it. Asks the disk for little: the serial
//! of a virtio disk, for one, is fetched from it on every read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::by_path;
use crate::model::inventory::{Disk, DiskKind, Item, Nvme, Partition};
use crate::probe::bus;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::disks::entry::{BLOCK, NVME, nameless};
use crate::probe::disks::scsi;

/// What the kernel says of a drive without a disc (drivers/scsi/sr.c: 1fffffh sectors).
const EMPTY_OPTICAL_BYTES: u64 = 0x1f_ffff * 512;

/// One disk, as the kernel knows it, and the pieces that could not be read.
pub(crate) fn disk(
    root: &Root,
    name: &str,
    boot_medium: &BTreeSet<String>,
    links: &BTreeMap<String, String>,
) -> (Disk, Vec<Item>) {
    let entry = format!("{BLOCK}/{name}");
    let at = |file: &str| format!("{entry}/{file}");
    let place = root.resolve(&entry).unwrap_or_default();
    let mut disk = nameless(name);
    queue(root, &entry, &mut disk);
    disk.partitions = kernel_partitions(root, &entry, name);
    if disk.kind == DiskKind::Optical && disk.size_bytes == Some(EMPTY_OPTICAL_BYTES) {
        disk.size_bytes = None;
    }
    disk.hctl = hctl(&place);
    let hardware = nvme_controller(root, &entry, name).unwrap_or_else(|| place.clone());
    disk.pci_address = bus::pci_address(&hardware);
    disk.numa_node = bus::numa_node(root, &hardware);
    let link = links.get(name).cloned();
    disk.by_path = link.or_else(|| by_path::compose(root, name, &place, &hardware));
    disk.boot_medium = boot_medium.iter().any(|medium| {
        let medium = medium.strip_prefix("/dev/").unwrap_or(medium);
        medium == name || (medium.starts_with(name) && !medium.contains("..") && root.exists(at(medium)))
    });
    let gaps = device(root, &entry, &place, &hardware, &mut disk);
    if let Some(usb) = bus::ancestor_with(root, &place, "idVendor") {
        let usb_value = |file: &str| root.value(Path::new("/").join(&usb).join(file));
        disk.serial = disk.serial.or_else(|| usb_value("serial"));
        disk.model = disk.model.or_else(|| usb_value("product"));
        disk.vendor = disk.vendor.or_else(|| usb_value("manufacturer"));
    }
    disk.transport = transport(root, name, &place, &hardware, disk.vendor.as_deref());
    disk.virtual_media = disk.transport.as_deref() == Some("usb") && is_virtual_media(&disk);
    (disk, gaps)
}

/// Size, sectors and settings of the block device.
fn queue(root: &Root, entry: &str, disk: &mut Disk) {
    let at = |file: &str| format!("{entry}/{file}");
    // The kernel counts in 512 bytes whatever the sector size.
    disk.size_bytes = root
        .number::<u64>(at("size"))
        .and_then(|sectors| sectors.checked_mul(512));
    disk.logical_sector_bytes = root.number(at("queue/logical_block_size"));
    disk.physical_sector_bytes = root.number(at("queue/physical_block_size"));
    disk.rotational = root.flag(at("queue/rotational"));
    disk.read_only = root.flag(at("ro"));
    disk.removable = root.flag(at("removable"));
    disk.zoned = root.value(at("queue/zoned"));
    disk.write_cache = root.value(at("queue/write_cache"));
    disk.scheduler = root.value(at("queue/scheduler")).and_then(|text| chosen(&text));
    disk.discard = root.number::<u64>(at("queue/discard_max_bytes")).map(|bytes| bytes > 0);
    disk.holders = root.list(at("holders")).unwrap_or_default();
    disk.holders.retain(|name| !name.starts_with('.'));
}

/// Names and what goes by the kind of disk, from the device below the block device. Gives the pieces that could not be read.
fn device(root: &Root, entry: &str, place: &Path, hardware: &Path, disk: &mut Disk) -> Vec<Item> {
    let name = disk.name.clone();
    let mut gaps = Vec::new();
    let at = |file: &str| format!("{entry}/{file}");
    let mut get = |item: &str, file: &str| match root.attribute(at(file)) {
        Ok(value) => value,
        Err(ReadError::Absent { .. } | ReadError::Unsupported { .. }) => None,
        Err(error) => {
            gaps.push(Item::gap(format!("{name}.{item}"), error.status(), error.to_string()));
            None
        }
    };
    if name.starts_with("nvme") {
        disk.model = get("model", "device/model");
        disk.serial = get("serial", "device/serial");
        disk.firmware = get("firmware", "device/firmware_rev");
        disk.wwn = get("wwn", "wwid").and_then(|name| scheme_name(&name));
        disk.nvme = Some(nvme_facts(root, entry, hardware));
    } else if name.starts_with("mmcblk") {
        disk.model = get("model", "device/name");
        disk.serial = get("serial", "device/serial");
        disk.firmware = get("firmware", "device/fwrev");
    } else if disk.hctl.is_some() {
        disk.vendor = get("vendor", "device/vendor");
        disk.model = get("model", "device/model");
        disk.firmware = get("firmware", "device/rev");
        disk.wwn = get("wwn", "device/wwid").and_then(|name| scheme_name(&name));
        disk.state = root.value(at("device/state"));
        disk.raid_level = root.value(at("device/raid_level")).filter(|level| level != "N/A");
        disk.bay = bay(root, place);
        disk.link_speed = sata_speed(root, place);
        scsi_pages(root, entry, disk);
    } else {
        // virtio; others have no such file.
        disk.serial = get("serial", "serial");
    }
    gaps
}

/// True for `nvme0`, not for a namespace (`nvme0n1`) or a path to one (`nvme0c0n1`).
fn is_nvme_controller(name: &str) -> bool {
    bus::is_numbered(name, "nvme")
}

/// NVMe drives without a namespace, new or after the last was deleted: no block device, and a drive all the same. `known` are
/// the disks that have one.
pub(crate) fn drives_without_namespace(root: &Root, known: &[Disk]) -> Vec<Disk> {
    let told: Vec<&Nvme> = known.iter().filter_map(|disk| disk.nvme.as_ref()).collect();
    let bare = |name: String| {
        let folder = root.resolve(format!("{NVME}/{name}")).ok()?;
        let value = |file: &str| root.value(folder.join(file));
        let pci_address = bus::pci_address(&folder)?;
        // Controllers over a network come and go with what they lead to.
        if value("transport").is_some_and(|transport| transport != "pcie") {
            return None;
        }
        let children = root.list(&folder).unwrap_or_default();
        let nqn = value("subsysnqn");
        let is_told = told.iter().any(|nvme| {
            nvme.controller == name || nvme.other_paths.contains(&name) || nqn.is_some() && nvme.subsystem_nqn == nqn
        });
        if is_told || children.iter().any(|child| is_namespace(child)) {
            return None;
        }
        Some(Disk {
            model: value("model"),
            serial: value("serial"),
            firmware: value("firmware_rev"),
            transport: Some("nvme".to_owned()),
            numa_node: bus::numa_node(root, &folder),
            pci_address: Some(pci_address),
            nvme: Some(nvme_facts(root, "", &folder)),
            ..nameless(&name)
        })
    };
    let names = root.list(NVME).unwrap_or_default();
    names
        .into_iter()
        .filter(|name| is_nvme_controller(name))
        .filter_map(bare)
        .collect()
}

fn is_namespace(name: &str) -> bool {
    name.starts_with("nvme") && !is_nvme_controller(name)
}

/// `bfq` of `none [bfq] kyber`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(name, _)| name.to_owned())
}

/// Words that management controllers put into the names of the drives they play: Dell iDRAC, HPE iLO, AMI (Supermicro,
/// ASRock, …), Lenovo XCC, OpenBMC and others.
const VIRTUAL_MEDIA: [&str; 11] = [
    "virtual media",
    "virtual cd",
    "virtual dvd",
    "virtual floppy",
    "virtual hdisk",
    "virtual disk",
    "vmedia",
    "idrac",
    "lcdrive",
    "ilo ",
    "openbmc",
];

fn is_virtual_media(disk: &Disk) -> bool {
    let name = format!(
        "{} {} ",
        disk.vendor.as_deref().unwrap_or_default(),
        disk.model.as_deref().unwrap_or_default()
    )
    .to_lowercase();
    VIRTUAL_MEDIA.iter().any(|word| name.contains(word)) || name.starts_with("ami ") && name.contains("virtual")
}

/// Partitions as the kernel has them.
fn kernel_partitions(root: &Root, entry: &str, name: &str) -> Vec<Partition> {
    let children = root.list(entry).unwrap_or_default();
    let mut partitions = Vec::new();
    for child in children.into_iter().filter(|child| child.starts_with(name)) {
        let at = |file: &str| format!("{entry}/{child}/{file}");
        // Both count in 512 bytes.
        let bytes = |file: &str| root.number::<u64>(at(file))?.checked_mul(512);
        let (Some(number), Some(start), Some(size)) = (root.number(at("partition")), bytes("start"), bytes("size"))
        else {
            continue;
        };
        let mut holders = root.list(at("holders")).unwrap_or_default();
        holders.retain(|name| !name.starts_with('.'));
        partitions.push(Partition {
            number,
            start_bytes: start,
            size_bytes: size,
            read_only: root.flag(at("ro")),
            holders,
            name: Some(child),
            ..Partition::default()
        });
    }
    partitions.sort_by_key(|partition| partition.number);
    partitions
}

/// What the kernel keeps of an NVMe controller and namespace.
fn nvme_facts(root: &Root, entry: &str, hardware: &Path) -> Nvme {
    // Without multipath the namespace sits right in its controller.
    let folder = bus::above(hardware, is_nvme_controller).unwrap_or(hardware);
    let controller = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let of_controller = |file: &str| root.value(folder.join(file));
    let of_namespace = |file: &str| root.value(format!("{entry}/{file}")).filter(|_| !entry.is_empty());
    let hex = |text: String| {
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits.chars().any(|digit| digit != '0').then(|| digits.to_lowercase())
    };
    let paths = match entry {
        "" => Vec::new(),
        entry => root.list(format!("{entry}/device")).unwrap_or_default(),
    };
    let paths = paths.into_iter().filter(|name| is_nvme_controller(name));
    Nvme {
        other_paths: paths.filter(|name| Some(name) != controller.as_ref()).collect(),
        controller: controller.unwrap_or_default(),
        state: of_controller("state"),
        subsystem_nqn: of_controller("subsysnqn"),
        controller_id: of_controller("cntlid").and_then(|text| text.parse().ok()),
        namespace: of_namespace("nsid").and_then(|text| text.parse().ok()),
        eui64: of_namespace("eui").and_then(hex),
        nguid: of_namespace("nguid").and_then(hex),
        uuid: of_namespace("uuid").filter(|text| text.chars().any(|c| !matches!(c, '0' | '-'))),
        ..Nvme::default()
    }
}

/// The bay that the enclosure of a SAS end device names.
fn bay(root: &Root, place: &Path) -> Option<u32> {
    let device = bus::above(place, |name| name.starts_with("end_device-"))?;
    let class = device.join("sas_device").join(device.file_name()?);
    root.number(class.join("bay_identifier"))
}

/// `6.0 Gbps` of the disk's own SATA link.
fn sata_speed(root: &Root, place: &Path) -> Option<String> {
    let port = bus::above(place, |name| bus::is_numbered(name, "ata"))?;
    let number = port.file_name()?.to_str()?.strip_prefix("ata")?;
    let link = format!("link{number}");
    let speed = root.value(port.join(&link).join("ata_link").join(&link).join("sata_spd"))?;
    speed.starts_with(|c: char| c.is_ascii_digit()).then_some(speed)
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
    disk.rotation_rpm = page("b1").and_then(|page| scsi::rotation_rpm(&page));
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
    let mut names = bus::names(place).rev();
    names.find(|name| bus::is_scsi_address(name)).map(str::to_owned)
}

/// With native multipath, the disk hangs below a virtual subsystem; the first of its controllers tells the hardware.
fn nvme_controller(root: &Root, entry: &str, name: &str) -> Option<PathBuf> {
    if !name.starts_with("nvme") {
        return None;
    }
    let device = format!("{entry}/device");
    let mut names = root.list(&device).ok()?.into_iter();
    let controller = names.find(|name| is_nvme_controller(name))?;
    root.resolve(format!("{device}/{controller}")).ok()
}

/// How the disk is attached, from the chain of devices above it.
fn transport(root: &Root, name: &str, place: &Path, hardware: &Path, vendor: Option<&str>) -> Option<String> {
    let above = |prefix: &str| bus::has_numbered(place, prefix);
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
    fn what_a_management_controller_plays_is_marked() {
        let named = |vendor: &str, model: &str| Disk {
            vendor: Some(vendor.into()),
            model: Some(model.into()),
            ..Disk::default()
        };
        for (vendor, model) in [
            ("iDRAC", "LCDRIVE"),
            ("AMI", "Virtual CDROM0"),
            ("iLO", "Virtual DVD-ROM"),
            ("OpenBMC", "Virtual Media Device"),
        ] {
            assert!(is_virtual_media(&named(vendor, model)), "{vendor} {model}");
        }
        assert!(!is_virtual_media(&named("SanDisk", "Ultra Fit")));
    }

    #[test]
    fn the_scheduler_in_use_is_in_brackets() {
        assert_eq!(chosen("none [mq-deadline] kyber").as_deref(), Some("mq-deadline"));
        assert_eq!(chosen("none"), None);
    }
}
