//! The GUID partition table: what its bytes say (`header`), the stick's own table and its data partition (`read`), and
//! how that partition is added (`plan`). Tables of other disks are listed by [`crate::formats::partitions`].
//!
//! xorriso writes the table for the image, not for the stick: the backup header stands at the end of the image, the
//! entry array may lie anywhere below the first partition (sector 20 where there is an Apple map as well), it has 176 or
//! 248 entries, and the first partition may begin inside the area other tools reserve. So entries are kept as raw bytes
//! and only the fields that have to change are changed. The crate `gptman` was looked at: it takes an entry array
//! elsewhere for the backup's, refuses a partition in front of the usable sectors, and allocates whatever count a header
//! claims.

pub(crate) mod header;
mod plan;
mod read;

pub use plan::*;
pub use read::*;

#[cfg(test)]
mod tests;
