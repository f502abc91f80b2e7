//! What smartctl says as JSON (its own schema, since smartmontools 7.0), where the image has it. Pure.

use serde_json::Value;

use super::entry::OwnNames;
use super::{ata_smart, nvme};
use crate::formats::text::clean;
use crate::model::inventory::{PhysicalDisk, Smart, SmartAttribute};

/// Real disks have under 40.
const MAX_ATTRIBUTES: usize = 256;

/// The number at a JSON pointer (RFC 6901).
fn number(json: &Value, path: &str) -> Option<u64> {
    json.pointer(path)?.as_u64()
}

/// The same for what has room for less.
fn small<T: TryFrom<u64>>(json: &Value, path: &str) -> Option<T> {
    number(json, path)?.try_into().ok()
}

fn celsius(json: &Value, path: &str) -> Option<i32> {
    json.pointer(path)?.as_i64()?.try_into().ok()
}

fn text(json: &Value, path: &str) -> Option<String> {
    json.pointer(path)?.as_str().and_then(clean)
}

/// The entries of a list; none where there is no list.
fn list<'a>(json: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let entries = json.pointer(path).and_then(Value::as_array);
    entries.into_iter().flatten()
}

/// The common facts; nothing where smartctl could not talk to the disk.
pub(crate) fn smart(json: &[u8]) -> Option<Smart> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let number = |path: &str| number(&json, path);
    let small = |path: &str| small(&json, path);
    let mut smart = Smart {
        passed: json.pointer("/smart_status/passed").and_then(Value::as_bool),
        ..Smart::default()
    };
    attributes(&mut smart, &json);
    smart.temperature_celsius = celsius(&json, "/temperature/current").or(smart.temperature_celsius);
    smart.power_on_hours = number("/power_on_time/hours").or(smart.power_on_hours);
    smart.power_cycles = number("/power_cycle_count").or(smart.power_cycles);
    // Of any disk since smartmontools 7.5.
    smart.percentage_used =
        small("/endurance_used/current_percent").or_else(|| small("/scsi_percentage_used_endurance_indicator"));
    smart.available_spare_percent = small("/spare_available/current_percent");
    smart.available_spare_threshold_percent = small("/spare_available/threshold_percent");
    smart.error_log_entries = ["extended", "summary"]
        .iter()
        .find_map(|log| number(&format!("/ata_smart_error_log/{log}/count")));
    smart.reallocated_sectors = number("/scsi_grown_defect_list").or(smart.reallocated_sectors);
    let uncorrected =
        ["read", "write"].map(|way| number(&format!("/scsi_error_counter_log/{way}/total_uncorrected_errors")));
    if uncorrected.iter().any(Option::is_some) {
        smart.uncorrected_errors = Some(uncorrected.into_iter().flatten().fold(0, u64::saturating_add));
    }
    if let Some(log) = json.get("nvme_smart_health_information_log") {
        nvme_log(&mut smart, log);
    }
    let spare = smart
        .available_spare_percent
        .zip(smart.available_spare_threshold_percent);
    let has_said = smart.warnings.iter().any(|warning| warning == nvme::SPARE_WARNING);
    if spare.is_some_and(|(left, threshold)| left < threshold) && !has_said {
        smart.warnings.push(nvme::SPARE_WARNING.to_owned());
    }
    smart.warnings.extend(self_tests(&json));
    (smart != Smart::default()).then_some(smart)
}

/// The table of an ATA disk.
fn attributes(smart: &mut Smart, json: &Value) {
    for entry in list(json, "/ata_smart_attributes/table").take(MAX_ATTRIBUTES) {
        let byte = |path: &str| small(entry, path);
        let (Some(id), Some(value), Some(worst)) = (byte("/id"), byte("/value"), byte("/worst")) else {
            continue;
        };
        let raw = number(entry, "/raw/value").unwrap_or(0);
        let name = text(entry, "/name");
        let failed = entry.get("when_failed").and_then(Value::as_str);
        let what = || name.clone().unwrap_or_else(|| format!("attribute {id}"));
        match failed {
            Some("now") => smart.warnings.push(format!("{}: at or below its threshold", what())),
            Some("past") => smart
                .warnings
                .push(format!("{}: was at or below its threshold", what())),
            _ => {}
        }
        ata_smart::take_meaning(smart, id, raw);
        smart.attributes.push(SmartAttribute {
            id,
            name,
            value,
            worst,
            threshold: byte("/thresh"),
            raw,
        });
    }
}

