//! Words for the numbers of the specification: kinds of sensors, entities, units.

pub(crate) use super::events::{event, is_well};

/// Kinds of sensors (table 42-3), from 1 on.
const SENSOR_KINDS: [&str; 44] = [
    "temperature",
    "voltage",
    "current",
    "fan",
    "physical security",
    "platform security",
    "processor",
    "power supply",
    "power unit",
    "cooling device",
    "other units",
    "memory",
    "drive slot",
    "post memory resize",
    "system firmware progress",
    "event logging disabled",
    "watchdog 1",
    "system event",
    "critical interrupt",
    "button",
    "module or board",
    "microcontroller",
    "add-in card",
    "chassis",
    "chip set",
    "other fru",
    "cable or interconnect",
    "terminator",
    "system boot initiated",
    "boot error",
    "os boot",
    "os stop or shutdown",
    "slot or connector",
    "system acpi power state",
    "watchdog 2",
    "platform alert",
    "entity presence",
    "monitor asic",
    "lan",
    "management subsystem health",
    "battery",
    "session audit",
    "version change",
    "fru state",
];

/// Kind of a sensor.
pub(crate) fn sensor_kind(kind: u8) -> String {
    match usize::from(kind).checked_sub(1).and_then(|at| SENSOR_KINDS.get(at)) {
        Some(name) => (*name).to_owned(),
        None if kind >= 0xc0 => format!("oem {kind:#04x}"),
        None => format!("kind {kind:#04x}"),
    }
}

/// Base units (table 43-15), from 1 on; those after 66 count things.
const UNITS: [&str; 92] = [
    "degrees C",
    "degrees F",
    "degrees K",
    "Volts",
    "Amps",
    "Watts",
    "Joules",
    "Coulombs",
    "VA",
    "Nits",
    "lumen",
    "lux",
    "Candela",
    "kPa",
    "PSI",
    "Newton",
    "CFM",
    "RPM",
    "Hz",
    "microseconds",
    "milliseconds",
    "seconds",
    "minutes",
    "hours",
    "days",
    "weeks",
    "mil",
    "inches",
    "feet",
    "cubic inches",
    "cubic feet",
    "mm",
    "cm",
    "m",
    "cubic cm",
    "cubic m",
    "liters",
    "fluid ounces",
    "radians",
    "steradians",
    "revolutions",
    "cycles",
    "gravities",
    "ounces",
    "pounds",
    "foot pounds",
    "ounce inches",
    "gauss",
    "gilberts",
    "henry",
    "millihenry",
    "farad",
    "microfarad",
    "ohms",
    "siemens",
    "mole",
    "becquerel",
    "PPM",
    "",
    "dB",
    "dBA",
    "dBC",
    "gray",
    "sievert",
    "color temperature degrees K",
    "bits",
    "kilobits",
    "megabits",
    "gigabits",
    "bytes",
    "kilobytes",
    "megabytes",
    "gigabytes",
    "words",
    "double words",
    "quad words",
    "lines",
    "hits",
    "misses",
    "retries",
    "resets",
    "overruns",
    "underruns",
    "collisions",
    "packets",
    "messages",
    "characters",
    "errors",
    "correctable errors",
    "uncorrectable errors",
    "fatal errors",
    "grams",
];

/// The unit out of the three bytes of a record (43.1, bytes 21 to 23): `RPM`, `% of Watts`, `packets/second`.
pub(crate) fn unit(units_1: u8, base: u8, modifier: u8) -> Option<String> {
    let named = |number: u8| {
        let name = UNITS
            .get(usize::from(number).checked_sub(1)?)
            .filter(|name| !name.is_empty())?;
        Some((*name).to_owned())
    };
    let mut unit = named(base);
    if let (Some(base), Some(modifier)) = (&unit, named(modifier)) {
        unit = match units_1 >> 1 & 3 {
            1 => Some(format!("{base}/{modifier}")),
            2 => Some(format!("{base}*{modifier}")),
            _ => unit,
        };
    }
    let rate = match units_1 >> 3 & 7 {
        1 => "/microsecond",
        2 => "/millisecond",
        3 => "/second",
        4 => "/minute",
        5 => "/hour",
        6 => "/day",
        _ => "",
    };
    let unit = match (unit, units_1 & 1) {
        (Some(unit), 1) => format!("% of {unit}"),
        (Some(unit), _) => unit,
        (None, 1) => "%".to_owned(),
        (None, _) => return None,
    };
    Some(format!("{unit}{rate}"))
}

/// Entities (table 43-13), by number.
const ENTITIES: [(u8, &str); 64] = [
    (1, "other"),
    (2, "unknown"),
    (3, "processor"),
    (4, "disk"),
    (5, "peripheral bay"),
    (6, "management module"),
    (7, "system board"),
    (8, "memory module"),
    (9, "processor module"),
    (10, "power supply"),
    (11, "add-in card"),
    (12, "front panel board"),
    (13, "back panel board"),
    (14, "power system board"),
    (15, "drive backplane"),
    (16, "expansion board"),
    (17, "other system board"),
    (18, "processor board"),
    (19, "power unit"),
    (20, "power module"),
    (21, "power distribution"),
    (22, "chassis back panel board"),
    (23, "system chassis"),
    (24, "sub-chassis"),
    (25, "other chassis board"),
    (26, "disk drive bay"),
    (27, "peripheral bay"),
    (28, "device bay"),
    (29, "fan"),
    (30, "cooling unit"),
    (31, "cable"),
    (32, "memory device"),
    (33, "management software"),
    (34, "system firmware"),
    (35, "operating system"),
    (36, "system bus"),
    (37, "group"),
    (38, "remote management device"),
    (39, "external environment"),
    (40, "battery"),
    (41, "processing blade"),
    (42, "connectivity switch"),
    (43, "processor and memory module"),
    (44, "i/o module"),
    (45, "processor and i/o module"),
    (46, "management controller firmware"),
    (47, "ipmi channel"),
    (48, "pci bus"),
    (49, "pci express bus"),
    (50, "scsi bus"),
    (51, "sata or sas bus"),
    (52, "front side bus"),
    (53, "real time clock"),
    (55, "air inlet"),
    (64, "air inlet"),
    (65, "processor"),
    (66, "baseboard"),
    // Boards of AdvancedTCA (PICMG 3.0).
    (160, "front board"),
    (192, "rear transition module"),
    (193, "advanced mezzanine card"),
    (240, "shelf manager"),
    (241, "filtration unit"),
    (242, "shelf fru information"),
    (243, "alarm panel"),
];

/// `processor 1`; the instance counts within the machine, or within one controller from 60h on.
pub(crate) fn entity(id: u8, instance: u8) -> Option<String> {
    let instance = instance & 0x7f;
    if id == 0 {
        return None;
    }
    let known = ENTITIES.iter().find(|(number, _)| *number == id);
    let name = known.map_or_else(|| format!("entity {id:#04x}"), |(_, name)| (*name).to_owned());
    Some(match instance {
        0 => name,
        0x60.. => format!("{name} {}", instance - 0x60),
        instance => format!("{name} {instance}"),
    })
}

#[cfg(test)]
mod tests {
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
        assert!(ENTITIES.is_sorted_by(|(one, _), (next, _)| one < next));
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
