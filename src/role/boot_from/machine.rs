//! Reads what a boot script may ask of this machine, and what kexec needs.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::kexec::KexecFacts;
use super::settings::{Machine, Port, ipv6_addresses, routers, vlans};
use crate::config::load::small_file;
use crate::formats::first_stage::BusId;
use crate::probe::bus;
use crate::probe::collect::root::Root;
use crate::service::boot_script::Processor;
use crate::sys::netif::{Link, Netlink, link_named};
use crate::sys::{clock, cpuid, kexec, process};

/// Longest file of the kernel's that is read here.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// iPXE's names of settings, and where the kernel has them.
const FIRMWARE: [(&str, &str); 6] = [
    ("uuid", "product_uuid"),
    ("serial", "product_serial"),
    ("asset", "chassis_asset_tag"),
    ("board-serial", "board_serial"),
    ("manufacturer", "sys_vendor"),
    ("product", "product_name"),
];

fn text(root: &Path, file: &str) -> Option<String> {
    let bytes = small_file(&root.join(file), MAX_FILE_BYTES).ok()??;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Every Ethernet interface, in the kernel's order. Bridges and others without hardware may be what a script is asked over, but come last:
/// iPXE knows none, and counts the others.
fn links(root: &Path) -> io::Result<Vec<Link>> {
    let sys = root.join("sys");
    let mut links = Vec::new();
    for entry in std::fs::read_dir(sys.join("class/net"))? {
        links.extend(entry?.file_name().to_str().and_then(|name| link_named(&sys, name)));
    }
    links.sort_by_key(|link| {
        (
            !sys.join("class/net").join(&link.name).join("device").exists(),
            link.index,
        )
    });
    Ok(links)
}

/// What a port is. Ports of virtio are devices of their own, on a PCI function; below a USB bus that is the controller's.
fn port_bus(root: &Root, name: &str) -> Option<String> {
    let place = root.resolve(format!("{}/{name}/device", bus::NET)).ok()?;
    let function = bus::pci_function(&place).filter(|_| !bus::is_on_usb(&place))?;
    let (vendor, device) = bus::pci_id(root, &function)?;
    Some(BusId::pci(vendor, device).to_string().replace('-', ":"))
}

/// What is readable in `root`, which is `/` but for tests. Addresses are those of the running system.
pub(super) async fn facts(root: &Path) -> Machine {
    let routers = routers(&text(root, "proc/net/route").unwrap_or_default());
    let sixes = ipv6_addresses(&text(root, "proc/net/if_inet6").unwrap_or_default());
    let vlans = vlans(&text(root, "proc/net/vlan/config").unwrap_or_default());
    let netlink = Netlink::open().ok();
    let sysfs = Root::at(root);
    let mut ports = Vec::new();
    for link in links(root).unwrap_or_default() {
        let addresses = match &netlink {
            Some(netlink) => netlink.addresses(link.index).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let sixes: Vec<_> = sixes.iter().filter(|six| six.port == link.name).collect();
        let six = sixes.iter().find(|six| six.is_global);
        let all = addresses.iter().map(|(address, _)| IpAddr::V4(*address));
        ports.push(Port {
            addresses: all.chain(sixes.iter().map(|six| six.address.into())).collect(),
            mac: link.mac.to_string(),
            bus: port_bus(&sysfs, &link.name),
            vlan: vlans
                .iter()
                .find(|(name, ..)| *name == link.name)
                .map(|(_, parent, id)| (parent.clone(), *id)),
            ipv4: addresses.first().copied(),
            ipv6: six.map(|six| (six.address, six.length)),
            gateway: routers
                .iter()
                .find(|(name, _)| *name == link.name)
                .map(|(_, router)| *router),
            name: link.name,
        });
    }
    let dmi = |(setting, file): (&'static str, &str)| Some((setting, text(root, &format!("sys/class/dmi/id/{file}"))?));
    let resolver = text(root, "etc/resolv.conf").unwrap_or_default();
    let word = |name: &str| {
        let mut lines = resolver.lines();
        lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next().map(str::to_owned))
    };
    Machine {
        ports,
        firmware: FIRMWARE.into_iter().filter_map(dmi).collect(),
        is_efi: root.join("sys/firmware/efi").exists(),
        // Those that nobody gave (`UTS_NODENAME` of the kernel's, and what systems without one put there).
        hostname: text(root, "proc/sys/kernel/hostname")
            .filter(|name| !["(none)", "localhost"].contains(&name.as_str())),
        // Settings have no room for the interface behind the `%` of a link's own address.
        dns: word("nameserver ").and_then(|word| word.split('%').next()?.parse().ok()),
        domain: word("search ").or_else(|| word("domain ")),
        memory_mebibytes: memory(root, "MemTotal:").map(|bytes| bytes >> 20),
        processor: cpuid::features().map(|[edx, ecx, extended_edx, extended_ecx]| Processor {
            edx,
            ecx,
            extended_edx,
            extended_ecx,
        }),
        unix_time: u64::try_from(clock::unix_millis() / 1000).unwrap_or(0),
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(root: &Path, name: &str) -> Option<u64> {
    let text = text(root, "proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What programs may take without others being put out (proc_meminfo(5), `MemAvailable`).
pub(super) fn available_bytes() -> Option<u64> {
    memory_bytes("MemAvailable:")
}

/// What the kernel says of its memory by this name.
pub(crate) fn memory_bytes(name: &str) -> Option<u64> {
    memory(Path::new("/"), name)
}

pub(super) fn kexec_facts() -> KexecFacts {
    let root = Path::new("/");
    let says = |file: &str, what: &str| text(root, file).is_some_and(|text| text == what);
    KexecFacts {
        is_there: kexec::is_there() && root.join("sys/kernel/kexec_loaded").exists(),
        is_disabled: says("proc/sys/kernel/kexec_load_disabled", "1"),
        is_used_up: says("proc/sys/kernel/kexec_load_limit_reboot", "0"),
        is_loaded: says("sys/kernel/kexec_loaded", "1"),
        lockdown: text(root, "sys/kernel/security/lockdown"),
        is_root: process::is_root(),
    }
}

/// Whether it was another kernel that started this one, and no firmware: by the kind of boot loader that is kexec's (0xD,
/// Documentation/arch/x86/boot.rst, type_of_loader). Other processors have no such word.
pub(crate) fn is_by_kexec() -> bool {
    is_kexec(text(Path::new("/"), "proc/sys/kernel/bootloader_type").as_deref())
}

fn is_kexec(loader_type: Option<&str>) -> bool {
    let kind = loader_type.and_then(|text| text.trim().parse::<u32>().ok());
    kind.is_some_and(|kind| kind >> 4 == 0xd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_knows_that_another_one_started_it() {
        // iPXE's, GRUB's, that of QEMU, and kexec's (linux arch/x86/kernel/kexec-bzimage64.c).
        for (said, is) in [
            (None, false),
            (Some("102"), false),
            (Some("114"), false),
            (Some("176"), false),
            (Some("208\n"), true),
        ] {
            assert_eq!(is_kexec(said), is, "{said:?}");
        }
    }

    #[test]
    fn a_port_is_named_by_its_pci_function() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let write = |folder: &str, file: &str, text: &str| {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(root.join(folder).join(file), text).unwrap();
        };
        let (e1000, virtio) = (
            "sys/devices/pci0000:00/0000:00:02.0",
            "sys/devices/pci0000:00/0000:00:03.0",
        );
        for (folder, vendor, device) in [(e1000, "0x8086\n", "0x100e\n"), (virtio, "0x1af4\n", "0x1000\n")] {
            write(folder, "vendor", vendor);
            write(folder, "device", device);
        }
        std::fs::create_dir_all(root.join(e1000).join("usb1/1-1/1-1:1.0")).unwrap();
        // The numbers of the bus of virtio are others.
        write(&format!("{virtio}/virtio0"), "vendor", "0x1af4\n");
        write(&format!("{virtio}/virtio0"), "device", "0x0001\n");
        for (name, device) in [
            ("eth0", e1000.to_owned()),
            ("eth1", format!("{virtio}/virtio0")),
            ("usb0", format!("{e1000}/usb1/1-1/1-1:1.0")),
        ] {
            let folder = root.join("sys/class/net").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(Path::new("../../../..").join(device), folder.join("device")).unwrap();
        }
        let port = |name: &str| port_bus(&Root::at(root), name);
        assert_eq!(port("eth0").as_deref(), Some("01:80:86:10:0e"));
        assert_eq!(port("eth1").as_deref(), Some("01:1a:f4:10:00"));
        assert_eq!(port("usb0"), None, "it would be that of the controller");
        assert_eq!(port("bond0"), None);
    }

    #[test]
    fn ports_without_hardware_come_last() {
        let root = tempfile::tempdir().unwrap();
        for (name, index, has_device) in [("ifb0", 2, false), ("eth1", 4, true), ("eth0", 3, true)] {
            let folder = root.path().join("sys/class/net").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [
                ("type", "1\n".to_owned()),
                ("ifindex", format!("{index}\n")),
                ("address", format!("52:54:00:00:00:0{index}\n")),
            ] {
                std::fs::write(folder.join(file), text).unwrap();
            }
            if has_device {
                std::fs::create_dir(folder.join("device")).unwrap();
            }
        }
        let names: Vec<String> = links(root.path()).unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["eth0", "eth1", "ifb0"]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = facts(folder.path()).await;
        assert_eq!(
            Machine {
                unix_time: 0,
                processor: None,
                ..nothing
            },
            Machine::default()
        );
        let put = |file: &str, content: &str| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for (file, content) in [
            ("sys/class/net/eth0/type", "1\n"),
            ("sys/class/net/eth0/ifindex", "7777\n"),
            ("sys/class/net/eth0/address", "52:54:00:00:00:01\n"),
            ("sys/class/net/lo/type", "772\n"),
            ("sys/class/dmi/id/product_serial", "S1\n"),
            ("sys/class/dmi/id/sys_vendor", "\n"),
            ("proc/meminfo", "MemTotal:        2048 kB\nMemAvailable: 1024 kB\n"),
            ("etc/resolv.conf", "search a.example b\nnameserver fe80::53%eth0\n"),
            (
                "proc/net/if_inet6",
                "fe800000000000000000000000000001 02 40 20 80 eth0\n20010db8000000000000000000000001 02 40 00 80 eth0\n\
                 20010db8000000000000000000000002 02 40 00 80 eth0\n20010db8000000000000000000000003 03 40 00 80 eth1\n",
            ),
        ] {
            put(file, content);
        }
        for (name, hostname) in [("(none)", None), ("localhost", None), ("node7", Some("node7"))] {
            put("proc/sys/kernel/hostname", &format!("{name}\n"));
            assert_eq!(facts(folder.path()).await.hostname.as_deref(), hostname);
        }
        let read = facts(folder.path()).await;
        assert_eq!(read.ports.len(), 1);
        assert_eq!(
            (read.ports[0].mac.as_str(), read.ports[0].ipv4),
            ("52:54:00:00:00:01", None)
        );
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(
            read.ports[0].addresses,
            [six("fe80::1"), six("2001:db8::1"), six("2001:db8::2")]
        );
        assert_eq!(read.ports[0].ipv6, Some(("2001:db8::1".parse().unwrap(), 64)));
        assert_eq!(read.dns, Some(six("fe80::53")));
        assert_eq!(read.firmware, [("serial", "S1".to_owned())]);
        assert_eq!(
            (read.memory_mebibytes, read.domain.as_deref()),
            (Some(2), Some("a.example"))
        );
        assert_eq!(memory(folder.path(), "MemAvailable:"), Some(1 << 20));
        kexec_facts();
        assert!(available_bytes().is_some());
    }
}
