use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::formats::first_stage;

/// An ELF file with nothing but a section `.modinfo`, as far as a reader of sections looks at a module.
fn module(fields: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let info = fields.replace(' ', "\0") + "\0";
    let (info_at, names_at) = (64, 64 + info.len());
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // ET_REL, x86-64, version; entry, program headers, section headers; flags; sizes and counts; index of the names.
    for (value, width) in [
        (1, 2),
        (62, 2),
        (1, 4),
        (0, 8),
        (0, 8),
        (sections_at, 8),
        (0, 4),
        (64, 2),
        (0, 2),
        (0, 2),
        (64, 2),
        (3, 2),
        (2, 2),
    ] {
        file.extend(&(value as u64).to_le_bytes()[..width]);
    }
    file.extend(info.bytes());
    file.extend(names);
    file.resize(sections_at + 64, 0);
    // Name, kind, flags, address, offset, size, link, info, alignment, size of an entry.
    for (name, kind, at, size) in [(1, 1, info_at, info.len()), (10, 3, names_at, names.len())] {
        for (value, width) in [
            (name, 4),
            (kind, 4),
            (0, 8),
            (0, 8),
            (at, 8),
            (size, 8),
            (0, 4),
            (0, 4),
            (1, 8),
            (0, 8),
        ] {
            file.extend(&(value as u64).to_le_bytes()[..width]);
        }
    }
    file
}

const TABLE: &str = "base\tdrivers/net/virtio-net\tclouds\nport\tdrivers/net/nic*\npack\tdrivers/scsi/*\nnever\tdrivers/watchdog/*\tresets\n\
    with\tdrivers/net/nic\tdrivers/net/phy\nrare\tdrivers/net/nic-old\told\nboot\tdrivers/net/vlan\tVLANs\nnofirmware\tsecret/*\tlarge\n\
    drives\tdrivers/virtio/virtio_pci\tpci:v00001AF4d*sv*\ngroup\tshell\tsh\ngroup\tshell\tash=sh\ngroup\tshell\tnothing\n\
    group\tshell\t/etc/ssl/all.pem\ngroup\tshell\t/etc/ssl/none.pem\n";

/// A root tree in which /lib is no link, modules are packed, and firmware as well.
fn scratch() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fill(root.path(), "lib/modules/5.14.21-default");
    root
}

/// A program that needs no other file, as far as its head tells.
pub(crate) fn alone() -> Vec<u8> {
    module("license=Apache")
}

