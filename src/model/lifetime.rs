//! For how long an address was given, and when more time with it is asked for. Pure: time comes in.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Times since an address was given (RFC 2131 §4.4.5, RFC 8415 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// T1: from then on the server that gave it is asked.
    renew: Duration,
    /// T2: from then on any server.
    rebind: Duration,
    /// From then on it is nobody's. None: never.
    valid: Option<Duration>,
}

/// The number of seconds that is for ever, in both protocols.
const FOR_EVER: u32 = u32::MAX;
/// Shortest and longest pause before an answer that did not come is asked for again: one of a few seconds would keep the wire busy.
const PAUSE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// What nobody gave is over.
impl Default for Lifetime {
    fn default() -> Self {
        Self::OVER
    }
}

impl Lifetime {
    /// Nothing of it is left: the next address is asked for soon.
    pub(crate) const OVER: Lifetime = Lifetime {
        renew: Duration::ZERO,
        rebind: Duration::ZERO,
        valid: Some(Duration::ZERO),
    };

    /// What a server of DHCP says (options 51, 58 and 59 of RFC 2132 §9.2, §9.11, §9.12), in seconds. Without a time the address is for
    /// ever; what it leaves out of the others, or says so that T1 is not before T2 and that before the end, is as RFC 2131 §4.4.5 has it.
    pub(crate) fn of_dhcp(valid: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> Lifetime {
        let valid = valid.unwrap_or(FOR_EVER);
        let earlier = |said: Option<u32>, than: u32| said.filter(|seconds| *seconds > 0 && *seconds < than);
        let rebind = earlier(rebind, valid);
        let renew = earlier(renew, rebind.unwrap_or(valid));
        Self::ordered(valid, renew, rebind, (7, 8))
    }

    /// What a server of DHCPv6 says (RFC 8415 §21.4, §21.6), in seconds; 0 where it leaves T1 or T2 to us. None: T1 is after T2, with
    /// which the whole association is to be passed over.
    pub(crate) fn of_dhcp6(valid: u32, renew: u32, rebind: u32) -> Option<Lifetime> {
        if renew > rebind && rebind > 0 {
            return None;
        }
        let said = |seconds| Some(seconds).filter(|seconds| *seconds > 0);
        Some(Self::ordered(valid, said(renew), said(rebind), (8, 10)))
    }

    /// `rest`: T2 as a part of the whole, where nobody says it. T1 is half then. One for ever of an address that ends is not obeyed: it
    /// would be lost in the middle of a download.
    fn ordered(valid: u32, renew: Option<u32>, rebind: Option<u32>, rest: (u64, u64)) -> Lifetime {
        let whole = u64::from(valid);
        let own = whole * rest.0 / rest.1;
        let rebind = rebind.map(u64::from).filter(|rebind| *rebind <= whole).unwrap_or(own);
        let half = if rebind > whole / 2 { whole / 2 } else { rebind / 2 };
        let renew = renew.map(u64::from).filter(|renew| *renew <= rebind).unwrap_or(half);
        Lifetime {
            renew: Duration::from_secs(renew),
            rebind: Duration::from_secs(rebind),
            valid: (valid != FOR_EVER).then(|| Duration::from_secs(whole)),
        }
    }

    /// The pause before more time is asked for, so long after it was given: until T1, and from then on half of what is left to the next of
    /// the times; a day at most, and not beyond the end.
    pub(crate) fn pause(&self, elapsed: Duration) -> Duration {
        let left = |end: Duration| end.saturating_sub(elapsed);
        let pause = if elapsed < self.renew {
            left(self.renew)
        } else if elapsed < self.rebind {
            left(self.rebind) / 2
        } else {
            self.valid.map_or(*PAUSE.end(), left) / 2
        };
        let pause = pause.clamp(*PAUSE.start(), *PAUSE.end());
        match self.valid.map(left) {
            None | Some(Duration::ZERO) => pause,
            Some(left) => pause.min(left),
        }
    }

    /// Whether any server may say what becomes of it.
    pub(crate) fn is_anybodys(&self, elapsed: Duration) -> bool {
        elapsed >= self.rebind
    }

    pub(crate) fn is_over(&self, elapsed: Duration) -> bool {
        self.valid.is_some_and(|valid| elapsed >= valid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn times(of: Lifetime) -> (u64, u64, Option<u64>) {
        (
            of.renew.as_secs(),
            of.rebind.as_secs(),
            of.valid.map(|valid| valid.as_secs()),
        )
    }

    #[test]
    fn what_a_server_says_counts_if_it_can_be() {
        let four = |valid, renew, rebind| times(Lifetime::of_dhcp(valid, renew, rebind));
        assert_eq!(four(Some(3600), None, None), (1800, 3150, Some(3600)));
        assert_eq!(four(Some(3600), Some(60), Some(120)), (60, 120, Some(3600)));
        assert_eq!(four(Some(3600), Some(60), None), (60, 3150, Some(3600)));
        assert_eq!(four(Some(3600), None, Some(120)), (60, 120, Some(3600)));
        assert_eq!(four(Some(3600), Some(500), Some(120)), (60, 120, Some(3600)));
        assert_eq!(four(Some(3600), Some(120), Some(120)), (60, 120, Some(3600)));
        assert_eq!(four(Some(3600), Some(60), Some(3600)), (60, 3150, Some(3600)));
        assert_eq!(four(Some(3600), Some(0), Some(0)), (1800, 3150, Some(3600)));
        assert_eq!(four(Some(3600), Some(5000), Some(6000)), (1800, 3150, Some(3600)));
        assert_eq!(four(None, None, None).2, None);
        let six = |valid, renew, rebind| Lifetime::of_dhcp6(valid, renew, rebind).map(times);
        assert_eq!(six(1000, 0, 0), Some((500, 800, Some(1000))));
        assert_eq!(six(1000, 100, 200), Some((100, 200, Some(1000))));
        assert_eq!(six(1000, 100, 0), Some((100, 800, Some(1000))));
        assert_eq!(six(1000, 300, 200), None);
        assert_eq!(six(FOR_EVER, FOR_EVER, FOR_EVER).unwrap().2, None);
    }

    #[test]
    fn it_is_asked_for_at_t1_of_anybody_at_t2_and_ends() {
        let hour = Lifetime::of_dhcp(Some(3600), None, None);
        for (elapsed, pause) in [
            (0, 1800),
            (600, 1200),
            (1800, 675),
            (3150, 225),
            (3580, 10),
            (3595, 5),
            (5000, 10),
        ] {
            assert_eq!(hour.pause(seconds(elapsed)), seconds(pause), "{elapsed}");
        }
        assert!(!hour.is_anybodys(seconds(3149)) && hour.is_anybodys(seconds(3150)));
        assert!(!hour.is_over(seconds(3599)) && hour.is_over(seconds(3600)));
        let for_ever = Lifetime::of_dhcp(None, None, None);
        assert_eq!(for_ever.pause(seconds(0)), seconds(86_400));
        assert!(!for_ever.is_over(seconds(u64::from(u32::MAX) + 1)));
        assert!(Lifetime::OVER.is_over(seconds(0)) && Lifetime::OVER.pause(seconds(0)) == seconds(10));
    }

    proptest! {
        #[test]
        fn the_times_are_in_order(valid: u32, renew: Option<u32>, rebind: Option<u32>, elapsed: u32) {
            let six = Lifetime::of_dhcp6(valid, renew.unwrap_or(0), rebind.unwrap_or(0));
            for of in [Some(Lifetime::of_dhcp(Some(valid), renew, rebind)), six].into_iter().flatten() {
                prop_assert!(of.renew <= of.rebind && of.valid.is_none_or(|valid| of.rebind <= valid), "{:?}", of);
                let (elapsed, pause) = (seconds(elapsed.into()), of.pause(seconds(elapsed.into())));
                let left = of.valid.map(|valid| valid.saturating_sub(elapsed));
                prop_assert!(PAUSE.contains(&pause) || left == Some(pause), "{:?}", of);
                prop_assert!(left.is_none_or(|left| left.is_zero() || pause <= left), "{:?}", of);
            }
        }
    }
}
