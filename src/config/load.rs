//! The only file reads of `config`.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::cmdline::{self, KernelLine};
use super::fault::{Fault, shown};
use super::settings::{Reading, Settings};

/// A settings file larger than this is not one; what is in front of it is read.
pub const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Settings and what was wrong with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What was understood, as [`Reading::settings`] has it.
    pub settings: Settings,
    /// A line each for screen and API; empty when the file was read whole or does not exist.
    pub problems: Vec<String>,
}

/// Reads `recon.toml`. No file is no mistake: the defaults hold. What cannot be read whole comes back with its mistakes.
pub fn settings(path: &Path) -> Loaded {
    settings_of(&path.display().to_string(), small_file(path, MAX_SETTINGS_BYTES))
}

/// The same of bytes that somebody read already. `name`: what the file is called in sentences.
pub fn settings_of(name: &str, bytes: io::Result<Option<Vec<u8>>>) -> Loaded {
    let Reading { settings, faults } = match bytes {
        Ok(None) => Settings::read(""),
        Ok(Some(bytes)) => reading(bytes),
        Err(error) => Reading {
            settings: Settings::default(),
            faults: vec![Fault {
                line: None,
                what: format!("it cannot be read: {error}"),
            }],
        },
    };
    let problems = shown(&faults).into_iter().map(|fault| format!("{name}: {fault}"));
    Loaded {
        settings,
        problems: problems.collect(),
    }
}

fn reading(mut bytes: Vec<u8>) -> Reading {
    let too_large = bytes.len() as u64 > MAX_SETTINGS_BYTES;
    if too_large {
        bytes.truncate(MAX_SETTINGS_BYTES as usize);
        // The last line may be a part of one.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        bytes.truncate(end);
    }
    let (text, fault) = text(&bytes);
    let mut reading = Settings::read(&text);
    if fault.as_ref().is_some_and(|fault| fault.what == NO_TEXT) {
        // The image that the file lies on, say. What restrains is kept, but each of its letters would be a fault.
        reading.faults.clear();
    }
    reading.faults.splice(..0, fault);
    if too_large {
        let what = "it is larger than 1 MiB, and read no further than that".to_owned();
        reading.faults.push(Fault { line: None, what });
    }
    reading
}

const NO_TEXT: &str = "it is no text file";

/// Text as editors write it: UTF-8 with or without a byte order mark, UTF-16 with one (Notepad's "Unicode").
fn text(bytes: &[u8]) -> (String, Option<Fault>) {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| -> Vec<u16> {
        bytes
            .chunks(2)
            .map(|pair| unit([pair[0], *pair.get(1).unwrap_or(&0)]))
            .collect()
    };
    let units = match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            return match std::str::from_utf8(bytes) {
                Ok(text) => (text.to_owned(), None),
                Err(error) => {
                    if bytes.contains(&0) {
                        let what = NO_TEXT.to_owned();
                        return (
                            String::from_utf8_lossy(bytes).into_owned(),
                            Some(Fault { line: None, what }),
                        );
                    }
                    let before = &bytes[..error.valid_up_to()];
                    let fault = Fault {
                        line: Some(1 + before.iter().filter(|byte| **byte == b'\n').count()),
                        what: "a letter is not UTF-8: save the file as UTF-8".to_owned(),
                    };
                    (String::from_utf8_lossy(bytes).into_owned(), Some(fault))
                }
            };
        }
    };
    match String::from_utf16(&units) {
        Ok(text) => (text, None),
        Err(_) => {
            let text = String::from_utf16_lossy(&units);
            let line = text.split('\u{fffd}').next().unwrap_or_default().matches('\n').count();
            let what = "a letter is not UTF-16: save the file as UTF-8".to_owned();
            let line = Some(1 + line);
            (text, Some(Fault { line, what }))
        }
    }
}

/// Reads a file that a person put there, up to one byte more than `limit`; `None` where there is none. Never waits: what is
/// no plain file (a FIFO, a device, a folder, or a link to one) is not opened.
///
/// # Errors
/// With its cause, as a person reads it.
pub fn small_file(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        // A link that leads nowhere was put there by somebody.
        Err(error) if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(error),
        Ok(metadata) => plain(metadata.file_type())?,
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    // It may have been changed for another one since.
    plain(file.metadata()?.file_type())?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn plain(kind: std::fs::FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a socket"
    };
    Err(io::Error::other(format!("it is {what}, not a file")))
}

