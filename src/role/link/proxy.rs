//! The services of a link that proxies: boot files at an address that somebody else's DHCP server gave this machine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::UdpSocket;

use crate::config::Subnet;
use crate::service::dhcp4::proxy::Params;
use crate::service::dhcp4::proxy_server::Server;
use crate::sys::udp;

use crate::role::link::own_address::Own;
use crate::role::link::services::{Services, add_routes, set_address};
use crate::role::link::shared::{OnLink, Shared};
use crate::role::link::sockets::{FileSockets, binding};
use crate::role::link::tasks::Tasks;

/// Ports of PXE 2.1 §2.2.3.
const DHCP: u16 = 67;
pub(crate) const BOOT_SERVER: u16 = 4011;

/// What answers at this address who boots from where.
pub(crate) fn server(shared: &Shared, own: Own, dhcp: Option<UdpSocket>, boot_server: UdpSocket) -> Server {
    Server {
        dhcp,
        boot_server,
        params: Params {
            server: own.address,
            prefix: own.prefix,
            routed: shared.settings().now().routed(own.address).collect(),
            boot: shared.boot_source(),
        },
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
    }
}

/// Sets the address if it is a lease, binds every socket, and only then starts to serve.
pub(crate) async fn start(on: &OnLink<'_>, own: Own) -> anyhow::Result<Services> {
    let (shared, link, address) = (on.shared, on.link, own.address);
    if own.set_here {
        set_address(on.netlink, link, address.into(), own.prefix).await?;
    }
    let on_link = |port| udp::on_interface(&link.name, port).with_context(|| binding("proxyDHCP", address, port));
    let server = server(shared, own, Some(on_link(DHCP)?), on_link(BOOT_SERVER)?);
    let files = FileSockets::bind(address.into(), shared.http_port).await?;
    let mut tasks = Tasks::default();
    tasks.spawn("proxyDHCP", server.run(tasks.stop.clone()));
    files.serve(&shared.site, &mut tasks);
    let near = Subnet::around(address, own.prefix);
    let is_near = |hop| near.as_ref().is_ok_and(|near| near.contains(hop));
    let mut routes = shared.settings().now().ways(is_near);
    // As the other server says it to every host of this network.
    routes.extend(own.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)));
    add_routes(on.netlink, link, &routes).await;
    Ok(Services {
        tasks,
        own,
        prefix6: None,
        routes,
    })
}
