//! Counters as the kernel writes them.

use super::*;
use proptest::prelude::*;
use std::fs;

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root::at(dir.path());
    (dir, root)
}

#[test]
fn interrupts_are_summed_over_all_threads() {
    let (_dir, root) = tree(&[
        (
            "proc/interrupts",
            "            CPU0       CPU1\n   0:         36          0   IO-APIC   2-edge  timer\n\
             TRM:          3          4   Thermal event interrupts\n MCE:          0          1   Machine check exceptions\n\
             ERR:          0\n",
        ),
        ("sys/devices/system/machinecheck/machinecheck0/bank0", "ff\n"),
        ("sys/devices/system/machinecheck/machinecheck0/bank1", "ff\n"),
        ("sys/devices/system/machinecheck/machinecheck0/check_interval", "12c\n"),
    ]);
    let found = machine_checks(&root).unwrap();
    assert_eq!(
        found,
        MachineChecks {
            banks: Some(2),
            exceptions: Some(1),
            thermal_interrupts: Some(7),
            ..MachineChecks::default()
        }
    );
}

#[test]
fn pcie_errors_are_named_by_function() {
    let counts = "RxErr 3\nBadTLP 0\nTOTAL_ERR_COR 3\n";
    let (_dir, root) = tree(&[
        ("sys/bus/pci/devices/0000:3b:00.0/aer_dev_correctable", counts),
        (
            "sys/bus/pci/devices/0000:3b:00.0/aer_dev_fatal",
            "Undefined 0\nTOTAL_ERR_FATAL 0\n",
        ),
        ("sys/bus/pci/devices/0000:00:1f.0/class", "0x060100\n"),
        (
            "sys/bus/pci/devices/0000:00:01.0/aer_dev_nonfatal",
            "CmpltTO 0\nTOTAL_ERR_NONFATAL 0\n",
        ),
    ]);
    let found = pcie_errors(&root).unwrap();
    assert_eq!((found.functions, found.corrected, found.fatal), (2, 3, 0));
    assert_eq!(
        found.with_errors,
        [PcieErrorCount {
            pci_address: "0000:3b:00.0".into(),
            corrected: 3,
            nonfatal: 0,
            fatal: 0,
            kinds: vec!["RxErr 3".into()]
        }]
    );
}

#[test]
fn throttling_counts_each_core_once() {
    let mut files = Vec::new();
    for (thread, core, package) in [(0, "0,2", "0"), (1, "1,3", "1"), (2, "0,2", "0"), (3, "1,3", "1")] {
        let at = |file: &str| format!("sys/devices/system/cpu/cpu{thread}/{file}");
        files.push((at("topology/core_cpus_list"), core.to_owned()));
        files.push((at("topology/physical_package_id"), package.to_owned()));
        files.push((at("thermal_throttle/core_throttle_count"), "5".to_owned()));
        files.push((at("thermal_throttle/package_throttle_count"), package.to_owned()));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
    let (_dir, root) = tree(&files);
    let found = throttled(&root).unwrap();
    assert_eq!((found.core_events, found.package_events), (10, 1));
    assert_eq!(found.packages.len(), 2);
    assert_eq!(found.packages[1].package_events, 1);
}

#[test]
fn the_hardware_clock_is_compared() {
    let (_dir, root) = tree(&[
        ("sys/class/rtc/rtc0/since_epoch", "1795300000\n"),
        ("sys/class/rtc/rtc0/name", "rtc_cmos\n"),
        (".recon/clock/realtime-ms", "1795300003500"),
    ]);
    let found = clock(&root).unwrap();
    assert_eq!((&*found.rtc, found.rtc_offset_seconds), ("rtc0", Some(-3)));
    let (_dir, root) = tree(&[("sys/class/rtc/rtc0/since_epoch", "rubbish\n")]);
    assert_eq!(clock(&root).unwrap_err().0, PartStatus::Failed);
}

#[test]
fn taint_is_told_in_words() {
    assert_eq!(taint_reasons(0), Vec::<String>::new());
    let told = taint_reasons(1 << 4 | 1 << 12 | 1 << 63);
    assert_eq!(
        told,
        [
            "a processor reported a machine check",
            "a module from outside the kernel tree was loaded",
            "bit 63"
        ]
    );
}

#[test]
fn an_error_of_the_last_start_is_found() {
    let mut region = vec![0u8; 20];
    assert_eq!(parse_boot_error(&region), None);
    region[..4].copy_from_slice(&(1u32 | 2 << 4).to_le_bytes());
    region[16..].copy_from_slice(&1u32.to_le_bytes());
    let found = parse_boot_error(&region).unwrap();
    assert_eq!((&*found.severity, found.entries), ("fatal", 2));
    assert_eq!(parse_boot_error(&region[..18]), None);
}

#[test]
fn a_tree_without_anything_says_so_piece_by_piece() {
    let (_dir, root) = tree(&[]);
    let part = health(&root, Duration::from_secs(30));
    assert_eq!(part.value, Some(Health::default()));
    assert_eq!(part.items.len(), 9);
    assert!(
        part.items
            .iter()
            .all(|item| item.status != PartStatus::Ok && item.reason.is_some())
    );
}

proptest! {
    #[test]
    fn any_counter_file_is_read(text in "([A-Za-z_ ]{0,9}:?[ ]?[0-9]{0,21}[ \n]?){0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = (aer_counts(&text), architecture_counts(&text).count(), parse_boot_error(&bytes));
    }
}
