//! Every wired link of a master: watched for ever, served where its election says so.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket as StdUdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::config::settings::Subnet;
use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode, LinkStatus};
use crate::model::lease::Lease;
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::dhcp4::logic::Params;
use crate::service::dhcp4::probe::{Ask, Heard, heard, packet};
use crate::service::http::site::Site;
use crate::service::{dhcp4, dns, http, tftp};
use crate::sys::console::say;
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::DhcpTap;
use crate::sys::{clock, udp};

use super::elect::{Action, Election, Event};

/// How often links and clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Packets heard and not yet judged; more are dropped, as a busy link repeats itself.
const HEARD_QUEUE: usize = 256;
/// Pause before services that could not start are tried again.
const RETRY_SECONDS: f64 = 5.0;

/// Which links a master takes.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Every wired link, each by its own election.
    Elect,
    /// These, at once and without asking who serves.
    Given(Vec<(String, Option<Subnet>)>),
}

/// Leases of every link that was served in this run, by the server's address on it. A link that comes back finds its own.
pub type LeaseTables = Arc<Mutex<BTreeMap<Ipv4Addr, Arc<Mutex<LeaseTable>>>>>;

/// What the links share.
pub struct Shared {
    pub site: Arc<Site>,
    pub settings: Arc<Settings>,
    pub http_port: u16,
    /// Leases known at start.
    pub remembered: Vec<Lease>,
    pub status: Arc<Mutex<Vec<LinkStatus>>>,
    pub leases: LeaseTables,
    pub leases_changed: Arc<Notify>,
}

/// Why the links ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// Another recon master serves and this machine serves nothing: become its peer, over this port.
    Yield {
        master: SocketAddrV4,
        mac: MacAddr,
    },
}

struct Watched {
    link: Link,
    election: Election,
    tap: Arc<DhcpTap>,
    /// Place among the served links, which gives the subnet; kept once given.
    place: Option<u32>,
    subnet: Option<Subnet>,
    service: Option<Service>,
    /// Services could not start; when to try again.
    retry_at: Option<f64>,
    problem: Option<String>,
}

struct Service {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    address: Ipv4Addr,
}

/// Runs until `stop`, or until this machine should be a peer.
pub async fn run(shared: Shared, choice: Choice, stop: CancellationToken) -> anyhow::Result<Ended> {
    let netlink = Netlink::open().context("opening netlink")?;
    let (sender, receiver) = mpsc::channel(HEARD_QUEUE);
    let given = match choice {
        Choice::Elect => None,
        Choice::Given(links) => Some(links),
    };
    let mut keeper = Keeper {
        shared,
        given,
        netlink,
        sender,
        links: BTreeMap::new(),
        places: 0,
        listeners: CancellationToken::new(),
    };
    let ended = keeper.keep(receiver, stop).await;
    keeper.close().await;
    ended
}

struct Keeper {
    shared: Shared,
    given: Option<Vec<(String, Option<Subnet>)>>,
    netlink: Netlink,
    sender: mpsc::Sender<(u32, MacAddr, Heard)>,
    /// By interface index.
    links: BTreeMap<u32, Watched>,
    places: u32,
    listeners: CancellationToken,
}

