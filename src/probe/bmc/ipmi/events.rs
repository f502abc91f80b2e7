//! What events and states of sensors mean, by the tables of the specification.

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

/// Events of one kind of sensor (table 42-3), by offset; an empty word is reserved. Long because it is a table.
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
pub(crate) fn event(event_type: u8, sensor_kind: u8, offset: u8) -> String {
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
pub(crate) fn is_well(state: &str) -> bool {
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
