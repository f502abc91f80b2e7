//! Every format on a device put together by hand from its documentation, and arbitrary bytes.

use super::*;
use crate::model::inventory::SignatureUse;
use proptest::prelude::*;

const SIZE: u64 = 64 << 20;

/// A device that is zero but for these.
#[derive(Default)]
struct Device(Vec<(u64, Vec<u8>)>);

impl Device {
    fn put(mut self, at: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.0.push((at, bytes.as_ref().to_vec()));
        self
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(usize::try_from(SIZE.saturating_sub(offset)).unwrap())];
        for (at, piece) in &self.0 {
            for (index, byte) in piece.iter().enumerate() {
                let place = at + index as u64;
                if let Some(slot) = place
                    .checked_sub(offset)
                    .and_then(|index| bytes.get_mut(usize::try_from(index).unwrap()))
                {
                    *slot = *byte;
                }
            }
        }
        bytes
    }

    fn all(&self) -> Vec<Signature> {
        signatures(SIZE, &mut |offset, length| {
            (offset < SIZE).then(|| self.read(offset, length))
        })
    }

    /// The one signature there must be.
    fn one(&self) -> Signature {
        let found = self.all();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }
}

const ID: [u8; 16] = [
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
];
const ID_TEXT: &str = "10111213-1415-1617-1819-1a1b1c1d1e1f";

#[track_caller]
fn expect(found: Signature, kind: &str, version: Option<&str>, label: Option<&str>, uuid: Option<&str>) -> Signature {
    assert_eq!(found.kind, kind);
    assert_eq!(found.version.as_deref(), version);
    assert_eq!(found.label.as_deref(), label);
    assert_eq!(found.uuid.as_deref(), uuid);
    found
}

fn ext(compatible: u32, incompatible: u32, read_only: u32) -> Device {
    Device::default()
        .put(1024 + 0x38, [0x53, 0xef])
        .put(1024 + 0x5c, compatible.to_le_bytes())
        .put(1024 + 0x60, incompatible.to_le_bytes())
        .put(1024 + 0x64, read_only.to_le_bytes())
        .put(1024 + 0x68, ID)
        .put(1024 + 0x78, "root")
}

#[test]
fn the_ext_family_is_told_apart() {
    for (features, kind) in [
        ((0, 0x2, 0x1), "ext2"),
        ((0x4, 0x6, 0x3), "ext3"),
        ((0x4, 0x2c2, 0x46b), "ext4"),
        ((0, 0x8, 0), "ext_journal"),
    ] {
        let found = ext(features.0, features.1, features.2).one();
        expect(found, kind, None, Some("root"), Some(ID_TEXT));
    }
}

#[test]
fn xfs_btrfs_and_the_others() {
    let found = Device::default()
        .put(0, "XFSB")
        .put(32, ID)
        .put(100, [0xb4, 0xb5])
        .put(108, "data");
    expect(found.one(), "xfs", Some("5"), Some("data"), Some(ID_TEXT));
    let found = Device::default()
        .put(65536 + 0x20, ID)
        .put(65536 + 0x40, "_BHRfS_M")
        .put(65536 + 0x88, [3])
        .put(65536 + 0x12b, "pool");
    let found = expect(found.one(), "btrfs", None, Some("pool"), Some(ID_TEXT));
    assert_eq!(found.detail.as_deref(), Some("on 3 devices"));
    let found = Device::default().put(0, "hsqs").put(28, [4, 0, 0, 0]);
    expect(found.one(), "squashfs", Some("4.0"), None, None);
    let found = Device::default()
        .put(1024, 0xf2f5_2010u32.to_le_bytes())
        .put(1024 + 108, ID)
        .put(1024 + 124, "f\0s\0");
    expect(found.one(), "f2fs", None, Some("fs"), Some(ID_TEXT));
    let found = Device::default()
        .put(1024, 0xe0f5_e1e2u32.to_le_bytes())
        .put(1024 + 48, ID)
        .put(1024 + 64, "live");
    expect(found.one(), "erofs", None, Some("live"), Some(ID_TEXT));
    let found = Device::default()
        .put(32768, "\u{1}CD001\u{1}")
        .put(32768 + 40, "RECON           ")
        .put(32768 + 130, [8, 0])
        .put(32768 + 813, "2026112202000000")
        .put(32768 + 830, "0000000000000000");
    expect(
        found.one(),
        "iso9660",
        None,
        Some("RECON"),
        Some("2026-11-22-02-00-00-00"),
    );
}

