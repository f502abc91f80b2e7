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
mod port;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::formats::text::natural_key;
use crate::model::MacAddr;
use crate::probe::bus::NET;
use crate::probe::collect::root::Root;
use port::{INFINIBAND, Names, PAGE, Port};

/// NET_NAME_PREDICTABLE to NET_NAME_RENAMED of include/uapi/linux/netdevice.h: the kernel vouches for the name, or it was chosen
/// outside the kernel. Such names stay.
const NAME_STAYS: std::ops::RangeInclusive<u8> = 2..=4;
/// IFNAMSIZ of include/uapi/linux/if.h, without the zero at the end.
const MAX_NAME: usize = 15;

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
        None => name(&Port::new(root, folder)?),
    }
}

fn name(port: &Port) -> Option<String> {
    if let Some(name) = by_mac(port) {
        return Some(name);
    }
    let Names { onboard, slot, path } = names(port);
    [onboard, slot, path].into_iter().flatten().find(|name| is_valid(name))
}

/// USB has no places that last: a port there is named by its address, if that is burnt in.
fn by_mac(port: &Port) -> Option<String> {
    buses::usb_interface(&port.folder)?;
    // NET_ADDR_PERM of include/uapi/linux/netdevice.h.
    let is_burnt_in = port.root.number(port.folder.join("addr_assign_type")) == Some(0u8);
    if port.kind == INFINIBAND || !is_burnt_in {
        return None;
    }
    let mac = port.root.value(port.folder.join("address"))?;
    let mac: MacAddr = mac.parse().ok()?;
    let digits: String = mac.to_string().chars().filter(char::is_ascii_hexdigit).collect();
    Some(format!("{}x{digits}", port.prefix))
}

/// What a port sits on tells which names there are; a bus that is named later in udev's order counts where there are two.
fn names(port: &Port) -> Names {
    let mut names = buses::of_platform(port);
    let functions = [pci::of_function(port), buses::of_usb(port), buses::of_bcma(port)];
    for found in functions.into_iter().flatten() {
        names.onboard = found.onboard.or(names.onboard);
        names.slot = found.slot.or(names.slot);
        names.path = found.path.or(names.path);
    }
    names
}

/// Whether the kernel and udev take it for an interface's name.
fn is_valid(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/' | b'%');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests;
