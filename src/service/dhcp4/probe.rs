//! The client side: a DISCOVER that asks who serves a link, and what packets heard there mean. Pure.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Encodable, Encoder};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use crate::model::MacAddr;

use super::{AGENT_CLASS, MASTER_CLASS, PROBE_CLASS, wire};

/// Something heard on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A server speaks: an OFFER, ACK or NAK.
    Server {
        server: Ipv4Addr,
        /// It said that it is a recon master.
        recon: bool,
        kind: MessageType,
        /// Transaction and address it speaks of, for the client among us that asked.
        xid: u32,
        yours: Ipv4Addr,
        netmask: Option<Ipv4Addr>,
    },
    /// Another recon machine looks for servers.
    Probe { mac: MacAddr },
}

/// Reads a packet that starts with its IPv4 header; `None` where it is nothing of the above.
pub fn heard(packet: &[u8]) -> Option<Heard> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        return None;
    };
    let message = wire::decode(udp.payload()).ok()?;
    let class = match message.opts().get(OptionCode::ClassIdentifier) {
        Some(DhcpOption::ClassIdentifier(class)) => class.as_slice(),
        _ => b"",
    };
    let kind = message.opts().msg_type()?;
    match (message.opcode(), kind) {
        (Opcode::BootReply, MessageType::Offer | MessageType::Ack | MessageType::Nak) => {
            let server = match message.opts().get(OptionCode::ServerIdentifier) {
                Some(DhcpOption::ServerIdentifier(server)) => *server,
                _ => return None,
            };
            let netmask = match message.opts().get(OptionCode::SubnetMask) {
                Some(DhcpOption::SubnetMask(mask)) => Some(*mask),
                _ => None,
            };
            let recon = class == MASTER_CLASS;
            Some(Heard::Server {
                server,
                recon,
                kind,
                xid: message.xid(),
                yours: message.yiaddr(),
                netmask,
            })
        }
        (Opcode::BootRequest, MessageType::Discover) if class == PROBE_CLASS => {
            let mac = MacAddr(message.chaddr().try_into().ok()?);
            Some(Heard::Probe { mac })
        }
        _ => None,
    }
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Who serves here? The offer is not taken.
    WhoServes,
    /// An address.
    Discover,
    /// This address of this server.
    Request { server: Ipv4Addr, address: Ipv4Addr },
}

/// The packet, IPv4 header first, from a machine without an address.
pub fn packet(ask: Ask, mac: MacAddr, xid: u32) -> Vec<u8> {
    let mut message = Message::default();
    message
        .set_xid(xid)
        .set_chaddr(&mac.0)
        .set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    let (kind, class) = match ask {
        Ask::WhoServes => (MessageType::Discover, PROBE_CLASS),
        Ask::Discover => (MessageType::Discover, AGENT_CLASS),
        Ask::Request { server, address } => {
            options.insert(DhcpOption::ServerIdentifier(server));
            options.insert(DhcpOption::RequestedIpAddress(address));
            (MessageType::Request, AGENT_CLASS)
        }
    };
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(class.to_vec()));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::ClassIdentifier,
    ]));
    let payload = encode(&message);
    let builder = PacketBuilder::ipv4([0; 4], [255; 4], 64).udp(68, 67);
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    builder
        .write(&mut packet, &payload)
        .expect("a Vec takes everything and the payload is far below 64 KiB");
    packet
}

/// Shortest message some clients and relays accept (RFC 951: the BOOTP message of 300 bytes).
const MIN_MESSAGE: usize = 300;

/// A message as bytes, padded to the length old clients expect.
pub fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MIN_MESSAGE);
    message
        .encode(&mut Encoder::new(&mut bytes))
        .expect("every message is made here, with options that fit");
    bytes.resize(bytes.len().max(MIN_MESSAGE), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);

    #[test]
    fn a_probe_is_known_again_on_the_other_side() {
        assert_eq!(heard(&packet(Ask::WhoServes, MAC, 9)), Some(Heard::Probe { mac: MAC }));
        assert_eq!(heard(&packet(Ask::Discover, MAC, 9)), None);
    }

    #[test]
    fn a_server_is_heard_with_all_it_says() {
        let mut offer = Message::default();
        offer
            .set_opcode(Opcode::BootReply)
            .set_xid(77)
            .set_yiaddr(Ipv4Addr::new(10, 0, 0, 9))
            .set_chaddr(&MAC.0);
        offer.opts_mut().insert(DhcpOption::MessageType(MessageType::Offer));
        offer
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 0, 1)));
        offer
            .opts_mut()
            .insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 0, 0)));
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [255; 4], 64)
            .udp(67, 68)
            .write(&mut bytes, &encode(&offer))
            .unwrap();
        assert_eq!(
            heard(&bytes),
            Some(Heard::Server {
                server: Ipv4Addr::new(10, 0, 0, 1),
                recon: false,
                kind: MessageType::Offer,
                xid: 77,
                yours: Ipv4Addr::new(10, 0, 0, 9),
                netmask: Some(Ipv4Addr::new(255, 0, 0, 0)),
            })
        );
    }

    proptest! {
        #[test]
        fn any_packet_is_understood_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = heard(&bytes);
        }

        #[test]
        fn a_damaged_probe_does_no_harm(at in 0usize..300, value in any::<u8>()) {
            let mut bytes = packet(Ask::WhoServes, MAC, 9);
            bytes[at] = value;
            let _ = heard(&bytes);
        }
    }
}
