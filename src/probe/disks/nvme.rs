//! NVMe structures: Identify Controller, Identify Namespace and the SMART log (NVM Express Base Specification 2.0,
//! 5.17.2.1 and 5.16.1.3; NVM Command Set Specification 1.0, 4.1.5.1). Pure.

use crate::formats::bytes::{hex, le16, le32, le64, le128, take, text};
use crate::model::inventory::{LbaFormat, Nvme, Smart};

/// One data unit of the SMART log: a thousand blocks of 512 bytes.
pub(crate) const DATA_UNIT_BYTES: u128 = 512_000;
/// What a disk says that runs out of spare blocks.
pub(crate) const SPARE_WARNING: &str = "spare blocks are below the threshold";

/// Fills in what the controller tells; nothing of a structure that is too short.
pub(crate) fn controller(nvme: &mut Nvme, bytes: &[u8]) -> Option<()> {
    let bytes = bytes.get(..4096)?;
    nvme.controller_id = le16(bytes, 78);
    nvme.version = le32(bytes, 80).filter(|version| *version != 0).map(version);
    nvme.error_log_size = bytes.get(262).map(|last| u32::from(*last) + 1);
    nvme.warning_celsius = le16(bytes, 266).and_then(celsius);
    nvme.critical_celsius = le16(bytes, 268).and_then(celsius);
    nvme.total_bytes = capacity(bytes, 280);
    // Only told by controllers that manage namespaces, as the total is.
    nvme.unallocated_bytes = nvme
        .total_bytes
        .and_then(|_| le128(bytes, 296))
        .and_then(|bytes| u64::try_from(bytes).ok());
    nvme.max_namespaces = le32(bytes, 516);
    nvme.volatile_write_cache = bytes.get(525).map(|cache| cache & 1 != 0);
    nvme.subsystem_nqn = text(bytes, 768, 256).or(nvme.subsystem_nqn.take());
    Some(())
}

/// Fills in what the namespace tells.
pub(crate) fn namespace(nvme: &mut Nvme, bytes: &[u8]) -> Option<()> {
    let bytes = bytes.get(..4096)?;
    // Up to 64 layouts; the upper bits of the index in use stand apart.
    let count = usize::from(*bytes.get(25)?).min(63) + 1;
    let flags = *bytes.get(26)?;
    let in_use = usize::from((flags & 0x0f) | ((flags >> 1) & 0x30));
    let formats: Vec<Option<LbaFormat>> = (0..count).map(|index| lba_format(bytes, 128 + index * 4)).collect();
    nvme.lba_format = formats.get(in_use).cloned().flatten();
    nvme.used_bytes = nvme
        .lba_format
        .as_ref()
        .and_then(|format| le64(bytes, 16)?.checked_mul(format.data_bytes));
    nvme.lba_formats = formats.into_iter().flatten().collect();
    let id = |at: usize, length: usize| {
        let raw = bytes.get(at..at + length)?;
        raw.iter().any(|byte| *byte != 0).then(|| hex(raw))
    };
    nvme.nguid = id(104, 16).or(nvme.nguid.take());
    nvme.eui64 = id(120, 8).or(nvme.eui64.take());
    Some(())
}

fn lba_format(bytes: &[u8], at: usize) -> Option<LbaFormat> {
    let [low, high, power, performance]: [u8; 4] = take(bytes, at)?;
    // Below 512 bytes it is not in use.
    (9..=63).contains(&power).then(|| LbaFormat {
        data_bytes: 1 << power,
        metadata_bytes: u32::from(u16::from_le_bytes([low, high])),
        performance: ["best", "better", "good", "degraded"][usize::from(performance & 3)].to_owned(),
    })
}

/// The critical warnings whose bits are set (figure 207 of the base specification 2.0).
pub(crate) fn warnings(bits: u8) -> Vec<String> {
    let texts = [
        SPARE_WARNING,
        "temperature is out of bounds",
        "reliability is degraded",
        "set itself read-only",
        "the backup of its volatile memory has failed",
        "its persistent memory region is read-only or unreliable",
    ];
    let set = (0..).zip(texts).filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, text)| text.to_owned()).collect()
}

/// The SMART / Health Information log page.
pub(crate) fn smart(bytes: &[u8]) -> Option<Smart> {
    let bytes = bytes.get(..512)?;
    let warning = *bytes.first()?;
    let count = |at: usize| le128(bytes, at).and_then(|number| u64::try_from(number).ok());
    let data = |at: usize| u64::try_from(le128(bytes, at)?.checked_mul(DATA_UNIT_BYTES)?).ok();
    Some(Smart {
        passed: Some(warning == 0),
        warnings: warnings(warning),
        temperature_celsius: le16(bytes, 1).and_then(celsius),
        available_spare_percent: bytes.get(3).copied(),
        available_spare_threshold_percent: bytes.get(4).copied(),
        percentage_used: bytes.get(5).copied(),
        data_read_bytes: data(32),
        data_written_bytes: data(48),
        power_cycles: count(112),
        power_on_hours: count(128),
        unsafe_shutdowns: count(144),
        media_errors: count(160),
        error_log_entries: count(176),
        warning_temperature_minutes: le32(bytes, 192).map(u64::from),
        critical_temperature_minutes: le32(bytes, 196).map(u64::from),
        ..Smart::default()
    })
}

