//! Routes of a link to the networks behind routers.

use std::net::Ipv4Addr;

use crate::model::console::console;
use crate::sys::netif::{Link, Netlink};

/// Destination, prefix length, next hop.
pub(crate) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// Sets the routes of a link; what does not work is said, and costs the machines behind it only.
pub(crate) async fn add_routes(netlink: &Netlink, link: &Link, routes: &[Route]) {
    for (network, prefix, router) in routes {
        match netlink.add_route(link.index, *network, *prefix, *router).await {
            Ok(()) => console!("{}: {network}/{prefix} is behind {router}", link.name),
            Err(error) => console!("{}: no way to {network}/{prefix} by {router}: {error}", link.name),
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
