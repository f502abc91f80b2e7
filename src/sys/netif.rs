//! Network interfaces: which there are, up and down, addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{BondMode, LinkMessage};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{Handle, LinkBond, LinkMessageBuilder, LinkUnspec, LinkVlan, RouteMessageBuilder};

use crate::model::MacAddr;
use crate::model::inventory::is_wired_port;

/// An Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub name: String,
    pub index: u32,
    pub mac: MacAddr,
    /// The kernel sees a partner; always false while the interface is down.
    pub carrier: bool,
}

/// ARPHRD_ETHER of include/uapi/linux/if_arp.h.
const ETHERNET: &str = "1";

/// Wired Ethernet ports by [`is_wired_port`], in the kernel's order. A port that vanishes while it is looked at is
/// left out.
pub(crate) fn wired_links(sys: &Path) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for entry in std::fs::read_dir(sys.join("class/net"))? {
        let path = entry?.path();
        let driver = std::fs::read_link(path.join("device/driver")).ok();
        let driver = driver
            .as_deref()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        if is_wired_port(text(&path, "type").as_deref(), driver, |file| path.join(file).exists()) {
            links.extend(read_link(&path));
        }
    }
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// One interface by name, whatever it is.
pub(crate) fn link_named(sys: &Path, name: &str) -> Option<Link> {
    read_link(&sys.join("class/net").join(name))
}

/// The number of an interface, whatever it is; `name` may be anything.
pub(crate) fn index_named(sys: &Path, name: &str) -> Option<u32> {
    let is_plain = !name.contains('/') && !matches!(name, "" | "." | "..");
    let port = sys.join("class/net").join(name);
    text(&port, "ifindex").filter(|_| is_plain)?.parse().ok()
}

fn text(port: &Path, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(port.join(file)).ok()?;
    Some(text.trim().to_owned())
}

fn read_link(path: &Path) -> Option<Link> {
    let text = |file: &str| text(path, file);
    if text("type")? != ETHERNET {
        return None;
    }
    Some(Link {
        name: path.file_name()?.to_str()?.to_owned(),
        index: text("ifindex")?.parse().ok()?,
        mac: text("address")?.parse().ok()?,
        carrier: text("carrier").as_deref() == Some("1"),
    })
}

/// Changes interfaces through rtnetlink.
#[derive(Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens the socket; its driver runs on the present runtime until the handle is gone.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Netlink { handle })
    }

    pub(crate) async fn up(&self, index: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).up()).await
    }

    pub(crate) async fn down(&self, index: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).down()).await
    }

    /// Gives an interface another name. Fails with EEXIST where another one has it, and before Linux 6.2 with EBUSY while it is up.
    pub(crate) async fn rename(&self, index: u32, name: &str) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).name(name.to_owned())).await
    }

    async fn set(&self, link: LinkMessageBuilder<LinkUnspec>) -> io::Result<()> {
        self.handle.link().set(link.build()).execute().await.map_err(netlink)
    }

    /// Makes a VLAN (IEEE 802.1Q) of an interface, and switches it on; one of this name that is there is left as it is.
    pub(crate) async fn add_vlan(&self, name: &str, parent: u32, number: u16) -> io::Result<()> {
        self.add(LinkVlan::new(name, parent, number).up().build()).await
    }

    /// Makes one interface of several, which are to be given to it with [`Self::enslave`]; one of this name that is there is left as it is.
    pub(crate) async fn add_bond(&self, name: &str, is_lacp: bool) -> io::Result<()> {
        self.add(bond(name, is_lacp)).await
    }

    async fn add(&self, link: LinkMessage) -> io::Result<()> {
        match self.handle.link().add(link).execute().await.map_err(netlink) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// Gives an interface, which must be down, to a bond. Fails with EPERM where it is up.
    pub(crate) async fn enslave(&self, index: u32, bond: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index).controller(bond)).await
    }

    /// The way to all other networks is by this router; one that is already there is replaced.
    pub(crate) async fn add_default_route(&self, index: u32, router: IpAddr) -> io::Result<()> {
        match router {
            IpAddr::V4(router) => self.add_route(index, Ipv4Addr::UNSPECIFIED, 0, router).await,
            IpAddr::V6(router) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
                    .gateway(router)
                    .output_interface(index)
                    .priority(ROUTE_PRIORITY.saturating_add(index))
                    .build();
                self.handle
                    .route()
                    .add(route)
                    .replace()
                    .execute()
                    .await
                    .map_err(netlink)
            }
        }
    }

    /// Adds an address; one that is already there is left as it is. An IPv6 address is usable at once: duplicate address
    /// detection is left out, for addresses that were drawn by lot or were in use on this port before.
    pub(crate) async fn add_address(&self, index: u32, address: impl Into<IpAddr>, prefix: u8) -> io::Result<()> {
        let address = address.into();
        let mut request = self.handle.address().add(index, address, prefix).replace();
        if address.is_ipv6() {
            let flags = AddressHeaderFlags::Nodad;
            request.message_mut().header.flags = flags;
        }
        request.execute().await.map_err(netlink)
    }

    /// Routes IPv4 packets for a network by way of a router on the interface's own network; a route that is already there is
    /// replaced. The kernel forgets it with the interface's last address in that network.
    pub(crate) async fn add_route(
        &self,
        index: u32,
        network: Ipv4Addr,
        prefix: u8,
        router: Ipv4Addr,
    ) -> io::Result<()> {
        let request = self.handle.route().add(route(index, network, prefix, router));
        request.replace().execute().await.map_err(netlink)
    }

    /// Removes a route that [`Self::add_route`] made; one that is not there is no error.
    pub(crate) async fn remove_route(
        &self,
        index: u32,
        network: Ipv4Addr,
        prefix: u8,
        router: Ipv4Addr,
    ) -> io::Result<()> {
        let request = self.handle.route().del(route(index, network, prefix, router));
        match request.execute().await.map_err(netlink) {
            // ESRCH: the kernel dropped it already.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    /// IPv4 addresses of an interface, with their prefix lengths, without those of link scope (169.254.0.0/16).
    pub(crate) async fn addresses(&self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut found = self.handle.address().get().set_link_index_filter(index).execute();
        let mut out = Vec::new();
        while let Some(message) = found.try_next().await.map_err(netlink)? {
            let prefix = message.header.prefix_len;
            out.extend(message.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) if !address.is_link_local() => Some((*address, prefix)),
                _ => None,
            }));
        }
        Ok(out)
    }

    /// Removes an address; one that is not there is no error.
    pub(crate) async fn remove_address(&self, index: u32, address: impl Into<IpAddr>) -> io::Result<()> {
        let all = self.handle.address().get().set_link_index_filter(index);
        let mut found = all.set_address_filter(address.into()).execute();
        while let Some(message) = found.try_next().await.map_err(netlink)? {
            self.handle.address().del(message).execute().await.map_err(netlink)?;
        }
        Ok(())
    }
}

