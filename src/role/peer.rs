//! A peer's whole job: protect the disks, inventory, the site's workload, upload until acknowledged, end by policy.

pub mod collect;
pub(crate) mod document;
pub(crate) mod lease;
pub(crate) mod network;
pub(crate) mod pack;
pub mod post;
pub(crate) mod power;
pub(crate) mod retry;
pub(crate) mod session;
pub mod upload;
pub(crate) mod workload;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tracing::Instrument;

use crate::config::SiteKey;
use crate::model::console::console;
use crate::model::{MacAddr, NodeId, PowerOff, Stage};
use crate::probe::cabling::PortSetup;
use crate::role::guard::protect_disks;
use crate::role::peer::collect::{Collecting, Snapshot};
use crate::role::peer::network::{PortAddress, bring_up};
use crate::role::peer::session::Session;
use crate::role::peer::upload::Kept;
use crate::role::{ports, settle};

/// Whose peer this is, and what it may do.
#[derive(Debug, Clone)]
pub struct Config {
    pub master: SocketAddr,
    /// Set internal disks read-only first. Only a system that runs from our own medium may: one that runs from its disk
    /// would lose it.
    pub protect_disks: bool,
    pub network: Network,
    /// Policy from the kernel command line; without one the master is asked.
    pub poweroff: Option<PowerOff>,
    pub token: Option<String>,
    /// How long to listen for the switches before the last upload.
    pub cable_wait: Duration,
    /// The site's workload runs beside the inventory.
    pub workload: bool,
    /// The site's key, on a machine with a stick of its own: only a workload that the master proves to be the site's own is run beside it.
    /// A machine without a stick has none, and trusts the network that it booted from.
    pub key: Option<SiteKey>,
}

/// How the peer reaches the network.
#[derive(Debug, Clone)]
pub enum Network {
    /// Somebody else configured it.
    Ready,
    /// Bring up the port with this MAC (any port with carrier if none is named), with the address the boot loader held,
    /// else by DHCP.
    BringUp {
        mac: Option<MacAddr>,
        held: Option<PortAddress>,
    },
    /// This port has this address already. Which one the machine booted from is told by its boot loader, if at all.
    Up {
        boot_mac: Option<MacAddr>,
        mac: MacAddr,
        held: PortAddress,
    },
}

/// Longest wait for the port after the workload; it may have become a part of something else that serves as well.
const PUT_BACK: Duration = Duration::from_secs(60);

/// Does the whole job. Returns when the machine is to stay up; otherwise the power goes off under it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let protect = config.protect_disks;
    if protect {
        protect_disks();
    }
    let mut collecting = collect::start(config.cable_wait, move || {
        settle::wait_for_drivers();
        if protect {
            // Disks that appeared meanwhile; udev guarded them already, this says so where it failed.
            protect_disks();
        }
        // Ports are switched on where the machine is ours for the time being, and stay on: its power goes off, or a person
        // uses them.
        match protect {
            true => ports::ready_all(ports::LIMIT),
            false => PortSetup::default(),
        }
    });
    let port = match &config.network {
        Network::BringUp { mac, held } => Some(bring_up(*mac, *held, config.master.is_ipv6()).await?),
        Network::Up { mac, held, .. } => Some((*mac, *held)),
        Network::Ready => None,
    };
    let first = collecting.first().await?;
    let session = session(&config, &first)?;
    let span = tracing::info_span!("node", id = %session.id);
    report(config, collecting, first, session, port).instrument(span).await
}

/// What follows once the master is reached and this machine has a name.
async fn report(
    config: Config,
    collecting: Collecting,
    mut first: Snapshot,
    mut session: Session,
    port: Option<(MacAddr, PortAddress)>,
) -> anyhow::Result<()> {
    console!("node {}: {}", session.id, first.inventory.summary());
    session.report(Stage::Agent, None, None).await;
    session.report(Stage::Collected, None, None).await;
    let clock_offset = session.clock_offset().await;
    first.set_clock_offset(clock_offset);
    // What is known goes out at once: whatever happens to this machine from here on, that much is safe.
    let mut kept = session.upload(&first, None).await?;
    if !first.complete && !matches!(kept, Kept::Refused(_)) {
        let waits = waits(&first, config.cable_wait);
        console!("stored what is quick; {waits}");
    }
    let results = match config.workload {
        true => workload::run(&session, config.key.as_ref()).await,
        false => None,
    };
    if let (Some(_), Some((mac, held))) = (&results, port) {
        put_back(mac, held, config.master.is_ipv6()).await;
    }
    // Disks may have come while the workload ran.
    let (mut last, again) = match first.complete && results.is_none() {
        true => (first, false),
        false => (collecting.last().await?, true),
    };
    last.set_clock_offset(clock_offset);
    for (part, status, reason) in last.inventory.troubles() {
        console!("inventory of {part} {}: {reason}", status.as_str());
    }
    if again {
        let earlier = std::mem::replace(&mut kept, session.upload(&last, results.as_ref()).await?);
        if let (Kept::Refused(problem), Kept::Durable | Kept::Memory) = (&mut kept, earlier) {
            problem.push_str(" (what was quick is stored)");
        }
    }
    workload::forget();
    power::end(&session, config.poweroff, kept).await;
    Ok(())
}

/// Who this machine says it is, to the master that it was told.
fn session(config: &Config, first: &Snapshot) -> anyhow::Result<Session> {
    let (uuid, macs) = first.inventory.node_id_facts();
    let boot_mac = match &config.network {
        Network::BringUp { mac: Some(mac), .. }
        | Network::Up {
            boot_mac: Some(mac), ..
        } => Some(*mac),
        _ => first.inventory.boot_mac(),
    };
    let id = NodeId::from_facts(uuid.as_deref(), boot_mac)
        .context("this machine has neither a usable SMBIOS UUID nor a network port to be named by")?;
    let document = serde_json::to_vec(&first.inventory).context("writing the inventory")?;
    let read = crate::store::inventory::read(document.as_slice());
    Ok(Session {
        master: config.master,
        token: config.token.clone(),
        id,
        macs,
        uuid,
        evidence: read.unwrap_or_default().evidence,
    })
}

/// The workload may have taken the address or the link away, and the master would be waited for in vain.
async fn put_back(mac: MacAddr, held: PortAddress, v6: bool) {
    match tokio::time::timeout(PUT_BACK, bring_up(Some(mac), Some(held), v6)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => console!("after post.sh: {error:#}; going on"),
        Err(_) => console!("after post.sh the port {mac} is not what it was; going on"),
    }
}

/// What the last upload waits for.
fn waits(first: &Snapshot, cable_wait: Duration) -> String {
    let seconds = cable_wait.as_secs();
    let cables = first
        .awaits_cables
        .then(|| format!("listening for its switches, up to {seconds} s"));
    let storage = first.awaits_storage.iter().map(|whose| format!("waiting for {whose}"));
    let waits: Vec<String> = cables.into_iter().chain(storage).collect();
    match waits.is_empty() {
        true => "asking slow devices".to_owned(),
        false => waits.join("; "),
    }
}
