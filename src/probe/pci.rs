//! PCI functions, from `/sys/bus/pci/devices`.
//!
//! First what the kernel holds in memory, handed out at once; then what takes a question to the device: link, power and
//! error counts, each device in a time box of its own; last the Vital Product Data, which goes through a slow mailbox
//! and hangs on some cards.

pub(crate) mod cxl;
pub(crate) mod gpu;
mod link;
pub(crate) mod vpd;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pci_ids::FromId;

use super::bus;
use crate::model::inventory::{Item, Part, PartStatus, PciAer, PciFunction, PciLink, Vpd};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::Publish;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "/sys/bus/pci/devices";
const SLOTS: &str = "/sys/bus/pci/slots";
/// Functions that are told; virtual ones are counted among them.
pub(crate) const MAX_FUNCTIONS: usize = 32 * 1024;
/// How long the Vital Product Data of one card may take.
const VPD_LIMIT: Duration = Duration::from_secs(3);
/// Base classes worth asking: storage, network, display, processing accelerators.
const VPD_CLASSES: [&str; 4] = ["01", "02", "03", "12"];

/// All functions.
pub(crate) fn functions(
    root: &Root,
    limit: Duration,
    publish: &Publish<Part<Vec<PciFunction>>>,
) -> Part<Vec<PciFunction>> {
    let begun = Instant::now();
    let addresses = match root.list(SOURCE) {
        Ok(addresses) => addresses,
        Err(error) => return error.missing(SOURCE),
    };
    let slots = slots(root);
    let known: Vec<String> = addresses.into_iter().filter(|name| bus::is_pci_address(name)).collect();
    let known = root.first("count", known, MAX_FUNCTIONS);
    let mut functions: Vec<PciFunction> = known.iter().map(|address| base(root, address, &slots)).collect();
    let mut items = Vec::new();
    publish.so_far(Part::ok(SOURCE, functions.clone()).with_items(items.clone()));

    let left = |share: u32| (limit * share / 4).saturating_sub(begun.elapsed());
    device_facts(root, &mut functions, left(2), &mut items);
    publish.so_far(Part::ok(SOURCE, functions.clone()).with_items(items.clone()));
    card_facts(root, &mut functions, left(4).min(VPD_LIMIT), &mut items);
    Part::ok(SOURCE, functions).with_items(items)
}

/// Slot names by `domain:bus:device`.
fn slots(root: &Root) -> BTreeMap<String, String> {
    let names = root.list(SLOTS).unwrap_or_default();
    let place = |name: String| Some((root.value(format!("{SLOTS}/{name}/address"))?, name));
    names.into_iter().filter_map(place).collect()
}

/// What the kernel remembers from when it found the function.
fn base(root: &Root, address: &str, slots: &BTreeMap<String, String>) -> PciFunction {
    let at = |file: &str| format!("{SOURCE}/{address}/{file}");
    let place = root.resolve(at("")).unwrap_or_default();
    let id = bus::pci_id(root, &place);
    let subsystem = |file: &str| bus::hex16(&root.value(at(file))?);
    let board = subsystem("subsystem_vendor").zip(subsystem("subsystem_device"));
    // Bridges have none, and the kernel shows zeros.
    let board = board.filter(|board| *board != (0, 0));
    let class = root
        .value(at("class"))
        .and_then(|class| class.strip_prefix("0x").map(str::to_owned));
    let names = bus::pci_names(id);
    // A bridge into a slot has the slot's number as well; the name belongs to what is in the slot.
    let slot = address
        .rsplit_once('.')
        .and_then(|(device, _)| slots.get(device))
        .cloned();
    PciFunction {
        address: address.to_owned(),
        subsystem_name: id.zip(board).and_then(|(id, board)| subsystem_name(id, board)),
        id: names.id,
        subsystem_id: board.map(bus::id_text),
        class_name: class.as_deref().and_then(class_name),
        class,
        vendor_name: names.vendor,
        device_name: names.device,
        revision: root
            .value(at("revision"))
            .map(|text| text.trim_start_matches("0x").to_owned()),
        driver: root.link_name(at("driver")),
        numa_node: root.number(at("numa_node")),
        iommu_group: root.link_name(at("iommu_group")).and_then(|group| group.parse().ok()),
        slot,
        vfs_total: root.number(at("sriov_totalvfs")),
        vfs_enabled: root.number(at("sriov_numvfs")),
        physical_function: root.link_name(at("physfn")),
        ..PciFunction::default()
    }
}

