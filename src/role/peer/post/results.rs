//! What comes home of the workload's result folder. Whatever lies there was made by a program of somebody else: plain files
//! in plain folders are taken, within bounds, and the rest is told of.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::file::open_plain;

/// Bounds of what is taken. What goes beyond one is left out and told of; the rest is taken all the same.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All files together.
    pub bytes: u64,
    pub files: usize,
    /// Of a name below the result folder, as it stands in the upload.
    pub path_bytes: usize,
    /// Folders above a file.
    pub depth: usize,
    /// Names that are looked at, of files and of whatever else is there.
    pub looked_at: usize,
}

impl Default for Limits {
    /// Less than the master takes of one upload (`store::upload`), so that a result never costs the inventory.
    fn default() -> Self {
        Limits {
            bytes: 16 << 20,
            files: 2000,
            path_bytes: 512,
            depth: 32,
            looked_at: 200_000,
        }
    }
}

/// What was left out for one reason.
#[derive(Debug, Default)]
struct LeftOut {
    count: usize,
    bytes: u64,
    first: String,
}

/// Why something is left out, in the words that stand in the upload.
type Reason = String;

#[derive(Default)]
struct Told(BTreeMap<Reason, LeftOut>);

impl Told {
    fn add(&mut self, reason: impl Into<Reason>, path: &Path, bytes: u64) {
        let one = self.0.entry(reason.into()).or_default();
        if one.count == 0 {
            one.first = shown(path);
        }
        one.count += 1;
        one.bytes = one.bytes.saturating_add(bytes);
    }

    fn sentences(self) -> Vec<String> {
        let sentence = |(reason, one): (Reason, LeftOut)| match one.count {
            1 => format!("result/{} was left out ({} bytes): {reason}", one.first, one.bytes),
            count => format!(
                "{count} files or folders of result/ were left out ({} bytes), {} first: {reason}",
                one.bytes, one.first
            ),
        };
        self.0.into_iter().map(sentence).collect()
    }
}

/// Longest name that a sentence quotes.
const SHOWN_CHARS: usize = 80;

fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}

