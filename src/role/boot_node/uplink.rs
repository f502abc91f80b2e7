//! The way to the network of a boot image: one port, several as one, a VLAN on it; an address that the settings name, or one that is asked for
//! on every wired port, by DHCP, DHCPv6 and router advertisements at once.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::boot_file::Network;
use crate::config::boot_sources::{Named, Source, dhcp_url};
use crate::model::console::console;
use crate::model::{Endpoint, HTTP_PORT, MacAddr};
use crate::role::peer::network::{Leased, offered, usable_link};
use crate::service::dhcp4::probe::{Ask, Overheard, Question, heard, packet};
use crate::sys::netif::{Link, Netlink};
use crate::sys::packet::DhcpTap;

use super::asking::{Asking, Given, Has, IPV4, IPV6, Leased6, SYS, ask_everywhere};
use super::leases::{Held6, keep4, keep6, set, set4, set6};
use super::link::{above, bond};

/// What resolves names reads there.
const RESOLVER: &str = "/etc/resolv.conf";
/// Where there is an IPv6 address, IPv4 has this long to come as well: the server may have no other.
const OTHER_FAMILY: Duration = Duration::from_secs(10);
/// Masters have this long to answer.
const MASTERS: Duration = Duration::from_secs(3);
/// Servers that resolve names, of all that name some.
const MAX_NAME_SERVERS: usize = 16;
/// No machine's number: it is higher than all, so that no election waits for who only asks.
const NOBODY: MacAddr = MacAddr([0xff; 6]);

/// What is known of the network by now.
#[derive(Default)]
struct State {
    links: Vec<Link>,
    /// Those of the settings. Where there are any, nobody else is believed.
    own_servers: Vec<IpAddr>,
    /// Those that somebody named, and on which interface; as the next ones, by the number of that and the family.
    name_servers: BTreeMap<(u32, usize), (String, Vec<IpAddr>)>,
    /// What DHCP servers named to boot, by the interface that it came by and the family: who is asked again takes back its own word and
    /// nobody else's.
    boot_files: BTreeMap<(u32, usize), Vec<u8>>,
    masters: BTreeMap<(u32, usize), IpAddr>,
}

impl State {
    /// Both families may come by one.
    fn add(&mut self, link: Link) {
        if !self.links.iter().any(|one| one.index == link.index) {
            self.links.push(link);
        }
    }

    /// A server of DHCP says, perhaps anew, what it says on this interface.
    fn answered(&mut self, link: &Link, leased: &Leased) {
        let from = (link.index, IPV4);
        self.boot_files.insert(from, leased.boot_file.clone());
        match leased.is_of_recon {
            true => self.masters.insert(from, leased.server.into()),
            false => self.masters.remove(&from),
        };
    }

    /// Who gave the address that is held there says who resolves names.
    fn leased(&mut self, link: &Link, leased: &Leased) {
        self.answered(link, leased);
        let servers = leased.name_servers.iter().copied().map(IpAddr::V4);
        let from = (link.index, IPV4);
        self.name_servers.insert(from, (link.name.clone(), servers.collect()));
    }

    /// The same of what a server of DHCPv6 or a router says.
    fn answered6(&mut self, link: &Link, given: Leased6) {
        let from = (link.index, IPV6);
        self.boot_files.insert(from, given.boot_file);
        let servers = given.name_servers.into_iter().map(IpAddr::V6);
        self.name_servers.insert(from, (link.name.clone(), servers.collect()));
    }

    /// What resolves names is to read (resolv.conf(5)).
    fn resolver(&self) -> String {
        if !self.own_servers.is_empty() {
            let first = self.links.first().map(|link| &link.name[..]);
            return self
                .own_servers
                .iter()
                .map(|server| name_server(*server, first))
                .collect();
        }
        // The first of each, then the second ones: whoever resolves names asks few.
        let mut lines = Vec::new();
        for turn in 0..MAX_NAME_SERVERS {
            for (link, servers) in self.name_servers.values() {
                let line = servers.get(turn).map(|server| name_server(*server, Some(link)));
                lines.extend(line.filter(|line| !lines.contains(line)));
            }
        }
        lines.truncate(MAX_NAME_SERVERS);
        lines.concat()
    }
}

/// A line of it. An address that holds on one link goes with its interface (RFC 4007 §11).
fn name_server(server: IpAddr, link: Option<&str>) -> String {
    match (server, link) {
        (IpAddr::V6(address), Some(link)) if address.is_unicast_link_local() => {
            format!("nameserver {address}%{link}\n")
        }
        _ => format!("nameserver {server}\n"),
    }
}

#[derive(Clone)]
pub(super) struct Uplink {
    state: Arc<Mutex<State>>,
}

