//! The name that udev would give a network port, for systems on which no udev runs: by where the hardware sits, so that a port is
//! called the same at every start and in every inventory.
//!
//! What is followed is systemd-udevd 257 as Debian 13 ships it: naming scheme v257 (systemd.net-naming-scheme(7) and
//! src/udev/udev-builtin-net_id.c), the policy `keep kernel database onboard slot path` (systemd.link(5) and 99-default.link), names
//! by MAC for USB (73-usb-net-by-mac.link), names of management controllers (73-special-net-names.rules). A name is tried in the
//! policy's order, and one that the kernel would not take, of more than 15 characters for one, is passed over.
//!
//! Left out are devicetree aliases, IBM VIO and the buses of s390, which no machine has that boots from us, and udev's
//! hardware database: the one name it holds is the iDRAC's, which the rules give as well.
//!
//! tests/fixtures/port-names has machines with the names that Debian's udev gave their ports.

mod buses;
mod pci;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::formats::text::natural_key;
use crate::model::MacAddr;
use crate::probe::bus::NET;
use crate::probe::collect::root::Root;

/// NET_NAME_PREDICTABLE to NET_NAME_RENAMED of include/uapi/linux/netdevice.h: the kernel vouches for the name, or it was chosen
/// outside the kernel. Such names stay.
const NAME_STAYS: std::ops::RangeInclusive<u8> = 2..=4;
/// ARPHRD_ETHER, ARPHRD_INFINIBAND and ARPHRD_SLIP of include/uapi/linux/if_arp.h.
const ETHERNET: u32 = 1;
const INFINIBAND: u32 = 32;
const SLIP: u32 = 256;
/// IFNAMSIZ of include/uapi/linux/if.h, without the zero at the end.
const MAX_NAME: usize = 15;
/// An attribute of sysfs is at most a page.
const PAGE: u64 = 64 * 1024;

/// One port that gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rename {
    /// The interface's number (ifindex).
    pub index: u32,
    pub from: String,
    pub to: String,
}

/// What is to be done about the names of all ports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of the interfaces' numbers, each possible once those before it are done.
    pub renames: Vec<Rename>,
    /// Ports whose name another interface has. They keep the kernel's, as with udev.
    pub taken: Vec<Rename>,
}

/// The names of all ports that still have the kernel's. Empty once they are given.
pub(crate) fn plan(root: &Root) -> Plan {
    let mut plan = Plan::default();
    if !are_wanted(root) {
        return plan;
    }
    let mut names: BTreeSet<String> = root.list(NET).unwrap_or_default().into_iter().collect();
    let wanted = names.iter().filter_map(|name| {
        let index = root.number(format!("{NET}/{name}/ifindex"))?;
        let (from, to) = (name.clone(), of_port(root, name)?);
        Some(Rename { index, from, to })
    });
    let mut wanted: Vec<Rename> = wanted.collect();
    wanted.sort_by_cached_key(|rename| (rename.index, natural_key(&rename.from)));
    for rename in wanted {
        if names.insert(rename.to.clone()) {
            names.remove(&rename.from);
            plan.renames.push(rename);
        } else {
            plan.taken.push(rename);
        }
    }
    plan
}

/// `net.ifnames=0` on the kernel's command line keeps the kernel's names (systemd-udevd.service(8)); the last word counts.
fn are_wanted(root: &Root) -> bool {
    let line = root.text("/proc/cmdline", PAGE).unwrap_or_default();
    let mut words = line.split_whitespace().rev();
    let said = words.find_map(|word| word.strip_prefix("net.ifnames="));
    !said.is_some_and(|said| ["0", "no", "n", "false", "f", "off"].contains(&said))
}

/// The name for this port; `None` where it has that name, or keeps the one it has.
pub(crate) fn of_port(root: &Root, name: &str) -> Option<String> {
    let folder = root.resolve(Path::new(NET).join(name)).ok()?;
    let stays = root.number(folder.join("name_assign_type"));
    if stays.is_some_and(|kind: u8| NAME_STAYS.contains(&kind)) {
        return None;
    }
    made(root, folder).filter(|to| to != name)
}

/// What a port in this place is called.
fn made(root: &Root, folder: PathBuf) -> Option<String> {
    match buses::of_controller(root, &folder) {
        Some(special) => Some(special.to_owned()),
        None => Port::new(root, folder)?.name(),
    }
}

/// The names that a port could have, by policy.
#[derive(Debug, Default)]
struct Names {
    onboard: Option<String>,
    slot: Option<String>,
    path: Option<String>,
}

/// A port that names are made for.
struct Port<'a> {
    root: &'a Root,
    /// Below `sys/devices`, without links.
    folder: PathBuf,
    kind: u32,
    prefix: &'static str,
}