/// Reads the command line of the running kernel; an unreadable one counts as empty and is reported.
pub fn kernel_line(path: &Path) -> KernelLine {
    match std::fs::read_to_string(path) {
        Ok(text) => cmdline::parse(&text),
        Err(error) => {
            let problem = format!("reading {}: {error}; no role is taken from it", path.display());
            KernelLine {
                problems: vec![problem],
                doubtful: true,
                ..KernelLine::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LinkRule;
    use std::process::Command;

    const MAC: crate::model::MacAddr = crate::model::MacAddr([2, 0, 0, 0, 0, 1]);

    fn written(bytes: &[u8]) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recon.toml");
        std::fs::write(&path, bytes).unwrap();
        settings(&path)
    }

    #[test]
    fn no_file_is_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recon.toml");
        let fine = Loaded {
            settings: Settings::default(),
            problems: Vec::new(),
        };
        assert_eq!(settings(&path), fine);
        assert_eq!(written(b""), fine);
        let loaded = written(b"site = \"A\"\nsubnet = 3\n");
        assert_eq!(
            loaded.settings.site.as_deref(),
            Some("A"),
            "what was understood is kept"
        );
        let problem = &loaded.problems[0];
        assert!(problem.contains("recon.toml: line 2:"), "{problem}");
        assert!(problem.contains("belongs under [network]"), "{problem}");
    }

    #[test]
    fn text_as_editors_write_it_is_read() {
        let wide = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let text = "\u{feff}# Küche\r\nsite = \"A\"\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            wide(text, u16::to_le_bytes),
            wide(text, u16::to_be_bytes),
        ] {
            let loaded = written(&bytes);
            assert_eq!(loaded.problems, Vec::<String>::new());
            assert_eq!(loaded.settings.site.as_deref(), Some("A"));
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing_that_restrains() {
        let restrains = "[network]\nsilent = [\"eth0\"]\n[peers]\npoweroff = \"never\"\n";
        let latin = [b"# K\xfcche\n", restrains.as_bytes()].concat();
        let loaded = written(&latin);
        assert!(loaded.problems[0].contains("line 1: ") && loaded.problems[0].contains("UTF-8"));
        let image = [&[0xeb, 0x58, 0x90, 0, 0xff, b'\n'], restrains.as_bytes()].concat();
        let image = written(&image);
        assert!(image.problems.len() == 1 && image.problems[0].contains("no text file"));
        let mut long = restrains.as_bytes().to_vec();
        long.resize(MAX_SETTINGS_BYTES as usize + 10, b'#');
        let large = written(&long);
        assert!(large.problems[0].contains("1 MiB"), "{:?}", large.problems);
        let halves: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain(restrains.encode_utf16().flat_map(u16::to_le_bytes))
            .chain([0, 0xdc, 9])
            .collect();
        for loaded in [loaded, image, large, written(&halves)] {
            assert!(!loaded.problems.is_empty());
            assert_eq!(loaded.settings.link_rule("eth0", MAC), LinkRule::Silent);
            assert_eq!(
                loaded.settings.policy(&[MAC], None).poweroff,
                crate::model::PowerOff::Never
            );
        }
        // A power cut leaves zeros.
        assert!(!written(&[0; 4096]).problems.is_empty());
    }

    #[test]
    fn what_is_no_file_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("nothing"), at("nowhere")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, what) in [
            ("folder", "a folder"),
            ("fifo", "a FIFO"),
            ("device", "a device"),
            ("link", "a FIFO"),
            ("nowhere", "No such file"),
            ("socket", "a socket"),
        ] {
            let loaded = settings(&at(name));
            assert!(loaded.problems[0].contains(what), "{name}: {:?}", loaded.problems);
        }
    }

    #[test]
    fn an_error_of_the_medium_keeps_its_cause() {
        let error = io::Error::from_raw_os_error(5);
        let loaded = settings_of("recon.toml", Err(error));
        assert!(
            loaded.problems[0].contains("Input/output error"),
            "{:?}",
            loaded.problems
        );
    }

    #[test]
    fn a_command_line_that_cannot_be_read_is_doubtful() {
        let dir = tempfile::tempdir().unwrap();
        assert!(kernel_line(dir.path()).doubtful);
    }
}
