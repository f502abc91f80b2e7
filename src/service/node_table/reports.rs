//! What agents say of their machines, and what they store: stages, messages, uploads. Pure; time is seconds since the master
//! started.

use std::net::IpAddr;

use super::identify::completed;
use super::leads::NodeTable;
use crate::model::api::StageReport;
use crate::model::{ImageName, ImageVersion, MacAddr, NodeId, RunTime, Stage};
use crate::store::inventory::InventoryFacts;

/// What a peer says of itself is kept up to this many characters.
const MAX_MESSAGE_CHARS: usize = 500;
/// Between two starts of something else that the console tells; their rows and the log have all.
const TOLD_START_SECONDS: f64 = 5.0;

impl NodeTable {
    /// The agent spoke. Rows of the same machine that were known by its ports so far become one.
    /// `is_its`: its address is that of one of its ports, and no stranger's. Returns the version of an image that is up there, where this
    /// master gave it.
    pub fn report(
        &mut self,
        id: &NodeId,
        from: impl Into<IpAddr>,
        report: &StageReport,
        is_its: bool,
        now: RunTime,
    ) -> Option<(ImageName, ImageVersion)> {
        let told = report.evidence.clone().unwrap_or_default().checked();
        let index = self.join(id, Some(from.into()), &report.macs, told)?;
        let node = &mut self.rows[index];
        node.reach(report.stage, now);
        // With that word an agent begins, whether its firmware was heard or not.
        node.booted |= report.stage == Stage::Agent;
        let said = report.image.as_ref().filter(|_| report.stage == Stage::Up);
        let said = said.and_then(|image| Some((image.name.clone(), image.version.clone()?)));
        let macs = if is_its { &report.macs[..] } else { &[] };
        let up = self.with_starts(index, macs, |starts| {
            match report.stage {
                // It is where it should be, and a start after this one is no try in vain.
                Stage::Up => starts.done(),
                _ => starts.spoke(),
            }
            said.filter(|version| starts.attempts.came_up(version, is_its))
        });
        let node = &mut self.rows[index];
        node.heard = Some(now);
        if report.stage != Stage::Off {
            // It speaks again after it asked for its power to be cut: it was not.
            node.reached[Stage::Off as usize] = None;
        }
        if std::mem::take(&mut node.starts_other) {
            node.message = None;
        }
        if let Some(message) = &report.message {
            node.message = Some(message.chars().take(MAX_MESSAGE_CHARS).collect());
        }
        node.failure = report
            .failure
            .as_ref()
            .map(|text| text.chars().take(MAX_MESSAGE_CHARS).collect());
        up
    }

    /// Recon on the machine starts something else in its own place, as `sentence` has it. True where the console is to say so: not of each of a
    /// crowd, and not as often as somebody likes.
    pub fn starts_other(&mut self, from: IpAddr, mac: Option<MacAddr>, sentence: &str, now: RunTime) -> bool {
        if let Some(mac) = mac.filter(|_| !self.by_address.contains_key(&from)) {
            self.row_at(mac, from);
        }
        if let Some(node) = self.at(from) {
            node.message = Some(sentence.chars().take(MAX_MESSAGE_CHARS).collect());
            node.starts_other = true;
        }
        let is_news = self.told_start.is_none_or(|last| now - last >= TOLD_START_SECONDS);
        if is_news {
            self.told_start = Some(now);
        }
        is_news
    }

    /// The machine's upload is acknowledged and kept as `id`, in this run or, without an address, in an earlier one.
    /// `facts` is what it says of the machine.
    pub fn stored(&mut self, id: &NodeId, from: Option<IpAddr>, sha256: String, facts: InventoryFacts, now: RunTime) {
        let Some(index) = self.join(id, from, &[], facts.evidence) else {
            return;
        };
        let node = &mut self.rows[index];
        if from.is_some() {
            node.starts.done();
            if node.refused.take().is_some() {
                node.failure = None;
            }
            node.reach(Stage::Stored, now);
            node.booted = false;
        }
        node.stored_as = Some(id.clone());
        node.stored_sha256 = Some(sha256);
        node.summary = facts.summary;
        node.port_ids = facts.port_ids;
    }

    /// An upload is known that is kept as `id`.
    pub fn is_stored(&self, id: &NodeId) -> bool {
        self.row_stored_as(id).is_some()
    }

    /// A machine that asks from this address to keep an upload as `id` is in the table by a row of its own. What goes by the name
    /// alone is no proof of that: under one name there can be any number of machines.
    pub fn awaits(&self, id: &NodeId, from: IpAddr) -> bool {
        let name = id.base();
        let is_named = |index: &usize| self.rows[*index].name.as_ref() == Some(&name);
        let awaited = |index: &usize| self.rows[*index].stored_as.is_none();
        self.is_stored(id)
            || self.by_address.get(&from).is_some_and(is_named)
            || self.by_name.get(&name).is_some_and(|rows| rows.iter().any(awaited))
    }

    /// A machine that says this of itself has a row by that name.
    pub fn knows(&self, id: &NodeId, from: IpAddr, report: &StageReport) -> bool {
        let name = id.base();
        let told = report.evidence.clone().unwrap_or_default().checked();
        let told = completed(told, id, &report.macs);
        let found = self.find(id, Some(from), &report.macs, &told);
        found.is_some_and(|index| self.rows[index].name.as_ref() == Some(&name))
    }
}
