//! Ports made ready to be looked at: named where no udev did so, switched on.
//!
//! The one thing around the probes that changes the machine. A peer that runs from our own medium asks for it; on
//! somebody's own machine ports are switched on only on request, and [`SwitchedOn`] takes it back; they keep their names.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::model::cause;
use crate::model::inventory::{Item, PartStatus};
use crate::probe::cabling::PortSetup;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::Outcome;
use crate::probe::collect::{rights, timebox};
use crate::probe::nics::naming::{self, Rename};
use crate::probe::nics::steps::is_up;
use crate::sys::netif::{self, Link};
use crate::sys::ports;

/// How long all ports together may take; most drivers are done in a moment.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
const SOURCE: &str = "rtnetlink";

/// Gives every port that still has the kernel's name the one udev would give it, and tells which were renamed: the name before and the
/// name now. For the first stage, which has no udev; called again each time ports have appeared, it names the new ones. Needs
/// CAP_NET_ADMIN. The names that drivers give their ports, and renaming, wait for the kernel's one network configuration lock, so it blocks
/// for as long as a driver holds that: for a thread of its own.
pub(crate) fn name_ports(root: &Root) -> Vec<(String, String)> {
    let mut done = Vec::new();
    let plan = naming::plan(root);
    for Rename { from, to, .. } in &plan.taken {
        tracing::warn!(port = %from, name = %to, "a port keeps its name, another interface has the one for it");
    }
    for Rename { index, from, to } in &plan.renames {
        match ports::rename(*index, to) {
            Ok(()) => done.push((from.clone(), to.clone())),
            Err(error) => tracing::warn!(port = %from, name = %to, error = cause::told(&error), "naming a port"),
        }
    }
    done
}

/// Switches on every wired port that a cable may end in, as `netif::wired_links` has them. Needs CAP_NET_ADMIN. Blocks for at most `limit`; what is not done by then is reported as timed out, and may still happen.
pub(crate) fn ready_all(limit: Duration) -> PortSetup {
    let deadline = Instant::now() + limit;
    let mut done = PortSetup::default();
    let links = timebox::spawn("ports", || netif::wired_links(Path::new("/sys")));
    let links = match settled(links.wait(deadline), "ports", "/sys/class/net") {
        Ok((links, _)) => links,
        Err(gap) => {
            done.items.push(gap);
            return done;
        }
    };
    // A port of its own thread: one driver that hangs then costs no other port, as far as the kernel's lock allows.
    let start = |link: Link| {
        let (name, index) = (link.name.clone(), link.index);
        let up = timebox::spawn("port-up", move || switch_on(&name, index));
        (link.name, up)
    };
    let started: Vec<_> = links.into_iter().map(start).collect();
    for (name, up) in started {
        let item = format!("{name}.up");
        match settled(up.wait(deadline), &item, SOURCE) {
            Ok((false, _)) => {}
            Ok((true, millis)) => {
                done.items.push(Item::ok(item, SOURCE, millis));
                done.brought_up.insert(name);
            }
            Err(gap) => done.items.push(gap),
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
        let names = done.brought_up.clone();
        SwitchedOn { names }
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

/// The value and the milliseconds it took, or the item that says why there is none.
fn settled<T>(outcome: Outcome<std::io::Result<T>>, item: &str, source: &str) -> Result<(T, u64), Item> {
    let (value, millis) = outcome.or_gap(item, source)?;
    let gap = |error: std::io::Error| {
        let (status, why) = match error.kind() {
            std::io::ErrorKind::PermissionDenied => (PartStatus::Denied, rights::refusal()),
            std::io::ErrorKind::Unsupported => (PartStatus::Unsupported, error.to_string()),
            _ => (PartStatus::Failed, error.to_string()),
        };
        Item::gap(item, status, why).from(source, millis)
    };
    value.map(|value| (value, millis)).map_err(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Run in a network namespace by tests/netns/checks_cabling.py, with the names of three ports that are down. A fourth
    /// interface there is called enp0s5.
    #[test]
    #[ignore = "renames ports"]
    fn ports_get_the_names_of_their_places() {
        let names = std::env::var("RECON_TEST_PORTS").unwrap();
        let names: Vec<&str> = names.split(',').collect();
        let index = |name: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        // The first two are parts of one function, and the third one's name is that of an interface that sysfs does not show yet.
        for (name, place) in names.iter().zip(["0000:00:03.0", "0000:00:03.0", "0000:00:05.0"]) {
            let port = format!("devices/pci0000:00/{place}/net/{name}");
            let folder = dir.path().join("sys").join(&port);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("type"), "1\n").unwrap();
            std::fs::write(folder.join("ifindex"), index(name)).unwrap();
            let class = dir.path().join("sys/class/net");
            std::fs::create_dir_all(&class).unwrap();
            std::os::unix::fs::symlink(format!("../../{port}"), class.join(name)).unwrap();
        }
        let first = index(names[0]);
        let renamed = name_ports(&Root::at(dir.path()));
        assert_eq!(renamed, [(names[0].to_owned(), "enp0s3".to_owned())]);
        assert_eq!(index("enp0s3"), first);
        let kind = std::fs::read_to_string("/sys/class/net/enp0s3/name_assign_type").unwrap();
        assert_eq!(kind, "4\n", "it would be renamed again");
        assert!(
            names[1..].iter().all(|name| !index(name).is_empty()),
            "two names were taken"
        );
    }

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
