//! Where a master keeps what it is given: the data partition of its stick, else memory, said loudly.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::load::{self, Loaded, MAX_SETTINGS_BYTES};
use crate::config::settings::EXAMPLE;
use crate::config::site_key::{self, SiteKey};
use crate::model::api::{LinkStatus, StorageStatus};
use crate::model::layout;
use crate::stick::medium::{Carrier, LIVE_MOUNT, Medium};
use crate::stick::partition::DataPartition;
use crate::stick::{medium, partition, peek};
use crate::sys::{block, mount};

use crate::role::{remedy, settle};

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Storage {
    pub folder: PathBuf,
    pub durable: bool,
    pub files: StickFiles,
    partition: Option<DataPartition>,
    /// Why the data lives in memory, a sentence; what to do then is for `remedy` to say.
    pub problem: Option<String>,
    /// Not wrong, but worth telling once: partition made, file system repaired.
    pub notices: Vec<String>,
}

impl Storage {
    /// A folder given by hand, which counts as durable.
    pub(crate) fn folder(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self::there(folder))
    }

    /// A folder that is there.
    fn there(folder: PathBuf) -> Self {
        Storage {
            files: StickFiles::Folder(folder.clone()),
            folder,
            durable: true,
            partition: None,
            problem: None,
            notices: Vec::new(),
        }
    }

    /// The data partition of the medium, made if there is none; memory where that fails. Blocks.
    pub(crate) fn of_medium(medium: Option<&Medium>) -> io::Result<Self> {
        let Some(disk) = medium.and_then(|medium| medium.disk.as_ref()) else {
            // Where the medium does not read, what forbids something may still stand on it.
            let disk = medium::live_disk().filter(|_| live());
            return Self::memory(remedy::no_disk(live()).to_owned(), disk.as_ref());
        };
        let told = match certain(disk) {
            Ok(Certain { notice }) => notice,
            Err(Doubt(why)) => return Self::memory(why, Some(disk)),
        };
        match partition::ensure(disk, Path::new(layout::MOUNT_POINT), rand::random()) {
            Ok(partition) => {
                tracing::info!(device = %partition.device.display(), created = partition.created, "data partition");
                let mut notices = partition.notes.clone();
                notices.extend(told);
                if let Err(error) = create_layout(Path::new(layout::MOUNT_POINT)) {
                    notices.push(format!("the stick's folders could not be made: {error}"));
                }
                Ok(Storage {
                    notices,
                    partition: Some(partition),
                    ..Self::there(layout::MOUNT_POINT.into())
                })
            }
            Err(problem) => Self::memory(problem.to_string(), Some(disk)),
        }
    }

    /// Memory in place of the partition of `disk`, and why, as a sentence.
    pub(crate) fn memory(why: String, disk: Option<&PathBuf>) -> io::Result<Self> {
        let folder = Self::folder(layout::MOUNT_POINT.into())?;
        Ok(Storage {
            files: disk.map_or(folder.files, |disk| StickFiles::Disk(disk.clone())),
            durable: false,
            problem: Some(why),
            ..folder
        })
    }

    /// The key of the site: the one on the stick, made there if there is none. Where it cannot be read or kept, one for this run, which
    /// nobody else has; and a sentence about that. `random`: from the system's generator. Blocks.
    pub(crate) fn site_key(&self, random: [u8; 32]) -> (SiteKey, Option<String>) {
        let found = match self.files.read(layout::SITE_KEY, site_key::MAX_FILE_BYTES) {
            Ok(Some(bytes)) => SiteKey::parse(&bytes).map_err(|error| error.to_string()),
            Ok(None) => {
                let key = SiteKey::new(random);
                let kept = if self.durable {
                    keep_key(&self.folder, &key)
                } else {
                    Ok(())
                };
                let problem = kept.err().map(|error| {
                    format!(
                        "{}: it cannot be written: {error}. Other sticks of this site are not known by this one",
                        layout::SITE_KEY
                    )
                });
                return (key, problem);
            }
            Err(error) => Err(format!("it cannot be read: {error}")),
        };
        found.map(|key| (key, None)).unwrap_or_else(|why| {
            let problem = format!(
                "{}: {why}. Other sticks of this site are not known by this one: copy the file from one of them, or delete it, and a new one is \
                 made at the next start",
                layout::SITE_KEY
            );
            (SiteKey::new(random), Some(problem))
        })
    }

    /// `links` and `stored`, the number of machines whose upload is here, decide what a person can do where uploads live in
    /// memory; `port` is HTTP's.
    pub(crate) fn status(&self, links: &[LinkStatus], stored: usize, port: u16) -> StorageStatus {
        let space = mount::space(&self.folder).ok();
        let (free_bytes, total_bytes) = space.map_or((0, 0), |space| (space.free_bytes, space.total_bytes));
        let (partition, problem) = (self.partition.as_ref(), self.problem.as_ref());
        StorageStatus {
            durable: self.durable,
            device: partition.map(|partition| partition.device.display().to_string()),
            problem: problem.map(|why| remedy::in_memory(why, stored, links, port)),
            free_bytes,
            total_bytes,
            ..StorageStatus::default()
        }
    }

    /// What is true once [`Self::close`] is done, for the person who is about to take the stick or the power away.
    pub(crate) fn closing_words(&self, stored: usize) -> String {
        match (&self.partition, self.durable) {
            (Some(_), _) => "everything is written; the stick may be pulled once the machine is off".to_owned(),
            (None, true) => format!("everything is written to {}", self.folder.display()),
            (None, false) => remedy::closed_in_memory(stored, &self.folder.to_string_lossy()),
        }
    }

    /// Writes everything out and leaves the partition clean. Blocks.
    pub(crate) fn close(self) -> io::Result<()> {
        match self.partition {
            Some(partition) => partition.close(),
            None => mount::sync_filesystem(&self.folder),
        }
    }
}

