//! Who has which address on one link. Pure: time comes in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use crate::model::lease::{Lease, LeaseChange};
use crate::model::{MacAddr, UnixTime};

mod gaps;
#[cfg(test)]
mod tests;

use gaps::Gaps;

/// Leases of every link that was served in this run, by the server's address on it, and of the networks behind routers, by their own
/// address. A link that comes back finds its own.
pub type LeaseTables = Arc<Mutex<BTreeMap<Ipv4Addr, Arc<Mutex<LeaseTable>>>>>;

/// Leases of one link.
#[derive(Debug, Clone, Default)]
pub struct LeaseTable {
    first: u32,
    last: u32,
    by_mac: HashMap<MacAddr, Binding>,
    by_address: HashMap<u32, Holder>,
    /// When each lease and offer ends and each abandoned address is free, with the address: which address is free again first.
    ends: BTreeSet<(UnixTime, u32)>,
    /// Of those, the abandoned addresses.
    abandoned: BTreeSet<(UnixTime, u32)>,
    /// How many leases and offers end in each second.
    ending: BTreeMap<UnixTime, usize>,
    /// Addresses of the pool that nobody has or had.
    free: Gaps,
    reserved: HashMap<MacAddr, u32>,
    reserved_for: HashMap<u32, MacAddr>,
    /// Free addresses that were asked for on the link and where nobody spoke up, with the end of that knowledge.
    silent: BTreeMap<u32, UnixTime>,
    /// Somebody asks on the link before addresses are offered.
    probing: bool,
    /// What a restart should remember and has not been taken by the journal.
    changes: Vec<LeaseChange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Binding {
    lease: Lease,
    /// Promised in an OFFER; the machine has not asked for it.
    offer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Machine(MacAddr),
    /// Another machine uses it. Free again at this time, and for that machine at once.
    Abandoned {
        until: UnixTime,
        user: Option<MacAddr>,
    },
}

/// How the addresses of a pool are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub size: u64,
    pub leased: u64,
    pub offered: u64,
    pub abandoned: u64,
}

/// How long an address that was declined, or that a stranger uses, stays unused.
pub const ABANDONED_SECONDS: u64 = 600;

