//! Who claims addresses, and who claims so many that it is no host. Pure: time comes in.
//!
//! A router with proxy ARP (RFC 1027), a switch that looks for its hosts by ARP probes, a broken stack: they answer for addresses that
//! nobody has, or ask for them as if they wanted them. Believed, one such neighbour empties the pool within a second.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use crate::model::{MacAddr, RunTime};

/// What a claim is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// A host's: it has the address.
    Address,
    /// Nothing: it claims everything. `first`: not known before, in this run or lately.
    Nothing { first: bool },
}

/// What a claimant claimed counts for this long, in seconds, and one that claims nothing any more is a host again: as long as an
/// address abandoned ([`super::leases::ABANDONED_SECONDS`]).
const MEMORY_SECONDS: f64 = super::leases::ABANDONED_SECONDS as f64;
/// Claimants remembered; when there are more, all are forgotten, which costs some addresses until they are known again.
const MAX_CLAIMANTS: usize = 1024;

/// Everybody who claimed addresses of one pool.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    claimants: HashMap<MacAddr, Claimant>,
}

#[derive(Debug, Default)]
struct Claimant {
    /// At most as many as make it a proxy.
    addresses: HashSet<Ipv4Addr>,
    at: RunTime,
    proxy: bool,
}

impl Claims {
    /// `mac` claims an address that was asked for; `left` addresses of the pool have no lease and could be claimed.
    pub(crate) fn heard(&mut self, mac: MacAddr, address: Ipv4Addr, left: u64, now: RunTime) -> Worth {
        if self.claimants.len() >= MAX_CLAIMANTS && !self.claimants.contains_key(&mac) {
            self.claimants.clear();
        }
        let claimant = self.claimants.entry(mac).or_default();
        if now - claimant.at > MEMORY_SECONDS {
            *claimant = Claimant::default();
        }
        claimant.at = now;
        if claimant.proxy {
            return Worth::Nothing { first: false };
        }
        claimant.addresses.insert(address);
        if claimant.addresses.len() < many(left) {
            return Worth::Address;
        }
        claimant.addresses = HashSet::new();
        claimant.proxy = true;
        Worth::Nothing { first: true }
    }

    /// True for one whose claims are worth nothing.
    pub(crate) fn is_proxy(&self, mac: MacAddr) -> bool {
        self.claimants.get(&mac).is_some_and(|claimant| claimant.proxy)
    }
}

/// Eight addresses are more than a host has on one network; where few are left, half of them, and never a single one.
fn many(left: u64) -> usize {
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    (left / 2).clamp(4, 8).min(left).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::dhcp4::testing::run;
    use proptest::prelude::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn one_that_claims_everything_is_no_host() {
        let mut claims = Claims::default();
        for last in 1..8 {
            assert_eq!(
                claims.heard(mac(9), address(last), 235, run(0.0)),
                Worth::Address,
                "{last}"
            );
            // The same address again is no other one, and other hosts have theirs.
            assert_eq!(claims.heard(mac(9), address(last), 235, run(0.0)), Worth::Address);
            assert_eq!(claims.heard(mac(last), address(last), 235, run(0.0)), Worth::Address);
        }
        assert!(!claims.is_proxy(mac(9)));
        assert_eq!(
            claims.heard(mac(9), address(8), 235, run(1.0)),
            Worth::Nothing { first: true }
        );
        assert_eq!(
            claims.heard(mac(9), address(1), 235, run(2.0)),
            Worth::Nothing { first: false }
        );
        assert!(claims.is_proxy(mac(9)) && !claims.is_proxy(mac(8)));
        let later = 2.0 + MEMORY_SECONDS;
        assert_eq!(
            claims.heard(mac(9), address(2), 235, run(later)),
            Worth::Nothing { first: false },
            "it goes on"
        );
        assert_eq!(
            claims.heard(mac(9), address(2), 235, run(later + MEMORY_SECONDS + 1.0)),
            Worth::Address
        );
    }

    #[test]
    fn a_host_that_moves_about_is_no_proxy() {
        let mut claims = Claims::default();
        for last in 1..100 {
            let now = run(f64::from(last) * (MEMORY_SECONDS + 1.0));
            assert_eq!(claims.heard(mac(9), address(last), 235, now), Worth::Address);
        }
    }

    #[test]
    fn one_that_claims_all_that_is_left_is_no_host() {
        let mut claims = Claims::default();
        assert_eq!(claims.heard(mac(9), address(1), 3, run(0.0)), Worth::Address);
        assert_eq!(claims.heard(mac(9), address(2), 3, run(0.0)), Worth::Address);
        assert_eq!(
            claims.heard(mac(9), address(3), 3, run(0.0)),
            Worth::Nothing { first: true }
        );
    }

    #[test]
    fn in_a_small_pool_fewer_are_many() {
        for (size, wanted) in [(1, 2), (2, 2), (3, 3), (5, 4), (10, 5), (16, 8), (235, 8), (1 << 24, 8)] {
            assert_eq!(many(size), wanted, "{size}");
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded(claims in proptest::collection::vec((any::<[u8; 6]>(), any::<u32>(), 0f64..2000.0), 0..3000)) {
            let mut all = Claims::default();
            for (mac, address, now) in claims {
                all.heard(MacAddr(mac), address.into(), 1 << 16, run(now));
                prop_assert!(all.claimants.len() <= MAX_CLAIMANTS);
                prop_assert!(all.claimants.values().all(|claimant| claimant.addresses.len() < 8));
            }
        }
    }
}
