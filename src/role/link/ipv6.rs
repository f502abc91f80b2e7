//! IPv6 on a served link: our address, every socket, and the services on them. A link that cannot have it is served in
//! IPv4 alone, and says why.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::sync::watch;

use crate::model::api::Ipv6Status;
use crate::model::ula::{LINK_PREFIX, Prefix64};
use crate::service::dhcp6::decide::{Params, duid_of};
use crate::service::dhcp6::relay::ALL_SERVERS;
use crate::service::dhcp6::server::Server;
use crate::service::dns;
use crate::service::http::site::Site;
use crate::service::ra::server::{ALL_DHCP_SERVERS, Advertiser};
use crate::sys::icmp6::RouterSocket;
use crate::sys::udp;

use crate::role::link::services::set_address;
use crate::role::link::shared::OnLink;
use crate::role::link::sockets::{DnsSockets, FileSockets};
use crate::role::link::tasks::Tasks;

/// Everything is bound before anything is served.
pub(crate) struct Bound {
    advertiser: Advertiser,
    dhcp: Server,
    files: FileSockets,
    dns: DnsSockets,
}

/// Sets our address and binds every socket. The status says which address that is, or why there is none.
pub(crate) async fn bind(on: &OnLink<'_>, prefix: Prefix64) -> (Option<Bound>, Arc<Mutex<Ipv6Status>>) {
    let status = Arc::<Mutex<Ipv6Status>>::default();
    let bound = try_bind(on, prefix, &status).await;
    let mut shown = status.lock().expect("no holder panics");
    match &bound {
        Ok(_) => shown.address = Some(format!("{}/{LINK_PREFIX}", prefix.server())),
        Err(error) => {
            shown.reason = format!("{error:#}");
            tracing::warn!(reason = shown.reason, "no IPv6 on this link");
        }
    }
    drop(shown);
    (bound.ok(), status)
}

async fn try_bind(on: &OnLink<'_>, prefix: Prefix64, status: &Arc<Mutex<Ipv6Status>>) -> anyhow::Result<Bound> {
    let (address, link, site) = (prefix.server().into(), on.link, &on.shared.site);
    set_address(on.netlink, link, address, LINK_PREFIX).await?;
    let on_link = |port, groups| udp::on_interface_v6(&link.name, link.index, port, groups);
    let (may_speak, listening) = watch::channel(false);
    let lease = on.shared.settings().now().network.lease;
    let bound = async {
        let advertiser = Advertiser {
            link: link.name.clone(),
            index: link.index,
            mac: link.mac,
            router: RouterSocket::open(&link.name, link.index).context("opening an ICMPv6 socket")?,
            client: on_link(546, &[]).context("binding UDP port 546")?,
            prefix,
            seconds: lease.lease_seconds,
            may_speak,
            status: Arc::clone(status),
            metrics: Arc::clone(&site.metrics),
        };
        let dhcp = Server {
            socket: on_link(547, &[ALL_DHCP_SERVERS, ALL_SERVERS]).context("binding UDP port 547")?,
            params: Params {
                prefix,
                server_id: duid_of(link.mac),
                lease,
                boot: on.shared.boot_source(),
            },
            leases: on.shared.ipv6.table(prefix),
            node_table: Arc::clone(&site.node_table),
            metrics: Arc::clone(&site.metrics),
            leases_changed: Arc::clone(&on.shared.ipv6.changed),
            may_speak: listening,
        };
        let files = FileSockets::bind(address, on.shared.http_port).await?;
        let dns = DnsSockets::bind(address).await?;
        anyhow::Ok(Bound {
            advertiser,
            dhcp,
            files,
            dns,
        })
    };
    let bound = bound.await;
    if bound.is_err() {
        on.netlink.remove_address(link.index, address).await.ok();
    }
    bound
}

impl Bound {
    /// Starts what gives leases in `leasing`, and what machines use that have one in `clients`.
    pub(crate) fn serve<F>(self, names: F, site: &Arc<Site>, leasing: &mut Tasks, clients: &mut Tasks)
    where
        F: Fn() -> dns::answer::Names + Send + Sync + 'static,
    {
        leasing.spawn("router advertisement", self.advertiser.run(leasing.stop.clone()));
        leasing.spawn("DHCPv6", self.dhcp.run(leasing.stop.clone()));
        self.dns.serve(names, site, clients);
        self.files.serve(site, clients);
    }
}
