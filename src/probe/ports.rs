//! Ports made ready to be looked at: switched on, and with no firmware that keeps LLDP to itself.
//!
//! The one thing around the probes that changes the machine. A peer that runs from our own medium asks for it; on
//! somebody's own machine it happens only on request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::timebox::{self, Outcome, Pending};
use crate::model::inventory::{Item, PartStatus};
use crate::sys::{ethtool, netif, ports};

/// How long all ports together may take; most drivers are done in a moment.
pub const LIMIT: Duration = Duration::from_secs(5);
const SOURCE: &str = "rtnetlink";
const FLAGS_SOURCE: &str = "ethtool ioctl";
/// IFF_UP of include/uapi/linux/if.h.
const IFF_UP: u32 = 1;

/// What was done to the ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readied {
    /// Ports that were down and are up now.
    pub brought_up: BTreeSet<String>,
    /// What was done or failed, as pieces of the cabling part: `eth0.up`, `eth0.fw_lldp`.
    pub items: Vec<Item>,
}

/// Switches on every wired Ethernet port with hardware behind it, and off the LLDP agents in their firmware. Ports
/// without hardware, wireless ones, virtual functions, and those a BMC offers to its own host are left alone. Needs CAP_NET_ADMIN. Blocks
/// for at most `limit`; what is not done by then is reported as timed out, and may still happen.
pub fn ready_all(limit: Duration) -> Readied {
    let deadline = Instant::now() + limit;
    let mut readied = Readied::default();
    let links = timebox::spawn("ports", || netif::wired_links(Path::new("/sys")));
    let links = match links.wait(deadline) {
        Outcome::Done { value: Ok(links), .. } => links,
        Outcome::Done {
            value: Err(error),
            millis,
        } => {
            let gap = Item::gap("ports", status(&error), error.to_string());
            readied.items.push(gap.from("/sys/class/net", millis));
            return readied;
        }
        unfinished => {
            readied.items.extend(gap_of("ports", "/sys/class/net", &unfinished));
            return readied;
        }
    };
    // A port of its own thread: one driver that hangs then costs no other port, as far as the kernel's lock allows.
    type Work = Pending<std::io::Result<bool>>;
    let is_physical = |link: &netif::Link| !Path::new(&format!("/sys/class/net/{}/device/physfn", link.name)).exists();
    let started: Vec<(String, Work, Work)> = links
        .into_iter()
        .filter(is_physical)
        .map(|link| {
            let (name, index) = (link.name.clone(), link.index);
            let up = timebox::spawn("port-up", move || switch_on(&name, index));
            let name = link.name.clone();
            let agent = timebox::spawn("port-fw-lldp", move || silence(&name));
            (link.name, up, agent)
        })
        .collect();
    for (name, up, agent) in started {
        let item = format!("{name}.up");
        match up.wait(deadline) {
            Outcome::Done { value: Ok(false), .. } => {}
            Outcome::Done {
                value: Ok(true),
                millis,
            } => {
                readied.items.push(Item::ok(item, SOURCE, millis));
                readied.brought_up.insert(name.clone());
            }
            outcome => readied.items.extend(gap_of(&item, SOURCE, &outcome)),
        }
        let item = format!("{name}.fw_lldp");
        match agent.wait(deadline) {
            Outcome::Done { value: Ok(false), .. } => {}
            Outcome::Done {
                value: Ok(true),
                millis,
            } => readied.items.push(Item {
                reason: Some("the LLDP agent in the port's firmware was switched off".to_owned()),
                ..Item::ok(item, FLAGS_SOURCE, millis)
            }),
            outcome => readied.items.extend(gap_of(&item, FLAGS_SOURCE, &outcome)),
        }
    }
    readied
}

/// True where the port was down.
fn switch_on(name: &str, index: u32) -> std::io::Result<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags"))?;
    if is_up(&flags).unwrap_or(false) {
        return Ok(false);
    }
    ports::up(index).map(|()| true)
}

