//! A port that a name is made for, and which of several ports of a device it is.

use std::path::{Path, PathBuf};

use crate::probe::collect::root::Root;

/// ARPHRD_ETHER, ARPHRD_INFINIBAND and ARPHRD_SLIP of include/uapi/linux/if_arp.h.
const ETHERNET: u32 = 1;
pub(super) const INFINIBAND: u32 = 32;
const SLIP: u32 = 256;
/// An attribute of sysfs is at most a page.
pub(super) const PAGE: u64 = 64 * 1024;

/// The names that a port could have, by policy.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub onboard: Option<String>,
    pub slot: Option<String>,
    pub path: Option<String>,
}

/// A port that names are made for.
pub(super) struct Port<'a> {
    pub root: &'a Root,
    /// Below `sys/devices`, without links.
    pub folder: PathBuf,
    pub kind: u32,
    pub prefix: &'static str,
}

impl<'a> Port<'a> {
    /// Nothing for what is no port: stacked interfaces (VLANs), and kinds that udev has no names for.
    pub(super) fn new(root: &'a Root, folder: PathBuf) -> Option<Self> {
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

    /// The device that the port is a part of: above it there is the folder `net`, which is none.
    pub(super) fn parent(&self) -> Option<&Path> {
        self.folder.parent()?.parent()
    }

    /// Which port of several of the same device, `n<name>` or `d<number>`, or `r<number>` for the representor of a virtual function.
    /// Empty for the only one. `None` where the device gives it a name that cannot be written, which leaves the port without one.
    pub(super) fn specifier(&self, by_dev_id: bool) -> Option<String> {
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
    pub(super) fn port_name(&self) -> Option<Option<String>> {
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
pub(super) fn number(root: &Root, file: &Path) -> Option<u32> {
    numeral(&root.value(file)?)
}

pub(super) fn numeral(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u32::from_str_radix(digits, base).ok()).flatten()
}
