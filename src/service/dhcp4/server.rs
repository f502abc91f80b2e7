//! The loop on a bound socket. Decisions come from [`crate::service::dhcp4::client_filter`], [`super::relay`], [`crate::service::dhcp4::decide`], [`super::quirks`] and
//! [`crate::service::dhcp4::conflicts`]; here replies wait for what they rest on: the medium that holds the lease, the silence of the link.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhcproto::v4::{Message, MessageType, Opcode};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::config::settings::Subnet;
use crate::model::MacAddr;
use crate::service::metrics::{self, Metrics};
use crate::service::node_table::NodeTable;
use crate::service::rate_limit::Turn;
use crate::store::leases::Journal;
use crate::sys::clock;
use crate::sys::console::say;
use crate::sys::packet::ArpTap;

use super::claims::{Claims, Worth};
use super::client::{Client, Kind, identify};
use super::leases::LeaseTable;
use super::quirks::{self, Done, Facts};
use super::relay::{self, Scope};
use super::{layout, wire};
use crate::service::dhcp4::client_filter::{Door, Verdict};
use crate::service::dhcp4::conflicts;
use crate::service::dhcp4::conflicts::Ahead;
use crate::service::dhcp4::decide::{Decision, LINK_RANGE, Reply, decide, exhausted};
use crate::service::dhcp4::reply::Params;
use crate::service::dhcp4::retries::Patience;

#[cfg(test)]
mod tests;

/// What one link's DHCPv4 server works with.
pub(crate) struct Server {
    /// Bound to port 67 of one interface, broadcasts allowed.
    pub socket: UdpSocket,
    pub params: Params,
    pub leases: Arc<Mutex<LeaseTable>>,
    /// Networks behind routers.
    pub routed: Vec<Routed>,
    pub node_table: Arc<Mutex<NodeTable>>,
    pub metrics: Arc<Metrics>,
    /// Where leases become durable.
    pub journal: Arc<Journal>,
    /// Asks the link before an address is offered; `None`: nobody is asked.
    pub arp: Option<Arp>,
    /// Answers also who does not boot from the network.
    pub serve_all: bool,
    /// Who else uses the server's address, as heard last.
    pub rival: Arc<Mutex<Option<MacAddr>>>,
}

/// A network behind a router, whose machines ask through relays. Nobody is asked there whether an address is free: ARP ends at the
/// router. The machines ask for themselves, and a DECLINE counts.
pub(crate) struct Routed {
    pub subnet: Subnet,
    /// One table for all links: there may be a relay on each.
    pub leases: Arc<Mutex<LeaseTable>>,
}

/// The link, and our hardware address on it.
pub(crate) struct Arp {
    pub tap: ArpTap,
    pub mac: MacAddr,
}

/// Replies that wait, for the medium and for the link each. While as many wait, no request is read: the kernel's buffer
/// fills and drops, and clients ask again.
const MAX_WAITING: usize = 4096;
/// Datagrams read before the other events get their turn.
const MAX_AT_ONCE: usize = 64;
/// Of the machines that look for a server, so many are answered before the others get their turn, ...
const BEGIN_AT_ONCE: usize = 16;
/// ... and so many wait; beyond that the oldest are dropped, which have asked again by then.
const MAX_BEGINNING: usize = 4096;
/// A medium that takes longer than this is broken for our purposes: better an address that a restart forgets than none.
const STALL_SECONDS: f64 = 10.0;
/// An offer is moved this often to another address because somebody uses it; then the client has to ask again.
const MAX_MOVES: u8 = 4;
/// Lines a run says about addresses in use; more are in the log only.
const MAX_IN_USE_SAID: u8 = 20;
/// Networks nobody wrote down of which a person is told; more are in the log only.
const MAX_UNKNOWN_SAID: usize = 16;
/// How exactly [`conflicts::ANSWER_SECONDS`] is kept.
const SILENCE_TICK: Duration = Duration::from_millis(10);
/// The link's answer to a receive error is asked again after this.
const PAUSE: Duration = Duration::from_millis(250);

/// A reply that rests on a change of leases.
struct Unwritten {
    number: u64,
    since: f64,
    reply: Reply,
}

