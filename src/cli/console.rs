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
use crate::service::http::client::{Bounds, exchange};
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
        let (mut text, mut held) = (String::new(), false);
        let asked = super::in_runtime(async {
            let (status, nodes) = super::ask(master).await?;
            held = status.settings_held.is_some();
            text = title.clone() + &screen::render(&status, &nodes, room);
            Ok(())
        });
        if let Err(error) = asked {
            text = format!("recon is not ready: {error:#}\n");
        }
        // The clock in the first line alone is no reason to send a screen down a serial line.
        if body(&text) != body(&shown) {
            let hint = if held {
                "Enter opens a shell; read or go, and Enter, decide about the settings."
            } else {
                "Enter opens a shell."
            };
            let drawn = format!("{CLEAR}{}{hint}\r\n", text.replace('\n', "\r\n"));
            output.write_all(drawn.as_bytes()).context("writing to the terminal")?;
            output.flush().ok();
            shown = text;
        }
        if terminal::readable(input.as_raw_fd(), REFRESH) {
            let mut byte = [0; 64];
            let count = input.read(&mut byte).context("reading from the terminal")?;
            if count == 0 {
                return Ok(());
            }
            match decision(&byte[..count]).filter(|_| held) {
                Some(target) => {
                    let answer = decide(master, target).unwrap_or_else(|error| format!("{error:#}"));
                    output.write_all(format!("\r\n{answer}\r\n").as_bytes()).ok();
                }
                None => shell(&input, &output)?,
            }
            shown.clear();
        }
    }
}

/// What a person typed about held settings, as the master is asked for it; `None` for anything else.
fn decision(typed: &[u8]) -> Option<&'static str> {
    match typed.trim_ascii() {
        b"go" => Some("/api/v1/settings/go"),
        b"read" => Some("/api/v1/settings/read"),
        _ => None,
    }
}

/// Tells the master; its answer is a sentence.
fn decide(master: SocketAddr, target: &str) -> anyhow::Result<String> {
    let mut answer = String::new();
    super::in_runtime(async {
        let bounds = Bounds {
            time: Duration::from_secs(10),
            answer_bytes: 64 << 10,
        };
        let nothing = hyper::body::Bytes::new();
        let (_, body) = exchange(master, hyper::Method::POST, target, &[], nothing, bounds).await?;
        answer = String::from_utf8_lossy(&body).trim().to_owned();
        Ok(())
    })?;
    Ok(answer)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_words_decide() {
        assert_eq!(decision(b"go\r\n"), Some("/api/v1/settings/go"));
        assert_eq!(decision(b" read\n"), Some("/api/v1/settings/read"));
        for other in [&b"\n"[..], b"", b"g\n", b"gone\n", b"go now\n"] {
            assert_eq!(decision(other), None, "{other:?}");
        }
    }
}
