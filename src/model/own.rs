//! What a diskless node is given besides its image, as settings name it: its host name, who may come in, which overlays lie over its root.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// Longest host name of Linux (gethostname(2), `HOST_NAME_MAX`).
const MAX_HOST_NAME: usize = 64;
/// Longest label of a name (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;
const MAX_OVERLAY_NAME: usize = 32;
/// A key of RSA with 16,384 bits has 2,800 characters; options may stand before it.
const MAX_KEY_BYTES: usize = 8192;

/// Most bytes of the archive that has what is a node's own, and most entries: a master makes no larger one, and a node takes none.
pub(crate) const MAX_ARCHIVE_BYTES: usize = 32 << 20;
pub(crate) const MAX_ENTRIES: u64 = 100_000;

/// Files that say who a node is. The rest of what is its own may run there, or lets people in.
pub(crate) const IDENTITY: [&str; 4] = [
    "etc/hostname",
    "etc/machine-id",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
];

/// All of it, for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    pub hostname: HostName,
    pub overlays: Vec<OverlayName>,
    pub authorized_keys: Vec<AuthorizedKey>,
}

/// Name of a machine, with its domain or without (RFC 1123 §2.1), in small letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Name of a folder of files that lie over the roots of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OverlayName(String);

/// A line of an `authorized_keys` file (sshd(8)): options, a public key, a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AuthorizedKey(String);

/// Why a text is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchWord {
    #[error("a host name has up to {MAX_HOST_NAME} letters, digits, - and ., as node7 or node7.example.org")]
    HostName,
    #[error(
        "the name of an overlay has 1 to {MAX_OVERLAY_NAME} small letters, digits, _ and -, and begins with a letter or digit"
    )]
    Overlay,
    #[error("a public key is one line, as in authorized_keys: ssh-ed25519 AAAA… somebody")]
    Key,
}

impl HostName {
    /// That of a machine for which none is set: the one that the master's DNS would give it without an address.
    pub fn of(mac: MacAddr) -> Self {
        HostName(format!("node-{}", mac.dashed().replace('-', "")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OverlayName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AuthorizedKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        let text = text.to_ascii_lowercase();
        let is_label = |label: &str| {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=MAX_LABEL).contains(&label.len())
                && label.bytes().all(fine)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let fine = text.len() <= MAX_HOST_NAME && text.split('.').all(is_label);
        fine.then_some(HostName(text)).ok_or(NoSuchWord::HostName)
    }
}

impl FromStr for OverlayName {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fine = (1..=MAX_OVERLAY_NAME).contains(&text.len())
            && text.bytes().all(|byte| is_first(byte) || matches!(byte, b'_' | b'-'))
            && text.bytes().next().is_some_and(is_first);
        fine.then(|| OverlayName(text.to_owned())).ok_or(NoSuchWord::Overlay)
    }
}

impl FromStr for AuthorizedKey {
    type Err = NoSuchWord;

    fn from_str(text: &str) -> Result<Self, NoSuchWord> {
        let text = text.trim();
        let is_line = text.len() <= MAX_KEY_BYTES && !text.chars().any(char::is_control);
        let is_key = || text.parse::<ssh_key::authorized_keys::Entry>().is_ok();
        (is_line && is_key())
            .then(|| AuthorizedKey(text.to_owned()))
            .ok_or(NoSuchWord::Key)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AuthorizedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for OverlayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(NoSuchWord: HostName, OverlayName, AuthorizedKey);

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `ssh-keygen -t ed25519`, OpenSSH 9.2.
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEBX6/FWIWHNiVF4/SQJwnMFYUbRNPL9mGFSut3gxVs0 me@here";

    #[test]
    fn names_are_those_that_a_machine_may_have() {
        for good in ["n", "node-7", "7", "n.example.org", &"a".repeat(63)] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        assert_eq!("Node7".parse::<HostName>().unwrap().as_str(), "node7");
        for bad in [
            "",
            ".",
            "n.",
            "-n",
            "n-",
            "n_7",
            "n 7",
            "n/7",
            "nö",
            &"a".repeat(64),
            &"a.".repeat(40),
        ] {
            assert_eq!(bad.parse::<HostName>(), Err(NoSuchWord::HostName), "{bad:?}");
        }
        let mac: MacAddr = "52:54:00:12:34:56".parse().unwrap();
        assert_eq!(HostName::of(mac).as_str().parse(), Ok(HostName::of(mac)));
        for bad in ["", ".", "..", "a/b", "A", "_a", "a.b", &"a".repeat(33)] {
            assert_eq!(bad.parse::<OverlayName>(), Err(NoSuchWord::Overlay), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_one_line_that_sshd_reads() {
        let with_options = format!("restrict,from=\"10.0.0.0/8\" {KEY}");
        for good in [KEY, &with_options, KEY.strip_suffix(" me@here").unwrap()] {
            assert_eq!(good.parse::<AuthorizedKey>().unwrap().as_str(), good);
        }
        let two = format!("{KEY}\n{KEY}");
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA me", &KEY[1..], &two, "# a comment"] {
            assert_eq!(bad.parse::<AuthorizedKey>(), Err(NoSuchWord::Key), "{bad:?}");
        }
    }
}