#[test]
fn fat_takes_its_label_from_the_root_folder() {
    let boot = |entries: u16, sectors: u16, total: u32| {
        Device::default()
            .put(0, [0xeb, 0x58, 0x90])
            .put(11, 512u16.to_le_bytes())
            .put(13, [4])
            .put(14, 32u16.to_le_bytes())
            .put(16, [2])
            .put(17, entries.to_le_bytes())
            .put(21, [0xf8])
            .put(22, sectors.to_le_bytes())
            .put(32, total.to_le_bytes())
            .put(510, [0x55, 0xaa])
    };
    let fat32 = boot(0, 0, 2_000_000)
        .put(36, 3900u32.to_le_bytes())
        .put(44, 2u32.to_le_bytes())
        .put(67, 0x1234_abcdu32.to_le_bytes())
        .put(71, "NO NAME    ");
    expect(fat32.one(), "vfat", Some("FAT32"), None, Some("1234-ABCD"));
    let root = (32 + 2 * 3900) * 512;
    let fat32 = fat32
        .put(root, "\u{1}\0") // a long name's entry goes before
        .put(root + 11, [0x0f])
        .put(root + 32, "EFI SYSTEM ")
        .put(root + 32 + 11, [0x08]);
    expect(
        fat32.one(),
        "vfat",
        Some("FAT32"),
        Some("EFI SYSTEM"),
        Some("1234-ABCD"),
    );
    let fat16 = boot(512, 128, 130_000)
        .put(39, 0x0000_0001u32.to_le_bytes())
        .put(43, "OLD        ");
    expect(fat16.one(), "vfat", Some("FAT16"), Some("OLD"), Some("0000-0001"));
    let fat12 = boot(224, 9, 2880).put(43, "FLOPPY     ");
    expect(fat12.one(), "vfat", Some("FAT12"), Some("FLOPPY"), None);
}

#[test]
fn exfat_and_ntfs_keep_their_labels_further_back() {
    let exfat = Device::default()
        .put(0, [0xeb, 0x76, 0x90])
        .put(3, "EXFAT   ")
        .put(88, 4096u32.to_le_bytes())
        .put(96, 5u32.to_le_bytes())
        .put(100, 0xdead_beefu32.to_le_bytes())
        .put(108, [9, 3])
        .put(510, [0x55, 0xaa]);
    let root = 4096 * 512 + 3 * 4096;
    expect(exfat.one(), "exfat", None, None, Some("DEAD-BEEF"));
    let exfat = exfat
        .put(root, [0x81])
        .put(root + 32, [0x83, 2, b'R', 0, b'X', 0, b'Y', 0]);
    expect(exfat.one(), "exfat", None, Some("RX"), Some("DEAD-BEEF"));

    let record = 4 * 4096 + 3 * 1024;
    let ntfs = Device::default()
        .put(0, [0xeb, 0x52, 0x90])
        .put(3, "NTFS    ")
        .put(11, 512u16.to_le_bytes())
        .put(13, [8])
        .put(48, 4u64.to_le_bytes())
        .put(64, [0xf6]) // records of 2^10 bytes
        .put(72, 0x01d2_c3b4_a596_8778u64.to_le_bytes())
        .put(record, "FILE")
        .put(record + 20, [56, 0])
        .put(record + 56, [0x10, 0, 0, 0, 72, 0, 0, 0])
        .put(record + 128, [0x60, 0, 0, 0, 32, 0, 0, 0])
        .put(record + 128 + 16, [6, 0, 0, 0, 24, 0])
        .put(record + 128 + 24, "W\0i\0n\0s\0");
    expect(ntfs.one(), "ntfs", None, Some("Win"), Some("01D2C3B4A5968778"));
}

#[test]
fn swap_stands_at_the_end_of_a_page_of_any_size() {
    for (page, detail) in [(4096, None), (65536, Some("pages of 64 KiB"))] {
        let found = Device::default()
            .put(page - 10, "SWAPSPACE2")
            .put(1024, [1])
            .put(1036, ID)
            .put(1052, "swap0");
        let found = expect(found.one(), "swap", Some("1"), Some("swap0"), Some(ID_TEXT));
        assert_eq!(found.used_as, SignatureUse::Swap);
        assert_eq!(found.detail.as_deref(), detail);
    }
}

