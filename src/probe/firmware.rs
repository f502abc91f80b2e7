//! One list of all firmware: what the firmware lists itself, and what follows from the other parts.

use std::time::{Duration, Instant};

use super::smbios::source::{self, Smbios};
use super::smbios::types;
use crate::model::inventory::{Firmware, Inventory, Item, Part, PartStatus};
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox;
use crate::probe::nics::devlink as devlink_info;
use crate::probe::nics::devlink::parse;
use crate::sys::devlink;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "the other parts, /sys/firmware/efi/esrt, SMBIOS type 45, /sys/class/mei, devlink";
/// Parts that [`derived`] looks at.
pub(crate) const PARTS: [&str; 10] = [
    "system",
    "bios",
    "cpus",
    "memory",
    "disks",
    "storage_controllers",
    "nics",
    "gpus",
    "security",
    "bmc",
];
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
        component: "card".to_owned(),
        name: Some(name.to_owned()),
        belongs_to: Some(info.name.clone()),
        serial: info.serial.clone(),
        version: version.to_owned(),
        note,
        source: DEVLINK_SOURCE.to_owned(),
        ..Firmware::default()
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
        component: "esrt".to_owned(),
        name: kind.map(str::to_owned),
        belongs_to: root.value(at("fw_class")),
        version: number_text(version),
        lowest_version: number("lowest_supported_fw_version").map(number_text),
        note: failed,
        source: ESRT_SOURCE.to_owned(),
        ..Firmware::default()
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
        component: "management engine".to_owned(),
        belongs_to: Some(belongs_to.clone()),
        version,
        source: format!("{MEI}/{name}/fw_ver"),
        ..Firmware::default()
    };
    versions.into_iter().map(entry).collect()
}

/// What follows from the other parts, in the order in which a person asks: the board first.
pub(crate) fn derived(inventory: &Inventory) -> Vec<Firmware> {
    let mut found = Vec::new();
    board(inventory, &mut found);
    cards(inventory, &mut found);
    storage(inventory, &mut found);
    modules(inventory, &mut found);
    found
}

fn board(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(bios) = &inventory.bios.value {
        let source = || inventory.bios.source.clone();
        found.extend(bios.version.clone().map(|version| Firmware {
            component: "bios".to_owned(),
            name: bios.vendor.clone(),
            date: bios.date.clone(),
            version,
            source: source(),
            ..Firmware::default()
        }));
        found.extend(bios.embedded_controller_release.clone().map(|version| Firmware {
            component: "embedded controller".to_owned(),
            version,
            source: source(),
            ..Firmware::default()
        }));
    }
    if let Some(bmc) = &inventory.bmc.value {
        let version = bmc.firmware.clone().map(|version| match &bmc.firmware_aux {
            Some(aux) => format!("{version} ({aux})"),
            None => version,
        });
        found.extend(version.map(|version| Firmware {
            component: "bmc".to_owned(),
            name: bmc.manufacturer.clone(),
            belongs_to: Some(bmc.device.clone()),
            version,
            source: "IPMI Get Device ID".to_owned(),
            ..Firmware::default()
        }));
    }
    if let Some(cpus) = &inventory.cpus.value {
        let revisions = match cpus.microcode_revisions.is_empty() {
            true => cpus.microcode.clone().into_iter().collect(),
            false => cpus.microcode_revisions.clone(),
        };
        found.extend(revisions.into_iter().map(|version| Firmware {
            component: "microcode".to_owned(),
            name: cpus.model.clone(),
            version,
            source: "/proc/cpuinfo".to_owned(),
            ..Firmware::default()
        }));
    }
    if let Some(security) = &inventory.security.value {
        let tpm = |name: Option<String>, place: Option<String>, version: String, source: &str| Firmware {
            component: "tpm".to_owned(),
            name,
            belongs_to: place,
            version,
            source: source.to_owned(),
            ..Firmware::default()
        };
        let asked = security.tpms.iter().filter_map(|one| {
            let name = one.model.clone().or_else(|| one.vendor.clone());
            Some(tpm(
                name,
                Some(one.device.clone()),
                one.firmware.clone()?,
                "TPM properties",
            ))
        });
        let before = found.len();
        found.extend(asked);
        if found.len() == before
            && let Some(listed) = &security.smbios_tpm
            && let Some(version) = listed.firmware.clone()
        {
            found.push(tpm(listed.vendor.clone(), None, version, "SMBIOS type 43"));
        }
    }
}

/// PCI address without its function: ports of one card run one firmware.
fn card(address: &str) -> &str {
    address.rsplit_once('.').map_or(address, |(card, _)| card)
}

