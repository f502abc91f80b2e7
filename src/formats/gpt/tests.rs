use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Command;

use proptest::prelude::*;

use super::header::{GptEntry, crc_of_header};
use super::*;
use crate::formats::{ReadAt, fixture};
use crate::model::cause;

const MIB: u64 = 1 << 20;

/// An image written to a stick of `size` bytes, as a sparse file.
fn stick(image: &[u8], size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all_at(image, 0).unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

fn add(disk: &File, size: u64) -> Place {
    let table = Table::read(disk, size).unwrap();
    let plan = plan(&table, size, iso_bytes(disk).unwrap(), None, [7; 16]).unwrap();
    plan.apply(disk).unwrap();
    plan.data
}

#[test]
fn a_partition_is_added_behind_a_real_image() {
    for (name, number) in [("kiwi.iso.gz", 3), ("apple.iso.gz", 5)] {
        let image = fixture(name);
        let size = 300 * MIB + 512 * 7;
        let file = stick(&image, size);
        let disk = file.as_file();
        let before: Vec<GptEntry> = Table::read(disk, size).unwrap().partitions().collect();
        assert_eq!(find_data(disk, size).unwrap(), None);
        let end = (image.len() as u64).div_ceil(MIB) * MIB;

        let place = add(disk, size);
        assert_eq!((place.number, place.offset), (number, end), "{name}");
        assert_eq!((place.offset + place.length) % MIB, 0);
        assert_eq!(place.offset + place.length, 299 * MIB);
        assert_eq!(find_data(disk, size).unwrap(), Some(place));
        assert!(!place.finished);

        let table = Table::read(disk, size).unwrap();
        finish(&table, size).unwrap().apply(disk).unwrap();
        let table = Table::read(disk, size).unwrap();
        assert_eq!(
            table.data(size),
            Some(Place {
                finished: true,
                ..place
            })
        );
        assert_eq!(finish(&table, size), None);

        // Both copies say the same, the image's own partitions are as they were, and so is every byte but the table.
        let backup = Table::read_backup(disk, size).unwrap();
        assert_eq!((table.alternate_lba, backup.alternate_lba), (size / 512 - 1, 1));
        assert_eq!(table.entries, backup.entries);
        let after: Vec<GptEntry> = table.partitions().collect();
        assert_eq!(&after[..before.len()], &before[..]);
        let mut now = vec![0; image.len()];
        FileExt::read_exact_at(disk, &mut now, 0).unwrap();
        let entries = usize::try_from(table.entries_lba * 512).unwrap();
        let changed: Vec<usize> = (0..image.len()).filter(|&at| now[at] != image[at]).collect();
        let entry = entries + 128 * (usize::try_from(number).unwrap() - 1);
        assert!(
            changed
                .iter()
                .all(|at| (512..604).contains(at) || (entry..entry + 128).contains(at)),
            "{name}"
        );

        // Another reader finds nothing wrong with it.
        let check = Command::new("sgdisk")
            .arg("-v")
            .arg(file.path())
            .output()
            .expect("sgdisk (package gdisk)");
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(text.contains("No problems found"), "{name}: {text}");
        let list = Command::new("sgdisk")
            .arg(format!("-i{number}"))
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&list.stdout);
        assert!(
            text.contains("Microsoft basic data") && text.contains("'RECON-DATA'"),
            "{text}"
        );
    }
}

