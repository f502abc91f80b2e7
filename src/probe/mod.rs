//! Hardware facts: a [`Root`] and, on the running machine, [`LiveSources`] → [`Inventory`].
//!
//! Parsers are pure and take text or bytes. Each part is collected in a thread of its own within one common time box;
//! a part that hangs is left behind and reported as timed out, the others are whole. Parts that ask several devices
//! box each device as well, so that one dying disk costs its own line and not the list.

pub mod bmc;
pub mod bus;
pub mod capture;
pub mod cpu;
pub mod disk;
pub mod live;
pub mod memory;
pub mod net;
mod raw;
pub mod root;
mod run;
pub mod scsi;
pub mod smbios;
pub mod system;
pub mod text;
pub mod timebox;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::inventory::{Inventory, Part, PartStatus, SCHEMA_VERSION};
pub use live::{LiveSources, ThisMachine};
pub use raw::raw_captures;
pub use root::Root;
use timebox::{Outcome, Pending};

/// How long collecting may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What collecting is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time box of the whole; parts run side by side.
    pub limit: Duration,
    /// Devices this system runs from, as `sdb`, `sdb1` or `/dev/sdb1`.
    pub boot_medium: BTreeSet<String>,
    /// RFC 3339; the clock is the caller's.
    pub started_at: String,
    pub recon_version: String,
}

impl Options {
    /// Defaults, with this binary's version.
    pub fn new(started_at: impl Into<String>) -> Options {
        Options {
            limit: LIMIT,
            boot_medium: BTreeSet::new(),
            started_at: started_at.into(),
            recon_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Collects everything. Returns within the time box and a little, whatever hangs. Blocks: async callers put it on a
/// blocking thread.
///
/// `live` is for the running machine only; with a captured tree it stays `None`, and what only the machine itself can
/// answer is reported as unsupported.
pub fn collect(root: &Root, live: Option<Arc<dyn LiveSources>>, options: &Options) -> Inventory {
    let started = Instant::now();
    let deadline = started + options.limit;
    // Boxes inside a part end before the part's own, so that the part can still tell what it has.
    let inner = options.limit * 4 / 5;

    let part = Starter { root, live: &live };
    let system = part.start("system", smbios::SOURCE, |root, _| system::system(&root));
    let bios = part.start("bios", smbios::SOURCE, |root, _| system::bios(&root));
    let cpus = part.start("cpus", "/proc/cpuinfo", move |root, live| {
        cpu::cpus(&root, live.as_ref(), inner)
    });
    let memory = part.start("memory", "/proc/meminfo", move |root, live| {
        memory::memory(&root, live.as_ref(), inner)
    });
    let medium = options.boot_medium.clone();
    let disks = part.start("disks", "/sys/block", move |root, _| disk::disks(&root, &medium, inner));
    let nics = part.start("nics", "/sys/class/net", move |root, live| {
        net::nics(&root, live, inner)
    });
    let bmc = part.start("bmc", crate::sys::ipmi::DEVICE, move |root, live| {
        bmc::bmc(&root, live.as_deref(), inner)
    });
    let (version, at) = (options.recon_version.clone(), options.started_at.clone());
    let run = part.start("run", "/proc", move |root, _| run::run(&root, &version, &at));

    let mut inventory = Inventory {
        schema_version: SCHEMA_VERSION,
        run: finish(run, deadline),
        system: finish(system, deadline),
        bios: finish(bios, deadline),
        cpus: finish(cpus, deadline),
        memory: finish(memory, deadline),
        disks: finish(disks, deadline),
        nics: finish(nics, deadline),
        bmc: finish(bmc, deadline),
    };
    if let Some(run) = &mut inventory.run.value {
        run.duration_ms = timebox::millis(started.elapsed());
    }
    inventory
}

struct Starter<'a> {
    root: &'a Root,
    live: &'a Option<Arc<dyn LiveSources>>,
}

struct Started<T> {
    pending: Pending<Part<T>>,
    /// What is named as the source if the probe never says itself.
    source: &'static str,
}

impl Starter<'_> {
    fn start<T: Send + 'static>(
        &self,
        name: &str,
        source: &'static str,
        probe: impl FnOnce(Root, Option<Arc<dyn LiveSources>>) -> Part<T> + Send + 'static,
    ) -> Started<T> {
        let (root, live) = (self.root.clone(), self.live.clone());
        Started {
            pending: timebox::spawn(&format!("probe-{name}"), move || probe(root, live)),
            source,
        }
    }
}

fn finish<T>(started: Started<T>, deadline: Instant) -> Part<T> {
    match started.pending.wait(deadline) {
        Outcome::Done { mut value, millis } => {
            value.millis = millis;
            value
        }
        Outcome::TimedOut { millis } => {
            let reason = format!("no answer within {millis} ms");
            let mut part = Part::missing(PartStatus::TimedOut, started.source, reason);
            part.millis = millis;
            part
        }
        Outcome::Died { reason } => Part::missing(PartStatus::Failed, started.source, reason),
    }
}
