//! The loops on the two sockets of a proxy. Decisions come from [`super::proxy`]. The one on port 4011 runs beside the server too: an
//! offer of class `PXEClient` makes some firmware ask there, whatever else the offer says.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::model::MacAddr;
use crate::model::console::console;
use crate::service::metrics::{self, Metrics};
use crate::service::node_table::NodeTable;
use crate::service::rate_limit::{Rate, RateLimiter, Turn};
use crate::sys::clock;

use super::client::Client;
use super::notices::MAX_UNKNOWN_SAID;
use super::proxy::{Decision, Params, Port, decide};
use super::reply::Reply;
use super::server::name_unsupported;
use super::{relay, wire};

/// What one link's proxy works with.
pub(crate) struct Server {
    /// Bound to port 67 of one interface, broadcasts allowed. `None` beside a server of our own, which has that port.
    pub dhcp: Option<UdpSocket>,
    /// The same on port 4011.
    pub boot_server: UdpSocket,
    pub params: Params,
    pub node_table: Arc<Mutex<NodeTable>>,
    pub metrics: Arc<Metrics>,
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => std::future::pending().await,
    }
}

impl Server {
    /// Serves until `stop`. A packet that cannot be answered is dropped with its reason at debug level; a failed send
    /// costs that reply only, because the client asks again.
    pub(crate) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut rates = RateLimiter::new(clock::run_time());
        let mut unknown = HashSet::new();
        let (mut one, mut two) = ([0; wire::MAX_DATAGRAM], [0; wire::MAX_DATAGRAM]);
        loop {
            let (port, received) = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = receive(self.dhcp.as_ref(), &mut one) => (Port::Dhcp, received),
                received = self.boot_server.recv_from(&mut two) => (Port::BootServer, received),
            };
            let (length, from) = match received {
                Ok((length, SocketAddr::V4(from))) => (length, from),
                Ok(_) => continue,
                // A link that goes down and comes back reports it on the socket; the socket stays good.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
                Err(error) => return Err(error),
            };
            let buffer = if port == Port::Dhcp { &one } else { &two };
            if let Some(named) = self.take(&mut rates, &buffer[..length], from, port).await
                && unknown.len() < MAX_UNKNOWN_SAID
                && unknown.insert(named)
            {
                console!("{}", relay::advice(named, *from.ip()));
            }
        }
    }

    /// Answers a packet. An address is that of a network that nobody wrote down.
    async fn take(
        &self,
        rates: &mut RateLimiter<MacAddr>,
        datagram: &[u8],
        from: SocketAddrV4,
        port: Port,
    ) -> Option<Ipv4Addr> {
        let request = match wire::decode(datagram) {
            Ok(request) => request,
            Err(reason) => {
                tracing::debug!(%from, %reason, "DHCP packet dropped");
                return None;
            }
        };
        let turn = match port {
            Port::Dhcp => Turn::Begins,
            Port::BootServer => Turn::GoesOn,
        };
        match decide(&self.params, &request, from, port) {
            Decision::Stranger(client) => name_unsupported(&self.node_table, &client, clock::run_time()),
            Decision::Unknown(named) => return Some(named),
            Decision::Silence(reason) => tracing::debug!(%from, reason, "DHCP request left to the other server"),
            Decision::Takes(client, address) => {
                self.heard(&client);
                let mut node_table = self.node_table.lock().expect("no holder panics");
                node_table.addressed(client.mac, address, clock::run_time());
            }
            Decision::Reply(reply) => match rates.count(reply.client.mac, turn, clock::run_time()) {
                Rate::Within => self.send(*reply, port).await,
                rate => tracing::debug!(mac = %reply.client.mac, ?rate, "DHCP request not answered"),
            },
        }
        None
    }

    fn heard(&self, client: &Client) {
        let mut node_table = self.node_table.lock().expect("no holder panics");
        node_table.heard(client.mac, client.kind.firmware().is_some(), clock::run_time());
    }

    async fn send(&self, reply: Reply, port: Port) {
        if port == Port::Dhcp {
            self.heard(&reply.client);
        }
        let socket = match (port, &self.dhcp) {
            (Port::Dhcp, Some(dhcp)) => dhcp,
            _ => &self.boot_server,
        };
        let mode = match self.dhcp {
            Some(_) => metrics::Mode::Proxy,
            None => metrics::Mode::Serve,
        };
        let said = match port {
            Port::Dhcp => metrics::Dhcp4Reply::Offer,
            Port::BootServer => metrics::Dhcp4Reply::Ack,
        };
        self.metrics.dhcp4_replied(said, mode, reply.client.kind.firmware());
        tracing::debug!(mac = %reply.client.mac, client = ?reply.client.kind, to = %reply.to, "proxyDHCP reply");
        if let Err(error) = socket.send_to(&reply.bytes(), reply.to).await {
            tracing::warn!(mac = %reply.client.mac, to = %reply.to, %error, "sending a proxyDHCP reply");
        }
    }
}
