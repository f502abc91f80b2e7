//! `recon write-disk`: a menu of disks; the person chooses one and names it again before anything is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::model::inventory::{Disk, DiskKind};
use crate::model::shown::{self, Shown};
use crate::model::slice::Slice;
use crate::probe;
use crate::stick::{install, medium};
use crate::sys::block;
use crate::sys::terminal::Terminal;

use super::args::WriteDiskArgs;
use super::console;

/// Asks, writes, verifies; comes back to the menu after each disk.
pub(crate) fn run(args: &WriteDiskArgs) -> anyhow::Result<()> {
    let (image, own_disk) = source(args)?;
    let (input, mut output) = console::open(args.terminal.tty.as_deref())?;
    let mut lines = BufReader::new(input).lines();
    let mut read = move || lines.next().transpose().context("reading from the terminal");
    loop {
        let disks = candidates(own_disk.as_deref());
        say(&mut output, &menu(&disks, image.length))?;
        let Some(choice) = read()? else { return Ok(()) };
        let disk = match choose(&disks, choice.trim()) {
            Choice::Disk(disk) => disk,
            Choice::Again => continue,
            Choice::Wrong(why) => {
                say(&mut output, &format!("{why}\n"))?;
                continue;
            }
        };
        say(
            &mut output,
            &format!(
                "Everything on {} will be lost. Type its name to go on: ",
                describe(disk)
            ),
        )?;
        let Some(name) = read()? else { return Ok(()) };
        if name.trim() != disk.name {
            say(&mut output, "That is not its name; nothing was written.\n")?;
            continue;
        }
        match write(&image, &disk.name, &mut output) {
            Ok(()) => say(
                &mut output,
                &format!("\n{} holds the image and boots. Every byte was read back.\n", disk.name),
            )?,
            Err(error) => {
                say(&mut output, "\n")?;
                let text = Shown::error(&format!("{}: {error:#}", disk.name));
                output.write(&text).context("writing to the terminal")?;
            }
        }
    }
}

fn source(args: &WriteDiskArgs) -> anyhow::Result<(Slice, Option<PathBuf>)> {
    let found = match &args.image {
        Some(path) => medium::at(path).with_context(|| format!("looking for an image in {}", path.display()))?,
        None => medium::of_live_system()
            .context("looking for the boot medium; elsewhere than on recon's own image, name an image with --image")?,
    };
    let image = found.image.context(
        "the boot medium holds no whole image: write the image to a stick as it is, not its files, and boot from that",
    )?;
    Ok((image, found.disk))
}

/// Disks that can be written: not the one this system runs from, not optical, and not a drive without a block device.
fn candidates(own: Option<&Path>) -> Vec<Disk> {
    let boot_medium: BTreeSet<String> = own.iter().map(|path| path.display().to_string()).collect();
    let options = probe::Options {
        boot_medium,
        ..probe::Options::new(String::new())
    };
    let inventory = probe::collect(&probe::Root::live(), None, &options);
    let disks = inventory.disks.value.unwrap_or_default();
    disks
        .into_iter()
        .filter(|disk| disk.kind == DiskKind::Disk && !disk.boot_medium)
        .filter(|disk| disk.nvme.as_ref().is_none_or(|nvme| nvme.controller != disk.name))
        .collect()
}

enum Choice<'a> {
    Disk(&'a Disk),
    /// The list was asked for anew.
    Again,
    Wrong(String),
}

fn choose<'a>(disks: &'a [Disk], text: &str) -> Choice<'a> {
    if text.is_empty() {
        return Choice::Again;
    }
    let number = text.parse::<usize>().ok();
    match number.and_then(|number| disks.get(number.checked_sub(1)?)) {
        Some(disk) => Choice::Disk(disk),
        None => Choice::Wrong(format!("{text:?} is not a number of the list; nothing was written.")),
    }
}

