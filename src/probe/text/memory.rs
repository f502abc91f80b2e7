//! Memory for people.

use super::page::Page;
use super::words::{binary_size, bracketed, labelled, plural, some, unit, with, words};
use crate::model::inventory::{CxlDevice, Dimm, EccController, Memory, NumaNode};

pub(super) fn lines(page: &mut Page, memory: &Memory) {
    let slots = memory.slots.map(|slots| {
        let populated = memory.slots_populated.unwrap_or(0);
        format!("{populated} of {} filled", plural(slots, "slot"))
    });
    let correction = memory.error_correction.as_ref().map(|kind| match kind.as_str() {
        "none" => "no error correction".to_owned(),
        kind => kind.to_owned(),
    });
    let usable = unit(memory.total_bytes.map(binary_size), "usable");
    page.facts([usable, slots, correction]);
    if let Some(found) = &memory.disagreement {
        let (kernel, modules) = (binary_size(found.kernel_bytes), binary_size(found.modules_bytes));
        page.item(&format!("CHECK: {}: {kernel} of {modules}", found.finding));
    }
    for controller in &memory.ecc_controllers {
        ecc(page, controller);
    }
    let (filled, empty): (Vec<&Dimm>, Vec<&Dimm>) = memory.dimms.iter().partition(|dimm| dimm.populated);
    for dimm in filled {
        dimm_line(page, dimm);
    }
    page.group("empty")
        .facts(empty.into_iter().map(|dimm| Some(dimm_place(dimm))));
    for device in &memory.cxl_devices {
        cxl_line(page, device);
    }
    // One node is the ordinary case and says nothing.
    if memory.numa_nodes.len() > 1 {
        memory.numa_nodes.iter().for_each(|node| numa(page, node));
    }
}

/// Only modules with errors are worth a line.
fn ecc(page: &mut Page, controller: &EccController) {
    let errors = |corrected: Option<u64>, uncorrected: Option<u64>| {
        let (corrected, uncorrected) = (corrected.unwrap_or(0), uncorrected.unwrap_or(0));
        (corrected + uncorrected > 0).then(|| format!("{corrected} corrected, {uncorrected} uncorrected"))
    };
    for module in &controller.modules {
        if let Some(errors) = errors(module.corrected_errors, module.uncorrected_errors) {
            let place = module.locator.as_ref().or(module.label.as_ref());
            page.item(&format!("ERRORS in {}: {errors}", place.unwrap_or(&module.name)));
        }
    }
    let (corrected, uncorrected) = (
        controller.corrected_errors_unplaced,
        controller.uncorrected_errors_unplaced,
    );
    if let Some(errors) = errors(corrected, uncorrected) {
        page.item(&format!("ERRORS at {}, module unknown: {errors}", controller.name));
    }
}

fn numa(page: &mut Page, node: &NumaNode) {
    let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
    page.entry(&format!("node {}", node.node)).facts([
        node.memory_bytes.map(binary_size),
        with("threads", some(node.cpus.clone())),
        with("distances", some(distances.join(" "))),
    ]);
}

fn cxl_line(page: &mut Page, device: &CxlDevice) {
    let size = |bytes: Option<u64>| bytes.filter(|bytes| *bytes > 0).map(binary_size);
    let place = bracketed(device.pci_address.as_ref());
    let name = words([Some(format!("CXL {}", device.name)), place]);
    page.entry(&name).facts([
        unit(size(device.volatile_bytes), "volatile"),
        unit(size(device.persistent_bytes), "persistent"),
        device.model.clone(),
        labelled("serial", &device.serial),
        labelled("firmware", &device.firmware),
        with("node", device.numa_node),
        some(device.regions.join(" and ")),
    ]);
}

fn dimm_place(dimm: &Dimm) -> String {
    let place = words([dimm.locator.clone(), bracketed(dimm.bank.as_ref())]);
    some(place).unwrap_or_else(|| "slot".to_owned())
}

fn dimm_line(page: &mut Page, dimm: &Dimm) {
    let size = dimm.size_bytes.map_or_else(|| "unknown size".to_owned(), binary_size);
    let speed = match (dimm.speed_mtps, dimm.configured_speed_mtps) {
        (Some(rated), Some(runs)) if rated != runs => Some(format!("{rated} MT/s, runs at {runs}")),
        (rated, runs) => unit(rated.or(runs), "MT/s"),
    };
    // Plain memory needs no word for it.
    let technology = dimm.technology.clone();
    let technology = technology.filter(|name| !matches!(&**name, "DRAM" | "other"));
    page.entry(&dimm_place(dimm)).facts([
        Some(words([Some(size), dimm.memory_type.clone(), technology])),
        speed,
        some(words([dimm.manufacturer.clone(), dimm.part_number.clone()])),
        labelled("serial", &dimm.serial),
    ]);
}
