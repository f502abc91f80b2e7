//! Where disks behind RAID controllers are found by smartctl without the maker's program. Pure.
//!
//! Of smartctl's kinds (smartctl(8), option `-d`) its own scan lists on Linux those of megaraid_sas, mpi3mr and sssraid, whose
//! drivers tell which disks there are (`linux_smart_interface::scan_smart_devices` in smartmontools' os_linux.cpp). Behind
//! the others one can only try numbers until none answers.

use serde_json::Value;

/// More than behind any controller; further ones are left out, and that is said.
pub(crate) const MAX_MEMBERS: usize = 2048;
/// Numbers tried at once. When none of them answers, no further ones are tried.
const BATCH: u32 = 16;
/// Most numbers of a controller: smartctl takes 0 to 127.
const MAX_NUMBER: u32 = 127;
/// Bays of one Areca enclosure that are tried; its SATA controllers have at most 24 channels.
const ARECA_BAYS: u32 = 24;
/// Enclosures behind an Areca controller, from 1.
const ARECA_ENCLOSURES: u32 = 8;

/// One disk for smartctl: its device, and its kind for `-d`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    /// `/dev/bus/0`
    pub device: String,
    /// `megaraid,5`
    pub address: String,
}

/// Kinds that stand for a disk behind a controller.
const KINDS: [&str; 8] = [
    "megaraid,",
    "mpi3mr,",
    "sssraid,",
    "cciss,",
    "3ware,",
    "areca,",
    "aacraid,",
    "hpt,",
];

/// Disks behind controllers in what `smartctl --scan` or `--scan-open` printed as JSON. Disks that have a device of their
/// own are left out: they are in the list of disks.
pub(crate) fn scanned(json: &[u8]) -> Vec<Member> {
    let Ok(json) = serde_json::from_slice::<Value>(json) else {
        return Vec::new();
    };
    let devices = json.get("devices").and_then(Value::as_array);
    let member = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let (device, address) = (text("name")?, text("type")?);
        // Opened ones are called by what is inside as well: `sat+megaraid,5`.
        let kind = address.rsplit('+').next()?;
        let is_ours = KINDS.iter().any(|known| kind.starts_with(known));
        (is_ours && is_plain(device) && is_plain(address) && device.starts_with("/dev/")).then(|| Member {
            device: device.to_owned(),
            address: address.to_owned(),
        })
    };
    let mut found: Vec<Member> = Vec::new();
    for member in devices.into_iter().flatten().filter_map(member) {
        if !found.contains(&member) {
            found.push(member);
        }
    }
    found
}

/// Fit to be an argument: what programs print is not trusted.
fn is_plain(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b',' | b'+' | b'_' | b'-' | b'.' | b'!');
    (1..=64).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') && !text.contains("..")
}

/// The SCSI host of a scanned device: `/dev/bus/2` → 2.
pub(crate) fn host(device: &str) -> Option<u32> {
    let number = device
        .strip_prefix("/dev/bus/")
        .or_else(|| device.strip_prefix("/dev/bsg/sssraid"))?;
    number.parse().ok()
}

/// A controller whose disks have to be tried one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    kind: Kind,
    device: String,
    /// Number of the controller among those of its driver.
    number: u32,
    /// What comes next; `None` at the end.
    next: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cciss,
    Areca,
    ThreeWare,
    Aacraid,
}

/// Which SCSI generic device a driver's disks are reached through, by the peripheral device type of SPC-4, 6.6.2; `None` for
/// drivers whose disks are scanned, or that have no RAID.
pub(crate) fn generic_type(driver: &str) -> Option<u8> {
    match driver {
        // The array controller itself (0Ch).
        "hpsa" | "smartpqi" | "cciss" => Some(0x0c),
        // A processor (03h).
        "arcmsr" => Some(0x03),
        _ => None,
    }
}

impl Walk {
    /// `number` counts the controllers of one driver in the order of their hosts; `generic` is the device that
    /// [`generic_type`] asks for, or a disk of the controller.
    pub(crate) fn behind(driver: &str, number: u32, generic: Option<&str>) -> Option<Walk> {
        let generic = || generic.filter(|name| is_plain(name)).map(|name| format!("/dev/{name}"));
        let (kind, device) = match driver {
            "hpsa" | "smartpqi" | "cciss" => (Kind::Cciss, generic()?),
            "arcmsr" => (Kind::Areca, generic()?),
            "3w-9xxx" => (Kind::ThreeWare, format!("/dev/twa{number}")),
            "3w-sas" => (Kind::ThreeWare, format!("/dev/twl{number}")),
            "3w-xxxx" => (Kind::ThreeWare, format!("/dev/twe{number}")),
            // The driver's own node tells, whatever device is named.
            "aacraid" => (Kind::Aacraid, format!("/dev/aac{number}")),
            _ => return None,
        };
        Some(Walk {
            kind,
            device,
            number,
            next: Some(0),
        })
    }

