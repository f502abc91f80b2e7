//! What stands in a tarball under which name: its lists, the line of a sum, and the proof of which upload a node's files are from.

use crate::formats::bytes::hex;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::model::NodeId;
use crate::model::layout::INVENTORY;
use crate::store::{Sha, UploadName};

/// Name of the list of sums inside it, which is its first entry.
pub const SUMS_NAME: &str = "SHA256SUMS";
/// Name of the list, inside it, of what is stored or was found and is not in it. There is none where nothing is missing.
pub const LACKS_NAME: &str = "INCOMPLETE.txt";
/// Name of the list of nodes that call themselves the same; only there where there are some.
pub const CLASHES_NAME: &str = "CLASHES.txt";

/// A whole upload that goes into the tarball.
pub trait Upload: Sync {
    fn id(&self) -> &NodeId;
    fn name(&self) -> UploadName;
    fn size_bytes(&self) -> u64;
    /// A new reader at the start of the upload.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

/// A line for each name that several nodes have, which stand beside each other. Their inventories say who they are.
pub(super) fn clashes_text(ids: &[&NodeId]) -> String {
    let mut text = String::new();
    for nodes in ids
        .chunk_by(|a, b| a.base() == b.base())
        .filter(|nodes| nodes.len() > 1)
    {
        let (count, name) = (nodes.len(), nodes[0].base().described());
        text.push_str(&format!("{count} machines name themselves by {name}:"));
        text.extend(nodes.iter().map(|id| format!(" nodes/{id}")));
        text.push('\n');
    }
    text
}

/// What of an upload goes into the tarball.
pub(super) fn belongs(path: &str) -> bool {
    path == INVENTORY || path.starts_with("raw/") || path.starts_with("post/")
}

/// Name of the file that proves which upload a node's files are from.
pub(super) const PROOF: &str = "upload.sha256";

pub(super) fn proof_digest(name: UploadName) -> Sha {
    Sha256::digest(proof_text(name).as_bytes()).into()
}

/// Content of `nodes/<id>/upload.sha256`: digest and name of the upload, as `sha256sum` prints them.
pub(super) fn proof_text(name: UploadName) -> String {
    format!("{}  {name}\n", hex(&name.sha256))
}

/// Adds a line of `SHA256SUMS`. Names with a line break or backslash are escaped as coreutils does.
pub(super) fn sum_line(lines: &mut Vec<u8>, digest: &Sha, path: &str) {
    let escaped = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    if escaped != path {
        lines.push(b'\\');
    }
    lines.extend_from_slice(hex(digest).as_bytes());
    lines.extend_from_slice(b"  ");
    lines.extend_from_slice(escaped.as_bytes());
    lines.push(b'\n');
}
