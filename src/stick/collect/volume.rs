//! Where the data volume of a device or image is.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::formats::exfat::{ExFat, ExFatError};
use crate::formats::gpt::GptError;
use crate::formats::{ReadAt, Window, gpt};
use crate::model::layout;
use crate::stick::collect::error::{CollectError, read_error};

/// Partitions begin on whole MiB, so this is where a volume is looked for when the table is gone.
const SEARCH_STEP: u64 = 1 << 20;
/// How far it is looked for: a terabyte, which a fast disk answers in a minute.
const SEARCH_LIMIT: u64 = 1 << 40;

pub(super) type Volume<'a, D = File> = ExFat<Window<&'a D>>;

/// The data volume of a device or image: by the partition table, else the source is the volume, else it is searched for.
pub(super) fn find_volume<'a, D: ReadAt>(
    disk: &'a D,
    length: u64,
    path: &Path,
) -> Result<(Volume<'a, D>, Vec<String>), CollectError> {
    let damaged = |source| CollectError::Volume {
        path: path.to_owned(),
        source,
    };
    let no_data = |reason: String| CollectError::NoData {
        path: path.to_owned(),
        reason,
    };
    if length == 0 {
        return Err(no_data("it is empty, or there is no medium in it".into()));
    }
    // Where a table may be that does not read. The volume may be found all the same.
    let mut table_unread = None;
    let reason = match gpt::find_data(disk, length) {
        Ok(Some(place)) => match ExFat::open(Window::new(disk, place.offset, place.length)) {
            Ok(volume) => return Ok((volume, Vec::new())),
            Err(ExFatError::NotExFat) => format!("partition {} is not formatted", place.number),
            Err(source) => return Err(damaged(source)),
        },
        Ok(None) => "its partition table has no such partition; was it booted as a master?".into(),
        Err(error) => match (ExFat::open(Window::new(disk, 0, length)), error) {
            (Ok(volume), _) => return Ok((volume, Vec::new())),
            (Err(_), GptError::Io(source)) => {
                let reason = format!("its partition table does not read: {source}");
                table_unread = Some(source);
                reason
            }
            (Err(ExFatError::NotExFat), _) => "it has neither a partition table nor an exFAT volume".into(),
            (Err(source), _) => return Err(damaged(source)),
        },
    };
    // The table may be gone, or belong to an image that was written over a stick with inventories on it.
    let unread = match searched(disk, length) {
        Ok((volume, offset)) => {
            let warning = format!("{reason}; the volume was found at byte {offset}");
            return Ok((volume, vec![warning]));
        }
        Err(unread) => unread,
    };
    match table_unread {
        Some(source) => Err(read_error(path, source)),
        None => Err(no_data(reason + &unread.unwrap_or_default())),
    }
}

/// The first data volume behind the start of the disk, and where it begins; else what could not be read of the disk.
fn searched<D: ReadAt>(disk: &D, length: u64) -> Result<(Volume<'_, D>, u64), Option<String>> {
    let mut offset = SEARCH_STEP;
    let mut unread: Option<String> = None;
    while offset < length.min(SEARCH_LIMIT) {
        let mut name = [0u8; 8];
        let read = disk.read_exact_at(&mut name, offset + 3);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            unread.get_or_insert_with(|| format!("; reading it at byte {offset} failed: {error}"));
        }
        if read.is_ok()
            && &name == b"EXFAT   "
            && let Ok(volume) = ExFat::open(Window::new(disk, offset, length - offset))
            && volume
                .list(&volume.root())
                .is_ok_and(|root| root.label.as_deref() == Some(layout::DATA_NAME))
        {
            return Ok((volume, offset));
        }
        offset += SEARCH_STEP;
    }
    Err(unread)
}
