//! Container images as folders (OCI Image Layout Specification 1.0: `oci-layout`, `index.json`, `blobs/`), as far as a root file system is
//! made of one. Pure.

use serde::Deserialize;

/// Says that a folder is one.
pub(crate) const LAYOUT: &str = "oci-layout";
pub(crate) const INDEX: &str = "index.json";
/// Longest index or manifest that is read; those of the field have some KiB.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
/// More layers than this are a mistake (overlayfs takes 500).
const MAX_LAYERS: usize = 1000;
/// Images within an index of an index.
pub(crate) const MAX_DEPTH: usize = 4;

/// Something in `blobs/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    media_type: String,
    digest: String,
    /// Bytes.
    pub(crate) size: u64,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// What a manifest or an index names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// One of several, or the only one: a manifest, or a further index.
    Next(Descriptor),
    /// Archives of tar, the lowest first.
    Layers(Vec<Descriptor>),
}

#[derive(Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
}

impl Descriptor {
    /// SHA-256, 64 digits in hex, which is its name in `blobs/sha256/` too.
    ///
    /// # Errors
    /// It is another sum; as a sentence.
    pub(crate) fn sha256(&self) -> Result<&str, String> {
        let sum = self
            .digest
            .strip_prefix("sha256:")
            .filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        sum.ok_or_else(|| format!("{:?} is no SHA-256", self.digest))
    }

    fn is_for(&self, architecture: &str) -> bool {
        // What builders attach for others (attestations) has the architecture "unknown".
        let fits = |platform: &Platform| platform.architecture == architecture && platform.os == "linux";
        self.platform.as_ref().is_none_or(fits)
    }
}

/// Reads an index or a manifest. `architecture`: in Go's word (`amd64`).
///
/// # Errors
/// It is none, or does not say which image is meant; as a sentence.
pub(crate) fn read(bytes: &[u8], architecture: &str) -> Result<Named, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match document {
        Document {
            manifests: Some(manifests),
            ..
        } => {
            let mut fitting = manifests.iter().filter(|one| one.is_for(architecture));
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => Ok(Named::Next(one.clone())),
                (None, _) => Err(format!(
                    "none of its {} images is for linux and {architecture}",
                    manifests.len()
                )),
                (Some(_), Some(_)) => Err(
                    "it holds several images: copy the one that is meant into a folder of its own (skopeo copy)"
                        .to_owned(),
                ),
            }
        }
        Document {
            layers: Some(layers), ..
        } if layers.len() > MAX_LAYERS => Err(format!("it has more than {MAX_LAYERS} layers")),
        Document {
            layers: Some(layers), ..
        } => match layers.iter().find(|layer| !is_tar(&layer.media_type)) {
            Some(other) => Err(format!("a layer is no archive of tar but {:?}", other.media_type)),
            None => Ok(Named::Layers(layers)),
        },
        _ => Err("it names neither images nor layers".to_owned()),
    }
}

/// `application/vnd.oci.image.layer.v1.tar+gzip`, and Docker's words for the same.
fn is_tar(media_type: &str) -> bool {
    let of_oci = media_type.strip_prefix("application/vnd.oci.image.layer.");
    let kind = of_oci.and_then(|rest| rest.split_once("v1.")).map(|(_, kind)| kind);
    matches!(kind, Some("tar" | "tar+gzip" | "tar+zstd"))
        || media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip"
}

/// What an entry of a layer takes away from the layers below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whiteout {
    /// This path, with all below it.
    Path(Vec<u8>),
    /// All that is in this folder.
    Inside(Vec<u8>),
}

/// Whether an entry of this path is none but a whiteout (`layer.md`, "Whiteouts").
pub(crate) fn whiteout(path: &[u8]) -> Option<Whiteout> {
    const MARK: &[u8] = b".wh.";
    const OPAQUE: &[u8] = b".wh..wh..opq";
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(at);
    if name == OPAQUE {
        return Some(Whiteout::Inside(folder.strip_suffix(b"/").unwrap_or(folder).to_vec()));
    }
    let name = name.strip_prefix(MARK)?;
    // A name of two dots leads out of its folder.
    let is_name = !name.is_empty() && name != b"." && name != b"..";
    is_name.then(|| Whiteout::Path([folder, name].concat()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn descriptor(kind: &str, more: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":7{more}}}"#,
            "ab".repeat(32)
        )
    }

    #[test]
    fn an_index_leads_to_the_image_of_this_machine() {
        let manifest = |more: &str| descriptor("application/vnd.oci.image.manifest.v1+json", more);
        let platform = |arch: &str| format!(r#","platform":{{"architecture":"{arch}","os":"linux"}}"#);
        let (amd, arm) = (manifest(&platform("amd64")), manifest(&platform("arm64")));
        let unknown = manifest(r#","platform":{"architecture":"unknown","os":"unknown"}"#);
        let of = |list: &[&str]| read(format!(r#"{{"manifests":[{}]}}"#, list.join(",")).as_bytes(), "amd64");
        let Ok(Named::Next(next)) = of(&[&arm, &amd, &unknown]) else {
            panic!()
        };
        assert_eq!((next.sha256(), next.size), (Ok("ab".repeat(32).as_str()), 7));
        assert!(matches!(of(&[&manifest("")]), Ok(Named::Next(_))));
        assert!(of(&[&arm]).unwrap_err().contains("amd64"));
        assert!(of(&[&amd, &amd]).unwrap_err().contains("several"));
    }

    #[test]
    fn layers_are_archives() {
        let of = |kind: &str| {
            read(
                format!(r#"{{"layers":[{}]}}"#, descriptor(kind, "")).as_bytes(),
                "amd64",
            )
        };
        for kind in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(
                matches!(of(kind), Ok(Named::Layers(layers)) if layers.len() == 1),
                "{kind}"
            );
        }
        assert!(
            of("application/vnd.oci.image.layer.v1.squashfs")
                .unwrap_err()
                .contains("squashfs")
        );
        assert!(read(b"{}", "amd64").is_err() && read(b"[]", "amd64").is_err());
        let other = descriptor("x", "").replace("sha256:", "sha512:");
        let other: Descriptor = serde_json::from_str(&other).unwrap();
        assert!(other.sha256().is_err());
    }

    #[test]
    fn whiteouts_name_what_they_take_away() {
        let path = |text: &str| Some(Whiteout::Path(text.as_bytes().to_vec()));
        let inside = |text: &str| Some(Whiteout::Inside(text.as_bytes().to_vec()));
        for (text, what) in [
            ("a/.wh.b", path("a/b")),
            (".wh.b", path("b")),
            ("a/.wh..wh..opq", inside("a")),
            (".wh..wh..opq", inside("")),
            ("a/b.wh.c", None),
            ("a/.wh.", None),
            ("a/.wh...", None),
            ("a/.wh..", None),
            ("a", None),
        ] {
            assert_eq!(whiteout(text.as_bytes()), what, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_document_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), path in "[a./wh]{0,20}") {
            let _ = read(&bytes, "amd64");
            if let Some(Whiteout::Path(path)) = whiteout(path.as_bytes()) {
                prop_assert!(!path.ends_with(b".."));
            }
        }
    }
}
