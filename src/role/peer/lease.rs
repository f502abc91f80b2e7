//! Addresses that were given for a time, held for as long as they are wanted.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::MacAddr;
use crate::role::peer::network::{Answer, Leased, renew};
use crate::sys::packet::DhcpTap;

/// Shortest and longest pause before a lease is asked to be longer: one of a few seconds would keep the wire busy.
const RENEW_SECONDS: RangeInclusive<u64> = 10..=86_400;

/// From then on any server may say what becomes of a lease (T2, RFC 2131 §4.4.5), in eighths of its time.
const ANYBODY_EIGHTHS: u32 = 7;

/// Has a lease made longer, again and again. Returns once the address is not this port's any more.
pub(crate) async fn hold(tap: &DhcpTap, mac: MacAddr, mut leased: Leased) {
    let address = leased.address;
    let mut granted = Instant::now();
    loop {
        sleep(pause(leased.seconds, granted.elapsed())).await;
        let end = Duration::from_secs(leased.seconds.map_or(u64::from(u32::MAX), u64::from));
        let server = Some(leased.server).filter(|_| granted.elapsed() < end / 8 * ANYBODY_EIGHTHS);
        let answer = renew(tap, mac, address, server).await.unwrap_or_else(|error| {
            tracing::debug!(%address, %error, "asking for more time");
            Answer::Nothing
        });
        match answer {
            Answer::Given(longer) if longer.address == address => {
                (leased, granted) = (longer, Instant::now());
            }
            Answer::Given(_) | Answer::Refused => return,
            Answer::Nothing if granted.elapsed() >= end => return,
            Answer::Nothing => {}
        }
    }
}

/// RFC 2131 §4.4.5: half of what is left of a lease of so many seconds; without a number, half of the longest pause.
pub(crate) fn pause(seconds: Option<u32>, elapsed: Duration) -> Duration {
    let whole = seconds.map_or(*RENEW_SECONDS.end(), u64::from);
    let half = whole.saturating_sub(elapsed.as_secs()) / 2;
    Duration::from_secs(half.clamp(*RENEW_SECONDS.start(), *RENEW_SECONDS.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_at_half_of_what_is_left() {
        let after = |seconds, elapsed| pause(seconds, Duration::from_secs(elapsed)).as_secs();
        assert_eq!(after(Some(3600), 0), 1800);
        assert_eq!(after(Some(3600), 1800), 900);
        assert_eq!(after(Some(3600), 5000), 10);
        assert_eq!(after(Some(u32::MAX), 0), 86_400);
        assert_eq!(after(None, 0), 43_200);
    }
}
