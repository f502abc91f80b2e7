//! Internal disks are kept read-only. Exempt is what the running system lies on (`stick/medium.rs`, `live_disk`), and nothing else: a
//! label or an image proves nothing, a disk of the machine may carry both. Before the system is mounted that is no disk at all.
//!
//! Who sets it: a udev rule as soon as a disk appears (`overlay/usr/lib/udev/rules.d/01-recon-guard.rules`, by `recon guard`), process 1 where
//! there is no udev (`role/init.rs`), and here again whoever runs as master or peer of the live image. The kernel is told in `sys/block.rs`. Who takes it off again: a master, of its
//! own stick when no other stick could be that (`role/master/storage.rs`, decided by `stick/medium.rs`, `may_write`), and
//! `recon write-disk`, of the disk that a person named twice (`cli/write_disk.rs`), and sets it again afterwards.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::model::console::console;
use crate::stick::medium;
use crate::sys::block::{self, GuardResult};
use crate::sys::uevent::{Heard, Uevents};

/// How long is waited for the next word of a device; another wait follows.
const WHATEVER_COMES: Duration = Duration::from_secs(3600);

/// Sets these devices read-only, or every internal disk where none is named, and gives how it ended for each. Blocks.
fn set_read_only(devices: &[String]) -> io::Result<Vec<GuardResult>> {
    let own = medium::live_disk();
    let exempt: block::Exempt = Arc::new(move |path: &Path| Some(path) == own.as_deref());
    block::guard(devices, &exempt)
}

/// Sets every internal disk read-only and says on the console where that failed: a disk that cannot be set does not stop the work.
pub(crate) fn protect_disks() {
    match set_read_only(&[]) {
        Ok(results) => {
            for result in results.iter().filter(|result| !result.is_safe()) {
                console!("disk {result}");
            }
            tracing::info!(disks = results.len(), "internal disks are read-only");
        }
        Err(error) => {
            console!("the disks could not be listed to set them read-only: {error}");
        }
    }
}

/// Sets every disk read-only, and each further one as soon as the kernel speaks of it. For a system without udev; never returns but with an error,
/// and calls `listening` once nothing can be missed any more.
pub(crate) fn protect_as_they_come(listening: impl FnOnce()) -> io::Result<()> {
    let events = Uevents::listen()?;
    listening();
    beside(protect_disks)?;
    let mut named = BTreeSet::new();
    loop {
        // What was said at once is judged at once: a dying disk holds up no other.
        let limit = if named.is_empty() {
            WHATEVER_COMES
        } else {
            Duration::ZERO
        };
        match events.next(limit)? {
            Heard::Silence if named.is_empty() => {}
            Heard::Silence => {
                let names = Vec::from_iter(std::mem::take(&mut named));
                beside(move || protect(&names))?;
            }
            Heard::Lost => beside(protect_disks)?,
            Heard::Event(event) if event.subsystem == "block" && event.devtype == "disk" => named.extend(event.devname),
            Heard::Event(_) => {}
        }
    }
}

fn beside(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(work)
        .map(drop)
}

fn protect(names: &[String]) {
    match still_writable(names) {
        Ok(open) => open.iter().for_each(|disk| console!("disk {disk}")),
        Err(error) => console!("{} could not be set read-only: {error}", names.join(", ")),
    }
}

/// The devices that are still writable, each with what happened. For udev, which waits.
pub(crate) fn still_writable(devices: &[String]) -> io::Result<Vec<String>> {
    let results = set_read_only(devices)?;
    let open = results.iter().filter(|result| !result.is_safe());
    Ok(open
        .map(|result| format!("{}: {:?}", result.device, result.outcome))
        .collect())
}
