//! What the links of a master share, and what one of them is given of it.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use crate::config::{Live, Subnet};
use crate::model::api::LinkStatus;
use crate::role::link::ipv6_leases::Ipv6Leases;
use crate::service::boot::source::BootSource;
use crate::service::dhcp4;
use crate::service::dhcp4::leases::LeaseTable;
use crate::service::http::site::Site;
use crate::service::loader_choice::LoaderChoice;
use crate::store::leases::{Book, Journal};
use crate::sys::netif::{Link, Netlink};

#[derive(Clone)]
pub(crate) struct Shared {
    pub site: Arc<Site>,
    pub http_port: u16,
    /// Leases and addresses in use by strangers, as known at start.
    pub remembered: Book,
    pub status: Arc<Mutex<Vec<LinkStatus>>>,
    pub journal: Arc<Journal>,
    pub ipv6: Arc<Ipv6Leases>,
}

/// A link on which services start.
pub(crate) struct OnLink<'a> {
    pub shared: &'a Shared,
    pub netlink: &'a Netlink,
    pub link: &'a Link,
}

impl Shared {
    pub(crate) fn settings(&self) -> &Live {
        &self.site.settings
    }

    /// From where the machines of every link boot.
    pub(crate) fn boot_source(&self) -> BootSource {
        BootSource {
            http_port: self.http_port,
            loaders: chooser(&self.site),
        }
    }

    /// A network whose machines get addresses, with its leases of this run by `key`: of a link the server's address there.
    pub(crate) fn network(&self, key: Ipv4Addr, subnet: Subnet) -> dhcp4::server::Network {
        dhcp4::server::Network {
            params: dhcp4::reply::Params {
                subnet,
                lease: self.settings().now().network.lease,
                boot: self.boot_source(),
            },
            leases: self.leases(key, subnet),
        }
    }

    /// The networks behind routers whose machines this server answers, each with its leases: those of the run, whichever link they were
    /// given by.
    pub(crate) fn routed(&self, server: Ipv4Addr) -> Vec<dhcp4::server::Network> {
        let settings = self.settings().now();
        let routed = settings
            .routed(server)
            .map(|subnet| self.network(subnet.network, subnet));
        routed.collect()
    }

    /// The leases under this address: a link's server, or a network behind a router. With what is remembered and what `recon.toml` reserves, where the table is new.
    pub(crate) fn leases(&self, key: Ipv4Addr, subnet: Subnet) -> Arc<Mutex<LeaseTable>> {
        let mut tables = self.site.leases.lock().expect("no holder panics");
        let table = tables.entry(key).or_insert_with(|| {
            let remembered = self.remembered.leases().cloned();
            let mut table = LeaseTable::new(subnet.lease_first, subnet.lease_last, remembered);
            table.reserve(self.settings().now().reservations(subnet));
            table.restore_abandoned(self.remembered.abandoned());
            Arc::new(Mutex::new(table))
        });
        Arc::clone(table)
    }
}

/// Chooses boot programs by what the node table knows of a machine.
pub fn chooser(site: &Site) -> LoaderChoice {
    LoaderChoice::ByMachine {
        loaders: site.boot.loaders.clone(),
        node_table: Arc::clone(&site.node_table),
    }
}
