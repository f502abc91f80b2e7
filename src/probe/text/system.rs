//! Whose machine it is and its firmware, for people.

use super::page::Page;
use super::words::{binary_size, labelled, list, plural, prefixed, some, words};
use crate::model::inventory::{Bios, FirmwareMode, PowerSupply, System, SystemSlot};

/// Below this, the line on identity is shown: somebody may confuse this machine with another.
const SURE: u8 = 70;

pub(super) fn lines(page: &mut Page, system: &System) {
    let name = words([system.vendor.clone(), system.product.clone(), system.version.clone()]);
    page.item(if name.is_empty() { "unnamed" } else { &name });
    page.item(&list([
        labelled("serial", &system.serial),
        labelled("uuid", &system.uuid),
        labelled("SKU", &system.sku),
    ]));
    if let Some(identity) = system.identity.as_ref().filter(|identity| identity.score < SURE) {
        let name = identity.chosen.clone().unwrap_or_else(|| "nothing".to_owned());
        let reasons = identity.reasons.join("; ");
        page.item(&format!("! named by {name}, {} of 100 sure: {reasons}", identity.score));
    }
    if let Some(board) = &system.board {
        let name = words([board.vendor.clone(), board.product.clone(), board.version.clone()]);
        let serial = labelled("serial", &board.serial);
        let location = labelled("at", &board.location);
        page.item(&prefixed("board", list([some(name), serial, location])));
    }
    if let Some(chassis) = &system.chassis {
        let units = chassis.height_units.map(|units| format!("{units} U"));
        let state = |label: &str, state: &Option<String>| {
            let wrong = state
                .as_ref()
                .filter(|state| !matches!(state.as_str(), "safe" | "other"))?;
            Some(format!("{label} {}", wrong.to_uppercase()))
        };
        page.item(&prefixed(
            "chassis",
            list([
                chassis.kind.clone(),
                units,
                labelled("serial", &chassis.serial),
                labelled("asset tag", &chassis.asset_tag),
                state("state", &chassis.boot_up_state),
                state("power", &chassis.power_supply_state),
                state("temperature", &chassis.thermal_state),
            ]),
        ));
    }
    let told = system.slots.iter().filter(|slot| slot.in_use.is_some());
    let (used, free): (Vec<&SystemSlot>, Vec<&SystemSlot>) = told.partition(|slot| slot.in_use == Some(true));
    page.item(&prefixed(
        "slots in use",
        list(used.into_iter().map(|slot| Some(slot_text(slot)))),
    ));
    page.item(&prefixed(
        "slots free",
        list(free.into_iter().map(|slot| Some(slot_text(slot)))),
    ));
    for supply in &system.power_supplies {
        page.item(&supply_text(supply));
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
    words([Some(name), detail.map(|detail| format!("({detail})"))])
}

fn supply_text(supply: &PowerSupply) -> String {
    let name = supply.name.clone().or_else(|| supply.location.clone());
    let name = name.unwrap_or_else(|| "power supply".to_owned());
    if !supply.present {
        return format!("{name}: empty");
    }
    let wrong = supply
        .status
        .as_ref()
        .filter(|status| matches!(status.as_str(), "non-critical" | "critical"));
    format!(
        "{name}: {}",
        list([
            supply.max_capacity_watts.map(|watts| format!("{watts} W")),
            some(words([supply.manufacturer.clone(), supply.model.clone()])),
            labelled("serial", &supply.serial),
            (!supply.plugged).then(|| "NOT PLUGGED IN".to_owned()),
            wrong.map(|status| status.to_uppercase()),
        ])
    )
}

pub(super) fn bios(page: &mut Page, bios: &Bios) {
    let mode = match bios.mode {
        FirmwareMode::Bios => "booted by BIOS",
        FirmwareMode::Uefi => "booted by UEFI",
        FirmwareMode::DeviceTree => "booted with a device tree",
    };
    let name = words([bios.vendor.clone(), bios.version.clone()]);
    let dated = bios.date.as_ref().map(|date| format!("of {date}"));
    page.item(&list([
        some(words([some(name), dated])),
        Some(mode.to_owned()),
        // Virtual machines call the smallest block their size.
        bios.rom_size_bytes
            .filter(|bytes| *bytes >= 1 << 20)
            .map(|bytes| format!("{} flash", binary_size(bytes))),
        (bios.virtual_machine == Some(true)).then(|| "virtual machine".to_owned()),
    ]));
}

/// Used by other pages: `2 slots`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    plural(u32::try_from(number).unwrap_or(u32::MAX), noun)
}
