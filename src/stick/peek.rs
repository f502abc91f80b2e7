//! One small file of the data partition, read without mounting anything: what a person put on a stick counts also where the
//! stick cannot be written to.

use std::io::{self, Read};

use crate::formats::exfat::{ExFat, ExFatError};
use crate::formats::gpt::GptError;
use crate::formats::{ReadAt, Window, gpt};

/// Reads the file `name` at the top of the data partition of a whole disk, up to one byte more than `limit`. `None` where there
/// is no such partition, or no such file on it.
///
/// # Errors
/// What is there and does not read, with its cause.
pub(crate) fn data_file(disk: &impl ReadAt, disk_bytes: u64, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let place = match gpt::find_data(disk, disk_bytes) {
        Ok(Some(place)) => place,
        Ok(None) | Err(GptError::None(_)) => return Ok(None),
        Err(GptError::Io(error)) => return Err(error),
    };
    let failed = |error: ExFatError| match error {
        ExFatError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    };
    let volume = match ExFat::open(Window::new(disk, place.offset, place.length)) {
        Ok(volume) => volume,
        // The power went while it was being made.
        Err(ExFatError::NotExFat) if !place.finished => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let Some(entry) = volume.find(&volume.root(), name).map_err(failed)? else {
        let root = volume.list(&volume.root()).map_err(failed)?;
        if root.damaged > 0 || root.cut {
            let text = "the list of files on the stick is damaged, and it may be in the part that does not read";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        return Ok(None);
    };
    if entry.is_folder {
        return Err(io::Error::other("it is a folder, not a file"));
    }
    let mut bytes = Vec::new();
    let reader = volume.reader(&entry.stream);
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gpt::Table;
    use crate::formats::{Failing, fixture};

    const SIZE: u64 = 100 << 20;

    /// The image on a stick, and on it the volume of the fixture where asked for.
    fn stick(volume: Option<&[u8]>) -> std::fs::File {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&fixture("kiwi.iso.gz"), 0).unwrap();
        file.set_len(SIZE).unwrap();
        if let Some(volume) = volume {
            let table = Table::read(&file, SIZE).unwrap();
            let plan = gpt::plan(&table, SIZE, gpt::iso_bytes(&file).unwrap(), None, [7; 16]).unwrap();
            plan.apply(&file).unwrap();
            file.write_all_at(volume, plan.data.offset).unwrap();
            let table = Table::read(&file, SIZE).unwrap();
            gpt::finish(&table, SIZE).unwrap().apply(&file).unwrap();
        }
        file
    }

    #[test]
    fn a_file_is_read_off_a_stick_that_is_not_mounted() {
        let disk = stick(Some(&fixture("data.img.gz")));
        let read = |name| data_file(&disk, SIZE, name, 1 << 20);
        let text = String::from_utf8(read("recon.toml").unwrap().unwrap()).unwrap();
        assert!(text.contains('='), "{text}");
        assert_eq!(read("Recon.TOML").unwrap().map(|bytes| bytes.len()), Some(text.len()));
        assert_eq!(read("nothing.here").unwrap(), None);
        assert!(read("nodes").unwrap_err().to_string().contains("folder"));
        assert_eq!(data_file(&disk, SIZE, "recon.toml", 3).unwrap().unwrap().len(), 4);
    }

    #[test]
    fn a_table_that_may_be_there_and_does_not_read_is_an_error() {
        // Nothing at the start; the copy at the end is on a sector that fails.
        let (disk, from) = (vec![0; 1 << 20], (1 << 20) - 4096);
        let error = data_file(&Failing { disk, from }, 1 << 20, "recon.toml", 9).unwrap_err();
        assert!(error.to_string().contains("os error 5"), "{error}");
    }

    #[test]
    fn no_partition_is_no_file_and_a_broken_one_is_an_error() {
        assert_eq!(data_file(&stick(None), SIZE, "recon.toml", 9).unwrap(), None);
        assert_eq!(data_file(&vec![0; 1 << 20], 1 << 20, "recon.toml", 9).unwrap(), None);
        let garbage = vec![0xa5; 1 << 20];
        assert!(data_file(&stick(Some(&garbage)), SIZE, "recon.toml", 9).is_err());
        let mut broken = fixture("data.img.gz");
        // The boot region and its backup (exFAT 3.1, 3.2), twelve sectors each.
        broken[..24 * 512].fill(0);
        assert!(data_file(&stick(Some(&broken)), SIZE, "recon.toml", 9).is_err());
    }

    #[test]
    fn a_file_that_may_be_in_the_damaged_part_of_the_list_is_an_error() {
        let mut image = fixture("data.img.gz");
        let name: Vec<u8> = "recon.toml".bytes().flat_map(|letter| [letter, 0]).collect();
        let at = image
            .windows(name.len())
            .position(|window| window == name.as_slice())
            .unwrap();
        // The sum of its entries is wrong now (exFAT 6.3.3).
        image[at] ^= 1;
        let disk = stick(Some(&image));
        let error = data_file(&disk, SIZE, "recon.toml", 9).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        assert!(
            data_file(&disk, SIZE, "nodes", 9)
                .unwrap_err()
                .to_string()
                .contains("folder")
        );
    }
}
