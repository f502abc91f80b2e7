//! The inventory in two snapshots: what is quick goes out at once, what waits for others follows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::oneshot;

use crate::model::console::console;
use crate::model::inventory::Inventory;
use crate::probe::cabling::PortSetup;
use crate::probe::disks::boot_medium::boot_medium;
use crate::probe::disks::watch::Watch;
use crate::probe::{self, Collection};
use crate::role::first_stage;
use crate::sys::mount::mounted;

/// What one upload carries of the probes.
#[derive(Debug)]
pub struct Snapshot {
    pub inventory: Inventory,
    /// Raw captures, by their name under `raw/`.
    pub raw: Vec<(String, Vec<u8>)>,
    /// Nothing is under way any more: there is no later one.
    pub complete: bool,
    /// Neighbours may still speak.
    pub awaits_cables: bool,
    /// Whose disks are waited for, and how long at most.
    pub awaits_storage: Option<String>,
}

impl Snapshot {
    /// Fills in what only the peer's talk with its master tells.
    pub fn set_clock_offset(&mut self, offset_ms: Option<i64>) {
        let health = self.inventory.health.value.as_mut();
        if let Some(clock) = health.and_then(|health| health.clock.as_mut()) {
            clock.master_clock_offset_ms = offset_ms;
        }
    }
}

/// A collection on its way in a thread of its own.
#[derive(Debug)]
pub struct Collecting {
    first: oneshot::Receiver<Snapshot>,
    /// Asks for the last snapshot.
    finish: oneshot::Sender<()>,
    last: oneshot::Receiver<Snapshot>,
}

/// Starts collecting. `before` runs first, in the same thread: what has to be waited for before hardware is looked at. It
/// tells what it did to the ports.
pub fn start(cable_wait: Duration, before: impl FnOnce() -> PortSetup + Send + 'static) -> Collecting {
    let (to_first, first) = oneshot::channel();
    let (finish, finished) = oneshot::channel();
    let (to_last, last) = oneshot::channel();
    // Not awaited: a probe that hangs in the kernel holds this thread, not the peer.
    tokio::task::spawn_blocking(move || {
        // Before anything is waited for, so that it is known when each disk came.
        let watch = Watch::start(probe::Root::live(), first_stage::loader());
        let ports = before();
        // Recording, because what devices answer goes into the raw captures.
        let root = probe::Root::recording("/");
        let options = probe::Options {
            boot_medium: boot_medium(mounted().unwrap_or_default()),
            cable_wait,
            ports,
            watch: Some(watch),
            ..probe::Options::new(jiff::Timestamp::now().to_string())
        };
        let mut collection = Collection::start(&root, Some(Arc::new(probe::ThisMachine)), &options);
        collection.settle_quick();
        let first = snapshot(&mut collection, &root);
        let complete = first.complete;
        // A receiver that is gone means that the peer was told to stop.
        if to_first.send(first).is_err() {
            return;
        }
        if !complete {
            collection.settle_slow();
            if let Some(sentence) = collection.awaits_storage() {
                console!("waiting for {sentence}");
            }
            for named in collection.settle_storage() {
                console!("{}: {}; going on without", named.who, named.why);
            }
        }
        // The site's own work may take longer, and disks may come meanwhile.
        if finished.blocking_recv().is_ok() {
            collection.take_late_disks();
            if let Some(late) = collection.late_sentence() {
                console!("{late}");
            }
            let _ = to_last.send(snapshot(&mut collection, &root));
        }
    });
    Collecting { first, finish, last }
}

impl Collecting {
    /// What is quick, with what the slow parts have by then.
    pub async fn first(&mut self) -> anyhow::Result<Snapshot> {
        (&mut self.first).await.context("collecting the inventory")
    }

    /// Everything, with every disk that is there when this is called.
    pub async fn last(self) -> anyhow::Result<Snapshot> {
        // A thread that is gone is told of by the other channel.
        let _ = self.finish.send(());
        self.last.await.context("collecting the rest of the inventory")
    }
}

fn snapshot(collection: &mut Collection, root: &probe::Root) -> Snapshot {
    let inventory = collection.inventory();
    Snapshot {
        inventory,
        raw: probe::raw_captures(root),
        complete: collection.is_settled() && collection.is_storage_done(),
        awaits_cables: collection.awaits_cables(),
        awaits_storage: collection.awaits_storage(),
    }
}
