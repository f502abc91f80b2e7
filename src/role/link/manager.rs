//! Every wired link of a master: watched for ever, served where its election says so.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::config::Subnet;
use crate::model::MacAddr;
use crate::model::api::{ForeignServer, LinkMode};
use crate::model::console::console;
use crate::service::dhcp4::probe::{Overheard, Question, Role, Said, ServerMessage};
use crate::sys::clock;
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::systemd::Watchdog;

use crate::role::link::address_claim::AddressClaim;
use crate::role::link::election::{Election, Event};
use crate::role::link::listener::{Listener, Packet};
use crate::role::link::proof::Voice;
use crate::role::link::reconcile::Context;
use crate::role::link::shared::Shared;
use crate::role::link::state::{Activity, LinkState, Rule, ShownMode, SubnetSource};

/// How often links and clocks are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Packets heard and not yet judged; more are dropped, as a busy link repeats itself.
const HEARD_QUEUE: usize = 256;

/// Which links a master takes.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// Every wired link, each by its own election.
    Elect,
    /// These, each by its own election; another master is stood by for, not followed.
    ElectAmong(Vec<(String, Option<Subnet>)>),
    /// These, at once and without asking who serves.
    Given(Vec<(String, Option<Subnet>)>),
}

impl Choice {
    /// The only links that are looked at.
    fn given(&self) -> Option<&[(String, Option<Subnet>)]> {
        match self {
            Choice::Elect => None,
            Choice::ElectAmong(links) | Choice::Given(links) => Some(links),
        }
    }

    fn rule(&self, shared: &Shared) -> Rule {
        match self {
            Choice::Elect | Choice::ElectAmong(_) => Rule::Elected,
            Choice::Given(_) if shared.settings().is_held() => Rule::Held,
            Choice::Given(_) => Rule::Given,
        }
    }
}

/// Why the links ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    /// Another recon master serves and this machine serves nothing: become its peer, over this port.
    Yield {
        master: SocketAddr,
        mac: MacAddr,
        /// This machine's identifier in elections.
        machine_id: MacAddr,
    },
}

/// Runs until `stop`, or until this machine should be a peer.
pub(crate) async fn run(shared: Shared, choice: Choice, stop: CancellationToken) -> anyhow::Result<Ended> {
    let (sender, receiver) = mpsc::channel(HEARD_QUEUE);
    let version = shared.settings().version();
    let mut manager = LinkManager {
        context: Context {
            rule: choice.rule(&shared),
            shared,
            netlink: Netlink::open().context("opening netlink")?,
            next_slot: 0,
            next_slot6: 0,
        },
        choice,
        machine_id: None,
        sender,
        links: BTreeMap::new(),
        version,
    };
    let ended = manager.run(receiver, stop).await;
    manager.stop_links().await;
    ended
}

struct LinkManager {
    context: Context,
    choice: Choice,
    /// This machine's identifier in elections: the lowest MAC of its links when they were first seen.
    machine_id: Option<MacAddr>,
    sender: mpsc::Sender<Packet>,
    /// By interface index.
    links: BTreeMap<u32, LinkState>,
    /// Of the settings that the links go by.
    version: u64,
}

