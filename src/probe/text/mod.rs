//! The inventory for a person at an 80-column console.

mod bmc;
mod cabling;
mod health;
mod network;
mod pci;
mod security;
mod storage;
mod system;
pub mod tree;

use crate::model::inventory::{Cpus, Dimm, Disk, DiskKind, Inventory, Memory, Part, is_placeholder};

const WIDTH: usize = 80;
/// Column where the text begins.
const INDENT: usize = 10;

/// Renders everything that a person looks for first. Lines are at most 80 columns wide.
pub fn render(inventory: &Inventory) -> String {
    let mut page = Page::default();
    page.part("System", &inventory.system, system::lines);
    page.part("BIOS", &inventory.bios, system::bios);
    page.part("CPU", &inventory.cpus, cpu_lines);
    page.part("Memory", &inventory.memory, memory_lines);
    page.part("Disks", &inventory.disks, |page, disks| {
        if disks.is_empty() {
            page.item("none found");
        }
        for disk in disks {
            page.item(&disk_line(disk));
        }
    });
    page.part("RAID/HBA", &inventory.storage_controllers, storage::controllers);
    page.part("Network", &inventory.nics, network::lines);
    page.part("Cables", &inventory.cabling, cabling::lines);
    page.part("PCI", &inventory.pci, pci::functions);
    page.part("USB", &inventory.usb, pci::usb);
    page.part("GPU", &inventory.gpus, pci::gpus);
    page.part("Security", &inventory.security, security::lines);
    page.part("BMC", &inventory.bmc, bmc::lines);
    page.part("Health", &inventory.health, health::lines);
    page.part("Run", &inventory.run, |page, run| {
        page.item(&list([
            Some(format!("recon {}", run.recon_version)),
            run.kernel_release.as_ref().map(|release| format!("kernel {release}")),
            Some(run.started_at.clone()),
            Some(format!("took {:.1} s", run.duration_ms as f64 / 1000.0)),
        ]));
        if let Some(line) = &run.kernel_command_line {
            page.item(line);
        }
    });
    page.out
}

fn cpu_lines(page: &mut Page, cpus: &Cpus) {
    page.item(&list([
        cpus.model.clone().or_else(|| cpus.vendor.clone()),
        cpus.arch.clone(),
        labelled("microcode", &cpus.microcode),
    ]));
    page.item(&list([
        cpus.sockets.map(|n| plural(n, "socket")),
        cpus.cores.map(|n| plural(n, "core")),
        cpus.threads.map(|n| plural(n, "thread")),
    ]));
    for package in cpus.packages.iter().filter(|package| !package.populated) {
        let socket = package.socket.clone().unwrap_or_else(|| "a socket".to_owned());
        page.item(&format!("{socket}: empty"));
    }
}

fn memory_lines(page: &mut Page, memory: &Memory) {
    let slots = memory.slots.map(|slots| {
        let populated = memory.slots_populated.unwrap_or(0);
        format!("{populated} of {} filled", plural(slots, "slot"))
    });
    let correction = memory.error_correction.as_ref().map(|kind| match kind.as_str() {
        "none" => "no error correction".to_owned(),
        kind => kind.to_owned(),
    });
    page.item(&list([
        memory.total_bytes.map(|bytes| format!("{} usable", binary_size(bytes))),
        slots,
        correction,
    ]));
    let (filled, empty): (Vec<&Dimm>, Vec<&Dimm>) = memory.dimms.iter().partition(|dimm| dimm.populated);
    for dimm in filled {
        page.item(&dimm_line(dimm));
    }
    page.item(&prefixed(
        "empty",
        list(empty.into_iter().map(|dimm| Some(dimm_place(dimm)))),
    ));
}

fn dimm_place(dimm: &Dimm) -> String {
    let bank = dimm.bank.as_ref().map(|bank| format!("({bank})"));
    some(words([dimm.locator.clone(), bank])).unwrap_or_else(|| "slot".to_owned())
}

fn dimm_line(dimm: &Dimm) -> String {
    let size = dimm.size_bytes.map_or_else(|| "unknown size".to_owned(), binary_size);
    let speed = match (dimm.speed_mtps, dimm.configured_speed_mtps) {
        (Some(rated), Some(runs)) if rated != runs => Some(format!("{rated} MT/s, runs at {runs}")),
        (Some(speed), _) | (None, Some(speed)) => Some(format!("{speed} MT/s")),
        (None, None) => None,
    };
    let maker = words([dimm.manufacturer.clone(), dimm.part_number.clone()]);
    format!(
        "{}: {}",
        dimm_place(dimm),
        list([
            Some(words([Some(size), dimm.memory_type.clone()])),
            speed,
            some(maker),
            labelled("serial", &dimm.serial)
        ])
    )
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
            disk.transport.clone(),
            kind,
            some(model),
            labelled("serial", &disk.serial),
            labelled("firmware", &disk.firmware),
            mark(disk.boot_medium, "BOOT MEDIUM"),
            mark(disk.read_only == Some(true), "read-only"),
        ])
    )
}

