//! The client side: DISCOVERs that ask who serves a link, an address for this machine, and what packets heard there
//! mean. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Encodable, Encoder};
use etherparse::{SlicedPacket, TransportSlice};

use crate::config::site_key::{Nonce, Tag};
use crate::formats::bytes::hex;
use crate::model::{Lifetime, MacAddr};

use super::layout::{self, MIN_MESSAGE};
use super::{
    AGENT_CLASS, CLIENT_PORT, MARK, MARK_CODE, MASTER_CLASS, NONCE_CODE, PROBE_CLASS, PROOF_CODE, SERVER_PORT,
};
use super::{option, wire};
use crate::service::boot::client::{HTTP_CLASS, PXE_CLASS};

/// What a recon machine does on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Ask = 0,
    Serve = 1,
    Proxy = 2,
}

/// What a recon machine says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub role: Role,
    /// Its number.
    pub machine: MacAddr,
    /// Of the port that it says it from.
    pub mac: MacAddr,
    /// Its address there; unspecified for one that only asks.
    pub server: Ipv4Addr,
}

impl Said {
    pub fn asking(machine: MacAddr, mac: MacAddr) -> Self {
        Said {
            role: Role::Ask,
            machine,
            mac,
            server: Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// Who serves here? With the asker's number and one that never comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub machine: MacAddr,
    pub nonce: Nonce,
}

/// A proof with the site's key of what is said in the same packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub role: Role,
    pub tag: Tag,
}

/// Something heard on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overheard {
    /// A server speaks: an OFFER, ACK or NAK.
    Server(ServerMessage),
    /// Another recon machine, by its number, looks for servers.
    Probe {
        machine: MacAddr,
        /// Of its question; without one nobody can prove anything to it.
        nonce: Option<Nonce>,
        proof: Option<Proof>,
    },
    /// A client tells everybody which server it takes (RFC 2131 §3.1 step 3).
    Chosen { server: Ipv4Addr },
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMessage {
    pub server: Ipv4Addr,
    /// It said that it is a recon master.
    pub recon: bool,
    /// Its number, where it announced itself.
    pub machine: Option<MacAddr>,
    /// That it has the site's key, for a question of the reader.
    pub proof: Option<Proof>,
    /// It names something to boot, or speaks as a PXE server.
    pub boots: bool,
    pub kind: MessageType,
    /// Transaction and address it speaks of, for the client among us that asked.
    pub xid: u32,
    pub yours: Ipv4Addr,
    pub netmask: Option<Ipv4Addr>,
    /// The first router it names.
    pub router: Option<Ipv4Addr>,
    /// Of that address.
    pub lifetime: Lifetime,
    pub name_servers: Vec<Ipv4Addr>,
    /// What it names to boot, as it stands there; empty where it names nothing.
    pub boot_file: Vec<u8>,
}

/// Reads a packet that starts with its IPv4 header; `None` where it is nothing of the above.
pub fn heard(packet: &[u8]) -> Option<Overheard> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        return None;
    };
    // A floor of clients asks at once, and next to nothing of it matters here: it is not read.
    if let Some(seen) = wire::peek(udp.payload()) {
        match MessageType::from(seen.kind) {
            MessageType::Discover if seen.class.starts_with(PROBE_CLASS) => {}
            // What a relay brings is about another network.
            MessageType::Request if seen.relayed => return None,
            MessageType::Request => return seen.server.map(|server| Overheard::Chosen { server }),
            _ => return None,
        }
    }
    let message = wire::decode(udp.payload()).ok()?;
    let class = class_of(&message);
    let kind = message.opts().msg_type()?;
    let server = option!(message, ServerIdentifier).copied();
    match (message.opcode(), kind) {
        (Opcode::BootReply, MessageType::Offer | MessageType::Ack | MessageType::Nak) => {
            Some(Overheard::Server(server_message(&message, class, kind, server?)))
        }
        (Opcode::BootRequest, MessageType::Discover) => {
            let machine = machine_of(class, PROBE_CLASS)?;
            Some(Overheard::Probe {
                machine,
                nonce: bytes_of(&message, NONCE_CODE).and_then(|bytes| bytes.try_into().ok()),
                proof: proof_of(&message),
            })
        }
        (Opcode::BootRequest, MessageType::Request) if message.giaddr().is_unspecified() => {
            Some(Overheard::Chosen { server: server? })
        }
        _ => None,
    }
}

