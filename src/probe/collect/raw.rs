//! Raw captures beside the document, so that a person can check a parser against what it read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::root::{ANSWERS, Recorded, Root};
use super::run;
use super::timebox::{self, Outcome};
use crate::probe::smbios::source;
use crate::probe::{bus, cpu, memory};

/// Bound of all captures of one node together.
pub(crate) const TOTAL_LIMIT: usize = 4 * 1024 * 1024;
/// All captures together may take this long.
const LIMIT: Duration = Duration::from_secs(5);

/// Captures by name, relative to the upload's `raw/`. What cannot be read, hangs, or would go beyond
/// [`TOTAL_LIMIT`] is left out; the document says why where it matters.
pub fn raw_captures(root: &Root) -> Vec<(String, Vec<u8>)> {
    let file = |name: &'static str, path: &'static str, limit: u64| {
        let root = root.clone();
        (
            name,
            timebox::spawn("raw-capture", move || {
                root.seen(path).or_else(|| root.bytes(path, limit).ok())
            }),
        )
    };
    let command_line = {
        let root = root.clone();
        timebox::spawn("raw-capture", move || {
            let text = root.text("/proc/cmdline", run::CMDLINE_LIMIT).ok()?;
            Some(run::without_secrets(text.trim()).into_bytes())
        })
    };
    let pci = {
        let root = root.clone();
        timebox::spawn("raw-capture", move || Some(pci_listing(&root).into_bytes()))
    };
    let answers = {
        let root = root.clone();
        // Nothing is asked again: what the probes were told is there already.
        timebox::spawn("raw-capture", move || recorded(&root))
    };
    let pending = [
        file("smbios/DMI", source::SOURCE, source::TABLE_LIMIT),
        file("smbios/smbios_entry_point", source::ENTRY_POINT, 4096),
        ("cmdline.txt", command_line),
        ("pci.txt", pci),
        file("meminfo.txt", "/proc/meminfo", memory::MEMINFO_LIMIT),
        file("cpuinfo.txt", "/proc/cpuinfo", cpu::CPUINFO_LIMIT),
    ];
    let deadline = Instant::now() + LIMIT;
    let mut left = TOTAL_LIMIT;
    let mut captures = Vec::new();
    for (name, pending) in pending {
        if let Outcome::Done { value: Some(bytes), .. } = pending.wait(deadline)
            && !bytes.is_empty()
            && bytes.len() <= left
        {
            left -= bytes.len();
            captures.push((name.to_owned(), bytes));
        }
    }
    if let Outcome::Done { value, .. } = answers.wait(deadline) {
        for (name, bytes) in value.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            if bytes.len() <= left {
                left -= bytes.len();
                captures.push((name, bytes));
            }
        }
    }
    captures
}

/// Answers that stay out of an upload: what the management controller's stores were read in, hundreds of pieces (the whole of
/// each store is kept beside), and what stands on the disks, which is the site's and not the machine's.
const PIECES: [&str; 4] = ["ipmi/0a-11-", "ipmi/0a-23-", "ipmi/0a-43-", "block/"];

/// What a recording root was told by devices: answers to ioctls and programs, frames of switches, Vital Product Data.
fn recorded(root: &Root) -> Vec<(String, Vec<u8>)> {
    let name = |path: &Path| -> Option<String> {
        if let Ok(answer) = path.strip_prefix(ANSWERS) {
            let answer = answer.to_str()?;
            return (!PIECES.iter().any(|piece| answer.starts_with(piece))).then(|| answer.to_owned());
        }
        let card = path.parent()?.file_name()?.to_str()?;
        let is_vpd = path.file_name()? == "vpd" && bus::is_pci_address(card);
        is_vpd.then(|| format!("vpd/{card}"))
    };
    let file = |(path, what): (PathBuf, Recorded)| match what {
        Recorded::File(bytes) => Some((name(&path)?, bytes)),
        Recorded::Link(_) | Recorded::Folder => None,
    };
    root.kept()
        .into_iter()
        .chain(root.recorded().into_iter().filter_map(file))
        .collect()
}

/// One line a PCI function: address, class, vendor:device, subsystem, driver.
fn pci_listing(root: &Root) -> String {
    const DEVICES: &str = "/sys/bus/pci/devices";
    let mut listing = String::new();
    for address in root
        .list(DEVICES)
        .unwrap_or_default()
        .into_iter()
        .take(crate::probe::pci::MAX_FUNCTIONS)
    {
        let id = |file: &str| {
            let value = root.value(format!("{DEVICES}/{address}/{file}")).unwrap_or_default();
            value.strip_prefix("0x").unwrap_or("?").to_owned()
        };
        listing.push_str(&format!(
            "{address} class {} id {}:{} subsystem {}:{} driver {}\n",
            id("class"),
            id("vendor"),
            id("device"),
            id("subsystem_vendor"),
            id("subsystem_device"),
            root.link_name(format!("{DEVICES}/{address}/driver"))
                .unwrap_or_else(|| "-".to_owned()),
        ));
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_answered_is_kept_as_it_came() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machines/server-2s/tree");
        let root = Root::recording(tree);
        root.ask("cabling/eno1.pcap", || Ok(Vec::new())).unwrap();
        root.bytes("/sys/bus/pci/devices/0000:3b:00.0/vpd", 4096).unwrap();
        let captures = raw_captures(&root);
        let of = |wanted: &str| captures.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| bytes);
        assert_eq!(of("cabling/eno1.pcap").unwrap()[..4], 0xa1b2_c3d4u32.to_le_bytes());
        assert_eq!(of("vpd/0000:3b:00.0").unwrap()[0], 0x82);
        assert!(
            captures.iter().all(|(name, _)| !name.ends_with("address")),
            "attributes are in the document"
        );
    }

    #[test]
    fn captures_stay_within_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/cpuinfo"), vec![b'c'; TOTAL_LIMIT]).unwrap();
        std::fs::write(dir.path().join("proc/meminfo"), b"MemTotal: 1 kB\n").unwrap();
        std::fs::write(dir.path().join("proc/cmdline"), b"recon.token=x quiet\n").unwrap();
        let captures = raw_captures(&Root::at(dir.path()));
        let names: Vec<&str> = captures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["cmdline.txt", "meminfo.txt"]);
        assert_eq!(captures[0].1, b"recon.token=*** quiet");
    }
}
