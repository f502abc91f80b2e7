//! Memory: the kernel's total, the modules that SMBIOS lists, and what other sources make of it.

pub(crate) mod edac;
pub(crate) mod numa;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::numa::mem_total;
use super::smbios::memory as modules;
use super::smbios::source::{SOURCE, Smbios};
use crate::model::inventory::{Dimm, Item, Memory, MemoryDisagreement, MemoryTotal, Part, PartStatus};
use crate::probe::bus::is_numbered;
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox::{Publish, timed};
use crate::probe::collect::{live, timebox};
use crate::probe::pci::cxl;

pub(crate) const MEMINFO: &str = "/proc/meminfo";
pub(crate) const MEMINFO_LIMIT: u64 = 256 * 1024;
const BLOCKS: &str = "/sys/devices/system/memory";

/// Memory of the machine.
pub(crate) fn memory(
    root: &Root,
    live: Option<&Arc<dyn LiveSources>>,
    smbios: &Smbios,
    limit: Duration,
    publish: &Publish<Part<Memory>>,
) -> Part<Memory> {
    let deadline = Instant::now() + limit / 2;
    let tree = root.clone();
    let meminfo = timebox::spawn("probe-meminfo", move || tree.text(MEMINFO, MEMINFO_LIMIT));
    let mut gaps = Vec::new();
    let mut memory = Memory::default();
    let total = match meminfo.wait(deadline).read_or_gap("total_bytes", MEMINFO) {
        Ok((text, _)) => mem_total(&text),
        Err(gap) => {
            gaps.push(gap);
            None
        }
    };
    add(&mut memory, MEMINFO, total);
    match smbios.wait(deadline).read_or_gap("dimms", SOURCE) {
        Ok((table, _)) => {
            memory.dimms = modules::dimms(&table);
            let array = modules::memory_arrays(&table);
            memory.error_correction = array.error_correction;
            memory.max_capacity_bytes = array.max_capacity_bytes;
            let sizes = memory.dimms.iter().filter_map(|dimm| dimm.size_bytes);
            let sum = sizes.fold(0, u64::saturating_add);
            add(&mut memory, SOURCE, Some(sum));
            if let Some(reason) = &table.broken {
                gaps.push(Item::gap("dimms", PartStatus::Failed, reason));
            }
        }
        Err(gap) => gaps.push(gap),
    }
    publish.so_far(summed_up(memory.clone(), total, gaps.clone()));
    let mut add = |source: &str, bytes: Option<u64>| add(&mut memory, source, bytes);
    add(BLOCKS, memory_blocks(root));
    match live::totals(live, limit) {
        Some(Ok(totals)) => add("sysinfo", Some(totals.memory_bytes)),
        Some(Err(gap)) => gaps.push(gap),
        None => {}
    }

    kernel_view(root, &mut memory, &mut gaps);
    summed_up(memory, total, gaps)
}

fn add(memory: &mut Memory, source: &str, bytes: Option<u64>) {
    if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
        memory.totals.push(MemoryTotal {
            source: source.to_owned(),
            bytes,
        });
    }
}

/// The part, with what follows from its pieces. `total` is the kernel's, in bytes.
fn summed_up(mut memory: Memory, total: Option<u64>, gaps: Vec<Item>) -> Part<Memory> {
    if memory.totals.is_empty() && memory.numa_nodes.is_empty() {
        return Part::missing(PartStatus::Failed, MEMINFO, "no source on memory can be read").with_items(gaps);
    }
    if !memory.dimms.is_empty() {
        let count = |number: usize| u32::try_from(number).ok();
        memory.slots = count(memory.dimms.len());
        memory.slots_populated = count(memory.dimms.iter().filter(|dimm| dimm.populated).count());
    }
    memory.total_bytes = total;
    memory.disagreement = total.and_then(|total| disagreement(&memory.dimms, total));
    let mut sources: Vec<&str> = memory.totals.iter().map(|total| total.source.as_str()).collect();
    if sources.is_empty() {
        sources.push(numa::SOURCE);
    }
    Part::ok(sources.join(", "), memory).with_items(gaps)
}

