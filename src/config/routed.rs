//! `[[subnet]]` of `recon.toml`: networks behind routers, whose machines ask through relays. No I/O.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::fault::Fault;
use super::subnet::{Network, Pool, Subnet, host};

/// Networks behind routers; more are a mistake, and each request is compared with all of them.
pub(crate) const MAX_SUBNETS: usize = 1_000;
/// Relays of one network that lie outside of it.
pub(crate) const MAX_RELAYS: usize = 64;

/// One `[[subnet]]` as it is written.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Entry {
    #[serde(skip)]
    pub line: usize,
    /// A key of it could not be read, which is a fault of its own.
    #[serde(skip)]
    pub broken: bool,
    pub subnet: Option<Network>,
    /// First and last address to lease, within `subnet`.
    pub lease_range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// The machines' way out of it.
    pub router: Option<Ipv4Addr>,
    /// This machine's way to it: a router on one of its own links.
    pub via: Option<Ipv4Addr>,
    /// Addresses of relays that lie outside of `subnet`.
    pub relays: Vec<Ipv4Addr>,
}

/// A network behind a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(super) net: Network,
    pool: Pool,
    router: Ipv4Addr,
    via: Option<Ipv4Addr>,
    relays: Vec<Ipv4Addr>,
}

impl Routed {
    /// The network as a server at this address serves it.
    pub(crate) fn subnet(&self, server: Ipv4Addr) -> Subnet {
        Subnet {
            server,
            network: self.net.base.into(),
            prefix: self.net.prefix,
            router: Some(self.router),
            lease_first: self.pool.first.into(),
            lease_last: self.pool.last.into(),
        }
    }

    /// As it is written.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            line: 0,
            broken: false,
            subnet: Some(self.net),
            lease_range: Some((self.pool.first.into(), self.pool.last.into())),
            router: Some(self.router),
            via: self.via,
            relays: self.relays.clone(),
        }
    }

    /// Routes to it and to its relays, where `contains` is true for the next hop: destination, prefix length, next hop.
    pub(crate) fn ways(&self, contains: impl Fn(Ipv4Addr) -> bool) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
        let Some(via) = self.via.filter(|via| contains(*via)) else {
            return Vec::new();
        };
        let relays = self.relays.iter().filter(|relay| **relay != via && !contains(**relay));
        std::iter::once((self.net.base.into(), self.net.prefix, via))
            .chain(relays.map(|relay| (*relay, 32, via)))
            .collect()
    }
}

/// Checks every entry. `link`: the first link's subnet, in which machines need no relay. One with a mistake is left out, and the
/// mistake is a fault that names the entry, counted from 1, and what to write instead.
pub(crate) fn check(entries: Vec<Entry>, link: Network, faults: &mut Vec<Fault>) -> Vec<Routed> {
    let mut checked: Vec<Routed> = Vec::new();
    for (index, entry) in entries.into_iter().take(MAX_SUBNETS).enumerate() {
        if entry.broken {
            continue;
        }
        let line = Some(entry.line);
        match check_one(entry, link, &checked) {
            Ok(routed) => checked.push(routed),
            Err(reason) => faults.push(Fault {
                line,
                what: format!("[[subnet]] number {}: {reason}", index + 1),
            }),
        }
    }
    checked
}

fn check_one(entry: Entry, link: Network, above: &[Routed]) -> Result<Routed, String> {
    let net = entry.subnet.ok_or("needs subnet")?;
    let (router, pool) = addresses(net, entry.router, entry.lease_range)?;
    if entry.via.is_some_and(|via| net.hosts().contains(&via.into())) {
        return Err(format!(
            "via: this is the router's address on the master's own link, not one in {net}"
        ));
    }
    if net.overlaps(link) {
        return Err(format!(
            "{net} is part of network.subnet, or the other way round: machines there need no entry of their own"
        ));
    }
    if above.iter().any(|other| other.net.overlaps(net)) {
        return Err(format!("{net} overlaps with an entry above"));
    }
    Ok(Routed {
        net,
        pool,
        router: router.into(),
        via: entry.via,
        relays: entry.relays,
    })
}

