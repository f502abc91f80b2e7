//! Where a device sits: facts read off its resolved path under `/sys/devices`.

use std::path::{Path, PathBuf};

use pci_ids::FromId;

use crate::probe::collect::root::Root;

/// A folder for every network interface.
pub(crate) const NET: &str = "/sys/class/net";

/// Components of a path as text.
pub(crate) fn names(place: &Path) -> impl DoubleEndedIterator<Item = &str> {
    place
        .components()
        .filter_map(|component| component.as_os_str().to_str())
}

/// Address of the nearest PCI function at or above the place: `0000:3b:00.1`.
pub(crate) fn pci_address(place: &Path) -> Option<String> {
    names(place).rev().find(|name| is_pci_address(name)).map(str::to_owned)
}

/// `domain:bus:device.function` in hex; some domains have five digits.
pub(crate) fn is_pci_address(name: &str) -> bool {
    let hex = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut fields = name.split(':');
    let (Some(domain), Some(bus), Some(rest), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else {
        return false;
    };
    hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2) && hex(function, 1..=1)
}

/// True for a place below a USB bus: the kernel names those `usb` and a number.
pub(crate) fn is_on_usb(place: &Path) -> bool {
    names(place).any(|name| is_numbered(name, "usb"))
}

/// True for the prefix and a decimal number behind it, as the kernel names most devices.
pub(crate) fn is_numbered(name: &str, prefix: &str) -> bool {
    let number = name.strip_prefix(prefix).filter(|number| !number.is_empty());
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// True where a component of the place is the prefix and a number, or a list of numbers: `ata3`, `end_device-0:0:3`.
pub(crate) fn has_numbered(place: &Path, prefix: &str) -> bool {
    let mut numbers = names(place).filter_map(|name| name.strip_prefix(prefix));
    numbers.any(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

/// `host:channel:target:lun` in decimal.
pub(crate) fn is_scsi_address(name: &str) -> bool {
    name.split(':').count() == 4 && name.split(':').all(|field| is_numbered(field, ""))
}

/// The nearest folder at or above the place whose name passes.
pub(crate) fn above(place: &Path, test: impl Fn(&str) -> bool) -> Option<&Path> {
    let mut folders = place.ancestors();
    folders.find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&test))
}

/// Path of the nearest PCI function at or above the place.
pub(crate) fn pci_function(place: &Path) -> Option<PathBuf> {
    above(place, is_pci_address).map(Path::to_path_buf)
}

/// Vendor and device of a PCI function, by its folder.
pub(crate) fn pci_id(root: &Root, function: &Path) -> Option<(u16, u16)> {
    let id = |file: &str| hex16(&root.value(function.join(file))?);
    Some((id("vendor")?, id("device")?))
}

/// Class, subclass and programming interface of a PCI function, by its folder: `0x010601`.
pub(crate) fn pci_class(root: &Root, function: &Path) -> Option<u32> {
    let class = root.value(function.join("class"))?;
    u32::from_str_radix(class.strip_prefix("0x")?, 16).ok()
}

/// `0x8086`.
pub(crate) fn hex16(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Who made a PCI function and what it is.
pub(crate) struct PciNames {
    /// `8086:1521`.
    pub id: Option<String>,
    /// By the PCI ID database, as the next.
    pub vendor: Option<String>,
    pub device: Option<String>,
}

/// The names of what has this [`pci_id`].
pub(crate) fn pci_names(id: Option<(u16, u16)>) -> PciNames {
    let vendor = id.and_then(|(vendor, _)| pci_ids::Vendor::from_id(vendor));
    let device = vendor.and_then(|vendor| vendor.devices().find(|known| id.is_some_and(|id| known.id() == id.1)));
    PciNames {
        id: id.map(id_text),
        vendor: vendor.map(|vendor| vendor.name().to_owned()),
        device: device.map(|device| device.name().to_owned()),
    }
}

/// `8086:1521`.
pub(crate) fn id_text((vendor, device): (u16, u16)) -> String {
    format!("{vendor:04x}:{device:04x}")
}

/// NUMA node of the nearest PCI function; the kernel says -1 where there is no such thing.
pub(crate) fn numa_node(root: &Root, place: &Path) -> Option<u32> {
    root.number(pci_function(place)?.join("numa_node"))
}

/// The nearest folder at or above the place that holds `file`, never above `/sys/devices`.
pub(crate) fn ancestor_with(root: &Root, place: &Path, file: &str) -> Option<PathBuf> {
    place
        .ancestors()
        .take_while(|path| path.starts_with("sys/devices") && *path != Path::new("sys/devices"))
        .find(|path| root.value(path.join(file)).is_some())
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_usb_is_known_by_its_place() {
        let usb = "sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/net/enx0";
        assert!(is_on_usb(Path::new(usb)));
        for place in [
            "sys/devices/pci0000:00/0000:00:14.0/usbx/net/a",
            "sys/devices/pci0000:3a/0000:3b:00.1/net/usb0x",
        ] {
            assert!(!is_on_usb(Path::new(place)), "{place}");
        }
    }

    #[test]
    fn pci_addresses_are_recognised() {
        for name in ["0000:00:1f.2", "10000:e1:00.0", "0000:3b:00.1"] {
            assert!(is_pci_address(name), "{name}");
        }
        for name in ["0:0:0:0", "pci0000:00", "0000:00:1f", "virtio1", "2-1:1.0", ""] {
            assert!(!is_pci_address(name), "{name}");
        }
        let place = Path::new("sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eth1");
        assert_eq!(pci_address(place).as_deref(), Some("0000:3b:00.1"));
        assert_eq!(
            pci_function(place),
            Some("sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1".into())
        );
        assert_eq!(pci_address(Path::new("sys/devices/virtual/net/lo")), None);
    }
}