impl LinkManager {
    async fn run(&mut self, mut heard: mpsc::Receiver<Packet>, stop: CancellationToken) -> anyhow::Result<Ended> {
        let mut watchdog = Watchdog::start();
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            // What is waited for may be given up at any time; what follows it is done whole.
            tokio::select! {
                () = stop.cancelled() => return Ok(Ended::Stopped),
                _ = tick.tick() => self.poll_links(&mut watchdog).await?,
                Some(packet) = heard.recv() => {
                    let index = packet.0;
                    let Some(event) = self.event(packet) else { continue };
                    if let Some(link) = self.links.get_mut(&index) {
                        let (actions, span) = (link.election.on(event, clock::run_time()), link.span.clone());
                        link.act(&self.context.netlink, actions).instrument(span).await;
                    }
                }
            }
            self.publish();
            if let Some(ended) = self.should_yield() {
                return Ok(ended);
            }
        }
    }

    /// Looks for links that came, went or changed, moves the clocks, and checks that services live.
    async fn poll_links(&mut self, watchdog: &mut Watchdog) -> anyhow::Result<()> {
        self.context.rule = self.choice.rule(&self.context.shared);
        let version = self.context.shared.settings().version();
        if std::mem::replace(&mut self.version, version) != version {
            // A person decided about the settings: every link begins anew by them.
            self.stop_links().await;
        }
        let sys = Path::new("/sys");
        let present = match self.choice.given() {
            None => netif::wired_links(sys).context("listing the network links")?,
            Some(given) => {
                let named = given.iter().filter_map(|(name, _)| netif::link_named(sys, name));
                named.collect()
            }
        };
        self.machine_id = self.machine_id.or(present.iter().map(|link| link.mac).min());
        let indices: HashSet<u32> = present.iter().map(|link| link.index).collect();
        let gone = self.links.extract_if(.., |index, _| !indices.contains(index));
        let gone: Vec<LinkState> = gone.map(|(_, state)| state).collect();
        for state in &gone {
            console!("{}: the port is gone", state.link.name);
        }
        stop(&self.context.netlink, gone).await;
        for link in present {
            if !self.links.contains_key(&link.index) {
                let span = tracing::info_span!("link", name = link.name);
                self.watch(link.clone()).instrument(span).await;
            }
            // A port of this machine on the same network may answer for another one's address.
            let own: Vec<MacAddr> = self.links.values().map(|state| state.link.mac).collect();
            let now = clock::run_time();
            let others = self.links.iter().filter(|(index, _)| **index != link.index);
            let beside = Event::beside(others.map(|(_, state)| &state.election), now);
            if let Some(state) = self.links.get_mut(&link.index) {
                let span = state.span.clone();
                let polled = poll(&mut self.context, state, link, beside, &own);
                polled.instrument(span).await?;
            }
            // A machine of many ports and little speed starts them one after the other.
            watchdog.feed(Instant::now());
        }
        watchdog.feed(Instant::now());
        Ok(())
    }

    async fn watch(&mut self, link: Link) {
        let shared = &self.context.shared;
        if let Err(error) = self.context.netlink.up(link.index).await {
            tracing::warn!(%error, "bringing a link up");
        }
        let listener = match Listener::open(&link, self.sender.clone()) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(%error, "opening a packet socket; trying again");
                return;
            }
        };
        let rule = shared.settings().now().link_rule(&link.name, link.mac);
        let machine_id = self.machine_id.unwrap_or(link.mac);
        let mut given = self.choice.given().into_iter().flatten();
        let subnet = given.find(|(name, _)| *name == link.name).and_then(|given| given.1);
        let state = LinkState {
            election: Election::new(machine_id, rule),
            voice: Voice::new(shared.site.key.clone(), machine_id, link.mac),
            listener,
            subnet: subnet.map_or(SubnetSource::Numbered(None), SubnetSource::Given),
            slot6: None,
            span: tracing::Span::current(),
            claim: AddressClaim::default(),
            served: None,
            activity: Activity::default(),
            clients: None,
            problem: None,
            shown: ShownMode {
                mode: LinkMode::Down,
                since: clock::run_time(),
                changes: 0,
            },
            link,
        };
        self.links.insert(state.link.index, state);
    }

    /// What something heard means for the election of its link; `None`: nothing.
    fn event(&mut self, (index, from, what): Packet) -> Option<Event> {
        if self.context.rule != Rule::Elected {
            return None;
        }
        if let Some(LinkState { link, .. }) = self.links.values().find(|other| other.link.mac == from) {
            let (name, before) = (link.name.clone(), link.index < index);
            // Its own packets, back from a switch, mean nothing.
            return (link.index != index).then_some(Event::SameSegment { name, before });
        }
        let is_ours = |server| self.links.values().any(|link| link.has(server));
        match what {
            Overheard::Chosen { server } if is_ours(server) => None,
            Overheard::Chosen { server } => Some(Event::Chosen(server)),
            Overheard::Server(message) => {
                let voice = &mut self.links.get_mut(&index)?.voice;
                Some(server_event(voice, from, &message))
            }
            Overheard::Probe { machine, nonce, proof } => {
                let voice = &mut self.links.get_mut(&index)?.voice;
                let ours = voice.is_proven(&Said::asking(machine, from), proof);
                if let Some(nonce) = nonce {
                    voice.heard(Question { machine, nonce });
                }
                Some(Event::Candidate { machine, ours })
            }
        }
    }

    fn should_yield(&self) -> Option<Ended> {
        if !matches!(self.choice, Choice::Elect) {
            return None;
        }
        let mut candidate = None;
        for state in self.links.values() {
            match state.election.mode() {
                LinkMode::Serve | LinkMode::Proxy | LinkMode::Probing => return None,
                LinkMode::Yield => {
                    let master = state.election.master();
                    candidate = candidate.or(master.map(|master| (master, state.link.mac)));
                }
                LinkMode::Down | LinkMode::Silent => {}
            }
        }
        candidate.map(|(master, mac)| Ended::Yield {
            master: SocketAddr::from((master, self.context.shared.http_port)),
            mac,
            machine_id: self.machine_id.unwrap_or(mac),
        })
    }

    fn publish(&mut self) {
        let now = clock::run_time();
        let (shared, rule) = (&self.context.shared, self.context.rule);
        let links = self.links.values_mut();
        let rows = links.map(|state| state.status(shared, rule, now)).collect();
        *shared.status.lock().expect("no holder panics") = rows;
    }

    async fn stop_links(&mut self) {
        stop(&self.context.netlink, std::mem::take(&mut self.links).into_values()).await;
    }
}

