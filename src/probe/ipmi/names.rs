//! Words for the numbers of the specification: kinds of sensors, entities, units, and what events mean.

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
pub fn sensor_kind(kind: u8) -> String {
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
pub fn unit(units_1: u8, base: u8, modifier: u8) -> Option<String> {
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
const ENTITIES: [(u8, &str); 58] = [
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
    (43, "memory module"),
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
    (160, "chassis"),
];

/// `processor 1`; the instance counts within the machine, or within one controller from 60h on.
pub fn entity(id: u8, instance: u8) -> Option<String> {
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

/// Generic events (table 42-2), by type and offset.
fn generic(kind: u8) -> &'static [&'static str] {
    match kind {
        0x01 => &[
            "lower non-critical going low",
            "lower non-critical going high",
            "lower critical going low",
            "lower critical going high",
            "lower non-recoverable going low",
            "lower non-recoverable going high",
            "upper non-critical going low",
            "upper non-critical going high",
            "upper critical going low",
            "upper critical going high",
            "upper non-recoverable going low",
            "upper non-recoverable going high",
        ],
        0x02 => &["idle", "active", "busy"],
        0x03 => &["state deasserted", "state asserted"],
        0x04 => &["no predictive failure", "predictive failure"],
        0x05 => &["limit not exceeded", "limit exceeded"],
        0x06 => &["performance met", "performance lags"],
        0x07 => &[
            "ok",
            "non-critical from ok",
            "critical from less severe",
            "non-recoverable from less severe",
            "non-critical from more severe",
            "critical from non-recoverable",
            "non-recoverable",
            "monitor",
            "informational",
        ],
        0x08 => &["absent", "present"],
        0x09 => &["disabled", "enabled"],
        0x0a => &[
            "running",
            "in test",
            "power off",
            "on line",
            "off line",
            "off duty",
            "degraded",
            "power save",
            "install error",
        ],
        0x0b => &[
            "fully redundant",
            "redundancy lost",
            "redundancy degraded",
            "non-redundant, sufficient from redundant",
            "non-redundant, sufficient from insufficient",
            "non-redundant, insufficient resources",
            "redundancy degraded from full",
            "redundancy degraded from none",
        ],
        0x0c => &["D0 power state", "D1 power state", "D2 power state", "D3 power state"],
        _ => &[],
    }
}

/// Events of one kind of sensor (table 42-3), by offset; an empty word is reserved.
fn specific(kind: u8) -> &'static [&'static str] {
    match kind {
        0x05 => &[
            "chassis intrusion",
            "drive bay intrusion",
            "i/o card area intrusion",
            "processor area intrusion",
            "lan leash lost",
            "unauthorized dock",
            "fan area intrusion",
        ],
        0x06 => &[
            "secure mode violation attempt",
            "user password violation",
            "setup password violation",
            "network boot password violation",
            "other password violation",
            "out-of-band password violation",
        ],
        0x07 => &[
            "IERR",
            "thermal trip",
            "FRB1/BIST failure",
            "FRB2/hang in POST failure",
            "FRB3/processor startup failure",
            "configuration error",
            "uncorrectable cpu-complex error",
            "presence detected",
            "disabled",
            "terminator presence detected",
            "throttled",
            "uncorrectable machine check",
            "correctable machine check",
        ],
        0x08 => &[
            "presence detected",
            "failure detected",
            "predictive failure",
            "input lost",
            "input lost or out of range",
            "input out of range, but present",
            "configuration error",
            "inactive",
        ],
        0x09 => &[
            "power off",
            "power cycle",
            "240 VA power down",
            "interlock power down",
            "ac lost",
            "soft power control failure",
            "failure detected",
            "predictive failure",
        ],
        0x0c => &[
            "correctable ECC",
            "uncorrectable ECC",
            "parity",
            "memory scrub failed",
            "memory device disabled",
            "correctable ECC logging limit reached",
            "presence detected",
            "configuration error",
            "spare",
            "throttled",
            "critical overtemperature",
        ],
        0x0d => &[
            "drive present",
            "drive fault",
            "predictive failure",
            "hot spare",
            "consistency check in progress",
            "in critical array",
            "in failed array",
            "rebuild in progress",
            "rebuild aborted",
        ],
        0x0f => &["firmware error", "firmware hang", "firmware progress"],
        0x10 => &[
            "correctable memory error logging disabled",
            "event type logging disabled",
            "log area cleared",
            "all event logging disabled",
            "log full",
            "log almost full",
            "correctable machine check logging disabled",
        ],
        0x11 => &[
            "bios reset",
            "os reset",
            "os shut down",
            "os power down",
            "os power cycle",
            "os nmi",
            "os expired",
            "os pre-timeout interrupt",
        ],
        0x12 => &[
            "system reconfigured",
            "oem boot event",
            "undetermined hardware failure",
            "entry added to auxiliary log",
            "event filter action",
            "timestamp clock sync",
        ],
        0x13 => &[
            "front panel nmi",
            "bus timeout",
            "i/o channel check nmi",
            "software nmi",
            "pci parity error",
            "pci system error",
            "eisa failsafe timeout",
            "bus correctable error",
            "bus uncorrectable error",
            "fatal nmi",
            "bus fatal error",
            "bus degraded",
        ],
        0x14 => &[
            "power button pressed",
            "sleep button pressed",
            "reset button pressed",
            "latch open",
            "service requested",
        ],
        0x19 => &["soft power control failure", "thermal trip"],
        0x1b => &["connected", "configuration error"],
        0x1d => &[
            "power up",
            "hard reset",
            "warm reset",
            "user requested pxe boot",
            "automatic boot to diagnostic",
            "os initiated hard reset",
            "os initiated warm reset",
            "system restart",
        ],
        0x1e => &[
            "no bootable media",
            "non-bootable disk in drive",
            "pxe server not found",
            "invalid boot sector",
            "timeout waiting for selection",
        ],
        0x1f => &[
            "a: boot completed",
            "c: boot completed",
            "pxe boot completed",
            "diagnostic boot completed",
            "cd-rom boot completed",
            "rom boot completed",
            "boot completed, device not given",
            "os installation started",
            "os installation completed",
            "os installation aborted",
            "os installation failed",
        ],
        0x20 => &[
            "critical stop during load",
            "run-time critical stop",
            "os graceful stop",
            "os graceful shutdown",
            "pef initiated soft shutdown",
            "agent not responding",
        ],
        0x21 => &[
            "fault status asserted",
            "identify status asserted",
            "device installed",
            "ready for installation",
            "ready for removal",
            "slot power off",
            "removal requested",
            "interlock asserted",
            "slot disabled",
            "spare device",
        ],
        0x22 => &[
            "S0/G0 working",
            "S1 sleeping",
            "S2 sleeping",
            "S3 sleeping",
            "S4 suspend to disk",
            "S5/G2 soft off",
            "S4/S5 soft off",
            "G3 mechanical off",
            "sleeping in S1, S2 or S3",
            "G1 sleeping",
            "S5 entered by override",
            "legacy on",
            "legacy off",
            "",
            "unknown",
        ],
        0x23 => &[
            "timer expired",
            "hard reset",
            "power down",
            "power cycle",
            "",
            "",
            "",
            "",
            "timer interrupt",
        ],
        0x24 => &[
            "page generated",
            "lan alert generated",
            "event trap generated",
            "snmp trap generated",
        ],
        0x25 => &["entity present", "entity absent", "entity disabled"],
        0x27 => &["lan heartbeat lost", "lan heartbeat"],
        0x28 => &[
            "sensor access degraded",
            "controller access degraded",
            "controller off line",
            "controller unavailable",
            "sensor failure",
            "fru failure",
        ],
        0x29 => &["battery low", "battery failed", "presence detected"],
        0x2a => &[
            "session activated",
            "session deactivated",
            "invalid user name or password",
            "invalid password disable",
        ],
        0x2b => &[
            "hardware change detected",
            "firmware or software change detected",
            "hardware incompatibility detected",
            "firmware or software incompatibility detected",
            "unsupported hardware version",
            "unsupported firmware or software version",
            "hardware change successful",
            "firmware or software change successful",
        ],
        0x2c => &[
            "not installed",
            "inactive",
            "activation requested",
            "activation in progress",
            "active",
            "deactivation requested",
            "deactivation in progress",
            "communication lost",
        ],
        _ => &[],
    }
}

/// What an offset of an event means: generic by its type, or by the kind of sensor for type 6Fh.
pub fn event(event_type: u8, sensor_kind: u8, offset: u8) -> String {
    let names = if event_type == 0x6f {
        specific(sensor_kind)
    } else {
        generic(event_type)
    };
    match names.get(usize::from(offset)).filter(|name| !name.is_empty()) {
        Some(name) => (*name).to_owned(),
        None => format!("state {offset}"),
    }
}

/// True for states that say "well": presence of a part, a working machine, full redundancy.
pub fn is_well(state: &str) -> bool {
    matches!(
        state,
        "presence detected"
            | "present"
            | "entity present"
            | "drive present"
            | "device installed"
            | "connected"
            | "fully redundant"
            | "ok"
            | "enabled"
            | "running"
            | "on line"
            | "active"
            | "S0/G0 working"
            | "state deasserted"
            | "limit not exceeded"
            | "no predictive failure"
            | "performance met"
            | "lan heartbeat"
            | "D0 power state"
    )
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
