//! Network ports with hardware behind them, from `/sys/class/net`, `/sys/class/infiniband` and ethtool.
//!
//! A port is asked in several steps, each in a time box of its own. The first needs nothing from the driver. Speed and
//! duplex go through the kernel's one network configuration lock, and ethtool through the driver's firmware: when one
//! driver hangs there, the ports are still listed with name, address, driver and place.

pub(crate) mod devlink;
pub(crate) mod link_modes;
pub(crate) mod naming;
pub(crate) mod optics;
mod rdma;
pub(crate) mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::MacAddr;
use crate::model::inventory::{Item, Nic, Part, PartStatus};
use crate::probe::bus::NET;
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::{Outcome, Pending, Pool};
use crate::probe::collect::{run, timebox};
use steps::{Answer, Port};

const ETHTOOL: &str = "ethtool ioctl";
/// Ports that are told. Machines with virtual functions have thousands; those are left out first.
const MAX_PORTS: usize = 8192;

/// A question to one port, under way.
struct Step {
    item: &'static str,
    source: &'static str,
    /// Worth a line of its own when it was answered, because the source is another than the part's.
    told: bool,
    answer: Pending<Answer>,
}

/// Ports of the machine. `brought_up` are those that were down before this run.
pub(crate) fn nics(
    root: &Root,
    live: Option<Arc<dyn LiveSources>>,
    limit: Duration,
    brought_up: &BTreeSet<String>,
) -> Part<Vec<Nic>> {
    let names = match root.list(NET) {
        Ok(names) => names,
        Err(error) => return error.missing(NET),
    };
    let names = told(root, names, MAX_PORTS);
    let deadline = Instant::now() + limit;
    let tree = root.clone();
    let rdma = timebox::spawn("probe-rdma", move || rdma::ports(&tree));
    let pool = Pool::new("probe-nic");
    let started: Vec<Vec<Step>> = names
        .iter()
        .map(|name| {
            let port = Port::new(root, live.as_ref(), name);
            let brought_up = brought_up.contains(name);
            start(Port { brought_up, ..port }, &pool)
        })
        .collect();

    let command_line = root.text("/proc/cmdline", run::CMDLINE_LIMIT).unwrap_or_default();
    let boot_mac = bootif(&command_line);
    let (mut nics, mut items) = (Vec::new(), Vec::new());
    for (name, steps) in names.iter().zip(started) {
        let mut nic = Nic {
            name: name.clone(),
            kind: "unknown".to_owned(),
            brought_up: brought_up.contains(name),
            ..Nic::default()
        };
        for step in steps {
            items.extend(step.settle(deadline, &mut nic));
        }
        nic.boot_port = boot_mac.is_some() && (nic.permanent_mac == boot_mac || nic.mac == boot_mac);
        nics.push(nic);
    }
    match rdma.wait(deadline).or_gap("rdma", rdma::SOURCE) {
        Ok((ports, _)) => rdma::attach(&mut nics, ports),
        Err(gap) => items.push(gap),
    }
    let source = match (live.is_some(), root.exists(rdma::SOURCE)) {
        (true, true) => "/sys/class/net, /sys/class/infiniband, ethtool ioctl",
        (true, false) => "/sys/class/net, ethtool ioctl",
        (false, true) => "/sys/class/net, /sys/class/infiniband",
        (false, false) => NET,
    };
    Part::ok(source, nics).with_items(once_denied(items))
}

/// The ports that are told, in their order. Where there are too many, virtual functions stand back: a cable ends in the others.
fn told(root: &Root, names: Vec<String>, max: usize) -> Vec<String> {
    let is_port = |name: &String| root.exists(format!("{NET}/{name}/device"));
    let is_virtual = |name: &String| root.exists(format!("{NET}/{name}/device/physfn"));
    let ports: Vec<(bool, String)> = names
        .into_iter()
        .filter(is_port)
        .map(|name| (is_virtual(&name), name))
        .collect();
    let own = ports.iter().filter(|(is_virtual, _)| !is_virtual).count();
    let (mut own_left, mut virtual_left) = (max, max.saturating_sub(own));
    let all = ports.len();
    let kept: Vec<String> = ports
        .into_iter()
        .filter_map(|(is_virtual, name)| {
            let left = if is_virtual { &mut virtual_left } else { &mut own_left };
            *left = left.checked_sub(1)?;
            Some(name)
        })
        .collect();
    if kept.len() < all {
        root.leave_out("count", &format!("{all} ports"), kept.len());
    }
    kept
}

fn start(port: Port, pool: &Pool) -> Vec<Step> {
    let port = Arc::new(port);
    let step = |item: &'static str, source: &'static str, told: bool, ask: fn(&Port) -> Answer| {
        let port = Arc::clone(&port);
        Step {
            item,
            source,
            told,
            answer: pool.spawn(move || ask(&port)),
        }
    };
    vec![
        step("base", NET, false, steps::base),
        step("link", NET, false, steps::link),
        step("counters", NET, false, steps::counters),
        step("link_modes", ETHTOOL, false, steps::link_modes),
        step("ethtool", ETHTOOL, false, steps::driver),
        step("fw_lldp", ETHTOOL, false, steps::firmware_lldp),
        step("optics", "ethtool ioctl, module EEPROM", true, steps::optics),
    ]
}

