//! Raw captures beside the document, so that a person can check a parser against what it read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::root::{ANSWERS, Recorded, Root};
use super::run;
use super::timebox::{self, Outcome, Pending};
use crate::probe::smbios::source;
use crate::probe::{bus, cpu, memory, pci};

/// Bound of all captures of one node together.
pub(crate) const TOTAL_LIMIT: usize = 4 * 1024 * 1024;
/// All captures together may take this long.
const LIMIT: Duration = Duration::from_secs(5);

/// Captures by name, relative to the upload's `raw/`. What cannot be read, hangs, or would go beyond
/// [`TOTAL_LIMIT`] is left out; the document says why where it matters.
pub fn raw_captures(root: &Root) -> Vec<(String, Vec<u8>)> {
    fn start<T: Send + 'static>(root: &Root, work: fn(&Root) -> T) -> Pending<T> {
        let root = root.clone();
        timebox::spawn("raw-capture", move || work(&root))
    }
    fn file(root: &Root, path: &str, limit: u64) -> Option<Vec<u8>> {
        root.seen(path).or_else(|| root.bytes(path, limit).ok())
    }
    let start_one = |work| start(root, work);
    let pending: [(&str, Pending<Option<Vec<u8>>>); 6] = [
        (
            "smbios/DMI",
            start_one(|root| file(root, source::SOURCE, source::TABLE_LIMIT)),
        ),
        (
            "smbios/smbios_entry_point",
            start_one(|root| file(root, source::ENTRY_POINT, 4096)),
        ),
        ("cmdline.txt", start_one(command_line)),
        ("pci.txt", start_one(|root| Some(pci_listing(root).into_bytes()))),
        (
            "meminfo.txt",
            start_one(|root| file(root, memory::MEMINFO, memory::MEMINFO_LIMIT)),
        ),
        (
            "cpuinfo.txt",
            start_one(|root| file(root, cpu::CPUINFO, cpu::CPUINFO_LIMIT)),
        ),
    ];
    // Nothing is asked again: what the probes were told is there already.
    let answers = start(root, recorded);
    let deadline = Instant::now() + LIMIT;
    let named = pending
        .into_iter()
        .filter_map(|(name, pending)| match pending.wait(deadline) {
            Outcome::Done { value, .. } => Some((name.to_owned(), value?)),
            _ => None,
        });
    let mut captures: Vec<(String, Vec<u8>)> = named.collect();
    if let Outcome::Done { value, .. } = answers.wait(deadline) {
        captures.extend(value);
    }
    let mut left = TOTAL_LIMIT;
    captures.retain(|(_, bytes)| {
        let fits = !bytes.is_empty() && bytes.len() <= left;
        left -= if fits { bytes.len() } else { 0 };
        fits
    });
    captures
}

fn command_line(root: &Root) -> Option<Vec<u8>> {
    let text = root.text("/proc/cmdline", run::CMDLINE_LIMIT).ok()?;
    Some(run::without_secrets(text.trim()).into_bytes())
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
    let addresses = root.list(DEVICES).unwrap_or_default();
    for address in addresses.into_iter().take(pci::MAX_FUNCTIONS) {
        let id = |file: &str| {
            let value = root.value(format!("{DEVICES}/{address}/{file}")).unwrap_or_default();
            value.strip_prefix("0x").unwrap_or("?").to_owned()
        };
        let driver = root.link_name(format!("{DEVICES}/{address}/driver"));
        listing.push_str(&format!(
            "{address} class {} id {}:{} subsystem {}:{} driver {}\n",
            id("class"),
            id("vendor"),
            id("device"),
            id("subsystem_vendor"),
            id("subsystem_device"),
            driver.as_deref().unwrap_or("-"),
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
