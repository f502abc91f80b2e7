//! `struct ethtool_link_settings` of `include/uapi/linux/ethtool.h`, as [`crate::sys::ethtool::link_settings`] gives
//! it → names. Pure. Words are little-endian, as on every machine this runs on.

use crate::formats::tables;

/// Length of the part before the bitmaps.
const HEAD: usize = 48;

/// What a port said of its link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkSettings {
    pub speed_mbps: Option<u32>,
    pub duplex: Option<&'static str>,
    pub port_type: Option<&'static str>,
    pub autoneg: Option<bool>,
    pub supported: Vec<String>,
    pub advertised: Vec<String>,
    pub partner: Vec<String>,
}

/// Reads the struct; `None` where it is too short for what it announces.
pub(crate) fn parse(bytes: &[u8]) -> Option<LinkSettings> {
    let head = bytes.get(..HEAD)?;
    let words = usize::from(head[15]);
    let speed = u32::from_le_bytes(head[4..8].try_into().ok()?);
    let bitmap = |which: usize| {
        let begin = HEAD + which * words * 4;
        bytes.get(begin..begin + words * 4).map(names)
    };
    Some(LinkSettings {
        // SPEED_UNKNOWN is -1.
        speed_mbps: (speed != 0 && speed != u32::MAX).then_some(speed),
        duplex: match head[8] {
            0 => Some("half"),
            1 => Some("full"),
            _ => None,
        },
        port_type: match head[9] {
            0x00 => Some("twisted pair"),
            0x01 => Some("AUI"),
            0x02 => Some("MII"),
            0x03 => Some("fibre"),
            0x04 => Some("BNC"),
            0x05 => Some("direct attach"),
            0xef => Some("none"),
            0xff => Some("other"),
            _ => None,
        },
        autoneg: match head[11] {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        supported: bitmap(0)?,
        advertised: bitmap(1)?,
        partner: bitmap(2)?,
    })
}

/// A mode a line, from bit 0 on. The file names its source.
const MODES: &str = include_str!("link_modes.tsv");

fn names(bitmap: &[u8]) -> Vec<String> {
    let modes: Vec<&str> = tables::rows(MODES).map(|[_, name]| name).collect();
    let bits = (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] & (1 << (bit % 8)) != 0);
    bits.map(|bit| match modes.get(bit) {
        Some(name) => (*name).to_owned(),
        None => format!("bit {bit}"),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(words: u8, bits: [&[usize]; 3]) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes[0] = 0x4c;
        bytes[4..8].copy_from_slice(&25_000u32.to_le_bytes());
        bytes[8] = 1;
        bytes[9] = 3;
        bytes[11] = 1;
        bytes[15] = words;
        for bits in bits {
            let mut bitmap = vec![0; usize::from(words) * 4];
            for bit in bits {
                bitmap[bit / 8] |= 1 << (bit % 8);
            }
            bytes.extend(bitmap);
        }
        bytes
    }

    #[test]
    fn bits_have_the_names_of_the_kernels_header() {
        let told = parse(&settings(4, [&[5, 6, 10, 31, 33, 92, 127], &[6, 33], &[]])).unwrap();
        assert_eq!(
            told.supported,
            [
                "1000baseT/Full",
                "Autoneg",
                "FIBRE",
                "25000baseCR/Full",
                "25000baseSR/Full",
                "10baseT1L/Full",
                "bit 127"
            ]
        );
        assert_eq!(told.advertised, ["Autoneg", "25000baseSR/Full"]);
        assert!(told.partner.is_empty());
        assert_eq!((told.speed_mbps, told.duplex), (Some(25_000), Some("full")));
        assert_eq!((told.port_type, told.autoneg), (Some("fibre"), Some(true)));
    }

    #[test]
    fn the_lines_of_the_table_are_numbered() {
        let numbers: Vec<_> = tables::rows(MODES).map(|[bit, _]| tables::number(bit)).collect();
        assert_eq!(numbers, (0..121).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_port_without_a_link_has_no_speed() {
        let mut bytes = settings(1, [&[], &[], &[]]);
        bytes[4..8].fill(0xff);
        bytes[8] = 0xff;
        let told = parse(&bytes).unwrap();
        assert_eq!((told.speed_mbps, told.duplex), (None, None));
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..800)) {
            if let Some(told) = parse(&bytes) {
                prop_assert!(told.supported.len() <= bytes.len() * 8);
            }
        }
    }
}
