//! Message in, answer out (RFC 8415 §16 and §18.3). No socket, no clock.

use std::net::Ipv6Addr;

use dhcproto::Name;
use dhcproto::v6::{DhcpOption, DhcpOptions, IANA, IAPD, IATA, Message, MessageType, OptionCode, Status, StatusCode};

use crate::config::LeasePolicy;
use crate::model::UnixTime;
use crate::model::ula::Prefix64;
use crate::service::boot::client::HTTP_CLASS;
use crate::service::boot::source::BootSource;
use crate::service::dns::DOMAIN;

use super::client::{Client, Kind};
use super::leases::{Holder, LeaseTable6};
use super::{ENTERPRISE, MASTER_CLASS, wire};
use crate::service::dhcp4::option;

/// What the decision needs to know of the link.
#[derive(Debug, Clone)]
pub struct Params {
    pub prefix: Prefix64,
    /// Our own DUID on this link.
    pub server_id: Vec<u8>,
    pub lease: LeasePolicy,
    pub boot: BootSource,
}

/// What is known of a message when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub request: &'a Message,
    pub client: &'a Client,
    /// The client's port or DUID booted from the network in this run.
    pub netbooted: bool,
}

/// What to do with a message.
#[derive(Debug)]
pub enum Decision {
    Reply(Box<Reply>),
    /// Nothing is sent; why.
    Silence(String),
}

#[derive(Debug)]
pub struct Reply {
    pub message: Message,
    /// Address that the client now holds.
    pub given: Option<Ipv6Addr>,
    /// The lease table changed in a way that a restart should remember.
    pub lease_changed: bool,
}

/// How long an advertised address is held for the client that has not asked for it yet, in seconds.
const ADVERTISED_SECONDS: u64 = 60;

/// DUID-LL of a port (RFC 8415 §11.4).
pub fn duid_of(mac: crate::model::MacAddr) -> Vec<u8> {
    let mut duid = vec![0, 3, 0, 1];
    duid.extend(mac.0);
    duid
}

/// Decides on one message.
pub fn decide(params: &Params, leases: &mut LeaseTable6, facts: Facts, now_unix: UnixTime) -> Decision {
    let Facts {
        request,
        client,
        netbooted,
    } = facts;
    let kind = request.msg_type();
    if let Err(reason) = addressed_to_us(params, client, request) {
        return Decision::Silence(reason.to_owned());
    }
    if client.kind == Kind::Other && !netbooted && !params.lease.serve_all {
        return Decision::Silence("does not boot from the network, and network.serve-all is not set".to_owned());
    }
    let mut work = Work {
        params,
        leases,
        client,
        request,
        now_unix,
        given: None,
        lease_changed: false,
    };
    let message = match kind {
        MessageType::Solicit if request.opts().get(OptionCode::RapidCommit).is_some() => {
            let mut message = work.assign(MessageType::Reply, true);
            message.opts_mut().insert(DhcpOption::RapidCommit);
            message
        }
        MessageType::Solicit => work.assign(MessageType::Advertise, false),
        MessageType::Request | MessageType::Renew | MessageType::Rebind => work.assign(MessageType::Reply, true),
        MessageType::Confirm => match work.confirm() {
            Some(message) => message,
            None => return Decision::Silence("asks to confirm no address".to_owned()),
        },
        MessageType::Release => work.give_back(false),
        MessageType::Decline => work.give_back(true),
        MessageType::InformationRequest => work.answer(MessageType::Reply),
        other => return Decision::Silence(format!("message type {other:?} asks nothing of a server")),
    };
    Decision::Reply(Box::new(Reply {
        message,
        given: work.given,
        lease_changed: work.lease_changed,
    }))
}

