//! Which address a master takes on a link that it serves: one that nobody has (RFC 5227 §2.1). On a network whose hosts have theirs by
//! hand, the first of the subnet is often the gateway's.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use std::{fmt, io};

use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::config::Subnet;
use crate::model::{MacAddr, RunTime};
use crate::service::dhcp4::conflicts;
use crate::service::ra::wire;
use crate::sys::icmp6::RouterSocket;
use crate::sys::netif::Link;
use crate::sys::packet::ArpTap;

/// How often the link is asked, and how long each answer is waited for. RFC 5227 waits for seconds, for hosts that sleep and bridges that
/// learn; a link was up for an election before, and who answers late is heard later.
const PROBES: u32 = 3;
const ANSWER: Duration = Duration::from_millis(200);
/// Addresses that are tried; on a network where so many are taken one of ours does not belong.
const MAX_TRIES: usize = 8;
/// So many addresses that one hardware address has, and no other was heard, make it a proxy ([`crate::service::dhcp4::claims`]).
const PROXY_CLAIMS: usize = 4;
/// Somebody who still uses our address this long after he was first heard stays; by then two recon masters whose networks grew together know
/// who of them serves. In seconds.
const LEAVE_SECONDS: f64 = 12.0;
/// Who is not heard for this long, in seconds, is gone.
const GONE_SECONDS: f64 = 60.0;

/// A question to the link: who has this address?
#[derive(Debug)]
pub(crate) struct Question {
    address: Ipv4Addr,
    task: AbortOnDropHandle<Found>,
}

/// Who has the address in IPv4, and who has the one in IPv6.
type Found = (Option<MacAddr>, Option<(Ipv6Addr, String)>);

impl Question {
    /// Asks. `own`: hardware addresses of this machine, whose other ports may hang on the same network.
    fn ask(link: &Link, own: Vec<MacAddr>, address: Ipv4Addr, address6: Option<Ipv6Addr>) -> Self {
        let link = link.clone();
        let asking = async move {
            let six = async {
                let address = address6?;
                // Nobody can be asked without IPv6, or while the kernel still checks the address to ask from.
                answer(address, who_has6(&link, &own, address).await)
            };
            let (four, six) = tokio::join!(who_has(link.index, link.mac, &own, address), six);
            (answer(address, four), six)
        };
        let task = AbortOnDropHandle::new(tokio::spawn(asking.in_current_span()));
        Question { address, task }
    }
}

/// Who was found; nobody where `address` could not be asked for.
fn answer<T>(address: impl fmt::Display, asked: io::Result<Option<T>>) -> Option<T> {
    let unasked = |error: &io::Error| tracing::debug!(%address, %error, "asking for our own address");
    asked.inspect_err(unasked).unwrap_or_default()
}

