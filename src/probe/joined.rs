//! What follows from several parts together. Pure.

use super::ports;
use crate::model::inventory::{Disk, Inventory, Item, Nic, PartStatus, PhysicalDisk, is_placeholder};

/// Fills in what no part knows alone. Asked again and again while parts come in; each time from parts as they were probed.
pub fn join(inventory: &mut Inventory) {
    unheard_behind_agents(inventory);
    passed_through(inventory);
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
        let hint = ports::agent_hint(nic.driver.as_deref()?)?;
        let item = format!("{}.fw_lldp", nic.name);
        (unheard && nic.firmware_lldp_agent == Some(true)).then(|| Item::gap(item, PartStatus::Unsupported, hint))
    };
    let hints: Vec<Item> = nics.iter().filter_map(hint).collect();
    inventory.cabling.items.extend(hints);
}

#[cfg(test)]
#[path = "joined_tests.rs"]
mod tests;
