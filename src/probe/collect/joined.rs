//! What follows from several parts together. Pure.

use crate::model::inventory::{Disk, Inventory, Item, Nic, PartInfo, PartStatus, PhysicalDisk, is_placeholder};
use crate::probe::cabling::agent;
use crate::probe::firmware;

/// Fills in what no part knows alone. Asked again and again while parts come in; each time from parts as they were probed.
pub(crate) fn join(inventory: &mut Inventory) {
    unheard_behind_agents(inventory);
    passed_through(inventory);
    modules_of_the_bmc(inventory);
    all_firmware(inventory);
}

/// What a module says of itself to the BMC belongs to the module with that serial number. SMBIOS writes it in hex, with or without
/// `0x`, and some firmware with the date or place behind.
fn modules_of_the_bmc(inventory: &mut Inventory) {
    let (Some(memory), Some(bmc)) = (&mut inventory.memory.value, &inventory.bmc.value) else {
        return;
    };
    let plain = |serial: &str| serial.trim().trim_start_matches("0x").to_ascii_lowercase();
    for fru in &bmc.frus {
        let Some(told) = &fru.memory else { continue };
        let serial = told.serial.as_deref().filter(|serial| !is_placeholder(serial));
        let Some(serial) = serial.map(plain) else { continue };
        let mut same = memory
            .dimms
            .iter_mut()
            .filter(|dimm| dimm.populated && dimm.serial.as_deref().map(plain).as_ref() == Some(&serial));
        // Two with one number: neither is known.
        if let (Some(dimm), None) = (same.next(), same.next()) {
            dimm.fru = Some(fru.id);
            dimm.made_in_week = told.made_in_week.clone();
        }
    }
}

/// The other parts' firmware before what the firmware lists itself. Where that part was not asked for, it stays so. What is
/// missing in one of those parts may be missing here, and that is said.
fn all_firmware(inventory: &mut Inventory) {
    let Some(listed) = inventory.firmware.value.take() else {
        return;
    };
    let derived = firmware::derived::of_parts(inventory);
    inventory.firmware.value = Some(derived.into_iter().chain(listed).collect());
    let missing = |part: &PartInfo<'_>| {
        let late = part.items.iter().any(|item| item.status == PartStatus::TimedOut);
        match part.status {
            PartStatus::Absent => None,
            PartStatus::Ok if !late => None,
            PartStatus::Ok => Some(Item::gap(
                part.name,
                PartStatus::TimedOut,
                "not all of that part was told",
            )),
            status => Some(Item::gap(part.name, status, part.reason.unwrap_or("not told"))),
        }
    };
    let parts = inventory.parts();
    let sources = parts
        .iter()
        .filter(|part| firmware::derived::PARTS.contains(&part.name));
    let gaps: Vec<Item> = sources.filter_map(missing).collect();
    inventory.firmware.items.extend(gaps);
}

/// Disks that a controller passes through are in the list of disks as well: by world wide name, else by serial number and model,
/// the same disk. Volumes have names of their own.
fn passed_through(inventory: &mut Inventory) {
    let (Some(disks), Some(controllers)) = (&inventory.disks.value, &mut inventory.storage_controllers.value) else {
        return;
    };
    // The kernel has a vendor and a model; smartctl has both in one, or the model alone.
    let is_same_model = |disk: &Disk, model: &str| {
        let own = disk.model.as_deref().unwrap_or_default();
        !own.is_empty() && (model.ends_with(own) || own.ends_with(model))
    };
    let is_same = |disk: &Disk, member: &PhysicalDisk| match (&disk.wwn, &member.wwn) {
        (Some(one), Some(other)) if one == other => true,
        _ => {
            let serial = member.serial.as_ref().filter(|serial| !is_placeholder(serial));
            serial.is_some_and(|serial| disk.serial.as_ref() == Some(serial))
                && member.model.as_ref().is_some_and(|model| is_same_model(disk, model))
        }
    };
    for controller in controllers {
        for member in &mut controller.physical_disks {
            let name = disks
                .iter()
                .find(|disk| is_same(disk, member))
                .map(|disk| disk.name.clone());
            member.kernel_name = name;
        }
    }
}

/// A port without a neighbour whose firmware takes the frames of neighbours for itself: that is the reason, and it stays.
fn unheard_behind_agents(inventory: &mut Inventory) {
    let (Some(cabling), Some(nics)) = (&inventory.cabling.value, &inventory.nics.value) else {
        return;
    };
    let hint = |nic: &Nic| {
        let unheard = cabling.ports.iter().any(|port| {
            let lldp = port.neighbours.iter().any(|neighbour| neighbour.protocol == "lldp");
            port.port == nic.name && port.carrier == Some(true) && !lldp
        });
        let hint = agent::agent_hint(nic.driver.as_deref()?)?;
        let item = format!("{}.fw_lldp", nic.name);
        (unheard && nic.firmware_lldp_agent == Some(true)).then(|| Item::gap(item, PartStatus::Unsupported, hint))
    };
    let hints: Vec<Item> = nics.iter().filter_map(hint).collect();
    inventory.cabling.items.extend(hints);
}

#[cfg(test)]
mod tests;
