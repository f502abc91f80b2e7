//! What the second and third byte of an event's data say (IPMI 2.0, tables 29-6 and 42-3). Pure.
//!
//! The first byte tells for each of the two what it holds: nothing, what the class of the event defines, a code of the
//! maker's own, or the extension that table 42-3 gives for this event. A maker's code names no part: which module a
//! board means by 31h is known to that board's maker only.

use super::names;
use super::reading::convert;
use super::sdr_record::SensorRecord;

/// What one byte holds, out of its two bits of the first one (29.7).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Unspecified,
    /// Reading and threshold, or the state before.
    Trigger,
    Oem,
    Extension,
}

impl Holds {
    fn of(bits: u8) -> Holds {
        match bits & 3 {
            0 => Holds::Unspecified,
            1 => Holds::Trigger,
            2 => Holds::Oem,
            _ => Holds::Extension,
        }
    }
}

/// One event's data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventData {
    /// Event/reading type, without the direction.
    pub event_type: u8,
    pub sensor_kind: u8,
    pub bytes: [u8; 3],
}

/// A code by its list in [`names`].
fn named(list: &str, code: u8) -> String {
    names::name_or(list, code, || format!("code {code:#04x}"))
}

impl EventData {
    /// What the first byte says happened.
    pub(crate) fn offset(&self) -> u8 {
        self.bytes[0] & 0x0f
    }

    /// What the second and third byte say; nothing where they say nothing. `record` has the factors of a reading.
    pub(crate) fn detail(&self, record: Option<&SensorRecord>) -> Option<String> {
        let [first, second, third] = self.bytes;
        let (in_second, in_third) = (Holds::of(first >> 6), Holds::of(first >> 4));
        let is_threshold = self.event_type == 0x01;
        // The unit stands once.
        let without_unit = (in_second == Holds::Trigger).then(|| SensorRecord {
            unit: None,
            ..record.cloned().unwrap_or_default()
        });
        let limit = without_unit.as_ref().or(record);
        joined([
            match in_second {
                Holds::Trigger if is_threshold => Some(converted("reading", second, record)),
                Holds::Trigger => self.before(second),
                _ => self.coded(in_second, 2, second),
            },
            match in_third {
                Holds::Trigger if is_threshold => Some(converted("threshold", third, limit)),
                // It is never a state.
                _ => self.coded(in_third, 3, third),
            },
        ])
    }

    /// The state before and a severity, a nibble each; Fh is unspecified.
    fn before(&self, byte: u8) -> Option<String> {
        let (severity, state) = (byte >> 4, byte & 0x0f);
        joined([
            (state != 0x0f).then(|| format!("before: {}", names::event(self.event_type, self.sensor_kind, state))),
            (severity != 0x0f).then(|| format!("severity: {}", names::event(0x07, 0, severity))),
        ])
    }

    /// A byte that is a code of the maker's or an extension; FFh stands for none.
    fn coded(&self, holds: Holds, place: u8, byte: u8) -> Option<String> {
        match holds {
            Holds::Unspecified | Holds::Trigger => None,
            _ if byte == 0xff => None,
            Holds::Oem => Some(format!("OEM byte {place} {byte:#04x}")),
            Holds::Extension => {
                let known = match (self.event_type, place) {
                    (0x6f, 2) => self.second(byte),
                    (0x6f, _) => self.third(byte),
                    _ => None,
                };
                known.or_else(|| Some(format!("extension byte {place} {byte:#04x}")))
            }
        }
    }

