//! Hardware facts: a [`Root`] and, on the running machine, [`LiveSources`] → [`Inventory`].
//!
//! Parsers are pure and take text or bytes. Each part is collected in a thread of its own within one common time box;
//! a part that hangs is left behind and reported as timed out, the others are whole. Parts that ask several devices
//! box each device as well, so that one dying disk costs its own line and not the list.

pub mod bmc;
pub(crate) mod bus;
pub mod cabling;
pub mod collect;
pub(crate) mod cpu;
pub(crate) mod disks;
pub(crate) mod firmware;
pub(crate) mod health;
pub(crate) mod memory;
pub(crate) mod nics;
pub(crate) mod pci;
pub(crate) mod security;
pub mod smbios;
pub(crate) mod system;
pub(crate) mod text;
pub(crate) mod usb;

#[cfg(test)]
mod hang_tests;
#[cfg(test)]
mod late_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::inventory::{
    Bios, Bmc, Cabling, Cpus, Disk, Firmware, Gpu, Health, Inventory, Item, Memory, Nic, Part, PartStatus, PciFunction,
    Run, SCHEMA_VERSION, Security, StorageController, System, UsbDevice,
};
pub use crate::probe::collect::live::{LiveSources, ThisMachine};
pub use crate::probe::collect::raw::raw_captures;
pub use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::{Outcome, Pending, Publish};
use crate::probe::disks::arrivals::Named;
use crate::probe::disks::watch::Watch;

/// How long the quick parts may take.
pub const QUICK_LIMIT: Duration = Duration::from_secs(10);
/// How long the parts may take that wait for others: the management controller, disks that test themselves.
pub const SLOW_LIMIT: Duration = Duration::from_secs(20);
/// How long a management controller that does answer may take to tell its sensors and its log, hundreds of questions of
/// some 10 ms each. One that misses an answer is given up at once and costs a few seconds.
pub const BMC_LIMIT: Duration = Duration::from_secs(40);
/// How long to listen for neighbours: LLDP senders repeat themselves every 30 s (IEEE 802.1AB).
pub const CABLE_WAIT: Duration = Duration::from_secs(35);

/// How often disks are listed anew that came while the last ones were asked.
const LATE_ROUNDS: usize = 4;
/// Late disks in one line on a console.
const LATE_SHOWN: usize = 8;
/// Items of ways to disks that never said that they are done.
const STILL_LOOKING: &str = "still looking: ";

/// Why a part is empty that the caller left out.
const NOT_ASKED: &str = "not asked for";
/// How long ports with a late carrier may take to tell their speed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What collecting is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Time box of the quick parts; all parts run side by side.
    pub limit: Duration,
    /// Time box of the parts that wait for others.
    pub slow_limit: Duration,
    /// Time box of the management controller.
    pub bmc_limit: Duration,
    /// How long to listen for neighbours on the cables; zero leaves that out.
    pub cable_wait: Duration,
    /// What `role::ports::ready_all` did before; the default where it was not called.
    pub ports: cabling::PortSetup,
    /// Names of the parts to collect; `None` is all.
    pub only: Option<BTreeSet<String>>,
    /// Devices this system runs from, as `sdb`, `sdb1` or `/dev/sdb1`.
    pub boot_medium: BTreeSet<String>,
    /// Watches for disks that come late; `None` takes the list once, as with a captured tree.
    pub watch: Option<Watch>,
    /// RFC 3339; the clock is the caller's.
    pub started_at: String,
    pub recon_version: String,
}

