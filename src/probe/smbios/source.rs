//! Reads the SMBIOS table, once for all parts of an inventory.

use std::sync::Arc;

use super::table::{SmbiosTable, entry_point};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox::Shared;

/// Where the kernel publishes the table as firmware left it.
pub(crate) const SOURCE: &str = "/sys/firmware/dmi/tables/DMI";
/// And its entry point.
pub(crate) const ENTRY_POINT: &str = "/sys/firmware/dmi/tables/smbios_entry_point";
/// Bound of the table. Large servers have some tens of KiB.
pub(crate) const TABLE_LIMIT: u64 = 1024 * 1024;

/// The table of one run, on its way in a thread of its own.
pub(crate) type Smbios = Shared<Result<Arc<SmbiosTable>, ReadError>>;

pub(crate) fn start(root: &Root) -> Smbios {
    let root = root.clone();
    Shared::spawn("probe-smbios", move || load(&root).map(Arc::new))
}

/// Reads table and entry point. The table without its entry point is still worth reading.
fn load(root: &Root) -> Result<SmbiosTable, ReadError> {
    let bytes = root.bytes(SOURCE, TABLE_LIMIT)?;
    let version = root.bytes(ENTRY_POINT, 4096).ok().and_then(|bytes| entry_point(&bytes));
    Ok(SmbiosTable::parse(version, &bytes))
}
