//! A machine that became the peer of another master watches that one, and is told when it is gone.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::SiteKey;
use crate::model::MacAddr;
use crate::service::dhcp4::probe::{Ask, Heard, Role, Said, heard, packet};
use crate::sys::netif::{self, Netlink};
use crate::sys::packet::DhcpTap;

use super::elect::{MASTER_QUIET_SECONDS, WATCH_SECONDS};
use super::voice::Voice;

/// Pause before a port that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Ends when no recon master that has this site's key was heard on the port with this MAC for [`MASTER_QUIET_SECONDS`].
/// `machine`: this machine's number.
pub async fn until_gone(key: SiteKey, machine: MacAddr, mac: MacAddr) {
    let mut voice = Voice::new(key, machine, mac);
    let quiet = Duration::from_secs_f64(MASTER_QUIET_SECONDS);
    let mut heard_at = Instant::now();
    while heard_at.elapsed() < quiet {
        if let Err(error) = watch(mac, &mut voice, &mut heard_at, quiet).await {
            tracing::debug!(%mac, %error, "watching the master");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn watch(mac: MacAddr, voice: &mut Voice, heard_at: &mut Instant, quiet: Duration) -> io::Result<()> {
    let links = netif::wired_links(Path::new("/sys"))?;
    let link = links
        .into_iter()
        .find(|link| link.mac == mac)
        .ok_or(io::ErrorKind::NotFound)?;
    let tap = DhcpTap::open(link.index)?;
    let mut ask = tokio::time::interval(Duration::from_secs_f64(WATCH_SECONDS));
    let mut buffer = Vec::new();
    while heard_at.elapsed() < quiet {
        tokio::select! {
            _ = ask.tick() => {
                let (question, proof) = voice.ask(rand::random());
                tap.broadcast(&packet(Ask::WhoServes(question, proof), mac, rand::random())).await?;
            }
            from = tap.receive(&mut buffer) => {
                let from = from?;
                if let Some(Heard::Server(spoken)) = heard(&buffer)
                    && let (Some(machine), Some(proof)) = (spoken.machine, spoken.proof)
                    && proof.role != Role::Ask
                    && voice.is_proven(&Said { role: proof.role, machine, mac: from, server: spoken.server }, Some(proof))
                {
                    *heard_at = Instant::now();
                }
            }
        }
    }
    Ok(())
}

/// Removes what this machine had as a peer from the port, so that it starts as after its boot.
pub async fn forget_addresses(mac: MacAddr) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let links = netif::wired_links(Path::new("/sys"))?;
    let Some(link) = links.into_iter().find(|link| link.mac == mac) else {
        return Ok(());
    };
    for (address, _) in netlink.addresses(link.index).await? {
        netlink.remove_address(link.index, address).await?;
    }
    Ok(())
}
