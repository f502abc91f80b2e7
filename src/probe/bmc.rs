//! The management controller: who it is, where it is on the network, who may log in, what it measures and what it
//! remembers. Asks, never changes.
//!
//! What is quick and most wanted comes first and is handed out at once; field replaceable units, sensors and the event
//! log, which take hundreds of questions, follow, each handed out when it is there. A controller that misses one answer
//! is dead to us: nothing is asked after it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::smbios::source::Smbios;
use super::smbios::{platform, types};
use crate::model::inventory::{Bmc, Item, Part, PartStatus, Sel, Sensors};
use crate::probe::bmc::ipmi::{
    Link, Notes, Refusal, chassis, dcmi, device, fru, lan, reading, sdr, sel, supplies, users,
};
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::rights;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::{Outcome, Publish, millis};
use crate::sys::ipmi::{AskBmc, BmcError, DEVICE};

/// The log is worth a share of the time even where a controller is slow to tell its sensors.
const LOG_SHARE: u32 = 4;

/// The controller behind the local interface; no question is put after `limit`.
pub(crate) fn bmc(
    root: &Root,
    live: Option<&dyn LiveSources>,
    smbios: &Smbios,
    limit: Duration,
    publish: &Publish<Part<Bmc>>,
) -> Part<Bmc> {
    let started = Instant::now();
    let mut bmc = Bmc {
        device: DEVICE.to_owned(),
        ..Bmc::default()
    };
    if let Outcome::Done { value: Ok(table), .. } = smbios.wait(None) {
        bmc.smbios_interface = types::ipmi_interface(&table);
        bmc.host_interfaces = platform::host_interfaces(&table);
    }
    let port = match live.map(|live| live.bmc()).transpose() {
        Ok(port) => port,
        Err(error) => {
            // Firmware that lists an interface the kernel does not drive is a hint for whoever looks into it.
            let mut reason = error.to_string();
            if let (BmcError::NoDevice, Some(told)) = (&error, &bmc.smbios_interface) {
                reason = format!("{reason}; the firmware lists one, {told}");
            }
            if status(&error) == PartStatus::Denied {
                reason = format!("opening the controller: {}", rights::refusal());
            }
            let mut part = Part::missing(status(&error), DEVICE, reason);
            // The way to Redfish is known from the table alone.
            part.value = Some(bmc).filter(|bmc| !bmc.host_interfaces.is_empty());
            return part;
        }
    };
    if let Some(port) = &port {
        bmc.device = port.device();
    }
    ask_all(root, port, bmc, (started, limit), publish)
}

fn ask_all(
    root: &Root,
    port: Option<Box<dyn AskBmc>>,
    mut bmc: Bmc,
    (started, limit): (Instant, Duration),
    publish: &Publish<Part<Bmc>>,
) -> Part<Bmc> {
    let end = started + limit;
    let mut link = Link::new(root, port, end);
    let source = bmc.device.clone();
    // A controller that cannot say who it is has nothing else to say.
    match device::device_id(&mut link, &mut bmc) {
        Ok(()) => {}
        Err(Refusal::Unavailable(PartStatus::Unsupported, _)) => {
            let reason = "a captured tree has no controller to ask";
            return Part::missing(PartStatus::Unsupported, source, reason);
        }
        Err(refusal) => {
            let reason = match &refusal {
                Refusal::Dead(text) => format!("the controller is dead: get device id: {text}"),
                other => format!("get device id: {other}"),
            };
            return Part::missing(refusal.status(), source, reason);
        }
    }
    let mut notes = Notes::default();
    quick(&mut link, &mut bmc, &mut notes);
    let now = |bmc: &Bmc, notes: &Notes| Part::ok(source.clone(), bmc.clone()).with_items(notes.items.clone());
    publish.so_far(now(&bmc, &notes));
    for number in lan_channels(&mut link, &mut bmc, &mut notes) {
        network(&mut link, number, &mut bmc, &mut notes);
    }
    publish.so_far(now(&bmc, &notes));
    bmc.dcmi = notes.ask_optional(
        &mut link,
        "dcmi",
        "ipmi get dcmi capabilities, power reading, asset tag",
        dcmi::dcmi,
    );

    // What is left is shared: sensors may not use up the time of the log.
    let left = end.saturating_duration_since(Instant::now());
    link.set_deadline(end.checked_sub(left / LOG_SHARE).unwrap_or(end));
    let repository = notes
        .ask(&mut link, "sdr", "ipmi get sdr", sdr::read)
        .unwrap_or_default();
    units(&mut link, &repository, &mut bmc, &mut notes);
    publish.so_far(now(&bmc, &notes));
    readings(&mut link, &repository, &mut bmc, &mut notes);
    bmc.power_supplies = bmc
        .sensors
        .as_ref()
        .map(|sensors| supplies::power_supplies(&sensors.sensors, &bmc.frus))
        .unwrap_or_default();
    publish.so_far(now(&bmc, &notes));

    link.set_deadline(end);
    let log = notes.ask(&mut link, "sel", "ipmi get sel entry", |link| {
        sel::read(link, &repository.sensors)
    });
    if let Some((log, trouble)) = log {
        notes.items.extend(older_entries(&log));
        bmc.sel = Some(log);
        incomplete(&mut notes, "sel.entries", trouble.as_ref());
    }
    let mut part = now(&bmc, &notes);
    if link.is_dead() {
        part.status = PartStatus::TimedOut;
        part.reason = Some("incomplete: the controller stopped answering".to_owned());
    }
    part
}

