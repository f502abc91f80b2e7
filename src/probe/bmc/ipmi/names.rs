//! Words for the numbers of the specification: kinds of sensors, entities, units, events and states.

use crate::formats::tables;

/// The lists, each with its table of the specification.
const NAMES: &str = include_str!("names.tsv");

/// The name of a number in one of the lists.
pub(crate) fn known(list: &str, code: u8) -> Option<&'static str> {
    tables::name(NAMES, list, code)
}

/// The same for numbers that must be told in any case.
pub(crate) fn name_or(list: &str, code: u8, unknown: impl FnOnce() -> String) -> String {
    known(list, code).map_or_else(unknown, str::to_owned)
}

/// The names of the bits that are set.
pub(crate) fn set(list: &str, bits: u8) -> Vec<String> {
    tables::set_names(NAMES, list, bits)
}

/// Kind of a sensor.
pub(crate) fn sensor_kind(kind: u8) -> String {
    let word = if kind >= 0xc0 { "oem" } else { "kind" };
    name_or("sensor kind", kind, || format!("{word} {kind:#04x}"))
}

/// The unit out of the three bytes of a record (43.1, bytes 21 to 23): `RPM`, `% of Watts`, `packets/second`.
pub(crate) fn unit(units_1: u8, base: u8, modifier: u8) -> Option<String> {
    let unit = match (known("unit", base), known("unit", modifier), units_1 >> 1 & 3) {
        (Some(base), Some(modifier), 1) => Some(format!("{base}/{modifier}")),
        (Some(base), Some(modifier), 2) => Some(format!("{base}*{modifier}")),
        (base, ..) => base.map(str::to_owned),
    };
    let rate = known("rate", units_1 >> 3 & 7).unwrap_or_default();
    let unit = match (unit, units_1 & 1) {
        (Some(unit), 1) => format!("% of {unit}"),
        (Some(unit), _) => unit,
        (None, 1) => "%".to_owned(),
        (None, _) => return None,
    };
    Some(format!("{unit}{rate}"))
}

/// `processor 1`; the instance counts within the machine, or within one controller from 60h on.
pub(crate) fn entity(id: u8, instance: u8) -> Option<String> {
    if id == 0 {
        return None;
    }
    let name = name_or("entity", id, || format!("entity {id:#04x}"));
    Some(match instance & 0x7f {
        0 => name,
        instance @ 0x60.. => format!("{name} {}", instance - 0x60),
        instance => format!("{name} {instance}"),
    })
}

/// What an offset of an event means: generic by its type, or by the kind of sensor for type 6Fh.
pub(crate) fn event(event_type: u8, sensor_kind: u8, offset: u8) -> String {
    let list = match event_type {
        0x6f => format!("event 0x6f {sensor_kind:#04x}"),
        _ => format!("event {event_type:#04x}"),
    };
    // Not every type and kind has a list.
    tables::name_if_listed(NAMES, &list, offset).map_or_else(|| format!("state {offset}"), str::to_owned)
}

/// True for states that say "well": presence of a part, a working machine, full redundancy.
pub(crate) fn is_well(state: &str) -> bool {
    tables::rows(NAMES).any(|[_, _, name, mark]| mark == "well" && name == state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tables_stand_where_the_specification_numbers_them() {
        assert_eq!(sensor_kind(0x01), "temperature");
        assert_eq!(sensor_kind(0x0d), "drive slot");
        assert_eq!(sensor_kind(0x23), "watchdog 2");
        assert_eq!(sensor_kind(0x2c), "fru state");
        assert_eq!(sensor_kind(0xc3), "oem 0xc3");
        assert_eq!(sensor_kind(0), "kind 0x00");
        assert_eq!(unit(0, 18, 0).as_deref(), Some("RPM"));
        assert_eq!(unit(0, 54, 0).as_deref(), Some("ohms"));
        assert_eq!(unit(0, 65, 0).as_deref(), Some("color temperature degrees K"));
        assert_eq!(unit(0, 92, 0).as_deref(), Some("grams"));
        assert_eq!(unit(1, 0, 0).as_deref(), Some("%"));
        assert_eq!(unit(0b0001_1000, 85, 0).as_deref(), Some("packets/second"));
        assert_eq!(unit(0b010, 6, 24).as_deref(), Some("Watts/hours"));
        assert_eq!(unit(0, 0, 0), None);
        assert_eq!(entity(10, 2).as_deref(), Some("power supply 2"));
        assert_eq!(entity(10, 0x61).as_deref(), Some("power supply 1"));
        assert_eq!(entity(29, 0x80).as_deref(), Some("fan"));
        assert_eq!(entity(43, 1).as_deref(), Some("processor and memory module 1"));
        assert_eq!(entity(160, 0x60).as_deref(), Some("front board 0"));
        let (mut last, mut begun) = (("", None), BTreeSet::new());
        for [list, number, name, mark] in tables::rows(NAMES) {
            let number = tables::number(number);
            assert!(
                number.is_some() && !name.is_empty() && matches!(mark, "" | "well"),
                "{list} {name}"
            );
            // A list stands in one place, in the order of its numbers.
            let next = if list == last.0 {
                last.1 < number
            } else {
                begun.insert(list)
            };
            assert!(next, "{list} {name}");
            last = (list, number);
        }
        assert_eq!(event(0x6f, 0x08, 3), "input lost");
        assert_eq!(event(0x6f, 0x0c, 1), "uncorrectable ECC");
        assert_eq!(event(0x6f, 0x23, 8), "timer interrupt");
        assert_eq!(event(0x01, 0x01, 9), "upper critical going high");
        assert_eq!(event(0x0b, 0x08, 1), "redundancy lost");
        assert_eq!(event(0x70, 0x08, 1), "state 1");
    }

    #[test]
    fn every_number_has_words() {
        for a in 0..=255 {
            let _ = (sensor_kind(a), entity(a, a), unit(a, a, a));
            for b in 0..16 {
                assert!(!event(0x6f, a, b).is_empty() && !event(a, 1, b).is_empty());
            }
        }
    }
}
