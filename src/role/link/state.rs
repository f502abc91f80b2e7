//! One link of a master: what was decided for it, what runs there, and how that ends.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Subnet;
use crate::model::api::{Ipv6Status, LinkMode};
use crate::model::ula::Prefix64;
use crate::model::{CONSOLE, MacAddr};
use crate::service::dhcp4::probe::{Role, announcement};
use crate::sys::netif::{Link, Netlink};
use crate::sys::packet::DhcpListener;

use super::own_address::OwnAddress;
use crate::role::link::address_claim::Place;
use crate::role::link::election::Election;
use crate::role::link::proof::Voice;
use crate::role::link::proxy;
use crate::role::link::proxy::Proxying;

/// A link and everything that runs for it.
pub(crate) struct Watched {
    pub link: Link,
    pub election: Election,
    pub voice: Voice,
    pub listener: Arc<DhcpListener>,
    /// Ends the thread that listens.
    pub _listening: DropGuard,
    /// Place among the served links, which gives the subnet; kept once given.
    pub place: Option<u32>,
    /// The same for the IPv6 prefix, which a link with a given subnet has as well.
    pub place6: Option<u32>,
    pub subnet: Option<Subnet>,
    /// A person named our address there; no other is taken.
    pub subnet_given: bool,
    /// Which address of it is ours.
    pub own_place: Place,
    /// The address that was served last, under which the leases are kept.
    pub served: Option<Ipv4Addr>,
    pub service: Option<Service>,
    /// Address on somebody else's network, while this link proxies.
    pub own: Option<OwnAddress>,
    pub proxying: Option<Proxying>,
    /// Services could not start; when to try again.
    pub retry_at: Option<f64>,
    pub problem: Option<String>,
    /// The mode on screen, since when, and how often it changed.
    pub shown: (LinkMode, f64, u32),
}

/// Tasks that end together.
#[derive(Default)]
pub(crate) struct Tasks {
    pub stop: CancellationToken,
    pub set: JoinSet<anyhow::Result<()>>,
}

impl Tasks {
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        while self.set.join_next().await.is_some() {}
    }

    /// A task that ended by itself is an error of the whole.
    pub(crate) fn check(&mut self, link: &str) -> anyhow::Result<()> {
        match self.set.try_join_next() {
            None => Ok(()),
            Some(Ok(Ok(()))) => bail!("a service on {link} ended by itself"),
            Some(Ok(Err(error))) => Err(error.context(format!("serving {link}"))),
            Some(Err(error)) => Err(anyhow::Error::new(error).context(format!("serving {link}"))),
        }
    }
}

/// Destination, prefix length, next hop.
pub(crate) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// A link that is served, or was and whose leases run out.
pub(crate) struct Service {
    pub tasks: Tasks,
    /// The part that gives leases; `None` while those that are held run out.
    pub giving: Option<Tasks>,
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// To networks behind routers: destination, prefix length, next hop.
    pub routes: Vec<Route>,
    pub ipv6: Option<(Prefix64, Arc<Mutex<Ipv6Status>>)>,
    /// Who else was heard with our address.
    pub rival: Arc<Mutex<Option<MacAddr>>>,
}

impl Watched {
    pub(crate) fn mode(&self, elect: bool) -> LinkMode {
        let serving = self.service.as_ref().is_some_and(|service| service.giving.is_some());
        match self.election.mode() {
            _ if !elect && serving => LinkMode::Serve,
            // Decided, and its sockets are not there yet.
            LinkMode::Serve if !serving => LinkMode::Probing,
            mode => mode,
        }
    }

    pub(crate) fn reason(&self) -> String {
        let mut reason = self.election.reason();
        if self.election.mode() == LinkMode::Proxy && self.proxying.is_none() {
            reason.push_str("; waiting for an address from it");
        }
        reason
    }

    /// What is done in IPv6, while the link is served.
    pub(crate) fn ipv6(&self) -> Option<Ipv6Status> {
        let service = self.service.as_ref().filter(|service| service.giving.is_some())?;
        let (_, status) = service.ipv6.as_ref()?;
        Some(status.lock().expect("no holder panics").clone())
    }

