//! Bounds of the store.

use crate::store::upload::UploadLimits;

/// Bounds of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest upload taken.
    pub upload_bytes: u64,
    /// What an upload may hold.
    pub upload: UploadLimits,
    /// Room that uploads leave free, for the tarball and the person who edits `recon.toml`.
    pub reserve_bytes: u64,
    /// Whole uploads kept of each machine, the newest ones. At least 1.
    pub keep: usize,
    /// Bytes hashed before `open` returns; the rest is hashed on a thread.
    pub check_at_open_bytes: u64,
    /// Nodes; folders of further ones are reported and left alone, and uploads of further ones are refused.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            upload_bytes: 256 << 20,
            upload: UploadLimits::default(),
            reserve_bytes: 16 << 20,
            keep: 2,
            check_at_open_bytes: 16 << 20,
            nodes: 100_000,
        }
    }
}

/// Machines that may go by one name, far more than one firmware's mistake makes in a room. Each upload of the name is weighed
/// against all of them; a further machine is refused.
pub(super) const MAX_OF_ONE_NAME: usize = 256;
/// Uploads of shared names whose evidence stays in memory, 8 MiB at most; that of further ones is read each time it is needed.
pub(super) const MAX_KEPT_EVIDENCE: usize = 8192;
/// Problems kept for the screen; later ones are counted and logged.
pub(super) const MAX_PROBLEMS: usize = 200;
