//! Machines that call themselves the same: which they are, and what tells their rows apart. Pure.

use super::leads::NodeTable;
use crate::model::NodeId;
use crate::model::api::MAX_CLASHES;
use crate::model::clash::{self, Claimant, Clash};

impl NodeTable {
    /// Machines that call themselves the same, and how many more such names there are than are listed.
    pub fn clashes(&self) -> (Vec<Clash>, usize) {
        let shared = self.by_name.iter().filter(|(_, rows)| rows.len() > 1);
        let mut names: Vec<&NodeId> = shared.map(|(name, _)| name).collect();
        let more = names.len().saturating_sub(MAX_CLASHES);
        if more > 0 {
            // There may be tens of thousands, and only the first are put in order.
            names.select_nth_unstable(MAX_CLASHES);
            names.truncate(MAX_CLASHES);
        }
        names.sort_unstable();
        (names.into_iter().filter_map(|name| self.clash(name)).collect(), more)
    }

    /// The machines that call themselves as this one does; `None` where there is no other.
    pub fn clash(&self, id: &NodeId) -> Option<Clash> {
        let name = id.base();
        let rows = self.by_name.get(&name)?;
        let machines = rows.iter().filter_map(|index| {
            let node = &self.rows[*index];
            Some(Claimant {
                id: self.shown_name(*index)?,
                machine: node.summary.clone(),
                macs: node.all_macs().into_iter().take(clash::MAX_ADDRESSES).collect(),
            })
        });
        Clash::of_many(name.clone(), rows.len(), machines)
    }

    /// The name in tables: as its upload is kept, else as it calls itself, marked where that is another's.
    pub(super) fn shown_name(&self, index: usize) -> Option<NodeId> {
        let node = &self.rows[index];
        if let Some(id) = &node.stored_as {
            return Some(id.clone());
        }
        let Some(name) = &node.name else {
            return node.macs.first().map(|mac| NodeId::from_mac(*mac));
        };
        let is_taken = |other: &usize| match &self.rows[*other].stored_as {
            Some(id) => id == name,
            None => *other < index,
        };
        let mut rows = self.by_name.get(name).into_iter().flatten();
        let taken = rows.any(|other| *other != index && is_taken(other));
        let mark = node.evidence.ports.first().or(node.macs.first());
        match mark.filter(|_| taken) {
            Some(mac) => Some(name.told_apart_by(mac.0)),
            None => Some(name.clone()),
        }
    }
}
