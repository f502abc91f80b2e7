//! The questions to one port.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::formats::text::clean;
use crate::model::MacAddr;
use crate::model::inventory::{Nic, PartStatus, UpperLink};
use crate::probe::bus::{self, NET};
use crate::probe::cabling::agent;
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::nics::{link_modes, optics as module};
use crate::sys::{ethtool, ethtool_netlink};

/// IFF_UP of include/uapi/linux/if.h.
const IFF_UP: u32 = 1;

/// What an answer does to the port's entry.
pub(crate) type Patch = Box<dyn FnOnce(&mut Nic) + Send>;
/// `Ok(None)` where there was nothing to ask.
pub(crate) type Answer = Result<Option<Patch>, (PartStatus, String)>;

/// How long a port that was just switched on is waited for; some take seconds to their carrier, and are looked at again
/// once the cables were listened to.
const CARRIER_WAIT: Duration = Duration::from_secs(2);
const CARRIER_LOOK: Duration = Duration::from_millis(50);
/// Interfaces on top of one port; there are 4094 VLANs.
const MAX_UPPERS: usize = 4096;
/// Counters that tell of trouble, by the kernel's `statistics` files.
const COUNTERS: [&str; 16] = [
    "collisions",
    "rx_crc_errors",
    "rx_dropped",
    "rx_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_missed_errors",
    "rx_over_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_dropped",
    "tx_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
];

/// Whom to ask.
pub(crate) struct Port {
    pub root: Root,
    pub live: Option<Arc<dyn LiveSources>>,
    pub name: String,
    pub brought_up: bool,
}

fn told(error: ReadError) -> (PartStatus, String) {
    (error.status(), error.to_string())
}

impl Port {
    pub(crate) fn new(root: &Root, live: Option<&Arc<dyn LiveSources>>, name: &str) -> Port {
        Port {
            root: root.clone(),
            live: live.cloned(),
            name: name.to_owned(),
            brought_up: false,
        }
    }

    fn at(&self, file: &str) -> String {
        format!("{NET}/{}/{file}", self.name)
    }

    fn value(&self, file: &str) -> Option<String> {
        self.root.value(self.at(file))
    }

    fn number<T: std::str::FromStr>(&self, file: &str) -> Option<T> {
        self.root.number(self.at(file))
    }

    fn driver(&self) -> Option<String> {
        self.root.link_name(self.at("device/driver"))
    }

    /// An ioctl of the running machine, or what a capture kept of it. `None` where neither can be had.
    fn ask(
        &self,
        question: &str,
        ioctl: impl FnOnce(&str) -> std::io::Result<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        if self.root.is_live() && self.live.is_none() {
            return Ok(None);
        }
        let answer = self
            .root
            .ask(&format!("ethtool/{}/{question}", self.name), || ioctl(&self.name));
        match answer {
            Err(ReadError::Unsupported { .. }) if !self.root.is_live() => Ok(None),
            answer => answer.map(Some),
        }
    }
}

/// What sysfs knows without asking the driver.
pub(crate) fn base(port: &Port) -> Answer {
    let place = port.root.resolve(port.at("device")).unwrap_or_default();
    let mac: Option<MacAddr> = port.value("address").and_then(|text| text.parse().ok());
    let id = bus::pci_function(&place).and_then(|function| bus::pci_id(&port.root, &function));
    let names = bus::pci_names(id);
    let facts = Nic {
        kind: match port.number::<u32>("type") {
            // To the kernel these are Ethernet.
            Some(1) if port.root.exists(port.at("phy80211")) => "wifi".to_owned(),
            Some(1) => "ethernet".to_owned(),
            Some(32) => "infiniband".to_owned(),
            Some(other) => format!("arphrd-{other}"),
            None => "unknown".to_owned(),
        },
        mac,
        // NET_ADDR_PERM: the kernel itself says that the address in use is the burnt-in one.
        permanent_mac: mac.filter(|_| port.value("addr_assign_type").as_deref() == Some("0")),
        driver: port.driver(),
        pci_address: bus::pci_address(&place),
        vendor: names.vendor,
        model: names.device,
        pci_id: names.id,
        numa_node: bus::numa_node(&port.root, &place),
        admin_up: port.value("flags").and_then(|flags| is_up(&flags)),
        mtu: port.number("mtu"),
        master: port.root.link_name(port.at("master")).map(|name| upper(port, name)),
        uppers: uppers(port),
        vfs_total: port.number("device/sriov_totalvfs"),
        vfs_enabled: port.number("device/sriov_numvfs"),
        physical_function: port.root.link_name(port.at("device/physfn")),
        usb: bus::is_on_usb(&place),
        ..Nic::default()
    };
    Ok(Some(Box::new(move |nic| {
        let (name, brought_up) = (std::mem::take(&mut nic.name), nic.brought_up);
        *nic = Nic {
            name,
            brought_up,
            ..facts
        };
    })))
}

