//! The bytes of a field replaceable unit → its facts (Platform Management FRU Information Storage Definition 1.0,
//! revision 1.3; each function names its section there).
//!
//! Written for units as makers ship them: wrong checksums, areas that point past the end, fields never ended. What can
//! be read is given, and what is wrong is listed beside it.

use super::names::name_or;
use crate::formats::bytes::{hex, le16, sum8};
use crate::formats::text::clean;
use crate::model::inventory::{Fru, FruBoard, FruChassis, FruMultirecord, FruProduct};
use crate::probe::smbios::names::chassis_kind;

/// Fields of one area, and records of one unit; real ones have a dozen.
const MAX_FIELDS: usize = 2048;
const MAX_RECORDS: usize = 256;
/// Bytes of the common header (8).
pub(crate) const HEADER: usize = 8;
/// Ends a list of fields (13).
const END_OF_FIELDS: u8 = 0xc1;
/// English, for which text is Latin 1 (15). 25 is English as well; 0 is "English" by default.
const ENGLISH: [u8; 2] = [0, 25];
/// Minutes from 1970 to 1996, where the manufacturing date counts from (11).
const EPOCH_1996_S: i64 = 820_454_400;

/// How many bytes from the start hold everything, as far as what is there tells: grows while areas show their lengths.
pub(crate) fn extent(bytes: &[u8]) -> usize {
    let Some(header) = bytes.get(..8) else { return 8 };
    let mut end = 8;
    for area in header[2..5].iter().filter(|offset| **offset != 0) {
        let start = usize::from(*area) * 8;
        let length = bytes.get(start + 1).map_or(2, |units| usize::from(*units) * 8);
        end = end.max(start + length);
    }
    if header[5] != 0 {
        let mut at = usize::from(header[5]) * 8;
        for _ in 0..MAX_RECORDS {
            end = end.max(at + 5);
            let Some(record) = bytes.get(at..at + 5) else { break };
            at += 5 + usize::from(record[2]);
            end = end.max(at);
            if record[1] & 0x80 != 0 {
                break;
            }
        }
    }
    end
}

/// True for bytes that begin with the header of an inventory.
pub(crate) fn has_header(bytes: &[u8]) -> bool {
    let header = bytes.get(..HEADER);
    header.is_some_and(|header| header[0] & 0x0f == 1 && sum8(header) == 0)
}

/// All areas of one unit (8 and on).
pub(crate) fn parse(id: u8, bytes: &[u8]) -> Fru {
    let mut fru = Fru { id, ..Fru::default() };
    let Some(header) = bytes.get(..8) else {
        fru.damage.push("shorter than a header".to_owned());
        return fru;
    };
    if header[0] & 0x0f != 1 {
        let blank = header.iter().all(|byte| *byte == header[0]);
        let text = if blank { "blank" } else { "no header of version 1" };
        fru.damage.push(text.to_owned());
        return fru;
    }
    if sum8(header) != 0 {
        fru.damage.push("header: wrong checksum".to_owned());
    }
    if let Some(area) = area("chassis", header[2], bytes, &mut fru.damage) {
        let mut fields = Fields::new(area, 3, true);
        fru.chassis = Some(FruChassis {
            kind: area.get(2).and_then(|kind| chassis_kind(kind & 0x7f)),
            part_number: fields.text(),
            serial: fields.text(),
            extra: fields.rest(),
        });
    }
    if let Some(area) = area("board", header[3], bytes, &mut fru.damage) {
        let mut fields = Fields::new(area, 6, is_english(area));
        fru.board = Some(FruBoard {
            made_at: area.get(3..6).and_then(made_at),
            manufacturer: fields.text(),
            product: fields.text(),
            serial: fields.text(),
            part_number: fields.text(),
            fru_file_id: fields.text(),
            extra: fields.rest(),
        });
    }
    if let Some(area) = area("product", header[4], bytes, &mut fru.damage) {
        let mut fields = Fields::new(area, 3, is_english(area));
        fru.product = Some(FruProduct {
            manufacturer: fields.text(),
            product: fields.text(),
            part_number: fields.text(),
            version: fields.text(),
            serial: fields.text(),
            asset_tag: fields.text(),
            fru_file_id: fields.text(),
            extra: fields.rest(),
        });
    }
    if header[5] != 0 {
        fru.multirecords = multirecords(usize::from(header[5]) * 8, bytes, &mut fru.damage);
    }
    fru
}

