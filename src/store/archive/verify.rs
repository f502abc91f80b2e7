//! Reads a tarball back and proves it.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::{ArchiveError, SUMS_NAME};
use crate::store::{Sha, digest_of, parse_hex};

/// What a tarball proved when it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    pub nodes: usize,
    pub files: usize,
}

/// Reads a tarball to its end and checks every file against `SHA256SUMS`: none wrong, none missing, none too many.
pub fn verify(reader: impl Read) -> Result<Verified, ArchiveError> {
    let wrong = |text: String| ArchiveError::Wrong(text);
    let mut archive = tar::Archive::new(MultiGzDecoder::new(BufReader::new(reader)));
    let mut sums: Option<HashMap<String, Sha>> = None;
    let mut verified = Verified::default();
    for entry in archive.entries().map_err(|e| wrong(e.to_string()))? {
        let entry = entry.map_err(|e| wrong(e.to_string()))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(sums) = sums.as_mut() else {
            if path != SUMS_NAME {
                return Err(wrong(format!("{path} comes before {SUMS_NAME}")));
            }
            sums = Some(read_sums(entry).map_err(wrong)?);
            continue;
        };
        let Some(expected) = sums.remove(&path) else {
            return Err(wrong(format!("{path} is not in {SUMS_NAME}, or is there twice")));
        };
        let (digest, _) = digest_of(entry).map_err(|e| wrong(format!("{path}: {e}")))?;
        if digest != expected {
            return Err(wrong(format!("{path} has another sum")));
        }
        verified.files += 1;
        verified.nodes += usize::from(path.ends_with("/upload.sha256"));
    }
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| wrong(e.to_string()))?;
    match sums {
        None => Err(wrong(format!("there is no {SUMS_NAME}"))),
        Some(sums) => match sums.keys().min() {
            Some(path) => Err(wrong(format!("{path} is missing"))),
            None => Ok(verified),
        },
    }
}

fn read_sums(reader: impl Read) -> Result<HashMap<String, Sha>, String> {
    let mut text = String::new();
    reader
        .take(1 << 30)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    let mut sums = HashMap::new();
    for line in text.lines() {
        let (digest, path) = parse_sum_line(line).ok_or_else(|| format!("a line of {SUMS_NAME} does not parse"))?;
        if sums.insert(path.clone(), digest).is_some() {
            return Err(format!("{path} is in {SUMS_NAME} twice"));
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