/// Links called `upper_<name>` lead to them.
fn uppers(port: &Port) -> Vec<UpperLink> {
    let names = port.root.list(port.at("")).unwrap_or_default();
    let uppers = names.iter().filter_map(|name| name.strip_prefix("upper_")).collect();
    let uppers: Vec<&str> = port
        .root
        .first(&format!("{}.uppers.count", port.name), uppers, MAX_UPPERS);
    uppers.into_iter().map(|name| upper(port, name.to_owned())).collect()
}

fn upper(port: &Port, name: String) -> UpperLink {
    // uevent has lines KEY=value; ordinary ports have no DEVTYPE.
    let uevent = port.root.text(format!("{NET}/{name}/uevent"), 4096).unwrap_or_default();
    let kind = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    let vlan = port
        .root
        .text(format!("/proc/net/vlan/{name}"), 4096)
        .unwrap_or_default();
    UpperLink {
        kind: kind.and_then(clean),
        vlan: vlan_id(&vlan),
        name,
    }
}

/// From a line like `eth0.100  VID: 100 REORDER_HDR: 1  dev->priv_flags: 1021`.
fn vlan_id(text: &str) -> Option<u16> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == "VID:")?;
    words.next()?.parse().ok()
}

/// Unknown while the port is down, and then no fault: the kernel refuses to answer.
pub(crate) fn link(port: &Port) -> Answer {
    let carrier = || port.root.flag(port.at("carrier"));
    let begun = Instant::now();
    if port.brought_up && port.root.is_live() {
        // sysfs tells no event for a carrier, so it is looked at again and again.
        while carrier() != Some(true) && begun.elapsed() < CARRIER_WAIT {
            std::thread::sleep(CARRIER_LOOK);
        }
    }
    let carrier = carrier();
    let (operstate, changes) = (port.value("operstate"), port.number("carrier_changes"));
    let (ups, downs) = (port.number("carrier_up_count"), port.number("carrier_down_count"));
    // -1 and 0 stand for unknown.
    let speed = port
        .number::<u32>("speed")
        .filter(|speed| *speed != 0 && *speed != u32::MAX);
    let duplex = port.value("duplex").filter(|duplex| duplex != "unknown");
    Ok(Some(Box::new(move |nic| {
        nic.carrier = carrier;
        nic.operstate = operstate;
        nic.carrier_changes = changes;
        nic.carrier_up_count = ups;
        nic.carrier_down_count = downs;
        nic.speed_mbps = speed;
        nic.duplex = duplex;
    })))
}

/// Drivers ask their firmware for some of these.
pub(crate) fn counters(port: &Port) -> Answer {
    let read = |name: &&str| Some(((*name).to_owned(), port.number(&format!("statistics/{name}"))?));
    let counters: BTreeMap<String, u64> = COUNTERS.iter().filter_map(read).collect();
    Ok(Some(Box::new(move |nic| nic.counters = counters)))
}

/// Negotiation, kind of port, what it can do and offers.
pub(crate) fn link_modes(port: &Port) -> Answer {
    let answer = port.ask("link-settings", ethtool::link_settings);
    let Some(answer) = answer.map_err(told)? else {
        return Ok(None);
    };
    let Some(modes) = link_modes::parse(&answer) else {
        return Err((PartStatus::Failed, "the answer is cut".to_owned()));
    };
    Ok(Some(Box::new(move |nic| {
        nic.autoneg = modes.autoneg;
        nic.port_type = modes.port_type.map(str::to_owned);
        nic.speed_mbps = nic.speed_mbps.or(modes.speed_mbps);
        nic.duplex = nic.duplex.take().or(modes.duplex.map(str::to_owned));
        nic.supported_modes = modes.supported;
        nic.advertised_modes = modes.advertised;
        nic.partner_modes = modes.partner;
    })))
}