/// A dozen questions about the controller and its machine.
fn quick(link: &mut Link<'_>, bmc: &mut Bmc, notes: &mut Notes) {
    notes.ask(link, "chassis", "ipmi get chassis status", |link| {
        chassis::status(link, bmc)
    });
    bmc.self_test = notes.ask_optional(link, "self_test", "ipmi get self test results", device::self_test);
    bmc.device_guid = notes.ask_optional(link, "device_guid", "ipmi get device guid", device::device_guid);
    bmc.system_guid = notes.ask_optional(link, "system_guid", "ipmi get system guid", device::system_guid);
    bmc.restart_cause = notes.ask_optional(
        link,
        "restart_cause",
        "ipmi get system restart cause",
        chassis::restart_cause,
    );
    bmc.power_on_hours = notes.ask_optional(link, "power_on_hours", "ipmi get poh counter", chassis::power_on_hours);
    bmc.watchdog = notes.ask_optional(link, "watchdog", "ipmi get watchdog timer", chassis::watchdog);
}

/// All channels; the numbers of those with a LAN behind them.
fn lan_channels(link: &mut Link<'_>, bmc: &mut Bmc, notes: &mut Notes) -> Vec<u8> {
    let started = Instant::now();
    let source = "ipmi get channel info";
    let mut found = Vec::new();
    for number in lan::CHANNELS {
        match lan::channel(link, number) {
            Ok((channel, is_lan)) => {
                bmc.channels.push(channel);
                if is_lan {
                    found.push(number);
                }
            }
            Err(refusal) if refusal.is_unsupported() => {
                // The simplest controllers have no channel commands, yet may have a LAN.
                notes
                    .items
                    .push(refusal.item("channels", source, millis(started.elapsed())));
                return vec![1];
            }
            Err(refusal @ (Refusal::Dead(_) | Refusal::Late | Refusal::Unavailable(..))) => {
                notes
                    .items
                    .push(refusal.item("channels", source, millis(started.elapsed())));
                return found;
            }
            // No such channel.
            Err(_) => {}
        }
    }
    notes
        .items
        .push(Item::ok("channels", source, millis(started.elapsed())));
    found
}

/// Settings, cipher suites and users of one LAN channel.
fn network(link: &mut Link<'_>, number: u8, bmc: &mut Bmc, notes: &mut Notes) {
    let name = format!("lan.{number}");
    let source = "ipmi get lan configuration parameters";
    let Some(mut settings) = notes.ask(link, &name, source, |link| lan::lan(link, number)) else {
        return;
    };
    let name = format!("cipher_suites.{number}");
    let source = "ipmi get channel cipher suites";
    let suites = notes.ask_optional(link, &name, source, |link| lan::cipher_suites(link, number));
    settings.cipher_suites = suites.unwrap_or_default();
    bmc.lan.push(settings);
    let mut names: BTreeMap<u8, Option<String>> = bmc.users.iter().map(|user| (user.id, user.name.clone())).collect();
    let name = format!("users.{number}");
    let source = "ipmi get user access, get user name";
    let found = notes.ask(link, &name, source, |link| users::of_channel(link, number, &mut names));
    bmc.users.extend(found.unwrap_or_default());
}

