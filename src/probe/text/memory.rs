//! Memory for people.

use super::page::Page;
use super::words::{binary_size, labelled, list, plural, prefixed, some, words};
use crate::model::inventory::{CxlDevice, Dimm, EccController, EccModule, Memory, NumaNode};

pub(super) fn lines(page: &mut Page, memory: &Memory) {
    let slots = memory.slots.map(|slots| {
        let populated = memory.slots_populated.unwrap_or(0);
        format!("{populated} of {} filled", plural(slots, "slot"))
    });
    let correction = memory.error_correction.as_ref().map(|kind| match kind.as_str() {
        "none" => "no error correction".to_owned(),
        kind => kind.to_owned(),
    });
    page.item(&list([
        memory.total_bytes.map(|bytes| format!("{} usable", binary_size(bytes))),
        slots,
        correction,
    ]));
    if let Some(found) = &memory.disagreement {
        page.item(&format!(
            "CHECK: {}: {} of {}",
            found.finding,
            binary_size(found.kernel_bytes),
            binary_size(found.modules_bytes)
        ));
    }
    memory
        .ecc_controllers
        .iter()
        .for_each(|controller| ecc(page, controller));
    let (filled, empty): (Vec<&Dimm>, Vec<&Dimm>) = memory.dimms.iter().partition(|dimm| dimm.populated);
    for dimm in filled {
        page.item(&dimm_line(dimm));
    }
    page.item(&prefixed(
        "empty",
        list(empty.into_iter().map(|dimm| Some(dimm_place(dimm)))),
    ));
    for device in &memory.cxl_devices {
        page.item(&cxl_line(device));
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
    let place = |module: &EccModule| {
        let name = module.locator.clone().or_else(|| module.label.clone());
        name.unwrap_or_else(|| module.name.clone())
    };
    for module in &controller.modules {
        if let Some(errors) = errors(module.corrected_errors, module.uncorrected_errors) {
            page.item(&format!("ERRORS in {}: {errors}", place(module)));
        }
    }
    let unplaced = errors(
        controller.corrected_errors_unplaced,
        controller.uncorrected_errors_unplaced,
    );
    if let Some(errors) = unplaced {
        page.item(&format!("ERRORS at {}, module unknown: {errors}", controller.name));
    }
}

fn numa(page: &mut Page, node: &NumaNode) {
    let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
    page.item(&format!(
        "node {}: {}",
        node.node,
        list([
            node.memory_bytes.map(binary_size),
            some(node.cpus.clone()).map(|cpus| format!("threads {cpus}")),
            some(distances.join(" ")).map(|distances| format!("distances {distances}")),
        ])
    ));
}

fn cxl_line(device: &CxlDevice) -> String {
    let size = |bytes: Option<u64>, what: &str| {
        let bytes = bytes.filter(|bytes| *bytes > 0);
        bytes.map(|bytes| format!("{} {what}", binary_size(bytes)))
    };
    let place = device.pci_address.as_ref().map(|address| format!("({address})"));
    format!(
        "CXL {}: {}",
        words([Some(device.name.clone()), place]),
        list([
            size(device.volatile_bytes, "volatile"),
            size(device.persistent_bytes, "persistent"),
            device.model.clone(),
            labelled("serial", &device.serial),
            labelled("firmware", &device.firmware),
            device.numa_node.map(|node| format!("node {node}")),
            some(device.regions.join(" and ")),
        ])
    )
}

fn dimm_place(dimm: &Dimm) -> String {
    let bank = dimm.bank.as_ref().map(|bank| format!("({bank})"));
    some(words([dimm.locator.clone(), bank])).unwrap_or_else(|| "slot".to_owned())
}

fn dimm_line(dimm: &Dimm) -> String {
    let size = dimm.size_bytes.map_or_else(|| "unknown size".to_owned(), binary_size);
    let speed = match (dimm.speed_mtps, dimm.configured_speed_mtps) {
        (Some(rated), Some(runs)) if rated != runs => Some(format!("{rated} MT/s, runs at {runs}")),
        (Some(speed), _) | (None, Some(speed)) => Some(format!("{speed} MT/s")),
        (None, None) => None,
    };
    // Plain memory needs no word for it.
    let technology = dimm
        .technology
        .clone()
        .filter(|name| !matches!(&**name, "DRAM" | "other"));
    let maker = words([dimm.manufacturer.clone(), dimm.part_number.clone()]);
    format!(
        "{}: {}",
        dimm_place(dimm),
        list([
            Some(words([Some(size), dimm.memory_type.clone(), technology])),
            speed,
            some(maker),
            labelled("serial", &dimm.serial)
        ])
    )
}
