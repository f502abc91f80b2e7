//! One sensor data record → what it describes (IPMI 2.0, chapter 43).

use super::fru_area::field_text;
use super::names;
use crate::formats::bytes::le16;

/// Bus address of the management controller itself.
pub const BMC_ADDRESS: u8 = 0x20;
/// Sensors that one compact record may describe (43.2).
const MAX_SHARED: u8 = 15;

/// What a record describes, of the types that matter here.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Types 01h, 02h and 03h; a compact record may describe several.
    Sensors(Vec<SensorRecord>),
    /// Type 11h.
    FruDevice(FruDevice),
    /// Any other type, by its number.
    Other(u8),
}

/// A sensor as its record describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SensorRecord {
    pub name: String,
    pub number: u8,
    pub lun: u8,
    /// Bus address, or software id where bit 0 is set.
    pub owner: u8,
    pub kind: u8,
    /// 01h has thresholds, 6Fh is specific to the kind, others are generic (table 42-1).
    pub event_type: u8,
    pub entity: Option<String>,
    pub unit: Option<String>,
    /// How readings become numbers; only in full records.
    pub factors: Option<Factors>,
    /// Raw thresholds that can be read: lower non-critical, critical, non-recoverable, then upper likewise.
    pub thresholds: [Option<u8>; 6],
    /// States that the sensor can report.
    pub state_mask: u16,
    /// Sends events, but has nothing to read.
    pub event_only: bool,
}

/// How a reading becomes a number (36.3): `linearize((m * x + b * 10^b_exponent) * 10^r_exponent)`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Factors {
    /// 0 unsigned, 1 ones' complement, 2 two's complement.
    pub format: u8,
    /// Table 43-1, byte 24; 70h is not linear and has factors of its own for each reading.
    pub linearization: u8,
    pub m: i16,
    pub b: i16,
    pub b_exponent: i8,
    pub r_exponent: i8,
}

/// What the bytes of a unit are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FruContent {
    /// Areas of the FRU specification.
    #[default]
    Inventory,
    /// A memory module's SPD.
    MemoryId,
    /// A processor's own information ROM, which has a layout of its maker.
    Processor,
}

/// A field replaceable unit (43.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FruDevice {
    pub name: Option<String>,
    pub id: u8,
    pub entity: Option<String>,
    /// Behind the controller's own commands; the others hang on buses that are not ours to talk on.
    pub is_local: bool,
    /// How its bytes are to be read.
    pub content: FruContent,
}

/// Takes one record apart. `None` where it is too short for its type.
pub fn parse(record: &[u8]) -> Option<Record> {
    Some(match *record.get(3)? {
        0x01 => Record::Sensors(vec![full(record)?]),
        0x02 => Record::Sensors(compact(record)?),
        0x03 => Record::Sensors(event_only(record)?),
        0x11 => Record::FruDevice(fru_device(record)?),
        other => Record::Other(other),
    })
}

/// Bytes of a record of which the first five are known.
pub fn length(header: &[u8]) -> Option<usize> {
    header.get(4).map(|length| 5 + usize::from(*length))
}

/// What all sensor records begin with.
fn key(record: &[u8], name_at: usize) -> Option<SensorRecord> {
    let number = *record.get(7)?;
    Some(SensorRecord {
        name: id_string(record, name_at).unwrap_or_else(|| format!("sensor {number:#04x}")),
        owner: *record.get(5)?,
        lun: *record.get(6)? & 0x03,
        number,
        entity: names::entity(*record.get(8)?, *record.get(9)?),
        ..SensorRecord::default()
    })
}

/// What full and compact records have in common.
fn common(record: &[u8], name_at: usize) -> Option<SensorRecord> {
    Some(SensorRecord {
        kind: *record.get(12)?,
        event_type: *record.get(13)?,
        unit: names::unit(*record.get(20)?, *record.get(21)?, *record.get(22)?),
        state_mask: le16(record, 18)?,
        ..key(record, name_at)?
    })
}

/// 43.1.
fn full(record: &[u8]) -> Option<SensorRecord> {
    let mut sensor = common(record, 47)?;
    let format = record.get(20)? >> 6;
    if format != 3 {
        let mut factors = Factors::of(record.get(24..30)?);
        factors.format = format;
        factors.linearization = record.get(23)? & 0x7f;
        sensor.factors = Some(factors);
    }
    if sensor.event_type == 0x01 {
        // The record lists them from the top; the mask counts from the bottom.
        let is_readable = |bit: usize| sensor.state_mask >> bit & 1 == 1;
        sensor.thresholds = std::array::from_fn(|bit| record.get(41 - bit).copied().filter(|_| is_readable(bit)));
    }
    Some(sensor)
}

