//! What earlier runs of the master knew of machines' starts, until their machines are heard in this one. Pure.

use std::collections::HashMap;

use crate::model::MacAddr;
use crate::service::boot::attempts::{Attempts, Kept};

/// By port; the ports of one machine lead to one entry.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    by_mac: HashMap<MacAddr, usize>,
    entries: Vec<Option<Kept>>,
}

impl Remembered {
    /// At most so many machines, and so many ports of one.
    pub(super) fn new(kept: Vec<Kept>, machines: usize, ports: usize) -> Self {
        let mut remembered = Self::default();
        for mut entry in kept.into_iter().take(machines) {
            entry.macs.truncate(ports);
            let index = remembered.entries.len();
            remembered.by_mac.extend(entry.macs.iter().map(|mac| (*mac, index)));
            remembered.entries.push(Some(entry));
        }
        remembered
    }

    /// Of machines that were not heard yet.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.entries.iter().flatten()
    }

    pub(super) fn of(&self, mac: Option<MacAddr>) -> Option<Attempts> {
        let entry = self.entries.get(*self.by_mac.get(&mac?)?)?;
        entry.as_ref().map(Kept::attempts)
    }

    /// The same; from now on its row has it.
    pub(super) fn take(&mut self, mac: MacAddr) -> Option<Attempts> {
        let index = self.by_mac.remove(&mac)?;
        self.entries.get_mut(index)?.take().map(|entry| entry.attempts())
    }
}
