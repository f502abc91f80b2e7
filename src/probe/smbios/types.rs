//! The SMBIOS types we read, as facts of the model. Offsets are those of DSP0134; each comment names the table there.

use uuid::Uuid;

use super::{Structure, Table, Version, platform, platform_names as names};
use crate::model::inventory::{Board, Chassis, CpuPackage, Dimm, Firmware, System};
use crate::probe::bmc::ipmi::spd::maker;

/// Type 0 without the boot mode, which is not in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BiosFacts {
    pub vendor: Option<String>,
    pub version: Option<String>,
    pub date: Option<String>,
    pub release: Option<String>,
    pub embedded_controller_release: Option<String>,
    pub rom_size_bytes: Option<u64>,
    pub virtual_machine: Option<bool>,
    pub uefi_capable: Option<bool>,
}

/// Memory arrays, type 16, summed up over those that hold system memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrayFacts {
    pub error_correction: Option<String>,
    pub max_capacity_bytes: Option<u64>,
}

/// 7.1 BIOS Information.
pub fn bios(table: &Table<'_>) -> Option<BiosFacts> {
    let s = table.first(0)?;
    // FFh in either half: the field is not supported.
    let release = |offset: usize| match (s.byte(offset)?, s.byte(offset + 1)?) {
        (0xff, _) | (_, 0xff) => None,
        (major, minor) => Some(format!("{major}.{minor}")),
    };
    Some(BiosFacts {
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
    })
}

