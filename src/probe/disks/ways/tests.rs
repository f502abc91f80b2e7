use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// A tree like the kernel's, and what is seen in it.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Tree {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn folder(&self, path: &str) -> PathBuf {
        let folder = self.dir.path().join(path);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// A device of a class: `sys/class/<class>/<name>` leads to `<parent>/<class>/<name>`, whose `device` leads back.
    fn class(&self, class: &str, parent: &str, name: &str) -> String {
        let place = format!("{parent}/{class}/{name}");
        symlink(format!("/{parent}"), self.folder(&place).join("device")).unwrap();
        symlink(
            format!("/{place}"),
            self.folder(&format!("sys/class/{class}")).join(name),
        )
        .unwrap();
        place
    }

    /// A PCI function with a driver; gives its place.
    fn function(&self, address: &str, class: &str, driver: &str) -> String {
        let place = format!("sys/devices/pci0000:00/{address}");
        self.file(&format!("{place}/class"), class);
        self.folder(&format!("sys/bus/pci/drivers/{driver}"));
        let link = self.folder(&place).join("driver");
        symlink(format!("/sys/bus/pci/drivers/{driver}"), link).unwrap();
        symlink(format!("/{place}"), self.folder("sys/bus/pci/devices").join(address)).unwrap();
        place
    }

    fn host(&self, parent: &str, name: &str, driver: &str) -> String {
        let place = format!("{parent}/{name}");
        let class = self.class("scsi_host", &place, name);
        self.file(&format!("{class}/state"), "running");
        self.file(&format!("{class}/proc_name"), driver);
        place
    }

    /// A SCSI device below `parent`; gives its place.
    fn scsi(&self, parent: &str, name: &str, kind: &str) -> String {
        let target = name.rsplit_once(':').unwrap().0;
        let place = format!("{parent}/target{target}/{name}");
        self.file(&format!("{place}/type"), kind);
        symlink(format!("/{place}"), self.folder("sys/bus/scsi/devices").join(name)).unwrap();
        place
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(Root::at(self.dir.path()))
    }

    fn ways(&self) -> BTreeMap<String, Way> {
        self.scanner().scan().ways
    }
}

fn running(target: bool, transport: Transport) -> Way {
    Way::Host(Host {
        state: "running".to_owned(),
        target,
        transport,
    })
}

#[test]
fn fibre_channel() {
    let tree = Tree::new();
    let function = tree.function("0000:05:00.0", "0x0c0400", "qla2xxx");
    assert_eq!(
        tree.ways(),
        BTreeMap::from([("0000:05:00.0 (qla2xxx)".to_owned(), Way::Starting)])
    );
    let host = tree.host(&function, "host3", "qla2xxx");
    let class = tree.class("fc_host", &host, "host3");
    let with = |ways: BTreeMap<String, Way>, name: &str| ways.get(name).cloned().unwrap();
    tree.file(&format!("{class}/port_state"), "Linkdown");
    let down = Transport::FibreChannel("Linkdown".to_owned());
    assert_eq!(with(tree.ways(), "host3 (qla2xxx)"), running(false, down));
    tree.file(&format!("{class}/port_state"), "Online");
    let remote = format!("{host}/rport-3:0-1");
    let port = tree.class("fc_remote_ports", &remote, "rport-3:0-1");
    tree.file(&format!("{port}/roles"), "FCP Target");
    tree.file(&format!("{port}/port_state"), "Online");
    let way = |target| Way::RemotePort {
        roles: "FCP Target".to_owned(),
        state: "Online".to_owned(),
        target,
    };
    assert_eq!(with(tree.ways(), "rport-3:0-1"), way(false));
    let disk = tree.scsi(&remote, "3:0:1:0", "0");
    let up = Transport::FibreChannel("Online".to_owned());
    assert_eq!(with(tree.ways(), "host3 (qla2xxx)"), running(true, up));
    assert_eq!(with(tree.ways(), "rport-3:0-1"), way(true));
    assert_eq!(with(tree.ways(), "3:0:1:0"), Way::ScsiDisk { taken: false });
    tree.folder(&format!("{disk}/scsi_disk/3:0:1:0"));
    assert_eq!(with(tree.ways(), "3:0:1:0"), Way::ScsiDisk { taken: true });
    tree.folder(&format!("{disk}/block/sda"));
    assert_eq!(tree.ways().len(), 2);
    assert!(!tree.ways().contains_key("3:0:1:0"));
}