    /// What to try next; empty at the end. `found` says whether what was tried before had a disk in it.
    pub(crate) fn next(&mut self, found: bool) -> Vec<Member> {
        let Some(from) = self.next else { return Vec::new() };
        let address: Vec<String> = match self.kind {
            Kind::Areca => {
                let enclosure = from + 1;
                // A SAS controller may have its first disks in the second enclosure, after its own empty ports.
                if enclosure > ARECA_ENCLOSURES || (enclosure > 2 && !found) {
                    self.next = None;
                    return Vec::new();
                }
                self.next = Some(from + 1);
                (1..=ARECA_BAYS).map(|bay| format!("areca,{bay}/{enclosure}")).collect()
            }
            kind => {
                if from > MAX_NUMBER || (from > 0 && !found) {
                    self.next = None;
                    return Vec::new();
                }
                self.next = Some(from + BATCH);
                let number = self.number;
                let address = |disk: u32| match kind {
                    Kind::ThreeWare => format!("3ware,{disk}"),
                    Kind::Aacraid => format!("aacraid,{number},0,{disk}"),
                    Kind::Cciss | Kind::Areca => format!("cciss,{disk}"),
                };
                (from..(from + BATCH).min(MAX_NUMBER + 1)).map(address).collect()
            }
        };
        let device = self.device.clone();
        let member = |address| Member {
            device: device.clone(),
            address,
        };
        address.into_iter().map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_scan_gives_what_has_no_device_of_its_own() {
        let json = br#"{"smartctl":{"exit_status":0},"devices":[
            {"name":"/dev/sda","info_name":"/dev/sda","type":"scsi","protocol":"SCSI"},
            {"name":"/dev/sdb","info_name":"/dev/sdb [SAT]","type":"sat","protocol":"ATA"},
            {"name":"/dev/bus/0","info_name":"/dev/bus/0 [megaraid_disk_00]","type":"megaraid,0","protocol":"SCSI"},
            {"name":"/dev/bus/0","info_name":"/dev/bus/0 [megaraid_disk_08] [SAT]","type":"sat+megaraid,8","protocol":"ATA"},
            {"name":"/dev/bus/0","info_name":"/dev/bus/0 [megaraid_disk_00]","type":"megaraid,0","protocol":"SCSI"},
            {"name":"/dev/bsg/sssraid3","type":"sssraid,0,1"},
            {"name":"/dev/nvme0","info_name":"/dev/nvme0","type":"nvme","protocol":"NVMe"},
            {"name":"--test=long","type":"megaraid,1"},{"name":"/dev/bus/0","type":"megaraid,1 --test=long"},
            {"name":"/etc/../dev/bus/0","type":"megaraid,2"},{"type":"megaraid,3"}]}"#;
        let told: Vec<(String, String)> = scanned(json)
            .into_iter()
            .map(|member| (member.device, member.address))
            .collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(device, address)| (&**device, &**address)).collect();
        assert_eq!(
            told,
            [
                ("/dev/bus/0", "megaraid,0"),
                ("/dev/bus/0", "sat+megaraid,8"),
                ("/dev/bsg/sssraid3", "sssraid,0,1")
            ]
        );
        assert_eq!(
            (host("/dev/bus/0"), host("/dev/bsg/sssraid3"), host("/dev/sda")),
            (Some(0), Some(3), None)
        );
        assert!(scanned(b"no JSON").is_empty());
    }

    /// Walks with disks where `has` says so, and tells how many members were tried.
    fn walked(mut walk: Walk, has: impl Fn(&str) -> bool) -> (Vec<String>, usize) {
        let (mut found, mut tried, mut hit) = (Vec::new(), 0, false);
        loop {
            let members = walk.next(hit);
            if members.is_empty() {
                return (found, tried);
            }
            tried += members.len();
            let here: Vec<String> = members
                .into_iter()
                .map(|member| member.address)
                .filter(|address| has(address))
                .collect();
            hit = !here.is_empty();
            found.extend(here);
        }
    }

    #[test]
    fn numbers_are_tried_until_none_answers() {
        let hp = || Walk::behind("hpsa", 0, Some("sg2")).unwrap();
        let (found, tried) = walked(hp(), |address| matches!(address, "cciss,0" | "cciss,3" | "cciss,17"));
        assert_eq!(found, ["cciss,0", "cciss,3", "cciss,17"]);
        assert_eq!(tried, 48);
        assert_eq!(walked(hp(), |_| false), (Vec::new(), 16));
        assert_eq!(walked(hp(), |_| true).1, 128);
        let (found, tried) = walked(Walk::behind("arcmsr", 0, Some("sg3")).unwrap(), |address| {
            address == "areca,5/2"
        });
        assert_eq!((found, tried), (vec!["areca,5/2".to_owned()], 72));
        let (found, _) = walked(Walk::behind("aacraid", 1, None).unwrap(), |address| {
            address == "aacraid,1,0,9"
        });
        assert_eq!(found, ["aacraid,1,0,9"]);
        let mut three = Walk::behind("3w-9xxx", 1, None).unwrap();
        let first = three.next(false).remove(0);
        assert_eq!((&*first.device, &*first.address), ("/dev/twa1", "3ware,0"));
        assert_eq!(Walk::behind("ahci", 0, Some("sda")), None);
        assert_eq!(Walk::behind("hpsa", 0, None), None);
        assert_eq!(Walk::behind("hpsa", 0, Some("-s on")), None);
    }

    proptest! {
        #[test]
        fn what_a_program_prints_becomes_no_option(name in "\\PC{0,70}", kind in "\\PC{0,70}") {
            let json = serde_json::json!({"devices": [{"name": name, "type": kind}, {"name": "/dev/bus/0", "type": format!("megaraid,{kind}")}]});
            for member in scanned(json.to_string().as_bytes()) {
                prop_assert!(member.device.starts_with("/dev/") && !member.address.starts_with('-'));
                prop_assert!(!member.address.contains(char::is_whitespace));
            }
        }
    }
}
