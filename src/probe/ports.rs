//! Ports made ready to be looked at: switched on.
//!
//! The one thing around the probes that changes the machine. A peer that runs from our own medium asks for it; on
//! somebody's own machine it happens only on request, and [`SwitchedOn`] takes it back.
//!
//! An agent for LLDP in a port's firmware, which swallows what the switch says, is left as it is: the cards keep that
//! setting in their own memory, beyond power cycles, and changing it resets the function. Linux has it as
//! `fw-lldp-agent` of ice ("persistent across reboots", commit 31eafa403b99 and Documentation/networking/device_drivers/
//! ethernet/intel/ice.rst) and `disable-fw-lldp` of i40e ("persistent across reboots/reloads", commit 64e1dcbb581d).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::rights;
use super::timebox::{self, Outcome, Pending};
use crate::model::inventory::{Item, PartStatus};
use crate::sys::{netif, ports};

/// How long all ports together may take; most drivers are done in a moment.
pub const LIMIT: Duration = Duration::from_secs(5);
const SOURCE: &str = "rtnetlink";
/// IFF_UP of include/uapi/linux/if.h.
const IFF_UP: u32 = 1;

/// What was done to the ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readied {
    /// Ports that were down and are up now.
    pub brought_up: BTreeSet<String>,
    /// What was done or failed, as pieces of the cabling part: `eth0.up`.
    pub items: Vec<Item>,
}

/// Switches on every wired Ethernet port with hardware behind it. Ports without hardware, wireless ones, virtual functions, and those a BMC offers to its own host are left alone. Needs CAP_NET_ADMIN. Blocks
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
            let gap = Item::gap("ports", status(&error), why(&error));
            readied.items.push(gap.from("/sys/class/net", millis));
            return readied;
        }
        unfinished => {
            readied.items.extend(gap_of("ports", "/sys/class/net", &unfinished));
            return readied;
        }
    };
    // A port of its own thread: one driver that hangs then costs no other port, as far as the kernel's lock allows.
    let is_physical = |link: &netif::Link| !Path::new(&format!("/sys/class/net/{}/device/physfn", link.name)).exists();
    let started: Vec<(String, Pending<std::io::Result<bool>>)> = links
        .into_iter()
        .filter(is_physical)
        .map(|link| {
            let (name, index) = (link.name.clone(), link.index);
            let up = timebox::spawn("port-up", move || switch_on(&name, index));
            (link.name, up)
        })
        .collect();
    for (name, up) in started {
        let item = format!("{name}.up");
        match up.wait(deadline) {
            Outcome::Done { value: Ok(false), .. } => {}
            Outcome::Done {
                value: Ok(true),
                millis,
            } => {
                readied.items.push(Item::ok(item, SOURCE, millis));
                readied.brought_up.insert(name);
            }
            outcome => readied.items.extend(gap_of(&item, SOURCE, &outcome)),
        }
    }
    readied
}

/// Ports that were switched on for a look and are switched off again when this goes, a panic included. What ends the
/// process at once (SIGKILL) leaves them on until the next start of the machine.
#[derive(Debug, Default)]
pub struct SwitchedOn {
    names: BTreeSet<String>,
}

impl SwitchedOn {
    /// Takes charge of what [`ready_all`] switched on.
    pub fn by(readied: &Readied) -> SwitchedOn {
        SwitchedOn {
            names: readied.brought_up.clone(),
        }
    }

    /// Switches them off now; those that somebody uses by now, by an address or as part of another device, stay on.
    /// Blocks for at most [`LIMIT`].
    pub fn switch_off(&mut self) {
        let deadline = Instant::now() + LIMIT;
        let switch_off = |name: String| timebox::spawn("port-down", move || switch_off(&name));
        let started: Vec<_> = std::mem::take(&mut self.names).into_iter().map(switch_off).collect();
        for pending in started {
            // One that does not answer is no worse off than before.
            let _ = pending.wait(deadline);
        }
    }
}

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        self.switch_off();
    }
}

/// True where the port was down.
fn switch_on(name: &str, index: u32) -> std::io::Result<bool> {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags"))?;
    if is_up(&flags).unwrap_or(false) {
        return Ok(false);
    }
    ports::up(index).map(|()| true)
}

fn switch_off(name: &str) -> std::io::Result<()> {
    let place = format!("/sys/class/net/{name}");
    let index = std::fs::read_to_string(format!("{place}/ifindex"))?;
    let index = index.trim().parse().map_err(std::io::Error::other)?;
    if Path::new(&place).join("master").exists() {
        return Ok(());
    }
    ports::down_if_unused(index)
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

/// What a person is told of a running agent: that it is left alone, and how to change that by hand.
pub fn agent_hint(driver: &str) -> Option<String> {
    let (name, means_on) = agent_flag(driver)?;
    let off = if means_on { "off" } else { "on" };
    Some(format!(
        "the card's firmware keeps LLDP to itself and is left so; `ethtool --set-priv-flags PORT {name} {off}` changes \
         it for good, beyond power cycles"
    ))
}

/// True for drivers whose ports are worth asking.
pub fn has_agent_flag(driver: &str) -> bool {
    agent_flag(driver).is_some()
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

fn why(error: &std::io::Error) -> String {
    match status(error) {
        PartStatus::Denied => rights::refusal(),
        _ => error.to_string(),
    }
}

fn gap_of<T>(item: &str, source: &str, outcome: &Outcome<std::io::Result<T>>) -> Option<Item> {
    Some(match outcome {
        Outcome::Done { value: Ok(_), .. } => return None,
        Outcome::Done {
            value: Err(error),
            millis,
        } => Item::gap(item, status(error), why(error)).from(source, *millis),
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

    #[test]
    fn an_agent_is_seen_in_the_flags() {
        let flags = |name: &str, on| BTreeMap::from([(name.to_owned(), on)]);
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", false)), Some(true));
        assert_eq!(agent_runs("i40e", &flags("disable-fw-lldp", true)), Some(false));
        assert_eq!(agent_runs("ice", &flags("fw-lldp-agent", true)), Some(true));
        assert_eq!(agent_runs("ice", &flags("other", true)), None);
        assert_eq!(agent_runs("tg3", &flags("fw-lldp-agent", true)), None);
    }

    /// Run in a network namespace by tests/netns/checks_cabling.py, with the names of ports that are up.
    #[test]
    #[ignore = "switches ports off"]
    fn ports_go_back_even_after_a_panic() {
        let names = std::env::var("RECON_TEST_PORTS").unwrap();
        let readied = Readied {
            brought_up: names.split(',').map(str::to_owned).collect(),
            items: Vec::new(),
        };
        let taken = std::panic::catch_unwind(|| {
            let _back = SwitchedOn::by(&readied);
            panic!("something else went wrong");
        });
        assert!(taken.is_err());
    }

    #[test]
    fn the_up_flag_is_the_first_bit() {
        assert_eq!(is_up("0x1003\n"), Some(true));
        assert_eq!(is_up("0x1002"), Some(false));
        assert_eq!(is_up("1003"), None);
    }
}
