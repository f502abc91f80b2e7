//! Writing a recon image onto a disk so that it cannot boot before it is proven whole.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use crate::model::cause;

use crate::formats::gpt::Table;
use crate::formats::{gpt, iso9660};

/// Held back until the rest is on the disk and reads back right: boot code and partition table are in there.
const HEAD_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("the disk has {disk} bytes, the image needs {image}")]
    TooSmall { disk: u64, image: u64 },
    #[error("reading the image")]
    Read(#[source] io::Error),
    #[error("writing the disk; it does not boot, write it again")]
    Write(#[source] io::Error),
    #[error("reading the disk back; it does not boot, write it again")]
    ReadBack(#[source] io::Error),
    #[error("the disk gives back other bytes than were written: it is bad, use another one")]
    Differs,
    #[error("the written partition table does not read: {0}")]
    Table(String),
}

/// Copies the first `image_bytes` of `image` to `disk`, which has `disk_bytes`; checks every byte by reading it back
/// (`drop_cache` makes the kernel forget what it holds of the disk); then makes it bootable. A data partition of the source
/// is not copied, and its entry is taken out of the table. `progress` hears bytes done of bytes to do.
pub(crate) fn write(
    image: &File,
    image_bytes: u64,
    disk: &File,
    disk_bytes: u64,
    drop_cache: &dyn Fn() -> io::Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), InstallError> {
    if disk_bytes < image_bytes {
        return Err(InstallError::TooSmall {
            disk: disk_bytes,
            image: image_bytes,
        });
    }
    let head_bytes = HEAD_BYTES.min(image_bytes);
    let total = 2 * image_bytes;
    let put = |bytes: &[u8], at| {
        let written = disk.write_all_at(bytes, at).and_then(|()| disk.sync_all());
        written.map_err(InstallError::Write)
    };
    // A disk that was bootable before must not stay so with half of another image on it.
    put(&vec![0; head_bytes as usize], 0)?;
    let written = walk(image, InstallError::Read, head_bytes..image_bytes, |bytes, at| {
        disk.write_all_at(bytes, at).map_err(InstallError::Write)?;
        progress(at + bytes.len() as u64, total);
        Ok(())
    })?;
    disk.sync_all().map_err(InstallError::Write)?;
    drop_cache().map_err(InstallError::ReadBack)?;
    let found = walk(disk, InstallError::ReadBack, head_bytes..image_bytes, |bytes, at| {
        progress(image_bytes + at + bytes.len() as u64, total);
        Ok(())
    })?;
    if written != found {
        return Err(InstallError::Differs);
    }
    let mut head = vec![0; head_bytes as usize];
    image.read_exact_at(&mut head, 0).map_err(InstallError::Read)?;
    put(&head, 0)?;
    let table = Table::read(disk, disk_bytes).map_err(|error| InstallError::Table(cause::told(&error)))?;
    for write in gpt::without_data(&table, disk_bytes) {
        put(&write.bytes, write.offset)?;
    }
    progress(total, total);
    Ok(())
}

/// Where KIWI puts the boot menu in the image.
const BOOT_MENU: [&str; 3] = ["boot", "grub2", "grub.cfg"];
const MAX_MENU_BYTES: u64 = 64 << 10;

/// Makes a written disk start the live system. An install medium's menu starts this program instead, and so would its copy.
/// A disk whose menu does so already, or is another one, stays as it is.
pub(crate) fn start_live_system(disk: &File) -> io::Result<()> {
    let menu = match iso9660::find(disk, &BOOT_MENU) {
        Ok(menu) if menu.length <= MAX_MENU_BYTES => menu,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut text = vec![0; menu.length as usize];
    disk.read_exact_at(&mut text, menu.offset)?;
    if live_by_default(&mut text) {
        disk.write_all_at(&text, menu.offset)?;
        disk.sync_all()?;
    }
    Ok(())
}

/// Changes the default entry of a boot menu, in place because a file of an ISO image cannot grow. True if it was another.
fn live_by_default(menu: &mut [u8]) -> bool {
    const INSTALL: &[u8] = b"\nset default=install\n";
    const LIVE: &[u8] = b"\nset default=run    \n";
    match menu.windows(INSTALL.len()).position(|window| window == INSTALL) {
        Some(at) => {
            menu[at..at + LIVE.len()].copy_from_slice(LIVE);
            true
        }
        None => false,
    }
}

/// Hands over a part of a file in chunks and answers its SHA-256.
fn walk(
    file: &File,
    failed: fn(io::Error) -> InstallError,
    part: Range<u64>,
    mut each: impl FnMut(&[u8], u64) -> Result<(), InstallError>,
) -> Result<[u8; 32], InstallError> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = part.start;
    while at < part.end {
        let count = (part.end - at).min(CHUNK_BYTES as u64) as usize;
        file.read_exact_at(&mut chunk[..count], at).map_err(failed)?;
        hash.update(&chunk[..count]);
        each(&chunk[..count], at)?;
        at += count as u64;
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK_BYTES: u64 = 512 << 20;

    /// A stick that was a master before: KIWI's image with a data partition behind it.
    fn stick() -> (File, u64) {
        let bytes = crate::formats::fixture("kiwi.iso.gz");
        let stick = tempfile::tempfile().unwrap();
        stick.write_all_at(&bytes, 0).unwrap();
        stick.set_len(DISK_BYTES).unwrap();
        let table = Table::read(&stick, DISK_BYTES).unwrap();
        // As if the image were larger than what is held back.
        let image_bytes = gpt::iso_bytes(&stick).unwrap().max(4 << 20);
        gpt::plan(&table, DISK_BYTES, image_bytes, None, [7; 16])
            .unwrap()
            .apply(&stick)
            .unwrap();
        assert!(gpt::find_data(&stick, DISK_BYTES).unwrap().is_some());
        (stick, image_bytes)
    }

    fn disk(bytes: u64) -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(bytes).unwrap();
        disk
    }

    #[test]
    fn the_copy_is_whole_and_names_no_data_partition() {
        let (stick, image_bytes) = stick();
        for disk_bytes in [2 * DISK_BYTES, DISK_BYTES / 2] {
            let disk = disk(disk_bytes);
            let mut last = (0, 0);
            write(&stick, image_bytes, &disk, disk_bytes, &|| Ok(()), &mut |done, of| {
                last = (done, of)
            })
            .unwrap();
            assert_eq!(last.0, last.1);
            assert_eq!(gpt::find_data(&disk, disk_bytes).unwrap(), None);
            let table = Table::read(&disk, disk_bytes).unwrap();
            assert_eq!(table.alternate_lba, disk_bytes / table.sector_size - 1);
            assert_eq!(
                Table::read_backup(&disk, disk_bytes).unwrap().partitions().count(),
                table.partitions().count()
            );
            let (mut from, mut to) = (vec![0; 1 << 20], vec![0; 1 << 20]);
            stick.read_exact_at(&mut from, 40 * 1024).unwrap();
            disk.read_exact_at(&mut to, 40 * 1024).unwrap();
            assert_eq!(from, to);
            let room = gpt::plan(&table, disk_bytes, image_bytes, None, [8; 16]);
            assert!(room.is_ok(), "the copy has room for a data partition of its own");
        }
    }

    #[test]
    fn the_copy_of_an_install_medium_starts_the_live_system() {
        let mut menu = b"search x\nset default=install\nset timeout=2\n".to_vec();
        assert!(live_by_default(&mut menu));
        assert_eq!(menu, b"search x\nset default=run    \nset timeout=2\n");
        assert!(!live_by_default(&mut menu), "once is enough");
        let template = include_str!("../../kiwi/common/grub.cfg.template");
        assert!(
            template.contains("--id run ") && template.contains("--id install "),
            "the entries are named so"
        );
    }

    #[test]
    fn a_disk_that_lies_is_not_made_bootable() {
        let (stick, image_bytes) = stick();
        let disk = disk(DISK_BYTES);
        let spoil = disk.try_clone().unwrap();
        let lie = move || spoil.write_all_at(b"bad", 1_500_000);
        let ended = write(&stick, image_bytes, &disk, DISK_BYTES, &lie, &mut |_, _| {});
        assert!(matches!(ended, Err(InstallError::Differs)), "{ended:?}");
        let mut head = [1; 512];
        disk.read_exact_at(&mut head, 0).unwrap();
        assert_eq!(head, [0; 512], "no boot code");
    }

    #[test]
    fn a_small_disk_is_refused_untouched() {
        let (stick, image_bytes) = stick();
        let disk = disk(1 << 20);
        disk.write_all_at(b"data", 0).unwrap();
        let ended = write(&stick, image_bytes, &disk, 1 << 20, &|| Ok(()), &mut |_, _| {});
        assert!(matches!(ended, Err(InstallError::TooSmall { .. })), "{ended:?}");
        let mut head = [0; 4];
        disk.read_exact_at(&mut head, 0).unwrap();
        assert_eq!(&head, b"data");
    }
}