impl Factors {
    /// Six bytes, as in a full record (bytes 25 to 30) and in Get Sensor Reading Factors (35.5).
    pub fn of(bytes: &[u8]) -> Factors {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        // Ten bits with a sign, the upper two in the top of the next byte.
        let ten = |low: u8, high: u8| {
            let value = i16::from(low) | i16::from(high & 0xc0) << 2;
            if value >= 512 { value - 1024 } else { value }
        };
        let four = |nibble: u8| {
            let value = (nibble & 0x0f) as i8;
            if value >= 8 { value - 16 } else { value }
        };
        Factors {
            format: 0,
            linearization: 0,
            m: ten(byte(0), byte(1)),
            b: ten(byte(2), byte(3)),
            b_exponent: four(byte(5)),
            r_exponent: four(byte(5) >> 4),
        }
    }
}

/// 43.2.
fn compact(record: &[u8]) -> Option<Vec<SensorRecord>> {
    Some(shared(common(record, 31)?, *record.get(23)?, *record.get(24)?))
}

/// 43.3.
fn event_only(record: &[u8]) -> Option<Vec<SensorRecord>> {
    let sensor = SensorRecord {
        kind: *record.get(10)?,
        event_type: *record.get(11)?,
        event_only: true,
        ..key(record, 16)?
    };
    Some(shared(sensor, *record.get(12)?, *record.get(13)?))
}

/// Sensors that share a record have consecutive numbers and names that count on from an offset, in digits or letters.
fn shared(sensor: SensorRecord, sharing: u8, modifier: u8) -> Vec<SensorRecord> {
    let count = (sharing & 0x0f).min(MAX_SHARED);
    if count < 2 {
        return vec![sensor];
    }
    let offset = modifier & 0x7f;
    (0..count)
        .map(|at| {
            let mut one = sensor.clone();
            one.number = sensor.number.wrapping_add(at);
            let place = offset.wrapping_add(at);
            one.name = match sharing >> 4 & 3 {
                1 => format!("{}{}", sensor.name, char::from(b'A' + place % 26)),
                _ => format!("{}{place}", sensor.name),
            };
            one
        })
        .collect()
}

/// 43.8.
fn fru_device(record: &[u8]) -> Option<FruDevice> {
    let (address, id, access) = (*record.get(5)?, *record.get(6)?, *record.get(7)?);
    Some(FruDevice {
        name: id_string(record, 15),
        id,
        entity: names::entity(*record.get(12)?, *record.get(13)?),
        // Bit 7: logical, behind commands; bits 4:3 its logical unit.
        is_local: address == BMC_ADDRESS && access & 0x80 != 0 && access >> 3 & 3 == 0,
        content: fru_content(*record.get(10)?, *record.get(11)?),
    })
}

/// By device type and its modifier (table 43-12): EEPROMs and what is behind FRU commands say what they hold.
fn fru_content(kind: u8, modifier: u8) -> FruContent {
    match (kind, modifier) {
        (0x08..=0x10, 1) => FruContent::MemoryId,
        (0x08..=0x10, 3) => FruContent::Processor,
        _ => FruContent::Inventory,
    }
}

/// The id string whose type and length stand at an offset (43.15).
fn id_string(record: &[u8], at: usize) -> Option<String> {
    let head = *record.get(at)?;
    let data = record.get(at + 1..)?;
    let data = data.get(..usize::from(head & 0x1f)).unwrap_or(data);
    // Some makers end their text with a zero byte and count it.
    let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
    match head >> 6 {
        0 => field_text(3, data, false),
        3 => field_text(3, text, true),
        kind => field_text(kind, data, true),
    }
}

#[cfg(test)]
pub mod testing {
    //! Records put together for tests.

    /// A full record with the fields given by offset, and its name.
    pub fn full(fields: &[(usize, u8)], name: &str) -> Vec<u8> {
        record(0x01, 48, 47, fields, name)
    }

