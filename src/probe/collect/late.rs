//! Disks that come while a collection is under way: waited for, taken in, named.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::collection::Collection;
use super::live::LiveSources;
use super::options::{Limit, Options};
use super::root::Root;
use super::timebox::{Publish, millis};
use crate::formats::text::first;
use crate::model::inventory::{Inventory, Item, PartStatus};
use crate::probe::disks::arrivals::Named;
use crate::probe::disks::list;
use crate::probe::disks::watch::Watch;

/// How often disks are listed anew that came while the last ones were asked.
const LATE_ROUNDS: usize = 4;
/// Late disks in one line on a console.
const LATE_SHOWN: usize = 8;
/// A driver that is not there leaves no trace of the disks behind it.
const NOT_LOADED: &str = "could not be loaded; disks behind it may be missing";
/// Items of ways to disks that never said that they are done.
const STILL_LOOKING: &str = "still looking: ";

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

impl Collection {
    /// Waits until no more disks are expected, then takes in those that came since they were listed. Without a watch, and where
    /// disks were not asked for, it does nothing. Tells, and has the inventory say, which ways to disks never said that they are done.
    pub fn settle_storage(&mut self) -> Vec<Named> {
        let Some(watch) = self.watch() else { return Vec::new() };
        let unfinished = watch.wait();
        self.take_late_disks();
        if self.is_done("disks") {
            self.known.disks.items.extend(unfinished.iter().map(|named| {
                let reason = format!("{}; disks behind it may be missing", named.why);
                Item::gap(format!("{STILL_LOOKING}{}", named.who), PartStatus::TimedOut, reason)
            }));
        }
        unfinished
    }

    /// Which disks came late and when, for the person at the machine.
    pub fn late_sentence(&self) -> Option<String> {
        let disks = self.known.disks.value.iter().flatten();
        let mut late: Vec<(u64, &str)> = disks
            .filter_map(|disk| Some((disk.appeared_after_ms?, disk.name.as_str())))
            .collect();
        late.sort_unstable();
        let told = |(millis, name): (u64, &str)| format!("{name} after {} s", millis / 1000);
        let late: Vec<String> = late.into_iter().map(told).collect();
        (!late.is_empty()).then(|| format!("disks that came late: {}", first(&late, LATE_SHOWN)))
    }

    /// Has the inventory say which drivers of disks are not there. One that is loaded later is no longer named.
    pub(super) fn name_missing_drivers(&self, inventory: &mut Inventory) {
        let missing = self.watch().map_or_else(Vec::new, |watch| watch.not_loaded());
        inventory.disks.items.extend(missing.into_iter().map(|name| {
            let item = format!("driver {name}");
            Item::gap(item, PartStatus::Failed, NOT_LOADED)
        }));
    }

    fn watch(&self) -> Option<Watch> {
        let wanted = self.job.options.only.as_ref().is_none_or(|only| only.contains("disks"));
        self.job.options.watch.clone().filter(|_| wanted)
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
        if !self.is_done("disks") {
            return Vec::new();
        }
        let listed = self.known.disks.value.as_deref().unwrap_or_default().iter();
        let known: BTreeSet<&str> = listed
            .flat_map(|disk| std::iter::once(&disk.name).chain(&disk.other_paths))
            .map(String::as_str)
            .collect();
        let mut names = list::names(&self.job.root);
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
            let root = self.job.root.for_part();
            let limit = self.job.within(Limit::Slow);
            let medium = &self.job.options.boot_medium;
            let mut part = list::disks_of(&root, Ok(late.clone()), medium, limit, &Publish::nowhere());
            for disk in part.value.iter_mut().flatten() {
                let after = watch.arrival(&disk.name).unwrap_or_else(|| watch.elapsed());
                disk.appeared_after_ms = Some(millis(after));
            }
            part.items.extend(root.left_out());
            list::add(&mut self.known.disks, part);
            taken.extend(late);
        }
        if !self.is_done("disks") {
            return taken;
        }
        let there: BTreeSet<String> = list::names(&self.job.root).into_iter().collect();
        let part = &mut self.known.disks;
        for disk in part.value.iter().flatten() {
            let is_block = disk.nvme.as_ref().is_none_or(|nvme| nvme.controller != disk.name);
            let item = format!("{}.gone", disk.name);
            if is_block && !there.contains(&disk.name) && !part.items.iter().any(|known| known.item == item) {
                let reason = "it was there at first, and went away while this was collected";
                part.items.push(Item::gap(item, PartStatus::Failed, reason));
            }
        }
        if !taken.is_empty() {
            // What tells of the buses that they came by.
            self.collect_anew(&["storage_controllers", "pci", "usb"]);
        }
        taken
    }
}
