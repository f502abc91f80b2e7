//! Where a master keeps what it is given: the data partition of its stick, else memory, said loudly.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::settings::EXAMPLE;
use crate::model::api::{LinkStatus, StorageStatus};
use crate::sys::datapart::{self, DataPartition};
use crate::sys::medium::{LIVE_MOUNT, Medium};
use crate::sys::mount;

use super::remedy;

/// Where the data partition is mounted; without one, the folder itself holds the data in memory.
const FOLDER: &str = "/run/recon/data";

/// An open data folder.
#[derive(Debug)]
pub struct Storage {
    pub folder: PathBuf,
    pub durable: bool,
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
            return Self::memory(remedy::no_disk(live()).to_owned());
        };
        match datapart::ensure(disk, Path::new(FOLDER), rand::random()) {
            Ok(partition) => {
                let mut notices = partition.notes.clone();
                if let Err(error) = furnish(Path::new(FOLDER)) {
                    notices.push(format!("the stick's folders could not be made: {error}"));
                }
                let folder = PathBuf::from(FOLDER);
                Ok(Storage {
                    folder,
                    durable: true,
                    notices,
                    partition: Some(partition),
                    problem: None,
                })
            }
            Err(problem) => Self::memory(problem.to_string()),
        }
    }

    /// Memory in place of the partition, and why, as a sentence.
    pub fn memory(why: String) -> std::io::Result<Self> {
        std::fs::create_dir_all(FOLDER)?;
        let folder = PathBuf::from(FOLDER);
        Ok(Storage {
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
        .open(folder.join("recon.toml"))
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