impl Keeper {
    async fn keep(
        &mut self,
        mut receiver: mpsc::Receiver<(u32, MacAddr, Heard)>,
        stop: CancellationToken,
    ) -> anyhow::Result<Ended> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                _ = tick.tick() => self.look().await?,
                Some((index, from, what)) = receiver.recv() => self.heard(index, from, what).await,
            }
            self.publish();
            if let Some(ended) = self.should_yield() {
                return Ok(ended);
            }
        }
    }

    /// Looks for links that came, went or changed, moves the clocks, and checks that services live.
    async fn look(&mut self) -> anyhow::Result<()> {
        let sys = Path::new("/sys");
        let present = match &self.given {
            None => netif::wired_links(sys).context("listing the network links")?,
            Some(given) => given
                .iter()
                .filter_map(|(name, _)| netif::link_named(sys, name))
                .collect(),
        };
        let indices: HashSet<u32> = present.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self
            .links
            .keys()
            .filter(|index| !indices.contains(index))
            .copied()
            .collect();
        for index in gone {
            if let Some(mut watched) = self.links.remove(&index) {
                say(&format!("{}: the port is gone", watched.link.name));
                stop_service(&self.netlink, &mut watched).await;
            }
        }
        for link in present {
            let index = link.index;
            if !self.links.contains_key(&index) {
                self.watch(link.clone()).await;
            }
            let Some(watched) = self.links.get_mut(&index) else {
                continue;
            };
            let carrier = link.carrier;
            watched.link = link;
            let now = clock::run_seconds();
            // A given link is served without an election, with or without carrier.
            if self.given.is_none() {
                let mut actions = watched.election.on(Event::Carrier(carrier), now);
                actions.extend(watched.election.on(Event::Tick, now));
                self.act(index, actions).await;
            }
            self.settle(index, now).await?;
        }
        Ok(())
    }

    async fn watch(&mut self, link: Link) {
        if let Err(error) = self.netlink.up(link.index).await {
            tracing::warn!(link = link.name, %error, "bringing a link up");
        }
        let tap = match DhcpTap::open(link.index) {
            Ok(tap) => Arc::new(tap),
            Err(error) => {
                tracing::warn!(link = link.name, %error, "opening a packet socket; trying again");
                return;
            }
        };
        let (index, listen, sender, end) = (
            link.index,
            Arc::clone(&tap),
            self.sender.clone(),
            self.listeners.clone(),
        );
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = listen_on(index, listen, sender) => {}
            }
        });
        let election = Election::new(link.mac);
        let subnet = self
            .given
            .iter()
            .flatten()
            .find(|(name, _)| *name == link.name)
            .and_then(|(_, subnet)| *subnet);
        let watched = Watched {
            link,
            election,
            tap,
            place: None,
            subnet,
            service: None,
            retry_at: None,
            problem: None,
        };
        self.links.insert(watched.link.index, watched);
    }

    async fn heard(&mut self, index: u32, from: MacAddr, what: Heard) {
        if self.given.is_some() {
            return;
        }
        let now = clock::run_seconds();
        let own = self.links.values().find(|other| other.link.mac == from);
        let event = match own {
            // Its own packets, back from a switch, mean nothing.
            Some(other) if other.link.index == index => return,
            Some(other) => Event::Twin {
                name: other.link.name.clone(),
                before: other.link.index < index,
            },
            None => match what {
                Heard::Server { server, recon, .. } => Event::Server(ForeignServer {
                    address: server,
                    mac: from,
                    recon,
                }),
                Heard::Probe { mac } => Event::Rival(mac),
            },
        };
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        let actions = watched.election.on(event, now);
        self.act(index, actions).await;
    }

    async fn act(&mut self, index: u32, actions: Vec<Action>) {
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        for action in actions {
            match action {
                Action::Probe => {
                    let probe = packet(Ask::WhoServes, watched.link.mac, rand::random());
                    if let Err(error) = watched.tap.broadcast(&probe).await {
                        tracing::debug!(link = watched.link.name, %error, "sending a DHCP probe");
                    }
                }
                Action::Changed => {
                    watched.problem = None;
                    watched.retry_at = None;
                    if watched.election.mode() != LinkMode::Serve {
                        stop_service(&self.netlink, watched).await;
                        say(&format!("{}: {}", watched.link.name, watched.election.reason()));
                    }
                }
            }
        }
    }

    /// Starts services where they should run and do not; a service that ended by itself is an error of the whole.
    async fn settle(&mut self, index: u32, now: f64) -> anyhow::Result<()> {
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(());
        };
        if let Some(service) = &mut watched.service
            && let Some(ended) = service.tasks.try_join_next()
        {
            let name = &watched.link.name;
            match ended {
                Ok(Ok(())) => bail!("a service on {name} ended by itself"),
                Ok(Err(error)) => return Err(error.context(format!("serving {name}"))),
                Err(error) => return Err(anyhow::Error::new(error).context(format!("serving {name}"))),
            }
        }
        let wanted = self.given.is_some() || watched.election.mode() == LinkMode::Serve;
        let waiting = watched.retry_at.is_some_and(|at| now < at);
        if !wanted || waiting || watched.service.is_some() {
            return Ok(());
        }
        if watched.subnet.is_none() {
            let place = *watched.place.get_or_insert_with(|| {
                self.places += 1;
                self.places - 1
            });
            watched.subnet = self.shared.settings.subnet(place);
        }
        let Some(subnet) = watched.subnet else {
            watched.problem = Some("no subnet is left for this link: choose a smaller network.subnet".to_owned());
            watched.retry_at = Some(f64::INFINITY);
            return Ok(());
        };
        match start_service(&self.shared, &self.netlink, &watched.link, subnet).await {
            Ok(service) => {
                watched.problem = None;
                watched.service = Some(service);
                say(&format!(
                    "{}: serving {}/{}",
                    watched.link.name, subnet.server, subnet.prefix
                ));
            }
            Err(error) => {
                self.netlink
                    .remove_address(watched.link.index, subnet.server)
                    .await
                    .ok();
                let problem = format!("{error:#}");
                if watched.problem.as_ref() != Some(&problem) {
                    say(&format!("{}: cannot serve: {problem}; trying again", watched.link.name));
                }
                watched.problem = Some(problem);
                watched.retry_at = Some(now + RETRY_SECONDS);
            }
        }
        Ok(())
    }

    fn should_yield(&self) -> Option<Ended> {
        let mut candidate = None;
        for watched in self.links.values() {
            match watched.election.mode() {
                LinkMode::Serve | LinkMode::Probing => return None,
                LinkMode::Yield => {
                    let master = watched.election.master();
                    candidate = candidate.or(master.map(|master| (master, watched.link.mac)));
                }
                LinkMode::Down | LinkMode::Silent => {}
            }
        }
        candidate.map(|(master, mac)| Ended::Yield {
            master: SocketAddrV4::new(master, self.shared.http_port),
            mac,
        })
    }

    fn publish(&self) {
        let rows = self.links.values().map(|watched| self.row(watched)).collect();
        *self.shared.status.lock().expect("no holder panics") = rows;
    }

    fn row(&self, watched: &Watched) -> LinkStatus {
        let serving = watched.service.is_some();
        let mode = match watched.election.mode() {
            _ if self.given.is_some() && serving => LinkMode::Serve,
            // Decided, and its sockets are not there yet.
            LinkMode::Serve if !serving => LinkMode::Probing,
            mode => mode,
        };
        let reason = match (&watched.problem, &self.given) {
            (Some(problem), _) => problem.clone(),
            (None, Some(_)) => "told to serve".to_owned(),
            (None, None) => watched.election.reason(),
        };
        let address = watched
            .subnet
            .filter(|_| serving)
            .map(|subnet| format!("{}/{}", subnet.server, subnet.prefix));
        LinkStatus {
            name: watched.link.name.clone(),
            mac: watched.link.mac,
            mode,
            reason,
            address,
            foreign: watched.election.foreign().to_vec(),
        }
    }

    async fn close(&mut self) {
        self.listeners.cancel();
        for watched in self.links.values_mut() {
            stop_service(&self.netlink, watched).await;
        }
    }
}

