//! Vital Product Data of PCI cards (PCI Local Bus Specification 3.0, appendix I) → [`Vpd`]. Pure.

use crate::formats::bytes::hex;
use crate::formats::text::burnt;
use crate::model::inventory::Vpd;

/// What a function can have: an address of 15 bits.
pub(crate) const LIMIT: u64 = 32 * 1024;
/// Bytes of a field; a resource of the maker's own that is longer ends with an ellipsis.
const HEX_BYTES: usize = 255;
/// Large resources, by their whole first byte.
const IDENTIFIER: u8 = 0x82;
const READ_ONLY: u8 = 0x90;
const READ_WRITE: u8 = 0x91;
/// The small resource that ends the list, without its length bits.
const END: u8 = 0x78;

/// Reads a list of resources; `None` where it does not begin like one.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vpd> {
    let mut vpd = Vpd::default();
    let mut at = 0;
    let mut known = false;
    while let Some(tag) = bytes.get(at).copied() {
        // Bit 7: a large resource, with a length of two bytes behind the tag; a small one has it in three bits.
        let (begin, length) = if tag & 0x80 != 0 {
            let Some(length) = bytes.get(at + 1..at + 3) else { break };
            (at + 3, usize::from(u16::from_le_bytes([length[0], length[1]])))
        } else {
            (at + 1, usize::from(tag & 7))
        };
        if tag & !7 == END {
            break;
        }
        // A list that is cut still tells what came before.
        let end = (begin + length).min(bytes.len());
        let data = bytes.get(begin..end).unwrap_or_default();
        match tag {
            IDENTIFIER => vpd.product_name = text(data),
            READ_ONLY | READ_WRITE => fields(&mut vpd, bytes, begin, end),
            // The list must begin with a resource that belongs there.
            _ if !known => return None,
            _ => {}
        }
        known = true;
        at = begin + length;
    }
    known.then_some(vpd)
}

/// Fields of a resource at `begin..end` of `all`: two letters, a length, the data.
fn fields(vpd: &mut Vpd, all: &[u8], begin: usize, end: usize) {
    let mut at = begin;
    while let Some([a, b, length]) = all.get(at..(at + 3).min(end)) {
        let (from, to) = (at + 3, (at + 3 + usize::from(*length)).min(end));
        let data = all.get(from..to).unwrap_or_default();
        at = from + usize::from(*length);
        let keyword = match std::str::from_utf8(&[*a, *b]) {
            Ok(keyword) if keyword.bytes().all(|c| c.is_ascii_alphanumeric()) => keyword.to_owned(),
            _ => return,
        };
        match keyword.as_str() {
            "PN" => vpd.part_number = text(data),
            "SN" => vpd.serial = text(data),
            "EC" => vpd.engineering_changes = text(data),
            "MN" => vpd.manufacture_id = text(data),
            "YA" => vpd.asset_tag = text(data),
            // All bytes from the first to this one add up to zero.
            "RV" => {
                let sum = all
                    .get(..=from)
                    .map(|bytes| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)));
                vpd.checksum_ok = sum.filter(|_| !data.is_empty()).map(|sum| sum == 0);
            }
            // What is left to write to.
            "RW" => {}
            // Names have two characters, so there are not many.
            _ => {
                if let Some(value) = text(data) {
                    vpd.fields.insert(keyword, value);
                }
            }
        }
    }
}