/// The disk is what this machine was started from; perhaps there is something that a person should know of it.
struct Certain {
    notice: Option<String>,
}

/// Why it may be another one, and what to do, as sentences.
struct Doubt(String);

/// Makes sure that `disk` is what this machine was started from, and takes our own write protection off it, which every disk
/// has got when it appeared.
fn certain(disk: &Path) -> Result<Certain, Doubt> {
    let own = medium::carrier(Path::new("/sys"), disk.to_owned());
    if !own.portable {
        // The stick that was meant may still be on its way.
        settle::wait_for_drivers();
    }
    let listed = medium::carriers();
    let (carriers, silent) = listed.map_err(|error| {
        Doubt(format!(
            "the disks could not be listed to look for other media: {error}"
        ))
    })?;
    if let Some(late) = silent.first().filter(|_| !own.portable) {
        return Err(Doubt(format!(
            "{} does not answer, and could be the stick that was meant instead of {}, a disk of this machine. Nothing is written to either: \
             take one of them out, and start again.",
            late.display(),
            disk.display()
        )));
    }
    let others: Vec<Carrier> = carriers.into_iter().filter(|other| other.disk != own.disk).collect();
    let notice = medium::may_write(&own, &others).map_err(|error| Doubt(format!("{error}.")))?;
    // A stick whose own switch says read-only stays so, and is named as such by what follows.
    if block::is_read_only(disk).unwrap_or(false)
        && let Err(error) = block::set_read_only(disk, false)
    {
        tracing::warn!(disk = %disk.display(), %error, "taking the write protection off the boot medium");
    }
    Ok(Certain { notice })
}

/// Writes the key beside its place first: a power cut leaves a whole one or none.
fn keep_key(folder: &Path, key: &SiteKey) -> io::Result<()> {
    let place = folder.join(layout::SITE_KEY);
    let part = folder.join(format!("{}{}", layout::SITE_KEY, layout::PART));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(key.text().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, &place)?;
    File::open(folder)?.sync_all()
}

/// Where a file that a person put on the stick is read: the data folder, or, where memory stands in for it, the stick behind.
#[derive(Debug, Clone)]
pub(crate) enum StickFiles {
    Folder(PathBuf),
    /// The whole disk, of which nothing is mounted.
    Disk(PathBuf),
}

impl StickFiles {
    /// Up to one byte more than `limit`; `None` where there is no such file. Blocks.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self {
            StickFiles::Folder(folder) => load::small_file(&folder.join(name), limit),
            StickFiles::Disk(disk) => {
                let mut disk = File::open(disk)?;
                let bytes = disk.seek(SeekFrom::End(0))?;
                peek::data_file(&disk, bytes, name, limit)
            }
        }
    }

    /// Reads `recon.toml`. Blocks.
    pub(crate) fn settings(&self) -> Loaded {
        load::settings_of(layout::SETTINGS, self.read(layout::SETTINGS, MAX_SETTINGS_BYTES))
    }
}

/// True where this is a live system of a recon image, whatever it booted from.
fn live() -> bool {
    let mounts = mount::mounted().unwrap_or_default();
    mounts.iter().any(|mounted| mounted.target == Path::new(LIVE_MOUNT))
}

/// Puts what a person looks for on a stick that lacks it: the served folders, and the settings to edit.
fn create_layout(folder: &Path) -> io::Result<()> {
    for name in [layout::ISOS, layout::INSTALL, layout::EXPORT] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    match File::create_new(folder.join(layout::SETTINGS)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => {
            // Notepad of old Windows shows one long line otherwise.
            file.write_all(EXAMPLE.replace('\n', "\r\n").as_bytes())?;
            file.sync_all()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_one_that_does_not_read_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::folder(dir.path().to_owned()).unwrap();
        let random = |seed: u8| std::array::from_fn(|at| seed.wrapping_add(at as u8));
        let (made, problem) = storage.site_key(random(1));
        assert_eq!((&made, problem), (&SiteKey::new(random(1)), None));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join(layout::SITE_KEY)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(storage.site_key(random(2)), (made, None), "it stays");
        let files: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(files, [layout::SITE_KEY]);
        std::fs::write(dir.path().join(layout::SITE_KEY), [0; 300]).unwrap();
        let (key, problem) = storage.site_key(random(3));
        assert_eq!(key, SiteKey::new(random(3)));
        assert!(problem.unwrap().contains("64 hex digits"));
        assert_eq!(std::fs::read(dir.path().join(layout::SITE_KEY)).unwrap(), [0; 300]);
        std::fs::remove_file(dir.path().join(layout::SITE_KEY)).unwrap();
        std::fs::create_dir(dir.path().join(layout::SITE_KEY)).unwrap();
        assert!(storage.site_key(random(4)).1.unwrap().contains("a folder"));
    }
}
