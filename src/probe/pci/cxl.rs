//! Memory devices on Compute Express Link, from `/sys/bus/cxl` (Linux Documentation/ABI/testing/sysfs-bus-cxl).

use crate::model::inventory::CxlDevice;
use crate::probe::bus;
use crate::probe::collect::root::Root;

const DEVICES: &str = "/sys/bus/cxl/devices";
/// More than there are slots.
const MAX_DEVICES: usize = 1024;
/// Devices one region can be spread over (CXL 3.1, 8.2.4.20.7 has up to 16 ways).
const MAX_TARGETS: u32 = 16;

/// Memory devices, by number. None where the kernel has no such bus.
pub(crate) fn devices(root: &Root) -> Vec<CxlDevice> {
    let names = root.list(DEVICES).unwrap_or_default();
    let regions: Vec<String> = names
        .iter()
        .filter(|name| bus::is_numbered(name, "region"))
        .cloned()
        .collect();
    let memories: Vec<String> = names.into_iter().filter(|name| bus::is_numbered(name, "mem")).collect();
    let memories = root.first("cxl.count", memories, MAX_DEVICES);
    let mut found: Vec<CxlDevice> = memories.into_iter().map(|name| device(root, name)).collect();
    for region in regions {
        for memory in members(root, &region) {
            if let Some(device) = found.iter_mut().find(|device| device.name == memory)
                && !device.regions.contains(&region)
            {
                device.regions.push(region.clone());
            }
        }
    }
    found
}

fn device(root: &Root, name: String) -> CxlDevice {
    let at = |file: &str| format!("{DEVICES}/{name}/{file}");
    let place = root.resolve(format!("{DEVICES}/{name}")).unwrap_or_default();
    let id = bus::pci_function(&place).and_then(|function| bus::pci_id(root, &function));
    let names = bus::pci_names(id);
    CxlDevice {
        pci_address: bus::pci_address(&place),
        vendor: names.vendor,
        model: names.device,
        serial: root.value(at("serial")),
        firmware: root.value(at("firmware_version")),
        volatile_bytes: root.value(at("ram/size")).and_then(|text| bytes(&text)),
        persistent_bytes: root.value(at("pmem/size")).and_then(|text| bytes(&text)),
        // -1 stands for none.
        numa_node: root.number(at("numa_node")),
        security: root.value(at("security/state")),
        mailbox_bytes: root.number(at("payload_max")),
        regions: Vec::new(),
        name,
    }
}

/// Hex with `0x`, as the kernel prints sizes of this bus; decimal all the same.
fn bytes(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Memory devices of a region: its targets name decoders of endpoints, and an endpoint hangs below the memory device that its
/// `uport` leads to.
fn members(root: &Root, region: &str) -> Vec<String> {
    let decoders = (0..MAX_TARGETS).map_while(|target| root.value(format!("{DEVICES}/{region}/target{target}")));
    let memory = |decoder: String| {
        // `decoder3.0` belongs to `endpoint3`.
        let number = decoder.strip_prefix("decoder")?.split('.').next()?.to_owned();
        root.link_name(format!("{DEVICES}/endpoint{number}/uport"))
    };
    decoders.filter_map(memory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn an_expander_with_its_function_and_region() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let bus = dir.path().join("sys/bus/cxl/devices");
        fs::create_dir_all(&bus).unwrap();
        let function = "sys/devices/pci0000:35/0000:35:00.0/0000:36:00.0";
        for (file, text) in [
            ("vendor", "0x1af4\n"),
            ("device", "0x0001\n"),
            ("mem0/serial", "0xc100000000e2e0\n"),
            ("mem0/firmware_version", "BWFW VERSION 00\n"),
            ("mem0/ram/size", "0x4000000000\n"),
            ("mem0/pmem/size", "0x0\n"),
            ("mem0/numa_node", "-1\n"),
            ("mem0/security/state", "disabled\n"),
            ("mem0/payload_max", "512\n"),
        ] {
            write(&format!("{function}/{file}"), text);
        }
        write("sys/devices/platform/ACPI0017:00/root0/region0/target0", "decoder2.0\n");
        write("sys/devices/platform/ACPI0017:00/root0/endpoint2/x", "");
        symlink(
            format!("/{function}/mem0"),
            dir.path()
                .join("sys/devices/platform/ACPI0017:00/root0/endpoint2/uport"),
        )
        .unwrap();
        symlink(format!("/{function}/mem0"), bus.join("mem0")).unwrap();
        for name in ["region0", "endpoint2"] {
            symlink(
                format!("/sys/devices/platform/ACPI0017:00/root0/{name}"),
                bus.join(name),
            )
            .unwrap();
        }
        let told = devices(&Root::at(dir.path()));
        let [one] = &told[..] else { panic!("{told:?}") };
        assert_eq!((&*one.name, one.pci_address.as_deref()), ("mem0", Some("0000:36:00.0")));
        assert_eq!(one.serial.as_deref(), Some("0xc100000000e2e0"));
        assert_eq!(one.firmware.as_deref(), Some("BWFW VERSION 00"));
        assert_eq!((one.volatile_bytes, one.persistent_bytes), (Some(256 << 30), Some(0)));
        assert_eq!((one.numa_node, one.mailbox_bytes), (None, Some(512)));
        assert_eq!(
            (one.security.as_deref(), &one.regions[..]),
            (Some("disabled"), &["region0".to_owned()][..])
        );
        assert!(one.vendor.is_some());
        assert!(devices(&Root::at("/nonexistent")).is_empty());
    }

    #[test]
    fn names_are_numbered() {
        assert!(bus::is_numbered("mem0", "mem") && bus::is_numbered("region12", "region"));
        assert!(
            !bus::is_numbered("mem", "mem") && !bus::is_numbered("memx", "mem") && !bus::is_numbered("root0", "mem")
        );
        assert_eq!((bytes("0x10"), bytes("16"), bytes("x")), (Some(16), Some(16), None));
    }
}
