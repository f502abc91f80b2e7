//! USB devices, from `/sys/bus/usb/devices`.

use std::sync::Arc;
use std::time::Duration;

use usb_ids::FromId;

use super::bus;
use crate::model::inventory::{Part, UsbDevice};
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "/sys/bus/usb/devices";
/// 127 fit on a bus.
const MAX_DEVICES: usize = 8192;

/// All devices, hubs among them, each in a time box of its own: strings are kept by the kernel, but a hub that dies takes the
/// lock of its ports with it.
pub(crate) fn devices(root: &Root, limit: Duration) -> Part<Vec<UsbDevice>> {
    let names = match root.list(SOURCE) {
        Ok(names) => names,
        Err(error) => return error.missing(SOURCE),
    };
    // `1-1.4:1.0` is an interface of the device `1-1.4`.
    let (interfaces, devices): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.contains(':'));
    let names = root.first("count", devices, MAX_DEVICES);
    let (tree, interfaces) = (root.clone(), Arc::new(interfaces));
    let outcomes = timebox::each("probe-usb", names.clone(), limit, move |name| {
        device(&tree, &name, &interfaces)
    });
    let (mut devices, mut items) = (Vec::new(), Vec::new());
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome.or_gap(&name, SOURCE) {
            Ok((device, _)) => devices.push(device),
            Err(gap) => {
                items.push(gap);
                // It exists, and that alone is worth telling.
                devices.push(UsbDevice {
                    root_hub: name.starts_with("usb"),
                    path: name,
                    ..UsbDevice::default()
                });
            }
        }
    }
    Part::ok(SOURCE, devices).with_items(items)
}

fn device(root: &Root, name: &str, interfaces: &[String]) -> UsbDevice {
    let value = |file: &str| root.value(format!("{SOURCE}/{name}/{file}"));
    let hex = |file: &str| u16::from_str_radix(&value(file)?, 16).ok();
    let id = hex("idVendor").zip(hex("idProduct"));
    let vendor = id.and_then(|(vendor, _)| usb_ids::Vendor::from_id(vendor));
    let model = id.and_then(|(vendor, product)| usb_ids::Device::from_vid_pid(vendor, product));
    let own: Vec<&String> = interfaces
        .iter()
        .filter(|interface| interface.split(':').next() == Some(name))
        .collect();
    let place = root.resolve(format!("{SOURCE}/{name}")).unwrap_or_default();
    // Class 0: each interface has a class of its own. 0xef: the same, with descriptors that tie them together.
    let mut classes: Vec<String> = match value("bDeviceClass").as_deref() {
        None | Some("00" | "ef") => own
            .iter()
            .filter_map(|interface| class_name(&root.value(format!("{SOURCE}/{interface}/bInterfaceClass"))?))
            .collect(),
        Some(class) => class_name(class).into_iter().collect(),
    };
    dedup(&mut classes);
    let mut drivers: Vec<String> = own
        .iter()
        .filter_map(|interface| root.link_name(format!("{SOURCE}/{interface}/driver")))
        .collect();
    dedup(&mut drivers);
    let root_hub = name.starts_with("usb");
    UsbDevice {
        path: name.to_owned(),
        root_hub,
        id: id.map(bus::id_text),
        vendor_name: vendor.map(|vendor| vendor.name().to_owned()),
        product_name: model.map(|model| model.name().to_owned()),
        manufacturer: value("manufacturer"),
        product: value("product"),
        // Of a root hub it is the address of its controller.
        serial: value("serial").filter(|_| !root_hub),
        speed_mbps: value("speed")
            .and_then(|speed| speed.parse().ok())
            .filter(|speed: &f64| speed.is_finite()),
        usb_version: value("version"),
        classes,
        drivers,
        controller: bus::pci_address(&place),
    }
}

fn class_name(class: &str) -> Option<String> {
    let class = u8::from_str_radix(class, 16).ok()?;
    Some(usb_ids::Class::from_id(class)?.name().to_owned())
}

fn dedup(names: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_names() {
        assert_eq!(class_name("08").as_deref(), Some("Mass Storage"));
        assert_eq!(class_name("09").as_deref(), Some("Hub"));
        assert_eq!(class_name("zz"), None);
    }
}
