//! Unique local IPv6 prefixes (RFC 4193) of a run. Chance comes in as an argument.

use std::fmt;
use std::net::Ipv6Addr;

use super::MacAddr;

/// A `/48` of our own: `fd`, 40 bits drawn by lot, and one `/64` for each served link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ula {
    /// The upper 48 bits, in the lower 48 bits of this number.
    bits: u64,
}

/// The `/64` of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix64 {
    bits: u64,
}

/// Length of every prefix on a link.
pub const LINK_PREFIX: u8 = 64;
/// RFC 4193 §3.1: `fc00::/7` with the L bit, which says that the global ID was drawn locally.
const LOCAL: u64 = 0xfd;

impl Ula {
    /// Takes the 40 bits of the global ID (RFC 4193 §3.2.1) from `random`.
    pub fn drawn(random: u64) -> Self {
        Ula {
            bits: (LOCAL << 40) | (random & 0xff_ffff_ffff),
        }
    }

    /// The prefix in which this address is, if it is a unique local one drawn locally.
    pub fn of(address: Ipv6Addr) -> Option<Self> {
        let bits = (u128::from(address) >> 80) as u64;
        (bits >> 40 == LOCAL).then_some(Ula { bits })
    }

    /// Prefix of the `place`th served link; the place becomes the subnet ID.
    pub fn link(self, place: u16) -> Prefix64 {
        Prefix64 {
            bits: (self.bits << 16) | u64::from(place),
        }
    }
}

impl Prefix64 {
    pub fn network(self) -> Ipv6Addr {
        self.host(0)
    }

    /// Ours: the first host.
    pub fn server(self) -> Ipv6Addr {
        self.host(1)
    }

    pub fn host(self, host: u64) -> Ipv6Addr {
        Ipv6Addr::from((u128::from(self.bits) << 64) | u128::from(host))
    }

    pub fn contains(self, address: Ipv6Addr) -> bool {
        (u128::from(address) >> 64) as u64 == self.bits
    }
}

impl fmt::Display for Prefix64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{LINK_PREFIX}", self.network())
    }
}

/// The hardware address inside a modified EUI-64 interface identifier (RFC 4291 appendix A), which is what firmware and
/// kernels make their link-local address of; `None` where the address was made otherwise.
pub fn mac_of(address: Ipv6Addr) -> Option<MacAddr> {
    let octets = address.octets();
    let [a, b, c, 0xff, 0xfe, d, e, f] = octets[8..] else {
        return None;
    };
    let mac = MacAddr([a ^ 2, b, c, d, e, f]);
    (!mac.is_unusable()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_link_has_a_prefix_of_its_own() {
        let ula = Ula::drawn(0x12_3456_789a);
        assert_eq!(ula.link(0).to_string(), "fd12:3456:789a::/64");
        assert_eq!(ula.link(3).server(), "fd12:3456:789a:3::1".parse::<Ipv6Addr>().unwrap());
        assert!(!ula.link(3).contains(ula.link(4).server()));
    }

    #[test]
    fn the_hardware_address_is_found_where_it_is() {
        assert_eq!(
            mac_of("fe80::5054:ff:fe12:3456".parse().unwrap()),
            Some("52:54:00:12:34:56".parse().unwrap())
        );
        assert_eq!(mac_of("fe80::1".parse().unwrap()), None);
        assert_eq!(mac_of("fe80::8c1a:12c:78e4:12".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn every_draw_is_a_local_prefix_that_is_found_again(random in any::<u64>(), place in any::<u16>(), host in any::<u64>()) {
            let ula = Ula::drawn(random);
            let address = ula.link(place).host(host);
            prop_assert_eq!(address.octets()[0], 0xfd);
            prop_assert_eq!(Ula::of(address), Some(ula));
            prop_assert!(ula.link(place).contains(address));
        }

        #[test]
        fn any_address_is_read(bits in any::<u128>()) {
            let _ = (mac_of(bits.into()), Ula::of(bits.into()));
        }
    }
}
