//! A diskless node: fetches the root file system of its image into memory, and leaves the machine to that.
//!
//! Its kernel and this initrd are the image's own, so their modules fit. What it starts stands on its kernel line by the SHA-256 of the
//! manifest, and the manifest has the sum of the root: nothing of it runs before that was compared. Process 1 (`role/init.rs`)
//! starts the new system once this worker ended; what goes on of recon there is in `system.rs`.

mod asking;
mod memory;
mod own;
mod places;
mod root;
mod system;
pub(crate) mod up;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::config::KernelLine;
use crate::config::load::small_file;
use crate::formats::image::{
    self, MANIFEST, MAX_BYTES, MAX_SIGNATURE_BYTES, MAX_TRUSTED_BYTES, Manifest, SIGNATURE, TRUSTED,
};
use crate::image::signature::Trusted;
use crate::model::console::console;
use crate::model::identity::Evidence;
use crate::model::{ImageWord, MacAddr, NodeId, PinnedImage, RootForm, Stage, layout};
use crate::probe::text::decimal_size;
use crate::role::boot_from::asked::Config;
use crate::role::boot_from::machine::{is_by_kexec, memory_bytes};
use crate::role::boot_from::run;
use crate::role::first_stage::{self, Ports};
use crate::role::peer::session::Session;
use crate::sys::{file, netif};

use asking::{ASKING, Vain, asked};
use memory::Held;
use places::{Packed, Unpacked};

/// Where the new root is made. Process 1 is told so by a file of this name, whose content it is.
const ROOT: &str = "/sysroot";
pub(crate) const HANDED_OVER: &str = "/run/recon-new-root";
const UUID: &str = "/sys/class/dmi/id/product_uuid";
const SERIAL: &str = "/sys/class/dmi/id/product_serial";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Failures of which one may be an accident; a master that is away is waited for, and is none.
const TRIES: u32 = 3;
/// After a failure that may be gone by then: an image that was brought anew, memory that somebody plugged in.
const AGAIN: Duration = Duration::from_secs(60);

/// A boot script of the master's own begins again for no longer than this.
const ELSEWHERE: Duration = Duration::from_secs(180);

