//! Which row is a machine's: by what it says of itself, its address, its ports, its name; and how two rows of one machine
//! become one. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::leads::{MAX_LEADS_OF_ONE, NodeTable};
use crate::model::identity::{Evidence, Verdict, same};
use crate::model::node::is_uuid;
use crate::model::{MacAddr, NodeId};

/// Rows of machines of one name: each word of one of them is compared with all. Further machines are served and stored, and
/// have the row of their port where they were heard on it, else none; they are counted.
pub(super) const MAX_ROWS_OF_A_NAME: usize = 256;

/// What a machine tells of itself, with what its name and its ports add where it tells nothing else, in the bounds of a row.
pub(super) fn completed(mut told: Evidence, id: &NodeId, macs: &[MacAddr]) -> Evidence {
    let name = id.base();
    told.uuid = told
        .uuid
        .or_else(|| is_uuid(name.as_str()).then(|| name.as_str().to_owned()));
    if told.is_bare() {
        // One that has no time for a list of its ports has the one that it is named by.
        let own = id.mac().filter(|_| macs.is_empty() && !id.is_told_apart());
        let all = macs.iter().copied().chain(own);
        told.ports.extend(all.filter(|mac| !mac.is_unusable()));
    }
    for macs in [&mut told.ports, &mut told.bmc] {
        if let Some(first_beyond) = macs.iter().nth(MAX_LEADS_OF_ONE).copied() {
            macs.split_off(&first_beyond);
        }
    }
    told
}

impl NodeTable {
    /// Row of a machine that names itself, where there is one: the one it had, the row of its address, or of a port. Another
    /// machine of that name has another row.
    pub(super) fn find(&self, id: &NodeId, from: Option<IpAddr>, macs: &[MacAddr], told: &Evidence) -> Option<usize> {
        let name = id.base();
        let of_name = self.by_name.get(&name).map(Vec::as_slice).unwrap_or_default();
        let may_be = |index: &usize| self.may_be(*index, &name, told);
        let known = || {
            let is_same = |index: &usize| same(told, &self.rows[*index].evidence) == Verdict::Same;
            of_name.iter().copied().find(is_same)
        };
        let by_address = || self.at_address(from?, id, told);
        let row_of = |mac: &MacAddr| self.by_mac.get(mac).copied();
        let by_port = || macs.iter().chain(&told.ports).filter_map(row_of).find(may_be);
        // The only thing known is the name.
        let by_name = || {
            let nothing_else = |index: &usize| {
                let node = &self.rows[*index];
                told.is_bare() || (node.evidence.is_bare() && node.stored_as.is_none())
            };
            of_name.iter().copied().find(nothing_else)
        };
        let stored = self.row_stored_as(id).filter(may_be);
        stored
            .or_else(known)
            .or_else(by_address)
            .or_else(by_port)
            .or_else(by_name)
    }

    pub(super) fn row_stored_as(&self, id: &NodeId) -> Option<usize> {
        let rows = self.by_name.get(&id.base())?;
        rows.iter()
            .copied()
            .find(|index| self.rows[*index].stored_as.as_ref() == Some(id))
    }

    /// Nothing that is known speaks against this row. An address or a port can pass from one machine to another.
    fn may_be(&self, index: usize, name: &NodeId, told: &Evidence) -> bool {
        let node = &self.rows[index];
        let mine = &node.evidence;
        match &node.name {
            None => true,
            Some(other) if other != name => false,
            // The number of a chassis alone does not make two machines one, but who comes from where that one came from and says
            // the same of itself is that one.
            Some(_) => mine.is_bare() || told.is_bare() || told == mine || same(told, mine) == Verdict::Same,
        }
    }

    /// The row of an address, unless it is another machine's.
    fn at_address(&self, from: IpAddr, id: &NodeId, told: &Evidence) -> Option<usize> {
        let name = id.base();
        // What is quick says little of its machine; where it comes from says more, unless that machine is stored already.
        let nothing_against = |index: &usize| {
            let node = &self.rows[*index];
            let free = node.stored_as.as_ref().is_none_or(|kept| kept == id);
            let is_named = node.name.as_ref() == Some(&name);
            is_named && free && !matches!(same(told, &node.evidence), Verdict::Other(_))
        };
        let index = self.by_address.get(&from).copied();
        index.filter(|index| self.may_be(*index, &name, told) || nothing_against(index))
    }

