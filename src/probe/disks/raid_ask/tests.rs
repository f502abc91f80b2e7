//! Disks behind controllers, from what smartctl printed.

use super::*;
use crate::model::inventory::StorageHost;
use std::fs;
use std::os::unix::fs::symlink;

fn controller(driver: &str, host: &str) -> StorageController {
    StorageController {
        pci_address: Some("0000:18:00.0".to_owned()),
        driver: Some(driver.to_owned()),
        hosts: vec![StorageHost {
            name: host.to_owned(),
            ..StorageHost::default()
        }],
        ..StorageController::default()
    }
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn asked(dir: &tempfile::TempDir, mut controllers: Vec<StorageController>) -> (Vec<StorageController>, Vec<Item>) {
    let mut items = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    physical_disks(&Root::at(dir.path()), &mut controllers, &mut items, deadline);
    (controllers, items)
}

/// Shapes as smartctl 7.1 and 7.4 printed them behind a Dell PERC (testdata of prometheus-community/smartctl_exporter,
/// `megaraid,1-null-TOSHIBA_MG08SCA16TEY-0.json` and `sat+megaraid,1-null-HFS1T9G3H2X069N-0.json`), with other serials.
const SAS: &str = r#"{"device":{"info_name":"/dev/bus/0 [megaraid_disk_01]","name":"/dev/bus/0","protocol":"SCSI",
    "type":"megaraid,1"},"device_type":{"name":"disk","scsi_value":0},"form_factor":{"name":"3.5 inches","scsi_value":2},
    "logical_block_size":512,"model_name":"TOSHIBA MG08SCA16TEY","physical_block_size":4096,"product":"MG08SCA16TEY",
    "revision":"EJ08","rotation_rate":7200,"scsi_error_counter_log":{"read":{"total_uncorrected_errors":0},"write":
    {"total_uncorrected_errors":2}},"scsi_grown_defect_list":0,"serial_number":"S1","smart_status":{"passed":true},
    "smartctl":{"exit_status":0,"version":[7,1]},"temperature":{"current":31,"drive_trip":65},
    "user_capacity":{"blocks":31251759104,"bytes":16000900661248},"vendor":"TOSHIBA"}"#;
/// The exit status says that a command failed (4), and the rest is whole all the same.
const SATA: &str = r#"{"device":{"info_name":"/dev/bus/0 [megaraid_disk_08] [SAT]","name":"/dev/bus/0","protocol":"ATA",
    "type":"sat+megaraid,8"},"firmware_version":"DZ02","form_factor":{"ata_value":3,"name":"2.5 inches"},
    "logical_block_size":512,"model_name":"HFS1T9G3H2X069N","physical_block_size":4096,"power_cycle_count":85,
    "power_on_time":{"hours":12441},"rotation_rate":0,"serial_number":"S8","smart_status":{"passed":true},
    "smartctl":{"exit_status":4,"messages":[{"severity":"warning","string":"Warning: This result is based on an Attribute check."}]},
    "temperature":{"current":34},"user_capacity":{"blocks":3750748848,"bytes":1920383410176},
    "wwn":{"id":1234567890,"naa":5,"oui":11330606}}"#;

#[test]
fn disks_behind_megaraid_are_told_without_the_makers_program() {
    let dir = tempfile::tempdir().unwrap();
    let scan = r#"{"devices":[{"name":"/dev/sda","type":"scsi"},{"name":"/dev/bus/0","type":"megaraid,1"},
        {"name":"/dev/bus/0","type":"sat+megaraid,8"},{"name":"/dev/bus/0","type":"megaraid,9"},
        {"name":"/dev/bus/0","type":"megaraid,10"},{"name":"/dev/bus/0","type":"megaraid,32"},{"name":"/dev/bus/7","type":"megaraid,1"}]}"#;
    write(&dir, ".recon/raid/smartctl/scan-open", scan);
    write(&dir, ".recon/raid/smartctl/bus-0/megaraid,1", SAS);
    write(&dir, ".recon/raid/smartctl/bus-0/sat+megaraid,8", SATA);
    let asleep = r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Device is in STANDBY mode, exit(2)","severity":"information"}]}}"#;
    write(&dir, ".recon/raid/smartctl/bus-0/megaraid,9", asleep);
    let broken = r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Read Device Identity failed: Input/output error","severity":"error"}]}}"#;
    write(&dir, ".recon/raid/smartctl/bus-0/megaraid,10", broken);
    let enclosure = r#"{"device_type":{"name":"enclosure","scsi_value":13},"model_name":"DELL BP14G","serial_number":"E1","smartctl":{"exit_status":0}}"#;
    write(&dir, ".recon/raid/smartctl/bus-0/megaraid,32", enclosure);
    let (controllers, items) = asked(
        &dir,
        vec![controller("ahci", "host4"), controller("megaraid_sas", "host0")],
    );
    assert!(controllers[0].physical_disks.is_empty());
    let [sas, sata, sleeping, broken] = &controllers[1].physical_disks[..] else {
        panic!("{:?}", controllers[1].physical_disks)
    };
    assert_eq!((&*sas.address, &*sas.device), ("megaraid,1", "/dev/bus/0"));
    assert_eq!(
        (sas.model.as_deref(), sas.serial.as_deref(), sas.firmware.as_deref()),
        (Some("TOSHIBA MG08SCA16TEY"), Some("S1"), Some("EJ08"))
    );
    assert_eq!(
        (sas.size_bytes, sas.rotation_rpm),
        (Some(16_000_900_661_248), Some(7200))
    );
    let smart = sas.smart.as_ref().unwrap();
    assert_eq!(
        (smart.passed, smart.uncorrected_errors, smart.temperature_celsius),
        (Some(true), Some(2), Some(31))
    );
    assert_eq!(
        (sata.protocol.as_deref(), sata.firmware.as_deref()),
        (Some("ata"), Some("DZ02"))
    );
    assert_eq!(sata.wwn.as_deref(), Some("naa.5ace42e0499602d2"));
    assert_eq!(sata.smart.as_ref().unwrap().power_on_hours, Some(12_441));
    assert_eq!((&*sleeping.address, &sleeping.serial), ("megaraid,9", &None));
    // The controller lists it, so a disk is there.
    assert_eq!((&*broken.address, &broken.model), ("megaraid,10", &None));
    let told: Vec<_> = items.iter().map(|item| (&*item.item, item.status)).collect();
    assert_eq!(
        told,
        [
            ("0000:18:00.0.megaraid,9", PartStatus::Unsupported),
            ("0000:18:00.0.megaraid,10", PartStatus::Failed),
            ("0000:18:00.0.physical_disks", PartStatus::Ok)
        ]
    );
}

