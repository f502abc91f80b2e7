//! One list of all firmware.

use super::*;
use crate::model::inventory::{
    Bios, Bmc, Cpus, CxlDevice, Dimm, Disk, FirmwareMode, Fru, FruProduct, Gpu, Memory, Nic, PartStatus, PhysicalDisk,
    PowerSupply, Security, StorageController, System, Tpm,
};
use std::fs;

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn every_part_with_firmware_is_in_the_list_once() {
    let mut inventory = crate::probe::tests::nothing_known();
    inventory.bios = Part::ok(
        "SMBIOS",
        Bios {
            vendor: some("Dell Inc."),
            version: some("2.19.1"),
            date: some("06/04/2023"),
            release: None,
            embedded_controller_release: some("1.7"),
            mode: FirmwareMode::Uefi,
            uefi_bits: None,
            smbios_version: None,
            rom_size_bytes: None,
            virtual_machine: None,
            uefi_capable: None,
        },
    );
    let psu = Fru {
        name: some("PS1 Status"),
        entity: some("power supply 1"),
        product: Some(FruProduct {
            product: some("PWR SPLY,750W"),
            version: some("00.1D.7D"),
            serial: some("P1"),
            ..FruProduct::default()
        }),
        ..Fru::default()
    };
    inventory.bmc = Part::ok(
        "ipmi",
        Bmc {
            device: "/dev/ipmi0".to_owned(),
            firmware: some("6.10"),
            firmware_aux: some("00501e00"),
            frus: vec![psu],
            ..Bmc::default()
        },
    );
    inventory.cpus = Part::ok(
        "/proc/cpuinfo",
        Cpus {
            model: some("Xeon"),
            microcode: some("0x1"),
            microcode_revisions: vec!["0x1".to_owned(), "0x2".to_owned()],
            ..Cpus::default()
        },
    );
    inventory.security = Part::ok(
        "tpm",
        Security {
            tpms: vec![Tpm {
                device: "tpm0".to_owned(),
                vendor: some("IFX"),
                firmware: some("7.85.4555.0"),
                ..Tpm::default()
            }],
            ..Security::default()
        },
    );
    let nic = |name: &str, address: &str, function: Option<&str>, version: &str| Nic {
        name: name.to_owned(),
        model: some("X710"),
        pci_address: some(address),
        physical_function: function.map(str::to_owned),
        firmware: some(version),
        ..Nic::default()
    };
    inventory.nics = Part::ok(
        "net",
        vec![
            nic("eno1", "0000:18:00.0", None, "9.20"),
            nic("eno2", "0000:18:00.1", None, "9.20"),
            nic("eno1v0", "0000:18:02.0", Some("0000:18:00.0"), "N/A?"),
            nic("ens1", "0000:3b:00.0", None, "9.20"),
        ],
    );
    inventory.gpus = Part::ok(
        "gpu",
        vec![Gpu {
            pci_address: "0000:af:00.0".to_owned(),
            vbios: some("90.04"),
            ..Gpu::default()
        }],
    );
    let disk = |name: &str| Disk {
        name: name.to_owned(),
        model: some("MODEL"),
        firmware: some("FW1"),
        ..Disk::default()
    };
    inventory.disks = Part::ok("/sys/block", vec![disk("sda"), disk("nvme0n1")]);
    let member = |address: &str, kernel: Option<&str>| PhysicalDisk {
        address: address.to_owned(),
        kernel_name: kernel.map(str::to_owned),
        serial: some(address),
        firmware: some("EJ08"),
        ..PhysicalDisk::default()
    };
    inventory.storage_controllers = Part::ok(
        "pci",
        vec![
            StorageController {
                pci_address: some("0000:17:00.0"),
                model: some("PERC H730P"),
                firmware: some("4.300"),
                option_rom: some("6.36"),
                physical_disks: vec![member("megaraid,1", None), member("megaraid,2", Some("sda"))],
                ..StorageController::default()
            },
            StorageController {
                pci_address: some("0000:5e:00.0"),
                firmware: some("FW1"),
                nvme_controllers: vec!["nvme0".to_owned()],
                ..StorageController::default()
            },
        ],
    );
    inventory.memory = Part::ok(
        "memory",
        Memory {
            dimms: vec![Dimm {
                locator: some("A7"),
                firmware: some("02.02.00"),
                ..Dimm::default()
            }],
            cxl_devices: vec![CxlDevice {
                name: "mem0".to_owned(),
                firmware: some("BWFW"),
                ..CxlDevice::default()
            }],
            ..Memory::default()
        },
    );
    let supply = |location: &str, serial: &str| PowerSupply {
        location: some(location),
        serial: some(serial),
        revision: some("A00"),
        present: true,
        ..PowerSupply::default()
    };
    inventory.system = Part::ok(
        "SMBIOS",
        System {
            power_supplies: vec![supply("1", "P1"), supply("2", "P2")],
            ..System::default()
        },
    );
    let told: Vec<(String, String, String)> = derived(&inventory)
        .into_iter()
        .map(|one| (one.component, one.belongs_to.unwrap_or_default(), one.version))
        .collect();
    let told: Vec<(&str, &str, &str)> = told.iter().map(|(a, b, c)| (&**a, &**b, &**c)).collect();
    assert_eq!(
        told,
        [
            ("bios", "", "2.19.1"),
            ("embedded controller", "", "1.7"),
            ("bmc", "/dev/ipmi0", "6.10 (00501e00)"),
            ("microcode", "", "0x1"),
            ("microcode", "", "0x2"),
            ("tpm", "tpm0", "7.85.4555.0"),
            ("nic", "0000:18:00.0, 0000:18:00.1", "9.20"),
            ("nic", "0000:3b:00.0", "9.20"),
            ("gpu", "0000:af:00.0", "90.04"),
            ("controller", "0000:17:00.0", "4.300"),
            ("option rom", "0000:17:00.0", "6.36"),
            ("disk", "sda", "FW1"),
            ("disk", "nvme0n1", "FW1"),
            ("disk", "0000:17:00.0 megaraid,1", "EJ08"),
            ("memory module", "A7", "02.02.00"),
            ("cxl memory", "mem0", "BWFW"),
            ("power supply", "PS1 Status", "00.1D.7D"),
            ("power supply", "2", "A00"),
        ]
    );
    assert!(derived(&inventory).iter().all(|one| !one.source.is_empty()));
    // Not asked for: nothing is told.
    crate::probe::collect::joined::join(&mut inventory);
    assert_eq!(
        (inventory.firmware.status, inventory.firmware.value.is_none()),
        (PartStatus::Unsupported, true)
    );
}

