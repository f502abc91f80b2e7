//! The table of parts: where each part of the inventory is collected, and how long it may take. A new part is a row here, a field
//! of `model::inventory::Inventory` and its name in the list below that.

use super::options::{Limit, Options};
use super::run;
use super::running::{Row, Start};
use crate::probe::smbios::source;
use crate::probe::{bmc, bus, cabling, cpu, disks, firmware, health, memory, nics, pci, security, system, usb};
use crate::sys::ipmi;

/// A row of the table, named after its field of the inventory.
macro_rules! row {
    ($field:ident, $source:expr, $limit:ident, $probe:expr) => {
        &Row {
            name: stringify!($field),
            source: $source,
            limit: Limit::$limit,
            field: |inventory| &mut inventory.$field,
            probe: $probe,
        }
    };
}

/// In the order in which they are started.
pub(crate) static PARTS: [&dyn Start; 16] = [
    // Cables first: neighbours speak once in 30 s, so every moment of listening counts.
    row!(cabling, cabling::SOURCE, Cables, |job, _, publish| {
        let options = &job.options;
        cabling::cabling(&job.root, job.live.clone(), options.cable_wait, &options.ports, publish)
    }),
    row!(bmc, ipmi::DEVICE, Bmc, |job, limit, publish| {
        bmc::bmc(&job.root, job.live.as_deref(), job.smbios(), limit, publish)
    }),
    row!(disks, disks::entry::BLOCK, Slow, |job, limit, publish| {
        disks::list::disks(&job.root, &job.options.boot_medium, limit, publish)
    }),
    row!(system, source::SOURCE, Quick, |job, _, _| {
        system::system(&job.root, job.smbios())
    }),
    row!(bios, source::SOURCE, Quick, |job, _, _| {
        system::bios(&job.root, job.smbios())
    }),
    row!(cpus, cpu::CPUINFO, Quick, |job, limit, publish| {
        cpu::cpus(&job.root, job.live.as_ref(), job.smbios(), limit, publish)
    }),
    row!(memory, memory::MEMINFO, Quick, |job, limit, publish| {
        memory::memory(&job.root, job.live.as_ref(), job.smbios(), limit, publish)
    }),
    row!(
        storage_controllers,
        disks::controllers::SOURCE,
        Slow,
        |job, limit, publish| { disks::controllers::storage_controllers(&job.root, limit, publish) }
    ),
    row!(nics, bus::NET, Quick, |job, limit, _| {
        nics::nics(&job.root, job.live.clone(), limit, &job.options.ports.brought_up)
    }),
    row!(pci, pci::SOURCE, Quick, |job, limit, publish| {
        pci::functions(&job.root, limit, publish)
    }),
    row!(usb, usb::SOURCE, Quick, |job, limit, _| usb::devices(&job.root, limit)),
    row!(gpus, pci::gpu::SOURCE, Quick, |job, limit, _| {
        pci::gpu::gpus(&job.root, job.live.clone(), limit)
    }),
    row!(security, security::SOURCE, Quick, |job, limit, _| {
        security::security(&job.root, job.smbios(), limit)
    }),
    row!(health, health::SOURCE, Quick, |job, limit, _| {
        health::health(&job.root, limit)
    }),
    row!(firmware, firmware::SOURCE, Quick, |job, limit, _| {
        firmware::listed(&job.root, job.live.is_some(), job.smbios(), limit)
    }),
    row!(run, "/proc", Quick, |job, _, _| {
        run::run(&job.root, &job.options.recon_version, &job.options.started_at)
    }),
];

/// Whether a part is collected: asked for, or looked at for the list of firmware.
pub(crate) fn is_needed(name: &str, options: &Options) -> bool {
    let Some(only) = &options.only else { return true };
    only.contains(name) || only.contains("firmware") && firmware::derived::PARTS.contains(&name)
}