/// One area, checked and without its checksum; nothing where there is none.
fn area<'a>(name: &str, offset: u8, bytes: &'a [u8], damage: &mut Vec<String>) -> Option<&'a [u8]> {
    if offset == 0 {
        return None;
    }
    let start = usize::from(offset) * 8;
    let length = usize::from(bytes.get(start + 1).copied().unwrap_or(0)) * 8;
    if length == 0 {
        damage.push(format!("{name} area: not there"));
        return None;
    }
    match bytes.get(start..start + length) {
        Some(area) => {
            if sum8(area) != 0 {
                damage.push(format!("{name} area: wrong checksum"));
            }
            area.split_last().map(|(_, area)| area)
        }
        None => {
            damage.push(format!("{name} area: cut short"));
            bytes.get(start..)
        }
    }
}

fn is_english(area: &[u8]) -> bool {
    area.get(2).is_some_and(|language| ENGLISH.contains(language))
}

/// Minutes since 1996, three bytes; zero is "not told".
fn made_at(bytes: &[u8]) -> Option<String> {
    let minutes = i64::from(u32::from_le_bytes([*bytes.first()?, *bytes.get(1)?, *bytes.get(2)?, 0]));
    if minutes == 0 {
        return None;
    }
    let at = jiff::Timestamp::from_second(EPOCH_1996_S + minutes * 60).ok()?;
    Some(at.to_string())
}

/// The fields of an area, one after the other; each begins with its type and length (13).
struct Fields<'a> {
    rest: &'a [u8],
    english: bool,
    left: usize,
}

impl<'a> Fields<'a> {
    fn new(area: &'a [u8], start: usize, english: bool) -> Fields<'a> {
        Fields {
            rest: area.get(start..).unwrap_or_default(),
            english,
            left: MAX_FIELDS,
        }
    }

    /// The next field: `None` at the end, `Some(None)` for an empty one.
    fn next(&mut self) -> Option<Option<String>> {
        let (head, rest) = self.rest.split_first()?;
        if *head == END_OF_FIELDS || self.left == 0 {
            self.rest = &[];
            return None;
        }
        self.left -= 1;
        let length = usize::from(head & 0x3f).min(rest.len());
        let (data, rest) = rest.split_at(length);
        self.rest = rest;
        Some(field_text(head >> 6, data, self.english))
    }

    fn text(&mut self) -> Option<String> {
        self.next().flatten()
    }

    /// The maker's own fields; empty ones are left out.
    fn rest(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(text) = self.next() {
            texts.extend(text);
        }
        texts
    }
}

/// One field as text (13); `None` where it is empty.
pub(crate) fn field_text(kind: u8, data: &[u8], english: bool) -> Option<String> {
    // Memory that was never written is no text, whatever its kind.
    if data.iter().all(|byte| *byte == 0xff) {
        return None;
    }
    let text = match kind & 3 {
        0 => hex(data),
        1 => bcd_plus(data),
        2 => six_bit(data),
        // Other languages are UTF-16, least significant byte first. Text that is ASCII to the last byte was written by
        // somebody who got the language wrong.
        _ if !english && data.len().is_multiple_of(2) && !data.iter().all(|byte| (0x20..0x7f).contains(byte)) => {
            let units = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        _ => data.iter().copied().map(char::from).collect(),
    };
    clean(&text)
}

/// A digit, a blank, a dash or a dot a nibble, high nibble first.
fn bcd_plus(data: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789 -.:,_";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0x0f)]);
    data.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Four characters in three bytes, least significant bits first, counted from the blank.
fn six_bit(data: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut have) = (0u32, 0);
    for byte in data {
        bits |= u32::from(*byte) << have;
        have += 8;
        while have >= 6 {
            text.push(char::from((bits & 0x3f) as u8 + b' '));
            bits >>= 6;
            have -= 6;
        }
    }
    text
}

/// Records of the multi-record area (16).
fn multirecords(start: usize, bytes: &[u8], damage: &mut Vec<String>) -> Vec<FruMultirecord> {
    let mut records = Vec::new();
    let mut at = start;
    while records.len() < MAX_RECORDS {
        let Some(header) = bytes.get(at..at + 5) else {
            damage.push("multi-record area: cut short".to_owned());
            break;
        };
        if sum8(header) != 0 {
            damage.push(format!("multi-record {}: wrong header checksum", records.len()));
            break;
        }
        let Some(data) = bytes.get(at + 5..at + 5 + usize::from(header[2])) else {
            damage.push("multi-record area: cut short".to_owned());
            break;
        };
        if sum8(data).wrapping_add(header[3]) != 0 {
            damage.push(format!("multi-record {}: wrong checksum", records.len()));
        }
        let oem = if header[0] >= 0xc0 { "oem " } else { "" };
        let capacity = le16(data, 0).map(|watts| watts & 0x0fff);
        records.push(FruMultirecord {
            kind: name_or("record", header[0], || format!("{oem}{:#04x}", header[0])),
            capacity_watts: capacity.filter(|watts| header[0] == 0 && *watts != 0),
            data: hex(data),
        });
        at += 5 + data.len();
        if header[1] & 0x80 != 0 {
            break;
        }
    }
    records
}

#[cfg(test)]
pub(crate) mod testing {
    //! Units put together for tests.

    /// An area from its bytes after version and length; padded, with its checksum.
    pub(crate) fn area(body: &[u8]) -> Vec<u8> {
        let length = (body.len() + 4).div_ceil(8);
        let mut bytes = vec![1, length as u8];
        bytes.extend(body);
        bytes.push(0xc1);
        bytes.resize(length * 8 - 1, 0);
        bytes.push(0u8.wrapping_sub(bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))));
        bytes
    }

