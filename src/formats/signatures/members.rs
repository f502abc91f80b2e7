//! Things that are part of something larger or lead to it: RAID and volume group members, pools, encrypted volumes.

use super::mark;
use crate::formats::bytes::{be16, be32, be64, hex, is, le32, le64, text, uuid};
use crate::formats::partitions::Read;
use crate::formats::text::{clean, decoded};
use crate::model::inventory::{Signature, SignatureUse};

fn member(kind: &str) -> Signature {
    Signature {
        kind: kind.to_owned(),
        used_as: SignatureUse::Member,
        ..Signature::default()
    }
}

/// LUKS 1 and 2 (their on-disk format specifications); BitLocker carries its own mark in place of NTFS.
pub(crate) fn luks(head: &[u8]) -> Option<Signature> {
    let encrypted = |kind: &str| Signature {
        kind: kind.to_owned(),
        used_as: SignatureUse::Encrypted,
        ..Signature::default()
    };
    if mark::BITLOCKER.stands_in(head) {
        return Some(encrypted("bitlocker"));
    }
    let head = mark::LUKS.block(head, 0)?;
    let version = be16(head, 6)?;
    let mut found = encrypted("luks");
    found.version = Some(version.to_string());
    found.uuid = text(head, 168, 40);
    match version {
        1 => {
            let (cipher, mode) = (text(head, 8, 32), text(head, 40, 32));
            found.detail = cipher.zip(mode).map(|(cipher, mode)| format!("{cipher}-{mode}"));
        }
        2 => found.label = text(head, 24, 48),
        _ => {}
    }
    Some(found)
}

/// LVM2 physical volume: a label in one of the first four sectors, behind it the volume's id, and in the metadata area
/// the group's description as text (lvm2, lib/format_text/layout.h).
pub(crate) fn lvm(head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    let label = (0..4)
        .map(|sector| sector * 512)
        .find(|at| is(head, *at, mark::LVM.bytes) && is(head, at + 24, b"LVM2 001"))?;
    let volume = label.checked_add(usize::try_from(le32(head, label + 20)?).ok()?)?;
    let mut found = member("lvm2_pv");
    found.uuid = head.get(volume..volume.checked_add(32)?).and_then(lvm_id);
    if let Some((name, id)) = lvm_group(head, volume + 40, read) {
        found.label = name;
        found.member_of = id;
    }
    Some(found)
}

/// 32 letters and digits in groups, as LVM writes them.
fn lvm_id(raw: &[u8]) -> Option<String> {
    if raw.len() != 32 || !raw.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let text = std::str::from_utf8(raw).ok()?;
    let groups = [0..6, 6..10, 10..14, 14..18, 18..22, 22..26, 26..32];
    Some(groups.map(|group| &text[group]).join("-"))
}

/// Name and id of the group, from the newest description in the first metadata area.
fn lvm_group(head: &[u8], areas: usize, read: &mut Read<'_>) -> Option<(Option<String>, Option<String>)> {
    // Two lists of places, each ended by zeros: the data, then the metadata.
    let mut at = areas;
    while le64(head, at)? != 0 {
        at = at.checked_add(16)?;
    }
    let area = le64(head, at.checked_add(16)?).filter(|area| *area != 0)?;
    let header = read(area, 512)?;
    if !is(&header, 4, b" LVM2 x[5A%r0N*>") {
        return None;
    }
    let start = le64(&header, 40).filter(|start| *start != 0)?;
    let description = read(area.checked_add(start)?, 512)?;
    let description = decoded(&description);
    let (name, rest) = description.split_once('{')?;
    let id = rest.split_once("id = \"").and_then(|(_, rest)| rest.split_once('"'));
    Some((clean(name), id.and_then(|(id, _)| clean(id))))
}

/// Linux software RAID: version 1 at three places, version 0.90 near the end (linux/raid/md_p.h).
pub(crate) fn md(size: u64, head: &[u8], read: &mut Read<'_>) -> Option<Signature> {
    let sectors = size / 512;
    let end = sectors.checked_sub(16).map(|sector| (sector & !7) * 512);
    let old = (size & !0xffff).checked_sub(0x1_0000);
    md_one(head, 0, "1.1")
        .or_else(|| md_one(head.get(4096..)?, 4096, "1.2"))
        .or_else(|| md_old(&read(old?, 128)?))
        .or_else(|| md_one(&read(end?, 256)?, end?, "1.0"))
}

fn md_one(block: &[u8], place: u64, version: &str) -> Option<Signature> {
    // The block says where it stands, so that a copy of it elsewhere is not taken for it.
    if !is(block, 0, mark::MD) || le32(block, 4)? != 1 || le64(block, 144)? != place / 512 {
        return None;
    }
    let mut found = member("md_member");
    found.version = Some(version.to_owned());
    found.member_of = uuid(block, 16);
    found.label = text(block, 32, 32);
    found.uuid = uuid(block, 168);
    found.detail = raid_detail(le32(block, 72)?, le32(block, 92)?);
    Some(found)
}

