//! One entry of the event log → what happened (IPMI 2.0, chapters 29.7 and 32). Pure.

use super::event_data::EventData;
use super::names;
use super::sdr_record::{BMC_ADDRESS, SensorRecord};
use crate::formats::bytes::{hex, le32};
use crate::model::inventory::SelEntry;

/// Times below are seconds since the controller started, from before its clock was set (37.1).
const FIRST_CLOCK: u32 = 0x2000_0000;

/// Seconds since 1970 as RFC 3339; nothing for "not set" and for times before the clock was set.
pub(crate) fn timestamp(seconds: u32) -> Option<String> {
    if seconds == u32::MAX || seconds <= FIRST_CLOCK {
        return None;
    }
    let at = jiff::Timestamp::from_second(i64::from(seconds)).ok()?;
    Some(at.to_string())
}

/// One entry of 16 bytes.
pub(crate) fn entry(bytes: &[u8; 16], sensors: &[SensorRecord]) -> SelEntry {
    let kind = bytes[2];
    let mut entry = SelEntry {
        id: u16::from_le_bytes([bytes[0], bytes[1]]),
        raw: hex(bytes),
        ..SelEntry::default()
    };
    if kind < 0xe0
        && let Some(seconds) = le32(bytes, 3)
    {
        entry.at = timestamp(seconds);
        entry.after_start_s = (seconds <= FIRST_CLOCK).then_some(seconds);
    }
    match kind {
        0x02 => event(bytes, sensors, &mut entry),
        0xc0..=0xdf => {
            "oem timestamped".clone_into(&mut entry.kind);
            let maker = u32::from_le_bytes([bytes[7], bytes[8], bytes[9], 0]) & 0x000f_ffff;
            let name = super::device::manufacturer(maker).unwrap_or_else(|| format!("maker {maker}"));
            entry.event = Some(format!("{name}: {}", hex(&bytes[10..])));
        }
        0xe0.. => {
            "oem".clone_into(&mut entry.kind);
            entry.event = Some(hex(&bytes[3..]));
        }
        other => entry.kind = format!("type {other:#04x}"),
    }
    entry
}

/// 32.1: generator in bytes 7 and 8, sensor in 10 and 11, direction and type in 12, data in 13 to 15.
fn event(bytes: &[u8; 16], sensors: &[SensorRecord], entry: &mut SelEntry) {
    "event".clone_into(&mut entry.kind);
    let (generator, lun) = (bytes[7], bytes[8] & 3);
    let (sensor_kind, number) = (bytes[10], bytes[11]);
    let data = EventData {
        event_type: bytes[12] & 0x7f,
        sensor_kind,
        bytes: [bytes[13], bytes[14], bytes[15]],
    };
    let is = |sensor: &&SensorRecord| sensor.number == number && sensor.kind == sensor_kind;
    let record = sensors
        .iter()
        .filter(is)
        .find(|sensor| sensor.owner == generator && sensor.lun == lun)
        // Firmware logs for sensors of the controller under a name of its own.
        .or_else(|| sensors.iter().filter(is).find(|sensor| sensor.owner == BMC_ADDRESS));
    entry.sensor = record.map(|record| record.name.clone());
    entry.sensor_number = Some(number);
    entry.sensor_kind = Some(names::sensor_kind(sensor_kind));
    entry.asserted = Some(bytes[12] & 0x80 == 0);
    let mut text = names::event(data.event_type, sensor_kind, data.offset());
    if let Some(detail) = data.detail(record) {
        text = format!("{text}, {detail}");
    }
    entry.event = Some(text);
}

#[cfg(test)]
mod tests {
    use super::super::sdr_record::Factors;
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> [u8; 16] {
        let byte = |at: usize| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap();
        std::array::from_fn(byte)
    }

    #[test]
    fn a_threshold_event_tells_reading_and_limit_in_the_sensors_unit() {
        let sensor = SensorRecord {
            name: "Inlet Temp".to_owned(),
            number: 0x04,
            owner: 0x20,
            kind: 1,
            unit: Some("degrees C".to_owned()),
            factors: Some(Factors {
                m: 1,
                ..Factors::default()
            }),
            ..SensorRecord::default()
        };
        // 0x5f000000 is 2020-07-04; upper critical going high, reading 47, threshold 45.
        let raw = bytes("0a0002000000 5f 2000 04 01 04 01 59 2f 2d".replace(' ', "").as_str());
        let told = entry(&raw, &[sensor]);
        assert_eq!(told.id, 10);
        assert_eq!(told.at.as_deref(), Some("2020-07-04T04:05:20Z"));
        assert_eq!(told.sensor.as_deref(), Some("Inlet Temp"));
        assert_eq!(
            told.event.as_deref(),
            Some("upper critical going high, reading 47 degrees C, threshold 45")
        );
        assert_eq!(told.asserted, Some(true));
    }

    #[test]
    fn extensions_are_told_and_old_times_are_no_dates() {
        let told = entry(
            &bytes("01000210000000330004 0c 87 6f b1ff05".replace(' ', "").as_str()),
            &[],
        );
        assert_eq!((told.at, told.after_start_s), (None, Some(16)));
        assert_eq!(told.sensor_kind.as_deref(), Some("memory"));
        assert_eq!(told.event.as_deref(), Some("uncorrectable ECC, module 5"));
        assert_eq!(told.sensor, None);
        let progress = entry(
            &bytes("020002000000603300 04 0f 00 6f c213ff".replace(' ', "").as_str()),
            &[],
        );
        assert_eq!(
            progress.event.as_deref(),
            Some("firmware progress, starting the operating system")
        );
        let gone = entry(
            &bytes("0300020000006020000408 c8 ef 03ffff".replace(' ', "").as_str()),
            &[],
        );
        assert_eq!(
            (gone.event.as_deref(), gone.asserted),
            (Some("input lost"), Some(false))
        );
    }

    #[test]
    fn a_makers_own_entries_keep_their_bytes() {
        let told = entry(&bytes("0400dd00000060a20200010203040506"), &[]);
        assert_eq!(
            (&*told.kind, told.event.as_deref()),
            ("oem timestamped", Some("Dell: 010203040506"))
        );
        let told = entry(&bytes("0500e0aabbccddeeff00112233445566"), &[]);
        assert_eq!((&*told.kind, told.at), ("oem", None));
        assert_eq!(told.raw, "0500e0aabbccddeeff00112233445566");
        assert_eq!(entry(&[0; 16], &[]).kind, "type 0x00");
    }

    proptest! {
        #[test]
        fn any_entry_has_its_bytes(bytes: [u8; 16], number: u8, kind: u8) {
            let sensor = SensorRecord { number, kind, factors: Some(Factors::of(&bytes)), ..SensorRecord::default() };
            let told = entry(&bytes, &[sensor]);
            prop_assert_eq!(told.raw.len(), 32);
            prop_assert!(!told.kind.is_empty());
        }
    }
}
