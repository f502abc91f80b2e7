//! Which machines ask again and again without taking what they are offered. Pure: time comes in as seconds.

use std::collections::HashMap;

use crate::model::MacAddr;

/// Answered DISCOVERs since a machine last asked for an address.
#[derive(Debug, Default)]
pub(crate) struct Patience(HashMap<MacAddr, Row>);

#[derive(Debug, Clone, Copy)]
struct Row {
    count: u32,
    at: f64,
}

/// After this long without a word it is another boot, in seconds.
const FORGOTTEN: f64 = 120.0;
/// Machines remembered; when there are more, all are forgotten, which costs them a few rounds.
const MAX_ROWS: usize = 16_384;

impl Patience {
    /// A DISCOVER is answered; how many were before it.
    pub(crate) fn discover(&mut self, mac: MacAddr, now: f64) -> u32 {
        if self.0.len() >= MAX_ROWS && !self.0.contains_key(&mac) {
            self.0.clear();
        }
        let row = self.0.entry(mac).or_insert(Row { count: 0, at: now });
        if now - row.at > FORGOTTEN {
            row.count = 0;
        }
        row.at = now;
        row.count = row.count.saturating_add(1);
        row.count - 1
    }

    /// It asked for an address.
    pub(crate) fn request(&mut self, mac: MacAddr) {
        self.0.remove(&mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_counted_until_it_asks_or_is_gone_for_long() {
        let mut patience = Patience::default();
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let count = |patience: &mut Patience, times: std::ops::Range<u8>| -> Vec<u32> {
            times.map(|at| patience.discover(mac, f64::from(at))).collect()
        };
        assert_eq!(count(&mut patience, 0..4), [0, 1, 2, 3]);
        patience.request(mac);
        assert_eq!(count(&mut patience, 4..6), [0, 1]);
        assert_eq!(patience.discover(mac, 5.0 + FORGOTTEN), 2);
        assert_eq!(patience.discover(mac, 300.0), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut patience = Patience::default();
        for number in 0..100_000u32 {
            let [a, b, c, d] = number.to_be_bytes();
            patience.discover(MacAddr([2, 0, a, b, c, d]), 0.0);
        }
        assert!(patience.0.len() <= MAX_ROWS);
    }
}
