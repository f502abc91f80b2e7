//! A peer's whole job: protect the disks, inventory, the site's workload, upload until acknowledged, end by policy.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::config::PowerOff;
use crate::model::api::{Policy, StageReport};
use crate::model::identity::Evidence;
use crate::model::{MacAddr, NodeId, Stage};
use crate::probe::ports;
use crate::service::http::client::{Bounds, exchange};
use crate::service::http::upload::digest_header;
use crate::store::upload::UploadLimits;
use crate::sys::console::say;
use crate::sys::netif::Netlink;
use crate::sys::{block, clock, cmd, ipmi, medium, power};

use super::address::{self, Held};
use super::collecting::{self, Take};
use super::{document, post, retry};

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
const UPLOAD: Bounds = Bounds {
    time: Duration::from_secs(300),
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
const POST_FOLDER: &str = "/run/recon/post";
/// A machine that still runs this long after its BMC took the power-off command was not switched off.
const POWER_DOWN: Duration = Duration::from_secs(30);

/// Does the whole job. Returns when the machine is to stay up; otherwise the power goes off under it.
pub async fn run(orders: Orders) -> anyhow::Result<()> {
    let protect = orders.protect_disks;
    if protect {
        protect_disks();
    }
    let mut collecting = collecting::start(orders.cable_wait, move || {
        settle();
        if protect {
            // Disks that appeared meanwhile; udev guarded them already, this says so where it failed.
            protect_disks();
        }
        // Ports are switched on and their firmware silenced where the machine is ours for the time being.
        match protect {
            true => ports::ready_all(ports::LIMIT),
            false => ports::Readied::default(),
        }
    });
    if let Network::BringUp { mac, held } = &orders.network {
        bring_up(*mac, *held, orders.master.is_ipv6()).await?;
    }
    let mut first = collecting.first().await?;
    let (uuid, macs) = first.inventory.node_id_facts();
    let boot_mac = match &orders.network {
        Network::BringUp { mac: Some(mac), .. } => Some(*mac),
        _ => first.inventory.boot_mac(),
    };
    let id = NodeId::from_facts(uuid.as_deref(), boot_mac)
        .context("this machine has neither a usable SMBIOS UUID nor a network port to be named by")?;
    let limit = usize::try_from(UploadLimits::default().inventory_bytes).unwrap_or(usize::MAX);
    // As the master reads it from the upload, so that both decide alike.
    let evidence = Evidence::of_document(&document::document(&first.inventory, limit)?);
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
    let mut durable = peer.upload(pack(&first, None).context("packing the upload")?).await;
    if !first.complete {
        let waits = match first.awaits_cables {
            true => format!(
                "listening for its switches, up to {} s",
                peer.orders.cable_wait.as_secs()
            ),
            false => "asking slow devices".to_owned(),
        };
        say(&format!("stored what is quick; {waits}"));
    }
    let results = peer.workload().await;
    let (mut last, again) = match first.complete {
        true => (first, results.is_some()),
        false => (collecting.last().await?, true),
    };
    last.set_clock_offset(clock_offset);
    for (part, status, reason) in last.inventory.troubles() {
        say(&format!("inventory of {part} {}: {reason}", status.as_str()));
    }
    if again {
        durable = peer
            .upload(pack(&last, results.as_ref()).context("packing the upload")?)
            .await;
    }
    peer.end(durable).await;
    Ok(())
}

/// Sets every internal disk read-only, except the one this system runs from.
pub fn protect_disks() {
    let medium = medium::of_live_system().ok().and_then(|medium| medium.disk);
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
fn settle() {
    let limit = format!("--timeout={}", SETTLE.as_secs());
    if let Err(error) = cmd::run("udevadm", &["settle", &limit], SETTLE + Duration::from_secs(5)) {
        tracing::warn!(%error, "waiting for device events");
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

/// `v6`: the master is reached over IPv6; an address of the other family is no use then.
async fn bring_up(mac: Option<MacAddr>, held: Option<Held>, v6: bool) -> anyhow::Result<()> {
    let netlink = Netlink::open().context("opening netlink")?;
    let link = address::usable_link(&netlink, Path::new("/sys"), mac).await;
    let asking = || format!("asking for an address on {}", link.name);
    let held = match held.filter(|held| held.address.is_ipv6() == v6) {
        Some(held) => held,
        None if v6 => address::by_dhcp6(&link).await.with_context(asking)?,
        None => address::by_dhcp(&link).await.with_context(asking)?,
    };
    netlink
        .add_address(link.index, held.address, held.prefix)
        .await
        .with_context(|| format!("setting {}/{} on {}", held.address, held.prefix, link.name))?;
    say(&format!("{} is {}/{}", link.name, held.address, held.prefix));
    Ok(())
}

/// The upload: `inventory.json`, `raw/…`, `post/…` in one tar.gz.
fn pack(take: &Take, results: Option<&post::Results>) -> anyhow::Result<Bytes> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    let mut add = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes)
            .with_context(|| format!("adding {name}"))
    };
    let limit = usize::try_from(UploadLimits::default().inventory_bytes).unwrap_or(usize::MAX);
    add("inventory.json", &document::document(&take.inventory, limit)?)?;
    for (name, bytes) in &take.raw {
        add(&format!("raw/{name}"), bytes)?;
    }
    if let Some(results) = results {
        add("post/status.json", &serde_json::to_vec_pretty(&results.status)?)?;
        add("post/output.txt", &results.output)?;
        for (name, bytes) in &results.files {
            add(&format!("post/result/{name}"), bytes)?;
        }
    }
    let mut gzip = tar.into_inner()?;
    gzip.flush()?;
    Ok(gzip.finish()?.into())
}

/// Our clock minus the master's, which it told about halfway between our question and its answer.
fn offset(sent_ms: i64, received_ms: i64, master_ms: i64) -> i64 {
    (sent_ms / 2 + received_ms / 2).saturating_sub(master_ms)
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

    /// Fetches and runs `post.tgz` where the master has one.
    async fn workload(&self) -> Option<post::Results> {
        let mut tries = 0;
        let archive = loop {
            let got = exchange(
                self.orders.master,
                Method::GET,
                "/post.tgz",
                &self.headers(),
                Bytes::new(),
                FETCH_POST,
            )
            .await;
            match got {
                Ok((StatusCode::NOT_FOUND, _)) => return None,
                Ok((StatusCode::OK, body)) => break body.to_vec(),
                Ok((status, _)) => {
                    say(&format!("post.tgz: the master answered {status}; going on without it"));
                    return None;
                }
                Err(error) => {
                    let wait = retry::wait(tries, rand::random());
                    say(&format!(
                        "waiting for the master: {error}; next try in {} s",
                        wait.as_secs().max(1)
                    ));
                    tokio::time::sleep(wait).await;
                    tries += 1;
                }
            }
        };
        say(&format!("running post.sh of the site ({} bytes packed)", archive.len()));
        let environment = [
            ("RECON_NODE", self.id.to_string()),
            ("RECON_MASTER", format!("http://{}", self.orders.master)),
        ];
        let results = post::run(archive, Path::new(POST_FOLDER), &environment, post::Bounds::default()).await;
        match &results.status {
            status if status.succeeded => say("post.sh succeeded"),
            status => say(&format!(
                "post.sh failed: exit code {:?}{}; recorded, going on",
                status.exit_code,
                status
                    .problems
                    .iter()
                    .map(|problem| format!("; {problem}"))
                    .collect::<String>()
            )),
        }
        Some(results)
    }

    /// Uploads until the master acknowledges; answers whether it is durable there.
    async fn upload(&mut self, upload: Bytes) -> bool {
        let digest: [u8; 32] = Sha256::digest(&upload).into();
        let mut headers = self.headers();
        headers.push(("content-digest", digest_header(&digest)));
        headers.push(("content-type", "application/gzip".to_owned()));
        let target = format!("/api/v1/nodes/{}/upload", self.id);
        let mut tries = 0;
        loop {
            let sent = exchange(
                self.orders.master,
                Method::PUT,
                &target,
                &headers,
                upload.clone(),
                UPLOAD,
            )
            .await;
            let problem = match sent {
                Ok((StatusCode::CREATED, body)) => {
                    let stored: Option<crate::model::api::Stored> = serde_json::from_slice(&body).ok();
                    let Some(stored) = stored else { return false };
                    if stored.id != self.id {
                        say(&format!(
                            "another machine names itself by {} as well: this one is kept as {}",
                            self.id.described(),
                            stored.id
                        ));
                        self.id = stored.id;
                    }
                    return stored.durable;
                }
                Ok((status, body)) => {
                    let reason = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
                    format!("the master answered {status}: {reason}")
                }
                Err(error) => error.to_string(),
            };
            let wait = retry::wait(tries, rand::random());
            say(&format!(
                "waiting to store the inventory: {problem}; next try in {} s",
                wait.as_secs().max(1)
            ));
            tokio::time::sleep(wait).await;
            tries = tries.saturating_add(1);
        }
    }

    /// Policy by the kernel command line, else as the master says, else stay up: the careful end.
    async fn policy(&self) -> PowerOff {
        if let Some(policy) = self.orders.poweroff {
            return policy;
        }
        let asked = self.ask_policy().await;
        asked
            .and_then(|policy| policy.poweroff.parse().ok())
            .unwrap_or(PowerOff::Never)
    }

    /// One try.
    async fn ask_policy(&self) -> Option<Policy> {
        let mac = self.macs.first().map(|mac| mac.to_string()).unwrap_or_default();
        let target = format!("/api/v1/policy?mac={mac}&uuid={}", self.uuid.as_deref().unwrap_or(""));
        let asked = exchange(
            self.orders.master,
            Method::GET,
            &target,
            &self.headers(),
            Bytes::new(),
            QUICK,
        )
        .await;
        asked.ok().and_then(|(_, body)| serde_json::from_slice(&body).ok())
    }

    /// This machine's clock minus the master's, in milliseconds; `None` where the master does not answer.
    async fn clock_offset(&self) -> Option<i64> {
        let sent = clock::unix_millis();
        let master = self.ask_policy().await?.now_ms?;
        Some(offset(sent, clock::unix_millis(), master))
    }

    async fn end(&self, durable: bool) {
        let stored = if durable {
            "stored"
        } else {
            "stored in the master's memory only"
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

    #[test]
    fn the_masters_clock_is_compared_halfway() {
        assert_eq!(offset(1_000, 1_200, 1_100), 0);
        assert_eq!(offset(5_000, 5_400, 200), 5_000);
    }
}
