//! What sensors read now: raw answers → numbers with units, and states by name.

use super::sdr_record::{BMC_ADDRESS, Factors, SensorRecord};
use super::{Ipmi, Refusal, SENSOR, names};
use crate::model::inventory::Sensor;

/// Sensors with thresholds (table 42-1).
const THRESHOLD: u8 = 0x01;
/// The factors differ from reading to reading (table 43-1, byte 24).
const NON_LINEAR: u8 = 0x70;

/// Get Sensor Reading (35.14) for one sensor. Only sensors of the controller itself are asked; event-only ones have
/// nothing to read.
pub(crate) fn read(ipmi: &mut Ipmi<'_>, record: &SensorRecord) -> Result<Sensor, Refusal> {
    let mut sensor = described(record);
    if record.event_only {
        sensor.unavailable = Some("sends events only".to_owned());
        return Ok(sensor);
    }
    if record.owner != BMC_ADDRESS {
        sensor.owner = Some(record.owner);
        sensor.unavailable = Some("belongs to another controller".to_owned());
        return Ok(sensor);
    }
    let data = [record.number];
    let answer = match ipmi.send_as(&data, record.lun, SENSOR, 0x2d, &data) {
        Ok(answer) => answer,
        Err(refusal) if refusal.is_final() => return Err(refusal),
        Err(Refusal::Code(0xcb)) => {
            sensor.unavailable = Some("not present".to_owned());
            return Ok(sensor);
        }
        Err(refusal) => {
            sensor.unavailable = Some(refusal.to_string());
            return Ok(sensor);
        }
    };
    let mut factors = record.factors;
    if let (Some(own), Some(raw)) = (&mut factors, answer.first())
        && own.linearization == NON_LINEAR
        && is_readable(&answer)
    {
        // Get Sensor Reading Factors (35.5).
        match ipmi.send_as(&[record.number, *raw], record.lun, SENSOR, 0x23, &[record.number, *raw]) {
            Ok(answer) => {
                let format = own.format;
                *own = Factors::of(answer.get(1..).unwrap_or_default());
                own.format = format;
            }
            Err(refusal) if refusal.is_final() => return Err(refusal),
            Err(_) => factors = None,
        }
    }
    apply(record, factors, &answer, &mut sensor);
    Ok(sensor)
}

/// The sensor without its reading.
pub(crate) fn described(record: &SensorRecord) -> Sensor {
    let limit = |at: usize| {
        let raw = (*record.thresholds.get(at)?)?;
        convert(&record.factors?, raw)
    };
    Sensor {
        name: record.name.clone(),
        number: record.number,
        lun: record.lun,
        kind: names::sensor_kind(record.kind),
        entity: record.entity.clone(),
        unit: record.unit.clone().filter(|_| record.factors.is_some()),
        lower_non_critical: limit(0),
        lower_critical: limit(1),
        lower_non_recoverable: limit(2),
        upper_non_critical: limit(3),
        upper_critical: limit(4),
        upper_non_recoverable: limit(5),
        ..Sensor::default()
    }
}

/// Scanning is on and there is a reading.
fn is_readable(answer: &[u8]) -> bool {
    matches!(answer, [_, flags, ..] if flags & 0x40 != 0 && flags & 0x20 == 0)
}

fn apply(record: &SensorRecord, factors: Option<Factors>, answer: &[u8], sensor: &mut Sensor) {
    let [raw, flags, states @ ..] = answer else {
        sensor.unavailable = Some("the answer is too short".to_owned());
        return;
    };
    if flags & 0x20 != 0 {
        sensor.unavailable = Some("no reading".to_owned());
        return;
    }
    if flags & 0x40 == 0 {
        sensor.unavailable = Some("scanning is off".to_owned());
        return;
    }
    let byte = |at: usize| states.get(at).copied().unwrap_or(0);
    if record.event_type == THRESHOLD {
        sensor.value = factors.and_then(|factors| convert(&factors, *raw));
        sensor.status = Some(status(byte(0)).to_owned());
        return;
    }
    // A state sensor may have a number as well, such as a power supply's load.
    if let Some(factors) = factors.filter(|factors| factors.m != 0 && record.unit.is_some()) {
        sensor.value = convert(&factors, *raw);
    }
    let held = u16::from_le_bytes([byte(0), byte(1)]) & 0x7fff;
    let possible = if record.state_mask == 0 {
        0x7fff
    } else {
        record.state_mask
    };
    sensor.states = (0..15u8)
        .filter(|offset| held & possible & (1 << offset) != 0)
        .map(|offset| names::event(record.event_type, record.kind, offset))
        .collect();
}

/// The worst comparison that holds (35.14, byte 4).
fn status(comparisons: u8) -> &'static str {
    const WORST_FIRST: [(u8, &str); 6] = [
        (5, "upper non-recoverable"),
        (2, "lower non-recoverable"),
        (4, "upper critical"),
        (1, "lower critical"),
        (3, "upper non-critical"),
        (0, "lower non-critical"),
    ];
    let held = WORST_FIRST.iter().find(|(bit, _)| comparisons >> bit & 1 == 1);
    held.map_or("ok", |(_, name)| name)
}