    /// A field of 8-bit text.
    pub(crate) fn text(value: &str) -> Vec<u8> {
        [&[0xc0 | value.len() as u8], value.as_bytes()].concat()
    }

    /// A unit from its areas, each of which may be empty.
    pub(crate) fn unit(chassis: &[u8], board: &[u8], product: &[u8], records: &[u8]) -> Vec<u8> {
        let mut header = vec![1, 0];
        let mut at = 8;
        for part in [chassis, board, product, records] {
            header.push(if part.is_empty() { 0 } else { (at / 8) as u8 });
            at += part.len();
        }
        header.push(0);
        header.push(0u8.wrapping_sub(header.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))));
        [&header, chassis, board, product, records].concat()
    }

    /// One record of the multi-record area.
    pub(crate) fn record(kind: u8, last: bool, data: &[u8]) -> Vec<u8> {
        let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        let mut bytes = vec![
            kind,
            2 | u8::from(last) << 7,
            data.len() as u8,
            0u8.wrapping_sub(sum(data)),
        ];
        bytes.push(0u8.wrapping_sub(sum(&bytes)));
        bytes.extend(data);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{area, record, text, unit};
    use super::*;
    use proptest::prelude::*;

    fn example() -> Vec<u8> {
        let chassis = area(&[&[23][..], &text("CH-1"), &text("CHS00042")].concat());
        // 2020-01-01 is 12 623 040 minutes after 1996-01-01.
        let made = 12_623_040u32.to_le_bytes();
        // The part number in BCD plus, the file id in 6-bit ASCII: "IPMI" packs to 29 DC A6 (13.3).
        let board = area(
            &[
                &[25, made[0], made[1], made[2]][..],
                &text("Example Inc."),
                &text("0DS22"),
                &text("BRD-7"),
                &[0x42, 0x12, 0xb3],
                &[0x83, 0x29, 0xdc, 0xa6],
                &text("rev A"),
            ]
            .concat(),
        );
        let product = area(&[&[25][..], &text("Example Inc."), &text("DS-2200"), &[0xc0]].concat());
        let records = [record(0, false, &[0xb0, 0x04]), record(0xc0, true, &[1, 2, 3])].concat();
        unit(&chassis, &board, &product, &records)
    }

    #[test]
    fn all_areas_and_encodings_are_read() {
        let fru = parse(0, &example());
        assert_eq!(fru.damage, Vec::<String>::new());
        let chassis = fru.chassis.unwrap();
        assert_eq!(chassis.kind.as_deref(), Some("rack mount chassis"));
        assert_eq!(chassis.serial.as_deref(), Some("CHS00042"));
        let board = fru.board.unwrap();
        assert_eq!(board.made_at.as_deref(), Some("2020-01-01T00:00:00Z"));
        assert_eq!(board.serial.as_deref(), Some("BRD-7"));
        assert_eq!(board.part_number.as_deref(), Some("12-3"));
        assert_eq!(board.fru_file_id.as_deref(), Some("IPMI"));
        assert_eq!(board.extra, ["rev A"]);
        let product = fru.product.unwrap();
        assert_eq!(
            (product.product.as_deref(), product.part_number),
            (Some("DS-2200"), None)
        );
        assert_eq!(fru.multirecords[0].kind, "power supply");
        assert_eq!(fru.multirecords[0].capacity_watts, Some(1200));
        assert_eq!(
            (&*fru.multirecords[1].kind, &*fru.multirecords[1].data),
            ("oem 0xc0", "010203")
        );
    }

    #[test]
    fn what_is_to_be_read_grows_with_what_is_known() {
        let bytes = example();
        let mut have = 0;
        let mut rounds = 0;
        while extent(&bytes[..have]) > have {
            have = extent(&bytes[..have]);
            rounds += 1;
        }
        assert_eq!(have, bytes.len());
        assert!(rounds <= 6, "{rounds}");
    }

    #[test]
    fn damage_is_named_and_the_rest_is_read() {
        let mut bytes = example();
        let last = bytes.len() - 1;
        bytes[8 + 4] ^= 0xff;
        bytes[last] ^= 1;
        let fru = parse(0, &bytes);
        assert_eq!(
            fru.damage,
            ["chassis area: wrong checksum", "multi-record 1: wrong checksum"]
        );
        assert_eq!(fru.board.unwrap().serial.as_deref(), Some("BRD-7"));
        assert_eq!(parse(0, &[0xff; 64]).damage, ["blank"]);
        assert_eq!(parse(0, &[]).damage, ["shorter than a header"]);
    }

    #[test]
    fn text_of_other_languages_is_utf_16() {
        assert_eq!(field_text(3, &[0x2d, 0x4e, 0x87, 0x65], false).as_deref(), Some("中文"));
        assert_eq!(field_text(0, &[0x0a, 0xff], true).as_deref(), Some("0aff"));
        assert_eq!(field_text(3, &[], true), None);
    }

    #[test]
    fn unwritten_fields_and_ascii_under_a_wrong_language_are_seen() {
        assert_eq!(field_text(3, &[0xff; 8], true), None);
        assert_eq!(field_text(0, &[0xff; 8], true), None);
        assert_eq!(field_text(3, b"SN000001", false).as_deref(), Some("SN000001"));
        assert_eq!(field_text(3, b"S\0N\0", false).as_deref(), Some("SN"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_unit(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), honest in any::<bool>()) {
            if honest && bytes.len() >= 8 {
                bytes[0] = 1;
                bytes[2..6].iter_mut().for_each(|offset| *offset %= 70);
            }
            let fru = parse(3, &bytes);
            prop_assert!(fru.multirecords.len() <= MAX_RECORDS);
            prop_assert!(extent(&bytes) <= 255 * 8 + (5 + 255) * MAX_RECORDS + 2048);
        }

        #[test]
        fn a_damaged_unit_gives_what_is_left(at in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
            let mut bytes = example();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let _ = (parse(0, &bytes), extent(&bytes));
        }
    }
}
