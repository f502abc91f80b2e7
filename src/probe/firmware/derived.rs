//! Firmware that the other parts of the document name.

use crate::model::inventory::{Firmware, Inventory};
use crate::probe::disks::drive::SMARTCTL;

/// Parts that [`of_parts`] looks at.
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

/// What follows from the other parts, in the order in which a person asks: the board first.
pub(crate) fn of_parts(inventory: &Inventory) -> Vec<Firmware> {
    let mut found = Vec::new();
    board(inventory, &mut found);
    microcode(inventory, &mut found);
    tpms(inventory, &mut found);
    cards(inventory, &mut found);
    storage(inventory, &mut found);
    modules(inventory, &mut found);
    found
}

fn board(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(bios) = &inventory.bios.value {
        let source = &inventory.bios.source;
        found.extend(bios.version.clone().map(|version| Firmware {
            name: bios.vendor.clone(),
            date: bios.date.clone(),
            ..Firmware::new("bios", version, source)
        }));
        found.extend(
            bios.embedded_controller_release
                .clone()
                .map(|version| Firmware::new("embedded controller", version, source)),
        );
    }
    if let Some(bmc) = &inventory.bmc.value {
        let version = bmc.firmware.clone().map(|version| match &bmc.firmware_aux {
            Some(aux) => format!("{version} ({aux})"),
            None => version,
        });
        found.extend(version.map(|version| Firmware {
            name: bmc.manufacturer.clone(),
            belongs_to: Some(bmc.device.clone()),
            ..Firmware::new("bmc", version, "IPMI Get Device ID")
        }));
    }
}

fn microcode(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(cpus) = &inventory.cpus.value {
        let revisions = match cpus.microcode_revisions.is_empty() {
            true => cpus.microcode.clone().into_iter().collect(),
            false => cpus.microcode_revisions.clone(),
        };
        found.extend(revisions.into_iter().map(|version| Firmware {
            name: cpus.model.clone(),
            ..Firmware::new("microcode", version, "/proc/cpuinfo")
        }));
    }
}

fn tpms(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(security) = &inventory.security.value {
        let tpm = |name: Option<String>, place: Option<String>, version: String, source: &str| Firmware {
            name,
            belongs_to: place,
            ..Firmware::new("tpm", version, source)
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
                name: nic.model.clone(),
                belongs_to: Some(place),
                ..Firmware::new("nic", version, "ethtool, driver information")
            }),
        }
    }
    found.append(&mut nics);
    let gpus = inventory.gpus.value.iter().flatten();
    found.extend(gpus.filter_map(|gpu| {
        Some(Firmware {
            name: gpu.name.clone(),
            belongs_to: Some(gpu.pci_address.clone()),
            serial: gpu.serial.clone(),
            ..Firmware::new("gpu", gpu.vbios.clone()?, &inventory.gpus.source)
        })
    }));
}

fn storage(inventory: &Inventory, found: &mut Vec<Firmware>) {
    let controllers = || inventory.storage_controllers.value.iter().flatten();
    for one in controllers() {
        let host = || one.hosts.first().map(|host| host.name.clone());
        let entry = |component: &str, version: String| Firmware {
            name: one.model.clone().or_else(|| one.device.clone()),
            belongs_to: one.pci_address.clone().or_else(host),
            serial: one.serial.clone(),
            ..Firmware::new(component, version, &inventory.storage_controllers.source)
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
            name: disk.model.clone(),
            belongs_to: Some(disk.name.clone()),
            serial: disk.serial.clone(),
            ..Firmware::new("disk", disk.firmware.clone()?, &inventory.disks.source)
        })
    }));
    for one in controllers() {
        let place = one.pci_address.clone().unwrap_or_default();
        // Those that the kernel lists are told above.
        let hidden = one.physical_disks.iter().filter(|disk| disk.kernel_name.is_none());
        found.extend(hidden.filter_map(|disk| {
            Some(Firmware {
                name: disk.model.clone(),
                belongs_to: Some(format!("{place} {}", disk.address).trim().to_owned()),
                serial: disk.serial.clone(),
                ..Firmware::new("disk", disk.firmware.clone()?, SMARTCTL)
            })
        }));
    }
}

fn modules(inventory: &Inventory, found: &mut Vec<Firmware>) {
    if let Some(memory) = &inventory.memory.value {
        found.extend(memory.dimms.iter().filter_map(|dimm| {
            Some(Firmware {
                name: dimm.part_number.clone(),
                belongs_to: dimm.locator.clone(),
                serial: dimm.serial.clone(),
                ..Firmware::new("memory module", dimm.firmware.clone()?, "SMBIOS type 17")
            })
        }));
        found.extend(memory.cxl_devices.iter().filter_map(|device| {
            Some(Firmware {
                name: device.model.clone(),
                belongs_to: device.pci_address.clone().or_else(|| Some(device.name.clone())),
                serial: device.serial.clone(),
                ..Firmware::new("cxl memory", device.firmware.clone()?, "/sys/bus/cxl")
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
            name: product.product.clone(),
            belongs_to: fru.name.clone(),
            serial: product.serial.clone(),
            ..Firmware::new("power supply", version, "FRU product version")
        }));
    }
    let listed = inventory.system.value.iter().flat_map(|system| &system.power_supplies);
    for supply in listed.filter(|supply| supply.present) {
        let known = supply.serial.is_some() && supplies.iter().any(|known| known.serial == supply.serial);
        if let (false, Some(version)) = (known, supply.revision.clone()) {
            supplies.push(Firmware {
                name: supply.model.clone(),
                belongs_to: supply.location.clone().or_else(|| supply.name.clone()),
                serial: supply.serial.clone(),
                ..Firmware::new("power supply", version, "SMBIOS type 39")
            });
        }
    }
    found.append(&mut supplies);
}
