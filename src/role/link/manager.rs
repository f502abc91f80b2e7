//! Every wired link of a master: watched for ever, served where its election says so.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::settings::Subnet;
use crate::config::{Live, SiteKey};
use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode, LinkStatus};
use crate::model::ula::Prefix64;
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::dhcp4::probe::{Ask, Heard, Question, Role, Said, heard, packet};
use crate::service::dhcp4::reply::Params;
use crate::service::http::site::Site;
use crate::service::loader_choice::LoaderChoice;
use crate::service::workers::Worker;
use crate::service::{dhcp4, dns, http, tftp};
use crate::store::leases::{Book, Journal};
use crate::sys::console::say;
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::{ArpTap, DhcpListener};
use crate::sys::{clock, udp};

use super::own_address::OwnAddress;
use crate::role::link::address_claim::{Contest, Place, Search};
use crate::role::link::election::{Action, Election, Event, HELD};
use crate::role::link::ipv6::Shared6;
use crate::role::link::proof::Voice;
use crate::role::link::proxy::BOOT_SERVER;
use crate::role::link::state::{Service, Tasks, Watched, add_routes, named, stop_all, stop_for, stop_service};
use crate::role::link::{ipv6, proxy};

/// How often links and clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// A floor of clients that take the same server says nothing new for this long.
const SAME_CHOICE_SECONDS: f64 = 0.2;
/// Pause after which packets heard on a link are read together.
const HANDFUL: Duration = Duration::from_millis(2);
/// Packets heard and not yet judged; more are dropped, as a busy link repeats itself.
const HEARD_QUEUE: usize = 256;
/// Pause before addresses that somebody had are tried again.
const TAKEN_SECONDS: f64 = 30.0;
/// Pause before services that could not start are tried again.
const RETRY_SECONDS: f64 = 5.0;

/// Which links a master takes.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Every wired link, each by its own election.
    Elect,
    /// These, each by its own election; another master is stood by for, not followed.
    ElectAmong(Vec<(String, Option<Subnet>)>),
    /// These, at once and without asking who serves.
    Given(Vec<(String, Option<Subnet>)>),
}

/// Leases of every link that was served in this run, by the server's address on it, and of the networks behind routers, by their own
/// address. A link that comes back finds its own.
pub type LeaseTables = Arc<Mutex<BTreeMap<Ipv4Addr, Arc<Mutex<LeaseTable>>>>>;

/// What the links share.
pub struct Shared {
    pub site: Arc<Site>,
    pub settings: Arc<Live>,
    pub key: SiteKey,
    pub http_port: u16,
    /// Leases and addresses in use by strangers, as known at start.
    pub remembered: Book,
    pub status: Arc<Mutex<Vec<LinkStatus>>>,
    pub leases: LeaseTables,
    pub journal: Arc<Journal>,
    pub ipv6: Arc<Shared6>,
}

/// Why the links ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// Another recon master serves and this machine serves nothing: become its peer, over this port.
    Yield {
        master: SocketAddr,
        mac: MacAddr,
        /// This machine's number in elections.
        machine: MacAddr,
    },
}

/// Runs until `stop`, or until this machine should be a peer.
pub async fn run(shared: Shared, choice: Choice, stop: CancellationToken) -> anyhow::Result<Ended> {
    let netlink = Netlink::open().context("opening netlink")?;
    let (sender, receiver) = mpsc::channel(HEARD_QUEUE);
    let (given, elect, follow) = match choice {
        Choice::Elect => (None, true, true),
        Choice::ElectAmong(links) => (Some(links), true, false),
        Choice::Given(links) => (Some(links), false, false),
    };
    let version = shared.settings.version();
    let mut keeper = Keeper {
        shared,
        given,
        elect,
        follow,
        machine: None,
        netlink,
        sender,
        links: BTreeMap::new(),
        places: 0,
        places6: 0,
        version,
    };
    let ended = keeper.keep(receiver, stop).await;
    keeper.close().await;
    ended
}