/// The number that a raw reading stands for (36.3), rounded to a millionth. `None` for a maker's own formula, and for
/// results that are no number.
pub(crate) fn convert(factors: &Factors, raw: u8) -> Option<f64> {
    let x = match factors.format {
        0 => f64::from(raw),
        1 => f64::from(if raw & 0x80 != 0 {
            (raw as i8).saturating_add(1)
        } else {
            raw as i8
        }),
        2 => f64::from(raw as i8),
        _ => return None,
    };
    let ten = |exponent: i8| 10f64.powi(i32::from(exponent));
    let y = (f64::from(factors.m) * x + f64::from(factors.b) * ten(factors.b_exponent)) * ten(factors.r_exponent);
    let value = match factors.linearization {
        0 | NON_LINEAR => y,
        1 => y.ln(),
        2 => y.log10(),
        3 => y.log2(),
        4 => y.exp(),
        5 => 10f64.powf(y),
        6 => y.exp2(),
        7 => 1.0 / y,
        8 => y * y,
        9 => y * y * y,
        10 => y.sqrt(),
        11 => y.cbrt(),
        _ => return None,
    };
    // Adding zero turns the zero below zero into the plain one.
    let rounded = (value * 1e6).round() / 1e6 + 0.0;
    // A plain zero, whichever side it was rounded from.
    rounded.is_finite().then_some(rounded + 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::linked;
    use super::*;
    use proptest::prelude::*;

    fn record(event_type: u8, kind: u8) -> SensorRecord {
        SensorRecord {
            name: "S".to_owned(),
            number: 0x31,
            owner: BMC_ADDRESS,
            event_type,
            kind,
            ..SensorRecord::default()
        }
    }

    fn factors(m: i16, b: i16, b_exponent: i8, r_exponent: i8) -> Factors {
        Factors {
            m,
            b,
            b_exponent,
            r_exponent,
            ..Factors::default()
        }
    }

    #[test]
    fn readings_become_numbers() {
        assert_eq!(convert(&factors(1, 0, 0, 0), 0x2a), Some(42.0));
        assert_eq!(convert(&factors(63, 0, 0, -3), 0xc0), Some(12.096));
        assert_eq!(convert(&factors(120, 0, 0, 0), 55), Some(6600.0));
        assert_eq!(convert(&factors(2, 5, 1, -1), 10), Some(7.0));
        let with = |format, linearization| Factors {
            format,
            linearization,
            ..factors(1, 0, 0, 0)
        };
        assert_eq!(convert(&with(2, 0), 0xfb), Some(-5.0));
        assert_eq!(convert(&with(1, 0), 0xfa), Some(-5.0));
        assert_eq!(convert(&with(1, 0), 0xff), Some(0.0));
        assert_eq!(convert(&with(0, 7), 4), Some(0.25));
        assert_eq!(convert(&with(0, 7), 0), None, "one by zero");
        assert_eq!(convert(&with(0, 10), 9), Some(3.0));
        assert_eq!(convert(&with(3, 0), 9), None);
        assert_eq!(convert(&with(0, 0x71), 9), None);
    }

    #[test]
    fn a_temperature_over_its_limit() {
        let record = SensorRecord {
            factors: Some(factors(1, 0, 0, 0)),
            unit: Some("degrees C".to_owned()),
            thresholds: [None, None, None, Some(85), Some(95), None],
            ..record(THRESHOLD, 1)
        };
        let sensor = linked(
            |netfn, cmd, data| {
                assert_eq!((netfn, cmd, data), (SENSOR, 0x2d, &[0x31][..]));
                Ok(vec![0, 97, 0xc0, 0x18])
            },
            |ipmi| read(ipmi, &record),
        )
        .unwrap();
        assert_eq!(sensor.value, Some(97.0));
        assert_eq!(sensor.status.as_deref(), Some("upper critical"));
        assert_eq!(
            (sensor.upper_non_critical, sensor.upper_critical),
            (Some(85.0), Some(95.0))
        );
    }

    #[test]
    fn states_have_names_and_absent_sensors_a_reason() {
        let supply = SensorRecord {
            state_mask: 0x000f,
            ..record(0x6f, 0x08)
        };
        let answered =
            |answer: &'static [u8]| linked(move |_, _, _| Ok(answer.to_vec()), |ipmi| read(ipmi, &supply)).unwrap();
        assert_eq!(
            answered(&[0, 0, 0xc0, 0x09, 0x80]).states,
            ["presence detected", "input lost"]
        );
        assert_eq!(answered(&[0, 0, 0xe0, 0]).unavailable.as_deref(), Some("no reading"));
        assert_eq!(
            answered(&[0, 0, 0x80, 0]).unavailable.as_deref(),
            Some("scanning is off")
        );
        assert_eq!(answered(&[0xcb]).unavailable.as_deref(), Some("not present"));
        let foreign = SensorRecord {
            owner: 0x2c,
            ..supply.clone()
        };
        let sensor = linked(|_, _, _| panic!("asked"), |ipmi| read(ipmi, &foreign)).unwrap();
        assert_eq!(sensor.owner, Some(0x2c));
    }

    #[test]
    fn a_sensor_that_is_not_linear_has_factors_for_each_reading() {
        let record = SensorRecord {
            factors: Some(Factors {
                linearization: NON_LINEAR,
                ..factors(0, 0, 0, 0)
            }),
            ..record(THRESHOLD, 2)
        };
        let sensor = linked(
            |_, cmd, data| {
                Ok(match cmd {
                    0x2d => vec![0, 20, 0xc0, 0],
                    _ => {
                        assert_eq!(data, [0x31, 20]);
                        vec![0, 21, 3, 0, 0, 0, 0, 0xf0]
                    }
                })
            },
            |ipmi| read(ipmi, &record),
        )
        .unwrap();
        assert_eq!(sensor.value, Some(6.0));
    }

    proptest! {
        #[test]
        fn any_reading_is_a_number_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..8), raw: u8, format: u8, l: u8) {
            let factors = Factors { format: format % 4, linearization: l % 0x74, ..Factors::of(&bytes) };
            if let Some(value) = convert(&factors, raw) {
                prop_assert!(value.is_finite());
            }
            let any = SensorRecord { factors: Some(factors), state_mask: u16::from(raw), ..record(l, format) };
            apply(&any, Some(factors), &bytes, &mut described(&any));
        }
    }
}
