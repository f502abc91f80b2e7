//! Overlays on the data partition: folders of files that lie over the roots of nodes.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::model::OverlayName;
use crate::model::layout::OVERLAYS;
use crate::model::shown;
use crate::sys::file::open_plain;

/// Most that one node is given besides its image. It is made in memory, for each node that asks.
pub(crate) const MAX_BYTES: u64 = 16 << 20;
pub(crate) const MAX_FILES: usize = 10_000;
/// Folders in folders.
const MAX_DEPTH: usize = 32;
/// What other systems leave on a volume that they were plugged into.
const NOBODYS: [&str; 4] = [".DS_Store", "Thumbs.db", "desktop.ini", ".directory"];
/// Before the name of what macOS keeps beside a file.
const APPLE_DOUBLE: &str = "._";

/// The files of overlays in their order, each with its path below the root of a node.
///
/// # Errors
/// An overlay is not there, or one of its files cannot be read whole; as a sentence.
pub(crate) fn files(data: &Path, names: &[OverlayName]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut read = Reading {
        files: Vec::new(),
        left: MAX_BYTES,
    };
    for name in names {
        let folder = data.join(OVERLAYS).join(name.as_str());
        if !folder.is_dir() {
            return Err(format!(
                "the overlay {name} is not here: there is no folder {OVERLAYS}/{name} on the data partition"
            ));
        }
        let wrong = |why: String| format!("the overlay {name}: {why}");
        read.folder(&folder, "", MAX_DEPTH).map_err(wrong)?;
    }
    Ok(read.files)
}

/// What was read so far.
struct Reading {
    files: Vec<(String, Vec<u8>)>,
    /// Bytes that may still come.
    left: u64,
}

impl Reading {
    /// `below`: the folder's own path in a root, with a slash behind it where it is not empty.
    fn folder(&mut self, folder: &Path, below: &str, depth: usize) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", shown::line(below));
        let entries = fs::read_dir(folder).map_err(wrong)?;
        let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| format!("{}: a name in it is not UTF-8", shown::line(below)))?;
            if NOBODYS.contains(&name) || name.starts_with(APPLE_DOUBLE) {
                continue;
            }
            let path = format!("{below}{name}");
            let is_folder = entry.file_type().map_err(wrong)?.is_dir();
            match is_folder {
                true if depth == 0 => {
                    return Err(format!(
                        "{}: more than {MAX_DEPTH} folders in folders",
                        shown::line(&path)
                    ));
                }
                true => self.folder(&entry.path(), &format!("{path}/"), depth - 1)?,
                false => self.file(&entry.path(), path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: String) -> Result<(), String> {
        let mut content = Vec::new();
        let read = open_plain(from).and_then(|file| file.take(self.left + 1).read_to_end(&mut content));
        let bytes = read.map_err(|error| format!("{}: {error}", shown::line(&path)))? as u64;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "with {}, overlays have more than {} MiB together; larger files belong into the image",
                shown::line(&path),
                MAX_BYTES >> 20
            )
        })?;
        if self.files.len() == MAX_FILES {
            return Err(format!("overlays have more than {MAX_FILES} files together"));
        }
        self.files.push((path, content));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<OverlayName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn put(data: &Path, path: &str, content: &[u8]) {
        let path = data.join(OVERLAYS).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn overlays_come_in_their_order_with_their_paths() {
        let data = tempfile::tempdir().unwrap();
        put(data.path(), "base/etc/motd", b"base");
        put(data.path(), "base/a", b"");
        put(data.path(), "base/etc/.DS_Store", b"x");
        put(data.path(), "base/._a", b"x");
        put(data.path(), "gpu/etc/motd", b"gpu");
        let found = files(data.path(), &names(&["gpu", "base"])).unwrap();
        let found: Vec<(&str, &[u8])> = found.iter().map(|(path, content)| (&**path, &**content)).collect();
        assert_eq!(found, [("etc/motd", &b"gpu"[..]), ("a", b""), ("etc/motd", b"base")]);
        assert!(files(data.path(), &[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_whole_is_no_overlay() {
        let data = tempfile::tempdir().unwrap();
        put(data.path(), "linked/a", b"");
        std::os::unix::fs::symlink("/etc/shadow", data.path().join("overlays/linked/etc")).unwrap();
        put(data.path(), "large/a", &vec![0; MAX_BYTES as usize]);
        put(data.path(), "more/a", b"x");
        put(data.path(), &format!("deep/{}a", "d/".repeat(MAX_DEPTH + 1)), b"x");
        put(data.path(), &format!("fine/{}a", "d/".repeat(MAX_DEPTH)), b"x");
        for (wanted, why) in [
            (&["gone"][..], "the overlay gone is not here"),
            (&["linked"], "the overlay linked: etc: it is a link, not a plain file"),
            (
                &["large", "more"],
                "the overlay more: with a, overlays have more than 16 MiB together",
            ),
            (&["deep"], "more than 32 folders in folders"),
        ] {
            let said = files(data.path(), &names(wanted)).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        for fine in ["large", "fine"] {
            assert_eq!(files(data.path(), &names(&[fine])).unwrap().len(), 1);
        }
    }
}
