//! Names of ports on PCI, and of what hangs on a PCI function: by the number that firmware gives a port of the main board, by the
//! slot, by the address.

use std::path::{Path, PathBuf};

use super::port::{Names, Port, number, numeral};
use crate::probe::bus;
use crate::probe::collect::root::Root;

const SLOTS: &str = "/sys/bus/pci/slots";
/// Larger numbers are no places on a main board; VMware says 2^24-1.
const MAX_ONBOARD: u32 = 0xffff;
/// Subclass of bridges between PCI buses (PCI Code and ID Assignment 1.11, 1.7). udev looks at it alone.
const PCI_BRIDGE: u32 = 0x04;
/// Offset of the header's type in configuration space, and its bit for a device of several functions (include/uapi/linux/pci_regs.h).
const HEADER_TYPE: usize = 0x0e;
const MULTIFUNCTION: u8 = 0x80;
/// Configuration space of PCI Express.
const CONFIG: u64 = 4096;

/// Names of a port that is a PCI function, at most with virtio between. A virtual function is named by the physical one.
pub(super) fn of_function(port: &Port) -> Option<Names> {
    let is_virtio = |path: &&Path| {
        path.file_name()
            .is_some_and(|name| bus::is_numbered(&name.to_string_lossy(), "virtio"))
    };
    let function = port.parent()?.ancestors().find(|path| !is_virtio(path))?;
    if bus::pci_function(function).as_deref() != Some(function) {
        return None;
    }
    let (function, suffix) = match physical(port.root, function) {
        Some((physical, number)) => (physical, format!("v{number}")),
        None => (function.to_owned(), String::new()),
    };
    Some(Names {
        onboard: onboard(port, &function, &suffix),
        ..below(port, &function, &suffix)
    })
}

/// Names by slot and by address of what hangs on a function; `suffix` tells where below it.
pub(super) fn below(port: &Port, function: &Path, suffix: &str) -> Names {
    let (Some(place), Some(specifier)) = (Place::of(port.root, function), port.specifier(true)) else {
        return Names::default();
    };
    let Place {
        domain,
        bus,
        device,
        function_number,
    } = place;
    let (prefix, end) = (port.prefix, format!("{function_number}{specifier}{suffix}"));
    let slot = slot(port.root, function);
    Names {
        onboard: None,
        slot: slot.map(|slot| format!("{prefix}{domain}s{slot}{end}")),
        path: Some(format!("{prefix}{domain}p{bus}s{device}{end}")),
    }
}

/// The number from ACPI (_DSM), else from SMBIOS (type 41).
fn onboard(port: &Port, function: &Path, suffix: &str) -> Option<String> {
    let number = |file: &str| number(port.root, &function.join(file));
    let index = number("acpi_index").or_else(|| number("index"))?;
    let specifier = port.specifier(false)?;
    (index <= MAX_ONBOARD).then(|| format!("{}o{index}{specifier}{suffix}", port.prefix))
}

/// The physical function that this one is a virtual one of, and which.
fn physical(root: &Root, function: &Path) -> Option<(PathBuf, String)> {
    let physical = root.resolve(function.join("physfn")).ok()?;
    let links = root.list(&physical).ok()?;
    let mut numbers = links.iter().filter_map(|link| {
        let number = link.strip_prefix("virtfn")?;
        bus::is_numbered(number, "").then_some((link, number))
    });
    let (_, number) =
        numbers.find(|(link, _)| root.resolve(physical.join(link)).is_ok_and(|place| place == function))?;
    Some((physical, number.to_owned()))
}

/// The parts of an address as they stand in a name.
struct Place {
    /// `P<number>`; empty for the first.
    domain: String,
    bus: u32,
    device: u32,
    /// `f<number>`; empty for the only one.
    function_number: String,
}

impl Place {
    fn of(root: &Root, function: &Path) -> Option<Place> {
        let address = function.file_name()?.to_str()?;
        let (domain, rest) = address.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, number) = rest.split_once('.')?;
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let (domain, bus, device, mut number) = (hex(domain)?, hex(bus)?, hex(device)?, number.parse::<u32>().ok()?);
        // With alternative routing (ARI) a device has up to 256 functions, and its number is the upper five bits of theirs.
        if root.flag(function.join("ari_enabled")) == Some(true) {
            number = number.saturating_add(device.saturating_mul(8));
        }
        let one = |letter: char, number: u32| format!("{letter}{number}");
        let several = number > 0 || is_multifunction(root, function);
        Some(Place {
            domain: if domain > 0 { one('P', domain) } else { String::new() },
            bus,
            device,
            function_number: if several { one('f', number) } else { String::new() },
        })
    }
}

fn is_multifunction(root: &Root, function: &Path) -> bool {
    let config = root.bytes(function.join("config"), CONFIG).unwrap_or_default();
    config.get(HEADER_TYPE).is_some_and(|kind| kind & MULTIFUNCTION != 0)
}

fn is_bridge(root: &Root, function: &Path) -> bool {
    bus::pci_class(root, function).is_some_and(|class| class >> 8 & 0xff == PCI_BRIDGE)
}

fn above(function: &Path) -> Option<PathBuf> {
    bus::pci_function(function.parent()?)
}

/// The number on the slot: as ACPI has it for the function or the port above it (_SUN), else as the hotplug drivers have it.
fn slot(root: &Root, function: &Path) -> Option<u32> {
    let user_number = |function: &Path| {
        let number = number(root, &function.join("firmware_node/sun"));
        number.filter(|number| *number > 0)
    };
    let of_port = || {
        let port = above(function)?;
        // A bridge may have several devices below it, and each would take the number.
        let is_shared = is_bridge(root, &port) && !is_multifunction(root, function);
        user_number(&port).filter(|_| !is_shared)
    };
    user_number(function)
        .or_else(of_port)
        .or_else(|| hotplug_slot(root, function))
}

/// The slot of the function, or of the nearest one above that is in a slot, unless that is a bridge.
fn hotplug_slot(root: &Root, function: &Path) -> Option<u32> {
    let slots = root.list(SLOTS).ok()?;
    let slots = slots.iter().filter_map(|name| {
        let number = numeral(name).filter(|number| *number > 0)?;
        // The address of a device, without a function.
        Some((number, root.value(format!("{SLOTS}/{name}/address"))?))
    });
    let slots: Vec<(u32, String)> = slots.collect();
    let mut next = Some(function.to_owned());
    while let Some(function) = next {
        let name = function.file_name()?.to_str()?;
        if let Some((number, _)) = slots.iter().find(|(_, address)| name.starts_with(address.as_str())) {
            return (!is_bridge(root, &function)).then_some(*number);
        }
        next = above(&function);
    }
    None
}