/// A disk behind a controller; nothing where none answered.
pub(crate) fn physical_disk(json: &[u8], device: &str, address: &str) -> Option<PhysicalDisk> {
    let names = names(json)?;
    let smart = smart(json);
    let json: Value = serde_json::from_slice(json).ok()?;
    let number = |path: &str| number(&json, path);
    let small = |path: &str| small(&json, path);
    // Peripheral device types of SPC-4, 6.6.2: enclosures and the controller itself answer as well. 0 is a disk, 14h one
    // whose zones are written in order; ATA and NVMe have no such number.
    if !matches!(number("/device_type/scsi_value"), None | Some(0 | 0x14)) {
        return None;
    }
    Some(PhysicalDisk {
        address: address.to_owned(),
        device: device.to_owned(),
        kernel_name: None,
        protocol: text(&json, "/device/protocol").map(|protocol| protocol.to_lowercase()),
        model: names.model,
        serial: names.serial,
        wwn: names.wwn,
        firmware: names.firmware,
        size_bytes: number("/user_capacity/bytes").or_else(|| number("/nvme_total_capacity")),
        logical_sector_bytes: small("/logical_block_size"),
        physical_sector_bytes: small("/physical_block_size"),
        rotation_rpm: small("/rotation_rate"),
        form_factor: text(&json, "/form_factor/name"),
        smart,
    })
}

/// Why smartctl has nothing to tell, by its exit status (smartctl(8), EXIT STATUS) and its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Bit 0: it does not know what it was asked for.
    BadQuestion(String),
    /// The disk is in a low-power mode, and was left in it.
    Asleep,
    /// Bit 1: nothing opens there, or it does not identify itself.
    NoDisk(String),
    /// Its answer is no JSON: a version before 7.0, or a crash.
    Garbled,
    /// None of these: something that is no disk.
    Other,
}

/// Reads an answer that has no disk in it.
pub(crate) fn nothing(json: &[u8]) -> Nothing {
    let Ok(json) = serde_json::from_slice::<Value>(json) else {
        return Nothing::Garbled;
    };
    let messages = list(&json, "/smartctl/messages").filter_map(|message| text(message, "/string"));
    let said = messages.take(4).collect::<Vec<_>>().join("; ");
    let status = number(&json, "/smartctl/exit_status").unwrap_or(0);
    let sleeps = ["STANDBY", "SLEEP", "Standby"].iter().any(|word| said.contains(word));
    match status {
        _ if status & 2 != 0 && sleeps => Nothing::Asleep,
        _ if status & 1 != 0 => Nothing::BadQuestion(said),
        _ if status & 2 != 0 => Nothing::NoDisk(said),
        _ => Nothing::Other,
    }
}

/// What the disk calls itself.
pub(crate) fn names(json: &[u8]) -> Option<OwnNames> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let text = |name: &str| text(&json, &format!("/{name}"));
    let both = |vendor: &str, product: &str| Some(format!("{} {}", text(vendor)?, text(product)?));
    let wwn = match ["/wwn/naa", "/wwn/oui", "/wwn/id"].map(|path| number(&json, path)) {
        [Some(naa @ 0..=0xf), Some(oui @ 0..=0xff_ffff), Some(id)] if id < 1 << 36 => {
            Some(format!("naa.{naa:x}{oui:06x}{id:09x}"))
        }
        _ => None,
    };
    let names = OwnNames {
        model: text("model_name")
            .or_else(|| text("scsi_model_name"))
            .or_else(|| both("scsi_vendor", "scsi_product"))
            .or_else(|| both("vendor", "product")),
        serial: text("serial_number"),
        firmware: text("firmware_version")
            .or_else(|| text("scsi_revision"))
            // Its name up to smartmontools 7.2.
            .or_else(|| text("revision")),
        wwn,
    };
    (names != OwnNames::default()).then_some(names)
}

