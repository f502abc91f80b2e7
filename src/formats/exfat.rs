//! Reads exFAT volumes, and never writes. Made for a stick that was pulled while it was written to.
//!
//! Of the crates, `exfat` 0.1.0 checks no checksum and panics when a seek fails; `exfat-fs` 0.1.3 does not check the
//! sums of entries and gives a folder up at its first bad one.
//!
//! Everything here is bounded, a broken entry costs that entry only, and nothing is trusted because it reads:
//! what is inside a file is proven by the digest in its name. From Microsoft's "exFAT file system specification";
//! section numbers are of that text.

use std::io::{self, Read};

use super::ReadAt;
use super::bytes::{le16, le32, le64, utf16, utf16_units};
use boot_sector::{BootSector, LABEL_ENTRY, NoBootSector};

pub(crate) mod boot_sector;

/// Largest folder read, in bytes; a folder of a node takes 160. What a larger one holds beyond is not read, and the listing says
/// so.
const MAX_FOLDER_BYTES: u64 = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ExFatError {
    #[error("not an exFAT volume")]
    NotExFat,
    #[error("the exFAT volume is damaged: {0}")]
    Damaged(String),
    #[error("reading the exFAT volume")]
    Io(#[source] io::Error),
}

fn damaged(text: impl Into<String>) -> ExFatError {
    ExFatError::Damaged(text.into())
}

/// Geometry from the boot sector (3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    fat_offset: u64,
    fat_entries: u64,
    heap_offset: u64,
    cluster_bytes: u64,
    cluster_count: u32,
    root_cluster: u32,
    dirty: bool,
}

/// Where the bytes of a file or folder lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    first_cluster: u32,
    /// Clusters follow each other and the FAT is not asked (6.3.4.2).
    contiguous: bool,
    /// Unknown for the root folder, which ends with its chain.
    length: Option<u64>,
    /// Bytes that were ever written; what follows reads as zero.
    valid: u64,
}

/// A file or folder with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub is_folder: bool,
    /// Seconds since 1970; `None` for a time stamp that is no time.
    pub modified_unix: Option<i64>,
    pub stream: Stream,
}

impl Entry {
    pub(crate) fn size(&self) -> u64 {
        self.stream.length.unwrap_or(0)
    }
}

/// What stands in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub entries: Vec<Entry>,
    /// Volume label, in the root folder only.
    pub label: Option<String>,
    /// Entry sets with a wrong checksum or an impossible shape.
    pub damaged: usize,
    /// The folder is larger than what is read of one: there may be more in it.
    pub cut: bool,
    /// The allocation bitmap and the up-case table are there, in the root folder only.
    pub has_bitmap: bool,
    pub has_upcase: bool,
}

/// An open volume.
pub(crate) struct ExFat<D> {
    data: D,
    geometry: Geometry,
}

impl<D: ReadAt> ExFat<D> {
    /// Opens the volume that begins at offset 0 of `data`, from its main boot region, else from the backup (3.2).
    pub(crate) fn open(data: D) -> Result<Self, ExFatError> {
        let mut first = match read_boot(&data, 0, None) {
            Ok(geometry) => return Ok(ExFat { data, geometry }),
            Err(error) => error,
        };
        for shift in [9u32, 12, 10, 11] {
            match read_boot(&data, 12 << shift, Some(shift)) {
                Ok(geometry) => return Ok(ExFat { data, geometry }),
                // A damaged volume is better news than none.
                Err(error @ ExFatError::Damaged(_)) if matches!(first, ExFatError::NotExFat) => first = error,
                Err(_) => {}
            }
        }
        Err(first)
    }

    /// The volume was not unmounted.
    pub(crate) fn is_dirty(&self) -> bool {
        self.geometry.dirty
    }

    /// The root folder.
    pub(crate) fn root(&self) -> Stream {
        Stream {
            first_cluster: self.geometry.root_cluster,
            contiguous: false,
            length: None,
            valid: u64::MAX,
        }
    }

    /// The entry of a folder by name; letters A to Z in either case.
    pub(crate) fn find(&self, folder: &Stream, name: &str) -> Result<Option<Entry>, ExFatError> {
        Ok(self
            .list(folder)?
            .entries
            .into_iter()
            .find(|entry| entry.name.eq_ignore_ascii_case(name)))
    }

    /// Everything in a folder. Deleted entries are passed over, broken ones counted.
    pub(crate) fn list(&self, folder: &Stream) -> Result<Listing, ExFatError> {
        self.list_within(folder, MAX_FOLDER_BYTES)
    }

