//! How the nodes fare that were told to start again, one batch after the other, so that a room gets another version while it works. Pure.
//!
//! A node is told with its next word to the master, while fewer than a batch are on their way. Where one of them does not come up with what it
//! was to start, no further one is told: a bad version costs one batch.

use super::leads::NodeTable;
use crate::model::{MacAddr, Stage};
use crate::service::boot::attempts::{Choices, Decision, Version};

/// Of those that were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fared {
    /// Came up with what they were to start.
    pub(crate) done: usize,
    pub(crate) on_their_way: Vec<MacAddr>,
    /// Their version was given up there.
    pub(crate) failed: Vec<MacAddr>,
}

impl NodeTable {
    /// How nodes fared, by their boot ports. `choices`: what there is to choose from for each.
    pub(crate) fn fared(&self, told: &[MacAddr], choices: &Choices) -> Fared {
        let mut fared = Fared::default();
        for mac in told {
            let row = self.by_mac.get(mac).and_then(|index| self.rows.get(*index));
            let decision = row.map_or(Decision::Wanted, |row| row.starts.attempts.decide(choices));
            let is_up = row.is_some_and(|row| row.starts.attempts.last_up() == Some(&choices.wanted));
            match (is_up, decision) {
                (true, _) => fared.done += 1,
                (false, Decision::Wanted) => fared.on_their_way.push(*mac),
                (false, Decision::Previous | Decision::Failsafe) => fared.failed.push(*mac),
            }
        }
        fared
    }

    /// Nodes that are up, by what they run: with this version, and with others. `is_part` says by its ports and its UUID which ones count.
    pub(crate) fn up_with(
        &self,
        wanted: &Version,
        is_part: impl Fn(&[MacAddr], Option<&str>) -> bool,
    ) -> (usize, usize) {
        let (mut with, mut others) = (0, 0);
        for row in self.rows.iter().filter(|row| row.stage() == Stage::Up) {
            let macs: Vec<MacAddr> = row.macs.iter().copied().collect();
            if !is_part(&macs, row.name.as_ref().map(|name| name.as_str())) {
                continue;
            }
            match row.starts.attempts.last_up() == Some(wanted) {
                true => with += 1,
                false => others += 1,
            }
        }
        (with, others)
    }
}

impl Fared {
    /// Whether one more may be told to start again, where so many may be on their way.
    pub(crate) fn leaves_room(&self, batch: usize) -> bool {
        self.failed.is_empty() && self.on_their_way.len() < batch
    }
}
