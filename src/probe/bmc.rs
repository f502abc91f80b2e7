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
use crate::model::inventory::{Bmc, Item, Part, PartStatus, Sel, Sensor, Sensors};
use crate::probe::bmc::ipmi::{Ipmi, Refusal, chassis, dcmi, device, fru, lan, reading, sdr, sel, supplies, users};
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::rights;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::{Outcome, Publish};
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
    let mut ipmi = Ipmi::new(root, port, end);
    let source = bmc.device.clone();
    // A controller that cannot say who it is has nothing else to say.
    if let Err(refusal) = device::device_id(&mut ipmi, &mut bmc) {
        return nobody(source, &refusal);
    }
    quick(&mut ipmi, &mut bmc);
    let now = |bmc: &Bmc, ipmi: &Ipmi<'_>| Part::ok(source.clone(), bmc.clone()).with_items(ipmi.items.clone());
    publish.so_far(now(&bmc, &ipmi));
    for number in lan_channels(&mut ipmi, &mut bmc) {
        network(&mut ipmi, number, &mut bmc);
    }
    publish.so_far(now(&bmc, &ipmi));
    let questions = "ipmi get dcmi capabilities, power reading, asset tag";
    bmc.dcmi = optional(&mut ipmi, "dcmi", questions, dcmi::dcmi);

    // What is left is shared: sensors may not use up the time of the log.
    let left = end.saturating_duration_since(Instant::now());
    ipmi.set_deadline(end.checked_sub(left / LOG_SHARE).unwrap_or(end));
    let repository = ipmi.note("sdr", "ipmi get sdr", sdr::read).unwrap_or_default();
    units(&mut ipmi, &repository, &mut bmc);
    publish.so_far(now(&bmc, &ipmi));
    readings(&mut ipmi, &repository, &mut bmc);
    let sensors = bmc.sensors.as_ref().map(|sensors| sensors.sensors.as_slice());
    bmc.power_supplies = sensors.map_or_else(Vec::new, |sensors| supplies::power_supplies(sensors, &bmc.frus));
    publish.so_far(now(&bmc, &ipmi));

    ipmi.set_deadline(end);
    let read_log = |ipmi: &mut Ipmi<'_>| sel::read(ipmi, &repository.sensors);
    if let Ok((log, trouble)) = ipmi.note("sel", "ipmi get sel entry", read_log) {
        ipmi.items.extend(older_entries(&log));
        bmc.sel = Some(log);
        incomplete(&mut ipmi, "sel.entries", trouble.as_ref());
    }
    let mut part = now(&bmc, &ipmi);
    if ipmi.is_dead() {
        part.status = PartStatus::TimedOut;
        part.reason = Some("incomplete: the controller stopped answering".to_owned());
    }
    part
}

/// The part of a controller that does not say who it is.
fn nobody(source: String, refusal: &Refusal) -> Part<Bmc> {
    let reason = match refusal {
        Refusal::Unavailable(PartStatus::Unsupported, _) => "a captured tree has no controller to ask".to_owned(),
        Refusal::Dead(text) => format!("the controller is dead: get device id: {text}"),
        other => format!("get device id: {other}"),
    };
    Part::missing(refusal.status(), source, reason)
}

