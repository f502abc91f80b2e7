//! A peer's whole job: protect the disks, inventory, the site's workload, upload until acknowledged, end by policy.

pub mod collect;
pub(crate) mod document;
pub(crate) mod network;
pub(crate) mod pack;
pub mod post;
pub(crate) mod retry;
pub mod upload;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::config::{PowerOff, SiteKey};
use crate::model::api::{Policy, StageReport};
use crate::model::identity::Evidence;
use crate::model::{MacAddr, NodeId, Stage, cause};
use crate::probe::cabling::PortSetup;
use crate::role::ports;
use crate::service::http::client::{Bounds, ClientError, ask, exchange};
use crate::service::http::workload;
use crate::stick::medium;
use crate::sys::console::say;
use crate::sys::netif::Netlink;
use crate::sys::{block, clock, cmd, ipmi, power};

use crate::role::peer::collect::Take;
use crate::role::peer::network::Held;
use crate::role::peer::retry::Heard;
use crate::role::peer::upload::Kept;

/// What a peer is told.
#[derive(Debug, Clone)]
pub struct Orders {
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
    BringUp { mac: Option<MacAddr>, held: Option<Held> },
}

const QUICK: Bounds = Bounds {
    time: Duration::from_secs(10),
    answer_bytes: 1 << 20,
};
const MAX_POST_TGZ: usize = 256 << 20;
const FETCH_POST: Bounds = Bounds {
    time: Duration::from_secs(600),
    answer_bytes: MAX_POST_TGZ,
};
/// Longest wait for drivers; a device that takes longer is missed rather than waited for.
const SETTLE: Duration = Duration::from_secs(30);
/// Longest wait for a USB disk that the kernel has not looked at yet (its own delay is one second).
const USB_SETTLE: Duration = Duration::from_secs(4);
const USB_STORAGE: &str = "/sys/bus/usb/drivers/usb-storage";
/// More devices than anybody plugs in.
const MAX_USB: usize = 256;
/// Longest wait for the port after the workload; it may have become a part of something else that serves as well.
const PUT_BACK: Duration = Duration::from_secs(60);
const POST_FOLDER: &str = "/run/recon/post";
const POST_BEGUN: &str = "/run/recon/post-begun";
/// How often `post.tgz` is asked for while the master puts it off, or breaks off after this long each time. The inventory
/// does not wait for it any longer.
const POST_TRIES: u32 = 10;
/// How often the console says that the workload still runs.
const POST_SAID: Duration = Duration::from_secs(60);
/// A machine that still runs this long after its BMC took the power-off command was not switched off.
const POWER_DOWN: Duration = Duration::from_secs(30);

