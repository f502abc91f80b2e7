//! What follows from several parts together.

use super::*;
use crate::model::inventory::{
    Bmc, CablePort, Cabling, Dimm, Fru, FruMemory, Memory, Neighbour, Part, StorageController,
};

/// A machine of which nothing is known.
fn nothing() -> Inventory {
    crate::probe::tests::nothing_known()
}

#[test]
fn a_card_that_keeps_lldp_to_itself_is_named_and_left_so() {
    let nic = |name: &str, driver: &str, agent| Nic {
        name: name.to_owned(),
        driver: Some(driver.to_owned()),
        firmware_lldp_agent: agent,
        ..Nic::default()
    };
    let cable = |name: &str, heard: Option<&str>| CablePort {
        port: name.to_owned(),
        carrier: Some(true),
        neighbours: heard
            .map(|protocol| Neighbour {
                protocol: protocol.to_owned(),
                ..Neighbour::default()
            })
            .into_iter()
            .collect(),
        ..CablePort::default()
    };
    let mut inventory = nothing();
    inventory.nics = Part::ok(
        "test",
        vec![
            nic("eth0", "ice", Some(true)),
            nic("eth1", "i40e", Some(true)),
            nic("eth2", "ice", Some(true)),
            nic("eth3", "ice", Some(false)),
            nic("eth4", "tg3", None),
        ],
    );
    let ports = vec![
        cable("eth0", None),
        cable("eth1", Some("cdp")),
        cable("eth2", Some("lldp")),
        cable("eth3", None),
        cable("eth4", None),
    ];
    inventory.cabling = Part::ok(
        "test",
        Cabling {
            ports,
            ..Cabling::default()
        },
    );
    join(&mut inventory);
    let told: Vec<_> = inventory
        .cabling
        .items
        .iter()
        .map(|item| (&*item.item, item.status))
        .collect();
    assert_eq!(
        told,
        [
            ("eth0.fw_lldp", PartStatus::Unsupported),
            ("eth1.fw_lldp", PartStatus::Unsupported)
        ]
    );
    let reasons: Vec<&str> = inventory
        .cabling
        .items
        .iter()
        .filter_map(|item| item.reason.as_deref())
        .collect();
    assert!(reasons[0].contains("fw-lldp-agent off") && reasons[0].contains("keeps LLDP to itself"));
    assert!(reasons[1].contains("disable-fw-lldp on"));
}

#[test]
fn a_disk_that_the_controller_passes_through_is_one_disk() {
    let disk = |name: &str, vendor: &str, model: &str, serial: &str, wwn: Option<&str>| Disk {
        name: name.to_owned(),
        vendor: Some(vendor.to_owned()),
        model: Some(model.to_owned()),
        serial: Some(serial.to_owned()),
        wwn: wwn.map(str::to_owned),
        ..Disk::default()
    };
    let member = |address: &str, model: &str, serial: &str, wwn: Option<&str>| PhysicalDisk {
        address: address.to_owned(),
        model: Some(model.to_owned()),
        serial: Some(serial.to_owned()),
        wwn: wwn.map(str::to_owned),
        ..PhysicalDisk::default()
    };
    let mut inventory = nothing();
    inventory.disks = Part::ok(
        "test",
        vec![
            disk("sda", "DELL", "PERC H730P Mini", "00aa", Some("naa.6d09")),
            disk("sdb", "TOSHIBA", "MG08SCA16TEY", "S2", Some("naa.5001")),
            disk("sdc", "ATA", "HFS1T9G3H2X069N", "S3", Some("naa.5002")),
        ],
    );
    let controller = StorageController {
        physical_disks: vec![
            member("megaraid,1", "TOSHIBA MG08SCA16TEY", "S1", None),
            member("megaraid,2", "TOSHIBA MG08SCA16TEY", "S2", None),
            // Its own name for itself, where the kernel has another serial number.
            member("megaraid,3", "HFS1T9G3H2X069N", "other", Some("naa.5002")),
            // A placeholder names nothing.
            member("megaraid,4", "MG08SCA16TEY", "0", None),
        ],
        ..StorageController::default()
    };
    inventory.storage_controllers = Part::ok("test", vec![controller]);
    join(&mut inventory);
    let controllers = inventory.storage_controllers.value.unwrap();
    let names: Vec<_> = controllers[0]
        .physical_disks
        .iter()
        .map(|disk| disk.kernel_name.as_deref())
        .collect();
    assert_eq!(names, [None, Some("sdb"), Some("sdc"), None]);
}

#[test]
fn a_module_is_found_again_in_the_bmcs_units() {
    let dimm = |locator: &str, serial: &str| Dimm {
        locator: Some(locator.to_owned()),
        populated: true,
        serial: Some(serial.to_owned()),
        ..Dimm::default()
    };
    let fru = |id: u8, serial: &str| Fru {
        id,
        memory: Some(FruMemory {
            serial: Some(serial.to_owned()),
            made_in_week: Some("2017-W02".to_owned()),
            ..FruMemory::default()
        }),
        ..Fru::default()
    };
    let mut inventory = nothing();
    let dimms = vec![
        dimm("A1", "0x1A2B3C4D"),
        dimm("A2", "11112222"),
        dimm("B1", "33334444"),
        dimm("B2", "33334444"),
    ];
    inventory.memory = Part::ok(
        "test",
        Memory {
            dimms,
            ..Memory::default()
        },
    );
    let frus = vec![fru(7, "1a2b3c4d"), fru(8, "33334444"), fru(9, "99990000")];
    inventory.bmc = Part::ok("test", Bmc { frus, ..Bmc::default() });
    join(&mut inventory);
    let dimms = inventory.memory.value.unwrap().dimms;
    let told: Vec<_> = dimms
        .iter()
        .map(|dimm| (dimm.fru, dimm.made_in_week.as_deref()))
        .collect();
    assert_eq!(
        told,
        [(Some(7), Some("2017-W02")), (None, None), (None, None), (None, None)]
    );
}
