//! The loops on the two sockets of a proxy. Decisions come from [`super::proxy`]. The one on port 4011 runs beside the server too: an
//! offer of class `PXEClient` makes some firmware ask there, whatever else the offer says.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::model::console::console;
use crate::service::metrics::{self, Metrics};
use crate::service::node_table::NodeTable;
use crate::service::rate_limit::Turn;
use crate::sys::clock;

use super::client::{Client, Kind};
use super::proxy::{Decision, Params, Port, Reply, decide};
use super::{relay, wire};
use crate::service::dhcp4::client_filter::{Admission, ClientFilter};

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

/// Networks nobody wrote down of which a person is told.
const MAX_UNKNOWN_SAID: usize = 16;

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
        // Who may be answered at all is decided with the answer; the filter's rates hold here as well.
        let mut filter = ClientFilter::new(true, clock::run_seconds());
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
            if let Some(named) = self.take(&mut filter, &buffer[..length], from, port).await
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
        filter: &mut ClientFilter,
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
            Decision::Stranger(client) => self.stranger(&client),
            Decision::Unknown(named) => return Some(named),
            Decision::Silence(reason) => tracing::debug!(%from, reason, "DHCP request left to the other server"),
            Decision::Takes(client, address) => {
                self.heard(&client);
                let mut node_table = self.node_table.lock().expect("no holder panics");
                node_table.addressed(client.mac, address, clock::run_time());
            }
            Decision::Reply(reply) => match filter.judge(&reply.client, turn, true, clock::run_seconds()) {
                Admission::Answer => self.send(*reply, port).await,
                admission => tracing::debug!(mac = %reply.client.mac, ?admission, "DHCP request not answered"),
            },
        }
        None
    }

    /// A machine that nothing can boot is named.
    fn stranger(&self, client: &Client) {
        let Some(reason) = &client.stranger else { return };
        let first = {
            let mut node_table = self.node_table.lock().expect("no holder panics");
            node_table.unsupported(client.mac, client.instead.as_deref(), reason, clock::run_time())
        };
        if first {
            console!("machine {}: {reason}", client.name());
        }
    }

    fn heard(&self, client: &Client) {
        let firmware = matches!(client.kind, Kind::Pxe(_) | Kind::HttpBoot(_));
        let mut node_table = self.node_table.lock().expect("no holder panics");
        node_table.heard(client.mac, firmware, clock::run_time());
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
        let (said, arch) = match (port, reply.client.kind) {
            (Port::Dhcp, Kind::Pxe(arch) | Kind::HttpBoot(arch)) => (metrics::Dhcp4Reply::Offer, Some(arch)),
            (Port::BootServer, Kind::Pxe(arch) | Kind::HttpBoot(arch)) => (metrics::Dhcp4Reply::Ack, Some(arch)),
            (Port::Dhcp, _) => (metrics::Dhcp4Reply::Offer, None),
            (Port::BootServer, _) => (metrics::Dhcp4Reply::Ack, None),
        };
        self.metrics.dhcp4_replied(said, mode, arch);
        tracing::debug!(mac = %reply.client.mac, client = ?reply.client.kind, to = %reply.to, "proxyDHCP reply");
        if let Err(error) = socket.send_to(&reply.bytes(), reply.to).await {
            tracing::warn!(mac = %reply.client.mac, to = %reply.to, %error, "sending a proxyDHCP reply");
        }
    }
}
