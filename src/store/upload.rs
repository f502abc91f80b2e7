//! Walks one upload (a `tar.gz`) under limits. Nothing is ever unpacked onto a file system.

use std::collections::HashSet;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::inventory::{self, InventoryFacts};
use super::json;
use crate::model::layout::INVENTORY;

/// Bounds of one upload. An upload past a bound is refused whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Entries of the tar, folders and headers included.
    pub entries: usize,
    /// Length of the tar after gunzip.
    pub unpacked_bytes: u64,
    /// Length of `inventory.json`. It is never held whole, so this bounds time and room, not memory.
    pub inventory_bytes: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        UploadLimits {
            entries: 10_000,
            unpacked_bytes: 1 << 30,
            inventory_bytes: 64 << 20,
        }
    }
}

/// Longest path taken; tar itself would allow any length.
const MAX_PATH: usize = 1024;
/// Longest extension header (GNU long name, pax record) taken.
const MAX_EXTENSION: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bytes are not an upload; asking again for the same bytes gives the same answer.
    #[error("{0}")]
    Refused(String),
    /// Reading failed, so nothing is known about the bytes.
    #[error("cannot be read")]
    Io(#[source] io::Error),
    /// The visitor failed.
    #[error("using the upload")]
    Visit(#[source] io::Error),
}

impl From<UploadError> for io::Error {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Refused(text) => io::Error::new(io::ErrorKind::InvalidData, text),
            UploadError::Io(source) | UploadError::Visit(source) => source,
        }
    }
}

fn refused(text: impl Into<String>) -> UploadError {
    UploadError::Refused(text.into())
}

/// A regular file of the upload, with a clean relative path. The reader gives exactly `size` bytes.
pub struct Item<'a> {
    pub path: &'a str,
    pub size: u64,
    pub reader: &'a mut dyn Read,
}

/// Calls `visit` for each regular file of the gzip'ed tar in `source`, in order, the first of each name only.
///
/// Reads to the end, so that gzip's own checksum is checked and nothing follows it. A path that leaves the upload's
/// root is refused; links, special files and names that are not UTF-8 are passed over. Memory use does not depend on the
/// upload, but for 16 bytes an entry.
pub fn walk(
    source: impl Read,
    limits: &UploadLimits,
    mut visit: impl FnMut(Item<'_>) -> io::Result<()>,
) -> Result<(), UploadError> {
    let gunzip = MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, source));
    // One byte more than it may have tells that it has more.
    let mut archive = Archive::new(gunzip.take(limits.unpacked_bytes.saturating_add(1)));
    let result = walk_entries(&mut archive, limits, &mut visit);
    let mut rest = archive.into_inner();
    let result = result.and_then(|()| io::copy(&mut rest, &mut io::sink()).map_err(read_error));
    if rest.limit() == 0 {
        let text = format!("it unpacks to more than {} bytes", limits.unpacked_bytes);
        return Err(refused(text));
    }
    result.map(drop)
}

/// A broken stream says so with these kinds; anything else comes from the medium.
fn read_error(error: io::Error) -> UploadError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            refused(format!("it is not a whole tar.gz: {error}"))
        }
        // The tar crate wraps what it does not like about a header as "other", as it does nothing else.
        io::ErrorKind::Other if error.raw_os_error().is_none() => refused(format!("it is not a tar: {error}")),
        _ => UploadError::Io(error),
    }
}