fn menu(disks: &[Disk], image_bytes: u64) -> String {
    let mut text = format!(
        "\nWrite the recon image ({} MB) to a disk:\n\n",
        image_bytes / 1_000_000
    );
    for (index, disk) in disks.iter().enumerate() {
        text.push_str(&format!("  {}  {}\n", index + 1, describe(disk)));
    }
    if disks.is_empty() {
        text.push_str("  there is no disk besides the one this system runs from\n");
    }
    text.push_str("\nNumber of the disk (Enter lists them anew): ");
    text
}

fn describe(disk: &Disk) -> String {
    let size = disk.size_bytes.map_or("size unknown".to_owned(), |bytes| {
        format!("{} GB", bytes / 1_000_000_000)
    });
    let words = [
        Some(size),
        disk.model.clone(),
        disk.serial.as_ref().map(|serial| format!("serial {serial}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    // A line break in what a disk calls itself makes no row of the menu.
    shown::line(&format!("{}: {}", disk.name, words.join(", "))).into_owned()
}

fn write(image: &Slice, name: &str, output: &mut Terminal) -> anyhow::Result<()> {
    let device = Path::new("/dev").join(name);
    let source = File::open(&image.path).with_context(|| format!("opening {}", image.path.display()))?;
    if image.offset != 0 {
        bail!("the image does not start its device");
    }
    block::set_read_only(&device, false).context("making the disk writable")?;
    let written = (|| {
        let disk = block::open_exclusive(&device).context("opening the disk; is something on it mounted?")?;
        let disk_bytes = block::size_bytes(&device).context("asking for the size of the disk")?;
        let drop_cache = || block::drop_cache(&disk);
        let mut shown = u64::MAX;
        let mut progress = |done: u64, of: u64| {
            let percent = done * 100 / of.max(1);
            if percent != shown {
                shown = percent;
                let text = format!("writing and reading back: {percent} %");
                output.overwrite(&Shown::line(&text)).ok();
            }
        };
        install::write(&source, image.length, &disk, disk_bytes, &drop_cache, &mut progress).context("installing")?;
        install::start_live_system(&disk).context("choosing the default of the boot menu")
    })();
    // Whatever happened, the guard stands again.
    let guarded = block::set_read_only(&device, true).context("setting the disk read-only again");
    written.and(guarded)
}

fn say(output: &mut Terminal, text: &str) -> anyhow::Result<()> {
    output.write(&Shown::lines(text)).context("writing to the terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Vec<Disk> {
        let disk = |name: &str, model: &str, serial: &str| {
            serde_json::from_value(serde_json::json!({
                "name": name, "kind": "disk", "size_bytes": 480_103_981_056u64, "model": model, "serial": serial,
                "boot_medium": false
            }))
            .unwrap()
        };
        vec![
            disk("sda", "INTEL SSDSC2KB48", "BTYF1234"),
            disk("nvme0n1", "SAMSUNG MZQL2960", "S64F1234"),
        ]
    }

    #[test]
    fn only_a_number_of_the_list_chooses() {
        let disks = disks();
        assert!(matches!(choose(&disks, "1"), Choice::Disk(disk) if disk.name == disks[0].name));
        assert!(matches!(choose(&disks, ""), Choice::Again));
        for wrong in ["0", "3", "-1", "sda", "1 2", "y"] {
            assert!(matches!(choose(&disks, wrong), Choice::Wrong(_)), "{wrong:?}");
        }
        assert!(
            matches!(choose(&[], "1"), Choice::Wrong(_)),
            "a single disk is never taken for granted"
        );
    }

    #[test]
    fn a_disk_is_shown_by_what_is_printed_on_it() {
        let text = menu(&disks(), 254_000_000);
        assert!(
            text.contains("sda: 480 GB, INTEL SSDSC2KB48, serial BTYF1234") && text.contains("254 MB"),
            "{text}"
        );
        let mut evil = disks();
        evil[0].model = Some(shown::EVIL.into());
        let odd = menu(&evil, 254_000_000);
        shown::assert_harmless(&odd);
        assert_eq!(odd.lines().count(), text.lines().count(), "{odd}");
    }
}
