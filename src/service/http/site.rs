//! What the HTTP and TFTP services hand out, and where they note what happened.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::config::load::Loaded;
use crate::config::start_choices::StartChoices;
use crate::config::{Live, SiteKey};
use crate::formats::first_stage::FirstStage;
use crate::model::api::Status;
use crate::model::slice::Slice;
use crate::service::boot::loaders::Loaders;
use crate::service::dhcp4::leases::LeaseTables;
use crate::service::images::Images;
use crate::service::metrics::Metrics;
use crate::service::node_table::NodeTable;
use crate::service::workers::{Workers, blocking};
use crate::store::nodes::NodeStore;

use crate::service::http::limits::Door;
use crate::service::http::transfer_queue::Gate;

/// Everything the services of one master share.
pub struct Site {
    pub boot: BootFiles,
    pub images: Images,
    pub data: Data,
    pub settings: Arc<Live>,
    pub node_table: Arc<Mutex<NodeTable>>,
    /// What a person had machines start.
    pub(crate) chosen: Mutex<StartChoices>,
    pub leases: LeaseTables,
    pub metrics: Arc<Metrics>,
    pub web: Web,
    pub workers: Workers,
    /// Proves to other sticks of the site that what is served comes from one.
    pub key: SiteKey,
    pub master: Box<dyn Master>,
}

/// What machines boot from here.
#[derive(Debug, Default)]
pub struct BootFiles {
    /// Kernel and initrd of the boot medium; without a medium nothing boots, and 404 says so.
    pub kernel: Option<Slice>,
    pub initrd: Option<Slice>,
    /// What takes the initrd's place for an inventory, where the medium has it.
    pub first_stage: Option<FirstStage>,
    pub image: Option<Slice>,
    pub loaders: Loaders,
}

/// Where uploads go, and what a person put beside them.
pub struct Data {
    /// Root of the data partition, or the folder in memory that stands in for it.
    pub folder: PathBuf,
    pub uploads: NodeStore,
    /// False when the folder is memory.
    pub durable: bool,
}

/// What only the master itself knows.
pub trait Master: Send + Sync {
    /// The body of `/api/v1/status`.
    fn status(&self, site: &Site) -> Status;

    /// Reads `recon.toml` anew. Blocks.
    fn read_settings(&self) -> Loaded;
}

/// What the HTTP service keeps from one request to the next.
#[derive(Debug, Default)]
pub struct Web {
    pub gate: Arc<Gate>,
    pub door: Arc<Door>,
    folder: OnceLock<File>,
    tags: Mutex<HashMap<(PathBuf, u64), String>>,
    /// Digest of the workload, by its size and when it was changed.
    workload: tokio::sync::Mutex<Option<Workload>>,
}

#[derive(Debug)]
struct Workload {
    size: u64,
    changed: Option<SystemTime>,
    sha256: [u8; 32],
}

impl Web {
    /// The data folder, opened once.
    pub fn folder(&self, path: &Path) -> io::Result<&File> {
        if let Some(folder) = self.folder.get() {
            return Ok(folder);
        }
        let folder = File::open(path)?;
        Ok(self.folder.get_or_init(|| folder))
    }

    /// The tag of a part of a device, made once: the medium does not change under a running system.
    pub fn tag(&self, slice: &Slice, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
        let key = (slice.path.clone(), slice.offset);
        let mut tags = self.tags.lock().expect("no holder panics");
        if let Some(tag) = tags.get(&key) {
            return Ok(tag.clone());
        }
        let tag = make()?;
        tags.insert(key, tag.clone());
        Ok(tag)
    }

    /// SHA-256 of the workload, read once for as long as it does not change: however many ask, one reads.
    ///
    /// # Errors
    /// What opening and reading gives.
    pub async fn workload(&self, path: PathBuf) -> io::Result<[u8; 32]> {
        let mut known = self.workload.lock().await;
        let metadata = tokio::fs::metadata(&path).await?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let changed = metadata.modified().ok();
        if let Some(known) = known.as_ref()
            && (known.size, known.changed) == (metadata.len(), changed)
        {
            return Ok(known.sha256);
        }
        let sha256 = blocking(move || {
            let mut hasher = Sha256::new();
            io::copy(&mut File::open(path)?, &mut hasher)?;
            Ok(hasher.finalize().into())
        })
        .await?;
        *known = Some(Workload {
            size: metadata.len(),
            changed,
            sha256,
        });
        Ok(sha256)
    }
}

impl Site {
    /// Nothing has happened yet: no machine is known and no lease given.
    pub fn new(
        boot: BootFiles,
        data: Data,
        settings: Arc<Live>,
        key: SiteKey,
        workers: Workers,
        master: Box<dyn Master>,
    ) -> Self {
        Site {
            boot,
            images: Images::new(&data.folder),
            data,
            settings,
            node_table: Arc::default(),
            chosen: Mutex::default(),
            leases: LeaseTables::default(),
            metrics: Arc::default(),
            web: Web::default(),
            workers,
            key,
            master,
        }
    }

    pub fn node_table(&self) -> MutexGuard<'_, NodeTable> {
        self.node_table.lock().expect("no holder panics")
    }

    /// Notes bytes of a file that went over HTTP to `client`.
    pub fn sent(&self, client: IpAddr, bytes: u64) {
        self.metrics.http_bytes.add(bytes);
        self.node_table().sent(client, bytes);
    }
}
