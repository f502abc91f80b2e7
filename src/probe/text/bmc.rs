//! The management controller for people: where it is, who may log in, and what is wrong.

use super::page::Page;
use super::system::counted;
use super::words::{binary_size, labelled, list, prefixed, some, words};
use crate::model::inventory::{Bmc, BmcLan, BmcPowerSupply, Fru, Sel, SelEntry, Sensor, Sensors};
use crate::probe::bmc::ipmi::names::is_well;

/// Newest entries of the log that are shown.
const LOG_LINES: usize = 5;
/// Sensors shown for each thing that is wrong; the document has all.
const MAX_WRONG: usize = 12;

pub(super) fn lines(page: &mut Page, bmc: &Bmc) {
    let maker = bmc.manufacturer.clone().or_else(|| {
        bmc.manufacturer_id
            .filter(|id| *id != 0)
            .map(|id| format!("maker {id}"))
    });
    page.item(&list([
        Some(bmc.device.clone()),
        maker,
        bmc.product_id.filter(|id| *id != 0).map(|id| format!("product {id}")),
        labelled("firmware", &bmc.firmware),
        labelled("IPMI", &bmc.ipmi_version),
        (bmc.updating == Some(true)).then(|| "UPDATING".to_owned()),
    ]));
    if let Some(result) = bmc
        .self_test
        .as_ref()
        .filter(|result| !matches!(result.as_str(), "passed" | "not implemented"))
    {
        page.item(&format!("! self test {result}"));
    }
    for lan in &bmc.lan {
        lan_lines(page, lan);
    }
    for interface in &bmc.host_interfaces {
        let Some(address) = &interface.service_ip else { continue };
        page.item(&format!(
            "{} at {}",
            interface.protocol.as_deref().unwrap_or("service"),
            list([
                Some(match interface.service_port {
                    Some(port) => format!("{address} port {port}"),
                    None => address.clone(),
                }),
                interface.device.as_ref().map(|device| format!("over {device}")),
                interface.service_vlan.map(|vlan| format!("VLAN {vlan}")),
            ])
        ));
    }
    users(page, bmc);
    chassis(page, bmc);
    for supply in &bmc.power_supplies {
        page.item(&supply_text(supply));
    }
    for fru in &bmc.frus {
        page.item(&fru_text(fru));
    }
    if let Some(sensors) = &bmc.sensors {
        sensor_lines(page, sensors);
    }
    if let Some(sel) = &bmc.sel {
        log_lines(page, sel);
    }
}

fn lan_lines(page: &mut Page, lan: &BmcLan) {
    let address = match lan.ipv4 {
        Some(address) => address.to_string(),
        None => "no address".to_owned(),
    };
    let six = lan.ipv6.iter().filter(|ip| ip.state == "active");
    page.item(&format!(
        "channel {}: {}",
        lan.channel,
        list([
            Some(address),
            lan.mac.map(|mac| mac.to_string()),
            lan.address_source.clone(),
            lan.gateway.map(|gateway| format!("gateway {gateway}")),
            lan.vlan.map(|vlan| format!("VLAN {vlan}")),
            some(list(six.map(|ip| Some(format!("{}/{}", ip.address, ip.prefix_length))))),
        ])
    ));
    if lan
        .cipher_suites
        .iter()
        .any(|suite| suite.id == 0 && suite.oem.is_none())
    {
        page.item(&format!(
            "! channel {} offers cipher suite 0: no password is needed",
            lan.channel
        ));
    }
}

