//! Services at an address of this machine, and what the kernel is told of the link for them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;

use crate::model::console::console;
use crate::model::ula::Prefix64;
use crate::sys::netif::{Link, Netlink};

use crate::role::link::own_address::Own;
use crate::role::link::tasks::Tasks;

/// Destination, prefix length, next hop.
pub(crate) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// What runs at an address, and goes with it.
pub(crate) struct Services {
    pub tasks: Tasks,
    pub own: Own,
    /// The network of the link in IPv6, whose first address is ours, too.
    pub prefix6: Option<Prefix64>,
    pub routes: Vec<Route>,
}

impl Services {
    /// Ends them, and takes away what this program set on the link.
    pub(crate) async fn end(self, netlink: &Netlink, link: &Link) {
        self.tasks.end().await;
        for (network, prefix, router) in self.routes {
            if let Err(error) = netlink.remove_route(link.index, network, prefix, router).await {
                tracing::debug!(%network, %error, "removing a route");
            }
        }
        let address = self.own.set_here.then_some(IpAddr::V4(self.own.address));
        let address6 = self.prefix6.map(|prefix| IpAddr::V6(prefix.server()));
        for address in address.into_iter().chain(address6) {
            if let Err(error) = netlink.remove_address(link.index, address).await {
                tracing::debug!(%address, %error, "removing an address");
            }
        }
    }
}

pub(crate) async fn set_address(netlink: &Netlink, link: &Link, address: IpAddr, prefix: u8) -> anyhow::Result<()> {
    let set = netlink.add_address(link.index, address, prefix).await;
    set.with_context(|| format!("setting {address}/{prefix} on {}", link.name))
}

/// Sets the routes of a link; what does not work is said, and costs the machines behind it only.
pub(crate) async fn add_routes(netlink: &Netlink, link: &Link, routes: &[Route]) {
    for (network, prefix, router) in routes {
        match netlink.add_route(link.index, *network, *prefix, *router).await {
            Ok(()) => console!("{}: {network}/{prefix} is behind {router}", link.name),
            Err(error) => console!("{}: no way to {network}/{prefix} by {router}: {error}", link.name),
        }
    }
}
