//! What recon changes on a machine, held against README's table of it: every way from the sources to a device or to the
//! settings of the running system is listed here, so that a new one has to be added here and there.

use std::collections::{BTreeMap, BTreeSet};

use recon::sys::program::{PROGRAMS, Program};

use crate::layering::{programs, root};

/// The section of README that tells people.
const SECTION: &str = "## What recon changes on a machine";

/// Requests of ioctl(2), and the words of README's table for those that change something.
const IOCTLS: [(&str, Option<&str>); 12] = [
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
    ("TIOCSCTTY", Some("a shell on each console")),
];

/// Files that run programs, with the programs, and the words of README's table for those that change something or may.
const STARTED: [(&str, Program, Option<&str>); 16] = [
    ("src/cli/console.rs", Program::Bash, None),
    ("src/probe/disks/controllers.rs", Program::Arcconf, Some("`arcconf`")),
    ("src/probe/disks/controllers.rs", Program::Perccli, Some("`perccli64`")),
    ("src/probe/disks/controllers.rs", Program::Ssacli, Some("`ssacli`")),
    ("src/probe/disks/controllers.rs", Program::Storcli, Some("`storcli64`")),
    (
        "src/probe/disks/drive.rs",
        Program::Smartctl,
        Some("`smartctl --all --nocheck=standby`"),
    ),
    ("src/image/squashfs.rs", Program::Sqfstar, None),
    ("src/probe/pci/gpu.rs", Program::NvidiaSmi, Some("`nvidia-smi`")),
    ("src/role/peer/post/script.rs", Program::Sh, Some("`post.sh`")),
    ("src/role/settle.rs", Program::Udevadm, None),
    ("src/stick/partition.rs", Program::FsckExfat, Some("`fsck.exfat`")),
    ("src/stick/partition.rs", Program::MkfsExfat, Some("`mkfs.exfat`")),
    ("src/sys/kexec.rs", Program::Systemctl, Some("`systemctl kexec`")),
    ("src/sys/power.rs", Program::Systemctl, Some("`systemctl poweroff`")),
    ("src/sys/power.rs", Program::Systemctl, Some("`systemctl reboot`")),
    ("src/sys/shell.rs", Program::Sh, Some("a shell on each console")),
];

/// Files that only ask whether a program is there.
const ASKS: [(&str, Program); 1] = [("src/probe/disks/raid_ask.rs", Program::Smartctl)];

