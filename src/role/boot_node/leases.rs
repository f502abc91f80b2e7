//! Sets the addresses of a boot image, and holds those that were given for a time: what it fetches may take longer.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};

use crate::model::console::console;
use crate::model::ula::LINK_PREFIX;
use crate::model::{Lifetime, backoff};
use crate::role::peer::lease::hold;
use crate::role::peer::network::{Leased, ask6, exchange, exchange6};
use crate::service::dhcp6::probe as probe6;
use crate::sys::netif::{Link, Netlink};
use crate::sys::packet::DhcpTap;
use crate::sys::udp;

/// Pause after a mistake of the system's.
const RETRY: Duration = Duration::from_secs(5);

/// Sets an address, and the way to other networks.
pub(super) async fn set(
    netlink: &Netlink,
    link: &Link,
    address: IpAddr,
    prefix: u8,
    router: Option<IpAddr>,
) -> anyhow::Result<()> {
    let name = &link.name;
    let added = netlink.add_address(link.index, address, prefix).await;
    added.with_context(|| format!("setting {address}/{prefix} on {name}"))?;
    console!("{name} is {address}/{prefix}");
    if let Some(router) = router
        && let Err(error) = netlink.add_default_route(link.index, router).await
    {
        // The server may be near.
        console!("{name}: no way by the router {router}: {error}");
    }
    Ok(())
}

/// Takes an address away, because nobody gives it any longer.
async fn lose(netlink: &Netlink, link: &Link, address: IpAddr) {
    console!("{} is not {address} any more: its lease has ended", link.name);
    if let Err(error) = netlink.remove_address(link.index, address).await {
        console!("{}: taking {address} away: {error}", link.name);
    }
}

/// Sets an address of IPv4 that was given.
pub(super) async fn set4(netlink: &Netlink, link: &Link, leased: &Leased) -> anyhow::Result<()> {
    let router = leased.router.map(IpAddr::V4);
    set(netlink, link, leased.address.into(), leased.prefix, router).await
}

/// Holds it, and asks for another where it is lost; for ever. `told`: what the server says then.
pub(super) async fn keep4(netlink: Netlink, link: Link, leased: Leased, told: impl Fn(&Leased)) {
    let mut has = Some(leased);
    loop {
        if let Some(leased) = has.take() {
            let address = leased.address;
            match DhcpTap::open(link.index) {
                Ok(tap) => hold(&tap, link.mac, leased).await,
                Err(error) => console!("{}: holding {address}: {error}", link.name),
            }
            lose(&netlink, &link, address.into()).await;
        }
        match next4(&netlink, &link).await {
            Ok(next) => {
                told(&next);
                has = Some(next);
            }
            Err(error) => {
                console!("{}: asking for an address: {error:#}", link.name);
                sleep(RETRY).await;
            }
        }
    }
}

async fn next4(netlink: &Netlink, link: &Link) -> anyhow::Result<Leased> {
    let tap = DhcpTap::open(link.index)?;
    let mut tries = 0u32;
    loop {
        if let Some(next) = exchange(&tap, link.mac).await? {
            set4(netlink, link, &next).await?;
            return Ok(next);
        }
        sleep(backoff::wait(tries, rand::random())).await;
        tries = tries.saturating_add(1);
    }
}

/// Sets an address of IPv6 that was given.
pub(super) async fn set6(netlink: &Netlink, link: &Link, address: Ipv6Addr) -> anyhow::Result<()> {
    set(netlink, link, address.into(), LINK_PREFIX, None).await
}

/// An address of IPv6 that is held.
pub(super) struct Held6 {
    pub(super) address: Ipv6Addr,
    /// The DUID of who gave it.
    pub(super) server: Vec<u8>,
    pub(super) lifetime: Lifetime,
}

/// How a lease of IPv6 goes on.
enum Next6 {
    Given(probe6::ServerReply),
    /// Whoever may say so no longer gives what is held.
    Over,
    Silence,
}

