//! `recon inventory`: what a machine is made of, for a person, a program, or a bug report.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::{Format, InventoryArgs};
use super::print;
use crate::model::inventory::Inventory;
use crate::probe::redact::Redaction;
use crate::probe::storage::watch::Watch;
use crate::probe::{self, capture, schema};

pub(super) fn run(args: &InventoryArgs) -> anyhow::Result<()> {
    if args.schema {
        return print(&(serde_json::to_string_pretty(&schema::schema())? + "\n"));
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
        std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
    } else {
        String::new()
    };
    // From the start, so that the time of what comes late is right.
    let watch = live.then(|| Watch::start(probe::Root::live()));
    let options = probe::Options {
        watch,
        boot_medium: probe::disk::boot_medium(&mounts),
        cable_wait: Duration::from_secs(args.cable_wait),
        only: only(&args.only)?,
        ports: match args.ports_up && live {
            true => probe::ports::ready_all(probe::ports::LIMIT),
            false => probe::ports::Readied::default(),
        },
        ..probe::Options::new(jiff::Timestamp::now().to_string())
    };
    if args.cable_wait > 0 {
        tracing::info!("listening for switches up to {} s", args.cable_wait);
    }
    let inventory = probe::collect(&root, sources, &options);
    let mut document = serde_json::to_value(&inventory).context("writing JSON")?;
    let redaction = args.redact.then(|| {
        let key: [u8; 32] = rand::random();
        Redaction::of(&document, &schema::schema(), &key)
    });
    if let Some(redaction) = &redaction {
        redaction.apply(&mut document);
    }
    if let Some(path) = &args.capture {
        write_capture(&root, redaction.as_ref(), path)
            .with_context(|| format!("writing the capture to {}", path.display()))?;
    }
    print(&match args.format {
        Format::Json => serde_json::to_string_pretty(&document).context("writing JSON")? + "\n",
        Format::Tree => probe::text::tree::render(&document),
        Format::Text => {
            let shown: Inventory = serde_json::from_value(document).context("reading the redacted inventory")?;
            probe::text::render(&shown)
        }
    })
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
