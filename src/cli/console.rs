//! `recon console`: the status on a terminal, drawn anew as it changes; Enter opens a shell.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::model::shown::Shown;
use crate::role::remedy;
use crate::service::http::client::{Bounds, exchange};
use crate::stick::medium;
use crate::sys::program::Program;
use crate::sys::terminal::{self, Terminal};

use super::ask::{ask, in_runtime, peer_of, whom};
use super::screen::{self, Size};

/// How often the master is asked.
const REFRESH: Duration = Duration::from_secs(2);

/// Runs until the terminal goes away.
pub(crate) fn run(master: Option<String>, tty: Option<PathBuf>) -> anyhow::Result<()> {
    let given = master;
    let (mut input, mut output) = open(tty.as_deref())?;
    let mut shown = String::new();
    loop {
        let size = output
            .size()
            .map_or(Size { columns: 80, rows: 24 }, |(columns, rows)| Size {
                columns: usize::from(columns).max(20),
                rows: usize::from(rows).max(6),
            });
        // Whose peer this machine is may change as it runs.
        let peer_of = peer_of().filter(|_| given.is_none());
        let master = whom(given.as_deref(), peer_of)?;
        let title = peer_of.map(|master| format!("This machine is a peer of {master}; the master says:\n"));
        // Two rows stay for the hint and the cursor.
        let room = Size {
            columns: size.columns - 1,
            rows: size.rows - 2 - usize::from(title.is_some()),
        };
        let (above, text, held) = match in_runtime(ask(master, Some(room.rows))) {
            Ok((status, nodes)) => (
                title.unwrap_or_default(),
                screen::render(&status, &nodes, room),
                status.settings_held.is_some(),
            ),
            Err(error) => {
                let why = remedy::no_answer(master, peer_of.is_some(), &format!("{error:#}"));
                (String::new(), Shown::error(&why), false)
            }
        };
        // The clock in the first line alone is no reason to send a screen down a serial line.
        let body = format!("{above}{}", body(&text));
        if body != shown {
            let hint = if held {
                "Enter opens a shell; read or go, and Enter, decide about the settings."
            } else {
                "Enter opens a shell."
            };
            let drawn = Shown::lines(&format!("{above}{text}{hint}\n"));
            output.redraw(&drawn).context("writing to the terminal")?;
            shown = body;
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
                    output.write(&Shown::lines(&format!("\n{answer}\n"))).ok();
                }
                None => shell(&input, &mut output)?,
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
    in_runtime(async {
        let bounds = Bounds {
            time: Duration::from_secs(10),
            answer_bytes: 64 << 10,
        };
        let nothing = hyper::body::Bytes::new();
        let (_, body) = exchange(master, hyper::Method::POST, target, &[], nothing, bounds).await?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    })
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
    // Elsewhere than on our image nobody set them so.
    let disks = match Path::new(medium::LIVE_MOUNT).exists() {
        true => " Internal disks are read-only.",
        false => "",
    };
    let hint = format!("\nA shell of this machine; exit comes back.{disks}\n");
    output.write(&Shown::lines(&hint)).ok();
    let started = Program::Bash
        .command()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_asks_its_master_unless_told_otherwise() {
        let peer_of = Some("192.168.219.1:80".parse().unwrap());
        assert_eq!(whom(None, peer_of).unwrap().to_string(), "192.168.219.1:80");
        assert_eq!(whom(Some("10.0.0.1"), peer_of).unwrap().to_string(), "10.0.0.1:80");
        assert_eq!(whom(None, None).unwrap().to_string(), "127.0.0.1:80");
        assert!(whom(Some("bang"), peer_of).is_err());
    }

    #[test]
    fn only_the_two_words_decide() {
        assert_eq!(decision(b"go\r\n"), Some("/api/v1/settings/go"));
        assert_eq!(decision(b" read\n"), Some("/api/v1/settings/read"));
        for other in [&b"\n"[..], b"", b"g\n", b"gone\n", b"go now\n"] {
            assert_eq!(decision(other), None, "{other:?}");
        }
    }
}