/// Kelvin, where zero means not told.
fn celsius(kelvin: u16) -> Option<i32> {
    (kelvin != 0).then(|| i32::from(kelvin) - 273)
}

fn capacity(bytes: &[u8], at: usize) -> Option<u64> {
    le128(bytes, at)
        .filter(|bytes| *bytes != 0)
        .and_then(|bytes| u64::try_from(bytes).ok())
}

fn version(number: u32) -> String {
    let (major, minor, tertiary) = (number >> 16, (number >> 8) & 0xff, number & 0xff);
    if tertiary == 0 {
        format!("{major}.{minor}")
    } else {
        format!("{major}.{minor}.{tertiary}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
        bytes[at..at + what.len()].copy_from_slice(what);
    }

    #[test]
    fn the_smart_log_in_units_for_people() {
        let mut log = vec![0u8; 512];
        put(&mut log, 1, &311u16.to_le_bytes());
        put(&mut log, 3, &[100, 10, 3]);
        put(&mut log, 32, &2_000_000u128.to_le_bytes());
        put(&mut log, 48, &1u128.to_le_bytes());
        put(&mut log, 112, &42u128.to_le_bytes());
        put(&mut log, 128, &8760u128.to_le_bytes());
        put(&mut log, 144, &7u128.to_le_bytes());
        put(&mut log, 176, &u128::MAX.to_le_bytes());
        let found = smart(&log).unwrap();
        assert_eq!(found.passed, Some(true));
        assert_eq!(found.temperature_celsius, Some(38));
        assert_eq!(
            (found.available_spare_percent, found.available_spare_threshold_percent),
            (Some(100), Some(10))
        );
        assert_eq!(found.percentage_used, Some(3));
        assert_eq!(found.data_read_bytes, Some(1_024_000_000_000));
        assert_eq!(found.data_written_bytes, Some(512_000));
        assert_eq!(found.power_on_hours, Some(8760));
        assert_eq!((found.power_cycles, found.unsafe_shutdowns), (Some(42), Some(7)));
        assert_eq!(found.error_log_entries, None, "does not fit, so it is not told");
        log[0] = 0b1001;
        let found = smart(&log).unwrap();
        assert_eq!(found.passed, Some(false));
        assert_eq!(
            found.warnings,
            ["spare blocks are below the threshold", "set itself read-only"]
        );
        assert_eq!(smart(&log[..511]), None);
    }

    #[test]
    fn controller_and_namespace() {
        let mut bytes = vec![0u8; 4096];
        put(&mut bytes, 78, &6u16.to_le_bytes());
        put(&mut bytes, 80, &0x0001_0400u32.to_le_bytes());
        bytes[262] = 63;
        put(&mut bytes, 266, &343u16.to_le_bytes());
        put(&mut bytes, 268, &358u16.to_le_bytes());
        put(&mut bytes, 280, &1_920_383_410_176u128.to_le_bytes());
        put(&mut bytes, 516, &32u32.to_le_bytes());
        put(&mut bytes, 768, b"nqn.1994-11.com.example:S1");
        let mut nvme = Nvme::default();
        controller(&mut nvme, &bytes).unwrap();
        assert_eq!(nvme.version.as_deref(), Some("1.4"));
        assert_eq!(nvme.error_log_size, Some(64));
        assert_eq!((nvme.warning_celsius, nvme.critical_celsius), (Some(70), Some(85)));
        assert_eq!(
            (nvme.total_bytes, nvme.unallocated_bytes),
            (Some(1_920_383_410_176), Some(0))
        );
        assert_eq!(nvme.volatile_write_cache, Some(false));
        assert_eq!(nvme.subsystem_nqn.as_deref(), Some("nqn.1994-11.com.example:S1"));

        let mut bytes = vec![0u8; 4096];
        put(&mut bytes, 16, &1000u64.to_le_bytes());
        put(&mut bytes, 25, &[1, 1]);
        put(&mut bytes, 104, &[0x36; 16]);
        put(&mut bytes, 128, &[0, 0, 9, 2, 8, 0, 12, 0]);
        namespace(&mut nvme, &bytes).unwrap();
        let format = nvme.lba_format.unwrap();
        assert_eq!(
            (format.data_bytes, format.metadata_bytes, format.performance.as_str()),
            (4096, 8, "best")
        );
        assert_eq!(nvme.lba_formats.len(), 2);
        assert_eq!(nvme.lba_formats[0].performance, "good");
        assert_eq!(nvme.used_bytes, Some(4_096_000));
        assert_eq!(nvme.nguid, Some("36".repeat(16)));
        assert_eq!(nvme.eui64, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(seed in proptest::collection::vec(any::<u8>(), 0..600), length in 0usize..4200) {
            let bytes: Vec<u8> = seed.iter().copied().cycle().take(if seed.is_empty() { 0 } else { length }).collect();
            let mut nvme = Nvme::default();
            let _ = (controller(&mut nvme, &bytes), namespace(&mut nvme, &bytes));
            prop_assert!(nvme.lba_formats.len() <= 64);
            prop_assert_eq!(smart(&bytes).is_some(), bytes.len() >= 512);
        }
    }
}