/// NUMA nodes and error counts, each with its own outcome.
fn kernel_view(root: &Root, memory: &mut Memory, items: &mut Vec<Item>) {
    let told = |error: ReadError| (error.status(), error.to_string());
    // There are none for a kernel built without NUMA.
    let nodes = timed(items, "numa", numa::SOURCE, || numa::nodes(root).map_err(told));
    memory.numa_nodes = nodes.unwrap_or_default();
    memory.cxl_devices = cxl::devices(root);
    let counts = timed(items, "edac", edac::SOURCE, || {
        let controllers = edac::controllers(root, &memory.dimms).map_err(told)?;
        match controllers.is_empty() {
            true => Err((PartStatus::Absent, "no driver counts memory errors here".to_owned())),
            false => Ok(controllers),
        }
    });
    memory.ecc_controllers = counts.unwrap_or_default();
}

/// Compares what is plugged in with what the kernel was left with.
///
/// The kernel has less by design: page tables of its own (64 bytes for every 4 KiB are 1.6 percent), what firmware and
/// graphics reserve, a crash kernel. So a difference counts from three quarters of the smallest module on, since a
/// module that is there but not used is the fault to find; and from 2.5 percent and half a GiB, for machines with many
/// small modules. More than is plugged in is never by design, but firmware rounds: one percent is let pass.
///
/// Of a module that keeps its content only the part counts that is set up as memory. Where there is such a part, the other
/// modules may be a cache before it (Optane in memory mode), so that the kernel may have less by all of them.
pub(crate) fn disagreement(dimms: &[Dimm], kernel: u64) -> Option<MemoryDisagreement> {
    let populated = || dimms.iter().filter(|dimm| dimm.populated);
    let (persistent, modules): (Vec<&Dimm>, Vec<&Dimm>) = populated().partition(|dimm| is_persistent(dimm));
    let as_memory = persistent.iter().filter_map(|dimm| dimm.volatile_bytes);
    let as_memory = as_memory.fold(0, u64::saturating_add);
    let sizes = || modules.iter().filter_map(|dimm| dimm.size_bytes);
    let sum = sizes().fold(as_memory, u64::saturating_add);
    let smallest = sizes().min()?;
    let unknown = modules.iter().any(|dimm| dimm.size_bytes.is_none());
    let (tolerance, finding) = if kernel <= sum {
        let least = if as_memory > 0 { as_memory } else { sum };
        let tolerance = (smallest / 4 * 3).max(sum / 40).max(512 << 20);
        (
            tolerance.saturating_add(sum.saturating_sub(least)),
            "the kernel uses much less memory than is plugged in",
        )
    } else {
        (sum / 100, "the kernel has more memory than the modules add up to")
    };
    let differs = kernel.abs_diff(sum) > tolerance && !(unknown && kernel > sum);
    differs.then(|| MemoryDisagreement {
        modules_bytes: sum,
        kernel_bytes: kernel,
        tolerance_bytes: tolerance,
        finding: finding.to_owned(),
    })
}

/// True for modules that keep their content without power. Some firmware calls them by the memory they are made of (`DDR4`);
/// then only the technology tells, or the size of what they keep.
fn is_persistent(dimm: &Dimm) -> bool {
    let says = |text: &Option<String>, words: &[&str]| {
        let text = text.as_deref().unwrap_or_default().to_lowercase();
        words.iter().any(|word| text.contains(word))
    };
    says(&dimm.memory_type, &["non-volatile"])
        || says(&dimm.technology, &["nvdimm", "optane"])
        || dimm.non_volatile_bytes.is_some_and(|bytes| bytes > 0)
}