/// Files that open or make something to write to it, with what that is.
const WRITERS: [(&str, &str); 26] = [
    ("src/cli/inventory.rs", "the capture that a person asked for"),
    (
        "src/role/peer/post.rs",
        "the workload's folder and its marker, in memory",
    ),
    ("src/image/make.rs", "the image that a person asked for"),
    ("src/image/stage/mod.rs", "the first stage of an image that is built"),
    ("src/store/images.rs", "the data partition"),
    ("src/role/node.rs", "what process 1 is told, in memory"),
    ("src/role/node/places.rs", "the packed root of a node, in memory"),
    ("src/role/node/system.rs", "who a node is, in memory"),
    ("src/sys/tree.rs", "the folder that a person named to unpack to"),
    ("src/role/first_stage/pack.rs", "drivers and programs, in memory"),
    ("src/role/init.rs", "the log of the first stage, in memory"),
    ("src/sys/process.rs", "which process the kernel spares"),
    (
        "src/role/boot_node/uplink.rs",
        "name servers for who resolves names, in memory",
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
    ("src/stick/partition.rs", "the data partition"),
    ("src/sys/loopdev.rs", "loop devices"),
    ("src/sys/sandbox.rs", "the workload's control group"),
    ("src/sys/shell.rs", "a shell's terminal"),
    ("src/sys/terminal.rs", "the terminal"),
    ("src/sys/tpm.rs", "questions to the TPM"),
    ("src/sys/watchdog.rs", "the watchdog of the first stage"),
];

/// Settings of the running system that are made by netlink and other calls: file, what is called, README's words.
const SETTINGS: [(&str, &str, &str); 19] = [
    ("src/sys/netif.rs", ".up()", "switched on"),
    ("src/sys/netif.rs", ".down()", "switched off again"),
    ("src/sys/netif.rs", "(index).name(", "renamed"),
    ("src/sys/netif.rs", ".address().add(", "addresses"),
    ("src/sys/netif.rs", ".address().del(", "addresses"),
    ("src/sys/netif.rs", ".route().add(", "routes"),
    ("src/sys/netif.rs", "LinkVlan::new", "VLAN"),
    ("src/sys/netif.rs", "LinkBond::new", "bond"),
    ("src/sys/clock.rs", "clock_settime", "system's clock"),
    ("src/sys/lldp_socket.rs", "PACKET_MR_", "group addresses"),
    ("src/sys/mount.rs", "libc::mount(", "mounted"),
    ("src/sys/sandbox.rs", "libc::mount(", "memory file system"),
    ("src/sys/init.rs", "libc::execve(", "takes the place of the first stage"),
    ("src/sys/kexec.rs", "SYS_kexec_file_load", "another kernel is loaded"),
    ("src/sys/kexec.rs", "libc::reboot(", "started in the place"),
    ("src/sys/power.rs", "libc::reboot(", "power off"),
    ("src/sys/ipmi.rs", "fn power_off(", "power off"),
    ("src/sys/kmodule.rs", "finit_module", "drivers are loaded"),
    ("src/sys/watchdog.rs", "self.0.write_all(FED)", "watchdog"),
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
fn every_program_is_known_and_told() {
    let code = code();
    // Whoever starts one has to name it, and the type has no names but those of its table.
    let starters = code.iter().filter(|(_, text)| text.contains("Command::new("));
    let starters: Vec<&str> = starters.map(|(name, _)| name.as_str()).collect();
    assert_eq!(starters, ["src/sys/cmd.rs", "src/sys/program.rs"]);
    let mut named = BTreeSet::new();
    for (name, text) in code.iter().filter(|(name, _)| *name != "src/sys/program.rs") {
        let words = text.split("Program::").skip(1);
        let words = words.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap());
        named.extend(words.map(|word| (name.as_str(), word.to_owned())));
    }
    let started = STARTED
        .map(|(file, program, _)| (file, program))
        .into_iter()
        .chain(ASKS);
    let known: BTreeSet<_> = started.map(|(file, program)| (file, format!("{program:?}"))).collect();
    assert_eq!(named, known);
    let told = section();
    for (_, program, words) in STARTED {
        assert!(
            words.is_none_or(|words| told.contains(words)),
            "{program}: README has no {words:?}"
        );
    }
    for program in PROGRAMS {
        assert!(
            STARTED.iter().any(|(_, started, _)| started == program),
            "nobody starts {program}"
        );
    }
}

/// Lines of the table that say of a program that the binary starts it, and no others.
#[test]
fn every_program_has_a_package() {
    let table = std::fs::read_to_string(root().join("kiwi/programs.tsv")).unwrap();
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split('\t').collect::<Vec<_>>());
    let named = fields.filter(|fields| fields[1].starts_with("binary: "));
    let named: BTreeSet<String> = named.map(|fields| fields[0].to_owned()).collect();
    assert_eq!(named, PROGRAMS.iter().map(ToString::to_string).collect());
}

#[test]
fn every_file_written_to_is_known() {
    let writes = [
        "write(true)",
        "write(write)",
        "File::create",
        "fs::write(",
        "OFlags::WRONLY",
        "OFlags::CREATE",
    ];
    let writing = code()
        .into_iter()
        .filter(|(_, text)| writes.iter().any(|word| text.contains(word)));
    let writing: BTreeSet<String> = writing.map(|(name, _)| name).collect();
    assert_eq!(writing, WRITERS.iter().map(|(name, _)| (*name).to_owned()).collect());
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
