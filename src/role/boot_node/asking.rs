//! Asks for addresses on the ports of a boot image, by DHCP, DHCPv6 and router advertisements at once.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::load::small_file;
use crate::model::console::console;
use crate::model::{Lifetime, backoff};
use crate::role::boot_from::settings::ipv6_addresses;
use crate::role::peer::network::{Leased, MENTION, ask6, exchange, exchange6, waiting};
use crate::service::dhcp6::probe as probe6;
use crate::service::ra::wire::{self, RouterMessage};
use crate::sys::icmp6::{ALL_ROUTERS, RouterSocket};
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::DhcpTap;
use crate::sys::udp;

use super::link::above;

pub(super) const SYS: &str = "/sys";
/// How often ports are looked for.
const POLL: Duration = Duration::from_millis(100);
/// The same where there is an address.
const POLL_LATER: Duration = Duration::from_secs(2);
/// Addresses of IPv6.
const ADDRESSES6: &str = "/proc/net/if_inet6";
/// Longest table of addresses that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Routers have this long to say which servers resolve names: to all they speak every 3 s at most (RFC 4861 §6.2.6, MIN_DELAY_BETWEEN_RAS).
const ROUTERS: Duration = Duration::from_secs(4);
/// A packet may be lost.
const TRIES: usize = 3;

/// An address that was given.
pub(super) enum Given {
    Four(Leased),
    Six(Leased6),
}

#[derive(Default)]
pub(super) struct Leased6 {
    /// To be set, where the kernel did not do so itself.
    pub(super) address: Option<Ipv6Addr>,
    /// Who gave it, by its DUID.
    pub(super) server: Vec<u8>,
    pub(super) lifetime: Lifetime,
    pub(super) name_servers: Vec<Ipv6Addr>,
    /// The URL that is named to boot, as it stands there.
    pub(super) boot_file: Vec<u8>,
}

impl Leased6 {
    fn of(reply: probe6::ServerReply) -> Self {
        Leased6 {
            address: reply.address,
            server: reply.server,
            lifetime: reply.lifetime,
            name_servers: reply.name_servers,
            boot_file: reply.boot_file,
        }
    }
}

pub(super) const IPV4: usize = 0;
pub(super) const IPV6: usize = 1;

/// Which families there is an address of.
#[derive(Clone, Default)]
pub(super) struct Has(Arc<[AtomicBool; 2]>);

impl Has {
    pub(super) fn family(&self, family: usize) -> bool {
        self.0[family].load(Ordering::Relaxed)
    }

    pub(super) fn any(&self) -> bool {
        self.family(IPV4) || self.family(IPV6)
    }

    /// True for the first of a family.
    pub(super) fn take(&self, family: usize) -> bool {
        !self.0[family].swap(true, Ordering::Relaxed)
    }
}

/// Where an address that was given goes, and which families have one.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) sender: mpsc::Sender<(Link, Given)>,
    pub(super) has: Has,
}

/// Asks on this port, or on every wired one that has carrier; those that get one meanwhile are asked on as well. Ends with whoever listens.
pub(super) async fn ask_everywhere(netlink: Netlink, fixed: Option<Link>, vlan: Option<u16>, asking: Asking) {
    let mut asked = BTreeSet::new();
    let mut tasks = JoinSet::new();
    let mut mentioned = Instant::now();
    while !asking.sender.is_closed() {
        let links = match &fixed {
            Some(link) => vec![link.clone()],
            None => netif::wired_links(Path::new(SYS)).unwrap_or_default(),
        };
        let (lit, dark): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| fixed.is_some() || link.carrier);
        for link in &dark {
            if let Err(error) = netlink.up(link.index).await {
                tracing::debug!(link = link.name, %error, "bringing a link up");
            }
        }
        for link in lit {
            // One that is pulled and plugged in again has another number.
            if asked.insert(link.index) {
                tasks.spawn(ask_on(netlink.clone(), link, vlan, asking.clone()));
            }
        }
        if asked.is_empty() && mentioned.elapsed() >= MENTION {
            mentioned = Instant::now();
            console!("{}", waiting(dark.iter().map(|link| link.name.as_str()), None));
        }
        let pause = if asking.has.any() { POLL_LATER } else { POLL };
        tokio::time::sleep(pause).await;
    }
}

async fn ask_on(netlink: Netlink, link: Link, vlan: Option<u16>, asking: Asking) {
    for tries in 0.. {
        match above(&netlink, &link, vlan).await {
            Ok(link) => {
                tokio::join!(four(&link, &asking), six(&link, &asking));
                return;
            }
            Err(error) => console!("{error:#}"),
        }
        tokio::time::sleep(backoff::wait(tries, rand::random())).await;
        if asking.sender.is_closed() {
            return;
        }
    }
}

