//! How far every machine came. Pure: events in, a table out; time is seconds since the master started.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::model::api::{MAX_CLASHES, NodeStatus, StageReport, StageTime};
use crate::model::clash::{self, Claimant, Clash};
use crate::model::identity::{Evidence, Verdict, same};
use crate::model::node::is_uuid;
use crate::model::{Arch, MacAddr, NodeId, Stage};
use crate::service::boot::fallback::{Climb, Pick};
use crate::service::boot::loops::Starts;

/// Rows of the table, about 700 bytes each: more machines than one stick is meant for. Further ones are served and stored, but
/// not listed; they are counted, and the screen says so.
const MAX_NODES: usize = 65_536;
/// Ports that machines name, and addresses, that lead to rows: four for each on average. Further ones lead nowhere, and are counted.
const MAX_LEADS: usize = 4 * MAX_NODES;
/// With those that were heard: who names ports, which costs nothing, leaves room for every machine that speaks by its own.
const MAX_HEARD: usize = MAX_LEADS + MAX_NODES;
/// Ports, and addresses, that lead to one machine's row; an honest one has far fewer. Further ones lead nowhere, and are counted.
const MAX_LEADS_OF_ONE: usize = 1024;
/// Rows of machines of one name: each word of one of them is compared with all. Further machines are served and stored, and
/// have the row of their port where they were heard on it, else none; they are counted.
const MAX_ROWS_OF_A_NAME: usize = 256;
/// What a peer says of itself is kept up to this many characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// Names that a boot program gives are kept up to this many characters.
const MAX_SAID_CHARS: usize = 64;

/// What a boot program says of its machine when it asks for a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub mac: Option<MacAddr>,
    pub arch: Option<String>,
    pub serial: Option<String>,
    /// Why the script that it gets will not boot it.
    pub trouble: Option<String>,
    /// Memory in MiB that what it is to boot needs, where that is known.
    pub needed_mib: Option<u64>,
}

/// Every machine heard in this run.
#[derive(Debug, Default)]
pub struct Ladder {
    nodes: Vec<Node>,
    by_mac: HashMap<MacAddr, usize>,
    by_address: HashMap<IpAddr, usize>,
    /// By what machines call themselves, which may be several.
    by_name: HashMap<NodeId, Vec<usize>>,
    /// Rows that became part of others.
    free: Vec<usize>,
    /// How often a machine found no row.
    unlisted: u64,
    /// How often one machine or name wanted more than its share: ports, addresses, rows.
    beyond: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// What it calls itself.
    name: Option<NodeId>,
    /// The name its upload is kept under.
    stored_as: Option<NodeId>,
    /// What tells it from another of that name.
    evidence: Evidence,
    /// Ports it was heard on or spoke of; each led to it when it came here.
    macs: BTreeSet<MacAddr>,
    /// Ports that lead to it, those of its evidence among them.
    leads: usize,
    /// The port it was heard on last.
    heard_on: Option<MacAddr>,
    /// It booted since its upload was stored.
    booted: bool,
    address: Option<IpAddr>,
    /// All addresses that lead to it; as many as it has ports and families, rarely more.
    addresses: BTreeSet<IpAddr>,
    /// A boot ROM or iPXE of it was heard in this run.
    netboots: bool,
    /// First time on each rung of the present climb.
    reached: [Option<f64>; Stage::ALL.len()],
    message: Option<String>,
    failure: Option<String>,
    bytes_sent: u64,
    stored_sha256: Option<String>,
    summary: Option<String>,
    /// How network boot programs fared on it.
    climb: Climb,
    /// How the system fared on it.
    starts: Starts,
    /// What its port has instead of a MAC.
    port: Option<String>,
    /// Why it last got no kernel.
    refused: Option<String>,
    firmware: Option<Arch>,
    boot_arch: Option<String>,
    serial: Option<String>,
}

/// What sorts the rows of a screen: machines on their way first, because those are the ones to wait for.
pub fn urgency(stored: bool, stage: Stage) -> (bool, Stage) {
    (stored && stage == Stage::Off, stage)
}

impl Node {
    fn is_row(&self) -> bool {
        self.name.is_some() || !self.macs.is_empty()
    }

    fn reach(&mut self, stage: Stage, now: f64) {
        self.reached[stage as usize].get_or_insert(now);
    }

    /// What is on the stick counts, whichever run brought it there.
    fn stage(&self) -> Stage {
        let mut rungs = Stage::ALL.into_iter().rev();
        let reached = rungs.find(|stage| self.reached[*stage as usize].is_some());
        let kept = (self.stored_as.is_some() && !self.booted).then_some(Stage::Stored);
        reached.max(kept).unwrap_or(Stage::Seen)
    }

    /// Ports it was heard on or spoke of, and those that its upload has.
    fn all_macs(&self) -> BTreeSet<MacAddr> {
        self.macs.union(&self.evidence.ports).copied().collect()
    }

    /// Takes what was seen of a boot that turned out to be this machine's, and not that of `other`.
    fn take_climb(&mut self, other: &mut Node) {
        self.absorb(Node {
            address: other.address.take(),
            netboots: other.netboots,
            booted: other.booted,
            reached: std::mem::take(&mut other.reached),
            bytes_sent: std::mem::take(&mut other.bytes_sent),
            climb: std::mem::take(&mut other.climb),
            starts: std::mem::take(&mut other.starts),
            firmware: other.firmware.take(),
            boot_arch: other.boot_arch.take(),
            serial: other.serial.take(),
            heard_on: other.heard_on.take(),
            ..Node::default()
        });
        (other.booted, other.message, other.failure) = (false, None, None);
    }

