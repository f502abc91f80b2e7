//! All firmware of a machine: what the firmware lists itself. [`derived`] is what follows from the other parts.

pub(crate) mod derived;

use std::time::{Duration, Instant};

use super::smbios::source::{self, Smbios};
use super::smbios::types;
use crate::model::inventory::{Firmware, Item, Part, PartStatus};
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox;
use crate::probe::nics::devlink as devlink_info;
use crate::probe::nics::devlink::parse;
use crate::sys::devlink;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "the other parts, /sys/firmware/efi/esrt, SMBIOS type 45, /sys/class/mei, devlink";
const ESRT: &str = "/sys/firmware/efi/esrt/entries";
const ESRT_SOURCE: &str = "EFI system resource table";
const DEVLINK_SOURCE: &str = "devlink, device information";
const MEI: &str = "/sys/class/mei";
/// Entries of the table are for boards and cards; there are under 20.
const MAX_ENTRIES: usize = 1024;

/// What no other part has: the EFI system resource table, SMBIOS type 45, and the management engine.
/// `may_ask` is false where the running machine is not to be asked beyond reading files.
pub(crate) fn listed(root: &Root, may_ask: bool, smbios: &Smbios, limit: Duration) -> Part<Vec<Firmware>> {
    let deadline = Instant::now() + limit;
    let cards = (may_ask || !root.is_live()).then(|| {
        let root = root.clone();
        timebox::spawn("probe-devlink", move || root.ask("devlink/info", devlink::infos))
    });
    let mut found = Vec::new();
    let mut items = Vec::new();
    match root.list(ESRT) {
        Ok(names) => {
            for name in root.first("esrt.count", names, MAX_ENTRIES) {
                match esrt(root, &name) {
                    Ok(entry) => found.extend(entry),
                    Err(error) => items.push(Item::gap(format!("esrt.{name}"), error.status(), error.to_string())),
                }
            }
        }
        // Started by a BIOS, or an UEFI that has no such table.
        Err(error) => items.push(Item::gap("esrt", error.status(), error.to_string()).from(ESRT, 0)),
    }
    match smbios.wait(deadline).read_or_gap("smbios", source::SOURCE) {
        Ok((table, _)) => found.extend(types::firmware(&table)),
        Err(gap) => items.push(gap),
    }
    for name in root.list(MEI).unwrap_or_default() {
        found.extend(management_engine(root, &name));
    }
    if let Some(cards) = cards {
        match cards.wait(deadline).read_or_gap("devlink", DEVLINK_SOURCE) {
            Ok((messages, _)) => found.extend(parse(&messages).iter().flat_map(card_pieces)),
            // A kernel without it, or a captured tree from before it was asked.
            Err(gap) if matches!(gap.status, PartStatus::Unsupported | PartStatus::Absent) => {}
            Err(gap) => items.push(gap),
        }
    }
    Part::ok(SOURCE, found).with_items(items)
}

/// The pieces of firmware on one card, by the names that devlink-info.rst has for them: `fw.mgmt`, `fw.undi`, `fw.bundle_id`. What
/// is stored and does not run yet is said.
fn card_pieces(info: &devlink_info::Info) -> Vec<Firmware> {
    let stored = |name: &str| {
        info.stored
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, version)| version)
    };
    let entry = |name: &str, version: &str, note: Option<String>| Firmware {
        name: Some(name.to_owned()),
        belongs_to: Some(info.name.clone()),
        serial: info.serial.clone(),
        note,
        ..Firmware::new("card", version, DEVLINK_SOURCE)
    };
    let running = info.running.iter().map(|(name, version)| {
        let waits = stored(name).filter(|stored| *stored != version);
        entry(
            name,
            version,
            waits.map(|stored| format!("{stored} is stored and runs after the next start")),
        )
    });
    let only_stored = info
        .stored
        .iter()
        .filter(|(name, _)| !info.running.iter().any(|(known, _)| known == name));
    let only_stored = only_stored.map(|(name, version)| entry(name, version, Some("stored, not running".to_owned())));
    running.chain(only_stored).collect()
}

/// One entry (UEFI 2.10, 23.4; Linux Documentation/ABI/testing/sysfs-firmware-efi-esrt). Versions are numbers; the maker knows
/// how to write them. The outcomes of an update are those of edk2's MdePkg/Include/Guid/SystemResourceTable.h; the kernel's
/// document leaves out 1, and so has the others one too low.
fn esrt(root: &Root, name: &str) -> Result<Option<Firmware>, crate::probe::collect::root::ReadError> {
    let at = |file: &str| format!("{ESRT}/{name}/{file}");
    let number = |file: &str| root.number::<u32>(at(file));
    let Some(version) = root
        .attribute(at("fw_version"))?
        .and_then(|text| text.parse::<u32>().ok())
    else {
        return Ok(None);
    };
    let kind = number("fw_type").and_then(|kind| match kind {
        1 => Some("system firmware"),
        2 => Some("device firmware"),
        3 => Some("UEFI driver"),
        _ => None,
    });
    let failed = number("last_attempt_status")
        .filter(|status| *status != 0)
        .map(|status| {
            let why = match status {
                2 => "insufficient resources".to_owned(),
                3 => "incorrect version".to_owned(),
                4 => "invalid format".to_owned(),
                5 => "authentication error".to_owned(),
                6 => "no mains".to_owned(),
                7 => "battery too low".to_owned(),
                8 => "unsatisfied dependencies".to_owned(),
                1 => "no success".to_owned(),
                other => format!("status {other}"),
            };
            let tried = number("last_attempt_version").map(number_text).unwrap_or_default();
            format!("the last update, to {tried}, failed: {why}")
        });
    Ok(Some(Firmware {
        name: kind.map(str::to_owned),
        belongs_to: root.value(at("fw_class")),
        lowest_version: number("lowest_supported_fw_version").map(number_text),
        note: failed,
        ..Firmware::new("esrt", number_text(version), ESRT_SOURCE)
    }))
}

fn number_text(version: u32) -> String {
    format!("{version:#010x}")
}

/// `fw_ver` has up to three blocks `platform:major.minor.milestone.build` (Linux Documentation/ABI/testing/sysfs-class-mei):
/// the running firmware, then others of the engine, often the recovery copy. A block of zeros is none.
fn management_engine(root: &Root, name: &str) -> Vec<Firmware> {
    let Ok(text) = root.text(format!("{MEI}/{name}/fw_ver"), 4096) else {
        return Vec::new();
    };
    let mut versions: Vec<String> = Vec::new();
    for block in text.lines().take(8) {
        let version = block.split_once(':').map_or(block, |(_, version)| version).trim();
        let plain = version
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        let told = plain && version.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
        if told && !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
        }
    }
    let place = root.resolve(format!("{MEI}/{name}")).unwrap_or_default();
    let belongs_to = super::bus::pci_address(&place).unwrap_or_else(|| name.to_owned());
    let entry = |version| Firmware {
        belongs_to: Some(belongs_to.clone()),
        ..Firmware::new("management engine", version, format!("{MEI}/{name}/fw_ver"))
    };
    versions.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
