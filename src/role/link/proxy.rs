//! The services of a link that proxies: boot files at an address that somebody else's DHCP server gave this machine.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::Subnet;
use crate::service::dhcp4::proxy::Params;
use crate::service::dhcp4::proxy_server::Server;
use crate::service::{http, tftp};
use crate::sys::netif::{Link, Netlink};
use crate::sys::udp;

use super::own_address::Own;
use crate::role::link::manager::{Shared, boot_source};
use crate::role::link::state::{Route, Tasks, add_routes, named, remove_routes};

/// Ports of PXE 2.1 §2.2.3.
const DHCP: u16 = 67;
pub(crate) const BOOT_SERVER: u16 = 4011;

/// A link that proxies.
pub(crate) struct Proxying {
    pub tasks: Tasks,
    pub own: Own,
    routes: Vec<Route>,
}

/// Sets the address if it is a lease, binds every socket, and only then starts to serve.
pub(crate) async fn start(shared: &Shared, netlink: &Netlink, link: &Link, own: Own) -> anyhow::Result<Proxying> {
    let address = own.address;
    if own.leased {
        netlink
            .add_address(link.index, address, own.prefix)
            .await
            .with_context(|| format!("setting {address}/{} on {}", own.prefix, link.name))?;
    }
    let bind = |what: &'static str, port: u16| format!("binding {what} to {address} port {port}");
    let on_link = |port| udp::on_interface(&link.name, port).with_context(|| bind("proxyDHCP", port));
    let server = Server {
        dhcp: Some(on_link(DHCP)?),
        boot_server: on_link(BOOT_SERVER)?,
        params: Params {
            server: address,
            prefix: own.prefix,
            routed: shared.settings.now().routed(address).collect(),
            boot: boot_source(shared),
        },
        ladder: Arc::clone(&shared.site.ladder),
        metrics: Arc::clone(&shared.site.metrics),
    };
    let tftp_socket = StdUdpSocket::bind((address, 69)).with_context(|| bind("TFTP", 69))?;
    let http_address = SocketAddr::from((address, shared.http_port));
    let http_listener = TcpListener::bind(http_address)
        .await
        .with_context(|| bind("HTTP", shared.http_port))?;
    let mut tasks = Tasks::default();
    let (site, token) = (&shared.site, tasks.stop.clone());
    tasks.set.spawn(named("proxyDHCP", server.run(token.clone())));
    tasks.set.spawn(named(
        "TFTP",
        tftp::run(tftp_socket, http_address, Arc::clone(site), token.clone()),
    ));
    tasks
        .set
        .spawn(named("HTTP", http::server::run(http_listener, Arc::clone(site), token)));
    let near = Subnet::around(address, own.prefix);
    let mut routes = shared
        .settings
        .now()
        .ways(|hop| near.as_ref().is_ok_and(|near| near.contains(hop)));
    // As the other server says it to every host of this network.
    routes.extend(own.router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, router)));
    add_routes(netlink, link, &routes).await;
    Ok(Proxying { tasks, own, routes })
}

/// Ends the services; a leased address goes with them.
pub(crate) async fn stop(netlink: &Netlink, link: &Link, proxying: Proxying) {
    proxying.tasks.end().await;
    remove_routes(netlink, link, &proxying.routes).await;
    if proxying.own.leased
        && let Err(error) = netlink.remove_address(link.index, proxying.own.address).await
    {
        tracing::debug!(link = link.name, %error, "removing the address");
    }
}
