use proptest::prelude::*;

use super::super::memory::{dimms, memory_arrays};
use super::super::table::Version;
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
    let packages = cpu_packages(&SmbiosTable::parse(None, &data));
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
        ipmi_interface(&SmbiosTable::parse(None, &data)).as_deref(),
        Some("KCS at I/O port 0xca2")
    );
    let data = structure(38, 1, &body(0x12, &[(0x04, &[4]), (0x08, &0x20u64.to_le_bytes())]), &[]);
    assert_eq!(
        ipmi_interface(&SmbiosTable::parse(None, &data)).as_deref(),
        Some("SSIF at SMBus address 0x10")
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
        let table = SmbiosTable::parse(None, &data);
        let _ = (bios(&table), system(&table), cpu_packages(&table), memory_arrays(&table), ipmi_interface(&table));
        prop_assert!(dimms(&table).len() <= 1);
    }
}