fn md_old(block: &[u8]) -> Option<Signature> {
    if !is(block, 0, mark::MD) || le32(block, 4)? != 0 {
        return None;
    }
    let mut id = Vec::new();
    for at in [20, 52, 56, 60] {
        id.extend(le32(block, at)?.to_be_bytes());
    }
    let mut found = member("md_member");
    found.version = Some(format!("0.{}", le32(block, 8)?));
    found.member_of = uuid(&id, 0);
    found.detail = raid_detail(le32(block, 28)?, le32(block, 40)?);
    Some(found)
}

fn raid_detail(level: u32, disks: u32) -> Option<String> {
    let level = match level as i32 {
        -1 => "linear".to_owned(),
        level @ 0..=10 => format!("RAID {level}"),
        _ => return None,
    };
    Some(format!("{level} of {disks} disks"))
}

/// bcache (linux/bcache.h, `struct cache_sb_disk`).
pub(crate) fn bcache(head: &[u8]) -> Option<Signature> {
    let block = head.get(4096..)?;
    const MAGIC: [u8; 16] = [
        0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
    ];
    if !is(block, 24, &MAGIC) {
        return None;
    }
    let mut found = member("bcache");
    found.uuid = uuid(block, 40);
    found.member_of = uuid(block, 56);
    found.label = text(block, 72, 32);
    found.detail = match le64(block, 16)? {
        0 | 3 => Some("cache".to_owned()),
        1 | 4 => Some("backing device".to_owned()),
        _ => None,
    };
    Some(found)
}

/// Ceph BlueStore: a line of text, then the OSD's UUID as text.
pub(crate) fn bluestore(head: &[u8]) -> Option<Signature> {
    if !is(head, 0, b"bluestore block device\n") {
        return None;
    }
    let mut found = member("ceph_bluestore");
    found.uuid = text(head, 23, 36).filter(|id| id.len() == 36);
    Some(found)
}

/// ZFS: the first label's list of names and values in XDR form, at 16 KiB (ZFS On-Disk Specification, 1.2 and 1.3).
pub(crate) fn zfs(read: &mut Read<'_>) -> Option<Signature> {
    let list = read(16 * 1024, 4096)?;
    // Encoded as XDR, version 0, unique names.
    if list.first() != Some(&1) || be32(&list, 4)? != 0 || be32(&list, 8)? != 1 {
        return None;
    }
    let mut found = member("zfs_member");
    let mut is_pool = false;
    let mut at = 12usize;
    while let Some(pair) = list.get(at..) {
        let Some(length) = be32(pair, 0).and_then(|length| usize::try_from(length).ok()) else {
            break;
        };
        let Some(name_length) = be32(pair, 8).and_then(|length| usize::try_from(length).ok()) else {
            break;
        };
        if length < 20 || name_length > 64 {
            break;
        }
        let name = pair.get(12..12 + name_length).unwrap_or_default();
        let value = 12 + name_length.next_multiple_of(4);
        let (kind, data) = (be32(pair, value), value + 8);
        // Types 8 and 9 are a 64-bit number and a text.
        match (name, kind) {
            (b"name", Some(9)) => {
                let length = be32(pair, data).and_then(|length| usize::try_from(length).ok());
                found.label = length
                    .filter(|length| *length < 256)
                    .and_then(|n| text(pair, data + 4, n));
            }
            (b"pool_guid", Some(8)) => {
                found.member_of = be64(pair, data).map(|id| id.to_string());
                is_pool = true;
            }
            (b"guid", Some(8)) => found.uuid = be64(pair, data).map(|id| id.to_string()),
            (b"version", Some(8)) => found.version = be64(pair, data).map(|version| version.to_string()),
            _ => {}
        }
        at = at.saturating_add(length);
    }
    is_pool.then_some(found)
}

/// A member of a VMware VMFS volume: its volume manager's mark at 1 MiB.
pub(crate) fn vmfs(read: &mut Read<'_>) -> Option<Signature> {
    let block = read(1 << 20, 16)?;
    is(&block, 0, &[0x0d, 0xd0, 0x01, 0xc0]).then(|| member("vmfs_member"))
}

/// RAID that firmware understands as well: Intel's in the last but one sector, SNIA DDF (2.0, 4.2) in the last.
pub(crate) fn firmware_raid(size: u64, read: &mut Read<'_>) -> Option<Signature> {
    let anchor = read(size.checked_sub(1024)?, 1024)?;
    if is(&anchor, 0, b"Intel Raid ISM Cfg Sig. ") {
        let mut found = member("imsm_member");
        found.version = text(&anchor, 24, 6);
        return Some(found);
    }
    let last = anchor.get(512..)?;
    if be32(last, 0)? == 0xde11_de11 {
        let mut found = member("ddf_member");
        found.uuid = last.get(8..32).map(hex);
        found.version = text(last, 32, 8);
        return Some(found);
    }
    None
}