fn walk_entries<R: Read>(
    archive: &mut Archive<R>,
    limits: &UploadLimits,
    visit: &mut impl FnMut(Item<'_>) -> io::Result<()>,
) -> Result<(), UploadError> {
    // Names themselves could be ten megabytes.
    let mut seen: HashSet<[u8; 16]> = HashSet::new();
    let mut long_name: Option<Vec<u8>> = None;
    // Raw, because the cooked iterator reads a long name of any length into memory.
    for (index, entry) in archive.entries().map_err(read_error)?.raw(true).enumerate() {
        let mut entry = entry.map_err(read_error)?;
        if index >= limits.entries {
            return Err(refused(format!("it has more than {} entries", limits.entries)));
        }
        let size = entry.header().entry_size().map_err(read_error)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let mut name = extension(&mut entry, size)?;
                while name.last() == Some(&0) {
                    name.pop();
                }
                long_name = Some(name);
            }
            EntryType::XHeader => {
                let records = extension(&mut entry, size)?;
                if let Some(name) = pax_path(&records)? {
                    long_name = Some(name);
                }
            }
            EntryType::XGlobalHeader | EntryType::GNULongLink => {}
            kind => {
                let raw = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                let path = clean_path(&raw)?;
                if let (EntryType::Regular | EntryType::Continuous, Some(path)) = (kind, path)
                    && seen.insert(mark(&path))
                {
                    let mut reader = Tracked {
                        inner: &mut entry,
                        error: None,
                    };
                    let visited = visit(Item {
                        path: &path,
                        size,
                        reader: &mut reader,
                    });
                    if let Some(error) = reader.error {
                        return Err(read_error(error));
                    }
                    visited.map_err(UploadError::Visit)?;
                }
            }
        }
    }
    Ok(())
}

/// Tells names apart: half a SHA-256, which nobody finds two names for.
fn mark(path: &str) -> [u8; 16] {
    let digest = Sha256::digest(path.as_bytes());
    std::array::from_fn(|at| digest[at])
}

fn extension(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, UploadError> {
    if size > MAX_EXTENSION {
        return Err(refused(format!("it has an extension header of {size} bytes")));
    }
    let mut bytes = Vec::new();
    entry.take(MAX_EXTENSION).read_to_end(&mut bytes).map_err(read_error)?;
    Ok(bytes)
}

/// Path of a pax header: records are `<length> <key>=<value>\n`, the length counting the whole record.
fn pax_path(mut records: &[u8]) -> Result<Option<Vec<u8>>, UploadError> {
    let broken = || refused("it has a broken pax header");
    let mut path = None;
    while !records.is_empty() {
        let blank = records.iter().position(|&b| b == b' ').ok_or_else(broken)?;
        let length: usize = std::str::from_utf8(&records[..blank])
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(broken)?;
        let record = records.get(blank + 1..length).ok_or_else(broken)?;
        let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = record.iter().position(|&b| b == b'=').ok_or_else(broken)?;
        match &record[..equals] {
            b"path" => path = Some(record[equals + 1..].to_vec()),
            // Only files over 8 GiB need it, and those are far past every limit.
            b"size" => return Err(refused("it has a file with a pax size")),
            _ => {}
        }
        records = &records[length..];
    }
    Ok(path)
}

/// The path without `./` and doubled slashes; `None` if it is not UTF-8 or names nothing. Refuses what would leave the
/// root.
fn clean_path(raw: &[u8]) -> Result<Option<String>, UploadError> {
    let shown = || String::from_utf8_lossy(&raw[..raw.len().min(120)]).into_owned();
    if raw.len() > MAX_PATH {
        return Err(refused(format!("it has a path of {} bytes", raw.len())));
    }
    if raw.first() == Some(&b'/') || raw.contains(&0) || raw.split(|&b| b == b'/').any(|part| part == b"..") {
        return Err(refused(format!("it has an unsafe path: {:?}", shown())));
    }
    let Ok(text) = std::str::from_utf8(raw) else {
        return Ok(None);
    };
    let clean: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    Ok(if clean.is_empty() { None } else { Some(clean.join("/")) })
}

/// Checks that `source` is an upload: a whole tar.gz within the limits, with an `inventory.json` at its root that holds a JSON
/// object; of several entries of one name the first counts. Gives what the inventory says of its machine. Memory use does not
/// depend on the upload; see `json.rs`.
pub fn check(source: impl Read, limits: &UploadLimits) -> Result<InventoryFacts, UploadError> {
    let mut facts = None;
    walk(source, limits, |item| {
        if item.path == INVENTORY {
            facts = Some(read_facts(item, limits));
        }
        Ok(())
    })?;
    facts.ok_or_else(|| refused(NO_INVENTORY))?
}

/// What the inventory of an upload that was checked before says of its machine; nothing where it does not read. Stops reading
/// behind the inventory, which stands first.
pub fn facts(source: impl Read, limits: &UploadLimits) -> Result<InventoryFacts, UploadError> {
    find_inventory(source, limits, |item| Ok(read_facts(item, limits).unwrap_or_default()))
}

/// Gives the inventory of an upload that was checked before to `take`, piece by piece. Stops reading behind it.
pub fn inventory(
    source: impl Read,
    limits: &UploadLimits,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), UploadError> {
    find_inventory(source, limits, |item| {
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            match item.reader.read(&mut buffer)? {
                0 => return Ok(()),
                count => take(&buffer[..count])?,
            }
        }
    })
}

