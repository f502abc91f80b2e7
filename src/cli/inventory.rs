//! `recon inventory`: what a machine is made of, for a person, a program, or a bug report.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::{Format, InventoryArgs};
use super::ask::end_signal;
use super::output::print;
use crate::model::inventory::Inventory;
use crate::model::shown::Shown;
use crate::probe;
use crate::probe::cabling::PortSetup;
use crate::probe::collect::redact::Redaction;
use crate::probe::collect::{capture, schema};
use crate::probe::disks::boot_medium::boot_medium;
use crate::probe::disks::watch::Watch;
use crate::role::ports::{self, SwitchedOn};
use crate::sys::mount::mounted;

pub(super) fn run(args: &InventoryArgs) -> anyhow::Result<()> {
    if args.schema {
        return print(&Shown::json(&schema::schema())?);
    }
    let live = args.root == Path::new("/");
    if !args.root.is_dir() {
        bail!(
            "{}: not a folder; unpack a capture first and name the folder it was unpacked to",
            args.root.display()
        );
    }
    let root = match args.capture {
        Some(_) => probe::Root::recording(&args.root),
        None => probe::Root::at(&args.root),
    };
    let sources = live.then(|| Arc::new(probe::ThisMachine) as Arc<dyn probe::LiveSources>);
    let mounts = if live {
        mounted().unwrap_or_default()
    } else {
        Vec::new()
    };
    let only = only(&args.only)?;
    let back = PortsBack::default();
    let ports = match args.ports_up && live {
        true => ready_ports(&back.0)?,
        false => PortSetup::default(),
    };
    // From the start, so that the time of what comes late is right.
    let watch = live.then(|| Watch::start(probe::Root::live(), None));
    let options = probe::Options {
        watch,
        boot_medium: boot_medium(mounts),
        cable_wait: Duration::from_secs(args.cable_wait),
        only,
        ports,
        ..probe::Options::new(jiff::Timestamp::now().to_string())
    };
    if args.cable_wait > 0 {
        tracing::info!("listening for switches up to {} s", args.cable_wait);
    }
    let inventory = probe::collect(&root, sources, &options);
    drop(back);
    write(&inventory, &root, args)
}

/// The document, redacted where that is asked for, to the capture and to standard output.
fn write(inventory: &Inventory, root: &probe::Root, args: &InventoryArgs) -> anyhow::Result<()> {
    let mut document = serde_json::to_value(inventory).context("writing JSON")?;
    let redaction = args.redact.then(|| {
        let key: [u8; 32] = rand::random();
        Redaction::of(&document, &schema::schema(), &key)
    });
    if let Some(redaction) = &redaction {
        redaction.apply(&mut document);
    }
    if let Some(path) = &args.capture {
        write_capture(root, redaction.as_ref(), path)
            .with_context(|| format!("writing the capture to {}", path.display()))?;
    }
    print(&match args.format {
        Format::Json => Shown::json(&document).context("writing JSON")?,
        Format::Tree => probe::text::tree::render(&document),
        Format::Text => {
            let shown: Inventory = serde_json::from_value(document).context("reading the redacted inventory")?;
            probe::text::render(&shown)
        }
    })
}

/// Ports that go back to what they were when this goes, however the function ends.
#[derive(Default)]
struct PortsBack(Arc<Mutex<SwitchedOn>>);

impl Drop for PortsBack {
    fn drop(&mut self) {
        locked(&self.0).switch_off();
    }
}

fn locked(switched_on: &Mutex<SwitchedOn>) -> MutexGuard<'_, SwitchedOn> {
    switched_on.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Switches ports on. Whoever ends the program early (SIGINT, SIGTERM) waits for them to be switched off again.
fn ready_ports(switched_on: &Arc<Mutex<SwitchedOn>>) -> anyhow::Result<PortSetup> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = {
        let _entered = runtime.enter();
        end_signal()?
    };
    // Held until it is known which ports were switched on.
    let mut held = locked(switched_on);
    let shared = Arc::clone(switched_on);
    std::thread::Builder::new()
        .name("ports-back".to_owned())
        .spawn(move || {
            let number = runtime.block_on(ended);
            locked(&shared).switch_off();
            std::process::exit(128 + number.as_raw_value());
        })?;
    let readied = ports::ready_all(ports::LIMIT);
    *held = SwitchedOn::by(&readied);
    Ok(readied)
}

fn only(names: &[String]) -> anyhow::Result<Option<BTreeSet<String>>> {
    let known = Inventory::PARTS;
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("--only {unknown}: no such part; there are {}", known.join(", "));
    }
    Ok((!names.is_empty()).then(|| names.iter().cloned().collect()))
}

/// Never leaves half a capture under the name that was asked for.
fn write_capture(root: &probe::Root, redaction: Option<&Redaction>, path: &Path) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let file = File::create(part)?;
    let written = (|| {
        let mut out = BufWriter::new(&file);
        capture::write_tar(root, redaction, &mut out)?;
        out.flush()?;
        file.sync_all()?;
        std::fs::rename(part, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(part);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_in_the_document() {
        assert_eq!(only(&[]).unwrap(), None);
        let two = only(&["disks".to_owned(), "nics".to_owned()]).unwrap().unwrap();
        assert_eq!(two.len(), 2);
        let error = only(&["disk".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("disks") && error.contains("--only disk:"), "{error}");
    }
}
