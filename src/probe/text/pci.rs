//! Buses for people: what stands out, not every function.

use super::page::Page;
use super::words::{binary_size, bracketed, counted, labelled, list, plural, some, unit, with, words};
use crate::model::inventory::{Gpu, PciFunction, PciLink, UsbDevice, Vpd};

pub(super) fn functions(page: &mut Page, functions: &Vec<PciFunction>) {
    let is_virtual = |function: &&PciFunction| function.physical_function.is_some();
    let virtual_functions = functions.iter().filter(is_virtual).count();
    page.facts([
        Some(plural(functions.len(), "function")),
        counted(virtual_functions as u64, "of them virtual"),
    ]);
    for function in functions {
        let link = function.link.as_ref().filter(|link| link.degraded).map(degraded);
        let errors = function.aer.as_ref().and_then(|aer| {
            let counts = some(list([
                counted(aer.fatal, "fatal"),
                counted(aer.nonfatal, "non-fatal"),
                counted(aer.correctable, "corrected"),
            ]))?;
            let kinds = aer.kinds.keys().filter_map(|kind| Some(kind.split_once('.')?.1));
            Some(format!("ERRORS {counts} ({})", Vec::from_iter(kinds).join(" ")))
        });
        let card = function.vpd.as_ref().and_then(card);
        if link.is_none() && errors.is_none() && card.is_none() {
            continue;
        }
        let slot = bracketed(with("slot", function.slot.as_ref()));
        let name = function.device_name.clone().or_else(|| function.class_name.clone());
        page.entry(&words([Some(function.address.clone()), slot]))
            .facts([name, link, errors, card]);
    }
}

fn degraded(link: &PciLink) -> String {
    let side =
        |speed: Option<f64>, width: Option<u32>| words([unit(speed, "GT/s"), width.map(|lanes| format!("x{lanes}"))]);
    fn least<T: PartialOrd + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
        let least = one.zip(other).map(|(one, other)| if one < other { one } else { other });
        least.or(one).or(other)
    }
    let can = side(
        least(link.max_speed_gtps, link.upstream_max_speed_gtps),
        least(link.max_width, link.upstream_max_width),
    );
    format!("DEGRADED link {} of {can}", side(link.speed_gtps, link.width))
}

fn card(vpd: &Vpd) -> Option<String> {
    some(list([
        labelled("part", &vpd.part_number),
        labelled("serial", &vpd.serial),
    ]))
}

pub(super) fn usb(page: &mut Page, devices: &[UsbDevice]) {
    let is_hub = |device: &&UsbDevice| device.root_hub || device.classes == ["Hub"];
    let (hubs, others): (Vec<_>, Vec<_>) = devices.iter().partition(is_hub);
    if others.is_empty() {
        page.item(&format!("nothing plugged in, {}", plural(hubs.len(), "hub")));
    }
    for device in others {
        let told = words([device.manufacturer.clone(), device.product.clone()]);
        let known = words([device.vendor_name.clone(), device.product_name.clone()]);
        let name = some(told).or_else(|| some(known)).or_else(|| device.id.clone());
        page.entry(&device.path).facts([
            name,
            labelled("serial", &device.serial),
            unit(device.speed_mbps, "Mb/s"),
            some(device.classes.join(" + ")),
        ]);
    }
}

pub(super) fn gpus(page: &mut Page, gpus: &Vec<Gpu>) {
    for gpu in gpus {
        let name = match (&gpu.vendor, &gpu.name) {
            // Some drivers put the maker into the name.
            (Some(vendor), Some(name)) if vendor.split(' ').next() == name.split(' ').next() => name.clone(),
            (vendor, name) => words([vendor.clone(), name.clone()]),
        };
        let window = with("window of", gpu.window_bytes.map(binary_size));
        page.entry(&gpu.pci_address).facts([
            some(name).or_else(|| Some("unknown display adapter".to_owned())),
            gpu.memory_bytes.map(binary_size).or(window),
            gpu.driver.clone(),
            labelled("serial", &gpu.serial),
            gpu.temperature_celsius.map(|celsius| format!("{celsius:.0} °C")),
            counted(gpu.uncorrected_errors, "UNCORRECTED MEMORY ERRORS"),
        ]);
    }
}