/// An offer whose address was asked for on the link.
struct Unanswered {
    address: Ipv4Addr,
    since: f64,
    reply: Reply,
    request: Message,
    moves: u8,
}

struct Desk {
    server: Server,
    door: Door,
    patience: Patience,
    ahead: Ahead,
    claims: Claims,
    /// Addresses in use by strangers that nobody was told of yet, each of the pool at most once. A moment later it is known whether it is one stranger for all.
    in_use: Vec<(Ipv4Addr, MacAddr)>,
    /// DISCOVERs not looked at yet, with their senders.
    beginning: VecDeque<(Vec<u8>, Ipv4Addr)>,
    unwritten: VecDeque<Unwritten>,
    unanswered: VecDeque<Unanswered>,
    /// Networks of which it was said that they have no address left.
    exhausted: HashSet<Ipv4Addr>,
    /// Networks that nobody wrote down and of which a person was told.
    unknown: HashSet<Ipv4Addr>,
    /// A person was told that answers do not get to this relay.
    unreachable: HashSet<Ipv4Addr>,
    /// It was said that whatever is offered is in use.
    taken_said: bool,
    stalled: bool,
    in_use_said: u8,
}

impl Server {
    /// Serves until `stop`. A packet that cannot be answered is dropped with its reason at debug level; a failed send
    /// costs that reply only, because the client asks again.
    pub(crate) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut written = self.journal.written();
        if self.arp.is_some() {
            self.leases.lock().expect("no holder panics").ask_first();
        }
        let mut desk = Desk::new(self);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(conflicts::TICK_SECONDS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silence = tokio::time::interval(SILENCE_TICK);
        silence.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut buffer = [0; wire::MAX_DATAGRAM];
        let mut arp = Vec::new();
        loop {
            let room = desk.unwritten.len().max(desk.unanswered.len()) < MAX_WAITING;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ready = desk.server.socket.readable(), if room => {
                    ready?;
                    desk.read(&mut buffer).await?;
                    desk.begin().await;
                }
                () = tokio::task::yield_now(), if room && !desk.beginning.is_empty() => desk.begin().await,
                changed = written.changed() => match changed {
                    Ok(()) => {
                        let number = *written.borrow_and_update();
                        desk.written(number).await;
                    }
                    // The journal's thread is gone, which it said.
                    Err(_) => {
                        desk.written(u64::MAX).await;
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                heard = hear(desk.server.arp.as_ref(), &mut arp) => match heard {
                    Ok(()) => desk.claimed(&arp).await,
                    Err(error) => {
                        tracing::debug!(%error, "receiving ARP");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                _ = tick.tick() => desk.tick().await,
                _ = silence.tick(), if !desk.unanswered.is_empty() => desk.silence().await,
            }
        }
    }
}

impl Server {
    fn scope(&self, request: &Message) -> Scope {
        let behind = |address| self.routed.iter().position(|routed| routed.subnet.contains(address));
        relay::scope(&self.params.subnet, behind, request)
    }

    fn routed(&self, scope: Scope) -> Option<&Routed> {
        match scope {
            Scope::Routed(index) => self.routed.get(index),
            Scope::Link | Scope::Unknown(_) => None,
        }
    }

    fn table(&self, scope: Scope) -> &Mutex<LeaseTable> {
        self.routed(scope).map_or(&*self.leases, |routed| &*routed.leases)
    }

    fn tables(&self) -> impl Iterator<Item = &Mutex<LeaseTable>> {
        std::iter::once(&*self.leases).chain(self.routed.iter().map(|routed| &*routed.leases))
    }

    fn params_of(&self, scope: Scope) -> Cow<'_, Params> {
        match self.routed(scope) {
            None => Cow::Borrowed(&self.params),
            Some(routed) => Cow::Owned(Params {
                subnet: routed.subnet,
                ..self.params.clone()
            }),
        }
    }
}

async fn hear(arp: Option<&Arp>, buffer: &mut Vec<u8>) -> io::Result<()> {
    match arp {
        Some(arp) => arp.tap.receive(buffer).await.map(drop),
        None => std::future::pending().await,
    }
}

impl Desk {
    fn new(server: Server) -> Self {
        Desk {
            door: Door::new(server.serve_all, clock::run_seconds()),
            server,
            claims: Claims::default(),
            in_use: Vec::new(),
            patience: Patience::default(),
            ahead: Ahead::default(),
            beginning: VecDeque::new(),
            unwritten: VecDeque::new(),
            unanswered: VecDeque::new(),
            exhausted: HashSet::new(),
            unknown: HashSet::new(),
            unreachable: HashSet::new(),
            taken_said: false,
            stalled: false,
            in_use_said: 0,
        }
    }

    /// Reads what the socket holds, up to a bound. Machines that go on are answered at once, before those that begin: where
    /// more come than can be answered, those who began get to the end.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..MAX_AT_ONCE {
            let (length, from) = match self.server.socket.try_recv_from(buffer) {
                Ok((length, SocketAddr::V4(from))) => (length, *from.ip()),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A link that goes down and comes back reports it on the socket; the socket stays good.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
                Err(error) => return Err(error),
            };
            let datagram = &buffer[..length];
            match wire::glance(datagram).map(|seen| seen.kind.into()) {
                Some(MessageType::Discover) => {
                    if self.beginning.len() >= MAX_BEGINNING {
                        self.beginning.pop_front();
                        self.server.metrics.dhcp4_unanswered(metrics::Unanswered::TooMany);
                    }
                    self.beginning.push_back((datagram.to_vec(), from));
                }
                _ => self.datagram(datagram, from).await,
            }
        }
        Ok(())
    }

