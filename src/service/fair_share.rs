//! Places that many addresses share: connections, transfers, uploads. Pure.
//!
//! No address gets a further place unless it holds fewer than are free. So one alone may take half of them, which leaves as
//! many for all others; where `n` take what they can, each has 1/(n+1) of them and so much stays free. An honest machine holds
//! a few and never meets the rule. What it does not cover: a host that gives itself thousands of addresses. IPv6 makes that easy,
//! so all of IPv6 together leaves a quarter of the places to IPv4.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Why there is no place. `first`: not said before in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its address holds as many as are left for all others.
    Share { held: usize, first: bool },
    /// None is left.
    Full { first: bool },
    /// None is left for IPv6; there are some for IPv4, or it has as many as it was left.
    FullOfIpv6 { first: bool },
}

/// Addresses of which it was said that they have too much; of further ones nothing is said.
const MAX_SAID: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Shares {
    places: usize,
    taken: usize,
    taken_v6: usize,
    /// Only who holds a place is here.
    held: HashMap<IpAddr, usize>,
    said: HashSet<IpAddr>,
    said_full: bool,
    said_full_of_ipv6: bool,
}

/// How many of all places IPv6 may have.
pub(crate) fn ipv6_places(places: usize) -> usize {
    places - places / 4
}

impl Shares {
    pub(crate) fn new(places: usize) -> Self {
        Shares {
            places,
            ..Shares::default()
        }
    }

    pub(crate) fn places(&self) -> usize {
        self.places
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes a place for `who`; [`Shares::give`] gives it back.
    pub(crate) fn take(&mut self, who: IpAddr) -> Result<(), Refused> {
        let free = self.places.saturating_sub(self.taken);
        let held = self.held.get(&who).copied().unwrap_or(0);
        if who.is_ipv6() && self.taken_v6 >= ipv6_places(self.places) {
            let first = !std::mem::replace(&mut self.said_full_of_ipv6, true);
            return Err(Refused::FullOfIpv6 { first });
        }
        if free == 0 {
            let first = !std::mem::replace(&mut self.said_full, true);
            return Err(Refused::Full { first });
        }
        if held >= free {
            let first = self.said.len() < MAX_SAID && self.said.insert(who);
            return Err(Refused::Share { held, first });
        }
        self.taken += 1;
        self.taken_v6 += usize::from(who.is_ipv6());
        *self.held.entry(who).or_default() += 1;
        Ok(())
    }

    pub(crate) fn give(&mut self, who: IpAddr) {
        let Some(held) = self.held.get_mut(&who) else { return };
        *held -= 1;
        if *held == 0 {
            self.held.remove(&who);
        }
        self.taken -= 1;
        self.taken_v6 -= usize::from(who.is_ipv6());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v4(last: u32) -> IpAddr {
        Ipv4Addr::from(0xC000_0200 + last).into()
    }

    fn v6(last: u128) -> IpAddr {
        Ipv6Addr::from((0xfe80 << 112) + last).into()
    }

    /// How many places it gets.
    fn grab(shares: &mut Shares, who: IpAddr) -> usize {
        std::iter::repeat_with(|| shares.take(who))
            .take_while(Result::is_ok)
            .count()
    }

    #[test]
    fn one_address_leaves_half_to_the_others_and_is_named_once() {
        let mut shares = Shares::new(2048);
        assert_eq!(grab(&mut shares, v4(7)), 1024);
        let first = |shares: &mut Shares, who| match shares.take(who) {
            Err(Refused::Share { held, first }) => (held, first),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            first(&mut shares, v4(7)),
            (1024, false),
            "it was said when it was refused first"
        );
        // Every other machine gets its own.
        for machine in 100..1000 {
            assert_eq!(shares.take(v4(machine)), Ok(()), "{machine}");
        }
        shares.give(v4(7));
        assert_eq!(shares.taken(), 1023 + 900);
    }

    #[test]
    fn several_share_and_room_is_left_for_newcomers() {
        let mut shares = Shares::new(1000);
        for _ in 0..1000 {
            for who in 0..9 {
                let _ = shares.take(v4(who));
            }
        }
        assert!(
            (90..=110).contains(&(1000 - shares.taken())),
            "{} are taken",
            shares.taken()
        );
        assert_eq!(shares.take(v4(99)), Ok(()));
    }

    #[test]
    fn thousands_of_machines_get_one_each_until_none_is_left() {
        let mut shares = Shares::new(2000);
        for who in 0..2000 {
            assert_eq!(shares.take(v4(who)), Ok(()));
        }
        assert_eq!(shares.take(v4(5000)), Err(Refused::Full { first: true }));
        assert_eq!(shares.take(v4(5001)), Err(Refused::Full { first: false }));
        shares.give(v4(3));
        assert_eq!(shares.take(v4(5000)), Ok(()));
    }

    #[test]
    fn made_up_addresses_of_ipv6_leave_room_for_ipv4() {
        let mut shares = Shares::new(400);
        let taken = (0..10_000).filter(|who| shares.take(v6(*who)).is_ok()).count();
        assert_eq!(taken, 300);
        assert_eq!(shares.take(v6(20_000)), Err(Refused::FullOfIpv6 { first: false }));
        assert!(!shares.said_full, "it is not full");
        assert_eq!(shares.take(v4(1)), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_held(steps in proptest::collection::vec((any::<bool>(), 0u32..6), 0..300)) {
            let mut shares = Shares::new(20);
            let mut held: HashMap<IpAddr, usize> = HashMap::new();
            for (takes, who) in steps {
                let who = if who < 3 { v4(who) } else { v6(who.into()) };
                let (mine, all) = (held.get(&who).copied().unwrap_or(0), held.values().sum::<usize>());
                if takes {
                    let taken = shares.take(who).is_ok();
                    prop_assert!(!taken || mine < 20 - all);
                    prop_assert!(taken || mine > 0 || all >= 15, "a newcomer was refused beside free places");
                    *held.entry(who).or_default() += usize::from(taken);
                } else if mine > 0 {
                    shares.give(who);
                    *held.entry(who).or_default() -= 1;
                }
                prop_assert_eq!(shares.taken(), held.values().sum::<usize>());
            }
        }
    }
}
