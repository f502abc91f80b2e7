//! What a node is given besides its image, as one archive of tar: who it is, and the site's overlays. Pure.
//!
//! The keys and the id of a machine come from the site's key and the MAC of its port: they are the same at each boot, on every stick of
//! the site, and stored nowhere.

use ring::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{LineEnding, PrivateKey};

use crate::config::SiteKey;
use crate::formats::bytes::hex;
use crate::model::own::{IDENTITY, MAX_ARCHIVE_BYTES};
use crate::model::{HostName, ImageName, MacAddr, Own, UnixTime};

/// Behind the name of a file in which words stand for something.
const TEMPLATE: &str = ".in";
const HOSTNAME: &str = IDENTITY[0];
const MACHINE_ID: &str = IDENTITY[1];
const HOST_KEY: &str = IDENTITY[2];
const PUBLIC_HOST_KEY: &str = IDENTITY[3];
const ROOTS_SSH: &str = "root/.ssh/";
const AUTHORIZED_KEYS: &str = "root/.ssh/authorized_keys";
/// What only root may read, wherever it comes from: the data partition knows no permissions.
const SECRET_FILES: [&str; 4] = ["etc/shadow", "etc/gshadow", "etc/shadow-", "etc/gshadow-"];

/// Two blocks of zeros, which end an archive.
const END_BYTES: usize = 1024;

/// A file of an overlay, by its path below the root of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OverlayFile {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

/// The node that asks.
pub(crate) struct Node<'a> {
    pub(crate) mac: MacAddr,
    pub(crate) own: &'a Own,
    pub(crate) image: &'a ImageName,
    pub(crate) site: Option<&'a str>,
}

/// The archive. `authorized`: the text of the data partition's `authorized_keys`; `overlays` in the order in which they lie over each other,
/// and over what is made here; `now`: when all of it was last changed.
///
/// # Errors
/// A template that cannot be filled in, as a sentence.
pub(crate) fn archive(
    key: &SiteKey,
    node: &Node<'_>,
    authorized: &str,
    overlays: Vec<OverlayFile>,
    now: UnixTime,
) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut archive = Archive {
        builder: tar::Builder::new(Vec::new()),
        now,
    };
    for (path, mode, content) in identity(key, node, authorized)? {
        archive.file(path, mode, content.as_bytes()).map_err(failed)?;
    }
    for OverlayFile { path, content } in overlays {
        let (path, content) = match path.strip_suffix(TEMPLATE).filter(|path| !path.ends_with('/')) {
            Some(to) => (to, filled(&path, &content, node)?),
            None => (&*path, content),
        };
        archive.file(path, mode(path, &content), &content).map_err(failed)?;
        // Words in templates may be longer than what stands for them.
        if archive.builder.get_ref().len() > MAX_ARCHIVE_BYTES - END_BYTES {
            return Err(format!(
                "with {path}, this node's own files come to more than {} MiB",
                MAX_ARCHIVE_BYTES >> 20
            ));
        }
    }
    archive.builder.into_inner().map_err(failed)
}

/// The line of a `known_hosts` file for a node (sshd(8)), which anybody may know.
///
/// # Errors
/// There is no key; as a sentence.
pub(crate) fn known_host(key: &SiteKey, mac: MacAddr, name: &HostName) -> Result<String, String> {
    let host_key = host_key(key, mac, name)?;
    let public = host_key.public_key().to_openssh().map_err(|error| error.to_string())?;
    let words: Vec<&str> = public.split(' ').take(2).collect();
    Ok(format!("{name} {}\n", words.join(" ")))
}

/// What makes this node itself: path, permissions, content.
fn identity(key: &SiteKey, node: &Node<'_>, authorized: &str) -> Result<Vec<(&'static str, u32, String)>, String> {
    let name = &node.own.hostname;
    let host_key = host_key(key, node.mac, name)?;
    let text = |error: ssh_key::Error| format!("the host key of {name}: {error}");
    let public = host_key.public_key().to_openssh().map_err(text)?;
    let mut files = vec![
        (HOSTNAME, 0o644, format!("{name}\n")),
        (MACHINE_ID, 0o444, format!("{}\n", machine_id(key, node.mac))),
        (
            HOST_KEY,
            0o600,
            host_key.to_openssh(LineEnding::LF).map_err(text)?.to_string(),
        ),
        (PUBLIC_HOST_KEY, 0o644, format!("{public}\n")),
    ];
    let mut keys = authorized.trim().replace("\r\n", "\n");
    for key in &node.own.authorized_keys {
        keys = format!("{keys}\n{key}");
    }
    let keys = keys.trim();
    if !keys.is_empty() {
        files.push((AUTHORIZED_KEYS, 0o600, format!("{keys}\n")));
    }
    Ok(files)
}