/// 7.2 System Information, 7.3 Baseboard, 7.4 Chassis.
pub fn system(table: &Table<'_>) -> Option<System> {
    let s = table.first(1)?;
    let mut boards = boards(table).into_iter();
    let mut enclosures = table.of_kind(3).map(chassis);
    Some(System {
        vendor: s.string(0x04),
        product: s.string(0x05),
        version: s.string(0x06),
        serial: s.string(0x07),
        uuid: s.bytes(0x08).and_then(|bytes| uuid(table.version, bytes)),
        sku: s.string(0x19),
        family: s.string(0x1a),
        wake_up: s.byte(0x18).and_then(names::wake_up),
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
fn boards(table: &Table<'_>) -> Vec<Board> {
    let mut found: Vec<&Structure<'_>> = table.of_kind(2).collect();
    let hosting = |s: &&Structure<'_>| s.byte(0x09).is_some_and(|flags| flags & 1 == 1);
    if let Some(main) = found.iter().position(hosting)
        && let Some(first) = found.get_mut(..=main)
    {
        first.rotate_right(1);
    }
    let board = |s: &Structure<'_>| Board {
        vendor: s.string(0x04),
        product: s.string(0x05),
        version: s.string(0x06),
        serial: s.string(0x07),
        asset_tag: s.string(0x08),
        location: s.string(0x0a),
        kind: s.byte(0x0d).and_then(names::board_kind),
    };
    found.into_iter().map(board).collect()
}

fn chassis(s: &Structure<'_>) -> Chassis {
    // The SKU string number follows the contained elements, whose count and size are in the structure.
    let elements = usize::from(s.byte(0x13).unwrap_or(0)) * usize::from(s.byte(0x14).unwrap_or(0));
    Chassis {
        vendor: s.string(0x04),
        // Bit 7 tells of a lock.
        kind: s.byte(0x05).and_then(|kind| chassis_kind(kind & 0x7f)),
        version: s.string(0x06),
        serial: s.string(0x07),
        asset_tag: s.string(0x08),
        sku: s.byte(0x14).and_then(|_| s.string(0x15 + elements)),
        height_units: s.byte(0x11).filter(|units| *units != 0),
        power_cords: s.byte(0x12).filter(|cords| *cords != 0),
        boot_up_state: s.byte(0x09).and_then(names::chassis_state),
        power_supply_state: s.byte(0x0a).and_then(names::chassis_state),
        thermal_state: s.byte(0x0b).and_then(names::chassis_state),
    }
}

/// 7.2.1: from 2.6 on the first three fields are little-endian; the kernel prints them the same way.
pub fn uuid(version: Version, bytes: [u8; 16]) -> Option<String> {
    // All zero: not set. All FFh: could be set, but was not.
    if bytes == [0; 16] || bytes == [0xff; 16] {
        return None;
    }
    let uuid = match version >= (Version { major: 2, minor: 6 }) {
        true => Uuid::from_bytes_le(bytes),
        false => Uuid::from_bytes(bytes),
    };
    Some(uuid.to_string())
}

/// 7.5 Processor Information, empty sockets included.
pub fn cpu_packages(table: &Table<'_>) -> Vec<CpuPackage> {
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

/// 7.17 Physical Memory Array, those in use as system memory.
pub fn memory_arrays(table: &Table<'_>) -> ArrayFacts {
    let mut facts = ArrayFacts::default();
    for s in table.of_kind(16).filter(|s| s.byte(0x05) == Some(3)) {
        let correction = match s.byte(0x06) {
            Some(3) => Some("none"),
            Some(4) => Some("parity"),
            Some(5) => Some("single-bit ECC"),
            Some(6) => Some("multi-bit ECC"),
            Some(7) => Some("CRC"),
            _ => None,
        };
        facts.error_correction = facts.error_correction.or(correction.map(str::to_owned));
        let capacity = match s.dword(0x07) {
            // In kilobytes; 8000_0000h sends us to the extended field, in bytes.
            Some(0x8000_0000) => s.qword(0x0f),
            kilobytes => kilobytes.map(|kilobytes| u64::from(kilobytes) * 1024),
        };
        if let Some(capacity) = capacity.filter(|bytes| *bytes != 0) {
            facts.max_capacity_bytes = Some(facts.max_capacity_bytes.unwrap_or(0).saturating_add(capacity));
        }
    }
    facts
}

/// Memory types (7.18.2) that firmware is kept in, or caches: SRAM, and from ROM to EPROM. Some boards list their flash chip
/// among the modules.
fn is_no_module(s: &Structure<'_>) -> bool {
    let persistent = matches!(s.byte(0x28), Some(0x04..=0x07));
    matches!(s.byte(0x12), Some(0x06 | 0x08..=0x0c)) && !persistent
}

/// 7.18 Memory Device, empty slots included. What is no system memory (flash, cache) is left out, by its array or its type.
pub fn dimms(table: &Table<'_>) -> Vec<Dimm> {
    let array_use = |handle: u16| table.of_kind(16).find(|s| s.handle == handle)?.byte(0x05);
    table
        .of_kind(17)
        .filter(|s| s.word(0x04).and_then(array_use).is_none_or(|used_as| used_as == 3))
        .filter(|s| !is_no_module(s))
        .map(|s| {
            let size_bytes = dimm_size(s);
            // Unknown size means a module that does not say; zero means an empty slot.
            let populated = size_bytes != Some(0);
            let text = |offset| s.string(offset).filter(|_| populated);
            let known_width = |offset| s.word(offset).filter(|bits| populated && *bits != 0 && *bits != 0xffff);
            // FFFFh sends us to the wider field of 3.3, whose top bit is reserved.
            let speed = |narrow: usize, wide: usize| match s.word(narrow) {
                Some(0xffff) => s.dword(wide).map(|mtps| mtps & 0x7fff_ffff),
                narrow => narrow.map(u32::from),
            };
            // All ones: not known. A module without either portion is firmware that fills in neither.
            let fills_in = s.qword(0x34) != Some(0) || s.qword(0x3c) != Some(0);
            let bytes = |offset: usize| {
                s.qword(offset)
                    .filter(|bytes| populated && fills_in && *bytes != u64::MAX)
            };
            // 3.2 and 3.7 tell numbers of JEDEC as SPD has them, the number of continuation codes in the lower byte; 0 is not told.
            let id = |offset: usize| s.word(offset).filter(|id| populated && *id != 0);
            let by_jedec = |offset: usize| id(offset).and_then(|id| maker((id & 0xff) as u8, (id >> 8) as u8));
            let number = |offset: usize| id(offset).map(|id| format!("{id:#06x}"));
            // FF00h is not told.
            let revision = |offset: usize| {
                let revision = s.word(offset).filter(|revision| populated && *revision != 0xff00);
                revision.map(|revision| format!("{:#04x}", revision & 0xff))
            };
            let millivolts = |offset: usize| s.word(offset).filter(|mv| populated && *mv != 0);
            let known_speed = |speed: Option<u32>| speed.filter(|mtps| populated && *mtps != 0);
            Dimm {
                locator: s.string(0x10),
                bank: s.string(0x11),
                populated,
                size_bytes: size_bytes.filter(|_| populated),
                memory_type: s.byte(0x12).filter(|_| populated).and_then(memory_type),
                technology: s.byte(0x28).filter(|_| populated).and_then(technology),
                operating_modes: s
                    .word(0x29)
                    .filter(|_| populated)
                    .map(operating_modes)
                    .unwrap_or_default(),
                buffering: s.word(0x13).filter(|_| populated).and_then(buffering),
                module_manufacturer: by_jedec(0x2c),
                module_product_id: number(0x2e),
                controller_manufacturer: by_jedec(0x30),
                controller_product_id: number(0x32),
                pmic_manufacturer: by_jedec(0x5c),
                pmic_revision: revision(0x5e),
                clock_driver_manufacturer: by_jedec(0x60),
                clock_driver_revision: revision(0x62),
                cache_bytes: s
                    .qword(0x44)
                    .filter(|bytes| populated && !matches!(*bytes, 0 | u64::MAX)),
                fru: None,
                made_in_week: None,
                firmware: text(0x2b),
                volatile_bytes: bytes(0x3c),
                non_volatile_bytes: bytes(0x34),
                form_factor: s.byte(0x0e).and_then(form_factor),
                speed_mtps: known_speed(speed(0x15, 0x54)),
                configured_speed_mtps: known_speed(speed(0x20, 0x58)),
                configured_voltage_mv: millivolts(0x26),
                min_voltage_mv: millivolts(0x22),
                max_voltage_mv: millivolts(0x24),
                ranks: s
                    .byte(0x1b)
                    .map(|attributes| attributes & 0x0f)
                    .filter(|ranks| populated && *ranks != 0),
                data_width_bits: known_width(0x0a),
                total_width_bits: known_width(0x08),
                manufacturer: text(0x17),
                part_number: text(0x1a),
                serial: text(0x18),
                asset_tag: text(0x19),
            }
        })
        .collect()
}

/// `Some(0)` for an empty slot, `None` where the size is unknown.
fn dimm_size(s: &super::Structure<'_>) -> Option<u64> {
    match s.word(0x0c)? {
        0xffff => None,
        // The extended size, in megabytes, with its top bit reserved.
        0x7fff => Some(u64::from(s.dword(0x1c)? & 0x7fff_ffff) << 20),
        size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) << 10),
        size => Some(u64::from(size) << 20),
    }
}

/// 7.39 IPMI Device Information: where the firmware says the interface to the BMC is.
pub fn ipmi_interface(table: &Table<'_>) -> Option<String> {
    let s = table.first(38)?;
    let kind = match s.byte(0x04)? {
        1 => "KCS",
        2 => "SMIC",
        3 => "BT",
        4 => "SSIF",
        _ => "unknown interface",
    };
    let address = s.qword(0x08)?;
    let place = match (kind, address & 1) {
        ("SSIF", _) => format!("SMBus address {:#04x}", address >> 1),
        (_, 1) => format!("I/O port {:#x}", address & !1),
        _ => format!("memory {address:#x}"),
    };
    Some(format!("{kind} at {place}"))
}

/// 7.4.1, the types a data center or a desk has.
pub fn chassis_kind(kind: u8) -> Option<String> {
    let name = match kind {
        1 => "other",
        3 => "desktop",
        4 => "low profile desktop",
        5 => "pizza box",
        6 => "mini tower",
        7 => "tower",
        8 => "portable",
        9 => "laptop",
        10 => "notebook",
        11 => "hand held",
        12 => "docking station",
        13 => "all in one",
        14 => "sub notebook",
        15 => "space-saving",
        16 => "lunch box",
        17 => "main server chassis",
        18 => "expansion chassis",
        19 => "sub chassis",
        20 => "bus expansion chassis",
        21 => "peripheral chassis",
        22 => "RAID chassis",
        23 => "rack mount chassis",
        24 => "sealed-case PC",
        25 => "multi-system chassis",
        26 => "CompactPCI",
        27 => "AdvancedTCA",
        28 => "blade",
        29 => "blade enclosure",
        30 => "tablet",
        31 => "convertible",
        32 => "detachable",
        33 => "IoT gateway",
        34 => "embedded PC",
        35 => "mini PC",
        36 => "stick PC",
        0 | 2 => return None,
        other => return Some(format!("type {other}")),
    };
    Some(name.to_owned())
}

/// 7.18.2.
fn memory_type(kind: u8) -> Option<String> {
    let name = match kind {
        0x01 => "other",
        0x03 => "DRAM",
        0x04 => "EDRAM",
        0x05 => "VRAM",
        0x06 => "SRAM",
        0x07 => "RAM",
        0x08 => "ROM",
        0x09 => "flash",
        0x0a => "EEPROM",
        0x0b => "FEPROM",
        0x0c => "EPROM",
        0x0d => "CDRAM",
        0x0e => "3DRAM",
        0x0f => "SDRAM",
        0x10 => "SGRAM",
        0x11 => "RDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x14 => "DDR2 FB-DIMM",
        0x18 => "DDR3",
        0x19 => "FBD2",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x1f => "non-volatile",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        0x25 => "MRDIMM",
        0x26 => "LPDDR6",
        0x00 | 0x02 => return None,
        other => return Some(format!("type {other:#04x}")),
    };
    Some(name.to_owned())
}

/// 7.18.3: bits 13 to 15 of the details of the type.
fn buffering(details: u16) -> Option<String> {
    let name = match details >> 13 {
        1 => "registered",
        2 => "unbuffered",
        4 | 5 => "load-reduced",
        _ => return None,
    };
    Some(name.to_owned())
}

/// 7.18.7.
fn operating_modes(bits: u16) -> Vec<String> {
    let names = [
        (3, "volatile"),
        (4, "byte-accessible persistent"),
        (5, "block-accessible persistent"),
    ];
    let told = names.into_iter().filter(|(bit, _)| bits >> bit & 1 == 1);
    told.map(|(_, name)| name.to_owned()).collect()
}

/// 7.46 Firmware Inventory Information: what the firmware itself lists.
pub fn firmware(table: &Table<'_>) -> Vec<Firmware> {
    let entry = |s: &Structure<'_>| {
        let state = match s.byte(0x16)? {
            3 => Some("disabled"),
            5 => Some("absent"),
            6 => Some("standby, offline"),
            7 => Some("standby, spare"),
            8 => Some("unavailable, offline"),
            // Enabled, other, unknown.
            _ => None,
        };
        Some(Firmware {
            component: "listed by firmware".to_owned(),
            name: s.string(0x04),
            belongs_to: None,
            serial: None,
            version: s.string(0x05)?,
            date: s.string(0x09),
            lowest_version: s.string(0x0b),
            note: state.map(str::to_owned),
            source: "SMBIOS type 45".to_owned(),
        })
    };
    table.of_kind(45).filter_map(entry).collect()
}

