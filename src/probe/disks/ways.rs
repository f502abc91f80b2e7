//! The ways to disks as sysfs shows them now, for [`super::arrivals`]. Asks no device.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::arrivals::{Host, Snapshot, Transport, Way};
use crate::probe::bus;
use crate::probe::collect::root::Root;
use crate::probe::disks::entry::{FC_HOSTS, NVME, SCSI_HOSTS, host_driver};
use crate::probe::disks::list;

const PCI: &str = "/sys/bus/pci/devices";
const SCSI_DEVICES: &str = "/sys/bus/scsi/devices";
const FC_REMOTE_PORTS: &str = "/sys/class/fc_remote_ports";
const SAS_HOSTS: &str = "/sys/class/sas_host";
const SAS_PHYS: &str = "/sys/class/sas_phy";
const SAS_END_DEVICES: &str = "/sys/class/sas_end_device";
const SAS_DEVICES: &str = "/sys/class/sas_device";
const ISCSI_SESSIONS: &str = "/sys/class/iscsi_session";
/// There while udev has events to handle (udevadm settle looks at the same file).
const EVENTS: &str = "/run/udev/queue";
/// Drivers that take a function for somebody else.
const LENT: [&str; 5] = ["vfio-pci", "pci-stub", "xen-pciback", "pciback", "uio_pci_generic"];
/// What a driver makes of a storage function, by how its name begins: SCSI and ATA hosts, NVMe controllers, virtio devices,
/// the PCI domain behind Intel's VMD, disks without any of these.
const MADE: [&str; 8] = ["host", "ata", "nvme", "virtio", "pci", "block", "scsi_host", "ufs"];

/// Reads the ways again and again, and remembers what cannot change any more.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: Root,
    /// Kind of the controller by the address of a PCI function; `None` for one that is none of storage.
    functions: BTreeMap<String, Option<Class>>,
    /// SCSI devices that are no disks, or that have their block device.
    known: BTreeSet<String>,
}

/// What matters of a storage function's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// RAID and SAS: firmware of its own that may take its time.
    Firmware,
    Other,
}

impl Scanner {
    pub(crate) fn new(root: Root) -> Self {
        Scanner {
            root,
            functions: BTreeMap::new(),
            known: BTreeSet::new(),
        }
    }

    /// Since the start of the kernel.
    pub(crate) fn since_boot(&self) -> Option<std::time::Duration> {
        let text = self.root.value("/proc/uptime")?;
        let seconds: f64 = text.split(' ').next()?.parse().ok()?;
        std::time::Duration::try_from_secs_f64(seconds).ok()
    }

    /// What there is now.
    pub(crate) fn scan(&mut self) -> Snapshot {
        let mut ways = BTreeMap::new();
        self.functions(&mut ways);
        let devices = self.names(SCSI_DEVICES);
        self.hosts(&devices, &mut ways);
        self.scsi_devices(devices, &mut ways);
        self.nvme(&mut ways);
        self.targets(&mut ways);
        if self.root.exists(EVENTS) {
            ways.insert("drivers that udev loads".to_owned(), Way::Events);
        }
        Snapshot {
            disks: list::names(&self.root).into_iter().collect(),
            ways,
        }
    }

    fn names(&self, folder: &str) -> Vec<String> {
        self.root.list(folder).unwrap_or_default()
    }

    fn has_child(&self, folder: impl AsRef<Path>, prefix: &str) -> bool {
        let children = self.root.list(folder).unwrap_or_default();
        children.iter().any(|name| name.starts_with(prefix))
    }

    fn class(&mut self, address: &str) -> Option<Class> {
        if let Some(known) = self.functions.get(address) {
            return *known;
        }
        let class = bus::pci_class(&self.root, &Path::new(PCI).join(address));
        // PCI Code and ID Assignment 1.11, 1.2 and 1.13: mass storage, and Fibre Channel among the serial buses.
        let class = class.and_then(|class| match class >> 8 {
            0x0104 | 0x0107 => Some(Class::Firmware),
            0x0100..=0x01ff | 0x0c04 => Some(Class::Other),
            _ => None,
        });
        self.functions.insert(address.to_owned(), class);
        class
    }

    /// Functions whose driver is at work on them for the first time.
    fn functions(&mut self, ways: &mut BTreeMap<String, Way>) {
        for address in self.names(PCI) {
            if self.class(&address).is_none() {
                continue;
            }
            let folder = format!("{PCI}/{address}");
            let Some(driver) = self.root.link_name(format!("{folder}/driver")) else {
                continue;
            };
            let children = self.root.list(&folder).unwrap_or_default();
            let is_made = children
                .iter()
                .any(|name| MADE.iter().any(|made| name.starts_with(made)));
            if !is_made && !LENT.contains(&driver.as_str()) {
                ways.insert(format!("{address} ({driver})"), Way::Starting);
            }
        }
    }

