//! The client side: a SOLICIT that asks who serves a link or for an address, and what answers mean. Pure.

use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, DhcpOptions, IANA, Message, MessageType, ORO, OptionCode, Status};

use crate::model::{Lifetime, MacAddr};

use super::client::class_entries;
use super::{AGENT_CLASS, ENTERPRISE, MASTER_CLASS, PROBE_CLASS, wire};
use crate::service::dhcp4::option;
use crate::service::dhcp6::decide::duid_of;

/// A server that spoke: an ADVERTISE or a REPLY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReply {
    pub kind: MessageType,
    pub xid: [u8; 3],
    /// Its DUID.
    pub server: Vec<u8>,
    /// It said that it is a recon master.
    pub recon: bool,
    /// Address it gives or promises.
    pub address: Option<Ipv6Addr>,
    /// Of that address; over where there is none.
    pub lifetime: Lifetime,
    /// It takes back what it gave: a lifetime of nothing, or no binding (RFC 8415 §18.2.10.1). A reply without an address says no such thing
    /// by itself.
    pub is_withdrawn: bool,
    pub name_servers: Vec<Ipv6Addr>,
    /// The URL that it names to boot (RFC 5970 §3.1), as it stands there; empty where it names none.
    pub boot_file: Vec<u8>,
}

/// Reads a datagram to a client's port; `None` where it is no server's answer.
pub fn heard(datagram: &[u8]) -> Option<ServerReply> {
    let message = wire::decode(datagram).ok()?;
    if !matches!(message.msg_type(), MessageType::Advertise | MessageType::Reply) {
        return None;
    }
    let server = option!(message, ServerId)?;
    let given = option!(message, IANA).and_then(|ia| {
        ia.opts.iter().find_map(|option| match option {
            DhcpOption::IAAddr(address) if address.valid_life > 0 => {
                let lifetime = Lifetime::of_dhcp6(address.valid_life, ia.t1, ia.t2)?;
                Some((address.addr, lifetime))
            }
            _ => None,
        })
    });
    Some(ServerReply {
        is_withdrawn: option!(message, IANA).is_some_and(is_withdrawn),
        kind: message.msg_type(),
        xid: message.xid(),
        server: server.clone(),
        recon: class_entries(&message, OptionCode::VendorClass)
            .iter()
            .any(|class| class == MASTER_CLASS),
        address: given.map(|(address, _)| address),
        lifetime: given.map_or(Lifetime::OVER, |(_, lifetime)| lifetime),
        name_servers: option!(message, DomainNameServers).cloned().unwrap_or_default(),
        boot_file: boot_file(&message),
    })
}

fn is_withdrawn(ia: &IANA) -> bool {
    ia.opts.iter().any(|option| match option {
        DhcpOption::IAAddr(address) => address.valid_life == 0,
        DhcpOption::StatusCode(code) => matches!(code.status, Status::NoBinding | Status::NotOnLink),
        _ => false,
    })
}

fn boot_file(message: &Message) -> Vec<u8> {
    match message.opts().get(OptionCode::OptBootfileUrl) {
        Some(DhcpOption::Unknown(url)) => url.data().to_vec(),
        _ => Vec::new(),
    }
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// What goes with an address that comes from elsewhere (RFC 8415 §18.2.6).
    Inform,
    /// Who serves here? The promise is not taken.
    WhoServes,
    /// An address, at once where the server can (RFC 8415 §21.14).
    Solicit,
    /// This address of this server.
    Request { server: Vec<u8>, address: Ipv6Addr },
    /// More time with it, of the server that gave it (RFC 8415 §18.2.4).
    Renew { server: Vec<u8>, address: Ipv6Addr },
    /// The same of any server (RFC 8415 §18.2.5).
    Rebind { address: Ipv6Addr },
}