    fn list_within(&self, folder: &Stream, limit: u64) -> Result<Listing, ExFatError> {
        let (bytes, cut) = self.read_folder(folder, limit)?;
        let mut listing = Listing {
            cut,
            ..Listing::default()
        };
        let mut index = 0;
        let entries: Vec<&[u8]> = bytes.chunks_exact(32).collect();
        while let Some(entry) = entries.get(index) {
            index += 1;
            match entry[0] {
                // Nothing stands behind it, so nothing is missing.
                0x00 => {
                    listing.cut = false;
                    break;
                }
                0x81 => listing.has_bitmap = true,
                0x82 => listing.has_upcase = true,
                LABEL_ENTRY => listing.label = Some(boot_sector::label(entry)),
                0x85 => {
                    let followers = usize::from(entry[1]);
                    match entries.get(index - 1..index + followers).and_then(entry_set) {
                        Some(found) => {
                            index += followers;
                            listing.entries.push(found);
                        }
                        // The next one may be whole, so go on right behind.
                        None => listing.damaged += 1,
                    }
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    /// The first `limit` bytes of a folder, and whether there are more.
    fn read_folder(&self, folder: &Stream, limit: u64) -> Result<(Vec<u8>, bool), ExFatError> {
        let length = folder.length.unwrap_or(u64::MAX);
        let limit = length.min(limit);
        let mut bytes = Vec::new();
        let mut walk = self.clusters(folder);
        while (bytes.len() as u64) < limit {
            let Some(cluster) = walk.next_cluster()? else {
                return Ok((bytes, false));
            };
            let start = bytes.len();
            let take = self.geometry.cluster_bytes.min(limit - start as u64);
            bytes.resize(start + usize::try_from(take).unwrap_or(0), 0);
            let offset = self.offset_of(cluster)?;
            self.data
                .read_exact_at(&mut bytes[start..], offset)
                .map_err(ExFatError::Io)?;
        }
        Ok((bytes, limit < length))
    }

    /// The content of a file.
    pub(crate) fn reader(&self, file: &Stream) -> FileReader<'_, D> {
        FileReader {
            volume: self,
            clusters: self.clusters(file),
            file: *file,
            position: 0,
            run: None,
        }
    }

    fn clusters(&self, stream: &Stream) -> Clusters<'_, D> {
        let count = match stream.length {
            Some(length) => length.div_ceil(self.geometry.cluster_bytes),
            None => u64::from(self.geometry.cluster_count),
        };
        Clusters {
            volume: self,
            next: (stream.first_cluster != 0 && count > 0).then_some(stream.first_cluster),
            contiguous: stream.contiguous,
            open_ended: stream.length.is_none(),
            left: count.min(u64::from(self.geometry.cluster_count)),
        }
    }

    fn offset_of(&self, cluster: u32) -> Result<u64, ExFatError> {
        let index = cluster
            .checked_sub(2)
            .filter(|index| *index < self.geometry.cluster_count);
        let index = index.ok_or_else(|| damaged(format!("cluster {cluster} is outside the volume")))?;
        Ok(self.geometry.heap_offset + u64::from(index) * self.geometry.cluster_bytes)
    }
}

/// Reads one boot region and checks it.
fn read_boot(data: &impl ReadAt, at: u64, known_shift: Option<u32>) -> Result<Geometry, ExFatError> {
    let mut sector = [0u8; 512];
    match data.read_exact_at(&mut sector, at) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ExFatError::NotExFat),
        other => other.map_err(ExFatError::Io)?,
    }
    if le16(&sector, 510) != Some(0xaa55) {
        return Err(ExFatError::NotExFat);
    }
    let impossible = || damaged("the boot sector has an impossible cluster size");
    let boot = BootSector::parse(&sector).map_err(|error| match error {
        NoBootSector::NotExFat => ExFatError::NotExFat,
        NoBootSector::ImpossibleCluster => impossible(),
    })?;
    let shift = boot.sector_shift;
    if known_shift.is_some_and(|known| known != shift) {
        return Err(impossible());
    }
    // Sum over eleven sectors, leaving out the flags and the percentage in use, which change (3.4).
    let mut region = vec![0u8; 12 << shift];
    data.read_exact_at(&mut region, at).map_err(ExFatError::Io)?;
    let (body, sums) = region.split_at(11 << shift);
    let mut sum = 0u32;
    for (index, byte) in body.iter().enumerate() {
        if !matches!(index, 106 | 107 | 112) {
            sum = sum.rotate_right(1).wrapping_add(u32::from(*byte));
        }
    }
    if le32(sums, 0) != Some(sum) {
        return Err(damaged("the boot sector has a wrong checksum"));
    }

    let volume_bytes = boot.volume_sectors.saturating_mul(1 << shift);
    let fat_bytes = boot.bytes(boot.fat_length);
    let geometry = Geometry {
        // The second FAT follows the first.
        fat_offset: boot.bytes(boot.fat_offset) + if boot.is_second_fat_active() { fat_bytes } else { 0 },
        fat_entries: fat_bytes / 4,
        heap_offset: boot.bytes(boot.heap_offset),
        cluster_bytes: 1u64 << (shift + boot.cluster_shift),
        cluster_count: boot.cluster_count,
        root_cluster: boot.root_cluster,
        dirty: boot.is_dirty(),
    };
    let heap = u64::from(geometry.cluster_count) * geometry.cluster_bytes;
    if geometry.cluster_count == 0
        || u64::from(geometry.cluster_count) + 2 > geometry.fat_entries
        || geometry.heap_offset.saturating_add(heap) > volume_bytes
    {
        return Err(damaged("the boot sector describes an impossible volume"));
    }
    Ok(geometry)
}