impl Options {
    /// Defaults, with this binary's version.
    pub fn new(started_at: impl Into<String>) -> Options {
        Options {
            limit: QUICK_LIMIT,
            slow_limit: SLOW_LIMIT,
            bmc_limit: BMC_LIMIT,
            cable_wait: CABLE_WAIT,
            ports: cabling::PortSetup::default(),
            only: None,
            boot_medium: BTreeSet::new(),
            watch: None,
            started_at: started_at.into(),
            recon_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// Collects everything. Returns within the time boxes and a little, whatever hangs. Blocks: async callers put it on a
/// blocking thread.
///
/// `live` is for the running machine only; with a captured tree it stays `None`, and what only the machine itself can
/// answer is reported as unsupported.
pub fn collect(root: &Root, live: Option<Arc<dyn LiveSources>>, options: &Options) -> Inventory {
    let mut collection = Collection::start(root, live, options);
    collection.settle_slow();
    if let Some(sentence) = collection.awaits_storage() {
        tracing::info!("waiting for {sentence}");
    }
    collection.settle_storage();
    collection.inventory()
}

/// A collection under way: every part runs in a thread of its own from the start.
pub struct Collection {
    root: Root,
    live: Option<Arc<dyn LiveSources>>,
    options: Options,
    started: Instant,
    quick_deadline: Instant,
    slow_deadline: Instant,
    bmc_deadline: Instant,
    cable_deadline: Instant,
    run: Slot<Run>,
    system: Slot<System>,
    bios: Slot<Bios>,
    cpus: Slot<Cpus>,
    memory: Slot<Memory>,
    disks: Slot<Vec<Disk>>,
    storage_controllers: Slot<Vec<StorageController>>,
    nics: Slot<Vec<Nic>>,
    cabling: Slot<Cabling>,
    pci: Slot<Vec<PciFunction>>,
    usb: Slot<Vec<UsbDevice>>,
    gpus: Slot<Vec<Gpu>>,
    security: Slot<Security>,
    bmc: Slot<Bmc>,
    health: Slot<Health>,
    firmware: Slot<Vec<Firmware>>,
}

impl Collection {
    /// Starts every part and returns at once.
    pub fn start(root: &Root, live: Option<Arc<dyn LiveSources>>, options: &Options) -> Collection {
        let started = Instant::now();
        let part = Starter {
            root,
            live: &live,
            options,
        };
        // Boxes inside a part end before the part's own, so that the part can still tell what it has.
        let quick = options.limit * 4 / 5;
        let slow = options.slow_limit * 4 / 5;
        let bmc_limit = options.bmc_limit * 4 / 5;
        let medium = options.boot_medium.clone();
        let cable_wait = options.cable_wait;
        let readied = options.ports.clone();
        let brought_up = options.ports.brought_up.clone();
        let (version, at) = (options.recon_version.clone(), options.started_at.clone());
        Collection {
            root: root.clone(),
            live: live.clone(),
            options: options.clone(),
            started,
            quick_deadline: started + options.limit,
            slow_deadline: started + options.slow_limit,
            bmc_deadline: started + options.bmc_limit,
            // Listening begins when the ports are up, which takes a moment.
            cable_deadline: started + options.cable_wait + options.limit,
            // Cables first: neighbours speak once in 30 s, so every moment of listening counts.
            cabling: part.start("cabling", cabling::SOURCE, move |root, live, publish| {
                cabling::cabling(&root, live, cable_wait, &readied, &publish)
            }),
            bmc: part.start("bmc", crate::sys::ipmi::DEVICE, move |root, live, publish| {
                bmc::bmc(&root, live.as_deref(), bmc_limit, &publish)
            }),
            disks: part.start("disks", "/sys/block", move |root, live, publish| {
                crate::probe::disks::list::disks(&root, live, &medium, slow, &publish)
            }),
            system: part.start("system", smbios::SOURCE, |root, _, _| system::system(&root)),
            bios: part.start("bios", smbios::SOURCE, |root, _, _| system::bios(&root)),
            cpus: part.start("cpus", "/proc/cpuinfo", move |root, live, publish| {
                cpu::cpus(&root, live.as_ref(), quick, &publish)
            }),
            memory: part.start("memory", "/proc/meminfo", move |root, live, publish| {
                memory::memory(&root, live.as_ref(), quick, &publish)
            }),
            storage_controllers: part.start(
                "storage_controllers",
                crate::probe::disks::controllers::SOURCE,
                move |root, live, publish| {
                    crate::probe::disks::controllers::storage_controllers(&root, live, slow, &publish)
                },
            ),
            nics: part.start("nics", "/sys/class/net", move |root, live, _| {
                crate::probe::nics::nics(&root, live, quick, &brought_up)
            }),
            pci: part.start("pci", pci::SOURCE, move |root, _, publish| {
                pci::functions(&root, quick, &publish)
            }),
            usb: part.start("usb", usb::SOURCE, move |root, _, _| usb::devices(&root, quick)),
            gpus: part.start("gpus", crate::probe::pci::gpu::SOURCE, move |root, live, _| {
                crate::probe::pci::gpu::gpus(&root, live, quick)
            }),
            security: part.start("security", security::SOURCE, move |root, live, _| {
                security::security(&root, live, quick)
            }),
            health: part.start("health", health::SOURCE, move |root, live, _| {
                health::health(&root, live, quick)
            }),
            firmware: part.start("firmware", firmware::SOURCE, move |root, live, _| {
                firmware::listed(&root, live.is_some(), quick)
            }),
            run: part.start("run", "/proc", move |root, _, _| {
                crate::probe::collect::run::run(&root, &version, &at)
            }),
        }
    }

    /// Waits for the quick parts. What the slow ones handed out by then is in [`Self::inventory`] too.
    pub fn settle_quick(&mut self) {
        let deadline = self.quick_deadline;
        self.system.settle(deadline);
        self.bios.settle(deadline);
        self.cpus.settle(deadline);
        self.memory.settle(deadline);
        self.nics.settle(deadline);
        self.pci.settle(deadline);
        self.usb.settle(deadline);
        self.gpus.settle(deadline);
        self.security.settle(deadline);
        self.health.settle(deadline);
        self.firmware.settle(deadline);
        self.run.settle(deadline);
    }

    /// Waits for every part.
    pub fn settle_slow(&mut self) {
        self.settle_quick();
        self.bmc.settle(self.bmc_deadline);
        self.disks.settle(self.slow_deadline);
        self.storage_controllers.settle(self.slow_deadline);
        self.cabling.settle(self.cable_deadline);
        if let Slot::Done(Part { value: Some(nics), .. }) = &mut self.nics {
            crate::probe::nics::look_again(&self.root, self.live.as_ref(), nics, LOOK_AGAIN);
        }
    }

    /// True when nothing is under way any more.
    pub fn is_settled(&self) -> bool {
        let Collection {
            root: _,
            live: _,
            options: _,
            started: _,
            quick_deadline: _,
            slow_deadline: _,
            bmc_deadline: _,
            cable_deadline: _,
            run,
            system,
            bios,
            cpus,
            memory,
            disks,
            storage_controllers,
            nics,
            cabling,
            pci,
            usb,
            gpus,
            security,
            bmc,
            health,
            firmware,
        } = self;
        let quick = [
            run.is_done(),
            system.is_done(),
            bios.is_done(),
            cpus.is_done(),
            memory.is_done(),
        ];
        let buses = [
            nics.is_done(),
            pci.is_done(),
            usb.is_done(),
            gpus.is_done(),
            security.is_done(),
            health.is_done(),
            firmware.is_done(),
        ];
        let slow = [
            disks.is_done(),
            storage_controllers.is_done(),
            cabling.is_done(),
            bmc.is_done(),
        ];
        quick.into_iter().chain(buses).chain(slow).all(|done| done)
    }

    /// Waits until no more disks are expected, then takes in those that came since they were listed. Without a watch, and where
    /// disks were not asked for, it does nothing. Tells, and has the inventory say, which ways to disks never said that they are done.
    pub fn settle_storage(&mut self) -> Vec<Named> {
        let Some(watch) = self.watch() else { return Vec::new() };
        let unfinished = watch.wait();
        self.take_late_disks();
        if let Slot::Done(part) = &mut self.disks {
            part.items.extend(unfinished.iter().map(|named| {
                let reason = format!("{}; disks behind it may be missing", named.why);
                Item::gap(format!("{STILL_LOOKING}{}", named.who), PartStatus::TimedOut, reason)
            }));
        }
        unfinished
    }

    /// Which disks came late and when, for the person at the machine.
    pub fn late_sentence(&self) -> Option<String> {
        let Slot::Done(part) = &self.disks else { return None };
        let disks = part.value.iter().flatten();
        let mut late: Vec<(u64, &str)> = disks
            .filter_map(|disk| Some((disk.appeared_after_ms?, disk.name.as_str())))
            .collect();
        late.sort_unstable();
        let late: Vec<String> = late
            .into_iter()
            .map(|(millis, name)| format!("{name} after {} s", millis / 1000))
            .collect();
        let shown = late.iter().take(LATE_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = match late.len().saturating_sub(LATE_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!late.is_empty()).then(|| format!("disks that came late: {shown}{more}"))
    }

    fn watch(&self) -> Option<Watch> {
        let wanted = self.options.only.as_ref().is_none_or(|only| only.contains("disks"));
        self.options.watch.clone().filter(|_| wanted)
    }

    /// Whose disks are waited for, and how long at most; `None` when no more are expected.
    pub fn awaits_storage(&self) -> Option<String> {
        self.watch()?.sentence()
    }

    /// True when every disk that is there is in the inventory and no more are expected. Needs the list of disks to be done.
    pub fn is_storage_done(&self) -> bool {
        let Some(watch) = self.watch() else { return true };
        watch.is_done() && self.late_disks().is_empty()
    }

    /// Disks that are there and not in the inventory.
    fn late_disks(&self) -> Vec<String> {
        let Slot::Done(part) = &self.disks else {
            return Vec::new();
        };
        let listed = part.value.as_deref().unwrap_or_default().iter();
        let known: BTreeSet<&str> = listed
            .flat_map(|disk| std::iter::once(&disk.name).chain(&disk.other_paths))
            .map(String::as_str)
            .collect();
        let mut names = crate::probe::disks::list::names(&self.root);
        names.retain(|name| !known.contains(name.as_str()));
        names
    }

    /// Takes in disks that came since they were listed, and lists anew what tells of their controllers. What came meanwhile is
    /// taken in as well. Gives the names of what was taken in.
    pub fn take_late_disks(&mut self) -> Vec<String> {
        let Some(watch) = self.watch() else { return Vec::new() };
        let mut taken = Vec::new();
        for _ in 0..LATE_ROUNDS {
            let late = self.late_disks();
            if late.is_empty() {
                break;
            }
            let root = self.root.for_part();
            let limit = self.options.slow_limit * 4 / 5;
            let medium = &self.options.boot_medium;
            let mut part =
                crate::probe::disks::list::disks_of(&root, Ok(late.clone()), medium, limit, &Publish::nowhere());
            for disk in part.value.iter_mut().flatten() {
                let after = watch.arrival(&disk.name).unwrap_or_else(|| watch.elapsed());
                disk.appeared_after_ms = Some(crate::probe::collect::timebox::millis(after));
            }
            part.items.extend(root.left_out());
            if let Slot::Done(known) = &mut self.disks {
                crate::probe::disks::list::add(known, part);
            }
            taken.extend(late);
        }
        let Slot::Done(part) = &mut self.disks else {
            return taken;
        };
        let there: BTreeSet<String> = crate::probe::disks::list::names(&self.root).into_iter().collect();
        for disk in part.value.iter().flatten() {
            let is_block = disk.nvme.as_ref().is_none_or(|nvme| nvme.controller != disk.name);
            let item = format!("{}.gone", disk.name);
            if is_block && !there.contains(&disk.name) && !part.items.iter().any(|known| known.item == item) {
                let reason = "it was there at first, and went away while this was collected";
                part.items.push(Item::gap(item, PartStatus::Failed, reason));
            }
        }
        if !taken.is_empty() {
            self.list_controllers_anew();
        }
        taken
    }

    /// What tells of the buses that late disks came by.
    fn list_controllers_anew(&mut self) {
        let options = self.options.clone();
        let part = Starter {
            root: &self.root,
            live: &self.live,
            options: &options,
        };
        let (quick, slow) = (options.limit * 4 / 5, options.slow_limit * 4 / 5);
        let controllers = part.start(
            "storage_controllers",
            crate::probe::disks::controllers::SOURCE,
            move |root, live, publish| {
                crate::probe::disks::controllers::storage_controllers(&root, live, slow, &publish)
            },
        );
        let pci = part.start("pci", pci::SOURCE, move |root, _, publish| {
            pci::functions(&root, quick, &publish)
        });
        let usb = part.start("usb", usb::SOURCE, move |root, _, _| usb::devices(&root, quick));
        let now = Instant::now();
        // What fails now is no better than what was known.
        self.storage_controllers.replace(controllers, now + options.slow_limit);
        self.pci.replace(pci, now + options.limit);
        self.usb.replace(usb, now + options.limit);
    }

    /// True while neighbours may still speak.
    pub fn awaits_cables(&self) -> bool {
        !self.cabling.is_done()
    }

    /// What is known now. Parts that are not done yet are `timed_out`, with what they handed out so far as their value.
    pub fn inventory(&mut self) -> Inventory {
        let millis = crate::probe::collect::timebox::millis(self.started.elapsed());
        let mut inventory = Inventory {
            schema_version: SCHEMA_VERSION,
            run: self.run.part(),
            system: self.system.part(),
            bios: self.bios.part(),
            cpus: self.cpus.part(),
            memory: self.memory.part(),
            disks: self.disks.part(),
            storage_controllers: self.storage_controllers.part(),
            nics: self.nics.part(),
            cabling: self.cabling.part(),
            pci: self.pci.part(),
            usb: self.usb.part(),
            gpus: self.gpus.part(),
            security: self.security.part(),
            bmc: self.bmc.part(),
            health: self.health.part(),
            firmware: self.firmware.part(),
        };
        if let Some(run) = &mut inventory.run.value {
            run.duration_ms = millis;
        }
        crate::probe::collect::joined::join(&mut inventory);
        if let Some(only) = &self.options.only {
            hide(&mut inventory, only);
        }
        inventory
    }
}

/// Takes out what was collected for the list of firmware alone.
fn hide(inventory: &mut Inventory, only: &BTreeSet<String>) {
    fn one<T>(only: &BTreeSet<String>, name: &str, part: &mut Part<T>) {
        if !only.contains(name) && firmware::PARTS.contains(&name) {
            *part = Part::missing(PartStatus::Unsupported, part.source.clone(), NOT_ASKED);
        }
    }
    one(only, "system", &mut inventory.system);
    one(only, "bios", &mut inventory.bios);
    one(only, "cpus", &mut inventory.cpus);
    one(only, "memory", &mut inventory.memory);
    one(only, "disks", &mut inventory.disks);
    one(only, "storage_controllers", &mut inventory.storage_controllers);
    one(only, "nics", &mut inventory.nics);
    one(only, "gpus", &mut inventory.gpus);
    one(only, "security", &mut inventory.security);
    one(only, "bmc", &mut inventory.bmc);
}

struct Starter<'a> {
    root: &'a Root,
    live: &'a Option<Arc<dyn LiveSources>>,
    options: &'a Options,
}

impl Starter<'_> {
    fn start<T: Clone + Send + 'static>(
        &self,
        name: &'static str,
        source: &'static str,
        probe: impl FnOnce(Root, Option<Arc<dyn LiveSources>>, Publish<Part<T>>) -> Part<T> + Send + 'static,
    ) -> Slot<T> {
        let is_needed = |only: &BTreeSet<String>| {
            let for_firmware = only.contains("firmware") && firmware::PARTS.contains(&name);
            only.contains(name) || for_firmware
        };
        if self.options.only.as_ref().is_some_and(|only| !is_needed(only)) {
            return Slot::Done(Part::missing(PartStatus::Unsupported, source, NOT_ASKED));
        }
        let (root, live) = (self.root.for_part(), self.live.clone());
        let work = move |publish| {
            let mut part = probe(root.clone(), live, publish);
            part.items.extend(root.left_out());
            part
        };
        Slot::Pending {
            pending: crate::probe::collect::timebox::spawn_publishing(&format!("probe-{name}"), work),
            source,
            latest: None,
        }
    }
}

/// One part on its way.
enum Slot<T> {
    Pending {
        pending: Pending<Part<T>>,
        /// What is named as the source if the probe never says itself.
        source: &'static str,
        latest: Option<Part<T>>,
    },
    Done(Part<T>),
}

impl<T: Clone> Slot<T> {
    fn is_done(&self) -> bool {
        matches!(self, Slot::Done(_))
    }