/// The datagram.
pub fn packet(ask: &Ask, mac: MacAddr, xid: [u8; 3]) -> Vec<u8> {
    let kind = match ask {
        Ask::WhoServes | Ask::Solicit => MessageType::Solicit,
        Ask::Request { .. } => MessageType::Request,
        Ask::Renew { .. } => MessageType::Renew,
        Ask::Rebind { .. } => MessageType::Rebind,
        Ask::Inform => MessageType::InformationRequest,
    };
    let mut message = Message::new_with_id(kind, xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::ClientId(duid_of(mac)));
    options.insert(DhcpOption::ElapsedTime(0));
    options.insert(DhcpOption::ORO(ORO {
        opts: vec![
            OptionCode::DomainNameServers,
            OptionCode::VendorClass,
            OptionCode::OptBootfileUrl,
        ],
    }));
    let class = match ask {
        Ask::WhoServes => PROBE_CLASS,
        Ask::Inform => AGENT_CLASS,
        Ask::Solicit => {
            options.insert(DhcpOption::RapidCommit);
            AGENT_CLASS
        }
        Ask::Request { server, .. } | Ask::Renew { server, .. } => {
            options.insert(DhcpOption::ServerId(server.clone()));
            AGENT_CLASS
        }
        Ask::Rebind { .. } => AGENT_CLASS,
    };
    options.insert(wire::vendor_class(ENTERPRISE, class));
    // RFC 8415 §18.2.6: it has no identity association.
    if *ask == Ask::Inform {
        return wire::encode(&message);
    }
    let mut wishes = DhcpOptions::new();
    if let Ask::Request { address, .. } | Ask::Renew { address, .. } | Ask::Rebind { address } = ask {
        wishes.insert(wire::ia_address(*address, 0));
    }
    let [.., c, d, e, f] = mac.0;
    options.insert(DhcpOption::IANA(IANA {
        id: u32::from_be_bytes([c, d, e, f]),
        t1: 0,
        t2: 0,
        opts: wishes,
    }));
    wire::encode(&message)
}

