//! ICMPv6 messages of routers and hosts, without the IPv6 header and with a checksum that the kernel fills in. Pure.

use std::net::Ipv6Addr;

use crate::model::MacAddr;
use crate::model::ula::{LINK_PREFIX, Prefix64};

/// RFC 4861 §4.1, §4.2.
pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;

/// Managed and other configuration: addresses and everything else come by DHCPv6.
const MANAGED_AND_OTHER: u8 = 0xc0;
/// Prefix information flags (RFC 4861 §4.6.2): on-link, and no address made of it by the host itself.
const ON_LINK: u8 = 0x80;
/// Hop limit that hosts start with.
const HOP_LIMIT: u8 = 64;

/// What is advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    pub mac: MacAddr,
    pub prefix: Prefix64,
    /// Seconds the prefix stays on this link; 0 takes it back.
    pub seconds: u32,
}

/// A router advertisement. The router lifetime is 0: we are nobody's way to anywhere.
pub fn advertisement(advertised: &Advertised) -> Vec<u8> {
    let Advertised { mac, prefix, seconds } = advertised;
    let flags = if *seconds > 0 { MANAGED_AND_OTHER } else { 0 };
    // Type, code, checksum; hop limit, flags, router lifetime; reachable time and retransmission timer unspecified.
    let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
    bytes.resize(16, 0);
    bytes.extend(link_layer(*mac));
    bytes.extend([3, 4, LINK_PREFIX, ON_LINK]);
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(seconds.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(prefix.network().octets());
    // RFC 8106 §5.1: the DNS server, for hosts that read it nowhere else.
    bytes.extend([NAME_SERVERS, 3, 0, 0]);
    bytes.extend(seconds.to_be_bytes());
    bytes.extend(prefix.server().octets());
    bytes
}

/// A router solicitation: who routes here?
pub fn solicitation(mac: MacAddr) -> Vec<u8> {
    let mut bytes = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(link_layer(mac));
    bytes
}

/// RFC 4861 §4.3 and §4.4.
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Source and target link-layer address (RFC 4861 §4.6.1).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Recursive DNS server (RFC 8106 §5.1).
const NAME_SERVERS: u8 = 25;

/// A neighbour solicitation: who has this address? And the group of those who may (RFC 4291 §2.7.1).
pub fn who_has(mac: MacAddr, target: Ipv6Addr) -> (Vec<u8>, Ipv6Addr) {
    let mut bytes = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    bytes.extend(link_layer(mac));
    let [.., low, last] = target.segments();
    (bytes, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (low & 0xff), last))
}

/// A neighbour advertisement whose hop limit and checksum were checked: the address, and the hardware address that has it, if it says
/// so. `None` where it is none or is malformed (RFC 4861 §7.1.2).
pub fn has(message: &[u8]) -> Option<(Ipv6Addr, Option<MacAddr>)> {
    let [NEIGHBOUR_ADVERTISEMENT, 0, ..] = message else {
        return None;
    };
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    Some((target.into(), link_layer_of(TARGET_LINK_LAYER, &message[24..])?))
}

/// Where a message is from, as an option.
fn link_layer(mac: MacAddr) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [SOURCE_LINK_LAYER, 1, a, b, c, d, e, f]
}

/// Something heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouterMessage {
    /// A host asks for routers.
    Solicitation,
    /// A router speaks.
    Advertisement {
        mac: Option<MacAddr>,
        /// Seconds for which it wants to be a default router.
        lifetime: u16,
    },
}

/// Reads a message whose hop limit and checksum were checked (RFC 4861 §6.1); `None` where it is neither or is malformed.
pub fn heard(message: &[u8], from: Ipv6Addr) -> Option<RouterMessage> {
    let [kind, 0, ..] = message else { return None };
    match *kind {
        ROUTER_SOLICITATION => {
            let source = link_layer_of(SOURCE_LINK_LAYER, message.get(8..)?)?;
            // §6.1.1: who has no address cannot have a link-layer address to be remembered under it.
            (source.is_none() || !from.is_unspecified()).then_some(RouterMessage::Solicitation)
        }
        ROUTER_ADVERTISEMENT => {
            let mac = link_layer_of(SOURCE_LINK_LAYER, message.get(16..)?)?;
            let lifetime = u16::from_be_bytes([message[6], message[7]]);
            from.is_unicast_link_local()
                .then_some(RouterMessage::Advertisement { mac, lifetime })
        }
        _ => None,
    }
}

/// The servers that resolve names, by a router advertisement whose hop limit and checksum were checked (RFC 8106 §5.1). None where it is no
/// such message or malformed.
pub fn name_servers(message: &[u8]) -> Vec<Ipv6Addr> {
    let mut servers = Vec::new();
    let [ROUTER_ADVERTISEMENT, 0, ..] = message else {
        return servers;
    };
    let add = |option: &[u8]| {
        // Type, length, two bytes that mean nothing yet, seconds; 0 of them take the servers back.
        if let [NAME_SERVERS, _, _, _, seconds @ ..] = option
            && let Some((lifetime, addresses)) = seconds.split_first_chunk::<4>()
            && *lifetime != [0; 4]
        {
            let (addresses, _) = addresses.as_chunks::<16>();
            servers.extend(addresses.iter().map(|octets| Ipv6Addr::from(*octets)));
        }
    };
    match each_option(message.get(16..).unwrap_or_default(), add) {
        Some(()) => servers,
        None => Vec::new(),
    }
}

