//! `struct ethtool_link_settings` of `include/uapi/linux/ethtool.h`, as [`crate::sys::ethtool::link_settings`] gives
//! it → names. Pure. Words are little-endian, as on every machine this runs on.

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

fn names(bitmap: &[u8]) -> Vec<String> {
    let bits = (0..bitmap.len() * 8).filter(|bit| bitmap[bit / 8] & (1 << (bit % 8)) != 0);
    bits.map(|bit| match MODES.get(bit) {
        Some(name) => (*name).to_owned(),
        None => format!("bit {bit}"),
    })
    .collect()
}

/// `enum ethtool_link_mode_bit_indices`, by bit, written as ethtool(8) writes them.
const MODES: [&str; 121] = [
    "10baseT/Half",
    "10baseT/Full",
    "100baseT/Half",
    "100baseT/Full",
    "1000baseT/Half",
    "1000baseT/Full",
    "Autoneg",
    "TP",
    "AUI",
    "MII",
    "FIBRE",
    "BNC",
    "10000baseT/Full",
    "Pause",
    "Asym_Pause",
    "2500baseX/Full",
    "Backplane",
    "1000baseKX/Full",
    "10000baseKX4/Full",
    "10000baseKR/Full",
    "10000baseR_FEC",
    "20000baseMLD2/Full",
    "20000baseKR2/Full",
    "40000baseKR4/Full",
    "40000baseCR4/Full",
    "40000baseSR4/Full",
    "40000baseLR4/Full",
    "56000baseKR4/Full",
    "56000baseCR4/Full",
    "56000baseSR4/Full",
    "56000baseLR4/Full",
    "25000baseCR/Full",
    "25000baseKR/Full",
    "25000baseSR/Full",
    "50000baseCR2/Full",
    "50000baseKR2/Full",
    "100000baseKR4/Full",
    "100000baseSR4/Full",
    "100000baseCR4/Full",
    "100000baseLR4/ER4/Full",
    "50000baseSR2/Full",
    "1000baseX/Full",
    "10000baseCR/Full",
    "10000baseSR/Full",
    "10000baseLR/Full",
    "10000baseLRM/Full",
    "10000baseER/Full",
    "2500baseT/Full",
    "5000baseT/Full",
    "FEC_NONE",
    "FEC_RS",
    "FEC_BASER",
    "50000baseKR/Full",
    "50000baseSR/Full",
    "50000baseCR/Full",
    "50000baseLR/ER/FR/Full",
    "50000baseDR/Full",
    "100000baseKR2/Full",
    "100000baseSR2/Full",
    "100000baseCR2/Full",
    "100000baseLR2/ER2/FR2/Full",
    "100000baseDR2/Full",
    "200000baseKR4/Full",
    "200000baseSR4/Full",
    "200000baseLR4/ER4/FR4/Full",
    "200000baseDR4/Full",
    "200000baseCR4/Full",
    "100baseT1/Full",
    "1000baseT1/Full",
    "400000baseKR8/Full",
    "400000baseSR8/Full",
    "400000baseLR8/ER8/FR8/Full",
    "400000baseDR8/Full",
    "400000baseCR8/Full",
    "FEC_LLRS",
    "100000baseKR/Full",
    "100000baseSR/Full",
    "100000baseLR/ER/FR/Full",
    "100000baseCR/Full",
    "100000baseDR/Full",
    "200000baseKR2/Full",
    "200000baseSR2/Full",
    "200000baseLR2/ER2/FR2/Full",
    "200000baseDR2/Full",
    "200000baseCR2/Full",
    "400000baseKR4/Full",
    "400000baseSR4/Full",
    "400000baseLR4/ER4/FR4/Full",
    "400000baseDR4/Full",
    "400000baseCR4/Full",
    "100baseFX/Half",
    "100baseFX/Full",
    "10baseT1L/Full",
    "800000baseCR8/Full",
    "800000baseKR8/Full",
    "800000baseDR8/Full",
    "800000baseDR8-2/Full",
    "800000baseSR8/Full",
    "800000baseVR8/Full",
    "10baseT1S/Full",
    "10baseT1S/Half",
    "10baseT1S_P2MP/Half",
    "10baseT1BRR/Full",
    "200000baseCR/Full",
    "200000baseKR/Full",
    "200000baseDR/Full",
    "200000baseDR-2/Full",
    "200000baseSR/Full",
    "200000baseVR/Full",
    "400000baseCR2/Full",
    "400000baseKR2/Full",
    "400000baseDR2/Full",
    "400000baseDR2-2/Full",
    "400000baseSR2/Full",
    "400000baseVR2/Full",
    "800000baseCR4/Full",
    "800000baseKR4/Full",
    "800000baseDR4/Full",
    "800000baseDR4-2/Full",
    "800000baseSR4/Full",
    "800000baseVR4/Full",
];

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
