//! The name of a disk by its place, as under `/dev/disk/by-path`: udev's links where it runs, else put together by the
//! same rules from the place in sysfs. Where udev has made several names, the shortest is meant; that is the one older
//! systems know as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use crate::probe::bus;
use crate::probe::collect::root::Root;

const LINKS: &str = "/dev/disk/by-path";
/// More links than any machine has disks and partitions.
const MAX_LINKS: usize = 128 * 1024;

/// udev's names by kernel name. Empty where udev does not run.
pub(crate) fn links(root: &Root) -> BTreeMap<String, String> {
    let answer = root.ask("by-path", || {
        let mut text = String::new();
        for (count, entry) in fs::read_dir(LINKS)?.enumerate() {
            if count == MAX_LINKS {
                root.leave_out(LINKS, &format!("more than {MAX_LINKS} links"), MAX_LINKS);
                break;
            }
            let entry = entry?;
            let target = fs::read_link(entry.path())?;
            if let (Some(name), Some(target)) = (entry.file_name().to_str(), target.file_name()) {
                text.push_str(&format!("{name} {}\n", target.to_string_lossy()));
            }
        }
        io::Result::Ok(text.into_bytes())
    });
    parse(&String::from_utf8_lossy(&answer.unwrap_or_default()))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (link, device) in text.lines().filter_map(|line| line.split_once(' ')) {
        let held = names.get(device);
        if held.is_none_or(|held| (link.len(), link) < (held.len(), held)) {
            names.insert(device.to_owned(), link.to_owned());
        }
    }
    names
}

/// The name put together from the place. `place` is where the disk is in sysfs, `hardware` what it hangs on.
pub(crate) fn compose(root: &Root, name: &str, place: &Path, hardware: &Path) -> Option<String> {
    let pci = format!("pci-{}", bus::pci_address(hardware)?);
    if name.starts_with("nvme") {
        let namespace: u32 = root.number(format!("/sys/block/{name}/nsid"))?;
        return Some(format!("{pci}-nvme-{namespace}"));
    }
    let parts: Vec<&str> = bus::names(place).collect();
    let position = |test: &dyn Fn(&str) -> bool| parts.iter().position(|part| test(part));
    let up_to = |index: usize| Path::new("/").join(parts.get(..=index).unwrap_or_default().join("/"));
    let Some(device) = position(&bus::is_scsi_address) else {
        // A disk right on its function: virtio-blk.
        return position(&|part| bus::is_numbered(part, "virtio")).map(|_| pci);
    };
    let address: Vec<u64> = parts
        .get(device)?
        .split(':')
        .filter_map(|field| field.parse().ok())
        .collect();
    let [host, channel, target, lun] = address[..] else {
        return None;
    };
    let lun_name = lun_name(lun);
    if let Some(end) = position(&|part| part.starts_with("end_device-")) {
        return sas(root, &parts, end, &up_to).map(|sas| format!("{pci}-sas-{sas}-{lun_name}"));
    }
    if position(&|part| part.starts_with("rport-")).is_some() {
        let unit = parts.iter().find(|part| part.starts_with("target"))?;
        let port = root.value(format!("/sys/class/fc_transport/{unit}/port_name"))?;
        return Some(format!("{pci}-fc-{port}-{lun_name}"));
    }
    if let Some(port) = position(&|part| bus::is_numbered(part, "ata")) {
        let number: u32 = root.number(up_to(port).join("ata_port").join(parts.get(port)?).join("port_no"))?;
        return Some(format!("{pci}-ata-{number}"));
    }
    let host_at = position(&|part| bus::is_numbered(part, "host"))?;
    let first = first_host(root, &up_to(host_at.checked_sub(1)?))
        .unwrap_or(host)
        .min(host);
    let scsi = format!("scsi-{}:{channel}:{target}:{lun}", host - first);
    let usb = parts
        .iter()
        .rev()
        .find(|part| part.contains(':') && part.contains('-') && !part.contains("target"));
    match usb.and_then(|interface| interface.split_once('-')) {
        Some((_, port)) => Some(format!("{pci}-usb-0:{port}-{scsi}")),
        None => Some(format!("{pci}-{scsi}")),
    }
}

/// As udev writes it: plain below 256, above in the eight bytes of SAM.
fn lun_name(lun: u64) -> String {
    if lun < 256 {
        format!("lun-{lun}")
    } else {
        format!("lun-0x{:04x}{:04x}00000000", lun & 0xffff, (lun >> 16) & 0xffff)
    }
}