    /// Answers some of the machines that look for a server.
    async fn begin(&mut self) {
        for _ in 0..BEGIN_AT_ONCE {
            let Some((datagram, from)) = self.beginning.pop_front() else {
                return;
            };
            self.datagram(&datagram, from).await;
        }
    }

    async fn datagram(&mut self, datagram: &[u8], from: Ipv4Addr) {
        match wire::decode(datagram) {
            Ok(request) => self.request(request, from).await,
            Err(reason) => {
                self.server.metrics.dhcp4_unanswered(metrics::Unanswered::Malformed);
                tracing::debug!(%reason, "DHCP packet dropped");
            }
        }
    }

    async fn request(&mut self, request: Message, from: Ipv4Addr) {
        let now = clock::run_seconds();
        let client = match identify(&request) {
            Ok(client) if request.opcode() == Opcode::BootRequest => client,
            Ok(_) => return,
            Err(reason) => {
                tracing::debug!(reason, "DHCP request not answered");
                return;
            }
        };
        let scope = self.server.scope(&request);
        let known = {
            let leases = self.server.table(scope).lock().expect("no holder panics");
            leases.knows(client.mac)
        };
        let turn = match request.opts().msg_type() {
            Some(MessageType::Discover) => Turn::Begins,
            _ => Turn::GoesOn,
        };
        let verdict = self.door.judge(&client, turn, known, now);
        if let (Some(reason), Verdict::Answer | Verdict::NotOurs) = (&client.stranger, verdict) {
            self.stranger(&client, reason, now);
        }
        match verdict {
            Verdict::Answer => {}
            Verdict::NotOurs => self.server.metrics.dhcp4_unanswered(metrics::Unanswered::NotOurs),
            _ => self.server.metrics.dhcp4_unanswered(metrics::Unanswered::TooMany),
        }
        match verdict {
            Verdict::Answer => match scope {
                Scope::Unknown(named) => self.nobody_wrote(named, from),
                _ => self.decide(request, 0, now).await,
            },
            Verdict::NotOurs => {
                tracing::debug!(client = client.name(), "not one that this master boots: not answered");
            }
            Verdict::TooOften { first: true } => say(&format!(
                "{}: asks for an address in a loop; from now on it is answered now and then",
                client.name()
            )),
            Verdict::TooMany { first: true } => {
                say("more DHCP requests come than are answered; machines wait longer for their addresses");
            }
            Verdict::TooOften { first: false } | Verdict::TooMany { first: false } => {}
        }
    }