fn server_message(message: &Message, class: &[u8], kind: MessageType, server: Ipv4Addr) -> ServerMessage {
    ServerMessage {
        server,
        recon: class.starts_with(MASTER_CLASS) || bytes_of(message, MARK_CODE) == Some(MARK),
        machine: machine_of(class, MASTER_CLASS),
        proof: proof_of(message),
        boots: boots(message, class),
        kind,
        xid: message.xid(),
        yours: message.yiaddr(),
        netmask: option!(message, SubnetMask).copied(),
        router: option!(message, Router).and_then(|routers| routers.first().copied()),
        lifetime: Lifetime::of_dhcp(
            option!(message, AddressLeaseTime).copied(),
            option!(message, Renewal).copied(),
            option!(message, Rebinding).copied(),
        ),
        name_servers: option!(message, DomainNameServer).cloned().unwrap_or_default(),
        boot_file: boot_file(message).to_vec(),
    }
}

/// The vendor class (option 60); empty where there is none.
pub(super) fn class_of(message: &Message) -> &[u8] {
    option!(message, ClassIdentifier).map_or(b"", |class| wire::text(class))
}

fn bytes_of(message: &Message, code: u8) -> Option<&[u8]> {
    wire::unknown(message, OptionCode::Unknown(code))
}

fn proof_of(message: &Message) -> Option<Proof> {
    let (role, tag) = bytes_of(message, PROOF_CODE)?.split_first()?;
    let role = [Role::Ask, Role::Serve, Role::Proxy]
        .into_iter()
        .find(|known| *known as u8 == *role)?;
    let tag = tag.try_into().ok()?;
    Some(Proof { role, tag })
}

fn option(code: u8, bytes: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), bytes))
}

fn proof_option(proof: Proof) -> DhcpOption {
    option(PROOF_CODE, [&[proof.role as u8][..], &proof.tag].concat())
}

fn boots(message: &Message, class: &[u8]) -> bool {
    !boot_file(message).is_empty() || class.starts_with(PXE_CLASS) || class.starts_with(HTTP_CLASS)
}

/// The name of option 67, or the one in the header, which ends with its first zero (RFC 2131 §2).
fn boot_file(message: &Message) -> &[u8] {
    let named = option!(message, BootfileName).map_or(&b""[..], |name| wire::text(name));
    match named.is_empty() {
        true => message
            .fname()
            .and_then(|name| name.split(|byte| *byte == 0).next())
            .unwrap_or_default(),
        false => named,
    }
}

/// The number behind a class of ours: `recon:probe:` and 12 hex digits. Without a number it is a word of nobody.
pub fn machine_of(class: &[u8], word: &[u8]) -> Option<MacAddr> {
    let digits = class.strip_prefix(word)?.strip_prefix(b":")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 12)?;
    digits.parse().ok()
}

/// True for the question of [`Ask::WhoBoots`].
pub fn asks_boot(message: &Message) -> bool {
    option!(message, UserClass).is_some_and(|class| wire::text(class) == PROBE_CLASS)
}

fn numbered(word: &[u8], machine: MacAddr) -> Vec<u8> {
    [word, b":", hex(&machine.0).as_bytes()].concat()
}