/// True where there was an agent to switch off.
fn silence(name: &str) -> std::io::Result<bool> {
    let driver = std::fs::read_link(format!("/sys/class/net/{name}/device/driver")).unwrap_or_default();
    let driver = driver.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if agent_flag(driver).is_none() {
        return Ok(false);
    }
    let (names, flags) = ethtool::private_flags(name)?;
    match without_agent(driver, &names, flags) {
        Some(quiet) => ethtool::set_private_flags(name, quiet).map(|()| true),
        None => Ok(false),
    }
}

/// Private flag of the driver that rules the LLDP agent of its firmware, and whether it means "on".
fn agent_flag(driver: &str) -> Option<(&'static str, bool)> {
    match driver {
        "i40e" => Some(("disable-fw-lldp", false)),
        "ice" => Some(("fw-lldp-agent", true)),
        _ => None,
    }
}

/// Whether the agent runs, by the private flags of the port; `None` where the driver has no such flag.
pub fn agent_runs(driver: &str, flags: &BTreeMap<String, bool>) -> Option<bool> {
    let (name, means_on) = agent_flag(driver)?;
    flags.get(name).map(|set| *set == means_on)
}

/// True for drivers whose ports are worth asking.
pub fn has_agent_flag(driver: &str) -> bool {
    agent_flag(driver).is_some()
}

/// The flags with the agent off, where it is on.
fn without_agent(driver: &str, names: &[String], flags: u32) -> Option<u32> {
    let (name, means_on) = agent_flag(driver)?;
    let bit = 1u32.checked_shl(u32::try_from(names.iter().position(|known| known == name)?).ok()?)?;
    let runs = (flags & bit != 0) == means_on;
    runs.then_some(flags ^ bit)
}

/// Of the text of a `flags` attribute: hex with `0x`.
pub fn is_up(flags: &str) -> Option<bool> {
    let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
    Some(flags & IFF_UP != 0)
}

fn status(error: &std::io::Error) -> PartStatus {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => PartStatus::Denied,
        std::io::ErrorKind::Unsupported => PartStatus::Unsupported,
        _ => PartStatus::Failed,
    }
}

fn gap_of<T>(item: &str, source: &str, outcome: &Outcome<std::io::Result<T>>) -> Option<Item> {
    Some(match outcome {
        Outcome::Done { value: Ok(_), .. } => return None,
        Outcome::Done {
            value: Err(error),
            millis,
        } => Item::gap(item, status(error), error.to_string()).from(source, *millis),
        Outcome::TimedOut { millis } => {
            let reason = format!("no answer within {millis} ms");
            Item::gap(item, PartStatus::TimedOut, reason).from(source, *millis)
        }
        Outcome::Died { reason } => Item::gap(item, PartStatus::Failed, reason.clone()).from(source, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_a_running_agent_is_switched_off() {
        let i40e = names(&["MFP", "link-down-on-close", "disable-fw-lldp"]);
        assert_eq!(without_agent("i40e", &i40e, 0b001), Some(0b101));
        assert_eq!(without_agent("i40e", &i40e, 0b101), None);
        let ice = names(&["link-down-on-close", "fw-lldp-agent"]);
        assert_eq!(without_agent("ice", &ice, 0b11), Some(0b01));
        assert_eq!(without_agent("ice", &ice, 0b01), None);
        // A driver too old for the flag, and one that never had it.
        assert_eq!(without_agent("ice", &i40e, 0), None);
        assert_eq!(without_agent("ixgbe", &ice, 0b11), None);
    }

    #[test]
    fn an_agent_is_seen_in_the_flags() {
        let flags = |name: &str, on| BTreeMap::from([(name.to_owned(), on)]);
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", false)), Some(true));
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", true)), Some(false));
        assert_eq!(agent_runs("ice", &flags("fw-lldp-agent", true)), Some(true));
        assert_eq!(agent_runs("ice", &flags("other", true)), None);
        assert_eq!(agent_runs("tg3", &flags("fw-lldp-agent", true)), None);
    }

    #[test]
    fn the_up_flag_is_the_first_bit() {
        assert_eq!(is_up("0x1003\n"), Some(true));
        assert_eq!(is_up("0x1002"), Some(false));
        assert_eq!(is_up("1003"), None);
    }
}