    pub fn record(kind: u8, head: usize, id_at: usize, fields: &[(usize, u8)], name: &str) -> Vec<u8> {
        let mut bytes = vec![0u8; head];
        bytes[2] = 0x51;
        bytes[3] = kind;
        bytes[5] = 0x20;
        for (at, value) in fields {
            bytes[*at] = *value;
        }
        bytes[id_at] = 0xc0 | name.len() as u8;
        bytes.extend(name.as_bytes());
        bytes[4] = (bytes.len() - 5) as u8;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{full, record};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_record_has_factors_and_thresholds() {
        // M = -3, B = 300, R exponent -2, B exponent 1; two's complement; upper critical and lower non-critical readable.
        let bytes = full(
            &[
                (7, 0x31),
                (8, 3),
                (9, 1),
                (12, 1),
                (13, 1),
                (18, 0b01_0001),
                (20, 0x80),
                (21, 1),
                (24, 0xfd),
                (25, 0xc0),
                (26, 0x2c),
                (27, 0x40),
                (29, 0xe1),
                (37, 95),
                (41, 5),
                (40, 3),
            ],
            "CPU1 Temp",
        );
        let Some(Record::Sensors(sensors)) = parse(&bytes) else {
            panic!()
        };
        let sensor = &sensors[0];
        assert_eq!(
            (sensor.name.as_str(), sensor.number, sensor.lun),
            ("CPU1 Temp", 0x31, 0)
        );
        assert_eq!(sensor.entity.as_deref(), Some("processor 1"));
        assert_eq!(sensor.unit.as_deref(), Some("degrees C"));
        let factors = sensor.factors.unwrap();
        assert_eq!(
            (factors.m, factors.b, factors.b_exponent, factors.r_exponent),
            (-3, 300, 1, -2)
        );
        assert_eq!(factors.format, 2);
        assert_eq!(sensor.thresholds, [Some(5), None, None, None, Some(95), None]);
        assert_eq!(length(&bytes), Some(bytes.len()));
    }

    #[test]
    fn one_compact_record_may_stand_for_several_sensors() {
        let bytes = record(
            0x02,
            32,
            31,
            &[
                (7, 0x80),
                (8, 10),
                (9, 1),
                (12, 8),
                (13, 0x6f),
                (20, 0xc0),
                (23, 0x03),
                (24, 1),
            ],
            "PSU",
        );
        let Some(Record::Sensors(sensors)) = parse(&bytes) else {
            panic!()
        };
        let told: Vec<_> = sensors
            .iter()
            .map(|sensor| (sensor.name.as_str(), sensor.number))
            .collect();
        assert_eq!(told, [("PSU1", 0x80), ("PSU2", 0x81), ("PSU3", 0x82)]);
        assert!(
            sensors
                .iter()
                .all(|sensor| sensor.factors.is_none() && !sensor.event_only)
        );
        let letters = record(
            0x03,
            17,
            16,
            &[(7, 1), (10, 8), (11, 0x6f), (12, 0x12), (13, 0)],
            "DIMM",
        );
        let Some(Record::Sensors(sensors)) = parse(&letters) else {
            panic!()
        };
        assert_eq!(sensors[1].name, "DIMMB");
        assert!(sensors[1].event_only);
    }

    #[test]
    fn units_behind_other_buses_are_told_apart() {
        let fru = |access: u8, address: u8| {
            let bytes = record(
                0x11,
                16,
                15,
                &[(5, address), (6, 3), (7, access), (12, 10), (13, 1)],
                "PSU1 FRU",
            );
            match parse(&bytes) {
                Some(Record::FruDevice(device)) => device,
                other => panic!("{other:?}"),
            }
        };
        assert!(fru(0x80, 0x20).is_local);
        assert!(!fru(0x00, 0x20).is_local);
        assert!(!fru(0x80, 0x2c).is_local);
        assert_eq!(fru(0x80, 0x20).name.as_deref(), Some("PSU1 FRU"));
        assert_eq!(parse(&[0, 0, 0x51, 0x12, 0]), Some(Record::Other(0x12)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            kind in prop_oneof![Just(1u8), Just(2), Just(3), Just(0x11), any::<u8>()],
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Some(slot) = bytes.get_mut(3) {
                *slot = kind;
            }
            if let Some(Record::Sensors(sensors)) = parse(&bytes) {
                prop_assert!(!sensors.is_empty() && sensors.len() <= usize::from(MAX_SHARED));
            }
        }
    }
}
