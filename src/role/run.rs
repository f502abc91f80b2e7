//! What a machine is that nobody gave a command: the peer of the master that its kernel command line names, else a master, until
//! another one serves; then that one's peer, until it is gone, and a master again.
//!
//! With two sticks on one network each link's election decides which of them serves it (`link/election.rs`). When one has another master
//! on a link and serves none, it ends as master (`link/manager.rs`, `should_yield`) and becomes a peer here, a standby, which stays on.
//! That its master is gone is noticed by `failover.rs`, 20 s after it was last heard; then the elections begin anew. A machine that
//! yields on one link and serves another stays a master, and its election of that link asks on.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use tokio_util::sync::CancellationToken;

use crate::config::live::Accepted;
use crate::config::{KernelLine, SiteKey};
use crate::model::console::console;
use crate::model::{HTTP_PORT, MacAddr, PostAction, PowerOff};
use crate::probe;
use crate::sys::systemd;

use crate::role::link::manager::{Choice, Ended};
use crate::role::peer::network::PortAddress;
use crate::role::{boot_node, failover, failsafe, first_stage, guard, master, node, peer};

/// The system that this machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// The live image, or somebody's own.
    Whole,
    /// An initrd of dracut's; only a peer's work is possible there.
    Initrd,
    /// The same of ours, where this program is all there is (`role/init.rs`).
    FirstStage,
}

/// Runs until `stop`.
pub(crate) async fn run(line: KernelLine, system: System, stop: CancellationToken) -> anyhow::Result<()> {
    for problem in &line.problems {
        console!("{problem}");
    }
    if let Some(master) = line.master {
        return of_master(&line, system, master, &stop).await;
    }
    if let Some(word) = line.boot.as_ref().filter(|_| system == System::FirstStage) {
        return until(&stop, boot_node::run(&line, word)).await;
    }
    if system != System::Whole {
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

/// What a machine does that a master started.
async fn of_master(
    line: &KernelLine,
    system: System,
    master: SocketAddr,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if system == System::FirstStage && line.post_action == Some(PostAction::Image) {
        console!("node of {master}");
        // Ended, process 1 goes on with what it made.
        return tokio::select! {
            () = stop.cancelled() => Ok(()),
            done = node::run(line, master) => done,
        };
    }
    systemd::ready("peer");
    console!("peer of {master}");
    let is_failsafe = system == System::FirstStage && line.post_action == Some(PostAction::Failsafe);
    let work = async {
        if is_failsafe {
            failsafe::say(line);
        }
        let config = match system {
            System::FirstStage => {
                let port = first_stage::prepare(line, master).await?;
                if is_failsafe {
                    return of_failsafe(line, master, port).await;
                }
                ready_peer(line, master, port)
            }
            System::Whole | System::Initrd => booted_peer(line, master),
        };
        peer::run(config).await
    };
    until(stop, work).await
}

/// A peer that stays on, with a person's shell beside it from the beginning: what it is here for may be what hangs its inventory.
async fn of_failsafe(line: &KernelLine, master: SocketAddr, port: (MacAddr, PortAddress)) -> anyhow::Result<()> {
    let config = peer::Config {
        poweroff: Some(PowerOff::Never),
        workload: false,
        ..ready_peer(line, master, port)
    };
    let peer = async {
        if let Err(error) = peer::run(config).await {
            console!("its inventory: {error:#}");
        }
        Ok(())
    };
    tokio::try_join!(peer, failsafe::stay(line, master, port.0)).map(drop)
}

/// A machine with a stick of its own, as the peer of the master that was there first. It stays on, whatever the policy of that one:
/// off, it could not take over. Only its own kernel command line says otherwise.
fn standby_peer(line: &KernelLine, master: SocketAddr, mac: MacAddr, key: SiteKey) -> peer::Config {
    let (mac, held) = (Some(mac), None);
    peer::Config {
        network: peer::Network::BringUp { mac, held },
        poweroff: line.end().or(Some(PowerOff::Never)),
        key: Some(key),
        ..booted_peer(line, master)
    }
}

/// A machine that a master booted over the network.
fn booted_peer(line: &KernelLine, master: SocketAddr) -> peer::Config {
    let (mac, router) = (line.boot_mac, line.router);
    let held = line.address.map(|(address, prefix)| PortAddress {
        address,
        prefix,
        router,
    });
    peer::Config {
        master,
        protect_disks: true,
        network: peer::Network::BringUp { mac, held },
        poweroff: line.end(),
        token: line.token.clone(),
        cable_wait: line.cable_wait.unwrap_or(probe::CABLE_WAIT),
        workload: true,
        key: None,
    }
}

/// A machine that a master booted, whose port has its address: it is not to ask for one again, and is named as without.
fn ready_peer(line: &KernelLine, master: SocketAddr, (mac, held): (MacAddr, PortAddress)) -> peer::Config {
    let boot_mac = line.boot_mac;
    peer::Config {
        network: peer::Network::Up { boot_mac, mac, held },
        ..booted_peer(line, master)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the master is asked or says: a machine that is off takes nothing over.
    #[test]
    fn a_standby_stays_on_and_a_booted_peer_asks_its_master() {
        let master = SocketAddr::from(([192, 168, 219, 1], HTTP_PORT));
        let ends = |line: &KernelLine| {
            let standby = standby_peer(line, master, MacAddr([2, 0, 0, 0, 0, 1]), SiteKey::new([1; 32]));
            (standby.poweroff, booted_peer(line, master).poweroff)
        };
        let mut line = KernelLine::default();
        assert_eq!(ends(&line), (Some(PowerOff::Never), None));
        line.poweroff = Some(PowerOff::Acpi);
        assert_eq!(
            ends(&line),
            (Some(PowerOff::Acpi), Some(PowerOff::Acpi)),
            "its own line"
        );
        line.doubtful = true;
        assert_eq!(ends(&line), (Some(PowerOff::Never), Some(PowerOff::Never)));
    }

    /// A server that is asked a second time may give another address, or none.
    #[test]
    fn a_port_that_has_its_address_keeps_it_and_names_nobody() {
        let master = SocketAddr::from(([192, 168, 219, 1], HTTP_PORT));
        let port = (
            MacAddr([2, 0, 0, 0, 0, 7]),
            PortAddress {
                address: [192, 168, 219, 77].into(),
                prefix: 24,
                router: None,
            },
        );
        for boot_mac in [None, Some(port.0)] {
            let line = KernelLine {
                boot_mac,
                ..KernelLine::default()
            };
            let config = ready_peer(&line, master, port);
            let peer::Network::Up {
                boot_mac: told,
                mac,
                held,
            } = config.network
            else {
                panic!("it would ask again: {:?}", config.network);
            };
            assert_eq!((told, (mac, held)), (boot_mac, port));
        }
    }
}
