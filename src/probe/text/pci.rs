//! Buses for people: what stands out, not every function.

use std::collections::BTreeMap;

use super::page::Page;
use super::words::{binary_size, labelled, list, plural, some, words};
use crate::model::inventory::{Gpu, PciFunction, PciLink, UsbDevice, Vpd};

pub(super) fn functions(page: &mut Page, functions: &Vec<PciFunction>) {
    let count = u32::try_from(functions.len()).unwrap_or(u32::MAX);
    let virtual_functions = functions
        .iter()
        .filter(|function| function.physical_function.is_some())
        .count();
    page.item(&list([
        Some(plural(count, "function")),
        (virtual_functions > 0).then(|| format!("{virtual_functions} of them virtual")),
    ]));
    for function in functions {
        let link = function.link.as_ref().filter(|link| link.degraded).map(degraded);
        let errors = function.aer.as_ref().and_then(|aer| {
            let told = |count: u64, word: &str| (count > 0).then(|| format!("{count} {word}"));
            let text = list([
                told(aer.fatal, "fatal"),
                told(aer.nonfatal, "non-fatal"),
                told(aer.correctable, "corrected"),
            ]);
            let kinds: Vec<&str> = aer
                .kinds
                .keys()
                .filter_map(|kind| Some(kind.split_once('.')?.1))
                .collect();
            (!text.is_empty()).then(|| format!("ERRORS {text} ({})", kinds.join(" ")))
        });
        let card = function.vpd.as_ref().and_then(card);
        let troubles = list([link, errors]);
        if troubles.is_empty() && card.is_none() {
            continue;
        }
        let slot = function.slot.as_ref().map(|slot| format!("(slot {slot})"));
        let name = function.device_name.clone().or_else(|| function.class_name.clone());
        page.item(&format!(
            "{}: {}",
            words([Some(function.address.clone()), slot]),
            list([name, some(troubles), card])
        ));
    }
}

fn degraded(link: &PciLink) -> String {
    let side = |speed: Option<f64>, width: Option<u32>| {
        words([
            speed.map(|speed| format!("{speed} GT/s")),
            width.map(|lanes| format!("x{lanes}")),
        ])
    };
    fn least<T: PartialOrd + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if one < other { one } else { other }),
            (one, other) => one.or(other),
        }
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

pub(super) fn usb(page: &mut Page, devices: &Vec<UsbDevice>) {
    let mut hubs = BTreeMap::<&str, u32>::new();
    let mut shown = false;
    for device in devices {
        if device.root_hub || device.classes == ["Hub"] {
            *hubs.entry("hub").or_default() += 1;
            continue;
        }
        shown = true;
        let told = words([device.manufacturer.clone(), device.product.clone()]);
        let known = words([device.vendor_name.clone(), device.product_name.clone()]);
        let name = some(told).or_else(|| some(known)).or_else(|| device.id.clone());
        page.item(&format!(
            "{}: {}",
            device.path,
            list([
                name,
                labelled("serial", &device.serial),
                device.speed_mbps.map(|speed| format!("{speed} Mb/s")),
                some(device.classes.join(" + ")),
            ])
        ));
    }
    if !shown {
        let count = hubs.values().sum();
        page.item(&format!("nothing plugged in, {}", plural(count, "hub")));
    }
}

pub(super) fn gpus(page: &mut Page, gpus: &Vec<Gpu>) {
    for gpu in gpus {
        let name = match (&gpu.vendor, &gpu.name) {
            // Some drivers put the maker into the name.
            (Some(vendor), Some(name)) if vendor.split(' ').next() == name.split(' ').next() => name.clone(),
            (vendor, name) => words([vendor.clone(), name.clone()]),
        };
        let name = if name.is_empty() {
            "unknown display adapter".to_owned()
        } else {
            name
        };
        let window = gpu
            .window_bytes
            .map(|bytes| format!("window of {}", binary_size(bytes)));
        let memory = gpu.memory_bytes.map(binary_size).or(window);
        page.item(&format!(
            "{}: {}",
            gpu.pci_address,
            list([
                some(name),
                memory,
                gpu.driver.clone(),
                labelled("serial", &gpu.serial),
                gpu.temperature_celsius.map(|celsius| format!("{celsius:.0} °C")),
                gpu.uncorrected_errors
                    .filter(|count| *count > 0)
                    .map(|count| format!("{count} UNCORRECTED MEMORY ERRORS")),
            ])
        ));
    }
}