#[cfg(test)]
mod tests {
    use super::super::client::{Kind, identify};
    use super::super::leases::LeaseTable6;
    use super::*;
    use crate::config::LeasePolicy;
    use crate::model::ula::Ula;
    use crate::service::dhcp6::decide::{Decision, Facts, Params, decide};
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);
    const XID: [u8; 3] = [1, 2, 3];

    fn answered(ask: &Ask) -> Option<ServerReply> {
        let params = Params {
            prefix: Ula::drawn(1).link(0),
            server_id: duid_of(MacAddr([2, 0, 0, 0, 0, 1])),
            lease: LeasePolicy {
                lease_seconds: 600,
                serve_all: false,
            },
            boot: Default::default(),
        };
        let request = wire::decode(&packet(ask, MAC, XID)).unwrap();
        let client = identify(&request, "fe80::5".parse().unwrap());
        let mut leases = LeaseTable6::new(params.prefix, []);
        match decide(
            &params,
            &mut leases,
            Facts {
                request: &request,
                client: &client,
                netbooted: false,
            },
            crate::model::UnixTime::default(),
        ) {
            Decision::Reply(reply) => heard(&wire::encode(&reply.message)),
            Decision::Silence(_) => None,
        }
    }

    #[test]
    fn a_recon_master_is_known_by_its_answer() {
        let heard = answered(&Ask::WhoServes).unwrap();
        assert_eq!(
            (heard.kind, heard.xid, heard.recon),
            (MessageType::Advertise, XID, true)
        );
        let solicit = wire::decode(&packet(&Ask::WhoServes, MAC, XID)).unwrap();
        assert_eq!(identify(&solicit, "fe80::5".parse().unwrap()).kind, Kind::Probe);
        assert_eq!(
            super::heard(&packet(&Ask::WhoServes, MAC, XID)),
            None,
            "a question is no answer"
        );
    }

    #[test]
    fn a_peer_gets_its_address() {
        let at_once = answered(&Ask::Solicit).unwrap();
        assert_eq!(at_once.kind, MessageType::Reply);
        let address = at_once.address.unwrap();
        let asked = answered(&Ask::Request {
            server: at_once.server,
            address,
        });
        assert_eq!(asked.unwrap().address, Some(address));
        let server = vec![0, 3, 0, 1];
        let renew = Ask::Renew {
            server: server.clone(),
            address,
        };
        for (ask, kind, server) in [
            (renew, MessageType::Renew, Some(&server)),
            (Ask::Rebind { address }, MessageType::Rebind, None),
        ] {
            let message = wire::decode(&packet(&ask, MAC, XID)).unwrap();
            assert_eq!((message.msg_type(), option!(message, ServerId)), (kind, server));
            let wishes = &option!(message, IANA).unwrap().opts;
            let wished = wishes
                .iter()
                .any(|wish| matches!(wish, DhcpOption::IAAddr(wish) if wish.addr == address));
            assert!(wished, "{message:?}");
        }
    }

    /// A server's reply with this association.
    fn reply(t1: u32, t2: u32, options: Vec<DhcpOption>) -> ServerReply {
        let mut message = Message::new_with_id(MessageType::Reply, XID);
        message.opts_mut().insert(DhcpOption::ServerId(vec![0, 3, 0, 1]));
        let opts = options.into_iter().collect();
        message
            .opts_mut()
            .insert(DhcpOption::IANA(IANA { id: 1, t1, t2, opts }));
        super::heard(&wire::encode(&message)).unwrap()
    }

    #[test]
    fn the_times_are_the_servers_and_only_its_word_ends_a_lease() {
        let address: Ipv6Addr = "fd00::9".parse().unwrap();
        let given = |seconds| {
            let DhcpOption::IAAddr(mut given) = wire::ia_address(address, seconds) else {
                unreachable!()
            };
            given.valid_life = seconds;
            DhcpOption::IAAddr(given)
        };
        let status = |status| {
            DhcpOption::StatusCode(dhcproto::v6::StatusCode {
                status,
                msg: String::new(),
            })
        };
        let fine = reply(100, 300, vec![given(1000)]);
        assert_eq!((fine.address, fine.is_withdrawn), (Some(address), false));
        assert_eq!(fine.lifetime, Lifetime::of_dhcp6(1000, 100, 300).unwrap());
        for (what, is_withdrawn) in [
            (reply(300, 100, vec![given(1000)]), false),
            (reply(0, 0, vec![]), false),
            (reply(0, 0, vec![status(Status::UnspecFail)]), false),
            (reply(0, 0, vec![status(Status::NoBinding)]), true),
            (reply(0, 0, vec![given(0)]), true),
        ] {
            assert_eq!((what.address, what.is_withdrawn), (None, is_withdrawn));
        }
    }

    #[test]
    fn what_goes_with_an_address_is_heard() {
        let mut message = Message::new_with_id(MessageType::Reply, XID);
        let server: Ipv6Addr = "fd00::53".parse().unwrap();
        message.opts_mut().insert(DhcpOption::ServerId(vec![0, 3, 0, 1]));
        message.opts_mut().insert(DhcpOption::DomainNameServers(vec![server]));
        message.opts_mut().insert(wire::boot_file("http://[fd00::1]/boot.ipxe"));
        let reply = super::heard(&wire::encode(&message)).unwrap();
        assert_eq!((reply.name_servers, reply.address), (vec![server], None));
        assert_eq!(reply.boot_file, b"http://[fd00::1]/boot.ipxe");
        // Without an address it is asked for without one.
        let asked = wire::decode(&packet(&Ask::Inform, MAC, XID)).unwrap();
        assert_eq!(asked.msg_type(), MessageType::InformationRequest);
        assert!(option!(asked, IANA).is_none());
    }

    proptest! {
        #[test]
        fn any_datagram_is_understood_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = heard(&bytes);
        }
    }
}
