//! The arrows between folders of `src`, as ARCHITECTURE.md draws them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folder → what it may name with `crate::`. Its own folder is always allowed.
const ALLOWED: [(&str, &[&str]); 9] = [
    ("model", &[]),
    ("config", &["model"]),
    ("probe", &["model", "sys"]),
    ("store", &["model", "sys"]),
    ("media", &["model", "store", "sys"]),
    ("sys", &["model", "media"]),
    ("service", &["config", "model", "store", "sys"]),
    (
        "role",
        &["config", "media", "model", "probe", "service", "store", "sys"],
    ),
    (
        "cli",
        &["config", "media", "model", "probe", "role", "service", "store", "sys"],
    ),
];

/// Files whose decisions must not see the system, a socket or the clock.
const PURE: [&str; 83] = [
    "src/config/cmdline.rs",
    "src/config/settings.rs",
    "src/config/wire.rs",
    "src/media/exfat.rs",
    "src/media/iso9660.rs",
    "src/model/identity.rs",
    "src/model/identity/document.rs",
    "src/model/identity/same.rs",
    "src/model/lease.rs",
    "src/model/ula.rs",
    "src/probe/efi/device_path.rs",
    "src/probe/efi/device_path_names.rs",
    "src/probe/efi/load_option.rs",
    "src/probe/ipmi/events.rs",
    "src/probe/ipmi/fru_area.rs",
    "src/probe/ipmi/names.rs",
    "src/probe/ipmi/sdr_record.rs",
    "src/probe/ipmi/sel_text.rs",
    "src/probe/ipmi/supplies.rs",
    "src/probe/kmsg.rs",
    "src/probe/link_modes.rs",
    "src/probe/lldp/cdp.rs",
    "src/probe/lldp/lldp.rs",
    "src/probe/lldp/mod.rs",
    "src/probe/lldp/pcap.rs",
    "src/probe/optics.rs",
    "src/probe/scsi.rs",
    "src/probe/smbios/platform.rs",
    "src/probe/smbios/platform_names.rs",
    "src/probe/smbios/types.rs",
    "src/probe/storage/ata_smart.rs",
    "src/probe/storage/filesystems.rs",
    "src/probe/storage/members.rs",
    "src/probe/storage/nvme.rs",
    "src/probe/storage/partition_types.rs",
    "src/probe/storage/partitions.rs",
    "src/probe/storage/scsi_log.rs",
    "src/probe/storage/signatures.rs",
    "src/probe/storage/smartctl.rs",
    "src/probe/tpm/command.rs",
    "src/probe/vpd.rs",
    "src/role/elect.rs",
    "src/role/elect/words.rs",
    "src/role/retry.rs",
    "src/service/bootfiles.rs",
    "src/service/climb.rs",
    "src/service/dhcp4/asking.rs",
    "src/service/dhcp4/claims.rs",
    "src/service/dhcp4/client.rs",
    "src/service/dhcp4/door.rs",
    "src/service/dhcp4/layout.rs",
    "src/service/dhcp4/leases.rs",
    "src/service/dhcp4/leases/gaps.rs",
    "src/service/dhcp4/logic.rs",
    "src/service/dhcp4/patience.rs",
    "src/service/dhcp4/probe.rs",
    "src/service/dhcp4/proxy.rs",
    "src/service/dhcp4/quirks.rs",
    "src/service/dhcp4/states.rs",
    "src/service/dhcp4/wire.rs",
    "src/service/dhcp6/client.rs",
    "src/service/dhcp6/leases.rs",
    "src/service/dhcp6/logic.rs",
    "src/service/dhcp6/probe.rs",
    "src/service/dhcp6/wire.rs",
    "src/service/dns/logic.rs",
    "src/service/grub.rs",
    "src/service/http/admission.rs",
    "src/service/http/condition.rs",
    "src/service/http/range.rs",
    "src/service/http/route.rs",
    "src/service/ipxe.rs",
    "src/service/ladder.rs",
    "src/service/metrics.rs",
    "src/service/ra/schedule.rs",
    "src/service/ra/watch.rs",
    "src/service/ra/wire.rs",
    "src/service/script.rs",
    "src/service/start.rs",
    "src/service/tftp/packet.rs",
    "src/service/tftp/transfer.rs",
    "src/store/leases/book.rs",
    "src/store/nodes/home.rs",
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The text without its unit tests and comments, which may name anything.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn folders_use_only_what_they_may() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut wrong = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(root().join("src")).unwrap();
        let folder = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        let is_test = relative.file_name().is_some_and(|name| name == "tests.rs");
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == folder).filter(|_| !is_test) else {
            continue;
        };
        for used in code(&file).split("crate::").skip(1) {
            let name: String = used
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let known = ALLOWED.iter().any(|(folder, _)| *folder == name);
            if known && name != folder && !allowed.contains(&name.as_str()) {
                wrong.insert(format!("{} uses crate::{name}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn decisions_see_no_socket_file_or_clock() {
    for file in PURE {
        let text = code(&root().join(file));
        for word in [
            "tokio::",
            "std::fs",
            "std::net::UdpSocket",
            "std::net::Tcp",
            "Instant::now",
            "SystemTime::now",
            "crate::sys",
            "rand::",
        ] {
            assert!(!text.contains(word), "{file} uses {word}");
        }
    }
}

#[test]
fn only_sys_is_unsafe() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let outside: Vec<_> = files
        .iter()
        .filter(|file| !file.starts_with(root().join("src/sys")) && code(file).contains("unsafe {"))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}
