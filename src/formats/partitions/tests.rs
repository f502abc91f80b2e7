//! Tables made by hand from the specification, damaged ones, and arbitrary bytes.

use super::*;
use proptest::prelude::*;

const SECTORS: u64 = 4096;

fn of(disk: &[u8]) -> Option<Partitioning> {
    of_size(disk, 512)
}

fn of_size(disk: &[u8], sector: u32) -> Option<Partitioning> {
    table(disk.len() as u64, sector, &mut |offset, length| {
        let start = usize::try_from(offset).ok()?.min(disk.len());
        Some(disk[start..disk.len().min(start.saturating_add(length))].to_vec())
    })
}

fn record(disk: &mut [u8], table: usize, index: usize, kind: u8, start: u32, sectors: u32) {
    let at = table * 512 + 446 + index * 16;
    disk[at + 4] = kind;
    disk[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    disk[table * 512 + 510..table * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
}

/// Linux file system data, as it stands on disk.
const LINUX: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

fn header(disk: &mut [u8], sector: usize, own: u64, other: u64, entries: u64, crc_of_entries: u32) {
    let mut header = [0u8; 92];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&[0, 0, 1, 0]);
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    header[24..32].copy_from_slice(&own.to_le_bytes());
    header[32..40].copy_from_slice(&other.to_le_bytes());
    header[56..72].copy_from_slice(&(1..=16).collect::<Vec<u8>>());
    header[72..80].copy_from_slice(&entries.to_le_bytes());
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc_of_entries.to_le_bytes());
    let sum = crc(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    let at = own as usize * sector;
    disk[at..at + 92].copy_from_slice(&header);
}

fn gpt_disk(sector: usize) -> Vec<u8> {
    let mut disk = vec![0u8; SECTORS as usize * sector];
    record(&mut disk, 0, 0, 0xee, 1, u32::MAX);
    let mut entries = vec![0u8; 128 * 128];
    entries[128..144].copy_from_slice(&LINUX);
    entries[144..160].copy_from_slice(&[7; 16]);
    entries[160..168].copy_from_slice(&100u64.to_le_bytes());
    entries[168..176].copy_from_slice(&199u64.to_le_bytes());
    entries[176..184].copy_from_slice(&(1u64 | 1 << 63).to_le_bytes());
    for (index, unit) in "root ü".encode_utf16().enumerate() {
        entries[184 + index * 2..186 + index * 2].copy_from_slice(&unit.to_le_bytes());
    }
    let table_sectors = (128 * 128 / sector) as u64;
    let sum = crc(&entries);
    disk[2 * sector..2 * sector + entries.len()].copy_from_slice(&entries);
    let second = SECTORS - 1 - table_sectors;
    let at = second as usize * sector;
    disk[at..at + entries.len()].copy_from_slice(&entries);
    header(&mut disk, sector, 1, SECTORS - 1, 2, sum);
    header(&mut disk, sector, SECTORS - 1, 1, second, sum);
    disk
}

#[test]
fn a_gpt_tells_places_types_names_and_flags() {
    for sector in [512u32, 4096] {
        let found = of_size(&gpt_disk(sector as usize), sector).unwrap();
        assert_eq!(
            found.table,
            PartitionTable {
                kind: "gpt".to_owned(),
                id: Some("04030201-0605-0807-090a-0b0c0d0e0f10".to_owned()),
                valid: Some(true),
                backup_valid: Some(true),
            }
        );
        let [partition] = &found.partitions[..] else {
            panic!("{found:?}")
        };
        assert_eq!(partition.number, 2);
        assert_eq!(partition.start_bytes, 100 * u64::from(sector));
        assert_eq!(partition.size_bytes, 100 * u64::from(sector));
        assert_eq!(partition.type_name.as_deref(), Some("Linux file system"));
        assert_eq!(partition.label.as_deref(), Some("root ü"));
        assert_eq!(partition.flags, ["required", "no auto"]);
        assert_eq!(partition.guid.as_deref(), Some("07070707-0707-0707-0707-070707070707"));
    }
}

#[test]
fn a_damaged_gpt_is_read_from_its_other_copy_and_says_so() {
    let mut disk = gpt_disk(512);
    disk[512 + 60] ^= 1;
    let found = of(&disk).unwrap();
    assert_eq!((found.table.valid, found.table.backup_valid), (Some(false), Some(true)));
    assert_eq!(found.partitions.len(), 1);

    // An entry changed in the first copy only: its checksum is wrong.
    let mut disk = gpt_disk(512);
    disk[1024 + 128 + 40] = 1;
    let found = of(&disk).unwrap();
    assert_eq!((found.table.valid, found.table.backup_valid), (Some(false), Some(true)));
    assert_eq!(found.partitions[0].size_bytes, 51200);

    // The first header wiped: only the second is left, and the protective record leads to it.
    let mut disk = gpt_disk(512);
    disk[512..1024].fill(0);
    let found = of(&disk).unwrap();
    assert_eq!((found.table.valid, found.table.backup_valid), (Some(false), Some(true)));
    assert_eq!(found.partitions.len(), 1);

    let mut disk = gpt_disk(512);
    let end = disk.len() - 512;
    disk[end..].fill(0);
    let found = of(&disk).unwrap();
    assert_eq!((found.table.valid, found.table.backup_valid), (Some(true), Some(false)));
}

#[test]
fn logical_partitions_are_followed_forward() {
    let mut disk = vec![0u8; 1024 * 512];
    disk[440..444].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
    disk[446] = 0x80;
    record(&mut disk, 0, 0, 0x83, 8, 92);
    record(&mut disk, 0, 1, 0x0f, 100, 900);
    record(&mut disk, 100, 0, 0x82, 8, 92);
    record(&mut disk, 100, 1, 0x05, 100, 100);
    record(&mut disk, 200, 0, 0x8e, 8, 50);
    // Back to the first: a loop in a broken table.
    record(&mut disk, 200, 1, 0x05, 0, 100);
    let found = of(&disk).unwrap();
    assert_eq!(found.table.kind, "mbr");
    assert_eq!(found.table.id.as_deref(), Some("1234abcd"));
    let seen: Vec<_> = found
        .partitions
        .iter()
        .map(|p| (p.number, p.start_bytes / 512, p.type_name.as_deref().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 8, "Linux"),
            (2, 100, "extended"),
            (5, 108, "Linux swap"),
            (6, 208, "Linux LVM")
        ]
    );
    assert_eq!(found.partitions[0].flags, ["active"]);
    assert!(is_container(&found.partitions[1]) && !is_container(&found.partitions[0]));
}