#[test]
fn encrypted_volumes_tell_no_more_than_their_name() {
    let text_id = "9a0b1c2d-3e4f-5a6b-7c8d-9e0f1a2b3c4d";
    let luks1 = Device::default()
        .put(0, b"LUKS\xba\xbe\0\x01")
        .put(8, "aes")
        .put(40, "xts-plain64")
        .put(168, text_id);
    let found = expect(luks1.one(), "luks", Some("1"), None, Some(text_id));
    assert_eq!(found.detail.as_deref(), Some("aes-xts-plain64"));
    assert_eq!(found.used_as, SignatureUse::Encrypted);
    let luks2 = Device::default()
        .put(0, b"LUKS\xba\xbe\0\x02")
        .put(24, "vault")
        .put(168, text_id);
    expect(luks2.one(), "luks", Some("2"), Some("vault"), Some(text_id));
    let bitlocker = Device::default().put(0, [0xeb, 0x58, 0x90]).put(3, "-FVE-FS-");
    expect(bitlocker.one(), "bitlocker", None, None, None);
}

#[test]
fn lvm_tells_its_volume_group() {
    let id = "abcdefghijklmnopqrstuvwxyz012345";
    let volume = Device::default()
        .put(512, "LABELONE")
        .put(512 + 20, 32u32.to_le_bytes())
        .put(512 + 24, "LVM2 001")
        .put(544, id)
        .put(544 + 32, SIZE.to_le_bytes())
        .put(544 + 40, (1u64 << 20).to_le_bytes()) // data, without an end
        .put(544 + 72, 4096u64.to_le_bytes()) // metadata
        .put(544 + 80, 0xff000u64.to_le_bytes());
    let expected = "abcdef-ghij-klmn-opqr-stuv-wxyz-012345";
    expect(volume.one(), "lvm2_pv", None, None, Some(expected));
    let volume = volume
        .put(4096 + 4, " LVM2 x[5A%r0N*>")
        .put(4096 + 40, 0x1000u64.to_le_bytes())
        .put(8192, "vg_data {\nid = \"QWERTY-0000\"\nseqno = 3\n");
    let found = expect(volume.one(), "lvm2_pv", None, Some("vg_data"), Some(expected));
    assert_eq!(found.member_of.as_deref(), Some("QWERTY-0000"));
    assert_eq!(found.used_as, SignatureUse::Member);
}

#[test]
fn md_members_of_every_version() {
    for (version, place) in [("1.1", 0), ("1.2", 4096), ("1.0", SIZE - 8192)] {
        let device = Device::default()
            .put(place, 0xa92b_4efcu32.to_le_bytes())
            .put(place + 4, [1])
            .put(place + 16, ID)
            .put(place + 32, "host:0")
            .put(place + 72, 6u32.to_le_bytes())
            .put(place + 92, 8u32.to_le_bytes())
            .put(place + 144, (place / 512).to_le_bytes())
            .put(place + 168, [0xaa; 16]);
        let found = expect(
            device.one(),
            "md_member",
            Some(version),
            Some("host:0"),
            Some("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"),
        );
        assert_eq!(found.member_of.as_deref(), Some(ID_TEXT));
        assert_eq!(found.detail.as_deref(), Some("RAID 6 of 8 disks"));
    }
    let place = SIZE - 65536;
    let old = Device::default()
        .put(place, 0xa92b_4efcu32.to_le_bytes())
        .put(place + 8, [90])
        .put(place + 20, 0x1011_1213u32.to_le_bytes())
        .put(place + 28, 1u32.to_le_bytes())
        .put(place + 40, 2u32.to_le_bytes())
        .put(place + 52, 0x1415_1617u32.to_le_bytes())
        .put(place + 56, 0x1819_1a1bu32.to_le_bytes())
        .put(place + 60, 0x1c1d_1e1fu32.to_le_bytes());
    let found = expect(old.one(), "md_member", Some("0.90"), None, None);
    assert_eq!(found.member_of.as_deref(), Some(ID_TEXT));
    assert_eq!(found.detail.as_deref(), Some("RAID 1 of 2 disks"));
    // A copy of a superblock in the wrong place is none.
    let stray = Device::default()
        .put(4096, 0xa92b_4efcu32.to_le_bytes())
        .put(4100, [1])
        .put(4096 + 144, [99]);
    assert_eq!(stray.all(), []);
}

