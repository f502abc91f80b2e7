//! Files of a server that never answer: whatever three hang, the rest is complete, and what hangs is named.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::tests::{machines, options, timeless};
use super::*;
use crate::model::inventory::Inventory;

const CARD: &str = "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0";
const HBA: &str = "sys/devices/pci0000:17/0000:17:00.0/0000:18:00.0";

/// Time box of the parts in seconds: long enough for the healthy ones on a busy machine, all sets running at once.
const LIMIT: u64 = 12;

/// A file that hangs, and the parts that read it.
fn sources() -> Vec<(PathBuf, &'static [&'static str])> {
    let cpu = "sys/devices/system/cpu";
    let all: Vec<(String, &[&str])> = vec![
        (
            "sys/firmware/dmi/tables/DMI".into(),
            &["system", "bios", "memory", "cpus", "security", "bmc"],
        ),
        (format!("{CARD}/vpd"), &["pci"]),
        ("sys/devices/system/edac/mc/mc0/ce_count".into(), &["memory", "health"]),
        (format!("{CARD}/net/ens1f0/carrier"), &["nics", "cabling"]),
        (format!("{cpu}/cpu6/cache/index0/size"), &["cpus"]),
        (
            format!("{HBA}/host0/port-0:1/end_device-0:1/target0:0:1/0:0:1:0/model"),
            &["disks"],
        ),
        (
            "sys/devices/pci0000:00/0000:00:14.0/usb1/1-14/idVendor".into(),
            &["usb"],
        ),
        (format!("{CARD}/current_link_speed"), &["pci"]),
        ("proc/meminfo".into(), &["memory"]),
        (
            format!("{HBA}/host0/scsi_host/host0/board_name"),
            &["storage_controllers"],
        ),
        (
            "sys/firmware/efi/efivars/Boot0002-8be4df61-93ca-11d2-aa0d-00e098032b8c".into(),
            &["security"],
        ),
        (format!("{cpu}/cpu6/thermal_throttle/core_throttle_count"), &["health"]),
        ("sys/devices/system/node/node0/distance".into(), &["memory"]),
        (
            "sys/devices/pci0000:5d/0000:5d:02.0/0000:5e:00.0/nvme/nvme0/model".into(),
            &["disks", "storage_controllers"],
        ),
        ("proc/cpuinfo".into(), &["cpus"]),
    ];
    all.into_iter()
        .map(|(path, parts)| (PathBuf::from(path), parts))
        .collect()
}

fn server(stuck: Vec<PathBuf>, seconds: u64) -> Inventory {
    let mut options = options();
    options.limit = Duration::from_secs(seconds);
    options.slow_limit = Duration::from_secs(seconds);
    options.bmc_limit = Duration::from_secs(seconds);
    collect(&Root::stuck(machines().join("server-2s/tree"), stuck), None, &options)
}

#[test]
fn any_three_that_hang_leave_the_rest_whole() {
    let sources = sources();
    let whole = timeless(&server(Vec::new(), 60));
    // Sources far apart in the list; each is in three sets.
    let count = sources.len();
    let sets = (0..count).map(|first| [first, (first + 4) % count, (first + 8) % count]);
    let running: Vec<_> = sets
        .map(|set| {
            let stuck = set.map(|index| sources[index].0.clone()).to_vec();
            let mut touched: BTreeSet<&str> = set.iter().flat_map(|index| sources[*index].1).copied().collect();
            // That list is made of other parts.
            if touched.iter().any(|part| super::firmware::PARTS.contains(part)) {
                touched.insert("firmware");
            }
            (
                set,
                touched,
                thread::spawn(move || (Instant::now(), server(stuck, LIMIT), Instant::now())),
            )
        })
        .collect();
    let mut wrong = Vec::new();
    for (set, touched, running) in running {
        let (begun, inventory, ended) = running.join().unwrap();
        assert!(
            ended - begun < Duration::from_secs(2 * LIMIT),
            "{set:?}: {:?}",
            ended - begun
        );
        let told = timeless(&inventory);
        for part in Inventory::PARTS.into_iter().filter(|part| *part != "run") {
            if touched.contains(part) {
                let mut gaps = told[part]["items"].as_array().into_iter().flatten();
                let is_named = told[part]["status"] == "timed_out" || gaps.any(|gap| gap["status"] == "timed_out");
                if !is_named {
                    wrong.push(format!("{set:?}: {part} does not say what hangs"));
                }
                // The first two have no other source; the others are asked otherwise on a running machine.
                let may_be_lost = ["system", "bios", "bmc", "cabling"].contains(&part);
                if told[part]["value"].is_null() && !may_be_lost {
                    wrong.push(format!("{set:?}: nothing is left of {part}"));
                }
            } else if told[part] != whole[part] {
                wrong.push(format!("{set:?}: {part} is not whole"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