/// What a controller need not have; one that does not know the command has no such thing.
fn optional<T>(
    ipmi: &mut Ipmi<'_>,
    name: &str,
    source: &str,
    questions: impl FnOnce(&mut Ipmi<'_>) -> Result<T, Refusal>,
) -> Option<T> {
    ipmi.note_or_absent(name, source, Refusal::is_unsupported, questions)
        .ok()
}

/// A dozen questions about the controller and its machine.
fn quick(ipmi: &mut Ipmi<'_>, bmc: &mut Bmc) {
    // What came before a refusal is in the document.
    let _ = ipmi.note("chassis", "ipmi get chassis status", |ipmi| chassis::status(ipmi, bmc));
    bmc.self_test = optional(ipmi, "self_test", "ipmi get self test results", device::self_test);
    bmc.device_guid = optional(ipmi, "device_guid", "ipmi get device guid", device::device_guid);
    bmc.system_guid = optional(ipmi, "system_guid", "ipmi get system guid", device::system_guid);
    let source = "ipmi get system restart cause";
    bmc.restart_cause = optional(ipmi, "restart_cause", source, chassis::restart_cause);
    bmc.power_on_hours = optional(ipmi, "power_on_hours", "ipmi get poh counter", chassis::power_on_hours);
    bmc.watchdog = optional(ipmi, "watchdog", "ipmi get watchdog timer", chassis::watchdog);
}

/// All channels; the numbers of those with a LAN behind them.
fn lan_channels(ipmi: &mut Ipmi<'_>, bmc: &mut Bmc) -> Vec<u8> {
    let mut found = Vec::new();
    let told = ipmi.note("channels", "ipmi get channel info", |ipmi| {
        for number in lan::CHANNELS {
            match lan::channel(ipmi, number) {
                Ok((channel, is_lan)) => {
                    bmc.channels.push(channel);
                    found.extend(is_lan.then_some(number));
                }
                // No such channel.
                Err(refusal @ (Refusal::Code(_) | Refusal::Short)) if !refusal.is_unsupported() => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    });
    match told {
        // The simplest controllers have no channel commands, yet may have a LAN.
        Err(refusal) if refusal.is_unsupported() => vec![1],
        _ => found,
    }
}

/// Settings, cipher suites and users of one LAN channel.
fn network(ipmi: &mut Ipmi<'_>, number: u8, bmc: &mut Bmc) {
    let (name, source) = (format!("lan.{number}"), "ipmi get lan configuration parameters");
    let Ok(mut settings) = ipmi.note(&name, source, |ipmi| lan::lan(ipmi, number)) else {
        return;
    };
    let (name, source) = (format!("cipher_suites.{number}"), "ipmi get channel cipher suites");
    let suites = optional(ipmi, &name, source, |ipmi| lan::cipher_suites(ipmi, number));
    settings.cipher_suites = suites.unwrap_or_default();
    bmc.lan.push(settings);
    let mut names: BTreeMap<u8, Option<String>> = bmc.users.iter().map(|user| (user.id, user.name.clone())).collect();
    let (name, source) = (format!("users.{number}"), "ipmi get user access, get user name");
    let found = ipmi.note(&name, source, |ipmi| users::of_channel(ipmi, number, &mut names));
    bmc.users.extend(found.unwrap_or_default());
}

/// Field replaceable units: number 0 is the controller's own board; the repository lists the others.
fn units(ipmi: &mut Ipmi<'_>, repository: &sdr::Repository, bmc: &mut Bmc) {
    let mut ids = vec![0];
    let local = repository.frus.iter().filter(|device| device.is_local);
    ids.extend(local.map(|device| device.id).filter(|id| *id != 0));
    ids.dedup();
    // Listed, and not there.
    let is_empty_bay = |refusal: &Refusal| matches!(refusal, Refusal::Code(0xcb | 0x81 | 0xc9));
    for id in ids.into_iter().take(fru::MAX_UNITS) {
        let device = repository.frus.iter().find(|device| device.is_local && device.id == id);
        let content = device.map(|device| device.content).unwrap_or_default();
        let read = |ipmi: &mut Ipmi<'_>| fru::read(ipmi, id, content);
        match ipmi.note_or_absent(&format!("fru.{id}"), "ipmi read fru data", is_empty_bay, read) {
            Ok(mut unit) => {
                unit.name = device.and_then(|device| device.name.clone());
                unit.entity = device.and_then(|device| device.entity.clone());
                bmc.frus.push(unit);
            }
            Err(refusal) if refusal.is_final() => return,
            Err(_) => {}
        }
    }
}

fn readings(ipmi: &mut Ipmi<'_>, repository: &sdr::Repository, bmc: &mut Bmc) {
    incomplete(ipmi, "sdr.records", repository.trouble.as_ref());
    if repository.read == 0 {
        return;
    }
    if !repository.complete && repository.trouble.is_none() {
        let reason = format!("the list does not end: {} records are here", repository.read);
        ipmi.items.push(Item::gap("sdr.records", PartStatus::Failed, reason));
    }
    let mut told = Vec::new();
    let read = |ipmi: &mut Ipmi<'_>| {
        let mut ended = Ok(());
        for record in &repository.sensors {
            let read = ended.clone().and_then(|()| reading::read(ipmi, record));
            told.push(read.unwrap_or_else(|refusal| {
                let unavailable = Some(refusal.to_string());
                ended = Err(refusal);
                Sensor {
                    unavailable,
                    ..reading::described(record)
                }
            }));
        }
        ended
    };
    // Sensors that were not asked are told without a reading.
    let _ = ipmi.note("sensors", "ipmi get sensor reading", read);
    bmc.sensors = Some(Sensors {
        records_told: repository.told,
        records_read: repository.read,
        complete: repository.complete,
        sensors: told,
    });
}

/// Tells of the entries that are left out because only the newest are read.
fn older_entries(log: &Sel) -> Option<Item> {
    let (all, told) = (usize::from(log.entries_total), log.entries.len());
    let reason = format!("{all} entries, of which the newest {told} are here");
    (all > told && told >= sel::MAX_ENTRIES).then(|| Item::gap("sel.entries", PartStatus::Failed, reason))
}

/// Tells that a list has holes or ends early.
fn incomplete(ipmi: &mut Ipmi<'_>, name: &str, trouble: Option<&Refusal>) {
    let gap = |refusal: &Refusal| Item::gap(name, refusal.status(), format!("incomplete: {refusal}"));
    ipmi.items.extend(trouble.map(gap));
}

fn status(error: &BmcError) -> PartStatus {
    match error {
        BmcError::NoDevice => PartStatus::Absent,
        BmcError::Open { reason, .. } if reason.kind() == std::io::ErrorKind::PermissionDenied => PartStatus::Denied,
        BmcError::TimedOut(_) => PartStatus::TimedOut,
        BmcError::InvalidCommand => PartStatus::Unsupported,
        _ => PartStatus::Failed,
    }
}

pub mod ipmi;
#[cfg(test)]
mod tests;
