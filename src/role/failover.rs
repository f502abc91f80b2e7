//! A machine that became the peer of another master watches that one, and is told when it is gone.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::SiteKey;
use crate::model::MacAddr;
use crate::service::dhcp4::probe::{Ask, Overheard, heard, packet};
use crate::sys::netif::{self, Link, Netlink};
use crate::sys::packet::DhcpTap;

use crate::role::link::election::{MASTER_QUIET_SECONDS, WATCH_SECONDS};
use crate::role::link::proof::Voice;

/// Where a machine that became a peer by itself tells its own screens whose.
pub(crate) const NOTE: &str = "/run/recon/peer-of";
/// An address with its port is shorter.
const MAX_NOTE_BYTES: u64 = 100;

/// Stands as long as this machine is the peer of that master.
#[derive(Debug)]
pub(crate) struct Note<'a>(&'a Path);

impl<'a> Note<'a> {
    /// Without it, screens ask this machine, which does not answer: that is logged, and costs nothing else.
    pub(crate) fn new(path: &'a Path, master: SocketAddr) -> Self {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.and_then(|()| std::fs::write(path, format!("{master}\n"))) {
            tracing::warn!(path = %path.display(), %error, "telling this machine's screens of its master");
        }
        Note(path)
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        forget_note(self.0);
    }
}

/// Takes away the note of a run that ended without doing so.
pub(crate) fn forget_note(path: &Path) {
    // One that is not there is as good.
    let _ = std::fs::remove_file(path);
}

/// The master that a [`Note`] names.
pub(crate) fn noted(path: &Path) -> Option<SocketAddr> {
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_NOTE_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Pause before a port that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Ends when no recon master that has this site's key was heard on the port with this MAC for [`MASTER_QUIET_SECONDS`].
/// `machine_id`: this machine's, in elections.
pub(crate) async fn wait_for_master_loss(key: SiteKey, machine_id: MacAddr, mac: MacAddr) {
    let mut voice = Voice::new(key, machine_id, mac);
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
    let link = port(mac)?.ok_or(io::ErrorKind::NotFound)?;
    let tap = DhcpTap::open(link.index)?;
    let mut next = Instant::now();
    let mut buffer = Vec::new();
    while heard_at.elapsed() < quiet {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                // A master answers one at a time; those that follow it must not ask in step for ever.
                next += Duration::from_secs_f64(WATCH_SECONDS * rand::random_range(0.6..1.0));
                let (question, proof) = voice.ask(rand::random());
                tap.broadcast(&packet(Ask::WhoServes(question, proof), mac, rand::random())).await?;
            }
            from = tap.receive(&mut buffer) => {
                let from = from?;
                if let Some(Overheard::Server(spoken)) = heard(&buffer)
                    && voice.is_proven_master(from, &spoken)
                {
                    *heard_at = Instant::now();
                }
            }
        }
    }
    Ok(())
}

fn port(mac: MacAddr) -> io::Result<Option<Link>> {
    let links = netif::wired_links(Path::new("/sys"))?;
    Ok(links.into_iter().find(|link| link.mac == mac))
}

/// Removes what this machine had as a peer from the port, so that it starts as after its boot.
pub(crate) async fn forget_addresses(mac: MacAddr) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let Some(link) = port(mac)? else { return Ok(()) };
    for (address, _) in netlink.addresses(link.index).await? {
        netlink.remove_address(link.index, address).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_screens_know_its_master_while_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recon/peer-of");
        assert_eq!(noted(&path), None);
        let master = "192.168.219.1:80".parse().unwrap();
        let note = Note::new(&path, master);
        assert_eq!(noted(&path), Some(master));
        drop(note);
        assert_eq!(noted(&path), None);
        std::fs::write(&path, "not an address").unwrap();
        assert_eq!(noted(&path), None);
    }
}
