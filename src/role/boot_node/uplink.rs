//! The way to the network of a boot image: one port, several as one, a VLAN on it; an address that the settings name, or one that is asked for
//! on every wired port, by DHCP, DHCPv6 and router advertisements at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::boot_file::Network;
use crate::config::boot_sources::{Named, Source, dhcp_url};
use crate::config::load::small_file;
use crate::model::console::console;
use crate::model::ula::LINK_PREFIX;
use crate::model::{Endpoint, HTTP_PORT, MacAddr, backoff};
use crate::role::boot_from::settings::ipv6_addresses;
use crate::role::peer::network::{Leased, ask6, exchange, exchange6, usable_link};
use crate::service::dhcp4::probe::{Ask, Overheard, Question, heard, packet};
use crate::service::dhcp6::probe as probe6;
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::DhcpTap;
use crate::sys::udp;

use super::link::{above, bond};

/// What resolves names reads there.
const RESOLVER: &str = "/etc/resolv.conf";
const SYS: &str = "/sys";
/// How often ports are looked for.
const POLL: Duration = Duration::from_millis(500);
/// Where there is an IPv6 address, IPv4 has this long to come as well: the server may have no other.
const OTHER_FAMILY: Duration = Duration::from_secs(10);
/// Masters have this long to answer.
const MASTERS: Duration = Duration::from_secs(3);
/// No machine's number: it is higher than all, so that no election waits for who only asks.
const NOBODY: MacAddr = MacAddr([0xff; 6]);
/// Addresses of IPv6.
const ADDRESSES6: &str = "/proc/net/if_inet6";
/// Longest table of addresses that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// An address that was given.
enum Given {
    Four(Leased),
    /// The address to be set, where the kernel did not do so itself; and what a server says besides.
    Six(Option<Ipv6Addr>, Option<probe6::ServerReply>),
}

const IPV4: usize = 0;
const IPV6: usize = 1;

/// Which families there is an address of.
#[derive(Clone, Default)]
struct Has(Arc<[AtomicBool; 2]>);

impl Has {
    fn family(&self, family: usize) -> bool {
        self.0[family].load(Ordering::Relaxed)
    }

    fn any(&self) -> bool {
        self.family(IPV4) || self.family(IPV6)
    }

    /// True for the first of a family.
    fn take(&self, family: usize) -> bool {
        !self.0[family].swap(true, Ordering::Relaxed)
    }
}

/// What is known of the network by now.
#[derive(Default)]
struct State {
    links: Vec<Link>,
    name_servers: Vec<IpAddr>,
    /// What DHCP servers named to boot, by the interface that it came by and the family: who is asked again takes back nobody else's word.
    boot_files: BTreeMap<(u32, usize), Vec<u8>>,
    masters: BTreeMap<(u32, usize), IpAddr>,
}

impl State {
    /// A server of DHCP said anew what it says on this interface.
    fn answered(&mut self, index: u32, leased: Leased) {
        let from = (index, IPV4);
        self.boot_files.insert(from, leased.boot_file);
        match leased.is_of_recon {
            true => self.masters.insert(from, leased.server.into()),
            false => self.masters.remove(&from),
        };
    }
}

pub(super) struct Uplink {
    state: Arc<Mutex<State>>,
}

