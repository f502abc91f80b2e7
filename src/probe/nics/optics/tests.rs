//! Memories put together by hand after the standards' tables, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

fn put(memory: &mut [u8], at: usize, bytes: &[u8]) {
    memory[at..at + bytes.len()].copy_from_slice(bytes);
}

fn answer(kind: u32, memory: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], memory].concat()
}

fn sfp_memory() -> Vec<u8> {
    let mut memory = vec![0; 512];
    put(&mut memory, 0, &[0x03, 0x04, 0x07, 0x10]);
    memory[12] = 103;
    put(&mut memory, 20, b"EXAMPLE OPTICS  ");
    put(&mut memory, 37, &[0x00, 0x90, 0x65]);
    put(&mut memory, 40, b"EO-10G-SR       A   ");
    put(&mut memory, 60, &850u16.to_be_bytes());
    put(&mut memory, 68, b"EOS0001         240315  ");
    memory[92] = 0x68;
    // 35.5 °C, 3.3 V, 6 mA, 0.5 mW out, 0.1 mW in.
    put(&mut memory, 256 + 96, &[35, 128]);
    for (at, value) in [(98, 33_000u16), (100, 3000), (102, 5000), (104, 1000)] {
        put(&mut memory, 256 + at, &value.to_be_bytes());
    }
    memory
}

#[test]
fn an_sfp_tells_who_made_it_and_what_it_measures() {
    let optics = parse(&answer(2, &sfp_memory())).unwrap();
    assert_eq!(optics.standard, "SFF-8472");
    assert_eq!(optics.form_factor.as_deref(), Some("SFP"));
    assert_eq!(optics.connector.as_deref(), Some("LC"));
    assert_eq!(optics.compliance, ["10GBASE-SR"]);
    assert_eq!(optics.vendor.as_deref(), Some("EXAMPLE OPTICS"));
    assert_eq!(optics.vendor_oui.as_deref(), Some("00:90:65"));
    assert_eq!(optics.part_number.as_deref(), Some("EO-10G-SR"));
    assert_eq!(optics.revision.as_deref(), Some("A"));
    assert_eq!(optics.serial.as_deref(), Some("EOS0001"));
    assert_eq!(optics.date.as_deref(), Some("2024-03-15"));
    assert_eq!(optics.bit_rate_mbps, Some(10_300));
    assert_eq!(optics.wavelength_nm, Some(850.0));
    assert_eq!(optics.temperature_celsius, Some(35.5));
    assert_eq!(optics.supply_volts, Some(3.3));
    let lane = OpticsLane {
        lane: 1,
        rx_power_uw: Some(100.0),
        rx_power_dbm: Some(-10.0),
        tx_power_uw: Some(500.0),
        tx_power_dbm: Some(-3.01),
        tx_bias_ma: Some(6.0),
    };
    assert_eq!(optics.lanes, [lane]);
    // The first half alone names the module.
    let named = parse(&answer(1, &sfp_memory()[..256])).unwrap();
    assert_eq!((named.serial, named.lanes.len()), (optics.serial, 0));
}

#[test]
fn an_externally_calibrated_sfp_is_computed() {
    let mut memory = sfp_memory();
    memory[92] = 0x58;
    let a2 = 256;
    // Received power = 2 * raw + 10; all slopes 1 but the temperature's, which is 2 with an offset of 1 °C.
    put(&mut memory, a2 + 68, &2f32.to_be_bytes());
    put(&mut memory, a2 + 72, &10f32.to_be_bytes());
    for slope in [76, 80, 88] {
        put(&mut memory, a2 + slope, &[1, 0]);
    }
    put(&mut memory, a2 + 84, &[2, 0, 1, 0]);
    let optics = parse(&answer(2, &memory)).unwrap();
    assert_eq!(optics.temperature_celsius, Some(72.0));
    assert_eq!(optics.lanes[0].rx_power_uw, Some(201.0));
    assert_eq!(optics.lanes[0].tx_power_uw, Some(500.0));
}