/// Does the whole job. Returns when the machine is to stay up; otherwise the power goes off under it.
pub async fn run(orders: Orders) -> anyhow::Result<()> {
    let protect = orders.protect_disks;
    if protect {
        protect_disks();
    }
    let mut collecting = collect::start(orders.cable_wait, move || {
        settle();
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
    let v6 = orders.master.is_ipv6();
    let port = match &orders.network {
        Network::BringUp { mac, held } => Some(bring_up(*mac, *held, v6).await?),
        Network::Ready => None,
    };
    let mut first = collecting.first().await?;
    let (uuid, macs) = first.inventory.node_id_facts();
    let boot_mac = match &orders.network {
        Network::BringUp { mac: Some(mac), .. } => Some(*mac),
        _ => first.inventory.boot_mac(),
    };
    let id = NodeId::from_facts(uuid.as_deref(), boot_mac)
        .context("this machine has neither a usable SMBIOS UUID nor a network port to be named by")?;
    let document = serde_json::to_vec(&first.inventory).context("writing the inventory")?;
    let evidence = crate::store::inventory::read(document.as_slice())
        .unwrap_or_default()
        .evidence;
    let mut peer = Peer {
        orders,
        id,
        macs,
        uuid,
        evidence,
    };
    say(&format!("node {}: {}", peer.id, first.inventory.summary()));
    peer.report(Stage::Agent, None, None).await;
    peer.report(Stage::Collected, None, None).await;
    let clock_offset = peer.clock_offset().await;
    first.set_clock_offset(clock_offset);
    // What is known goes out at once: whatever happens to this machine from here on, that much is safe.
    let mut kept = peer.upload(&first, None).await?;
    if !first.complete && !matches!(kept, Kept::Refused(_)) {
        let waits = waits(&first, peer.orders.cable_wait);
        say(&format!("stored what is quick; {waits}"));
    }
    let results = peer.workload().await;
    if let (Some(_), Some((mac, held))) = (&results, port) {
        // The workload may have taken the address or the link away, and the master would be waited for in vain.
        match tokio::time::timeout(PUT_BACK, bring_up(Some(mac), Some(held), v6)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => say(&format!("after post.sh: {error:#}; going on")),
            Err(_) => say(&format!("after post.sh the port {mac} is not what it was; going on")),
        }
    }
    // Disks may have come while the workload ran.
    let (mut last, again) = match first.complete && results.is_none() {
        true => (first, false),
        false => (collecting.last().await?, true),
    };
    last.set_clock_offset(clock_offset);
    for (part, status, reason) in last.inventory.troubles() {
        say(&format!("inventory of {part} {}: {reason}", status.as_str()));
    }
    if again {
        let earlier = std::mem::replace(&mut kept, peer.upload(&last, results.as_ref()).await?);
        if let (Kept::Refused(problem), Kept::Durable | Kept::Memory) = (&mut kept, earlier) {
            problem.push_str(" (what was quick is stored)");
        }
    }
    post::forget(&post_place());
    peer.end(kept).await;
    Ok(())
}

/// What the last upload waits for.
fn waits(first: &Take, cable_wait: Duration) -> String {
    let cables = first
        .awaits_cables
        .then(|| format!("listening for its switches, up to {} s", cable_wait.as_secs()));
    let storage = first
        .awaits_storage
        .as_ref()
        .map(|whose| format!("waiting for {whose}"));
    let waits: Vec<String> = cables.into_iter().chain(storage).collect();
    match waits.is_empty() {
        true => "asking slow devices".to_owned(),
        false => waits.join("; "),
    }
}

fn post_place() -> post::Place {
    post::Place {
        folder: POST_FOLDER.into(),
        begun: POST_BEGUN.into(),
        own_memory: true,
    }
}

/// Sets every internal disk read-only, except the one this system runs from.
pub fn protect_disks() {
    let medium = medium::live_disk();
    let exempt: block::Exempt = Arc::new(move |path: &Path| Some(path) == medium.as_deref());
    match block::guard(&[], &exempt) {
        Ok(results) => {
            for result in results.iter().filter(|result| !result.is_safe()) {
                say(&format!("disk {result}"));
            }
            tracing::info!(disks = results.len(), "internal disks are read-only");
        }
        Err(error) => say(&format!("the disks could not be listed to set them read-only: {error}")),
    }
}

/// Waits until the drivers of everything that was found are loaded, for a while: an inventory taken before them would miss
/// disks and ports that are there.
pub(super) fn settle() {
    let limit = format!("--timeout={}", SETTLE.as_secs());
    if let Err(error) = cmd::run("udevadm", &["settle", &limit], SETTLE + Duration::from_secs(5)) {
        tracing::warn!(error = cause::told(&error), "waiting for device events");
    }
    // The kernel gives USB storage a second before it looks for disks there, and no event says that one is still to come.
    let deadline = Instant::now() + USB_SETTLE;
    while usb_disk_to_come(Path::new(USB_STORAGE)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// True while a device of the usb-storage driver has no SCSI target yet.
fn usb_disk_to_come(driver: &Path) -> bool {
    let children = |folder: &Path, prefix: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_USB);
        let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        named.map(|entry| entry.path()).collect()
    };
    // Interfaces are named like `2-1:1.0`; the driver's own attributes have no colon.
    let interfaces = children(driver, "").into_iter();
    interfaces
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(':'))
        })
        .any(|interface| {
            let hosts = children(&interface, "host");
            !hosts.iter().any(|host| !children(host, "target").is_empty())
        })
}