/// More time of the server that gave what is held, of any where it is late; or another address where nothing is.
async fn more_time(socket: &UdpSocket, link: &Link, held: Option<(Ipv6Addr, &[u8])>, is_late: bool) -> Next6 {
    let reply = match held {
        None => exchange6(socket, link).await,
        Some((address, server)) => {
            let ask = match is_late {
                true => probe6::Ask::Rebind { address },
                false => probe6::Ask::Renew {
                    server: server.to_owned(),
                    address,
                },
            };
            ask6(socket, link, ask, rand::random()).await
        }
    };
    match reply {
        Some(reply) if reply.address.is_some() => Next6::Given(reply),
        Some(reply) if held.is_some() && reply.is_withdrawn => Next6::Over,
        _ => Next6::Silence,
    }
}

/// Holds it, and asks for another where it is lost; for ever.
pub(super) async fn keep6(netlink: Netlink, link: Link, held: Held6) {
    let Held6 {
        address,
        mut server,
        mut lifetime,
    } = held;
    let mut has = Some(address);
    let mut given = Instant::now();
    loop {
        sleep(lifetime.pause(given.elapsed())).await;
        let socket = udp::on_interface_v6(&link.name, link.index, 546, &[]);
        let is_late = lifetime.is_anybodys(given.elapsed());
        let reply = match &socket {
            Ok(socket) => more_time(socket, &link, has.map(|address| (address, &server[..])), is_late).await,
            Err(_) => Next6::Silence,
        };
        let is_refused = matches!(reply, Next6::Over);
        let next = match reply {
            Next6::Given(reply) => reply.address.map(|address| (address, reply.lifetime, reply.server)),
            Next6::Over | Next6::Silence => None,
        };
        let is_over = is_refused || lifetime.is_over(given.elapsed());
        if let Some(old) = has.filter(|old| next.as_ref().map_or(is_over, |(next, ..)| next != old)) {
            lose(&netlink, &link, old.into()).await;
            has = None;
            // Another is asked for soon.
            lifetime = Lifetime::OVER;
        }
        let Some((next, longer, from)) = next else { continue };
        (lifetime, server, given) = (longer, from, Instant::now());
        if has.is_none() {
            match set6(&netlink, &link, next).await {
                Ok(()) => has = Some(next),
                Err(error) => {
                    console!("{error:#}");
                    // The next try is soon.
                    lifetime = Lifetime::OVER;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::task::JoinSet;

    use super::*;
    use crate::sys::netif;

    /// The server's log says whether it was asked.
    #[tokio::test]
    #[ignore = "wants a network namespace with a port eth0, behind which servers of DHCP and DHCPv6 give addresses for an hour"]
    async fn what_was_given_is_asked_for_again_at_half_its_time() {
        let link = netif::link_named(Path::new("/sys"), "eth0").unwrap();
        let netlink = Netlink::open().unwrap();
        let tap = DhcpTap::open(link.index).unwrap();
        // A server that first looks whether an address is free takes its time.
        let leased = loop {
            if let Some(leased) = exchange(&tap, link.mac).await.unwrap() {
                break leased;
            }
        };
        set4(&netlink, &link, &leased).await.unwrap();
        let socket = udp::on_interface_v6(&link.name, link.index, 546, &[]).unwrap();
        let given = loop {
            // The kernel still checks the address that is asked from.
            match exchange6(&socket, &link).await {
                Some(given) => break given,
                None => sleep(Duration::from_millis(500)).await,
            }
        };
        drop(socket);
        let address = given.address.unwrap();
        set6(&netlink, &link, address).await.unwrap();
        let mut held = JoinSet::new();
        held.spawn(keep4(netlink.clone(), link.clone(), leased.clone(), |_| ()));
        let given = Held6 {
            address,
            server: given.server,
            lifetime: given.lifetime,
        };
        held.spawn(keep6(netlink.clone(), link.clone(), given));
        // Both sleep by then.
        sleep(Duration::from_millis(200)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1801)).await;
        tokio::time::resume();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(netlink.addresses(link.index).await.unwrap(), [(leased.address, 24)]);
        let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
        assert!(table.contains(&format!("{:032x}", u128::from(address))), "{table}");
    }
}
