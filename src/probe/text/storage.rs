//! Disks and their controllers for people.

use super::page::Page;
use super::words::{decimal_size, labelled, list, plural, prefixed, some, words};
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
        page.item(&disk_line(disk));
        page.detail(&prefixed("trouble", troubles(disk)));
        page.detail(&prefixed("holds", contents(disk)));
    }
}

fn disk_line(disk: &Disk) -> String {
    let kind = match (disk.kind, disk.rotational) {
        (DiskKind::Optical, _) => Some("optical drive".to_owned()),
        // Only these tell the truth; virtual disks, sticks and RAID volumes are called rotating for want of knowledge.
        (DiskKind::Disk, Some(true)) if matches!(disk.transport.as_deref(), Some("sata" | "sas" | "fc")) => {
            Some("rotating".to_owned())
        }
        (DiskKind::Disk, _) => None,
    };
    // `ATA` is the protocol, and many models begin with their vendor.
    let is_said =
        |vendor: &String| vendor == "ATA" || disk.model.as_ref().is_some_and(|model| model.starts_with(vendor));
    let model = words([
        disk.vendor.clone().filter(|vendor| !is_said(vendor)),
        disk.model.clone(),
    ]);
    let mark = |on: bool, text: &str| on.then(|| text.to_owned());
    format!(
        "{}: {}",
        disk.name,
        list([
            disk.size_bytes.map(decimal_size),
            without_namespace(disk),
            disk.transport.clone(),
            kind,
            disk.raid_level.clone(),
            some(model),
            labelled("serial", &disk.serial),
            labelled("firmware", &disk.firmware),
            disk.bay.map(|bay| format!("bay {bay}")),
            (!disk.other_paths.is_empty()).then(|| format!("also {}", disk.other_paths.join(" and "))),
            mark(disk.boot_medium, "BOOT MEDIUM"),
            mark(disk.virtual_media, "virtual media"),
            mark(disk.read_only == Some(true), "read-only"),
            disk.appeared_after_ms.map(|millis| format!(
                "came late, after {}.{} s",
                millis / 1000,
                millis % 1000 / 100
            )),
            disk.smart.as_ref().and_then(age),
        ])
    )
}

/// An NVMe drive that cannot be used until somebody makes a namespace.
fn without_namespace(disk: &Disk) -> Option<String> {
    let nvme = disk.nvme.as_ref().filter(|nvme| nvme.controller == disk.name)?;
    let total = nvme
        .total_bytes
        .map(|bytes| format!(" ({} in all)", decimal_size(bytes)));
    Some(format!("NO NAMESPACE{}", total.unwrap_or_default()))
}

/// What an engineer asks first of a disk that is well.
fn age(smart: &Smart) -> Option<String> {
    some(list([
        smart.temperature_celsius.map(|celsius| format!("{celsius} °C")),
        smart.power_on_hours.map(|hours| format!("{hours} h")),
        smart.percentage_used.map(|percent| format!("{percent}% worn")),
    ]))
}

/// What is wrong with a disk; nothing for a healthy one.
fn troubles(disk: &Disk) -> String {
    let mut found = Vec::new();
    if let Some(state) = disk.state.as_deref().filter(|state| *state != "running") {
        found.push(format!("state {state}"));
    }
    if let Some(nvme) = &disk.nvme
        && let Some(state) = nvme.state.as_deref().filter(|state| *state != "live")
    {
        found.push(format!("controller {state}"));
    }
    if let Some(smart) = &disk.smart {
        found.extend(smart_troubles(smart));
    }
    if let Some(table) = &disk.partition_table {
        if table.valid == Some(false) {
            found.push("partition table damaged".to_owned());
        } else if table.backup_valid == Some(false) {
            found.push("second partition table missing or damaged".to_owned());
        }
    }
    list(found.into_iter().map(Some))
}

fn smart_troubles(smart: &Smart) -> Vec<String> {
    let mut found = Vec::new();
    if smart.passed == Some(false) {
        found.push("SMART FAILED".to_owned());
    }
    found.extend(smart.warnings.iter().cloned());
    let mut count = |number: Option<u64>, what: &str| {
        if let Some(number) = number.filter(|number| *number > 0) {
            found.push(format!("{number} {what}"));
        }
    };
    count(smart.media_errors, "media errors");
    count(smart.reallocated_sectors, "reallocated sectors");
    count(smart.pending_sectors, "pending sectors");
    count(smart.offline_uncorrectable_sectors, "uncorrectable sectors");
    count(smart.uncorrected_errors, "uncorrected errors");
    if let Some(worn) = smart.percentage_used.filter(|worn| *worn >= WORN_PERCENT) {
        found.push(format!("{worn}% worn"));
    }
    found
}

