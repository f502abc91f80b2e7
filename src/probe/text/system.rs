//! Whose machine it is and its firmware, for people.

use super::page::Page;
use super::words::{binary_size, bracketed, labelled, mark, some, unit, with, words};
use crate::model::inventory::{Bios, FirmwareMode, PowerSupply, System, SystemSlot};

/// Below this, the line on identity is shown: somebody may confuse this machine with another.
const SURE: u8 = 70;

pub(super) fn lines(page: &mut Page, system: &System) {
    let name = words([system.vendor.clone(), system.product.clone(), system.version.clone()]);
    page.item(if name.is_empty() { "unnamed" } else { &name });
    page.facts([
        labelled("serial", &system.serial),
        labelled("uuid", &system.uuid),
        labelled("SKU", &system.sku),
    ]);
    if let Some(identity) = system.identity.as_ref().filter(|identity| identity.score < SURE) {
        let name = identity.chosen.as_deref().unwrap_or("nothing");
        let reasons = identity.reasons.join("; ");
        page.item(&format!("! named by {name}, {} of 100 sure: {reasons}", identity.score));
    }
    if let Some(board) = &system.board {
        let name = words([board.vendor.clone(), board.product.clone(), board.version.clone()]);
        page.group("board").facts([
            some(name),
            labelled("serial", &board.serial),
            labelled("at", &board.location),
        ]);
    }
    if let Some(chassis) = &system.chassis {
        let wrong = |state: &Option<String>| {
            let state = state.as_deref().filter(|state| !matches!(*state, "safe" | "other"));
            state.map(str::to_uppercase)
        };
        page.group("chassis").facts([
            chassis.kind.clone(),
            unit(chassis.height_units, "U"),
            labelled("serial", &chassis.serial),
            labelled("asset tag", &chassis.asset_tag),
            with("state", wrong(&chassis.boot_up_state)),
            with("power", wrong(&chassis.power_supply_state)),
            with("temperature", wrong(&chassis.thermal_state)),
        ]);
    }
    for (name, in_use) in [("slots in use", true), ("slots free", false)] {
        let slots = system.slots.iter().filter(|slot| slot.in_use == Some(in_use));
        page.group(name).facts(slots.map(|slot| Some(slot_text(slot))));
    }
    for supply in &system.power_supplies {
        supply_line(page, supply);
    }
    if let Some(status) = system.boot_status.as_ref().filter(|status| *status != "no errors") {
        page.item(&format!("! last start: {status}"));
    }
}

fn slot_text(slot: &SystemSlot) -> String {
    let name = slot.name.clone().unwrap_or_else(|| "slot".to_owned());
    let detail = match (&slot.bus_address, slot.in_use, slot.unavailable) {
        (_, _, true) => Some("unavailable".to_owned()),
        (Some(address), Some(true), _) => Some(address.clone()),
        _ => slot.width.clone(),
    };
    words([Some(name), bracketed(detail)])
}

fn supply_line(page: &mut Page, supply: &PowerSupply) {
    let name = supply.name.as_deref().or(supply.location.as_deref());
    let name = name.unwrap_or("power supply");
    if !supply.present {
        return page.item(&format!("{name}: empty"));
    }
    let status = supply.status.as_deref();
    let wrong = status.filter(|status| matches!(*status, "non-critical" | "critical"));
    page.entry(name).facts([
        unit(supply.max_capacity_watts, "W"),
        some(words([supply.manufacturer.clone(), supply.model.clone()])),
        labelled("serial", &supply.serial),
        mark(!supply.plugged, "NOT PLUGGED IN"),
        wrong.map(str::to_uppercase),
    ]);
}

pub(super) fn bios(page: &mut Page, bios: &Bios) {
    let mode = match bios.mode {
        FirmwareMode::Bios => "booted by BIOS",
        FirmwareMode::Uefi => "booted by UEFI",
        FirmwareMode::DeviceTree => "booted with a device tree",
    };
    let name = words([bios.vendor.clone(), bios.version.clone()]);
    // Virtual machines call the smallest block their size.
    let flash = bios.rom_size_bytes.filter(|bytes| *bytes >= 1 << 20);
    page.facts([
        some(words([some(name), with("of", bios.date.as_ref())])),
        Some(mode.to_owned()),
        unit(flash.map(binary_size), "flash"),
        mark(bios.virtual_machine == Some(true), "virtual machine"),
    ]);
}
