//! Memory: the kernel's total, the modules that SMBIOS lists, and what other sources make of it.

use std::sync::Arc;
use std::time::Duration;

use super::live::{self, LiveSources};
use super::root::Root;
use super::smbios::{self, types};
use crate::model::inventory::{Item, Memory, MemoryTotal, Part, PartStatus};

const MEMINFO: &str = "/proc/meminfo";
pub const MEMINFO_LIMIT: u64 = 256 * 1024;
const BLOCKS: &str = "/sys/devices/system/memory";
/// The listing is cut off there, and a count of a cut listing would be wrong.
const MAX_BLOCKS: usize = 8000;

/// `MemTotal` in bytes. The file says kB and means KiB.
pub fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let mut words = line.split_whitespace();
    let kibibytes: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then_some(kibibytes.checked_mul(1024)?)
}

/// Memory of the machine.
pub fn memory(root: &Root, live: Option<&Arc<dyn LiveSources>>, limit: Duration) -> Part<Memory> {
    let mut gaps = Vec::new();
    let mut memory = Memory::default();
    let mut add = |source: &str, bytes: Option<u64>| {
        if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
            memory.totals.push(MemoryTotal {
                source: source.to_owned(),
                bytes,
            });
        }
    };
    let total = match root.text(MEMINFO, MEMINFO_LIMIT) {
        Ok(text) => mem_total(&text),
        Err(error) => {
            gaps.push(gap("total_bytes", error.status(), error.to_string()));
            None
        }
    };
    add(MEMINFO, total);
    match smbios::load(root) {
        Ok(raw) => {
            let table = raw.table();
            memory.dimms = types::dimms(&table);
            let array = types::memory_arrays(&table);
            memory.error_correction = array.error_correction;
            memory.max_capacity_bytes = array.max_capacity_bytes;
            add(
                smbios::SOURCE,
                Some(
                    memory
                        .dimms
                        .iter()
                        .filter_map(|dimm| dimm.size_bytes)
                        .fold(0, u64::saturating_add),
                ),
            );
            if let Some(reason) = table.broken {
                gaps.push(gap("dimms", PartStatus::Failed, reason));
            }
        }
        Err(error) => gaps.push(gap("dimms", error.status(), error.to_string())),
    }
    add(BLOCKS, memory_blocks(root));
    match live::totals(live, limit) {
        Some(Ok(totals)) => add("sysinfo", Some(totals.memory_bytes)),
        Some(Err(reason)) => gaps.push(gap("sysinfo", PartStatus::Failed, reason)),
        None => {}
    }

    if memory.totals.is_empty() {
        return Part::missing(PartStatus::Failed, MEMINFO, "no source on memory can be read").with_items(gaps);
    }
    if !memory.dimms.is_empty() {
        let count = |number: usize| u32::try_from(number).ok();
        memory.slots = count(memory.dimms.len());
        memory.slots_populated = count(memory.dimms.iter().filter(|dimm| dimm.populated).count());
    }
    memory.total_bytes = total;
    let sources: Vec<&str> = memory.totals.iter().map(|total| total.source.as_str()).collect();
    Part::ok(sources.join(", "), memory).with_items(gaps)
}

/// Hot-pluggable blocks times their size: what the kernel was given, holes included.
fn memory_blocks(root: &Root) -> Option<u64> {
    let size = u64::from_str_radix(&root.value(format!("{BLOCKS}/block_size_bytes"))?, 16).ok()?;
    let names = root.list(BLOCKS).ok()?;
    let is_block = |name: &&String| {
        name.strip_prefix("memory")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let count = names.iter().filter(is_block).count();
    (count < MAX_BLOCKS).then_some(size.checked_mul(count as u64)?)
}

fn gap(item: &str, status: PartStatus, reason: String) -> Item {
    Item::gap(item.to_owned(), status, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_total_is_in_kibibytes() {
        assert_eq!(
            mem_total("MemTotal:       65659212 kB\nMemFree: 1 kB\n"),
            Some(65_659_212 * 1024)
        );
        for text in [
            "",
            "MemTotal:\n",
            "MemTotal: x kB\n",
            "MemTotal: 12 MB\n",
            "MemFree: 12 kB\n",
        ] {
            assert_eq!(mem_total(text), None, "{text:?}");
        }
        assert_eq!(mem_total("MemTotal: 18446744073709551615 kB\n"), None, "overflow");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(MemTotal:)?[ \t]{0,3}[0-9]{0,22} (kB)?\\PC{0,10}") {
            let _ = mem_total(&text);
        }
    }
}
