use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::port::numeral;
use super::*;

/// A machine of tests/fixtures/port-names/machines.txt.
#[derive(Default)]
struct Machine {
    title: String,
    places: BTreeMap<String, PathBuf>,
    /// The kernel's name and udev's.
    ports: Vec<(String, String)>,
    files: Vec<(PathBuf, Vec<u8>)>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Machine {
    /// Below the tree, without `..`.
    fn path(&self, text: &str) -> PathBuf {
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let mut path = self.places.get(first).cloned().unwrap_or(Path::new("sys").join(first));
        for part in rest.split('/').filter(|part| !part.is_empty()) {
            if part == ".." {
                path.pop();
            } else {
                path.push(part);
            }
        }
        path
    }

    fn line(&mut self, word: &str, rest: &str) {
        let (first, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        match word {
            "at" => drop(self.places.insert(first.to_owned(), self.path(rest))),
            "port" => {
                let (place, name) = rest.split_once(' ').unwrap();
                let place = self.path(place).join("net").join(first);
                self.places.insert(first.to_owned(), place);
                self.ports.push((first.to_owned(), name.to_owned()));
            }
            "file" if first.ends_with("/config") => {
                let mut config = vec![0; 64];
                config[0x0e] = u8::from_str_radix(rest, 16).unwrap();
                self.files.push((self.path(first), config));
            }
            "file" => {
                let text = match first.ends_with("/uevent") {
                    true => format!("DEVTYPE={rest}").into_bytes(),
                    false => bytes(rest),
                };
                self.files.push((self.path(first), [text.as_slice(), b"\n"].concat()));
            }
            "link" => self.links.push((self.path(first), self.path(rest))),
            other => panic!("{other} means nothing"),
        }
    }

    fn build(&self) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &Path, content: &[u8]| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let link = |path: &Path, target: &Path| {
            let (path, up) = (dir.path().join(path), "../".repeat(path.components().count() - 1));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::create_dir_all(dir.path().join(target)).unwrap();
            symlink(Path::new(&up).join(target), path).unwrap();
        };
        for (number, (name, _)) in self.ports.iter().enumerate() {
            let place = &self.places[name];
            let number = number + 100;
            for (file, text) in [
                ("type", "1"),
                ("dev_port", "0"),
                ("addr_assign_type", "0"),
                ("name_assign_type", "1"),
                ("address", "52:54:00:12:34:56"),
            ] {
                write(&place.join(file), format!("{text}\n").as_bytes());
            }
            write(&place.join("ifindex"), format!("{number}\n").as_bytes());
            write(&place.join("iflink"), format!("{number}\n").as_bytes());
            link(&Path::new("sys/class/net").join(name), place);
            let device = place.parent().unwrap().parent().unwrap();
            let subsystem = device.join("subsystem");
            if device.parent() == Some(Path::new("sys/devices/platform")) && !dir.path().join(&subsystem).exists() {
                link(&subsystem, Path::new("sys/bus/platform"));
            }
        }
        for (path, content) in &self.files {
            write(path, content);
        }
        for (path, target) in &self.links {
            link(path, target);
        }
        fs::create_dir_all(dir.path().join("sys/bus/pci/slots")).unwrap();
        let root = Root::at(dir.path());
        (dir, root)
    }
}

/// `\xff` is a byte, all else is itself.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        out.push(u8::from_str_radix(byte, 16).unwrap());
        out.extend(rest.as_bytes());
    }
    out
}

