//! Request in, decision out, for each state a client can be in (RFC 2131 §4.3). No socket, no clock.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};

use crate::model::{MacAddr, UnixTime};

use super::client::Kind;
use super::leases::LeaseTable;
use super::quirks::{self, Facts, MINIMAL_OFFER_AFTER, Workaround};
use super::reply::{EVERYBODY, Params, Reply, nak, reply, requested_address};
use super::{CLIENT_PORT, option, relay};

#[cfg(test)]
mod tests;

/// What to do with a request. Changes of leases wait in the table ([`LeaseTable::take_changes`]); a reply must not leave
/// before they are durable.
#[derive(Debug)]
pub enum Decision {
    Reply(Box<Reply>),
    /// Nothing is sent; why.
    Silence(String),
    /// There is no address left for this machine.
    Exhausted,
}

/// How long an offered address is held for the client that has not asked for it yet, in seconds.
const OFFER_SECONDS: u64 = 60;

/// Decides on one request.
pub fn decide(params: &Params, leases: &mut LeaseTable, facts: &Facts, now_unix: UnixTime) -> Decision {
    let request = facts.request;
    // There is no such relay.
    if request.giaddr() == params.subnet.server {
        return Decision::Silence("names this server as its relay".to_owned());
    }
    if let Some(named) = relay::network_of(request).filter(|named| !params.subnet.contains(*named)) {
        return Decision::Silence(format!("asks for the network of {named}, which is not this one"));
    }
    let server = option!(request, ServerIdentifier).copied();
    let ours = server.is_none_or(|server| is_us(params, request, server));
    let mac = facts.client.mac;
    let mut question = Question {
        params,
        leases,
        facts,
        now_unix,
    };
    match request.opts().msg_type() {
        Some(MessageType::Discover) => question.discover(),
        Some(MessageType::Request) => match server {
            Some(server) if !ours => {
                // RFC 2131 §3.1 (4): it took another server's offer, ours is free again.
                leases.drop_offer(mac);
                Decision::Silence(format!("took the offer of {server}"))
            }
            Some(_) => question.selecting(),
            None if request.ciaddr().is_unspecified() => question.init_reboot(),
            None => question.renewing(),
        },
        Some(MessageType::Decline) => {
            let said = requested_address(request).filter(|_| ours);
            match said.filter(|address| leases.decline(mac, *address, now_unix)) {
                Some(address) => Decision::Silence(format!("declined {address}: another machine uses it; set aside")),
                None => Decision::Silence("declines what it was not given".to_owned()),
            }
        }
        Some(MessageType::Release) => {
            let released = ours && leases.release(mac, request.ciaddr(), now_unix);
            let said = if released {
                "address released"
            } else {
                "releases what it does not have"
            };
            Decision::Silence(said.to_owned())
        }
        Some(MessageType::Inform) => question.inform(),
        other => Decision::Silence(format!("message type {other:?} asks nothing of a server")),
    }
}

/// One request for an address, and what it is answered from.
struct Question<'a> {
    params: &'a Params,
    leases: &'a mut LeaseTable,
    facts: &'a Facts<'a>,
    now_unix: UnixTime,
}

