//! Follows disks as they come, in a thread of its own, for as long as somebody holds it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::arrivals::{Arrivals, BOUND, Discovery, Named, Way};
use super::ways::Scanner;
use crate::probe::collect::root::Root;

/// A look costs some hundred microseconds on a machine with ten disks; what it sees costs none later on.
const PAUSE: Duration = Duration::from_millis(250);
/// Time for the last look beyond the bound.
const SLACK: Duration = Duration::from_secs(5);

/// The way that somebody's own loading of drivers is.
const LOADING: &str = "drivers that are still to be loaded";

/// Who loads drivers where udev does not.
pub trait Loader: Send + Sync + std::fmt::Debug {
    /// Since the last driver was loaded; nothing where one is still to be.
    fn idle_since(&self) -> Option<Duration>;
    /// Time so far in which nothing could be loaded, because where drivers come from was away. No bound counts it.
    fn lost(&self) -> Duration;
    /// Drivers that would bring disks and could not be loaded, each once.
    fn not_loaded(&self) -> Vec<String>;
}

/// A watch on disks. Ends with its last clone's drop.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    begun: Instant,
    bound: Duration,
    /// What the loader had lost when this began.
    lost_before: Duration,
    loader: Option<Arc<dyn Loader>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// `None` before the first look.
    discovery: Option<Discovery>,
    disks: BTreeMap<String, Duration>,
}

fn lost(loader: Option<&dyn Loader>) -> Duration {
    loader.map(Loader::lost).unwrap_or_default()
}

impl Watch {
    /// Starts watching. `root` is not to be one that records: it is read again and again. `loader`: who loads drivers, where that is not udev.
    pub fn start(root: Root, loader: Option<Arc<dyn Loader>>) -> Self {
        Watch::with_bound(root, loader, BOUND)
    }

    fn with_bound(root: Root, loader: Option<Arc<dyn Loader>>, bound: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let begun = Instant::now();
        let theirs = Arc::clone(&shared);
        let loads = loader.clone();
        let lost_before = lost(loader.as_deref());
        let work = move || {
            let mut scanner = Scanner::new(root);
            let mut arrivals = Arrivals::new(bound);
            while !theirs.stop.load(Ordering::Relaxed) {
                // Asked before the look: what a driver makes that is loaded in between is seen.
                let idle = loads.as_ref().map(|loads| loads.idle_since());
                let mut snapshot = scanner.scan();
                if idle == Some(None) {
                    snapshot.ways.insert(LOADING.to_owned(), Way::Events);
                }
                let since_drivers = match idle {
                    Some(idle) => idle,
                    None => scanner.since_boot(),
                };
                let lost = lost(loads.as_deref()).saturating_sub(lost_before);
                let elapsed = begun.elapsed().saturating_sub(lost);
                let discovery = arrivals.observe(elapsed, since_drivers, &snapshot);
                let mut state = theirs.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.discovery = Some(discovery);
                state.disks.clone_from(arrivals.disks());
                drop(state);
                theirs.changed.notify_all();
                std::thread::sleep(PAUSE);
            }
        };
        // Without a thread nobody looks; whoever waits is told at the bound that there was no answer.
        if let Err(error) = std::thread::Builder::new().name("watch-disks".to_owned()).spawn(work) {
            tracing::warn!(%error, "starting a thread to watch for disks");
        }
        Watch(Arc::new(Handle {
            shared,
            begun,
            bound,
            lost_before,
            loader,
        }))
    }

