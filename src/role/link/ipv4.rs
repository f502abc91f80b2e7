//! A link that hands out addresses: how it starts, what stays of it while its leases run out, and how it ends.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use tokio::net::UdpSocket;

use crate::config::Subnet;
use crate::model::MacAddr;
use crate::model::api::Ipv6Status;
use crate::model::ula::Prefix64;
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::dhcp6::leases::LeaseTable6;
use crate::service::workers::Worker;
use crate::service::{dhcp4, dns};
use crate::sys::netif::{Link, Netlink};
use crate::sys::packet::ArpTap;
use crate::sys::udp;

use crate::role::link::ipv6;
use crate::role::link::proxy::{BOOT_SERVER, boot_params};
use crate::role::link::routes::{Route, add_routes, remove_routes};
use crate::role::link::shared::{OnLink, Shared};
use crate::role::link::sockets::{DnsSockets, FileSockets, binding};
use crate::role::link::tasks::{Tasks, named};

/// What runs on a link whose machines get their addresses here.
pub(crate) struct Serving {
    /// What gives leases ends before the rest does.
    lease_services: Tasks,
    pub client_services: ClientServices,
    /// Who else was heard with our address.
    pub contender: Arc<Mutex<Option<MacAddr>>>,
    ipv6: Option<Arc<Mutex<Ipv6Status>>>,
}

/// What a machine uses that has a lease: names and files at our address. Goes on until nobody holds one.
pub(crate) struct ClientServices {
    tasks: Tasks,
    pub address: Ipv4Addr,
    pub prefix: u8,
    routes: Vec<Route>,
    pub prefix6: Option<Prefix64>,
}

impl Serving {
    pub(crate) async fn end_leases(self) -> ClientServices {
        self.lease_services.end().await;
        self.client_services
    }

    pub(crate) fn check(&mut self, link: &str) -> anyhow::Result<()> {
        self.client_services.check(link)?;
        self.lease_services.check(link)
    }

    pub(crate) fn ipv6(&self) -> Option<Ipv6Status> {
        let status = self.ipv6.as_ref()?;
        Some(status.lock().expect("no holder panics").clone())
    }
}

impl ClientServices {
    pub(crate) fn check(&mut self, link: &str) -> anyhow::Result<()> {
        self.tasks.check(link)
    }

    pub(crate) async fn end(self, netlink: &Netlink, link: &Link) {
        self.tasks.end().await;
        remove_routes(netlink, link, &self.routes).await;
        if let Err(error) = netlink.remove_address(link.index, self.address).await {
            tracing::debug!(link = link.name, %error, "removing the address");
        }
        if let Some(prefix) = self.prefix6
            && let Err(error) = netlink.remove_address(link.index, prefix.server()).await
        {
            tracing::debug!(link = link.name, %error, "removing the IPv6 address");
        }
    }
}

/// Everything is bound before anything is served.
struct Sockets {
    /// DHCP has a thread of its own: nothing that goes to other machines makes an address wait.
    dhcp_thread: Worker,
    dhcp: UdpSocket,
    arp: Option<ArpTap>,
    boot_server: Option<UdpSocket>,
    files: FileSockets,
    dns: DnsSockets,
}

async fn bind(on: &OnLink<'_>, address: Ipv4Addr) -> anyhow::Result<Sockets> {
    let link = on.link;
    let dhcp_thread = Worker::start("dhcp4").context("starting a thread")?;
    let (dhcp, arp) = {
        let _entered = dhcp_thread.handle().enter();
        let socket = udp::on_interface(&link.name, 67).with_context(|| binding("DHCP", address, 67))?;
        let arp = ArpTap::open(link.index).inspect_err(
            |error| tracing::warn!(link = link.name, %error, "addresses are offered without asking for them"),
        );
        (socket, arp.ok())
    };
    // Firmware that takes the boot file of an offer as it is told asks nobody there, and that is nearly all.
    let boot_server = udp::on_interface(&link.name, BOOT_SERVER)
        .inspect_err(|error| tracing::warn!(link = link.name, %error, "nobody answers on port {BOOT_SERVER}"));
    Ok(Sockets {
        dhcp_thread,
        dhcp,
        arp,
        boot_server: boot_server.ok(),
        files: FileSockets::bind(address.into(), on.shared.http_port).await?,
        dns: DnsSockets::bind(address.into()).await?,
    })
}

/// Sets the address, binds every socket, and only then starts to serve.
pub(crate) async fn start(on: &OnLink<'_>, subnet: Subnet, prefix6: Option<Prefix64>) -> anyhow::Result<Serving> {
    let (shared, link, address) = (on.shared, on.link, subnet.server);
    on.netlink
        .add_address(link.index, address, subnet.prefix)
        .await
        .with_context(|| format!("setting {address}/{} on {}", subnet.prefix, link.name))?;
    let sockets = bind(on, address).await?;
    let network = shared.network(address, subnet);
    let routed = shared.routed(address);
    let tables = std::iter::once(&network).chain(&routed);
    let names = names(
        subnet,
        tables.map(|network| Arc::clone(&network.leases)).collect(),
        prefix6.map(|prefix| (prefix, shared.ipv6.table(prefix))),
    );
    let contender = Arc::default();
    let dhcp = dhcp4::server::Server {
        socket: sockets.dhcp,
        link: network,
        routed,
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
        journal: Arc::clone(&shared.journal),
        arp: sockets.arp.map(|tap| dhcp4::server::Arp { tap, mac: link.mac }),
        rival: Arc::clone(&contender),
    };
    let mut lease_services = Tasks::default();
    spawn_dhcp(sockets.dhcp_thread, dhcp, &mut lease_services);
    if let Some(socket) = sockets.boot_server {
        spawn_boot_server(shared, socket, subnet, &mut lease_services);
    }
    let mut tasks = Tasks::default();
    sockets.dns.serve(names.clone(), &shared.site, &mut tasks);
    sockets.files.serve(&shared.site, &mut tasks);
    let mut ipv6 = None;
    if let Some(prefix) = prefix6 {
        let (sockets, status) = ipv6::bind(on, prefix).await;
        let status = ipv6.insert(Arc::new(Mutex::new(status)));
        if let Some(sockets) = sockets {
            sockets.serve(on, prefix, Arc::clone(status), names, (&mut lease_services, &mut tasks));
        }
    }
    let routes = shared.settings().now().ways(|address| subnet.contains(address));
    add_routes(on.netlink, link, &routes).await;
    Ok(Serving {
        lease_services,
        client_services: ClientServices {
            tasks,
            address,
            prefix: subnet.prefix,
            routes,
            prefix6,
        },
        contender,
        ipv6,
    })
}

/// DHCP runs on its own thread, which ends with it.
fn spawn_dhcp(thread: Worker, server: dhcp4::server::Server, tasks: &mut Tasks) {
    let handle = thread.handle().clone();
    let served = server.run(tasks.stop.clone());
    let dhcp = async move {
        let _thread = thread;
        served.await
    };
    tasks.set.spawn_on(named("DHCP".to_owned(), dhcp), &handle);
}

fn spawn_boot_server(shared: &Shared, boot_server: UdpSocket, subnet: Subnet, tasks: &mut Tasks) {
    let server = dhcp4::proxy_server::Server {
        dhcp: None,
        boot_server,
        params: boot_params(shared, subnet.server, subnet.prefix),
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
    };
    let stop = tasks.stop.clone();
    tasks.spawn("boot server", server.run(stop));
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