/// `v6`: the master is reached over IPv6; an address of the other family is no use then. Gives the port and what it has now; what
/// is there already is no error.
async fn bring_up(mac: Option<MacAddr>, held: Option<Held>, v6: bool) -> anyhow::Result<(MacAddr, Held)> {
    let netlink = Netlink::open().context("opening netlink")?;
    let link = network::usable_link(&netlink, Path::new("/sys"), mac).await;
    let asking = || format!("asking for an address on {}", link.name);
    let held = match held.filter(|held| held.address.is_ipv6() == v6) {
        Some(held) => held,
        None if v6 => network::by_dhcp6(&link).await.with_context(asking)?,
        None => network::by_dhcp(&link).await.with_context(asking)?,
    };
    netlink
        .add_address(link.index, held.address, held.prefix)
        .await
        .with_context(|| format!("setting {}/{} on {}", held.address, held.prefix, link.name))?;
    say(&format!("{} is {}/{}", link.name, held.address, held.prefix));
    if let Some(router) = held.router {
        let everywhere = Ipv4Addr::UNSPECIFIED;
        if let Err(error) = netlink.add_route(link.index, everywhere, 0, router).await {
            say(&format!("{}: no way by the router {router}: {error}", link.name));
        }
    }
    Ok((link.mac, held))
}

/// Our clock minus the master's, which it told about halfway between our question and its answer.
fn offset(sent_ms: i64, received_ms: i64, master_ms: i64) -> i64 {
    (sent_ms / 2 + received_ms / 2).saturating_sub(master_ms)
}

fn policy_said(status: StatusCode, body: &[u8]) -> anyhow::Result<Policy> {
    anyhow::ensure!(status.is_success(), "the master answered {status}");
    serde_json::from_slice(body).context("the master's answer is not understood")
}

fn end_of(policy: &Policy) -> anyhow::Result<PowerOff> {
    policy.poweroff.parse().map_err(anyhow::Error::msg)
}

struct Peer {
    orders: Orders,
    /// What it calls itself, until the master said under which name it keeps it.
    id: NodeId,
    macs: Vec<MacAddr>,
    uuid: Option<String>,
    evidence: Evidence,
}

impl Peer {
    fn headers(&self) -> Vec<(&'static str, String)> {
        self.orders
            .token
            .iter()
            .map(|token| ("authorization", format!("Bearer {token}")))
            .collect()
    }

    /// Tells the master how far this machine is. One try: the next report or the upload tells it as well.
    async fn report(&self, stage: Stage, message: Option<String>, failure: Option<String>) {
        let report = StageReport {
            stage,
            macs: self.macs.clone(),
            evidence: Some(self.evidence.clone()),
            message,
            failure,
        };
        let Ok(body) = serde_json::to_vec(&report) else { return };
        let target = format!("/api/v1/nodes/{}/stage", self.id);
        let sent = exchange(
            self.orders.master,
            Method::POST,
            &target,
            &self.headers(),
            body.into(),
            QUICK,
        )
        .await;
        match sent {
            Ok((status, _)) if status.is_success() => {}
            Ok((status, _)) => tracing::warn!(%status, %stage, "the master did not take a stage report"),
            Err(error) => tracing::warn!(%error, %stage, "reporting a stage"),
        }
    }