fn host_key(key: &SiteKey, mac: MacAddr, name: &HostName) -> Result<PrivateKey, String> {
    let seed = key.derive("ssh host key, ed25519", &[&mac.0]);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| error.to_string())?;
    let public = pair
        .public_key()
        .as_ref()
        .try_into()
        .expect("it has 32 bytes (RFC 8032)");
    let pair = Ed25519Keypair {
        public: Ed25519PublicKey(public),
        private: Ed25519PrivateKey::from_bytes(&seed),
    };
    let key = PrivateKey::new(KeypairData::Ed25519(pair), format!("root@{name}"));
    key.map_err(|error| error.to_string())
}

/// 128 bits that no other machine has, marked as random ones (machine-id(5), RFC 9562 §5.4).
fn machine_id(key: &SiteKey, mac: MacAddr) -> String {
    let random = key.derive("machine-id", &[&mac.0]);
    let mut id: [u8; 16] = std::array::from_fn(|at| random[at]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    hex(&id)
}

/// Permissions of a file that has none where it lies.
fn mode(path: &str, content: &[u8]) -> u32 {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_host_key = name.starts_with("ssh_host_") && name.ends_with("_key");
    let is_secret = is_host_key || SECRET_FILES.contains(&path) || path.split('/').any(|folder| folder == ".ssh");
    match () {
        () if is_secret => 0o600,
        () if content.starts_with(b"#!") || content.starts_with(b"\x7fELF") => 0o755,
        () => 0o644,
    }
}

/// A template with this node's words in it.
fn filled(path: &str, content: &[u8], node: &Node<'_>) -> Result<Vec<u8>, String> {
    let wrong = |why: &str| format!("{path}: {why}");
    let mut rest = std::str::from_utf8(content).map_err(|_| wrong("it is not text"))?;
    let mac = node.mac.to_string();
    let words = [
        ("hostname", node.own.hostname.as_str()),
        ("image", node.image.as_str()),
        ("mac", &mac),
        ("site", node.site.unwrap_or_default()),
    ];
    let mut text = String::with_capacity(content.len());
    while let Some((before, behind)) = rest.split_once("{{") {
        let (word, behind) = behind.split_once("}}").ok_or_else(|| wrong("{{ without }}"))?;
        let value = words.iter().find(|(name, _)| *name == word.trim());
        let (_, value) = value.ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(name, _)| format!("{{{{{name}}}}}")).collect();
            wrong(&format!(
                "{{{{{}}}}} stands for nothing; there are {}",
                word.trim(),
                known.join(", ")
            ))
        })?;
        text.push_str(before);
        text.push_str(value);
        rest = behind;
    }
    text.push_str(rest);
    Ok(text.into_bytes())
}

/// What is written so far. All of it is root's.
struct Archive {
    builder: tar::Builder<Vec<u8>>,
    now: UnixTime,
}