impl<'a> Port<'a> {
    /// Nothing for what is no port: stacked interfaces (VLANs), and kinds that udev has no names for.
    fn new(root: &'a Root, folder: PathBuf) -> Option<Self> {
        let number = |file: &str| root.number::<u32>(folder.join(file));
        if let (Some(index), Some(below)) = (number("ifindex"), number("iflink"))
            && index != below
        {
            return None;
        }
        let kind = number("type")?;
        let prefix = match (kind, device_type(root, &folder).as_deref()) {
            (ETHERNET, Some("wlan")) => "wl",
            (ETHERNET, Some("wwan")) => "ww",
            (ETHERNET, _) => "en",
            (INFINIBAND, _) => "ib",
            (SLIP, _) => "sl",
            _ => return None,
        };
        Some(Port {
            root,
            folder,
            kind,
            prefix,
        })
    }

    fn name(&self) -> Option<String> {
        if let Some(name) = self.by_mac() {
            return Some(name);
        }
        let Names { onboard, slot, path } = self.names();
        [onboard, slot, path].into_iter().flatten().find(|name| is_valid(name))
    }

    /// USB has no places that last: a port there is named by its address, if that is burnt in.
    fn by_mac(&self) -> Option<String> {
        buses::usb_interface(&self.folder)?;
        // NET_ADDR_PERM of include/uapi/linux/netdevice.h.
        let is_burnt_in = self.root.number(self.folder.join("addr_assign_type")) == Some(0u8);
        if self.kind == INFINIBAND || !is_burnt_in {
            return None;
        }
        let mac = self.root.value(self.folder.join("address"))?;
        let mac: MacAddr = mac.parse().ok()?;
        let digits: String = mac.to_string().chars().filter(char::is_ascii_hexdigit).collect();
        Some(format!("{}x{digits}", self.prefix))
    }

    /// What a port sits on tells which names there are; a bus that is named later in udev's order counts where there are two.
    fn names(&self) -> Names {
        let mut names = buses::of_platform(self);
        let functions = [pci::of_function(self), buses::of_usb(self), buses::of_bcma(self)];
        for found in functions.into_iter().flatten() {
            names.onboard = found.onboard.or(names.onboard);
            names.slot = found.slot.or(names.slot);
            names.path = found.path.or(names.path);
        }
        names
    }

    /// The device that the port is a part of: above it there is the folder `net`, which is none.
    fn parent(&self) -> Option<&Path> {
        self.folder.parent()?.parent()
    }

    /// Which port of several of the same device, `n<name>` or `d<number>`, or `r<number>` for the representor of a virtual function.
    /// Empty for the only one. `None` where the device gives it a name that cannot be written, which leaves the port without one.
    fn specifier(&self, by_dev_id: bool) -> Option<String> {
        if let Some(name) = self.port_name()? {
            let representor = represented(&name);
            return Some(match representor {
                Some(function) => format!("r{function}"),
                None => format!("n{name}"),
            });
        }
        let number = |file: &str| number(self.root, &self.folder.join(file));
        // Every kernel has these files; captured trees may lack them.
        let mut port = number("dev_port").unwrap_or(0);
        // Older drivers of InfiniBand have the number in the other file.
        if port == 0 && by_dev_id && self.kind == INFINIBAND {
            port = number("dev_id").unwrap_or(0);
        }
        Some(if port == 0 { String::new() } else { format!("d{port}") })
    }

    /// The name that the driver gives the port, `Some(None)` where it gives none, `None` where it cannot be a part of a name.
    fn port_name(&self) -> Option<Option<String>> {
        let Ok(bytes) = self.root.bytes(self.folder.join("phys_port_name"), PAGE) else {
            return Some(None);
        };
        let name = String::from_utf8(bytes).ok()?;
        let name = name.trim_end_matches('\n');
        match name {
            "" => Some(None),
            name if name.chars().any(char::is_control) => None,
            name => Some(Some(name.to_owned())),
        }
    }
}

/// The virtual function that a port stands for inside the machine, by the port's name: `pf<number>vf<number>`.
fn represented(name: &str) -> Option<u32> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (physical, rest) = name.strip_prefix("pf").map(|rest| rest.split_at(digits(rest)))?;
    let number = rest.strip_prefix("vf").map(|rest| &rest[..digits(rest)])?;
    number.parse().ok().filter(|_| !physical.is_empty())
}

/// What kind of interface a driver says it is.
fn device_type(root: &Root, folder: &Path) -> Option<String> {
    let event = root.text(folder.join("uevent"), PAGE).ok()?;
    let said = event.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    said.map(str::to_owned)
}

/// A number as udev reads it: decimal, or as its beginning says (`0x10`, `010`).
fn number(root: &Root, file: &Path) -> Option<u32> {
    numeral(&root.value(file)?)
}

fn numeral(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u32::from_str_radix(digits, base).ok()).flatten()
}

/// Whether the kernel and udev take it for an interface's name.
fn is_valid(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/' | b'%');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests;
