//! What a memory module says of itself: serial presence detect (JEDEC 21-C for DDR3 and DDR4, JESD400-5 for DDR5). Pure.

use crate::formats::bytes::hex;
use crate::formats::tables::rows;
use crate::formats::text::burnt;
use crate::model::inventory::FruMemory;

/// Makers by JEP106 code: continuation codes before it, code, name. The file names its source.
const MAKERS: &str = include_str!("memory_makers.tsv");

/// Where one generation keeps what a maker writes: its code, week, serial number and part number.
struct Layout {
    name: &'static str,
    /// Code in two bytes, the place of manufacture in one, year and week, the serial number in four; then the part number.
    maker: usize,
    part: std::ops::Range<usize>,
    size: fn(&[u8]) -> Option<u64>,
}

fn layout(kind: u8) -> Option<Layout> {
    Some(match kind {
        0x0b => Layout {
            name: "DDR3",
            maker: 117,
            part: 128..146,
            size: |bytes| capacity(*bytes.get(4)?, *bytes.get(7)?, *bytes.get(8)?, 1),
        },
        0x0c => Layout {
            name: "DDR4",
            maker: 320,
            part: 329..349,
            size: |bytes| {
                let package = *bytes.get(6)?;
                // Stacked dies behind one load are ranks of their own.
                let dies = if package & 0x83 == 0x82 {
                    u64::from(package >> 4 & 7) + 1
                } else {
                    1
                };
                capacity(*bytes.get(4)?, *bytes.get(12)?, *bytes.get(13)?, dies)
            },
        },
        0x12 => Layout {
            name: "DDR5",
            maker: 512,
            part: 521..551,
            size: ddr5_size,
        },
        _ => return None,
    })
}

/// Bytes of a DDR3 or DDR4 module: size of a die, width of bus and die, ranks.
fn capacity(density: u8, organization: u8, bus: u8, dies: u64) -> Option<u64> {
    // From 256 Mbit on, doubling; DDR4 has 12 and 24 Gbit behind.
    let megabits: u64 = match density & 0x0f {
        step @ 0..=7 => 256 << step,
        8 => 12 << 10,
        9 => 24 << 10,
        _ => return None,
    };
    let (die_width, ranks) = (4u64 << (organization & 7), u64::from(organization >> 3 & 7) + 1);
    let bus_width = match bus & 7 {
        step @ 0..=3 => 8u64 << step,
        _ => return None,
    };
    (die_width <= 32).then_some((megabits << 20) / 8 * (bus_width / die_width).max(1) * ranks * dies)
}

/// The same for DDR5, whose modules have two channels. Modules of unequal ranks do not say it this simply.
fn ddr5_size(bytes: &[u8]) -> Option<u64> {
    let (density, width) = (*bytes.get(4)?, *bytes.get(6)?);
    let (organization, bus) = (*bytes.get(234)?, *bytes.get(235)?);
    let gigabits: u64 = match density & 0x1f {
        1 => 4,
        2 => 8,
        3 => 12,
        4 => 16,
        5 => 24,
        6 => 32,
        7 => 48,
        8 => 64,
        _ => return None,
    };
    let dies: u64 = match density >> 5 {
        0 | 1 => 1,
        2 => 2,
        3 => 4,
        4 => 8,
        5 => 16,
        _ => return None,
    };
    let (die_width, bus_width) = (4u64 << (width >> 5), 8u64 << (bus & 3));
    let (ranks, channels) = (u64::from(organization >> 3 & 7) + 1, 1u64 << (bus >> 5 & 3));
    let equal = organization & 0x40 == 0 && bus & 4 == 0 && die_width <= 32;
    equal.then_some((gigabits << 30) / 8 * (bus_width / die_width).max(1) * ranks * channels * dies)
}

/// A maker by the two bytes of its code, or the code where the maker is not known.
pub(crate) fn maker(first: u8, second: u8) -> Option<String> {
    if matches!((first, second), (0, 0) | (0xff, 0xff)) {
        return None;
    }
    // The top bits are parity.
    let code = [first, second].map(|byte| (byte & 0x7f).to_string());
    let known = rows(MAKERS).find(|[before, number, _]| code == [*before, *number]);
    Some(known.map_or_else(
        || format!("JEP106 {first:#04x} {second:#04x}"),
        |[.., name]| name.to_owned(),
    ))
}

/// Why bytes are no module's description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpdError {
    #[error("shorter than a module's description")]
    Short,
    /// All bytes are the same.
    #[error("blank")]
    Blank,
    /// A memory type (byte 2) whose layout is not known here.
    #[error("memory of type {0:#04x}")]
    UnknownType(u8),
}

