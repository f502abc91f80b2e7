//! Addresses that were given for a time, held for as long as they are wanted.

use tokio::time::{Instant, sleep};

use crate::model::MacAddr;
use crate::role::peer::network::{Answer, Leased, renew};
use crate::sys::packet::DhcpTap;

/// Has a lease made longer, again and again. Returns once the address is not this port's any more.
pub(crate) async fn hold(tap: &DhcpTap, mac: MacAddr, mut leased: Leased) {
    let address = leased.address;
    let mut granted = Instant::now();
    loop {
        sleep(leased.lifetime.pause(granted.elapsed())).await;
        let server = Some(leased.server).filter(|_| !leased.lifetime.is_anybodys(granted.elapsed()));
        let answer = renew(tap, mac, address, server).await.unwrap_or_else(|error| {
            tracing::debug!(%address, %error, "asking for more time");
            Answer::Nothing
        });
        match answer {
            Answer::Given(longer) if longer.address == address => {
                (leased, granted) = (longer, Instant::now());
            }
            Answer::Given(_) | Answer::Refused => return,
            Answer::Nothing if leased.lifetime.is_over(granted.elapsed()) => return,
            Answer::Nothing => {}
        }
    }
}