async fn listen_on(index: u32, tap: Arc<DhcpTap>, sender: mpsc::Sender<(u32, MacAddr, Heard)>) {
    let mut buffer = Vec::new();
    loop {
        match tap.receive(&mut buffer).await {
            Ok(from) => {
                if let Some(what) = heard(&buffer) {
                    sender.try_send((index, from, what)).ok();
                }
            }
            // A link that went down reports it once; a port that is gone reports it for ever.
            Err(_) => tokio::time::sleep(TICK).await,
        }
    }
}

/// Sets the address, binds every socket, and only then starts to serve.
async fn start_service(shared: &Shared, netlink: &Netlink, link: &Link, subnet: Subnet) -> anyhow::Result<Service> {
    let address = subnet.server;
    netlink
        .add_address(link.index, address, subnet.prefix)
        .await
        .with_context(|| format!("setting {address}/{} on {}", subnet.prefix, link.name))?;
    let bind = |what: &'static str, port: u16| format!("binding {what} to {address} port {port}");
    let dhcp_socket = udp::on_interface(&link.name, 67).with_context(|| bind("DHCP", 67))?;
    let tftp_socket = StdUdpSocket::bind((address, 69)).with_context(|| bind("TFTP", 69))?;
    let dns_udp = UdpSocket::bind((address, 53)).await.with_context(|| bind("DNS", 53))?;
    let dns_tcp = TcpListener::bind((address, 53))
        .await
        .with_context(|| bind("DNS", 53))?;
    let http_listener = TcpListener::bind((address, shared.http_port))
        .await
        .with_context(|| bind("HTTP", shared.http_port))?;

    let leases = Arc::clone(
        shared
            .leases
            .lock()
            .expect("no holder panics")
            .entry(address)
            .or_insert_with(|| {
                let remembered = shared.remembered.iter().cloned();
                Arc::new(Mutex::new(LeaseTable::new(
                    subnet.lease_first,
                    subnet.lease_last,
                    remembered,
                )))
            }),
    );
    let dhcp = dhcp4::server::Server {
        socket: dhcp_socket,
        params: Params {
            subnet,
            lease_seconds: shared.settings.network.lease_seconds,
            domain: dns::DOMAIN.to_owned(),
            http_port: shared.http_port,
        },
        leases: Arc::clone(&leases),
        ladder: Arc::clone(&shared.site.ladder),
        leases_changed: Arc::clone(&shared.leases_changed),
    };
    let names = move || {
        let leases = leases.lock().expect("no holder panics");
        let nodes = leases
            .iter()
            .map(|lease| (lease.address, dns::logic::node_label(lease.address)))
            .collect();
        dns::logic::Names {
            server: address,
            prefix: subnet.prefix,
            nodes,
        }
    };

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (site, token) = (&shared.site, &stop);
    tasks.spawn(named("DHCP", dhcp.run(token.clone())));
    tasks.spawn(named("DNS", dns::server::run(dns_udp, dns_tcp, names, token.clone())));
    let master = SocketAddrV4::new(address, shared.http_port);
    tasks.spawn(named(
        "TFTP",
        tftp::run(tftp_socket, master, Arc::clone(site), token.clone()),
    ));
    tasks.spawn(named(
        "HTTP",
        http::server::run(http_listener, Arc::clone(site), token.clone()),
    ));
    Ok(Service { stop, tasks, address })
}

async fn named(name: &'static str, task: impl Future<Output = std::io::Result<()>>) -> anyhow::Result<()> {
    task.await.with_context(|| format!("the {name} service"))
}

async fn stop_service(netlink: &Netlink, watched: &mut Watched) {
    let Some(mut service) = watched.service.take() else {
        return;
    };
    service.stop.cancel();
    while service.tasks.join_next().await.is_some() {}
    if let Err(error) = netlink.remove_address(watched.link.index, service.address).await {
        tracing::debug!(link = watched.link.name, %error, "removing the address");
    }
}

/// Folders in which distributions keep network boot programs.
pub fn loader_folders() -> Vec<PathBuf> {
    ["/usr/lib/ipxe", "/usr/share/ipxe", "/boot/ipxe"]
        .iter()
        .map(PathBuf::from)
        .collect()
}
