//! The loop on a bound socket. [`super::client`] says who asks, [`super::client_filter`] who is answered, [`super::relay`] for which
//! network, [`super::decide`] what; replies wait in [`super::waiting`] for what they rest on, and [`super::notices`] words what a
//! person is told.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dhcproto::v4::{Message, MessageType};
use tokio_util::sync::CancellationToken;

use crate::model::console::console;
use crate::model::{MacAddr, RunTime};
use crate::service::metrics;
use crate::service::rate_limit::{Rate, Turn};
use crate::sys::clock;

use super::claims::{Claims, Worth};
use super::client::{Client, Kind, identify};
use super::client_filter::ClientFilter;
use super::conflicts::{self, Prober};
use super::decide::{Decision, decide};
use super::notices::{self, LINK_RANGE, Notice, Notices};
use super::quirks::Facts;
use super::relay::Scope;
use super::reply::Reply;
use super::retries::OfferRetries;
use super::server::{Arp, Server, name_unsupported};
use super::waiting::{STALL_SECONDS, Unprobed, Waiting};
use super::wire;

#[cfg(test)]
mod tests;

/// Datagrams read before the other events get their turn.
const MAX_AT_ONCE: usize = 64;
/// Of the machines that look for a server, so many are answered before the others get their turn, ...
const DISCOVERS_AT_ONCE: usize = 16;
/// ... and so many wait; beyond that the oldest are dropped, which have asked again by then.
const MAX_PENDING_DISCOVERS: usize = 4096;
/// An offer is moved this often to another address because somebody uses it; then the client has to ask again.
const MAX_MOVES: u8 = 4;
/// How exactly [`conflicts::ANSWER_SECONDS`] is kept.
const SILENCE_TICK: Duration = Duration::from_millis(10);
/// The link's answer to a receive error is asked again after this.
const ERROR_PAUSE: Duration = Duration::from_millis(250);

/// A server at work.
struct Worker {
    server: Server,
    filter: ClientFilter,
    retries: OfferRetries,
    prober: Prober,
    claims: Claims,
    /// Addresses in use by strangers that nobody was told of yet, each of the pool at most once. A moment later it is known whether it is one stranger for all.
    in_use: Vec<(Ipv4Addr, MacAddr)>,
    /// DISCOVERs not looked at yet, with their senders.
    pending_discovers: VecDeque<(Vec<u8>, Ipv4Addr)>,
    waiting: Waiting,
    notices: Notices,
}

impl Server {
    /// Serves until `stop`. A packet that cannot be answered is dropped with its reason at debug level; a failed send
    /// costs that reply only, because the client asks again.
    pub(crate) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut written = self.journal.written();
        if self.arp.is_some() {
            self.link.leases.lock().expect("no holder panics").probe_first();
        }
        let mut worker = Worker::new(self);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(conflicts::TICK_SECONDS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silence = tokio::time::interval(SILENCE_TICK);
        silence.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut buffer = [0; wire::MAX_DATAGRAM];
        let mut arp = Vec::new();
        loop {
            let room = worker.waiting.has_room();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                ready = worker.server.socket.readable(), if room => {
                    ready?;
                    worker.read(&mut buffer).await?;
                    worker.serve_discovers().await;
                }
                () = tokio::task::yield_now(), if room && !worker.pending_discovers.is_empty() => worker.serve_discovers().await,
                changed = written.changed() => match changed {
                    Ok(()) => {
                        let number = *written.borrow_and_update();
                        worker.written(number).await;
                    }
                    // The journal's thread is gone, which it said.
                    Err(_) => {
                        worker.written(u64::MAX).await;
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                },
                heard = hear(worker.server.arp.as_ref(), &mut arp) => match heard {
                    Ok(()) => worker.claimed(&arp).await,
                    Err(error) => {
                        tracing::debug!(%error, "receiving ARP");
                        tokio::time::sleep(ERROR_PAUSE).await;
                    }
                },
                _ = tick.tick() => worker.tick().await,
                _ = silence.tick(), if worker.waiting.unprobed().next().is_some() => worker.silence().await,
            }
        }
    }
}

async fn hear(arp: Option<&Arp>, buffer: &mut Vec<u8>) -> io::Result<()> {
    match arp {
        Some(arp) => arp.tap.receive(buffer).await.map(drop),
        None => std::future::pending().await,
    }
}