    /// Row of a machine that names itself, a new one where it had none. It takes over what was known by its ports and its address.
    pub(super) fn join(
        &mut self,
        id: &NodeId,
        from: Option<IpAddr>,
        macs: &[MacAddr],
        told: Evidence,
    ) -> Option<usize> {
        let name = id.base();
        let told = completed(told, id, macs);
        let found = self.find(id, from, macs, &told);
        let of_name = self.by_name.get(&name).map(Vec::as_slice).unwrap_or_default();
        let may_have_name = of_name.len() < MAX_ROWS_OF_A_NAME || found.is_some_and(|index| of_name.contains(&index));
        let from_here = from.is_some();
        let ports: BTreeSet<MacAddr> = macs.iter().copied().chain(told.ports.iter().copied()).collect();
        let mut others: BTreeSet<usize> = ports.iter().filter_map(|mac| self.by_mac.get(mac).copied()).collect();
        others.extend(from.and_then(|from| self.at_address(from, id, &told)));
        let index = match found {
            Some(index) => index,
            None if !may_have_name => {
                self.beyond += 1;
                return None;
            }
            None => self.add()?,
        };
        others.remove(&index);
        for other in others {
            self.merge(other, index, &ports, from_here);
        }
        for mac in &ports {
            // What an earlier run stored does not take a port from a machine that speaks now.
            if from_here || !self.by_mac.contains_key(mac) {
                self.lead_mac(*mac, index);
            }
        }
        if let Some(from) = from.filter(|from| !self.by_address.contains_key(from)) {
            self.lead_address(from, index);
        }
        let leads_here = |mac: &&MacAddr| self.by_mac.get(*mac) == Some(&index);
        let node = &mut self.rows[index];
        node.address = node.address.or(from);
        node.macs.extend(macs.iter().filter(leads_here));
        node.evidence.join(&told);
        if !may_have_name {
            // It goes by its port.
            self.beyond += 1;
            return Some(index);
        }
        node.name = Some(name.clone());
        let rows = self.by_name.entry(name).or_default();
        if !rows.contains(&index) {
            rows.push(index);
        }
        Some(index)
    }

    /// Moves what row `from` knows into row `to`. A row that names another machine stays; but the boot that was heard on one of
    /// these ports, a card or an adapter that was carried over, was not its own.
    fn merge(&mut self, from: usize, to: usize, ports: &BTreeSet<MacAddr>, from_here: bool) {
        // One that is no row became part of another just now.
        if from == to || !self.rows[from].is_row() {
            return;
        }
        if self.rows[from].name.is_none() {
            for mac in self.rows[from].all_macs() {
                // Others have passed to other machines since.
                if self.by_mac.get(&mac) != Some(&from) {
                    continue;
                }
                match self.lead_mac(mac, to) {
                    true => _ = self.rows[to].macs.insert(mac),
                    false => self.drop_mac(mac),
                }
            }
            // It may have one address of each family.
            for address in self.rows[from].addresses.clone() {
                if !self.lead_address(address, to) {
                    self.by_address.remove(&address);
                }
            }
            let old = std::mem::take(&mut self.rows[from]);
            self.free.push(from);
            self.rows[to].absorb(old);
            return;
        }
        let mut old = std::mem::take(&mut self.rows[from]);
        let mut moved = None;
        if from_here && old.heard_on.is_some_and(|mac| ports.contains(&mac)) {
            // An address that has passed to a third machine since is neither's.
            moved = old
                .address
                .filter(|address| self.by_address.get(address) == Some(&from));
            let kept = if moved.is_none() { old.address.take() } else { None };
            self.rows[to].take_boot(&mut old);
            old.address = kept;
        }
        if from_here {
            old.macs.retain(|mac| !ports.contains(mac));
        }
        self.rows[from] = old;
        if let Some(address) = moved {
            self.lead_address(address, to);
        }
    }
}
