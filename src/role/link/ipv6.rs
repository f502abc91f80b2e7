//! IPv6 on a served link: our address, every socket, and the services on them. A link that cannot have it is served in
//! IPv4 alone, and says why.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::model::api::Ipv6Status;
use crate::model::lease::Lease6;
use crate::model::ula::{LINK_PREFIX, Prefix64, Ula};
use crate::service::dhcp6::decide::{Params, duid_of};
use crate::service::dhcp6::leases::LeaseTable6;
use crate::service::dhcp6::relay::ALL_SERVERS;
use crate::service::ra::server::{ALL_DHCP_SERVERS, Advertiser};
use crate::service::{dhcp6, dns, http, tftp};
use crate::store::fs_ops::Disk;
use crate::store::leases6;
use crate::sys::icmp6::RouterSocket;
use crate::sys::netif::{Link, Netlink};
use crate::sys::udp;

use crate::role::link::manager::{Shared, boot_source};
use crate::role::link::state::{Tasks, named};

/// Changes that follow within this time are written together.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// IPv6 leases of every link that was served in this run.
type Tables = BTreeMap<Prefix64, Arc<Mutex<LeaseTable6>>>;

/// What the links share in IPv6.
pub struct Shared6 {
    ula: Ula,
    remembered: Vec<Lease6>,
    tables: Mutex<Tables>,
    changed: Arc<Notify>,
    file: PathBuf,
}

impl Shared6 {
    /// Reads what `file` remembers. The prefix of the run is that of a lease that still runs at `now_unix`, so that its
    /// holder keeps it, else one drawn from `random`. Blocks.
    pub fn open(file: PathBuf, now_unix: u64, random: u64) -> Self {
        let remembered = leases6::load(&file).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "starting without the IPv6 leases of earlier runs");
            Vec::new()
        });
        Shared6 {
            ula: prefix_of_run(&remembered, now_unix, random),
            remembered,
            tables: Mutex::default(),
            changed: Arc::default(),
            file,
        }
    }

    /// Prefix of the `place`th served link; `None` beyond the last.
    pub fn prefix(&self, place: u32) -> Option<Prefix64> {
        u16::try_from(place).ok().map(|place| self.ula.link(place))
    }

    /// The leases of a link; one that comes back finds its own.
    pub fn table(&self, prefix: Prefix64) -> Arc<Mutex<LeaseTable6>> {
        let mut tables = self.tables.lock().expect("no holder panics");
        let table = tables.entry(prefix).or_insert_with(|| {
            let table = LeaseTable6::new(prefix, self.remembered.iter().cloned());
            Arc::new(Mutex::new(table))
        });
        Arc::clone(table)
    }

    /// Writes the leases whenever they changed, and once at the end. A failure is said and costs no client anything.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let last = tokio::select! {
                () = stop.cancelled() => true,
                () = self.changed.notified() => false,
            };
            if !last {
                tokio::time::sleep(SAVE_PAUSE).await;
            }
            let leases = self.leases();
            let this = Arc::clone(&self);
            let saving = tokio::task::spawn_blocking(move || leases6::save(&Disk, &this.file, &leases));
            if let Err(error) = saving.await? {
                tracing::warn!(file = %self.file.display(), %error, "IPv6 leases are not remembered");
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Leases of this run, and those of links that were not served in it.
    fn leases(&self) -> Vec<Lease6> {
        let tables = self.tables.lock().expect("no holder panics");
        let unused = self.remembered.iter().filter(|lease| {
            Ula::of(lease.address) == Some(self.ula) && !tables.keys().any(|prefix| prefix.contains(lease.address))
        });
        let mut leases: Vec<Lease6> = unused.cloned().collect();
        for table in tables.values() {
            leases.extend(table.lock().expect("no holder panics").iter());
        }
        leases
    }
}

fn prefix_of_run(remembered: &[Lease6], now_unix: u64, random: u64) -> Ula {
    let mut running = remembered.iter().filter(|lease| lease.expires_unix > now_unix);
    running
        .find_map(|lease| Ula::of(lease.address))
        .unwrap_or_else(|| Ula::drawn(random))
}

/// Takes IPv6 up on a link: address, sockets, services into `tasks`, what gives leases into `giving`. Answers with the status that the services keep, also
/// where there is no IPv6.
pub(crate) async fn start<F>(
    shared: &Shared,
    netlink: &Netlink,
    link: &Link,
    prefix: Prefix64,
    names: F,
    giving: &mut Tasks,
    tasks: &mut Tasks,
) -> Arc<Mutex<Ipv6Status>>
where
    F: Fn() -> dns::answer::Names + Send + Sync + 'static,
{
    let status = Arc::new(Mutex::new(Ipv6Status::default()));
    match bind(shared, netlink, link, prefix).await {
        Ok(sockets) => {
            status.lock().expect("no holder panics").address = Some(format!("{}/{LINK_PREFIX}", prefix.server()));
            spawn(shared, link, prefix, names, giving, tasks, sockets, Arc::clone(&status));
        }
        Err(error) => {
            let reason = format!("{error:#}");
            tracing::warn!(link = link.name, reason, "no IPv6 on this link");
            status.lock().expect("no holder panics").reason = reason;
        }
    }
    status
}

