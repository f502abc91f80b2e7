//! Archives that the kernel unpacks into its first root (cpio "newc"; Documentation/driver-api/early-userspace/buffer-format.rst of
//! the kernel). Everything belongs to root and has no time, so the same files give the same bytes. Pure.

use std::collections::BTreeSet;

/// Archives, headers and contents begin at multiples of this many bytes.
const ALIGNMENT: u64 = 4;
const MAGIC: &str = "070701";
const END: &str = "TRAILER!!!";

const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// What does not fit into an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpioError {
    #[error("{0:?} is no path for an archive")]
    Path(String),
    #[error("{0} is larger than an archive can say")]
    TooLarge(String),
}

/// An archive in the making. Paths count from the root, with or without a slash before them; the folders above a path are made with
/// it, open to all for reading.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inodes: u32,
}

impl Archive {
    /// A folder, unless it is there already.
    pub fn folder(&mut self, path: &str, mode: u32) -> Result<(), CpioError> {
        let path = self.prepared(path)?;
        if self.folders.insert(path.clone()) {
            self.entry(&path, FOLDER | mode, &[], (0, 0))?;
        }
        Ok(())
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<(), CpioError> {
        let path = self.prepared(path)?;
        self.entry(&path, FILE | mode, content, (0, 0))
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), CpioError> {
        let path = self.prepared(path)?;
        self.entry(&path, LINK | 0o777, target.as_bytes(), (0, 0))
    }

    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> Result<(), CpioError> {
        let path = self.prepared(path)?;
        self.entry(&path, CHARACTER_DEVICE | mode, &[], (major, minor))
    }

    /// The archive with its end.
    pub fn finish(mut self) -> Result<Vec<u8>, CpioError> {
        self.inodes = 0;
        self.entry(END, 0, &[], (0, 0))?;
        Ok(self.bytes)
    }

    /// The path as the archive has it, with the folders above it.
    fn prepared(&mut self, path: &str) -> Result<String, CpioError> {
        let plain = path.strip_prefix('/').unwrap_or(path);
        if !plain.split('/').all(is_name) || plain == END {
            return Err(CpioError::Path(path.to_owned()));
        }
        for (end, _) in plain.match_indices('/') {
            let above = &plain[..end];
            if !self.folders.contains(above) {
                self.folders.insert(above.to_owned());
                self.entry(above, FOLDER | 0o755, &[], (0, 0))?;
            }
        }
        Ok(plain.to_owned())
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) -> Result<(), CpioError> {
        // A number of its own for each: where two were the same, the second might be taken for a link to the first.
        let head = header(self.inodes, name, mode, content.len() as u64, device)?;
        self.inodes += 1;
        self.bytes.extend(head);
        self.bytes.extend(content);
        self.bytes.extend(padding(self.bytes.len() as u64));
        Ok(())
    }
}

/// Zeroes from here to where the next thing may begin.
pub(crate) fn padding(at: u64) -> &'static [u8] {
    let missing = at.next_multiple_of(ALIGNMENT) - at;
    &[0; ALIGNMENT as usize][..missing as usize]
}

/// What stands before a content of so many bytes.
fn header(inode: u32, name: &str, mode: u32, size: u64, device: (u32, u32)) -> Result<Vec<u8>, CpioError> {
    let fits = |size: u64| u32::try_from(size).map_err(|_| CpioError::TooLarge(name.to_owned()));
    let (size, name_size) = (fits(size)?, fits(name.len() as u64 + 1)?);
    let links = if mode & KIND == FOLDER { 2 } else { 1 };
    let (user, group, time, checksum) = (0, 0, 0, 0);
    let (on_major, on_minor) = (0, 0);
    let fields = [
        inode, mode, user, group, links, time, size, on_major, on_minor, device.0, device.1, name_size, checksum,
    ];
    let mut head = MAGIC.as_bytes().to_vec();
    head.extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
    head.extend(name.bytes());
    head.push(0);
    head.extend(padding(head.len() as u64));
    Ok(head)
}

