//! SMBIOS types of the machine as a whole: BIOS, system, boards, chassis, processors, management interface, firmware. Offsets
//! are those of DSP0134; each comment names the clause there.

use super::table::{SmbiosTable, Structure, uuid};
use super::{names, platform};
use crate::model::inventory::{Bios, Board, Chassis, CpuPackage, Firmware, System};

/// 7.1 BIOS Information. How the machine was booted is not in the table.
pub fn bios(table: &SmbiosTable) -> Option<Bios> {
    let s = table.first(0)?;
    // FFh in either half: the field is not supported.
    let release = |offset: usize| match (s.byte(offset)?, s.byte(offset + 1)?) {
        (0xff, _) | (_, 0xff) => None,
        (major, minor) => Some(format!("{major}.{minor}")),
    };
    Some(Bios {
        vendor: s.string(0x04),
        version: s.string(0x05),
        date: s.string(0x08),
        release: release(0x14),
        embedded_controller_release: release(0x16),
        rom_size_bytes: match s.byte(0x09) {
            // The extended size: its unit in the top two bits.
            Some(0xff) => s.word(0x18).map(|size| {
                let unit = if size >> 14 == 1 { 30 } else { 20 };
                u64::from(size & 0x3fff) << unit
            }),
            size => size.map(|blocks| (u64::from(blocks) + 1) << 16),
        },
        // Second byte of the extended characteristics (7.1.2.2).
        virtual_machine: s.byte(0x13).map(|bits| bits & 0x10 != 0),
        uefi_capable: s.byte(0x13).map(|bits| bits & 0x08 != 0),
        ..Bios::default()
    })
}

/// 7.2 System Information, 7.3 Baseboard, 7.4 Chassis.
pub fn system(table: &SmbiosTable) -> Option<System> {
    let s = table.first(1)?;
    let mut boards = boards(table).into_iter();
    let mut enclosures = table.of_kind(3).map(chassis);
    Some(System {
        vendor: s.string(0x04),
        product: s.string(0x05),
        version: s.string(0x06),
        serial: s.string(0x07),
        uuid: s.bytes(0x08).and_then(|bytes| uuid(table.version(), bytes)),
        sku: s.string(0x19),
        family: s.string(0x1a),
        wake_up: s.name("wake-up", 0x18),
        identity: None,
        board: boards.next(),
        other_boards: boards.collect(),
        chassis: enclosures.next(),
        other_chassis: enclosures.collect(),
        slots: platform::slots(table),
        onboard_devices: platform::onboard_devices(table),
        ports: platform::ports(table),
        caches: platform::caches(table),
        power_supplies: platform::power_supplies(table),
        oem_strings: platform::strings(table, 11),
        configuration_options: platform::strings(table, 12),
        boot_status: platform::boot_status(table),
    })
}

/// All boards, the main one first: feature bit 0 marks a hosting board, the first one wins otherwise.
fn boards(table: &SmbiosTable) -> Vec<Board> {
    let mut found: Vec<Structure<'_>> = table.of_kind(2).collect();
    let hosting = |s: &Structure<'_>| s.byte(0x09).is_some_and(|flags| flags & 1 == 1);
    if let Some(main) = found.iter().position(hosting)
        && let Some(first) = found.get_mut(..=main)
    {
        first.rotate_right(1);
    }
    let board = |s: Structure<'_>| Board {
        vendor: s.string(0x04),
        product: s.string(0x05),
        version: s.string(0x06),
        serial: s.string(0x07),
        asset_tag: s.string(0x08),
        location: s.string(0x0a),
        kind: s.name("board kind", 0x0d),
    };
    found.into_iter().map(board).collect()
}

fn chassis(s: Structure<'_>) -> Chassis {
    // The SKU string number follows the contained elements, whose count and size are in the structure.
    let elements = usize::from(s.byte(0x13).unwrap_or(0)) * usize::from(s.byte(0x14).unwrap_or(0));
    Chassis {
        vendor: s.string(0x04),
        // Bit 7 tells of a lock.
        kind: s.byte(0x05).and_then(|kind| names::chassis_kind(kind & 0x7f)),
        version: s.string(0x06),
        serial: s.string(0x07),
        asset_tag: s.string(0x08),
        sku: s.byte(0x14).and_then(|_| s.string(0x15 + elements)),
        height_units: s.byte(0x11).filter(|units| *units != 0),
        power_cords: s.byte(0x12).filter(|cords| *cords != 0),
        boot_up_state: s.name("chassis state", 0x09),
        power_supply_state: s.name("chassis state", 0x0a),
        thermal_state: s.name("chassis state", 0x0b),
    }
}

/// 7.5 Processor Information, empty sockets included.
pub fn cpu_packages(table: &SmbiosTable) -> Vec<CpuPackage> {
    table
        .of_kind(4)
        // 3 is a central processor; 4 to 6 are mathematical, signal and video processors.
        .filter(|s| s.byte(0x05).is_none_or(|kind| kind == 3))
        .map(|s| {
            // Bit 6 of the status: the socket is populated.
            let populated = s.byte(0x18).is_none_or(|status| status & 0x40 != 0);
            let told = |value: Option<u16>| value.filter(|value| populated && *value != 0);
            // One byte each; FFh sends us to the wider field of 3.0.
            let count = |narrow: usize, wide: usize| match s.byte(narrow) {
                Some(0xff) => told(s.word(wide)),
                narrow => told(narrow.map(u16::from)),
            };
            CpuPackage {
                socket: s.string(0x04),
                populated,
                vendor: s.string(0x07).filter(|_| populated),
                model: s.string(0x10).filter(|_| populated),
                cores: count(0x23, 0x2a),
                cores_enabled: count(0x24, 0x2c),
                threads: count(0x25, 0x2e),
                max_speed_mhz: told(s.word(0x14)),
                boot_speed_mhz: told(s.word(0x16)),
                serial: s.string(0x20).filter(|_| populated),
                part_number: s.string(0x22).filter(|_| populated),
            }
        })
        .collect()
}

/// 7.39 IPMI Device Information: where the firmware says the interface to the BMC is.
pub fn ipmi_interface(table: &SmbiosTable) -> Option<String> {
    const SSIF: u8 = 4;
    let s = table.first(38)?;
    let kind = s.byte(0x04)?;
    let address = s.qword(0x08)?;
    let place = match (kind, address & 1) {
        (SSIF, _) => format!("SMBus address {:#04x}", address >> 1),
        (_, 1) => format!("I/O port {:#x}", address & !1),
        _ => format!("memory {address:#x}"),
    };
    let kind = names::name("ipmi interface", kind);
    let kind = kind.as_deref().unwrap_or("unknown interface");
    Some(format!("{kind} at {place}"))
}

/// 7.46 Firmware Inventory Information: what the firmware itself lists.
pub fn firmware(table: &SmbiosTable) -> Vec<Firmware> {
    let entry = |s: Structure<'_>| {
        let state = s.byte(0x16)?;
        Some(Firmware {
            name: s.string(0x04),
            date: s.string(0x09),
            lowest_version: s.string(0x0b),
            note: names::name("firmware state", state),
            ..Firmware::new("listed by firmware", s.string(0x05)?, "SMBIOS type 45")
        })
    };
    table.of_kind(45).filter_map(entry).collect()
}

#[cfg(test)]
mod tests;
