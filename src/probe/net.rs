//! Network ports with hardware behind them, from `/sys/class/net` and ethtool.
//!
//! A port is asked in three steps, each in a time box of its own. The first needs nothing from the driver. Speed and
//! duplex go through the kernel's one network configuration lock, and ethtool through the driver's firmware: when one
//! driver hangs there, the ports are still listed with name, address, driver and place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bus;
use super::live::LiveSources;
use super::root::{Root, clean};
use super::run;
use super::timebox::{self, Outcome, Pending};
use crate::model::MacAddr;
use crate::model::inventory::{Item, Nic, Part, PartStatus};
use crate::sys::ethtool::DriverInfo;

const NET: &str = "/sys/class/net";

#[derive(Debug, Default)]
struct Link {
    carrier: Option<bool>,
    speed_mbps: Option<u32>,
    duplex: Option<String>,
}

#[derive(Debug, Default)]
struct Asked {
    permanent_mac: Option<MacAddr>,
    driver: DriverInfo,
}

/// Ports of the machine.
pub fn nics(root: &Root, live: Option<Arc<dyn LiveSources>>, limit: Duration) -> Part<Vec<Nic>> {
    let names = match root.list(NET) {
        Ok(names) => names,
        Err(error) => return Part::missing(error.status(), NET, error.to_string()),
    };
    let is_port = |name: &String| root.exists(format!("{NET}/{name}/device"));
    let names: Vec<String> = names.into_iter().filter(is_port).collect();
    let deadline = Instant::now() + limit;

    struct Steps {
        base: Pending<Nic>,
        link: Pending<Link>,
        asked: Option<Pending<Result<Asked, String>>>,
    }
    let started: Vec<Steps> = names
        .iter()
        .map(|name| {
            let (tree, port) = (root.clone(), name.clone());
            let base = timebox::spawn("probe-nic", move || base_facts(&tree, &port));
            let (tree, port) = (root.clone(), name.clone());
            let link = timebox::spawn("probe-nic-link", move || link_facts(&tree, &port));
            let asked = live.clone().map(|live| {
                let port = name.clone();
                timebox::spawn("probe-nic-ethtool", move || ask(live.as_ref(), &port))
            });
            Steps { base, link, asked }
        })
        .collect();

    let command_line = root.text("/proc/cmdline", run::CMDLINE_LIMIT).unwrap_or_default();
    let boot_mac = bootif(&command_line);
    let (mut nics, mut gaps) = (Vec::new(), Vec::new());
    for (name, steps) in names.iter().zip(started) {
        let mut note = |item: &str, status, reason: String| {
            gaps.push(Item::gap(format!("{name}.{item}"), status, reason));
        };
        let mut nic = settle(steps.base.wait(deadline), "base", &mut note).unwrap_or_else(|| nameless(name));
        if let Some(link) = settle(steps.link.wait(deadline), "link", &mut note) {
            nic.carrier = link.carrier;
            nic.speed_mbps = link.speed_mbps;
            nic.duplex = link.duplex;
        }
        match steps
            .asked
            .and_then(|asked| settle(asked.wait(deadline), "ethtool", &mut note))
        {
            Some(Ok(asked)) => {
                nic.permanent_mac = asked.permanent_mac.or(nic.permanent_mac);
                nic.driver = nic.driver.or_else(|| clean(&asked.driver.driver));
                nic.driver_version = clean(&asked.driver.version);
                // What drivers write who have none.
                nic.firmware = clean(&asked.driver.firmware).filter(|text| !matches!(&**text, "N/A" | "n/a"));
            }
            Some(Err(reason)) => note("ethtool", PartStatus::Failed, reason),
            None => {}
        }
        nic.boot_port = boot_mac.is_some() && (nic.permanent_mac == boot_mac || nic.mac == boot_mac);
        nics.push(nic);
    }
    let source = if live.is_some() {
        "/sys/class/net, ethtool ioctl"
    } else {
        NET
    };
    Part::ok(source, nics).with_items(gaps)
}

