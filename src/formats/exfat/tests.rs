use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::model::layout::DATA_NAME;
use crate::store::{UploadName, digest_of};

fn fixture() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/media/data.img.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// Every file below a folder, with its path. Bounded, as a broken volume may hold a folder in itself.
fn files<D: ReadAt>(volume: &ExFat<D>, folder: &Stream, path: &str, depth: usize, out: &mut Vec<(String, Entry)>) {
    let Ok(listing) = volume.list(folder) else { return };
    for entry in listing.entries.into_iter().take(200) {
        let path = format!("{path}/{}", entry.name);
        if !entry.is_folder {
            out.push((path, entry));
        } else if depth < 4 && out.len() < 2000 {
            files(volume, &entry.stream, &path, depth + 1, out);
        }
    }
}

fn all_files<D: ReadAt>(volume: &ExFat<D>) -> Vec<(String, Entry)> {
    let mut out = Vec::new();
    files(volume, &volume.root(), "", 0, &mut out);
    out
}

#[test]
fn reads_what_another_driver_wrote() {
    let image = fixture();
    let volume = ExFat::open(&image).unwrap();
    let root = volume.list(&volume.root()).unwrap();
    assert_eq!(root.label.as_deref(), Some(DATA_NAME));
    assert!(root.has_bitmap && root.has_upcase && root.damaged == 0 && !volume.is_dirty());

    let files = all_files(&volume);
    let (mut whole, mut torn, mut in_pieces) = (0, 0, 0);
    for (path, entry) in &files {
        if let Some(name) = path.rsplit('/').next().and_then(UploadName::parse) {
            let (digest, length) = digest_of(volume.reader(&entry.stream)).unwrap();
            assert_eq!(length, entry.size());
            if digest == name.sha256 {
                whole += 1
            } else {
                torn += 1
            }
            in_pieces += usize::from(!entry.stream.contiguous);
        }
    }
    assert_eq!((whole, torn), (5, 2));
    assert!(in_pieces >= 2, "the fixture has files in pieces");

    // The names of 40 files fill more than one cluster; their deleted neighbours are gone.
    let isos: Vec<&(String, Entry)> = files.iter().filter(|(path, _)| path.starts_with("/isos/")).collect();
    assert_eq!(isos.len(), 40);
    for (path, entry) in isos {
        let number: u8 = path[6..9].parse().unwrap();
        assert_eq!(path, &format!("/isos/{number:03}-{}.iso", "ü".repeat(60)));
        let mut bytes = Vec::new();
        volume.reader(&entry.stream).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, vec![number; usize::from(number) * 10]);
        assert!(entry.modified_unix.is_some_and(|time| time > 1_700_000_000));
    }
    assert!(
        volume
            .find(&volume.root(), "RECON.TOML")
            .unwrap()
            .is_some_and(|entry| entry.size() == 17)
    );
    assert_eq!(volume.find(&volume.root(), "nothing").unwrap(), None);
}

#[test]
fn reads_what_mkfs_makes() {
    for (size, cluster) in [(8u64 << 20, "4K"), (64 << 20, "32K"), (300 << 20, "128K")] {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let mkfs = Command::new("mkfs.exfat")
            .args(["-L", DATA_NAME, "-c", cluster])
            .arg(file.path())
            .output();
        assert!(mkfs.expect("mkfs.exfat (package exfatprogs)").status.success());
        let volume = ExFat::open(file.as_file()).unwrap();
        let root = volume.list(&volume.root()).unwrap();
        assert_eq!(
            (root.label.as_deref(), root.entries.len(), root.damaged),
            (Some(DATA_NAME), 0, 0)
        );
    }
}

#[test]
fn the_backup_boot_region_is_used() {
    let mut image = fixture();
    image[..512].fill(0);
    assert_eq!(
        all_files(&ExFat::open(&image).unwrap()).len(),
        all_files(&ExFat::open(&fixture()).unwrap()).len()
    );
    image[12 * 512 + 100] ^= 1;
    assert!(matches!(ExFat::open(&image), Err(ExFatError::Damaged(_))));
    assert!(matches!(ExFat::open(&vec![0u8; 1 << 20]), Err(ExFatError::NotExFat)));
    assert!(matches!(ExFat::open(&Vec::new()), Err(ExFatError::NotExFat)));
}

#[test]
fn a_chain_in_a_circle_ends() {
    let mut image = fixture();
    let volume = ExFat::open(&image).unwrap();
    let geometry = volume.geometry;
    let root_fat = usize::try_from(geometry.fat_offset + u64::from(geometry.root_cluster) * 4).unwrap();
    let root_at = usize::try_from(volume.offset_of(geometry.root_cluster).unwrap()).unwrap();
    image[root_fat..root_fat + 4].copy_from_slice(&geometry.root_cluster.to_le_bytes());
    // No end mark in the cluster either.
    for entry in image[root_at..root_at + 4096]
        .chunks_exact_mut(32)
        .filter(|entry| entry[0] == 0)
    {
        entry[0] = 1;
    }
    let volume = ExFat::open(&image).unwrap();
    assert!(matches!(volume.list(&volume.root()), Err(ExFatError::Damaged(_))));
}

