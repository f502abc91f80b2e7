use super::*;
use crate::probe::smbios::testing::structure;
use proptest::prelude::*;

fn with_checksum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = 0u8.wrapping_sub(sum);
    bytes
}

#[test]
fn reads_both_entry_points() {
    let mut v3 = b"_SM3_\0\x18\x03\x04\0\x01\0".to_vec();
    v3.resize(24, 0);
    assert_eq!(
        entry_point(&with_checksum(v3.clone(), 5)),
        Some(Version { major: 3, minor: 4 })
    );
    let mut wrong = with_checksum(v3, 5);
    wrong[10] ^= 1;
    assert_eq!(entry_point(&wrong), None);

    let mut v2 = b"_SM_\0\x1f\x02\x08".to_vec();
    v2.resize(31, 0);
    assert_eq!(entry_point(&with_checksum(v2, 4)), Some(Version { major: 2, minor: 8 }));
    assert_eq!(entry_point(b""), None);
    assert_eq!(entry_point(b"_SM3_"), None);
}

#[test]
fn walks_structures_and_their_strings() {
    let mut data = structure(1, 0x100, &[1, 2, 0, 9], &["Vendor", " Product "]);
    data.extend(structure(32, 0x200, &[], &[]));
    data.extend(structure(127, 0x300, &[], &[]));
    data.extend(b"what follows the end is not read");
    let table = SmbiosTable::parse(None, &data);
    assert_eq!(table.broken, None);
    assert_eq!(table.structures().count(), 3);
    let system = table.first(1).unwrap();
    assert_eq!(system.handle, 0x100);
    assert_eq!(system.string(4).as_deref(), Some("Vendor"));
    assert_eq!(system.string(5).as_deref(), Some("Product"));
    assert_eq!(system.string(6), None, "number 0 is no string");
    assert_eq!(system.string(7), None, "there is no string 9");
    assert_eq!(system.byte(8), None);
    assert_eq!(system.word(7), None);
    assert_eq!(system.qword(usize::MAX), None);
}

#[test]
fn zeros_between_structures_are_skipped_and_remarked() {
    let modules = |zeros: usize| {
        [
            structure(17, 1, &[0; 80], &["A1"]),
            vec![0; zeros],
            structure(0, 2, &[1, 2, 3], &["Example BIOS"]),
            structure(17, 3, &[0; 80], &["A2"]),
            structure(127, 4, &[], &[]),
        ]
        .concat()
    };
    for zeros in [2, 4] {
        let data = modules(zeros);
        let table = SmbiosTable::parse(None, &data);
        assert_eq!((table.of_kind(17).count(), table.of_kind(0).count()), (2, 1), "{zeros}");
        let remark = table.broken.unwrap();
        assert!(remark.starts_with(&format!("{zeros} zero bytes at ")), "{remark}");
    }
    assert_eq!(SmbiosTable::parse(None, &modules(0)).broken, None);
    // Nothing but zeros behind the last structure.
    let padded = [structure(17, 1, &[0; 80], &["A1"]), vec![0; 64]].concat();
    let table = SmbiosTable::parse(None, &padded);
    assert_eq!(table.structures().count(), 1);
    assert!(table.broken.is_some());
}

#[test]
fn a_torn_table_keeps_what_came_before() {
    let mut data = structure(1, 1, &[1], &["Vendor"]);
    let good = data.len();
    data.extend([17, 200, 0, 0, 1, 2, 3]);
    let table = SmbiosTable::parse(None, &data);
    assert_eq!(table.structures().count(), 1);
    assert_eq!(
        table.broken.as_deref(),
        Some(&*format!("the structure at byte {good} of {} is torn", data.len()))
    );
    assert!(SmbiosTable::parse(None, &[1, 3, 0, 0, 0, 0]).broken.is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_walked_within_bounds(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        let table = SmbiosTable::parse(entry_point(&data), &data);
        let used: usize = table.structures().map(|s| s.formatted.len() + s.strings.len()).sum();
        prop_assert!(used <= data.len());
        for structure in table.structures() {
            for offset in 0..=260 {
                let _ = (structure.string(offset), structure.qword(offset), structure.bytes::<16>(offset));
            }
        }
    }

    #[test]
    fn almost_a_table_is_walked(
        body in proptest::collection::vec(any::<u8>(), 0..60),
        strings in proptest::collection::vec("[ -~]{1,8}", 0..4),
        cut in 0usize..100,
    ) {
        let names: Vec<&str> = strings.iter().map(String::as_str).collect();
        let mut data = structure(17, 7, &body, &names);
        data.extend(structure(127, 8, &[], &[]));
        data.truncate(data.len().saturating_sub(cut));
        let table = SmbiosTable::parse(None, &data);
        prop_assert!(table.structures().count() <= 2);
        if cut == 0 {
            prop_assert_eq!(table.structures().next().unwrap().strings().count(), names.len());
            prop_assert!(table.broken.is_none());
        }
    }
}