/// The same in a tree that is there; `modules`: the folder of the kernel's.
pub(crate) fn fill(root: &Path, modules: &str) {
    let put = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    let all = [
        ("net/virtio-net", "", "alias=a"),
        (
            "net/nic",
            " kernel/drivers/net/mii.ko.zst",
            "firmware=nic/a.fw firmware=nic/b*.fw firmware=none.fw firmware=secret/x",
        ),
        ("net/nic-old", "", "license=GPL"),
        ("net/vlan", " kernel/drivers/net/mrp.ko.zst", "license=GPL"),
        ("net/mrp", "", "license=GPL"),
        ("net/mii", "", "license=GPL"),
        ("net/phy", "", "license=GPL"),
        // Of the table of our own images.
        ("net/ethernet/acme/acme", "", "license=GPL"),
        ("scsi/hba", " kernel/drivers/scsi/core.ko.zst", "firmware=nic/a.fw"),
        ("scsi/core", "", "license=GPL"),
        ("scsi/evil", "", "license=GPL"),
        ("scsi/needs-evil", " kernel/drivers/scsi/evil.ko.zst", "license=GPL"),
        ("watchdog/softdog", "", "license=GPL"),
    ];
    let mut table = String::new();
    for (path, needs, fields) in all {
        let packed = zstd::encode_all(&module(fields)[..], 1).unwrap();
        put(&format!("{modules}/kernel/drivers/{path}.ko.zst"), &packed);
        table.push_str(&format!("kernel/drivers/{path}.ko.zst:{needs}\n"));
    }
    put(&format!("{modules}/modules.dep"), table.as_bytes());
    put(
        &format!("{modules}/modules.alias"),
        b"# c\nalias virtio:d1* virtio_net\nalias pci:v1* nic\nalias usb:v2* nic\nalias mdio:1 nic\nalias pci:v3* nic_old\nalias pci:v4* hba\n\
          alias pci:v5* core\nalias pci:v6* acme\nalias phy-any phy\n",
    );
    put(
        &format!("{modules}/modules.softdep"),
        b"softdep nic pre: phy-any softdog none\n",
    );
    put(
        &format!("{modules}/modules.builtin"),
        b"kernel/drivers/virtio/virtio_pci.ko\n",
    );
    put(
        "etc/modprobe.d/a.conf",
        b"install evil /bin/false\noptions hba a=1\nblacklist core\n",
    );
    put("lib/modprobe.d/a.conf", b"options hba b=2\n");
    put("lib/modprobe.d/b.conf", b"options hba c=3\n");
    put("lib/modprobe.d/c.conf", b"options hba d=4\n");
    symlink("/dev/null", root.join("etc/modprobe.d/c.conf")).unwrap();
    symlink("/dev/null", root.join("lib/modprobe.d/d.conf")).unwrap();
    put("lib/firmware/nic/a.fw.xz", b"");
    put("lib/firmware/nic/plain", b"b1");
    put("lib/firmware/secret/x", b"secret");
    symlink("plain", root.join("lib/firmware/nic/b1.fw")).unwrap();
    let xz = Command::new("xz")
        .args(["--check=crc32", "--stdout", "/proc/self/cmdline"])
        .output();
    put(
        "lib/firmware/nic/a.fw.xz",
        &xz.expect("xz is missing (package xz-utils)").stdout,
    );
    put("bin/dash", b"#!/x");
    fs::set_permissions(root.join("bin/dash"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("/bin/dash", root.join("bin/sh")).unwrap();
    put("var/ca/all.pem", b"certificates");
    fs::create_dir(root.join("etc/ssl")).unwrap();
    symlink("/var/ca/all.pem", root.join("etc/ssl/all.pem")).unwrap();
}

fn made() -> Stage {
    let root = scratch();
    Stage::make(
        &Tree::new(root.path()),
        None,
        b"recon",
        &Table::read(TABLE).unwrap(),
        None,
    )
    .unwrap()
}

fn names(list: &str) -> Names {
    list.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn everything_is_in_its_piece() {
    let stage = made();
    assert_eq!(stage.plan.base, names("virtio_net"));
    assert_eq!(Vec::from_iter(stage.ports.keys()), ["nic", "nic_old"]);
    // Needed, wanted softly, and told by the table.
    assert_eq!(stage.plan.ports["nic"], names("nic mii phy"));
    assert_eq!(stage.plan.any_port, names("nic mii phy vlan mrp"));
    assert_eq!(stage.plan.pack, names("nic nic_old mii phy vlan mrp hba core"));
    assert_eq!(
        stage.plan.left_out,
        BTreeMap::from([("needs_evil".to_owned(), "it needs evil".to_owned())])
    );
    assert_eq!(
        stage.patterns,
        "pci:v00001AF4d*sv*\tvirtio_pci\tbase\npci:v1*\tnic\npci:v3*\tnic_old\nusb:v2*\tnic\nvirtio:d1*\tvirtio_net\tbase\n"
    );
    let images = PortTable::read(&stage.patterns).unwrap();
    assert_eq!(Vec::from_iter(images.images()), ["nic", "nic_old"]);
    assert_eq!(stage.missing, ["shell: nothing"]);
}

/// By the name in the archive of cpio, and the content behind it.
#[test]
fn keys_that_have_to_have_signed_are_in_the_base() {
    let root = scratch();
    let table = Table::read(TABLE).unwrap();
    for (keys, is_there) in [(Some("ssh-ed25519 AAAA me\n"), true), (None, false)] {
        let stage = Stage::make(&Tree::new(root.path()), None, b"recon", &table, keys).unwrap();
        let base = zstd::decode_all(&stage.base[..]).unwrap();
        let holds = |words: &str| base.windows(words.len()).any(|bytes| bytes == words.as_bytes());
        assert_eq!(holds("etc/recon/image.pub"), is_there);
        assert_eq!(holds("ssh-ed25519 AAAA me\n"), is_there);
    }
}

/// Two rows may add the same, and what the module itself asks for as well: each is wanted once, and never the module by itself.
#[test]
fn what_several_rows_add_is_wanted_once() {
    let root = scratch();
    let table = format!(
        "{TABLE}with\tdrivers/net/ni*\tdrivers/net/ph*\nwith\tdrivers/net/nic\tdrivers/net/nic\nwith\tdrivers/net/nic\tdrivers/net/mii\n"
    );
    let stage = Stage::make(
        &Tree::new(root.path()),
        None,
        b"recon",
        &Table::read(&table).unwrap(),
        None,
    )
    .unwrap();
    let manifest = Manifest::read(&stage.manifest).unwrap();
    assert_eq!(manifest.module("nic").unwrap().soft, ["phy", "mii"]);
    assert_eq!(stage.plan.ports["nic"], names("nic mii phy"));
}

#[test]
fn the_manifest_leads_to_what_is_packed() {
    let stage = made();
    let manifest = Manifest::read(&stage.manifest).unwrap();
    assert_eq!(manifest.kernel(), "5.14.21-default");
    let nic = manifest.module("nic").unwrap();
    assert_eq!(nic.path, "/usr/lib/modules/5.14.21-default/kernel/drivers/net/nic.ko");
    assert_eq!(nic.soft, ["phy"]);
    assert_eq!(
        nic.firmware,
        ["/usr/lib/firmware/nic/a.fw", "/usr/lib/firmware/nic/b1.fw"]
    );
    assert_eq!(
        manifest.module("hba").unwrap().options,
        "a=1 c=3",
        "the folder that counts more has the file's name as well"
    );
    // Blacklisted: loaded for others, and for no device.
    assert!(manifest.module("core").is_some() && manifest.modules_for("pci:v5").is_empty());
    assert_eq!(manifest.modules_for("pci:v4")[0].name, "hba");
    let content = |path: &str| {
        let file = manifest.packed(path).unwrap();
        let (start, length) = (file.offset as usize, file.packed as usize);
        let mut bytes = Vec::new();
        let mut unpacker = flate2::read::GzDecoder::new(&stage.pack[start..start + length]);
        std::io::Read::read_to_end(&mut unpacker, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, file.size);
        (file.mode, bytes)
    };
    assert_eq!(content("/usr/lib/firmware/nic/b1.fw"), (0o644, b"b1".to_vec()));
    assert!(
        content("/usr/lib/firmware/nic/a.fw").1.starts_with(b"xz\0--check"),
        "unpacked"
    );
    assert!(content(&nic.path).1.starts_with(b"\x7fELF"), "unpacked");
    assert_eq!(
        manifest.packed("/usr/lib/modules/5.14.21-default/kernel/drivers/net/virtio-net.ko"),
        None
    );
    let group = manifest.group("shell").unwrap();
    assert_eq!(content(&group.files[0].path), (0o755, b"#!/x".to_vec()));
    assert_eq!(
        group.links,
        [
            ("/etc/ssl/all.pem", "/var/ca/all.pem"),
            ("/usr/bin/ash", "/usr/bin/dash"),
            ("/usr/bin/sh", "/usr/bin/dash")
        ]
    );
    assert_eq!(content("/var/ca/all.pem").1, b"certificates");
}

/// A node fetches its root and nothing else: what it cannot have in its initrd it has no way to.
#[test]
fn a_node_starts_from_its_ports_alone() {
    let root = scratch();
    let table = Table {
        pack: Vec::new(),
        groups: Vec::new(),
        ..Table::read(TABLE).unwrap()
    };
    let stage = Stage::make(&Tree::new(root.path()), Some("5.14.21-default"), b"recon", &table, None).unwrap();
    let names: Vec<String> = stage.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [BASE, PORTS, first_stage::TABLE, "port/nic.img", "port/nic_old.img"]
    );
    let manifest = Manifest::read(&stage.manifest).unwrap();
    let nic = manifest.module("nic").unwrap();
    assert!(manifest.packed(&nic.path).is_none() && manifest.group("shell").is_none());
    assert!(manifest.module("hba").is_none(), "its own system looks for that");
    assert!(Stage::make(&Tree::new(root.path()), Some("6.1"), b"recon", &table, None).is_err());
    let own = Table::of_nodes().unwrap();
    assert!(own.pack.is_empty() && own.groups.is_empty() && own.port.len() > 5);
}

#[test]
fn only_a_program_without_libraries_is_alone() {
    assert!(is_alone(&alone()));
    let shell = fs::read("/bin/bash").unwrap();
    assert!(!is_alone(&shell) && !is_alone(b"#!/bin/sh\n") && !is_alone(b""));
}

/// What no reader of the medium takes must not get onto one.
#[test]
fn a_table_that_would_not_be_read_is_not_written() {
    let root = scratch();
    let modules = root.path().join("lib/modules/5.14.21-default");
    let long = "nic_of_more_than_27_characters";
    let path = format!("kernel/drivers/net/{long}.ko");
    fs::write(modules.join(&path), module("license=GPL")).unwrap();
    for (name, line) in [
        ("modules.dep", format!("{path}:\n")),
        ("modules.alias", format!("alias pci:v9* {long}\n")),
    ] {
        let text = fs::read_to_string(modules.join(name)).unwrap() + &line;
        fs::write(modules.join(name), text).unwrap();
    }
    let table = Table::read(TABLE).unwrap();
    let said = Stage::make(&Tree::new(root.path()), None, b"recon", &table, None)
        .err()
        .unwrap();
    assert_eq!(
        format!("{said:#}"),
        "ports.tsv would not be read: line 4 of ports.tsv is no alias"
    );
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (one, two) = (made(), made());
    assert_eq!((one.base, one.any_port, one.ports), (two.base, two.any_port, two.ports));
    assert_eq!(
        (one.pack, one.manifest, one.patterns),
        (two.pack, two.manifest, two.patterns)
    );
}

#[test]
fn the_base_begins_with_recon() {
    let stage = made();
    let text = String::from_utf8_lossy(&zstd::decode_all(&stage.base[..]).unwrap()).into_owned();
    let position = |name: &str| text.find(&format!("{name}\0")).unwrap_or_else(|| panic!("no {name}"));
    assert!(
        position("usr/bin") < position("usr/bin/recon"),
        "folders come before what is in them"
    );
    assert!(position("virtio-net.ko") > position("usr/lib/modules/5.14.21-default"));
    assert!(position(&MANIFEST[1..]) < text.find(&stage.manifest).unwrap());
    for (path, root) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        assert!(position(path) < text.find(root).unwrap(), "{path}");
    }
    for word in ["dash", "nic.ko", "hba.ko"] {
        assert!(!text.contains(&format!("{word}\0")), "{word}");
    }
}

/// The libraries of this machine's own shell, as its loader names them.
#[test]
fn libraries_are_those_that_the_loader_takes() {
    let mut files = elf::Files::new();
    elf::add_with_libraries(&Tree::new(Path::new("/")), "/bin/bash", &mut files).unwrap();
    let said = Command::new("ldd")
        .arg("/bin/bash")
        .output()
        .expect("ldd is missing (package libc-bin)");
    let said = String::from_utf8(said.stdout).unwrap();
    let paths = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let real = |path: &str| fs::canonicalize(path).unwrap();
    let mut expected: BTreeSet<PathBuf> = paths.map(real).collect();
    expected.insert(real("/bin/bash"));
    assert_eq!(files.values().map(|path| real(path)).collect::<BTreeSet<_>>(), expected);
}

#[test]
fn links_of_a_tree_stay_in_it() {
    let root = tempfile::tempdir().unwrap();
    let tree = Tree::new(root.path());
    fs::create_dir_all(root.path().join("usr/lib")).unwrap();
    fs::write(root.path().join("usr/lib/a"), "a").unwrap();
    symlink("usr/lib", root.path().join("lib")).unwrap();
    symlink("/../../usr/lib/a", root.path().join("b")).unwrap();
    symlink("c", root.path().join("c")).unwrap();
    symlink("/etc", root.path().join("etc")).unwrap();
    assert_eq!(tree.real("/lib/a").as_deref(), Some("/usr/lib/a"));
    assert_eq!(tree.real("/b").as_deref(), Some("/usr/lib/a"));
    assert_eq!(
        (tree.real("/c"), tree.real("/etc/hostname"), tree.real("/lib/x")),
        (None, None, None)
    );
    assert_eq!(tree.below("/usr"), ["lib/a"]);
}

#[test]
fn the_table_of_the_image_is_read() {
    let table = Table::read(include_str!("../../../kiwi/common/first-stage.tsv")).unwrap();
    let txgbe = "kernel/drivers/net/ethernet/wangxun/txgbe/txgbe.ko";
    let txgbe = Vec::from_iter(table::second(&table.with, txgbe).map(String::as_str));
    for part in [
        "drivers/net/phy/sfp",
        "drivers/i2c/busses/i2c-designware*",
        "drivers/net/phy/motorcomm",
    ] {
        assert!(txgbe.contains(&part), "{part}: {txgbe:?}");
    }
    assert!(table.port.len() > 5 && table.never.len() > 5 && table.groups.len() > 5);
    for row in ["base\tx", "port\tx\ty", "what\tx", "rare\tx"] {
        assert!(Table::read(row).is_err(), "{row}");
    }
}
