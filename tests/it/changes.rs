//! What recon changes on a machine, held against README's table of it: every way from the sources to a device or to the
//! settings of the running system is listed here, so that a new one has to be added here and there.

use std::collections::{BTreeMap, BTreeSet};

use crate::layering::{programs, root};

/// The section of README that tells people.
const SECTION: &str = "## What recon changes on a machine";

/// Requests of ioctl(2), and the words of README's table for those that change something.
const IOCTLS: [(&str, Option<&str>); 11] = [
    ("BLKFLSBUF", Some("BLKFLSBUF")),
    ("BLKGETSIZE64", None),
    ("BLKPG", Some("partition `RECON-DATA`")),
    ("BLKROGET", None),
    ("BLKROSET", Some("read-only flag")),
    ("LOOP_CONFIGURE", Some("loop device")),
    ("LOOP_CTL_GET_FREE", Some("loop device")),
    ("NVME_IOCTL_ADMIN_CMD", Some("Identify, Get Log Page")),
    ("SG_IO", Some("SMART READ DATA")),
    ("SIOCETHTOOL", None),
    ("TIOCGWINSZ", None),
];

/// Files that run programs, with the programs.
const PROGRAMS: [(&str, &str); 8] = [
    ("src/cli/console.rs", "a shell for a person"),
    ("src/probe/disks/controllers.rs", "storcli64"),
    ("src/probe/pci/gpu.rs", "nvidia-smi"),
    ("src/probe/disks/drive.rs", "smartctl"),
    ("src/role/settle.rs", "udevadm settle"),
    ("src/role/peer/post/script.rs", "post.sh"),
    ("src/stick/partition/volume.rs", "mkfs.exfat"),
    ("src/sys/power.rs", "systemctl poweroff"),
];

/// Files that open or make something to write to it, with what that is.
const WRITERS: [(&str, &str); 13] = [
    ("src/cli/inventory.rs", "the capture that a person asked for"),
    (
        "src/role/peer/post.rs",
        "the workload's folder and its marker, in memory",
    ),
    ("src/role/failover.rs", "whose peer this machine is, in memory"),
    ("src/role/master/storage.rs", "the data partition"),
    ("src/store/fs_ops.rs", "the data partition"),
    (
        "src/sys/block.rs",
        "a disk that a person named twice, the data partition",
    ),
    ("src/sys/console.rs", "the console"),
    (
        "src/stick/partition/medium.rs",
        "the partition table of the stick, the data partition",
    ),
    ("src/stick/partition/volume.rs", "the data partition"),
    ("src/sys/loopdev.rs", "loop devices"),
    ("src/sys/sandbox.rs", "the workload's control group"),
    ("src/sys/terminal.rs", "the terminal"),
    ("src/sys/tpm.rs", "questions to the TPM"),
];

/// Settings of the running system that are made by netlink and other calls: file, what is called, README's words.
const SETTINGS: [(&str, &str, &str); 10] = [
    ("src/sys/netif.rs", ".up()", "switched on"),
    ("src/sys/netif.rs", ".down()", "switched off again"),
    ("src/sys/netif.rs", ".address().add(", "addresses"),
    ("src/sys/netif.rs", ".address().del(", "addresses"),
    ("src/sys/netif.rs", ".route().add(", "routes"),
    ("src/sys/lldp_socket.rs", "PACKET_MR_", "group addresses"),
    ("src/sys/mount.rs", "libc::mount(", "mounted"),
    ("src/sys/sandbox.rs", "libc::mount(", "memory file system"),
    ("src/sys/power.rs", "libc::reboot(", "power off"),
    ("src/sys/ipmi.rs", "fn power_off(", "power off"),
];

/// File below the root → what is compiled of it.
fn code() -> BTreeMap<String, String> {
    let programs = programs().into_iter();
    programs.map(|(name, text)| (format!("src/{name}"), text)).collect()
}

/// The table, without line breaks.
fn section() -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split(SECTION).nth(1).expect("README has the section");
    section.split("\n## ").next().unwrap_or_default().replace('\n', " ")
}

#[test]
fn every_ioctl_is_known_and_told() {
    let mut used = BTreeSet::new();
    for text in code().values() {
        for call in text.split("libc::ioctl(").skip(1) {
            let request = call.split(',').nth(1).unwrap().split_whitespace().next().unwrap();
            used.insert(request.trim_start_matches("libc::").to_owned());
        }
    }
    let known: BTreeSet<String> = IOCTLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(used, known);
    let told = section();
    for (name, words) in IOCTLS {
        assert!(
            words.is_none_or(|words| told.contains(words)),
            "{name}: README has no {words:?}"
        );
    }
}

#[test]
fn every_program_and_every_file_written_to_is_known() {
    let runs = ["cmd::run", "Command::new("];
    let writes = ["write(true)", "write(write)", "File::create", "fs::write("];
    let (mut running, mut writing) = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in code() {
        // The one place that starts programs for the others.
        if name != "src/sys/cmd.rs" && runs.iter().any(|word| text.contains(word)) {
            running.insert(name.clone());
        }
        if writes.iter().any(|word| text.contains(word)) {
            writing.insert(name);
        }
    }
    let known =
        |list: &[(&str, &str)]| -> BTreeSet<String> { list.iter().map(|(name, _)| (*name).to_owned()).collect() };
    assert_eq!(running, known(&PROGRAMS));
    assert_eq!(writing, known(&WRITERS));
}

#[test]
fn every_setting_is_made_where_it_is_said() {
    let told = section();
    for (name, text) in code() {
        for (_, call, words) in SETTINGS {
            let is_known = SETTINGS.iter().any(|(file, same, _)| *file == name && *same == call);
            assert_eq!(text.contains(call), is_known, "{call} in {name}");
            assert!(told.contains(words), "{call}: README has no {words:?}");
        }
    }
}

#[test]
fn smartctl_and_the_makers_programs_only_ask() {
    let code = code();
    // Options of smartctl that change, test or wake a disk (smartctl(8)).
    let drive = &code["src/probe/disks/drive.rs"];
    for option in [
        "\"-s",
        "\"--smart",
        "\"--set",
        "\"-o",
        "\"--offlineauto",
        "\"-S",
        "\"--saveauto",
        "\"-t",
        "\"--test",
        "\"-X",
        "never\"",
    ] {
        assert!(!drive.contains(option), "smartctl {option}");
    }
    assert!(drive.contains("--nocheck=standby"));
    let makers = &code["src/probe/disks/controllers.rs"];
    for word in [
        " set ", "\"set\"", "add", "del", "start", "create", "modify", "import", "restore",
    ] {
        let quoted = format!("\"{}\"", word.trim_matches('"'));
        assert!(!makers.contains(&quoted), "{quoted}");
    }
}