impl Uplink {
    /// Returns once there is an address; for ever, saying for what it waits.
    pub(super) async fn bring_up(network: &Network) -> anyhow::Result<Uplink> {
        let netlink = Netlink::open().context("opening netlink")?;
        let state = State {
            name_servers: network.dns.clone(),
            ..State::default()
        };
        let uplink = Uplink {
            state: Arc::new(Mutex::new(state)),
        };
        let fixed = match (network.port, &network.bond[..]) {
            (None, []) => None,
            (Some(mac), _) => Some(usable_link(&netlink, Path::new(SYS), Some(mac)).await),
            (None, ports) => Some(
                bond(&netlink, ports, network.bond_mode())
                    .await
                    .context("making one port of several (bond)")?,
            ),
        };
        match network.address().map_err(|why| anyhow!(why))? {
            Some((address, prefix)) => {
                let link = match fixed {
                    Some(link) => link,
                    None => usable_link(&netlink, Path::new(SYS), None).await,
                };
                let link = above(&netlink, &link, network.vlan).await?;
                set(&netlink, &link, address, prefix, network.gateway).await?;
                uplink.lock().links.push(link);
                uplink.write_resolver()?;
            }
            None => uplink.ask(netlink, fixed, network).await?,
        }
        Ok(uplink)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_resolver(&self) -> anyhow::Result<()> {
        let lines: String = self
            .lock()
            .name_servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        std::fs::write(RESOLVER, lines).context(RESOLVER)
    }

    /// Asks for an address of either family on this port, or on every wired one. The first of each is taken.
    async fn ask(&self, netlink: Netlink, fixed: Option<Link>, network: &Network) -> anyhow::Result<()> {
        let (sender, mut given) = mpsc::channel(4);
        let has = Has::default();
        let asking = Asking {
            sender,
            has: has.clone(),
        };
        tokio::spawn(ask_everywhere(netlink.clone(), fixed, network.vlan, asking));
        let has_servers = !network.dns.is_empty();
        let mut deadline = None;
        while !has.family(IPV4) {
            let next = match deadline {
                None => given.recv().await,
                Some(deadline) => match timeout_at(deadline, given.recv()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let (link, one) = next.context("nobody asks for an address any more")?;
            self.take(&netlink, link, one, &has, has_servers).await?;
            deadline = deadline.or(Some(Instant::now() + OTHER_FAMILY));
        }
        // The other family may be what leads to the server, and come later.
        let later = Uplink {
            state: Arc::clone(&self.state),
        };
        tokio::spawn(async move {
            while !(has.family(IPV4) && has.family(IPV6))
                && let Some((link, one)) = given.recv().await
            {
                if let Err(error) = later.take(&netlink, link, one, &has, has_servers).await {
                    console!("{error:#}");
                }
            }
        });
        Ok(())
    }

    /// Sets an address, unless there is one of its family.
    async fn take(
        &self,
        netlink: &Netlink,
        link: Link,
        given: Given,
        has: &Has,
        has_servers: bool,
    ) -> anyhow::Result<()> {
        let family = match given {
            Given::Four(_) => IPV4,
            Given::Six(..) => IPV6,
        };
        if !has.take(family) {
            return Ok(());
        }
        let (servers, boot_file, master): (Vec<IpAddr>, _, _) = match given {
            Given::Four(leased) => {
                let router = leased.router.map(IpAddr::V4);
                set(netlink, &link, leased.address.into(), leased.prefix, router).await?;
                let master = leased.is_of_recon.then_some(IpAddr::V4(leased.server));
                let servers = leased.name_servers.into_iter().map(IpAddr::V4).collect();
                (servers, leased.boot_file, master)
            }
            Given::Six(address, reply) => {
                match address {
                    Some(address) => set(netlink, &link, address.into(), LINK_PREFIX, None).await?,
                    None => console!("{} has an IPv6 address by the word of its router", link.name),
                }
                let reply = reply.map(|reply| (reply.name_servers, reply.boot_file));
                let (servers, boot_file) = reply.unwrap_or_default();
                (servers.into_iter().map(IpAddr::V6).collect(), boot_file, None)
            }
        };
        let mut state = self.lock();
        if !has_servers {
            state.name_servers.extend(servers);
        }
        let from = (link.index, family);
        state.boot_files.insert(from, boot_file);
        state.masters.extend(master.map(|master| (from, master)));
        state.links.push(link);
        drop(state);
        self.write_resolver()
    }

    /// Whoever on the network says what is to be started: the DHCP server that gave the address, and masters.
    pub(super) async fn named(&self) -> Vec<Named> {
        let (mut named, mut masters, links) = {
            let state = self.lock();
            let urls = state.boot_files.values().filter_map(|file| dhcp_url(file));
            let named: Vec<Named> = urls.map(|url| Named::open(Source::Dhcp, url)).collect();
            let masters: Vec<IpAddr> = state.masters.values().copied().collect();
            (named, masters, state.links.clone())
        };
        if named.is_empty() && masters.is_empty() {
            for link in &links {
                match master_on(link).await {
                    Ok(found) => masters.extend(found),
                    Err(error) => tracing::debug!(link = link.name, %error, "listening for a master"),
                }
            }
        }
        named.extend(masters.into_iter().map(master));
        named
    }

    /// The DHCP servers may have been told meanwhile what to name.
    pub(super) async fn ask_again(&self) {
        let links = self.lock().links.clone();
        for link in links {
            let Ok(tap) = DhcpTap::open(link.index) else { continue };
            if let Ok(Some(leased)) = exchange(&tap, link.mac).await {
                self.lock().answered(link.index, leased);
            }
        }
    }
}

fn master(address: IpAddr) -> Named {
    let base = Endpoint(SocketAddr::new(address, HTTP_PORT));
    Named::open(Source::Master, format!("{base}/boot.ipxe"))
}

/// A master that answers here, also beside another DHCP server.
async fn master_on(link: &Link) -> io::Result<Option<IpAddr>> {
    let tap = DhcpTap::open(link.index)?;
    let question = Question {
        machine: NOBODY,
        nonce: rand::random(),
    };
    tap.broadcast(&packet(Ask::WhoServes(question, None), link.mac, rand::random()))
        .await?;
    let deadline = Instant::now() + MASTERS;
    let mut buffer = Vec::new();
    while let Ok(received) = timeout_at(deadline, tap.receive(&mut buffer)).await {
        received?;
        if let Some(Overheard::Server(spoken)) = heard(&buffer)
            && spoken.recon
            && !spoken.server.is_unspecified()
        {
            return Ok(Some(spoken.server.into()));
        }
    }
    Ok(None)
}

async fn set(
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

/// Where an address that was given goes, and which families have one.
#[derive(Clone)]
struct Asking {
    sender: mpsc::Sender<(Link, Given)>,
    has: Has,
}

/// Asks on this port, or on every wired one; ports that appear meanwhile are asked on as well. Ends with whoever listens.
async fn ask_everywhere(netlink: Netlink, fixed: Option<Link>, vlan: Option<u16>, asking: Asking) {
    let mut asked = BTreeSet::new();
    while !asking.sender.is_closed() {
        let links = match &fixed {
            Some(link) => vec![link.clone()],
            None => netif::wired_links(Path::new(SYS)).unwrap_or_default(),
        };
        for link in links {
            if asked.insert(link.mac) {
                let (netlink, asking, is_fixed) = (netlink.clone(), asking.clone(), fixed.is_some());
                tokio::spawn(async move {
                    let link = match is_fixed {
                        true => link,
                        false => usable_link(&netlink, Path::new(SYS), Some(link.mac)).await,
                    };
                    match above(&netlink, &link, vlan).await {
                        Ok(link) => drop(tokio::join!(four(&link, &asking), six(&link, &asking))),
                        Err(error) => console!("{error:#}"),
                    }
                });
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks by DHCP until there is an address of IPv4, from here or elsewhere.
async fn four(link: &Link, asking: &Asking) {
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
async fn six(link: &Link, asking: &Asking) {
    let socket = udp::on_interface_v6(&link.name, link.index, 546, &[]);
    for tries in 0.. {
        if asking.has.family(IPV6) {
            return;
        }
        let made = is_made_by_kernel(link);
        let given = match (&socket, made) {
            (Ok(socket), true) => {
                let reply = ask6(socket, link, probe6::Ask::Inform, rand::random()).await;
                Some(Given::Six(None, reply))
            }
            (Err(_), true) => Some(Given::Six(None, None)),
            (Ok(socket), false) => exchange6(socket, link)
                .await
                .map(|reply| Given::Six(reply.address, Some(reply))),
            (Err(error), false) => {
                tracing::debug!(link = link.name, %error, "asking by DHCPv6");
                None
            }
        };
        if let Some(given) = given {
            drop(asking.sender.send((link.clone(), given)).await);
            return;
        }
        tokio::time::sleep(backoff::wait(tries.min(3), rand::random())).await;
    }
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

    #[test]
    fn who_is_asked_again_takes_back_its_own_word_alone() {
        let leased = |file: &str, is_of_recon| Leased {
            address: [192, 0, 2, 9].into(),
            prefix: 24,
            server: [192, 0, 2, 1].into(),
            router: None,
            seconds: None,
            name_servers: Vec::new(),
            boot_file: file.as_bytes().to_vec(),
            is_of_recon,
        };
        let mut state = State::default();
        state.boot_files.insert((2, IPV6), b"http://six/".to_vec());
        state.answered(2, leased("", true));
        state.answered(3, leased("http://other/", false));
        state.answered(2, leased("pxelinux.0", false));
        let files: Vec<_> = state.boot_files.values().filter_map(|file| dhcp_url(file)).collect();
        assert_eq!(files, ["http://six/", "http://other/"]);
        assert!(state.masters.is_empty(), "it is no master any more");
    }

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

    /// `RECON_TEST_IPV6=made` where a router's word is enough for an address, else DHCPv6 gives it.
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
                Given::Six(address, reply) => {
                    let is_made = std::env::var("RECON_TEST_IPV6").is_ok_and(|how| how == "made");
                    assert_eq!(address.is_none(), is_made, "{address:?}");
                    let reply = reply.unwrap();
                    assert_eq!(reply.name_servers, ["fd00::1".parse::<Ipv6Addr>().unwrap()]);
                    assert!(dhcp_url(&reply.boot_file).is_some(), "{reply:?}");
                    seen[IPV6] = true;
                }
            }
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn a_master_is_asked_for_its_boot_script() {
        for (address, url) in [
            ("192.168.219.1", "http://192.168.219.1/boot.ipxe"),
            ("fd00::1", "http://[fd00::1]/boot.ipxe"),
        ] {
            assert_eq!(master(address.parse().unwrap()).url.as_deref(), Some(url));
        }
    }

    #[test]
    fn of_each_family_the_first_counts() {
        let has = Has::default();
        assert!(!has.any() && has.take(IPV6) && has.any());
        assert!(!has.take(IPV6) && !has.family(IPV4) && has.take(IPV4));
    }
}
