//! Firmware that the other parts of the document name.

use crate::model::inventory::{Firmware, Inventory};

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
}

fn microcode(inventory: &Inventory, found: &mut Vec<Firmware>) {
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
}

fn tpms(inventory: &Inventory, found: &mut Vec<Firmware>) {
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
