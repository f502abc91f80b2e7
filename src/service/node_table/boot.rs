//! What is heard and seen of a machine while it boots from the network: packets, boot programs, files. Pure; time is seconds
//! since the master started.

use std::net::IpAddr;

use super::leads::NodeTable;
use super::row::Row;
use crate::formats::first_stage::BusId;
use crate::model::{Arch, MacAddr, RunTime, Stage};
use crate::service::boot::fallback::{LoaderFallback, LoaderPick};
use crate::service::boot::request::StartsWith;

/// Names that a boot program gives are kept up to this many characters.
pub(super) const MAX_NAME_CHARS: usize = 64;

/// What a boot program says of its machine when it asks for a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoaderReport {
    pub mac: Option<MacAddr>,
    pub arch: Option<String>,
    pub serial: Option<String>,
    /// Its address is that of this port, and no stranger's: what was given to it before did not come up.
    pub is_its: bool,
    /// Why the script that it gets will not boot it.
    pub trouble: Option<String>,
    /// Memory in MiB that what it is to boot needs, where that is known.
    pub needed_mib: Option<u64>,
    /// Of the files of the first stage for its port, the last one; none where there is no first stage. A menu offers it whatever the
    /// machine is to do, and nobody says which of its entries was taken.
    pub last_file: Option<String>,
}