/// The log of an NVMe disk behind a bridge or a RAID controller, in the words of the specification.
fn nvme_log(smart: &mut Smart, log: &Value) {
    let number = |name: &str| number(log, &format!("/{name}"));
    let small = |name: &str| small(log, &format!("/{name}"));
    let data = |name: &str| u64::try_from(u128::from(number(name)?).checked_mul(nvme::DATA_UNIT_BYTES)?).ok();
    smart
        .warnings
        .extend(nvme::warnings(small("critical_warning").unwrap_or(0)));
    smart.temperature_celsius = smart.temperature_celsius.or_else(|| celsius(log, "/temperature"));
    smart.available_spare_percent = small("available_spare").or(smart.available_spare_percent);
    smart.available_spare_threshold_percent =
        small("available_spare_threshold").or(smart.available_spare_threshold_percent);
    smart.percentage_used = small("percentage_used").or(smart.percentage_used);
    smart.data_read_bytes = data("data_units_read");
    smart.data_written_bytes = data("data_units_written");
    smart.power_cycles = smart.power_cycles.or_else(|| number("power_cycles"));
    smart.power_on_hours = smart.power_on_hours.or_else(|| number("power_on_hours"));
    smart.unsafe_shutdowns = number("unsafe_shutdowns");
    smart.media_errors = number("media_errors");
    smart.error_log_entries = number("num_err_log_entries");
    smart.warning_temperature_minutes = number("warning_temp_time");
    smart.critical_temperature_minutes = number("critical_comp_time");
}

