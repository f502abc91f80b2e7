//! What a person is told about addresses, and how often: each thing once, and the rest is in the log. Pure.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;

use crate::model::MacAddr;
use crate::service::rate_limit::Rate;

use super::leases::Counts;
use super::relay;
use super::waiting::STALL_SECONDS;

/// Lines a run says about addresses in use; more are in the log only.
const MAX_IN_USE_SAID: u8 = 20;
/// Networks nobody wrote down of which a person is told; more are in the log only.
pub(super) const MAX_UNKNOWN_SAID: usize = 16;
/// Where in `recon.toml` the pool of a link stands.
pub(super) const LINK_RANGE: &str = "network.lease-range";

/// A line, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    Person(String),
    Log(String),
}

/// What was said in this run.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Networks of which it was said that they have no address left.
    exhausted: HashSet<Ipv4Addr>,
    /// Networks that nobody wrote down.
    unknown: HashSet<Ipv4Addr>,
    /// Relays to which answers do not get.
    unreachable: HashSet<Ipv4Addr>,
    /// Whatever is offered is in use.
    taken: bool,
    stalled: bool,
    in_use: u8,
}

impl Notices {
    /// A machine asks for a network that is not in `recon.toml`. `from`: who sent its question.
    pub(super) fn unknown(&mut self, named: Ipv4Addr, from: Ipv4Addr) -> Notice {
        let [a, b, c, _] = named.octets();
        let line = relay::advice(named, from);
        match self.unknown.len() < MAX_UNKNOWN_SAID && self.unknown.insert(Ipv4Addr::new(a, b, c, 0)) {
            true => Notice::Person(line),
            false => Notice::Log(line),
        }
    }

    /// True the first time that a network has no address left, and again after it had one.
    pub(super) fn is_newly_exhausted(&mut self, network: Ipv4Addr) -> bool {
        self.exhausted.insert(network)
    }

    /// A network has an address for somebody.
    pub(super) fn offered(&mut self, network: Ipv4Addr) {
        self.exhausted.remove(&network);
    }

    /// Each of `count` addresses that were to be offered is used by somebody.
    pub(super) fn taken(&mut self, client: &dyn fmt::Display, count: u32, last: MacAddr) -> Option<Notice> {
        (!std::mem::replace(&mut self.taken, true)).then(|| {
            Notice::Person(format!(
                "no address for {client}: each of {count} that were to be offered is used by somebody, the last by {last}. Look who uses \
                 addresses of {LINK_RANGE}, or move it in recon.toml"
            ))
        })
    }

    pub(super) fn in_use(&mut self, address: Ipv4Addr, mac: MacAddr) -> Notice {
        self.in_use = self.in_use.saturating_add(1);
        let line = format!("{address} is used by {mac}, which has no lease from here: set aside for 10 minutes");
        match self.in_use <= MAX_IN_USE_SAID {
            true => Notice::Person(line),
            false => Notice::Log(line),
        }
    }

    /// The medium does not take leases.
    pub(super) fn stalled(&mut self) -> Option<Notice> {
        (!std::mem::replace(&mut self.stalled, true)).then(|| {
            Notice::Person(format!(
                "LEASES: the stick has not taken them for {STALL_SECONDS:.0} seconds. Machines are served all the \
                 same, but without power the master may forget their addresses"
            ))
        })
    }

    /// It has written all of them.
    pub(super) fn written(&mut self) -> Option<Notice> {
        std::mem::take(&mut self.stalled)
            .then(|| Notice::Person("the stick writes again: leases are remembered".to_owned()))
    }

    /// An answer to a relay did not leave.
    pub(super) fn unreachable(&mut self, to: Ipv4Addr, error: &io::Error) -> Option<Notice> {
        let first = self.unreachable.len() < MAX_UNKNOWN_SAID && self.unreachable.insert(to);
        first.then(|| {
            Notice::Person(format!(
                "answers to {to} do not leave: {error}. In recon.toml, give the [[subnet]] a via, the router on this link that leads \
                 there; a relay outside of its subnet stands under relays as well"
            ))
        })
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (Vec<Ipv4Addr>, usize, u8) {
        (
            self.exhausted.iter().copied().collect(),
            self.unknown.len(),
            self.in_use,
        )
    }
}

/// Why there is no address, in a sentence that holds, and what a person does about it. `key`: what to widen.
pub(super) fn exhausted(counts: Counts, key: &str) -> String {
    match counts.leased + counts.offered >= counts.size {
        true => format!("every address of the pool is leased: widen {key} in recon.toml or wait for leases to end"),
        false => format!(
            "of {} addresses of the pool {} are leased, {} are promised, {} rest because somebody uses them, and the others are kept for \
             single machines: widen {key} in recon.toml",
            counts.size, counts.leased, counts.offered, counts.abandoned
        ),
    }
}

/// What is said of requests that come too often, the first time.
pub(crate) fn too_often(rate: Rate, who: &dyn fmt::Display, address: &str, protocol: &str) -> Option<String> {
    match rate {
        Rate::TooOften { first: true } => Some(format!(
            "{who}: asks for {address} in a loop; from now on it is answered now and then"
        )),
        Rate::TooMany { first: true } => Some(format!(
            "more {protocol} requests come than are answered; machines wait longer for their addresses"
        )),
        _ => None,
    }
}

/// One hardware address claims whatever is asked for.
pub(super) fn proxy_arp(mac: MacAddr) -> String {
    format!(
        "{mac} answers for addresses that nobody has (proxy ARP): its answers do not count. Where it is a router or a switch, turn \
         proxy ARP off on its port to this network: machines that check their address themselves may refuse it"
    )
}

/// Firmware takes no offer.
pub(super) fn takes_no_offer(client: &dyn fmt::Display) -> String {
    format!(
        "{client}: repeats its question and heeds no offer. Another kind of offer is tried; if it does not boot, \
         look for a second DHCP server or a filter in the switch, or change between BIOS and UEFI boot"
    )
}