/// Asks by DHCP until there is an address of IPv4, from here or elsewhere.
pub(super) async fn four(link: &Link, asking: &Asking) {
    let tap = match DhcpTap::open(link.index) {
        Ok(tap) => tap,
        Err(error) => return console!("asking for an address on {}: {error}", link.name),
    };
    for tries in 0.. {
        if asking.has.family(IPV4) {
            return;
        }
        match exchange(&tap, link.mac).await {
            Ok(Some(leased)) => {
                drop(asking.sender.send((link.clone(), Given::Four(leased))).await);
                return;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(link = link.name, %error, "asking for an address"),
        }
        if !asking.has.any() {
            console!(
                "waiting for an address on {} (DHCP, DHCPv6 or a router of IPv6)",
                link.name
            );
        }
        tokio::time::sleep(backoff::wait(tries, rand::random())).await;
    }
}

/// The same of IPv6: by DHCPv6, or one that the kernel made of what a router advertises (RFC 4862).
pub(super) async fn six(link: &Link, asking: &Asking) {
    let socket = udp::on_interface_v6(&link.name, link.index, 546, &[]);
    for tries in 0.. {
        if asking.has.family(IPV6) {
            return;
        }
        if let Some(mut given) = given6(socket.as_ref().ok(), link).await {
            // Where nobody else names them.
            if given.name_servers.is_empty() {
                given.name_servers = named_by_router(link).await;
            }
            drop(asking.sender.send((link.clone(), Given::Six(given))).await);
            return;
        }
        tokio::time::sleep(backoff::wait(tries.min(3), rand::random())).await;
    }
}

/// `socket`: none where nobody can be asked by DHCPv6.
async fn given6(socket: Option<&UdpSocket>, link: &Link) -> Option<Leased6> {
    let made = is_made_by_kernel(link);
    match socket {
        None => made.then(Leased6::default),
        Some(socket) if made => {
            let mut told = None;
            for _ in 0..TRIES {
                told = ask6(socket, link, probe6::Ask::Inform, rand::random()).await;
                if told.is_some() {
                    break;
                }
            }
            let told = told.map(Leased6::of).unwrap_or_default();
            Some(Leased6 { address: None, ..told })
        }
        Some(socket) => exchange6(socket, link).await.map(Leased6::of),
    }
}

/// The servers that the first router names that is heard.
async fn named_by_router(link: &Link) -> Vec<Ipv6Addr> {
    let Ok(socket) = RouterSocket::open(&link.name, link.index) else {
        return Vec::new();
    };
    let mut message = Vec::new();
    for _ in 0..TRIES {
        if socket.send(&wire::solicitation(link.mac), ALL_ROUTERS).await.is_err() {
            return Vec::new();
        }
        let deadline = Instant::now() + ROUTERS;
        while let Ok(Ok(from)) = timeout_at(deadline, socket.receive(&mut message)).await {
            // One that speaks and names none is not asked again.
            if wire::heard(&message, from).is_some_and(|said| said != RouterMessage::Solicitation) {
                return wire::name_servers(&message);
            }
        }
    }
    Vec::new()
}

fn is_made_by_kernel(link: &Link) -> bool {
    let table = small_file(ADDRESSES6.as_ref(), MAX_FILE_BYTES).ok().flatten();
    has_global(&String::from_utf8_lossy(&table.unwrap_or_default()), &link.name)
}

/// Whether a table as `/proc/net/if_inet6` has an address of this interface that is good beyond its link, and may be used.
fn has_global(table: &str, name: &str) -> bool {
    let addresses = ipv6_addresses(table);
    addresses
        .iter()
        .any(|one| one.port == name && one.is_global && one.is_checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::boot_sources::dhcp_url;

    #[test]
    fn an_address_that_is_still_checked_is_none_yet() {
        let line = |scope: &str, flags: &str| format!("20010db8000000000000000000000001 02 40 {scope} {flags} eth0\n");
        for (scope, flags, is_usable) in [
            ("00", "00", true),
            ("00", "80", true),
            ("00", "40", false),
            ("00", "08", false),
            ("20", "80", false),
        ] {
            assert_eq!(has_global(&line(scope, flags), "eth0"), is_usable, "{scope} {flags}");
        }
        assert!(!has_global(&line("00", "00"), "eth1") && !has_global("x\n", "eth0"));
    }

    /// `RECON_TEST_IPV6`: `given` where DHCPv6 gives an address, `made` where a router's word is enough for one, `advertised` where nobody
    /// is asked by DHCPv6.
    #[tokio::test]
    #[ignore = "wants a network namespace with a port eth0, behind which a server of DHCP, DHCPv6 or router advertisements names fd00::1 to resolve names and \
                a URL to boot"]
    async fn addresses_of_both_families_are_given() {
        let link = netif::link_named(Path::new(SYS), "eth0").unwrap();
        let (sender, mut given) = mpsc::channel(4);
        let asking = Asking {
            sender,
            has: Has::default(),
        };
        let limit = Duration::from_secs(60);
        let both = async { tokio::join!(four(&link, &asking), six(&link, &asking)) };
        tokio::time::timeout(limit, both).await.unwrap();
        let mut seen = [false; 2];
        while let Ok((_, one)) = given.try_recv() {
            match one {
                Given::Four(leased) => {
                    assert!(dhcp_url(&leased.boot_file).is_some(), "{leased:?}");
                    assert!(!leased.name_servers.is_empty());
                    seen[IPV4] = true;
                }
                Given::Six(given) => {
                    let how = std::env::var("RECON_TEST_IPV6").unwrap();
                    assert_eq!(given.address.is_none(), how != "given", "{:?}", given.address);
                    let resolves: Ipv6Addr = "fd00::1".parse().unwrap();
                    assert_eq!(given.name_servers, [resolves]);
                    assert_eq!(dhcp_url(&given.boot_file).is_some(), how != "advertised");
                    seen[IPV6] = true;
                }
            }
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn of_each_family_the_first_counts() {
        let has = Has::default();
        assert!(!has.any() && has.take(IPV6) && has.any());
        assert!(!has.take(IPV6) && !has.family(IPV4) && has.take(IPV4));
    }
}