fn subsystem_name((vendor, device): (u16, u16), board: (u16, u16)) -> Option<String> {
    let known = pci_ids::Device::from_vid_pid(vendor, device);
    let mut boards = known.into_iter().flat_map(|device| device.subsystems());
    let exact = boards.find(|known| (known.subvendor(), known.subdevice()) == board);
    match exact {
        Some(exact) => Some(exact.name().to_owned()),
        // At least who built it.
        None => Some(pci_ids::Vendor::from_id(board.0)?.name().to_owned()),
    }
}

/// Name of the subclass, else of the class: `020000` → `Ethernet controller`.
pub(crate) fn class_name(class: &str) -> Option<String> {
    let byte = |at: usize| u8::from_str_radix(class.get(at..at + 2)?, 16).ok();
    let (base, sub) = (byte(0)?, byte(2)?);
    let subclass = pci_ids::Subclass::from_cid_sid(base, sub).map(|sub| sub.name());
    let name = subclass.or_else(|| pci_ids::Class::from_id(base).map(|class| class.name()))?;
    Some(name.to_owned())
}

/// What takes a question to the device.
#[derive(Debug, Default)]
struct DeviceFacts {
    power_state: Option<String>,
    link: Option<PciLink>,
    aer: Option<PciAer>,
}

/// Functions of one device go down together, so they share a time box.
fn device_facts(root: &Root, functions: &mut [PciFunction], limit: Duration, items: &mut Vec<Item>) {
    let mut devices: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for function in functions.iter() {
        let device = function.address.rsplit_once('.').map_or("", |(device, _)| device);
        let functions = devices.entry(device.to_owned()).or_default();
        functions.push(function.address.clone());
    }
    let names: Vec<String> = devices.keys().cloned().collect();
    let tree = root.clone();
    let outcomes = timebox::each(
        "probe-pci",
        devices.into_values().collect(),
        limit,
        move |addresses: Vec<String>| {
            let facts = addresses.into_iter().map(|address| {
                let facts = DeviceFacts {
                    power_state: tree.value(format!("{SOURCE}/{address}/power_state")),
                    link: link::link(&tree, &address),
                    aer: aer(&tree, &address),
                };
                (address, facts)
            });
            facts.collect::<Vec<_>>()
        },
    );
    let mut learnt = BTreeMap::new();
    let mut counted = false;
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome.or_gap(format!("{name}.link"), SOURCE) {
            Ok((facts, _)) => learnt.extend(facts),
            Err(gap) => items.push(gap),
        }
    }
    for function in functions {
        if let Some(facts) = learnt.remove(&function.address) {
            function.power_state = facts.power_state.filter(|state| state != "unknown");
            function.link = facts.link;
            counted |= facts.aer.is_some();
            function.aer = facts.aer;
        }
    }
    if !counted {
        items.push(Item::gap("aer", PartStatus::Absent, "no function counts its errors"));
    }
}

/// Files of lines `BadTLP 0`, ending in a line `TOTAL_ERR_COR 0`.
fn aer(root: &Root, address: &str) -> Option<PciAer> {
    let mut kinds = BTreeMap::new();
    let mut counts = |severity: &str| {
        let text = root.text(format!("{SOURCE}/{address}/aer_dev_{severity}"), 8192).ok()?;
        let (total, seen) = aer_counts(&text);
        kinds.extend(
            seen.into_iter()
                .map(|(kind, count)| (format!("{severity}.{kind}"), count)),
        );
        Some(total)
    };
    let (correctable, nonfatal, fatal) = (counts("correctable"), counts("nonfatal"), counts("fatal"));
    if correctable.is_none() && nonfatal.is_none() && fatal.is_none() {
        return None;
    }
    Some(PciAer {
        correctable: correctable.unwrap_or(0),
        nonfatal: nonfatal.unwrap_or(0),
        fatal: fatal.unwrap_or(0),
        kinds,
    })
}

/// A status register has 32 bits, each a kind; further ones are left out.
const MAX_AER_KINDS: usize = 64;