#[test]
fn a_folder_that_is_not_read_whole_says_so() {
    let image = fixture();
    let volume = ExFat::open(&image).unwrap();
    let nodes = volume.find(&volume.root(), "nodes").unwrap().unwrap();
    let whole = volume.list(&nodes.stream).unwrap();
    assert!(!whole.cut && whole.entries.len() > 1);
    let part = volume.list_within(&nodes.stream, 5 * 32).unwrap();
    assert!(part.cut && part.entries.len() == 1, "{part:?}");
    assert!(
        volume.list_within(&volume.root(), 32).unwrap().cut,
        "a folder of unknown length"
    );
}

#[test]
fn bytes_never_written_read_as_zero() {
    let image = fixture();
    let volume = ExFat::open(&image).unwrap();
    let entry = volume.find(&volume.root(), "recon.toml").unwrap().unwrap();
    let stream = Stream {
        valid: 4,
        ..entry.stream
    };
    let mut bytes = Vec::new();
    volume.reader(&stream).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [b"site".as_slice(), &[0; 13]].concat());
}

#[test]
fn time_stamps() {
    let stamp = |y: u32, mo: u32, d: u32, h: u32, mi: u32, s: u32| {
        ((y - 1980) << 25) | (mo << 21) | (d << 16) | (h << 11) | (mi << 5) | (s / 2)
    };
    assert_eq!(unix_time(stamp(2026, 11, 21, 22, 49, 0), 0x80), Some(1_795_301_340));
    assert_eq!(unix_time(stamp(2000, 2, 29, 0, 0, 0), 0), Some(951_782_400));
    // Two hours east of Greenwich, and five west.
    assert_eq!(unix_time(stamp(2000, 2, 29, 2, 0, 0), 0x80 | 8), Some(951_782_400));
    assert_eq!(
        unix_time(stamp(2000, 2, 28, 19, 0, 0), 0x80 | (128 - 20)),
        Some(951_782_400)
    );
    assert_eq!(unix_time(0, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        if let Ok(volume) = ExFat::open(&bytes) {
            let _ = all_files(&volume);
        }
    }

    /// A real volume with bytes changed in its structures: everything ends, and nothing wrong passes for an upload.
    #[test]
    fn a_damaged_volume_is_read_as_far_as_it_goes(
        damage in proptest::collection::vec((any::<u32>(), any::<u8>(), any::<bool>()), 1..40),
        cut in proptest::option::of(0usize..8 << 20),
    ) {
        let mut image = fixture();
        let heap = usize::try_from(ExFat::open(&image).unwrap().geometry.heap_offset).unwrap();
        for (at, byte, in_front) in damage {
            // The FAT and the first folders, or anywhere.
            let at = at as usize % if in_front { heap + 200_000 } else { image.len() };
            image[at] = byte;
        }
        image.truncate(cut.unwrap_or(image.len()));
        if let Ok(volume) = ExFat::open(&image) {
            for (_, entry) in all_files(&volume) {
                let mut reader = volume.reader(&entry.stream).take(1 << 20);
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            }
        }
    }

    /// The same with a boot sector that has the right checksum but says anything.
    #[test]
    fn any_geometry_is_read_or_refused(edits in proptest::collection::vec((64usize..112, any::<u8>()), 1..6)) {
        let mut image = fixture();
        for (at, byte) in edits {
            image[at] = byte;
        }
        let shift = u32::from(image[108]);
        if (9..=12).contains(&shift) {
            let mut sum = 0u32;
            for (index, byte) in image[..11 << shift].iter().enumerate() {
                if !matches!(index, 106 | 107 | 112) {
                    sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
                }
            }
            let at = 11usize << shift;
            image[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        }
        if let Ok(volume) = ExFat::open(&image) {
            for (_, entry) in all_files(&volume) {
                let mut reader = volume.reader(&entry.stream).take(1 << 20);
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
            }
        }
    }

    #[test]
    fn any_entry_set_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 96), units in 0u8..40) {
        bytes[0] = 0x85;
        bytes[32] = 0xc0;
        bytes[35] = units;
        bytes[64] = 0xc1;
        let mut sum = 0u16;
        for (index, byte) in bytes.iter().enumerate() {
            if !matches!(index, 2 | 3) {
                sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
            }
        }
        bytes[2..4].copy_from_slice(&sum.to_le_bytes());
        let set: Vec<&[u8]> = bytes.chunks_exact(32).collect();
        let found = entry_set(&set);
        prop_assert_eq!(found.is_some(), (1..=15).contains(&units));
    }
}
