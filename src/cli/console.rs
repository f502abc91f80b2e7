//! `recon console`: the status on a terminal, drawn anew as it changes; Enter opens a shell.

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::config::{cmdline, load};
use crate::model::shown::Shown;
use crate::sys::terminal::{self, Terminal};

use super::screen::{self, Size};

/// How often the master is asked.
const REFRESH: Duration = Duration::from_secs(2);

/// Runs until the terminal goes away.
pub fn run(master: Option<String>, tty: Option<PathBuf>) -> anyhow::Result<()> {
    let given = master
        .map(|text| cmdline::parse_master(&text))
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let peer_of = load::kernel_line(Path::new("/proc/cmdline")).master;
    let master = given
        .or(peer_of)
        .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, super::HTTP_PORT)));
    let title = match peer_of {
        Some(master) => format!("This machine is a peer of {master}; the master says:\n"),
        None => String::new(),
    };
    let (mut input, mut output) = open(tty.as_deref())?;
    let mut shown = Shown::default();
    loop {
        let size = output
            .size()
            .map_or(Size { columns: 80, rows: 24 }, |(columns, rows)| Size {
                columns: usize::from(columns).max(20),
                rows: usize::from(rows).max(6),
            });
        // Two rows stay for the hint and the cursor.
        let room = Size {
            columns: size.columns - 1,
            rows: size.rows - 2,
        };
        let mut text = Shown::default();
        let asked = super::in_runtime(async {
            let (status, nodes) = super::ask(master).await?;
            text = Shown::lines(&format!("{title}{}", screen::render(&status, &nodes, room)));
            Ok(())
        });
        if let Err(error) = asked {
            text = Shown::error(&format!("recon is not ready: {error:#}"));
        }
        // The clock in the first line alone is no reason to send a screen down a serial line.
        if body(&text) != body(&shown) {
            let drawn = Shown::lines(&format!("{text}Enter opens a shell.\n"));
            output.redraw(&drawn).context("writing to the terminal")?;
            shown = text;
        }
        if terminal::readable(input.as_raw_fd(), REFRESH) {
            let mut byte = [0; 64];
            if input.read(&mut byte).context("reading from the terminal")? == 0 {
                return Ok(());
            }
            shell(&input, &mut output)?;
            shown = Shown::default();
        }
    }
}

fn body(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(_, rest)| rest)
}

/// What is read and what is written: a device, or standard input and output.
pub(super) fn open(tty: Option<&Path>) -> anyhow::Result<(File, Terminal)> {
    Terminal::open(tty)
        .map_err(|(path, error)| anyhow::Error::new(error).context(format!("opening {}", path.display())))
}

/// A root shell; leaving it comes back to the screen. There is no password: who stands here can pull the stick as well.
fn shell(input: &File, output: &mut Terminal) -> anyhow::Result<()> {
    let hint = "\nA root shell; exit comes back. Internal disks are read-only.\n";
    output.write(&Shown::lines(hint)).ok();
    let started = Command::new("bash")
        .arg("-l")
        .stdin(input.try_clone()?)
        .stdout(output.lend()?)
        .stderr(output.lend()?)
        .status();
    if let Err(error) = started {
        output.write(&Shown::lines(&format!("\nno shell: {error}\n"))).ok();
    }
    Ok(())
}
