use super::super::testing::structure;
use super::*;

fn body(length: usize, fields: &[(usize, &[u8])]) -> Vec<u8> {
    // Offsets count from the header, as in the specification.
    let mut body = vec![0u8; length - 4];
    for (offset, bytes) in fields {
        body[offset - 4..offset - 4 + bytes.len()].copy_from_slice(bytes);
    }
    body
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
    let told = dimms(&SmbiosTable::parse(None, &data));
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
    let told = dimms(&SmbiosTable::parse(None, &data)).remove(0);
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
    let old = dimms(&SmbiosTable::parse(None, &old)).remove(0);
    assert!(old.operating_modes.is_empty() && old.module_manufacturer.is_none() && old.pmic_revision.is_none());
    let mut empty = body(0x64, &fields);
    (empty[0x0c - 4], empty[0x0d - 4]) = (0, 0);
    let empty = structure(17, 1, &empty, &[]);
    let empty = dimms(&SmbiosTable::parse(None, &empty)).remove(0);
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
        dimms(&SmbiosTable::parse(None, &data)).remove(0)
    };
    let told = at(0x54);
    assert_eq!(told.technology.as_deref(), Some("NVDIMM-N"));
    assert_eq!((told.non_volatile_bytes, told.volatile_bytes), (Some(16 << 30), None));
    assert_eq!(told.firmware.as_deref(), Some("2.1"));
    // Firmware that fills in neither portion.
    let zeros = structure(17, 1, &body(0x54, &[(0x0c, &[0x00, 0x40]), (0x12, &[0x1a])]), &[]);
    let plain = dimms(&SmbiosTable::parse(None, &zeros)).remove(0);
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
        dimm_size(SmbiosTable::parse(None, &data).first(17).unwrap())
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
    let dimms = dimms(&SmbiosTable::parse(None, &data));
    assert_eq!(
        dimms,
        [Dimm {
            locator: Some("DIMM_B2".into()),
            bank: Some("NODE 1".into()),
            ..Dimm::default()
        }]
    );
}
