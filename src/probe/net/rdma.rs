//! InfiniBand and RoCE ports, from `/sys/class/infiniband`.

use std::collections::BTreeMap;

use super::super::bus;
use super::super::root::Root;
use crate::model::inventory::{Nic, RdmaPort};

pub const SOURCE: &str = "/sys/class/infiniband";
/// Devices; every virtual function is one.
const MAX_DEVICES: usize = 8192;
/// Counters that tell of trouble (Documentation/ABI/stable/sysfs-class-infiniband).
const COUNTERS: [&str; 11] = [
    "VL15_dropped",
    "excessive_buffer_overrun_errors",
    "link_downed",
    "link_error_recovery",
    "local_link_integrity_errors",
    "port_rcv_errors",
    "port_rcv_remote_physical_errors",
    "port_rcv_switch_relay_errors",
    "port_xmit_constraint_errors",
    "port_xmit_discards",
    "symbol_error",
];

/// A port and the PCI function behind it.
pub struct Found {
    port: RdmaPort,
    pci_address: Option<String>,
    pci_id: Option<(u16, u16)>,
    numa_node: Option<u32>,
    driver: Option<String>,
}

/// All ports of all devices.
pub fn ports(root: &Root) -> Vec<Found> {
    let mut found = Vec::new();
    let devices = root.first("rdma.count", root.list(SOURCE).unwrap_or_default(), MAX_DEVICES);
    for device in devices {
        let at = |file: &str| format!("{SOURCE}/{device}/{file}");
        let place = root.resolve(at("device")).unwrap_or_default();
        // Numbers have a byte on the wire.
        let numbers = root.list(at("ports")).unwrap_or_default();
        for number in numbers.iter().filter_map(|name| name.parse::<u8>().ok()) {
            let at_port = |file: &str| at(&format!("ports/{number}/{file}"));
            let link_layer = root.value(at_port("link_layer"));
            let gid = root
                .value(at_port("gids/0"))
                .filter(|gid| gid.chars().any(|c| !matches!(c, '0' | ':')));
            let is_infiniband = link_layer.as_deref() == Some("InfiniBand");
            let rate = root.value(at_port("rate"));
            let counter = |name: &&str| {
                let value = root.number(at_port(&format!("counters/{name}")))?;
                Some(((*name).to_owned(), value))
            };
            found.push(Found {
                port: RdmaPort {
                    device: device.clone(),
                    port: number.into(),
                    node_guid: root.value(at("node_guid")),
                    system_image_guid: root.value(at("sys_image_guid")),
                    port_guid: gid.as_deref().filter(|_| is_infiniband).and_then(lower_half),
                    gid,
                    link_layer,
                    state: root.value(at_port("state")).map(words_of),
                    physical_state: root.value(at_port("phys_state")).map(words_of),
                    rate_mbps: rate.as_deref().and_then(mbps),
                    rate,
                    lid: root.value(at_port("lid")).and_then(hex).filter(is_lid),
                    subnet_manager_lid: root.value(at_port("sm_lid")).and_then(hex).filter(is_lid),
                    firmware: root.value(at("fw_ver")),
                    board_id: root.value(at("board_id")),
                    hca_type: root.value(at("hca_type")),
                    counters: COUNTERS.iter().filter_map(counter).collect::<BTreeMap<_, _>>(),
                },
                pci_address: bus::pci_address(&place),
                pci_id: bus::pci_function(&place).and_then(|function| bus::pci_id(root, &function)),
                numa_node: bus::numa_node(root, &place),
                driver: root.link_name(at("device/driver")),
            });
        }
    }
    found
}

/// Puts each port to the interface on the same function; an InfiniBand port without an interface gets an entry of its
/// own. Devices that exist in software only have no function and are left out.
pub fn attach(nics: &mut Vec<Nic>, found: Vec<Found>) {
    for found in found {
        let Found {
            port, pci_id, driver, ..
        } = found;
        let Some(address) = found.pci_address else { continue };
        let mut same = nics
            .iter_mut()
            .filter(|nic| nic.pci_address.as_ref() == Some(&address) && nic.rdma.is_none());
        if let Some(nic) = same.next() {
            nic.rdma = Some(port);
            continue;
        }
        if port.link_layer.as_deref() != Some("InfiniBand") {
            continue;
        }
        let (vendor, model) = pci_id.map_or((None, None), |(vendor, device)| bus::pci_names(vendor, device));
        nics.push(Nic {
            name: format!("{}/{}", port.device, port.port),
            kind: "infiniband".to_owned(),
            driver,
            firmware: port.firmware.clone(),
            vendor: vendor.map(str::to_owned),
            model: model.map(str::to_owned),
            pci_id: pci_id.map(|(vendor, device)| format!("{vendor:04x}:{device:04x}")),
            pci_address: Some(address),
            numa_node: found.numa_node,
            carrier: Some(port.physical_state.as_deref() == Some("LinkUp")),
            speed_mbps: port
                .rate_mbps
                .filter(|_| port.physical_state.as_deref() == Some("LinkUp")),
            rdma: Some(port),
            ..Nic::default()
        });
    }
}

/// 0 is none, and 65535 stands for any.
fn is_lid(lid: &u16) -> bool {
    !matches!(*lid, 0 | u16::MAX)
}

/// `4: ACTIVE` → `ACTIVE`.
fn words_of(numbered: String) -> String {
    match numbered.split_once(": ") {
        Some((_, words)) => words.to_owned(),
        None => numbered,
    }
}

/// The last four groups of `fe80:0000:0000:0000:506b:4b03:00ab:cdef`.
fn lower_half(gid: &str) -> Option<String> {
    let groups: Vec<&str> = gid.split(':').collect();
    (groups.len() == 8).then(|| groups[4..].join(":"))
}

/// `100 Gb/sec (4X EDR)`, `2.5 Gb/sec (1X SDR)`.
fn mbps(rate: &str) -> Option<u32> {
    let (number, rest) = rate.split_once(' ')?;
    let gigabits: f64 = number.parse().ok()?;
    let sane = rest.starts_with("Gb/sec") && (0.1..1_000_000.0).contains(&gigabits);
    sane.then(|| (gigabits * 1000.0).round() as u32)
}

fn hex(text: String) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        assert_eq!(words_of("4: ACTIVE".to_owned()), "ACTIVE");
        assert_eq!(mbps("100 Gb/sec (4X EDR)"), Some(100_000));
        assert_eq!(mbps("2.5 Gb/sec (1X SDR)"), Some(2500));
        assert_eq!(mbps("1e300 Gb/sec"), None);
        assert_eq!(mbps("fast"), None);
        assert_eq!(
            lower_half("fe80:0000:0000:0000:506b:4b03:00ab:cdef").as_deref(),
            Some("506b:4b03:00ab:cdef")
        );
        assert_eq!(lower_half("fe80::1"), None);
        assert_eq!(hex("0x1f".to_owned()), Some(31));
    }
}