#[test]
fn a_copper_cable_has_a_length_and_no_light() {
    let mut memory = vec![0; 256];
    put(&mut memory, 0, &[0x03, 0x04, 0x21]);
    put(&mut memory, 8, &[0x04]);
    memory[12] = 255;
    memory[18] = 3;
    memory[36] = 0x0b;
    memory[66] = 103;
    put(&mut memory, 60, &[0x01, 0x00]);
    let optics = parse(&answer(1, &memory)).unwrap();
    assert_eq!(optics.compliance, ["passive cable", "25GBASE-CR CA-25G-L"]);
    assert_eq!(optics.cable_length_m, Some(3.0));
    assert_eq!(optics.bit_rate_mbps, Some(25_750));
    assert_eq!(optics.wavelength_nm, None);
    assert!(optics.lanes.is_empty() && optics.temperature_celsius.is_none());
}

#[test]
fn a_qsfp_has_four_lanes() {
    let mut memory = vec![0; 256];
    memory[0] = 0x11;
    put(&mut memory, 22, &[0xff, 0x80]);
    put(&mut memory, 26, &32_900u16.to_be_bytes());
    for lane in 0..4u16 {
        let at = usize::from(lane) * 2;
        put(&mut memory, 34 + at, &(7943 * u16::from(lane != 3)).to_be_bytes());
        put(&mut memory, 42 + at, &4000u16.to_be_bytes());
        put(&mut memory, 50 + at, &10_000u16.to_be_bytes());
    }
    put(&mut memory, 128, &[0x11, 0, 0x0c, 0x80]);
    memory[140] = 255;
    put(&mut memory, 148, b"EXAMPLE OPTICS  ");
    put(&mut memory, 168, b"EO-100G-SR4     B2");
    put(&mut memory, 186, &17_000u16.to_be_bytes());
    memory[192] = 0x02;
    put(&mut memory, 196, b"EOQ0001         230101  ");
    memory[220] = 0x0c;
    memory[222] = 103;
    let optics = parse(&answer(3, &memory)).unwrap();
    assert_eq!(optics.form_factor.as_deref(), Some("QSFP28"));
    assert_eq!(optics.connector.as_deref(), Some("MPO 1x12"));
    assert_eq!(optics.compliance, ["100GBASE-SR4"]);
    assert_eq!(optics.part_number.as_deref(), Some("EO-100G-SR4"));
    assert_eq!(optics.revision.as_deref(), Some("B2"));
    assert_eq!(optics.serial.as_deref(), Some("EOQ0001"));
    assert_eq!(optics.wavelength_nm, Some(850.0));
    assert_eq!(optics.temperature_celsius, Some(-0.5));
    assert_eq!(optics.supply_volts, Some(3.29));
    assert_eq!(optics.lanes.len(), 4);
    assert_eq!(optics.lanes[0].rx_power_uw, Some(794.3));
    assert_eq!(optics.lanes[0].rx_power_dbm, Some(-1.0));
    assert_eq!(optics.lanes[0].tx_power_dbm, Some(0.0));
    assert_eq!(optics.lanes[0].tx_bias_ma, Some(8.0));
    // A lane without light.
    assert_eq!(
        (optics.lanes[3].rx_power_uw, optics.lanes[3].rx_power_dbm),
        (Some(0.0), None)
    );
}

fn cmis_memory() -> Vec<u8> {
    let mut memory = vec![0; 640];
    put(&mut memory, 0, &[0x18, 0x50]);
    put(&mut memory, 14, &[50, 0]);
    put(&mut memory, 16, &33_000u16.to_be_bytes());
    put(&mut memory, 129, b"EXAMPLE OPTICS  ");
    put(&mut memory, 145, &[0x00, 0x90, 0x65]);
    put(&mut memory, 148, b"EO-400G-DR4     01EOC0001         250601  ");
    memory[203] = 0x0c;
    memory[212] = 0x06;
    // Page 01h begins at 256: 1311 nm, all three monitors, bias in steps of 4 µA.
    put(&mut memory, 256 + 10, &26_220u16.to_be_bytes());
    memory[256 + 32] = 0x0f;
    // Page 11h begins at 512.
    for lane in 0..4 {
        put(&mut memory, 512 + 26 + lane * 2, &12_589u16.to_be_bytes());
        put(&mut memory, 512 + 42 + lane * 2, &15_000u16.to_be_bytes());
        put(&mut memory, 512 + 58 + lane * 2, &10_000u16.to_be_bytes());
    }
    memory
}

