//! What relays put around a message, and around its answer (RFC 8415 §9 and §19). Pure.
//!
//! Served are clients on this link: behind a relay with an address of the link's prefix, or one that has none to give (RFC 6221, an
//! access switch). There are no addresses for other links.

use std::net::Ipv6Addr;

use super::wire::{MAX_DATAGRAM, Malformed, options, put};

/// All_DHCP_Servers (RFC 8415 §7.1): where relays send what they have no other address for.
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3);
/// Message types (RFC 8415 §7.3).
pub const RELAY_FORW: u8 = 12;
const RELAY_REPL: u8 = 13;
/// Type, hop count, link address, peer address.
const HEADER_BYTES: usize = 34;
/// HOP_COUNT_LIMIT (RFC 8415 §7.6): relays within relays; a message with more is dropped.
const MAX_HOPS: usize = 8;
/// Options (RFC 8415 §21.10 and §21.18, RFC 8357 §4): what is relayed, the relay's name of its port, the port it wants its answer at.
const RELAY_MESSAGE: u16 = 9;
const INTERFACE_ID: u16 = 18;
const SOURCE_PORT: u16 = 135;

/// One relay on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hop {
    count: u8,
    link: Ipv6Addr,
    peer: Ipv6Addr,
    /// Goes back as it came.
    interface: Option<Vec<u8>>,
    /// The same.
    port: Option<Vec<u8>>,
}

/// A message that came through relays.
#[derive(Debug, PartialEq, Eq)]
pub struct Relayed<'a> {
    /// The one that sent it to us first.
    hops: Vec<Hop>,
    /// The client's own message.
    pub message: &'a [u8],
}

/// Takes the relays' words off a message.
pub fn unwrap(datagram: &[u8]) -> Result<Relayed<'_>, Malformed> {
    let (mut hops, mut rest) = (Vec::new(), datagram);
    while rest.first() == Some(&RELAY_FORW) {
        if hops.len() >= MAX_HOPS {
            return Err(Malformed::Relay);
        }
        let (header, body) = rest.split_at_checked(HEADER_BYTES).ok_or(Malformed::Short)?;
        let address = |at: usize| -> Result<Ipv6Addr, Malformed> {
            let bytes: [u8; 16] = header[at..at + 16].try_into().map_err(|_| Malformed::Short)?;
            Ok(Ipv6Addr::from(bytes))
        };
        let find = |wanted: u16| options(body).find(|(code, _)| *code == wanted).map(|(_, value)| value);
        hops.push(Hop {
            count: header[1],
            link: address(2)?,
            peer: address(18)?,
            interface: find(INTERFACE_ID).map(<[u8]>::to_vec),
            port: find(SOURCE_PORT).map(<[u8]>::to_vec),
        });
        rest = find(RELAY_MESSAGE).ok_or(Malformed::Relay)?;
    }
    Ok(Relayed { hops, message: rest })
}