/// 7.18.6.
fn technology(kind: u8) -> Option<String> {
    let name = match kind {
        0x01 => "other",
        0x03 => "DRAM",
        0x04 => "NVDIMM-N",
        0x05 => "NVDIMM-F",
        0x06 => "NVDIMM-P",
        0x07 => "Intel Optane persistent memory",
        0x08 => "MRDIMM",
        0x00 | 0x02 => return None,
        other => return Some(format!("technology {other:#04x}")),
    };
    Some(name.to_owned())
}

/// 7.18.1.
fn form_factor(kind: u8) -> Option<String> {
    let name = match kind {
        0x01 => "other",
        0x03 => "SIMM",
        0x04 => "SIP",
        0x05 => "chip",
        0x06 => "DIP",
        0x07 => "ZIP",
        0x08 => "proprietary card",
        0x09 => "DIMM",
        0x0a => "TSOP",
        0x0b => "row of chips",
        0x0c => "RIMM",
        0x0d => "SODIMM",
        0x0e => "SRIMM",
        0x0f => "FB-DIMM",
        0x10 => "die",
        0x11 => "CAMM",
        0x12 => "CUDIMM",
        0x13 => "CSODIMM",
        0x00 | 0x02 => return None,
        other => return Some(format!("type {other:#04x}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::structure;
    use super::*;
    use proptest::prelude::*;

    fn body(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
        // Offsets count from the header, as in the specification.
        let mut body = vec![0u8; length - 4];
        for (offset, bytes) in fields {
            body[offset - 4..offset - 4 + bytes.len()].copy_from_slice(bytes);
        }
        body
    }

    #[test]
    fn the_uuid_is_printed_as_the_kernel_prints_it() {
        let bytes = [
            0x44, 0x45, 0x4c, 0x4c, 0x42, 0x00, 0x10, 0x35, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4a, 0x32, 0x32,
        ];
        let at = |major, minor| uuid(Version { major, minor }, bytes);
        assert_eq!(at(2, 8).as_deref(), Some("4c4c4544-0042-3510-8052-b4c04f4a3232"));
        assert_eq!(at(3, 0), at(2, 6));
        assert_eq!(at(2, 5).as_deref(), Some("44454c4c-4200-1035-8052-b4c04f4a3232"));
        assert_eq!(uuid(Version { major: 3, minor: 0 }, [0xff; 16]), None);
    }

    #[test]
    fn only_modules_are_modules() {
        let device = |handle, kind: u8, technology: u8, array: u16| {
            let size = &[0x00u8, 0x40];
            let fields: [(usize, &[u8]); 4] = [
                (0x04, &array.to_le_bytes()),
                (0x0c, size),
                (0x12, &[kind]),
                (0x28, &[technology]),
            ];
            structure(17, handle, &body(0x54, &fields), &["x"])
        };
        let array = structure(16, 1, &body(0x17, &[(0x05, &[3])]), &[]);
        let flash = structure(16, 2, &body(0x17, &[(0x05, &[5])]), &[]);
        let data = [
            array,
            flash,
            device(10, 0x1a, 3, 1),
            // Flash, ROM and SRAM beside the modules, and in no array; flash in its own.
            device(11, 0x09, 0, 1),
            device(12, 0x08, 0, 1),
            device(13, 0x06, 0, 1),
            device(14, 0x09, 0, 0xfffe),
            device(15, 0x1a, 3, 2),
            // The plain RAM of virtual machines, and a module made of flash.
            device(16, 0x07, 0, 1),
            device(17, 0x09, 5, 1),
        ]
        .concat();
        let told = dimms(&Table::parse(None, &data));
        let kinds: Vec<&str> = told.iter().filter_map(|dimm| dimm.memory_type.as_deref()).collect();
        assert_eq!(kinds, ["DDR4", "RAM", "flash"]);
        assert_eq!(told[2].technology.as_deref(), Some("NVDIMM-F"));
    }

    #[test]
    fn a_module_tells_what_it_is_made_of() {
        // Offsets of DSP0134 3.7, 7.18, which edk2 and dmidecode have too: a registered DDR5 module with one circuit told.
        let fields: [(usize, &[u8]); 11] = [
            (0x0c, &[0x00, 0x40]),
            (0x12, &[0x22]),
            (0x13, &0x2080u16.to_le_bytes()),
            (0x22, &1100u16.to_le_bytes()),
            (0x24, &1100u16.to_le_bytes()),
            (0x29, &0x0018u16.to_le_bytes()),
            (0x2c, &[0x80, 0xad]),
            (0x2e, &[0x12, 0x34]),
            (0x44, &(1u64 << 30).to_le_bytes()),
            (0x5c, &[0x80, 0xb3, 0x22, 0x00]),
            (0x60, &[0x00, 0x00, 0x00, 0xff]),
        ];
        let data = structure(17, 1, &body(0x64, &fields), &[]);
        let told = dimms(&Table::parse(None, &data)).remove(0);
        assert_eq!(told.buffering.as_deref(), Some("registered"));
        assert_eq!(
            (told.min_voltage_mv, told.max_voltage_mv, told.configured_voltage_mv),
            (Some(1100), Some(1100), None)
        );
        assert_eq!(told.operating_modes, ["volatile", "byte-accessible persistent"]);
        assert_eq!(told.module_manufacturer.as_deref(), Some("SK Hynix"));
        assert_eq!(told.module_product_id.as_deref(), Some("0x3412"));
        assert_eq!(told.cache_bytes, Some(1 << 30));
        assert_eq!((told.controller_manufacturer, told.controller_product_id), (None, None));
        assert!(told.pmic_manufacturer.is_some());
        assert_eq!(told.pmic_revision.as_deref(), Some("0x22"));
        // Not told: 0, and FF00h.
        assert_eq!(
            (told.clock_driver_manufacturer, told.clock_driver_revision),
            (None, None)
        );
        // An older table ends before all that, and an empty slot has none of it.
        let old = structure(17, 1, &body(0x22, &[(0x0c, &[0x00, 0x40]), (0x12, &[0x1a])]), &[]);
        let old = dimms(&Table::parse(None, &old)).remove(0);
        assert!(old.operating_modes.is_empty() && old.module_manufacturer.is_none() && old.pmic_revision.is_none());
        let mut empty = body(0x64, &fields);
        (empty[0x0c - 4], empty[0x0d - 4]) = (0, 0);
        let empty = structure(17, 1, &empty, &[]);
        let empty = dimms(&Table::parse(None, &empty)).remove(0);
        assert!(!empty.populated && empty.buffering.is_none() && empty.module_manufacturer.is_none());
        assert_eq!(buffering(0x4000).as_deref(), Some("unbuffered"));
        assert_eq!(buffering(0x8000).as_deref(), Some("load-reduced"));
        assert_eq!(buffering(0x0080), None);
    }

    #[test]
    fn a_module_tells_what_it_keeps() {
        let at = |length: usize| {
            let fields: [(usize, &[u8]); 6] = [
                (0x0c, &[0x00, 0x40]),
                (0x12, &[0x1a]),
                (0x28, &[4]),
                (0x2b, &[1]),
                (0x34, &(16u64 << 30).to_le_bytes()),
                (0x3c, &u64::MAX.to_le_bytes()),
            ];
            let mut whole = body(0x54, &fields);
            whole.truncate(length - 4);
            let data = structure(17, 1, &whole, &["2.1"]);
            dimms(&Table::parse(None, &data)).remove(0)
        };
        let told = at(0x54);
        assert_eq!(told.technology.as_deref(), Some("NVDIMM-N"));
        assert_eq!((told.non_volatile_bytes, told.volatile_bytes), (Some(16 << 30), None));
        assert_eq!(told.firmware.as_deref(), Some("2.1"));
        // Firmware that fills in neither portion.
        let zeros = structure(17, 1, &body(0x54, &[(0x0c, &[0x00, 0x40]), (0x12, &[0x1a])]), &[]);
        let plain = dimms(&Table::parse(None, &zeros)).remove(0);
        assert_eq!((plain.volatile_bytes, plain.non_volatile_bytes), (None, None));
        // Tables before 3.2 end before that.
        let old = at(0x28);
        assert_eq!(
            (old.technology, old.non_volatile_bytes, old.firmware),
            (None, None, None)
        );
    }

    #[test]
    fn sizes_of_modules_follow_all_three_encodings() {
        let size = |word: u16, extended: u32| {
            let data = structure(
                17,
                1,
                &body(0x28, &[(0x0c, &word.to_le_bytes()), (0x1c, &extended.to_le_bytes())]),
                &[],
            );
            dimm_size(Table::parse(None, &data).first(17).unwrap())
        };
        assert_eq!(size(0, 0), Some(0));
        assert_eq!(size(0xffff, 0), None);
        assert_eq!(size(0x4000, 0), Some(16 << 30));
        assert_eq!(size(0x8200, 0), Some(512 << 10));
        assert_eq!(size(0x7fff, 65536), Some(64 << 30));
    }

    #[test]
    fn an_empty_slot_is_listed_as_empty() {
        let data = structure(
            17,
            1,
            &body(
                0x54,
                &[(0x10, &[1]), (0x11, &[2]), (0x12, &[0x1a]), (0x17, &[3]), (0x18, &[3])],
            ),
            &["DIMM_B2", "NODE 1", "NO DIMM"],
        );
        let dimms = dimms(&Table::parse(None, &data));
        assert_eq!(
            dimms,
            [Dimm {
                locator: Some("DIMM_B2".into()),
                bank: Some("NODE 1".into()),
                ..Dimm::default()
            }]
        );
    }

    #[test]
    fn wide_core_counts_and_empty_sockets() {
        let mut data = structure(
            4,
            1,
            &body(
                0x30,
                &[
                    (0x04, &[1]),
                    (0x05, &[3]),
                    (0x10, &[2]),
                    (0x18, &[0x41]),
                    (0x23, &[0xff]),
                    (0x25, &[0xff]),
                    (0x2a, &384u16.to_le_bytes()),
                    (0x2e, &768u16.to_le_bytes()),
                ],
            ),
            &["P0", "A Processor"],
        );
        data.extend(structure(
            4,
            2,
            &body(0x30, &[(0x04, &[1]), (0x05, &[3]), (0x14, &[1, 1])]),
            &["P1"],
        ));
        let packages = cpu_packages(&Table::parse(None, &data));
        assert_eq!(packages[0].cores, Some(384));
        assert_eq!(packages[0].threads, Some(768));
        assert_eq!(packages[0].model.as_deref(), Some("A Processor"));
        assert!(!packages[1].populated);
        assert_eq!(packages[1].max_speed_mhz, None);
    }

    #[test]
    fn the_interface_of_the_controller() {
        let data = structure(
            38,
            1,
            &body(0x12, &[(0x04, &[1]), (0x08, &0xca3u64.to_le_bytes())]),
            &[],
        );
        assert_eq!(
            ipmi_interface(&Table::parse(None, &data)).as_deref(),
            Some("KCS at I/O port 0xca2")
        );
    }

    proptest! {
        #[test]
        fn any_structure_gives_facts_or_none(
            kind in prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(4), Just(16), Just(17), Just(38)],
            body in proptest::collection::vec(any::<u8>(), 0..120),
            strings in proptest::collection::vec("\\PC{1,6}", 0..4),
        ) {
            let names: Vec<&str> = strings.iter().map(String::as_str).collect();
            let data = structure(kind, 7, &body, &names);
            let table = Table::parse(None, &data);
            let _ = (bios(&table), system(&table), cpu_packages(&table), memory_arrays(&table), ipmi_interface(&table));
            prop_assert!(dimms(&table).len() <= 1);
        }
    }
}
