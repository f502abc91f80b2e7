//! What one address may leave on the data partition. Pure: room and time come in.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::model::RunTime;
use crate::service::rate_limit::{Generations, Rate, RateLimiter, Turn};

/// Up to this many bytes in one run no address is asked whether it leaves enough for others: far more than the inventories of
/// a machine.
const ALWAYS_BYTES: u64 = 32 << 20;
/// Addresses whose bytes are remembered, twice; beyond, those that were not heard of for longest are forgotten.
const GENERATION: usize = 8192;

/// Addresses of which it was said that they take too much; of further ones nothing is said.
const MAX_SAID: usize = 64;

/// New machines that one address may name at once, and how many more a second. One machine has one name; a laboratory
/// behind one address has thousands.
pub(crate) const NEW_NODES: (f64, f64) = (4096.0, 1.0);

#[derive(Debug)]
pub(crate) struct Quota {
    /// Stored and announced by each address.
    bytes: Generations<IpAddr, u64>,
    nodes: RateLimiter<IpAddr>,
    said: HashSet<IpAddr>,
}

impl Quota {
    pub(crate) fn new(now: RunTime) -> Self {
        Quota {
            bytes: Generations::new(GENERATION),
            nodes: RateLimiter::with(NEW_NODES.0, NEW_NODES.1, now),
            said: HashSet::new(),
        }
    }

    /// Announces `bytes` of an upload where `room` bytes are free and promised to nobody. An address leaves as much to the
    /// others as it takes itself, in this run.
    ///
    /// # Errors
    /// What it has already, in bytes, and whether this was not said before in this run.
    pub(crate) fn announce(&mut self, who: IpAddr, bytes: u64, room: u64) -> Result<(), (u64, bool)> {
        let had = self.bytes.of(who, 0);
        let all = had.saturating_add(bytes);
        // What does not fit at all is for the store to say.
        if all > ALWAYS_BYTES && bytes <= room && all > room - bytes {
            let had = *had;
            let first = self.said.len() < MAX_SAID && self.said.insert(who);
            return Err((had, first));
        }
        *had = all;
        Ok(())
    }

    /// Nothing came of an announcement.
    pub(crate) fn take_back(&mut self, who: IpAddr, bytes: u64) {
        let had = self.bytes.of(who, 0);
        *had = had.saturating_sub(bytes);
    }

    /// Counts a machine that was not known, named by `who`.
    pub(crate) fn new_node(&mut self, who: IpAddr, now: RunTime) -> Rate {
        self.nodes.count(who, Turn::GoesOn, now)
    }

    /// Whether `who` may name another one; counts none.
    pub(crate) fn may_name_nodes(&mut self, who: IpAddr, now: RunTime) -> Rate {
        self.nodes.look(who, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn second(seconds: f64) -> RunTime {
        RunTime::from_seconds(seconds)
    }

    fn who(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_address_leaves_as_much_as_it_takes() {
        let mut quota = Quota::new(second(0.0));
        let mut room = 1000 * MIB;
        let announce = |quota: &mut Quota, last: u8, bytes: u64, room: &mut u64| {
            quota.announce(who(last), bytes, *room).inspect(|()| *room -= bytes)
        };
        assert_eq!(announce(&mut quota, 7, 600 * MIB, &mut room), Err((0, true)));
        assert_eq!(announce(&mut quota, 7, 256 * MIB, &mut room), Ok(()));
        assert_eq!(announce(&mut quota, 7, 256 * MIB, &mut room), Err((256 * MIB, false)));
        assert_eq!(announce(&mut quota, 7, 200 * MIB, &mut room), Ok(()));
        // The others are not asked.
        for last in 10..60 {
            assert_eq!(announce(&mut quota, last, 5 * MIB, &mut room), Ok(()), "{last}");
        }
        // One that broke off may come again.
        quota.take_back(who(7), 200 * MIB);
        room += 200 * MIB;
        assert_eq!(announce(&mut quota, 7, 20 * MIB, &mut room), Ok(()));
    }

    #[test]
    fn an_inventory_that_fits_is_taken_on_a_stick_that_is_nearly_full() {
        let mut quota = Quota::new(second(0.0));
        assert_eq!(quota.announce(who(1), 15 * MIB, 16 * MIB), Ok(()));
        // What does not fit is not refused here but where it is said how much is free.
        assert_eq!(quota.announce(who(2), 200 * MIB, 16 * MIB), Ok(()));
    }

    #[test]
    fn names_of_machines_have_a_rate() {
        let mut quota = Quota::new(second(0.0));
        let within = (0..10_000)
            .filter(|_| quota.new_node(who(7), second(0.0)) == Rate::Within)
            .count();
        assert_eq!(within, 4096);
        assert_eq!(quota.new_node(who(8), second(0.0)), Rate::Within);
        assert_eq!(quota.new_node(who(7), second(1.0)), Rate::Within);
        assert_eq!(
            quota.may_name_nodes(who(7), second(1.0)),
            Rate::TooOften { first: false }
        );
        assert_eq!(quota.new_node(who(7), second(1.0)), Rate::TooOften { first: false });
        assert_eq!(quota.may_name_nodes(who(7), second(2.0)), Rate::Within);
        assert_eq!(
            quota.new_node(who(7), second(2.0)),
            Rate::Within,
            "looking counts nothing"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut quota = Quota::new(second(0.0));
        for number in 0..40_000u32 {
            quota.announce(IpAddr::from(number.to_be_bytes()), 1, MIB).unwrap();
        }
        assert!(quota.bytes.len() <= 2 * GENERATION);
    }
}
