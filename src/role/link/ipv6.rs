//! IPv6 on a served link: our address, every socket, and the services on them. A link that cannot have it is served in
//! IPv4 alone, and says why.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::model::api::Ipv6Status;
use crate::model::ula::{LINK_PREFIX, Prefix64};
use crate::service::dhcp6::decide::{Params, duid_of};
use crate::service::dhcp6::relay::ALL_SERVERS;
use crate::service::ra::server::{ALL_DHCP_SERVERS, Advertiser};
use crate::service::{dhcp6, dns};
use crate::sys::icmp6::RouterSocket;
use crate::sys::udp;

use crate::role::link::shared::OnLink;
use crate::role::link::sockets::{DnsSockets, FileSockets};
use crate::role::link::tasks::Tasks;

/// Everything is bound before anything is served.
pub(crate) struct Sockets {
    router: RouterSocket,
    client: UdpSocket,
    dhcp: UdpSocket,
    files: FileSockets,
    dns: DnsSockets,
}

/// Sets our address and binds every socket. The status says which address that is, or why there is none.
pub(crate) async fn bind(on: &OnLink<'_>, prefix: Prefix64) -> (Option<Sockets>, Ipv6Status) {
    let mut status = Ipv6Status::default();
    let sockets = try_bind(on, prefix).await;
    match &sockets {
        Ok(_) => status.address = Some(format!("{}/{LINK_PREFIX}", prefix.server())),
        Err(error) => {
            status.reason = format!("{error:#}");
            tracing::warn!(link = on.link.name, reason = status.reason, "no IPv6 on this link");
        }
    }
    (sockets.ok(), status)
}

async fn try_bind(on: &OnLink<'_>, prefix: Prefix64) -> anyhow::Result<Sockets> {
    let (address, link) = (prefix.server(), on.link);
    on.netlink
        .add_address(link.index, address, LINK_PREFIX)
        .await
        .with_context(|| format!("setting {address}/{LINK_PREFIX} on {}", link.name))?;
    let sockets = async {
        anyhow::Ok(Sockets {
            router: RouterSocket::open(&link.name, link.index).context("opening an ICMPv6 socket")?,
            client: udp::on_interface_v6(&link.name, link.index, 546, &[]).context("binding UDP port 546")?,
            dhcp: udp::on_interface_v6(&link.name, link.index, 547, &[ALL_DHCP_SERVERS, ALL_SERVERS])
                .context("binding UDP port 547")?,
            files: FileSockets::bind(address.into(), on.shared.http_port).await?,
            dns: DnsSockets::bind(address.into()).await?,
        })
    };
    let sockets = sockets.await;
    if sockets.is_err() {
        on.netlink.remove_address(link.index, address).await.ok();
    }
    sockets
}

impl Sockets {
    /// Starts what gives leases in `lease_services`, and what machines use that have one in `client_services`.
    pub(crate) fn serve<F>(
        self,
        on: &OnLink<'_>,
        prefix: Prefix64,
        status: Arc<Mutex<Ipv6Status>>,
        names: F,
        (lease_services, client_services): (&mut Tasks, &mut Tasks),
    ) where
        F: Fn() -> dns::answer::Names + Send + Sync + 'static,
    {
        let (site, link) = (&on.shared.site, on.link);
        let (may_speak, listening) = watch::channel(false);
        let network = &on.shared.settings().now().network;
        let advertiser = Advertiser {
            link: link.name.clone(),
            index: link.index,
            mac: link.mac,
            router: self.router,
            client: self.client,
            prefix,
            seconds: network.lease.lease_seconds,
            may_speak,
            status,
            metrics: Arc::clone(&site.metrics),
        };
        let server = dhcp6::server::Server {
            socket: self.dhcp,
            params: Params {
                prefix,
                server_id: duid_of(link.mac),
                lease: network.lease,
                boot: on.shared.boot_source(),
            },
            leases: on.shared.ipv6.table(prefix),
            node_table: Arc::clone(&site.node_table),
            metrics: Arc::clone(&site.metrics),
            leases_changed: Arc::clone(&on.shared.ipv6.changed),
            may_speak: listening,
        };
        let stop = lease_services.stop.clone();
        lease_services.spawn("router advertisement", advertiser.run(stop.clone()));
        lease_services.spawn("DHCPv6", server.run(stop));
        self.dns.serve(names, site, client_services);
        self.files.serve(site, client_services);
    }
}