/// The router, and what is leased.
fn addresses(
    net: Network,
    router: Option<Ipv4Addr>,
    lease_range: Option<(Ipv4Addr, Ipv4Addr)>,
) -> Result<(u32, Pool), String> {
    let hosts = net.hosts();
    let named = |key: &'static str| move |reason: String| format!("{key}: {reason}");
    let router = router.map_or(Ok(hosts.start), |address| {
        host(&hosts, address).map_err(named("router"))
    })?;
    let written = Ipv4Addr::from(router);
    let pool = match lease_range {
        Some(range) => Pool::between(&hosts, range).map_err(named("lease-range"))?,
        None => Pool::beside(&hosts, router).ok_or_else(|| {
            format!("the router {written} is in the middle of the network: name a lease-range without it")
        })?,
    };
    if (pool.first..=pool.last).contains(&router) {
        return Err(format!("lease-range holds the router {written}"));
    }
    Ok((router, pool))
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;
    use std::net::Ipv4Addr;

    fn settings(text: &str) -> Result<Settings, String> {
        Settings::parse(text).map_err(|faults| faults.to_string())
    }

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 219, 1);

    #[test]
    fn a_network_behind_a_router_has_a_pool_a_router_and_a_way() {
        let text = r#"
            [[subnet]]
            subnet = "10.1.0.0/24"
            via = "192.168.219.3"
            relays = ["10.255.0.1", "192.168.219.3"]
            [[subnet]]
            subnet = "10.2.0.0/28"
            router = "10.2.0.14"
        "#;
        let settings = settings(text).unwrap();
        let routed: Vec<_> = settings.routed(SERVER).collect();
        assert_eq!(routed[0].server, SERVER);
        assert_eq!(routed[0].netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(routed[0].broadcast(), Ipv4Addr::new(10, 1, 0, 255));
        assert!(routed[0].contains(Ipv4Addr::new(10, 1, 0, 7)) && !routed[0].contains(SERVER));
        assert_eq!(routed[0].router, Some(Ipv4Addr::new(10, 1, 0, 1)), "the first host");
        assert_eq!(routed[0].lease_first, Ipv4Addr::new(10, 1, 0, 20));
        assert_eq!(routed[1].lease_first, Ipv4Addr::new(10, 2, 0, 1));
        assert_eq!(
            routed[1].lease_last,
            Ipv4Addr::new(10, 2, 0, 13),
            "the router is left out"
        );
        let link = settings.subnet(0).unwrap();
        let via = Ipv4Addr::new(192, 168, 219, 3);
        let ways = settings.ways(|address| link.contains(address));
        assert_eq!(
            ways,
            [
                (Ipv4Addr::new(10, 1, 0, 0), 24, via),
                (Ipv4Addr::new(10, 255, 0, 1), 32, via)
            ]
        );
        assert_eq!(settings.ways(|_| false), [], "another link has no way to it");
    }

    #[test]
    fn what_cannot_be_is_named_by_its_number() {
        for (entry, want) in [
            (
                "subnet = \"10.1.0.0\"",
                "number 1: subnet: \"10.1.0.0\" is not a subnet",
            ),
            ("subnet = \"192.168.219.128/25\"", "is part of network.subnet"),
            ("subnet = \"192.168.0.0/16\"", "or the other way round"),
            (
                "subnet = \"10.1.0.0/24\"\nrouter = \"10.2.0.1\"",
                "router: 10.2.0.1 is outside 10.1.0.1 to 10.1.0.254",
            ),
            (
                "subnet = \"10.1.0.0/24\"\nrouter = \"10.1.0.99\"",
                "name a lease-range without it",
            ),
            (
                "subnet = \"10.1.0.0/24\"\nlease-range = [\"10.1.0.1\", \"10.1.0.9\"]",
                "lease-range holds the router",
            ),
            (
                "subnet = \"10.1.0.0/24\"\nlease-range = [\"10.1.0.9\", \"10.1.0.5\"]",
                "first address is above the last",
            ),
            (
                "subnet = \"10.1.0.0/24\"\nvia = \"10.1.0.1\"",
                "on the master's own link",
            ),
            ("subnet = \"10.1.0.0/24\"\nvia = \"here\"", "is not an IPv4 address"),
            (
                "subnet = \"10.1.0.0/24\"\n[[subnet]]\nsubnet = \"10.1.0.0/16\"",
                "number 2: 10.1.0.0/16 overlaps",
            ),
        ] {
            let error = settings(&format!("[[subnet]]\n{entry}\n")).unwrap_err();
            assert!(error.contains(want), "{entry}: {error}");
        }
    }

    #[test]
    fn links_pass_over_networks_behind_routers() {
        let text = "[[subnet]]\nsubnet = \"192.168.220.0/24\"\n[[subnet]]\nsubnet = \"192.168.222.0/23\"\n";
        let settings = settings(text).unwrap();
        let server = |index| settings.subnet(index).map(|subnet| subnet.server.octets()[2]);
        assert_eq!([0, 1, 2, 3].map(server), [Some(219), Some(221), Some(224), Some(225)]);
    }

    #[test]
    fn a_port_of_a_network_behind_a_router_may_have_its_own_address() {
        let text =
            "[[subnet]]\nsubnet = \"10.1.0.0/24\"\n[[node]]\nmac = \"52:54:00:00:00:03\"\naddress = \"10.1.0.7\"\n";
        let settings = settings(text).unwrap();
        let routed = settings.routed(SERVER).next().unwrap();
        let kept: Vec<_> = settings.reservations(routed).map(|(_, address)| address).collect();
        assert_eq!(kept, [Ipv4Addr::new(10, 1, 0, 7)]);
        assert_eq!(settings.reservations(settings.subnet(0).unwrap()).count(), 0);
    }
}
