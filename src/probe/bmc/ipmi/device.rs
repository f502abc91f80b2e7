//! Who the controller is: Get Device ID, its GUIDs, its last self test.

use crate::formats::bytes::hex;
use crate::formats::tables::rows;
use ipmi_rs::app::GetDeviceId;
use ipmi_rs::connection::IpmiCommand;

use super::{APP, Ipmi, Refusal, names};
use crate::model::inventory::Bmc;

/// Makers by IANA enterprise number: number, name, and the organization as it is registered. The file names its source.
const MAKERS: &str = include_str!("makers.tsv");

/// Get Device ID (20.1) into the document.
pub(crate) fn device_id(ipmi: &mut Ipmi<'_>, bmc: &mut Bmc) -> Result<(), Refusal> {
    let data = ipmi.send(APP, 0x01, &[])?;
    read_device_id(&data, bmc).ok_or(Refusal::Short)
}

fn read_device_id(data: &[u8], bmc: &mut Bmc) -> Option<()> {
    let id = GetDeviceId::parse_success_response(data).ok()?;
    bmc.device_id = Some(id.device_id);
    bmc.device_revision = Some(id.device_revision);
    // The minor number is two decimal digits, a nibble each. Makers who put others there lose them in the crate's number.
    bmc.firmware = Some(format!("{}.{:02x}", id.major_fw_revision, data.get(3)?));
    bmc.updating = Some(!id.device_available);
    bmc.ipmi_version = Some(format!("{}.{}", id.major_version, id.minor_version));
    bmc.functions = names::set("function", *data.get(5)?);
    // 20 bits; the crate leaves the reserved four above them.
    let maker = id.manufacturer_id & 0xf_ffff;
    bmc.manufacturer_id = Some(maker);
    bmc.manufacturer = manufacturer(maker);
    bmc.product_id = Some(id.product_id);
    bmc.firmware_aux = id.aux_revision.as_ref().map(|aux| hex(aux));
    Some(())
}

/// Rows of [`MAKERS`].
fn makers() -> impl Iterator<Item = (u32, &'static str, &'static str)> {
    rows(MAKERS).filter_map(|[number, name, registered]| Some((number.parse().ok()?, name, registered)))
}

/// Name of a maker.
pub(crate) fn manufacturer(id: u32) -> Option<String> {
    let (_, name, _) = makers().find(|(number, ..)| *number == id)?;
    Some(name.to_owned())
}

/// Get Device GUID (20.8).
pub(crate) fn device_guid(ipmi: &mut Ipmi<'_>) -> Result<String, Refusal> {
    guid(&ipmi.send(APP, 0x08, &[])?)
}

/// Get System GUID (22.14).
pub(crate) fn system_guid(ipmi: &mut Ipmi<'_>) -> Result<String, Refusal> {
    guid(&ipmi.send(APP, 0x37, &[])?)
}

fn guid(data: &[u8]) -> Result<String, Refusal> {
    data.get(..16).map(hex).ok_or(Refusal::Short)
}

/// Get Self Test Results (20.4): of the last one; none is started.
pub(crate) fn self_test(ipmi: &mut Ipmi<'_>) -> Result<String, Refusal> {
    let data = ipmi.send(APP, 0x04, &[])?;
    let (result, detail) = (*data.first().ok_or(Refusal::Short)?, data.get(1).copied().unwrap_or(0));
    Ok(self_test_text(result, detail))
}

