//! Archives that the kernel unpacks into its first root (cpio "newc"; Documentation/driver-api/early-userspace/buffer-format.rst of
//! the kernel). Everything belongs to root and has no time, so the same files give the same bytes. Pure.

use std::collections::BTreeSet;

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
        let is_good = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if !plain.split('/').all(is_good) || plain == END {
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
        let size = u32::try_from(content.len()).map_err(|_| CpioError::TooLarge(name.to_owned()))?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| CpioError::TooLarge(name.to_owned()))?;
        let links = if mode & KIND == FOLDER { 2 } else { 1 };
        let (user, group, time, checksum) = (0, 0, 0, 0);
        let (on_major, on_minor) = (0, 0);
        let fields = [
            self.inodes,
            mode,
            user,
            group,
            links,
            time,
            size,
            on_major,
            on_minor,
            device.0,
            device.1,
            name_size,
            checksum,
        ];
        // A number of its own for each: where two were the same, the second might be taken for a link to the first.
        self.inodes += 1;
        self.bytes.extend(MAGIC.bytes());
        self.bytes
            .extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
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
}
