//! Replies that wait before they leave: for the journal that holds their lease, or for the silence of the link. Pure: time comes in.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use dhcproto::v4::Message;

use crate::model::{MacAddr, RunTime};

use super::conflicts::ANSWER_SECONDS;
use super::relay::Scope;
use super::reply::Reply;

/// Replies that wait, for the journal and for the link each. While as many wait, no request is read: the kernel's buffer
/// fills and drops, and clients ask again.
const MAX_WAITING: usize = 4096;
/// A medium that takes longer than this is broken for our purposes: better an address that a restart forgets than none.
pub(super) const STALL_SECONDS: f64 = 10.0;

/// A reply that rests on a change of leases.
struct Unwritten {
    /// Of the change in the journal.
    number: u64,
    since: RunTime,
    reply: Reply,
}

/// An offer whose address was asked for on the link.
pub(super) struct Unprobed {
    pub address: Ipv4Addr,
    pub since: RunTime,
    pub reply: Reply,
    pub request: Message,
    pub scope: Scope,
    /// How often it was given another address because somebody used the one before.
    pub moves: u8,
}

#[derive(Default)]
pub(super) struct Waiting {
    unwritten: VecDeque<Unwritten>,
    unprobed: VecDeque<Unprobed>,
}

impl Waiting {
    pub(super) fn has_room(&self) -> bool {
        self.unwritten.len().max(self.unprobed.len()) < MAX_WAITING
    }

    pub(super) fn for_journal(&mut self, number: u64, reply: Reply, now: RunTime) {
        self.unwritten.push_back(Unwritten {
            number,
            since: now,
            reply,
        });
    }

    pub(super) fn for_link(&mut self, waiting: Unprobed) {
        self.unprobed.push_back(waiting);
    }

    /// Replies that wait for the journal.
    pub(super) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// Offers that wait for the link.
    pub(super) fn unprobed(&self) -> impl Iterator<Item = &Unprobed> {
        self.unprobed.iter()
    }

    /// The next reply whose change is in the journal, where everything up to `number` is.
    pub(super) fn next_written(&mut self, number: u64) -> Option<Reply> {
        let first = self.unwritten.pop_front_if(|waiting| waiting.number <= number);
        first.map(|waiting| waiting.reply)
    }

    /// The next reply for which the journal took too long.
    pub(super) fn next_stalled(&mut self, now: RunTime) -> Option<Reply> {
        let first = self
            .unwritten
            .pop_front_if(|waiting| now - waiting.since > STALL_SECONDS);
        first.map(|waiting| waiting.reply)
    }

    /// The next offer for whose address nobody has spoken up.
    pub(super) fn next_silent(&mut self, now: RunTime) -> Option<Reply> {
        let first = self
            .unprobed
            .pop_front_if(|waiting| now - waiting.since >= ANSWER_SECONDS);
        first.map(|waiting| waiting.reply)
    }

    /// Whether an offer waits for an address that this host claims. Its own offer does not.
    pub(super) fn is_claimed(&self, address: Ipv4Addr, mac: MacAddr) -> bool {
        self.unprobed.iter().any(|waiting| waiting.is_claimed(address, mac))
    }

    /// Takes the offers out that wait for an address that this host claims.
    pub(super) fn take_claimed(&mut self, address: Ipv4Addr, mac: MacAddr) -> VecDeque<Unprobed> {
        let all = std::mem::take(&mut self.unprobed).into_iter();
        let (claimed, stay) = all.partition(|waiting| waiting.is_claimed(address, mac));
        self.unprobed = stay;
        claimed
    }

    #[cfg(test)]
    pub(super) fn last_number(&self) -> Option<u64> {
        self.unwritten.back().map(|waiting| waiting.number)
    }
}

impl Unprobed {
    fn is_claimed(&self, address: Ipv4Addr, mac: MacAddr) -> bool {
        self.address == address && self.reply.client.mac != mac
    }
}
