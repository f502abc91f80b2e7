//! What a peer of the first stage does before its job: the drivers of its ports from the initrd, a way to the master, then from there the drivers
//! of everything else that this machine has, and what they need.
//!
//! The initrd holds a manifest of all modules for its kernel, and the few of them that bring up the port it booted from. What is missing lies on the
//! master in one file, of which each part is fetched by itself and checked with the sum in the manifest (`pack.rs`). Drivers are loaded as devices ask
//! for them by `modalias`, by some threads that go on for as long as this process runs, so that a disk that is plugged in later is found as well
//! (`drivers.rs`).

mod drivers;
mod of_disks;
mod pack;
mod watchdog;

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::config::KernelLine;
use crate::formats::modules::Manifest;
use crate::model::MacAddr;
use crate::model::console::console;
use crate::probe::disks::watch::Loader;
use crate::role::peer::network::{PortAddress, bring_up};
use crate::sys::netif::{self, Netlink};
use crate::sys::watchdog::SOFTWARE;
use crate::sys::{file, init, power};

use drivers::Drivers;
use pack::Pack;

/// Made with the initrd (`image/stage`).
const MANIFEST: &str = "/usr/lib/recon/first-stage/manifest.tsv";
/// A manifest of everything that Linux has is some 2 MB.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// Longest wait for the drivers of the initrd, which bring up the port. A port that needs longer is waited for by who wants it.
const PORTS_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for all the others; disks have a wait of their own behind it.
const DRIVERS_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for programs. The inventory, or the site's work, goes on without.
const PROGRAMS_LIMIT: Duration = Duration::from_secs(120);
/// Drivers whose devices no bus announces: as the live image loads them.
const UNANNOUNCED: &str = include_str!("../../overlay/etc/modules-load.d/recon.conf");
/// What the kernel would have modprobe load when it is first used: packets before there is an address, and IPv6.
const FIRST: [&str; 2] = ["af_packet", "ipv6"];
/// A machine without the port that it booted from is started again after this long, so that its master sees that it loops and gives it an
/// initrd with every driver.
const PORT_LIMIT: Duration = Duration::from_secs(300);
const LOOPBACK: u32 = 1;
/// What shows the variables of UEFI firmware.
const EFIVARFS: &str = "efivarfs";

/// Groups of the manifest: programs that are fetched where they are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// Asks disks behind RAID controllers.
    Smartctl,
    /// What the site's workload may use.
    Shell,
}

impl Programs {
    fn group(self) -> &'static str {
        match self {
            Programs::Smartctl => "smartctl",
            Programs::Shell => "shell",
        }
    }
}

/// Where the rest comes from; set once this machine reaches its master.
static PACK: OnceLock<Pack> = OnceLock::new();
/// Who loads the drivers of a peer's disks; set at the same time.
static DRIVERS: OnceLock<Arc<Drivers>> = OnceLock::new();

/// Who loads drivers, where this is a first stage whose peer is at its job.
pub(crate) fn loader() -> Option<Arc<dyn Loader>> {
    let drivers = DRIVERS.get()?;
    Some(Arc::clone(drivers) as Arc<dyn Loader>)
}

/// The drivers of a boot image or a node, all of which are in its initrd.
pub(crate) struct Ports(Arc<Drivers>);

impl Ports {
    /// Loads what no device asks for.
    pub(crate) async fn want(&self, names: &[&str]) {
        for name in names {
            self.0.want(name);
        }
        settled(&self.0, PORTS_LIMIT).await;
    }
}

/// Loads what the initrd has for this machine.
async fn begin(manifest: &Arc<Manifest>) -> anyhow::Result<Arc<Drivers>> {
    // One that a worker before this one started is to be fed at once.
    watchdog::start().await;
    let drivers = Arc::new(Drivers::start(Arc::clone(manifest)).context("looking for devices")?);
    for name in FIRST {
        drivers.want(name);
    }
    settled(&drivers, PORTS_LIMIT).await;
    switch_on_loopback().await;
    Ok(drivers)
}

/// Loads the drivers of ports, and names the ports.
pub(crate) async fn ports() -> anyhow::Result<Ports> {
    let ports = Ports(begin(&Arc::new(manifest()?)).await?);
    if !watchdog::is_there() {
        ports.want(&[SOFTWARE]).await;
    }
    watchdog::start().await;
    console!("drivers: {} loaded", ports.0.loaded());
    Ok(ports)
}

/// Readies the machine for a node's job: returns when its port has its address; gives that port, and who loads further drivers. Everything else is the work of the node's own system.
pub(crate) async fn node_port(line: &KernelLine, master: SocketAddr) -> anyhow::Result<(MacAddr, Ports)> {
    let drivers = begin(&Arc::new(manifest()?)).await?;
    let (mac, _) = reach(line, master, &drivers).await?;
    Ok((mac, Ports(drivers)))
}