const NO_INVENTORY: &str = "it has no inventory.json";

fn find_inventory<T>(
    source: impl Read,
    limits: &UploadLimits,
    mut visit: impl FnMut(Item<'_>) -> io::Result<T>,
) -> Result<T, UploadError> {
    let mut found = None;
    let walked = walk(source, limits, |item| {
        if item.path == INVENTORY {
            found = Some(visit(item));
            // Ends the walk.
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    });
    match (found, walked) {
        (Some(Ok(made)), Err(UploadError::Visit(_))) => Ok(made),
        (Some(Err(error)), Err(UploadError::Visit(_))) => Err(UploadError::Visit(error)),
        (_, Err(error)) => Err(error),
        (_, Ok(_)) => Err(refused(NO_INVENTORY)),
    }
}

fn read_facts(item: Item<'_>, limits: &UploadLimits) -> Result<InventoryFacts, UploadError> {
    let (size, most) = (item.size, limits.inventory_bytes);
    if size > most {
        return Err(refused(format!(
            "its inventory.json has {size} bytes, {most} is the limit"
        )));
    }
    inventory::read(item.reader).map_err(|refusal| match refusal {
        json::Refusal::NotAnObject => refused("its inventory.json is not a JSON object"),
        json::Refusal::NotJson(reason) => refused(format!("its inventory.json is not JSON: {reason}")),
    })
}

/// Remembers a read error, so that it is told apart from an error of the visitor.
struct Tracked<'a, R> {
    inner: &'a mut R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Tracked<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            self.error = Some(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            });
        })
    }
}

/// Makes uploads for tests of every layer.
#[cfg(test)]
pub mod samples {
    use std::io::Write;

    /// A tar.gz with these files.
    pub fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    /// An upload like a peer makes it; `mark` makes it differ from others. All are of one boot, so those of one node are of
    /// one machine.
    pub fn upload(mark: &str) -> Vec<u8> {
        let inventory = format!(
            r#"{{"schema_version":1,"run":{{"value":{{"boot_id":"sample"}}}},"system":{{"status":"ok","value":{{"vendor":"Acme","product":"R1 {mark}"}}}}}}"#
        );
        tar_gz(&[
            ("inventory.json", inventory.as_bytes()),
            ("raw/dmi/DMI", mark.repeat(50).as_bytes()),
            ("post/output.txt", b"done\n"),
        ])
    }

    /// The inventory inside an upload.
    pub fn inventory(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        super::inventory(bytes, &super::UploadLimits::default(), |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        text
    }

    /// An upload of the machine with this serial number and port, where they are known.
    pub fn of_machine(uuid: &str, serial: Option<&str>, mac: Option<&str>, mark: &str) -> Vec<u8> {
        let quoted = |text: Option<&str>| text.map_or("null".to_owned(), |text| format!("{text:?}"));
        let port = mac.map_or(String::new(), |mac| {
            format!(r#"{{"name":"eth0","permanent_mac":"{mac}"}}"#)
        });
        let inventory = format!(
            r#"{{"schema_version":2,"system":{{"value":{{"vendor":"Acme","product":"R1","serial":{},"uuid":"{uuid}"}}}},"nics":{{"value":[{port}]}}}}"#,
            quoted(serial)
        );
        tar_gz(&[
            ("inventory.json", inventory.as_bytes()),
            ("post/output.txt", mark.as_bytes()),
        ])
    }

    /// A tar.gz whose single entry has any header the caller likes.
    pub fn odd_entry(edit: impl FnOnce(&mut tar::Header), data: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("inventory.json").unwrap();
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend_from_slice(data);
        tar.resize(tar.len().div_ceil(512) * 512 + 1024, 0);
        gz(&tar)
    }

    pub fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }
}

#[cfg(test)]
mod tests;