/// Returns once the new system may be started.
pub(crate) async fn run(line: &KernelLine, master: SocketAddr) -> anyhow::Result<()> {
    let pinned = line
        .image
        .as_ref()
        .context("the kernel line has postaction=image, and no recon.image= that says which")?;
    let (mac, drivers) = first_stage::node_port(line, master).await?;
    let wish = line.root.unwrap_or_default();
    let session = session(line, master, mac)?;
    console!("node {}: starts {}@{}", session.id, pinned.name, pinned.version);
    session.report(Stage::Agent, None, None).await;
    let mut tries = 0;
    loop {
        tries += 1;
        match start(&session, &drivers, (pinned, wish)).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let why = format!("{error:#}");
                if error.is::<Vain>() || tries >= TRIES {
                    return give_up(&session, pinned, why).await;
                }
                console!("{why}; trying again in {} s", AGAIN.as_secs());
                session.report(Stage::Agent, None, Some(why)).await;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// This machine cannot start its image: what its master has instead, the version before or the failsafe system, is started in its place, at
/// once. Where there is nothing else, or no other kernel can be started from here, its firmware comes back to the boot script after a while.
async fn give_up(session: &Session, pinned: &PinnedImage, why: String) -> anyhow::Result<()> {
    let image = ImageWord {
        name: pinned.name.clone(),
        version: Some(pinned.version.clone()),
    };
    console!("{why}; no other try would change that");
    // From one kernel to the next and on, devices meet what nobody tries: its firmware is asked in between.
    if session.gives_up(image, why).await && !is_by_kexec() {
        console!("its master has something else for this machine: starting that");
        let config = Config {
            url: format!("http://{}/boot.ipxe", session.master),
            is_agreed: true,
            script_patience: Some(ELSEWHERE),
            ..Config::default()
        };
        if let Err(error) = run::boot_to_end(&config, &mut None).await {
            console!("{error:#}");
        }
    }
    console!("this machine starts again in {} s", AGAIN.as_secs());
    run::restart_after(AGAIN).await
}

async fn start(session: &Session, drivers: &Ports, (pinned, wish): (&PinnedImage, RootForm)) -> anyhow::Result<()> {
    let began = Instant::now();
    // What a try before this one left there is no memory that is taken.
    places::remove(Path::new(ROOT)).with_context(|| format!("taking away what was in {ROOT}"))?;
    let trusted = trusted().context("the keys that have to have signed what is started")?;
    let manifest = manifest(session, pinned, trusted.as_ref()).await?;
    // They are small, and without them the rest is of no use.
    let own = own::fetch(session).await?;
    let facts = memory::Facts {
        total_bytes: memory_bytes("MemTotal:"),
        available_bytes: memory_bytes("MemAvailable:"),
        numa_nodes: numa_nodes(),
    };
    let held = memory::held(wish, &manifest, &facts).map_err(Vain)?;
    let bytes = fetched(session, drivers, pinned, (held, &manifest)).await?;
    own::lay(own, Path::new(ROOT), trusted.is_some()).await?;
    system::must_start(Path::new(ROOT)).map_err(anyhow::Error::msg)?;
    let seconds = began.elapsed().as_secs_f64();
    let words = format!(
        "{}@{}: {} in {seconds:.1} s, {}; starting it",
        pinned.name,
        pinned.version,
        decimal_size(bytes.0),
        bytes.1,
    );
    console!("{words}");
    session.report(Stage::Agent, Some(words), None).await;
    let described = system::Described {
        master: session.master,
        id: session.id.clone(),
        macs: session.macs.clone(),
        serial: session.evidence.system_serial.clone(),
        image: pinned.name.clone(),
        version: pinned.version.clone(),
    };
    system::prepare(&described).context("what tells the master that this node is up")?;
    std::fs::write(HANDED_OVER, ROOT).with_context(|| format!("writing {HANDED_OVER}"))
}

/// Fetches the root in one form or the other. Gives how many bytes that were, and how it is held, in words.
async fn fetched(
    session: &Session,
    drivers: &Ports,
    pinned: &PinnedImage,
    (held, image): (Held, &Manifest),
) -> anyhow::Result<(u64, String)> {
    let url = |name: &str| format!("http://{}{}", session.master, path(pinned, name));
    match held {
        Held::Tmpfs { options } => {
            let said = image.root.clone();
            let (bytes, unpacked) = (said.packed.bytes, said.unpacked_bytes);
            let place = Unpacked {
                root: ROOT.into(),
                options,
                said,
            };
            root::fetch(session, &url(image::ROOT), bytes, place).await?;
            Ok((bytes, format!("{} in memory", decimal_size(unpacked))))
        }
        Held::Squashfs { part: said, options } => {
            drivers.want(&image::OF_SQUASHFS).await;
            places::must_mount().map_err(anyhow::Error::msg)?;
            let bytes = said.bytes;
            let place = Packed {
                root: ROOT.into(),
                options,
                said,
            };
            root::fetch(session, &url(image::SQUASHFS), bytes, place).await?;
            Ok((bytes, "packed in memory (squashfs)".to_owned()))
        }
    }
}

/// Path of a file of the image, on the master.
fn path(pinned: &PinnedImage, name: &str) -> String {
    format!("/{}/{}/{}/{name}", layout::IMAGES, pinned.name, pinned.version)
}

/// The manifest that is meant, as soon as the master is there.
async fn manifest(session: &Session, pinned: &PinnedImage, trusted: Option<&Trusted>) -> anyhow::Result<Manifest> {
    let target = path(pinned, MANIFEST);
    let bytes = asked(session, &target, ASKING, MAX_BYTES as usize).await?;
    if image::sum(&bytes) != pinned.sum {
        let why =
            format!("{target} is not the one that this machine was started with: was its image replaced by hand?");
        return Err(Vain(why).into());
    }
    if let Some(trusted) = trusted {
        let signature = asked(session, &path(pinned, SIGNATURE), ASKING, MAX_SIGNATURE_BYTES as usize).await;
        let signature = signature.map_err(|error| match error.is::<Vain>() {
            true => Vain(format!(
                "{target}: it is not signed, and this node starts only what its keys signed"
            ))
            .into(),
            false => error,
        })?;
        trusted
            .verify(&bytes, &signature)
            .map_err(|why| Vain(format!("{target}: {why}, and this node starts nothing else")))?;
    }
    Manifest::read(&bytes).map_err(|why| anyhow::anyhow!("{target}: {why}"))
}

/// The keys in this first stage; none where no signature is asked for. What cannot be read is no reason to ask for none.
fn trusted() -> anyhow::Result<Option<Trusted>> {
    trusted_in(Path::new("/"))
}

fn trusted_in(root: &Path) -> anyhow::Result<Option<Trusted>> {
    let Some(bytes) = small_file(&root.join(TRUSTED), MAX_TRUSTED_BYTES)? else {
        return Ok(None);
    };
    if bytes.len() as u64 > MAX_TRUSTED_BYTES {
        bail!("{TRUSTED} is too long");
    }
    let text = String::from_utf8(bytes)?;
    Trusted::read(&text).map(Some).map_err(anyhow::Error::msg)
}

fn numa_nodes() -> usize {
    let entries = std::fs::read_dir("/sys/devices/system/node")
        .into_iter()
        .flatten()
        .flatten();
    let is_node = |name: &str| {
        let number = name.strip_prefix("node").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_node))
        .count()
}

/// Who this machine says it is: what an inventory would call it.
pub(crate) fn session(line: &KernelLine, master: SocketAddr, mac: MacAddr) -> anyhow::Result<Session> {
    let text = |path: &str| {
        let text = file::open(Path::new(path)).and_then(std::io::read_to_string).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let links = netif::wired_links(Path::new("/sys")).unwrap_or_default();
    // The one that it booted from goes first: by that the master knows what it is to do.
    let own = line.boot_mac.unwrap_or(mac);
    let others = links.iter().map(|link| link.mac);
    let others = others.filter(|mac| !mac.is_unusable() && *mac != own);
    let macs: Vec<MacAddr> = std::iter::once(own).chain(others).collect();
    let uuid = text(UUID).map(|uuid| uuid.to_ascii_lowercase());
    let id = NodeId::from_facts(uuid.as_deref(), Some(own));
    Ok(Session {
        master,
        token: line.token.clone(),
        id: id.context("this machine has no network port to be named by")?,
        evidence: Evidence {
            uuid: uuid.clone(),
            system_serial: text(SERIAL),
            ports: macs.iter().copied().collect(),
            boot_id: text(BOOT_ID),
            ..Evidence::default()
        }
        .checked(),
        macs,
        uuid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_read_are_not_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(trusted_in(root.path()).unwrap(), None);
        let file = root.path().join(TRUSTED);
        std::fs::create_dir_all(&file).unwrap();
        assert!(trusted_in(root.path()).is_err());
        std::fs::remove_dir(&file).unwrap();
        let key = include_str!("../../tests/golden/own/key.pub");
        for (text, is_read) in [
            (key.to_owned(), true),
            (String::new(), false),
            ("x".to_owned(), false),
            (key.repeat(1000), false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(trusted_in(root.path()).is_ok(), is_read);
        }
    }
}
