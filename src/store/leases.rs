//! DHCPv4 leases that survive a restart of the master. Which lease to give is decided elsewhere.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::medium::{self, Disk, Medium};
use crate::model::lease::Lease;

/// Largest lease file read; a /16 full of leases is below it.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("reading the leases in {}", path.display())]
    Load {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("writing the leases to {}", path.display())]
    Save {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where leases are kept. `save` replaces all of them.
pub trait LeaseStore: Send + Sync {
    fn load(&self) -> Result<Vec<Lease>, LeaseError>;
    fn save(&self, leases: &[Lease]) -> Result<(), LeaseError>;
}

/// A file with one JSON object a line.
pub struct DiskLeases {
    path: PathBuf,
    medium: Arc<dyn Medium>,
}

impl DiskLeases {
    /// Keeps leases in the file `path`, whose folder must exist.
    pub fn new(path: &Path) -> Self {
        DiskLeases::on(path, Arc::new(Disk))
    }

    pub fn on(path: &Path, medium: Arc<dyn Medium>) -> Self {
        DiskLeases {
            path: path.to_owned(),
            medium,
        }
    }
}

impl LeaseStore for DiskLeases {
    /// No file means no leases. A line that does not parse is left out with a warning: a lost lease costs one client a
    /// new address, a master that does not start costs the data center.
    fn load(&self) -> Result<Vec<Lease>, LeaseError> {
        let error = |source| LeaseError::Load {
            path: self.path.clone(),
            source,
        };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(error(source)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(error)?;
        let (leases, bad) = parse(&bytes);
        if bad > 0 {
            tracing::warn!(file = %self.path.display(), lines = bad, "lines of the lease file do not parse, left out");
        }
        Ok(leases)
    }

    fn save(&self, leases: &[Lease]) -> Result<(), LeaseError> {
        let error = |source| LeaseError::Save {
            path: self.path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        for lease in leases {
            serde_json::to_writer(&mut bytes, lease).map_err(|e| error(e.into()))?;
            bytes.push(b'\n');
        }
        medium::replace(self.medium.as_ref(), &self.path, &bytes).map_err(error)
    }
}

/// The leases of a file's text, and how many lines were no lease.
fn parse(bytes: &[u8]) -> (Vec<Lease>, usize) {
    let mut bad = 0;
    let leases = bytes
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice(line).inspect_err(|_| bad += 1).ok())
        .collect();
    (leases, bad)
}

/// Leases of a master that has no place to keep them.
#[derive(Default)]
pub struct MemoryLeases(Mutex<Vec<Lease>>);

impl LeaseStore for MemoryLeases {
    fn load(&self) -> Result<Vec<Lease>, LeaseError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn save(&self, leases: &[Lease]) -> Result<(), LeaseError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = leases.to_vec();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease(last: u8) -> Lease {
        Lease {
            mac: crate::model::MacAddr([0x52, 0x54, 0, 0, 0, last]),
            address: std::net::Ipv4Addr::new(192, 168, 219, last),
            expires_unix: 1_800_000_000,
        }
    }

    #[test]
    fn leases_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.jsonl");
        assert_eq!(DiskLeases::new(&path).load().unwrap(), []);
        for count in [3, 200, 1] {
            let leases: Vec<Lease> = (0..count).map(lease).collect();
            DiskLeases::new(&path).save(&leases).unwrap();
            assert_eq!(DiskLeases::new(&path).load().unwrap(), leases);
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn memory_keeps_them_too() {
        let leases = MemoryLeases::default();
        leases.save(&[lease(7)]).unwrap();
        assert_eq!(leases.load().unwrap(), [lease(7)]);
    }

    #[test]
    fn a_folder_that_went_away_is_an_error_with_the_path() {
        let store = DiskLeases::new(Path::new("/nothing/leases"));
        assert!(store.save(&[]).unwrap_err().to_string().contains("/nothing/leases"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_cut_file_gives_a_prefix(cut in any::<proptest::sample::Index>()) {
            let leases: Vec<Lease> = (0..5).map(lease).collect();
            let mut bytes = Vec::new();
            for lease in &leases {
                serde_json::to_writer(&mut bytes, lease).unwrap();
                bytes.push(b'\n');
            }
            let (read, bad) = parse(&bytes[..cut.index(bytes.len() + 1)]);
            prop_assert!(leases.starts_with(&read) && bad <= 1);
        }
    }
}