/// One line on self-tests that failed, the newest by its words; nothing where none did. Tests that somebody broke off say
/// nothing of the disk.
fn self_tests(json: &Value) -> Option<String> {
    let code = |entry: &Value, path: &str| number(entry, path).unwrap_or(0);
    // Newest first, in each.
    let ata = ["extended", "standard"]
        .iter()
        .flat_map(|log| list(json, &format!("/ata_smart_self_test_log/{log}/table")))
        .filter(|entry| entry.pointer("/status/passed").and_then(Value::as_bool) == Some(false))
        .map(|entry| text(entry, "/status/string"));
    // Base specification 2.0, 5.16.1.7: 5 to 7 failed.
    let nvme = list(json, "/nvme_self_test_log/table")
        .filter(|entry| matches!(code(entry, "/self_test_result/value"), 5..=7))
        .map(|entry| text(entry, "/self_test_result/string"));
    // SPC-4, 7.3.18: 3 to 7 failed. The log has 20 entries.
    let scsi = (0..20)
        .filter_map(|number| json.get(format!("scsi_self_test_{number}")))
        .filter(|entry| matches!(code(entry, "/result/value"), 3..=7))
        .map(|entry| text(entry, "/result/string"));
    let failed: Vec<Option<String>> = ata.chain(nvme).chain(scsi).collect();
    let counted = ["extended", "standard"]
        .iter()
        .filter_map(|log| number(json, &format!("/ata_smart_self_test_log/{log}/error_count_total")));
    let count = counted.max().unwrap_or(0).max(failed.len() as u64);
    // Bit 7 of the exit status: the log holds failures.
    let said = code(json, "/smartctl/exit_status") & 0x80 != 0;
    match (count, failed.into_iter().flatten().next()) {
        (0, _) if said => Some("self-tests failed".to_owned()),
        (0, _) => None,
        (count, Some(words)) => Some(format!("self-tests failed: {count}, the last: {words}")),
        (count, None) => Some(format!("self-tests failed: {count}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ata_and_a_scsi_disk() {
        let ata = smart(
            br#"{"smart_status":{"passed":false},"temperature":{"current":36},"power_on_time":{"hours":100},
            "ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","value":1,"worst":1,"thresh":10,
            "when_failed":"now","raw":{"value":77}},{"id":300}]}}"#,
        )
        .unwrap();
        assert_eq!(
            (ata.passed, ata.temperature_celsius, ata.power_on_hours),
            (Some(false), Some(36), Some(100))
        );
        assert_eq!(ata.reallocated_sectors, Some(77));
        assert_eq!(ata.warnings, ["Reallocated_Sector_Ct: at or below its threshold"]);
        assert_eq!(ata.attributes.len(), 1);
        let scsi = smart(
            br#"{"smart_status":{"passed":true},"scsi_grown_defect_list":3,"scsi_error_counter_log":
            {"read":{"total_uncorrected_errors":1},"write":{"total_uncorrected_errors":2}}}"#,
        )
        .unwrap();
        assert_eq!((scsi.uncorrected_errors, scsi.reallocated_sectors), (Some(3), Some(3)));
    }

    #[test]
    fn an_nvme_disk_behind_a_bridge_tells_its_whole_log() {
        let json = br#"{"smartctl":{"exit_status":8},"device":{"type":"sntjmicron","protocol":"NVMe"},
            "model_name":"Example NVMe 2TB","serial_number":"SNX1","firmware_version":"P9CR",
            "nvme_smart_health_information_log":{"critical_warning":4,"temperature":51,"available_spare":7,
            "available_spare_threshold":10,"percentage_used":104,"data_units_read":2000,"data_units_written":1,
            "power_cycles":388,"power_on_hours":558,"unsafe_shutdowns":22,"media_errors":17,"num_err_log_entries":44,
            "warning_temp_time":3,"critical_comp_time":0},"smart_status":{"passed":false,"nvme":{"value":4}},
            "nvme_self_test_log":{"table":[{"self_test_result":{"value":1,"string":"Aborted"}},
            {"self_test_result":{"value":7,"string":"Completed: failed segments"}}]}}"#;
        assert_eq!(
            smart(json).unwrap(),
            Smart {
                passed: Some(false),
                warnings: vec![
                    "reliability is degraded".to_owned(),
                    "spare blocks are below the threshold".to_owned(),
                    "self-tests failed: 1, the last: Completed: failed segments".to_owned(),
                ],
                temperature_celsius: Some(51),
                power_on_hours: Some(558),
                power_cycles: Some(388),
                unsafe_shutdowns: Some(22),
                percentage_used: Some(104),
                available_spare_percent: Some(7),
                available_spare_threshold_percent: Some(10),
                data_read_bytes: Some(1_024_000_000),
                data_written_bytes: Some(512_000),
                media_errors: Some(17),
                error_log_entries: Some(44),
                warning_temperature_minutes: Some(3),
                critical_temperature_minutes: Some(0),
                ..Smart::default()
            }
        );
        let names = names(json).unwrap();
        assert_eq!(
            (names.model.as_deref(), names.serial.as_deref()),
            (Some("Example NVMe 2TB"), Some("SNX1"))
        );
        assert_eq!(names.firmware.as_deref(), Some("P9CR"));
    }

    #[test]
    fn failed_self_tests_past_failures_and_wear_are_told() {
        let json = br#"{"smartctl":{"exit_status":232},"smart_status":{"passed":true},
            "endurance_used":{"current_percent":97},"spare_available":{"current_percent":3,"threshold_percent":10},
            "ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","value":100,"worst":9,"thresh":10,
            "when_failed":"past","raw":{"value":8}}]},"ata_smart_error_log":{"summary":{"count":23}},
            "ata_smart_self_test_log":{"standard":{"count":21,"error_count_total":3,"table":[
            {"status":{"value":0,"string":"Completed without error","passed":true}},
            {"status":{"value":117,"string":"Completed: read failure","passed":false}}]}},
            "wwn":{"naa":5,"oui":1234,"id":5678}}"#;
        let told = smart(json).unwrap();
        assert_eq!(
            told.warnings,
            [
                "Reallocated_Sector_Ct: was at or below its threshold",
                "spare blocks are below the threshold",
                "self-tests failed: 3, the last: Completed: read failure",
            ]
        );
        assert_eq!(
            (told.percentage_used, told.available_spare_percent),
            (Some(97), Some(3))
        );
        assert_eq!(
            (told.available_spare_threshold_percent, told.error_log_entries),
            (Some(10), Some(23))
        );
        assert_eq!(names(json).unwrap().wwn.as_deref(), Some("naa.50004d200000162e"));
        // Tests that passed, or that somebody broke off; and failures that only the exit status tells.
        let passed =
            br#"{"smartctl":{"exit_status":0},"temperature":{"current":30},"ata_smart_self_test_log":{"standard":
            {"table":[{"status":{"value":16,"string":"Aborted by host"}}],"error_count_total":0}}}"#;
        assert!(smart(passed).unwrap().warnings.is_empty());
        let only_said = br#"{"smartctl":{"exit_status":128},"temperature":{"current":30}}"#;
        assert_eq!(smart(only_said).unwrap().warnings, ["self-tests failed"]);
        let scsi = br#"{"scsi_self_test_0":{"result":{"value":0,"string":"Completed"}},
            "scsi_self_test_1":{"result":{"value":7,"string":"Failed in segment"}}}"#;
        assert_eq!(
            smart(scsi).unwrap().warnings,
            ["self-tests failed: 1, the last: Failed in segment"]
        );
    }

    #[test]
    fn a_disk_it_cannot_talk_to_tells_nothing() {
        assert_eq!(smart(br#"{"smartctl":{"exit_status":2}}"#), None);
        assert_eq!(smart(b"smartctl: not JSON"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = smart(text.as_bytes());
        }
    }
}
