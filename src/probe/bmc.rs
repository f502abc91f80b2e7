//! The management controller: who it is and where it is on the network. Asks, never changes.

use std::time::{Duration, Instant};

use super::live::LiveSources;
use super::root::Root;
use super::smbios::{self, types};
use super::timebox::Publish;
use crate::model::inventory::{Bmc, BmcLan, Item, Part, PartStatus};
use crate::sys::ipmi::{AskBmc, BmcError, LanConfig};

/// Channels 0 and 12 to 15 have fixed other uses (IPMI 2.0, table 6-1).
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=11;
const MEDIUM_LAN: u8 = 4;
const MEDIUM_OTHER_LAN: u8 = 6;

/// The controller behind the local interface; no question is put after `limit`.
pub fn bmc(root: &Root, live: Option<&dyn LiveSources>, limit: Duration, _publish: &Publish<Part<Bmc>>) -> Part<Bmc> {
    let started = Instant::now();
    let told = smbios::load(root)
        .ok()
        .and_then(|raw| types::ipmi_interface(&raw.table()));
    let source = "/dev/ipmi0";
    let Some(live) = live else {
        return Part::missing(
            PartStatus::Unsupported,
            source,
            "a captured tree has no controller to ask",
        );
    };
    let mut port = match live.bmc() {
        Ok(port) => port,
        Err(error) => {
            // Firmware that lists an interface the kernel does not drive is a hint for whoever looks into it.
            let mut reason = error.to_string();
            if let (BmcError::NoDevice, Some(told)) = (&error, &told) {
                reason = format!("{reason}; the firmware lists one, {told}");
            }
            return Part::missing(status(&error), source, reason);
        }
    };
    let source = format!(
        "{}: get device id, chassis status, channel info, LAN parameters",
        port.device()
    );
    let mut bmc = Bmc {
        device: port.device(),
        smbios_interface: told,
        ..Bmc::default()
    };
    match port.device_id() {
        Ok(id) => {
            bmc.device_id = Some(id.device_id);
            bmc.device_revision = Some(id.device_revision);
            bmc.firmware = Some(format!("{}.{:02}", id.firmware_major, id.firmware_minor));
            bmc.firmware_aux = id
                .firmware_aux
                .map(|aux| aux.iter().map(|byte| format!("{byte:02x}")).collect());
            bmc.ipmi_version = Some(format!("{}.{}", id.ipmi_major, id.ipmi_minor));
            bmc.manufacturer_id = Some(id.manufacturer_id);
            bmc.product_id = Some(id.product_id);
        }
        // A controller that cannot say who it is has nothing else to say.
        Err(error) => return Part::missing(status(&error), source, format!("get device id: {error}")),
    }
    let mut gaps = Vec::new();
    match port.chassis_status() {
        Ok(chassis) => {
            bmc.chassis_power_on = Some(chassis.power_on);
            bmc.power_restore_policy = match chassis.restore_policy {
                0 => Some("always off".to_owned()),
                1 => Some("previous".to_owned()),
                2 => Some("always on".to_owned()),
                _ => None,
            };
        }
        Err(error) => {
            gaps.push(gap("chassis_power_on", &error));
            if error.is_fatal() {
                return Part::ok(source, bmc).with_items(gaps);
            }
        }
    }
    lan(port.as_mut(), started + limit, &mut bmc.lan, &mut gaps);
    Part::ok(source, bmc).with_items(gaps)
}

/// All LAN channels. A controller that does not know the command at all is asked once.
fn lan(port: &mut dyn AskBmc, deadline: Instant, found: &mut Vec<BmcLan>, gaps: &mut Vec<Item>) {
    let mut media_known = true;
    for channel in CHANNELS {
        if Instant::now() >= deadline {
            gaps.push(Item::gap(
                format!("lan.{channel}"),
                PartStatus::TimedOut,
                "the controller answers too slowly to ask the remaining channels".to_owned(),
            ));
            return;
        }
        if media_known {
            match port.channel_medium(channel) {
                Ok(MEDIUM_LAN | MEDIUM_OTHER_LAN) => {}
                Ok(_) => continue,
                // The simplest controllers have no channel commands, yet may have a LAN.
                Err(BmcError::InvalidCommand) => media_known = false,
                Err(error) if error.is_fatal() => {
                    gaps.push(gap(&format!("lan.{channel}"), &error));
                    return;
                }
                // No such channel.
                Err(_) => continue,
            }
        }
        match port.lan(channel) {
            Ok(config) => found.push(lan_facts(channel, &config)),
            Err(error @ BmcError::InvalidCommand) => {
                gaps.push(gap("lan", &error));
                return;
            }
            Err(error) if error.is_fatal() => {
                gaps.push(gap(&format!("lan.{channel}"), &error));
                return;
            }
            // Refused although it called itself a LAN: worth telling. Else simply no LAN.
            Err(error) if media_known => gaps.push(gap(&format!("lan.{channel}"), &error)),
            Err(_) => {}
        }
    }
}

fn lan_facts(channel: u8, config: &LanConfig) -> BmcLan {
    let told = |address: Option<std::net::Ipv4Addr>| address.filter(|address| !address.is_unspecified());
    BmcLan {
        channel,
        mac: config.mac,
        address_source: config.source.map(|source| match source {
            1 => "static".to_owned(),
            2 => "dhcp".to_owned(),
            3 => "bios".to_owned(),
            4 => "other".to_owned(),
            _ => "unspecified".to_owned(),
        }),
        ipv4: told(config.ipv4),
        netmask: told(config.netmask),
        gateway: told(config.gateway),
        vlan: config.vlan,
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

fn gap(item: &str, error: &BmcError) -> Item {
    Item::gap(item.to_owned(), status(error), error.to_string())
}
