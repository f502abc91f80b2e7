//! Does a root fit into this machine's memory, and how large may it become there? Pure.

use crate::formats::image::{Manifest, Part, Root};
use crate::model::RootForm;
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

/// The form in which a root is held, and the options of the tmpfs (tmpfs(5)) that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Unpacked.
    Tmpfs { options: String },
    /// Packed, and beside it what the node writes.
    Squashfs { part: Part, options: String },
}

/// # Errors
/// It does not fit in the form that is wished for, or in any; how much is missing, as a sentence. Or the image has not that form.
pub(super) fn held(wish: RootForm, image: &Manifest, facts: &Facts) -> Result<Held, String> {
    let root = &image.root;
    let unpacked = needed(root);
    let packed = image
        .squashfs
        .as_ref()
        .map(|part| part.bytes.saturating_add(WORK_BYTES));
    let fits = |needed: u64| facts.available_bytes.is_none_or(|available| available >= needed);
    let takes_packed = match wish {
        RootForm::Auto => !fits(unpacked) && packed.is_some(),
        RootForm::Tmpfs => false,
        RootForm::Squashfs => true,
    };
    if !takes_packed {
        let more = match packed.filter(|packed| fits(*packed)) {
            // It was wished for so.
            Some(_) => "; root = \"squashfs\" would fit",
            None => "",
        };
        return match fits(unpacked) {
            true => Ok(Held::Tmpfs {
                options: tmpfs(root, facts),
            }),
            false => Err(format!("{}{more}", missing("its root", unpacked, facts))),
        };
    }
    let part = image.squashfs.clone().ok_or(
        "this image has no root.squashfs: pack it where sqfstar is (squashfs-tools), or have root = \"tmpfs\"",
    )?;
    let needed = packed.unwrap_or(u64::MAX);
    match fits(needed) {
        true => Ok(Held::Squashfs {
            options: beside(&part, root.entries, facts),
            part,
        }),
        false => Err(missing("even its packed root", needed, facts)),
    }
}

fn missing(what: &str, needed: u64, facts: &Facts) -> String {
    let available = facts.available_bytes.unwrap_or(0);
    format!(
        "too little memory for this image: {what} and a system in it take {}, and {} are available; {} are missing",
        decimal_size(needed),
        decimal_size(available),
        decimal_size(needed.saturating_sub(available))
    )
}

/// Bytes of memory that an unpacked root takes, with a system in it.
fn needed(root: &Root) -> u64 {
    // Half a page each, as files end anywhere.
    let pages = root.entries.saturating_mul(PAGE_BYTES / 2);
    let held = root.unpacked_bytes.saturating_add(pages);
    held.saturating_add(root.entries.saturating_mul(ENTRY_BYTES))
        .saturating_add(WORK_BYTES)
}

/// For a packed root, and half of what is left for what the node writes.
fn beside(part: &Part, entries: u64, facts: &Facts) -> String {
    let left = facts.total_bytes.unwrap_or(0).saturating_sub(part.bytes);
    // Another owner for all of it makes an entry of each.
    format!("mode=0700,{}", sized(part.bytes, left, entries, facts))
}

fn sized(held: u64, left: u64, entries: u64, facts: &Facts) -> String {
    let inodes = entries.saturating_add(MORE_ENTRIES);
    let size = held
        .saturating_add(left / 2)
        .div_ceil(PAGE_BYTES)
        .saturating_mul(PAGE_BYTES);
    let policy = match facts.numa_nodes {
        // So that no node's memory is full of files while another one's is empty.
        2.. => ",mpol=interleave",
        _ => "",
    };
    format!("size={size},nr_inodes={inodes}{policy}")
}

/// For an unpacked root.
fn tmpfs(root: &Root, facts: &Facts) -> String {
    // Files that end in pages of their own, at worst; and half of what is left for what the node writes.
    let most = root
        .unpacked_bytes
        .saturating_add(root.entries.saturating_mul(PAGE_BYTES));
    let left = facts.total_bytes.unwrap_or(0).saturating_sub(most);
    format!("mode=0755,{}", sized(most, left, root.entries, facts))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn part(bytes: u64) -> Part {
        Part {
            bytes,
            sha256: "0".repeat(64),
        }
    }

    /// As the image of 2026-11 that was measured.
    fn image() -> Manifest {
        let root = Root {
            packed: part(68_400_000),
            entries: 5_852,
            unpacked_bytes: 200_000_000,
        };
        let mut image = Manifest::new("6.12".to_owned(), part(1), BTreeMap::new(), root);
        image.squashfs = Some(part(70_000_000));
        image
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
        let mut image = image();
        let why = held(RootForm::Tmpfs, &image, &facts(399)).unwrap_err();
        assert_eq!(
            why,
            "too little memory for this image: its root and a system in it take 419 MB, and 418 MB are available; 922 kB are missing; \
             root = \"squashfs\" would fit"
        );
        let why = held(RootForm::Squashfs, &image, &facts(258)).unwrap_err();
        assert!(
            why.starts_with("too little memory for this image: even its packed root") && why.ends_with("are missing"),
            "{why}"
        );
        image.squashfs = None;
        let why = held(RootForm::Auto, &image, &facts(399)).unwrap_err();
        assert!(why.ends_with("922 kB are missing"), "{why}");
        let why = held(RootForm::Squashfs, &image, &facts(4096)).unwrap_err();
        assert!(why.contains("no root.squashfs"), "{why}");
        // Nobody knows: then it is tried.
        assert!(held(RootForm::Auto, &image, &Facts::default()).is_ok());
    }

    #[test]
    fn a_root_stays_packed_where_it_is_wished_or_does_not_fit_otherwise() {
        let is_packed = |wish, mib| matches!(held(wish, &image(), &facts(mib)).unwrap(), Held::Squashfs { .. });
        assert!(!is_packed(RootForm::Auto, 400) && is_packed(RootForm::Auto, 399) && is_packed(RootForm::Auto, 259));
        assert!(is_packed(RootForm::Squashfs, 4096) && !is_packed(RootForm::Tmpfs, 400));
    }

    #[test]
    fn what_a_node_writes_has_half_of_what_is_left() {
        let size = |held: u64| (held + ((1024 << 20) - held) / 2_u64).div_ceil(4096) * 4096;
        let options = |wish, facts: Facts| match held(wish, &image(), &facts).unwrap() {
            Held::Tmpfs { options } | Held::Squashfs { options, .. } => options,
        };
        let most = 200_000_000 + 5_852 * 4096;
        assert_eq!(
            options(RootForm::Auto, facts(1024)),
            format!("mode=0755,size={},nr_inodes=105852", size(most))
        );
        assert_eq!(
            options(RootForm::Squashfs, facts(1024)),
            format!("mode=0700,size={},nr_inodes=105852", size(70_000_000))
        );
        let two = Facts {
            numa_nodes: 2,
            ..facts(1024)
        };
        assert!(options(RootForm::Auto, two).ends_with(",mpol=interleave"));
        let mut huge = image();
        huge.root.entries = u64::MAX;
        huge.root.unpacked_bytes = u64::MAX;
        huge.squashfs = None;
        assert!(
            held(RootForm::Auto, &huge, &facts(1024)).is_err()
                && held(RootForm::Auto, &huge, &Facts::default()).is_ok()
        );
    }
}
