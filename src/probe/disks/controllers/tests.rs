//! Controllers put together as drivers show them.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Tree(tempfile::tempdir().unwrap())
    }
    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }
    fn controllers(&self) -> Part<Vec<StorageController>> {
        storage_controllers(&Root::at(self.0.path()), Duration::from_secs(30), &Publish::nowhere())
    }
}

fn megaraid() -> Tree {
    let tree = Tree::new();
    let function = "sys/devices/pci0000:17/0000:18:00.0";
    tree.write(&format!("{function}/class"), "0x010400\n")
        .write(&format!("{function}/vendor"), "0x1000\n")
        .write(&format!("{function}/device"), "0x005d\n")
        .write(&format!("{function}/numa_node"), "0\n")
        .write("sys/bus/pci/drivers/megaraid_sas/x", "")
        .write("sys/module/megaraid_sas/version", "07.727.03.00-rc1\n")
        .link(&format!("{function}/driver"), "../../../bus/pci/drivers/megaraid_sas")
        .link(
            "sys/bus/pci/devices/0000:18:00.0",
            "../../../devices/pci0000:17/0000:18:00.0",
        )
        .write(&format!("{function}/host0/scsi_host/host0/proc_name"), "megaraid_sas\n")
        .write(&format!("{function}/host0/scsi_host/host0/state"), "running\n")
        .write(&format!("{function}/host0/scsi_host/host0/version_fw"), "51.16\n")
        .link(
            "sys/class/scsi_host/host0",
            &format!("../../../{function}/host0/scsi_host/host0"),
        )
        .write(&format!("{function}/host0/target0:2:0/0:2:0:0/block/sda/size"), "8\n")
        .link(
            &format!("{function}/host0/target0:2:0/0:2:0:0/block/sda/device"),
            "../../../0:2:0:0",
        )
        .link(
            "sys/block/sda",
            "../devices/pci0000:17/0000:18:00.0/host0/target0:2:0/0:2:0:0/block/sda",
        );
    tree
}

#[test]
fn a_raid_controller_with_its_host_and_volume() {
    let part = megaraid().controllers();
    let found = part.value.unwrap();
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*one.kind, one.driver.as_deref()), ("raid", Some("megaraid_sas")));
    assert_eq!(one.pci_id.as_deref(), Some("1000:005d"));
    assert!(one.device.as_ref().unwrap().contains("MegaRAID"), "{:?}", one.device);
    assert_eq!(one.driver_version.as_deref(), Some("07.727.03.00-rc1"));
    assert_eq!(one.firmware.as_deref(), Some("51.16"));
    assert_eq!(one.hosts[0].state.as_deref(), Some("running"));
    assert_eq!(one.disks, ["sda"]);
    let item = &part.items[0];
    assert_eq!(
        (&*item.item, item.status),
        ("0000:18:00.0.raid", PartStatus::Unsupported)
    );
    assert!(item.reason.as_ref().unwrap().contains("storcli64"));
}

#[test]
fn the_makers_program_is_quoted() {
    let tree = megaraid();
    tree.write(".recon/raid/megaraid_sas/perccli64", "{\"Controllers\":[]}");
    let part = tree.controllers();
    // storcli64 is asked first, and in this capture it has no answer.
    let tool = &part.value.unwrap()[0].tool;
    assert_eq!(tool.as_ref().map(|tool| &*tool.text), Some("{\"Controllers\":[]}"));
    assert!(
        part.items.iter().all(|item| item.status == PartStatus::Ok),
        "{:?}",
        part.items
    );
}

#[test]
fn hosts_without_a_function_of_that_class_stand_alone() {
    let tree = Tree::new();
    tree.write("sys/devices/platform/host2/session1/x", "")
        .write("sys/devices/platform/host2/scsi_host/host2/proc_name", "iscsi_tcp\n")
        .link(
            "sys/class/scsi_host/host2",
            "../../devices/platform/host2/scsi_host/host2",
        )
        .write(
            "sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/scsi_host/host6/proc_name",
            "usb-storage\n",
        )
        .link(
            "sys/class/scsi_host/host6",
            "../../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/scsi_host/host6",
        );
    let found = tree.controllers().value.unwrap();
    let kinds: Vec<_> = found.iter().map(|one| &*one.kind).collect();
    assert_eq!(kinds, ["iscsi_tcp"]);
    assert_eq!(Tree::new().controllers().status, PartStatus::Absent);
}

#[test]
fn classes_are_told_apart() {
    assert_eq!(kind(0x01_0802), Some("nvme"));
    assert_eq!(kind(0x0c_0400), Some("fc"));
    assert_eq!(kind(0x02_0000), None);
}
