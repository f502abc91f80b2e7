//! The only file reads of `config`.

use std::io::Read;
use std::path::Path;

use super::{KernelLine, Settings, cmdline};

/// A settings file larger than this is not one.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;

/// Settings and what was wrong with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// One line for screen and API; `None` when the file was read whole or does not exist.
    pub problem: Option<String>,
}

/// Reads `recon.toml`. A bad file costs the settings, never the run: defaults come back with the problem named.
pub fn settings(path: &Path) -> Loaded {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Loaded {
                settings: Settings::default(),
                problem: None,
            };
        }
        Err(error) => return defaults_because(path, &format!("reading it: {error}")),
    };
    // Editors on Windows put a byte order mark in front.
    match Settings::parse(text.trim_start_matches('\u{feff}')) {
        Ok(settings) => Loaded {
            settings,
            problem: None,
        },
        Err(reason) => defaults_because(path, &reason),
    }
}

fn defaults_because(path: &Path, reason: &str) -> Loaded {
    let problem = format!(
        "{}: {reason}. All settings are at their defaults until it is mended",
        path.display()
    );
    Loaded {
        settings: Settings::default(),
        problem: Some(problem),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_SETTINGS_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SETTINGS_BYTES {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))
}

/// Reads the command line of the running kernel; an unreadable one counts as empty and is reported.
pub fn kernel_line(path: &Path) -> KernelLine {
    match std::fs::read_to_string(path) {
        Ok(text) => cmdline::parse(&text),
        Err(error) => {
            let problem = format!("reading {}: {error}; no role is taken from it", path.display());
            KernelLine {
                problems: vec![problem],
                ..KernelLine::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_no_problem_and_a_bad_one_keeps_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recon.toml");
        assert_eq!(
            settings(&path),
            Loaded {
                settings: Settings::default(),
                problem: None
            }
        );
        std::fs::write(&path, "\u{feff}site = \"A\"\n").unwrap();
        assert_eq!(settings(&path).settings.site.as_deref(), Some("A"));
        std::fs::write(&path, "site = \"A\"\nsubnet = 3\n").unwrap();
        let loaded = settings(&path);
        assert_eq!(loaded.settings, Settings::default());
        let problem = loaded.problem.unwrap();
        assert!(
            problem.contains("recon.toml") && problem.contains("line 2"),
            "{problem}"
        );
        std::fs::write(&path, vec![b' '; (MAX_SETTINGS_BYTES + 1) as usize]).unwrap();
        assert!(settings(&path).problem.unwrap().contains("1 MiB"));
    }
}