#[test]
fn sas_with_expanders() {
    let tree = Tree::new();
    let function = tree.function("0000:06:00.0", "0x010700", "mpt3sas");
    let host = tree.host(&function, "host1", "mpt3sas");
    tree.class("sas_host", &host, "host1");
    let phy = |name: &str, rate: &str| {
        let place = format!("{host}/{name}");
        let class = tree.class("sas_phy", &place, name);
        tree.file(&format!("{class}/negotiated_linkrate"), rate);
        place
    };
    let first = phy("phy-1:0", "12.0 Gbit");
    phy("phy-1:1", "Unknown");
    // Of an expander: the one that leads to the host.
    phy("phy-1:0:24", "12.0 Gbit");
    let told = |port| Transport::Sas(vec![("12.0 Gbit".to_owned(), port), ("Unknown".to_owned(), false)]);
    assert_eq!(tree.ways()["host1 (mpt3sas)"], running(false, told(false)));
    tree.folder(&format!("{first}/port"));
    assert_eq!(tree.ways()["host1 (mpt3sas)"], running(false, told(true)));
    let end = format!("{host}/port-1:0/expander-1:0/port-1:0:0/end_device-1:0:0");
    for (name, protocols) in [("end_device-1:0:0", "ssp"), ("expander-1:0", "smp")] {
        tree.class("sas_end_device", &end, name);
        let device = tree.class("sas_device", &end, name);
        tree.file(&format!("{device}/target_port_protocols"), protocols);
    }
    let ways = tree.ways();
    assert_eq!(ways["end_device-1:0:0"], Way::EndDevice { target: false });
    assert!(!ways.contains_key("expander-1:0"));
    tree.scsi(&end, "1:0:0:0", "0");
    let ways = tree.ways();
    assert_eq!(ways["end_device-1:0:0"], Way::EndDevice { target: true });
    assert_eq!(ways["host1 (mpt3sas)"], running(true, told(true)));
}

#[test]
fn raid_sata_usb_and_virtio() {
    let tree = Tree::new();
    let raid = tree.function("0000:03:00.0", "0x010400", "megaraid_sas");
    tree.host(&raid, "host0", "megaraid_sas");
    let sata = tree.function("0000:00:17.0", "0x010601", "ahci");
    tree.host(&format!("{sata}/ata1"), "host4", "ahci");
    let usb = tree.function("0000:00:14.0", "0x0c0330", "xhci_hcd");
    tree.host(&format!("{usb}/usb2/2-1/2-1:1.0"), "host6", "usb-storage");
    let virtio = tree.function("0000:00:04.0", "0x010000", "virtio-pci");
    tree.host(&format!("{virtio}/virtio1"), "host7", "virtio_scsi");
    let ways = tree.ways();
    assert_eq!(ways["host0 (megaraid_sas)"], running(false, Transport::Mute));
    assert_eq!(ways["host4 (ahci)"], running(false, Transport::AtOnce));
    assert_eq!(ways["host6 (usb-storage)"], running(false, Transport::Usb));
    assert_eq!(ways["host7 (virtio_scsi)"], running(false, Transport::AtOnce));
    assert_eq!(ways.len(), 4, "{ways:?}");
    // libata looks for its disks in the error handler.
    tree.file(&format!("{sata}/ata1/host4/scsi_host/host4/state"), "recovery");
    let Way::Host(host) = &tree.ways()["host4 (ahci)"] else {
        panic!("no host");
    };
    assert_eq!(host.state, "recovery");
    // An enclosure is no disk; one with a block device is known.
    tree.scsi(&format!("{raid}/host0"), "0:0:32:0", "13");
    let mut scanner = tree.scanner();
    assert_eq!(
        scanner.scan().ways["host0 (megaraid_sas)"],
        running(true, Transport::Mute)
    );
    assert!(!scanner.scan().ways.contains_key("0:0:32:0"));
}