#[test]
fn the_image_can_be_taken_off_the_stick_as_it_was() {
    for name in ["kiwi.iso.gz", "apple.iso.gz"] {
        let image = fixture(name);
        let size = 200 * MIB;
        let file = stick(&image, size);
        let disk = file.as_file();
        for with_data in [false, true] {
            if with_data {
                add(disk, size);
            }
            let found = find_image(disk, size).unwrap().unwrap();
            assert_eq!(found.bytes, image.len() as u64, "{name}");
            let mut bytes = vec![0; image.len()];
            FileExt::read_exact_at(disk, &mut bytes, 0).unwrap();
            for patch in &found.patches {
                let at = usize::try_from(patch.offset).unwrap();
                bytes[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
            }
            assert!(bytes == image, "{name}");
        }
    }
    assert_eq!(find_image(&vec![0; 1 << 20], 1 << 20).unwrap(), None);
}

#[test]
fn a_stick_that_is_too_small_is_named_with_its_numbers() {
    let image = fixture("kiwi.iso.gz");
    let size = 40 * MIB;
    let file = stick(&image, size);
    let table = Table::read(file.as_file(), size).unwrap();
    let error = plan(&table, size, iso_bytes(file.as_file()).unwrap(), None, [7; 16]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the medium has 40 MiB, the image takes 1 MiB of it, and 38 MiB behind it are too little for a data partition \
         (at least 64 MiB)"
    );
    let table = Table::read(&image, image.len() as u64).unwrap();
    let error = plan(&table, image.len() as u64, 0, None, [7; 16]).unwrap_err();
    assert!(matches!(error, PlanError::TooSmall { free_bytes: 0, .. }), "{error}");
}

#[test]
fn a_new_image_finds_the_place_of_the_old_partition() {
    let image = fixture("kiwi.iso.gz");
    let size = 200 * MIB;
    let file = stick(&image, size);
    let disk = file.as_file();
    let first = add(disk, size);
    finish(&Table::read(disk, size).unwrap(), size)
        .unwrap()
        .apply(disk)
        .unwrap();

    disk.write_all_at(&image, 0).unwrap();
    assert_eq!(find_data(disk, size).unwrap(), None);
    let former = find_former_data(disk, size).unwrap().unwrap();
    assert_eq!(
        (former.offset, former.length, former.finished),
        (first.offset, first.length, true)
    );
    let table = Table::read(disk, size).unwrap();
    let again = plan(&table, size, iso_bytes(disk).unwrap(), Some(former), [8; 16]).unwrap();
    assert_eq!(
        again.data,
        Place {
            finished: true,
            ..first
        }
    );

    // A larger image that reaches into the old partition ends it.
    let larger = plan(&table, size, 5 * MIB, Some(former), [8; 16]).unwrap();
    assert_eq!((larger.data.offset, larger.data.finished), (5 * MIB, false));
}

/// A disk with a bad place.
struct Bad<'a> {
    disk: &'a File,
    from: u64,
    to: u64,
}

impl ReadAt for Bad<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset < self.to && offset + buffer.len() as u64 > self.from {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        ReadAt::read_at(self.disk, buffer, offset)
    }
}