impl Uplink {
    /// Returns once there is an address; for ever, saying for what it waits.
    pub(super) async fn bring_up(network: &Network) -> anyhow::Result<Uplink> {
        let netlink = Netlink::open().context("opening netlink")?;
        let state = State {
            own_servers: network.dns.clone(),
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
        let text = self.lock().resolver();
        std::fs::write(RESOLVER, text).context(RESOLVER)
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
            match self.take(&netlink, link, one, &has).await {
                Err(error) if has.any() => console!("{error:#}"),
                done => done?,
            }
            deadline = deadline.or(Some(Instant::now() + OTHER_FAMILY));
        }
        // The other family may be what leads to the server, and come later.
        let later = self.clone();
        tokio::spawn(async move {
            while !(has.family(IPV4) && has.family(IPV6))
                && let Some((link, one)) = given.recv().await
            {
                if let Err(error) = later.take(&netlink, link, one, &has).await {
                    console!("{error:#}");
                }
            }
        });
        Ok(())
    }

    /// Sets an address, unless there is one of its family, and holds it.
    async fn take(&self, netlink: &Netlink, link: Link, given: Given, has: &Has) -> anyhow::Result<()> {
        let family = match given {
            Given::Four(_) => IPV4,
            Given::Six(_) => IPV6,
        };
        if has.family(family) {
            return Ok(());
        }
        match given {
            Given::Four(leased) => {
                set4(netlink, &link, &leased).await?;
                self.lock().leased(&link, &leased);
                let (all, at) = (self.clone(), link.clone());
                let told = move |next: &Leased| {
                    all.lock().leased(&at, next);
                    if let Err(error) = all.write_resolver() {
                        console!("{error:#}");
                    }
                };
                tokio::spawn(keep4(netlink.clone(), link.clone(), leased, told));
            }
            Given::Six(given) => {
                match given.address {
                    Some(address) => {
                        set6(netlink, &link, address).await?;
                        let held = Held6 {
                            address,
                            server: given.server.clone(),
                            lifetime: given.lifetime,
                        };
                        tokio::spawn(keep6(netlink.clone(), link.clone(), held));
                    }
                    None => console!("{} has an IPv6 address by the word of its router", link.name),
                }
                self.lock().answered6(&link, given);
            }
        }
        has.take(family);
        self.lock().add(link);
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

    /// The DHCP servers may have been told meanwhile what to name. What they offer besides is not taken: the address that was given is held.
    pub(super) async fn ask_again(&self) {
        let links = self.lock().links.clone();
        for link in links {
            let Ok(tap) = DhcpTap::open(link.index) else { continue };
            if let Ok(Some(offer)) = offered(&tap, link.mac).await {
                self.lock().answered(&link, &offer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lifetime;

    fn link(index: u32) -> Link {
        Link {
            name: format!("eth{index}"),
            index,
            mac: NOBODY,
            carrier: true,
        }
    }

    #[test]
    fn who_is_asked_again_takes_back_its_own_word_alone() {
        let leased = |file: &str, is_of_recon| Leased {
            address: [192, 0, 2, 9].into(),
            prefix: 24,
            server: [192, 0, 2, 1].into(),
            router: None,
            lifetime: Lifetime::OVER,
            name_servers: Vec::new(),
            boot_file: file.as_bytes().to_vec(),
            is_of_recon,
        };
        let mut state = State::default();
        state.boot_files.insert((2, IPV6), b"http://six/".to_vec());
        state.answered(&link(2), &leased("", true));
        state.answered(&link(3), &leased("http://other/", false));
        let named = Leased {
            name_servers: vec![[192, 0, 2, 53].into()],
            ..leased("", true)
        };
        state.leased(&link(2), &named);
        // What another server offers does not say who resolves names.
        state.answered(&link(2), &leased("pxelinux.0", false));
        assert_eq!(state.resolver(), "nameserver 192.0.2.53\n");
        let files: Vec<_> = state.boot_files.values().filter_map(|file| dhcp_url(file)).collect();
        assert_eq!(files, ["http://six/", "http://other/"]);
        assert!(state.masters.is_empty(), "it is no master any more");
    }

    #[test]
    fn a_name_server_of_one_link_goes_with_its_interface() {
        let six = |servers: &[&str]| Leased6 {
            name_servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
            ..Leased6::default()
        };
        let mut state = State::default();
        state.links.push(link(2));
        state.answered6(&link(3), six(&["fd00::51"]));
        // Whoever is asked again takes back its own word.
        state.answered6(&link(3), six(&["fe80::53", "fd00::53", "fd00::53"]));
        assert_eq!(state.resolver(), "nameserver fe80::53%eth3\nnameserver fd00::53\n");
        // Each has its turn, in the order of the links.
        let many: Vec<String> = (0..20).map(|number| format!("fd00::{number:x}")).collect();
        state.answered6(&link(2), six(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        let text = state.resolver();
        let first: Vec<_> = text.lines().take(4).collect();
        assert_eq!(
            first,
            ["fd00::", "fe80::53%eth3", "fd00::1", "fd00::53"].map(|server| format!("nameserver {server}"))
        );
        assert_eq!(text.lines().count(), MAX_NAME_SERVERS);
        state.own_servers = vec!["fe80::1".parse().unwrap(), "192.0.2.53".parse().unwrap()];
        assert_eq!(state.resolver(), "nameserver fe80::1%eth2\nnameserver 192.0.2.53\n");
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
}