impl Relayed<'_> {
    /// The client's address on its link, as the relay next to it saw it.
    pub fn client(&self) -> Option<Ipv6Addr> {
        self.hops.last().map(|hop| hop.peer)
    }

    /// An address on the client's link: that of the nearest relay that has one (RFC 8415 §13.1). `None`: it is on the link by which this
    /// came.
    pub fn link(&self) -> Option<Ipv6Addr> {
        self.hops
            .iter()
            .rev()
            .map(|hop| hop.link)
            .find(|link| !link.is_unspecified())
    }

    /// True if the answer goes to the port that the message came from, and not to the relay's usual one.
    pub fn to_its_port(&self) -> bool {
        self.hops.first().is_some_and(|hop| hop.port.is_some())
    }

    /// An answer with what each relay needs to send it on. `None`: it would be longer than a datagram here may be.
    pub fn wrap(&self, answer: Vec<u8>) -> Option<Vec<u8>> {
        let mut inner = answer;
        for hop in self.hops.iter().rev() {
            let mut out = vec![RELAY_REPL, hop.count];
            out.extend(hop.link.octets());
            out.extend(hop.peer.octets());
            if let Some(interface) = &hop.interface {
                put(&mut out, INTERFACE_ID, interface);
            }
            if let Some(port) = &hop.port {
                put(&mut out, SOURCE_PORT, port);
            }
            put(&mut out, RELAY_MESSAGE, &inner);
            if out.len() > MAX_DATAGRAM {
                return None;
            }
            inner = out;
        }
        Some(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

    fn forward(count: u8, link: Ipv6Addr, peer: &str, name: Option<&[u8]>, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![RELAY_FORW, count];
        out.extend(link.octets());
        out.extend(peer.parse::<Ipv6Addr>().unwrap().octets());
        put(&mut out, RELAY_MESSAGE, inner);
        if let Some(name) = name {
            put(&mut out, INTERFACE_ID, name);
        }
        out
    }

    #[test]
    fn an_answer_goes_back_the_way_the_question_came() {
        let link: Ipv6Addr = "fd12::7".parse().unwrap();
        let solicit = [1, 0, 0, 9];
        let near = forward(0, link, "fe80::9", Some(b"port 7"), &solicit);
        let both = forward(1, NONE, "fd00::3", None, &near);
        let relayed = unwrap(&both).unwrap();
        assert_eq!(relayed.message, solicit);
        assert_eq!(relayed.client(), Some("fe80::9".parse().unwrap()));
        assert_eq!(relayed.link(), Some(link));
        assert!(!relayed.to_its_port());
        let answer = relayed.wrap(vec![2, 0, 0, 9]).unwrap();
        // As the question, with the type of an answer, and its options the other way round.
        assert_eq!(answer[..2], [RELAY_REPL, 1]);
        assert_eq!(answer[2..34], both[2..34]);
        let (code, inner) = options(&answer[34..]).next().unwrap();
        assert_eq!((code, &inner[..2]), (RELAY_MESSAGE, &[RELAY_REPL, 0][..]));
        assert_eq!(inner[2..34], near[2..34]);
        let inside: Vec<_> = options(&inner[34..]).collect();
        assert_eq!(
            inside,
            [(INTERFACE_ID, &b"port 7"[..]), (RELAY_MESSAGE, &[2, 0, 0, 9][..])]
        );
    }

    #[test]
    fn a_switch_gives_no_link_and_the_client_is_on_ours() {
        let relayed = forward(0, NONE, "fe80::9", Some(b"1/0/7"), &[1, 0, 0, 9]);
        assert_eq!(unwrap(&relayed).unwrap().link(), None);
    }

    #[test]
    fn what_is_not_whole_or_goes_round_in_circles_is_dropped() {
        assert_eq!(unwrap(&[RELAY_FORW; 33]), Err(Malformed::Short));
        let mut empty = vec![0; 34];
        empty[0] = RELAY_FORW;
        assert_eq!(unwrap(&empty), Err(Malformed::Relay), "it relays nothing");
        let mut deep = vec![1, 0, 0, 9];
        for _ in 0..MAX_HOPS {
            deep = forward(0, NONE, "fe80::9", None, &deep);
        }
        assert!(unwrap(&deep).is_ok());
        let deeper = forward(0, NONE, "fe80::9", None, &deep);
        assert_eq!(unwrap(&deeper), Err(Malformed::Relay));
        let wide = forward(0, NONE, "fe80::9", Some(&[7; 1400]), &[1, 0, 0, 9]);
        assert_eq!(unwrap(&wide).unwrap().wrap(vec![0; 200]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_dropped(bytes in proptest::collection::vec(any::<u8>(), 0..200), forward: bool) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (forward, bytes.first_mut()) {
                *first = RELAY_FORW;
            }
            if let Ok(relayed) = unwrap(&bytes) {
                let _ = relayed.wrap(vec![7; 20]);
            }
        }
    }
}
