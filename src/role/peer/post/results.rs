//! What comes home of the workload's result folder. Whatever lies there was made by a program of somebody else: plain files
//! in plain folders are taken, within bounds, and the rest is told of.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::shown;
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
struct Omissions(BTreeMap<Reason, LeftOut>);

impl Omissions {
    fn add(&mut self, reason: impl Into<Reason>, path: &Path, bytes: u64) {
        let one = self.0.entry(reason.into()).or_default();
        if one.count == 0 {
            one.first = short(path);
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

fn short(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    shown::line(&short).into_owned()
}

/// A name as it stands in the upload: as it is where people can read it, else with percent-encoded bytes (RFC 3986 §2.1), as
/// the names of the archive are text for every system.
fn written(path: &Path) -> String {
    let plain = |text: &&str| !text.chars().any(|char| shown::acts(char) || char == '\\');
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
    let entries = fs::read_dir(folder)?.take(most.saturating_add(1));
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    let more = names.len() > most;
    names.truncate(most);
    names.sort();
    Ok((names, more))
}

/// Name and content of the files of `result` that are taken, and a sentence for each reason why others are not.
pub(super) fn gather(result: &Path, limits: Limits) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    // Not followed: the workload may have put a link to anywhere in its place.
    let device = match fs::symlink_metadata(result) {
        Ok(metadata) if metadata.is_dir() => metadata.dev(),
        Ok(_) => {
            let problem = "the result folder is none any more: nothing of it was taken";
            return (Vec::new(), vec![problem.to_owned()]);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![format!("the result folder cannot be read: {error}")]),
    };
    let mut walk = Walk {
        result,
        limits,
        device,
        bytes_left: limits.bytes,
        names_left: limits.looked_at,
        names_taken: HashSet::new(),
        folders: vec![(PathBuf::new(), 0)],
        files: Vec::new(),
        omissions: Omissions::default(),
    };
    while let Some((folder, depth)) = walk.folders.pop() {
        walk.folder(&folder, depth);
    }
    (walk.files, walk.omissions.sentences())
}

struct Walk<'a> {
    result: &'a Path,
    limits: Limits,
    /// Of the result folder: what is mounted in it is somebody else's.
    device: u64,
    bytes_left: u64,
    names_left: usize,
    names_taken: HashSet<String>,
    /// Still to be looked into, each with the number of folders above what is in it.
    folders: Vec<(PathBuf, usize)>,
    files: Vec<(String, Vec<u8>)>,
    omissions: Omissions,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) {
        let (entries, more) = match names(&self.result.join(folder), self.names_left) {
            Ok(read) => read,
            Err(error) => return self.omissions.add(format!("it cannot be read: {error}"), folder, 0),
        };
        self.names_left -= entries.len();
        if more {
            let most = self.limits.looked_at;
            let reason = format!("only {most} names are looked at, and there are more");
            self.omissions.add(reason, folder, 0);
        }
        for entry in entries {
            let path = folder.join(entry);
            if let Err((reason, bytes)) = self.entry(&path, depth) {
                self.omissions.add(reason, &path, bytes);
            }
        }
    }

    /// Takes a file, or puts a folder on the list. The error is why it is left out, and its bytes.
    fn entry(&mut self, path: &Path, depth: usize) -> Result<(), (Reason, u64)> {
        let limits = self.limits;
        let unread = |error| format!("it cannot be read: {error}");
        let whole = self.result.join(path);
        let metadata = fs::symlink_metadata(&whole).map_err(|error| (unread(error), 0))?;
        let name = written(path);
        let (kind, length) = (metadata.file_type(), metadata.len());
        if name.len() > limits.path_bytes {
            return Err((format!("a name of more than {} bytes", limits.path_bytes), length));
        }
        if kind.is_dir() {
            if metadata.dev() != self.device {
                return Err(("another file system".to_owned(), 0));
            }
            if depth >= limits.depth {
                return Err((format!("more than {} folders deep", limits.depth), 0));
            }
            self.folders.push((path.to_owned(), depth + 1));
            return Ok(());
        }
        if !kind.is_file() {
            return Err(("neither a file nor a folder".to_owned(), 0));
        }
        if self.files.len() >= limits.files {
            return Err((format!("more than {} files", limits.files), length));
        }
        let too_many = |length| (format!("more than {} bytes in all", limits.bytes), length);
        if length > self.bytes_left {
            return Err(too_many(length));
        }
        let mut content = Vec::new();
        // A plain file that is still one when it is open.
        let read = open_plain(&whole).and_then(|file| file.take(self.bytes_left + 1).read_to_end(&mut content));
        let read = read.map_err(|error| (unread(error), length))? as u64;
        // It grew since it was measured, or is one of those files that tell no length.
        if read > self.bytes_left {
            return Err(too_many(read));
        }
        if !self.names_taken.insert(name.clone()) {
            return Err(("its name is written as another's".to_owned(), length));
        }
        self.bytes_left -= read;
        self.files.push((name, content));
        Ok(())
    }
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
        assert_eq!(short(Path::new("a\nb")), "a b");
    }
}