impl Step {
    /// Puts the answer into the port. Gives the piece worth a line, if any.
    fn settle(self, deadline: Instant, nic: &mut Nic) -> Option<Item> {
        let item = format!("{}.{}", nic.name, self.item);
        match self.answer.wait(deadline).or_gap(&item, self.source) {
            Ok((Ok(Some(patch)), millis)) => {
                patch(nic);
                self.told.then(|| Item::ok(item, self.source, millis))
            }
            Ok((Ok(None), _)) => None,
            Ok((Err((status, reason)), millis)) => Some(Item::gap(item, status, reason).from(self.source, millis)),
            Err(gap) => Some(gap),
        }
    }
}

/// Looks again at ports that were switched on by us and had no carrier yet, when some time has passed.
pub(crate) fn look_again(root: &Root, live: Option<&Arc<dyn LiveSources>>, nics: &mut [Nic], limit: Duration) {
    let deadline = Instant::now() + limit;
    let late = nics
        .iter_mut()
        .filter(|nic| nic.brought_up && nic.carrier != Some(true));
    let asked: Vec<(&mut Nic, Pending<[Answer; 2]>)> = late
        .map(|nic| {
            let port = Port::new(root, live, &nic.name);
            let answers = timebox::spawn("probe-nic", move || [steps::link(&port), steps::link_modes(&port)]);
            (nic, answers)
        })
        .collect();
    for (nic, answers) in asked {
        // What is not answered stays as it was, and the pieces already tell why.
        if let Outcome::Done { value, .. } = answers.wait(deadline) {
            value
                .into_iter()
                .filter_map(Result::ok)
                .flatten()
                .for_each(|patch| patch(nic));
        }
    }
}

/// Without root every port refuses the same question: said once.
fn once_denied(items: Vec<Item>) -> Vec<Item> {
    let optics = |item: &Item| item.status == PartStatus::Denied && item.item.ends_with(".optics");
    let mut denied = items.iter().filter(|item| optics(item));
    let (first, more) = (denied.next().cloned(), denied.next().is_some());
    match first {
        Some(first) if more => {
            let kept = items.into_iter().filter(|item| !optics(item));
            let once = Item {
                item: "optics".to_owned(),
                ..first
            };
            kept.chain([once]).collect()
        }
        _ => items,
    }
}

/// The address in `BOOTIF=01-aa-bb-cc-dd-ee-ff`, which the boot loader puts there.
fn bootif(command_line: &str) -> Option<MacAddr> {
    let mut words = command_line.split_whitespace().rev();
    words.find_map(|word| word.strip_prefix("BOOTIF="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_carrier_is_seen_when_ports_are_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let port = dir.path().join("sys/class/net/eth1");
        std::fs::create_dir_all(port.join("device")).unwrap();
        std::fs::write(port.join("carrier"), "0\n").unwrap();
        let root = Root::at(dir.path());
        let ours = BTreeSet::from(["eth1".to_owned()]);
        let mut nics = nics(&root, None, Duration::from_secs(60), &ours).value.unwrap();
        assert_eq!((nics[0].brought_up, nics[0].carrier), (true, Some(false)));
        std::fs::write(port.join("carrier"), "1\n").unwrap();
        std::fs::write(port.join("speed"), "10000\n").unwrap();
        look_again(&root, None, &mut nics, Duration::from_secs(60));
        assert_eq!((nics[0].carrier, nics[0].speed_mbps), (Some(true), Some(10_000)));
        // One that had its link before is left alone.
        std::fs::write(port.join("speed"), "1000\n").unwrap();
        look_again(&root, None, &mut nics, Duration::from_secs(60));
        assert_eq!(nics[0].speed_mbps, Some(10_000));
    }

    #[test]
    fn virtual_functions_stand_back_where_ports_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for card in 1..=3 {
            for function in ["", "v0", "v1", "v2"] {
                let name = format!("ens{card}f0{function}");
                let device = dir.path().join("sys/class/net").join(&name).join("device");
                std::fs::create_dir_all(if function.is_empty() {
                    device
                } else {
                    device.join("physfn")
                })
                .unwrap();
                names.push(name);
            }
        }
        names.push("lo".to_owned());
        let root = Root::at(dir.path());
        let kept = told(&root, names.clone(), 5);
        assert_eq!(kept, ["ens1f0", "ens1f0v0", "ens1f0v1", "ens2f0", "ens3f0"]);
        let items = root.left_out();
        assert_eq!(
            (&*items[0].item, items[0].reason.as_deref()),
            ("count", Some("12 ports, of which 5 are here"))
        );
        assert_eq!(told(&root.for_part(), names.clone(), 2), ["ens1f0", "ens2f0"]);
        let root = root.for_part();
        assert_eq!(told(&root, names, MAX_PORTS).len(), 12);
        assert!(root.left_out().is_empty());
    }

    #[test]
    fn one_refusal_for_all_ports_is_one_line() {
        let denied = |item: &str| Item::gap(item, PartStatus::Denied, "no");
        let items = once_denied(vec![
            denied("eth0.optics"),
            denied("eth1.optics"),
            denied("eth1.ethtool"),
        ]);
        let names: Vec<&str> = items.iter().map(|item| item.item.as_str()).collect();
        assert_eq!(names, ["eth1.ethtool", "optics"]);
        assert_eq!(once_denied(vec![denied("eth0.optics")])[0].item, "eth0.optics");
    }

    #[test]
    fn the_boot_port_is_on_the_kernel_line() {
        let mac = bootif("quiet BOOTIF=01-52-54-00-aa-00-01 ro");
        assert_eq!(mac, Some(MacAddr([0x52, 0x54, 0, 0xaa, 0, 1])));
        for line in ["", "BOOTIF=", "BOOTIF=eth0", "XBOOTIF=01-52-54-00-aa-00-01"] {
            assert_eq!(bootif(line), None, "{line:?}");
        }
    }
}
