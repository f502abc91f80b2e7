//! Who has which address on one link. Pure: time comes in as seconds since the epoch.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::model::MacAddr;
use crate::model::lease::Lease;

/// Leases of one link.
#[derive(Debug, Clone)]
pub struct LeaseTable {
    first: u32,
    last: u32,
    by_mac: HashMap<MacAddr, Lease>,
    by_address: HashMap<u32, Holder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Machine(MacAddr),
    /// Somebody declined it: another machine uses it. Free again at this time.
    SetAside(u64),
}

/// How long a declined address stays unused, in seconds.
const SET_ASIDE_SECONDS: u64 = 600;

impl LeaseTable {
    /// A table over the addresses `first..=last`. Remembered leases outside of them are forgotten.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr, remembered: impl IntoIterator<Item = Lease>) -> Self {
        let mut table = LeaseTable {
            first: first.into(),
            last: last.into(),
            by_mac: HashMap::new(),
            by_address: HashMap::new(),
        };
        for lease in remembered {
            let free = !table.by_address.contains_key(&u32::from(lease.address));
            if table.in_pool(lease.address) && free && !table.by_mac.contains_key(&lease.mac) {
                table.put(lease);
            }
        }
        table
    }

    pub fn in_pool(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    pub fn get(&self, mac: MacAddr) -> Option<&Lease> {
        self.by_mac.get(&mac)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_mac.values()
    }

    /// Address to offer: the one it has, else a wish that is free, else a free one near a place that follows from the
    /// MAC, so that a machine tends to get the same one in every run. `None`: the pool is exhausted.
    pub fn choose(&self, mac: MacAddr, wish: Option<Ipv4Addr>, now_unix: u64) -> Option<Ipv4Addr> {
        if let Some(lease) = self.by_mac.get(&mac) {
            return Some(lease.address);
        }
        if let Some(wish) = wish
            && self.in_pool(wish)
            && self.is_free(wish.into(), mac, now_unix)
        {
            return Some(wish);
        }
        let size = u64::from(self.last - self.first) + 1;
        let start = mac.0.iter().fold(0u64, |hash, byte| {
            (hash.wrapping_mul(31)).wrapping_add(u64::from(*byte))
        });
        (0..size)
            .map(|step| self.first + ((start + step) % size) as u32)
            .find(|address| self.is_free(*address, mac, now_unix))
            .map(Ipv4Addr::from)
    }

    /// True if `mac` may have `address` now.
    pub fn may_have(&self, mac: MacAddr, address: Ipv4Addr, now_unix: u64) -> bool {
        match self.by_mac.get(&mac) {
            Some(lease) => lease.address == address,
            None => self.in_pool(address) && self.is_free(address.into(), mac, now_unix),
        }
    }

    fn is_free(&self, address: u32, mac: MacAddr, now_unix: u64) -> bool {
        match self.by_address.get(&address) {
            None => true,
            Some(Holder::SetAside(until)) => *until <= now_unix,
            Some(Holder::Machine(holder)) => {
                *holder == mac
                    || self
                        .by_mac
                        .get(holder)
                        .is_none_or(|lease| lease.expires_unix <= now_unix)
            }
        }
    }

    /// Gives the address to the machine until `expires_unix`. The caller has asked [`Self::may_have`].
    pub fn bind(&mut self, mac: MacAddr, address: Ipv4Addr, expires_unix: u64) {
        self.release(mac);
        if let Some(Holder::Machine(expired)) = self.by_address.get(&u32::from(address)).copied() {
            self.by_mac.remove(&expired);
        }
        self.put(Lease {
            mac,
            address,
            expires_unix,
        });
    }

    pub fn release(&mut self, mac: MacAddr) {
        if let Some(lease) = self.by_mac.remove(&mac) {
            self.by_address.remove(&lease.address.into());
        }
    }

    /// Takes an address out of use for a while, because a client found it in use.
    pub fn set_aside(&mut self, mac: MacAddr, address: Ipv4Addr, now_unix: u64) {
        if self.by_mac.get(&mac).is_some_and(|lease| lease.address == address) {
            self.release(mac);
            self.by_address
                .insert(address.into(), Holder::SetAside(now_unix + SET_ASIDE_SECONDS));
        }
    }

    fn put(&mut self, lease: Lease) {
        self.by_address.insert(lease.address.into(), Holder::Machine(lease.mac));
        self.by_mac.insert(lease.mac, lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn table(size: u8) -> LeaseTable {
        LeaseTable::new(Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(10, 0, 0, 9 + size), [])
    }

    #[test]
    fn a_machine_keeps_its_address() {
        let mut table = table(10);
        let first = table.choose(mac(1), None, 0).unwrap();
        table.bind(mac(1), first, 100);
        assert_eq!(table.choose(mac(1), Some(Ipv4Addr::new(10, 0, 0, 12)), 50), Some(first));
        assert_eq!(
            table.choose(mac(1), None, 500),
            Some(first),
            "also after it ran out, while nobody took it"
        );
    }

    #[test]
    fn an_exhausted_pool_says_so_and_expired_addresses_return() {
        let mut table = table(1);
        let only = table.choose(mac(1), None, 0).unwrap();
        table.bind(mac(1), only, 100);
        assert_eq!(table.choose(mac(2), None, 99), None);
        assert_eq!(table.choose(mac(2), None, 100), Some(only));
        table.bind(mac(2), only, 200);
        assert!(table.get(mac(1)).is_none());
    }

    #[test]
    fn a_declined_address_rests() {
        let mut table = table(1);
        let only = table.choose(mac(1), None, 0).unwrap();
        table.bind(mac(1), only, 100);
        table.set_aside(mac(2), only, 0);
        assert!(table.get(mac(1)).is_some(), "only its holder can decline it");
        table.set_aside(mac(1), only, 0);
        assert_eq!(table.choose(mac(2), None, SET_ASIDE_SECONDS - 1), None);
        assert_eq!(table.choose(mac(2), None, SET_ASIDE_SECONDS), Some(only));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice(steps in proptest::collection::vec((0u8..12, 0u8..4, 0u64..50), 0..200)) {
            let mut table = table(6);
            let mut now = 0;
            for (who, what, later) in steps {
                now += later;
                match what {
                    0 | 1 => if let Some(address) = table.choose(mac(who), None, now) {
                        prop_assert!(table.may_have(mac(who), address, now));
                        table.bind(mac(who), address, now + 60);
                    },
                    2 => table.release(mac(who)),
                    _ => if let Some(lease) = table.get(mac(who)).cloned() {
                        table.set_aside(mac(who), lease.address, now);
                    },
                }
                let mut held: Vec<_> = table.iter().map(|lease| lease.address).collect();
                held.sort();
                let count = held.len();
                held.dedup();
                prop_assert_eq!(count, held.len());
            }
        }
    }
}