/// Of our routes, plus the number of the interface, so that two interfaces have one each. Lower numbers go first, and what people
/// and DHCP clients set is lower.
const ROUTE_PRIORITY: u32 = 20_000;

fn route(index: u32, network: Ipv4Addr, prefix: u8, router: Ipv4Addr) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, prefix)
        .gateway(router)
        .output_interface(index)
        // Beside routes that this machine has already, not in their place.
        .priority(ROUTE_PRIORITY.saturating_add(index))
        .build()
}

/// How often a bond looks at the carrier of its ports, in milliseconds; at 0 it never does (Documentation/networking/bonding.rst).
const BOND_LOOKS: u32 = 100;

fn bond(name: &str, is_lacp: bool) -> LinkMessage {
    let mode = match is_lacp {
        true => BondMode::Ieee8023Ad,
        false => BondMode::ActiveBackup,
    };
    LinkBond::new(name).mode(mode).miimon(BOND_LOOKS).build()
}

fn netlink(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(sys: &Path, name: &str, index: u32, driver: &str, kind: &str, carrier: &str) {
        let dir = sys.join("class/net").join(name);
        std::fs::create_dir_all(dir.join("device")).unwrap();
        std::os::unix::fs::symlink(format!("../../bus/drivers/{driver}"), dir.join("device/driver")).unwrap();
        for (file, text) in [("type", kind), ("ifindex", &index.to_string()), ("carrier", carrier)] {
            std::fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
        std::fs::write(dir.join("address"), format!("52:54:00:00:00:{index:02x}\n")).unwrap();
    }

    /// What goes to the kernel, whose numbers are those of include/uapi/linux/if_link.h and if_bonding.h: the machine that runs this may
    /// have neither module.
    #[test]
    fn a_bond_and_a_vlan_are_asked_for_as_the_kernel_reads_them() {
        use rtnetlink::packet_route::link::{InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo};
        let told = |message: &LinkMessage| {
            let infos = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => Some(infos.clone()),
                _ => None,
            });
            infos.unwrap()
        };
        for (is_lacp, mode) in [(false, 1), (true, 4)] {
            let infos = told(&bond("b", is_lacp));
            let Some(LinkInfo::Data(InfoData::Bond(data))) =
                infos.iter().find(|info| matches!(info, LinkInfo::Data(_)))
            else {
                panic!("{infos:?}");
            };
            assert!(infos.contains(&LinkInfo::Kind(InfoKind::Bond)));
            assert!(data.contains(&InfoBond::MiiMon(100)));
            assert!(data.contains(&InfoBond::Mode(BondMode::from(mode))), "{data:?}");
        }
        let vlan = LinkVlan::new("v", 7, 42).up().build();
        let infos = told(&vlan);
        assert!(vlan.attributes.contains(&LinkAttribute::Link(7)));
        assert!(
            infos.contains(&LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(42)]))),
            "{infos:?}"
        );
    }

    #[test]
    fn only_cabled_ethernet_counts() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        port(sys, "eno1", 3, "ixgbe", "1", "1");
        port(sys, "eno0", 2, "ixgbe", "1", "0");
        port(sys, "usb0", 4, "cdc_ether", "1", "1");
        port(sys, "ib0", 5, "mlx5_core", "32", "1");
        port(sys, "wlan0", 6, "iwlwifi", "1", "1");
        std::fs::create_dir(sys.join("class/net/wlan0/wireless")).unwrap();
        port(sys, "wlan1", 7, "mt7921e", "1", "1");
        std::fs::create_dir(sys.join("class/net/wlan1/phy80211")).unwrap();
        port(sys, "eno0v0", 8, "iavf", "1", "1");
        std::fs::create_dir(sys.join("class/net/eno0v0/device/physfn")).unwrap();
        port(sys, "usb1", 9, "cdc_ncm", "1", "1");
        port(sys, "usb2", 10, "rndis_host", "1", "1");
        std::fs::create_dir(sys.join("class/net/lo")).unwrap();
        let links = wired_links(sys).unwrap();
        let seen: Vec<(&str, bool)> = links.iter().map(|link| (link.name.as_str(), link.carrier)).collect();
        assert_eq!(seen, [("eno0", false), ("eno1", true)]);
        assert_eq!(link_named(sys, "ib0"), None);
        for (name, index) in [
            ("ib0", Some(5)),
            ("eno9", None),
            ("", None),
            ("..", None),
            ("ib0/../eno0", None),
        ] {
            assert_eq!(index_named(sys, name), index, "{name}");
        }
    }
}
