//! IPv4 networks, and what is handed out in them. Pure.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A network: its own address, and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub base: u32,
    pub prefix: u8,
}

impl Network {
    /// The one that an address is in.
    pub(crate) fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let base = u32::from(address) & mask_bits(prefix);
        Network { base, prefix }
    }

    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask_bits(self.prefix) == self.base
    }

    /// Its broadcast address.
    fn last(self) -> u32 {
        self.base | !mask_bits(self.prefix)
    }

    /// Hosts, without network and broadcast address.
    pub(super) fn hosts(self) -> Range<u32> {
        self.base + 1..self.last()
    }

    /// True if both share an address.
    pub(super) fn overlaps(self, other: Network) -> bool {
        let mask = mask_bits(self.prefix.min(other.prefix));
        self.base & mask == other.base & mask
    }

    /// First address behind it that is a multiple of `size`, a power of two.
    pub(super) fn behind(self, size: u32) -> u32 {
        let last = self.last();
        last.checked_next_multiple_of(size)
            .filter(|next| *next > last)
            .or_else(|| last.checked_add(1)?.checked_next_multiple_of(size))
            .unwrap_or(u32::MAX)
    }
}

/// As it is written in `recon.toml`.
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl FromStr for Network {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let error = || NoSubnet::Text(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let prefix = prefix.parse().map_err(|_| error())?;
        check_prefix(prefix)?;
        if address.is_loopback() || address.is_multicast() || address.is_unspecified() || address.octets()[0] >= 240 {
            return Err(NoSubnet::Reserved(address));
        }
        Ok(Network::around(address, prefix))
    }
}

/// Why this is no network to serve machines in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSubnet {
    #[error("{0:?} is not a subnet such as 192.168.219.0/24")]
    Text(String),
    #[error("/{0}: the prefix length must be from 8 to 29")]
    Prefix(u8),
    #[error("{0} cannot be given to machines")]
    Reserved(Ipv4Addr),
    #[error("{0}/{1} is the network's or the broadcast address, not a host's")]
    NoHost(Ipv4Addr, u8),
}

fn check_prefix(prefix: u8) -> Result<(), NoSubnet> {
    match prefix {
        8..=29 => Ok(()),
        _ => Err(NoSubnet::Prefix(prefix)),
    }
}

/// First and last address to lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pool {
    pub first: u32,
    pub last: u32,
}

/// Addresses at the start of a large network that stay free for things a person gives a fixed address by hand, its own among them.
const FIRST_OFFSET: u32 = 20;

impl Pool {
    /// From one of `hosts` to another. An error is a sentence without the key's name.
    pub(super) fn between(hosts: &Range<u32>, (first, last): (Ipv4Addr, Ipv4Addr)) -> Result<Pool, String> {
        let (first, last) = (host(hosts, first)?, host(hosts, last)?);
        if first > last {
            return Err("the first address is above the last".to_owned());
        }
        Ok(Pool { first, last })
    }

    /// All of `hosts` beside a router at either end of them; large networks leave some free at their start. `None` where the router is
    /// in the middle.
    pub(super) fn beside(hosts: &Range<u32>, router: u32) -> Option<Pool> {
        let last = hosts.end - 1;
        let first = match hosts.len() > 64 {
            true => hosts.start + FIRST_OFFSET - 1,
            false => hosts.start,
        };
        match router {
            router if router < first => Some(Pool { first, last }),
            router if router == first => Some(Pool { first: first + 1, last }),
            router if router == last => Some(Pool { first, last: last - 1 }),
            _ => None,
        }
    }
}

/// An address that has to be one of `hosts`. An error is a sentence without the key's name.
pub(super) fn host(hosts: &Range<u32>, address: Ipv4Addr) -> Result<u32, String> {
    let (first, last) = (Ipv4Addr::from(hosts.start), Ipv4Addr::from(hosts.end - 1));
    match hosts.contains(&address.into()) {
        true => Ok(address.into()),
        false => Err(format!("{address} is outside {first} to {last}")),
    }
}

/// The netmask of a prefix length.
fn mask_bits(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Who gets an address, and for how long: the same on every link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasePolicy {
    pub lease_seconds: u32,
    /// Addresses also for machines that do not boot from the network.
    pub serve_all: bool,
}

impl Default for LeasePolicy {
    fn default() -> Self {
        LeasePolicy {
            lease_seconds: 3600,
            serve_all: false,
        }
    }
}

/// Addresses of one link, or of a network behind a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Ours: as a rule the first host of the subnet; on one of our links, where the subnet is behind a router.
    pub server: Ipv4Addr,
    /// The subnet's own address.
    pub network: Ipv4Addr,
    pub prefix: u8,
    /// The machines' way to this server; none on a link of ours.
    pub router: Option<Ipv4Addr>,
    /// Inclusive.
    pub lease_first: Ipv4Addr,
    /// Inclusive.
    pub lease_last: Ipv4Addr,
}

impl Subnet {
    pub(super) fn net(&self) -> Network {
        Network::around(self.network, self.prefix)
    }

    pub fn netmask(&self) -> Ipv4Addr {
        mask_bits(self.prefix).into()
    }

    pub fn broadcast(&self) -> Ipv4Addr {
        self.net().last().into()
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.net().contains(address)
    }

    /// A subnet with the server's own address given and every other host leasable, for `recon master --link`.
    ///
    /// # Errors
    /// For a prefix length that no network to serve has, and where the address is no host's.
    pub fn around(server: Ipv4Addr, prefix: u8) -> Result<Self, NoSubnet> {
        check_prefix(prefix)?;
        let net = Network::around(server, prefix);
        let hosts = net.hosts();
        if !hosts.contains(&u32::from(server)) {
            return Err(NoSubnet::NoHost(server, prefix));
        }
        // The longer side of the server's address becomes the pool.
        let own = u32::from(server);
        let below = hosts.start..own;
        let above = own + 1..hosts.end;
        let pool = if above.len() >= below.len() { above } else { below };
        Ok(Subnet {
            server,
            network: net.base.into(),
            prefix,
            router: None,
            lease_first: pool.start.into(),
            lease_last: (pool.end - 1).into(),
        })
    }
}
