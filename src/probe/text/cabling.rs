//! Cabling for people.

use super::page::Page;
use super::words::{bracketed, counted, labelled, mark, some, with, words};
use crate::model::inventory::{Cabling, ListenEnd, Neighbour};

pub(super) fn lines(page: &mut Page, cabling: &Cabling) {
    let mut silent = Vec::new();
    for port in &cabling.ports {
        for neighbour in &port.neighbours {
            neighbour_line(page, &port.port, neighbour);
        }
        if port.neighbours.is_empty() && port.carrier == Some(true) {
            silent.push(port.port.as_str());
        }
        page.group(&port.port)
            .facts([counted(u64::from(port.damaged_frames), "damaged frames")]);
    }
    let waited = cabling.listened_ms.map(|ms| format!("in {} s", (ms + 500) / 1000));
    if !silent.is_empty() {
        let said = words([Some("no LLDP or CDP heard".to_owned()), waited]);
        page.item(&format!("{said}: {}", silent.join(" ")));
    } else if cabling.ended == Some(ListenEnd::NoCarrier) {
        page.item("no port has a link");
    }
}

fn neighbour_line(page: &mut Page, port: &str, told: &Neighbour) {
    let name = told.system_name.as_ref().or(told.chassis_id.as_ref());
    // A hardware address as port ID says less than what an administrator wrote.
    let described = told.port_description.clone();
    let described = described.filter(|text| Some(text) != told.port_id.as_ref());
    let (far_port, note) = match told.port_id_kind.as_deref() {
        Some("mac" | "local") if described.is_some() => (described, None),
        _ => (told.port_id.clone(), bracketed(described)),
    };
    page.entry(port).facts([
        some(words([name.cloned(), far_port, note])),
        with("VLAN", told.port_vlan),
        mark(told.aggregated == Some(true), "bundled"),
        mark(told.duplex.as_deref() == Some("half"), "HALF DUPLEX"),
        told.platform.clone(),
        labelled("chassis", &told.chassis_id.clone().filter(|id| Some(id) != name)),
        labelled("managed at", &told.management_addresses.first().cloned()),
        Some(told.protocol.to_uppercase()),
    ]);
}
