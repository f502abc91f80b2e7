//! Getting a port of a peer onto the network: carrier, then the address its boot loader held or one by DHCP or DHCPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use dhcproto::v4::MessageType;
use dhcproto::v6;
use tokio::net::UdpSocket;

use crate::model::console::console;
use crate::model::ula::LINK_PREFIX;
use crate::model::{Lifetime, MacAddr};
use crate::service::dhcp4::probe::{Ask, Overheard, heard, packet};
use crate::service::dhcp6::probe as probe6;
use crate::service::dhcp6::wire::MAX_DATAGRAM;
use crate::service::ra::server::ALL_DHCP_SERVERS;
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::DhcpTap;
use crate::sys::udp;

use crate::model::backoff;

/// An address of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAddress {
    pub address: IpAddr,
    pub prefix: u8,
    /// The way to other networks, in IPv4.
    pub router: Option<Ipv4Addr>,
}

/// How often sysfs is looked at for a port or its carrier.
const POLL: Duration = Duration::from_millis(100);
/// How often a wait is mentioned on the console.
pub(crate) const MENTION: Duration = Duration::from_secs(10);
/// A DHCP server has this long to answer one packet.
const ANSWER: Duration = Duration::from_secs(4);

/// Brings the port with this MAC up, with the address `held` or one that is asked for. `v6`: the master is reached over IPv6; an address of the other family is no use then. Gives the port and what it has now; what
/// is there already is no error.
pub(crate) async fn bring_up(
    mac: Option<MacAddr>,
    held: Option<PortAddress>,
    v6: bool,
) -> anyhow::Result<(MacAddr, PortAddress)> {
    let netlink = Netlink::open().context("opening netlink")?;
    let link = usable_link(&netlink, Path::new("/sys"), mac).await;
    let asking = || format!("asking for an address on {}", link.name);
    let held = match held.filter(|held| held.address.is_ipv6() == v6) {
        Some(held) => held,
        None if v6 => by_dhcp6(&link).await.with_context(asking)?,
        None => by_dhcp(&link).await.with_context(asking)?,
    };
    let set = netlink.add_address(link.index, held.address, held.prefix).await;
    set.with_context(|| format!("setting {}/{} on {}", held.address, held.prefix, link.name))?;
    console!("{} is {}/{}", link.name, held.address, held.prefix);
    if let Some(router) = held.router {
        let everywhere = Ipv4Addr::UNSPECIFIED;
        if let Err(error) = netlink.add_route(link.index, everywhere, 0, router).await {
            console!("{}: no way by the router {router}: {error}", link.name);
        }
    }
    Ok((link.mac, held))
}

/// Waits for the port with this MAC, or for any wired port if none is named, to exist and to have carrier; brings it up.
/// Waits for ever and says for what: a driver may still load, a switch port may still block, a cable may be plugged in.
pub(crate) async fn usable_link(netlink: &Netlink, sys: &Path, mac: Option<MacAddr>) -> Link {
    let mut waited = Duration::ZERO;
    loop {
        let links = netif::wired_links(sys).unwrap_or_default();
        let is_meant = |link: &&Link| mac.is_none_or(|mac| link.mac == mac);
        let candidates: Vec<&Link> = links.iter().filter(is_meant).collect();
        if let Some(link) = candidates.iter().find(|link| link.carrier) {
            return (*link).clone();
        }
        for link in &candidates {
            if let Err(error) = netlink.up(link.index).await {
                tracing::debug!(link = link.name, %error, "bringing a link up");
            }
        }
        tokio::time::sleep(POLL).await;
        waited += POLL;
        if waited.as_millis().is_multiple_of(MENTION.as_millis()) {
            let names = candidates.iter().map(|link| link.name.as_str());
            console!("{}", waiting(names, mac));
        }
    }
}

/// What is waited for: carrier on one of these ports; where there is none, for the one with this MAC, or any.
pub(crate) fn waiting<'a>(dark: impl Iterator<Item = &'a str>, mac: Option<MacAddr>) -> String {
    let names: Vec<&str> = dark.collect();
    match mac {
        _ if !names.is_empty() => format!("waiting for carrier on {}: check cable and switch", names.join(", ")),
        Some(mac) => format!("waiting for the port {mac}: no driver has brought it up yet"),
        None => "waiting for a wired network port: no driver has brought one up yet".to_owned(),
    }
}

/// A lease of somebody's DHCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leased {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub server: Ipv4Addr,
    pub router: Option<Ipv4Addr>,
    pub lifetime: Lifetime,
    pub name_servers: Vec<Ipv4Addr>,
    /// What the server names to boot, as it stands there.
    pub boot_file: Vec<u8>,
    /// The server is a recon master.
    pub is_of_recon: bool,
}

/// Asks until an address is given, for ever, saying for what it waits.
async fn until_given(
    link: &Link,
    protocol: &str,
    mut ask: impl AsyncFnMut() -> io::Result<Option<PortAddress>>,
) -> io::Result<PortAddress> {
    let mut tries = 0u32;
    loop {
        if let Some(given) = ask().await? {
            return Ok(given);
        }
        console!("waiting for a {protocol} server on {}", link.name);
        tokio::time::sleep(backoff::wait(tries, rand::random())).await;
        tries = tries.saturating_add(1);
    }
}

async fn by_dhcp(link: &Link) -> io::Result<PortAddress> {
    let tap = DhcpTap::open(link.index)?;
    let given = |leased: Leased| PortAddress {
        address: leased.address.into(),
        prefix: leased.prefix,
        router: leased.router,
    };
    until_given(link, "DHCP", async || Ok(exchange(&tap, link.mac).await?.map(given))).await
}