fn machines(text: &str) -> Vec<Machine> {
    let mut out: Vec<Machine> = Vec::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "machine" {
            let title = rest.to_owned();
            out.push(Machine {
                title,
                ..Machine::default()
            });
        } else {
            out.last_mut().unwrap().line(word, rest);
        }
    }
    out
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn ports_are_called_what_udev_called_them() {
    let text = fs::read_to_string(fixtures().join("port-names/machines.txt")).unwrap();
    let (mut wrong, mut all) = (Vec::new(), 0);
    for machine in machines(&text) {
        let (_dir, root) = machine.build();
        for (port, expected) in &machine.ports {
            let name = of_port(&root, port).unwrap_or(port.clone());
            all += 1;
            if name != *expected {
                wrong.push(format!("{}: {port} is {name}, not {expected}", machine.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(all > 100, "{all} ports");
}

/// The name that a port has in a capture is made of the rest of the capture.
#[test]
fn captured_ports_have_the_name_that_is_made_for_them() {
    // Machine, port, name that is made, and why it is another one.
    let others = [
        ("qemu-q35-bios", "eth0", Some("enp0s8"), "no udev ran there"),
        ("qemu-q35-bios", "eth1", Some("enp0s7"), "no udev ran there"),
        ("qemu-q35-bios", "eth2", Some("enp0s9"), "no udev ran there"),
        ("qemu-q35-uefi", "eth0", Some("enp0s8"), "no udev ran there"),
        ("qemu-q35-uefi", "eth1", Some("enp0s7"), "no udev ran there"),
        ("qemu-q35-uefi", "eth2", Some("enp0s9"), "no udev ran there"),
        (
            "server-2s",
            "eno1",
            Some("enp4s0"),
            "written by hand, without ACPI's numbers and headers of PCI",
        ),
        (
            "server-2s",
            "eno2",
            Some("enp4s0f1"),
            "written by hand, without ACPI's numbers",
        ),
        (
            "server-2s",
            "ens1f0",
            Some("ens3"),
            "written by hand: slot 3, and no headers of PCI",
        ),
        ("server-2s", "ens1f1", Some("ens3f1"), "written by hand: slot 3"),
        (
            "server-2s",
            "ibp216s0",
            Some("ibs7"),
            "written by hand: its card is in a slot",
        ),
        ("server-2s", "bond0", None, "made by a person"),
        ("server-2s", "eno1.110", None, "made by a person"),
    ];
    let (mut different, mut same) = (Vec::new(), Vec::new());
    for machine in fs::read_dir(fixtures().join("machines")).unwrap().flatten() {
        let root = Root::at(machine.path().join("tree"));
        let machine = machine.file_name().into_string().unwrap();
        for port in root.list(NET).unwrap_or_default() {
            let place = root.resolve(Path::new(NET).join(&port)).ok();
            let name = place.and_then(|place| made(&root, place));
            if name.as_ref() == Some(&port) {
                same.push(port);
            } else if port != "lo" {
                different.push((machine.clone(), port, name));
            }
        }
    }
    different.sort();
    let mut others =
        others.map(|(machine, port, name, _)| (machine.to_owned(), port.to_owned(), name.map(str::to_owned)));
    others.sort();
    assert_eq!(different, others);
    assert_eq!(same, ["enp0s3", "enp0s4"]);
}

#[test]
fn each_name_is_given_once_and_the_first_port_gets_it() {
    let text = "machine Two ports for one name, one whose name is free afterwards, and one that another interface has\n\
        at slot devices/pci0000:00/0000:00:03.0\n\
        port eth0 slot enp0s3\n\
        port eth1 slot -\n\
        port enp0s5 devices/pci0000:00/0000:00:04.0 enp0s4\n\
        port eth3 devices/pci0000:00/0000:00:05.0 enp0s5\n\
        port eth4 devices/pci0000:00/0000:00:06.0 -\n\
        port enp0s6 devices/virtual -\n";
    let machine = machines(text).remove(0);
    let (dir, root) = machine.build();
    let rename = |index: u32, from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        Rename { index, from, to }
    };
    let first = plan(&root);
    let renames = [
        (100, "eth0", "enp0s3"),
        (102, "enp0s5", "enp0s4"),
        (103, "eth3", "enp0s5"),
    ];
    assert_eq!(first.renames, renames.map(|(index, from, to)| rename(index, from, to)));
    assert_eq!(
        first.taken,
        [rename(101, "eth1", "enp0s3"), rename(104, "eth4", "enp0s6")]
    );
    // The kernel's view afterwards: the folders have the new names, and say that somebody gave them.
    for Rename { from, to, .. } in &first.renames {
        let sys = fs::canonicalize(dir.path().join("sys")).unwrap();
        let place = fs::canonicalize(sys.join("class/net").join(from)).unwrap();
        let renamed = place.with_file_name(to);
        fs::rename(&place, &renamed).unwrap();
        fs::write(renamed.join("name_assign_type"), "4\n").unwrap();
        fs::remove_file(sys.join("class/net").join(from)).unwrap();
        let target = Path::new("../..").join(renamed.strip_prefix(&sys).unwrap());
        symlink(target, sys.join("class/net").join(to)).unwrap();
    }
    let second = plan(&root);
    assert_eq!((second.renames, second.taken), (Vec::new(), first.taken));
}

#[test]
fn the_kernel_line_can_keep_the_kernels_names() {
    let machine = machines("machine One\nport eth0 devices/pci0000:00/0000:00:03.0 enp0s3\n").remove(0);
    let (dir, root) = machine.build();
    fs::create_dir(dir.path().join("proc")).unwrap();
    for (line, names) in [
        ("quiet\n", 1),
        ("net.ifnames=0\n", 0),
        ("net.ifnames=0 net.ifnames=1", 1),
        ("net.ifnames=1 net.ifnames=no", 0),
        ("xnet.ifnames=0", 1),
    ] {
        fs::write(dir.path().join("proc/cmdline"), line).unwrap();
        assert_eq!(plan(&root).renames.len(), names, "{line}");
    }
}

#[test]
fn numbers_are_read_as_udev_reads_them() {
    for (text, number) in [
        ("7", Some(7)),
        ("0", Some(0)),
        ("010", Some(8)),
        ("0x1f", Some(31)),
        ("4294967295", Some(u32::MAX)),
    ] {
        assert_eq!(numeral(text), number, "{text}");
    }
    for text in ["", "0x", "-1", "+1", "08", "1-1", "4294967296", "1f"] {
        assert_eq!(numeral(text), None, "{text}");
    }
}

proptest! {
    // Each case writes a tree of files.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever devices say, a name is one that an interface can have.
    #[test]
    fn a_name_is_one_that_an_interface_can_have(
        name in proptest::collection::vec(any::<u8>(), 0..20), index in any::<u64>(), number in any::<u32>(), kind in 0u32..300,
    ) {
        let machine = machines("machine One\nport eth0 devices/pci0000:00/0000:00:03.1/usb1/1-1/1-1:1.0 -\n").remove(0);
        let (dir, root) = machine.build();
        let port = dir.path().join("sys/class/net/eth0");
        fs::write(port.join("phys_port_name"), name).unwrap();
        fs::write(port.join("addr_assign_type"), "1").unwrap();
        fs::write(port.join("dev_port"), number.to_string()).unwrap();
        fs::write(port.join("type"), kind.to_string()).unwrap();
        fs::write(port.join("../../../../../../index"), index.to_string()).unwrap();
        if let Some(name) = of_port(&root, "eth0") {
            prop_assert!(is_valid(&name), "{}", name);
        }
    }
}
