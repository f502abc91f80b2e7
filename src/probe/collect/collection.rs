//! A collection under way: every part runs in a thread of its own from the start; what each knows goes into one inventory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::Job;
use super::joined;
use super::live::LiveSources;
use super::options::{Limit, Options};
use super::parts::{PARTS, is_needed};
use super::root::Root;
use super::running::{NOT_ASKED, Running};
use super::timebox::millis;
use crate::model::inventory::{Inventory, PartStatus};
use crate::probe::{firmware, nics};

/// How long ports with a late carrier may take to tell their speed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A collection under way.
pub struct Collection {
    pub(super) job: Job,
    started: Instant,
    /// What is known, as of the last look at each part.
    pub(super) known: Inventory,
    running: Vec<Box<dyn Running>>,
}

impl Collection {
    /// Starts every part and returns at once.
    pub fn start(root: &Root, live: Option<Arc<dyn LiveSources>>, options: &Options) -> Collection {
        let job = Job::new(root, live, options);
        let started = Instant::now();
        let parts = PARTS.iter();
        let running: Vec<_> = parts
            .map(|part| part.start(&job, is_needed(part.name(), options)))
            .collect();
        let mut known = Inventory::missing(NOT_ASKED);
        running.iter().for_each(|part| part.clear(&mut known));
        Collection {
            job,
            started,
            known,
            running,
        }
    }

    fn settle(&mut self, limit: Limit) {
        let deadline = self.started + limit.of(&self.job.options);
        for part in self.running.iter_mut().filter(|part| part.limit() == limit) {
            part.settle(deadline, &mut self.known, |_| true);
        }
    }

    /// Waits for the quick parts. What the slow ones handed out by then is in [`Self::inventory`] too.
    pub fn settle_quick(&mut self) {
        self.settle(Limit::Quick);
    }

    /// Waits for every part.
    pub fn settle_slow(&mut self) {
        for limit in [Limit::Quick, Limit::Bmc, Limit::Slow, Limit::Cables] {
            self.settle(limit);
        }
        if let Some(ports) = &mut self.known.nics.value {
            nics::look_again(&self.job.root, self.job.live.as_ref(), ports, LOOK_AGAIN);
        }
    }

    /// True when nothing is under way any more.
    pub fn is_settled(&self) -> bool {
        self.running.iter().all(|part| part.is_done())
    }

    pub(super) fn is_done(&self, name: &str) -> bool {
        self.running.iter().any(|part| part.name() == name && part.is_done())
    }

    /// True while neighbours may still speak.
    pub fn awaits_cables(&self) -> bool {
        !self.is_done("cabling")
    }

    /// Collects these parts once more. What fails now is no better than what is known.
    pub(super) fn collect_anew(&mut self, names: &[&str]) {
        let options = Arc::clone(&self.job.options);
        let wanted = PARTS.iter().filter(|part| names.contains(&part.name()));
        let started: Vec<_> = wanted
            .map(|part| part.start(&self.job, is_needed(part.name(), &options)))
            .collect();
        let now = Instant::now();
        for mut part in started {
            // Nothing worse replaces what is known.
            let deadline = now + part.limit().of(&options);
            part.settle(deadline, &mut self.known, |status| status == PartStatus::Ok);
        }
    }

    /// What is known now. Parts that are not done yet are `timed_out`, with what they handed out so far as their value.
    pub fn inventory(&mut self) -> Inventory {
        let millis = millis(self.started.elapsed());
        for part in &mut self.running {
            part.look(&mut self.known);
        }
        let mut inventory = self.known.clone();
        if let Some(run) = &mut inventory.run.value {
            run.duration_ms = millis;
        }
        self.name_missing_drivers(&mut inventory);
        joined::join(&mut inventory);
        // What was collected for the list of firmware alone.
        if let Some(only) = &self.job.options.only {
            let unasked = |name: &str| !only.contains(name) && firmware::derived::PARTS.contains(&name);
            for part in self.running.iter().filter(|part| unasked(part.name())) {
                part.clear(&mut inventory);
            }
        }
        inventory
    }
}