    fn hosts(&mut self, devices: &[String], ways: &mut BTreeMap<String, Way>) {
        // `3:0:0:0` is a device of host3.
        let busy: BTreeSet<&str> = devices
            .iter()
            .filter_map(|name| Some(name.split_once(':')?.0))
            .collect();
        for name in self.names(SCSI_HOSTS) {
            let driver = host_driver(&self.root, &name);
            let state = self
                .root
                .value(format!("{SCSI_HOSTS}/{name}/state"))
                .unwrap_or_default();
            let place = self.root.resolve(format!("{SCSI_HOSTS}/{name}")).unwrap_or_default();
            let target = busy.contains(name.trim_start_matches("host"));
            let transport = self.transport(&name, &place);
            let who = match driver {
                Some(driver) => format!("{name} ({driver})"),
                None => name.clone(),
            };
            let host = Host {
                state,
                target,
                transport,
            };
            ways.insert(who, Way::Host(host));
        }
    }

    fn transport(&mut self, host: &str, place: &Path) -> Transport {
        if let Some(state) = self.root.value(format!("{FC_HOSTS}/{host}/port_state")) {
            return Transport::FibreChannel(state);
        }
        if self.root.exists(format!("{SAS_HOSTS}/{host}")) {
            return Transport::Sas(self.phys(host));
        }
        let numbered = |prefix: &str| bus::has_numbered(place, prefix);
        if numbered("usb") {
            return Transport::Usb;
        }
        if numbered("ata") || numbered("virtio") {
            return Transport::AtOnce;
        }
        match bus::pci_address(place).and_then(|address| self.class(&address)) {
            Some(Class::Firmware) => Transport::Mute,
            _ => Transport::AtOnce,
        }
    }

    /// Phys of the host itself (`phy-3:0`). Those of expanders (`phy-3:0:1`) are left out: the one that leads back to the host is
    /// up and makes no port, with some drivers.
    fn phys(&self, host: &str) -> Vec<(String, bool)> {
        let prefix = format!("phy-{}:", host.trim_start_matches("host"));
        let own = |name: &String| name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains(':'));
        let phys = self.names(SAS_PHYS).into_iter().filter(own);
        phys.filter_map(|name| {
            let folder = format!("{SAS_PHYS}/{name}");
            let rate = self.root.value(format!("{folder}/negotiated_linkrate"))?;
            // The class device lies two folders below the phy, which has the link.
            let port = self.root.exists(format!("{folder}/device/port"));
            Some((rate, port))
        })
        .collect()
    }

    fn scsi_devices(&mut self, devices: Vec<String>, ways: &mut BTreeMap<String, Way>) {
        /// Peripheral device types that sd takes (SPC-4, 6.4.2; sd_probe): disks, optical memory, reduced blocks, zoned disks.
        const DISKS: [u32; 4] = [0x00, 0x07, 0x0e, 0x14];
        for name in devices {
            if self.known.contains(&name) || name.split(':').count() != 4 {
                continue;
            }
            let folder = format!("{SCSI_DEVICES}/{name}");
            let is_disk = self
                .root
                .number(format!("{folder}/type"))
                .is_some_and(|kind| DISKS.contains(&kind));
            if !is_disk || self.root.exists(format!("{folder}/block")) {
                self.known.insert(name);
                continue;
            }
            let taken = self.root.exists(format!("{folder}/scsi_disk"));
            ways.insert(name, Way::ScsiDisk { taken });
        }
    }

    fn nvme(&self, ways: &mut BTreeMap<String, Way>) {
        for name in self.names(NVME) {
            let folder = format!("{NVME}/{name}");
            // Over a network it is somebody else's disk, and none that this system connects to.
            if self
                .root
                .value(format!("{folder}/transport"))
                .is_some_and(|transport| transport != "pcie")
            {
                continue;
            }
            let state = self.root.value(format!("{folder}/state")).unwrap_or_default();
            let namespace = self.has_child(&folder, "nvme");
            ways.insert(name, Way::Nvme { state, namespace });
        }
    }

    /// Remote ports, SAS devices and sessions; targets hang below them.
    fn targets(&self, ways: &mut BTreeMap<String, Way>) {
        let below = |folder: &str| self.has_child(format!("{folder}/device"), "target");
        for name in self.names(FC_REMOTE_PORTS) {
            let folder = format!("{FC_REMOTE_PORTS}/{name}");
            let value = |file: &str| self.root.value(format!("{folder}/{file}")).unwrap_or_default();
            let (roles, state, target) = (value("roles"), value("port_state"), below(&folder));
            ways.insert(name, Way::RemotePort { roles, state, target });
        }
        for name in self.names(SAS_END_DEVICES) {
            let folder = format!("{SAS_END_DEVICES}/{name}");
            let protocols = self.root.value(format!("{SAS_DEVICES}/{name}/target_port_protocols"));
            // Expanders talk SMP and take no commands.
            let takes = |text: &String| ["ssp", "stp", "sata"].iter().any(|word| text.contains(word));
            if protocols.as_ref().is_some_and(takes) {
                let target = below(&folder);
                ways.insert(name, Way::EndDevice { target });
            }
        }
        for name in self.names(ISCSI_SESSIONS) {
            let folder = format!("{ISCSI_SESSIONS}/{name}");
            let state = self.root.value(format!("{folder}/state")).unwrap_or_default();
            let target = below(&folder);
            ways.insert(name, Way::Session { state, target });
        }
    }
}

#[cfg(test)]
mod tests;
