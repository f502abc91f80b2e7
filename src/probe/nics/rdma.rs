//! InfiniBand and RoCE ports, from `/sys/class/infiniband`.

use crate::formats::bytes;
use std::collections::BTreeMap;

use crate::model::inventory::{Nic, RdmaPort};
use crate::probe::bus::{self, NET};
use crate::probe::collect::root::Root;

pub(super) const SOURCE: &str = "/sys/class/infiniband";
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
pub(super) struct Found {
    port: RdmaPort,
    pci_address: Option<String>,
    pci_id: Option<(u16, u16)>,
    numa_node: Option<u32>,
    driver: Option<String>,
    /// The interface by name, as the first entry of the port's GID table has it.
    interface: Option<String>,
    /// Ports of its device.
    siblings: usize,
}

/// What the kernel says of an interface that an RDMA port may belong to.
#[derive(Debug, Clone, Default, PartialEq)]
struct Interface {
    name: String,
    /// ARPHRD: 1 Ethernet, 32 InfiniBand.
    kind: Option<u32>,
    /// As text, 6 or 20 bytes.
    address: String,
    /// Which port of its function it is, from 0 on. Before `dev_port`, IPoIB told it by `dev_id`.
    number: Option<u32>,
}

/// The ports with the interfaces of the machine.
pub(super) struct Ports {
    found: Vec<Found>,
    interfaces: Vec<Interface>,
}

fn interface(root: &Root, name: String) -> Interface {
    let at = |file: &str| format!("{NET}/{name}/{file}");
    let kind = root.number(at("type"));
    let dev_id = || bus::hex16(&root.value(at("dev_id"))?).map(u32::from);
    let dev_port = root.number(at("dev_port"));
    Interface {
        kind,
        address: root.value(at("address")).unwrap_or_default(),
        number: match (dev_port, kind) {
            (Some(0) | None, Some(32)) => dev_id().filter(|id| *id != 0).or(dev_port),
            _ => dev_port,
        },
        name,
    }
}

/// All ports of all devices.
pub(super) fn ports(root: &Root) -> Ports {
    let mut found = Vec::new();
    let devices = root.first("rdma.count", root.list(SOURCE).unwrap_or_default(), MAX_DEVICES);
    for device in devices {
        let at = |file: &str| format!("{SOURCE}/{device}/{file}");
        let place = root.resolve(at("device")).unwrap_or_default();
        // Numbers have a byte on the wire.
        let numbers = root.list(at("ports")).unwrap_or_default();
        let numbers: Vec<u8> = numbers.iter().filter_map(|name| name.parse().ok()).collect();
        for number in &numbers {
            let at_port = |file: &str| at(&format!("ports/{number}/{file}"));
            let link_layer = root.value(at_port("link_layer"));
            let gid = root
                .value(at_port("gids/0"))
                .filter(|gid| gid.chars().any(|c| !matches!(c, '0' | ':')));
            let is_infiniband = link_layer.as_deref() == Some("InfiniBand");
            let rate = root.value(at_port("rate"));
            let lid = |file: &str| bus::hex16(&root.value(at_port(file))?).filter(is_lid);
            let counter = |name: &&str| {
                let value = root.number(at_port(&format!("counters/{name}")))?;
                Some(((*name).to_owned(), value))
            };
            found.push(Found {
                port: RdmaPort {
                    device: device.clone(),
                    port: (*number).into(),
                    node_guid: root.value(at("node_guid")),
                    system_image_guid: root.value(at("sys_image_guid")),
                    port_guid: gid.as_deref().filter(|_| is_infiniband).and_then(lower_half),
                    gid,
                    link_layer,
                    state: root.value(at_port("state")).map(words_of),
                    physical_state: root.value(at_port("phys_state")).map(words_of),
                    rate_mbps: rate.as_deref().and_then(mbps),
                    rate,
                    lid: lid("lid"),
                    subnet_manager_lid: lid("sm_lid"),
                    firmware: root.value(at("fw_ver")),
                    board_id: root.value(at("board_id")),
                    hca_type: root.value(at("hca_type")),
                    counters: COUNTERS.iter().filter_map(counter).collect::<BTreeMap<_, _>>(),
                },
                pci_address: bus::pci_address(&place),
                pci_id: bus::pci_function(&place).and_then(|function| bus::pci_id(root, &function)),
                numa_node: bus::numa_node(root, &place),
                driver: root.link_name(at("device/driver")),
                interface: root.value(at_port("gid_attrs/ndevs/0")),
                siblings: numbers.len(),
            });
        }
    }
    let names = match found.is_empty() {
        true => Vec::new(),
        false => root.list(NET).unwrap_or_default(),
    };
    Ports {
        found,
        interfaces: names.into_iter().map(|name| interface(root, name)).collect(),
    }
}

