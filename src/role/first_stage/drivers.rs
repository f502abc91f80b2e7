//! Drivers for what this machine has: devices say by `modalias` what drives them (modules.alias of depmod(8)), and some threads load it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::formats::modules::{Manifest, Module};
use crate::model::cause;
use crate::model::console::console;
use crate::probe::collect::root::Root;
use crate::probe::disks::raid_ask;
use crate::probe::disks::watch::Loader;
use crate::role::ports;
use crate::sys::kmodule;
use crate::sys::uevent::{Heard, Uevents};

use super::of_disks::brings_disks;
use super::pack::Pack;

/// Drivers that start at once. Most wait for their device, some for many seconds.
const LOADERS: usize = 6;
/// Nothing was said of a device for so long: there is no more to come that is not waited for elsewhere.
const QUIET: Duration = Duration::from_millis(150);
/// How long is waited for the next word of a device; another wait follows.
const WHATEVER_COMES: Duration = Duration::from_secs(3600);
/// More different ones than any machine has; further ones are left out, which is said once.
const MAX_MODALIASES: usize = 100_000;
/// How deep folders of devices lie, and more folders than any machine has.
const MAX_DEPTH: usize = 40;
const MAX_FOLDERS: usize = 1_000_000;
/// SCSI devices are asked through it, and nothing says so (udev loads it by a rule).
const SCSI_GENERIC: &str = "sg";
/// What people read of ports that wait for their names.
const NAMING: &str = "names of ports";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not in the initrd; waits until there is a way to the master.
    Lacking,
    Loading,
    Loaded,
    /// The driver looked, and there is nothing for it.
    Nothing,
    Failed,
}

#[derive(Default)]
struct State {
    pack: Option<Pack>,
    modules: BTreeMap<String, Phase>,
    /// What is loaded one after the other: of two drivers that fit one device the first is to have it, as modprobe(8) does it.
    queue: VecDeque<Vec<String>>,
    /// What waits for the master, of which something is [`Phase::Lacking`].
    parked: Vec<Vec<String>>,
    /// What the loaders are at.
    busy: BTreeSet<String>,
    seen: HashSet<String>,
    /// Ports appeared that nobody named yet, and whether somebody is at it.
    unnamed: bool,
    naming: bool,
    /// When something was last loaded, or begun with.
    worked: Option<Instant>,
    /// When a device was last spoken of. `None`: not all were looked at yet.
    heard: Option<Instant>,
}

impl State {
    fn lost(&self) -> Duration {
        self.pack.as_ref().map(Pack::lost).unwrap_or_default()
    }

    fn is_asked_for(&self, name: &String) -> bool {
        self.modules.contains_key(name)
            || self.busy.contains(name)
            || self.queue.iter().any(|names| names.contains(name))
    }
}

/// Loads a module, of which everything is here or can be fetched. Gives what became of it.
type Load = dyn Fn(&Module, Option<&Pack>) -> Phase + Send + Sync;
/// Names all ports that have no name yet. Waits for the kernel's one network configuration lock, which a driver may hold for long.
type Name = dyn Fn() + Send + Sync;

struct Shared {
    manifest: Arc<Manifest>,
    state: Mutex<State>,
    changed: Condvar,
    load: Box<Load>,
    name: Box<Name>,
}

/// The threads that load; they go on for as long as the process runs.
pub(crate) struct Drivers(Arc<Shared>);

impl Drivers {
    /// Listens to the kernel, looks at all devices there are, and loads what the initrd has.
    pub(crate) fn start(manifest: Arc<Manifest>) -> io::Result<Drivers> {
        // Before anything is looked at, so that nothing is missed in between.
        let events = Uevents::listen()?;
        let drivers = Drivers::with(manifest, Box::new(load), Box::new(name_ports))?;
        let hears = Arc::clone(&drivers.0);
        std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(move || hears.hear(&events))?;
        Ok(drivers)
    }

