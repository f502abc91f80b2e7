//! A link that hands out addresses: how it starts.

use std::iter::once;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tracing::Instrument;

use crate::config::Subnet;
use crate::model::MacAddr;
use crate::model::api::Ipv6Status;
use crate::model::ula::Prefix64;
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::dhcp4::server::{Arp, Server};
use crate::service::dhcp6::leases::LeaseTable6;
use crate::service::dns;
use crate::service::workers::Worker;
use crate::sys::packet::ArpTap;
use crate::sys::udp;

use crate::role::link::own_address::Own;
use crate::role::link::services::{Services, add_routes, set_address};
use crate::role::link::shared::OnLink;
use crate::role::link::sockets::{DnsSockets, FileSockets, binding};
use crate::role::link::tasks::{Tasks, named};
use crate::role::link::{ipv6, proxy};

/// What gives addresses on a link. It ends before what machines use that have one.
pub(crate) struct LeaseServices {
    pub tasks: Tasks,
    /// Who else was heard with our address.
    pub contender: Arc<Mutex<Option<MacAddr>>>,
    pub ipv6: Option<Arc<Mutex<Ipv6Status>>>,
}

/// Sets the address, binds every socket, and only then starts to serve.
pub(crate) async fn start(
    on: &OnLink<'_>,
    subnet: Subnet,
    prefix6: Option<Prefix64>,
) -> anyhow::Result<(LeaseServices, Services)> {
    let (shared, link, address) = (on.shared, on.link, subnet.server);
    let own = Own {
        address,
        prefix: subnet.prefix,
        router: None,
        set_here: true,
    };
    set_address(on.netlink, link, address.into(), subnet.prefix).await?;
    let (thread, dhcp) = dhcp_server(on, subnet)?;
    // Firmware that takes the boot file of an offer as it is told asks nobody there, and that is nearly all.
    let boot_server = udp::on_interface(&link.name, proxy::BOOT_SERVER)
        .inspect_err(|error| tracing::warn!(%error, "nobody answers on port {}", proxy::BOOT_SERVER));
    let files = FileSockets::bind(address.into(), shared.http_port).await?;
    let dns = DnsSockets::bind(address.into()).await?;

    let tables = once(&dhcp.link).chain(&dhcp.routed);
    let leases = tables.map(|network| Arc::clone(&network.leases)).collect();
    let names = names(
        subnet,
        leases,
        prefix6.map(|prefix| (prefix, shared.ipv6.table(prefix))),
    );
    let contender = Arc::clone(&dhcp.rival);
    let (mut leasing, mut tasks) = (Tasks::default(), Tasks::default());
    spawn_dhcp(thread, dhcp, &mut leasing);
    if let Ok(socket) = boot_server {
        let server = proxy::server(shared, own, None, socket);
        leasing.spawn("boot server", server.run(leasing.stop.clone()));
    }
    dns.serve(names.clone(), &shared.site, &mut tasks);
    files.serve(&shared.site, &mut tasks);
    let mut ipv6 = None;
    if let Some(prefix) = prefix6 {
        let (bound, status) = ipv6::bind(on, prefix).await;
        if let Some(bound) = bound {
            bound.serve(names, &shared.site, &mut leasing, &mut tasks);
        }
        ipv6 = Some(status);
    }
    let routes = shared.settings().now().ways(|address| subnet.contains(address));
    add_routes(on.netlink, link, &routes).await;
    let leasing = LeaseServices {
        tasks: leasing,
        contender,
        ipv6,
    };
    let clients = Services {
        tasks,
        own,
        prefix6,
        routes,
    };
    Ok((leasing, clients))
}

/// DHCP has a thread of its own, to which its sockets belong: nothing that goes to other machines makes an address wait.
fn dhcp_server(on: &OnLink<'_>, subnet: Subnet) -> anyhow::Result<(Worker, Server)> {
    let (shared, link) = (on.shared, on.link);
    let thread = Worker::start("dhcp4").context("starting a thread")?;
    let entered = thread.handle().enter();
    let socket = udp::on_interface(&link.name, 67).with_context(|| binding("DHCP", subnet.server, 67))?;
    let arp = ArpTap::open(link.index)
        .inspect_err(|error| tracing::warn!(%error, "addresses are offered without asking for them"));
    drop(entered);
    let server = Server {
        socket,
        link: shared.network(subnet.server, subnet),
        routed: shared.routed(subnet.server),
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
        journal: Arc::clone(&shared.journal),
        arp: arp.ok().map(|tap| Arp { tap, mac: link.mac }),
        rival: Arc::default(),
    };
    Ok((thread, server))
}

/// DHCP runs on its own thread, which ends with it.
fn spawn_dhcp(thread: Worker, server: Server, tasks: &mut Tasks) {
    let (handle, stop) = (thread.handle().clone(), tasks.stop.clone());
    let dhcp = async move {
        let _thread = thread;
        server.run(stop).await
    };
    let dhcp = named("DHCP".to_owned(), dhcp).in_current_span();
    tasks.set.spawn_on(dhcp, &handle);
}

/// What DNS knows: every machine with a lease in one of these tables.
fn names(
    subnet: Subnet,
    leases: Vec<Arc<Mutex<LeaseTable>>>,
    ipv6: Option<(Prefix64, Arc<Mutex<LeaseTable6>>)>,
) -> impl Fn() -> dns::answer::Names + Clone + Send + Sync + 'static {
    move || {
        let mut v4: Vec<(MacAddr, Ipv4Addr)> = Vec::new();
        for table in &leases {
            let table = table.lock().expect("no holder panics");
            v4.extend(table.iter().map(|lease| (lease.mac, lease.address)));
        }
        let table6 = ipv6.as_ref().map(|(_, table)| table.lock().expect("no holder panics"));
        let v6 = table6.iter().flat_map(|table| table.addresses());
        dns::answer::Names {
            server: subnet.server,
            prefix: subnet.prefix,
            prefix6: ipv6.as_ref().map(|(prefix, _)| *prefix),
            nodes: dns::answer::node_names(v4, v6),
        }
    }
}
