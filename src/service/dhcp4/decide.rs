//! Request in, decision out, for each state a client can be in (RFC 2131 §4.3). No socket, no clock.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode};

use crate::model::MacAddr;

use super::client::{Client, Kind, identify};
use super::layout::{self, Form};
use super::leases::{Counts, LeaseTable};
use super::quirks::{self, Done, Facts};
use super::relay;
use crate::service::dhcp4::reply::{Params, nak, reply};

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
    Exhausted(Client),
}

#[derive(Debug)]
pub struct Reply {
    pub message: Message,
    pub form: Form,
    pub to: SocketAddrV4,
    /// The client has no address yet and hears its own all the same: `to` is at this hardware address, of which no ARP
    /// table knows.
    pub alone: Option<MacAddr>,
    pub client: Client,
    /// An address nobody has asked the link for: to be done before this offer leaves.
    pub ask: Option<Ipv4Addr>,
}

impl Reply {
    /// The reply as it leaves.
    pub fn bytes(&self) -> Vec<u8> {
        layout::encode(&self.message, &self.form)
    }

    /// Makes a reply to one for all to hear, if it is not on its way through a relay or to an address in use.
    pub fn broadcast(&mut self) {
        if self.alone.take().is_some() {
            self.to = everybody();
        }
    }
}

/// Where in `recon.toml` the pool of a link stands.
pub const LINK_RANGE: &str = "network.lease-range";

/// Why there is no address, in a sentence that holds, and what a person does about it. `key`: what to widen.
pub fn exhausted(counts: Counts, key: &str) -> String {
    match counts.leased + counts.offered >= counts.size {
        true => format!("every address of the pool is leased: widen {key} in recon.toml or wait for leases to end"),
        false => format!(
            "of {} addresses of the pool {} are leased, {} are promised, {} rest because somebody uses them, and the others are kept for \
             single machines: widen {key} in recon.toml",
            counts.size, counts.leased, counts.offered, counts.set_aside
        ),
    }
}

/// How long an offered address is held for the client that has not asked for it yet, in seconds.
const OFFER_SECONDS: u64 = 60;
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Decides on one request.
pub fn decide(params: &Params, leases: &mut LeaseTable, request: &Message, now_unix: u64) -> Decision {
    if request.opcode() != Opcode::BootRequest {
        return Decision::Silence("not a request".to_owned());
    }
    // There is no such relay.
    if request.giaddr() == params.subnet.server {
        return Decision::Silence("names this server as its relay".to_owned());
    }
    if let Some(named) = relay::network_of(request).filter(|named| !params.subnet.contains(*named)) {
        return Decision::Silence(format!("asks for the network of {named}, which is not this one"));
    }
    let client = match identify(request) {
        Ok(client) => client,
        Err(reason) => return Decision::Silence(reason.to_owned()),
    };
    let server = server_identifier(request);
    let ours = server.is_none_or(|server| is_us(params, request, server));
    match request.opts().msg_type() {
        Some(MessageType::Discover) => discover(params, leases, request, client, now_unix),
        Some(MessageType::Request) => match server {
            Some(server) => selecting(params, leases, request, client, server, now_unix),
            None if request.ciaddr().is_unspecified() => init_reboot(params, leases, request, client, now_unix),
            None => renewing(params, leases, request, client, now_unix),
        },
        Some(MessageType::Decline) => {
            let said = requested_address(request).filter(|_| ours);
            match said.filter(|address| leases.declined(client.mac, *address, now_unix)) {
                Some(address) => Decision::Silence(format!("declined {address}: another machine uses it; set aside")),
                None => Decision::Silence("declines what it was not given".to_owned()),
            }
        }
        Some(MessageType::Release) => {
            let released = ours && leases.release(client.mac, request.ciaddr(), now_unix);
            Decision::Silence(
                if released {
                    "address released"
                } else {
                    "releases what it does not have"
                }
                .to_owned(),
            )
        }
        Some(MessageType::Inform) => inform(params, request, client),
        other => Decision::Silence(format!("message type {other:?} asks nothing of a server")),
    }
}

fn discover(params: &Params, leases: &mut LeaseTable, request: &Message, client: Client, now_unix: u64) -> Decision {
    let Some(address) = leases.choose(client.mac, requested_address(request), now_unix) else {
        return Decision::Exhausted(client);
    };
    let ask = leases.must_ask(client.mac, address, now_unix).then_some(address);
    // A machine that only looks for servers takes nothing, and is not kept waiting.
    let looks = client.kind == Kind::Probe;
    if !looks {
        leases.offer(client.mac, address, now_unix.saturating_add(OFFER_SECONDS), now_unix);
    }
    let message = reply(params, request, &client, MessageType::Offer, address);
    send(message, request, client, ask.filter(|_| !looks))
}