    fn with(manifest: Arc<Manifest>, load: Box<Load>, name: Box<Name>) -> io::Result<Drivers> {
        let shared = Arc::new(Shared {
            manifest,
            state: Mutex::default(),
            changed: Condvar::new(),
            load,
            name,
        });
        // Not by whoever listens: what devices say meanwhile would pile up behind a port that waits.
        let names = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("port-names".to_owned())
            .spawn(move || names.name_for_ever())?;
        for number in 0..LOADERS {
            let loads = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("drivers-{number}"))
                .spawn(move || loads.load_for_ever())?;
        }
        Ok(Drivers(shared))
    }

    /// From here on what the initrd lacks is fetched.
    pub(crate) fn go_on_with(&self, pack: Pack) {
        let mut state = self.0.lock();
        state.pack = Some(pack);
        state.worked = Some(Instant::now());
        let lacking: Vec<String> = state
            .modules
            .iter()
            .filter(|(_, phase)| **phase == Phase::Lacking)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &lacking {
            state.modules.remove(name);
        }
        // In the order in which they were asked for.
        let parked = std::mem::take(&mut state.parked);
        state.queue.extend(parked);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Loads a module that no device asks for.
    pub(crate) fn want(&self, name: &str) {
        self.0.want([name.to_owned()]);
    }

    /// Waits until nothing is to be loaded or named and no device was spoken of for a moment; after `limit` gives what is not done. Time in
    /// which the master was away does not count: there is nothing to go on to without it.
    pub(crate) fn settled(&self, limit: Duration) -> Option<Vec<String>> {
        let (began, lost_before) = (Instant::now(), self.lost());
        let mut state = self.0.lock();
        loop {
            let now = Instant::now();
            let deadline = began + limit + state.lost().saturating_sub(lost_before);
            let named = !state.unnamed && !state.naming;
            let idle = state.queue.is_empty() && state.busy.is_empty() && named;
            let quiet = state.heard.is_some_and(|heard| now.duration_since(heard) >= QUIET);
            if idle && quiet {
                return None;
            }
            if now >= deadline {
                let late = state.busy.iter().chain(state.queue.iter().flatten()).cloned();
                return Some(late.chain((!named).then(|| NAMING.to_owned())).collect());
            }
            let wait = QUIET.min(deadline - now) / 3;
            state = self
                .0
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// How many modules were loaded.
    pub(crate) fn loaded(&self) -> usize {
        self.0
            .lock()
            .modules
            .values()
            .filter(|phase| **phase == Phase::Loaded)
            .count()
    }

    /// Some that still start count as well: firmware of such controllers takes its time.
    pub(crate) fn has_raid_controller(&self) -> bool {
        let state = self.0.lock();
        let here = |phase: &Phase| matches!(phase, Phase::Loaded | Phase::Loading);
        let mut modules = state.modules.iter().filter(|(_, phase)| here(phase));
        modules.any(|(name, _)| raid_ask::is_asked(name))
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Drivers")
    }
}

impl Loader for Drivers {
    fn lost(&self) -> Duration {
        self.0.lock().lost()
    }

    fn idle_since(&self) -> Option<Duration> {
        let state = self.0.lock();
        let idle = state.queue.is_empty() && state.busy.is_empty() && state.heard.is_some();
        state.worked.filter(|_| idle).map(|worked| worked.elapsed())
    }

    fn not_loaded(&self) -> Vec<String> {
        let state = self.0.lock();
        let failed = |module: &&Module| state.modules.get(&module.name) == Some(&Phase::Failed);
        let mut modules: Vec<&Module> = self.0.manifest.modules().iter().filter(failed).collect();
        modules.retain(|module| brings_disks(&module.path));
        modules.into_iter().map(|module| module.name.clone()).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads these, one after the other. What another device asked for before has its turn there: a port of USB may have two interfaces, of which
    /// the second fits one driver of the first alone, and not the one that is to have both.
    fn want(&self, names: impl IntoIterator<Item = String>) {
        let mut state = self.lock();
        let names = names.into_iter().map(|name| name.replace('-', "_"));
        let names: Vec<String> = names.filter(|name| !state.is_asked_for(name)).collect();
        if !names.is_empty() {
            state.queue.push_back(names);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// What drives a device that says this of itself.
    fn device(&self, modalias: &str) {
        let mut state = self.lock();
        let full = state.seen.len() >= MAX_MODALIASES;
        if full || !state.seen.insert(modalias.to_owned()) {
            return;
        }
        if state.seen.len() == MAX_MODALIASES {
            console!("this machine has more than {MAX_MODALIASES} kinds of devices; the rest get no driver");
        }
        let fitting = self.manifest.modules_for(modalias);
        // What found nothing before may find this one, and what was not to be had may be by now, be it the driver or what it needs.
        for module in fitting.iter().flat_map(|module| self.manifest.load_order(&module.name)) {
            if let Some(Phase::Failed | Phase::Nothing) = state.modules.get(&module.name) {
                state.modules.remove(&module.name);
            }
        }
        drop(state);
        self.want(fitting.into_iter().map(|module| module.name.clone()));
    }

    fn hear(&self, events: &Uevents) {
        self.look();
        let mut limit = Duration::ZERO;
        loop {
            let heard = match events.next(limit) {
                Ok(Heard::Silence) => {
                    // Only now is everything handled that was said.
                    self.lock().heard.get_or_insert_with(Instant::now);
                    limit = WHATEVER_COMES;
                    continue;
                }
                Ok(heard) => heard,
                Err(error) => {
                    console!("devices that appear from here on get no driver: {error}");
                    self.lock().heard.get_or_insert_with(Instant::now);
                    return;
                }
            };
            self.lock().heard = None;
            limit = Duration::ZERO;
            let Heard::Event(event) = heard else {
                self.look();
                continue;
            };
            if let Some(modalias) = event.modalias.filter(|_| event.action != "remove") {
                self.device(&modalias);
            }
            match event.subsystem.as_str() {
                "net" if event.action == "add" => self.ports_came(),
                "scsi" if event.action == "add" => self.want([SCSI_GENERIC.to_owned()]),
                _ => {}
            }
        }
    }

    /// All devices there are.
    fn look(&self) {
        self.ports_came();
        let mut folders = vec![(Path::new("/sys/devices").to_path_buf(), 0)];
        let mut looked = 0;
        while let Some((folder, depth)) = folders.pop() {
            looked += 1;
            if let Some(modalias) = modalias(&folder) {
                self.device(&modalias);
            }
            if depth >= MAX_DEPTH || looked >= MAX_FOLDERS {
                continue;
            }
            let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            // Links lead to devices elsewhere.
            let inside = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let before = folders.len();
            folders.extend(inside.map(|entry| (entry.path(), depth + 1)));
            // As the kernel found them: the first interface of a USB device before its second.
            folders[before..].sort_by(|a, b| b.cmp(a));
        }
        if Path::new("/sys/class/scsi_device")
            .read_dir()
            .is_ok_and(|mut all| all.next().is_some())
        {
            self.want([SCSI_GENERIC.to_owned()]);
        }
    }

    /// They are named at once, or with the next ones that are.
    fn ports_came(&self) {
        self.lock().unnamed = true;
        self.changed.notify_all();
    }

    /// One after the other: two that look for a free name at once would find the same.
    fn name_for_ever(&self) {
        let mut state = self.lock();
        loop {
            if !std::mem::take(&mut state.unnamed) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.naming = true;
            drop(state);
            (self.name)();
            state = self.lock();
            state.naming = false;
            self.changed.notify_all();
        }
    }

    fn load_for_ever(&self) {
        let mut state = self.lock();
        loop {
            let Some(names) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy.extend(names.iter().cloned());
            let pack = state.pack.clone();
            drop(state);
            let lacking = !names.iter().all(|name| self.load_with_all(name, pack.as_ref()));
            state = self.lock();
            state.busy.retain(|name| !names.contains(name));
            state.worked = state.pack.is_some().then(Instant::now);
            match lacking {
                // The way to the master came meanwhile.
                true if state.pack.is_some() => state.queue.push_back(names),
                true => state.parked.push(names),
                false => {}
            }
            // Devices that it brought are spoken of at once, but perhaps not heard yet.
            if state.heard.is_some() {
                state.heard = Some(Instant::now());
            }
            self.changed.notify_all();
        }
    }

    /// A module and what it needs, in order. False where something of it is still on the master.
    fn load_with_all(&self, name: &str, pack: Option<&Pack>) -> bool {
        let order = self.manifest.load_order(name);
        if pack.is_none() && order.iter().any(|module| lacks(module)) {
            self.lock().modules.insert(name.to_owned(), Phase::Lacking);
            return false;
        }
        for module in order {
            if !self.load_once(module, pack) && module.name != name {
                tracing::warn!(
                    name,
                    needs = module.name,
                    "a module that another one needs was not loaded"
                );
            }
        }
        true
    }

    /// Loads a module unless that was tried; waits for another thread that is at it.
    fn load_once(&self, module: &Module, pack: Option<&Pack>) -> bool {
        let mut state = self.lock();
        while state.modules.get(&module.name) == Some(&Phase::Loading) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.modules.get(&module.name) {
            Some(Phase::Loaded) => return true,
            Some(Phase::Failed | Phase::Nothing) => return false,
            _ => {}
        }
        state.modules.insert(module.name.clone(), Phase::Loading);
        drop(state);
        let phase = (self.load)(module, pack);
        self.lock().modules.insert(module.name.clone(), phase);
        self.changed.notify_all();
        phase == Phase::Loaded
    }
}

/// What a device in this folder of sysfs says of itself. Some buses have no file for it, but tell it in their events.
fn modalias(folder: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join("modalias")) {
        return Some(text.trim_end().to_owned());
    }
    let event = std::fs::read_to_string(folder.join("uevent")).ok()?;
    event
        .lines()
        .find_map(|line| line.strip_prefix("MODALIAS="))
        .map(str::to_owned)
}

/// Ports are named before anything switches them on.
fn name_ports() {
    for (from, to) in ports::name_ports(&Root::live()) {
        tracing::info!(from, to, "a port is named");
    }
}

/// True where something of it is not in the initrd.
fn lacks(module: &Module) -> bool {
    let mut paths = module.firmware.iter().chain([&module.path]);
    paths.any(|path| !Path::new(path).exists())
}

/// Fetches what is missing of a module, and loads it.
fn load(module: &Module, pack: Option<&Pack>) -> Phase {
    if let Some(pack) = pack {
        for path in &module.firmware {
            // A driver says itself what it could not do without it, and most have it in the device.
            if let Err(error) = pack.have(path, None) {
                tracing::warn!(module = module.name, %error, "firmware");
            }
        }
        if let Err(error) = pack.have(&module.path, None) {
            console!("driver {}: {error}", module.name);
            return Phase::Failed;
        }
    }
    match kmodule::load(Path::new(&module.path), &module.options) {
        Ok(()) => Phase::Loaded,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            tracing::debug!(module = module.name, "nothing for it here");
            Phase::Nothing
        }
        Err(error) => {
            tracing::warn!(module = module.name, error = cause::told(&error), "loading");
            Phase::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three modules in this folder, of which `disk` needs `bus`, and `port` is the only one that the initrd has.
    fn manifest(folder: &Path) -> Arc<Manifest> {
        let path = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("port.ko"), "").unwrap();
        let sum = "00".repeat(32);
        let text = format!(
            "kernel\t6.1\nfile\t{disk}\t644\t0\t10\t20\t{sum}\nfile\t{bus}\t644\t10\t10\t20\t{sum}\n\
             module\tport\t{port}\t\t\t\nmodule\tdisk\t{disk}\tbus\t\t\nmodule\tbus\t{bus}\t\t\t\n\
             alias\tpci:v0001*\tport\nalias\tpci:v0002*\tdisk\n",
            port = path("port.ko"),
            disk = path("disk.ko"),
            bus = path("bus.ko"),
        );
        Arc::new(Manifest::read(&text).unwrap())
    }

    fn pack(manifest: &Arc<Manifest>) -> Pack {
        Pack::new(std::net::SocketAddr::from(([127, 0, 0, 1], 9)), Arc::clone(manifest))
    }

    #[test]
    fn a_device_says_what_it_is_in_either_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(modalias(folder.path()), None);
        std::fs::write(
            folder.path().join("uevent"),
            "DRIVER=x\nMODALIAS=auxiliary:mlx5_core.rdma\n",
        )
        .unwrap();
        assert_eq!(modalias(folder.path()).as_deref(), Some("auxiliary:mlx5_core.rdma"));
        std::fs::write(folder.path().join("modalias"), "pci:v00008086d\n").unwrap();
        assert_eq!(modalias(folder.path()).as_deref(), Some("pci:v00008086d"));
    }

    #[tokio::test]
    async fn no_limit_counts_while_the_master_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        let pack = pack(&manifest);
        let (done, waits) = std::sync::mpsc::channel::<()>();
        let waits = Mutex::new(waits);
        let load = move |_: &Module, _: Option<&Pack>| {
            let _ = waits.lock().unwrap().recv();
            Phase::Loaded
        };
        let drivers = Arc::new(Drivers::with(manifest, Box::new(load), Box::new(|| ())).unwrap());
        drivers.go_on_with(pack.clone());
        drivers.0.lock().heard = Some(Instant::now());
        drivers.0.device("pci:v0001d1");
        let limit = Duration::from_millis(300);
        assert_eq!(
            drivers.settled(limit),
            Some(vec!["port".to_owned()]),
            "it is there and does not load"
        );
        pack.away().failed(Instant::now());
        let waiting = Arc::clone(&drivers);
        let settled = tokio::task::spawn_blocking(move || waiting.settled(limit));
        tokio::time::sleep(limit * 4).await;
        assert!(!settled.is_finished());
        pack.away().heard(Instant::now());
        assert_eq!(settled.await.unwrap(), Some(vec!["port".to_owned()]));
        drop(done);
    }

    /// As a second disk shelf may bring what the first had no use for.
    #[tokio::test]
    async fn a_driver_that_found_nothing_is_tried_again_for_another_device() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        let tries = Arc::new(Mutex::new(0));
        let load = {
            let tries = Arc::clone(&tries);
            move |_: &Module, _: Option<&Pack>| {
                *tries.lock().unwrap() += 1;
                match *tries.lock().unwrap() {
                    1 => Phase::Nothing,
                    _ => Phase::Loaded,
                }
            }
        };
        let drivers = Drivers::with(manifest, Box::new(load), Box::new(|| ())).unwrap();
        for (modalias, tried, loaded) in [
            ("pci:v0001d1", 1, 0),
            ("pci:v0001d1", 1, 0),
            ("pci:v0001d2", 2, 1),
            ("pci:v0001d3", 2, 1),
        ] {
            drivers.0.device(modalias);
            still(&drivers);
            assert_eq!(
                (*tries.lock().unwrap(), drivers.loaded()),
                (tried, loaded),
                "{modalias}"
            );
        }
    }

    fn still(drivers: &Drivers) {
        drivers.0.lock().heard = Some(Instant::now());
        assert_eq!(drivers.settled(Duration::from_secs(20)), None);
    }

    #[tokio::test]
    async fn what_the_initrd_lacks_waits_for_the_master_and_comes_behind_what_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        let loaded = Arc::new(Mutex::new(Vec::new()));
        let load = {
            let loaded = Arc::clone(&loaded);
            move |module: &Module, _: Option<&Pack>| {
                // Long enough for another thread to be at the same.
                std::thread::sleep(Duration::from_millis(20));
                loaded.lock().unwrap().push(module.name.clone());
                Phase::Loaded
            }
        };
        let drivers = Drivers::with(Arc::clone(&manifest), Box::new(load), Box::new(|| ())).unwrap();
        for modalias in ["pci:v0002d1", "pci:v0001d1", "pci:v0002d2", "pci:v0003d1"] {
            drivers.0.device(modalias);
        }
        still(&drivers);
        assert_eq!(*loaded.lock().unwrap(), ["port"]);
        drivers.go_on_with(pack(&manifest));
        drivers.want("bus");
        still(&drivers);
        assert_eq!(*loaded.lock().unwrap(), ["port", "bus", "disk"], "each once");
        assert_eq!(drivers.loaded(), 3);
    }

    #[tokio::test]
    async fn of_two_drivers_for_one_device_the_first_is_done_before_the_second_begins() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let modules = ["cdc_ether", "cdc_subset"].map(|name| {
            std::fs::write(path(name), "").unwrap();
            format!("module\t{name}\t{}\t\t\t\nalias\tusb:v0525*dc02*\t{name}\n", path(name))
        });
        let data = "alias\tusb:v0525*dc0A*\tcdc_subset\n";
        let manifest = Arc::new(Manifest::read(&format!("kernel\t6.1\n{}{data}", modules.concat())).unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let load = {
            let said = Arc::clone(&said);
            move |module: &Module, _: Option<&Pack>| {
                said.lock().unwrap().push(format!("{} begins", module.name));
                std::thread::sleep(Duration::from_millis(30));
                said.lock().unwrap().push(format!("{} is there", module.name));
                Phase::Loaded
            }
        };
        let drivers = Drivers::with(manifest, Box::new(load), Box::new(|| ())).unwrap();
        // The two interfaces of QEMU's usb-net, of which the second is for cdc_subset alone.
        drivers.0.device("usb:v0525pA4A2d0000dc02");
        drivers.0.device("usb:v0525pA4A2d0000dc0A");
        still(&drivers);
        assert_eq!(
            *said.lock().unwrap(),
            [
                "cdc_ether begins",
                "cdc_ether is there",
                "cdc_subset begins",
                "cdc_subset is there"
            ]
        );
    }

    #[tokio::test]
    async fn a_driver_that_does_not_come_to_an_end_is_named_and_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let load = move |module: &Module, _: Option<&Pack>| {
            if module.name == "port" {
                let _ = held.lock().unwrap().recv();
            }
            Phase::Loaded
        };
        let drivers = Drivers::with(Arc::clone(&manifest), Box::new(load), Box::new(|| ())).unwrap();
        drivers.go_on_with(pack(&manifest));
        drivers.0.device("pci:v0001d1");
        drivers.0.device("pci:v0002d1");
        drivers.0.lock().heard = Some(Instant::now());
        let late = drivers.settled(Duration::from_millis(500)).unwrap();
        assert_eq!(late, ["port"]);
        assert_eq!(drivers.loaded(), 2, "the others are loaded meanwhile");
        drop(go_on);
        still(&drivers);
    }

    /// As where a driver holds the kernel's lock on its ports.
    #[tokio::test]
    async fn ports_that_wait_for_their_names_hold_up_no_other_device() {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let at_once = Arc::new(Mutex::new((0, 0, 0)));
        let name = {
            let at_once = Arc::clone(&at_once);
            move || {
                let mut count = at_once.lock().unwrap();
                (count.0, count.2) = (count.0 + 1, count.2 + 1);
                count.1 = count.1.max(count.0);
                drop(count);
                let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(5));
                at_once.lock().unwrap().0 -= 1;
            }
        };
        let drivers = Drivers::with(manifest(folder.path()), Box::new(|_, _| Phase::Loaded), Box::new(name)).unwrap();
        // Ports, and then another device, as the one thread hears them that listens.
        for _ in 0..3 {
            drivers.0.ports_came();
            std::thread::sleep(Duration::from_millis(20));
        }
        drivers.0.device("pci:v0001d1");
        drivers.0.lock().heard = Some(Instant::now());
        let late = drivers.settled(Duration::from_millis(500)).unwrap();
        assert_eq!((late, drivers.loaded()), (vec![NAMING.to_owned()], 1));
        // The two that came meanwhile are named together, behind the first.
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        still(&drivers);
        assert_eq!(*at_once.lock().unwrap(), (0, 1, 2));
    }

    /// As where what a driver needs was not to be had for a while, or is what fails of the first device.
    #[tokio::test]
    async fn another_device_has_what_its_driver_needs_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = manifest(folder.path());
        let tried = Arc::new(Mutex::new(Vec::new()));
        let load = {
            let tried = Arc::clone(&tried);
            move |module: &Module, _: Option<&Pack>| {
                let mut tried = tried.lock().unwrap();
                tried.push(module.name.clone());
                match tried.len() {
                    ..=2 => Phase::Failed,
                    _ => Phase::Loaded,
                }
            }
        };
        let drivers = Drivers::with(Arc::clone(&manifest), Box::new(load), Box::new(|| ())).unwrap();
        drivers.go_on_with(pack(&manifest));
        for (modalias, loaded) in [("pci:v0002d1", 0), ("pci:v0002d2", 2)] {
            drivers.0.device(modalias);
            still(&drivers);
            assert_eq!(drivers.loaded(), loaded, "{modalias}");
        }
        assert_eq!(*tried.lock().unwrap(), ["bus", "disk", "bus", "disk"]);
    }

    /// Whoever waits for disks goes by this.
    #[tokio::test]
    async fn drivers_are_idle_from_the_last_one_on_and_name_those_of_disks_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let modules = [("disk", "scsi"), ("none", "scsi"), ("fan", "hwmon")].map(|(name, of)| {
            let path = folder.path().join(format!("kernel/drivers/{of}/{name}.ko"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            format!("module\t{name}\t{}\t\t\t\nalias\tpci:{name}*\t{name}\n", path.display())
        });
        let manifest = Arc::new(Manifest::read(&format!("kernel\t6.1\n{}", modules.concat())).unwrap());
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let held = Mutex::new(held);
        let load = move |module: &Module, _: Option<&Pack>| {
            let _ = held.lock().unwrap().recv();
            match module.name.as_str() {
                "none" => Phase::Nothing,
                _ => Phase::Failed,
            }
        };
        let drivers = Drivers::with(Arc::clone(&manifest), Box::new(load), Box::new(|| ())).unwrap();
        drivers.0.lock().heard = Some(Instant::now());
        assert_eq!(drivers.idle_since(), None, "no driver of disks was loaded yet");
        drivers.go_on_with(pack(&manifest));
        std::thread::sleep(Duration::from_millis(100));
        assert!(drivers.idle_since().unwrap() >= Duration::from_millis(100));
        for modalias in ["pci:disk", "pci:none", "pci:fan"] {
            drivers.0.device(modalias);
        }
        assert_eq!(drivers.idle_since(), None);
        assert_eq!(drivers.not_loaded(), Vec::<String>::new());
        drop(go_on);
        still(&drivers);
        assert!(drivers.idle_since().is_some());
        assert_eq!(drivers.not_loaded(), ["disk"]);
    }
}
