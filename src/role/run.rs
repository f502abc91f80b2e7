//! What a machine is that nobody gave a command: the peer of the master that its kernel command line names, else a master, until
//! another one serves; then that one's peer, until it is gone, and a master again.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::config::live::Accepted;
use crate::config::{KernelLine, SiteKey};
use crate::model::console::console;
use crate::model::{HTTP_PORT, MacAddr};
use crate::probe;
use crate::sys::systemd;

use crate::role::link::manager::{Choice, Ended};
use crate::role::peer::network::Held;
use crate::role::{failover, guard, master, peer};

/// Runs until `stop`. `initrd`: only a peer's work is possible here.
pub(crate) async fn run(line: KernelLine, initrd: bool, stop: CancellationToken) -> anyhow::Result<()> {
    for problem in &line.problems {
        console!("{problem}");
    }
    if let Some(master) = line.master {
        systemd::ready("peer");
        console!("peer of {master}");
        return until(&stop, peer::run(booted_peer(&line, master))).await;
    }
    if initrd {
        bail!(
            "the kernel command line names no master (pxeaddr= or recon.master=), so there is nothing to do in the initrd"
        );
    }
    guard::protect_disks();
    failover::forget_note(Path::new(failover::NOTE));
    let config = master::Config {
        links: Choice::Elect,
        data: None,
        medium: None,
        loaders: master::loader_folders(),
        http_port: HTTP_PORT,
        doubts: line.problems.iter().filter(|_| line.doubtful).cloned().collect(),
        accepted: Accepted::default(),
    };
    loop {
        let (ended, key) = master::run(config.clone(), stop.clone()).await?;
        let Ended::Yield {
            master,
            mac,
            machine_id,
        } = ended
        else {
            return Ok(());
        };
        console!("recon master {master} of this site is here already: becoming its peer");
        let _note = failover::Note::new(Path::new(failover::NOTE), master);
        tokio::select! {
            done = until(&stop, peer::run(standby_peer(&line, master, mac, key.clone()))) => return done,
            () = failover::wait_for_master_loss(key.clone(), machine_id, mac) => {}
        }
        console!("recon master {master} is gone: asking anew who serves");
        if let Err(error) = failover::forget_addresses(mac).await {
            tracing::warn!(%mac, %error, "removing the addresses of a peer");
        }
    }
}

/// A machine with a stick of its own, as the peer of the master that was there first.
fn standby_peer(line: &KernelLine, master: SocketAddr, mac: MacAddr, key: SiteKey) -> peer::Config {
    let network = peer::Network::BringUp {
        mac: Some(mac),
        held: None,
    };
    peer::Config {
        key: Some(key),
        ..peer_config(line, master, network)
    }
}

/// A machine that a master booted over the network.
fn booted_peer(line: &KernelLine, master: SocketAddr) -> peer::Config {
    let held = line.address.map(|(address, prefix)| Held {
        address,
        prefix,
        router: line.router,
    });
    let mac = line.boot_mac;
    peer_config(line, master, peer::Network::BringUp { mac, held })
}

fn peer_config(line: &KernelLine, master: SocketAddr, network: peer::Network) -> peer::Config {
    peer::Config {
        master,
        protect_disks: true,
        network,
        poweroff: line.end(),
        token: line.token.clone(),
        cable_wait: line.cable_wait.unwrap_or(probe::CABLE_WAIT),
        key: None,
    }
}

/// A peer that is done stays as a service, so that the unit shows what it did; a stop ends it at any time.
async fn until(stop: &CancellationToken, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        done = work => {
            done?;
            stop.cancelled().await;
            Ok(())
        }
    }
}