/// Field replaceable units: number 0 is the controller's own board; the repository lists the others.
fn units(link: &mut Link<'_>, repository: &sdr::Repository, bmc: &mut Bmc, notes: &mut Notes) {
    let source = "ipmi read fru data";
    let mut ids = vec![0];
    let local = repository.frus.iter().filter(|device| device.is_local);
    ids.extend(local.map(|device| device.id).filter(|id| *id != 0));
    ids.dedup();
    for id in ids.into_iter().take(fru::MAX_UNITS) {
        let started = Instant::now();
        let device = repository.frus.iter().find(|device| device.is_local && device.id == id);
        let name = format!("fru.{id}");
        let content = device.map(|device| device.content).unwrap_or_default();
        match fru::read(link, id, content) {
            Ok(mut unit) => {
                unit.name = device.and_then(|device| device.name.clone());
                unit.entity = device.and_then(|device| device.entity.clone());
                bmc.frus.push(unit);
                notes.items.push(Item::ok(name, source, millis(started.elapsed())));
            }
            // An empty bay: listed, and not there.
            Err(refusal @ (Refusal::Code(0xcb) | Refusal::Code(0x81) | Refusal::Code(0xc9))) => {
                let item = Item::gap(name, PartStatus::Absent, refusal.to_string());
                notes.items.push(item.from(source, millis(started.elapsed())));
            }
            Err(refusal) => {
                notes.items.push(refusal.item(&name, source, millis(started.elapsed())));
                if refusal.is_final() {
                    return;
                }
            }
        }
    }
}

fn readings(link: &mut Link<'_>, repository: &sdr::Repository, bmc: &mut Bmc, notes: &mut Notes) {
    incomplete(notes, "sdr.records", repository.trouble.as_ref());
    if repository.read == 0 {
        return;
    }
    if !repository.complete && repository.trouble.is_none() {
        let reason = format!("the list does not end: {} records are here", repository.read);
        notes.items.push(Item::gap("sdr.records", PartStatus::Failed, reason));
    }
    let started = Instant::now();
    let mut sensors = Sensors {
        records_told: repository.told,
        records_read: repository.read,
        complete: repository.complete,
        sensors: Vec::new(),
    };
    let mut trouble = None;
    for record in &repository.sensors {
        let sensor = match &trouble {
            None => reading::read(link, record),
            Some(_) => Ok(reading::described(record)),
        };
        match sensor {
            Ok(sensor) => sensors.sensors.push(sensor),
            Err(refusal) => {
                sensors.sensors.push(reading::described(record));
                trouble = Some(refusal);
            }
        }
        if let (Some(refusal), Some(sensor)) = (&trouble, sensors.sensors.last_mut()) {
            sensor.unavailable = Some(refusal.to_string());
        }
    }
    let source = "ipmi get sensor reading";
    let took = millis(started.elapsed());
    notes.items.push(match &trouble {
        Some(refusal) => refusal.item("sensors", source, took),
        None => Item::ok("sensors", source, took),
    });
    bmc.sensors = Some(sensors);
}

/// Tells of the entries that are left out because only the newest are read.
fn older_entries(log: &Sel) -> Option<Item> {
    let (all, told) = (usize::from(log.entries_total), log.entries.len());
    let reason = format!("{all} entries, of which the newest {told} are here");
    (all > told && told >= sel::MAX_ENTRIES).then(|| Item::gap("sel.entries", PartStatus::Failed, reason))
}

/// Tells that a list has holes or ends early.
fn incomplete(notes: &mut Notes, name: &str, trouble: Option<&Refusal>) {
    if let Some(refusal) = trouble {
        notes
            .items
            .push(Item::gap(name, refusal.status(), format!("incomplete: {refusal}")));
    }
}

fn status(error: &BmcError) -> PartStatus {
    match error {
        BmcError::NoDevice => PartStatus::Absent,
        BmcError::Open { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => PartStatus::Denied,
        BmcError::TimedOut(_) => PartStatus::TimedOut,
        BmcError::InvalidCommand => PartStatus::Unsupported,
        _ => PartStatus::Failed,
    }
}

pub mod ipmi;
#[cfg(test)]
mod tests;