/// RFC 8415 §16: which identifiers a message must and must not carry.
fn addressed_to_us(params: &Params, client: &Client, request: &Message) -> Result<(), &'static str> {
    let server = option!(request, ServerId).map(|id| *id == params.server_id);
    use MessageType as M;
    match (request.msg_type(), server) {
        (M::InformationRequest, Some(false)) => return Err("asks another server"),
        (M::InformationRequest, _) => return Ok(()),
        (M::Solicit | M::Confirm | M::Rebind, Some(_)) => return Err("names a server where none may be named"),
        (M::Request | M::Renew | M::Release | M::Decline, Some(false)) => return Err("asks another server"),
        (M::Request | M::Renew | M::Release | M::Decline, None) => return Err("names no server"),
        _ => {}
    }
    if client.duid.is_empty() {
        return Err("names no client identifier");
    }
    Ok(())
}

struct Work<'a> {
    params: &'a Params,
    leases: &'a mut LeaseTable6,
    client: &'a Client,
    request: &'a Message,
    now_unix: UnixTime,
    given: Option<Ipv6Addr>,
    lease_changed: bool,
}

impl Work<'_> {
    fn holder(&self, iaid: u32) -> Holder {
        Holder::new(self.client.duid.clone(), iaid, self.client.mac)
    }

    /// Header, identifiers and what every client gets.
    fn answer(&self, kind: MessageType) -> Message {
        let mut message = Message::new_with_id(kind, self.request.xid());
        let server = self.params.prefix.server();
        let options = message.opts_mut();
        if !self.client.duid.is_empty() {
            options.insert(DhcpOption::ClientId(self.client.duid.clone()));
        }
        options.insert(DhcpOption::ServerId(self.params.server_id.clone()));
        options.insert(DhcpOption::DomainNameServers(vec![server]));
        if let Ok(zone) = Name::from_ascii(format!("{DOMAIN}.")) {
            options.insert(DhcpOption::DomainSearchList(vec![zone]));
        }
        boot(self.params, self.client, options);
        message
    }

    /// An address for each identity association: a promise in an ADVERTISE, a lease in a REPLY.
    fn assign(&mut self, kind: MessageType, commit: bool) -> Message {
        let mut message = self.answer(kind);
        let mut given = false;
        let mut asked = false;
        let associations: Vec<DhcpOption> = self.request.opts().iter().cloned().collect();
        for option in associations {
            let answer = match option {
                DhcpOption::IANA(ia) => {
                    asked = true;
                    let (answer, got) = self.assign_one(&ia, commit);
                    given |= got;
                    DhcpOption::IANA(answer)
                }
                DhcpOption::IATA(ia) => DhcpOption::IATA(IATA {
                    id: ia.id,
                    opts: only(status(Status::NoAddrsAvail, "no temporary addresses here")),
                }),
                DhcpOption::IAPD(ia) => DhcpOption::IAPD(IAPD {
                    id: ia.id,
                    t1: 0,
                    t2: 0,
                    opts: only(status(Status::NoPrefixAvail, "no prefixes here")),
                }),
                _ => continue,
            };
            message.opts_mut().insert(answer);
        }
        // RFC 8415 §18.3.9: an ADVERTISE without an address says so at the top as well.
        if asked && !given && kind == MessageType::Advertise {
            message
                .opts_mut()
                .insert(status(Status::NoAddrsAvail, "no address is free"));
        }
        message
    }

    fn assign_one(&mut self, ia: &IANA, commit: bool) -> (IANA, bool) {
        let holder = self.holder(ia.id);
        let wished = addresses(&ia.opts);
        let fits = |leases: &LeaseTable6, wish: &&Ipv6Addr| leases.may_have(&holder, **wish, self.now_unix);
        let wish = wished.iter().find(|wish| fits(self.leases, wish)).copied();
        let Some(address) = wish.or_else(|| self.leases.choose(&holder, self.now_unix)) else {
            let opts = only(status(Status::NoAddrsAvail, "every address is leased"));
            return (ia_with(ia.id, 0, opts), false);
        };
        let lease = self.params.lease.lease_seconds;
        let known = self.leases.get(&holder) == Some(address);
        if commit {
            let until = self.now_unix + u64::from(lease);
            self.leases.bind(&holder, address, self.client.mac, until);
            self.lease_changed = true;
            self.given = Some(address);
        } else if !known {
            // A lease that still runs stays as it is; a new promise is short until the client asks for it.
            self.leases
                .bind(&holder, address, self.client.mac, self.now_unix + ADVERTISED_SECONDS);
        }
        // RFC 8415 §18.3.4: what it may not use any more comes back with no time left.
        let stale = wished.iter().filter(|wish| **wish != address);
        let given = std::iter::once(wire::ia_address(address, lease));
        let opts = given.chain(stale.map(|stale| wire::ia_address(*stale, 0))).collect();
        (ia_with(ia.id, lease, opts), true)
    }

    /// RFC 8415 §18.3.3: are these addresses on this link? `None`: it names none, and gets no answer.
    fn confirm(&self) -> Option<Message> {
        let mut named = Vec::new();
        for option in self.request.opts().iter() {
            match option {
                DhcpOption::IANA(ia) => named.extend(addresses(&ia.opts)),
                DhcpOption::IATA(ia) => named.extend(addresses(&ia.opts)),
                _ => {}
            }
        }
        if named.is_empty() {
            return None;
        }
        let mut message = self.answer(MessageType::Reply);
        let (code, text) = match named.iter().all(|address| self.params.prefix.contains(*address)) {
            true => (Status::Success, "on this link"),
            false => (Status::NotOnLink, "not on this link"),
        };
        message.opts_mut().insert(status(code, text));
        Some(message)
    }

    /// RELEASE and DECLINE (RFC 8415 §18.3.7, §18.3.8).
    fn give_back(&mut self, declined: bool) -> Message {
        let mut message = Message::new_with_id(MessageType::Reply, self.request.xid());
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(self.client.duid.clone()));
        options.insert(DhcpOption::ServerId(self.params.server_id.clone()));
        for option in self.request.opts().iter() {
            let DhcpOption::IANA(ia) = option else { continue };
            let holder = self.holder(ia.id);
            let mut known = false;
            for address in addresses(&ia.opts) {
                known |= if declined {
                    self.leases.decline(&holder, address, self.now_unix)
                } else {
                    self.leases.get(&holder) == Some(address) && self.leases.release(&holder)
                };
            }
            self.lease_changed |= known;
            if !known {
                let opts = only(status(Status::NoBinding, "no such lease"));
                options.insert(DhcpOption::IANA(ia_with(ia.id, 0, opts)));
            }
        }
        options.insert(status(Status::Success, "done"));
        message
    }
}

