//! An image of a diskless node: the names of its files, and `image.json`, which says what they have to be. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bytes::hex;
use super::first_stage::{BASE, PORTS, TABLE};

/// Files of an image, in its folder.
pub(crate) const MANIFEST: &str = "image.json";
pub(crate) const ROOT: &str = "root.tar.zst";
/// The same root as a file system that is read where it lies, packed.
pub(crate) const SQUASHFS: &str = "root.squashfs";
pub(crate) const KERNEL: &str = "kernel";
/// The signature of the manifest, where it is signed (`image/signature.rs`).
pub(crate) const SIGNATURE: &str = "image.json.sig";
pub(crate) const MAX_SIGNATURE_BYTES: u64 = 16 * 1024;
/// Keys of which one has to have signed what a node starts, in its first stage; where there is no such file, none is asked for.
pub(crate) const TRUSTED: &str = "etc/recon/image.pub";
pub(crate) const MAX_TRUSTED_BYTES: u64 = 64 * 1024;
/// The folder of what a node starts from before it has its root (`formats/first_stage.rs`).
pub(crate) const FIRST_STAGE: &str = "first";

/// The first program of a root.
pub(crate) const INIT: &str = "/sbin/init";

/// Modules that no device asks for, of a root that stays packed: a file as a block device, what is in it, and what is written over that.
pub(crate) const OF_SQUASHFS: [&str; 3] = ["loop", "squashfs", "overlay"];

/// Longest manifest that is read.
pub(crate) const MAX_BYTES: u64 = 64 * 1024;
/// Of the form that is written here.
const FORMAT: u32 = 1;
/// Entries of an archive, at most: whoever unpacks it remembers its folders until its end.
pub(crate) const MAX_ENTRIES: u64 = 4_000_000;
/// Digits of the manifest's sum that name a version.
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
    /// Files of the first stage, by their paths below its folder.
    pub(crate) first: BTreeMap<String, Part>,
    pub(crate) root: Root,
    /// None where it was packed without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) squashfs: Option<Part>,
}

/// A file of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Part {
    /// Of a file with this content.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self {
            bytes: content.len() as u64,
            sha256: hex(&Sha256::digest(content)),
        }
    }
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
    pub(crate) fn new(kernel_version: String, kernel: Part, first: BTreeMap<String, Part>, root: Root) -> Self {
        Self {
            format: FORMAT,
            arch: std::env::consts::ARCH.to_owned(),
            kernel_version,
            kernel,
            first,
            root,
            squashfs: None,
        }
    }

    /// # Errors
    /// It is no manifest, or of a form that is not known here; as a sentence.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let wrong = |why: String| Err(format!("it is no manifest of an image: {why}"));
        if bytes.len() as u64 > MAX_BYTES {
            return wrong(format!("it has more than {MAX_BYTES} bytes"));
        }
        let manifest: Self = match serde_json::from_slice(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return wrong(error.to_string()),
        };
        let is_sum = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let are_sums = [&manifest.kernel, &manifest.root.packed]
            .into_iter()
            .chain(manifest.squashfs.as_ref())
            .chain(manifest.first.values())
            .all(|part| is_sum(&part.sha256));
        match () {
            () if manifest.format != FORMAT => wrong(format!(
                "its form is {}, and this recon knows {FORMAT}",
                manifest.format
            )),
            () if manifest.root.entries > MAX_ENTRIES => wrong(format!("its root has more than {MAX_ENTRIES} entries")),
            () if !are_sums => wrong("a SHA-256 is not 64 digits in hex".to_owned()),
            () if !manifest.first.keys().all(|path| is_of_first_stage(path)) => {
                wrong("a file of its first stage has a name that none has".to_owned())
            }
            () if [BASE, PORTS, TABLE]
                .iter()
                .any(|name| !manifest.first.contains_key(*name)) =>
            {
                wrong("its first stage lacks a part".to_owned())
            }
            () => Ok(manifest),
        }
    }
}

/// `base.img`, or `port/e1000.img`: nothing that leads elsewhere.
fn is_of_first_stage(path: &str) -> bool {
    let name = path.strip_prefix("port/").unwrap_or(path);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

/// Which version of an image has this manifest: it names all that is in it by its sum, so the version is never another's.
pub(crate) fn version(manifest: &[u8]) -> String {
    let mut sum = sum(manifest);
    sum.truncate(VERSION_DIGITS);
    sum
}

/// The SHA-256 of a manifest, in hex.
pub(crate) fn sum(manifest: &[u8]) -> String {
    hex(&Sha256::digest(manifest))
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
        let names = [BASE, PORTS, TABLE, "port/e1000.img"];
        let first = names.map(|name| (name.to_owned(), part("c")));
        let mut manifest = Manifest::new("6.12.1".to_owned(), part("b"), first.into(), root);
        // Older ones have none.
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::read(text.as_bytes()).unwrap(), manifest);
        manifest.squashfs = Some(part("d"));
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::read(text.as_bytes()).unwrap(), manifest);
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("aaaa", "AAAA"),
            ("bbbb", ""),
            ("cccc", "gggg"),
            ("dddd", "xddd"),
            ("\"root\"", "\"r\""),
            ("\"entries\":3", "\"entries\":4000001"),
            ("port/e1000.img", "../e1000.img"),
            ("port/e1000.img", "port/../x"),
            ("port/e1000.img", "port/.."),
            ("port/e1000.img", "port/a/b"),
            ("port/e1000.img", ""),
            ("ports.img", "porty.img"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            assert!(Manifest::read(other.as_bytes()).is_err(), "{other}");
        }
        assert!(Manifest::read(b"").is_err());
        let long = format!("{text}{}", " ".repeat(MAX_BYTES as usize));
        assert!(Manifest::read(long.as_bytes()).unwrap_err().contains("more than 65536"));
    }

    /// By another program: `printf hello | sha256sum`.
    #[test]
    fn a_version_is_the_beginning_of_the_sum() {
        assert_eq!(version(b"hello"), "2cf24dba5fb0");
        assert!(sum(b"hello").starts_with("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"));
    }
}
