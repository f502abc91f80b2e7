//! Drivers for what this machine has: devices say by `modalias` what drives them (modules.alias of depmod(8)), and some threads load it.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::formats::modules::{Manifest, Module};
use crate::model::cause;
use crate::model::console::console;
use crate::role::ports;
use crate::sys::kmodule;
use crate::sys::uevent::{Heard, Uevents};

use super::pack::Pack;

/// Drivers that start at once. Most wait for their device, some for many seconds.
const LOADERS: usize = 6;
/// Nothing was said of a device for so long: there is no more to come that is not waited for elsewhere.
const QUIET: Duration = Duration::from_millis(150);
/// More different ones than any machine has; further ones are left out, which is said once.
const MAX_MODALIASES: usize = 100_000;
/// How deep folders of devices lie, and more folders than any machine has.
const MAX_DEPTH: usize = 40;
const MAX_FOLDERS: usize = 1_000_000;
/// SCSI devices are asked through it, and nothing says so (udev loads it by a rule).
const SCSI_GENERIC: &str = "sg";
/// Their disks are asked through `smartctl` (`probe/disks/raid_ask.rs`).
const RAID_CONTROLLERS: [&str; 5] = ["aacraid", "hpsa", "megaraid_sas", "3w_9xxx", "arcmsr"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not in the initrd; waits until there is a way to the master.
    Lacking,
    Loading,
    Loaded,
    Failed,
}

#[derive(Default)]
struct State {
    pack: Option<Pack>,
    modules: BTreeMap<String, Phase>,
    queue: VecDeque<String>,
    /// What the loaders are at.
    busy: BTreeSet<String>,
    seen: HashSet<String>,
    /// When a device was last spoken of. `None`: not all were looked at yet.
    heard: Option<Instant>,
}

struct Shared {
    manifest: Arc<Manifest>,
    state: Mutex<State>,
    changed: Condvar,
}

/// The threads that load; they go on for as long as the process runs.
pub(crate) struct Drivers(Arc<Shared>);