/// A name with a number or a text, XDR.
fn pair(name: &str, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut body = (name.len() as u32).to_be_bytes().to_vec();
    body.extend(name.as_bytes());
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(kind.to_be_bytes());
    body.extend(1u32.to_be_bytes());
    body.extend(data);
    body.resize(body.len().next_multiple_of(4), 0);
    let mut all = (body.len() as u32 + 8).to_be_bytes().to_vec();
    all.extend(64u32.to_be_bytes());
    all.extend(body);
    all
}

#[test]
fn pools_caches_and_firmware_raid() {
    let mut list = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    list.extend(pair("version", 8, &5000u64.to_be_bytes()));
    list.extend(pair("name", 9, b"\0\0\0\x04tank"));
    list.extend(pair("pool_guid", 8, &77u64.to_be_bytes()));
    list.extend(pair("guid", 8, &u64::MAX.to_be_bytes()));
    let found = Device::default().put(16384, list).one();
    let found = expect(
        found,
        "zfs_member",
        Some("5000"),
        Some("tank"),
        Some("18446744073709551615"),
    );
    assert_eq!(found.member_of.as_deref(), Some("77"));

    let magic = [
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
    ];
    let cache = Device::default()
        .put(4096 + 16, [3])
        .put(4096 + 24, magic)
        .put(4096 + 40, ID)
        .put(4096 + 56, [9; 16]);
    let found = expect(cache.one(), "bcache", None, None, Some(ID_TEXT));
    assert_eq!(found.detail.as_deref(), Some("cache"));

    let osd = Device::default().put(0, "bluestore block device\n0b2f1c5e-1111-2222-3333-444455556666\n");
    expect(
        osd.one(),
        "ceph_bluestore",
        None,
        None,
        Some("0b2f1c5e-1111-2222-3333-444455556666"),
    );
    let vmfs = Device::default().put(1 << 20, 0xc001_d00du32.to_le_bytes());
    expect(vmfs.one(), "vmfs_member", None, None, None);
    let imsm = Device::default().put(SIZE - 1024, "Intel Raid ISM Cfg Sig. 1.3.00");
    expect(imsm.one(), "imsm_member", Some("1.3.00"), None, None);
    let ddf = Device::default()
        .put(SIZE - 512, [0xde, 0x11, 0xde, 0x11])
        .put(SIZE - 512 + 8, [0x41; 24])
        .put(SIZE - 512 + 32, "01.02.00");
    expect(ddf.one(), "ddf_member", Some("01.02.00"), None, Some(&"41".repeat(24)));
}

#[test]
fn nothing_is_found_in_nothing() {
    assert_eq!(Device::default().all(), []);
    assert_eq!(signatures(0, &mut |_, _| None), []);
    assert_eq!(signatures(u64::MAX, &mut |_, _| Some(Vec::new())), []);
}

proptest! {
    /// Every mark at its place, and anything around it.
    #[test]
    fn any_bytes_behind_a_mark_are_read_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 70_000..70_001),
        marks in proptest::collection::vec(0usize..18, 0..4), size in any::<u64>(),
    ) {
        let all: [(usize, &[u8]); 18] = [
            (1024 + 0x38, &[0x53, 0xef]), (0, b"XFSB"), (65536 + 0x40, b"_BHRfS_M"), (0, b"hsqs"),
            (32768, b"\x01CD001"), (3, b"NTFS    "), (3, b"EXFAT   "), (4086, b"SWAPSPACE2"),
            (0, b"LUKS\xba\xbe\0\x01"), (512, b"LABELONE"), (512 + 24, b"LVM2 001"),
            (4096, &[0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0]), (0, b"bluestore block device\n"),
            (16384, &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), (1024, &[0x10, 0x20, 0xf5, 0xf2]),
            (510, &[0x55, 0xaa]), (0, &[0xeb, 0x58, 0x90]), (11, &[0, 2, 4, 1, 0, 2, 0, 0, 0, 0, 0xf8]),
        ];
        let mut noise = noise;
        for mark in marks {
            let (at, bytes) = all[mark];
            noise[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let found = signatures(size, &mut |offset, length| {
            let start = (offset % 70_000) as usize;
            Some(noise[start..70_000.min(start.saturating_add(length))].to_vec())
        });
        prop_assert!(found.len() <= 32);
        for text in found.iter().flat_map(|found| [&found.label, &found.uuid, &found.detail]).flatten() {
            prop_assert!(text.len() < 2048 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
}