#[test]
fn disks_behind_a_smart_array_are_tried_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let host = "sys/devices/pci0000:17/0000:18:00.0/host2";
    for (name, place, kind) in [("sg0", "2:0:0:0", "0\n"), ("sg1", "2:3:0:0", "12\n")] {
        let place = format!("{host}/target2/{place}");
        write(&dir, &format!("{place}/type"), kind);
        fs::create_dir_all(dir.path().join(format!("{place}/scsi_generic/{name}"))).unwrap();
        symlink("../..", dir.path().join(format!("{place}/scsi_generic/{name}/device"))).unwrap();
        fs::create_dir_all(dir.path().join("sys/class/scsi_generic")).unwrap();
        symlink(
            format!("/{place}/scsi_generic/{name}"),
            dir.path().join(format!("sys/class/scsi_generic/{name}")),
        )
        .unwrap();
    }
    for (number, serial) in [(0, "A"), (4, "B"), (17, "C")] {
        let json = format!(
            r#"{{"device":{{"type":"cciss,{number}","protocol":"SCSI"}},"scsi_vendor":"HP","scsi_product":"EG0300FAWHV",
            "scsi_revision":"HPDE","serial_number":"{serial}","smartctl":{{"exit_status":0}}}}"#
        );
        write(&dir, &format!(".recon/raid/smartctl/sg1/cciss,{number}"), &json);
    }
    let none = r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Smartctl open device: /dev/sg1 [cciss_disk_01] failed: No such device"}]}}"#;
    write(&dir, ".recon/raid/smartctl/sg1/cciss,1", none);
    let (controllers, _) = asked(&dir, vec![controller("hpsa", "host2")]);
    let told: Vec<_> = controllers[0]
        .physical_disks
        .iter()
        .map(|disk| {
            (
                &*disk.address,
                &*disk.device,
                disk.serial.as_deref(),
                disk.model.as_deref(),
            )
        })
        .collect();
    let model = Some("HP EG0300FAWHV");
    assert_eq!(
        told,
        [
            ("cciss,0", "/dev/sg1", Some("A"), model),
            ("cciss,4", "/dev/sg1", Some("B"), model),
            ("cciss,17", "/dev/sg1", Some("C"), model)
        ]
    );
}

#[test]
fn a_machine_without_smartctl_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (controllers, items) = asked(&dir, vec![controller("smartpqi", "host0"), controller("ahci", "host1")]);
    assert!(controllers.iter().all(|one| one.physical_disks.is_empty()));
    let [item] = &items[..] else { panic!("{items:?}") };
    assert_eq!(item.status, PartStatus::Unsupported);
    assert!(item.reason.as_ref().unwrap().contains("smartmontools"));
}

#[test]
fn what_is_not_asked_in_time_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, ".recon/raid/smartctl/bus-0/megaraid,1", SAS);
    let member = Member {
        device: "/dev/bus/0".to_owned(),
        address: "megaraid,1".to_owned(),
    };
    let late = ask(&Root::at(dir.path()), &member, true, Instant::now());
    assert_eq!(late.as_ref().unwrap_err().0, PartStatus::TimedOut);
    let mut controllers = vec![controller("megaraid_sas", "host0")];
    let mut items = Vec::new();
    let told = vec![(0, member, Outcome::Done { value: late, millis: 0 })];
    take(&mut controllers, &mut items, told, 0);
    assert_eq!(controllers[0].physical_disks[0].address, "megaraid,1");
    assert_eq!(items[0].status, PartStatus::TimedOut);
}