/// Walks the options for a link-layer address, of which the last counts. `None`: they are malformed.
fn link_layer_of(wanted: u8, options: &[u8]) -> Option<Option<MacAddr>> {
    let mut found = None;
    each_option(options, |option| {
        if option[0] == wanted
            && let Ok(mac) = option[2..8].try_into()
        {
            found = Some(MacAddr(mac));
        }
    })?;
    Some(found)
}

/// Shows each option (RFC 4861 §4.6), whole, at least 8 bytes of it. `None`: one has no length or ends behind the message.
fn each_option(mut options: &[u8], mut see: impl FnMut(&[u8])) -> Option<()> {
    while let [_, units, ..] = options {
        let length = usize::from(*units) * 8;
        if length == 0 {
            return None;
        }
        see(options.get(..length)?);
        options = &options[length..];
    }
    options.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ula::Ula;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 5]);

    fn router() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    #[test]
    fn hosts_are_sent_to_dhcpv6_and_nowhere_else() {
        let bytes = advertisement(&Advertised {
            mac: MAC,
            prefix: Ula::drawn(0x12_3456_789a).link(0),
            seconds: 3600,
        });
        assert_eq!(bytes[5], 0xc0, "managed and other");
        assert_eq!(bytes[6..8], [0, 0], "no default router");
        assert_eq!(bytes[24..28], [3, 4, 64, 0x80], "a prefix on the link, not autonomous");
        assert_eq!(bytes[40..46], [0xfd, 0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!(
            heard(&bytes, router()),
            Some(RouterMessage::Advertisement {
                mac: Some(MAC),
                lifetime: 0
            })
        );
    }

    #[test]
    fn the_last_word_takes_everything_back() {
        let prefix = Ula::drawn(1).link(0);
        let bytes = advertisement(&Advertised {
            mac: MAC,
            prefix,
            seconds: 0,
        });
        assert_eq!(bytes[5], 0);
        assert_eq!(bytes[28..36], [0; 8], "valid and preferred lifetime");
    }

    #[test]
    fn what_the_rfc_calls_invalid_is_not_heard() {
        let solicitation = solicitation(MAC);
        assert_eq!(heard(&solicitation, router()), Some(RouterMessage::Solicitation));
        assert_eq!(heard(&solicitation, Ipv6Addr::UNSPECIFIED), None);
        assert_eq!(
            heard(&solicitation[..8], Ipv6Addr::UNSPECIFIED),
            Some(RouterMessage::Solicitation)
        );
        for cut in 9..16 {
            assert_eq!(heard(&solicitation[..cut], router()), None, "{cut} bytes");
        }
        let advertisement = advertisement(&Advertised {
            mac: MAC,
            prefix: Ula::drawn(1).link(0),
            seconds: 1,
        });
        assert_eq!(heard(&advertisement, "2001:db8::1".parse().unwrap()), None);
        let mut endless = advertisement.clone();
        endless[17] = 0;
        assert_eq!(heard(&endless, router()), None);
    }

    #[test]
    fn name_servers_are_those_that_are_not_taken_back() {
        let mut bytes = advertisement(&Advertised {
            mac: MAC,
            prefix: Ula::drawn(1).link(0),
            seconds: 1,
        });
        let own = Ula::drawn(1).link(0).server();
        assert_eq!(name_servers(&bytes), [own]);
        // Two in one option, for 1800 s.
        bytes.extend([25, 5, 0, 0, 0, 0, 7, 8]);
        let two: [Ipv6Addr; 2] = ["fe80::53".parse().unwrap(), "2001:db8::53".parse().unwrap()];
        bytes.extend(two.iter().flat_map(Ipv6Addr::octets));
        assert_eq!(name_servers(&bytes), [own, two[0], two[1]]);
        // An option without an address, and one that takes back.
        let length = bytes.len();
        bytes.extend([25, 1, 0, 0, 0, 0, 0, 1]);
        bytes[length - 36..length - 32].fill(0);
        assert_eq!(name_servers(&bytes), [own]);
        for cut in 0..bytes.len() {
            assert!(name_servers(&bytes[..cut]).len() <= 1, "{cut} bytes");
        }
        assert!(name_servers(&bytes[..bytes.len() - 1]).is_empty(), "malformed");
        assert!(name_servers(&solicitation(MAC)).is_empty());
    }

    #[test]
    fn a_neighbour_is_asked_and_heard() {
        let target: Ipv6Addr = "fd12:3456:789a::1:2345".parse().unwrap();
        let (question, group) = who_has(MAC, target);
        assert_eq!(group, "ff02::1:ff01:2345".parse::<Ipv6Addr>().unwrap());
        assert_eq!(
            (question.len(), question[0], &question[8..24]),
            (32, 135, &target.octets()[..])
        );
        assert_eq!(has(&question), None);
        let mut answer = question;
        answer[0] = NEIGHBOUR_ADVERTISEMENT;
        assert_eq!(has(&answer), Some((target, None)), "that is a source's address");
        answer[24] = TARGET_LINK_LAYER;
        assert_eq!(has(&answer), Some((target, Some(MAC))));
        assert_eq!(has(&answer[..24]), Some((target, None)));
        answer[25] = 0;
        assert_eq!(has(&answer), None, "an option without a length");
        for length in 0..24 {
            assert_eq!(has(&answer[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_heard_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 132u8..136) {
            let _ = (heard(&bytes, router()), name_servers(&bytes));
            let mut bytes = bytes;
            bytes.splice(..0, [kind, 0]);
            let _ = (heard(&bytes, router()), name_servers(&bytes));
        }
    }
}