    /// Waits until no more disks are expected, or until the bound. Tells which ways never said that they are done.
    pub fn wait(&self) -> Vec<Named> {
        let mut state = self.0.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let lost = lost(self.0.loader.as_deref()).saturating_sub(self.0.lost_before);
            let until = self.0.begun + self.0.bound + SLACK + lost;
            if let Some(Discovery::Done { unfinished }) = &state.discovery {
                return unfinished.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let who = "the kernel".to_owned();
                let why = "reading what it knows of disks does not end";
                return vec![Named { who, why }];
            }
            let waited = self.0.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// True when no more disks are expected now.
    pub fn is_done(&self) -> bool {
        let state = self.0.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(state.discovery, Some(Discovery::Done { .. }))
    }

    /// Who is waited for, as a sentence; `None` when nobody is.
    pub fn sentence(&self) -> Option<String> {
        let state = self.0.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.discovery.as_ref().and_then(Discovery::sentence)
    }

    /// How long after the start of watching a disk was first seen.
    pub fn arrival(&self, disk: &str) -> Option<Duration> {
        let state = self.0.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.disks.get(disk).copied()
    }

    /// Drivers that would bring disks and could not be loaded.
    pub fn not_loaded(&self) -> Vec<String> {
        self.0
            .loader
            .as_ref()
            .map_or_else(Vec::new, |loader| loader.not_loaded())
    }

    /// Since the start of watching.
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drivers for which this is set by hand.
    #[derive(Debug, Default)]
    struct ByHand {
        idle: Mutex<Option<Duration>>,
        lost: Mutex<Duration>,
    }

    impl Loader for ByHand {
        fn idle_since(&self) -> Option<Duration> {
            *self.idle.lock().unwrap()
        }

        fn lost(&self) -> Duration {
            *self.lost.lock().unwrap()
        }

        fn not_loaded(&self) -> Vec<String> {
            vec!["hba".to_owned()]
        }
    }

    /// Of a machine that runs for long, but whose drivers come only now.
    #[test]
    fn the_time_of_disks_begins_with_their_drivers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/uptime"), "86400.00 3.00\n").unwrap();
        let bound = Duration::from_secs(20);
        let looked = |idle: Option<Duration>| {
            let loader = Arc::new(ByHand {
                idle: Mutex::new(idle),
                ..ByHand::default()
            });
            let watch = Watch::with_bound(Root::at(dir.path()), Some(Arc::clone(&loader) as _), bound);
            let until = Instant::now() + Duration::from_secs(10);
            while watch.0.shared.state.lock().unwrap().discovery.is_none() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            (watch, loader)
        };
        let (watch, _) = looked(Some(bound));
        assert!(watch.is_done(), "idle for so long: what is there had its time");
        assert_eq!(watch.not_loaded(), ["hba"]);
        let (watch, _) = looked(Some(Duration::ZERO));
        assert_eq!(watch.sentence().as_deref(), Some("more disks, at most 3 s"));
        let (watch, loader) = looked(None);
        let sentence = watch.sentence().unwrap();
        assert!(
            sentence.starts_with("disks of drivers that are still to be loaded, at most "),
            "{sentence}"
        );
        *loader.idle.lock().unwrap() = Some(Duration::ZERO);
        assert_eq!(watch.wait(), Vec::new());
        // They hang: that is said.
        let hang = Arc::new(ByHand::default());
        let watch = Watch::with_bound(Root::at(dir.path()), Some(hang), Duration::from_secs(1));
        let unfinished = watch.wait();
        assert_eq!(unfinished.len(), 1);
        assert_eq!(unfinished[0].who, LOADING);
        // Where udev loads them the machine's own time counts.
        let watch = Watch::with_bound(Root::at(dir.path()), None, bound);
        assert_eq!(watch.wait(), Vec::new());
        assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    }

    /// What brings the drivers is away for longer than the bound: that is no reason to go on without disks.
    #[test]
    fn no_bound_counts_while_drivers_cannot_be_had() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("proc/uptime"), "86400.00 3.00\n").unwrap();
        let bound = Duration::from_millis(600);
        let loader = Arc::new(ByHand::default());
        let watch = Watch::with_bound(Root::at(dir.path()), Some(Arc::clone(&loader) as _), bound);
        while watch.elapsed() < bound * 4 {
            *loader.lost.lock().unwrap() = watch.elapsed();
            assert!(!watch.is_done(), "after {:?}", watch.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
        let unfinished = watch.wait();
        assert_eq!(unfinished.len(), 1);
        assert!(watch.elapsed() >= bound * 5 - PAUSE, "its whole time from then on");
    }

    #[test]
    fn a_disk_that_comes_is_seen_and_the_bound_holds() {
        let dir = tempfile::tempdir().unwrap();
        let function = dir.path().join("sys/bus/pci/devices/0000:03:00.0");
        std::fs::create_dir_all(dir.path().join("sys/block/sda/device")).unwrap();
        std::fs::create_dir_all(&function).unwrap();
        std::fs::write(function.join("class"), "0x010400\n").unwrap();
        std::os::unix::fs::symlink("../../drivers/megaraid_sas", function.join("driver")).unwrap();
        std::fs::create_dir_all(dir.path().join("sys/bus/pci/drivers/megaraid_sas")).unwrap();
        let watch = Watch::with_bound(Root::at(dir.path()), None, Duration::from_secs(2));
        while watch.arrival("sda").is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!watch.is_done());
        let sentence = watch.sentence().unwrap();
        assert!(
            sentence.starts_with("disks of 0000:03:00.0 (megaraid_sas), at most "),
            "{sentence}"
        );
        std::fs::create_dir_all(dir.path().join("sys/block/sdb/device")).unwrap();
        let unfinished = watch.wait();
        assert_eq!(unfinished.len(), 1, "{unfinished:?}");
        assert!(watch.arrival("sdb").unwrap() >= watch.arrival("sda").unwrap());
        assert!(watch.is_done() && watch.elapsed() >= Duration::from_secs(2));
    }
}