    /// Adds what was known of the same machine by its ports, but for what leads to a row.
    fn absorb(&mut self, old: Node) {
        self.address = self.address.or(old.address);
        if old.starts.in_vain() > self.starts.in_vain() {
            self.starts = old.starts;
        }
        self.port = self.port.take().or(old.port);
        self.refused = self.refused.take().or(old.refused);
        self.heard_on = self.heard_on.or(old.heard_on);
        self.bytes_sent += old.bytes_sent;
        self.climb.join(old.climb);
        self.firmware = self.firmware.or(old.firmware);
        self.boot_arch = self.boot_arch.take().or(old.boot_arch);
        self.serial = self.serial.take().or(old.serial);
        self.netboots |= old.netboots;
        self.booted |= old.booted;
        for (mine, theirs) in self.reached.iter_mut().zip(old.reached) {
            *mine = match (*mine, theirs) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

/// What a machine tells of itself, with what its name and its ports add where it tells nothing else, in the bounds of a row.
fn completed(mut told: Evidence, name: &NodeId, macs: &[MacAddr]) -> Evidence {
    told.uuid = told
        .uuid
        .or_else(|| is_uuid(name.as_str()).then(|| name.as_str().to_owned()));
    if told.is_bare() {
        told.ports.extend(macs.iter().copied().filter(|mac| !mac.is_unusable()));
    }
    for macs in [&mut told.ports, &mut told.bmc] {
        if let Some(first_beyond) = macs.iter().nth(MAX_LEADS_OF_ONE).copied() {
            macs.split_off(&first_beyond);
        }
    }
    told
}

impl Ladder {
    /// A DHCP packet of the machine was heard. `firmware` marks one of its boot ROM: after an agent ran, that is the
    /// start of a new climb.
    pub fn heard(&mut self, mac: MacAddr, firmware: bool, now: f64) {
        let Some(node) = self.by_mac(mac) else { return };
        if firmware && node.stage() >= Stage::Agent {
            node.reached = Default::default();
            node.message = None;
            node.failure = None;
            node.bytes_sent = 0;
        }
        node.netboots |= firmware;
        node.booted |= firmware;
        node.heard_on = Some(mac);
        node.reach(Stage::Seen, now);
    }

    /// A machine for which there is no system asks for something to boot: what it is, `instead` of a MAC too. True the first time.
    pub fn stranger(&mut self, mac: MacAddr, instead: Option<&str>, reason: &str, now: f64) -> bool {
        self.heard(mac, false, now);
        self.named(mac, instead);
        let Some(node) = self.by_mac(mac) else { return false };
        let first = node.failure.as_deref() != Some(reason);
        node.failure = Some(reason.to_owned());
        first
    }

    /// The port has no MAC; what it has instead.
    pub fn named(&mut self, mac: MacAddr, instead: Option<&str>) {
        if let (Some(instead), Some(node)) = (instead, self.by_mac(mac)) {
            node.port = Some(instead.to_owned());
        }
    }

    /// The port boots from the network, whatever it runs now.
    pub fn netboots(&mut self, mac: MacAddr) {
        if let Some(node) = self.by_mac(mac) {
            node.netboots = true;
        }
    }

    /// True for a port of a machine that booted from the network in this run.
    pub fn netbooted(&self, mac: MacAddr) -> bool {
        self.by_mac.get(&mac).is_some_and(|index| self.nodes[*index].netboots)
    }

    /// The machine took an address.
    pub fn addressed(&mut self, mac: MacAddr, address: impl Into<IpAddr>, now: f64) {
        let address = address.into();
        let Some(node) = self.by_mac(mac) else { return };
        node.reach(Stage::Addressed, now);
        node.address = Some(address);
        if let Some(index) = self.by_mac.get(&mac) {
            self.lead_address(address, *index);
        }
    }

    /// The machine has fetched something that puts it on `stage`.
    pub fn fetched(&mut self, address: impl Into<IpAddr>, stage: Stage, now: f64) {
        if let Some(node) = self.at(address.into()) {
            node.reach(stage, now);
            node.booted |= stage < Stage::Agent;
            if stage >= Stage::Kernel {
                node.climb.started();
                node.starts.kernel_sent();
            }
        }
    }

    /// Firmware of a port asks what to boot; `held` says which programs are at hand. News in the answer are told the first
    /// time only, and stand in the machine's row until it is further.
    pub fn loader(&mut self, mac: MacAddr, arch: Arch, held: impl Fn(&str) -> bool, now: f64) -> Pick {
        let Some(node) = self.by_mac(mac) else {
            return Climb::default().choose(arch, held, now);
        };
        node.firmware = Some(arch);
        let mut pick = node.climb.choose(arch, held, now);
        if let Err(reason) = pick.loader
            && node.failure.as_deref() != Some(reason)
        {
            node.failure = Some(reason.to_owned());
            pick.news = Some(reason.to_owned());
        }
        if let (Ok(_), Some(news)) = (&pick.loader, &pick.news) {
            node.message = Some(news.clone());
        }
        pick
    }

    /// A network boot program went to the machine whole.
    pub fn loader_sent(&mut self, address: IpAddr, name: &str, now: f64) {
        if let Some(node) = self.at(address) {
            node.reach(Stage::Loader, now);
            node.booted = true;
            node.climb.sent(name, now);
        }
    }

    /// The machine's boot program asked for a file of its own.
    pub fn loader_runs(&mut self, address: IpAddr) {
        if let Some(node) = self.at(address) {
            node.climb.runs();
        }
    }

    /// The machine's boot program asks for its script and says what it runs on. Where the address came from another server,
    /// this is the first that is heard of it. Returns what a person is to be told, the first time.
    pub fn script(&mut self, address: IpAddr, said: &Said, now: f64) -> Option<String> {
        if let Some(mac) = said.mac
            && let Some(node) = self.by_mac(mac)
        {
            node.address = Some(address);
            if let Some(index) = self.by_mac.get(&mac) {
                self.lead_address(address, *index);
            }
        }
        let node = self.at(address)?;
        node.reach(Stage::Loader, now);
        node.booted = true;
        node.climb.started();
        let first = node.starts.script(now);
        let short = |text: &Option<String>| text.as_ref().map(|text| text.chars().take(MAX_SAID_CHARS).collect());
        node.boot_arch = short(&said.arch).or(node.boot_arch.take());
        node.serial = short(&said.serial).or(node.serial.take());
        let loops = node.starts.loops().then(|| node.starts.cause(said.needed_mib));
        let news = loops.clone().filter(|_| first);
        node.failure = said.trouble.clone().or(loops);
        if node.climb.current().is_some() {
            node.message = None;
        }
        news
    }

    /// The initrd goes to the machine.
    pub fn initrd(&mut self, address: IpAddr) {
        if let Some(node) = self.at(address) {
            node.starts.initrd_sent();
        }
    }

    /// Why the machine's boot program does not get the kernel once more.
    pub fn stuck(&self, address: IpAddr) -> Option<String> {
        self.nodes[*self.by_address.get(&address)?].starts.stuck()
    }

    /// How long the machine is to wait before it tries again, in seconds.
    pub fn pause_seconds(&self, address: IpAddr) -> u64 {
        let index = self.by_address.get(&address);
        index.map_or(0, |index| self.nodes[*index].starts.pause_seconds())
    }

    /// The machine's boot program said how much memory it has, in MiB.
    pub fn memory(&mut self, address: IpAddr, mib: u64) {
        if let Some(node) = self.at(address) {
            node.starts.memory_mib = Some(mib);
        }
    }

    /// The machine is not given what it asked for. True where that was not so before.
    pub fn refused(&mut self, address: IpAddr, reason: &str) -> bool {
        let Some(node) = self.at(address) else { return false };
        if node.failure.as_deref() == Some(reason) || node.refused.as_deref() == Some(reason) {
            node.failure = Some(reason.to_owned());
            return false;
        }
        node.failure = Some(reason.to_owned());
        node.refused = Some(reason.to_owned());
        true
    }

    /// What the machine with this port is called on screens.
    pub fn name_of_port(&self, mac: MacAddr) -> String {
        let node = self.by_mac.get(&mac).map(|index| &self.nodes[*index]);
        node.and_then(|node| node.port.clone())
            .unwrap_or_else(|| mac.to_string())
    }

    /// What the machine at this address is called on screens.
    pub fn name_of(&self, address: IpAddr) -> String {
        let node = self.by_address.get(&address).map(|index| &self.nodes[*index]);
        match node.map(|node| (&node.port, node.macs.first())) {
            Some((Some(port), _)) => port.clone(),
            Some((None, Some(mac))) => mac.to_string(),
            _ => address.to_string(),
        }
    }

    /// Bytes of bodies went to the machine.
    pub fn sent(&mut self, address: impl Into<IpAddr>, bytes: u64) {
        if let Some(node) = self.at(address.into()) {
            node.bytes_sent += bytes;
        }
    }

    /// The agent spoke. Rows of the same machine that were known by its ports so far become one.
    pub fn report(&mut self, id: &NodeId, from: impl Into<IpAddr>, report: &StageReport, now: f64) {
        let told = report.evidence.clone().unwrap_or_default().checked();
        let Some(index) = self.join(id, Some(from.into()), &report.macs, told) else {
            return;
        };
        let node = &mut self.nodes[index];
        node.reach(report.stage, now);
        // With that word an agent begins, whether its firmware was heard or not.
        node.booted |= report.stage == Stage::Agent;
        node.starts.spoke();
        if report.stage < Stage::Off {
            // It speaks again after it asked for its power to be cut: it was not.
            node.reached[Stage::Off as usize] = None;
        }
        if let Some(message) = &report.message {
            node.message = Some(message.chars().take(MAX_MESSAGE_CHARS).collect());
        }
        node.failure = report
            .failure
            .as_ref()
            .map(|text| text.chars().take(MAX_MESSAGE_CHARS).collect());
    }

    /// The machine's upload is acknowledged and kept as `id`, in this run or, without an address, in an earlier one.
    /// `evidence` is what it tells of the machine.
    pub fn stored(
        &mut self,
        id: &NodeId,
        from: Option<IpAddr>,
        sha256: String,
        summary: Option<String>,
        evidence: Evidence,
        now: f64,
    ) {
        let Some(index) = self.join(id, from, &[], evidence) else {
            return;
        };
        let node = &mut self.nodes[index];
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
        node.summary = summary;
    }

    /// An upload is known that is kept as `id`.
    pub fn is_stored(&self, id: &NodeId) -> bool {
        self.row_stored_as(id).is_some()
    }

    fn row_stored_as(&self, id: &NodeId) -> Option<usize> {
        let rows = self.by_name.get(&id.base())?;
        rows.iter()
            .copied()
            .find(|index| self.nodes[*index].stored_as.as_ref() == Some(id))
    }

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
            let node = &self.nodes[*index];
            let macs = node.macs.union(&node.evidence.ports).copied();
            Some(Claimant {
                id: self.shown_name(*index)?,
                machine: node.summary.clone(),
                macs: macs.take(clash::MAX_ADDRESSES).collect(),
            })
        });
        Clash::of_many(name.clone(), rows.len(), machines)
    }

