//! What one link's DHCPv4 server works with: its socket, the tables of the networks it serves, and where its replies are counted. The
//! loop is [`super::worker`].

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use dhcproto::v4::{Message, MessageType};
use tokio::net::UdpSocket;

use crate::config::Subnet;
use crate::model::console::console;
use crate::model::{MacAddr, RunTime};
use crate::service::metrics::{self, Metrics};
use crate::service::node_table::NodeTable;
use crate::store::leases::Journal;
use crate::sys::clock;
use crate::sys::packet::ArpTap;

use super::client::{Client, Kind};
use super::decide::Reply;
use super::leases::LeaseTable;
use super::relay::{self, Scope};
use super::reply::Params;
use super::{conflicts, layout};

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

impl Server {
    pub(super) fn scope(&self, request: &Message) -> Scope {
        let behind = |address| self.routed.iter().position(|routed| routed.subnet.contains(address));
        relay::scope(&self.params.subnet, behind, request)
    }

    fn routed(&self, scope: Scope) -> Option<&Routed> {
        match scope {
            Scope::Routed(index) => self.routed.get(index),
            Scope::Link | Scope::Unknown(_) => None,
        }
    }

    pub(super) fn table(&self, scope: Scope) -> &Mutex<LeaseTable> {
        self.routed(scope).map_or(&*self.leases, |routed| &*routed.leases)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Mutex<LeaseTable>> {
        std::iter::once(&*self.leases).chain(self.routed.iter().map(|routed| &*routed.leases))
    }

    pub(super) fn params_of(&self, scope: Scope) -> Cow<'_, Params> {
        match self.routed(scope) {
            None => Cow::Borrowed(&self.params),
            Some(routed) => Cow::Owned(Params {
                subnet: routed.subnet,
                ..self.params.clone()
            }),
        }
    }

    /// A machine that nothing can boot is named.
    pub(super) fn stranger(&self, client: &Client, reason: &str, now: f64) {
        let first = {
            let mut node_table = self.node_table.lock().expect("no holder panics");
            node_table.unsupported(
                client.mac,
                client.instead.as_deref(),
                reason,
                RunTime::from_seconds(now),
            )
        };
        if first {
            console!("machine {}: {reason}", client.name());
        }
    }

    pub(super) async fn probe(&self, addresses: &[Ipv4Addr]) {
        let Some(arp) = &self.arp else { return };
        for address in addresses {
            if let Err(error) = arp.tap.broadcast(&conflicts::probe(arp.mac, *address)).await {
                tracing::debug!(%address, %error, "asking for an address");
            }
        }
    }

    /// Counts a reply, and what it says of its client.
    pub(super) fn note(&self, reply: &Reply) {
        let client = &reply.client;
        if client.kind == Kind::Probe {
            return;
        }
        let kind = reply.message.opts().msg_type();
        let said = match kind {
            Some(MessageType::Offer) => Some(metrics::Dhcp4Reply::Offer),
            Some(MessageType::Ack) => Some(metrics::Dhcp4Reply::Ack),
            Some(MessageType::Nak) => Some(metrics::Dhcp4Reply::Nak),
            _ => None,
        };
        let arch = match client.kind {
            Kind::Pxe(arch) | Kind::HttpBoot(arch) => Some(arch),
            _ => None,
        };
        if let Some(said) = said {
            self.metrics.dhcp4_replied(said, metrics::Mode::Serve, arch);
        }
        let mut node_table = self.node_table.lock().expect("no holder panics");
        node_table.heard(client.mac, arch.is_some(), clock::run_time());
        node_table.named(client.mac, client.instead.as_deref());
        if client.kind == Kind::Ipxe {
            node_table.netboots(client.mac);
        }
        if kind == Some(MessageType::Ack) && !reply.message.yiaddr().is_unspecified() {
            node_table.addressed(client.mac, reply.message.yiaddr(), clock::run_time());
        }
    }

    /// # Errors
    /// Where the reply was to go, and why it does not leave.
    pub(super) async fn send(&self, reply: &Reply) -> Result<(), (Ipv4Addr, io::Error)> {
        let yours = reply.message.yiaddr();
        let kind = reply.message.opts().msg_type();
        tracing::debug!(client = reply.client.name(), ?kind, is = ?reply.client.kind, %yours, to = %reply.to, "DHCP reply");
        let bytes = reply.bytes();
        if let (Some(mac), Some(arp)) = (reply.alone, &self.arp) {
            let packet = layout::packet(self.params.subnet.server, reply.to, &bytes);
            match arp.tap.send_ip(mac, &packet).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%mac, %error, "sending to a machine without an address; all are told"),
            }
        }
        let to = match reply.alone {
            Some(_) => SocketAddrV4::new(Ipv4Addr::BROADCAST, reply.to.port()),
            None => reply.to,
        };
        let sent = self.socket.send_to(&bytes, to).await;
        sent.map(drop).map_err(|error| (*to.ip(), error))
    }
}