/// What to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Who serves here? The offer is not taken. With the proof for the last question heard.
    WhoServes(Question, Option<Proof>),
    /// Who answers network boot firmware here? Asked as UEFI on x86-64 asks.
    WhoBoots,
    /// An address.
    Discover,
    /// This address of this server.
    Request { server: Ipv4Addr, address: Ipv4Addr },
    /// Not this address: somebody has it (RFC 2131 §3.1 step 5).
    Decline { server: Ipv4Addr, address: Ipv4Addr },
    /// The address this machine has, for longer, of whoever can say so (RFC 2131 §4.3.2, REBINDING).
    Renew { address: Ipv4Addr },
}

/// RFC 4578 §2.1: x86-64 UEFI.
const ARCH_X64: u16 = 7;
const FIRMWARE_CLASS: &[u8] = b"PXEClient:Arch:00007:UNDI:003016";

/// What this program asks for its own address, ...
const WANTED: [OptionCode; 8] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
    OptionCode::ClassIdentifier,
    OptionCode::BootfileName,
];
/// ... and who asks as firmware does.
const WANTED_BY_FIRMWARE: [OptionCode; 7] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::ClassIdentifier,
    OptionCode::TFTPServerName,
    OptionCode::BootfileName,
    OptionCode::VendorExtensions,
];

/// The packet, IPv4 header first, from a machine without an address or from the one it has.
pub fn packet(ask: Ask, mac: MacAddr, xid: u32) -> Vec<u8> {
    let mut message = said_by(Opcode::BootRequest, mac, xid);
    let mut source = Ipv4Addr::UNSPECIFIED;
    let options = message.opts_mut();
    let (kind, class) = match ask {
        Ask::WhoServes(Question { machine, nonce }, proof) => {
            options.insert(option(NONCE_CODE, nonce.to_vec()));
            if let Some(proof) = proof {
                options.insert(proof_option(proof));
            }
            (MessageType::Discover, numbered(PROBE_CLASS, machine))
        }
        Ask::WhoBoots => {
            options.insert(DhcpOption::UserClass(PROBE_CLASS.to_vec()));
            options.insert(DhcpOption::ClientSystemArchitecture(ARCH_X64.into()));
            // RFC 4578 §2.2: UNDI 3.16.
            options.insert(DhcpOption::ClientNetworkInterface(1, 3, 16));
            // RFC 4578 §2.3: a server that knows machines by it knows none by this one.
            let id = [&[0; 11][..], &mac.0].concat();
            options.insert(DhcpOption::ClientMachineIdentifier(id));
            (MessageType::Discover, FIRMWARE_CLASS.to_vec())
        }
        Ask::Discover => (MessageType::Discover, AGENT_CLASS.to_vec()),
        Ask::Request { server, address } | Ask::Decline { server, address } => {
            options.insert(DhcpOption::ServerIdentifier(server));
            options.insert(DhcpOption::RequestedIpAddress(address));
            let kind = match ask {
                Ask::Decline { .. } => MessageType::Decline,
                _ => MessageType::Request,
            };
            (kind, AGENT_CLASS.to_vec())
        }
        Ask::Renew { address } => {
            source = address;
            (MessageType::Request, AGENT_CLASS.to_vec())
        }
    };
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(class));
    let wanted = match ask {
        // RFC 2131 table 5: it wants nothing.
        Ask::Decline { .. } => &[][..],
        Ask::WhoBoots => &WANTED_BY_FIRMWARE,
        _ => &WANTED,
    };
    if !wanted.is_empty() {
        options.insert(DhcpOption::ParameterRequestList(wanted.to_vec()));
    }
    message.set_ciaddr(source);
    broadcast((source, CLIENT_PORT), SERVER_PORT, &message)
}

/// What a master says of itself: an OFFER to nobody, with its number. No client takes it, because it names a transaction and a
/// machine that are none of theirs.
pub fn announcement(said: Said, proof: Option<Proof>, xid: u32) -> Vec<u8> {
    let Said {
        machine, mac, server, ..
    } = said;
    let mut message = said_by(Opcode::BootReply, mac, xid);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Offer));
    options.insert(DhcpOption::ServerIdentifier(server));
    options.insert(DhcpOption::ClassIdentifier(numbered(MASTER_CLASS, machine)));
    if let Some(proof) = proof {
        options.insert(proof_option(proof));
    }
    broadcast((server, SERVER_PORT), CLIENT_PORT, &message)
}