/// Who uses the address, or is about to.
pub(crate) async fn who_has(
    index: u32,
    mac: MacAddr,
    own: &[MacAddr],
    address: Ipv4Addr,
) -> io::Result<Option<MacAddr>> {
    let tap = ArpTap::open(index)?;
    let mut packet = Vec::new();
    for _ in 0..PROBES {
        tap.broadcast(&conflicts::probe(mac, address)).await?;
        let deadline = tokio::time::Instant::now() + ANSWER;
        while let Ok(received) = tokio::time::timeout_at(deadline, tap.receive(&mut packet)).await {
            received?;
            match conflicts::claim(&packet) {
                Some((user, claimed)) if claimed == address && !own.contains(&user) => return Ok(Some(user)),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// The same in IPv6 (RFC 4862 §5.4), asked from the link-local address. Who has it: a hardware address, else the one it answers from.
async fn who_has6(link: &Link, own: &[MacAddr], address: Ipv6Addr) -> io::Result<Option<(Ipv6Addr, String)>> {
    let socket = RouterSocket::of_neighbours(&link.name, link.index)?;
    let (question, group) = wire::who_has(link.mac, address);
    let mut message = Vec::new();
    for _ in 0..PROBES {
        socket.send(&question, group).await?;
        let deadline = tokio::time::Instant::now() + ANSWER;
        while let Ok(from) = tokio::time::timeout_at(deadline, socket.receive(&mut message)).await {
            let from = from?;
            match wire::has(&message) {
                Some((target, user)) if target == address && !user.is_some_and(|user| own.contains(&user)) => {
                    let user = user.map_or_else(|| from.to_string(), |user| user.to_string());
                    return Ok(Some((address, user)));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// The search for an address on one link, and who was found on the way.
#[derive(Debug, Default)]
pub(crate) struct AddressClaim {
    taken: Vec<(Ipv4Addr, MacAddr)>,
    /// The address in IPv6 that somebody has, and who. Whoever looks for another one takes it.
    pub taken6: Option<(Ipv6Addr, String)>,
    /// Claims every address, so that its word about ours counts for nothing.
    proxy: Option<MacAddr>,
    question: Option<Question>,
    /// Somebody else uses the address that is ours: who, since when, and when he was last heard.
    contested: Option<(MacAddr, RunTime, RunTime)>,
}

/// What the search says now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Search {
    /// The link is being asked.
    Asking,
    /// Somebody has this address; the next one is tried.
    Taken(Ipv4Addr, MacAddr),
    /// Nobody has this one. The proxy whose word was not taken, if there was one.
    Free(Subnet, Option<MacAddr>),
    /// There is none.
    Nowhere,
}

impl AddressClaim {
    /// Goes on. `candidates`: the subnet as it would be with each of the addresses that could be ours, the best first. `given`: none but the
    /// first is wanted; the others only tell whether who has it is a proxy.
    pub(crate) async fn search(
        &mut self,
        candidates: impl IntoIterator<Item = Subnet>,
        given: bool,
        link: &Link,
        own: Vec<MacAddr>,
        address6: Option<Ipv6Addr>,
    ) -> Search {
        let candidates: Vec<Subnet> = candidates.into_iter().take(MAX_TRIES).collect();
        let (Some(first), Some(subnet)) = (candidates.first().copied(), next(&candidates, &self.taken)) else {
            return Search::Nowhere;
        };
        if self.proxy.is_some() {
            return Search::Free(if given { first } else { subnet }, None);
        }
        let mut question = match self.question.take() {
            Some(question) if question.address == subnet.server => question,
            _ => Question::ask(link, own, subnet.server, address6),
        };
        if !question.task.is_finished() {
            self.question = Some(question);
            return Search::Asking;
        }
        // A question that was lost is one without an answer.
        let (user, user6) = (&mut question.task).await.unwrap_or_default();
        self.taken6 = user6;
        match user {
            None if given && subnet != first => Search::Nowhere,
            None => Search::Free(subnet, None),
            Some(user) => {
                self.taken.push((subnet.server, user));
                self.proxy = proxy(&self.taken);
                if self.proxy.is_none() {
                    return Search::Taken(subnet.server, user);
                }
                // Its first one may really be its own.
                self.taken.clear();
                Search::Free(if given { first } else { subnet }, self.proxy)
            }
        }
    }

    /// The address is another's: it is not tried again before the link changes.
    pub(crate) fn leave(&mut self, address: Ipv4Addr, user: MacAddr) {
        self.contested = None;
        self.taken.push((address, user));
    }

    /// Somebody else was heard with our address.
    pub(crate) fn contest(&mut self, user: MacAddr, now: RunTime) -> Contest {
        if self.proxy == Some(user) {
            return Contest::Known;
        }
        let since = match self.contested {
            Some((_, since, last)) if now - last <= GONE_SECONDS => since,
            _ => {
                self.contested = Some((user, now, now));
                return Contest::New;
            }
        };
        self.contested = Some((user, since, now));
        match now - since >= LEAVE_SECONDS {
            true => Contest::Leave,
            false => Contest::Known,
        }
    }

    /// Everything may be different now.
    pub(crate) fn forget(&mut self) {
        *self = AddressClaim::default();
    }

    /// Who has the addresses that were not taken, for the screen.
    pub(crate) fn note(&self, now: RunTime) -> Option<String> {
        let used = |(address, user): &(Ipv4Addr, MacAddr)| format!("{address} is used by {user}");
        let contested = self.contested.filter(|(_, _, last)| now - *last <= GONE_SECONDS);
        let contested = contested.map(|(user, _, _)| format!("our address is also used by {user}"));
        let all: Vec<String> = self.taken.iter().map(used).chain(contested).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

/// What becomes of an address that somebody else uses, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contest {
    New,
    Known,
    /// He stays, so we go: an announcement of ours would take a gateway's place in every host's ARP table.
    Leave,
}

fn next(candidates: &[Subnet], taken: &[(Ipv4Addr, MacAddr)]) -> Option<Subnet> {
    let is_taken = |subnet: &Subnet| taken.iter().any(|(address, _)| *address == subnet.server);
    candidates.iter().copied().find(|subnet| !is_taken(subnet))
}

fn proxy(taken: &[(Ipv4Addr, MacAddr)]) -> Option<MacAddr> {
    let (_, first) = taken.first()?;
    (taken.len() >= PROXY_CLAIMS && taken.iter().all(|(_, user)| user == first)).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn nowhere() -> Link {
        Link {
            name: "no-such-link".to_owned(),
            index: u32::MAX,
            mac: A,
            carrier: true,
        }
    }

    const fn at_second(second: f64) -> RunTime {
        RunTime::from_seconds(second)
    }

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 219, last)
    }

    #[test]
    fn addresses_are_tried_in_turn_and_not_for_ever() {
        let settings = crate::config::Settings::default();
        let candidates: Vec<Subnet> = settings
            .own_addresses(settings.subnet(0).unwrap())
            .take(MAX_TRIES)
            .collect();
        let mut taken = Vec::new();
        while let Some(subnet) = next(&candidates, &taken) {
            taken.push((subnet.server, if taken.len().is_multiple_of(2) { A } else { B }));
            assert_eq!(proxy(&taken), None);
        }
        let tried: Vec<Ipv4Addr> = taken.iter().map(|(address, _)| *address).collect();
        assert_eq!(tried, [1, 2, 3, 4, 5, 6, 7, 8].map(at));
    }

    #[test]
    fn one_that_has_all_of_them_is_a_proxy() {
        let mut taken: Vec<_> = (1..4).map(|last| (at(last), A)).collect();
        assert_eq!(proxy(&taken), None);
        taken.push((at(4), A));
        assert_eq!(proxy(&taken), Some(A));
        taken[0].1 = B;
        assert_eq!(proxy(&taken), None, "a host among them");
    }

    #[test]
    fn an_address_that_stays_contested_is_left() {
        let mut claim = AddressClaim::default();
        assert_eq!(claim.note(at_second(0.0)), None);
        assert_eq!(claim.contest(A, at_second(0.0)), Contest::New);
        assert!(claim.note(at_second(1.0)).unwrap().contains(&A.to_string()));
        assert_eq!(claim.note(at_second(61.0)), None, "it is gone");
        assert_eq!(claim.contest(A, at_second(5.0)), Contest::Known);
        // It went away in between, and another one came.
        assert_eq!(claim.contest(B, at_second(70.0)), Contest::New);
        assert_eq!(claim.contest(B, at_second(75.0)), Contest::Known);
        assert_eq!(claim.contest(B, at_second(82.5)), Contest::Leave);
        claim.leave(at(1), B);
        assert_eq!(claim.note(at_second(200.0)), Some(format!("{} is used by {B}", at(1))));
        claim.forget();
        assert_eq!(claim.note(at_second(200.0)), None);
    }

    #[tokio::test]
    async fn the_link_is_asked_once_for_each_address() {
        let settings = crate::config::Settings::default();
        let subnet = settings.subnet(0).unwrap();
        let mut claim = AddressClaim::default();
        // There is no such link: nobody can be asked, and nobody is in the way.
        let mut search = async || {
            claim
                .search([subnet], true, &nowhere(), vec![A], Some(Ipv6Addr::LOCALHOST))
                .await
        };
        assert_eq!(search().await, Search::Asking);
        let found = loop {
            match search().await {
                Search::Asking => tokio::time::sleep(Duration::from_millis(5)).await,
                found => break found,
            }
        };
        assert_eq!(found, Search::Free(subnet, None));
        claim.leave(subnet.server, B);
        assert_eq!(
            claim
                .search([subnet], true, &nowhere(), vec![A], Some(Ipv6Addr::LOCALHOST))
                .await,
            Search::Nowhere
        );
        // The given address has a host, and the next one has none: no proxy.
        let candidates = || settings.own_addresses(subnet);
        let found = loop {
            match claim
                .search(candidates(), true, &nowhere(), vec![A], Some(Ipv6Addr::LOCALHOST))
                .await
            {
                Search::Asking => tokio::time::sleep(Duration::from_millis(5)).await,
                found => break found,
            }
        };
        assert_eq!(found, Search::Nowhere);
        claim.proxy = Some(B);
        let found = claim
            .search(candidates(), true, &nowhere(), vec![A], Some(Ipv6Addr::LOCALHOST))
            .await;
        assert_eq!(found, Search::Free(subnet, None));
        assert_eq!(
            claim.contest(B, at_second(0.0)),
            Contest::Known,
            "nor does its word count later"
        );
    }
}