/// What the module says of itself.
pub(crate) fn parse(bytes: &[u8]) -> Result<FruMemory, SpdError> {
    let kind = *bytes.get(2).ok_or(SpdError::Short)?;
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(SpdError::Blank);
    }
    let layout = layout(kind).ok_or(SpdError::UnknownType(kind))?;
    let at = |offset: usize| bytes.get(layout.maker + offset).copied();
    let bcd =
        |byte: u8| (byte & 0x0f < 10 && byte >> 4 < 10).then_some(u16::from(byte >> 4) * 10 + u16::from(byte & 0x0f));
    let week = at(4).and_then(bcd).filter(|week| (1..=53).contains(week));
    let made = at(3).and_then(bcd).zip(week);
    let serial = bytes.get(layout.maker + 5..layout.maker + 9);
    Ok(FruMemory {
        memory_type: layout.name.to_owned(),
        size_bytes: (layout.size)(bytes),
        manufacturer: at(0).zip(at(1)).and_then(|(first, second)| maker(first, second)),
        part_number: bytes.get(layout.part.clone()).and_then(burnt),
        serial: serial
            .filter(|serial| serial.iter().any(|byte| !matches!(byte, 0 | 0xff)))
            .map(hex),
        made_in_week: made.map(|(year, week)| format!("20{year:02}-W{week:02}")),
    })
}

#[cfg(test)]
pub(crate) mod testing {
    /// A DDR4 module of two ranks of 4 Gbit dies, 64 bits wide.
    pub(crate) fn ddr4() -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        bytes[..14].copy_from_slice(&[0x23, 0x11, 0x0c, 0x01, 0x84, 0x21, 0, 8, 0, 0x60, 0, 3, 8, 0x0b]);
        bytes[320..329].copy_from_slice(&[0x80, 0x2c, 0, 0x17, 0x02, 0x15, 0x66, 0x00, 0x01]);
        bytes[329..349].copy_from_slice(b"EXAMPLE-4G          ");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_module_tells_what_it_is() {
        assert_eq!(
            parse(&testing::ddr4()),
            Ok(FruMemory {
                memory_type: "DDR4".to_owned(),
                size_bytes: Some(16 << 30),
                manufacturer: Some("Micron".to_owned()),
                part_number: Some("EXAMPLE-4G".to_owned()),
                serial: Some("15660001".to_owned()),
                made_in_week: Some("2017-W02".to_owned()),
            })
        );
    }

    #[test]
    fn sizes_of_all_generations() {
        // 2 ranks of x4 4 Gbit dies; 3DS of four 8 Gbit dies in x4, two package ranks.
        assert_eq!(capacity(0x04, 0x08, 0x0b, 1), Some(16 << 30));
        let mut stacked = testing::ddr4();
        (stacked[4], stacked[6]) = (0x05, 0xb2);
        assert_eq!(parse(&stacked).unwrap().size_bytes, Some(128 << 30));
        // DDR3: one rank of x8 2 Gbit dies.
        let mut old = vec![0u8; 256];
        (old[2], old[4], old[7], old[8]) = (0x0b, 0x03, 0x01, 0x03);
        old[117..126].copy_from_slice(&[0x80, 0xce, 0, 0x11, 0x30, 1, 2, 3, 4]);
        let told = parse(&old).unwrap();
        assert_eq!(
            (told.size_bytes, told.manufacturer.as_deref()),
            (Some(2 << 30), Some("Samsung"))
        );
        // DDR5: one rank of x8 16 Gbit dies, two channels of 32 bits.
        let mut new = vec![0u8; 1024];
        (new[0], new[2], new[4], new[6], new[235]) = (0x30, 0x12, 0x04, 0x20, 0x22);
        new[512..521].copy_from_slice(&[0x80, 0xad, 0, 0x23, 0x41, 0xff, 0xff, 0xff, 0xff]);
        let told = parse(&new).unwrap();
        assert_eq!((&*told.memory_type, told.size_bytes), ("DDR5", Some(16 << 30)));
        assert_eq!(
            (told.manufacturer.as_deref(), told.serial, told.part_number),
            (Some("SK Hynix"), None, None)
        );
    }

    #[test]
    fn makers_are_named_or_numbered() {
        assert_eq!(maker(0x01, 0x98).as_deref(), Some("Kingston"));
        assert_eq!(maker(0x80, 0x7f).as_deref(), Some("JEP106 0x80 0x7f"));
        assert_eq!(maker(0xff, 0xff), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..1100), kind in 0u8..0x14) {
            if let Some(at) = bytes.get_mut(2) {
                *at = kind;
            }
            let _ = parse(&bytes);
        }
    }
}