    /// A machine that asks from this address to keep an upload as `id` is in the table by a row of its own. What goes by the name
    /// alone is no proof of that: under one name there can be any number of machines.
    pub fn awaits(&self, id: &NodeId, from: IpAddr) -> bool {
        let name = id.base();
        let is_named = |index: &usize| self.nodes[*index].name.as_ref() == Some(&name);
        let awaited = |index: &usize| self.nodes[*index].stored_as.is_none();
        self.is_stored(id)
            || self.by_address.get(&from).is_some_and(is_named)
            || self.by_name.get(&name).is_some_and(|rows| rows.iter().any(awaited))
    }

    /// A machine that says this of itself has a row by that name.
    pub fn knows(&self, id: &NodeId, from: IpAddr, report: &StageReport) -> bool {
        let name = id.base();
        let told = report.evidence.clone().unwrap_or_default().checked();
        let told = completed(told, &name, &report.macs);
        let found = self.find(id, Some(from), &report.macs, &told);
        found.is_some_and(|index| self.nodes[index].name.as_ref() == Some(&name))
    }

    /// The table, in the order in which machines were first heard.
    pub fn table(&self) -> Vec<NodeStatus> {
        (0..self.nodes.len()).filter_map(|index| self.status(index)).collect()
    }

    /// Some rows of the table, and where the next ones begin.
    pub fn rows(&self, from: usize, most: usize) -> (Vec<NodeStatus>, Option<usize>) {
        let end = self.nodes.len().min(from.saturating_add(most));
        let next = (end < self.nodes.len()).then_some(end);
        ((from..end).filter_map(|index| self.status(index)).collect(), next)
    }