/// Hot-pluggable blocks times their size: what the kernel was given, holes included.
fn memory_blocks(root: &Root) -> Option<u64> {
    let size = u64::from_str_radix(&root.value(format!("{BLOCKS}/block_size_bytes"))?, 16).ok()?;
    let names = root.list(BLOCKS).ok()?;
    let count = names.iter().filter(|name| is_numbered(name, "memory")).count();
    size.checked_mul(count as u64)
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

    fn modules(count: usize, gib: u64) -> Vec<Dimm> {
        let dimm = Dimm {
            populated: true,
            size_bytes: Some(gib << 30),
            ..Dimm::default()
        };
        vec![dimm; count]
    }

    #[test]
    fn a_lost_module_is_noticed_and_what_the_kernel_keeps_is_not() {
        let gib = |gib: f64| (gib * (1u64 << 30) as f64) as u64;
        // As real machines are: 62.6 of 64, 503.6 of 512, 2015 of 2048; a guest with half a GiB.
        for (count, size, kernel) in [(4, 16, 62.6), (16, 32, 503.6), (64, 32, 2015.0)] {
            assert_eq!(disagreement(&modules(count, size), gib(kernel)), None, "{kernel}");
        }
        let mut small = modules(1, 1);
        small[0].size_bytes = Some(512 << 20);
        assert_eq!(disagreement(&small, 460 << 20), None);
        // One module short.
        for (count, size, kernel) in [(4, 16, 46.8), (16, 32, 472.0), (64, 32, 1983.0)] {
            let found = disagreement(&modules(count, size), gib(kernel)).unwrap();
            assert_eq!(found.modules_bytes, (count as u64 * size) << 30);
            assert!(found.finding.contains("less"));
        }
        // Firmware that lists one module too few, and one that does not tell its size.
        let found = disagreement(&modules(3, 16), gib(62.6)).unwrap();
        assert!(found.finding.contains("more"));
        let mut untold = modules(4, 16);
        untold[3].size_bytes = None;
        assert_eq!(disagreement(&untold, gib(62.6)), None);
        assert_eq!(disagreement(&[], gib(62.6)), None);
    }

    #[test]
    fn persistent_memory_is_not_missing() {
        let gib = |count: u64| count << 30;
        let persistent = |technology: &str, volatile: u64, kept: u64| Dimm {
            populated: true,
            size_bytes: Some(gib(volatile + kept)),
            memory_type: Some("DDR4".to_owned()),
            technology: Some(technology.to_owned()),
            volatile_bytes: Some(gib(volatile)),
            non_volatile_bytes: Some(gib(kept)),
            ..Dimm::default()
        };
        for technology in ["NVDIMM-N", "Intel Optane persistent memory"] {
            let mut dimms = modules(8, 64);
            dimms.extend([persistent(technology, 0, 16), persistent(technology, 0, 16)]);
            assert_eq!(disagreement(&dimms, gib(503)), None);
            // A module of memory that is not used is still found.
            assert!(disagreement(&dimms, gib(440)).is_some());
        }
        // Half set up as memory, with the other modules before it as a cache, and without.
        let mut dimms = modules(4, 16);
        dimms.extend(vec![persistent("Intel Optane persistent memory", 128, 128); 4]);
        assert_eq!(disagreement(&dimms, gib(505)), None);
        assert_eq!(disagreement(&dimms, gib(570)), None);
        assert!(disagreement(&dimms, gib(470)).is_some());
        assert!(disagreement(&dimms, gib(640)).is_some());
        // The technology alone, without sizes.
        let bare = Dimm {
            volatile_bytes: None,
            non_volatile_bytes: None,
            ..persistent("NVDIMM-N", 0, 16)
        };
        let mut dimms = modules(8, 64);
        dimms.extend(vec![bare; 2]);
        assert_eq!(disagreement(&dimms, gib(503)), None);
        // All of it kept: what the firmware calls it says nothing.
        let mut untold = persistent("DRAM", 0, 16);
        untold.technology = None;
        let mut dimms = modules(8, 64);
        dimms.extend(vec![untold; 2]);
        assert_eq!(disagreement(&dimms, gib(503)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(MemTotal:)?[ \t]{0,3}[0-9]{0,22} (kB)?\\PC{0,10}") {
            let _ = mem_total(&text);
        }
    }
}
