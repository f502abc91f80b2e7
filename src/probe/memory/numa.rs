//! NUMA nodes: Documentation/ABI/stable/sysfs-devices-node.

use crate::model::inventory::NumaNode;
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::cpu::kernel::count_list;

pub(crate) const SOURCE: &str = "/sys/devices/system/node";
/// `CONFIG_NODES_SHIFT` is at most 10.
const MAX_NODES: usize = 1024;

/// Nodes by number.
pub(crate) fn nodes(root: &Root) -> Result<Vec<NumaNode>, ReadError> {
    let names = root.list(SOURCE)?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let numbers = root.first("numa.count", numbers.collect(), MAX_NODES);
    Ok(numbers.into_iter().map(|number| node(root, number)).collect())
}

fn node(root: &Root, number: u32) -> NumaNode {
    let at = |file: &str| format!("{SOURCE}/node{number}/{file}");
    let cpus = root.value(at("cpulist")).unwrap_or_default();
    NumaNode {
        node: number,
        memory_bytes: root.text(at("meminfo"), 64 * 1024).ok().as_deref().and_then(mem_total),
        threads: count_list(&cpus),
        cpus,
        distances: root
            .value(at("distance"))
            .map(|text| distances(&text))
            .unwrap_or_default(),
    }
}

/// `MemTotal` in bytes, of the machine (`MemTotal: 1234 kB`) or of a node (`Node 0 MemTotal:  1234 kB`). The files say kB and mean
/// KiB.
pub(crate) fn mem_total(text: &str) -> Option<u64> {
    let (_, value) = text.lines().find_map(|line| line.split_once("MemTotal:"))?;
    let mut words = value.split_whitespace();
    let kibibytes: u64 = words.next()?.parse().ok()?;
    (words.next() == Some("kB")).then_some(kibibytes.checked_mul(1024)?)
}

fn distances(text: &str) -> Vec<u32> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[test]
    fn nodes_have_memory_threads_and_distances() {
        let dir = tempfile::tempdir().unwrap();
        for (node, cpus, total) in [(0, "0-3,8-11\n", 1000), (1, "\n", 2000)] {
            let folder = dir.path().join(format!("sys/devices/system/node/node{node}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpulist"), cpus).unwrap();
            let meminfo = format!("Node {node} MemTotal:        {total} kB\nNode {node} MemFree: 1 kB\n");
            fs::write(folder.join("meminfo"), meminfo).unwrap();
            fs::write(folder.join("distance"), "10 21\n").unwrap();
        }
        fs::write(dir.path().join("sys/devices/system/node/online"), "0-1\n").unwrap();
        let found = nodes(&Root::at(dir.path())).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].threads, found[0].memory_bytes), (8, Some(1_024_000)));
        // A node of memory only.
        assert_eq!((found[1].threads, &*found[1].cpus), (0, ""));
        assert_eq!(found[1].distances, [10, 21]);
    }

    /// Threads numbered in turns over 16 sockets, 1024 nodes: the kernel's own bounds.
    #[test]
    fn the_largest_machine_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sys/devices/system/node/node0");
        fs::create_dir_all(&folder).unwrap();
        let list = |count: u32, step: u32| {
            let numbers: Vec<String> = (0..count).map(|number| (number * step).to_string()).collect();
            numbers
        };
        fs::write(folder.join("cpulist"), list(512, 16).join(",") + "\n").unwrap();
        fs::write(folder.join("distance"), list(1024, 1).join(" ") + "\n").unwrap();
        let node = nodes(&Root::at(dir.path())).unwrap().remove(0);
        assert_eq!((node.threads, node.distances.len()), (512, 1024));
        assert!(node.cpus.ends_with(",8176"), "{}", node.cpus);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(Node 0 MemTotal:)?[ 0-9]{0,24}( kB)?\\PC{0,9}") {
            let _ = (mem_total(&text), distances(&text));
        }
    }
}