/// Moves the clock of a link that is there, and brings what runs on it to what is decided.
async fn poll(
    context: &mut Context,
    state: &mut LinkState,
    link: Link,
    beside: Event,
    own: &[MacAddr],
) -> anyhow::Result<()> {
    let now = clock::run_time();
    state.link = link;
    // A given link is served with or without carrier.
    if context.rule == Rule::Elected {
        let mut actions = state.election.on(beside, now);
        actions.extend(state.election.on(Event::Carrier(state.link.carrier), now));
        actions.extend(state.election.on(Event::Tick, now));
        state.act(&context.netlink, actions).await;
    }
    state.reconcile(context, own, now).await
}

/// Stops links, all at once: each waits for its clients for a while, and the watchdog is not fed until the last is done.
async fn stop(netlink: &Netlink, links: impl IntoIterator<Item = LinkState>) {
    let stop = |mut state: LinkState| async move {
        let span = state.span.clone();
        state.stop_all(netlink).instrument(span).await;
    };
    at_once(links, stop).await;
}

/// Does the same to all, and takes as long as the slowest.
async fn at_once<T, F: Future<Output = ()>>(all: impl IntoIterator<Item = T>, done: impl Fn(T) -> F) {
    join_all(all.into_iter().map(done)).await;
}

/// What a server said, and whether it proved that it is of this site.
fn server_event(voice: &mut Voice, from: MacAddr, message: &ServerMessage) -> Event {
    let ours = voice.is_proven_master(from, message);
    Event::Server {
        server: ForeignServer {
            address: message.server,
            mac: from,
            recon: message.recon,
            ours,
            boots: message.boots && !ours,
        },
        machine: message.machine,
        proxies: message.recon && message.proof.is_some_and(|proof| proof.role == Role::Proxy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other, links whose clients hold on take longer than the watchdog waits.
    #[tokio::test(start_paused = true)]
    async fn however_many_links_stop_in_the_time_of_one() {
        let ending = Duration::from_secs(60);
        let begun = tokio::time::Instant::now();
        at_once([ending; 8], tokio::time::sleep).await;
        let took = begun.elapsed();
        assert!(took >= ending && took < 2 * ending, "{took:?}");
    }
}