    /// `post.tgz` where the master has one and gives it.
    async fn fetch_workload(&self) -> Option<Vec<u8>> {
        let (mut tries, mut put_off) = (0, 0);
        loop {
            let headers = self.headers();
            let asked = ask(
                self.orders.master,
                Method::GET,
                "/post.tgz",
                &headers,
                Bytes::new(),
                FETCH_POST,
            );
            let (heard, problem) = match asked.await {
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return None,
                Ok(answer) if answer.status == StatusCode::OK => return Some(answer.body.to_vec()),
                Ok(answer) => {
                    put_off += 1;
                    let problem = format!("the master answered {}", answer.status);
                    (Heard::of(answer.status.as_u16(), answer.retry_after_seconds), problem)
                }
                // The one wait without end is for a master that is not there.
                Err(error @ ClientError::Connect(..)) => (Heard::NOTHING, error.to_string()),
                // A bad block of its stick would break every one.
                Err(error @ (ClientError::Broke(..) | ClientError::TimedOut(..))) => {
                    put_off += 1;
                    (Heard::NOTHING, error.to_string())
                }
                Err(error @ ClientError::TooLarge(..)) => (Heard::Refused, error.to_string()),
            };
            if heard == Heard::Refused || put_off >= POST_TRIES {
                say(&format!("post.tgz: {problem}; going on without it"));
                return None;
            }
            let wait = heard.wait(tries, rand::random());
            say(&format!(
                "waiting for post.tgz: {problem}; next try in {} s",
                wait.as_secs().max(1)
            ));
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }

    /// Fetches and runs `post.tgz` where the master has one.
    async fn workload(&self) -> Option<post::Results> {
        let archive = self.fetch_workload().await?;
        if let Some(key) = &self.orders.key
            && let Err(error) = self.prove(key, &archive).await
        {
            say(&format!(
                "post.tgz is not run beside this machine's own stick: {error:#}"
            ));
            return None;
        }
        let bounds = post::Bounds::default();
        let limit = bounds.run.as_secs();
        say(&format!(
            "running post.sh of the site ({} bytes packed), for {limit} s at most",
            archive.len()
        ));
        self.report(
            Stage::Collected,
            Some(format!("runs post.sh, for {limit} s at most")),
            None,
        )
        .await;
        let environment = [
            ("RECON_NODE", self.id.to_string()),
            ("RECON_MASTER", format!("http://{}", self.orders.master)),
        ];
        let place = post_place();
        let name: String = Sha256::digest(&archive)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let started = Instant::now();
        let mut running = std::pin::pin!(post::run(archive, &name, &place, &environment, bounds));
        let results = loop {
            match tokio::time::timeout(POST_SAID, &mut running).await {
                Ok(results) => break results,
                Err(_) => say(&format!(
                    "post.sh has run for {} s, of {limit} at most",
                    started.elapsed().as_secs()
                )),
            }
        };
        match &results.status {
            status if status.succeeded => say("post.sh succeeded"),
            status => say(&format!(
                "post.sh failed: {}; recorded, going on",
                match status.exit_code {
                    Some(code) => format!("exit code {code}"),
                    None => "no exit code".to_owned(),
                }
            )),
        }
        for problem in &results.status.problems {
            say(&format!("post.sh: {problem}"));
        }
        Some(results)
    }

    /// Whether the master proves that this workload is the site's own. One try: without an answer it is not run.
    async fn prove(&self, key: &SiteKey, archive: &[u8]) -> anyhow::Result<()> {
        let sha256: [u8; 32] = Sha256::digest(archive).into();
        let nonce: [u8; 16] = rand::random();
        let target = format!("/api/v1/workload?nonce={:032x}", u128::from_be_bytes(nonce));
        let (master, headers) = (self.orders.master, self.headers());
        let (status, body) = exchange(master, Method::GET, &target, &headers, Bytes::new(), FETCH_POST)
            .await
            .context("asking the master for a proof")?;
        anyhow::ensure!(status.is_success(), "asked for a proof, the master answered {status}");
        let said = serde_json::from_slice(&body).context("the master's proof is not understood")?;
        let proven = workload::is_proven(key, &nonce, &sha256, &said);
        anyhow::ensure!(proven, "the master does not prove that it is this site's");
        Ok(())
    }

    async fn upload(&mut self, take: &Take, results: Option<&post::Results>) -> anyhow::Result<Kept> {
        let headers = self.headers();
        upload::upload(self.orders.master, headers, &mut self.id, take, results).await
    }

    /// Policy by the kernel command line, else as the master says, else stay up: the careful end.
    async fn policy(&self) -> PowerOff {
        if let Some(policy) = self.orders.poweroff {
            return policy;
        }
        let said = self.ask_policy().await;
        said.and_then(|policy| end_of(&policy)).unwrap_or_else(|error| {
            say(&format!(
                "how this machine is to end is not known, so it stays on: {error:#}. Power it off by hand"
            ));
            PowerOff::Never
        })
    }

    /// One try.
    async fn ask_policy(&self) -> anyhow::Result<Policy> {
        let mac = self.macs.first().map(|mac| mac.to_string()).unwrap_or_default();
        let target = format!("/api/v1/policy?mac={mac}&uuid={}", self.uuid.as_deref().unwrap_or(""));
        let (status, body) = exchange(
            self.orders.master,
            Method::GET,
            &target,
            &self.headers(),
            Bytes::new(),
            QUICK,
        )
        .await
        .context("asking the master")?;
        policy_said(status, &body)
    }

    /// This machine's clock minus the master's, in milliseconds; `None` where the master does not answer.
    async fn clock_offset(&self) -> Option<i64> {
        let sent = clock::unix_millis();
        let master = self.ask_policy().await.ok()?.now_ms?;
        Some(offset(sent, clock::unix_millis(), master))
    }

    async fn end(&self, kept: Kept) {
        let stored = match kept {
            Kept::Durable => "stored",
            Kept::Memory => "stored in the master's memory only",
            Kept::Refused(problem) => {
                // Whatever the policy: a machine that is off tells nobody anything.
                let sentence =
                    format!("NOT STORED: {problem}; this machine stays up, `recon inventory` shows what it is");
                say(&sentence);
                return self.report(Stage::Collected, None, Some(sentence)).await;
            }
        };
        match self.policy().await {
            PowerOff::Never => {
                say(&format!("{stored}; this machine stays up"));
                self.report(Stage::Collected, Some(format!("{stored}, stays up")), None)
                    .await;
            }
            PowerOff::Acpi => {
                say(&format!("{stored}; powering off"));
                self.report(Stage::Off, Some("powering off by ACPI".to_owned()), None)
                    .await;
                if let Err(error) = power::off().await {
                    self.stays(&format!("{stored}, power-off failed: {error}: power off by hand"))
                        .await;
                }
            }
            PowerOff::Ipmi => self.end_by_ipmi(stored).await,
        }
    }

    async fn end_by_ipmi(&self, stored: &str) {
        let opened = tokio::task::spawn_blocking(ipmi::Bmc::open).await;
        let mut bmc = match opened {
            Ok(Ok(bmc)) => bmc,
            Ok(Err(ipmi::BmcError::NoDevice)) => {
                return self.stays(&format!("{stored}, no BMC: power off by hand")).await;
            }
            Ok(Err(error)) => return self.stays(&format!("{stored}, BMC: {error}: power off by hand")).await,
            Err(error) => return self.stays(&format!("{stored}, BMC: {error}: power off by hand")).await,
        };
        say(&format!("{stored}; powering off by IPMI"));
        self.report(Stage::Off, Some("powering off by IPMI".to_owned()), None)
            .await;
        let asked = tokio::task::spawn_blocking(move || bmc.power_off()).await;
        if let Ok(Err(error)) = asked {
            return self
                .stays(&format!(
                    "{stored}, BMC refused to power off: {error}: power off by hand"
                ))
                .await;
        }
        tokio::time::sleep(POWER_DOWN).await;
        self.stays(&format!(
            "{stored}, the BMC took the power-off but the machine still runs: power off by hand"
        ))
        .await;
    }

    async fn stays(&self, sentence: &str) {
        say(sentence);
        self.report(Stage::Collected, Some(sentence.to_owned()), None).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usb_disk_is_to_come_until_it_has_a_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            !usb_disk_to_come(&dir.path().join("none")),
            "no driver, nothing to wait for"
        );
        std::fs::write(dir.path().join("new_id"), "").unwrap();
        assert!(!usb_disk_to_come(dir.path()));
        let host = dir.path().join("2-1:1.0/host6");
        std::fs::create_dir_all(&host).unwrap();
        assert!(usb_disk_to_come(dir.path()));
        std::fs::create_dir(host.join("target6:0:0")).unwrap();
        assert!(!usb_disk_to_come(dir.path()));
    }