impl Worker {
    fn new(server: Server) -> Self {
        Worker {
            filter: ClientFilter::new(server.link.params.lease.serve_all, clock::run_time()),
            server,
            retries: OfferRetries::default(),
            prober: Prober::default(),
            claims: Claims::default(),
            in_use: Vec::new(),
            pending_discovers: VecDeque::new(),
            waiting: Waiting::default(),
            notices: Notices::default(),
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
            match wire::peek(datagram).map(|seen| seen.kind.into()) {
                Some(MessageType::Discover) => {
                    if self.pending_discovers.len() >= MAX_PENDING_DISCOVERS {
                        self.pending_discovers.pop_front();
                        self.server.metrics.dhcp4_unanswered(metrics::Unanswered::TooMany);
                    }
                    self.pending_discovers.push_back((datagram.to_vec(), from));
                }
                _ => self.datagram(datagram, from).await,
            }
        }
        Ok(())
    }

    /// Answers some of the machines that look for a server.
    async fn serve_discovers(&mut self) {
        for _ in 0..DISCOVERS_AT_ONCE {
            let Some((datagram, from)) = self.pending_discovers.pop_front() else {
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
        let now = clock::run_time();
        let client = match identify(&request) {
            Ok(client) => client,
            Err(reason) => {
                tracing::debug!(reason, "DHCP request not answered");
                return;
            }
        };
        let scope = self.server.scope(&request);
        let leases = &self.server.network(scope).leases;
        let known = || leases.lock().expect("no holder panics").knows(client.mac);
        let turn = match request.opts().msg_type() {
            Some(MessageType::Discover) => Turn::Begins,
            _ => Turn::GoesOn,
        };
        let rate = self.filter.judge(&client, turn, known, now);
        if matches!(rate, None | Some(Rate::Within)) {
            name_unsupported(&self.server.node_table, &client, now);
        }
        let metrics = &self.server.metrics;
        match rate {
            Some(Rate::Within) => match scope {
                Scope::Unknown(named) => {
                    metrics.dhcp4_unanswered(metrics::Unanswered::NotOurs);
                    tell(self.notices.unknown(named, from));
                }
                _ => self.decide(request, client, scope, 0, now).await,
            },
            None => {
                metrics.dhcp4_unanswered(metrics::Unanswered::NotOurs);
                tracing::debug!(client = %client.name(), "not one that this master boots: not answered");
            }
            Some(rate) => {
                metrics.dhcp4_unanswered(metrics::Unanswered::TooMany);
                if let Some(line) = notices::too_often(rate, client.name(), "an address", "DHCP") {
                    console!("{line}");
                }
            }
        }
    }

    /// `moves`: how often the client's offer was moved to another address.
    async fn decide(&mut self, request: Message, client: Client, scope: Scope, moves: u8, now: RunTime) {
        let network = self.server.network(scope);
        let facts = Facts {
            request: &request,
            client: &client,
            ignored_offers: self.retries.offers(client.mac, now),
        };
        let (decision, changes) = {
            let mut leases = network.leases.lock().expect("no holder panics");
            let decision = decide(&network.params, &mut leases, &facts, clock::unix_time());
            (decision, leases.take_changes())
        };
        let number = (!changes.is_empty()).then(|| self.server.journal.append(changes));
        let reply = match decision {
            Decision::Reply(reply) => *reply,
            Decision::Silence(reason) => {
                tracing::debug!(reason, "DHCP request not answered");
                return;
            }
            Decision::Exhausted => return self.exhausted(scope, &client),
        };
        match request.opts().msg_type() {
            Some(MessageType::Discover) if client.kind != Kind::Probe => {
                self.notices.offered(network.params.subnet.network);
                self.prober.wanted(now);
                self.retries.offered(client.mac, now);
            }
            Some(MessageType::Request) => self.retries.taken(client.mac),
            _ => {}
        }
        if reply.first_minimal_offer {
            console!("{}", notices::takes_no_offer(client.name()));
        }
        match (reply.probe, number) {
            (Some(address), _) => {
                self.server.probe(&[address]).await;
                self.waiting.for_link(Unprobed {
                    address,
                    since: now,
                    reply,
                    request,
                    scope,
                    moves,
                });
            }
            (None, Some(number)) => self.waiting.for_journal(number, reply, now),
            (None, None) => self.send(reply).await,
        }
    }

    fn exhausted(&mut self, scope: Scope, client: &Client) {
        self.server.metrics.dhcp4_unanswered(metrics::Unanswered::Exhausted);
        let network = self.server.network(scope);
        let subnet = network.params.subnet;
        if !self.notices.is_newly_exhausted(subnet.network) {
            return;
        }
        let leases = network.leases.lock().expect("no holder panics");
        let counts = leases.counts(clock::unix_time());
        drop(leases);
        let key = match scope {
            Scope::Routed(_) => format!("lease-range of [[subnet]] {}/{}", subnet.network, subnet.prefix),
            _ => LINK_RANGE.to_owned(),
        };
        console!("no address for {}: {}", client.name(), notices::exhausted(counts, &key));
    }

    /// Everything up to `number` is in the file.
    async fn written(&mut self, number: u64) {
        while let Some(reply) = self.waiting.next_written(number) {
            self.send_if_reserved(reply).await;
        }
    }

    /// Sends the offers for whose addresses nobody has spoken up.
    async fn silence(&mut self) {
        while let Some(reply) = self.waiting.next_silent(clock::run_time()) {
            self.send_if_reserved(reply).await;
        }
    }

    async fn tick(&mut self) {
        let (now, now_unix) = (clock::run_time(), clock::unix_time());
        self.say_in_use();
        if self.server.arp.is_some() {
            let first = self.server.link.params.subnet.lease_first;
            let addresses = {
                let mut leases = self.server.link.leases.lock().expect("no holder panics");
                self.prober.next(&mut leases, first, now, now_unix)
            };
            self.server.probe(&addresses).await;
        }
        let owing = self.server.journal.owing_since();
        let mut stalled = owing.is_some_and(|since| now - since > STALL_SECONDS);
        while let Some(reply) = self.waiting.next_stalled(now) {
            stalled = true;
            self.send_if_reserved(reply).await;
        }
        if stalled {
            tell(self.notices.stalled());
        } else if owing.is_none() && self.waiting.unwritten() == 0 {
            tell(self.notices.written());
        }
    }

    /// Sends a reply that waited, unless its machine gave the address up meanwhile and another may have it.
    async fn send_if_reserved(&mut self, reply: Reply) {
        let (mac, address) = (reply.client.mac, reply.message.yiaddr());
        let now = clock::unix_time();
        let reserved = self.server.tables().any(|table| {
            let leases = table.lock().expect("no holder panics");
            leases.is_reserved_for(mac, address, now)
        });
        match reserved || address.is_unspecified() {
            true => self.send(reply).await,
            false => tracing::debug!(%mac, %address, "given up before the reply left"),
        }
    }

    /// An ARP packet of another machine: does it have an address that is about to be offered?
    async fn claimed(&mut self, packet: &[u8]) {
        let Some((mac, address)) = conflicts::claim(packet) else {
            return;
        };
        if address == self.server.link.params.subnet.server {
            if conflicts::uses(packet).is_some() {
                *self.server.rival.lock().expect("no holder panics") = Some(mac);
            }
            return;
        }
        if !self.prober.asks(address) && !self.waiting.is_claimed(address, mac) {
            return;
        }
        let left = {
            let leases = self.server.link.leases.lock().expect("no holder panics");
            leases.size().saturating_sub(leases.held(clock::unix_time()) as u64)
        };
        match self.claims.heard(mac, address, left, clock::run_time()) {
            Worth::Address => {}
            Worth::Nothing { first: true } => return self.disbelieve(mac).await,
            Worth::Nothing { first: false } => return,
        }
        self.prober.heard(address);
        let moved = self.waiting.take_claimed(address, mac);
        let (abandoned, changes) = {
            let mut leases = self.server.link.leases.lock().expect("no holder panics");
            let abandoned = leases.abandon(address, mac, clock::unix_time());
            (abandoned, leases.take_changes())
        };
        if abandoned {
            self.server.journal.append(changes);
            self.in_use.push((address, mac));
        }
        for waiting in moved {
            let client = waiting.reply.client;
            if waiting.moves < MAX_MOVES {
                let (scope, moves) = (waiting.scope, waiting.moves + 1);
                self.decide(waiting.request, client, scope, moves, clock::run_time())
                    .await;
            } else {
                tell(self.notices.taken(client.name(), u32::from(MAX_MOVES) + 1, mac));
            }
        }
    }

    /// One hardware address claims whatever is asked for.
    async fn disbelieve(&mut self, mac: MacAddr) {
        let changes = {
            let mut leases = self.server.link.leases.lock().expect("no holder panics");
            leases.disbelieve(mac, clock::unix_time());
            leases.take_changes()
        };
        self.server.journal.append(changes);
        console!("{}", notices::proxy_arp(mac));
    }

    /// Says who uses addresses of the pool.
    fn say_in_use(&mut self) {
        for (address, mac) in std::mem::take(&mut self.in_use) {
            if !self.claims.is_proxy(mac) {
                tell(self.notices.in_use(address, mac));
            }
        }
    }

    async fn send(&mut self, reply: Reply) {
        self.server.note(&reply);
        if let Err((to, error)) = self.server.send(&reply).await {
            tracing::warn!(client = %reply.client.name(), %to, %error, "sending a DHCP reply");
            if !self.server.link.params.subnet.contains(to) && !to.is_broadcast() {
                tell(self.notices.unreachable(to, &error));
            }
        }
    }
}

fn tell(notice: impl Into<Option<Notice>>) {
    match notice.into() {
        Some(Notice::Person(line)) => console!("{line}"),
        Some(Notice::Log(line)) => tracing::debug!("{line}"),
        None => {}
    }
}
