//! How diskless nodes fared with their images, kept for a later run of the master: a restart of it forgives no bad image.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::service::boot::attempts::Kept;
use crate::service::node_table::NodeTable;
use crate::store::fs_ops::Disk;
use crate::store::json_lines;

/// Between two looks whether there is something new; a start takes longer.
const LOOK: Duration = Duration::from_secs(2);

/// What an earlier run kept in `file`. Blocks.
pub(super) fn load(file: &std::path::Path) -> Vec<Kept> {
    json_lines::load(file).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "starting without what earlier runs knew of nodes' starts");
        Vec::new()
    })
}

/// Writes what is new, and once more at the end. A failure is said and costs no node anything.
pub(super) async fn keep(
    node_table: Arc<Mutex<NodeTable>>,
    file: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut written = 0;
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let news = {
            let table = node_table.lock().expect("no holder panics");
            let changed = table.starts_changed();
            (changed != written).then(|| (changed, table.kept()))
        };
        if let Some((changed, kept)) = news {
            written = changed;
            let to = file.clone();
            let saving = tokio::task::spawn_blocking(move || json_lines::save(&Disk, &to, &kept));
            if let Err(error) = saving.await? {
                tracing::warn!(file = %file.display(), %error, "how nodes started is not remembered");
            }
        }
        if is_last {
            return Ok(());
        }
    }
}