fn cards(inventory: &Inventory, found: &mut Vec<Firmware>) {
    let mut nics: Vec<Firmware> = Vec::new();
    // Virtual functions run what their port runs.
    let ports = inventory
        .nics
        .value
        .iter()
        .flatten()
        .filter(|nic| nic.physical_function.is_none());
    for nic in ports {
        let told = nic.firmware.clone();
        let Some(version) = told.or_else(|| nic.rdma.as_ref()?.firmware.clone()) else {
            continue;
        };
        let place = nic.pci_address.clone().unwrap_or_else(|| nic.name.clone());
        let same = nics.iter_mut().find(|known| {
            let of = known.belongs_to.as_deref().unwrap_or_default();
            known.version == version
                && known.name == nic.model
                && card(of.split(", ").next().unwrap_or_default()) == card(&place)
        });
        match same {
            Some(known) => {
                let of = known.belongs_to.get_or_insert_default();
                if !of.split(", ").any(|known| known == place) {
                    of.push_str(", ");
                    of.push_str(&place);
                }
            }
            None => nics.push(Firmware {
                component: "nic".to_owned(),
                name: nic.model.clone(),
                belongs_to: Some(place),
                version,
                source: "ethtool, driver information".to_owned(),
                ..Firmware::default()
            }),
        }
    }
    found.append(&mut nics);
    let gpus = inventory.gpus.value.iter().flatten();
    found.extend(gpus.filter_map(|gpu| {
        Some(Firmware {
            component: "gpu".to_owned(),
            name: gpu.name.clone(),
            belongs_to: Some(gpu.pci_address.clone()),
            serial: gpu.serial.clone(),
            version: gpu.vbios.clone()?,
            source: inventory.gpus.source.clone(),
            ..Firmware::default()
        })
    }));
}

fn storage(inventory: &Inventory, found: &mut Vec<Firmware>) {
    let controllers = || inventory.storage_controllers.value.iter().flatten();
    for one in controllers() {
        let host = || one.hosts.first().map(|host| host.name.clone());
        let entry = |component: &str, version: String| Firmware {
            component: component.to_owned(),
            name: one.model.clone().or_else(|| one.device.clone()),
            belongs_to: one.pci_address.clone().or_else(host),
            serial: one.serial.clone(),
            version,
            source: inventory.storage_controllers.source.clone(),
            ..Firmware::default()
        };
        // An NVMe drive is its own controller, and among the disks.
        if one.nvme_controllers.is_empty() {
            found.extend(one.firmware.clone().map(|version| entry("controller", version)));
        }
        found.extend(one.option_rom.clone().map(|version| entry("option rom", version)));
    }
    let disks = inventory.disks.value.iter().flatten();
    found.extend(disks.filter_map(|disk| {
        Some(Firmware {
            component: "disk".to_owned(),
            name: disk.model.clone(),
            belongs_to: Some(disk.name.clone()),
            serial: disk.serial.clone(),
            version: disk.firmware.clone()?,
            source: inventory.disks.source.clone(),
            ..Firmware::default()
        })
    }));
    for one in controllers() {
        let place = one.pci_address.clone().unwrap_or_default();
        // Those that the kernel lists are told above.
        let hidden = one.physical_disks.iter().filter(|disk| disk.kernel_name.is_none());
        found.extend(hidden.filter_map(|disk| {
            Some(Firmware {
                component: "disk".to_owned(),
                name: disk.model.clone(),
                belongs_to: Some(format!("{place} {}", disk.address).trim().to_owned()),
                serial: disk.serial.clone(),
                version: disk.firmware.clone()?,
                source: "smartctl".to_owned(),
                ..Firmware::default()
            })
        }));
    }
}

fn modules(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(memory) = &inventory.memory.value {
        found.extend(memory.dimms.iter().filter_map(|dimm| {
            Some(Firmware {
                component: "memory module".to_owned(),
                name: dimm.part_number.clone(),
                belongs_to: dimm.locator.clone(),
                serial: dimm.serial.clone(),
                version: dimm.firmware.clone()?,
                source: "SMBIOS type 17".to_owned(),
                ..Firmware::default()
            })
        }));
        found.extend(memory.cxl_devices.iter().filter_map(|device| {
            Some(Firmware {
                component: "cxl memory".to_owned(),
                name: device.model.clone(),
                belongs_to: device.pci_address.clone().or_else(|| Some(device.name.clone())),
                serial: device.serial.clone(),
                version: device.firmware.clone()?,
                source: "/sys/bus/cxl".to_owned(),
                ..Firmware::default()
            })
        }));
    }
    // Revisions of power supplies are those of hardware and firmware in one; makers' updates go by them.
    let mut supplies: Vec<Firmware> = Vec::new();
    let frus = inventory.bmc.value.iter().flat_map(|bmc| &bmc.frus);
    for fru in frus.filter(|fru| {
        fru.entity
            .as_deref()
            .is_some_and(|entity| entity.starts_with("power supply"))
    }) {
        let Some(product) = &fru.product else { continue };
        supplies.extend(product.version.clone().map(|version| Firmware {
            component: "power supply".to_owned(),
            name: product.product.clone(),
            belongs_to: fru.name.clone(),
            serial: product.serial.clone(),
            version,
            source: "FRU product version".to_owned(),
            ..Firmware::default()
        }));
    }
    let listed = inventory.system.value.iter().flat_map(|system| &system.power_supplies);
    for supply in listed.filter(|supply| supply.present) {
        let known = supply.serial.is_some() && supplies.iter().any(|known| known.serial == supply.serial);
        if let (false, Some(version)) = (known, supply.revision.clone()) {
            supplies.push(Firmware {
                component: "power supply".to_owned(),
                name: supply.model.clone(),
                belongs_to: supply.location.clone().or_else(|| supply.name.clone()),
                serial: supply.serial.clone(),
                version,
                source: "SMBIOS type 39".to_owned(),
                ..Firmware::default()
            });
        }
    }
    found.append(&mut supplies);
}

#[cfg(test)]
mod tests;
