//! The management controller for people: where it is, who may log in, and what is wrong.

use super::page::Page;
use super::words::{binary_size, labelled, list, mark, plural, some, unit, with, words};
use crate::model::inventory::{Bmc, BmcLan, BmcPowerSupply, Fru, FruBoard, FruProduct, Sel, SelEntry, Sensor, Sensors};
use crate::probe::bmc::ipmi::names::is_well;

/// Newest entries of the log that are shown.
const LOG_LINES: usize = 5;
/// Sensors shown for each thing that is wrong; the document has all.
const MAX_WRONG: usize = 12;
/// Kinds of sensors on parts that can fail.
const WATCHED: [&str; 13] = [
    "power supply",
    "power unit",
    "fan",
    "cooling device",
    "processor",
    "memory",
    "drive slot",
    "physical security",
    "temperature",
    "voltage",
    "battery",
    "critical interrupt",
    "management subsystem health",
];
/// States that do not say "well" and are no trouble.
const HARMLESS: [&str; 9] = [
    "hot spare",
    "spare",
    "inactive",
    "idle",
    "disabled",
    "terminator presence detected",
    "power off",
    "power cycle",
    "D3 power state",
];

pub(super) fn lines(page: &mut Page, bmc: &Bmc) {
    let maker = with("maker", bmc.manufacturer_id.filter(|id| *id != 0));
    page.facts([
        Some(bmc.device.clone()),
        bmc.manufacturer.clone().or(maker),
        with("product", bmc.product_id.filter(|id| *id != 0)),
        labelled("firmware", &bmc.firmware),
        labelled("IPMI", &bmc.ipmi_version),
        mark(bmc.updating == Some(true), "UPDATING"),
    ]);
    if let Some(result) = &bmc.self_test
        && !matches!(result.as_str(), "passed" | "not implemented")
    {
        page.item(&format!("! self test {result}"));
    }
    for lan in &bmc.lan {
        lan_lines(page, lan);
    }
    for interface in &bmc.host_interfaces {
        let Some(address) = interface.service_ip.clone() else {
            continue;
        };
        let service = interface.protocol.as_deref().unwrap_or("service");
        let facts = [
            Some(words([Some(address), with("port", interface.service_port)])),
            with("over", interface.device.as_ref()),
            with("VLAN", interface.service_vlan),
        ];
        page.item(&format!("{service} at {}", list(facts)));
    }
    users(page, bmc);
    chassis(page, bmc);
    for supply in &bmc.power_supplies {
        supply_line(page, supply);
    }
    for fru in &bmc.frus {
        fru_line(page, fru);
    }
    if let Some(sensors) = &bmc.sensors {
        sensor_lines(page, sensors);
    }
    if let Some(sel) = &bmc.sel {
        log_lines(page, sel);
    }
}

fn lan_lines(page: &mut Page, lan: &BmcLan) {
    let channel = format!("channel {}", lan.channel);
    let six = lan.ipv6.iter().filter(|ip| ip.state == "active");
    let six = six.map(|ip| Some(format!("{}/{}", ip.address, ip.prefix_length)));
    page.entry(&channel).facts([
        lan.ipv4
            .map_or(Some("no address".to_owned()), |ip| Some(ip.to_string())),
        lan.mac.map(|mac| mac.to_string()),
        lan.address_source.clone(),
        with("gateway", lan.gateway),
        with("VLAN", lan.vlan),
        some(list(six)),
    ]);
    let mut suites = lan.cipher_suites.iter();
    if suites.any(|suite| suite.id == 0 && suite.oem.is_none()) {
        page.item(&format!("! {channel} offers cipher suite 0: no password is needed"));
    }
}