    /// The extension in the second byte, where table 42-3 has one.
    fn second(&self, byte: u8) -> Option<String> {
        let (high, low) = (byte >> 4, byte & 0x0f);
        Some(match (self.sensor_kind, self.offset()) {
            (0x05, 4) => format!("network controller {byte}"),
            (0x0f, 0) => named("firmware error", byte),
            (0x0f, 1 | 2) => named("firmware progress", byte),
            (0x10, 0) => format!("module {byte}"),
            (0x10, 1) => format!("event type {byte:#04x}"),
            (0x10, 6) => format!("processor {byte}"),
            (0x12, 3) => format!("{} of {}", named("log action", high), named("log", low)),
            (0x12, 4) => {
                let actions = names::set("filter action", byte);
                return (!actions.is_empty()).then(|| actions.join(", "));
            }
            (0x12, 5) => format!(
                "{} of pair, {}",
                if byte & 0x80 == 0 { "first" } else { "second" },
                named("clock", low)
            ),
            // Nobody asks for "unknown".
            (0x19, 0) if byte == 0x0d => format!("asked for code {byte:#04x}"),
            (0x19, 0) => format!("asked for {}", named("power state", byte)),
            (0x1d, 7) => super::chassis::restart_cause_text(low),
            (0x21, _) => format!("{} slot", named("slot", byte & 0x7f)),
            (0x23, _) => {
                let interrupt = (high != 0x0f).then(|| format!("{} interrupt", named("interrupt", high)));
                let used = (low != 0x0f).then(|| format!("used for {}", named("timer use", low)));
                return joined([interrupt, used]);
            }
            (0x28, 0 | 4) => format!("sensor {byte:#04x}"),
            (0x28, 5) => {
                let kind = if byte & 0x80 == 0 { "not logical" } else { "logical" };
                format!("{kind}, lun {}, private bus {}", byte >> 3 & 3, byte & 7)
            }
            (0x2a, _) if byte & 0x3f == 0 => "user unspecified".to_owned(),
            (0x2a, _) => format!("user {}", byte & 0x3f),
            (0x2b, _) => named("version change", byte),
            (0x2c, _) => {
                let cause = (high != 0x0f).then(|| named("unit cause", high));
                let before = format!("before: {}", names::event(0x6f, 0x2c, low));
                return joined([cause, Some(before)]);
            }
            _ => return None,
        })
    }

