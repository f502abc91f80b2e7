//! Bounds of the site's workload.

use std::time::Duration;

use super::results::Limits;
use crate::sys::sandbox::Fence;

/// Bounds of the workload.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Unpacked size.
    pub unpacked_bytes: u64,
    pub entries: usize,
    pub run: Duration,
    /// Standard output and error that are kept, from the start.
    pub output_bytes: usize,
    /// What comes home of the result folder.
    pub results: Limits,
    pub fence: Fence,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            unpacked_bytes: 512 << 20,
            entries: 20_000,
            run: Duration::from_secs(600),
            output_bytes: 1 << 20,
            results: Limits::default(),
            fence: Fence {
                processes: 8192,
                spare_bytes: 256 << 20,
            },
        }
    }
}