struct Keeper {
    shared: Shared,
    /// The only links that are looked at.
    given: Option<Vec<(String, Option<Subnet>)>>,
    /// Links are served as their elections say.
    elect: bool,
    /// This machine becomes the peer of another master.
    follow: bool,
    /// This machine's number in elections: the lowest MAC of its links when they were first seen.
    machine: Option<MacAddr>,
    netlink: Netlink,
    sender: mpsc::Sender<(u32, MacAddr, Heard)>,
    /// By interface index.
    links: BTreeMap<u32, Watched>,
    places: u32,
    places6: u32,
    /// Of the settings that the links go by.
    version: u64,
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
                Some((index, from, what)) = receiver.recv() => match self.event(index, from, what) {
                    Some(event) => self.heard(index, event).await,
                    None => continue,
                },
            }
            self.publish();
            if let Some(ended) = self.should_yield() {
                return Ok(ended);
            }
        }
    }

    /// Looks for links that came, went or changed, moves the clocks, and checks that services live.
    async fn look(&mut self) -> anyhow::Result<()> {
        if self.version != self.shared.settings.version() {
            self.version = self.shared.settings.version();
            // A person decided about the settings: every link begins anew by them.
            for mut watched in std::mem::take(&mut self.links).into_values() {
                stop_all(&self.netlink, &mut watched).await;
            }
        }
        let sys = Path::new("/sys");
        let present = match &self.given {
            None => netif::wired_links(sys).context("listing the network links")?,
            Some(given) => given
                .iter()
                .filter_map(|(name, _)| netif::link_named(sys, name))
                .collect(),
        };
        self.machine = self.machine.or(present.iter().map(|link| link.mac).min());
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
                stop_all(&self.netlink, &mut watched).await;
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
            // A given link is served with or without carrier.
            if self.elect {
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
        let (listener, listening) = match listen(&link, self.sender.clone()) {
            Ok(listens) => listens,
            Err(error) => {
                tracing::warn!(link = link.name, %error, "opening a packet socket; trying again");
                return;
            }
        };
        let rule = self.shared.settings.now().link_rule(&link.name, link.mac);
        let machine = self.machine.unwrap_or(link.mac);
        let election = Election::new(machine, rule);
        let voice = Voice::new(self.shared.key.clone(), machine, link.mac);
        let subnet = self
            .given
            .iter()
            .flatten()
            .find(|(name, _)| *name == link.name)
            .and_then(|(_, subnet)| *subnet);
        let watched = Watched {
            link,
            election,
            voice,
            listener,
            _listening: listening,
            place: None,
            place6: None,
            subnet,
            subnet_given: subnet.is_some(),
            own_place: Place::default(),
            served: None,
            service: None,
            own: None,
            proxying: None,
            retry_at: None,
            problem: None,
            shown: (LinkMode::Down, clock::run_seconds(), 0),
        };
        self.links.insert(watched.link.index, watched);
    }

    /// What something heard means for the election of the link; `None`: nothing.
    fn event(&mut self, index: u32, from: MacAddr, what: Heard) -> Option<Event> {
        if !self.elect {
            return None;
        }
        match self.links.values().find(|other| other.link.mac == from) {
            // Its own packets, back from a switch, mean nothing.
            Some(other) if other.link.index == index => None,
            Some(other) => Some(Event::Twin {
                name: other.link.name.clone(),
                before: other.link.index < index,
            }),
            None => match what {
                Heard::Server(spoken) => {
                    let voice = &mut self.links.get_mut(&index)?.voice;
                    let said = |role| Said {
                        role,
                        machine: spoken.machine.unwrap_or(from),
                        mac: from,
                        server: spoken.server,
                    };
                    let proof = spoken.proof.filter(|proof| proof.role != Role::Ask && spoken.recon);
                    let ours = proof.is_some_and(|given| voice.is_proven(&said(given.role), proof));
                    Some(Event::Server {
                        server: ForeignServer {
                            address: spoken.server,
                            mac: from,
                            recon: spoken.recon,
                            ours,
                            boots: spoken.boots && !ours,
                        },
                        machine: spoken.machine,
                        proxies: proof.is_some_and(|proof| proof.role == Role::Proxy),
                    })
                }
                Heard::Probe { machine, nonce, proof } => {
                    let voice = &mut self.links.get_mut(&index)?.voice;
                    let ours = voice.is_proven(&Said::asking(machine, from), proof);
                    if let Some(nonce) = nonce {
                        voice.heard(Question { machine, nonce });
                    }
                    Some(Event::Rival { machine, ours })
                }
                Heard::Chosen { server } if self.links.values().any(|link| link.has(server)) => None,
                Heard::Chosen { server } => Some(Event::Chosen(server)),
            },
        }
    }

    async fn heard(&mut self, index: u32, event: Event) {
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        let actions = watched.election.on(event, clock::run_seconds());
        self.act(index, actions).await;
    }

    async fn act(&mut self, index: u32, actions: Vec<Action>) {
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        for action in actions {
            match action {
                Action::Probe => {
                    let (question, proof) = watched.voice.ask(rand::random());
                    let ask = Ask::WhoServes(question, proof);
                    watched.send(packet(ask, watched.link.mac, rand::random()));
                }
                Action::AskBoot => {
                    watched.send(packet(Ask::WhoBoots, watched.link.mac, rand::random()));
                }
                Action::Announce => watched.announce(),
                Action::Changed => {
                    watched.own_place.forget();
                    watched.problem = None;
                    watched.retry_at = None;
                    let mode = watched.election.mode();
                    stop_for(&self.netlink, watched, mode).await;
                    if mode != LinkMode::Serve {
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
        watched.check()?;
        self.contest(index, now).await;
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(());
        };
        let mode = match self.elect {
            true => watched.election.mode(),
            false if self.shared.settings.is_held() => LinkMode::Silent,
            false => LinkMode::Serve,
        };
        if mode != LinkMode::Serve {
            self.run_out(index).await;
        }
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(());
        };
        if watched.retry_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let started = match mode {
            LinkMode::Serve if watched.service.as_ref().is_none_or(|service| service.giving.is_none()) => {
                self.serve(index).await
            }
            LinkMode::Proxy => self.proxy(index).await,
            _ => Ok(false),
        };
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(());
        };
        match started {
            Ok(false) => {}
            Ok(true) => {
                watched.problem = None;
                if self.elect {
                    watched.announce();
                }
            }
            Err(error) => {
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

    /// Addresses and boot files. True once it serves.
    async fn serve(&mut self, index: u32) -> anyhow::Result<bool> {
        // A port of this machine on the same network may answer for another one's address.
        let own: Vec<MacAddr> = self.links.values().map(|watched| watched.link.mac).collect();
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(false);
        };
        if watched.subnet.is_none() {
            let place = *watched.place.get_or_insert_with(|| {
                self.places += 1;
                self.places - 1
            });
            watched.subnet = self.shared.settings.now().subnet(place);
        }
        let Some(subnet) = watched.subnet else {
            watched.problem = Some("no subnet is left for this link: choose a smaller network.subnet".to_owned());
            watched.retry_at = Some(f64::INFINITY);
            return Ok(false);
        };
        let place6 = *watched.place6.get_or_insert_with(|| {
            self.places6 += 1;
            self.places6 - 1
        });
        let address6 = self.shared.ipv6.prefix(place6).map(Prefix64::server);
        let settings = self.shared.settings.now();
        let candidates = settings.own_addresses(subnet);
        let (link, name) = (&watched.link, &watched.link.name);
        let subnet = match watched
            .own_place
            .search(candidates, watched.subnet_given, link, own, address6)
            .await
        {
            Search::Asking => return Ok(false),
            Search::Taken(address, user) => {
                say(&format!(
                    "{name}: {address} is used by {user} already; this master does not take it"
                ));
                return Ok(false);
            }
            Search::Free(subnet, None) => subnet,
            Search::Free(subnet, Some(proxy)) => {
                say(&format!(
                    "{name}: {proxy} answers for every address (proxy ARP): its answers do not count"
                ));
                subnet
            }
            Search::Nowhere => {
                let problem = watched.own_place.note(clock::run_seconds()).unwrap_or_default();
                say(&format!(
                    "{name}: not served: {problem}. Choose another network.subnet in recon.toml, or take that machine off this network"
                ));
                watched.own_place.forget();
                watched.problem = Some(format!("not served, no address is free for this master: {problem}"));
                watched.retry_at = Some(clock::run_seconds() + TAKEN_SECONDS);
                return Ok(false);
            }
        };
        if let Some((address, user)) = watched.own_place.taken6.take() {
            say(&format!(
                "{name}: {address} is used by {user} already; this master takes another network in IPv6"
            ));
            watched.place6 = Some(self.places6);
            self.places6 += 1;
        }
        let place6 = watched.place6.unwrap_or(place6);
        self.move_leases(index, subnet.server);
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(false);
        };
        // It served before, and part of that still runs for the machines that hold leases.
        stop_service(&self.netlink, watched).await;
        let prefix6 = self.shared.ipv6.prefix(place6);
        match start_service(&self.shared, &self.netlink, &watched.link, subnet, prefix6).await {
            Ok(service) => watched.service = Some(service),
            Err(error) => {
                let index = watched.link.index;
                self.netlink.remove_address(index, subnet.server).await.ok();
                return Err(error);
            }
        }
        say(&format!(
            "{}: serving {}/{}",
            watched.link.name, subnet.server, subnet.prefix
        ));
        Ok(true)
    }

    /// Leases of a link stay with it when its master takes another address.
    fn move_leases(&mut self, index: u32, server: Ipv4Addr) {
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        let before = watched.served.replace(server).filter(|before| *before != server);
        let mut tables = self.shared.leases.lock().expect("no holder panics");
        if let Some(table) = before.and_then(|before| tables.remove(&before)) {
            table
                .lock()
                .expect("no holder panics")
                .reserve([(watched.link.mac, server)]);
            tables.insert(server, table);
        }
    }

    /// Another machine that goes on using our address gets it: it may be everybody's gateway.
    async fn contest(&mut self, index: u32, now: f64) {
        let own: Vec<MacAddr> = self.links.values().map(|watched| watched.link.mac).collect();
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        let Some(service) = watched.service.as_ref().filter(|service| service.giving.is_some()) else {
            return;
        };
        let (address, heard) = (service.address, service.rival.lock().expect("no holder panics").take());
        let Some(user) = heard.filter(|user| !own.contains(user)) else {
            return;
        };
        let name = watched.link.name.clone();
        match watched.own_place.contest(user, now) {
            Contest::Known => {}
            Contest::New => say(&format!(
                "{name}: {user} uses {address} as well, which is this master's address"
            )),
            Contest::Leave => {
                say(&format!(
                    "{name}: {user} goes on using {address}; this master leaves it"
                ));
                watched.own_place.leave(address, user);
                stop_service(&self.netlink, watched).await;
            }
        }
    }

    /// Boot files at an address of somebody else's network. True when it starts to.
    async fn proxy(&mut self, index: u32) -> anyhow::Result<bool> {
        let Some(watched) = self.links.get_mut(&index) else {
            return Ok(false);
        };
        let but = watched.service.as_ref().map(|service| service.address);
        if watched.own.is_none() {
            watched.own = Some(OwnAddress::of(&watched.link, &self.netlink, but).await);
        }
        let own = watched.own.as_ref().and_then(OwnAddress::now);
        if watched.proxying.as_ref().map(|proxying| proxying.own) == own {
            return Ok(false);
        }
        if let Some(proxying) = watched.proxying.take() {
            proxy::stop(&self.netlink, &watched.link, proxying).await;
        }
        let Some(own) = own else { return Ok(false) };
        watched.proxying = Some(proxy::start(&self.shared, &self.netlink, &watched.link, own).await?);
        say(&format!(
            "{}: boot files from {}, addresses from the other server",
            watched.link.name, own.address
        ));
        Ok(true)
    }

    /// Ends what serves the leases of a link that is no longer served, once nobody holds one.
    async fn run_out(&mut self, index: u32) {
        let held = self.leases_held(index);
        let Some(watched) = self.links.get_mut(&index) else {
            return;
        };
        let over = watched.service.as_ref().is_some_and(|service| service.giving.is_none());
        if over && held == 0 {
            stop_service(&self.netlink, watched).await;
        }
    }

    /// Machines that hold a lease of ours on the link.
    fn leases_held(&self, index: u32) -> usize {
        let service = self.links.get(&index).and_then(|watched| watched.service.as_ref());
        let tables = self.shared.leases.lock().expect("no holder panics");
        let Some(table) = service.and_then(|service| tables.get(&service.address)) else {
            return 0;
        };
        let now = clock::unix_seconds();
        let held = |table: &Mutex<LeaseTable>| table.lock().expect("no holder panics").held(now);
        // Machines behind routers use what is served here as well.
        let settings = self.shared.settings.now();
        let routed = service.into_iter().flat_map(|service| settings.routed(service.address));
        let behind: usize = routed
            .filter_map(|subnet| tables.get(&subnet.network))
            .map(|table| held(table))
            .sum();
        let v4 = held(table) + behind;
        let v6 = service.and_then(|service| service.ipv6.as_ref()).map(|(prefix, _)| {
            let table = self.shared.ipv6.table(*prefix);
            table.lock().expect("no holder panics").held(now)
        });
        // A machine may hold one of each.
        v4.max(v6.unwrap_or(0))
    }

    fn should_yield(&self) -> Option<Ended> {
        let mut candidate = None;
        for watched in self.links.values().filter(|_| self.follow) {
            match watched.election.mode() {
                LinkMode::Serve | LinkMode::Proxy | LinkMode::Probing => return None,
                LinkMode::Yield => {
                    let master = watched.election.master();
                    candidate = candidate.or(master.map(|master| (master, watched.link.mac)));
                }
                LinkMode::Down | LinkMode::Silent => {}
            }
        }
        candidate.map(|(master, mac)| Ended::Yield {
            master: SocketAddr::from((master, self.shared.http_port)),
            mac,
            machine: self.machine.unwrap_or(mac),
        })
    }

    fn publish(&mut self) {
        let now = clock::run_seconds();
        let elect = self.elect;
        let held = !elect && self.shared.settings.is_held();
        for watched in self.links.values_mut() {
            let mode = if held { LinkMode::Silent } else { watched.mode(elect) };
            if watched.shown.0 != mode {
                watched.shown = (mode, now, watched.shown.2.saturating_add(1));
            }
        }
        let rows = self.links.keys().filter_map(|index| self.row(*index, now)).collect();
        *self.shared.status.lock().expect("no holder panics") = rows;
    }

    fn row(&self, index: u32, now: f64) -> Option<LinkStatus> {
        let watched = self.links.get(&index)?;
        let reason = match &watched.problem {
            Some(problem) => problem.clone(),
            None if !self.elect && self.shared.settings.is_held() => HELD.to_owned(),
            None if !self.elect => "told to serve".to_owned(),
            None => watched.reason(),
        };
        let reason = match watched.own_place.note(now) {
            Some(note) if watched.problem.is_none() => format!("{reason}; {note}"),
            _ => reason,
        };
        let (mode, since, changes) = watched.shown;
        let with_prefix = |address: Ipv4Addr, prefix: u8| format!("{address}/{prefix}");
        let served = watched
            .service
            .as_ref()
            .map(|service| with_prefix(service.address, service.prefix));
        let proxied = watched
            .proxying
            .as_ref()
            .map(|proxying| with_prefix(proxying.own.address, proxying.own.prefix));
        let (address, old_address) = match mode {
            LinkMode::Serve => (served, None),
            _ => (proxied, served),
        };
        Some(LinkStatus {
            name: watched.link.name.clone(),
            mac: watched.link.mac,
            mode,
            reason,
            address,
            old_address,
            leases_held: self.leases_held(index),
            mode_seconds: (now - since).max(0.0) as u64,
            mode_changes: changes,
            foreign: watched.election.foreign().cloned().collect(),
            ipv6: watched.ipv6(),
        })
    }

    async fn close(&mut self) {
        for watched in self.links.values_mut() {
            stop_all(&self.netlink, watched).await;
        }
    }
}

/// Listens on a link, in a thread that ends with the guard.
fn listen(link: &Link, sender: mpsc::Sender<(u32, MacAddr, Heard)>) -> std::io::Result<(Arc<DhcpListener>, DropGuard)> {
    let listener = Arc::new(DhcpListener::open(link.index, TICK)?);
    let stop = CancellationToken::new();
    let (index, listens, stopped) = (link.index, Arc::clone(&listener), stop.clone());
    std::thread::Builder::new()
        .name(format!("dhcp-{}", link.name))
        .spawn(move || listen_on(index, &listens, &sender, &stopped))?;
    Ok((listener, stop.drop_guard()))
}

/// A floor of clients sends thousands of packets a second: they are read in handfuls, not one by one.
fn listen_on(
    index: u32,
    listener: &DhcpListener,
    sender: &mpsc::Sender<(u32, MacAddr, Heard)>,
    stop: &CancellationToken,
) {
    let mut buffer = Vec::new();
    let mut chosen: Option<(Ipv4Addr, f64)> = None;
    while !stop.is_cancelled() {
        let mut next = listener.receive(&mut buffer);
        while let Ok(Some(from)) = next {
            if let Some(what) = heard(&buffer).filter(|what| is_news(what, &mut chosen, clock::run_seconds())) {
                sender.try_send((index, from, what)).ok();
            }
            next = listener.try_receive(&mut buffer);
        }
        // A link that went down reports it once; a port that is gone reports it for ever.
        std::thread::sleep(if next.is_ok() { HANDFUL } else { TICK });
    }
}

/// False for a client that takes the server that another one took just before. `chosen`: that server, and when.
fn is_news(what: &Heard, chosen: &mut Option<(Ipv4Addr, f64)>, now: f64) -> bool {
    let Heard::Chosen { server } = what else { return true };
    let same = chosen.is_some_and(|(last, at)| last == *server && now - at < SAME_CHOICE_SECONDS);
    if !same {
        *chosen = Some((*server, now));
    }
    !same
}

/// Sets the address, binds every socket, and only then starts to serve.
async fn start_service(
    shared: &Shared,
    netlink: &Netlink,
    link: &Link,
    subnet: Subnet,
    prefix6: Option<Prefix64>,
) -> anyhow::Result<Service> {
    let address = subnet.server;
    netlink
        .add_address(link.index, address, subnet.prefix)
        .await
        .with_context(|| format!("setting {address}/{} on {}", subnet.prefix, link.name))?;
    let bind = |what: &'static str, port: u16| format!("binding {what} to {address} port {port}");
    // A thread of its own: nothing that goes to other machines makes an address wait.
    let dhcp_thread = Worker::start("dhcp4").context("starting a thread")?;
    let (dhcp_socket, arp) = {
        let _entered = dhcp_thread.handle().enter();
        let socket = udp::on_interface(&link.name, 67).with_context(|| bind("DHCP", 67))?;
        let arp = ArpTap::open(link.index).inspect_err(
            |error| tracing::warn!(link = link.name, %error, "addresses are offered without asking for them"),
        );
        (socket, arp.ok())
    };
    // Firmware that takes the boot file of an offer as it is told asks nobody there, and that is nearly all.
    let boot_server = udp::on_interface(&link.name, BOOT_SERVER)
        .inspect_err(|error| tracing::warn!(link = link.name, %error, "nobody answers on port {BOOT_SERVER}"));
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
            .or_insert_with(|| Arc::new(Mutex::new(lease_table(shared, subnet)))),
    );
    let routed: Vec<dhcp4::server::Routed> = routed_of(shared, address);
    let behind: Vec<_> = routed.iter().map(|routed| Arc::clone(&routed.leases)).collect();
    let rival = Arc::default();
    let dhcp = dhcp4::server::Server {
        socket: dhcp_socket,
        params: Params {
            subnet,
            lease_seconds: shared.settings.now().network.lease_seconds,
            domain: dns::DOMAIN.to_owned(),
            http_port: shared.http_port,
            loaders: chooser(&shared.site),
        },
        leases: Arc::clone(&leases),
        routed,
        node_table: Arc::clone(&shared.site.node_table),
        metrics: Arc::clone(&shared.site.metrics),
        journal: Arc::clone(&shared.journal),
        arp: arp.map(|tap| dhcp4::server::Arp { tap, mac: link.mac }),
        serve_all: shared.settings.now().network.serve_all,
        rival: Arc::clone(&rival),
    };
    let leases6 = prefix6.map(|prefix| shared.ipv6.table(prefix));
    let names = move || {
        let mut v4 = Vec::new();
        for table in std::iter::once(&leases).chain(&behind) {
            let table = table.lock().expect("no holder panics");
            v4.extend(table.iter().map(|lease| (lease.mac, lease.address)));
        }
        let leases6 = leases6.as_ref().map(|table| table.lock().expect("no holder panics"));
        let v6 = leases6.iter().flat_map(|table| table.addresses());
        dns::answer::Names {
            server: address,
            prefix: subnet.prefix,
            prefix6,
            nodes: dns::answer::node_names(v4, v6),
        }
    };

    // What gives leases ends before the rest does.
    let mut giving = Tasks::default();
    let stop_giving = giving.stop.clone();
    let served = dhcp.run(stop_giving);
    let handle = dhcp_thread.handle().clone();
    let dhcp = async move {
        let _thread = dhcp_thread;
        served.await
    };
    giving.set.spawn_on(named("DHCP", dhcp), &handle);
    if let Ok(boot_server) = boot_server {
        let server = dhcp4::proxy_server::Server {
            dhcp: None,
            boot_server,
            params: dhcp4::proxy::Params {
                server: address,
                prefix: subnet.prefix,
                routed: shared.settings.now().routed(address).collect(),
                http_port: shared.http_port,
                loaders: chooser(&shared.site),
            },
            node_table: Arc::clone(&shared.site.node_table),
            metrics: Arc::clone(&shared.site.metrics),
        };
        giving.set.spawn(named("boot server", server.run(giving.stop.clone())));
    }
    let mut tasks = Tasks::default();
    let (site, token) = (&shared.site, tasks.stop.clone());
    let metrics = Arc::clone(&site.metrics);
    tasks.set.spawn(named(
        "DNS",
        dns::server::run(dns_udp, dns_tcp, names.clone(), metrics, token.clone()),
    ));
    let master = SocketAddr::from((address, shared.http_port));
    tasks.set.spawn(named(
        "TFTP",
        tftp::run(tftp_socket, master, Arc::clone(site), token.clone()),
    ));
    tasks.set.spawn(named(
        "HTTP",
        http::server::run(http_listener, Arc::clone(site), token.clone()),
    ));
    let ipv6 = match prefix6 {
        Some(prefix) => {
            let status = ipv6::start(shared, netlink, link, prefix, names, &mut giving, &mut tasks).await;
            Some((prefix, status))
        }
        None => None,
    };
    let routes = shared.settings.now().ways(|address| subnet.contains(address));
    add_routes(netlink, link, &routes).await;
    Ok(Service {
        tasks,
        giving: Some(giving),
        address,
        prefix: subnet.prefix,
        routes,
        ipv6,
        rival,
    })
}

/// Chooses boot programs by what the node table knows of a machine.
pub fn chooser(site: &Site) -> LoaderChoice {
    LoaderChoice::ByMachine {
        loaders: site.loaders.clone(),
        node_table: Arc::clone(&site.node_table),
    }
}

/// The leases of a link, with what is remembered and what `recon.toml` reserves on it.
fn lease_table(shared: &Shared, subnet: Subnet) -> LeaseTable {
    let remembered = shared.remembered.leases().cloned();
    let mut table = LeaseTable::new(subnet.lease_first, subnet.lease_last, remembered);
    table.reserve(shared.settings.now().reservations(subnet));
    table.rest(shared.remembered.resting());
    table
}

/// The networks behind routers, each with its leases: those of the run, whichever link they were given by.
fn routed_of(shared: &Shared, server: Ipv4Addr) -> Vec<dhcp4::server::Routed> {
    let mut tables = shared.leases.lock().expect("no holder panics");
    let settings = shared.settings.now();
    let routed = settings.routed(server).map(|subnet| {
        let new = || Arc::new(Mutex::new(lease_table(shared, subnet)));
        let leases = Arc::clone(tables.entry(subnet.network).or_insert_with(new));
        dhcp4::server::Routed { subnet, leases }
    });
    routed.collect()
}

/// Folders in which distributions keep network boot programs.
pub fn loader_folders() -> Vec<PathBuf> {
    [
        "/usr/lib/ipxe",
        "/usr/share/ipxe",
        "/boot/ipxe",
        // Signed shim and GRUB: in our image, and where Debian and openSUSE have them.
        "/usr/lib/recon/loaders",
        "/usr/lib/shim",
        "/usr/lib/grub/x86_64-efi-signed",
        "/usr/share/efi/x86_64",
        // The memory test.
        "/boot",
    ]
    .iter()
    .map(PathBuf::from)
    .collect()
}