/// SELECTING: an answer to an offer, ours or another server's.
fn selecting(
    params: &Params,
    leases: &mut LeaseTable,
    request: &Message,
    client: Client,
    server: Ipv4Addr,
    now_unix: u64,
) -> Decision {
    if !is_us(params, request, server) {
        // RFC 2131 §3.1 (4): it took another server's offer, ours is free again.
        leases.drop_offer(client.mac);
        return Decision::Silence(format!("took the offer of {server}"));
    }
    let named = requested_address(request).or(Some(request.ciaddr()).filter(|address| !address.is_unspecified()));
    let wanted = named.or_else(|| {
        let facts = Facts::new(request, &client);
        let offered = leases
            .offered(client.mac)
            .or(leases.get(client.mac).map(|lease| lease.address));
        offered.filter(|_| quirks::done(&facts).any(|done| done == Done::TakeTheOffer))
    });
    match wanted {
        None => Decision::Silence("names no address".to_owned()),
        Some(wanted) if leases.may_have(client.mac, wanted, now_unix) => {
            bind(params, leases, request, client, wanted, now_unix)
        }
        Some(wanted) => refuse(params, request, client, wanted),
    }
}

/// INIT-REBOOT: may I use what I had? A server without a record of the client keeps silent (RFC 2131 §4.3.2), unless
/// the address cannot be right on this link.
fn init_reboot(params: &Params, leases: &mut LeaseTable, request: &Message, client: Client, now_unix: u64) -> Decision {
    let Some(wanted) = requested_address(request) else {
        return Decision::Silence("names no address".to_owned());
    };
    if !params.subnet.contains(wanted) {
        return refuse(params, request, client, wanted);
    }
    match leases.get(client.mac) {
        None => Decision::Silence(format!("wants {wanted} again, of which nothing is known here")),
        Some(_) if leases.may_have(client.mac, wanted, now_unix) => {
            bind(params, leases, request, client, wanted, now_unix)
        }
        Some(_) => refuse(params, request, client, wanted),
    }
}

/// RENEWING and REBINDING: the client uses the address. It keeps it also where a restart without a medium lost the
/// record, as long as nobody else has it.
fn renewing(params: &Params, leases: &mut LeaseTable, request: &Message, client: Client, now_unix: u64) -> Decision {
    let address = request.ciaddr();
    if leases.may_have(client.mac, address, now_unix) {
        bind(params, leases, request, client, address, now_unix)
    } else {
        refuse(params, request, client, address)
    }
}

/// INFORM: an address by other means, and wants the rest. No lease, no `yiaddr`, no lease times (RFC 2131 §4.3.5).
fn inform(params: &Params, request: &Message, client: Client) -> Decision {
    if request.ciaddr().is_unspecified() {
        return Decision::Silence("informs without an address of its own".to_owned());
    }
    let message = reply(params, request, &client, MessageType::Ack, Ipv4Addr::UNSPECIFIED);
    send(message, request, client, None)
}

fn bind(
    params: &Params,
    leases: &mut LeaseTable,
    request: &Message,
    client: Client,
    address: Ipv4Addr,
    now_unix: u64,
) -> Decision {
    let end = now_unix.saturating_add(params.lease_seconds.into());
    leases.bind(client.mac, address, end);
    let message = reply(params, request, &client, MessageType::Ack, address);
    send(message, request, client, None)
}

fn refuse(params: &Params, request: &Message, client: Client, wanted: Ipv4Addr) -> Decision {
    tracing::debug!(mac = %client.mac, %wanted, "refused");
    // A client on the wrong network does not hear what is sent to its address (RFC 2131 §4.1).
    let relay = request.giaddr();
    let to = match relay.is_unspecified() {
        true => everybody(),
        false => SocketAddrV4::new(relay, SERVER_PORT),
    };
    Decision::Reply(Box::new(Reply {
        message: nak(params, request),
        form: Form::of(request),
        to,
        alone: None,
        client,
        ask: None,
    }))
}

/// True for the identifier by which this server answers the request: its address, or the relay's (RFC 5107 §4).
fn is_us(params: &Params, request: &Message, server: Ipv4Addr) -> bool {
    server == params.subnet.server || relay::server_override(request) == Some(server)
}

fn server_identifier(request: &Message) -> Option<Ipv4Addr> {
    match request.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}

fn requested_address(request: &Message) -> Option<Ipv4Addr> {
    match request.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(address)) => Some(*address).filter(|address| !address.is_unspecified()),
        _ => None,
    }
}

/// RFC 2131 §4.1: to the relay it came through, else to the address the client already uses, else to the one it gets,
/// unless it says that it cannot hear that yet.
fn send(mut message: Message, request: &Message, client: Client, ask: Option<Ipv4Addr>) -> Decision {
    let relay = request.giaddr();
    let facts = Facts::new(request, &client);
    let done: Vec<Done> = quirks::done(&facts).collect();
    let nowhere = request.ciaddr().is_unspecified() || done.contains(&Done::IgnoreItsAddress);
    // RFC 4390 §2.1 has it set the flag; without a MAC nothing else reaches it.
    let nameless = client.own_mac().is_none();
    let deaf =
        nameless || request.flags().broadcast() || message.yiaddr().is_unspecified() || client.kind == Kind::Probe;
    let (to, alone) = if !relay.is_unspecified() {
        (SocketAddrV4::new(relay, SERVER_PORT), None)
    } else if !nowhere {
        (SocketAddrV4::new(request.ciaddr(), CLIENT_PORT), None)
    } else if deaf {
        (everybody(), None)
    } else {
        (SocketAddrV4::new(message.yiaddr(), CLIENT_PORT), Some(client.mac))
    };
    quirks::mend(&mut message, &done);
    Decision::Reply(Box::new(Reply {
        message,
        form: Form::of(request),
        to,
        alone,
        client,
        ask,
    }))
}

fn everybody() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
}