async fn by_dhcp6(link: &Link) -> io::Result<PortAddress> {
    let socket = udp::on_interface_v6(&link.name, link.index, 546, &[])?;
    let given = |reply: probe6::ServerReply| {
        Some(PortAddress {
            address: reply.address?.into(),
            prefix: LINK_PREFIX,
            router: None,
        })
    };
    until_given(link, "DHCPv6", async || {
        Ok(exchange6(&socket, link).await.and_then(given))
    })
    .await
}

/// One whole exchange: SOLICIT, ADVERTISE, REQUEST, REPLY; a server may leave out the two in the middle. `None`: a packet was not answered.
pub(crate) async fn exchange6(socket: &UdpSocket, link: &Link) -> Option<probe6::ServerReply> {
    let xid = rand::random();
    let mut heard = ask6(socket, link, probe6::Ask::Solicit, xid).await?;
    if heard.kind == v6::MessageType::Advertise {
        let (server, address) = (heard.server, heard.address?);
        heard = ask6(socket, link, probe6::Ask::Request { server, address }, xid).await?;
    }
    (heard.kind == v6::MessageType::Reply && heard.address.is_some()).then_some(heard)
}

/// One question and its answer. A question that cannot leave, as while the kernel still checks the link-local address,
/// counts as unanswered.
pub(crate) async fn ask6(
    socket: &UdpSocket,
    link: &Link,
    ask: probe6::Ask,
    xid: [u8; 3],
) -> Option<probe6::ServerReply> {
    if !udp::source_towards(ALL_DHCP_SERVERS, link.index).is_ok_and(|source| source.is_unicast_link_local()) {
        return None;
    }
    let servers = SocketAddrV6::new(ALL_DHCP_SERVERS, 547, 0, link.index);
    let question = probe6::packet(&ask, link.mac, xid);
    socket.send_to(&question, servers).await.ok()?;
    let deadline = tokio::time::Instant::now() + ANSWER;
    let mut buffer = [0; MAX_DATAGRAM];
    while let Ok(received) = tokio::time::timeout_at(deadline, socket.recv_from(&mut buffer)).await {
        if let Ok((length, SocketAddr::V6(_))) = received
            && let Some(heard) = probe6::heard(&buffer[..length]).filter(|heard| heard.xid == xid)
        {
            return Some(heard);
        }
    }
    None
}

/// What the first server offers, which is not taken. `None`: nobody answered.
pub(crate) async fn offered(tap: &DhcpTap, mac: MacAddr) -> io::Result<Option<Leased>> {
    match ask(tap, Ask::Discover, mac, rand::random(), MessageType::Offer, None).await? {
        Answer::Given(offer) => Ok(Some(offer)),
        Answer::Refused | Answer::Nothing => Ok(None),
    }
}

/// One whole exchange: DISCOVER, OFFER, REQUEST, ACK. `None`: a packet was not answered.
pub(crate) async fn exchange(tap: &DhcpTap, mac: MacAddr) -> io::Result<Option<Leased>> {
    let xid = rand::random();
    let Answer::Given(offer) = ask(tap, Ask::Discover, mac, xid, MessageType::Offer, None).await? else {
        return Ok(None);
    };
    let request = Ask::Request {
        server: offer.server,
        address: offer.address,
    };
    Ok(
        match ask(tap, request, mac, xid, MessageType::Ack, Some(offer.server)).await? {
            Answer::Given(leased) => Some(leased),
            Answer::Refused | Answer::Nothing => None,
        },
    )
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Given(Leased),
    Refused,
    Nothing,
}

/// Asks for more time with an address that is held. `server`: who gave it, where nobody else may say no.
pub(crate) async fn renew(
    tap: &DhcpTap,
    mac: MacAddr,
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
) -> io::Result<Answer> {
    ask(
        tap,
        Ask::Renew { address },
        mac,
        rand::random(),
        MessageType::Ack,
        server,
    )
    .await
}

/// `server`: whose no counts; none: anybody's.
async fn ask(
    tap: &DhcpTap,
    ask: Ask,
    mac: MacAddr,
    xid: u32,
    want: MessageType,
    server: Option<Ipv4Addr>,
) -> io::Result<Answer> {
    tap.broadcast(&packet(ask, mac, xid)).await?;
    let deadline = tokio::time::Instant::now() + ANSWER;
    let mut buffer = Vec::new();
    while let Ok(received) = tokio::time::timeout_at(deadline, tap.receive(&mut buffer)).await {
        received?;
        match heard(&buffer) {
            Some(Overheard::Server(spoken)) if spoken.xid != xid => {}
            Some(Overheard::Server(spoken)) if spoken.kind == MessageType::Nak => match server {
                Some(server) if server != spoken.server => {}
                _ => return Ok(Answer::Refused),
            },
            Some(Overheard::Server(spoken)) if spoken.kind == want && !spoken.yours.is_unspecified() => {
                return Ok(Answer::Given(Leased {
                    address: spoken.yours,
                    prefix: spoken.netmask.map_or(24, |mask| u32::from(mask).leading_ones() as u8),
                    server: spoken.server,
                    router: spoken.router,
                    lifetime: spoken.lifetime,
                    name_servers: spoken.name_servers,
                    boot_file: spoken.boot_file,
                    is_of_recon: spoken.recon,
                }));
            }
            _ => {}
        }
    }
    Ok(Answer::Nothing)
}