impl Drivers {
    /// Listens to the kernel, looks at all devices there are, and loads what the initrd has.
    pub(crate) fn start(manifest: Arc<Manifest>) -> io::Result<Drivers> {
        let shared = Arc::new(Shared {
            manifest,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        // Before anything is looked at, so that nothing is missed in between.
        let events = Uevents::listen()?;
        let hears = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(move || hears.hear(&events))?;
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
        let lacking: Vec<String> = state
            .modules
            .iter()
            .filter(|(_, phase)| **phase == Phase::Lacking)
            .map(|(name, _)| name.clone())
            .collect();
        for name in lacking {
            state.modules.remove(&name);
            state.queue.push_back(name);
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Loads a module that no device asks for.
    pub(crate) fn want(&self, name: &str) {
        self.0.want([name.to_owned()]);
    }

    /// Waits until nothing is to be loaded and no device was spoken of for a moment; after `limit` gives what is still being loaded.
    pub(crate) fn settled(&self, limit: Duration) -> Option<Vec<String>> {
        let deadline = Instant::now() + limit;
        let mut state = self.0.lock();
        loop {
            let now = Instant::now();
            let idle = state.queue.is_empty() && state.busy.is_empty();
            let quiet = state.heard.is_some_and(|heard| now.duration_since(heard) >= QUIET);
            if idle && quiet {
                return None;
            }
            if now >= deadline {
                return Some(state.busy.iter().chain(&state.queue).cloned().collect());
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

    pub(crate) fn has_raid_controller(&self) -> bool {
        let state = self.0.lock();
        RAID_CONTROLLERS
            .iter()
            .any(|name| state.modules.get(*name) == Some(&Phase::Loaded))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, names: impl IntoIterator<Item = String>) {
        let mut state = self.lock();
        for name in names {
            let name = name.replace('-', "_");
            if !state.modules.contains_key(&name) && !state.queue.contains(&name) && !state.busy.contains(&name) {
                state.queue.push_back(name);
            }
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
        drop(state);
        self.want(
            self.manifest
                .modules_for(modalias)
                .into_iter()
                .map(|module| module.name.clone()),
        );
    }

    fn hear(&self, events: &Uevents) {
        self.look();
        loop {
            match events.next(Duration::from_secs(3600)) {
                Ok(Heard::Silence) => continue,
                Ok(Heard::Lost) => self.look(),
                Ok(Heard::Event(event)) => {
                    if let Some(modalias) = event.modalias.filter(|_| event.action != "remove") {
                        self.device(&modalias);
                    }
                    match event.subsystem.as_str() {
                        "net" if event.action == "add" => ports::name_new(),
                        "scsi" if event.action == "add" => self.want([SCSI_GENERIC.to_owned()]),
                        _ => {}
                    }
                }
                Err(error) => {
                    console!("devices that appear from here on get no driver: {error}");
                    return;
                }
            }
            self.lock().heard = Some(Instant::now());
        }
    }

    /// All devices there are.
    fn look(&self) {
        ports::name_new();
        let mut folders = vec![(Path::new("/sys/devices").to_path_buf(), 0)];
        let mut looked = 0;
        while let Some((folder, depth)) = folders.pop() {
            looked += 1;
            if let Ok(modalias) = std::fs::read_to_string(folder.join("modalias")) {
                self.device(modalias.trim_end());
            }
            if depth >= MAX_DEPTH || looked >= MAX_FOLDERS {
                continue;
            }
            let inside = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            // Links lead to devices elsewhere.
            let inside = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(inside.map(|entry| (entry.path(), depth + 1)));
        }
        if Path::new("/sys/class/scsi_device")
            .read_dir()
            .is_ok_and(|mut all| all.next().is_some())
        {
            self.want([SCSI_GENERIC.to_owned()]);
        }
        self.lock().heard = Some(Instant::now());
    }

    fn load_for_ever(&self) {
        let mut state = self.lock();
        loop {
            let Some(name) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.busy.insert(name.clone());
            let pack = state.pack.clone();
            drop(state);
            self.load_with_all(&name, pack.as_ref());
            state = self.lock();
            state.busy.remove(&name);
            // Devices that it brought are spoken of at once, but perhaps not heard yet.
            if state.heard.is_some() {
                state.heard = Some(Instant::now());
            }
            self.changed.notify_all();
        }
    }

    /// A module and what it needs, in order.
    fn load_with_all(&self, name: &str, pack: Option<&Pack>) {
        let order = self.manifest.load_order(name);
        let lacks = |module: &&&Module| {
            !Path::new(&module.path).exists() || module.firmware.iter().any(|path| !Path::new(path).exists())
        };
        if pack.is_none() && order.iter().any(|module| lacks(&module)) {
            self.lock().modules.insert(name.to_owned(), Phase::Lacking);
            return;
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
    }

    /// Loads a module unless that was tried; waits for another thread that is at it.
    fn load_once(&self, module: &Module, pack: Option<&Pack>) -> bool {
        let mut state = self.lock();
        while state.modules.get(&module.name) == Some(&Phase::Loading) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.modules.get(&module.name) {
            Some(Phase::Loaded) => return true,
            Some(Phase::Failed) => return false,
            _ => {}
        }
        state.modules.insert(module.name.clone(), Phase::Loading);
        drop(state);
        let loaded = load(module, pack);
        let phase = if loaded { Phase::Loaded } else { Phase::Failed };
        self.lock().modules.insert(module.name.clone(), phase);
        self.changed.notify_all();
        loaded
    }
}

/// Fetches what is missing of a module, and loads it.
fn load(module: &Module, pack: Option<&Pack>) -> bool {
    if let Some(pack) = pack {
        for path in &module.firmware {
            // A driver says itself what it could not do without it, and most have it in the device.
            if let Err(error) = pack.have(path) {
                tracing::warn!(module = module.name, %error, "firmware");
            }
        }
        if let Err(error) = pack.have(&module.path) {
            console!("driver {}: {error}", module.name);
            return false;
        }
    }
    match kmodule::load(Path::new(&module.path), &module.options) {
        Ok(()) => true,
        // The driver looked, and there is nothing for it.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            tracing::debug!(module = module.name, "nothing for it here");
            false
        }
        Err(error) => {
            tracing::warn!(module = module.name, error = cause::told(&error), "loading");
            false
        }
    }
}
