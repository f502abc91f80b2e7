//! The loop on a bound socket. Decisions come from [`super::logic`].

use std::io;
use std::sync::{Arc, Mutex};

use dhcproto::v4::MessageType;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::service::ladder::Ladder;
use crate::sys::clock;

use super::client::Kind;
use super::leases::LeaseTable;
use super::logic::{Decision, Params, decide};
use super::{probe, wire};

/// What one link's DHCPv4 server works with.
pub struct Server {
    /// Bound to port 67 of one interface, broadcasts allowed.
    pub socket: UdpSocket,
    pub params: Params,
    pub leases: Arc<Mutex<LeaseTable>>,
    pub ladder: Arc<Mutex<Ladder>>,
    /// Told whenever leases changed that a restart should remember.
    pub leases_changed: Arc<tokio::sync::Notify>,
}

impl Server {
    /// Serves until `stop`. A packet that cannot be answered is dropped with its reason at debug level; a failed send
    /// costs that reply only, because the client asks again.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let mut buffer = [0; wire::MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = self.socket.recv_from(&mut buffer) => received,
            };
            let (length, from) = match received {
                Ok(received) => received,
                // A link that goes down and comes back reports it on the socket; the socket stays good.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => continue,
                Err(error) => return Err(error),
            };
            let request = match wire::decode(&buffer[..length]) {
                Ok(request) => request,
                Err(reason) => {
                    tracing::debug!(%from, %reason, "DHCP packet dropped");
                    continue;
                }
            };
            let decision = {
                let mut leases = self.leases.lock().expect("no holder panics");
                decide(&self.params, &mut leases, &request, clock::unix_seconds())
            };
            match decision {
                Decision::Silence(reason) => tracing::debug!(%from, reason, "DHCP request not answered"),
                Decision::Reply(reply) => self.send(*reply).await,
            }
        }
    }

    async fn send(&self, reply: super::logic::Reply) {
        let kind = reply.message.opts().msg_type();
        let client = &reply.client;
        if client.kind != Kind::Probe {
            let firmware = matches!(client.kind, Kind::Pxe(_) | Kind::HttpBoot(_));
            let mut ladder = self.ladder.lock().expect("no holder panics");
            ladder.heard(client.mac, firmware, clock::run_seconds());
            if kind == Some(MessageType::Ack) && !reply.message.yiaddr().is_unspecified() {
                ladder.addressed(client.mac, reply.message.yiaddr(), clock::run_seconds());
            }
        }
        if reply.lease_changed {
            self.leases_changed.notify_one();
        }
        tracing::debug!(mac = %client.mac, ?kind, client = ?client.kind, yours = %reply.message.yiaddr(), to = %reply.to, "DHCP reply");
        if let Err(error) = self.socket.send_to(&probe::encode(&reply.message), reply.to).await {
            tracing::warn!(mac = %client.mac, to = %reply.to, %error, "sending a DHCP reply");
        }
    }
}