/// Text, or hex for what is none: makers put numbers in the fields of their own.
fn text(data: &[u8]) -> Option<String> {
    let data = data.strip_suffix(b"\0").unwrap_or(data);
    // A registered sign in Latin-1 is text as well, one among others.
    let ascii = |byte: &u8| (0x20..0x7f).contains(byte) || *byte == 0;
    let foreign = data.iter().filter(|byte| !ascii(byte)).count();
    if foreign * 4 <= data.len() && !data.iter().any(|byte| matches!(byte, 1..0x20 | 0x7f..0xa0 | 0xff)) {
        return burnt(data);
    }
    if data.iter().all(|byte| *byte == 0xff) {
        return None;
    }
    Some(match data.get(..HEX_BYTES) {
        Some(first) if data.len() > HEX_BYTES => hex(first) + "…",
        _ => hex(data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn large(tag: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend((data.len() as u16).to_le_bytes());
        out.extend(data);
        out
    }

    fn field(keyword: &[u8; 2], data: &[u8]) -> Vec<u8> {
        [&keyword[..], &[data.len() as u8], data].concat()
    }

    fn card() -> Vec<u8> {
        let before = [
            field(b"PN", b"EX-25G2S"),
            field(b"EC", b"A04"),
            field(b"SN", b"EXN2417000042"),
            field(b"MN", b"1028"),
            field(b"V0", b"PCIeGen4 x8"),
            field(b"V1", &[1, 2, 0xff]),
        ]
        .concat();
        let mut bytes = large(IDENTIFIER, b"Example 25GbE Adapter");
        let mut read_only = before;
        read_only.extend(field(b"RV", &[0, 0]));
        bytes.extend(large(READ_ONLY, &read_only));
        // Without the second, reserved byte of RV.
        let sum = bytes[..bytes.len() - 1]
            .iter()
            .fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let checksum = bytes.len() - 2;
        bytes[checksum] = 0u8.wrapping_sub(sum);
        bytes.extend(large(
            READ_WRITE,
            &[field(b"YA", b"ASSET-7"), field(b"RW", &[0; 20])].concat(),
        ));
        bytes.push(END);
        bytes
    }

    #[test]
    fn a_card_tells_its_numbers() {
        let vpd = parse(&card()).unwrap();
        assert_eq!(vpd.product_name.as_deref(), Some("Example 25GbE Adapter"));
        assert_eq!(vpd.part_number.as_deref(), Some("EX-25G2S"));
        assert_eq!(vpd.serial.as_deref(), Some("EXN2417000042"));
        assert_eq!(vpd.engineering_changes.as_deref(), Some("A04"));
        assert_eq!(vpd.manufacture_id.as_deref(), Some("1028"));
        assert_eq!(vpd.asset_tag.as_deref(), Some("ASSET-7"));
        assert_eq!(vpd.checksum_ok, Some(true));
        let fields: Vec<(&str, &str)> = vpd.fields.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(fields, [("V0", "PCIeGen4 x8"), ("V1", "0102ff")]);
        let mut wrong = card();
        wrong[5] ^= 1;
        assert_eq!(parse(&wrong).unwrap().checksum_ok, Some(false));
    }

    #[test]
    fn what_is_no_list_is_none() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0xff; 64]), None);
        assert_eq!(parse(&[0; 64]), None);
        assert_eq!(parse(&[END]), None);
        // Cut within the fields.
        let vpd = parse(&card()[..40]).unwrap();
        assert_eq!((vpd.part_number.as_deref(), vpd.serial), (Some("EX-25G2S"), None));
    }

    #[test]
    fn text_may_be_latin_1_and_unwritten_fields_are_none() {
        assert_eq!(
            text(b"Intel\xae Ethernet X710").as_deref(),
            Some("Intel® Ethernet X710")
        );
        assert_eq!(text(&[0xff; 12]), None);
        assert_eq!(text(&[0xfe, 0x01]).as_deref(), Some("fe01"));
        let long = text(&[1; 300]).unwrap();
        assert!(long.ends_with("01…") && long.len() == 513);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            damage in proptest::collection::vec((0usize..200, any::<u8>()), 0..6),
        ) {
            let _ = parse(&bytes);
            let mut damaged = card();
            let length = damaged.len();
            for (at, byte) in damage {
                damaged[at % length] = byte;
            }
            if let Some(vpd) = parse(&damaged) {
                for text in vpd.fields.values().chain(&vpd.serial) {
                    prop_assert!(!text.chars().any(char::is_control) && text.len() <= 1200);
                }
            }
        }
    }
}