/// How a port and an interface are known to belong together, the surest first. Each is tried for all ports before the next.
const RULES: [fn(&Found, &Interface) -> bool; 4] = [
    // The kernel names it.
    |found, interface| found.interface.as_deref() == Some(&interface.name),
    // IPoIB's address ends with the port's GUID; RoCE's first GID is made from the Ethernet address.
    |found, interface| {
        let half = found.port.gid.as_deref().and_then(lower_half);
        half.is_some_and(|half| made_of(&interface.address).as_deref() == Some(&*half.replace(':', "")))
    },
    // The same number on one function.
    |found, interface| interface.number.and_then(|number| number.checked_add(1)) == Some(found.port.port),
    // The only port there is; and kernels that number nothing.
    |found, interface| found.siblings == 1 || interface.number.is_none(),
];

/// The 64-bit identifier in an address, in hex: the GUID of an IPoIB address, or the modified EUI-64 (RFC 4291, appendix A) of
/// an Ethernet address.
fn made_of(address: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = address
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    let id = match bytes?.as_slice() {
        [a, b, c, d, e, f] => vec![a ^ 2, *b, *c, 0xff, 0xfe, *d, *e, *f],
        bytes if bytes.len() == 20 => bytes.get(12..)?.to_vec(),
        _ => return None,
    };
    Some(bytes::hex(&id))
}

/// True where an interface of this kind can carry this link layer.
fn is_same_kind(found: &Found, interface: &Interface) -> bool {
    match found.port.link_layer.as_deref() {
        Some("InfiniBand") => interface.kind == Some(32),
        Some("Ethernet") => interface.kind == Some(1),
        _ => true,
    }
}