fn users(page: &mut Page, bmc: &Bmc) {
    let mut seen = Vec::new();
    for user in bmc.users.iter().filter(|user| user.enabled != Some(false)) {
        let name = user.name.clone().unwrap_or_else(|| "(anonymous)".to_owned());
        let text = format!("{name} ({})", user.privilege);
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    page.item(&prefixed("users", seen.join(", ")));
}

fn chassis(page: &mut Page, bmc: &Bmc) {
    let faults = bmc
        .chassis
        .as_ref()
        .map(|chassis| chassis.faults.join(", "))
        .unwrap_or_default();
    let power = bmc
        .chassis_power_on
        .map(|on| if on { "power on" } else { "power off" }.to_owned());
    let draw = bmc.dcmi.as_ref().and_then(|dcmi| dcmi.power_watts);
    page.item(&list([
        power,
        draw.map(|watts| format!("draws {watts} W")),
        labelled("after mains return:", &bmc.power_restore_policy),
        labelled("started by", &bmc.restart_cause),
        bmc.dcmi
            .as_ref()
            .and_then(|dcmi| labelled("asset tag", &dcmi.asset_tag)),
        (!faults.is_empty()).then(|| format!("FAULT: {faults}")),
    ]));
}

fn supply_text(supply: &BmcPowerSupply) -> String {
    let state = match (supply.faults.is_empty(), supply.present) {
        (false, _) => supply.faults.join(", ").to_uppercase(),
        (true, Some(false)) => "not present".to_owned(),
        (true, Some(true)) => "ok".to_owned(),
        (true, None) => "state unknown".to_owned(),
    };
    format!(
        "{}: {}",
        supply.name,
        list([
            Some(state),
            supply.capacity_watts.map(|watts| format!("{watts} W")),
            some(words([supply.manufacturer.clone(), supply.product.clone()])),
            labelled("serial", &supply.serial),
        ])
    )
}

fn fru_text(fru: &Fru) -> String {
    let name = fru.name.clone().or_else(|| fru.entity.clone());
    let name = name.unwrap_or_else(|| {
        if fru.id == 0 {
            "board".to_owned()
        } else {
            format!("unit {}", fru.id)
        }
    });
    let (board, product) = (fru.board.as_ref(), fru.product.as_ref());
    let first =
        |a: Option<&Option<String>>, b: Option<&Option<String>>| a.cloned().flatten().or_else(|| b.cloned().flatten());
    let maker = first(product.map(|p| &p.manufacturer), board.map(|b| &b.manufacturer));
    let what = first(product.map(|p| &p.product), board.map(|b| &b.product));
    let part = first(product.map(|p| &p.part_number), board.map(|b| &b.part_number));
    let serial = first(product.map(|p| &p.serial), board.map(|b| &b.serial));
    let memory = fru.memory.as_ref();
    let size = memory.and_then(|memory| memory.size_bytes).map(binary_size);
    let memory_text = memory.map(|memory| words([size, Some(memory.memory_type.clone()), memory.manufacturer.clone()]));
    let part = part.or_else(|| memory.and_then(|memory| memory.part_number.clone()));
    let serial = serial.or_else(|| memory.and_then(|memory| memory.serial.clone()));
    let damage = (!fru.damage.is_empty()).then(|| format!("DAMAGED: {}", fru.damage.join(", ")));
    let text = list([
        some(words([maker, what])),
        memory_text.and_then(some),
        labelled("part", &part),
        labelled("serial", &serial),
        labelled("asset tag", &product.and_then(|p| p.asset_tag.clone())),
        damage,
    ]);
    prefixed(&format!("FRU {name}"), text)
}

fn sensor_lines(page: &mut Page, sensors: &Sensors) {
    let is_wrong = |sensor: &&Sensor| {
        let status = sensor.status.as_deref().is_some_and(|status| status != "ok");
        status || sensor.states.iter().any(|state| is_trouble(&sensor.kind, state))
    };
    let wrong: Vec<&Sensor> = sensors.sensors.iter().filter(is_wrong).collect();
    let read = sensors
        .sensors
        .iter()
        .filter(|sensor| sensor.unavailable.is_none())
        .count();
    let trouble = if wrong.is_empty() {
        "none beyond its limits".to_owned()
    } else {
        format!("{} to look at", wrong.len())
    };
    page.item(&format!(
        "{}, {read} read, {trouble}",
        counted(sensors.sensors.len(), "sensor")
    ));
    for sensor in wrong.iter().take(MAX_WRONG) {
        let value = sensor
            .value
            .map(|value| words([Some(value.to_string()), sensor.unit.clone()]));
        let status = sensor.status.clone().filter(|status| status != "ok");
        page.item(&format!(
            "! {}: {}",
            sensor.name,
            list([value, status, some(sensor.states.join(", "))])
        ));
    }
    if wrong.len() > MAX_WRONG {
        page.item(&format!("! and {} more", wrong.len() - MAX_WRONG));
    }
}

/// States that a person should see: of parts that can fail, everything that does not say "well".
fn is_trouble(kind: &str, state: &str) -> bool {
    let watched = [
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
    let harmless = [
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
    watched.contains(&kind) && !is_well(state) && !harmless.contains(&state) && !state.starts_with("state ")
}

fn log_lines(page: &mut Page, sel: &Sel) {
    let full = sel.overflow == Some(true);
    page.item(&format!(
        "event log: {}{}",
        counted(usize::from(sel.entries_total), "entry").replace("entrys", "entries"),
        if full { ", WAS FULL: entries were lost" } else { "" }
    ));
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
    let what = entry
        .sensor
        .clone()
        .or_else(|| entry.sensor_kind.clone())
        .unwrap_or_else(|| entry.kind.clone());
    let gone = (entry.asserted == Some(false)).then(|| "(gone)".to_owned());
    words([Some(format!("{at} {what}:")), entry.event.clone(), gone])
}
