//! The inventory for a person at an 80-column console.

mod bmc;
mod cabling;
mod cpu;
mod firmware;
mod health;
mod memory;
mod network;
mod page;
mod pci;
mod security;
mod storage;
mod system;
pub(crate) mod tree;
mod words;

use crate::model::inventory::Inventory;
use crate::model::shown::Shown;
use page::Page;
pub(crate) use words::decimal_size;
use words::with;

/// Renders everything that a person looks for first. Lines are at most 80 columns wide.
pub(crate) fn render(inventory: &Inventory) -> Shown {
    let mut page = Page::default();
    page.part("System", &inventory.system, system::lines);
    page.part("BIOS", &inventory.bios, system::bios);
    page.part("CPU", &inventory.cpus, cpu::lines);
    page.part("Memory", &inventory.memory, memory::lines);
    page.part("Disks", &inventory.disks, storage::disks);
    page.part("RAID/HBA", &inventory.storage_controllers, storage::controllers);
    page.part("Network", &inventory.nics, network::lines);
    page.part("Cables", &inventory.cabling, cabling::lines);
    page.part("PCI", &inventory.pci, pci::functions);
    page.part("USB", &inventory.usb, |page, devices| pci::usb(page, devices));
    page.part("GPU", &inventory.gpus, pci::gpus);
    page.part("Security", &inventory.security, security::lines);
    page.part("BMC", &inventory.bmc, bmc::lines);
    page.part("Health", &inventory.health, health::lines);
    page.part("Firmware", &inventory.firmware, firmware::lines);
    page.part("Run", &inventory.run, |page, run| {
        page.facts([
            Some(format!("recon {}", run.recon_version)),
            with("kernel", run.kernel_release.as_ref()),
            Some(run.started_at.clone()),
            Some(format!("took {:.1} s", run.duration_ms as f64 / 1000.0)),
        ]);
        page.item(run.kernel_command_line.as_deref().unwrap_or_default());
    });
    Shown::lines(page.text())
}