#[test]
fn what_firmware_lists_itself_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let entry = "sys/firmware/efi/esrt/entries/entry0";
    for (file, text) in [
        ("fw_class", "ddc0ee61-e7f0-4e7d-acc5-c070a398838e\n"),
        ("fw_type", "1\n"),
        ("fw_version", "65586\n"),
        ("lowest_supported_fw_version", "65536\n"),
        ("last_attempt_version", "65590\n"),
        ("last_attempt_status", "6\n"),
    ] {
        write(&format!("{entry}/{file}"), text);
    }
    write("sys/class/mei/mei0/fw_ver", "0:4.0.4.294\n0:4.0.4.294\n0:0.0.0.0\n");
    // SMBIOS 3.5: a header of type 45 and its five strings.
    let mut table = vec![45, 24, 1, 0, 1, 2, 0, 3, 0, 4, 5, 0];
    table.extend([0u8; 8]);
    table.extend([0, 0, 3, 0]);
    table.extend(b"Chassis CPLD\x001.0.4\x00id\x002021-05-15\x00ExampleCo\x00\x00");
    table.extend([127, 4, 2, 0, 0, 0]);
    let tables = dir.path().join("sys/firmware/dmi/tables");
    fs::create_dir_all(&tables).unwrap();
    fs::write(tables.join("DMI"), &table).unwrap();
    let mut entry_point = b"_SM3_\x00\x18\x03\x05\x00\x01\x00".to_vec();
    entry_point.extend((table.len() as u32).to_le_bytes());
    entry_point.extend([0u8; 8]);
    let sum = entry_point.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    entry_point[5] = 0u8.wrapping_sub(sum);
    fs::write(tables.join("smbios_entry_point"), &entry_point).unwrap();
    let part = listed(
        &Root::at(dir.path()),
        false,
        &source::start(&Root::at(dir.path())),
        Duration::from_secs(30),
    );
    let found = part.value.unwrap();
    let [esrt, listed, engine] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (&*esrt.version, esrt.lowest_version.as_deref()),
        ("0x00010032", Some("0x00010000"))
    );
    assert_eq!(esrt.belongs_to.as_deref(), Some("ddc0ee61-e7f0-4e7d-acc5-c070a398838e"));
    assert_eq!(
        esrt.note.as_deref(),
        Some("the last update, to 0x00010036, failed: no mains")
    );
    assert_eq!(
        (
            listed.name.as_deref(),
            &*listed.version,
            listed.date.as_deref(),
            listed.note.as_deref()
        ),
        (Some("Chassis CPLD"), "1.0.4", Some("2021-05-15"), Some("disabled"))
    );
    assert_eq!(
        (&*engine.component, &*engine.version),
        ("management engine", "4.0.4.294")
    );
    assert!(part.items.is_empty());
}

#[test]
fn cards_tell_their_pieces_by_devlink() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join(".recon/devlink");
    fs::create_dir_all(&answers).unwrap();
    let message = devlink_info::testing::device(
        "0000:18:00.0",
        &[
            (101, "fw.mgmt", "6.1.3"),
            (101, "fw.undi", "1.2"),
            (102, "fw.mgmt", "7.0.1"),
            (102, "fw.undi", "1.2"),
            (102, "fw.app", "3"),
        ],
    );
    fs::write(answers.join("info"), message).unwrap();
    let found = listed(
        &Root::at(dir.path()),
        false,
        &source::start(&Root::at(dir.path())),
        Duration::from_secs(30),
    )
    .value
    .unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.name.as_deref().unwrap(), &*one.version, one.note.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "fw.mgmt",
                "6.1.3",
                Some("7.0.1 is stored and runs after the next start")
            ),
            ("fw.undi", "1.2", None),
            ("fw.app", "3", Some("stored, not running")),
        ]
    );
    assert!(
        found
            .iter()
            .all(|one| one.belongs_to.as_deref() == Some("0000:18:00.0"))
    );
}

#[test]
fn the_list_alone_is_whole_and_alone() {
    let root = Root::at(crate::probe::tests::machines().join("server-2s/tree"));
    let mut options = crate::probe::tests::options();
    let all = crate::probe::collect(&root, None, &options);
    options.only = Some(["firmware".to_owned()].into());
    let alone = crate::probe::collect(&root, None, &options);
    assert_eq!(alone.firmware.value, all.firmware.value);
    assert!(alone.firmware.value.as_ref().is_some_and(|list| list.len() > 10));
    for part in alone.parts().iter().filter(|part| part.name != "firmware") {
        assert_eq!(part.reason, Some("not asked for"), "{}", part.name);
    }
}
