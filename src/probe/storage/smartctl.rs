//! What smartctl says as JSON (its own schema, since smartmontools 7.0), where the image has it. Pure.

use serde_json::Value;

use super::ata_smart;
use crate::model::inventory::{Smart, SmartAttribute};
use crate::probe::root::clean;

/// Real disks have under 40.
const MAX_ATTRIBUTES: usize = 256;

/// The common facts; nothing where smartctl could not talk to the disk.
pub fn smart(json: &[u8]) -> Option<Smart> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let number = |path: &str| json.pointer(path).and_then(Value::as_u64);
    let small = |path: &str| number(path).and_then(|number| u8::try_from(number).ok());
    let mut smart = Smart {
        passed: json.pointer("/smart_status/passed").and_then(Value::as_bool),
        ..Smart::default()
    };
    let table = json.pointer("/ata_smart_attributes/table").and_then(Value::as_array);
    for entry in table.into_iter().flatten().take(MAX_ATTRIBUTES) {
        let byte = |name: &str| entry.get(name)?.as_u64().and_then(|number| u8::try_from(number).ok());
        let (Some(id), Some(value), Some(worst)) = (byte("id"), byte("value"), byte("worst")) else {
            continue;
        };
        let raw = entry.pointer("/raw/value").and_then(Value::as_u64).unwrap_or(0);
        let name = entry.get("name").and_then(Value::as_str).and_then(clean);
        let failed = entry.get("when_failed").and_then(Value::as_str);
        if failed == Some("now") {
            let what = name.clone().unwrap_or_else(|| format!("attribute {id}"));
            smart.warnings.push(format!("{what}: at or below its threshold"));
        }
        ata_smart::take_meaning(&mut smart, id, raw);
        smart.attributes.push(SmartAttribute {
            id,
            name,
            value,
            worst,
            threshold: byte("thresh"),
            raw,
        });
    }
    let celsius = json.pointer("/temperature/current").and_then(Value::as_i64);
    smart.temperature_celsius = celsius
        .and_then(|celsius| i32::try_from(celsius).ok())
        .or(smart.temperature_celsius);
    smart.power_on_hours = number("/power_on_time/hours").or(smart.power_on_hours);
    smart.power_cycles = number("/power_cycle_count").or(smart.power_cycles);
    smart.percentage_used = small("/scsi_percentage_used_endurance_indicator");
    smart.reallocated_sectors = number("/scsi_grown_defect_list").or(smart.reallocated_sectors);
    let uncorrected =
        ["read", "write"].map(|way| number(&format!("/scsi_error_counter_log/{way}/total_uncorrected_errors")));
    if uncorrected.iter().any(Option::is_some) {
        smart.uncorrected_errors = Some(uncorrected.into_iter().flatten().fold(0, u64::saturating_add));
    }
    (smart != Smart::default()).then_some(smart)
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