#[test]
fn a_cmis_module_tells_by_pages() {
    let optics = parse(&answer(BY_PAGE, &cmis_memory())).unwrap();
    assert_eq!(optics.standard, "CMIS");
    assert_eq!(optics.form_factor.as_deref(), Some("QSFP-DD"));
    assert_eq!(optics.part_number.as_deref(), Some("EO-400G-DR4"));
    assert_eq!(optics.revision.as_deref(), Some("01"));
    assert_eq!(optics.serial.as_deref(), Some("EOC0001"));
    assert_eq!(optics.date.as_deref(), Some("2025-06-01"));
    assert_eq!(optics.wavelength_nm, Some(1311.0));
    assert_eq!(optics.temperature_celsius, Some(50.0));
    assert_eq!(optics.lanes.len(), 4);
    assert_eq!(optics.lanes[3].tx_power_dbm, Some(1.0));
    assert_eq!(optics.lanes[3].rx_power_dbm, Some(0.0));
    assert_eq!(optics.lanes[3].tx_bias_ma, Some(60.0));
    // Through the old call nobody knows which pages came.
    let flat = parse(&answer(3, &cmis_memory())).unwrap();
    assert_eq!(
        (flat.serial, flat.wavelength_nm, flat.lanes.len()),
        (optics.serial, None, 0)
    );
}

#[test]
fn what_is_not_measured_is_not_told() {
    // All ones in the places of monitors: SFF-8472, SFF-8636 and CMIS.
    let mut memory = sfp_memory();
    memory[256 + 96..256 + 106].fill(0xff);
    let optics = parse(&answer(2, &memory)).unwrap();
    assert_eq!((optics.temperature_celsius, optics.supply_volts), (None, None));
    assert!(optics.lanes.iter().all(is_untold));
    let mut qsfp = vec![0u8; 256];
    qsfp[0] = 0x11;
    qsfp[128] = 0x11;
    qsfp[220] = 0x04;
    for unmeasured in [0xffff_u16, 0x8000] {
        put(&mut qsfp, 22, &unmeasured.to_be_bytes());
        qsfp[26..28].fill(0xff);
        qsfp[34..58].fill(0xff);
        let optics = parse(&answer(4, &qsfp)).unwrap();
        assert_eq!(optics.standard, "SFF-8636");
        assert_eq!((optics.temperature_celsius, optics.supply_volts), (None, None));
        assert!(optics.lanes.is_empty());
    }
    // Just below zero is cold, and a zero has no sign.
    put(&mut qsfp, 22, &(-128i16).to_be_bytes());
    put(&mut qsfp, 26, &33_000u16.to_be_bytes());
    let optics = parse(&answer(4, &qsfp)).unwrap();
    assert_eq!(
        (optics.temperature_celsius, optics.supply_volts),
        (Some(-0.5), Some(3.3))
    );
    assert!(rounded(-0.001, 2).is_sign_positive());
    let mut cmis = cmis_memory();
    put(&mut cmis, 14, &[0x80, 0]);
    cmis[16..18].fill(0xff);
    let optics = parse(&answer(0x1e, &cmis)).unwrap();
    assert_eq!((optics.temperature_celsius, optics.supply_volts), (None, None));
}

#[test]
fn unknown_and_cut_memories_are_none() {
    assert_eq!(parse(&[]), None);
    assert_eq!(parse(&answer(2, &[0xff; 512])), None);
    assert_eq!(parse(&answer(2, &sfp_memory()[..100])), None);
    assert_eq!(parse(&answer(3, &cmis_memory()[..200])), None);
}

proptest! {
    #[test]
    fn any_memory_is_read_or_not(
        first in prop_oneof![Just(0x03u8), Just(0x0d), Just(0x11), Just(0x18), Just(0x19), any::<u8>()],
        kind in 0u32..5,
        mut memory in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        if let Some(byte) = memory.first_mut() {
            *byte = first;
        }
        if let Some(optics) = parse(&answer(kind, &memory)) {
            prop_assert!(optics.lanes.len() <= 8);
            // JSON has no word for NaN and infinity: they would come out as null and not be read back.
            let json = serde_json::to_string(&optics).unwrap();
            let back: Optics = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back.lanes.len(), optics.lanes.len());
            for text in [&optics.vendor, &optics.serial].into_iter().flatten() {
                prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
