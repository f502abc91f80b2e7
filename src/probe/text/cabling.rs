//! Cabling for people.

use super::page::Page;
use super::words::{labelled, list, some, words};
use crate::model::inventory::{Cabling, ListenEnd, Neighbour};

pub(super) fn lines(page: &mut Page, cabling: &Cabling) {
    let mut silent = Vec::new();
    for port in &cabling.ports {
        for neighbour in &port.neighbours {
            page.item(&format!("{}: {}", port.port, neighbour_line(neighbour)));
        }
        if port.neighbours.is_empty() && port.carrier == Some(true) {
            silent.push(port.port.clone());
        }
        if port.damaged_frames > 0 {
            page.item(&format!("{}: {} damaged frames", port.port, port.damaged_frames));
        }
    }
    let waited = cabling.listened_ms.map(|ms| format!("in {} s", (ms + 500) / 1000));
    if !silent.is_empty() {
        let said = words([Some("no LLDP or CDP heard".to_owned()), waited]);
        page.item(&format!("{said}: {}", silent.join(" ")));
    } else if cabling.ended == Some(ListenEnd::NoCarrier) {
        page.item("no port has a link");
    }
}

fn neighbour_line(told: &Neighbour) -> String {
    let name = told.system_name.as_ref().or(told.chassis_id.as_ref()).cloned();
    // A hardware address as port ID says less than what an administrator wrote.
    let described = told
        .port_description
        .clone()
        .filter(|text| Some(text) != told.port_id.as_ref());
    let (port, note) = match told.port_id_kind.as_deref() {
        Some("mac" | "local") if described.is_some() => (described, None),
        _ => (told.port_id.clone(), described.map(|text| format!("({text})"))),
    };
    let vlan = told.port_vlan.map(|vlan| format!("VLAN {vlan}"));
    let bundle = told.aggregated.filter(|bundled| *bundled).map(|_| "bundled".to_owned());
    let chassis = told.chassis_id.clone().filter(|id| Some(id) != name.as_ref());
    list([
        some(words([name, port, note])),
        vlan,
        bundle,
        told.duplex
            .clone()
            .filter(|duplex| duplex == "half")
            .map(|_| "HALF DUPLEX".to_owned()),
        told.platform.clone(),
        labelled("chassis", &chassis),
        labelled("managed at", &told.management_addresses.first().cloned()),
        Some(told.protocol.to_uppercase()),
    ])
}