/// Lines `RxErr 3`, and a total in the last. Some kinds stand in several files; the total counts. Of a kind that is named twice
/// the last line counts.
pub(crate) fn aer_counts(text: &str) -> (u64, Vec<(String, u64)>) {
    let mut total = None;
    let mut seen: Vec<(String, u64)> = Vec::new();
    for line in text.lines() {
        let Some((kind, count)) = line.trim().rsplit_once(' ') else {
            continue;
        };
        let Ok(count) = count.parse::<u64>() else { continue };
        if kind.starts_with("TOTAL_") {
            total = Some(count);
        } else if count > 0 && seen.len() < MAX_AER_KINDS {
            seen.retain(|(known, _)| known != kind);
            seen.push((kind.to_owned(), count));
        }
    }
    let sum = seen.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    (total.unwrap_or(sum), seen)
}

/// Vital Product Data, all cards at once. The functions of a card show the same, so its first one is asked.
fn card_facts(root: &Root, functions: &mut [PciFunction], limit: Duration, items: &mut Vec<Item>) {
    let is_worth = |function: &&PciFunction| {
        let class = function
            .class
            .as_deref()
            .and_then(|class| class.get(..2))
            .unwrap_or_default();
        VPD_CLASSES.contains(&class) && function.address.ends_with(".0") && function.physical_function.is_none()
    };
    let addresses: Vec<String> = functions
        .iter()
        .filter(is_worth)
        .map(|function| function.address.clone())
        .collect();
    let tree = root.clone();
    type Read = Result<Option<Vpd>, ReadError>;
    let outcomes = timebox::each(
        "probe-pci-vpd",
        addresses.clone(),
        limit,
        move |address: String| -> Read {
            let bytes = tree.bytes(format!("{SOURCE}/{address}/vpd"), vpd::LIMIT)?;
            // A function that has the mailbox and nothing in it.
            Ok(vpd::parse(&bytes))
        },
    );
    let mut denied = None;
    for (address, outcome) in addresses.into_iter().zip(outcomes) {
        let item = format!("{address}.vpd");
        let source = format!("{SOURCE}/{address}/vpd");
        match outcome.read_or_gap(item.clone(), source.clone()) {
            Ok((Some(vpd), millis)) => {
                items.push(Item::ok(item, source, millis));
                if let Some(function) = functions.iter_mut().find(|function| function.address == address) {
                    function.vpd = Some(vpd);
                }
            }
            Ok((None, _)) => {}
            Err(gap) if gap.status == PartStatus::Absent => {}
            // All of them or none: said once.
            Err(gap) if gap.status == PartStatus::Denied => {
                denied.get_or_insert(Item {
                    item: "vpd".to_owned(),
                    ..gap
                });
            }
            Err(gap) => items.push(gap),
        }
    }
    items.extend(denied);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_counts_are_summed_by_the_kernel() {
        let text = "RxErr 0\nBadTLP 3\nBadDLLP 1\nTOTAL_ERR_COR 4\n";
        let (total, seen) = aer_counts(text);
        assert_eq!(total, 4);
        assert_eq!(
            BTreeMap::from_iter(seen),
            BTreeMap::from([("BadDLLP".to_owned(), 1), ("BadTLP".to_owned(), 3)])
        );
        assert_eq!(aer_counts("BadTLP 3\nBadDLLP 1\n").0, 4);
        assert_eq!(aer_counts("BadTLP 2\nBadDLLP 1\nBadTLP 3\n").0, 4);
        let many = String::from_iter((0..100).map(|kind| format!("bit{kind} 1\n"))) + "TOTAL_ERR_COR 100\n";
        let (total, seen) = aer_counts(&many);
        assert_eq!((total, seen.len()), (100, MAX_AER_KINDS));
        assert_eq!(aer_counts("nonsense\n\n-1 -1"), (0, Vec::new()));
    }

    #[test]
    fn classes_have_names() {
        assert_eq!(class_name("020000").as_deref(), Some("Ethernet controller"));
        assert_eq!(class_name("0302").as_deref(), Some("3D controller"));
        assert_eq!(class_name("02"), None);
        assert_eq!(class_name("é"), None);
    }
}