/// Everything is bound before anything is served.
struct Sockets {
    router: RouterSocket,
    client: UdpSocket,
    dhcp: UdpSocket,
    tftp: StdUdpSocket,
    dns_udp: UdpSocket,
    dns_tcp: TcpListener,
    http: TcpListener,
}

async fn bind(shared: &Shared, netlink: &Netlink, link: &Link, prefix: Prefix64) -> anyhow::Result<Sockets> {
    let address = prefix.server();
    netlink
        .add_address(link.index, address, LINK_PREFIX)
        .await
        .with_context(|| format!("setting {address}/{LINK_PREFIX} on {}", link.name))?;
    let bound = |what: &'static str, port: u16| format!("binding {what} to {address} port {port}");
    let sockets = async {
        anyhow::Ok(Sockets {
            router: RouterSocket::open(&link.name, link.index).context("opening an ICMPv6 socket")?,
            client: udp::on_interface_v6(&link.name, link.index, 546, &[]).context("binding UDP port 546")?,
            dhcp: udp::on_interface_v6(&link.name, link.index, 547, &[ALL_DHCP_SERVERS, ALL_SERVERS])
                .context("binding UDP port 547")?,
            tftp: StdUdpSocket::bind((address, 69)).with_context(|| bound("TFTP", 69))?,
            dns_udp: UdpSocket::bind((address, 53)).await.with_context(|| bound("DNS", 53))?,
            dns_tcp: TcpListener::bind((address, 53))
                .await
                .with_context(|| bound("DNS", 53))?,
            http: TcpListener::bind((address, shared.http_port))
                .await
                .with_context(|| bound("HTTP", shared.http_port))?,
        })
    };
    let sockets = sockets.await;
    if sockets.is_err() {
        netlink.remove_address(link.index, address).await.ok();
    }
    sockets
}

#[allow(clippy::too_many_arguments)]
fn spawn<F>(
    shared: &Shared,
    link: &Link,
    prefix: Prefix64,
    names: F,
    giving: &mut Tasks,
    tasks: &mut Tasks,
    sockets: Sockets,
    status: Arc<Mutex<Ipv6Status>>,
) where
    F: Fn() -> dns::answer::Names + Send + Sync + 'static,
{
    let site = &shared.site;
    let (may_speak, listening) = watch::channel(false);
    let lease = shared.settings.now().network.lease;
    let advertiser = Advertiser {
        link: link.name.clone(),
        index: link.index,
        mac: link.mac,
        router: sockets.router,
        client: sockets.client,
        prefix,
        seconds: lease.lease_seconds,
        may_speak,
        status,
        metrics: Arc::clone(&site.metrics),
    };
    let server = dhcp6::server::Server {
        socket: sockets.dhcp,
        params: Params {
            prefix,
            server_id: duid_of(link.mac),
            lease,
            boot: boot_source(shared),
        },
        leases: shared.ipv6.table(prefix),
        ladder: Arc::clone(&site.ladder),
        metrics: Arc::clone(&site.metrics),
        leases_changed: Arc::clone(&shared.ipv6.changed),
        may_speak: listening,
    };
    let stop = giving.stop.clone();
    let advertising = named("router advertisement", advertiser.run(stop.clone()));
    giving.set.spawn(advertising);
    giving.set.spawn(named("DHCPv6", server.run(stop)));
    let stop = &tasks.stop;
    let metrics = Arc::clone(&site.metrics);
    let dns = dns::server::run(sockets.dns_udp, sockets.dns_tcp, names, metrics, stop.clone());
    let master = SocketAddr::from((prefix.server(), shared.http_port));
    let tftp = tftp::run(sockets.tftp, master, Arc::clone(site), stop.clone());
    let http = http::server::run(sockets.http, Arc::clone(site), stop.clone());
    tasks.set.spawn(named("DNS over IPv6", dns));
    tasks.set.spawn(named("TFTP over IPv6", tftp));
    tasks.set.spawn(named("HTTP over IPv6", http));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(ula: Ula, expires_unix: u64) -> Lease6 {
        Lease6 {
            duid: "00030001020000000001".to_owned(),
            iaid: 1,
            address: ula.link(0).host(1 << 32),
            mac: None,
            expires_unix,
        }
    }

    #[test]
    fn a_lease_that_still_runs_keeps_the_prefix_of_the_last_run() {
        let (before, drawn) = (Ula::drawn(1), Ula::drawn(2));
        assert_eq!(prefix_of_run(&[], 0, 2), drawn);
        assert_eq!(prefix_of_run(&[lease(before, 100)], 99, 2), before);
        assert_eq!(prefix_of_run(&[lease(before, 100)], 100, 2), drawn);
    }

    #[test]
    fn leases_of_links_that_were_not_served_are_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leases6.jsonl");
        let kept = lease(Ula::drawn(1), 100);
        leases6::save(&Disk, &file, std::slice::from_ref(&kept)).unwrap();
        let shared = Shared6::open(file, 50, 2);
        assert_eq!(shared.leases(), [kept]);
        let table = shared.table(shared.prefix(0).unwrap());
        assert_eq!(table.lock().unwrap().len(), 1);
        assert_eq!(shared.leases().len(), 1, "nor are they there twice");
        assert_eq!(shared.prefix(1 << 16), None);
    }
}
