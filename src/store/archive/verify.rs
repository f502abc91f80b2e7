//! Reads a tarball back and proves it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::names::{LACKS_NAME, PROOF, SUMS_NAME, Upload, proof_digest};
use crate::store::{Sha, digest_of, parse_hex};

/// Why a tarball is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the tarball does not read back: {0}")]
pub struct Wrong(String);

impl Wrong {
    pub(crate) fn new(reason: impl ToString) -> Self {
        Wrong(reason.to_string())
    }
}

/// What a tarball proved when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    pub nodes: usize,
    pub files: usize,
}

/// Reads a tarball to its end and checks every file against `SHA256SUMS`: none wrong, none missing, none too many.
pub fn verify(reader: impl Read) -> Result<Verified, Wrong> {
    let wrong = |text: String| Err(Wrong(text));
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(reader)));
    let mut sums: Option<HashMap<String, Sha>> = None;
    let mut verified = Verified::default();
    for entry in archive.entries().map_err(Wrong::new)? {
        let entry = entry.map_err(Wrong::new)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(sums) = sums.as_mut() else {
            if path != SUMS_NAME {
                return wrong(format!("{path} comes before {SUMS_NAME}"));
            }
            sums = Some(read_sums(entry)?);
            continue;
        };
        let Some(expected) = sums.remove(&path) else {
            return wrong(format!("{path} is not in {SUMS_NAME}, or is there twice"));
        };
        let (digest, _) = digest_of(entry).map_err(|error| Wrong(format!("{path}: {error}")))?;
        if digest != expected {
            return wrong(format!("{path} has another sum"));
        }
        verified.files += 1;
        verified.nodes += usize::from(is_proof(&path));
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(Wrong::new)?;
    let Some(sums) = sums else {
        return wrong(format!("there is no {SUMS_NAME}"));
    };
    match sums.keys().min() {
        Some(path) => wrong(format!("{path} is missing")),
        None => Ok(verified),
    }
}

/// True for a tarball with exactly these uploads, of one each node, that lacks nothing, by its `SHA256SUMS`. Reads no further: a
/// tarball has its name only once it is whole.
pub fn holds<U: Upload>(reader: impl Read, uploads: &[U]) -> bool {
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(reader)));
    let Some(Ok(first)) = archive.entries().ok().and_then(|mut entries| entries.next()) else {
        return false;
    };
    if first.path_bytes() != SUMS_NAME.as_bytes() {
        return false;
    }
    let mut wanted: HashMap<String, Sha> = uploads
        .iter()
        .map(|upload| (format!("nodes/{}/{PROOF}", upload.id()), proof_digest(upload.name())))
        .collect();
    let mut lines = BufReader::new(first);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return wanted.is_empty(),
            Ok(_) => {}
            Err(_) => return false,
        }
        let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
        let Some((digest, path)) = text.and_then(parse_sum_line) else {
            return false;
        };
        if path == LACKS_NAME || (is_proof(&path) && wanted.remove(&path) != Some(digest)) {
            return false;
        }
    }
}

/// True for `nodes/<id>/upload.sha256`, of which every node has one; the site's own files may be called so too.
fn is_proof(path: &str) -> bool {
    path.ends_with(PROOF) && path.split('/').count() == 3
}

/// Longest line of `SHA256SUMS`: a digest, and a path of which every byte may be escaped.
const MAX_LINE: u64 = 4096;

fn read_sums(reader: impl Read) -> Result<HashMap<String, Sha>, Wrong> {
    let text = io::read_to_string(reader.take(1 << 30)).map_err(Wrong::new)?;
    let mut sums = HashMap::new();
    for line in text.lines() {
        let Some((digest, path)) = parse_sum_line(line) else {
            return Err(Wrong(format!("a line of {SUMS_NAME} does not parse")));
        };
        if sums.insert(path.clone(), digest).is_some() {
            return Err(Wrong(format!("{path} is in {SUMS_NAME} twice")));
        }
    }
    Ok(sums)
}

/// Reads a line of `SHA256SUMS`.
fn parse_sum_line(line: &str) -> Option<(Sha, String)> {
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let digest = parse_hex(line.get(..64)?)?;
    let path = line.get(64..)?.strip_prefix("  ")?;
    if !escaped {
        return Some((digest, path.to_owned()));
    }
    let mut plain = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some((digest, plain))
}