    /// The extension in the third byte, where table 42-3 has one.
    fn third(&self, byte: u8) -> Option<String> {
        Some(match (self.sensor_kind, self.offset()) {
            (0x08, 6) => named("supply error", byte & 0x0f),
            (0x0c, _) => format!("module {byte}"),
            (0x10, 1) if byte & 0x20 != 0 => "all events of that type".to_owned(),
            (0x10, 1) => format!(
                "{} of offset {}",
                if byte & 0x10 == 0 { "deassertion" } else { "assertion" },
                byte & 0x0f
            ),
            (0x10, 5) => format!("{byte} % full"),
            (0x10, 6) if byte & 0x80 == 0 => "counted by instance".to_owned(),
            (0x10, 6) => "counted by the maker".to_owned(),
            (0x19, 0) => format!("was in {}", named("power state", byte)),
            (0x1d, 7) => format!("channel {}", byte & 0x0f),
            (0x21, _) => format!("number {byte}"),
            (0x28, 5) => format!("unit {byte:#04x}"),
            (0x2a, offset) => {
                let cause = names::known("session end", byte >> 4 & 3).filter(|_| offset == 1);
                return joined([Some(format!("channel {}", byte & 0x0f)), cause.map(str::to_owned)]);
            }
            _ => return None,
        })
    }
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A raw reading in its sensor's unit, or as it is where the sensor's factors are not known.
fn converted(name: &str, raw: u8, record: Option<&SensorRecord>) -> String {
    match record.and_then(|record| convert(record.factors.as_ref()?, raw)) {
        Some(value) => {
            let unit = record.and_then(|record| record.unit.as_deref()).unwrap_or_default();
            format!("{name} {value} {unit}").trim_end().to_owned()
        }
        None => format!("raw {name} {raw:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sdr_record::Factors;
    use super::*;
    use proptest::prelude::*;

    fn told(event_type: u8, sensor_kind: u8, bytes: [u8; 3]) -> String {
        let data = EventData {
            event_type,
            sensor_kind,
            bytes,
        };
        data.detail(None).unwrap_or_default()
    }

    #[test]
    fn a_module_is_named_only_where_the_third_byte_is_the_extension_that_says_so() {
        assert_eq!(told(0x6f, 0x0c, [0x30, 0xff, 0x05]), "module 5");
        assert_eq!(told(0x6f, 0x0c, [0xf1, 0xff, 0x05]), "module 5");
        // The makers' own codes: three boards, a module that none of them means.
        assert_eq!(told(0x6f, 0x0c, [0xa0, 0x02, 0x31]), "OEM byte 2 0x02, OEM byte 3 0x31");
        assert_eq!(told(0x6f, 0x0c, [0xa1, 0xff, 0x11]), "OEM byte 3 0x11");
        assert_eq!(told(0x6f, 0x0c, [0x20, 0xff, 0x80]), "OEM byte 3 0x80");
        // Nothing said, a reserved coding, and "unspecified".
        assert_eq!(told(0x6f, 0x0c, [0x00, 0x12, 0x34]), "");
        assert_eq!(told(0x6f, 0x0c, [0x11, 0xff, 0x05]), "");
        assert_eq!(told(0x6f, 0x0c, [0x30, 0xff, 0xff]), "");
        // The extension of one type of event is not that of another.
        assert_eq!(told(0x07, 0x0c, [0x32, 0xff, 0x05]), "extension byte 3 0x05");
        assert_eq!(told(0x70, 0x0c, [0xa0, 0x01, 0x05]), "OEM byte 2 0x01, OEM byte 3 0x05");
    }

    #[test]
    fn a_makers_codes_of_a_bus_error_are_no_place_on_the_bus() {
        assert_eq!(told(0x6f, 0x13, [0xa8, 0x17, 0x18]), "OEM byte 2 0x17, OEM byte 3 0x18");
    }

    #[test]
    fn the_state_before_and_its_severity_are_told() {
        assert_eq!(told(0x0b, 0x08, [0x41, 0xf0, 0xff]), "before: fully redundant");
        assert_eq!(
            told(0x6f, 0x08, [0x43, 0x20, 0xff]),
            "before: presence detected, severity: critical from less severe"
        );
        assert_eq!(told(0x03, 0x01, [0x41, 0xff, 0xff]), "");
    }

    #[test]
    fn extensions_are_those_of_the_table() {
        for (kind, bytes, text) in [
            (0x05, [0xc4, 0x01, 0xff], "network controller 1"),
            (0x08, [0x36, 0xff, 0x04], "voltage rating mismatch"),
            (0x0f, [0xc0, 0x01, 0xff], "no memory installed"),
            (0x0f, [0xc2, 0x13, 0xff], "starting the operating system"),
            (0x0f, [0xc1, 0x15, 0xff], "code 0x15"),
            (0x0f, [0xa2, 0x13, 0xff], "OEM byte 2 0x13"),
            (0x10, [0xc0, 0x03, 0xff], "module 3"),
            (0x10, [0xf1, 0x6f, 0x12], "event type 0x6f, assertion of offset 2"),
            (0x10, [0x35, 0xff, 75], "75 % full"),
            (0x12, [0xc3, 0x30, 0xff], "log cleared of machine check log"),
            (0x12, [0xc4, 0x09, 0xff], "alert, power cycle"),
            (0x12, [0xc5, 0x80, 0xff], "second of pair, sel clock"),
            (0x19, [0xf0, 0x05, 0x00], "asked for S5/G2, was in S0/G0"),
            (0x1d, [0xf7, 0x01, 0x02], "chassis control command, channel 2"),
            (0x21, [0xf0, 0x09, 0x04], "PCI Express slot, number 4"),
            (0x23, [0xc1, 0x24, 0xff], "NMI interrupt, used for SMS/OS"),
            (0x23, [0xc0, 0xf2, 0xff], "used for BIOS/POST"),
            (0x28, [0xc4, 0x30, 0xff], "sensor 0x30"),
            (0x2a, [0xf1, 0x02, 0x21], "user 2, channel 1, timed out"),
            (0x2a, [0xf0, 0x02, 0x21], "user 2, channel 1"),
            (0x2b, [0xc1, 0x02, 0xff], "controller firmware"),
            (0x2c, [0xc1, 0x30, 0xff], "hot swap button, before: not installed"),
        ] {
            assert_eq!(told(0x6f, kind, bytes), text, "{kind:#04x} {bytes:02x?}");
        }
    }

    #[test]
    fn reading_and_threshold_stand_each_for_itself() {
        let sensor = SensorRecord {
            unit: Some("degrees C".to_owned()),
            factors: Some(Factors {
                m: 1,
                ..Factors::default()
            }),
            ..SensorRecord::default()
        };
        let told = |bytes| {
            let data = EventData {
                event_type: 0x01,
                sensor_kind: 0x01,
                bytes,
            };
            (
                data.detail(Some(&sensor)).unwrap_or_default(),
                data.detail(None).unwrap_or_default(),
            )
        };
        let (known, raw) = told([0x59, 47, 45]);
        assert_eq!(known, "reading 47 degrees C, threshold 45");
        assert_eq!(raw, "raw reading 0x2f, raw threshold 0x2d");
        assert_eq!(told([0x19, 0xff, 45]).0, "threshold 45 degrees C");
        assert_eq!(told([0x49, 47, 0xff]).0, "reading 47 degrees C");
        assert_eq!(told([0xa9, 47, 45]).0, "OEM byte 2 0x2f, OEM byte 3 0x2d");
        assert_eq!(told([0x09, 47, 45]).0, "");
    }

    proptest! {
        #[test]
        fn any_data_is_short_text_and_a_module_only_by_extension(event_type: u8, sensor_kind: u8, bytes: [u8; 3]) {
            let text = told(event_type, sensor_kind, bytes);
            prop_assert!(text.len() < 120);
            let extended = bytes[0] & 0x30 == 0x30 || bytes[0] & 0xc0 == 0xc0;
            prop_assert!(extended || !text.contains("module "));
        }
    }
}
