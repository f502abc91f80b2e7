//! One part on its way: started in a thread of its own, looked at, waited for, and put into the inventory.

use std::time::{Duration, Instant};

use super::job::Job;
use super::options::Limit;
use super::timebox::{self, Outcome, Pending, Publish};
use crate::model::inventory::{Inventory, Part, PartStatus};

/// Why a part is empty that the caller left out.
pub(crate) const NOT_ASKED: &str = "not asked for";

/// A row of the table of parts.
pub(crate) struct Row<T> {
    /// As in [`Inventory::PARTS`].
    pub name: &'static str,
    /// What is named as the source if the probe never says itself.
    pub source: &'static str,
    pub limit: Limit,
    pub field: fn(&mut Inventory) -> &mut Part<T>,
    /// Boxes inside the part end within the time that it is given.
    pub probe: fn(&Job, Duration, &Publish<Part<T>>) -> Part<T>,
}

/// A row, whatever its part holds.
pub(crate) trait Start: Sync {
    fn name(&self) -> &'static str;

    /// Starts collecting, unless the part is not needed.
    fn start(&'static self, job: &Job, is_needed: bool) -> Box<dyn Running>;
}

/// A part that was started, whatever it holds.
pub(crate) trait Running: Send {
    fn name(&self) -> &'static str;
    fn limit(&self) -> Limit;
    fn is_done(&self) -> bool;
    /// Puts into the inventory what is known now.
    fn look(&mut self, inventory: &mut Inventory);
    /// Waits until `deadline` at most. Afterwards the part is what it was then, where `takes` its status; else what it was before.
    fn settle(&mut self, deadline: Instant, inventory: &mut Inventory, takes: fn(PartStatus) -> bool);
    /// Empties the part.
    fn clear(&self, inventory: &mut Inventory);
}

struct Started<T: 'static> {
    row: &'static Row<T>,
    /// `None` once it is done.
    pending: Option<Pending<Part<T>>>,
    latest: Option<Part<T>>,
}

impl<T: Clone + Send + 'static> Start for Row<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&'static self, job: &Job, is_needed: bool) -> Box<dyn Running> {
        let mut job = job.clone();
        // What one part leaves out is not said in another.
        job.root = job.root.for_part();
        let work = move |publish| {
            let mut part = (self.probe)(&job, job.within(self.limit), &publish);
            part.items.extend(job.root.left_out());
            part
        };
        Box::new(Started {
            row: self,
            pending: is_needed.then(|| timebox::spawn_publishing(&format!("probe-{}", self.name), work)),
            latest: None,
        })
    }
}

impl<T: Clone + Send + 'static> Started<T> {
    /// What it was at its end, given once.
    fn end(&mut self, outcome: Outcome<Part<T>>) -> Option<Part<T>> {
        let latest = self.pending.take()?.latest().or_else(|| self.latest.take());
        Some(finished(outcome, latest, self.row.source))
    }
}

impl<T: Clone + Send + 'static> Running for Started<T> {
    fn name(&self) -> &'static str {
        self.row.name
    }

    fn limit(&self) -> Limit {
        self.row.limit
    }

    fn is_done(&self) -> bool {
        self.pending.is_none()
    }

    fn look(&mut self, inventory: &mut Inventory) {
        let Some(pending) = &self.pending else { return };
        let known = match pending.poll() {
            Some(outcome) => self.end(outcome),
            None => {
                self.latest = pending.latest().or_else(|| self.latest.take());
                let (millis, reason) = (timebox::millis(pending.elapsed()), "still being collected".to_owned());
                let latest = self.latest.clone();
                Some(unfinished(
                    latest,
                    self.row.source,
                    PartStatus::TimedOut,
                    millis,
                    reason,
                ))
            }
        };
        if let Some(part) = known {
            *(self.row.field)(inventory) = part;
        }
    }

    fn settle(&mut self, deadline: Instant, inventory: &mut Inventory, takes: fn(PartStatus) -> bool) {
        let Some(pending) = &self.pending else { return };
        let outcome = pending.wait(deadline);
        if let Some(part) = self.end(outcome).filter(|part| takes(part.status)) {
            *(self.row.field)(inventory) = part;
        }
    }

    fn clear(&self, inventory: &mut Inventory) {
        let part = (self.row.field)(inventory);
        let source = match part.source.as_str() {
            "" => self.row.source,
            told => told,
        };
        *part = Part::missing(PartStatus::Unsupported, source, NOT_ASKED);
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
