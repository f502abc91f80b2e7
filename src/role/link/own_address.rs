//! The address of a master on a network where somebody else hands them out: the one the link has already, else a lease of the
//! foreign server, kept for as long as the master proxies there.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::model::console::console;
use crate::service::dhcp4::probe::{Ask, packet};
use crate::sys::netif::{Link, Netlink};
use crate::sys::packet::DhcpTap;

use crate::role::link::address_claim;
use crate::role::peer::lease::hold;
use crate::role::peer::network;

/// Pause after an exchange that brought nothing.
const RETRY: Duration = Duration::from_secs(5);
/// The same after an address that somebody has.
const DECLINED: Duration = Duration::from_secs(10);

/// Keeps an address until it is dropped.
pub(crate) struct OwnAddress {
    now: watch::Receiver<Option<Own>>,
    _task: Option<AbortOnDropHandle<()>>,
}

/// An address of this machine on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// The way to other networks; none where the system has its own.
    pub router: Option<Ipv4Addr>,
    /// This program set it, and takes it away again.
    pub set_here: bool,
}

impl OwnAddress {
    /// Takes the link's own address if a person or another program gave it one, else starts to ask for a lease. `but`: addresses
    /// that this program set there.
    pub(crate) async fn of(link: &Link, netlink: &Netlink, but: Option<Ipv4Addr>) -> Self {
        let present = netlink.addresses(link.index).await.unwrap_or_default();
        let fixed = present.into_iter().find(|(address, _)| Some(*address) != but);
        let fixed = fixed.map(|(address, prefix)| Own {
            address,
            prefix,
            router: None,
            set_here: false,
        });
        let (sender, now) = watch::channel(fixed);
        if fixed.is_some() {
            return OwnAddress { now, _task: None };
        }
        let link = link.clone();
        let asking = async move {
            loop {
                if let Err(error) = keep(&link, &sender).await {
                    tracing::debug!(%error, "asking for an address");
                }
                sender.send_replace(None);
                tokio::time::sleep(RETRY).await;
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(asking.in_current_span()));
        OwnAddress { now, _task: Some(task) }
    }

    pub(crate) fn now(&self) -> Option<Own> {
        *self.now.borrow()
    }
}

/// Gets a lease and holds it until it ends.
async fn keep(link: &Link, now: &watch::Sender<Option<Own>>) -> io::Result<()> {
    let tap = DhcpTap::open(link.index)?;
    let Some(leased) = network::exchange(&tap, link.mac).await? else {
        return Ok(());
    };
    let (address, server) = (leased.address, leased.server);
    // RFC 2131 §4.4.1: a server may not know who has what.
    if let Ok(Some(user)) = address_claim::who_has(link.index, link.mac, &[link.mac], address).await {
        console!(
            "{}: {server} gives this master {address}, which is used by {user} already; it is declined",
            link.name
        );
        let decline = packet(Ask::Decline { server, address }, link.mac, rand::random());
        tap.broadcast(&decline).await?;
        // As a client has to wait (RFC 2131 §3.1 step 5), so that the two of them do not talk for ever.
        tokio::time::sleep(DECLINED).await;
        return Ok(());
    }
    now.send_replace(Some(Own {
        address,
        prefix: leased.prefix,
        router: leased.router,
        set_here: true,
    }));
    hold(&tap, link.mac, leased).await;
    Ok(())
}
