//! What one link's DHCPv4 server works with: its socket, the tables of the networks it serves, and where its replies are counted. The
//! loop is [`super::worker`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use dhcproto::v4::{Message, MessageType};
use tokio::net::UdpSocket;

use crate::model::console::console;
use crate::model::{MacAddr, RunTime};
use crate::service::metrics::{self, Metrics};
use crate::service::node_table::NodeTable;
use crate::store::leases::Journal;
use crate::sys::clock;
use crate::sys::packet::ArpTap;

use super::client::{Client, Kind};
use super::leases::LeaseTable;
use super::relay::{self, Scope};
use super::reply::{Params, Reply};
use super::{SERVER_PORT, conflicts, layout};

/// What one link's DHCPv4 server works with.
pub(crate) struct Server {
    /// Bound to port 67 of one interface, broadcasts allowed.
    pub socket: UdpSocket,
    pub link: Network,
    /// Networks behind routers. Nobody is asked there whether an address is free: ARP ends at the router. The machines ask for
    /// themselves, and a DECLINE counts.
    pub routed: Vec<Network>,
    pub node_table: Arc<Mutex<NodeTable>>,
    pub metrics: Arc<Metrics>,
    /// Where leases become durable.
    pub journal: Arc<Journal>,
    /// Asks the link before an address is offered; `None`: nobody is asked.
    pub arp: Option<Arp>,
    /// Who else uses the server's address, as heard last.
    pub rival: Arc<Mutex<Option<MacAddr>>>,
}

/// A network whose machines get addresses: that of the link, or one behind a router, whose machines ask through relays.
pub(crate) struct Network {
    pub params: Params,
    /// Of a network behind a router one table for all links: there may be a relay on each.
    pub leases: Arc<Mutex<LeaseTable>>,
}

/// The link, and our hardware address on it.
pub(crate) struct Arp {
    pub tap: ArpTap,
    pub mac: MacAddr,
}

/// A machine that nothing can boot is named, the first time.
pub(super) fn name_unsupported(node_table: &Mutex<NodeTable>, client: &Client, now: RunTime) {
    let Some(reason) = &client.stranger else { return };
    let first = {
        let mut node_table = node_table.lock().expect("no holder panics");
        node_table.unsupported(client.mac, client.instead.as_deref(), reason, now)
    };
    if first {
        console!("machine {}: {reason}", client.name());
    }
}

/// A client was answered; `taken`: it has this address now.
pub(crate) fn note_client(node_table: &mut NodeTable, mac: MacAddr, kind: Kind, taken: Option<IpAddr>) {
    let now = clock::run_time();
    node_table.heard(mac, kind.firmware().is_some(), now);
    if kind == Kind::Ipxe {
        node_table.netboots(mac);
    }
    if let Some(address) = taken {
        node_table.addressed(mac, address, now);
    }
}

impl Server {
    pub(super) fn scope(&self, request: &Message) -> Scope {
        let behind = |address| {
            self.routed
                .iter()
                .position(|routed| routed.params.subnet.contains(address))
        };
        relay::scope(&self.link.params.subnet, behind, request)
    }

    /// The network of a request; that of the link where it is for one that nobody wrote down.
    pub(super) fn network(&self, scope: Scope) -> &Network {
        match scope {
            Scope::Routed(index) => &self.routed[index],
            Scope::Link | Scope::Unknown(_) => &self.link,
        }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Mutex<LeaseTable>> {
        std::iter::once(&self.link)
            .chain(&self.routed)
            .map(|network| &*network.leases)
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
        if let Some(said) = said {
            self.metrics
                .dhcp4_replied(said, metrics::Mode::Serve, client.kind.firmware());
        }
        let mut node_table = self.node_table.lock().expect("no holder panics");
        let taken =
            Some(reply.message.yiaddr()).filter(|yours| kind == Some(MessageType::Ack) && !yours.is_unspecified());
        note_client(&mut node_table, client.mac, client.kind, taken.map(IpAddr::from));
        node_table.named(client.mac, client.instead.as_deref());
    }

    /// # Errors
    /// Where the reply was to go, and why it does not leave.
    pub(super) async fn send(&self, reply: &Reply) -> Result<(), (Ipv4Addr, io::Error)> {
        let yours = reply.message.yiaddr();
        let kind = reply.message.opts().msg_type();
        tracing::debug!(client = %reply.client.name(), ?kind, is = ?reply.client.kind, %yours, to = %reply.to, "DHCP reply");
        let bytes = reply.bytes();
        if let (Some(mac), Some(arp)) = (reply.alone, &self.arp) {
            let from = SocketAddrV4::new(self.link.params.subnet.server, SERVER_PORT);
            let packet = layout::packet(from, reply.to, &bytes);
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
