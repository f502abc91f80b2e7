//! The loop on a bound socket. Decisions come from [`crate::service::dhcp6::decide`].

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex};

use dhcproto::v6::MessageType;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::console::console;
use crate::service::dhcp4::notices::too_often;
use crate::service::dhcp4::server::note_client;
use crate::service::metrics::{Metrics, Unanswered};
use crate::service::node_table::NodeTable;
use crate::service::rate_limit::{Rate, RateLimiter, Turn};
use crate::sys::clock;

use super::client::{Client, Kind, identify};
use super::leases::{LeaseTable6, MAX_LEASES};
use super::relay::{self, Relayed};
use super::wire;
use crate::service::dhcp6::decide::{Decision, Facts, Params, Reply, decide};

/// What one link's DHCPv6 server works with.
pub(crate) struct Server {
    /// Bound to port 547 of one interface, in the group of all servers.
    pub socket: UdpSocket,
    pub params: Params,
    pub leases: Arc<Mutex<LeaseTable6>>,
    pub node_table: Arc<Mutex<NodeTable>>,
    pub metrics: Arc<Metrics>,
    /// Told whenever leases changed that a restart should remember.
    pub leases_changed: Arc<tokio::sync::Notify>,
    /// True while we may speak on this link.
    pub may_speak: watch::Receiver<bool>,
}

/// What is known of the clients of one link.
struct Guests {
    /// DUIDs that booted from the network in this run. The ports that did are on the node_table.
    netbooted: HashSet<Vec<u8>>,
    /// By link-local address, also of those behind relays.
    rates: RateLimiter<Ipv6Addr>,
    /// Links behind routers of which a person was told that they are not served.
    elsewhere: HashSet<Ipv6Addr>,
}

/// More of those are in the log only.
const MAX_ELSEWHERE_SAID: usize = 16;
/// Where relays hear answers (RFC 8415 §7.2).
const SERVER_PORT: u16 = 547;

impl Server {
    /// Serves until `stop`. A message that cannot be answered is dropped with its reason at debug level; a failed send
    /// costs that reply only, because the client asks again.
    pub(crate) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut buffer = [0; wire::MAX_DATAGRAM];
        let mut guests = Guests {
            netbooted: HashSet::new(),
            elsewhere: HashSet::new(),
            rates: RateLimiter::new(clock::run_time()),
        };
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = self.socket.recv_from(&mut buffer) => received,
            };
            let (length, from) = match received {
                Ok(received) => received,
                // A link that goes down and comes back reports it on the socket, as it does a reply that nobody took;
                // the socket stays good.
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            let SocketAddr::V6(from) = from else { continue };
            if !*self.may_speak.borrow() {
                continue;
            }
            self.answer(&buffer[..length], from, &mut guests).await;
        }
    }

    async fn answer(&self, datagram: &[u8], from: SocketAddrV6, guests: &mut Guests) {
        let relayed = match relay::unwrap(datagram) {
            Ok(relayed) => relayed,
            Err(reason) => {
                self.metrics.dhcp6_unanswered(Unanswered::Malformed);
                tracing::debug!(%from, %reason, "DHCPv6 message dropped");
                return;
            }
        };
        let sender = relayed.client().unwrap_or(*from.ip());
        if relayed.client().is_none() && !from.ip().is_unicast_link_local() {
            tracing::debug!(%from, "DHCPv6 message dropped: not from this link");
            return;
        }
        if let Some(link) = relayed.link().filter(|link| !self.params.prefix.contains(*link)) {
            self.metrics.dhcp6_unanswered(Unanswered::NotOurs);
            if guests.elsewhere.len() < MAX_ELSEWHERE_SAID && guests.elsewhere.insert(link) {
                console!(
                    "machines ask through a relay for IPv6 addresses of the link of {link}: they are not served, this master has none for \
                     links behind routers. IPv4 has [[subnet]] in recon.toml"
                );
            }
            return;
        }
        let request = match wire::decode(relayed.message) {
            Ok(request) => request,
            Err(reason) => {
                self.metrics.dhcp6_unanswered(Unanswered::Malformed);
                tracing::debug!(%from, %reason, "DHCPv6 message dropped");
                return;
            }
        };
        let turn = match request.msg_type() {
            MessageType::Solicit => Turn::Begins,
            _ => Turn::GoesOn,
        };
        if !self.within_rates(&mut guests.rates, turn, sender) {
            return;
        }
        let client = identify(&request, sender);
        let netbooted = self.netbooted(&client, &mut guests.netbooted);
        let decision = {
            let mut leases = self.leases.lock().expect("no holder panics");
            let facts = Facts {
                request: &request,
                client: &client,
                netbooted,
            };
            decide(&self.params, &mut leases, facts, clock::unix_time())
        };
        match decision {
            Decision::Silence(reason) => {
                self.metrics.dhcp6_unanswered(Unanswered::NotOurs);
                tracing::debug!(%from, reason, "DHCPv6 message not answered");
            }
            Decision::Reply(reply) => self.send(*reply, &client, &relayed, from).await,
        }
    }

    fn within_rates(&self, rates: &mut RateLimiter<Ipv6Addr>, turn: Turn, sender: Ipv6Addr) -> bool {
        let rate = rates.count(sender, turn, clock::run_time());
        if rate != Rate::Within {
            self.metrics.dhcp6_unanswered(Unanswered::TooMany);
        }
        if let Some(line) = too_often(rate, &sender, "an IPv6 address", "DHCPv6") {
            console!("{line}");
        }
        rate == Rate::Within
    }

    /// True if the port or the DUID booted from the network in this run; notes it of one that does so now.
    fn netbooted(&self, client: &Client, netbooted: &mut HashSet<Vec<u8>>) -> bool {
        if client.kind.boots() && netbooted.len() < MAX_LEASES {
            netbooted.insert(client.duid.clone());
        }
        let node_table = self.node_table.lock().expect("no holder panics");
        netbooted.contains(&client.duid) || client.mac.is_some_and(|mac| node_table.netbooted(mac))
    }

    async fn send(&self, reply: Reply, client: &Client, relayed: &Relayed<'_>, mut to: SocketAddrV6) {
        if let Some(mac) = client.mac
            && client.kind != Kind::Probe
        {
            let mut node_table = self.node_table.lock().expect("no holder panics");
            note_client(&mut node_table, mac, client.kind, reply.given.map(IpAddr::from));
        }
        if let Some(arch) = client.kind.firmware()
            && client.mac.is_none()
            && let Err(reason) = self.params.boot.loaders.loader(None, arch)
        {
            tracing::warn!(from = %to, ?arch, reason, "no boot program for this machine");
        }
        if reply.lease_changed {
            self.leases_changed.notify_one();
        }
        tracing::debug!(%to, kind = ?reply.message.msg_type(), client = ?client.kind, given = ?reply.given, "DHCPv6 reply");
        let Some(bytes) = relayed.wrap(wire::encode(&reply.message)) else {
            return tracing::debug!(%to, "the answer and its relays' words are too long");
        };
        if relayed.client().is_some() && !relayed.to_its_port() {
            to.set_port(SERVER_PORT);
        }
        match self.socket.send_to(&bytes, to).await {
            Ok(_) if client.kind == Kind::Probe => {}
            Ok(_) => self.metrics.dhcp6_replies.one(),
            Err(error) => tracing::warn!(%to, %error, "sending a DHCPv6 reply"),
        }
    }
}

/// Errors of a socket that stays good.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(
        error.kind(),
        E::NetworkDown | E::NetworkUnreachable | E::HostUnreachable | E::ConnectionRefused | E::AddrNotAvailable
    )
}
