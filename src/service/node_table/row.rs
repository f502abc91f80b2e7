//! One row of the table: what is known of one machine, and how far it came. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::formats::first_stage::BusId;
use crate::model::identity::Evidence;
use crate::model::{Arch, MacAddr, NodeId, RunTime, Stage};
use crate::service::boot::fallback::LoaderFallback;
use crate::service::boot::loops::Starts;

#[derive(Debug, Default)]
pub(super) struct Row {
    /// What it calls itself.
    pub(super) name: Option<NodeId>,
    /// The name its upload is kept under.
    pub(super) stored_as: Option<NodeId>,
    /// What tells it from another of that name.
    pub(super) evidence: Evidence,
    /// Ports it was heard on or spoke of; each led to it when it came here.
    pub(super) macs: BTreeSet<MacAddr>,
    /// Ports that lead to it, those of its evidence among them.
    pub(super) leads: usize,
    /// The port it was heard on last.
    pub(super) heard_on: Option<MacAddr>,
    /// It booted since its upload was stored.
    pub(super) booted: bool,
    pub(super) address: Option<IpAddr>,
    /// All addresses that lead to it; as many as it has ports and families, rarely more.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// A boot ROM or iPXE of it was heard in this run.
    pub(super) netboots: bool,
    /// First time in each stage of the present boot.
    pub(super) reached: [Option<RunTime>; Stage::ALL.len()],
    /// When its agent spoke last.
    pub(super) heard: Option<RunTime>,
    pub(super) message: Option<String>,
    /// That is of what it starts, and true until it is heard again.
    pub(super) starts_other: bool,
    pub(super) failure: Option<String>,
    pub(super) bytes_sent: u64,
    pub(super) stored_sha256: Option<String>,
    pub(super) summary: Option<String>,
    /// What its ports are, as its upload has it.
    pub(super) port_ids: Vec<(MacAddr, BusId)>,
    /// How network boot programs fared on it.
    pub(super) fallback: LoaderFallback,
    /// How the system fared on it.
    pub(super) starts: Starts,
    /// What its port has instead of a MAC.
    pub(super) port: Option<String>,
    /// Why it is in the failsafe system, or on its way there.
    pub(super) failsafe: Option<String>,
    /// Why it last got no kernel.
    pub(super) refused: Option<String>,
    pub(super) firmware: Option<Arch>,
    pub(super) boot_arch: Option<String>,
    pub(super) serial: Option<String>,
}

impl Row {
    pub(super) fn is_row(&self) -> bool {
        self.name.is_some() || !self.macs.is_empty()
    }

    pub(super) fn reach(&mut self, stage: Stage, now: RunTime) {
        self.reached[stage as usize].get_or_insert(now);
    }

    /// What is on the stick counts, whichever run brought it there.
    pub(super) fn stage(&self) -> Stage {
        let mut stages = Stage::ALL.into_iter().rev();
        let reached = stages.find(|stage| self.reached[*stage as usize].is_some());
        let kept = (self.stored_as.is_some() && !self.booted).then_some(Stage::Stored);
        reached.max(kept).unwrap_or(Stage::Seen)
    }

    /// Ports it was heard on or spoke of, and those that its upload has.
    pub(super) fn all_macs(&self) -> BTreeSet<MacAddr> {
        self.macs.union(&self.evidence.ports).copied().collect()
    }

    /// Takes what was seen of a boot that turned out to be this machine's, and not that of `other`.
    pub(super) fn take_boot(&mut self, other: &mut Row) {
        self.absorb(Row {
            address: other.address.take(),
            netboots: other.netboots,
            booted: other.booted,
            reached: std::mem::take(&mut other.reached),
            bytes_sent: std::mem::take(&mut other.bytes_sent),
            fallback: std::mem::take(&mut other.fallback),
            starts: std::mem::take(&mut other.starts),
            failsafe: other.failsafe.take(),
            firmware: other.firmware.take(),
            boot_arch: other.boot_arch.take(),
            serial: other.serial.take(),
            heard_on: other.heard_on.take(),
            ..Row::default()
        });
        (other.booted, other.message, other.failure) = (false, None, None);
    }

    /// Adds what was known of the same machine by its ports, but for what leads to a row.
    pub(super) fn absorb(&mut self, old: Row) {
        self.address = self.address.or(old.address);
        if self.starts.join(old.starts) {
            self.failsafe = old.failsafe;
        }
        self.port = self.port.take().or(old.port);
        self.refused = self.refused.take().or(old.refused);
        self.heard_on = self.heard_on.or(old.heard_on);
        self.bytes_sent += old.bytes_sent;
        self.fallback.join(old.fallback);
        self.firmware = self.firmware.or(old.firmware);
        self.boot_arch = self.boot_arch.take().or(old.boot_arch);
        self.serial = self.serial.take().or(old.serial);
        self.netboots |= old.netboots;
        self.booted |= old.booted;
        for (mine, theirs) in self.reached.iter_mut().zip(old.reached) {
            *mine = match (*mine, theirs) {
                (Some(a), Some(b)) => Some(if b < a { b } else { a }),
                (a, b) => a.or(b),
            };
        }
    }
}
