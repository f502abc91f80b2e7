//! `recon console`: the status on a terminal, drawn anew as it changes; Enter opens a shell.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::config::{cmdline, load};
use crate::sys::terminal;

use super::screen::{self, Size};

/// How often the master is asked.
const REFRESH: Duration = Duration::from_secs(2);
/// Clears the screen and goes to its top (ECMA-48 ED and CUP).
const CLEAR: &str = "\x1b[H\x1b[J";

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
    let (mut input, mut output) = open(tty.as_ref())?;
    let mut shown = String::new();
    loop {
        let size = terminal::size(output.as_raw_fd()).map_or(Size { columns: 80, rows: 24 }, |(columns, rows)| Size {
            columns: usize::from(columns).max(20),
            rows: usize::from(rows).max(6),
        });
        // Two rows stay for the hint and the cursor.
        let room = Size {
            columns: size.columns - 1,
            rows: size.rows - 2,
        };
        let mut text = String::new();
        let asked = super::in_runtime(async {
            let (status, nodes) = super::ask(master, Some(room.rows)).await?;
            text = title.clone() + &screen::render(&status, &nodes, room);
            Ok(())
        });
        if let Err(error) = asked {
            text = format!("recon is not ready: {error:#}\n");
        }
        // The clock in the first line alone is no reason to send a screen down a serial line.
        if body(&text) != body(&shown) {
            let drawn = format!("{CLEAR}{}Enter opens a shell.\r\n", text.replace('\n', "\r\n"));
            output.write_all(drawn.as_bytes()).context("writing to the terminal")?;
            output.flush().ok();
            shown = text;
        }
        if terminal::readable(input.as_raw_fd(), REFRESH) {
            let mut byte = [0; 64];
            if input.read(&mut byte).context("reading from the terminal")? == 0 {
                return Ok(());
            }
            shell(&input, &output)?;
            shown.clear();
        }
    }
}

fn body(text: &str) -> &str {
    text.split_once('\n').map_or(text, |(_, rest)| rest)
}

fn open(tty: Option<&PathBuf>) -> anyhow::Result<(File, File)> {
    let path = match tty {
        Some(path) => path.clone(),
        None => PathBuf::from("/dev/stdin"),
    };
    let input = OpenOptions::new()
        .read(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let path = tty.cloned().unwrap_or_else(|| PathBuf::from("/dev/stdout"));
    let output = OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    Ok((input, output))
}

/// A root shell; leaving it comes back to the screen. There is no password: who stands here can pull the stick as well.
fn shell(input: &File, output: &File) -> anyhow::Result<()> {
    (&*output)
        .write_all(b"\r\nA root shell; exit comes back. Internal disks are read-only.\r\n")
        .ok();
    let started = Command::new("bash")
        .arg("-l")
        .stdin(input.try_clone()?)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .status();
    if let Err(error) = started {
        (&*output)
            .write_all(format!("\r\nno shell: {error}\r\n").as_bytes())
            .ok();
    }
    Ok(())
}
