//! Interfaces of a boot image that are made of ports: several as one, and a VLAN on it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::config::boot_file::Network;
use crate::model::console::console;
use crate::model::{BondMode, MacAddr};
use crate::sys::netif::{self, Link, Netlink};

const SYS: &str = "/sys";
/// How often ports are looked for.
const POLL: Duration = Duration::from_millis(500);
/// A wait is mentioned so often.
const MENTION: Duration = Duration::from_secs(10);
/// The other ports of a bond have this long to appear once one has.
const BOND_PORTS: Duration = Duration::from_secs(10);
/// The kernel makes a bond of its own with the usual name.
const BOND: &str = "bond-boot";

/// Modules that the kernel would have modprobe load for these settings.
pub(super) fn modules(network: &Network) -> Vec<&'static str> {
    let bond = (!network.bond.is_empty()).then_some("bonding");
    let vlan = network.vlan.map(|_| "8021q");
    bond.into_iter().chain(vlan).collect()
}

/// The VLAN on an interface, or the interface itself.
pub(super) async fn above(netlink: &Netlink, link: &Link, vlan: Option<u16>) -> anyhow::Result<Link> {
    let Some(number) = vlan else { return Ok(link.clone()) };
    let name = format!("vlan{number}p{}", link.index);
    let made = netlink.add_vlan(&name, link.index, number).await;
    made.with_context(|| format!("making VLAN {number} on {}", link.name))?;
    Ok(carrier(&name).await)
}

/// Makes one port of several.
pub(super) async fn bond(netlink: &Netlink, ports: &[MacAddr], mode: BondMode) -> anyhow::Result<Link> {
    let links = ports_of_bond(ports).await;
    netlink.add_bond(BOND, mode == BondMode::Lacp).await.context(BOND)?;
    let made = netif::link_named(Path::new(SYS), BOND).with_context(|| format!("{BOND} is not there"))?;
    for link in &links {
        // The kernel takes no port that is up.
        netlink.down(link.index).await.with_context(|| link.name.clone())?;
        netlink
            .enslave(link.index, made.index)
            .await
            .with_context(|| link.name.clone())?;
    }
    netlink.up(made.index).await.context(BOND)?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    console!("{BOND} is {} ({mode})", names.join(" and "));
    Ok(carrier(BOND).await)
}

/// Those of the ports that are there, once all are or the others had their time.
async fn ports_of_bond(ports: &[MacAddr]) -> Vec<Link> {
    let mut mentioned = Instant::now();
    let mut first = None;
    loop {
        let links = netif::wired_links(Path::new(SYS)).unwrap_or_default();
        let (here, missing) = split(links, ports);
        if !here.is_empty() {
            let since = *first.get_or_insert_with(Instant::now);
            if missing.is_empty() {
                return here;
            }
            if since.elapsed() >= BOND_PORTS {
                console!(
                    "going on without the port {}: no driver has brought it up",
                    list(&missing)
                );
                return here;
            }
        }
        if mentioned.elapsed() >= MENTION {
            mentioned = Instant::now();
            console!(
                "waiting for the port {}: no driver has brought it up yet",
                list(&missing)
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

fn list(ports: &[MacAddr]) -> String {
    let names: Vec<String> = ports.iter().map(MacAddr::to_string).collect();
    names.join(" and ")
}

/// Those that are meant, and the MAC addresses that none of them has.
fn split(links: Vec<Link>, ports: &[MacAddr]) -> (Vec<Link>, Vec<MacAddr>) {
    let here: Vec<Link> = links.into_iter().filter(|link| ports.contains(&link.mac)).collect();
    let is_missing = |mac: &&MacAddr| !here.iter().any(|link| link.mac == **mac);
    let missing = ports.iter().filter(is_missing).copied().collect();
    (here, missing)
}

/// An interface of ours, once its ports have a carrier.
async fn carrier(name: &str) -> Link {
    let mut mentioned = Instant::now();
    loop {
        if let Some(link) = netif::link_named(Path::new(SYS), name).filter(|link| link.carrier) {
            return link;
        }
        if mentioned.elapsed() >= MENTION {
            mentioned = Instant::now();
            console!("waiting for carrier on {name}: check cable and switch");
        }
        tokio::time::sleep(POLL / 5).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(number: u8) -> Link {
        Link {
            name: format!("eth{number}"),
            index: u32::from(number),
            mac: MacAddr([2, 0, 0, 0, 0, number]),
            carrier: true,
        }
    }

    #[test]
    fn modules_are_those_of_what_is_set() {
        let of = |text: &str| {
            let file = crate::config::boot_file::BootFile::read(text.as_bytes());
            modules(&file.unwrap_or_else(|why| panic!("{why}")).network)
        };
        assert!(of("").is_empty());
        assert_eq!(of("[network]\nvlan = 7\n"), ["8021q"]);
        let bond = "[network]\nbond = [\"02:00:00:00:00:01\", \"02:00:00:00:00:02\"]\nvlan = 7\n";
        assert_eq!(of(bond), ["bonding", "8021q"]);
    }

    #[test]
    fn the_ports_of_a_bond_are_those_that_are_named() {
        let macs = [1, 3].map(|number| link(number).mac);
        let (here, missing) = split(vec![link(1), link(2)], &macs);
        assert_eq!((here, missing), (vec![link(1)], vec![link(3).mac]));
        let (here, missing) = split(vec![link(3), link(1)], &macs);
        assert_eq!((here.len(), missing.len()), (2, 0));
    }
}