impl LeaseTable {
    /// A table over the addresses `first..=last`. Remembered leases outside of them are forgotten.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, remembered: impl IntoIterator<Item = Lease>) -> Self {
        let (first, last) = (u32::from(first), u32::from(last));
        let mut table = LeaseTable {
            first,
            last,
            free: Gaps::whole(first, last),
            ..LeaseTable::default()
        };
        for lease in remembered {
            let known =
                table.by_address.contains_key(&u32::from(lease.address)) || table.by_mac.contains_key(&lease.mac);
            if table.in_pool(lease.address) && !known {
                table.put(Binding { lease, offer: false });
            }
        }
        table
    }

    /// Keeps addresses, in the pool or beside it, for one machine each. Of two entries for a machine or an address the
    /// first counts. A stranger that holds one keeps it until its lease ends.
    pub fn reserve(&mut self, reservations: impl IntoIterator<Item = (MacAddr, Ipv4Addr)>) {
        for (mac, address) in reservations {
            let number = u32::from(address);
            if !self.reserved.contains_key(&mac) && !self.reserved_for.contains_key(&number) {
                self.reserved.insert(mac, number);
                self.reserved_for.insert(number, mac);
                self.free.take(number);
                self.silent.remove(&number);
            }
        }
    }

    /// Takes over what an earlier run abandoned: address and end.
    pub fn restore_abandoned(&mut self, abandoned: impl IntoIterator<Item = (Ipv4Addr, UnixTime)>) {
        for (address, until) in abandoned {
            if self.in_pool(address) && !self.by_address.contains_key(&u32::from(address)) {
                self.put_abandoned(address.into(), until, None);
            }
        }
    }

    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    /// What the machine has: a lease, also one that ran out and that nobody took since. Offers do not count.
    pub fn get(&self, mac: MacAddr) -> Option<&Lease> {
        self.by_mac.get(&mac).filter(|held| !held.offer).map(|held| &held.lease)
    }

    /// What the machine was offered and has not asked for.
    pub fn offered(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        let held = self.by_mac.get(&mac).filter(|held| held.offer)?;
        Some(held.lease.address)
    }

    /// True if the address is promised to the machine now, by a lease or an offer: a reply that waited must not leave once
    /// this is over.
    pub fn is_reserved_for(&self, mac: MacAddr, address: Ipv4Addr, now_unix: UnixTime) -> bool {
        let held = self.by_mac.get(&mac);
        held.is_some_and(|held| held.lease.address == address && held.lease.expires_unix > now_unix)
    }

    /// True if the machine has a lease, however old, or a reservation: it was let in before.
    pub fn knows(&self, mac: MacAddr) -> bool {
        self.get(mac).is_some() || self.reserved.contains_key(&mac)
    }

    /// Leases and offers, also those that ran out.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_mac.values().map(|held| &held.lease)
    }

    /// Leases and offers that run. Cheap, however many there are: a table on a screen is drawn several times a second.
    pub fn held(&self, now_unix: UnixTime) -> usize {
        self.ending.range(now_unix + 1..).map(|(_, count)| count).sum()
    }

    /// Addresses of the pool.
    pub fn size(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    pub fn counts(&self, now_unix: UnixTime) -> Counts {
        let mut counts = Counts {
            size: self.size(),
            ..Counts::default()
        };
        for held in self.by_mac.values().filter(|held| held.lease.expires_unix > now_unix) {
            match held.offer {
                true => counts.offered += 1,
                false => counts.leased += 1,
            }
        }
        let abandoned = |holder: &&Holder| matches!(holder, Holder::Abandoned { until, .. } if *until > now_unix);
        counts.abandoned = self.by_address.values().filter(abandoned).count() as u64;
        counts
    }

    /// Address to offer: the one reserved for it, the one it has, a wish that is free, a free one near a place that
    /// follows from the MAC, so that a machine tends to get the same one in every run, then the one that is
    /// longest out of use, and at last the one that abandoned longest: whoever had it may have left. `None`: the pool is exhausted.
    pub fn choose(&self, mac: MacAddr, wish: Option<Ipv4Addr>, now_unix: UnixTime) -> Option<Ipv4Addr> {
        let free = |address: &u32| self.is_free(*address, mac, now_unix);
        if let Some(reserved) = self.reserved.get(&mac).filter(|address| free(address)) {
            return Some((*reserved).into());
        }
        if let Some(held) = self.by_mac.get(&mac) {
            return Some(held.lease.address);
        }
        if let Some(wish) = wish.filter(|wish| self.in_pool(*wish) && free(&u32::from(*wish))) {
            return Some(wish);
        }
        let place = self.place(mac);
        let silent = |address: &u32| self.is_silent(*address, now_unix);
        if silent(&place) && free(&place) {
            return Some(place.into());
        }
        let near = self.silent.range(place..).chain(self.silent.range(..place));
        if let Some((address, _)) = near
            .take(SILENT_STEPS)
            .find(|(address, _)| silent(address) && free(address))
        {
            return Some((*address).into());
        }
        if let Some(address) = self.free.from(place).next() {
            return Some(address.into());
        }
        let over = self.ends.iter().take_while(|(end, _)| *end <= now_unix);
        let abandoned = self.abandoned.iter().map(|(_, address)| *address);
        let for_others = |address: &u32| self.reserved_for.get(address).is_some_and(|owner| *owner != mac);
        over.map(|(_, address)| *address)
            .find(|address| (self.first..=self.last).contains(address) && free(address))
            .or_else(|| {
                abandoned
                    .filter(|address| (self.first..=self.last).contains(address))
                    .find(|address| !for_others(address))
            })
            .map(Ipv4Addr::from)
    }

    fn place(&self, mac: MacAddr) -> u32 {
        let size = self.size();
        let hash = mac
            .0
            .iter()
            .fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        self.first + (hash % size) as u32
    }

    /// True if `mac` may have `address` now.
    pub fn may_have(&self, mac: MacAddr, address: Ipv4Addr, now_unix: UnixTime) -> bool {
        let reserved = self.reserved.get(&mac) == Some(&u32::from(address));
        match self.by_mac.get(&mac) {
            Some(held) if held.lease.address == address => true,
            // Its reservation, which came after its lease.
            Some(_) => reserved && self.is_free(address.into(), mac, now_unix),
            None => (self.in_pool(address) || reserved) && self.is_free(address.into(), mac, now_unix),
        }
    }

    fn is_free(&self, address: u32, mac: MacAddr, now_unix: UnixTime) -> bool {
        if self.reserved_for.get(&address).is_some_and(|owner| *owner != mac) {
            return false;
        }
        match self.by_address.get(&address) {
            None => true,
            Some(Holder::Abandoned { until, user }) => *until <= now_unix || *user == Some(mac),
            Some(Holder::Machine(holder)) => {
                *holder == mac
                    || self
                        .by_mac
                        .get(holder)
                        .is_none_or(|held| held.lease.expires_unix <= now_unix)
            }
        }
    }

    /// Holds an address for a machine until it asks for it. A lease that still runs stays as it is.
    pub fn offer(&mut self, mac: MacAddr, address: Ipv4Addr, until_unix: UnixTime, now_unix: UnixTime) {
        let running =
            |held: &Binding| !held.offer && held.lease.expires_unix > now_unix && held.lease.address == address;
        if !self.by_mac.get(&mac).is_some_and(running) {
            self.give(mac, address, until_unix, true);
        }
    }

    /// Gives the address to the machine until `expires_unix`. The caller has asked [`Self::may_have`].
    pub fn bind(&mut self, mac: MacAddr, address: Ipv4Addr, expires_unix: UnixTime) {
        self.give(mac, address, expires_unix, false);
        self.changes.push(LeaseChange::Bound(Lease {
            mac,
            address,
            expires_unix,
        }));
    }

    fn give(&mut self, mac: MacAddr, address: Ipv4Addr, expires_unix: UnixTime, offer: bool) {
        self.remove(mac);
        match self.by_address.get(&u32::from(address)).copied() {
            Some(Holder::Machine(expired)) => self.remove(expired),
            Some(Holder::Abandoned { until, .. }) => self.end_abandoned(until, address.into()),
            None => {}
        }
        let lease = Lease {
            mac,
            address,
            expires_unix,
        };
        self.put(Binding { lease, offer });
    }

    /// The machine took another server's offer: ours is free again. A lease it has stays until it runs out.
    pub fn drop_offer(&mut self, mac: MacAddr) {
        if self.offered(mac).is_some() {
            self.remove(mac);
        }
    }

    /// The machine gives its address back (RFC 2131 §4.3.4). It stays the one it is offered next, while nobody takes it.
    pub fn release(&mut self, mac: MacAddr, address: Ipv4Addr, now_unix: UnixTime) -> bool {
        let Some(held) = self.by_mac.get(&mac).filter(|held| held.lease.address == address) else {
            return false;
        };
        if held.lease.expires_unix > now_unix && !held.offer {
            self.give(mac, address, now_unix, false);
            self.changes.push(LeaseChange::Released { mac });
        }
        true
    }

    /// Takes an address out of use for a while, because its holder found it in use (RFC 2131 §4.3.3). Only the holder
    /// can say that. True if it was.
    pub fn decline(&mut self, mac: MacAddr, address: Ipv4Addr, now_unix: UnixTime) -> bool {
        let held = self.by_mac.get(&mac).is_some_and(|held| held.lease.address == address);
        if held {
            self.set_abandoned(address, None, now_unix);
        }
        held
    }

    /// Takes an address out of use for a while, because `user` answered for it. A lease that runs is left alone: its own
    /// machine finds out (RFC 5227 §2.4).
    pub fn abandon(&mut self, address: Ipv4Addr, user: MacAddr, now_unix: UnixTime) -> bool {
        let leased = match self.by_address.get(&u32::from(address)) {
            Some(Holder::Machine(mac)) => self.get(*mac).is_some_and(|lease| lease.expires_unix > now_unix),
            _ => false,
        };
        if leased || !(self.in_pool(address) || self.reserved_for.contains_key(&u32::from(address))) {
            return false;
        }
        self.set_abandoned(address, Some(user), now_unix);
        true
    }

    fn set_abandoned(&mut self, address: Ipv4Addr, user: Option<MacAddr>, now_unix: UnixTime) {
        match self.by_address.get(&u32::from(address)).copied() {
            Some(Holder::Machine(mac)) => self.remove(mac),
            Some(Holder::Abandoned { until, .. }) => self.end_abandoned(until, address.into()),
            None => {}
        }
        let until_unix = now_unix + ABANDONED_SECONDS;
        self.put_abandoned(address.into(), until_unix, user);
        self.changes.push(LeaseChange::Abandoned { address, until_unix });
    }

    fn put_abandoned(&mut self, address: u32, until: UnixTime, user: Option<MacAddr>) {
        self.free.take(address);
        self.silent.remove(&address);
        self.by_address.insert(address, Holder::Abandoned { until, user });
        self.ends.insert((until, address));
        self.abandoned.insert((until, address));
    }

    fn end_abandoned(&mut self, until: UnixTime, address: u32) {
        self.ends.remove(&(until, address));
        self.abandoned.remove(&(until, address));
    }

    /// The answers of `user` do not count: what abandoned because of them is free again.
    pub fn disbelieve(&mut self, user: MacAddr, now_unix: UnixTime) {
        let of_user = |(address, holder): (&u32, &Holder)| match holder {
            Holder::Abandoned { until, user: Some(mac) } if *mac == user => Some((*until, *address)),
            _ => None,
        };
        let abandoned: Vec<(UnixTime, u32)> = self.by_address.iter().filter_map(of_user).collect();
        for (until, number) in abandoned {
            self.end_abandoned(until, number);
            self.by_address.remove(&number);
            let address = Ipv4Addr::from(number);
            if self.in_pool(address) && !self.reserved_for.contains_key(&number) {
                self.free.give(number);
            }
            let until_unix = now_unix;
            self.changes.push(LeaseChange::Abandoned { address, until_unix });
        }
    }

    fn put(&mut self, held: Binding) {
        let address = u32::from(held.lease.address);
        self.free.take(address);
        self.silent.remove(&address);
        self.ends.insert((held.lease.expires_unix, address));
        *self.ending.entry(held.lease.expires_unix).or_default() += 1;
        self.by_address.insert(address, Holder::Machine(held.lease.mac));
        self.by_mac.insert(held.lease.mac, held);
    }

    fn remove(&mut self, mac: MacAddr) {
        if let Some(held) = self.by_mac.remove(&mac) {
            let address = u32::from(held.lease.address);
            self.by_address.remove(&address);
            self.ends.remove(&(held.lease.expires_unix, address));
            if let Entry::Occupied(mut count) = self.ending.entry(held.lease.expires_unix) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
            if self.in_pool(held.lease.address) && !self.reserved_for.contains_key(&address) {
                self.free.give(address);
            }
        }
    }

    /// Takes what a restart should remember, in the order in which it happened.
    pub fn take_changes(&mut self) -> Vec<LeaseChange> {
        std::mem::take(&mut self.changes)
    }

    /// From now on addresses are asked for on the link before they are offered.
    pub fn probe_first(&mut self) {
        self.probing = true;
    }

    /// True if the address has to be asked for before the machine is offered it: nobody knows that it is silent, and the
    /// machine does not already use it.
    pub fn needs_probe(&self, mac: MacAddr, address: Ipv4Addr, now_unix: UnixTime) -> bool {
        self.probing && !self.is_reserved_for(mac, address, now_unix) && !self.is_silent(address.into(), now_unix)
    }

    fn is_silent(&self, address: u32, now_unix: UnixTime) -> bool {
        self.silent.get(&address).is_some_and(|until| *until > now_unix)
    }

    /// Nobody spoke up for the address.
    pub fn note_silent(&mut self, address: Ipv4Addr, until_unix: UnixTime) {
        let number = u32::from(address);
        if self.in_pool(address) && !self.by_address.contains_key(&number) && !self.reserved_for.contains_key(&number) {
            self.silent.insert(number, until_unix);
        }
    }

    /// Forgets old knowledge; how many addresses are still known to be silent.
    pub fn count_silent(&mut self, now_unix: UnixTime) -> usize {
        self.silent.retain(|_, until| *until > now_unix);
        self.silent.len()
    }

    /// Up to `count` free addresses, upwards from `from`, that nobody has asked for lately.
    pub fn unprobed(&self, from: Ipv4Addr, count: usize, now_unix: UnixTime) -> Vec<Ipv4Addr> {
        let steps = self
            .free
            .from(from.into())
            .take(count.saturating_mul(2).saturating_add(SILENT_STEPS));
        steps
            .filter(|address| !self.is_silent(*address, now_unix))
            .take(count)
            .map(Ipv4Addr::from)
            .collect()
    }
}

/// Known addresses that are looked through for one that is free. They are free when they are noted and leave the set
/// when they are taken, so the first one nearly always is it.
const SILENT_STEPS: usize = 64;