/// Burnt-in address, driver and firmware.
pub(crate) fn driver(port: &Port) -> Answer {
    let (mac, info) = match &port.live {
        Some(live) => match (live.permanent_mac(&port.name), live.driver_info(&port.name)) {
            (Err(error), Err(_)) => return Err((PartStatus::Failed, error.to_string())),
            (mac, info) => (mac.unwrap_or_default(), info.unwrap_or_default()),
        },
        None => (None, ethtool::DriverInfo::default()),
    };
    // Kept as text, and read back where there is no running machine.
    let kept = |name: &str, now: String| {
        let answer = port.ask(name, |_| Ok(now.into_bytes())).ok()??;
        String::from_utf8(answer).ok()
    };
    let (mac, info) = if port.live.is_some() && !port.root.is_live() {
        (mac, info)
    } else {
        let mac = kept("permanent-mac", mac.map(|mac| mac.to_string()).unwrap_or_default());
        let info = kept("driver-info", [info.driver, info.version, info.firmware].join("\n"));
        let mut lines = info.as_deref().unwrap_or_default().lines().map(str::to_owned);
        let mut line = || lines.next().unwrap_or_default();
        let info = ethtool::DriverInfo {
            driver: line(),
            version: line(),
            firmware: line(),
            ..ethtool::DriverInfo::default()
        };
        (mac.and_then(|mac| mac.trim().parse().ok()), info)
    };
    let mac = mac.filter(|mac: &MacAddr| !mac.is_unusable());
    // What drivers write who have none.
    let firmware = clean(&info.firmware).filter(|text| !matches!(&**text, "N/A" | "n/a"));
    Ok(Some(Box::new(move |nic| {
        nic.permanent_mac = mac.or(nic.permanent_mac);
        nic.driver = nic.driver.take().or_else(|| clean(&info.driver));
        nic.driver_version = clean(&info.version);
        nic.firmware = firmware;
    })))
}

/// Whether firmware keeps LLDP to itself.
pub(crate) fn firmware_lldp(port: &Port) -> Answer {
    let Some(driver) = port.driver().filter(|driver| agent::has_agent_flag(driver)) else {
        return Ok(None);
    };
    let ask = |name: &str| {
        let (names, flags) = ethtool::private_flags(name)?;
        let line = |(at, name): (usize, &String)| format!("{name} {}\n", flags >> at & 1);
        Ok(names.iter().enumerate().map(line).collect::<String>().into_bytes())
    };
    let Some(answer) = port.ask("private-flags", ask).map_err(told)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&answer);
    let flag = |line: &str| line.rsplit_once(' ').map(|(name, on)| (name.to_owned(), on == "1"));
    let runs = agent::agent_runs(&driver, &text.lines().filter_map(flag).collect());
    Ok(Some(Box::new(move |nic| nic.firmware_lldp_agent = runs)))
}

/// By the ioctl, which most drivers know; by pages where it knows nothing or the module has more pages than it can give.
fn module_memory(name: &str) -> std::io::Result<Vec<u8>> {
    let flat = ethtool::module_eeprom(name);
    match &flat {
        Ok(answer) if !module::has_more_pages(answer) => return flat,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return flat,
        _ => {}
    }
    match ethtool_netlink::module_pages(name) {
        Ok(memory) => Ok([&module::BY_PAGE.to_le_bytes()[..], &memory].concat()),
        Err(_) => flat,
    }
}

/// The module in the port. Ports without a cage, and cages without a module, have none.
pub(crate) fn optics(port: &Port) -> Answer {
    if port.root.exists(port.at("device/physfn")) {
        return Ok(None);
    }
    let answer = port.ask("module-eeprom", module_memory);
    let answer = answer.map_err(|error| match &error {
        ReadError::Denied { cause, .. } => (PartStatus::Denied, format!("reading modules: {cause}")),
        // Drivers have many words for an empty cage.
        _ => (PartStatus::Absent, format!("no module answers: {error}")),
    })?;
    let Some(answer) = answer else { return Ok(None) };
    match module::parse(&answer) {
        Some(optics) => Ok(Some(Box::new(move |nic| nic.optics = Some(optics)))),
        None => Err((PartStatus::Failed, "a module of an unknown kind".to_owned())),
    }
}

/// Of the text of a `flags` attribute: hex with `0x`.
pub(crate) fn is_up(flags: &str) -> Option<bool> {
    let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
    Some(flags & IFF_UP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_has_its_number_in_proc() {
        let text = "bond0.110  VID: 110\t REORDER_HDR: 1  dev->priv_flags: 1021\n total frames received 0";
        assert_eq!(vlan_id(text), Some(110));
        assert_eq!(vlan_id("VID:"), None);
        assert_eq!(vlan_id("VID: x"), None);
        assert_eq!(vlan_id(""), None);
    }

    #[test]
    fn the_up_flag_is_the_first_bit() {
        assert_eq!(is_up("0x1003\n"), Some(true));
        assert_eq!(is_up("0x1002"), Some(false));
        assert_eq!(is_up("1003"), None);
    }
}
