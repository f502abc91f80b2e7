//! Names of ports on other buses than PCI, and of management controllers' ports.

use std::path::Path;

use super::pci;
use super::port::{Names, Port};
use crate::probe::bus;
use crate::probe::collect::root::Root;

/// Vendor and product of a management controller's network on USB, and what it is called (73-special-net-names.rules).
const CONTROLLERS: [(&str, &str, &str); 2] = [("413c", "a102", "idrac"), ("04b3", "0325", "ibmimm")];
const PLATFORM: &str = "sys/devices/platform";

/// The name of a management controller's port.
pub(super) fn of_controller(root: &Root, folder: &Path) -> Option<&'static str> {
    let interface = usb_interface(folder)?;
    let device = bus::ancestor_with(root, interface, "idVendor")?;
    let id = |file: &str| root.value(device.join(file));
    let (vendor, product) = (id("idVendor")?, id("idProduct")?);
    let mut known = CONTROLLERS.into_iter();
    known.find_map(|(by, what, name)| (by == vendor && what == product).then_some(name))
}

/// The interface of a USB device at or above the place: `1-1.4:1.0`.
pub(super) fn usb_interface(place: &Path) -> Option<&Path> {
    bus::above(place, |name| usb_suffix(name).is_some())
}

/// `u<port>` for each hub on the way, `c<configuration>` and `i<interface>` where they are not the usual ones.
fn usb_suffix(interface: &str) -> Option<String> {
    let (bus, rest) = interface.split_once('-')?;
    let (ports, rest) = rest.split_once(':')?;
    let (configuration, interface) = rest.split_once('.')?;
    let are_numbers = ports
        .split('.')
        .chain([bus, configuration, interface])
        .all(|number| bus::is_numbered(number, ""));
    let unusual = |letter: char, number: &str, usual: &str| match number == usual {
        true => String::new(),
        false => format!("{letter}{number}"),
    };
    let configuration = unusual('c', configuration, "1");
    let interface = unusual('i', interface, "0");
    are_numbers.then(|| format!("u{}{configuration}{interface}", ports.replace('.', "u")))
}

pub(super) fn of_usb(port: &Port) -> Option<Names> {
    let interface = usb_interface(&port.folder)?;
    let suffix = usb_suffix(interface.file_name()?.to_str()?)?;
    Some(match bus::pci_function(interface) {
        Some(function) => pci::below(port, &function, &suffix),
        None => Names {
            path: Some(format!("{}{suffix}", port.prefix)),
            ..Names::default()
        },
    })
}

/// A core of a Broadcom chip: `bcma0:1`. The first has no number in the name.
pub(super) fn of_bcma(port: &Port) -> Option<Names> {
    let core = |name: &str| -> Option<u32> {
        let (bus, core) = name.split_once(':')?;
        bus::is_numbered(bus, "bcma").then(|| core.parse().ok()).flatten()
    };
    let device = bus::above(&port.folder, |name| core(name).is_some())?;
    let suffix = match core(device.file_name()?.to_str()?)? {
        0 => String::new(),
        core => format!("b{core}"),
    };
    Some(pci::below(port, &bus::pci_function(device)?, &suffix))
}

/// Names of what is on no bus that has places: ACPI's devices, Xen's ports, the kernel's simulated ones.
pub(super) fn of_platform(port: &Port) -> Names {
    Names {
        onboard: None,
        slot: xen(port),
        path: simulated(port).or_else(|| acpi(port)),
    }
}

/// `sys/devices/vif-<number>`, as the machine's description in Xen has it.
fn xen(port: &Port) -> Option<String> {
    let number = port
        .parent()?
        .strip_prefix("sys/devices")
        .ok()?
        .to_str()?
        .strip_prefix("vif-")?;
    let is_plain = bus::is_numbered(number, "") && (number == "0" || !number.starts_with('0'));
    let number = number.parse::<u32>().ok().filter(|_| is_plain)?;
    Some(format!("{}X{number}", port.prefix))
}

fn simulated(port: &Port) -> Option<String> {
    let device = bus::above(&port.folder, |name| bus::is_numbered(name, "netdevsim"))?;
    let number: u32 = device.file_name()?.to_str()?.strip_prefix("netdevsim")?.parse().ok()?;
    let name = port.port_name()??;
    Some(format!("{}i{number}n{name}", port.prefix))
}

/// A device that ACPI describes: three letters, or four letters and digits, for the vendor, four hexadecimal digits for the model, and
/// after a colon two for the instance.
fn acpi(port: &Port) -> Option<String> {
    let parent = port.parent()?;
    let id = parent.strip_prefix(PLATFORM).ok()?.iter().next()?.to_str()?;
    let (known, instance) = id.split_once(':').filter(|(_, instance)| instance.len() == 2)?;
    let (vendor, model) = known.split_at_checked(known.len().checked_sub(4)?)?;
    let is_vendor = match vendor.len() {
        3 => vendor.bytes().all(|byte| byte.is_ascii_uppercase()),
        4 => vendor
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()),
        _ => false,
    };
    let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
    let (model, instance) = (hex(model)?, hex(instance)?);
    let is_direct = port.root.link_name(parent.join("subsystem")).as_deref() == Some("platform");
    let vendor = vendor.to_ascii_lowercase();
    (is_vendor && is_direct).then(|| format!("{}a{vendor}{model:x}i{instance}", port.prefix))
}