impl NodeTable {
    /// A DHCP packet of the machine was heard. `firmware` marks one of its boot ROM: after an agent ran, that is the
    /// start of a new boot.
    pub fn heard(&mut self, mac: MacAddr, firmware: bool, now: RunTime) {
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
    pub fn unsupported(&mut self, mac: MacAddr, instead: Option<&str>, reason: &str, now: RunTime) -> bool {
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
        self.by_mac.get(&mac).is_some_and(|index| self.rows[*index].netboots)
    }

    /// The machine took an address.
    pub fn addressed(&mut self, mac: MacAddr, address: impl Into<IpAddr>, now: RunTime) {
        if let Some(node) = self.row_at(mac, address.into()) {
            node.reach(Stage::Addressed, now);
        }
    }

    /// The row of a port, to which its address leads from now on.
    pub(super) fn row_at(&mut self, mac: MacAddr, address: IpAddr) -> Option<&mut Row> {
        self.by_mac(mac)?.address = Some(address);
        let index = *self.by_mac.get(&mac)?;
        self.lead_address(address, index);
        self.rows.get_mut(index)
    }

    /// The machine has fetched something that puts it on `stage`.
    pub fn fetched(&mut self, address: impl Into<IpAddr>, stage: Stage, now: RunTime) {
        if let Some(node) = self.at(address.into()) {
            node.reach(stage, now);
            node.booted |= stage < Stage::Agent;
            if stage >= Stage::Kernel {
                node.fallback.started();
                node.starts.kernel_sent();
            }
        }
    }

    /// Firmware of a port asks what to boot; `held` says which programs are at hand. News in the answer are told the first
    /// time only, and stand in the machine's row until it is further.
    pub fn loader(&mut self, mac: MacAddr, arch: Arch, held: impl Fn(&str) -> bool, now: RunTime) -> LoaderPick {
        let Some(node) = self.by_mac(mac) else {
            return LoaderFallback::default().choose(arch, held, now);
        };
        node.firmware = Some(arch);
        let mut pick = node.fallback.choose(arch, held, now);
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
    pub fn loader_sent(&mut self, address: IpAddr, name: &str, now: RunTime) {
        if let Some(node) = self.at(address) {
            node.reach(Stage::Loader, now);
            node.booted = true;
            node.fallback.sent(name, now);
        }
    }

    /// The machine's boot program asked for a file of its own.
    pub fn loader_runs(&mut self, address: IpAddr) {
        if let Some(node) = self.at(address) {
            node.fallback.runs();
        }
    }

    /// The machine's boot program asks for its script and says what it runs on. Where the address came from another server,
    /// this is the first that is heard of it. Returns what a person is to be told, the first time.
    pub fn script(&mut self, address: IpAddr, said: &LoaderReport, now: RunTime) -> Option<String> {
        if let Some(mac) = said.mac {
            self.row_at(mac, address);
        }
        let index = *self.by_address.get(&address)?;
        // What anybody can say of a port of another machine gives nobody what was known of that.
        let macs = said.mac.filter(|_| said.is_its);
        let first = self.with_starts(index, macs.as_slice(), |starts| starts.script(said.is_its, now));
        let node = &mut self.rows[index];
        node.reach(Stage::Loader, now);
        node.booted = true;
        node.fallback.started();
        node.starts.last_file = said.last_file.clone();
        let short = |text: &Option<String>| text.as_ref().map(|text| text.chars().take(MAX_NAME_CHARS).collect());
        node.boot_arch = short(&said.arch).or(node.boot_arch.take());
        node.serial = short(&said.serial).or(node.serial.take());
        let loops = node.starts.loops().then(|| node.starts.cause(said.needed_mib));
        let news = loops.clone().filter(|_| first);
        node.failure = said.trouble.clone().or(loops);
        if node.fallback.current().is_some() | std::mem::take(&mut node.starts_other) {
            node.message = None;
        }
        news
    }

    /// The initrd went to the machine whole, or this file of the first stage.
    pub fn initrd(&mut self, address: IpAddr, first_stage: Option<&str>) {
        if let Some(node) = self.at(address) {
            node.starts.initrd_sent(first_stage);
        }
    }

    /// Why the machine's boot program does not get the kernel once more.
    pub fn stuck(&self, address: IpAddr) -> Option<String> {
        self.rows[*self.by_address.get(&address)?].starts.stuck()
    }

    /// How long the machine is to wait before it tries again, in seconds.
    pub fn pause_seconds(&self, address: IpAddr) -> u64 {
        let index = self.by_address.get(&address);
        index.map_or(0, |index| self.rows[*index].starts.pause_seconds())
    }

    /// What the machine's next inventory starts with, where the medium has a first stage; with the initrd it takes so many MiB.
    pub fn starts_with(&self, address: IpAddr, initrd_needs_mib: Option<u64>) -> StartsWith {
        let index = self.by_address.get(&address);
        index.map_or(StartsWith::FirstStage, |index| {
            self.rows[*index].starts.starts_with(initrd_needs_mib)
        })
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
        let first = ![&node.failure, &node.refused]
            .map(Option::as_deref)
            .contains(&Some(reason));
        node.failure = Some(reason.to_owned());
        if first {
            node.refused = node.failure.clone();
        }
        first
    }

    /// What this port is, by an upload of its machine.
    pub fn bus_of(&self, mac: MacAddr) -> Option<BusId> {
        let row = &self.rows[*self.by_mac.get(&mac)?];
        row.port_ids.iter().find(|(port, _)| *port == mac).map(|(_, bus)| *bus)
    }

    /// What the machine with this port is called on screens.
    pub fn name_of_port(&self, mac: MacAddr) -> String {
        let node = self.by_mac.get(&mac).map(|index| &self.rows[*index]);
        node.and_then(|node| node.port.clone())
            .unwrap_or_else(|| mac.to_string())
    }

    /// What the machine at this address is called on screens.
    pub fn name_of(&self, address: IpAddr) -> String {
        let node = self.by_address.get(&address).map(|index| &self.rows[*index]);
        let port = |node: &Row| node.port.clone().or_else(|| Some(node.macs.first()?.to_string()));
        node.and_then(port).unwrap_or_else(|| address.to_string())
    }

    /// Bytes of bodies went to the machine.
    pub fn sent(&mut self, address: impl Into<IpAddr>, bytes: u64) {
        if let Some(node) = self.at(address.into()) {
            node.bytes_sent += bytes;
        }
    }
}