fn self_test_text(result: u8, detail: u8) -> String {
    match result {
        0x55 => "passed".to_owned(),
        0x56 => "not implemented".to_owned(),
        0x57 => format!("failed: {}", names::set("failed part", detail).join(", ")),
        0x58 => format!("fatal hardware error {detail:#04x}"),
        other => format!("failed with {other:#04x} {detail:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_id_is_read_as_the_specification_lays_it_out() {
        // Revision 1 with SDRs, firmware 2.65, IPMI 2.0, manufacturer 674, all functions but the bridge.
        let data = [
            0x20, 0x81, 0x02, 0x65, 0x02, 0xbf, 0xa2, 0x02, 0xf0, 0x00, 0x01, 0x00, 0x0f, 0x41, 0x41,
        ];
        let mut bmc = Bmc::default();
        read_device_id(&data, &mut bmc).unwrap();
        assert_eq!(bmc.firmware.as_deref(), Some("2.65"));
        assert_eq!(bmc.ipmi_version.as_deref(), Some("2.0"));
        assert_eq!((bmc.manufacturer_id, bmc.product_id), (Some(674), Some(256)));
        assert_eq!(bmc.manufacturer.as_deref(), Some("Dell"));
        assert_eq!(bmc.firmware_aux.as_deref(), Some("000f4141"));
        assert_eq!(bmc.device_revision, Some(1));
        assert_eq!(bmc.updating, Some(false));
        assert_eq!(bmc.functions.len(), 7);
        assert!(!bmc.functions.contains(&"bridge".to_owned()));
        assert_eq!(read_device_id(&data[..10], &mut bmc), None);
        // Digits that are none, and bits above the 20.
        let odd = [0x20, 0x81, 0x82, 0x1a, 0x51, 0x40, 0xa2, 0x02, 0xf0, 0x00, 0x01];
        read_device_id(&odd, &mut bmc).unwrap();
        assert_eq!(bmc.firmware.as_deref(), Some("2.1a"));
        assert_eq!((bmc.updating, bmc.manufacturer_id), (Some(true), Some(674)));
        assert_eq!(
            (bmc.ipmi_version.as_deref(), bmc.functions),
            (Some("1.5"), vec!["bridge".to_owned()])
        );
        assert_eq!(bmc.firmware_aux, None);
    }

    #[test]
    fn every_line_of_the_makers_is_read_and_they_are_in_order() {
        let lines = MAKERS.lines().filter(|line| !line.starts_with('#')).count();
        let numbers: Vec<u32> = makers().map(|(number, ..)| number).collect();
        assert_eq!(numbers.len(), lines);
        assert!(numbers.is_sorted_by(|one, next| one < next));
        // 20 bits is what a controller can tell.
        assert!(numbers.iter().all(|number| *number < 1 << 20));
    }

    #[test]
    fn makers_are_those_of_the_registry() {
        for (number, name) in [
            (343, "Intel"),
            (674, "Dell"),
            (2623, "ASUS"),
            (3704, "AMD"),
            (10876, "Supermicro"),
            (11183, "MiTAC"),
            (15000, "Kontron"),
            (15370, "Gigabyte"),
            (20301, "IBM"),
            (20569, "Inventec"),
            (25506, "H3C"),
            (49622, "ASRock Rack"),
            (49769, "YADRO"),
            (49871, "OpenBMC"),
            (52538, "Ampere"),
            (58132, "xFusion"),
        ] {
            assert_eq!(manufacturer(number).as_deref(), Some(name), "{number}");
        }
        assert_eq!(manufacturer(0), None);
    }

    /// Our lines against the whole registry: `cargo test -- --ignored registry`, with the file of Debian's package
    /// ipmitool, or with `RECON_ENTERPRISE_NUMBERS` naming another copy of it.
    #[test]
    #[ignore = "needs the registry of enterprise numbers, as Debian's package ipmitool has it"]
    fn the_registry_says_the_same() {
        let path = std::env::var("RECON_ENTERPRISE_NUMBERS");
        let path = path.unwrap_or_else(|_| "/usr/share/misc/enterprise-numbers.txt".to_owned());
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let registered = |number: u32| {
            let at = lines.iter().position(|line| *line == number.to_string())?;
            lines.get(at + 1).map(|line| line.trim())
        };
        for (number, _, ours) in makers() {
            assert_eq!(registered(number), Some(ours), "{number}");
        }
    }

    #[test]
    fn a_failed_self_test_says_what_failed() {
        assert_eq!(self_test_text(0x55, 0), "passed");
        assert_eq!(
            self_test_text(0x57, 0x88),
            "failed: SDR repository empty, SEL not accessible"
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut bmc = Bmc::default();
            prop_assert_eq!(read_device_id(&data, &mut bmc).is_some(), data.len() >= 11);
            let _ = guid(&data);
        }
    }
}
