//! Disks that come while a collection is under way.

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::model::inventory::{Disk, Inventory, Item, Nvme, Part, PartStatus};
use crate::probe::disks::watch::{Loader, Watch};

fn disk(name: &str) -> Disk {
    crate::probe::disks::entry::nameless(name)
}

fn plug(dir: &Path, name: &str) {
    std::fs::create_dir_all(dir.join(format!("sys/block/{name}/device"))).unwrap();
}

fn only(names: &[&str]) -> Options {
    Options {
        only: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        cable_wait: Duration::ZERO,
        ..Options::new("2026-11-26T00:00:00Z")
    }
}

fn told(inventory: &Inventory) -> Vec<(String, bool)> {
    let disks = inventory.disks.value.as_deref().unwrap_or_default();
    disks
        .iter()
        .map(|disk| (disk.name.clone(), disk.appeared_after_ms.is_some()))
        .collect()
}

#[test]
fn what_comes_before_the_last_take_is_in_it_and_named() {
    let dir = tempfile::tempdir().unwrap();
    plug(dir.path(), "sda");
    std::fs::create_dir_all(dir.path().join("proc")).unwrap();
    std::fs::write(dir.path().join("proc/uptime"), "7.00 3.00\n").unwrap();
    let root = Root::at(dir.path());
    let options = Options {
        watch: Some(Watch::start(root.clone(), None)),
        ..only(&["disks", "storage_controllers", "pci", "usb"])
    };
    let mut collection = Collection::start(&root, None, &options);
    collection.settle_slow();
    assert!(!collection.is_storage_done(), "nothing is over before it was quiet");
    assert_eq!(told(&collection.inventory()), [("sda".to_owned(), false)]);
    plug(dir.path(), "sdb");
    plug(dir.path(), "sdc");
    let unfinished = collection.settle_storage();
    assert_eq!(unfinished, Vec::new());
    assert!(collection.is_storage_done());
    // The site's own work takes its time.
    plug(dir.path(), "nvme0n1");
    assert!(!collection.is_storage_done());
    assert_eq!(collection.take_late_disks(), ["nvme0n1"]);
    let inventory = collection.inventory();
    let names = [("sda", false), ("sdb", true), ("sdc", true), ("nvme0n1", true)];
    assert_eq!(told(&inventory), names.map(|(name, late)| (name.to_owned(), late)));
    let sentence = collection.late_sentence().unwrap();
    // In the order they came.
    let at = |name: &str| sentence.find(&format!("{name} after ")).unwrap();
    assert!(sentence.starts_with("disks that came late: sdb after "), "{sentence}");
    assert!(at("sdb") < at("sdc") && at("sdc") < at("nvme0n1"), "{sentence}");
    // One that went away is kept, and said.
    std::fs::remove_dir_all(dir.path().join("sys/block/sdb")).unwrap();
    assert_eq!(collection.take_late_disks(), Vec::<String>::new());
    let gone = collection.inventory().disks.items;
    assert_eq!(gone.iter().filter(|item| item.item == "sdb.gone").count(), 1);
}

#[test]
fn a_way_that_never_ends_is_an_item_and_a_machine_that_runs_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    plug(dir.path(), "sda");
    let function = dir.path().join("sys/bus/pci/devices/0000:03:00.0");
    std::fs::create_dir_all(&function).unwrap();
    std::fs::write(function.join("class"), "0x010400\n").unwrap();
    std::fs::create_dir_all(dir.path().join("sys/bus/pci/drivers/megaraid_sas")).unwrap();
    std::os::unix::fs::symlink("../../drivers/megaraid_sas", function.join("driver")).unwrap();
    std::fs::create_dir_all(dir.path().join("proc")).unwrap();
    std::fs::write(dir.path().join("proc/uptime"), "86400.00 3.00\n").unwrap();
    let root = Root::at(dir.path());
    let options = Options {
        watch: Some(Watch::start(root.clone(), None)),
        ..only(&["disks"])
    };
    let begun = Instant::now();
    let inventory = collect(&root, None, &options);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let items = inventory.disks.items;
    let item = items.iter().find(|item| item.status == PartStatus::TimedOut).unwrap();
    assert_eq!(item.item, "still looking: 0000:03:00.0 (megaraid_sas)");
    assert!(
        item.reason
            .as_deref()
            .unwrap()
            .contains("disks behind it may be missing")
    );
}

/// Drivers of which one failed, once.
#[derive(Debug, Default)]
struct Failed(std::sync::Mutex<Vec<String>>);

impl Loader for Failed {
    fn lost(&self) -> Duration {
        Duration::ZERO
    }

    fn idle_since(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }

    fn not_loaded(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn a_driver_that_is_not_there_is_an_item_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    plug(dir.path(), "sda");
    let root = Root::at(dir.path());
    let failed = std::sync::Arc::new(Failed(std::sync::Mutex::new(vec!["megaraid_sas".to_owned()])));
    let options = Options {
        watch: Some(Watch::start(root.clone(), Some(failed.clone()))),
        ..only(&["disks"])
    };
    let mut collection = Collection::start(&root, None, &options);
    collection.settle_slow();
    for _ in 0..2 {
        let items = collection.inventory().disks.items;
        let named: Vec<_> = items.iter().filter(|item| item.status == PartStatus::Failed).collect();
        assert_eq!(named.len(), 1, "{items:?}");
        assert_eq!(named[0].item, "driver megaraid_sas");
        let reason = "could not be loaded; disks behind it may be missing";
        assert_eq!(named[0].reason.as_deref(), Some(reason));
    }
    failed.0.lock().unwrap().clear();
    assert!(
        collection
            .inventory()
            .disks
            .items
            .iter()
            .all(|item| item.status != PartStatus::Failed)
    );
}

#[test]
fn late_disks_join_the_list() {
    let nvme = |controller: &str| {
        Some(Nvme {
            controller: controller.to_owned(),
            ..Nvme::default()
        })
    };
    let bare = Disk {
        nvme: nvme("nvme0"),
        ..disk("nvme0")
    };
    let path = |name: &str| Disk {
        hctl: Some(format!("1:0:0:{name}")),
        wwn: Some("naa.5000".to_owned()),
        serial: Some("S1".to_owned()),
        ..disk(name)
    };
    let mut part = Part::ok("test", vec![bare, disk("sda"), path("sdb")]);
    let namespace = Disk {
        nvme: nvme("nvme0"),
        ..disk("nvme0n1")
    };
    let late = Part::ok("test", vec![path("sdaa"), namespace, disk("sda"), disk("sdc")]);
    crate::probe::disks::list::add(&mut part, late.with_items(vec![Item::ok("sdc.content", "", 1)]));
    let disks = part.value.as_deref().unwrap();
    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["sda", "sdb", "sdc", "nvme0n1"]);
    assert_eq!(disks[1].other_paths, ["sdaa"]);
    assert_eq!(part.items.len(), 1);
    // The first disk of a machine without any.
    let mut part: Part<Vec<Disk>> = Part::missing(PartStatus::Absent, "/sys/block", "not there");
    crate::probe::disks::list::add(&mut part, Part::ok("test", vec![disk("sda")]));
    assert_eq!(
        (part.status, part.value.map(|disks| disks.len())),
        (PartStatus::Ok, Some(1))
    );
}