/// What goes before the content of a file that is in no [`Archive`], because it is too large to be copied there: the innermost `folders` of
/// the folders on its path, and its own header. Behind the content go [`padding`] and [`trailer`].
pub(crate) fn before_file(path: &str, permissions: u32, folders: usize, size: u64) -> Result<Vec<u8>, CpioError> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || !parts.iter().all(|part| is_name(part)) {
        return Err(CpioError::Path(path.to_owned()));
    }
    let above = parts.len() - 1;
    let mut out = Vec::new();
    for depth in above.saturating_sub(folders)..above {
        out.extend(header(0, &parts[..=depth].join("/"), FOLDER | 0o755, 0, (0, 0))?);
    }
    // With one link only, nothing is looked up by the inode.
    out.extend(header(0, &parts.join("/"), FILE | permissions & 0o7777, size, (0, 0))?);
    Ok(out)
}

/// The end of an archive.
pub(crate) fn trailer() -> Vec<u8> {
    // Its name is short.
    header(0, END, 0, 0, (0, 0)).unwrap_or_default()
}

/// A part of a path that leads to what is in its folder.
fn is_name(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_bytes_of_its_format() {
        let mut archive = Archive::default();
        archive.file("/a/b", 0o640, b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let expected = [
            "070701",
            "00000000",
            "000041ED",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "a\0",
            "070701",
            "00000001",
            "000081A0",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000004",
            "00000000",
            "a/b\0\0\0",
            "12345\0\0\0",
            "070701",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "0000000B",
            "00000000",
            "TRAILER!!!\0\0\0\0",
        ];
        assert_eq!(text, expected.concat());
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn paths_that_would_lead_elsewhere_are_refused() {
        let mut archive = Archive::default();
        for path in ["", "/", "a//b", "../a", "a/./b", "a\0", "TRAILER!!!"] {
            assert_eq!(
                archive.file(path, 0o644, b""),
                Err(CpioError::Path(path.to_owned())),
                "{path:?}"
            );
        }
        archive.folder("/a", 0o700).unwrap();
        archive.folder("a", 0o755).unwrap();
        assert_eq!(archive.inodes, 1);
    }

    #[test]
    fn cpio_itself_reads_what_is_written() {
        let content = b"hello";
        let mut archive = before_file("/etc/a/file", 0o640, 2, content.len() as u64).unwrap();
        archive.extend(content);
        let end = padding(archive.len() as u64);
        archive.extend(end);
        archive.extend(trailer());
        assert!(archive.len().is_multiple_of(4));
        // 110 bytes of numbers, and a name with its closing zero, padded to 4: `etc` makes 116.
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[110..114], b"etc\0");
        assert_eq!(&archive[116..122], b"070701");
        let names: Vec<_> = ["etc\0", "etc/a\0", "etc/a/file\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| archive.windows(name.len()).position(|window| window == name.as_bytes()))
            .collect();
        assert!(names.iter().all(Option::is_some) && names.is_sorted(), "{names:?}");
        assert!(archive.windows(8).any(|window| window == b"000081A0"), "0o100640");
        let Ok(mut cpio) = std::process::Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            return;
        };
        std::io::Write::write_all(&mut cpio.stdin.take().unwrap(), &archive).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let listed: Vec<&str> = listed.lines().collect();
        assert!(
            listed.len() == 3 && listed[0].starts_with("drwxr-xr-x") && listed[2].starts_with("-rw-r-----"),
            "{listed:?}"
        );
        assert!(
            listed[2].contains(" 5 ") && listed[2].ends_with("etc/a/file"),
            "{listed:?}"
        );
    }

    #[test]
    fn folders_are_made_as_far_as_is_asked() {
        for (folders, begins) in [(0, "a/b/c\0"), (1, "a/b\0"), (2, "a\0"), (usize::MAX, "a\0")] {
            let archive = before_file("a//b/c", 0o644, folders, 0).unwrap();
            assert!(archive[110..].starts_with(begins.as_bytes()), "{folders}");
        }
        for bad in ["", "/", "a/../b", "./a"] {
            assert!(before_file(bad, 0, 0, 0).is_err(), "{bad}");
        }
        assert!(before_file("a", 0, 0, 1 << 32).is_err());
        assert_eq!([0, 1, 2, 3, 4].map(|at| padding(at).len()), [0, 3, 2, 1, 0]);
    }
}
