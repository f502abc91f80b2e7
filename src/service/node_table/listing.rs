//! The table as screens and the API show it: in pieces, by urgency, in counts. Pure.

use super::leads::NodeTable;
use crate::model::api::{NodeStatus, StageTime};
use crate::model::{RunTime, Stage};

/// What sorts the rows of a screen: machines on their way first, because those are the ones to wait for.
pub fn urgency(stored: bool, stage: Stage) -> (bool, Stage) {
    (stage == Stage::Up || stored && stage == Stage::Off, stage)
}

impl NodeTable {
    /// The table, in the order in which machines were first heard.
    pub fn all(&self) -> Vec<NodeStatus> {
        self.page(0, usize::MAX).0
    }

    /// Some rows of the table, and where the next ones begin.
    pub fn page(&self, from: usize, most: usize) -> (Vec<NodeStatus>, Option<usize>) {
        let end = self.rows.len().min(from.saturating_add(most));
        let next = (end < self.rows.len()).then_some(end);
        ((from..end).filter_map(|index| self.status(index)).collect(), next)
    }

    /// The rows to look at first, in that order: machines on their way before those that are done.
    pub fn first(&self, most: usize) -> Vec<NodeStatus> {
        let machines = self.rows.iter().enumerate().filter(|(_, node)| node.is_row());
        let mut order: Vec<((bool, Stage), usize)> = machines
            .map(|(index, node)| (urgency(node.stored_sha256.is_some(), node.stage()), index))
            .collect();
        order.sort_unstable();
        order.truncate(most);
        order.iter().filter_map(|(_, index)| self.status(*index)).collect()
    }

    /// Machines by stage.
    pub fn stages(&self) -> Vec<(Stage, u64)> {
        let mut counts = [0; Stage::ALL.len()];
        for node in self.rows.iter().filter(|node| node.is_row()) {
            counts[node.stage() as usize] += 1;
        }
        Stage::ALL.into_iter().zip(counts).collect()
    }

    /// How often a machine found no row because the table is full.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// How often a machine had more ports or addresses than lead to one row, or a name more machines than have rows.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Machines by number: heard at all, stored.
    pub fn counts(&self) -> (usize, usize) {
        let seen = || self.rows.iter().filter(|node| node.is_row());
        let stored = seen().filter(|node| node.stored_sha256.is_some());
        (seen().count(), stored.count())
    }

    fn status(&self, index: usize) -> Option<NodeStatus> {
        let node = &self.rows[index];
        let id = self.shown_name(index)?;
        let of_name = node.name.as_ref().and_then(|name| self.by_name.get(name));
        let reached = |stage: Stage| {
            let at_seconds = node.reached[stage as usize]?.seconds();
            Some(StageTime { stage, at_seconds })
        };
        Some(NodeStatus {
            id,
            same_name: of_name.map_or(0, |rows| rows.len().saturating_sub(1)),
            macs: node.all_macs().into_iter().collect(),
            address: node.address,
            stage: node.stage(),
            stages: Stage::ALL.into_iter().filter_map(reached).collect(),
            heard_at_seconds: node.heard.map(RunTime::seconds),
            message: node.message.clone(),
            failure: node.failure.clone(),
            bytes_sent: node.bytes_sent,
            stored_sha256: node.stored_sha256.clone(),
            summary: node.summary.clone(),
            loader: node.fallback.current().map(str::to_owned),
            failed_loaders: node.fallback.failed().iter().map(|name| (*name).to_owned()).collect(),
            firmware: node.firmware,
            boot_arch: node.boot_arch.clone(),
            serial: node.serial.clone(),
            starts_in_vain: node.starts.in_vain(),
            image: node
                .starts
                .attempts
                .trying()
                .map(|(name, version)| format!("{name}@{version}")),
            failsafe: node.failsafe.clone(),
            port: node.port.clone(),
        })
    }
}