#[test]
fn nvme_and_functions_of_others() {
    let tree = Tree::new();
    let function = tree.function("0000:01:00.0", "0x010802", "nvme");
    tree.function("0000:02:00.0", "0x010802", "vfio-pci");
    tree.function("0000:09:00.0", "0x020000", "ixgbe");
    let vmd = tree.function("0000:5d:05.5", "0x010400", "vmd");
    tree.folder(&format!("{vmd}/pci10000:00"));
    assert_eq!(
        tree.ways(),
        BTreeMap::from([("0000:01:00.0 (nvme)".to_owned(), Way::Starting)])
    );
    let class = tree.class("nvme", &function, "nvme0");
    tree.file(&format!("{class}/state"), "connecting");
    tree.file(&format!("{class}/transport"), "pcie");
    let way = |state: &str, namespace| Way::Nvme {
        state: state.to_owned(),
        namespace,
    };
    assert_eq!(
        tree.ways(),
        BTreeMap::from([("nvme0".to_owned(), way("connecting", false))])
    );
    tree.file(&format!("{class}/state"), "live");
    tree.folder(&format!("{class}/nvme0n1"));
    assert_eq!(tree.ways(), BTreeMap::from([("nvme0".to_owned(), way("live", true))]));
    tree.file(&format!("{class}/transport"), "tcp");
    assert!(tree.ways().is_empty());
}

#[test]
fn sessions_and_events() {
    let tree = Tree::new();
    let function = tree.function("0000:07:00.0", "0x010000", "qla4xxx");
    let host = tree.host(&function, "host2", "qla4xxx");
    let session = format!("{host}/session1");
    let class = tree.class("iscsi_session", &session, "session1");
    tree.file(&format!("{class}/state"), "FREE");
    tree.file("run/udev/queue", "");
    tree.file("proc/uptime", "12.50 40.00");
    let way = |state: &str, target| Way::Session {
        state: state.to_owned(),
        target,
    };
    let mut scanner = tree.scanner();
    assert_eq!(scanner.since_boot(), Some(std::time::Duration::from_millis(12_500)));
    let ways = scanner.scan().ways;
    assert_eq!(
        (&ways["session1"], &ways["drivers that udev loads"]),
        (&way("FREE", false), &Way::Events)
    );
    tree.file(&format!("{class}/state"), "LOGGED_IN");
    tree.scsi(&session, "2:0:0:0", "0");
    fs::remove_file(tree.dir.path().join("run/udev/queue")).unwrap();
    let ways = scanner.scan().ways;
    assert_eq!(ways["session1"], way("LOGGED_IN", true));
    assert!(!ways.contains_key("drivers that udev loads"));
}

#[test]
fn disks_are_named_as_the_inventory_names_them() {
    let tree = Tree::new();
    for name in ["sda", "nvme0n1", "mmcblk0", "mmcblk0boot0", "loop0", "dm-0", "sr0"] {
        tree.folder(&format!("sys/block/{name}/device"));
    }
    tree.folder("sys/block/md0");
    tree.file("sys/block/nvme0c0n1/hidden", "1");
    tree.folder("sys/block/nvme0c0n1/device");
    let names: Vec<String> = tree.scanner().scan().disks.into_iter().collect();
    assert_eq!(names, ["mmcblk0", "nvme0n1", "sda", "sr0"]);
}
