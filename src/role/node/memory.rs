//! Does a root fit into this machine's memory, and how large may it become there? Pure.

use crate::formats::image::Root;
use crate::probe::text::decimal_size;

/// What the kernel keeps of an entry in memory besides its content: an inode of shmem and its name (measured with Linux 6.12: 0.7 to 1.0
/// KiB).
const ENTRY_BYTES: u64 = 1024;
/// A file ends in a page of its own.
const PAGE_BYTES: u64 = 4096;
/// For the system that is to run in it, and for unpacking: a window of zstd, buffers, the programs of a small system.
const WORK_BYTES: u64 = 192 << 20;
/// Entries that a running system may make besides those of its image.
const MORE_ENTRIES: u64 = 100_000;

/// What the kernel says of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) total_bytes: Option<u64>,
    pub(super) available_bytes: Option<u64>,
    pub(super) numa_nodes: usize,
}

/// Options of the tmpfs (tmpfs(5)) that takes a root.
///
/// # Errors
/// It does not fit; how much is missing, as a sentence.
pub(super) fn options(root: &Root, facts: &Facts) -> Result<String, String> {
    // Half a page each, as files end anywhere.
    let pages = root.entries.saturating_mul(PAGE_BYTES / 2);
    let held = root.unpacked_bytes.saturating_add(pages);
    let needed = held
        .saturating_add(root.entries.saturating_mul(ENTRY_BYTES))
        .saturating_add(WORK_BYTES);
    if let Some(available) = facts.available_bytes.filter(|available| *available < needed) {
        return Err(format!(
            "too little memory for this image: its root and a system in it take {}, and {} are available; {} are missing",
            decimal_size(needed),
            decimal_size(available),
            decimal_size(needed - available)
        ));
    }
    // Files that end in pages of their own, at worst; and half of what is left for what the node writes.
    let most = root
        .unpacked_bytes
        .saturating_add(root.entries.saturating_mul(PAGE_BYTES));
    let left = facts.total_bytes.unwrap_or(0).saturating_sub(most);
    let size = most
        .saturating_add(left / 2)
        .div_ceil(PAGE_BYTES)
        .saturating_mul(PAGE_BYTES);
    let inodes = root.entries.saturating_add(MORE_ENTRIES);
    let policy = match facts.numa_nodes {
        // So that no node's memory is full of files while another one's is empty.
        2.. => ",mpol=interleave",
        _ => "",
    };
    Ok(format!("mode=0755,size={size},nr_inodes={inodes}{policy}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::image::Part;

    /// As the image of 2026-11 that was measured.
    fn root() -> Root {
        Root {
            packed: Part {
                bytes: 68_400_000,
                sha256: "0".repeat(64),
            },
            entries: 5_852,
            unpacked_bytes: 200_000_000,
        }
    }

    fn facts(mib: u64) -> Facts {
        Facts {
            total_bytes: Some(mib << 20),
            available_bytes: Some(mib << 20),
            numa_nodes: 1,
        }
    }

    #[test]
    fn what_does_not_fit_is_said_before_anything_is_fetched() {
        let why = options(&root(), &facts(399)).unwrap_err();
        assert_eq!(
            why,
            "too little memory for this image: its root and a system in it take 419 MB, and 418 MB are available; 922 kB are missing"
        );
        assert!(options(&root(), &facts(400)).is_ok());
        // Nobody knows: then it is tried.
        assert!(options(&root(), &Facts::default()).is_ok());
    }

    #[test]
    fn a_root_may_grow_into_half_of_what_is_left() {
        let text = options(&root(), &facts(1024)).unwrap();
        let most = 200_000_000 + 5_852 * 4096;
        let size = (most + ((1024 << 20) - most) / 2_u64).div_ceil(4096) * 4096;
        assert_eq!(text, format!("mode=0755,size={size},nr_inodes=105852"));
        let two = Facts {
            numa_nodes: 2,
            ..facts(1024)
        };
        assert!(options(&root(), &two).unwrap().ends_with(",mpol=interleave"));
        let huge = Root {
            entries: u64::MAX,
            unpacked_bytes: u64::MAX,
            ..root()
        };
        assert!(options(&huge, &facts(1024)).is_err() && options(&huge, &Facts::default()).is_ok());
    }
}
