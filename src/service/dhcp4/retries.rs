//! Which machines ask again and again without taking what they are offered. Pure: time comes in.

use std::collections::HashMap;

use crate::model::{MacAddr, RunTime};

/// Offers to each machine since it last asked for an address.
#[derive(Debug, Default)]
pub(crate) struct OfferRetries(HashMap<MacAddr, Offered>);

#[derive(Debug, Clone, Copy)]
struct Offered {
    count: u32,
    at: RunTime,
}

/// After this long without a word it is another boot.
const FORGET_AFTER_SECONDS: f64 = 120.0;
/// Machines remembered; when there are more, all are forgotten, which costs them a few rounds.
const MAX_MACHINES: usize = 16_384;

impl OfferRetries {
    /// How many offers the machine had and did not take.
    pub(crate) fn offers(&self, mac: MacAddr, now: RunTime) -> u32 {
        let offered = self
            .0
            .get(&mac)
            .filter(|offered| now - offered.at <= FORGET_AFTER_SECONDS);
        offered.map_or(0, |offered| offered.count)
    }

    /// The machine is offered an address.
    pub(crate) fn offered(&mut self, mac: MacAddr, now: RunTime) {
        if self.0.len() >= MAX_MACHINES && !self.0.contains_key(&mac) {
            self.0.clear();
        }
        let count = self.offers(mac, now).saturating_add(1);
        self.0.insert(mac, Offered { count, at: now });
    }

    /// It asked for an address.
    pub(crate) fn taken(&mut self, mac: MacAddr) {
        self.0.remove(&mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::dhcp4::testing::run;

    /// Counts one more; how many were before it.
    fn discover(retries: &mut OfferRetries, mac: MacAddr, now: f64) -> u32 {
        let before = retries.offers(mac, run(now));
        retries.offered(mac, run(now));
        before
    }

    #[test]
    fn a_machine_is_counted_until_it_asks_or_is_gone_for_long() {
        let mut retries = OfferRetries::default();
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let count = |retries: &mut OfferRetries, times: std::ops::Range<u8>| -> Vec<u32> {
            times.map(|at| discover(retries, mac, f64::from(at))).collect()
        };
        assert_eq!(count(&mut retries, 0..4), [0, 1, 2, 3]);
        retries.taken(mac);
        assert_eq!(count(&mut retries, 4..6), [0, 1]);
        assert_eq!(discover(&mut retries, mac, 5.0 + FORGET_AFTER_SECONDS), 2);
        assert_eq!(discover(&mut retries, mac, 300.0), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut retries = OfferRetries::default();
        for number in 0..100_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            discover(&mut retries, MacAddr([2, 0, a, b, c, d]), 0.0);
        }
        assert!(retries.0.len() <= MAX_MACHINES);
    }
}
