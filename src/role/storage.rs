//! Where a master keeps what it is given: the data partition of its stick, else memory, said loudly.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::config::load::{self, Loaded, MAX_SETTINGS_BYTES};
use crate::config::settings::EXAMPLE;
use crate::media::peek;
use crate::model::api::{LinkStatus, StorageStatus};
use crate::sys::datapart::{self, DataPartition};
use crate::sys::medium::{self, Carrier, LIVE_MOUNT, Medium};
use crate::sys::{block, mount};

use super::remedy;

/// Where the data partition is mounted; without one, the folder itself holds the data in memory.
const FOLDER: &str = "/run/recon/data";

/// The settings, on the data partition.
const SETTINGS_FILE: &str = "recon.toml";

/// An open data folder.
#[derive(Debug)]
pub struct Storage {
    pub folder: PathBuf,
    pub durable: bool,
    /// Where files that a person put on the stick are read.
    pub shelf: Shelf,
    partition: Option<DataPartition>,
    /// Why the data lives in memory, a sentence; what to do then is for `remedy` to say.
    pub problem: Option<String>,
    /// Not wrong, but worth telling once: partition made, file system repaired.
    pub notices: Vec<String>,
}

impl Storage {
    /// A folder given by hand, which counts as durable.
    pub fn folder(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Storage {
            shelf: Shelf::Folder(folder.clone()),
            folder,
            durable: true,
            partition: None,
            problem: None,
            notices: Vec::new(),
        })
    }

    /// The data partition of the medium, made if there is none; memory where that fails. Blocks.
    pub fn of_medium(medium: Option<&Medium>) -> std::io::Result<Self> {
        let Some(disk) = medium.and_then(|medium| medium.disk.as_ref()) else {
            return Self::memory(remedy::no_disk(live()).to_owned(), None);
        };
        let told = match certain(disk) {
            Ok(told) => told,
            Err(problem) => return Self::memory(problem, Some(disk)),
        };
        match datapart::ensure(disk, Path::new(FOLDER), rand::random()) {
            Ok(partition) => {
                let mut notices = partition.notes.clone();
                notices.extend(told);
                if let Err(error) = furnish(Path::new(FOLDER)) {
                    notices.push(format!("the stick's folders could not be made: {error}"));
                }
                let folder = PathBuf::from(FOLDER);
                Ok(Storage {
                    shelf: Shelf::Folder(folder.clone()),
                    folder,
                    durable: true,
                    notices,
                    partition: Some(partition),
                    problem: None,
                })
            }
            Err(problem) => Self::memory(problem.to_string(), Some(disk)),
        }
    }

    /// Memory in place of the partition of `disk`, and why, as a sentence.
    pub fn memory(why: String, disk: Option<&PathBuf>) -> std::io::Result<Self> {
        std::fs::create_dir_all(FOLDER)?;
        let folder = PathBuf::from(FOLDER);
        Ok(Storage {
            shelf: disk.map_or_else(|| Shelf::Folder(folder.clone()), |disk| Shelf::Disk(disk.clone())),
            folder,
            durable: false,
            partition: None,
            problem: Some(why),
            notices: Vec::new(),
        })
    }

    /// `links` and `stored`, the number of machines whose upload is here, decide what a person can do where uploads live in
    /// memory; `port` is HTTP's.
    pub fn status(&self, links: &[LinkStatus], stored: usize, port: u16) -> StorageStatus {
        let space = mount::space(&self.folder).ok();
        let problem = self.problem.as_ref();
        StorageStatus {
            durable: self.durable,
            device: self
                .partition
                .as_ref()
                .map(|partition| partition.device.display().to_string()),
            problem: problem.map(|why| remedy::in_memory(why, stored, links, port)),
            free_bytes: space.as_ref().map_or(0, |space| space.free_bytes),
            total_bytes: space.as_ref().map_or(0, |space| space.total_bytes),
            ..StorageStatus::default()
        }
    }

    /// What is true once [`Self::close`] is done, for the person who is about to take the stick or the power away.
    pub fn closing_words(&self, stored: usize) -> String {
        match (&self.partition, self.durable) {
            (Some(_), _) => "everything is written; the stick may be pulled once the machine is off".to_owned(),
            (None, true) => format!("everything is written to {}", self.folder.display()),
            (None, false) => remedy::closed_in_memory(stored, &self.folder.to_string_lossy()),
        }
    }

    /// Writes everything out and leaves the partition clean. Blocks.
    pub fn close(self) -> std::io::Result<()> {
        match self.partition {
            Some(partition) => partition.close(),
            None => mount::sync_filesystem(&self.folder),
        }
    }
}

/// Makes sure that `disk` is what this machine was started from, and takes our own write protection off it, which every disk
/// has got when it appeared. Gives what a person should know.
fn certain(disk: &Path) -> Result<Option<String>, String> {
    let carriers = medium::carriers()
        .map_err(|error| format!("the disks could not be listed to look for other media: {error}"))?;
    let own = medium::carrier(Path::new("/sys"), disk.to_owned());
    let others: Vec<Carrier> = carriers.into_iter().filter(|other| other.disk != own.disk).collect();
    let told = medium::may_write(&own, &others)?;
    // A stick whose own switch says read-only stays so, and is named as such by what follows.
    if block::is_read_only(disk).unwrap_or(false)
        && let Err(error) = block::set_read_only(disk, false)
    {
        tracing::warn!(disk = %disk.display(), %error, "taking the write protection off the boot medium");
    }
    Ok(told)
}

/// Where a file that a person put on the stick is read: the data folder, or, where memory stands in for it, the stick behind.
#[derive(Debug, Clone)]
pub enum Shelf {
    Folder(PathBuf),
    /// The whole disk, of which nothing is mounted.
    Disk(PathBuf),
}

impl Shelf {
    /// Up to one byte more than `limit`; `None` where there is no such file. Blocks.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self {
            Shelf::Folder(folder) => load::small_file(&folder.join(name), limit),
            Shelf::Disk(disk) => {
                let mut disk = File::open(disk)?;
                let bytes = disk.seek(SeekFrom::End(0))?;
                peek::data_file(&disk, bytes, name, limit)
            }
        }
    }

    /// Reads `recon.toml`. Blocks.
    pub fn settings(&self) -> Loaded {
        load::settings_of(SETTINGS_FILE, self.read(SETTINGS_FILE, MAX_SETTINGS_BYTES))
    }
}

/// True where this is a live system of a recon image, whatever it booted from.
fn live() -> bool {
    let mounts = mount::mounted().unwrap_or_default();
    mounts.iter().any(|mounted| mounted.target == Path::new(LIVE_MOUNT))
}

/// Puts what a person looks for on a stick that lacks it: the served folders, and the settings to edit.
fn furnish(folder: &Path) -> std::io::Result<()> {
    for name in ["isos", "install", "export"] {
        std::fs::create_dir_all(folder.join(name))?;
    }
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(folder.join(SETTINGS_FILE))
    {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => {
            // Notepad of old Windows shows one long line otherwise.
            file.write_all(EXAMPLE.replace('\n', "\r\n").as_bytes())?;
            file.sync_all()
        }
    }
}
