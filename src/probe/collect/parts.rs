//! The table of parts: where each part of the inventory is collected, and how long it may take. A new part is a row here and a
//! field of `model::inventory::Inventory`.

use super::options::{Limit, Options};
use super::run;
use super::running::{Row, Start};
use crate::probe::smbios::source;
use crate::probe::{bmc, cabling, cpu, disks, firmware, health, memory, nics, pci, security, system, usb};
use crate::sys::ipmi;

/// In the order in which they are started.
pub(crate) static PARTS: [&dyn Start; 16] = [
    // Cables first: neighbours speak once in 30 s, so every moment of listening counts.
    &Row {
        name: "cabling",
        source: cabling::SOURCE,
        limit: Limit::Cables,
        field: |inventory| &mut inventory.cabling,
        probe: |job, publish| {
            let options = &job.options;
            cabling::cabling(&job.root, job.live.clone(), options.cable_wait, &options.ports, publish)
        },
    },
    &Row {
        name: "bmc",
        source: ipmi::DEVICE,
        limit: Limit::Bmc,
        field: |inventory| &mut inventory.bmc,
        probe: |job, publish| {
            let limit = job.within(Limit::Bmc);
            bmc::bmc(&job.root, job.live.as_deref(), job.smbios(), limit, publish)
        },
    },
    &Row {
        name: "disks",
        source: disks::list::BLOCK,
        limit: Limit::Slow,
        field: |inventory| &mut inventory.disks,
        probe: |job, publish| {
            let limit = job.within(Limit::Slow);
            disks::list::disks(&job.root, &job.options.boot_medium, limit, publish)
        },
    },
    &Row {
        name: "system",
        source: source::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.system,
        probe: |job, _| system::system(&job.root, job.smbios()),
    },
    &Row {
        name: "bios",
        source: source::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.bios,
        probe: |job, _| system::bios(&job.root, job.smbios()),
    },
    &Row {
        name: "cpus",
        source: cpu::CPUINFO,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.cpus,
        probe: |job, publish| {
            let limit = job.within(Limit::Quick);
            cpu::cpus(&job.root, job.live.as_ref(), job.smbios(), limit, publish)
        },
    },
    &Row {
        name: "memory",
        source: memory::MEMINFO,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.memory,
        probe: |job, publish| {
            let limit = job.within(Limit::Quick);
            memory::memory(&job.root, job.live.as_ref(), job.smbios(), limit, publish)
        },
    },
    &Row {
        name: "storage_controllers",
        source: disks::controllers::SOURCE,
        limit: Limit::Slow,
        field: |inventory| &mut inventory.storage_controllers,
        probe: |job, publish| disks::controllers::storage_controllers(&job.root, job.within(Limit::Slow), publish),
    },
    &Row {
        name: "nics",
        source: nics::NET,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.nics,
        probe: |job, _| {
            let limit = job.within(Limit::Quick);
            nics::nics(&job.root, job.live.clone(), limit, &job.options.ports.brought_up)
        },
    },
    &Row {
        name: "pci",
        source: pci::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.pci,
        probe: |job, publish| pci::functions(&job.root, job.within(Limit::Quick), publish),
    },
    &Row {
        name: "usb",
        source: usb::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.usb,
        probe: |job, _| usb::devices(&job.root, job.within(Limit::Quick)),
    },
    &Row {
        name: "gpus",
        source: pci::gpu::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.gpus,
        probe: |job, _| pci::gpu::gpus(&job.root, job.live.clone(), job.within(Limit::Quick)),
    },
    &Row {
        name: "security",
        source: security::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.security,
        probe: |job, _| security::security(&job.root, job.smbios(), job.within(Limit::Quick)),
    },
    &Row {
        name: "health",
        source: health::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.health,
        probe: |job, _| health::health(&job.root, job.within(Limit::Quick)),
    },
    &Row {
        name: "firmware",
        source: firmware::SOURCE,
        limit: Limit::Quick,
        field: |inventory| &mut inventory.firmware,
        probe: |job, _| {
            let limit = job.within(Limit::Quick);
            firmware::listed(&job.root, job.live.is_some(), job.smbios(), limit)
        },
    },
    &Row {
        name: "run",
        source: "/proc",
        limit: Limit::Quick,
        field: |inventory| &mut inventory.run,
        probe: |job, _| run::run(&job.root, &job.options.recon_version, &job.options.started_at),
    },
];

/// Whether a part is collected: asked for, or looked at for the list of firmware.
pub(crate) fn is_needed(name: &str, options: &Options) -> bool {
    let Some(only) = &options.only else { return true };
    only.contains(name) || only.contains("firmware") && firmware::PARTS.contains(&name)
}
