//! Ports made ready to be looked at: switched on.
//!
//! The one thing around the probes that changes the machine. A peer that runs from our own medium asks for it; on
//! somebody's own machine it happens only on request, and [`SwitchedOn`] takes it back.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::model::inventory::{Item, PartStatus};
use crate::probe::cabling::PortSetup;
use crate::probe::collect::timebox::{Outcome, Pending};
use crate::probe::collect::{rights, timebox};
use crate::probe::nics::steps::is_up;
use crate::sys::{netif, ports};

/// How long all ports together may take; most drivers are done in a moment.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
const SOURCE: &str = "rtnetlink";

/// Switches on every wired port that a cable may end in, as `netif::wired_links` has them. Needs CAP_NET_ADMIN. Blocks for at most `limit`; what is not done by then is reported as timed out, and may still happen.
pub(crate) fn ready_all(limit: Duration) -> PortSetup {
    let deadline = Instant::now() + limit;
    let mut done = PortSetup::default();
    let links = timebox::spawn("ports", || netif::wired_links(Path::new("/sys")));
    let links = match links.wait(deadline) {
        Outcome::Done { value: Ok(links), .. } => links,
        Outcome::Done {
            value: Err(error),
            millis,
        } => {
            let gap = Item::gap("ports", status(&error), why(&error));
            done.items.push(gap.from("/sys/class/net", millis));
            return done;
        }
        unfinished => {
            done.items.extend(gap_of("ports", "/sys/class/net", &unfinished));
            return done;
        }
    };
    // A port of its own thread: one driver that hangs then costs no other port, as far as the kernel's lock allows.
    let started: Vec<(String, Pending<std::io::Result<bool>>)> = links
        .into_iter()
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
                done.items.push(Item::ok(item, SOURCE, millis));
                done.brought_up.insert(name);
            }
            outcome => done.items.extend(gap_of(&item, SOURCE, &outcome)),
        }
    }
    done
}

/// Ports that were switched on for a look and are switched off again when this goes, a panic included. What ends the
/// process at once (SIGKILL) leaves them on until the next start of the machine.
#[derive(Debug, Default)]
pub(crate) struct SwitchedOn {
    names: BTreeSet<String>,
}

impl SwitchedOn {
    /// Takes charge of what [`ready_all`] switched on.
    pub(crate) fn by(done: &PortSetup) -> SwitchedOn {
        SwitchedOn {
            names: done.brought_up.clone(),
        }
    }

    /// Switches them off now; those that somebody uses by now, by an address or as part of another device, stay on.
    /// Blocks for at most [`LIMIT`].
    pub(crate) fn switch_off(&mut self) {
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

    /// Run in a network namespace by tests/netns/checks_cabling.py, with the names of ports that are up.
    #[test]
    #[ignore = "switches ports off"]
    fn ports_go_back_even_after_a_panic() {
        let names = std::env::var("RECON_TEST_PORTS").unwrap();
        let done = PortSetup {
            brought_up: names.split(',').map(str::to_owned).collect(),
            items: Vec::new(),
        };
        let taken = std::panic::catch_unwind(|| {
            let _back = SwitchedOn::by(&done);
            panic!("something else went wrong");
        });
        assert!(taken.is_err());
    }
}