/// A name as it stands in the upload: as it is where people can read it, else with percent-encoded bytes (RFC 3986 §2.1), as
/// the names of the archive are text for every system.
fn written(path: &Path) -> String {
    let plain = |text: &&str| {
        !text
            .chars()
            .any(|char| char.escape_debug().count() > 1 && !matches!(char, '"' | '\''))
    };
    if let Some(text) = path.to_str().filter(plain) {
        return text.to_owned();
    }
    let mut name = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b' '..=b'~' if !matches!(byte, b'%' | b'\\') => name.push(char::from(*byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

/// Names of a folder, sorted; at most `most` of them, and whether there are more.
fn names(folder: &Path, most: usize) -> io::Result<(Vec<OsString>, bool)> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if names.len() >= most {
            return Ok((names, true));
        }
        names.push(entry?.file_name());
    }
    names.sort();
    Ok((names, false))
}

/// Reads a plain file that is still one when it is open.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Name and content of the files of `result` that are taken, and a sentence for each reason why others are not.
pub(super) fn gather(result: &Path, limits: Limits) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let mut told = Told::default();
    let mut files = Vec::new();
    // Not followed: the workload may have put a link to anywhere in its place.
    let device = match fs::symlink_metadata(result) {
        Ok(metadata) if metadata.is_dir() => metadata.dev(),
        Ok(_) => {
            return (
                files,
                vec!["the result folder is none any more: nothing of it was taken".to_owned()],
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (files, Vec::new()),
        Err(error) => return (files, vec![format!("the result folder cannot be read: {error}")]),
    };
    let mut left = limits.bytes;
    let mut looked_at = 0;
    let mut taken = HashSet::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let (entries, more) = match names(&result.join(&folder), limits.looked_at - looked_at) {
            Ok(read) => read,
            Err(error) => {
                told.add(format!("it cannot be read: {error}"), &folder, 0);
                continue;
            }
        };
        looked_at += entries.len();
        if more {
            let reason = format!("only {} names are looked at, and there are more", limits.looked_at);
            told.add(reason, &folder, 0);
        }
        for entry in entries {
            let path = folder.join(entry);
            let metadata = match fs::symlink_metadata(result.join(&path)) {
                Ok(metadata) => metadata,
                Err(error) => {
                    told.add(format!("it cannot be read: {error}"), &path, 0);
                    continue;
                }
            };
            let name = written(&path);
            let kind = metadata.file_type();
            if name.len() > limits.path_bytes {
                told.add(
                    format!("a name of more than {} bytes", limits.path_bytes),
                    &path,
                    metadata.len(),
                );
            } else if kind.is_dir() && metadata.dev() != device {
                told.add("another file system", &path, 0);
            } else if kind.is_dir() && depth >= limits.depth {
                told.add(format!("more than {} folders deep", limits.depth), &path, 0);
            } else if kind.is_dir() {
                folders.push((path, depth + 1));
            } else if !kind.is_file() {
                told.add("neither a file nor a folder", &path, 0);
            } else if files.len() >= limits.files {
                told.add(format!("more than {} files", limits.files), &path, metadata.len());
            } else if metadata.len() > left {
                told.add(
                    format!("more than {} bytes in all", limits.bytes),
                    &path,
                    metadata.len(),
                );
            } else {
                match read(&result.join(&path), left + 1) {
                    // It grew since it was measured, or is one of those files that tell no length.
                    Ok(bytes) if bytes.len() as u64 > left => {
                        told.add(
                            format!("more than {} bytes in all", limits.bytes),
                            &path,
                            bytes.len() as u64,
                        );
                    }
                    Ok(_) if !taken.insert(name.clone()) => {
                        told.add("its name is written as another's", &path, metadata.len());
                    }
                    Ok(bytes) => {
                        left -= bytes.len() as u64;
                        files.push((name, bytes));
                    }
                    Err(error) => told.add(format!("it cannot be read: {error}"), &path, metadata.len()),
                }
            }
        }
    }
    (files, told.sentences())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SMALL: Limits = Limits {
        bytes: 1000,
        files: 3,
        path_bytes: 60,
        depth: 2,
        looked_at: 100,
    };

    fn names_of(files: &[(String, Vec<u8>)]) -> Vec<&str> {
        files.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn more_files_than_fit_are_counted_once_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20 {
            std::fs::write(dir.path().join(format!("f{number:02}")), "1").unwrap();
        }
        let (files, told) = gather(dir.path(), SMALL);
        assert_eq!(names_of(&files), ["f00", "f01", "f02"]);
        assert_eq!(
            told,
            ["17 files or folders of result/ were left out (17 bytes), f03 first: more than 3 files"]
        );
        let (files, told) = gather(dir.path(), Limits { looked_at: 2, ..SMALL });
        assert_eq!((files.len(), told.len()), (2, 1));
        assert!(told[0].contains("only 2 names are looked at"), "{told:?}");
    }

    #[test]
    fn a_file_that_does_not_fit_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(dir.path().join("core")).unwrap();
        sparse.set_len(1 << 42).unwrap();
        std::fs::write(dir.path().join("small"), "1").unwrap();
        let (files, told) = gather(dir.path(), SMALL);
        assert_eq!(names_of(&files), ["small"]);
        assert_eq!(
            told,
            ["result/core was left out (4398046511104 bytes): more than 1000 bytes in all"]
        );
    }

    #[test]
    fn what_is_no_plain_file_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(dir.path().join("fifo"))
            .status();
        assert!(made.unwrap().success());
        symlink("/proc", dir.path().join("proc")).unwrap();
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        std::fs::write(dir.path().join("a"), "1").unwrap();
        let (files, told) = gather(dir.path(), SMALL);
        assert_eq!(names_of(&files), ["a"]);
        assert_eq!(
            told,
            ["4 files or folders of result/ were left out (0 bytes), fifo first: neither a file nor a folder"]
        );
        // The folder itself as well.
        let (files, told) = gather(&dir.path().join("proc"), SMALL);
        assert_eq!((files.len(), told.len()), (0, 1), "{told:?}");
    }

    #[test]
    fn long_and_deep_names_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("1/2/3/4")).unwrap();
        std::fs::write(dir.path().join("1/2/3/4/deep"), "1").unwrap();
        std::fs::write(dir.path().join("1/2/ok"), "1").unwrap();
        std::fs::write(dir.path().join("n".repeat(61)), "1").unwrap();
        let (files, told) = gather(dir.path(), SMALL);
        assert_eq!(names_of(&files), ["1/2/ok"]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told.iter().any(|one| one.contains("more than 2 folders deep")),
            "{told:?}"
        );
        assert!(told.iter().any(|one| one.contains("more than 60 bytes")), "{told:?}");
    }

    #[test]
    fn names_are_text_that_moves_no_cursor() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            &b"a\nb\x1b[2J"[..],
            b"\xff%",
            "\u{202e}x".as_bytes(),
            "grün 'it'".as_bytes(),
        ] {
            std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "1").unwrap();
        }
        let (files, told) = gather(dir.path(), Limits { files: 9, ..SMALL });
        let mut names = names_of(&files);
        names.sort_unstable();
        assert_eq!(names, ["%E2%80%AEx", "%FF%25", "a%0Ab%1B[2J", "grün 'it'"]);
        assert_eq!(told, [] as [&str; 0]);
        assert_eq!(shown(Path::new("a\nb")), "a\\nb");
    }
}