/// Puts each port to its interface on the same function; an InfiniBand port without an interface gets an entry of its
/// own. Devices that exist in software only have no function and are left out, and so is a second device on a function
/// of which another is told: the planes of a port, or software over it.
pub(super) fn attach(nics: &mut Vec<Nic>, ports: Ports) {
    let Ports { mut found, interfaces } = ports;
    found.retain(|found| found.pci_address.is_some());
    let known = |name: &str| interfaces.iter().find(|interface| interface.name == name);
    // Device and function of what is told.
    let mut told: Vec<(String, Option<String>)> = Vec::new();
    for rule in RULES {
        for one in std::mem::take(&mut found) {
            let fits = |nic: &&mut Nic| {
                let interface = known(&nic.name).filter(|interface| is_same_kind(&one, interface));
                nic.rdma.is_none()
                    && nic.pci_address == one.pci_address
                    && interface.is_some_and(|interface| rule(&one, interface))
            };
            match nics.iter_mut().find(fits) {
                Some(nic) => {
                    told.push((one.port.device.clone(), one.pci_address));
                    nic.rdma = Some(one.port);
                }
                None => found.push(one),
            }
        }
    }
    for found in found {
        let is_other = |(device, function): &(String, Option<String>)| {
            *function == found.pci_address && *device != found.port.device
        };
        if found.port.link_layer.as_deref() != Some("InfiniBand") || told.iter().any(is_other) {
            continue;
        }
        told.push((found.port.device.clone(), found.pci_address.clone()));
        let Found {
            port,
            pci_id,
            driver,
            pci_address: address,
            ..
        } = found;
        let names = bus::pci_names(pci_id);
        nics.push(Nic {
            name: format!("{}/{}", port.device, port.port),
            kind: "infiniband".to_owned(),
            driver,
            firmware: port.firmware.clone(),
            vendor: names.vendor,
            model: names.device,
            pci_id: names.id,
            pci_address: address,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const FUNCTION: &str = "sys/devices/pci0000:03/0000:03:00.0";

    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = dir.join(FUNCTION).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// One function with these interfaces (name, ARPHRD, address, dev_port) and ports (device, number, link layer, GID, interface).
    fn told(
        interfaces: &[(&str, &str, &str, &str)],
        ports_in: &[(&str, &str, &str, &str, &str)],
    ) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        for class in ["infiniband", "net"] {
            fs::create_dir_all(dir.path().join("sys/class").join(class)).unwrap();
        }
        let link = |class: &str, name: &str| {
            let target = format!("../../../{FUNCTION}/{class}/{name}");
            let _ = symlink(target, dir.path().join("sys/class").join(class).join(name));
            let _ = symlink(
                "../../../0000:03:00.0",
                dir.path().join(FUNCTION).join(class).join(name).join("device"),
            );
        };
        for (name, kind, address, number) in interfaces {
            let at = |file: &str| format!("net/{name}/{file}");
            write(dir.path(), &[(&at("type"), kind), (&at("address"), address)]);
            if !number.is_empty() {
                write(dir.path(), &[(&at("dev_port"), number)]);
            }
            link("net", name);
        }
        for (device, number, layer, gid, interface) in ports_in {
            let at = |file: &str| format!("infiniband/{device}/ports/{number}/{file}");
            write(
                dir.path(),
                &[
                    (&at("state"), "4: ACTIVE"),
                    (&at("link_layer"), layer),
                    (&at("gids/0"), gid),
                ],
            );
            if !interface.is_empty() {
                write(dir.path(), &[(&at("gid_attrs/ndevs/0"), interface)]);
            }
            link("infiniband", device);
        }
        let root = Root::at(dir.path());
        let nic = |(name, ..): &(&str, &str, &str, &str)| Nic {
            name: (*name).to_owned(),
            pci_address: Some("0000:03:00.0".to_owned()),
            ..Nic::default()
        };
        let mut nics: Vec<Nic> = interfaces.iter().map(nic).collect();
        attach(&mut nics, ports(&root));
        let port = |port: RdmaPort| format!("{}/{}", port.device, port.port);
        nics.into_iter()
            .map(|nic| (nic.name, nic.rdma.map(port).unwrap_or_default()))
            .collect()
    }

    fn pairs(told: &[(String, String)]) -> Vec<(&str, &str)> {
        told.iter().map(|(one, other)| (&**one, &**other)).collect()
    }

    const IPOIB: &str = "80:00:02:08:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:aa:00:02";
    const IB_GID: &str = "fe80:0000:0000:0000:e41d:2d03:00aa:0002";
    const ROCE_GID: &str = "fe80:0000:0000:0000:e61d:2dff:feaa:0001";
    const MAC: &str = "e4:1d:2d:aa:00:01";

    #[test]
    fn ports_of_one_function_go_to_their_own_interfaces() {
        let expected = [("enp3s0", "mlx4_0/1"), ("ib0", "mlx4_0/2")];
        // By name; by address; by number, with the interfaces listed in either order.
        for (first, second, gids) in [
            ("enp3s0", "ib0", ["", ""]),
            ("", "", [ROCE_GID, IB_GID]),
            ("", "", ["", ""]),
        ] {
            let ports = [
                ("mlx4_0", "1", "Ethernet", gids[0], first),
                ("mlx4_0", "2", "InfiniBand", gids[1], second),
            ];
            let (ethernet, ipoib) = (("enp3s0", "1", MAC, "0"), ("ib0", "32", IPOIB, "1"));
            assert_eq!(pairs(&told(&[ethernet, ipoib], &ports)), expected);
            let mut turned = told(&[ipoib, ethernet], &ports);
            turned.reverse();
            assert_eq!(pairs(&turned), expected);
        }
    }

    #[test]
    fn two_ethernet_ports_are_told_apart_and_a_subfunction_takes_nothing() {
        let ports = [
            ("rocep3s0", "1", "Ethernet", "", "enp3s0d1"),
            ("rocep3s0", "2", "Ethernet", "", "enp3s0"),
        ];
        let interfaces = [("enp3s0", "1", MAC, "0"), ("enp3s0d1", "1", "e4:1d:2d:aa:00:02", "1")];
        assert_eq!(
            pairs(&told(&interfaces, &ports)),
            [("enp3s0", "rocep3s0/2"), ("enp3s0d1", "rocep3s0/1")]
        );
        let subfunction = [
            ("en3f0pf0sf88", "1", "02:00:00:00:00:01", "0"),
            ("enp3s0", "1", MAC, "0"),
        ];
        let port = [("irdma0", "1", "Ethernet", ROCE_GID, "")];
        assert_eq!(
            pairs(&told(&subfunction, &port)),
            [("en3f0pf0sf88", ""), ("enp3s0", "irdma0/1")]
        );
        // Over a bond the kernel names the bond.
        let bonded = [("mlx5_bond_0", "1", "Ethernet", "", "bond0")];
        assert_eq!(
            pairs(&told(&[("enp3s0", "1", MAC, "0")], &bonded)),
            [("enp3s0", "mlx5_bond_0/1")]
        );
    }

    #[test]
    fn planes_of_a_port_are_no_ports() {
        let planes = [
            ("mlx5_0", "1", "InfiniBand", IB_GID, "ib0"),
            ("smi1", "1", "InfiniBand", "", ""),
            ("smi1", "2", "InfiniBand", "", ""),
        ];
        assert_eq!(
            pairs(&told(&[("ib0", "32", IPOIB, "0")], &planes)),
            [("ib0", "mlx5_0/1")]
        );
        assert_eq!(pairs(&told(&[], &planes)), [("mlx5_0/1", "mlx5_0/1")]);
        // Without IPoIB both ports of a card are told, as nobody else tells of them.
        let two = [
            ("mlx4_0", "1", "InfiniBand", "", ""),
            ("mlx4_0", "2", "InfiniBand", "", ""),
        ];
        assert_eq!(told(&[], &two).len(), 2);
    }

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
        assert_eq!(bus::hex16("0x1f"), Some(31));
    }
}
