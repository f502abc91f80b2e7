//! What follows from several parts together. Pure.

use super::ports;
use crate::model::inventory::{Inventory, Item, PartStatus};

/// Fills in what no part knows alone. Asked again and again while parts come in; each time from parts as they were probed.
pub fn join(inventory: &mut Inventory) {
    unheard_behind_agents(inventory);
}

/// A port without a neighbour whose firmware takes the frames of neighbours for itself: that is the reason, and it stays.
fn unheard_behind_agents(inventory: &mut Inventory) {
    let (Some(cabling), Some(nics)) = (&inventory.cabling.value, &inventory.nics.value) else {
        return;
    };
    let hint = |nic: &crate::model::inventory::Nic| {
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