impl Archive {
    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        if path == AUTHORIZED_KEYS || path.starts_with(ROOTS_SSH) {
            // sshd passes over keys in a folder that others may write to.
            let mut header = self.header(tar::EntryType::Directory, 0o700, 0);
            self.builder.append_data(&mut header, ROOTS_SSH, std::io::empty())?;
        }
        let mut header = self.header(tar::EntryType::Regular, mode, content.len() as u64);
        self.builder.append_data(&mut header, path, content)
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.now.seconds());
        header
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_700_000_000);

    fn own(name: &str) -> Own {
        Own {
            hostname: name.parse().unwrap(),
            overlays: Vec::new(),
            authorized_keys: Vec::new(),
        }
    }

    /// Path, permissions and content of each entry; a later one takes the place of an earlier one.
    fn made(
        site: u8,
        mac: u8,
        own: &Own,
        authorized: &str,
        overlays: &[(&str, &str)],
    ) -> Result<BTreeMap<String, (u32, String)>, String> {
        let node = Node {
            mac: MacAddr([0x52, 0x54, 0, 0, 0, mac]),
            own,
            image: &"compute".parse().unwrap(),
            site: Some("Hall 2"),
        };
        let overlays = overlays.iter().map(|(path, content)| OverlayFile {
            path: (*path).to_owned(),
            content: content.as_bytes().to_vec(),
        });
        let bytes = archive(&SiteKey::new([site; 32]), &node, authorized, overlays.collect(), NOW)?;
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            let mode = header.mode().unwrap();
            found.insert(entry.path().unwrap().display().to_string(), (mode, content));
        }
        Ok(found)
    }

    #[test]
    fn a_node_is_the_same_at_each_boot_and_no_other_one() {
        let first = made(1, 1, &own("n1"), "", &[]).unwrap();
        assert_eq!(first, made(1, 1, &own("n1"), "", &[]).unwrap());
        assert_eq!(first["etc/hostname"], (0o644, "n1\n".to_owned()));
        let (mode, id) = &first["etc/machine-id"];
        let id = uuid::Uuid::parse_str(id.trim()).unwrap();
        assert_eq!((*mode, id.get_version_num()), (0o444, 4));
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        for other in [
            made(1, 2, &own("n1"), "", &[]).unwrap(),
            made(2, 1, &own("n1"), "", &[]).unwrap(),
        ] {
            for path in [HOST_KEY, MACHINE_ID] {
                assert_ne!(first[path], other[path], "{path}");
            }
        }
        assert!(!first.contains_key(AUTHORIZED_KEYS));
    }

    #[test]
    fn who_may_come_in_is_whom_the_stick_and_the_rule_name() {
        let key = include_str!("../../tests/golden/own/key.pub").trim();
        let mut own = own("n1");
        own.authorized_keys.push(key.parse().unwrap());
        let both = made(1, 1, &own, "# ours\r\nssh-rsa AAAA us\r\n", &[]).unwrap();
        let (mode, text) = &both[AUTHORIZED_KEYS];
        assert_eq!((*mode, &**text), (0o600, &*format!("# ours\nssh-rsa AAAA us\n{key}\n")));
        assert_eq!(both[ROOTS_SSH].0, 0o700);
        assert_eq!(
            made(1, 1, &own, "", &[]).unwrap()[AUTHORIZED_KEYS].1,
            format!("{key}\n")
        );
    }

    #[test]
    fn a_later_file_lies_over_an_earlier_one_and_templates_are_filled_in() {
        let files = made(
            1,
            1,
            &own("n1"),
            "",
            &[
                ("etc/motd", "first"),
                ("etc/motd.in", "{{hostname}} of {{ site }}: {{image}}, {{mac}} {x}"),
                ("usr/local/bin/run", "#!/bin/sh\n"),
                ("etc/shadow", "x"),
                ("home/a/.ssh/config", "x"),
                ("etc/ssh/ssh_host_rsa_key", "x"),
                ("etc/hostname", "other\n"),
                (&format!("{}/file", "long/".repeat(40)), "x"),
            ],
        )
        .unwrap();
        let motd = "n1 of Hall 2: compute, 52:54:00:00:00:01 {x}";
        assert_eq!(files["etc/motd"], (0o644, motd.to_owned()));
        assert_eq!(files["etc/hostname"].1, "other\n");
        let modes = [
            "usr/local/bin/run",
            "etc/shadow",
            "home/a/.ssh/config",
            "etc/ssh/ssh_host_rsa_key",
        ]
        .map(|path| files[path].0);
        assert_eq!(modes, [0o755, 0o600, 0o600, 0o600]);
        assert!(files.contains_key(&format!("{}/file", "long/".repeat(40))));
        assert!(!files.contains_key("etc/motd.in"));
    }

    /// A master makes nothing that a node would not take.
    #[test]
    fn what_grows_too_large_is_refused_here() {
        let text = "{{site}}".repeat(2 << 20);
        let name = "x".repeat(64);
        let node = Node {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            own: &own("n1"),
            image: &"compute".parse().unwrap(),
            site: Some(&name),
        };
        let file = OverlayFile {
            path: "etc/a.in".to_owned(),
            content: text.into_bytes(),
        };
        let why = archive(&SiteKey::new([1; 32]), &node, "", vec![file], NOW).unwrap_err();
        assert_eq!(why, "with etc/a, this node's own files come to more than 32 MiB");
    }

    #[test]
    fn a_template_that_says_what_nobody_knows_is_said() {
        for (content, why) in [
            ("{{hostname}", "etc/a.in: {{ without }}"),
            (
                "{{ password }}",
                "etc/a.in: {{password}} stands for nothing; there are {{hostname}}, {{image}}, {{mac}}, {{site}}",
            ),
        ] {
            assert_eq!(made(1, 1, &own("n1"), "", &[("etc/a.in", content)]).unwrap_err(), why);
        }
    }
}