#[test]
fn what_cannot_be_read_is_never_taken_for_nothing() {
    let image = fixture("kiwi.iso.gz");
    let size = 200 * MIB;
    let file = stick(&image, size);
    let disk = file.as_file();
    add(disk, size);
    disk.write_all_at(&image, 0).unwrap();
    assert!(find_former_data(disk, size).unwrap().is_some());
    let bad = |from, to| Bad { disk, from, to };
    // The backup's header, and its entries.
    for place in [bad(size - 512, size), bad(size - 33 * 512, size - 32 * 512)] {
        let error = find_former_data(&place, size).unwrap_err();
        assert!(cause::told(&error).contains("os error 5"), "{error}");
    }
    let error = iso_bytes(&bad(32 * 1024, 34 * 1024)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let error = find_image(&bad(512, 1024), size).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    // A table that is gone, with a copy that cannot be read: both are said, and it is not called none.
    let nothing = tempfile::tempfile().unwrap();
    nothing.set_len(size).unwrap();
    let unread = Bad {
        disk: &nothing,
        from: size - 512,
        to: size,
    };
    let error = Table::read(&unread, size).unwrap_err();
    assert!(matches!(error, GptError::Io(_)), "{error:?}");
    let error = cause::told(&error);
    assert!(error.contains("no header") && error.contains("os error 5"), "{error}");
}

#[test]
fn a_power_cut_in_the_middle_of_the_edit_is_repaired() {
    let image = fixture("kiwi.iso.gz");
    let size = 200 * MIB;
    for torn in 0..=4 {
        for part in [0, 40, 384, 511] {
            let file = stick(&image, size);
            let disk = file.as_file();
            let table = Table::read(disk, size).unwrap();
            let planned = plan(&table, size, iso_bytes(disk).unwrap(), None, [7; 16]).unwrap();
            for (index, write) in planned.writes.iter().enumerate().take(torn + 1) {
                let length = if index == torn { part } else { write.bytes.len() };
                disk.write_all_at(&write.bytes[..length.min(write.bytes.len())], write.offset)
                    .unwrap();
            }
            // Either the edit has not happened, or it is found and can be finished.
            let table = Table::read(disk, size).unwrap_or_else(|e| panic!("torn {torn} at {part}: {e}"));
            match table.data(size) {
                Some(place) => {
                    assert_eq!(place, planned.data);
                    if let Some(repair) = repair(&table, size) {
                        repair.apply(disk).unwrap();
                    }
                }
                None => plan(&table, size, iso_bytes(disk).unwrap(), None, [7; 16])
                    .unwrap()
                    .apply(disk)
                    .unwrap(),
            }
            let table = Table::read(disk, size).unwrap();
            assert!(!table.is_backup(), "torn {torn} at {part}");
            assert_eq!(table.data(size), Some(planned.data));
            assert_eq!(Table::read_backup(disk, size).unwrap().entries, table.entries);
        }
    }
}

#[test]
fn sectors_of_4096_bytes() {
    let size = 200 * MIB;
    let sectors = size / 4096;
    let mut header = vec![0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&[0, 0, 1, 0]);
    header[12] = 92;
    header[24..32].copy_from_slice(&1u64.to_le_bytes());
    header[40..48].copy_from_slice(&6u64.to_le_bytes());
    header[72..80].copy_from_slice(&2u64.to_le_bytes());
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    let mut entries = vec![0u8; 128 * 128];
    entries[..16].copy_from_slice(&[9; 16]);
    entries[32..40].copy_from_slice(&6u64.to_le_bytes());
    entries[40..48].copy_from_slice(&600u64.to_le_bytes());
    let table = Table {
        sector_size: 4096,
        lba: 1,
        alternate_lba: 0,
        first_usable_lba: 6,
        entries_lba: 2,
        entry_size: 128,
        header,
        entries: entries.clone(),
    };
    let file = stick(&[], size);
    let disk = file.as_file();
    for write in table.writes(sectors, 2, &entries) {
        disk.write_all_at(&write.bytes, write.offset).unwrap();
    }
    let place = add(disk, size);
    assert_eq!((place.number, place.sector_size, place.offset), (2, 4096, 3 * MIB));
    assert_eq!(place.offset + place.length, 199 * MIB);
    assert_eq!(find_data(disk, size).unwrap(), Some(place));
}

#[test]
fn a_table_without_room_or_reason_is_refused() {
    let image = fixture("kiwi.iso.gz");
    let size = 200 * MIB;
    let file = stick(&image, size);
    let table = Table::read(file.as_file(), size).unwrap();

    let mut full = table.clone();
    for (number, entry) in full.entries.chunks_exact_mut(128).enumerate().skip(2) {
        let lba = 2000 + number as u64;
        entry[..16].copy_from_slice(&[1; 16]);
        entry[32..40].copy_from_slice(&lba.to_le_bytes());
        entry[40..48].copy_from_slice(&lba.to_le_bytes());
    }
    assert_eq!(plan(&full, size, 0, None, [7; 16]), Err(PlanError::NoFreeEntry));

    let mut overlapping = table.clone();
    overlapping.entries[128 + 32] = 70;
    overlapping.entries[128 + 33] = 0;
    assert!(matches!(
        plan(&overlapping, size, 0, None, [7; 16]),
        Err(PlanError::Damaged(_))
    ));

    let mut outside = table;
    outside.entries[128 + 40 + 7] = 1;
    assert!(matches!(
        plan(&outside, size, 0, None, [7; 16]),
        Err(PlanError::Damaged(_))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..9000), size in any::<u64>()) {
        let _ = Table::read(&bytes, size).is_ok();
    }

    /// A header with the right checksum may still claim anything.
    #[test]
    fn any_header_is_read_or_refused(
        edits in proptest::collection::vec((24usize..92, any::<u8>()), 1..8),
        size in prop_oneof![Just(200 * MIB), any::<u64>()],
    ) {
        let mut image = fixture("kiwi.iso.gz");
        for (at, byte) in edits {
            image[512 + at] = byte;
        }
        let sum = crc_of_header(&image[512..604]);
        image[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
        if let Ok(table) = Table::read(&image, size) {
            let _ = table.data(size);
            let _ = plan(&table, size, 0, None, [7; 16]).is_ok();
        }
    }

    /// Entries with the right checksum may hold anything; the plan never touches what they claim.
    #[test]
    fn the_plan_keeps_clear_of_every_entry(
        entries in proptest::collection::vec((2u64..400_000, 0u64..60_000), 0..6),
        size in (100 * MIB)..(300 * MIB),
    ) {
        let image = fixture("kiwi.iso.gz");
        let file = stick(&image, size);
        let mut table = Table::read(file.as_file(), size).unwrap();
        for (index, (first, length)) in entries.iter().enumerate() {
            let entry = &mut table.entries[(index + 2) * 128..(index + 3) * 128];
            entry[..16].copy_from_slice(&[1; 16]);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&(first + length).to_le_bytes());
        }
        if let Ok(plan) = plan(&table, size, image.len() as u64, None, [7; 16]) {
            for partition in table.partitions() {
                prop_assert!(plan.data.offset > partition.last_lba * 512);
            }
            prop_assert!(plan.data.length >= MIN_DATA_BYTES && plan.data.offset >= image.len() as u64);
            for write in &plan.writes {
                let end = write.offset + write.bytes.len() as u64;
                prop_assert!(end <= size / 512 * 512 && write.offset >= 512);
                prop_assert!(end <= 64 * 512 || write.offset >= plan.data.offset + plan.data.length);
            }
        }
    }
}