    /// The rows to look at first, in that order: machines on their way before those that are done.
    pub fn first(&self, most: usize) -> Vec<NodeStatus> {
        let mut order: Vec<((bool, Stage), usize)> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.is_row())
            .map(|(index, node)| (urgency(node.stored_sha256.is_some(), node.stage()), index))
            .collect();
        order.sort_unstable();
        order.truncate(most);
        order.iter().filter_map(|(_, index)| self.status(*index)).collect()
    }

    /// Machines by stage.
    pub fn stages(&self) -> Vec<(Stage, u64)> {
        let mut counts = [0; Stage::ALL.len()];
        for node in self.nodes.iter().filter(|node| node.is_row()) {
            counts[node.stage() as usize] += 1;
        }
        Stage::ALL
            .into_iter()
            .map(|stage| (stage, counts[stage as usize]))
            .collect()
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
        let alive = self.nodes.iter().filter(|node| node.is_row());
        let (mut seen, mut stored) = (0, 0);
        for node in alive {
            seen += 1;
            stored += usize::from(node.stored_sha256.is_some());
        }
        (seen, stored)
    }

    fn by_mac(&mut self, mac: MacAddr) -> Option<&mut Node> {
        let index = match self.by_mac.get(&mac) {
            Some(index) => *index,
            None => {
                if self.by_mac.len() >= MAX_HEARD {
                    self.unlisted += 1;
                    return None;
                }
                let index = self.add()?;
                self.by_mac.insert(mac, index);
                self.nodes[index].leads += 1;
                self.nodes[index].macs.insert(mac);
                index
            }
        };
        self.nodes.get_mut(index)
    }

    fn at(&mut self, address: IpAddr) -> Option<&mut Node> {
        let index = *self.by_address.get(&address)?;
        self.nodes.get_mut(index)
    }

    /// Makes the port lead to this row and to no other; false where the row has as many already, or there are too many.
    fn lead_mac(&mut self, mac: MacAddr, index: usize) -> bool {
        let former = self.by_mac.get(&mac).copied();
        if former == Some(index) {
            return true;
        }
        let is_full = former.is_none() && self.by_mac.len() >= MAX_LEADS;
        if is_full || self.nodes[index].leads >= MAX_LEADS_OF_ONE {
            self.beyond += 1;
            return false;
        }
        self.drop_mac(mac);
        self.by_mac.insert(mac, index);
        self.nodes[index].leads += 1;
        true
    }

    /// The port leads nowhere any more.
    fn drop_mac(&mut self, mac: MacAddr) {
        if let Some(former) = self.by_mac.remove(&mac) {
            self.nodes[former].leads -= 1;
        }
    }

    /// Makes the address lead to this row and to no other; false as with a port.
    fn lead_address(&mut self, address: IpAddr, index: usize) -> bool {
        let former = self.by_address.get(&address).copied();
        if former == Some(index) {
            return true;
        }
        let is_full = former.is_none() && self.by_address.len() >= MAX_LEADS;
        if is_full || self.nodes[index].addresses.len() >= MAX_LEADS_OF_ONE {
            self.beyond += 1;
            return false;
        }
        if let Some(former) = former {
            self.nodes[former].addresses.remove(&address);
        }
        self.nodes[index].addresses.insert(address);
        self.by_address.insert(address, index);
        true
    }

    fn add(&mut self) -> Option<usize> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.nodes.len() >= MAX_NODES {
            self.unlisted += 1;
            return None;
        }
        self.nodes.push(Node::default());
        Some(self.nodes.len() - 1)
    }

    /// Row of a machine that names itself, where there is one: the one it had, the row of its address, or of a port. Another
    /// machine of that name has another row.
    fn find(&self, id: &NodeId, from: Option<IpAddr>, macs: &[MacAddr], told: &Evidence) -> Option<usize> {
        let name = id.base();
        let of_name = self.by_name.get(&name).map(Vec::as_slice).unwrap_or_default();
        let may_be = |index: &usize| self.may_be(*index, &name, told);
        let known = || {
            let is_same = |index: &usize| same(told, &self.nodes[*index].evidence) == Verdict::Same;
            of_name.iter().copied().find(is_same)
        };
        let by_address = || self.at_address(from?, id, told);
        let row_of = |mac: &MacAddr| self.by_mac.get(mac).copied();
        let by_port = || macs.iter().chain(&told.ports).filter_map(row_of).find(may_be);
        // The only thing known is the name.
        let by_name = || {
            let nothing_else = |index: &usize| {
                let node = &self.nodes[*index];
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

    /// Nothing that is known speaks against this row. An address or a port can pass from one machine to another.
    fn may_be(&self, index: usize, name: &NodeId, told: &Evidence) -> bool {
        let node = &self.nodes[index];
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
            let node = &self.nodes[*index];
            let free = node.stored_as.as_ref().is_none_or(|kept| kept == id);
            let is_named = node.name.as_ref() == Some(&name);
            is_named && free && !matches!(same(told, &node.evidence), Verdict::Other(_))
        };
        let index = self.by_address.get(&from).copied();
        index.filter(|index| self.may_be(*index, &name, told) || nothing_against(index))
    }

    /// Row of a machine that names itself, a new one where it had none. It takes over what was known by its ports and its address.
    fn join(&mut self, id: &NodeId, from: Option<IpAddr>, macs: &[MacAddr], told: Evidence) -> Option<usize> {
        let name = id.base();
        let told = completed(told, &name, macs);
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
        let node = &mut self.nodes[index];
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
        if from == to {
            return;
        }
        if !self.nodes[from].is_row() {
            // It became part of another row just now.
            return;
        }
        if self.nodes[from].name.is_none() {
            for mac in self.nodes[from].all_macs() {
                // Others have passed to other machines since.
                if self.by_mac.get(&mac) != Some(&from) {
                    continue;
                }
                match self.lead_mac(mac, to) {
                    true => _ = self.nodes[to].macs.insert(mac),
                    false => self.drop_mac(mac),
                }
            }
            // It may have one address of each family.
            for address in self.nodes[from].addresses.clone() {
                if !self.lead_address(address, to) {
                    self.by_address.remove(&address);
                }
            }
            let old = std::mem::take(&mut self.nodes[from]);
            self.free.push(from);
            self.nodes[to].absorb(old);
            return;
        }
        let mut old = std::mem::take(&mut self.nodes[from]);
        let mut moved = None;
        if from_here && old.heard_on.is_some_and(|mac| ports.contains(&mac)) {
            // An address that has passed to a third machine since is neither's.
            moved = old
                .address
                .filter(|address| self.by_address.get(address) == Some(&from));
            let kept = if moved.is_none() { old.address.take() } else { None };
            self.nodes[to].take_climb(&mut old);
            old.address = kept;
        }
        if from_here {
            old.macs.retain(|mac| !ports.contains(mac));
        }
        self.nodes[from] = old;
        if let Some(address) = moved {
            self.lead_address(address, to);
        }
    }

    /// The name in tables: as its upload is kept, else as it calls itself, marked where that is another's.
    fn shown_name(&self, index: usize) -> Option<NodeId> {
        let node = &self.nodes[index];
        if let Some(id) = &node.stored_as {
            return Some(id.clone());
        }
        let Some(name) = &node.name else {
            return node.macs.first().map(|mac| NodeId::from_mac(*mac));
        };
        let is_taken = |other: &usize| match &self.nodes[*other].stored_as {
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

    fn status(&self, index: usize) -> Option<NodeStatus> {
        let node = &self.nodes[index];
        let id = self.shown_name(index)?;
        let of_name = node.name.as_ref().and_then(|name| self.by_name.get(name));
        let stages = Stage::ALL
            .into_iter()
            .filter_map(|stage| node.reached[stage as usize].map(|at_seconds| StageTime { stage, at_seconds }))
            .collect();
        Some(NodeStatus {
            id,
            same_name: of_name.map_or(0, |rows| rows.len().saturating_sub(1)),
            macs: node.all_macs().into_iter().collect(),
            address: node.address,
            stage: node.stage(),
            stages,
            message: node.message.clone(),
            failure: node.failure.clone(),
            bytes_sent: node.bytes_sent,
            stored_sha256: node.stored_sha256.clone(),
            summary: node.summary.clone(),
            loader: node.climb.current().map(str::to_owned),
            failed_loaders: node.climb.failed().iter().map(|name| (*name).to_owned()).collect(),
            firmware: node.firmware,
            boot_arch: node.boot_arch.clone(),
            serial: node.serial.clone(),
            starts_in_vain: node.starts.in_vain(),
            port: node.port.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 219, 60));
    const ADDRESS_6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x60));

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn id(last: u8) -> NodeId {
        format!("00000000-0000-0000-0000-0000000000{last:02x}").parse().unwrap()
    }

    fn at(stage: Stage, macs: &[MacAddr]) -> StageReport {
        StageReport {
            stage,
            macs: macs.to_vec(),
            evidence: None,
            message: None,
            failure: None,
        }
    }

    fn climb(ladder: &mut Ladder) {
        ladder.heard(mac(1), true, 1.0);
        ladder.addressed(mac(1), ADDRESS, 2.0);
        ladder.fetched(ADDRESS, Stage::Loader, 3.0);
        ladder.fetched(ADDRESS, Stage::Kernel, 4.0);
        ladder.sent(ADDRESS, 70_000_000);
    }

    #[test]
    fn one_machine_is_one_row_from_rom_to_off() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        assert_eq!(ladder.table()[0].id.as_str(), "mac-020000000001");
        // A second port of the same machine was heard on its own before the agent named both.
        ladder.heard(mac(2), false, 4.5);
        assert_eq!(ladder.counts(), (2, 0));
        ladder.report(&id(9), ADDRESS, &at(Stage::Agent, &[mac(1), mac(2)]), 5.0);
        ladder.stored(
            &id(9),
            Some(ADDRESS),
            "ab".into(),
            Some("QEMU".into()),
            Evidence::default(),
            6.0,
        );
        ladder.report(&id(9), ADDRESS, &at(Stage::Off, &[]), 7.0);
        let table = ladder.table();
        assert_eq!(table.len(), 1);
        assert_eq!(table[0].id, id(9));
        assert_eq!(table[0].macs, [mac(1), mac(2)]);
        assert_eq!(table[0].stage, Stage::Off);
        assert_eq!(table[0].bytes_sent, 70_000_000);
        let times: Vec<f64> = table[0].stages.iter().map(|time| time.at_seconds).collect();
        assert_eq!(times, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(ladder.counts(), (1, 1));
        assert!(
            ladder.netbooted(mac(2)) && !ladder.netbooted(mac(3)),
            "the machine did, over its other port"
        );
    }

    #[test]
    fn both_addresses_of_a_machine_lead_to_its_row() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        ladder.heard(mac(2), true, 1.0);
        ladder.addressed(mac(2), ADDRESS_6, 2.0);
        ladder.report(&id(9), ADDRESS, &at(Stage::Agent, &[mac(1), mac(2)]), 5.0);
        ladder.sent(ADDRESS_6, 5);
        ladder.stored(&id(9), Some(ADDRESS_6), "ab".into(), None, Evidence::default(), 6.0);
        let table = ladder.table();
        assert_eq!(table.len(), 1);
        assert_eq!((table[0].stage, table[0].bytes_sent), (Stage::Stored, 70_000_005));
    }

    #[test]
    fn a_machine_that_boots_again_climbs_again_and_stays_stored() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        ladder.report(&id(9), ADDRESS, &at(Stage::Agent, &[mac(1)]), 5.0);
        ladder.stored(&id(9), Some(ADDRESS), "ab".into(), None, Evidence::default(), 6.0);
        ladder.heard(mac(1), false, 50.0);
        assert_eq!(
            ladder.table()[0].stage,
            Stage::Stored,
            "its system asked for an address, that is no new boot"
        );
        ladder.heard(mac(1), true, 60.0);
        let row = &ladder.table()[0];
        assert_eq!((row.stage, row.bytes_sent), (Stage::Seen, 0));
        assert_eq!(row.stored_sha256.as_deref(), Some("ab"));
    }

    #[test]
    fn a_machine_that_speaks_after_its_power_off_is_not_off() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        ladder.report(&id(9), ADDRESS, &at(Stage::Off, &[mac(1)]), 5.0);
        assert_eq!(ladder.table()[0].stage, Stage::Off);
        ladder.report(&id(9), ADDRESS, &at(Stage::Collected, &[]), 40.0);
        assert_eq!(ladder.table()[0].stage, Stage::Collected);
    }

    #[test]
    fn an_address_that_changed_hands_does_not_join_two_machines() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        ladder.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), 5.0);
        ladder.addressed(mac(7), ADDRESS, 100.0);
        ladder.report(&id(2), ADDRESS, &at(Stage::Agent, &[mac(7)]), 101.0);
        let ids: Vec<NodeId> = ladder.table().into_iter().map(|row| row.id).collect();
        assert_eq!(ids, [id(1), id(2)]);
    }

    #[test]
    fn what_an_earlier_run_stored_is_listed_without_a_climb() {
        let mut ladder = Ladder::default();
        ladder.stored(&id(3), None, "cd".into(), Some("Dell".into()), Evidence::default(), 0.0);
        assert_eq!(ladder.counts(), (1, 1));
        assert!(ladder.table()[0].stages.is_empty());
        assert!(ladder.is_stored(&id(3)) && !ladder.is_stored(&id(4)));
    }

    #[test]
    fn a_machine_whose_loader_hangs_gets_another_and_its_row_says_so() {
        let mut ladder = Ladder::default();
        let held = |_: &str| true;
        ladder.heard(mac(1), true, 1.0);
        assert_eq!(
            ladder.loader(mac(1), Arch::UefiX64, held, 1.0).loader,
            Ok("snponly.efi")
        );
        ladder.addressed(mac(1), ADDRESS, 2.0);
        ladder.loader_sent(ADDRESS, "snponly.efi", 3.0);
        ladder.loader_runs(ADDRESS);
        let pick = ladder.loader(mac(1), Arch::UefiX64, held, 60.0);
        assert_eq!(pick.loader, Ok("ipxe.efi"));
        let row = &ladder.table()[0];
        assert_eq!((row.stage, row.loader.as_deref()), (Stage::Loader, Some("ipxe.efi")));
        assert_eq!(row.failed_loaders, ["snponly.efi"]);
        assert!(row.message.as_ref().unwrap().contains("did not start"));
        ladder.loader_sent(ADDRESS, "ipxe.efi", 61.0);
        let said = Said {
            mac: Some(mac(1)),
            arch: Some("x86_64".into()),
            serial: Some("S".repeat(500)),
            ..Said::default()
        };
        ladder.script(ADDRESS, &said, 62.0);
        assert_eq!(ladder.loader(mac(1), Arch::UefiX64, held, 99.0).loader, Ok("ipxe.efi"));
        let row = &ladder.table()[0];
        assert_eq!(
            (row.message.as_deref(), row.boot_arch.as_deref()),
            (None, Some("x86_64"))
        );
        assert_eq!(row.serial.as_ref().map(String::len), Some(MAX_SAID_CHARS));
    }

    #[test]
    fn firmware_that_cannot_be_served_is_news_once() {
        let mut ladder = Ladder::default();
        ladder.heard(mac(1), true, 1.0);
        let first = ladder.loader(mac(1), Arch::UefiX86, |_| true, 1.0);
        assert!(first.loader.is_err() && first.news.unwrap().contains("32-bit"));
        assert_eq!(ladder.loader(mac(1), Arch::UefiX86, |_| true, 5.0).news, None);
        let row = &ladder.table()[0];
        assert!(row.failure.as_ref().unwrap().contains("32-bit"));
        assert_eq!(row.firmware, Some(Arch::UefiX86));
    }

    #[test]
    fn a_machine_with_an_address_of_another_server_is_known_by_its_script() {
        let mut ladder = Ladder::default();
        let elsewhere = IpAddr::from([10, 0, 0, 9]);
        ladder.heard(mac(1), true, 1.0);
        let said = Said {
            mac: Some(mac(1)),
            ..Said::default()
        };
        ladder.script(elsewhere, &said, 2.0);
        ladder.fetched(elsewhere, Stage::Kernel, 3.0);
        let row = &ladder.table()[0];
        assert_eq!((row.stage, row.address), (Stage::Kernel, Some(elsewhere)));
    }

    const SHARED: &str = "93d4e5a1-7f46-11e5-bf8b-080027123456";

    /// A board whose firmware has one UUID for all of them.
    fn board(last: u8) -> Evidence {
        Evidence {
            system_serial: Some(format!("BOARD-{last}")),
            ports: [mac(last)].into(),
            ..Evidence::default()
        }
    }

    fn speaks(ladder: &mut Ladder, last: u8, stage: Stage, now: f64) {
        let report = StageReport {
            evidence: Some(board(last)),
            ..at(stage, &[mac(last)])
        };
        ladder.report(&SHARED.parse().unwrap(), IpAddr::from([10, 0, 0, last]), &report, now);
    }

    #[test]
    fn two_machines_of_one_name_are_two_rows() {
        let shared: NodeId = SHARED.parse().unwrap();
        let second = shared.told_apart_by(mac(2).0);
        let mut ladder = Ladder::default();
        for last in [1, 2] {
            ladder.heard(mac(last), true, 1.0);
            ladder.addressed(mac(last), IpAddr::from([10, 0, 0, last]), 2.0);
            ladder.sent(IpAddr::from([10, 0, 0, last]), u64::from(last));
            speaks(&mut ladder, last, Stage::Agent, 3.0);
        }
        let rows = |ladder: &Ladder| -> Vec<(NodeId, Stage, u64, usize)> {
            let table = ladder.table().into_iter();
            table
                .map(|row| (row.id, row.stage, row.bytes_sent, row.same_name))
                .collect()
        };
        let both = [
            (shared.clone(), Stage::Agent, 1, 1),
            (second.clone(), Stage::Agent, 2, 1),
        ];
        assert_eq!(rows(&ladder), both);
        ladder.stored(
            &shared,
            Some([10, 0, 0, 1].into()),
            "a".into(),
            Some("A".into()),
            board(1),
            4.0,
        );
        assert_eq!(rows(&ladder)[1], both[1], "the other one is not stored");
        ladder.stored(
            &second,
            Some([10, 0, 0, 2].into()),
            "b".into(),
            Some("B".into()),
            board(2),
            5.0,
        );
        speaks(&mut ladder, 2, Stage::Off, 6.0);
        // It asks by the name it was given from then on.
        ladder.report(&second, IpAddr::from([10, 0, 0, 2]), &at(Stage::Off, &[mac(2)]), 7.0);
        assert_eq!(
            rows(&ladder),
            [
                (shared.clone(), Stage::Stored, 1, 1),
                (second.clone(), Stage::Off, 2, 1)
            ]
        );
        let (clashes, more) = ladder.clashes();
        assert_eq!((clashes.len(), more), (1, 0));
        assert_eq!(Some(&clashes[0]), ladder.clash(&second).as_ref());
        let named: Vec<_> = clashes[0]
            .machines
            .iter()
            .map(|machine| (&machine.id, machine.machine.as_deref()))
            .collect();
        assert_eq!(named, [(&shared, Some("A")), (&second, Some("B"))]);
        assert_eq!(clashes[0].machines[1].macs, [mac(2)]);
        assert!(ladder.is_stored(&shared) && ladder.is_stored(&second));
        assert_eq!(ladder.counts(), (2, 2));
    }

    /// The stick decides the names, whoever spoke first.
    #[test]
    fn a_row_goes_by_the_name_its_upload_is_kept_under() {
        let shared: NodeId = SHARED.parse().unwrap();
        let mut ladder = Ladder::default();
        speaks(&mut ladder, 1, Stage::Agent, 1.0);
        speaks(&mut ladder, 2, Stage::Agent, 1.0);
        ladder.stored(&shared, Some([10, 0, 0, 2].into()), "b".into(), None, board(2), 2.0);
        let ids: Vec<NodeId> = ladder.table().into_iter().map(|row| row.id).collect();
        assert_eq!(ids, [shared.told_apart_by(mac(1).0), shared.clone()]);
        // And in the next run, where the other one speaks first and its own name is unknown.
        let mut ladder = Ladder::default();
        ladder.stored(&shared, None, "b".into(), None, board(2), 0.0);
        speaks(&mut ladder, 1, Stage::Agent, 1.0);
        let rows: Vec<(NodeId, Stage)> = ladder.table().into_iter().map(|row| (row.id, row.stage)).collect();
        assert_eq!(
            rows,
            [
                (shared.clone(), Stage::Stored),
                (shared.told_apart_by(mac(1).0), Stage::Agent)
            ]
        );
    }

    /// A loader that hung on one board says nothing about the other.
    #[test]
    fn what_is_known_of_one_machine_is_not_applied_to_another_of_its_name() {
        let mut ladder = Ladder::default();
        let held = |_: &str| true;
        ladder.heard(mac(1), true, 1.0);
        ladder.addressed(mac(1), ADDRESS, 1.0);
        let first = ladder.loader(mac(1), Arch::UefiX64, held, 1.0).loader;
        ladder.loader_sent(ADDRESS, "snponly.efi", 3.0);
        ladder.loader_runs(ADDRESS);
        assert_ne!(ladder.loader(mac(1), Arch::UefiX64, held, 60.0).loader, first);
        speaks(&mut ladder, 1, Stage::Agent, 61.0);
        speaks(&mut ladder, 2, Stage::Agent, 62.0);
        assert_eq!(ladder.loader(mac(2), Arch::UefiX64, held, 70.0).loader, first);
        assert!(ladder.table()[1].failed_loaders.is_empty());
    }

    /// An address of another server: nothing but the machine's own words led to it.
    #[test]
    fn what_is_quick_is_its_machines_by_where_it_comes_from() {
        let shared: NodeId = SHARED.parse().unwrap();
        let quick = |boot: &str| Evidence {
            boot_id: Some(boot.to_owned()),
            ..Evidence::default()
        };
        let mut ladder = Ladder::default();
        speaks(&mut ladder, 1, Stage::Agent, 1.0);
        speaks(&mut ladder, 2, Stage::Agent, 1.0);
        let mark = shared.told_apart_by([7; 6]);
        ladder.stored(&shared, Some([10, 0, 0, 1].into()), "a".into(), None, quick("a"), 2.0);
        ladder.stored(&mark, Some([10, 0, 0, 2].into()), "b".into(), None, quick("b"), 2.0);
        let rows: Vec<_> = ladder
            .table()
            .into_iter()
            .map(|row| (row.id, row.macs, row.stage))
            .collect();
        assert_eq!(
            rows,
            [
                (shared.clone(), vec![mac(1)], Stage::Stored),
                (mark, vec![mac(2)], Stage::Stored)
            ]
        );
        // Behind one address there may be two machines.
        let third = shared.told_apart_by([9; 6]);
        ladder.stored(&third, Some([10, 0, 0, 1].into()), "c".into(), None, quick("c"), 3.0);
        assert_eq!(ladder.counts(), (3, 3));
    }

    #[test]
    fn what_an_earlier_run_stored_is_stored_until_it_boots_again() {
        let mut ladder = Ladder::default();
        ladder.stored(&id(3), None, "cd".into(), None, board(3), 0.0);
        let stage = |ladder: &Ladder| {
            (
                ladder.table().len(),
                ladder.table()[0].id.clone(),
                ladder.table()[0].stage,
            )
        };
        assert_eq!(stage(&ladder), (1, id(3), Stage::Stored));
        // Its system asks for its address again, and for what it always asks.
        ladder.heard(mac(3), false, 1.0);
        ladder.addressed(mac(3), ADDRESS, 1.0);
        assert_eq!(stage(&ladder), (1, id(3), Stage::Stored));
        ladder.heard(mac(3), true, 2.0);
        assert_eq!(stage(&ladder), (1, id(3), Stage::Seen));
        ladder.fetched(ADDRESS, Stage::Kernel, 3.0);
        assert_eq!(stage(&ladder), (1, id(3), Stage::Kernel));
        // What is listed late finds the row of the port, and its boot is not over.
        let mut ladder = Ladder::default();
        ladder.heard(mac(3), true, 1.0);
        ladder.heard(mac(4), false, 1.0);
        ladder.stored(&id(3), None, "cd".into(), None, board(3), 0.0);
        ladder.stored(&id(4), None, "ef".into(), None, board(4), 0.0);
        let rows: Vec<(NodeId, Stage)> = ladder.table().into_iter().map(|row| (row.id, row.stage)).collect();
        assert_eq!(rows, [(id(3), Stage::Seen), (id(4), Stage::Stored)]);
        assert_eq!(ladder.counts(), (2, 2));
    }

    /// An adapter that boots one machine after another.
    #[test]
    fn a_port_that_moves_takes_its_boot_along_and_no_row() {
        let mut ladder = Ladder::default();
        climb(&mut ladder);
        ladder.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), 5.0);
        ladder.stored(&id(1), Some(ADDRESS), "ab".into(), None, Evidence::default(), 6.0);
        ladder.heard(mac(1), true, 50.0);
        ladder.addressed(mac(1), ADDRESS, 51.0);
        ladder.fetched(ADDRESS, Stage::Kernel, 52.0);
        ladder.report(&id(2), ADDRESS, &at(Stage::Agent, &[mac(1), mac(2)]), 53.0);
        let rows: Vec<_> = ladder
            .table()
            .into_iter()
            .map(|row| (row.id, row.stage, row.macs))
            .collect();
        assert_eq!(
            rows,
            [
                // Its inventory still says that it had the port.
                (id(1), Stage::Stored, vec![mac(1)]),
                (id(2), Stage::Agent, vec![mac(1), mac(2)])
            ]
        );
        let kernel = &ladder.table()[1].stages[2];
        assert_eq!((kernel.stage, kernel.at_seconds), (Stage::Kernel, 52.0));
    }

    /// A client that invents ports with every report.
    #[test]
    fn what_is_known_of_one_machine_is_bounded() {
        let mut ladder = Ladder::default();
        for round in 0..12u8 {
            let macs: Vec<MacAddr> = (0..1000u16)
                .map(|n| MacAddr([2, 0, 0, round, (n >> 8) as u8, n as u8]))
                .collect();
            let report = StageReport {
                evidence: Some(Evidence {
                    system_serial: Some("S".into()),
                    ports: macs.iter().copied().chain([mac(1)]).collect(),
                    ..Evidence::default()
                }),
                ..at(Stage::Agent, &macs)
            };
            ladder.report(&id(1), ADDRESS, &report, 1.0);
        }
        assert_eq!(ladder.nodes.len(), 1);
        assert_eq!(ladder.nodes[0].macs.len(), MAX_LEADS_OF_ONE);
        assert!(ladder.nodes[0].evidence.ports.len() <= MAX_LEADS_OF_ONE);
        assert!(ladder.beyond() > 0 && ladder.unlisted() == 0);
        assert_consistent(&ladder);
    }

    /// What leads to a row is counted in it, and leads there only.
    fn assert_consistent(ladder: &Ladder) {
        let mut all_leads = vec![0; ladder.nodes.len()];
        ladder.by_mac.values().for_each(|row| all_leads[*row] += 1);
        for (index, node) in ladder.nodes.iter().enumerate() {
            let leads = all_leads[index];
            assert_eq!(node.leads, leads, "row {index}");
            assert!(
                node.macs.iter().all(|mac| ladder.by_mac.get(mac) == Some(&index)),
                "row {index}"
            );
            let addresses = ladder.by_address.iter().filter(|(_, row)| **row == index);
            let addresses: BTreeSet<IpAddr> = addresses.map(|(address, _)| *address).collect();
            assert_eq!(node.addresses, addresses, "row {index}");
            assert!(leads <= MAX_LEADS_OF_ONE && addresses.len() <= MAX_LEADS_OF_ONE);
        }
    }

    /// A client that says something else of the machine each time.
    #[test]
    fn rows_of_one_name_are_bounded_and_one_that_was_heard_goes_by_its_port() {
        let shared: NodeId = SHARED.parse().unwrap();
        let mut ladder = Ladder::default();
        let says = |ladder: &mut Ladder, number: u16, macs: &[MacAddr], from: IpAddr| {
            let evidence = Evidence {
                system_serial: Some(format!("S{number}")),
                ..Evidence::default()
            };
            let report = StageReport {
                evidence: Some(evidence),
                ..at(Stage::Agent, macs)
            };
            let known = ladder.knows(&shared, from, &report);
            ladder.report(&shared, from, &report, 1.0);
            known
        };
        for number in 0..300 {
            assert!(!says(&mut ladder, number, &[], ADDRESS), "each is a new machine");
        }
        assert!(says(&mut ladder, 7, &[], ADDRESS));
        assert_eq!((ladder.counts().0, ladder.beyond()), (MAX_ROWS_OF_A_NAME, 44));
        assert_eq!(ladder.clash(&shared).map(|clash| clash.count), Some(MAX_ROWS_OF_A_NAME));
        assert_eq!(ladder.unlisted(), 0, "the table is not full");
        // One that booted over this link is listed further on, and is not taken for one that loops.
        let (port, address) = (mac(9), IpAddr::from([10, 0, 0, 9]));
        ladder.heard(port, true, 2.0);
        ladder.addressed(port, address, 2.0);
        ladder.fetched(address, Stage::Kernel, 3.0);
        for _ in 0..3 {
            says(&mut ladder, 9999, &[port], address);
        }
        ladder.stored(
            &shared.told_apart_by(port.0),
            Some(address),
            "ab".into(),
            None,
            board(9),
            5.0,
        );
        let row = ladder.table().into_iter().find(|row| row.macs.contains(&port)).unwrap();
        assert_eq!((row.id, row.stage), (shared.told_apart_by(port.0), Stage::Stored));
        assert_eq!(ladder.by_name[&shared].len(), MAX_ROWS_OF_A_NAME);
        assert_consistent(&ladder);
    }

    #[test]
    fn a_name_that_is_known_makes_no_upload_an_awaited_one() {
        let shared: NodeId = SHARED.parse().unwrap();
        let (own, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut ladder = Ladder::default();
        assert!(!ladder.awaits(&shared, own));
        speaks(&mut ladder, 1, Stage::Agent, 1.0);
        // It may come over another address than its words.
        assert!(ladder.awaits(&shared, own) && ladder.awaits(&shared, other));
        ladder.stored(&shared, Some(own), "a".into(), None, board(1), 2.0);
        assert!(
            ladder.awaits(&shared, own) && ladder.awaits(&shared, other),
            "it is replaced"
        );
        let second = shared.told_apart_by(mac(2).0);
        assert!(!ladder.awaits(&second, other));
        assert!(ladder.awaits(&second, own), "a machine of this name is at this address");
    }

    /// A card that was carried over, from a machine whose address another one has by now.
    #[test]
    fn an_address_that_leads_to_a_third_machine_does_not_come_along() {
        let mut ladder = Ladder::default();
        let elsewhere = IpAddr::from([10, 0, 0, 9]);
        climb(&mut ladder);
        ladder.report(&id(1), ADDRESS, &at(Stage::Agent, &[mac(1)]), 5.0);
        ladder.heard(mac(1), true, 6.0);
        ladder.addressed(mac(7), ADDRESS, 7.0);
        ladder.report(&id(7), ADDRESS, &at(Stage::Agent, &[mac(7)]), 8.0);
        assert_consistent(&ladder);
        ladder.report(&id(2), elsewhere, &at(Stage::Agent, &[mac(1), mac(2)]), 9.0);
        ladder.sent(ADDRESS, 5);
        let rows = |ladder: &Ladder| -> Vec<_> {
            let rows = ladder.table().into_iter();
            rows.map(|row| (row.id, row.address, row.bytes_sent)).collect()
        };
        assert_eq!(
            rows(&ladder),
            [
                (id(1), Some(ADDRESS), 0),
                (id(7), Some(ADDRESS), 5),
                (id(2), Some(elsewhere), 0)
            ]
        );
        assert_consistent(&ladder);
    }

    /// Firmware that fills in nothing but the number of its chassis.
    #[test]
    fn the_same_few_words_over_the_same_port_are_of_the_same_machine() {
        let mut ladder = Ladder::default();
        for number in 1..4 {
            let report = StageReport {
                evidence: Some(Evidence {
                    chassis_serial: Some("C1".into()),
                    ..Evidence::default()
                }),
                ..at(Stage::Agent, &[mac(1)])
            };
            ladder.report(&id(1), IpAddr::from([10, 0, 0, number]), &report, 1.0);
        }
        assert_eq!(ladder.table().len(), 1);
        assert_consistent(&ladder);
    }

    #[test]
    fn an_address_leads_to_one_row_only() {
        let mut ladder = Ladder::default();
        for number in 0..20 {
            ladder.addressed(mac(number), ADDRESS, 1.0);
        }
        assert_eq!(ladder.nodes.iter().map(|node| node.addresses.len()).sum::<usize>(), 1);
        assert_consistent(&ladder);
    }

    #[test]
    fn a_machine_that_never_speaks_after_its_kernel_loops_until_it_does() {
        let mut ladder = Ladder::default();
        let said = Said {
            mac: Some(mac(1)),
            needed_mib: Some(560),
            ..Said::default()
        };
        let mut news = Vec::new();
        for turn in 0..5 {
            let now = f64::from(turn) * 60.0;
            ladder.heard(mac(1), true, now);
            news.extend(ladder.script(ADDRESS, &said, now));
            ladder.fetched(ADDRESS, Stage::Kernel, now);
            ladder.initrd(ADDRESS);
        }
        assert_eq!(news.len(), 1, "{news:?}");
        let row = &ladder.table()[0];
        assert_eq!((row.starts_in_vain, ladder.pause_seconds(ADDRESS)), (4, 120));
        assert!(row.failure.as_ref().unwrap().contains("nothing came back"));
        assert_eq!(ladder.pause_seconds([10, 0, 0, 99].into()), 0, "another machine");
        // Its agent speaks by its own name, and its inventory comes.
        let report = StageReport {
            stage: Stage::Agent,
            macs: vec![mac(1)],
            message: None,
            failure: None,
            evidence: None,
        };
        ladder.report(&NodeId::from_mac(mac(1)), ADDRESS, &report, 400.0);
        assert_eq!(ladder.table()[0].failure, None);
        ladder.stored(
            &NodeId::from_mac(mac(1)),
            Some(ADDRESS),
            "ab".into(),
            None,
            Evidence::default(),
            401.0,
        );
        assert_eq!(ladder.table()[0].starts_in_vain, 0);
        assert_eq!(ladder.script(ADDRESS, &said, 402.0), None);
        assert_eq!(ladder.pause_seconds(ADDRESS), 0);
    }

    #[test]
    fn what_a_machine_is_refused_for_is_news_once() {
        let mut ladder = Ladder::default();
        assert!(!ladder.refused(ADDRESS, "nobody"));
        ladder.addressed(mac(1), ADDRESS, 1.0);
        assert!(ladder.refused(ADDRESS, "too little"));
        let said = Said {
            mac: Some(mac(1)),
            ..Said::default()
        };
        ladder.script(ADDRESS, &said, 2.0);
        assert!(!ladder.refused(ADDRESS, "too little"), "at its next try");
        assert_eq!(ladder.table()[0].failure.as_deref(), Some("too little"));
        assert!(ladder.refused(ADDRESS, "another reason"));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut ladder = Ladder::default();
        for n in 0..MAX_NODES as u32 + 10 {
            let [a, b, c, d] = n.to_be_bytes();
            ladder.heard(MacAddr([2, 0, a, b, c, d]), true, 0.0);
        }
        assert_eq!((ladder.counts().0, ladder.unlisted()), (MAX_NODES, 10));
    }

    #[test]
    fn ports_and_addresses_are_bounded_too() {
        let mut ladder = Ladder::default();
        // A stranger names another three thousand ports each time.
        for round in 0..120u8 {
            let ports: Vec<MacAddr> = (0..3000u16)
                .map(|port| MacAddr([2, 1, 0, round, (port >> 8) as u8, port as u8]))
                .collect();
            ladder.report(&id(1), ADDRESS, &at(Stage::Agent, &ports), 1.0);
        }
        let most = ladder.table().iter().map(|row| row.macs.len()).max();
        assert!(most.unwrap() <= MAX_LEADS_OF_ONE, "{most:?}");
        assert_eq!(ladder.table()[0].macs.len(), MAX_LEADS_OF_ONE);
        assert!(ladder.by_mac.len() <= 120 * MAX_LEADS_OF_ONE);
        ladder.heard(MacAddr([2, 3, 0, 0, 0, 1]), true, 1.0);
        assert_eq!((ladder.counts().0, ladder.unlisted()), (121, 0));
        for number in 0..300u32 {
            let [_, _, a, b] = number.to_be_bytes();
            let ports: Vec<MacAddr> = (0..1000u16)
                .map(|port| MacAddr([2, 2, a, b, (port >> 8) as u8, port as u8]))
                .collect();
            ladder.report(
                &format!("00000000-0000-0000-0000-00000001{a:02x}{b:02x}")
                    .parse()
                    .unwrap(),
                ADDRESS,
                &at(Stage::Agent, &ports),
                1.0,
            );
        }
        assert_eq!(ladder.by_mac.len(), MAX_LEADS);
        assert!(ladder.beyond() > 0);
        // Ports that somebody named leave room for those that are heard.
        let rows = ladder.counts().0;
        ladder.heard(MacAddr([2, 3, 0, 0, 0, 2]), true, 1.0);
        assert_eq!((ladder.counts().0, ladder.unlisted()), (rows + 1, 0));
        // And one asks from another address each time.
        let said = Said {
            mac: Some(mac(1)),
            ..Said::default()
        };
        for number in 0..10_000u16 {
            ladder.script(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number]), &said, 2.0);
        }
        assert!(ladder.by_address.len() <= MAX_LEADS_OF_ONE + 1 && ladder.unlisted() == 0);
        assert_consistent(&ladder);
    }

    #[test]
    fn rows_come_in_pieces_and_the_urgent_ones_first() {
        let mut ladder = Ladder::default();
        for number in 0..10u8 {
            ladder.stored(&id(number), None, "ab".into(), None, Evidence::default(), 0.0);
            let stage = if number < 7 { Stage::Off } else { Stage::Agent };
            ladder.report(&id(number), ADDRESS, &at(stage, &[]), 1.0);
        }
        let (mut rows, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let (some, next) = ladder.rows(start, 3);
            assert!(some.len() <= 3);
            rows.extend(some);
            from = next;
        }
        assert_eq!(rows, ladder.table());
        let first: Vec<NodeId> = ladder.first(4).into_iter().map(|row| row.id).collect();
        assert_eq!(first, [id(7), id(8), id(9), id(0)]);
        let count = |stage| ladder.stages().iter().find(|(of, _)| *of == stage).unwrap().1;
        assert_eq!((count(Stage::Off), count(Stage::Agent), count(Stage::Seen)), (7, 3, 0));
    }

    #[test]
    fn rows_that_became_one_make_room() {
        let mut ladder = Ladder::default();
        // Machines of four ports, heard one by one until the agent names them together.
        for number in 0..100u8 {
            let ports: Vec<MacAddr> = (0..4).map(|port| MacAddr([2, 0, 0, 0, number, port])).collect();
            for port in &ports {
                ladder.heard(*port, true, 1.0);
            }
            let address = IpAddr::from([10, 0, 0, number]);
            ladder.addressed(ports[0], address, 2.0);
            ladder.report(&id(number), address, &at(Stage::Agent, &ports), 3.0);
        }
        assert_eq!(ladder.counts(), (100, 0));
        // A row that is found by its port and by its address becomes free once.
        ladder.stored(&id(200), None, "ab".into(), None, Evidence::default(), 4.0);
        let (port, address) = (MacAddr([2, 0, 0, 1, 0, 0]), IpAddr::from([10, 0, 1, 0]));
        ladder.heard(port, true, 5.0);
        ladder.addressed(port, address, 5.0);
        ladder.report(&id(200), address, &at(Stage::Agent, &[port]), 6.0);
        assert_eq!(ladder.counts(), (101, 1));
        let free: BTreeSet<usize> = ladder.free.iter().copied().collect();
        assert_eq!((free.len(), ladder.nodes.len() - free.len()), (ladder.free.len(), 101));
        assert!(ladder.nodes.len() <= 105, "{} rows", ladder.nodes.len());
        let rows = ladder.table();
        assert!(
            rows.iter()
                .take(100)
                .all(|row| row.macs.len() == 4 && row.address.is_some())
        );
    }
}
