//! What the boot image does: the drivers of its ports, an address, and what its settings name, fetched and started in its place.
//!
//! All drivers of network ports are in the initrd, so nobody is needed for them. Whatever fails is said on the console and tried again: a
//! switch may still block its port, a server may be on its way back, and nobody may be there to press a key.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};

use crate::config::boot_file::{BootFile, Network};
use crate::config::cmdline::BootWord;
use crate::model::backoff;
use crate::model::console::console;
use crate::role::boot_from::run::{self, Config};
use crate::role::first_stage;
use crate::role::peer::network::{self, PortAddress};
use crate::sys::file;

/// Where the boot loader puts the settings, and certificates beside them.
const SETTINGS: &str = "/etc/recon/boot.toml";
const AUTHORITIES: &str = "/etc/recon/ca.pem";
/// Nobody writes more by hand.
const MAX_SETTINGS_BYTES: u64 = 64 << 10;
/// What resolves names reads there.
const RESOLVER: &str = "/etc/resolv.conf";
/// A file with a mistake is not mended while this runs, but read again all the same: somebody may look at the screen only now.
const MISTAKE: Duration = Duration::from_secs(60);

/// Works until something else runs in its place.
pub(crate) async fn run(word: &BootWord) -> anyhow::Result<()> {
    let file = loop {
        match settings(word) {
            Ok(file) => break file,
            Err(error) => console!("{error:#}. Mend it on any computer, and start this machine again"),
        }
        tokio::time::sleep(MISTAKE).await;
    };
    first_stage::ports().await?;
    let url = match word {
        BootWord::Url(url) => url.clone(),
        BootWord::Settings => file.boot.url.clone().unwrap_or_default(),
    };
    bring_up(&file.network).await?;
    let config = Config {
        url,
        authorities: [PathBuf::from(AUTHORITIES)]
            .into_iter()
            .filter(|path| path.exists())
            .collect(),
        proxy: file.boot.proxy.clone(),
        append: file.boot.append.clone(),
        is_agreed: true,
        ..Config::default()
    };
    for tries in 0.. {
        match run::boot(&config).await {
            // It goes on elsewhere, or the script wants nothing of this machine.
            Ok(()) => return Ok(()),
            Err(error) => console!("{error:#}"),
        }
        let wait = backoff::wait(tries, rand::random());
        console!("next try in {} s", wait.as_secs());
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

fn settings(word: &BootWord) -> anyhow::Result<BootFile> {
    let place = "the settings of the boot image (recon.txt)";
    let mut bytes = Vec::new();
    match file::open(Path::new(SETTINGS)) {
        Ok(file) => file.take(MAX_SETTINGS_BYTES).read_to_end(&mut bytes).context(place)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).context(place),
    };
    let file = BootFile::read(&bytes).map_err(|why| anyhow!("{place}: {why}"))?;
    match (word, &file.boot.url) {
        (BootWord::Settings, None) => Err(anyhow!("{place} name no url: what is this machine to start?")),
        _ => Ok(file),
    }
}

/// The address that the settings name on the first port with a carrier, or the first that any port is given.
async fn bring_up(network: &Network) -> anyhow::Result<()> {
    let mut servers: Vec<IpAddr> = network.dns.clone();
    match network.address().map_err(|why| anyhow!(why))? {
        Some((address, prefix)) => {
            let router = network.gateway;
            let held = PortAddress {
                address,
                prefix,
                router,
            };
            network::bring_up(None, Some(held), address.is_ipv6()).await?;
        }
        None => {
            let given = network::first_lease().await?;
            if servers.is_empty() {
                servers.extend(given.into_iter().map(IpAddr::V4));
            }
        }
    }
    let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(RESOLVER, lines).context(RESOLVER)
}