    /// A machine that nothing can boot is named.
    fn stranger(&self, client: &Client, reason: &str, now: f64) {
        let first = {
            let mut node_table = self.server.node_table.lock().expect("no holder panics");
            node_table.unsupported(client.mac, client.instead.as_deref(), reason, now)
        };
        if first {
            say(&format!("machine {}: {reason}", client.name()));
        }
    }

    /// A machine asks for a network that is not in `recon.toml`; each is said once.
    fn nobody_wrote(&mut self, named: Ipv4Addr, from: Ipv4Addr) {
        self.server.metrics.dhcp4_unanswered(metrics::Unanswered::NotOurs);
        let [a, b, c, _] = named.octets();
        let near = Ipv4Addr::new(a, b, c, 0);
        let told = self.unknown.len() >= MAX_UNKNOWN_SAID || !self.unknown.insert(near);
        let line = relay::advice(named, from);
        match told {
            false => say(&line),
            true => tracing::debug!("{line}"),
        }
    }

    async fn decide(&mut self, request: Message, moves: u8, now: f64) {
        let scope = self.server.scope(&request);
        let params = self.server.params_of(scope);
        let (network, prefix) = (params.subnet.network, params.subnet.prefix);
        let (decision, changes) = {
            let mut leases = self.server.table(scope).lock().expect("no holder panics");
            let decision = decide(&params, &mut leases, &request, clock::unix_seconds());
            (decision, leases.take_changes())
        };
        let number = (!changes.is_empty()).then(|| self.server.journal.append(changes));
        let mut reply = match decision {
            Decision::Reply(reply) => *reply,
            Decision::Silence(reason) => {
                tracing::debug!(reason, "DHCP request not answered");
                return;
            }
            Decision::Exhausted(client) => {
                self.server.metrics.dhcp4_unanswered(metrics::Unanswered::Exhausted);
                if self.exhausted.insert(network) {
                    let counts = {
                        let leases = self.server.table(scope).lock().expect("no holder panics");
                        leases.counts(clock::unix_seconds())
                    };
                    let key = match scope {
                        Scope::Routed(_) => format!("lease-range of [[subnet]] {network}/{prefix}"),
                        _ => LINK_RANGE.to_owned(),
                    };
                    say(&format!(
                        "no address for {}: {}",
                        client.name(),
                        exhausted(counts, &key)
                    ));
                }
                return;
            }
        };
        self.heed(&request, &mut reply, now);
        match (reply.ask, number) {
            (Some(address), _) => {
                self.ask(&[address]).await;
                self.unanswered.push_back(Unanswered {
                    address,
                    since: now,
                    reply,
                    request,
                    moves,
                });
            }
            (None, Some(number)) => self.unwritten.push_back(Unwritten {
                number,
                since: now,
                reply,
            }),
            (None, None) => self.send(reply).await,
        }
    }

    /// Firmware that heeds no offer gets another kind of offer, and a person is told.
    fn heed(&mut self, request: &Message, reply: &mut Reply, now: f64) {
        match request.opts().msg_type() {
            Some(MessageType::Discover) if reply.client.kind != Kind::Probe => {
                self.exhausted
                    .remove(&self.server.params_of(self.server.scope(request)).subnet.network);
                self.ahead.wanted(now);
                let unheeded = self.patience.discover(reply.client.mac, now);
                let facts = Facts {
                    unheeded,
                    ..Facts::new(request, &reply.client)
                };
                let done: Vec<Done> = quirks::done(&facts).collect();
                if done.contains(&Done::Broadcast) {
                    reply.broadcast();
                }
                let lean: Vec<Done> = done.into_iter().filter(|done| *done == Done::LeanOffer).collect();
                if !lean.is_empty() && unheeded == quirks::PATIENCE {
                    say(&format!(
                        "{}: repeats its question and heeds no offer. Another kind of offer is tried; if it does not boot, \
                         look for a second DHCP server or a filter in the switch, or change between BIOS and UEFI boot",
                        reply.client.name()
                    ));
                }
                quirks::mend(&mut reply.message, &lean);
            }
            Some(MessageType::Request) => self.patience.request(reply.client.mac),
            _ => {}
        }
    }