    /// Whatever is no clear word powers nothing off, and says why.
    #[test]
    fn only_a_clear_word_powers_a_machine_off() {
        let said = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            policy_said(status, body.as_bytes()).and_then(|policy| end_of(&policy))
        };
        let clear = r#"{"post_action": "inventory", "poweroff": "acpi"}"#;
        assert_eq!(said(200, clear).unwrap(), PowerOff::Acpi);
        for (status, body, why) in [
            (500, clear, "500"),
            (404, clear, "404"),
            (200, "", "not understood"),
            (200, "<html>", "not understood"),
            (200, r#"{"post_action": "inventory"}"#, "not understood"),
            (
                200,
                r#"{"post_action": "inventory", "poweroff": null}"#,
                "not understood",
            ),
            (
                200,
                r#"{"post_action": "inventory", "poweroff": "Acpi"}"#,
                "known: never",
            ),
            (200, r#"{"post_action": "inventory", "poweroff": ""}"#, "known: never"),
        ] {
            let error = format!("{:#}", said(status, body).unwrap_err());
            assert!(error.contains(why), "{body}: {error}");
        }
    }

    #[test]
    fn the_masters_clock_is_compared_halfway() {
        assert_eq!(offset(1_000, 1_200, 1_100), 0);
        assert_eq!(offset(5_000, 5_400, 200), 5_000);
    }
}