impl Question<'_> {
    fn mac(&self) -> MacAddr {
        self.facts.client.mac
    }

    fn may_have(&self, address: Ipv4Addr) -> bool {
        self.leases.may_have(self.mac(), address, self.now_unix)
    }

    fn discover(&mut self) -> Decision {
        let (mac, now) = (self.mac(), self.now_unix);
        let Some(address) = self.leases.choose(mac, requested_address(self.facts.request), now) else {
            return Decision::Exhausted;
        };
        let probe = self.leases.needs_probe(mac, address, now).then_some(address);
        // A machine that only looks for servers takes nothing, and is not kept waiting.
        let looks = self.facts.client.kind == Kind::Probe;
        if !looks {
            self.leases.offer(mac, address, now + OFFER_SECONDS, now);
        }
        self.send(MessageType::Offer, address, probe.filter(|_| !looks))
    }

    /// SELECTING: our offer is taken.
    fn selecting(&mut self) -> Decision {
        let request = self.facts.request;
        let named = requested_address(request).or(Some(request.ciaddr()).filter(|address| !address.is_unspecified()));
        let wanted = named.or_else(|| {
            let lease = || self.leases.get(self.mac()).map(|lease| lease.address);
            let offered = self.leases.offered(self.mac()).or_else(lease);
            offered
                .filter(|_| quirks::workarounds(self.facts).any(|applied| applied == Workaround::AssumeOfferedAddress))
        });
        match wanted {
            None => Decision::Silence("names no address".to_owned()),
            Some(wanted) => self.bind_or_refuse(wanted),
        }
    }

    /// INIT-REBOOT: may I use what I had? A server without a record of the client keeps silent (RFC 2131 §4.3.2), unless
    /// the address cannot be right on this link.
    fn init_reboot(&mut self) -> Decision {
        let Some(wanted) = requested_address(self.facts.request) else {
            return Decision::Silence("names no address".to_owned());
        };
        if self.params.subnet.contains(wanted) && self.leases.get(self.mac()).is_none() {
            return Decision::Silence(format!("wants {wanted} again, of which nothing is known here"));
        }
        match self.params.subnet.contains(wanted) {
            true => self.bind_or_refuse(wanted),
            false => self.refuse(wanted),
        }
    }

    /// RENEWING and REBINDING: the client uses the address. It keeps it also where a restart without a medium lost the
    /// record, as long as nobody else has it.
    fn renewing(&mut self) -> Decision {
        self.bind_or_refuse(self.facts.request.ciaddr())
    }

    /// INFORM: an address by other means, and wants the rest. No lease, no `yiaddr`, no lease times (RFC 2131 §4.3.5).
    fn inform(&self) -> Decision {
        if self.facts.request.ciaddr().is_unspecified() {
            return Decision::Silence("informs without an address of its own".to_owned());
        }
        self.send(MessageType::Ack, Ipv4Addr::UNSPECIFIED, None)
    }

    fn bind_or_refuse(&mut self, address: Ipv4Addr) -> Decision {
        if !self.may_have(address) {
            return self.refuse(address);
        }
        let end = self.now_unix + u64::from(self.params.lease.lease_seconds);
        self.leases.bind(self.mac(), address, end);
        self.send(MessageType::Ack, address, None)
    }

    fn refuse(&self, wanted: Ipv4Addr) -> Decision {
        tracing::debug!(mac = %self.mac(), %wanted, "refused");
        let request = self.facts.request;
        // A client on the wrong network does not hear what is sent to its address (RFC 2131 §4.1).
        let to = relay::relay_of(request).unwrap_or(EVERYBODY);
        let message = nak(self.params, request);
        Decision::Reply(Box::new(Reply::new(message, request, to, self.facts.client.clone())))
    }

    /// RFC 2131 §4.1: to the relay it came through, else to the address the client already uses, else to the one it gets,
    /// unless it says, or shows by asking again, that it cannot hear that yet.
    fn send(&self, kind: MessageType, address: Ipv4Addr, probe: Option<Ipv4Addr>) -> Decision {
        let Facts {
            request,
            client,
            ignored_offers,
        } = *self.facts;
        let workarounds: Vec<Workaround> = quirks::workarounds(self.facts).collect();
        let mut message = reply(self.params, request, client, kind, address);
        let nowhere = request.ciaddr().is_unspecified() || workarounds.contains(&Workaround::IgnoreClientAddress);
        // RFC 4390 §2.1 has it set the flag; without a MAC nothing else reaches it.
        let nameless = client.own_mac().is_none();
        let deaf = nameless
            || request.flags().broadcast()
            || address.is_unspecified()
            || client.kind == Kind::Probe
            || workarounds.contains(&Workaround::Broadcast);
        let (to, alone) = match relay::relay_of(request) {
            Some(relay) => (relay, None),
            None if !nowhere => (SocketAddrV4::new(request.ciaddr(), CLIENT_PORT), None),
            None if deaf => (EVERYBODY, None),
            None => (SocketAddrV4::new(address, CLIENT_PORT), Some(client.mac)),
        };
        quirks::apply(&mut message, &workarounds);
        Decision::Reply(Box::new(Reply {
            alone,
            probe,
            first_minimal_offer: workarounds.contains(&Workaround::MinimalOffer)
                && ignored_offers == MINIMAL_OFFER_AFTER,
            ..Reply::new(message, request, to, client.clone())
        }))
    }
}

/// True for the identifier by which this server answers the request: its address, or the relay's (RFC 5107 §4).
fn is_us(params: &Params, request: &Message, server: Ipv4Addr) -> bool {
    server == params.subnet.server || relay::server_override(request) == Some(server)
}

/// What is done about a packet as it comes in, whoever sent it.
#[cfg(test)]
pub(crate) fn decide_on(params: &Params, leases: &mut LeaseTable, request: &Message, now_unix: UnixTime) -> Decision {
    match super::client::identify(request) {
        Ok(client) => decide(params, leases, &Facts::new(request, &client), now_unix),
        Err(reason) => Decision::Silence(reason.to_owned()),
    }
}