    /// Everything up to `number` is on the medium.
    async fn written(&mut self, number: u64) {
        while let Some(waiting) = self.unwritten.pop_front_if(|waiting| waiting.number <= number) {
            self.send_if_true(waiting.reply).await;
        }
        if self.unwritten.is_empty() && std::mem::take(&mut self.stalled) {
            say("the stick writes again: leases are remembered");
        }
    }

    /// Sends the offers for whose addresses nobody has spoken up.
    async fn silence(&mut self) {
        let now = clock::run_seconds();
        let over = |waiting: &mut Unanswered| now - waiting.since >= conflicts::ANSWER_SECONDS;
        while let Some(waiting) = self.unanswered.pop_front_if(over) {
            self.send_if_true(waiting.reply).await;
        }
    }

    async fn tick(&mut self) {
        let (now, now_unix) = (clock::run_seconds(), clock::unix_seconds());
        self.say_in_use();
        if self.server.arp.is_some() {
            let first = self.server.params.subnet.lease_first;
            let addresses = {
                let mut leases = self.server.leases.lock().expect("no holder panics");
                self.ahead.next(&mut leases, first, now, now_unix)
            };
            self.ask(&addresses).await;
        }
        let late = |waiting: &mut Unwritten| now - waiting.since > STALL_SECONDS;
        while let Some(waiting) = self.unwritten.pop_front_if(late) {
            if !std::mem::replace(&mut self.stalled, true) {
                say(&format!(
                    "LEASES: the stick has not written them for {STALL_SECONDS:.0} seconds. Machines are served all the \
                     same, but a restart of the master may not know their addresses"
                ));
            }
            self.send_if_true(waiting.reply).await;
        }
    }

    /// Sends a reply that waited, unless its machine gave the address up meanwhile and another may have it.
    async fn send_if_true(&mut self, reply: Reply) {
        let (mac, address) = (reply.client.mac, reply.message.yiaddr());
        let now = clock::unix_seconds();
        let promised = self.server.tables().any(|table| {
            let leases = table.lock().expect("no holder panics");
            leases.promises(mac, address, now)
        });
        match promised || address.is_unspecified() {
            true => self.send(reply).await,
            false => tracing::debug!(%mac, %address, "given up before the reply left"),
        }
    }

    async fn ask(&self, addresses: &[Ipv4Addr]) {
        let Some(arp) = &self.server.arp else { return };
        for address in addresses {
            if let Err(error) = arp.tap.broadcast(&conflicts::probe(arp.mac, *address)).await {
                tracing::debug!(%address, %error, "asking for an address");
            }
        }
    }

    /// An ARP packet of another machine: does it have an address that is about to be offered?
    async fn claimed(&mut self, packet: &[u8]) {
        let Some((mac, address)) = conflicts::claim(packet) else {
            return;
        };
        if address == self.server.params.subnet.server {
            if conflicts::uses(packet).is_some() {
                *self.server.rival.lock().expect("no holder panics") = Some(mac);
            }
            return;
        }
        let taken = |waiting: &Unanswered| waiting.address == address && waiting.reply.client.mac != mac;
        if !self.ahead.asks(address) && !self.unanswered.iter().any(taken) {
            return;
        }
        let left = {
            let leases = self.server.leases.lock().expect("no holder panics");
            leases.size().saturating_sub(leases.held(clock::unix_seconds()) as u64)
        };
        match self.claims.heard(mac, address, left, clock::run_seconds()) {
            Worth::Address => {}
            Worth::Nothing { first: true } => return self.disbelieve(mac).await,
            Worth::Nothing { first: false } => return,
        }
        self.ahead.heard(address);
        let (moved, stay) = std::mem::take(&mut self.unanswered).into_iter().partition(taken);
        self.unanswered = stay;
        let moved: VecDeque<Unanswered> = moved;
        let (set_aside, changes) = {
            let mut leases = self.server.leases.lock().expect("no holder panics");
            (
                leases.in_use(address, mac, clock::unix_seconds()),
                leases.take_changes(),
            )
        };
        if set_aside {
            self.server.journal.append(changes);
            self.in_use.push((address, mac));
        }
        for waiting in moved {
            if waiting.moves < MAX_MOVES {
                self.decide(waiting.request, waiting.moves + 1, clock::run_seconds())
                    .await;
            } else if !std::mem::replace(&mut self.taken_said, true) {
                say(&format!(
                    "no address for {}: each of {} that were to be offered is used by somebody, the last by {mac}. Look who uses \
                     addresses of network.lease-range, or move it in recon.toml",
                    waiting.reply.client.name(),
                    u32::from(MAX_MOVES) + 1
                ));
            }
        }
    }

