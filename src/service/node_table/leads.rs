//! The rows, and what leads to them: a port, an address, a name. Each leads to one row only (a name to several), and each of
//! these tables has a bound. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::remembered::Remembered;
use super::row::Row;
use crate::model::{MacAddr, NodeId, RunTime};

/// Rows of the table, about 700 bytes each: more machines than one stick is meant for. Further ones are served and stored, but
/// not listed; they are counted, and the screen says so.
pub(super) const MAX_NODES: usize = 65_536;
/// Ports that machines name, and addresses, that lead to rows: four for each on average. Further ones lead nowhere, and are counted.
pub(super) const MAX_LEADS: usize = 4 * MAX_NODES;
/// With those that were heard: who names ports, which costs nothing, leaves room for every machine that speaks by its own.
pub(super) const MAX_HEARD: usize = MAX_LEADS + MAX_NODES;
/// Ports, and addresses, that lead to one machine's row; an honest one has far fewer. Further ones lead nowhere, and are counted.
pub(super) const MAX_LEADS_OF_ONE: usize = 1024;

/// Every machine heard in this run.
#[derive(Debug, Default)]
pub struct NodeTable {
    pub(super) rows: Vec<Row>,
    pub(super) by_mac: HashMap<MacAddr, usize>,
    pub(super) by_address: HashMap<IpAddr, usize>,
    /// By what machines call themselves, which may be several.
    pub(super) by_name: HashMap<NodeId, Vec<usize>>,
    /// Rows that became part of others.
    pub(super) free: Vec<usize>,
    /// How often a machine found no row.
    pub(super) unlisted: u64,
    /// When the console was last told what a machine starts.
    pub(super) told_start: Option<RunTime>,
    /// What earlier runs knew of starts, of machines that were not heard yet.
    pub(super) remembered: Remembered,
    /// Another number after each change of what a later run is to know of starts.
    pub(super) starts_changed: u64,
    /// How often one machine or name wanted more than its share: ports, addresses, rows.
    pub(super) beyond: u64,
}

impl NodeTable {
    pub(super) fn by_mac(&mut self, mac: MacAddr) -> Option<&mut Row> {
        if let Some(index) = self.by_mac.get(&mac) {
            return self.rows.get_mut(*index);
        }
        if self.by_mac.len() >= MAX_HEARD {
            self.unlisted += 1;
            return None;
        }
        let index = self.add()?;
        self.by_mac.insert(mac, index);
        let node = &mut self.rows[index];
        node.leads += 1;
        node.macs.insert(mac);
        Some(node)
    }

    pub(super) fn at(&mut self, address: IpAddr) -> Option<&mut Row> {
        let index = *self.by_address.get(&address)?;
        self.rows.get_mut(index)
    }

    /// Makes the port lead to this row and to no other; false where the row has as many already, or there are too many.
    pub(super) fn lead_mac(&mut self, mac: MacAddr, index: usize) -> bool {
        let former = self.by_mac.get(&mac).copied();
        if former == Some(index) {
            return true;
        }
        let is_full = former.is_none() && self.by_mac.len() >= MAX_LEADS;
        if is_full || self.rows[index].leads >= MAX_LEADS_OF_ONE {
            self.beyond += 1;
            return false;
        }
        self.drop_mac(mac);
        self.by_mac.insert(mac, index);
        self.rows[index].leads += 1;
        true
    }

    /// The port leads nowhere any more.
    pub(super) fn drop_mac(&mut self, mac: MacAddr) {
        if let Some(former) = self.by_mac.remove(&mac) {
            self.rows[former].leads -= 1;
        }
    }

    /// Makes the address lead to this row and to no other; false as with a port.
    pub(super) fn lead_address(&mut self, address: IpAddr, index: usize) -> bool {
        let former = self.by_address.get(&address).copied();
        if former == Some(index) {
            return true;
        }
        let is_full = former.is_none() && self.by_address.len() >= MAX_LEADS;
        if is_full || self.rows[index].addresses.len() >= MAX_LEADS_OF_ONE {
            self.beyond += 1;
            return false;
        }
        if let Some(former) = former {
            self.rows[former].addresses.remove(&address);
        }
        self.rows[index].addresses.insert(address);
        self.by_address.insert(address, index);
        true
    }

    pub(super) fn add(&mut self) -> Option<usize> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.rows.len() >= MAX_NODES {
            self.unlisted += 1;
            return None;
        }
        self.rows.push(Row::default());
        Some(self.rows.len() - 1)
    }
}