    /// Waits until `deadline` at most; afterwards the part is what it was then.
    fn settle(&mut self, deadline: Instant) {
        if let Slot::Pending {
            pending,
            source,
            latest,
        } = self
        {
            let outcome = pending.wait(deadline);
            let latest = pending.latest().or_else(|| latest.take());
            *self = Slot::Done(finished(outcome, latest, source));
        }
    }

    /// Takes the place of what is known, if it is done by then and well.
    fn replace(&mut self, mut newer: Slot<T>, deadline: Instant) {
        newer.settle(deadline);
        if matches!(&newer, Slot::Done(part) if part.status == PartStatus::Ok) {
            *self = newer;
        }
    }

    /// The part as it is now.
    fn part(&mut self) -> Part<T> {
        let (pending, source, latest) = match self {
            Slot::Done(part) => return part.clone(),
            Slot::Pending {
                pending,
                source,
                latest,
            } => (pending, source, latest),
        };
        let outcome = pending.poll();
        *latest = pending.latest().or_else(|| latest.take());
        let Some(outcome) = outcome else {
            let millis = crate::probe::collect::timebox::millis(pending.elapsed());
            let reason = "still being collected".to_owned();
            return unfinished(latest.clone(), source, PartStatus::TimedOut, millis, reason);
        };
        let part = finished(outcome, latest.take(), source);
        *self = Slot::Done(part.clone());
        part
    }
}

fn finished<T>(outcome: Outcome<Part<T>>, latest: Option<Part<T>>, source: &str) -> Part<T> {
    match outcome {
        Outcome::Done { mut value, millis } => {
            value.millis = millis;
            value
        }
        Outcome::TimedOut { millis } => {
            let reason = format!("no answer within {millis} ms");
            unfinished(latest, source, PartStatus::TimedOut, millis, reason)
        }
        Outcome::Died { reason } => unfinished(latest, source, PartStatus::Failed, 0, reason),
    }
}

/// A part that did not get to its end: what it handed out, or nothing.
fn unfinished<T>(latest: Option<Part<T>>, source: &str, status: PartStatus, millis: u64, reason: String) -> Part<T> {
    let mut part = match latest {
        Some(mut part) => {
            part.reason = Some(format!("incomplete: {reason}"));
            part.status = status;
            part
        }
        None => Part::missing(status, source, reason),
    };
    part.millis = millis;
    part
}
