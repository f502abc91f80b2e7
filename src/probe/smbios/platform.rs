//! SMBIOS types beyond processors and memory: slots, connectors, caches, supplies, host interfaces, TPM. Offsets are
//! those of DSP0134; each comment names the clause there.

use std::net::IpAddr;

use super::names::name;
use super::table::{SmbiosTable, Structure, Version, uuid};
use crate::formats::text::{burnt, clean, decoded};
use crate::model::MacAddr;
use crate::model::inventory::{
    CacheFacts, HostInterface, OnboardDevice, PortConnector, PowerSupply, SmbiosTpm, SystemSlot,
};

/// 7.10 System Slots.
pub(crate) fn slots(table: &SmbiosTable) -> Vec<SystemSlot> {
    let slot = |s: Structure<'_>| {
        let usage = s.byte(0x07);
        // The peers of a bifurcated slot, five bytes each, push the fields of 3.4 back.
        let peers = usize::from(s.byte(0x12).unwrap_or(0)) * 5;
        SystemSlot {
            name: s.string(0x04),
            kind: s.name("slot kind", 0x05),
            width: s.name("slot width", 0x06),
            length: s.name("slot length", 0x08),
            in_use: match usage {
                Some(3 | 5) => Some(false),
                Some(4) => Some(true),
                _ => None,
            },
            unavailable: usage == Some(5),
            bus_address: bus_address(s, 0x0d),
            physical_width: s.name("slot width", 0x14 + peers),
        }
    };
    table.of_kind(9).map(slot).collect()
}

/// Segment, bus, device and function as one PCI address; all ones (and, from careless firmware, all zero) mean none.
fn bus_address(s: Structure<'_>, at: usize) -> Option<String> {
    let (segment, bus, function) = (s.word(at)?, s.byte(at + 2)?, s.byte(at + 3)?);
    if (bus, function) == (0xff, 0xff) || (segment, bus, function) == (0, 0, 0) {
        return None;
    }
    Some(format!(
        "{segment:04x}:{bus:02x}:{:02x}.{}",
        function >> 3,
        function & 7
    ))
}

/// 7.42.2; the top bit tells whether it is enabled.
fn onboard_kind(kind: u8) -> Option<String> {
    name("onboard device", kind & 0x7f)
}

/// 7.42 Onboard Devices Extended Information; where there are none, 7.11 On Board Devices, which has no addresses.
pub(crate) fn onboard_devices(table: &SmbiosTable) -> Vec<OnboardDevice> {
    let extended = |s: Structure<'_>| OnboardDevice {
        name: s.string(0x04),
        kind: s.byte(0x05).and_then(onboard_kind),
        instance: s.byte(0x06),
        enabled: s.byte(0x05).is_some_and(|kind| kind & 0x80 != 0),
        bus_address: bus_address(s, 0x07),
    };
    let devices: Vec<OnboardDevice> = table.of_kind(41).map(extended).collect();
    if !devices.is_empty() {
        return devices;
    }
    let pairs = |s: Structure<'_>| {
        let mut found = Vec::new();
        let mut at = 4;
        while let Some(kind) = s.byte(at).filter(|_| s.byte(at + 1).is_some()) {
            found.push(OnboardDevice {
                name: s.string(at + 1),
                kind: onboard_kind(kind),
                instance: None,
                enabled: kind & 0x80 != 0,
                bus_address: None,
            });
            at += 2;
        }
        found
    };
    table.of_kind(10).flat_map(pairs).collect()
}

/// 7.9 Port Connector Information.
pub(crate) fn ports(table: &SmbiosTable) -> Vec<PortConnector> {
    let port = |s: Structure<'_>| PortConnector {
        internal: s.string(0x04),
        external: s.string(0x06),
        kind: s.name("port kind", 0x08),
    };
    table.of_kind(8).map(port).collect()
}

