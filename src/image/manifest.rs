//! What an image is: `image.json`. Pure.

use serde::{Deserialize, Serialize};

use super::ImageError;

/// Longest manifest that is read.
pub(crate) const MAX_BYTES: u64 = 64 * 1024;
/// Of the form that is written here.
const FORMAT: u32 = 1;
/// Entries of an archive, at most: whoever unpacks it remembers its folders until its end.
pub(crate) const MAX_ENTRIES: u64 = 4_000_000;
/// Digits of the archive's sum that name a version.
const VERSION_DIGITS: usize = 12;

/// One version of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Manifest {
    format: u32,
    /// In Rust's word (`std::env::consts::ARCH`).
    pub(crate) arch: String,
    /// As `uname -r` says it, and the folder of its modules.
    pub(crate) kernel_version: String,
    pub(crate) kernel: Part,
    pub(crate) root: Root,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// The archive with the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Root {
    #[serde(flatten)]
    pub(crate) packed: Part,
    pub(crate) entries: u64,
    /// Of the contents of all files, without holes.
    pub(crate) unpacked_bytes: u64,
}

impl Manifest {
    pub(crate) fn new(kernel_version: String, kernel: Part, root: Root) -> Self {
        Self {
            format: FORMAT,
            arch: std::env::consts::ARCH.to_owned(),
            kernel_version,
            kernel,
            root,
        }
    }

    /// # Errors
    /// It is no manifest, or of a form that is not known here.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let wrong = |why: String| ImageError::Wrong(format!("it is no manifest of an image: {why}"));
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        let is_sum = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let sums = [&manifest.kernel.sha256, &manifest.root.packed.sha256];
        match () {
            () if manifest.format != FORMAT => Err(wrong(format!(
                "its form is {}, and this recon knows {FORMAT}",
                manifest.format
            ))),
            () if manifest.root.entries > MAX_ENTRIES => {
                Err(wrong(format!("its root has more than {MAX_ENTRIES} entries")))
            }
            () if !sums.iter().all(|sum| is_sum(sum)) => Err(wrong("a SHA-256 is not 64 digits in hex".to_owned())),
            () => Ok(manifest),
        }
    }

    /// Which of all images of its name it is.
    pub(crate) fn version(&self) -> &str {
        &self.root.packed.sha256[..VERSION_DIGITS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        let part = |digit: &str| Part {
            bytes: 5,
            sha256: digit.repeat(64),
        };
        let root = Root {
            packed: part("a"),
            entries: 3,
            unpacked_bytes: 7,
        };
        let manifest = Manifest::new("6.12.1".to_owned(), part("b"), root);
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::read(text.as_bytes()).unwrap(), manifest);
        assert_eq!(manifest.version(), "aaaaaaaaaaaa");
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("aaaa", "AAAA"),
            ("bbbb", ""),
            ("\"root\"", "\"r\""),
            ("\"entries\":3", "\"entries\":4000001"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            assert!(Manifest::read(other.as_bytes()).is_err(), "{other}");
        }
        assert!(Manifest::read(b"").is_err());
    }
}