/// Brings up the port that the machine booted from.
async fn reach(
    line: &KernelLine,
    master: SocketAddr,
    drivers: &Arc<Drivers>,
) -> anyhow::Result<(MacAddr, PortAddress)> {
    if expect_port(line.boot_mac).await? {
        // It has its name before anything switches it on.
        settled(drivers, PORTS_LIMIT).await;
    }
    let held = line.address.map(|(address, prefix)| PortAddress {
        address,
        prefix,
        router: line.router,
    });
    bring_up(line.boot_mac, held, master.is_ipv6()).await
}

/// Readies the machine for a peer's job: returns when its port has its address, and the drivers of what was found are loaded. Gives the port
/// and that address.
pub(crate) async fn prepare(line: &KernelLine, master: SocketAddr) -> anyhow::Result<(MacAddr, PortAddress)> {
    let manifest = Arc::new(manifest()?);
    let began = Instant::now();
    let drivers = begin(&manifest).await?;
    let port = reach(line, master, &drivers).await?;
    let network = began.elapsed();
    let pack = PACK.get_or_init(|| Pack::new(master, manifest));
    drivers.go_on_with(pack.clone());
    DRIVERS.get_or_init(|| Arc::clone(&drivers));
    for name in UNANNOUNCED.lines().filter(|line| !line.starts_with('#')) {
        drivers.want(name.trim());
    }
    if Path::new(init::EFI).exists() {
        drivers.want(EFIVARFS);
    }
    if !watchdog::is_there() {
        drivers.want(SOFTWARE);
    }
    settled(&drivers, DRIVERS_LIMIT).await;
    watchdog::start().await;
    if Path::new(init::EFI).exists()
        && let Err(error) = init::mount_efivars()
    {
        console!("the firmware's variables cannot be read: {error}");
    }
    if drivers.has_raid_controller() {
        fetch(Programs::Smartctl).await;
    }
    console!(
        "drivers: {} loaded, {} KiB fetched from the master; network after {:.1} s, all after {:.1} s",
        drivers.loaded(),
        pack.fetched_bytes() >> 10,
        network.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
    Ok(port)
}

/// Fetches programs that are not here yet. Nothing where this system is no first stage; what cannot be had, or not in
/// time, is said. True where they are here, or another system has its own.
pub(crate) async fn fetch(programs: Programs) -> bool {
    let Some(pack) = PACK.get() else { return true };
    let pack = pack.clone();
    let done = tokio::task::spawn_blocking(move || pack.group(programs.group(), PROGRAMS_LIMIT)).await;
    if let Ok(Err(error)) = &done {
        console!("{} could not be fetched from the master: {error}", programs.group());
    }
    matches!(done, Ok(Ok(_)))
}

/// A workload may speak to itself.
async fn switch_on_loopback() {
    let up = async { Netlink::open()?.up(LOOPBACK).await };
    if let Err(error) = up.await {
        tracing::warn!(%error, "switching the loopback on");
    }
}

/// Waits until there is the port that this machine booted from, or any where that is not known. True where it was not there yet.
async fn expect_port(mac: Option<MacAddr>) -> anyhow::Result<bool> {
    let began = Instant::now();
    let is_here = || {
        let links = netif::wired_links(Path::new("/sys")).unwrap_or_default();
        links.iter().any(|link| mac.is_none_or(|mac| link.mac == mac))
    };
    let mut said = false;
    while !is_here() {
        if !std::mem::replace(&mut said, true) {
            let port = mac.map_or_else(|| "a wired network port".to_owned(), |mac| format!("the port {mac}"));
            console!(
                "waiting for {port}: no driver has brought it up yet; this machine starts again in {} s",
                PORT_LIMIT.as_secs()
            );
        }
        if began.elapsed() > PORT_LIMIT {
            console!("no driver for the port that this machine booted from: starting again");
            power::restart()?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(said)
}

async fn settled(drivers: &Arc<Drivers>, limit: Duration) {
    let waits = Arc::clone(drivers);
    if let Ok(Some(names)) = tokio::task::spawn_blocking(move || waits.settled(limit)).await {
        console!("going on while these are not done: {}", names.join(", "));
    }
}

fn manifest() -> anyhow::Result<Manifest> {
    let mut text = String::new();
    let file = file::open(Path::new(MANIFEST));
    let read = file.and_then(|file| file.take(MAX_MANIFEST_BYTES).read_to_string(&mut text));
    read.with_context(|| format!("reading {MANIFEST}"))?;
    let manifest = Manifest::read(&text).with_context(|| format!("reading {MANIFEST}"))?;
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("asking which kernel runs")?;
    if manifest.kernel() != running.trim() {
        bail!(
            "this initrd is made for Linux {}, and {} runs: kernel and initrd are of different media",
            manifest.kernel(),
            running.trim()
        );
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody is there to fetch it from.
    #[test]
    fn the_boot_image_has_the_watchdog_that_it_wants() {
        let table = include_str!("../../kiwi/common/first-stage.tsv");
        let path = format!("drivers/watchdog/{SOFTWARE}");
        let has = |word: &str| {
            table.lines().any(|line| {
                let mut fields = line.split('\t');
                fields.next() == Some(word) && fields.next() == Some(&path)
            })
        };
        assert!(has("boot") && has("allow"));
    }
}