fn ia_with(id: u32, lease: u32, opts: DhcpOptions) -> IANA {
    IANA {
        id,
        t1: lease / 2,
        t2: lease / 5 * 4,
        opts,
    }
}

fn addresses(options: &DhcpOptions) -> Vec<Ipv6Addr> {
    let address = |option: &DhcpOption| match option {
        DhcpOption::IAAddr(address) => Some(address.addr),
        _ => None,
    };
    options.iter().filter_map(address).collect()
}

fn status(status: Status, text: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode {
        status,
        msg: text.to_owned(),
    })
}

fn only(option: DhcpOption) -> DhcpOptions {
    std::iter::once(option).collect()
}

/// What each stage of a network boot is told to fetch next (RFC 5970). A URL holds the address in brackets.
fn boot(params: &Params, client: &Client, options: &mut DhcpOptions) {
    let server = params.prefix.server();
    let base = params.boot.endpoint(server);
    match client.kind {
        Kind::Ipxe => options.insert(wire::boot_file(&format!("{base}/boot.ipxe"))),
        // Firmware takes an answer with class PXEClient for one that asks it to find a boot server first.
        Kind::Pxe(arch) => {
            if let Ok(loader) = params.boot.loaders.loader(client.mac, arch) {
                options.insert(wire::boot_file(&format!("tftp://[{server}]/{loader}")));
            }
        }
        Kind::HttpBoot(arch) => {
            options.insert(wire::vendor_class(ENTERPRISE, HTTP_CLASS));
            if let Ok(loader) = params.boot.loaders.loader(client.mac, arch) {
                options.insert(wire::boot_file(&format!("{base}/loaders/{loader}")));
            }
        }
        Kind::Probe | Kind::Agent => options.insert(wire::vendor_class(ENTERPRISE, MASTER_CLASS)),
        Kind::Other => {}
    }
}

#[cfg(test)]
mod tests;
