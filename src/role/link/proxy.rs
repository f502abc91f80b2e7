//! The services of a link that proxies: boot files at an address that somebody else's DHCP server gave this machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;

use crate::config::Subnet;
use crate::service::dhcp4::proxy::Params;
use crate::service::dhcp4::proxy_server::Server;
use crate::sys::netif::{Link, Netlink};
use crate::sys::udp;

use crate::role::link::own_address::Own;
use crate::role::link::routes::{Route, add_routes, remove_routes};
use crate::role::link::shared::{OnLink, Shared};
use crate::role::link::sockets::{FileSockets, binding};
use crate::role::link::tasks::Tasks;

/// Ports of PXE 2.1 §2.2.3.
const DHCP: u16 = 67;
pub(crate) const BOOT_SERVER: u16 = 4011;

/// What runs on a link that proxies.
pub(crate) struct ProxyServices {
    pub tasks: Tasks,
    pub own: Own,
    routes: Vec<Route>,
}

/// What boot servers answer at this address.
pub(crate) fn boot_params(shared: &Shared, server: Ipv4Addr, prefix: u8) -> Params {
    Params {
        server,
        prefix,
        routed: shared.settings().now().routed(server).collect(),
        boot: shared.boot_source(),
    }
}

/// Sets the address if it is a lease, binds every socket, and only then starts to serve.
pub(crate) async fn start(on: &OnLink<'_>, own: Own) -> anyhow::Result<ProxyServices> {
    let (shared, link, address) = (on.shared, on.link, own.address);
    if own.leased {
        on.netlink
            .add_address(link.index, address, own.prefix)
            .await
            .with_context(|| format!("setting {address}/{} on {}", own.prefix, link.name))?;
    }
    let on_link = |port| udp::on_interface(&link.name, port).with_context(|| binding("proxyDHCP", address, port));
    let server = Server {
        dhcp: Some(on_link(DHCP)?),
        boot_server: on_link(BOOT_SERVER)?,
        params: boot_params(shared, address, own.prefix),
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
    };
    let files = FileSockets::bind(address.into(), shared.http_port).await?;
    let mut tasks = Tasks::default();
    let stop = tasks.stop.clone();
    tasks.spawn("proxyDHCP", server.run(stop));
    files.serve(&shared.site, &mut tasks);
    let near = Subnet::around(address, own.prefix);
    let is_near = |hop| near.as_ref().is_ok_and(|near| near.contains(hop));
    let mut routes = shared.settings().now().ways(is_near);
    // As the other server says it to every host of this network.
    routes.extend(own.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)));
    add_routes(on.netlink, link, &routes).await;
    Ok(ProxyServices { tasks, own, routes })
}

impl ProxyServices {
    /// Ends the services; a leased address goes with them.
    pub(crate) async fn end(self, netlink: &Netlink, link: &Link) {
        self.tasks.end().await;
        remove_routes(netlink, link, &self.routes).await;
        if self.own.leased
            && let Err(error) = netlink.remove_address(link.index, self.own.address).await
        {
            tracing::debug!(link = link.name, %error, "removing the address");
        }
    }
}