/// The port a SAS disk sits at: the phy of the adapter or expander, or its own address behind a wide port.
fn sas(root: &Root, parts: &[&str], end: usize, up_to: &dyn Fn(usize) -> std::path::PathBuf) -> Option<String> {
    let port = end.checked_sub(1)?;
    let (end_name, port_name) = (parts.get(end)?, parts.get(port)?);
    let device = up_to(end).join("sas_device").join(end_name);
    let phys: Option<u32> = root.number(up_to(port).join("sas_port").join(port_name).join("num_phys"));
    if phys? != 1 {
        return root.value(device.join("sas_address"));
    }
    let phy: u32 = root.number(device.join("phy_identifier"))?;
    let above = port.checked_sub(1)?;
    let expander = parts.get(above).filter(|name| name.starts_with("expander-"));
    let address = expander.and_then(|name| root.value(up_to(above).join("sas_device").join(name).join("sas_address")));
    Some(match address {
        Some(address) => format!("exp{address}-phy{phy}"),
        None => format!("phy{phy}"),
    })
}

/// Hosts are numbered through the whole machine; names count from the first of the same controller.
fn first_host(root: &Root, controller: &Path) -> Option<u64> {
    let names = root.list(controller).ok()?;
    let hosts = names.iter().filter_map(|name| name.strip_prefix("host")?.parse().ok());
    hosts.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[track_caller]
    fn composed(files: &[(&str, &str)], name: &str, place: &str, expected: &str) {
        let (_dir, root) = tree(files);
        let place = Path::new(place);
        assert_eq!(compose(&root, name, place, place).as_deref(), Some(expected));
    }

    #[test]
    fn names_follow_the_place() {
        let f = "sys/devices/pci0000:00/0000:00:1f.2";
        composed(
            &[(&format!("{f}/ata3/ata_port/ata3/port_no"), "3\n")],
            "sda",
            &format!("{f}/ata3/host2/target2:0:0/2:0:0:0/block/sda"),
            "pci-0000:00:1f.2-ata-3",
        );
        let sas = format!("{f}/host0/port-0:1/end_device-0:1");
        let disk = format!("{sas}/target0:0:1/0:0:1:0/block/sdb");
        let device = format!("{sas}/sas_device/end_device-0:1");
        let phys = format!("{f}/host0/port-0:1/sas_port/port-0:1/num_phys");
        let phy = format!("{device}/phy_identifier");
        composed(
            &[(&phys, "1"), (&phy, "5")],
            "sdb",
            &disk,
            "pci-0000:00:1f.2-sas-phy5-lun-0",
        );
        let address = format!("{device}/sas_address");
        composed(
            &[(&phys, "2"), (&address, "0x5000c500a1b2c3d5")],
            "sdb",
            &disk,
            "pci-0000:00:1f.2-sas-0x5000c500a1b2c3d5-lun-0",
        );
        composed(
            &[(&format!("{f}/usb2/2-1.4/2-1.4:1.0/host6/x"), "")],
            "sdc",
            &format!("{f}/usb2/2-1.4/2-1.4:1.0/host6/target6:0:0/6:0:0:0/block/sdc"),
            "pci-0000:00:1f.2-usb-0:1.4:1.0-scsi-0:0:0:0",
        );
        composed(
            &[(&format!("{f}/host4/x"), ""), (&format!("{f}/host5/x"), "")],
            "sdd",
            &format!("{f}/host5/target5:2:7/5:2:7:300/block/sdd"),
            "pci-0000:00:1f.2-scsi-1:2:7:300",
        );
        composed(&[], "vda", &format!("{f}/virtio1/block/vda"), "pci-0000:00:1f.2");
        composed(
            &[("sys/block/nvme0n1/nsid", "1\n")],
            "nvme0n1",
            &format!("{f}/nvme/nvme0/nvme0n1"),
            "pci-0000:00:1f.2-nvme-1",
        );
    }

    #[test]
    fn of_several_links_the_shortest_is_taken() {
        let names = parse("pci-0-ata-1.0 sda\npci-0-ata-1 sda\npci-0-ata-1-part1 sda1\nbroken\n");
        assert_eq!(names["sda"], "pci-0-ata-1");
        assert_eq!(names["sda1"], "pci-0-ata-1-part1");
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn large_units_are_written_in_full() {
        assert_eq!(lun_name(255), "lun-255");
        assert_eq!(lun_name(0x4001_0002), "lun-0x0002400100000000");
    }
}
