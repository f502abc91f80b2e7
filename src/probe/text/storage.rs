//! Disks and their controllers for people.

use super::page::Page;
use super::words::{bracketed, counted, decimal_size, labelled, list, mark, plural, prefixed, some, unit, with, words};
use crate::model::inventory::{Disk, DiskKind, Partition, PhysicalDisk, Signature, Smart, StorageController};

/// Partitions beyond this are only counted; a person who looks for one of them reads the document.
const SHOWN_PARTITIONS: usize = 8;
/// Disks that have been worn this far are named.
const WORN_PERCENT: u8 = 80;

pub(super) fn disks(page: &mut Page, disks: &Vec<Disk>) {
    if disks.is_empty() {
        page.item("none found");
    }
    for disk in disks {
        disk_line(page, disk);
        page.detail(&prefixed("trouble", troubles(disk).join(", ")));
        page.detail(&prefixed("holds", contents(disk)));
    }
}

fn disk_line(page: &mut Page, disk: &Disk) {
    // Only these tell the truth; virtual disks, sticks and RAID volumes are called rotating for want of knowledge.
    let spins = matches!(disk.transport.as_deref(), Some("sata" | "sas" | "fc"));
    let kind = match (disk.kind, disk.rotational) {
        (DiskKind::Optical, _) => Some("optical drive".to_owned()),
        (DiskKind::Disk, Some(true)) => mark(spins, "rotating"),
        (DiskKind::Disk, _) => None,
    };
    // `ATA` is the protocol, and many models begin with their vendor.
    let is_said =
        |vendor: &String| vendor == "ATA" || disk.model.as_ref().is_some_and(|model| model.starts_with(vendor));
    let vendor = disk.vendor.clone().filter(|vendor| !is_said(vendor));
    let model = words([vendor, disk.model.clone()]);
    let late = disk
        .appeared_after_ms
        .map(|ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
    page.entry(&disk.name).facts([
        disk.size_bytes.map(decimal_size),
        without_namespace(disk),
        disk.transport.clone(),
        kind,
        disk.raid_level.clone(),
        some(model),
        labelled("serial", &disk.serial),
        labelled("firmware", &disk.firmware),
        with("bay", disk.bay),
        with("also", some(disk.other_paths.join(" and "))),
        mark(disk.boot_medium, "BOOT MEDIUM"),
        mark(disk.virtual_media, "virtual media"),
        mark(disk.read_only == Some(true), "read-only"),
        with("came late, after", late),
        disk.smart.as_ref().and_then(age),
    ]);
}

/// An NVMe drive that cannot be used until somebody makes a namespace.
fn without_namespace(disk: &Disk) -> Option<String> {
    let nvme = disk.nvme.as_ref().filter(|nvme| nvme.controller == disk.name)?;
    let total = bracketed(unit(nvme.total_bytes.map(decimal_size), "in all"));
    Some(words([Some("NO NAMESPACE".to_owned()), total]))
}

/// What an engineer asks first of a disk that is well.
fn age(smart: &Smart) -> Option<String> {
    some(list([
        unit(smart.temperature_celsius, "°C"),
        unit(smart.power_on_hours, "h"),
        smart.percentage_used.map(|percent| format!("{percent}% worn")),
    ]))
}

/// What is wrong with a disk; nothing for a healthy one.
fn troubles(disk: &Disk) -> Vec<String> {
    let state = disk.state.as_ref().filter(|state| *state != "running");
    let controller = disk.nvme.as_ref().and_then(|nvme| nvme.state.as_ref());
    let table = disk.partition_table.as_ref();
    let table = table.and_then(|table| match (table.valid, table.backup_valid) {
        (Some(false), _) => Some("partition table damaged".to_owned()),
        (_, Some(false)) => Some("second partition table missing or damaged".to_owned()),
        _ => None,
    });
    let smart = disk.smart.iter().flat_map(smart_troubles);
    let found = [
        with("state", state),
        with("controller", controller.filter(|state| *state != "live")),
    ];
    found.into_iter().flatten().chain(smart).chain(table).collect()
}

fn smart_troubles(smart: &Smart) -> Vec<String> {
    let failed = mark(smart.passed == Some(false), "SMART FAILED");
    let worn = smart.percentage_used.filter(|worn| *worn >= WORN_PERCENT);
    let counts = [
        counted(smart.media_errors, "media errors"),
        counted(smart.reallocated_sectors, "reallocated sectors"),
        counted(smart.pending_sectors, "pending sectors"),
        counted(smart.offline_uncorrectable_sectors, "uncorrectable sectors"),
        counted(smart.uncorrected_errors, "uncorrected errors"),
        worn.map(|worn| format!("{worn}% worn")),
    ];
    let told = failed.into_iter().chain(smart.warnings.iter().cloned());
    told.chain(counts.into_iter().flatten()).collect()
}

fn contents(disk: &Disk) -> String {
    let table = disk.partition_table.as_ref().map(|table| table.kind.to_uppercase());
    let whole = disk.signatures.iter().map(signature_text);
    let parts = disk.partitions.iter().take(SHOWN_PARTITIONS).map(partition_text);
    let more = disk.partitions.len().saturating_sub(SHOWN_PARTITIONS);
    let used = disk.holders.iter().map(|holder| format!("used by {holder}"));
    let held = table.into_iter().chain(whole).chain(parts);
    Vec::from_iter(held.chain(counted(more as u64, "more")).chain(used)).join(", ")
}

/// `2 ext4 "root" 40 GB`
fn partition_text(partition: &Partition) -> String {
    let what: Vec<String> = partition.signatures.iter().map(signature_text).collect();
    let what = some(what.join(" + ")).or_else(|| partition.type_name.clone());
    words([
        Some(partition.number.to_string()),
        what,
        Some(decimal_size(partition.size_bytes)),
        with("used by", some(partition.holders.join(" and "))),
    ])
}

fn signature_text(found: &Signature) -> String {
    let label = found.label.as_ref().map(|label| format!("\"{label}\""));
    words([Some(found.kind.clone()), label])
}

pub(super) fn controllers(page: &mut Page, controllers: &Vec<StorageController>) {
    if controllers.is_empty() {
        page.item("none found");
    }
    for one in controllers {
        let name = one.model.as_ref().or(one.device.as_ref()).or(one.pci_id.as_ref());
        // Ports of Fibre Channel are what their engineer looks for; other hosts have none.
        let ports = one.hosts.iter().filter_map(|host| {
            let port = with("port", host.port_wwn.as_ref())?;
            Some(words([Some(port), host.port_state.clone(), host.port_speed.clone()]))
        });
        let facts = [
            Some(one.kind.clone()),
            name.cloned(),
            one.driver.clone().or_else(|| Some("NO DRIVER".to_owned())),
            labelled("firmware", &one.firmware),
            labelled("serial", &one.serial),
            some_disks(one.disks.len()),
            behind(one),
        ];
        page.entry(one.pci_address.as_deref().unwrap_or("no PCI function"))
            .facts(facts.into_iter().chain(ports.map(Some)));
        for disk in &one.physical_disks {
            page.detail(&physical_line(disk));
        }
    }
}

/// How many disks are behind a controller, and how many of them the kernel lists as well.
fn behind(controller: &StorageController) -> Option<String> {
    let disks = &controller.physical_disks;
    let passed = disks.iter().filter(|disk| disk.kernel_name.is_some()).count();
    let passed = bracketed(counted(passed as u64, "of them listed above"));
    let all = unit(some_disks(disks.len()), "behind it")?;
    Some(words([Some(all), passed]))
}

fn some_disks(count: usize) -> Option<String> {
    (count > 0).then(|| plural(count, "disk"))
}

/// `megaraid,5 (sdb): 16 TB, TOSHIBA …`. What is told of a disk above is not said again.
fn physical_line(disk: &PhysicalDisk) -> String {
    let name = words([Some(disk.address.clone()), bracketed(disk.kernel_name.as_ref())]);
    let kind = disk.rotation_rpm.map(|rpm| if rpm == 0 { "flash" } else { "rotating" });
    let smart = disk.smart.as_ref().filter(|_| disk.kernel_name.is_none());
    let facts = [
        disk.size_bytes.map(decimal_size),
        disk.protocol.clone(),
        kind.map(str::to_owned),
        disk.model.clone().or_else(|| Some("unknown".to_owned())),
        labelled("serial", &disk.serial),
        labelled("firmware", &disk.firmware),
        smart.and_then(age),
        with(
            "TROUBLE:",
            smart.and_then(|smart| some(smart_troubles(smart).join(", "))),
        ),
    ];
    format!("{name}: {}", list(facts))
}
