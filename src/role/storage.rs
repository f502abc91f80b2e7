//! Where a master keeps what it is given: the data partition of its stick, else memory, said loudly.

use std::path::{Path, PathBuf};

use crate::model::api::StorageStatus;
use crate::sys::datapart::{self, DataPartition};
use crate::sys::medium::Medium;
use crate::sys::mount;

/// Where the data partition is mounted.
const MOUNT_POINT: &str = "/run/recon/stick";
/// Stands in for it.
const MEMORY: &str = "/run/recon/data";

/// An open data folder.
#[derive(Debug)]
pub struct Storage {
    pub folder: PathBuf,
    pub durable: bool,
    partition: Option<DataPartition>,
    /// What is wrong and what to do, for screen and API.
    pub problem: Option<String>,
    /// Not wrong, but worth telling once: partition made, file system repaired.
    pub notices: Vec<String>,
}

impl Storage {
    /// A folder given by hand, which counts as durable.
    pub fn folder(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Storage { folder, durable: true, partition: None, problem: None, notices: Vec::new() })
    }

    /// The data partition of the medium, made if there is none; memory where that fails. Blocks.
    pub fn of_medium(medium: Option<&Medium>) -> std::io::Result<Self> {
        let Some(disk) = medium.and_then(|medium| medium.disk.as_ref()) else {
            return Self::memory("the system did not boot from a disk or stick that it could write to".to_owned());
        };
        match datapart::ensure(disk, Path::new(MOUNT_POINT), rand::random()) {
            Ok(partition) => Ok(Storage {
                folder: PathBuf::from(MOUNT_POINT),
                durable: true,
                notices: partition.notes.clone(),
                partition: Some(partition),
                problem: None,
            }),
            Err(problem) => Self::memory(problem.to_string()),
        }
    }

    fn memory(why: String) -> std::io::Result<Self> {
        std::fs::create_dir_all(MEMORY)?;
        let problem = format!(
            "{why}. Uploads are kept in memory only: fetch http://recon/export/recon-inventory.tar.gz before power-off"
        );
        let folder = PathBuf::from(MEMORY);
        Ok(Storage { folder, durable: false, partition: None, problem: Some(problem), notices: Vec::new() })
    }

    pub fn status(&self) -> StorageStatus {
        let space = mount::space(&self.folder).ok();
        StorageStatus {
            durable: self.durable,
            device: self.partition.as_ref().map(|partition| partition.device.display().to_string()),
            problem: self.problem.clone(),
            free_bytes: space.as_ref().map_or(0, |space| space.free_bytes),
            total_bytes: space.as_ref().map_or(0, |space| space.total_bytes),
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