fn users(page: &mut Page, bmc: &Bmc) {
    let mut seen = Vec::new();
    for user in bmc.users.iter().filter(|user| user.enabled != Some(false)) {
        let name = user.name.as_deref().unwrap_or("(anonymous)");
        let text = Some(format!("{name} ({})", user.privilege));
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    page.group("users").facts(seen);
}

fn chassis(page: &mut Page, bmc: &Bmc) {
    let (chassis, dcmi) = (bmc.chassis.as_ref(), bmc.dcmi.as_ref());
    let draw = dcmi.and_then(|dcmi| dcmi.power_watts);
    page.facts([
        bmc.chassis_power_on
            .map(|on| if on { "power on" } else { "power off" }.to_owned()),
        draw.map(|watts| format!("draws {watts} W")),
        labelled("after mains return:", &bmc.power_restore_policy),
        labelled("started by", &bmc.restart_cause),
        dcmi.and_then(|dcmi| labelled("asset tag", &dcmi.asset_tag)),
        with("FAULT:", chassis.and_then(|chassis| some(chassis.faults.join(", ")))),
    ]);
}

fn supply_line(page: &mut Page, supply: &BmcPowerSupply) {
    let state = match (supply.faults.is_empty(), supply.present) {
        (false, _) => &*supply.faults.join(", ").to_uppercase(),
        (true, Some(false)) => "not present",
        (true, Some(true)) => "ok",
        (true, None) => "state unknown",
    };
    page.entry(&supply.name).facts([
        Some(state.to_owned()),
        unit(supply.capacity_watts, "W"),
        some(words([supply.manufacturer.clone(), supply.product.clone()])),
        labelled("serial", &supply.serial),
    ]);
}

fn fru_line(page: &mut Page, fru: &Fru) {
    let (product, board, memory) = (fru.product.as_ref(), fru.board.as_ref(), fru.memory.as_ref());
    let name = fru.name.clone().or_else(|| fru.entity.clone());
    let name = name.unwrap_or_else(|| match fru.id {
        0 => "board".to_owned(),
        id => format!("unit {id}"),
    });
    let told = |by_product: fn(&FruProduct) -> &Option<String>, by_board: fn(&FruBoard) -> &Option<String>| {
        let by_product = product.and_then(|product| by_product(product).clone());
        by_product.or_else(|| board.and_then(|board| by_board(board).clone()))
    };
    let maker = told(|product| &product.manufacturer, |board| &board.manufacturer);
    let what = told(|product| &product.product, |board| &board.product);
    let part = told(|product| &product.part_number, |board| &board.part_number);
    let serial = told(|product| &product.serial, |board| &board.serial);
    let memory_text = memory.map(|memory| {
        let size = memory.size_bytes.map(binary_size);
        words([size, Some(memory.memory_type.clone()), memory.manufacturer.clone()])
    });
    page.group(&format!("FRU {name}")).facts([
        some(words([maker, what])),
        memory_text.and_then(some),
        labelled("part", &part.or_else(|| memory?.part_number.clone())),
        labelled("serial", &serial.or_else(|| memory?.serial.clone())),
        product.and_then(|product| labelled("asset tag", &product.asset_tag)),
        with("DAMAGED:", some(fru.damage.join(", "))),
    ]);
}

fn sensor_lines(page: &mut Page, sensors: &Sensors) {
    let is_wrong = |sensor: &&Sensor| {
        let status = sensor.status.as_deref().is_some_and(|status| status != "ok");
        status || sensor.states.iter().any(|state| is_trouble(&sensor.kind, state))
    };
    let wrong: Vec<&Sensor> = sensors.sensors.iter().filter(is_wrong).collect();
    let read = sensors.sensors.iter().filter(|sensor| sensor.unavailable.is_none());
    page.facts([
        Some(plural(sensors.sensors.len(), "sensor")),
        Some(format!("{} read", read.count())),
        Some(match wrong.len() {
            0 => "none beyond its limits".to_owned(),
            count => format!("{count} to look at"),
        }),
    ]);
    for sensor in wrong.iter().take(MAX_WRONG) {
        let value = sensor
            .value
            .map(|value| words([Some(value.to_string()), sensor.unit.clone()]));
        let status = sensor.status.clone().filter(|status| status != "ok");
        page.entry(&format!("! {}", sensor.name))
            .facts([value, status, some(sensor.states.join(", "))]);
    }
    if wrong.len() > MAX_WRONG {
        page.item(&format!("! and {} more", wrong.len() - MAX_WRONG));
    }
}

/// States that a person should see: of parts that can fail, everything that does not say "well".
fn is_trouble(kind: &str, state: &str) -> bool {
    WATCHED.contains(&kind) && !is_well(state) && !HARMLESS.contains(&state) && !state.starts_with("state ")
}

fn log_lines(page: &mut Page, sel: &Sel) {
    let noun = if sel.entries_total == 1 { "entry" } else { "entries" };
    page.entry("event log").facts([
        Some(format!("{} {noun}", sel.entries_total)),
        mark(sel.overflow == Some(true), "WAS FULL: entries were lost"),
    ]);
    let newest = sel.entries.len().saturating_sub(LOG_LINES);
    for entry in sel.entries.iter().skip(newest) {
        page.item(&entry_text(entry));
    }
}

fn entry_text(entry: &SelEntry) -> String {
    let at = entry.at.clone().unwrap_or_else(|| match entry.after_start_s {
        Some(seconds) => format!("{seconds} s after start"),
        None => "no time".to_owned(),
    });
    let what = entry.sensor.as_ref().or(entry.sensor_kind.as_ref());
    let what = what.unwrap_or(&entry.kind);
    let gone = mark(entry.asserted == Some(false), "(gone)");
    words([Some(format!("{at} {what}:")), entry.event.clone(), gone])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::bmc::ipmi::names::{entity, event, sensor_kind};
    use crate::probe::bmc::ipmi::supplies::{KIND, PRESENT};

    /// What is compared with here and for power supplies comes out of the table of names.
    #[test]
    fn words_that_are_looked_for_are_in_the_table() {
        let kinds: Vec<String> = (0..=255).map(sensor_kind).collect();
        for kind in WATCHED.into_iter().chain([KIND]) {
            assert!(kinds.iter().any(|known| known == kind), "{kind}");
        }
        assert!((0..=255).any(|id| entity(id, 0).as_deref() == Some(KIND)));
        let offsets = |kind| (0..16).flat_map(move |at| [event(0x6f, kind, at), event(kind, 0, at)]);
        let states: Vec<String> = (0..=255).flat_map(offsets).collect();
        for state in HARMLESS.into_iter().chain([PRESENT, "state 1"]) {
            assert!(states.iter().any(|known| known == state), "{state}");
        }
    }
}
