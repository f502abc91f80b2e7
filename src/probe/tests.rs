//! The whole collection: captured machines against their golden files, and machines that hang.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::*;
use crate::golden::golden;
use crate::model::MacAddr;
use crate::model::inventory::{Inventory, PartStatus};
use crate::probe::collect::live::Totals;
use crate::sys::ethtool::DriverInfo;
use crate::sys::ipmi::{AskBmc, BmcError};

/// The captured machines, by the folder of each.
pub(super) const MACHINES: [&str; 4] = ["qemu-q35-bios", "qemu-q35-everything", "qemu-q35-uefi", "server-2s"];

pub(super) fn machines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machines")
}

/// Without what differs from run to run.
pub(super) fn timeless(inventory: &Inventory) -> serde_json::Value {
    fn still(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match key.as_str() {
                        "millis" | "duration_ms" => *value = 0.into(),
                        "recon_version" => *value = "golden".into(),
                        _ => still(value),
                    }
                }
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(still),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(inventory).unwrap();
    still(&mut value);
    value
}

pub(super) fn options() -> Options {
    let mut options = Options::new("2026-11-21T20:00:00Z");
    // Generous: the test machine may be busy, and nothing here hangs on purpose.
    options.limit = Duration::from_secs(60);
    options.slow_limit = Duration::from_secs(60);
    options.bmc_limit = Duration::from_secs(60);
    options.cable_wait = Duration::ZERO;
    options.boot_medium.insert("/dev/sdd".to_owned());
    options
}

/// Every folder with a `tree` gives its `expected.json` and `expected.txt`.
#[test]
fn captured_machines_give_their_golden_files() {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(machines()).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("tree").is_dir() {
            continue;
        }
        seen.insert(folder.file_name().unwrap().to_owned());
        let value = timeless(&collect(&Root::at(folder.join("tree")), None, &options()));
        let inventory: Inventory = serde_json::from_value(value).unwrap();
        let json = serde_json::to_string_pretty(&inventory).unwrap() + "\n";
        let page = text::render(&inventory);
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for (file, now) in [("expected.json", &*json), ("expected.txt", &*page)] {
            golden(folder.join(file), now);
        }
    }
    assert_eq!(seen, MACHINES.map(Into::into).into());
}

/// A machine of which nothing is known.
pub(super) fn nothing_known() -> Inventory {
    let mut options = options();
    options.only = Some(std::collections::BTreeSet::new());
    collect(&Root::at("/nonexistent"), None, &options)
}

fn fixture() -> Root {
    Root::at(machines().join("qemu-q35-bios/tree"))
}

proptest::proptest! {
    /// A real table with some bytes wrong, which reaches further into the parsers than random bytes do.
    #[test]
    fn a_damaged_table_gives_facts_or_none(
        damage in proptest::collection::vec((0usize..4096, proptest::prelude::any::<u8>()), 1..12),
        cut in 0usize..4096,
    ) {
        let folder = machines().join("server-2s/tree/sys/firmware/dmi/tables");
        let version = smbios::entry_point(&std::fs::read(folder.join("smbios_entry_point")).unwrap());
        let mut bytes = std::fs::read(folder.join("DMI")).unwrap();
        let length = bytes.len();
        for (at, byte) in damage {
            bytes[at % length] = byte;
        }
        bytes.truncate(length - cut % length);
        let table = smbios::SmbiosTable::parse(version, &bytes);
        let dimms = smbios::memory::dimms(&table);
        proptest::prop_assert!(dimms.len() <= table.structures().count());
        let system = smbios::types::system(&table).unwrap_or_default();
        for text in [&system.vendor, &system.serial, &system.uuid].into_iter().flatten() {
            proptest::prop_assert!(!text.chars().any(char::is_control));
        }
        let _ = (
            smbios::types::bios(&table),
            smbios::types::cpu_packages(&table),
            smbios::memory::memory_arrays(&table),
            smbios::types::ipmi_interface(&table),
        );
    }
}

/// A machine whose live sources hang, one for all the questions named.
struct Stuck {
    on: &'static [&'static str],
    hung: AtomicUsize,
}