/// 7.8 Cache Information, with the socket whose processor names it.
pub(crate) fn caches(table: &SmbiosTable) -> Vec<CacheFacts> {
    let owner = |handle: u16| {
        let names_it = |cpu: &Structure<'_>| [0x1a, 0x1c, 0x1e].iter().any(|at| cpu.word(*at) == Some(handle));
        table.of_kind(4).find(names_it).and_then(|cpu| cpu.string(0x04))
    };
    let cache = |s: Structure<'_>| {
        let config = s.word(0x05)?;
        // In KiB or, with the top bit, in units of 64 KiB; all ones send us to the wider field of 3.1.
        let size_kib = match s.word(0x09)? {
            0xffff => {
                let wide = s.dword(0x17)?;
                u64::from(wide & 0x7fff_ffff) * if wide >> 31 == 1 { 64 } else { 1 }
            }
            narrow => u64::from(narrow & 0x7fff) * if narrow >> 15 == 1 { 64 } else { 1 },
        };
        Some(CacheFacts {
            socket: owner(s.handle),
            name: s.string(0x04),
            level: (config & 7) as u8 + 1,
            size_bytes: Some(size_kib * 1024).filter(|bytes| *bytes != 0),
            kind: s.name("cache kind", 0x11),
            associativity: s.name("associativity", 0x12),
            error_correction: s.name("cache error correction", 0x10),
            enabled: config & 0x80 != 0,
        })
    };
    table.of_kind(7).filter_map(cache).collect()
}

/// 7.40 System Power Supply.
pub(crate) fn power_supplies(table: &SmbiosTable) -> Vec<PowerSupply> {
    let supply = |s: Structure<'_>| {
        let flags = s.word(0x0e).unwrap_or(0);
        PowerSupply {
            location: s.string(0x05),
            name: s.string(0x06),
            manufacturer: s.string(0x07),
            serial: s.string(0x08),
            asset_tag: s.string(0x09),
            model: s.string(0x0a),
            revision: s.string(0x0b),
            // 8000h: unknown.
            max_capacity_watts: s.word(0x0c).filter(|watts| !matches!(watts, 0 | 0x8000)),
            hot_swappable: flags & 1 != 0,
            present: flags & 2 != 0,
            plugged: flags & 2 != 0 && flags & 4 == 0,
            status: name("supply status", (flags >> 7 & 7) as u8),
        }
    };
    table.of_kind(39).map(supply).collect()
}

/// 7.12 OEM Strings and 7.13 System Configuration Options, by type.
pub(crate) fn strings(table: &SmbiosTable, kind: u8) -> Vec<String> {
    let texts = table.of_kind(kind).flat_map(|s| s.strings());
    let told = texts.filter_map(|text| clean(&decoded(text)));
    told.collect()
}

/// 7.33 System Boot Information.
pub(crate) fn boot_status(table: &SmbiosTable) -> Option<String> {
    let status = table.first(32)?.byte(0x0a)?;
    name("boot status", status).or_else(|| Some(format!("status {status}")))
}

/// 7.44 TPM Device.
pub(crate) fn tpm(table: &SmbiosTable) -> Option<SmbiosTpm> {
    let s = table.first(43)?;
    let vendor: [u8; 4] = s.bytes(0x04)?;
    let (major, minor) = (s.byte(0x08)?, s.byte(0x09)?);
    let firmware = s.dword(0x0a)?;
    Some(SmbiosTpm {
        vendor: burnt(&vendor),
        version: Some(format!("{major}.{minor}")),
        // Of a TPM 1.2, only its third and fourth byte count.
        firmware: Some(match major {
            1 => format!("{}.{}", firmware >> 16 & 0xff, firmware >> 24),
            _ => format!("{}.{}", firmware >> 16, firmware & 0xffff),
        }),
        description: s.string(0x12),
    })
}