    /// True for an address of this machine on the link.
    pub(crate) fn has(&self, address: Ipv4Addr) -> bool {
        let proxying = self.proxying.as_ref().map(|proxying| proxying.own.address);
        let service = self.service.as_ref().map(|service| service.address);
        proxying == Some(address) || service == Some(address)
    }

    pub(crate) fn send(&self, packet: Vec<u8>) {
        if let Err(error) = self.listener.broadcast(&packet) {
            tracing::debug!(link = self.link.name, %error, "sending a DHCP question");
        }
    }

    /// Says who serves here, once it does.
    pub(crate) fn announce(&self) {
        let service = self.service.as_ref().filter(|service| service.giving.is_some());
        let (role, address) = match self.election.mode() {
            LinkMode::Serve => (Role::Serve, service.map(|service| service.address)),
            LinkMode::Proxy => (Role::Proxy, self.proxying.as_ref().map(|proxying| proxying.own.address)),
            _ => return,
        };
        if let Some(address) = address {
            let (said, proof) = self.voice.announce(role, address);
            self.send(announcement(said, proof, rand::random()));
        }
    }

    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let name = &self.link.name;
        if let Some(service) = &mut self.service {
            service.tasks.check(name)?;
            if let Some(giving) = &mut service.giving {
                giving.check(name)?;
            }
        }
        match &mut self.proxying {
            Some(proxying) => proxying.tasks.check(name),
            None => Ok(()),
        }
    }
}

/// A task whose error says which service it was.
pub(crate) async fn named(name: &'static str, task: impl Future<Output = std::io::Result<()>>) -> anyhow::Result<()> {
    task.await.with_context(|| format!("the {name} service"))
}

/// Ends what must not run in this mode. Machines that hold leases of ours go on with the rest, until those run out; only
/// where another recon master has the same addresses, or nobody is there, that ends at once.
pub(crate) async fn stop_for(netlink: &Netlink, watched: &mut Watched, mode: LinkMode) {
    if mode != LinkMode::Proxy {
        watched.own = None;
        if let Some(proxying) = watched.proxying.take() {
            proxy::stop(netlink, &watched.link, proxying).await;
        }
    }
    match mode {
        LinkMode::Serve => {}
        LinkMode::Down | LinkMode::Yield => stop_service(netlink, watched).await,
        LinkMode::Probing | LinkMode::Proxy | LinkMode::Silent => {
            if let Some(giving) = watched.service.as_mut().and_then(|service| service.giving.take()) {
                giving.end().await;
            }
        }
    }
}

pub(crate) async fn stop_all(netlink: &Netlink, watched: &mut Watched) {
    stop_for(netlink, watched, LinkMode::Down).await;
}

/// Sets the routes of a link; what does not work is said, and costs the machines behind it only.
pub(crate) async fn add_routes(netlink: &Netlink, link: &Link, routes: &[Route]) {
    for (network, prefix, router) in routes {
        match netlink.add_route(link.index, *network, *prefix, *router).await {
            Ok(()) => tracing::info!(target: CONSOLE, "{}: {network}/{prefix} is behind {router}", link.name),
            Err(error) => tracing::info!(target: CONSOLE, "{}: no way to {network}/{prefix} by {router}: {error}",
                link.name),
        }
    }
}

pub(crate) async fn remove_routes(netlink: &Netlink, link: &Link, routes: &[Route]) {
    for (network, prefix, router) in routes {
        if let Err(error) = netlink.remove_route(link.index, *network, *prefix, *router).await {
            tracing::debug!(link = link.name, %error, "removing a route");
        }
    }
}

pub(crate) async fn stop_service(netlink: &Netlink, watched: &mut Watched) {
    let Some(service) = watched.service.take() else {
        return;
    };
    if let Some(giving) = service.giving {
        giving.end().await;
    }
    service.tasks.end().await;
    remove_routes(netlink, &watched.link, &service.routes).await;
    if let Err(error) = netlink.remove_address(watched.link.index, service.address).await {
        tracing::debug!(link = watched.link.name, %error, "removing the address");
    }
    if let Some((prefix, _)) = service.ipv6
        && let Err(error) = netlink.remove_address(watched.link.index, prefix.server()).await
    {
        tracing::debug!(link = watched.link.name, %error, "removing the IPv6 address");
    }
}