/// Sizes of disks are sold in powers of ten.
fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Sizes of memory come in powers of two.
fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn scaled(bytes: u64, step: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(value < 100.0 && (value - value.round()).abs() >= 0.05);
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"B"))
}

fn plural(number: u32, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Leaves out what firmware never filled in; the document has it as it stands.
fn labelled(label: &str, value: &Option<String>) -> Option<String> {
    let told = value.as_ref().filter(|value| !is_placeholder(value));
    told.map(|value| format!("{label} {value}"))
}

fn prefixed(label: &str, text: String) -> String {
    if text.is_empty() {
        text
    } else {
        format!("{label}: {text}")
    }
}

fn words(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" ")
}

fn list(parts: impl IntoIterator<Item = Option<String>>) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

#[derive(Default)]
struct Page {
    out: String,
    /// Stands before the next item, then is gone.
    label: &'static str,
}

impl Page {
    fn part<T>(&mut self, label: &'static str, part: &Part<T>, lines: impl FnOnce(&mut Page, &T)) {
        self.label = label;
        match &part.value {
            Some(value) => lines(self, value),
            None => {
                let reason = part.reason.as_deref().unwrap_or("no reason given");
                let status = part.status.as_str().replace('_', " ");
                self.item(&format!("{}: {reason}", status.to_uppercase()));
            }
        }
        if part.value.is_some()
            && let Some(reason) = &part.reason
        {
            self.item(&format!("note: {reason}"));
        }
        for item in part.items.iter().filter(|item| item.is_gap()) {
            let status = item.status.as_str().replace('_', " ");
            let reason = item.reason.as_deref().unwrap_or("no reason given");
            self.item(&format!("! {} {status}: {reason}", item.item));
        }
        self.label = "";
    }

    /// One thing, wrapped at spaces; its further lines stand two columns deeper.
    fn item(&mut self, text: &str) {
        let label = if text.is_empty() {
            ""
        } else {
            std::mem::take(&mut self.label)
        };
        self.wrapped(text, format!("{label:<INDENT$}"));
    }

    /// More about the item above, two columns deeper.
    fn detail(&mut self, text: &str) {
        self.wrapped(text, " ".repeat(INDENT + 2));
    }

    fn wrapped(&mut self, text: &str, mut line: String) {
        if text.is_empty() {
            return;
        }
        let mut used = line.chars().count();
        let mut fresh = true;
        for word in text.split(' ') {
            let mut word = word;
            loop {
                let length = word.chars().count();
                let gap = usize::from(!fresh);
                if used + gap + length <= WIDTH {
                    if gap == 1 {
                        line.push(' ');
                    }
                    line.push_str(word);
                    used += gap + length;
                    fresh = false;
                    break;
                }
                if fresh {
                    // A word longer than a line is cut where the line ends.
                    let cut = word.char_indices().nth(WIDTH - used).map_or(word.len(), |(at, _)| at);
                    let (head, tail) = word.split_at(cut);
                    line.push_str(head);
                    word = tail;
                }
                self.end_line(&line);
                line = " ".repeat(INDENT + 2);
                used = INDENT + 2;
                fresh = true;
            }
        }
        self.end_line(&line);
    }

    fn end_line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        assert_eq!(decimal_size(0), "0 B");
        assert_eq!(decimal_size(480_103_981_056), "480 GB");
        assert_eq!(decimal_size(8_001_563_222_016), "8 TB");
        assert_eq!(decimal_size(1_920_383_410_176), "1.9 TB");
        assert_eq!(binary_size(16 << 30), "16 GiB");
        assert_eq!(binary_size(67_235_033_088), "62.6 GiB");
        assert_eq!(binary_size(u64::MAX), "16 EiB");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_console(text in "[a-zé ]{0,300}", long in "[a-z]{0,200}") {
            let mut page = Page { label: "Network", ..Page::default() };
            page.item(&text);
            page.item(&long);
            for line in page.out.lines() {
                prop_assert!(line.chars().count() <= WIDTH, "{line:?}");
            }
            let kept: usize = page.out.replace("Network", "").chars().filter(|c| !c.is_whitespace()).count();
            let given = format!("{text}{long}").chars().filter(|c| !c.is_whitespace()).count();
            prop_assert_eq!(kept, given);
        }
    }
}