/// The address in `BOOTIF=01-aa-bb-cc-dd-ee-ff`, which the boot loader puts there.
fn bootif(command_line: &str) -> Option<MacAddr> {
    let mut words = command_line.split_whitespace().rev();
    words.find_map(|word| word.strip_prefix("BOOTIF="))?.parse().ok()
}

fn settle<T>(outcome: Outcome<T>, item: &str, note: &mut impl FnMut(&str, PartStatus, String)) -> Option<T> {
    match outcome {
        Outcome::Done { value, .. } => Some(value),
        Outcome::TimedOut { millis } => {
            note(item, PartStatus::TimedOut, format!("no answer within {millis} ms"));
            None
        }
        Outcome::Died { reason } => {
            note(item, PartStatus::Failed, reason);
            None
        }
    }
}

fn nameless(name: &str) -> Nic {
    Nic {
        name: name.to_owned(),
        kind: "unknown".to_owned(),
        mac: None,
        permanent_mac: None,
        driver: None,
        driver_version: None,
        firmware: None,
        pci_address: None,
        pci_id: None,
        numa_node: None,
        operstate: None,
        carrier: None,
        speed_mbps: None,
        duplex: None,
        mtu: None,
        boot_port: false,
    }
}

fn base_facts(root: &Root, name: &str) -> Nic {
    let at = |file: &str| format!("{NET}/{name}/{file}");
    let place = root.resolve(at("device")).unwrap_or_default();
    let mac = root.value(at("address")).and_then(|text| text.parse().ok());
    let pci = bus::pci_function(&place);
    let pci_id = pci.as_ref().and_then(|function| {
        let id = |file: &str| root.value(function.join(file))?.strip_prefix("0x").map(str::to_owned);
        Some(format!("{}:{}", id("vendor")?, id("device")?))
    });
    Nic {
        kind: match root.number::<u32>(at("type")) {
            Some(1) => "ethernet".to_owned(),
            Some(32) => "infiniband".to_owned(),
            Some(other) => format!("arphrd-{other}"),
            None => "unknown".to_owned(),
        },
        mac,
        // NET_ADDR_PERM: the kernel itself says that the address in use is the burnt-in one.
        permanent_mac: mac.filter(|_| root.value(at("addr_assign_type")).as_deref() == Some("0")),
        driver: root.link_name(at("device/driver")),
        pci_address: bus::pci_address(&place),
        pci_id,
        numa_node: bus::numa_node(root, &place),
        operstate: root.value(at("operstate")),
        mtu: root.number(at("mtu")),
        ..nameless(name)
    }
}

/// Unknown while the port is down, and then no fault: the kernel refuses to answer.
fn link_facts(root: &Root, name: &str) -> Link {
    let at = |file: &str| format!("{NET}/{name}/{file}");
    Link {
        carrier: root.flag(at("carrier")),
        // -1 and 0 stand for unknown.
        speed_mbps: root
            .number::<u32>(at("speed"))
            .filter(|speed| *speed != 0 && *speed != u32::MAX),
        duplex: root.value(at("duplex")).filter(|duplex| duplex != "unknown"),
    }
}

fn ask(live: &dyn LiveSources, name: &str) -> Result<Asked, String> {
    let permanent_mac = live.permanent_mac(name);
    let driver = live.driver_info(name);
    match (permanent_mac, driver) {
        (Err(error), Err(_)) => Err(error.to_string()),
        (permanent_mac, driver) => Ok(Asked {
            permanent_mac: permanent_mac.unwrap_or_default().filter(|mac| !mac.is_unusable()),
            driver: driver.unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_port_is_on_the_kernel_line() {
        let mac = bootif("quiet BOOTIF=01-52-54-00-aa-00-01 ro");
        assert_eq!(mac, Some(MacAddr([0x52, 0x54, 0, 0xaa, 0, 1])));
        for line in ["", "BOOTIF=", "BOOTIF=eth0", "XBOOTIF=01-52-54-00-aa-00-01"] {
            assert_eq!(bootif(line), None, "{line:?}");
        }
    }
}