/// 7.43 Management Controller Host Interface; a structure with several protocols gives an entry for each.
pub(crate) fn host_interfaces(table: &SmbiosTable) -> Vec<HostInterface> {
    table.of_kind(42).flat_map(host_interface).collect()
}

fn host_interface(s: Structure<'_>) -> Vec<HostInterface> {
    let Some(kind) = s.byte(0x04) else {
        return Vec::new();
    };
    let length = usize::from(s.byte(0x05).unwrap_or(0));
    let mut base = HostInterface {
        kind: name("host interface", kind).unwrap_or_else(|| {
            let word = if kind < 0x40 { "mctp " } else { "" };
            format!("{word}{kind:#04x}")
        }),
        ..HostInterface::default()
    };
    if kind == 0x40 {
        network_device(s, 0x06, &mut base);
    }
    let records = usize::from(s.byte(0x06 + length).unwrap_or(0));
    let mut at = 0x07 + length;
    let mut found = Vec::new();
    for _ in 0..records {
        let (Some(protocol), Some(size)) = (s.byte(at), s.byte(at + 1)) else {
            break;
        };
        let mut interface = base.clone();
        interface.protocol = name("protocol", protocol).or_else(|| Some(format!("{protocol:#04x}")));
        if protocol == 4 {
            redfish(s, at + 2, &mut interface);
        }
        found.push(interface);
        at += 2 + usize::from(size);
    }
    if found.is_empty() {
        found.push(base);
    }
    found
}

/// DSP0270 1.3, 8.3: what carries the network. The first byte is the kind of device.
fn network_device(s: Structure<'_>, at: usize, interface: &mut HostInterface) {
    let Some(kind) = s.byte(at) else { return };
    let (name, ids, mac) = match kind {
        2 => ("usb", at + 1, None),
        3 => ("pci", at + 1, None),
        4 => ("usb v2", at + 2, Some(at + 7)),
        5 => ("pci v2", at + 2, Some(at + 10)),
        _ => {
            interface.device = Some(format!("{kind:#04x}"));
            return;
        }
    };
    interface.device = Some(name.to_owned());
    if let (Some(vendor), Some(product)) = (s.word(ids), s.word(ids + 2)) {
        interface.device_ids = Some(format!("{vendor:04x}:{product:04x}"));
    }
    let bytes = mac.and_then(|mac| s.bytes::<6>(mac));
    interface.mac = bytes.map(MacAddr).filter(|mac| !mac.is_unusable());
}

/// DSP0270 1.3, 8.5: Redfish over IP.
fn redfish(s: Structure<'_>, at: usize, interface: &mut HostInterface) {
    let source = |at: usize| s.name("address source", at);
    // The format stands before both address and mask; all zero is "not told".
    let address = |format: usize, at: usize| {
        let address: IpAddr = match s.byte(format)? {
            1 => s.bytes::<4>(at)?.into(),
            2 => s.bytes::<16>(at)?.into(),
            _ => return None,
        };
        (!address.is_unspecified()).then(|| address.to_string())
    };
    interface.service_uuid = s
        .bytes(at)
        .and_then(|bytes| uuid(Version { major: 3, minor: 0 }, bytes));
    interface.host_address_source = source(at + 16);
    interface.host_ip = address(at + 17, at + 18);
    interface.host_netmask = address(at + 17, at + 34);
    interface.service_address_source = source(at + 50);
    interface.service_ip = address(at + 51, at + 52);
    interface.service_netmask = address(at + 51, at + 68);
    interface.service_port = s.word(at + 84).filter(|port| *port != 0);
    interface.service_vlan = s.dword(at + 86).filter(|vlan| !matches!(vlan, 0 | 0xffff_ffff));
    let length = usize::from(s.byte(at + 90).unwrap_or(0));
    let name: Vec<u8> = (0..length).map_while(|n| s.byte(at + 91 + n)).collect();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    interface.service_hostname = clean(&decoded(name));
}

#[cfg(test)]
mod tests;