/// A file entry with its followers (7.4, 7.6, 7.7); `None` if anything about it is wrong.
fn entry_set(set: &[&[u8]]) -> Option<Entry> {
    let (file, stream, names) = match set {
        [file, stream, names @ ..] if stream[0] == 0xc0 => (file, stream, names),
        _ => return None,
    };
    let mut sum = 0u16;
    for (index, byte) in set.iter().flat_map(|entry| entry.iter()).enumerate() {
        if !matches!(index, 2 | 3) {
            sum = sum.rotate_right(1).wrapping_add(u16::from(*byte));
        }
    }
    if sum != le16(file, 2)? {
        return None;
    }
    let units = usize::from(stream[3]);
    let mut name = Vec::new();
    for part in names.iter().take(units.div_ceil(15)) {
        if part[0] != 0xc1 {
            return None;
        }
        name.extend_from_slice(&part[2..32]);
    }
    name.truncate(units * 2);
    if units == 0 || name.len() < units * 2 {
        return None;
    }
    let length = le64(stream, 24)?;
    Some(Entry {
        name: utf16(utf16_units(&name)),
        is_folder: le16(file, 4)? & 0x10 != 0,
        modified_unix: unix_time(le32(file, 12)?, file[22 + 1]),
        stream: Stream {
            first_cluster: le32(stream, 20)?,
            contiguous: stream[1] & 2 != 0,
            length: Some(length),
            valid: le64(stream, 8)?.min(length),
        },
    })
}

/// A DOS time stamp with a UTC offset in quarters of an hour (7.4.8, 7.4.10). Without a valid offset it is taken as UTC.
fn unix_time(stamp: u32, offset: u8) -> Option<i64> {
    let field = |shift: u32, bits: u32| i64::from((stamp >> shift) & ((1 << bits) - 1));
    let (year, month, day) = (1980 + field(25, 7), field(21, 4), field(16, 5));
    let (hour, minute, second) = (field(11, 5), field(5, 6), field(0, 5) * 2);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 in the proleptic Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let quarters = if offset & 0x80 == 0 {
        0
    } else {
        i64::from(((offset << 1) as i8) >> 1)
    };
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - quarters * 900)
}

/// The clusters of a file or folder, in order. Never gives more than the stream or the volume has, so that a chain in
/// a circle ends.
struct Clusters<'a, D> {
    volume: &'a ExFat<D>,
    next: Option<u32>,
    contiguous: bool,
    open_ended: bool,
    left: u64,
}

impl<D: ReadAt> Clusters<'_, D> {
    fn next_cluster(&mut self) -> Result<Option<u32>, ExFatError> {
        let Some(cluster) = self.next else { return Ok(None) };
        if self.left == 0 {
            if self.open_ended {
                return Err(damaged("a chain of clusters runs in a circle"));
            }
            return Ok(None);
        }
        self.left -= 1;
        // Also proves that the cluster has an entry in the FAT.
        self.volume.offset_of(cluster)?;
        self.next = if self.contiguous {
            cluster.checked_add(1)
        } else if self.left == 0 && !self.open_ended {
            // The last one: what the FAT says behind it does not matter.
            Some(cluster)
        } else {
            let mut entry = [0u8; 4];
            let offset = self.volume.geometry.fat_offset + u64::from(cluster) * 4;
            self.volume
                .data
                .read_exact_at(&mut entry, offset)
                .map_err(ExFatError::Io)?;
            match u32::from_le_bytes(entry) {
                u32::MAX => None,
                next => Some(next),
            }
        };
        Ok(Some(cluster))
    }
}

/// Reads a file from its start. A chain that ends early is an error, not a short file.
pub(crate) struct FileReader<'a, D> {
    volume: &'a ExFat<D>,
    clusters: Clusters<'a, D>,
    file: Stream,
    position: u64,
    /// Rest of the current cluster: offset on the volume and bytes.
    run: Option<(u64, u64)>,
}

impl<D: ReadAt> Read for FileReader<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.length.unwrap_or(0);
        let left = length.saturating_sub(self.position);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let invalid = |error: ExFatError| match error {
            ExFatError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        };
        let most = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(most(left));
        if self.position >= self.file.valid {
            buffer[..wanted].fill(0);
            self.position += wanted as u64;
            return Ok(wanted);
        }
        let (offset, in_run) = match self.run {
            Some(run) if run.1 > 0 => run,
            _ => {
                let cluster = self.clusters.next_cluster().map_err(invalid)?;
                let cluster = cluster.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "the file's chain of clusters ends early")
                })?;
                (
                    self.volume.offset_of(cluster).map_err(invalid)?,
                    self.volume.geometry.cluster_bytes,
                )
            }
        };
        let wanted = wanted.min(most(in_run)).min(most(self.file.valid - self.position));
        let count = self.volume.data.read_at(&mut buffer[..wanted], offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.run = Some((offset + count as u64, in_run - count as u64));
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