/// A message to everybody, of the port with this address.
fn said_by(opcode: Opcode, mac: MacAddr, xid: u32) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(opcode)
        .set_xid(xid)
        .set_chaddr(&mac.0)
        .set_flags(Flags::default().set_broadcast());
    message
}

fn broadcast((source, from): (Ipv4Addr, u16), to: u16, message: &Message) -> Vec<u8> {
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, to);
    layout::packet(SocketAddrV4::new(source, from), to, &encode(message))
}

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
    const MACHINE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const QUESTION: Question = Question {
        machine: MACHINE,
        nonce: [7; 16],
    };
    const PROOF: Proof = Proof {
        role: Role::Serve,
        tag: [8; 16],
    };

    fn announced(server: Ipv4Addr) -> Vec<u8> {
        let said = Said {
            role: Role::Serve,
            machine: MACHINE,
            mac: MAC,
            server,
        };
        announcement(said, Some(PROOF), 9)
    }

    #[test]
    fn a_probe_is_known_again_on_the_other_side() {
        assert_eq!(
            heard(&packet(Ask::WhoServes(QUESTION, Some(PROOF)), MAC, 9)),
            Some(Overheard::Probe {
                machine: MACHINE,
                nonce: Some([7; 16]),
                proof: Some(PROOF)
            })
        );
        for quiet in [Ask::Discover, Ask::WhoBoots] {
            assert_eq!(heard(&packet(quiet, MAC, 9)), None, "{quiet:?}");
        }
        let message = |ask| wire::decode(&packet(ask, MAC, 9)[28..]).unwrap();
        assert!(asks_boot(&message(Ask::WhoBoots)) && !asks_boot(&message(Ask::Discover)));
        for ask in [Ask::WhoServes(QUESTION, None), Ask::WhoBoots] {
            let client = super::super::client::identify(&message(ask)).unwrap();
            assert_eq!(client.kind, super::super::client::Kind::Probe, "{ask:?}");
        }
    }

    #[test]
    fn an_announcement_names_its_master() {
        let server = Ipv4Addr::new(192, 168, 219, 1);
        let Some(Overheard::Server(spoken)) = heard(&announced(server)) else {
            panic!("not heard");
        };
        assert_eq!(
            (spoken.server, spoken.recon, spoken.machine, spoken.proof),
            (server, true, Some(MACHINE), Some(PROOF))
        );
        assert!(!spoken.boots && spoken.yours.is_unspecified());
    }

    #[test]
    fn what_clients_choose_is_heard() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let address = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(
            heard(&packet(Ask::Request { server, address }, MAC, 9)),
            Some(Overheard::Chosen { server })
        );
        let decline = packet(Ask::Decline { server, address }, MAC, 9);
        assert_eq!(heard(&decline), None);
        let decline = wire::decode(&decline[28..]).unwrap();
        assert_eq!(decline.opts().msg_type(), Some(MessageType::Decline));
        assert!(decline.opts().get(OptionCode::ParameterRequestList).is_none());
        let renew = packet(Ask::Renew { address }, MAC, 9);
        assert_eq!(heard(&renew), None, "it names no server");
        assert_eq!(renew[12..16], address.octets(), "it comes from the address it is about");
    }

    #[test]
    fn what_a_relay_brings_says_nothing_of_this_link() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        let mut taken = packet(
            Ask::Request {
                server,
                address: server,
            },
            MAC,
            9,
        );
        assert_eq!(heard(&taken), Some(Overheard::Chosen { server }));
        // The relay's address, behind the headers of IPv4 and UDP; whatever the checksum is, nobody looks at it here.
        taken[28 + 24..28 + 28].copy_from_slice(&[10, 1, 0, 1]);
        assert_eq!(
            heard(&taken),
            None,
            "a server of another network, or the relay's name for us (RFC 5107)"
        );
    }

    fn offer(options: impl IntoIterator<Item = DhcpOption>) -> ServerMessage {
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
        for option in options {
            offer.opts_mut().insert(option);
        }
        let bytes = broadcast((Ipv4Addr::new(10, 0, 0, 1), 67), 68, &offer);
        match heard(&bytes) {
            Some(Overheard::Server(spoken)) => spoken,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_wants_an_address_asks_for_what_comes_with_it() {
        let server = Ipv4Addr::new(10, 0, 0, 1);
        for ask in [
            Ask::Discover,
            Ask::Request {
                server,
                address: server,
            },
        ] {
            let message = wire::decode(&packet(ask, MAC, 9)[28..]).unwrap();
            let Some(asked) = option!(message, ParameterRequestList) else {
                panic!("{ask:?} asks for nothing");
            };
            let asked: Vec<u8> = asked.iter().map(|code| u8::from(*code)).collect();
            assert_eq!(asked, [1, 3, 6, 51, 58, 59, 60, 67], "{ask:?}");
        }
    }

    #[test]
    fn a_boot_file_in_the_header_counts_as_well() {
        let mut message = Message::default();
        message.set_fname_str("http://10.0.0.1/x");
        assert_eq!(boot_file(&message), b"http://10.0.0.1/x");
        message.opts_mut().insert(DhcpOption::BootfileName(b"y\0".to_vec()));
        assert_eq!(boot_file(&message), b"y");
        message.opts_mut().insert(DhcpOption::BootfileName(b"\0".to_vec()));
        assert_eq!(boot_file(&message), b"http://10.0.0.1/x");
        assert_eq!(boot_file(&Message::default()), b"");
    }

    #[test]
    fn a_server_is_heard_with_all_it_says() {
        let options = [
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 0, 0)),
            DhcpOption::AddressLeaseTime(600),
            DhcpOption::Renewal(60),
            DhcpOption::Rebinding(120),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 0, 54)]),
            DhcpOption::BootfileName(b"http://10.0.0.1/boot.ipxe\0".to_vec()),
        ];
        let wanted = ServerMessage {
            server: Ipv4Addr::new(10, 0, 0, 1),
            recon: false,
            machine: None,
            proof: None,
            boots: true,
            kind: MessageType::Offer,
            xid: 77,
            yours: Ipv4Addr::new(10, 0, 0, 9),
            netmask: Some(Ipv4Addr::new(255, 0, 0, 0)),
            router: None,
            lifetime: Lifetime::of_dhcp(Some(600), Some(60), Some(120)),
            name_servers: vec![Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 0, 54)],
            boot_file: b"http://10.0.0.1/boot.ipxe".to_vec(),
        };
        assert_eq!(offer(options), wanted);
        assert!(offer([DhcpOption::BootfileName(b"pxelinux.0".to_vec())]).boots);
        assert!(offer([DhcpOption::ClassIdentifier(b"PXEClient".to_vec())]).boots);
        assert!(!offer([DhcpOption::ClassIdentifier(b"MSFT 5.0".to_vec())]).boots);
        assert!(offer([super::super::mark()]).recon, "also in what it says to firmware");
    }

    proptest! {
        #[test]
        fn any_packet_is_understood_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = heard(&bytes);
        }

        #[test]
        fn a_damaged_packet_does_no_harm(which in 0usize..4, at in 0usize..328, value: u8) {
            let address = Ipv4Addr::new(10, 0, 0, 7);
            let mut bytes = match which {
                0 => packet(Ask::WhoServes(QUESTION, Some(PROOF)), MAC, 9),
                1 => packet(Ask::WhoBoots, MAC, 9),
                2 => announced(address),
                _ => packet(Ask::Request { server: address, address }, MAC, 9),
            };
            bytes[at] = value;
            let _ = heard(&bytes);
        }
    }
}
