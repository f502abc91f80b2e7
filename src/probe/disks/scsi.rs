//! SCSI vital product data pages as the kernel caches them in sysfs (`device/vpd_pg80`, `vpd_pg83`, `vpd_pg89`).
//! Layouts: SPC-4 7.8 and, for the ATA page, SAT-3 12.4 with the IDENTIFY DEVICE words of ACS-3 7.12.7.

use super::entry::OwnNames;
use crate::formats::bytes::hex;
use crate::formats::text::burnt;

/// One page is at most 64 KiB; the longest real ones have under 1 KiB.
pub(crate) const PAGE_LIMIT: u64 = 64 * 1024;

/// Page 80h: the unit serial number.
pub(crate) fn unit_serial(page: &[u8]) -> Option<String> {
    burnt(payload(page, 0x80)?)
}

/// Page 83h: the best name of the logical unit, as `naa.…`, `eui.…` or `uuid.…` in lower-case hex.
pub(crate) fn wwn(page: &[u8]) -> Option<String> {
    let mut best: Option<(u8, String)> = None;
    let mut rest = payload(page, 0x83)?;
    while let [_, kind, _, length, tail @ ..] = rest {
        let Some((id, after)) = tail.split_at_checked(usize::from(*length)) else {
            break;
        };
        rest = after;
        // Association 0 names the unit itself; others name the port or the box it is in.
        if (kind >> 4) & 0x03 != 0 {
            continue;
        }
        // A long NAA name contains the short one; the others are second best.
        let (rank, name) = match (kind & 0x0f, id.len()) {
            (0x3, 16) => (4, format!("naa.{}", hex(id))),
            (0x3, 8) => (3, format!("naa.{}", hex(id))),
            (0x2, 8 | 12 | 16) => (2, format!("eui.{}", hex(id))),
            (0xa, 18) => (1, format!("uuid.{}", hex(id.get(2..)?))),
            _ => continue,
        };
        if id.iter().any(|byte| *byte != 0) && best.as_ref().is_none_or(|(held, _)| rank > *held) {
            best = Some((rank, name));
        }
    }
    best.map(|(_, name)| name)
}

/// Page 89h, ATA information: what the disk says of itself, in full (IDENTIFY DEVICE data from byte 60). The SCSI INQUIRY made
/// from it cuts model and firmware short.
pub(crate) fn ata_identity(page: &[u8]) -> Option<OwnNames> {
    payload(page, 0x89)?;
    let identify = page.get(60..60 + 512)?;
    let words = |from: usize, to: usize| identify.get(from * 2..(to + 1) * 2).unwrap_or_default();
    // Text has its bytes swapped within each word.
    let text = |from, to| {
        let bytes: Vec<u8> = words(from, to).chunks_exact(2).flat_map(|w| [w[1], w[0]]).collect();
        burnt(&bytes)
    };
    let name: Vec<u8> = words(108, 111).chunks_exact(2).flat_map(|w| [w[1], w[0]]).collect();
    Some(OwnNames {
        serial: text(10, 19),
        firmware: text(23, 26),
        model: text(27, 46),
        // NAA 5h is the only format ATA allows there.
        wwn: (name.first().is_some_and(|byte| byte >> 4 == 5)).then(|| format!("naa.{}", hex(&name))),
    })
}

/// Page B1h, block device characteristics (SBC-3 6.6.2): rotations a minute, where it turns and tells.
pub(crate) fn rotation_rpm(page: &[u8]) -> Option<u32> {
    let [high, low, ..] = payload(page, 0xb1)? else {
        return None;
    };
    // 0 is not told, 1 does not turn; 401h and above are rates.
    let rate = u16::from_be_bytes([*high, *low]);
    (0x401..=0xfffe).contains(&rate).then(|| u32::from(rate))
}

/// The bytes behind the header, if this is the page asked for and it is all there.
fn payload(page: &[u8], code: u8) -> Option<&[u8]> {
    let [_, found, high, low, rest @ ..] = page else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (*found == code).then_some(rest.get(..length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn serial_and_names() {
        assert_eq!(unit_serial(b"\0\x80\0\x0c  Z1X0ABCD  ").as_deref(), Some("Z1X0ABCD"));
        assert_eq!(unit_serial(b"\0\x80\0\xff short"), None);
        let mut page = vec![0, 0x83, 0, 0];
        page.extend(b"\x02\x01\0\x08ATA     ");
        page.extend(b"\x01\x93\0\x08\x50\0\0\0\0\0\0\x01"); // the port, not the unit
        page.extend(b"\x01\x02\0\x08\x00\x25\x38\0\0\0\0\x01");
        page.extend(b"\x01\x03\0\x08\x50\x00\xc5\x00\xa1\xb2\xc3\xd4");
        page[3] = (page.len() - 4) as u8;
        assert_eq!(wwn(&page).as_deref(), Some("naa.5000c500a1b2c3d4"));
    }

    #[test]
    fn the_ata_page_has_the_uncut_model() {
        let mut page = vec![0u8; 60 + 512];
        page[1] = 0x89;
        page[2..4].copy_from_slice(&568u16.to_be_bytes());
        let mut put = |word: usize, text: &str, length: usize| {
            for (index, byte) in format!("{text:<length$}").bytes().enumerate() {
                page[60 + word * 2 + (index ^ 1)] = byte;
            }
        };
        put(10, "S3Z8NB0K", 20);
        put(23, "XXT0", 8);
        put(27, "Samsung SSD 860 EVO 500GB and more", 40);
        put(108, "\u{50}\u{2}\u{53}\u{8}\u{40}\u{1}\u{2}\u{3}", 8);
        let identity = ata_identity(&page).unwrap();
        assert_eq!(identity.model.as_deref(), Some("Samsung SSD 860 EVO 500GB and more"));
        assert_eq!(identity.serial.as_deref(), Some("S3Z8NB0K"));
        assert_eq!(identity.firmware.as_deref(), Some("XXT0"));
        assert_eq!(identity.wwn.as_deref(), Some("naa.5002530840010203"));
    }

    #[test]
    fn only_what_turns_has_a_rate() {
        assert_eq!(rotation_rpm(&[0, 0xb1, 0, 4, 0x1c, 0x20, 0, 2]), Some(7200));
        assert_eq!(rotation_rpm(&[0, 0xb1, 0, 4, 0, 1, 0, 3]), None);
        assert_eq!(rotation_rpm(&[0, 0xb1, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_refused(page in proptest::collection::vec(any::<u8>(), 0..700), code in 0x80u8..0xb2) {
            let mut page = page;
            if page.len() > 4 {
                page[1] = code;
                let length = (page.len() - 4) as u16;
                page[2..4].copy_from_slice(&length.to_be_bytes());
            }
            let _ = (unit_serial(&page), wwn(&page), ata_identity(&page), rotation_rpm(&page));
        }
    }
}