impl Stuck {
    fn maybe(&self, question: &str) {
        if self.on.contains(&question) {
            self.hung.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

impl LiveSources for Stuck {
    fn permanent_mac(&self, interface: &str) -> io::Result<Option<MacAddr>> {
        self.maybe(interface);
        Ok(Some(MacAddr([0x52, 0x54, 0, 0xbb, 0, 1])))
    }

    fn driver_info(&self, _: &str) -> io::Result<DriverInfo> {
        Ok(DriverInfo {
            firmware: "7.7".to_owned(),
            ..DriverInfo::default()
        })
    }

    fn totals(&self) -> anyhow::Result<Totals> {
        self.maybe("totals");
        Ok(Totals::default())
    }

    fn bmc(&self) -> Result<Box<dyn AskBmc>, BmcError> {
        self.maybe("bmc");
        Err(BmcError::NoDevice)
    }
}

#[test]
fn what_hangs_is_reported_and_the_rest_is_whole() {
    let live = Arc::new(Stuck {
        on: &["bmc", "totals", "eth1"],
        hung: AtomicUsize::new(0),
    });
    let mut options = options();
    // Long enough for the healthy ones on a busy machine, short enough to wait for the others.
    options.limit = Duration::from_secs(6);
    options.slow_limit = Duration::from_secs(6);
    options.bmc_limit = Duration::from_secs(6);
    let started = Instant::now();
    let inventory = collect(&fixture(), Some(live.clone()), &options);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    // Two of them by the two parts that ask for totals.
    assert_eq!(live.hung.load(Ordering::Relaxed), 4);

    assert_eq!(inventory.bmc.status, PartStatus::TimedOut);
    assert!(inventory.bmc.reason.unwrap().starts_with("no answer within"));
    assert!(inventory.bmc.millis >= 5900);

    let nics = inventory.nics.value.unwrap();
    assert_eq!(nics.len(), 3);
    assert_eq!(nics[0].firmware.as_deref(), Some("7.7"));
    assert_eq!(nics[1].driver.as_deref(), Some("e1000e"), "known without ethtool");
    assert_eq!(nics[1].speed_mbps, Some(1000));
    assert_eq!(nics[1].firmware, None);
    assert_eq!(inventory.nics.items.len(), 1);
    assert_eq!(inventory.nics.items[0].item, "eth1.ethtool");
    assert_eq!(inventory.nics.items[0].status, PartStatus::TimedOut);

    for gaps in [&inventory.cpus.items, &inventory.memory.items] {
        let gaps = gaps.iter().filter(|item| item.is_gap());
        assert_eq!(gaps.map(|gap| &*gap.item).collect::<Vec<_>>(), ["sysinfo"]);
    }
    assert_eq!(inventory.cpus.value.unwrap().cores, Some(4));
    assert_eq!(inventory.memory.value.unwrap().dimms.len(), 1);
    assert_eq!(inventory.disks.value.unwrap().len(), 7);
    assert_eq!(inventory.system.status, PartStatus::Ok);
    assert_eq!(inventory.run.status, PartStatus::Ok);
}

#[test]
fn a_probe_that_panics_is_reported() {
    struct Broken;
    impl LiveSources for Broken {
        fn permanent_mac(&self, _: &str) -> io::Result<Option<MacAddr>> {
            Err(io::Error::other("no"))
        }
        fn driver_info(&self, _: &str) -> io::Result<DriverInfo> {
            Err(io::Error::other("no"))
        }
        fn totals(&self) -> anyhow::Result<Totals> {
            Err(anyhow::anyhow!("no"))
        }
        fn bmc(&self) -> Result<Box<dyn AskBmc>, BmcError> {
            panic!("as it happens")
        }
    }
    let inventory = collect(&fixture(), Some(Arc::new(Broken)), &options());
    assert_eq!(inventory.bmc.status, PartStatus::Failed);
    assert!(inventory.bmc.reason.unwrap().contains("as it happens"));
    // The address that the kernel marks as permanent needs no ioctl.
    assert_eq!(
        inventory.nics.value.unwrap()[1].permanent_mac,
        "52:54:00:aa:00:01".parse().ok()
    );
}

#[test]
fn an_empty_tree_gives_reasons_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = collect(&Root::at(dir.path()), None, &options());
    assert_eq!(inventory.system.status, PartStatus::Absent);
    assert_eq!(inventory.disks.status, PartStatus::Absent);
    assert_eq!(inventory.bmc.status, PartStatus::Unsupported);
    assert_eq!(inventory.cpus.status, PartStatus::Failed);
    assert_eq!(inventory.summary(), "unknown machine");
    assert_eq!(inventory.node_id_facts(), (None, Vec::new()));
    assert!(raw_captures(&Root::at(dir.path())).is_empty());
    let page = text::render(&inventory);
    assert!(
        page.contains("System    ABSENT: /sys/firmware/dmi/tables/DMI: not there"),
        "{page}"
    );
}

/// Whatever runs these tests has processors, memory and a kernel.
#[test]
fn the_machine_we_run_on_is_read() {
    let inventory = collect(&Root::live(), Some(Arc::new(ThisMachine)), &options());
    let cpus = inventory.cpus.value.unwrap();
    assert!(cpus.threads.unwrap() >= 1 && cpus.cores.unwrap() <= cpus.threads.unwrap());
    assert_eq!(cpus.arch.as_deref(), Some(std::env::consts::ARCH));
    assert!(inventory.memory.value.unwrap().total_bytes.unwrap() > 1 << 20);
    let run = inventory.run.value.unwrap();
    assert!(run.kernel_release.is_some() && run.kernel_command_line.is_some());
    assert!(run.duration_ms < 60_000);
}

#[test]
fn a_captured_machine_names_its_node() {
    let inventory = collect(&fixture(), None, &options());
    assert_eq!(inventory.summary(), "Example Corp Rack Server 100 EX-100-0001");
    let (uuid, macs) = inventory.node_id_facts();
    assert_eq!(uuid.as_deref(), Some("4c4c4544-0042-3510-8052-b4c04f4a3232"));
    let macs: Vec<String> = macs.iter().map(MacAddr::to_string).collect();
    assert_eq!(macs, ["52:54:00:aa:00:02", "52:54:00:aa:00:01", "52:54:00:aa:00:03"]);
    assert_eq!(
        inventory.boot_mac(),
        "52:54:00:aa:00:02".parse().ok(),
        "no BOOTIF: the first"
    );
    let server = collect(&Root::at(machines().join("server-2s/tree")), None, &options());
    assert_eq!(server.boot_mac(), "b4:96:91:00:00:01".parse().ok());
    let boot: Vec<String> = inventory
        .disks
        .value
        .unwrap()
        .into_iter()
        .filter(|disk| disk.boot_medium)
        .map(|disk| disk.name)
        .collect();
    assert_eq!(boot, ["sdd"]);
    let captures = raw_captures(&fixture());
    let names: Vec<&str> = captures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "smbios/DMI",
            "smbios/smbios_entry_point",
            "cmdline.txt",
            "pci.txt",
            "meminfo.txt",
            "cpuinfo.txt"
        ]
    );
    let pci = String::from_utf8(captures[3].1.clone()).unwrap();
    assert!(pci.contains("0000:00:07.0 class 020000 id 8086:10d3"), "{pci}");
}

/// More than is told of one kind: the part says so among its items.
#[test]
fn a_part_says_what_is_left_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("sys/devices/system/cpu/vulnerabilities");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::create_dir_all(dir.path().join("proc")).unwrap();
    std::fs::write(dir.path().join("proc/cpuinfo"), "processor : 0\n").unwrap();
    for number in 0..300 {
        std::fs::write(folder.join(format!("weakness{number}")), "Vulnerable\n").unwrap();
    }
    let inventory = collect(&Root::at(dir.path()), None, &options());
    let part = inventory.cpus;
    assert_eq!(part.value.unwrap().vulnerabilities.len(), 256);
    let said = part
        .items
        .iter()
        .find(|item| item.item == "vulnerabilities.count")
        .unwrap();
    assert_eq!(said.reason.as_deref(), Some("300, of which 256 are here"));
    assert!(!inventory.nics.items.iter().any(|item| item.item.ends_with("count")));
}