    /// One hardware address claims whatever is asked for.
    async fn disbelieve(&mut self, mac: MacAddr) {
        let changes = {
            let mut leases = self.server.leases.lock().expect("no holder panics");
            leases.disbelieve(mac, clock::unix_seconds());
            leases.take_changes()
        };
        self.server.journal.append(changes);
        say(&format!(
            "{mac} answers for addresses that nobody has (proxy ARP): its answers do not count. Where it is a router or a switch, turn \
             proxy ARP off on its port to this network: machines that check their address themselves may refuse it"
        ));
    }

    /// Says who uses addresses of the pool.
    fn say_in_use(&mut self) {
        for (address, mac) in std::mem::take(&mut self.in_use) {
            if self.claims.is_proxy(mac) {
                continue;
            }
            self.in_use_said = self.in_use_said.saturating_add(1);
            let line = format!("{address} is used by {mac}, which has no lease from here: set aside for 10 minutes");
            match self.in_use_said <= MAX_IN_USE_SAID {
                true => say(&line),
                false => tracing::debug!("{line}"),
            }
        }
    }

    async fn send(&mut self, reply: Reply) {
        let kind = reply.message.opts().msg_type();
        let client: &Client = &reply.client;
        let said = match kind {
            Some(MessageType::Offer) => Some(metrics::Said::Offer),
            Some(MessageType::Ack) => Some(metrics::Said::Ack),
            Some(MessageType::Nak) => Some(metrics::Said::Nak),
            _ => None,
        };
        if let (Some(said), true) = (said, client.kind != Kind::Probe) {
            let arch = match client.kind {
                Kind::Pxe(arch) | Kind::HttpBoot(arch) => Some(arch),
                _ => None,
            };
            self.server.metrics.dhcp4_said(said, metrics::Mode::Serve, arch);
        }
        if client.kind != Kind::Probe {
            let firmware = matches!(client.kind, Kind::Pxe(_) | Kind::HttpBoot(_));
            let mut node_table = self.server.node_table.lock().expect("no holder panics");
            node_table.heard(client.mac, firmware, clock::run_seconds());
            node_table.named(client.mac, client.instead.as_deref());
            if client.kind == Kind::Ipxe {
                node_table.netboots(client.mac);
            }
            if kind == Some(MessageType::Ack) && !reply.message.yiaddr().is_unspecified() {
                node_table.addressed(client.mac, reply.message.yiaddr(), clock::run_seconds());
            }
        }
        tracing::debug!(client = client.name(), ?kind, is = ?client.kind, yours = %reply.message.yiaddr(), to = %reply.to, "DHCP reply");
        let bytes = reply.bytes();
        if let (Some(mac), Some(arp)) = (reply.alone, &self.server.arp) {
            let packet = layout::packet(self.server.params.subnet.server, reply.to, &bytes);
            match arp.tap.send_ip(mac, &packet).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%mac, %error, "sending to a machine without an address; all are told"),
            }
        }
        let to = match reply.alone {
            Some(_) => SocketAddrV4::new(Ipv4Addr::BROADCAST, reply.to.port()),
            None => reply.to,
        };
        if let Err(error) = self.server.socket.send_to(&bytes, to).await {
            tracing::warn!(client = client.name(), to = %reply.to, %error, "sending a DHCP reply");
            let far = !self.server.params.subnet.contains(*to.ip()) && !to.ip().is_broadcast();
            if far && self.unreachable.len() < MAX_UNKNOWN_SAID && self.unreachable.insert(*to.ip()) {
                say(&format!(
                    "answers to {} do not leave: {error}. In recon.toml, give the [[subnet]] a via, the router on this link that leads \
                     there; a relay outside of its subnet stands under relays as well",
                    to.ip()
                ));
            }
        }
    }
}