#[test]
fn a_file_system_without_a_table_has_none() {
    let mut disk = vec![0u8; 64 * 512];
    assert_eq!(of(&disk), None);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(of(&disk), None, "no record in use");
    // Boot code of a FAT volume that happens to look like a record.
    record(&mut disk, 0, 0, 0x20, 1, 1);
    assert!(of(&disk).is_some());
    disk[11..13].copy_from_slice(&512u16.to_le_bytes());
    disk[82..90].copy_from_slice(b"FAT32   ");
    assert_eq!(of(&disk), None);
    assert_eq!(of(&[]), None);
}

proptest! {
    #[test]
    fn any_disk_is_read_or_refused(
        damage in proptest::collection::vec((0usize..SECTORS as usize * 512, any::<u8>()), 0..40),
        head in proptest::collection::vec((0usize..2048, any::<u8>()), 0..40),
        size in any::<u64>(), sector in any::<u32>(),
    ) {
        let mut disk = gpt_disk(512);
        for (at, byte) in damage.into_iter().chain(head) {
            disk[at] = byte;
        }
        let bounded = |found: Option<Partitioning>| found.is_none_or(|found| found.partitions.len() <= MAX_TABLE_BYTES / 128);
        prop_assert!(bounded(of(&disk)));
        let found = table(size, sector, &mut |offset, length| {
            let start = (offset % disk.len() as u64) as usize;
            Some(disk[start..disk.len().min(start.saturating_add(length))].to_vec())
        });
        prop_assert!(bounded(found));
    }

    #[test]
    fn random_sectors_are_read_or_refused(mut disk in proptest::collection::vec(any::<u8>(), 512..4096)) {
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        for index in 0..4 {
            disk[446 + index * 16] &= 0x80;
        }
        let _ = of(&disk);
        disk[..3].copy_from_slice(&[0; 3]);
        if disk.len() > 1024 {
            disk[512..520].copy_from_slice(b"EFI PART");
        }
        let _ = of(&disk);
    }
}