fn contents(disk: &Disk) -> String {
    let table = disk.partition_table.as_ref().map(|table| table.kind.to_uppercase());
    let shown = disk.partitions.iter().take(SHOWN_PARTITIONS);
    let more = disk.partitions.len().saturating_sub(SHOWN_PARTITIONS);
    let parts = shown.map(|partition| Some(partition_text(partition)));
    let whole = disk.signatures.iter().map(|found| Some(signature_text(found)));
    let used = disk.holders.iter().map(|holder| Some(format!("used by {holder}")));
    let rest = (more > 0).then(|| format!("{more} more"));
    list(
        std::iter::once(table)
            .chain(whole)
            .chain(parts)
            .chain([rest])
            .chain(used),
    )
}

/// `2 ext4 "root" 40 GB`
fn partition_text(partition: &Partition) -> String {
    let what: Vec<String> = partition.signatures.iter().map(signature_text).collect();
    let what = some(what.join(" + ")).or_else(|| partition.type_name.clone());
    words([
        Some(partition.number.to_string()),
        what,
        Some(decimal_size(partition.size_bytes)),
        some(partition.holders.join(" and ")).map(|holders| format!("used by {holders}")),
    ])
}

fn signature_text(found: &Signature) -> String {
    words([
        Some(found.kind.clone()),
        found.label.as_ref().map(|label| format!("\"{label}\"")),
    ])
}

pub(super) fn controllers(page: &mut Page, controllers: &Vec<StorageController>) {
    if controllers.is_empty() {
        page.item("none found");
    }
    for one in controllers {
        let place = one.pci_address.clone().unwrap_or_else(|| "no PCI function".to_owned());
        let name = one.model.clone().or_else(|| one.device.clone());
        // Ports of Fibre Channel are what their engineer looks for; other hosts have none.
        let ports = one.hosts.iter().filter_map(|host| {
            let wwn = host.port_wwn.clone()?;
            Some(words([
                Some(format!("port {wwn}")),
                host.port_state.clone(),
                host.port_speed.clone(),
            ]))
        });
        let count = u32::try_from(one.disks.len()).unwrap_or(u32::MAX);
        let facts = [
            Some(one.kind.clone()),
            name.or_else(|| one.pci_id.clone()),
            one.driver.clone().or_else(|| Some("NO DRIVER".to_owned())),
            labelled("firmware", &one.firmware),
            labelled("serial", &one.serial),
            (count > 0).then(|| plural(count, "disk")),
            behind(one),
        ];
        let line = list(facts.into_iter().chain(ports.map(Some)));
        page.item(&format!("{place}: {line}"));
        for disk in &one.physical_disks {
            page.detail(&physical_line(disk));
        }
    }
}

/// How many disks are behind a controller, and how many of them the kernel lists as well.
fn behind(controller: &StorageController) -> Option<String> {
    let count = |disks: usize| u32::try_from(disks).unwrap_or(u32::MAX);
    let all = count(controller.physical_disks.len());
    let passed = controller
        .physical_disks
        .iter()
        .filter(|disk| disk.kernel_name.is_some());
    let passed = count(passed.count());
    (all > 0).then(|| {
        let also = (passed > 0).then(|| format!(" ({passed} of them listed above)"));
        format!("{} behind it{}", plural(all, "disk"), also.unwrap_or_default())
    })
}

/// `megaraid,5 (sdb): 16 TB, TOSHIBA …`. What is told of a disk above is not said again.
fn physical_line(disk: &PhysicalDisk) -> String {
    let name = disk.kernel_name.as_ref().map(|name| format!(" ({name})"));
    let kind = match disk.rotation_rpm {
        Some(0) => Some("flash".to_owned()),
        Some(_) => Some("rotating".to_owned()),
        None => None,
    };
    let smart = disk.smart.as_ref().filter(|_| disk.kernel_name.is_none());
    let facts = [
        disk.size_bytes.map(decimal_size),
        disk.protocol.clone(),
        kind,
        disk.model.clone().or_else(|| Some("unknown".to_owned())),
        labelled("serial", &disk.serial),
        labelled("firmware", &disk.firmware),
        smart.and_then(age),
    ];
    let trouble = smart.map(|smart| list(smart_troubles(smart).into_iter().map(Some)));
    let trouble = trouble
        .filter(|text| !text.is_empty())
        .map(|text| format!("TROUBLE: {text}"));
    let line = list(facts.into_iter().chain([trouble]));
    format!("{}{}: {line}", disk.address, name.unwrap_or_default())
}
