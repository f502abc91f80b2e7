//! What the kernel tells of processors beside `/proc/cpuinfo`: caches, clock, threads, weaknesses, virtualization.
//! Files: Documentation/ABI/testing/sysfs-devices-system-cpu.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use crate::formats::text::clean;
use crate::model::inventory::{CpuCache, CpuFrequency, CpuVulnerability, Item, PartStatus, Smt, Virtualization};
use crate::probe::bus;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::millis;
use crate::sys::cpuid;

const CPU: &str = "/sys/devices/system/cpu";
/// Processors have four or five caches a thread.
const MAX_INDEXES: usize = 16;
/// There are about twenty.
const MAX_VULNERABILITIES: usize = 256;

/// Folders of single threads: `cpu0`, `cpu1`, …
pub(crate) fn numbered(root: &Root) -> Vec<String> {
    let mut names = root.list(CPU).unwrap_or_default();
    names.retain(|name| bus::is_numbered(name, "cpu"));
    names
}

/// How many numbers a list such as `0-3,8,10-11` names.
pub(crate) fn count_list(list: &str) -> u32 {
    let count = |range: &str| -> Option<u32> {
        match range.split_once('-') {
            Some((first, last)) => {
                let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                last.checked_sub(first)?.checked_add(1)
            }
            None => range.trim().parse::<u32>().ok().map(|_| 1),
        }
    };
    list.split(',').filter_map(count).fold(0, u32::saturating_add)
}

/// `48K`, `1024K`, `32M` in bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text.get(digits.len()..)? {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn note(items: &mut Vec<Item>, item: &str, source: String, begun: Instant, is_there: bool) {
    let took = millis(begun.elapsed());
    items.push(if is_there {
        Item::ok(item, source, took)
    } else {
        Item::gap(item, PartStatus::Absent, "the kernel does not tell").from(source, took)
    });
}

/// Caches, each counted once however many threads share it, equal ones together.
pub(crate) fn caches(root: &Root, items: &mut Vec<Item>) -> Vec<CpuCache> {
    let begun = Instant::now();
    // Each cache is known by its index and the threads that share it; only the first of those is asked further.
    let mut seen = BTreeSet::new();
    let mut caches: Vec<CpuCache> = Vec::new();
    for thread in numbered(root) {
        for index in 0..MAX_INDEXES {
            let at = |file: &str| format!("{CPU}/{thread}/cache/index{index}/{file}");
            let Some(shared) = root.value(at("shared_cpu_list")) else {
                break;
            };
            if !seen.insert((index, shared.clone())) {
                continue;
            }
            let (Some(level), Some(kind)) = (root.number(at("level")), root.value(at("type"))) else {
                continue;
            };
            let mut cache = CpuCache {
                level,
                kind: kind.to_lowercase(),
                size_bytes: root.value(at("size")).as_deref().and_then(size),
                ways: root.number(at("ways_of_associativity")),
                line_bytes: root.number(at("coherency_line_size")),
                shared_by_threads: count_list(&shared),
                count: 0,
            };
            let held = caches.iter_mut().find(|held| {
                cache.count = held.count;
                **held == cache
            });
            match held {
                Some(held) => held.count += 1,
                None => caches.push(CpuCache { count: 1, ..cache }),
            }
        }
    }
    caches.sort_by(|a, b| (a.level, &a.kind, a.size_bytes).cmp(&(b.level, &b.kind, b.size_bytes)));
    note(items, "caches", format!("{CPU}/cpu*/cache"), begun, !caches.is_empty());
    caches
}

/// Limits and governors over all policies; they are the same on most machines.
pub(crate) fn frequency(root: &Root, items: &mut Vec<Item>) -> Option<CpuFrequency> {
    let begun = Instant::now();
    let folder = format!("{CPU}/cpufreq");
    let policies = root.list(&folder).unwrap_or_default();
    let mut found = CpuFrequency::default();
    let mut any = false;
    for policy in policies.iter().filter(|name| name.starts_with("policy")) {
        any = true;
        let at = |file: &str| format!("{folder}/{policy}/{file}");
        // All in kHz.
        let mhz = |file: &str| root.number::<u32>(at(file)).map(|khz| khz / 1000);
        found.driver = found.driver.or_else(|| root.value(at("scaling_driver")));
        let governor = root.value(at("scaling_governor"));
        found
            .governors
            .extend(governor.filter(|name| !found.governors.contains(name)));
        let lowest = |held: Option<u32>, new: Option<u32>| held.into_iter().chain(new).min();
        let highest = |held: Option<u32>, new: Option<u32>| held.into_iter().chain(new).max();
        found.min_mhz = lowest(found.min_mhz, mhz("cpuinfo_min_freq"));
        found.max_mhz = highest(found.max_mhz, mhz("cpuinfo_max_freq"));
        found.base_mhz = highest(found.base_mhz, mhz("base_frequency"));
        found.allowed_max_mhz = highest(found.allowed_max_mhz, mhz("scaling_max_freq"));
    }
    let no_turbo = root.flag(format!("{CPU}/intel_pstate/no_turbo"));
    found.boost = no_turbo
        .map(|off| !off)
        .or_else(|| root.flag(format!("{folder}/boost")));
    note(items, "frequency", folder, begun, any);
    any.then_some(found)
}

/// Threads that share a core.
pub(crate) fn smt(root: &Root, items: &mut Vec<Item>) -> Option<Smt> {
    let begun = Instant::now();
    let found = Smt {
        control: root.value(format!("{CPU}/smt/control")),
        active: root.flag(format!("{CPU}/smt/active")),
    };
    let any = found != Smt::default();
    note(items, "smt", format!("{CPU}/smt"), begun, any);
    any.then_some(found)
}

/// What the kernel says of each known weakness.
pub(crate) fn vulnerabilities(root: &Root, items: &mut Vec<Item>) -> Vec<CpuVulnerability> {
    let begun = Instant::now();
    let folder = format!("{CPU}/vulnerabilities");
    let names = root.first(
        "vulnerabilities.count",
        root.list(&folder).unwrap_or_default(),
        MAX_VULNERABILITIES,
    );
    let found: Vec<CpuVulnerability> = names
        .into_iter()
        .filter_map(|name| {
            let state = root.value(format!("{folder}/{name}"))?;
            let vulnerable = is_vulnerable(&state);
            Some(CpuVulnerability {
                name,
                vulnerable,
                state,
            })
        })
        .collect();
    note(items, "vulnerabilities", folder, begun, !found.is_empty());
    found
}

/// Some lines name the part of the machine first: `KVM: Vulnerable`.
fn is_vulnerable(state: &str) -> bool {
    let state = state.strip_prefix("KVM: ").unwrap_or(state);
    state.starts_with("Vulnerable") || state.starts_with("Processor vulnerable")
}

/// Running virtual machines here, and being one.
pub(crate) fn virtualization(root: &Root, flags: &[String]) -> Virtualization {
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let signature = root.ask("cpuid/hypervisor", || {
        io::Result::Ok(cpuid::hypervisor_signature().map_or(Vec::new(), |bytes| bytes.to_vec()))
    });
    let signature = signature.ok().and_then(|bytes| {
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        clean(&text)
    });
    let hypervisor = root.value("/sys/hypervisor/type").or(signature);
    Virtualization {
        extension: ["vmx", "svm"].into_iter().find(|name| has(name)).map(str::to_owned),
        // The flag exists on x86 only.
        guest: match (has("hypervisor"), &hypervisor, has("lm")) {
            (true, ..) | (_, Some(_), _) => Some(true),
            (false, None, true) => Some(false),
            _ => None,
        },
        hypervisor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys/devices/system/cpu").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn a_cache_is_shared_by_all_who_share_it_however_they_are_numbered() {
        let shared: Vec<String> = (0..512).map(|thread| (thread * 16).to_string()).collect();
        let shared = shared.join(",");
        let (dir, root) = tree(&[
            ("cpu0/cache/index0/shared_cpu_list", &shared),
            ("cpu0/cache/index0/level", "3"),
            ("cpu0/cache/index0/type", "Unified"),
        ]);
        assert_eq!(caches(&root, &mut Vec::new())[0].shared_by_threads, 512);
        drop(dir);
    }

    #[test]
    fn shared_caches_are_counted_once() {
        let mut files = Vec::new();
        for thread in 0..4 {
            for (index, level, kind, size, shared) in [
                (0, "1", "Data", "48K", format!("{},{}", thread % 2, thread % 2 + 2)),
                (1, "3", "Unified", "32M", "0-3".to_owned()),
            ] {
                let at = |file: &str| format!("cpu{thread}/cache/index{index}/{file}");
                files.push((at("shared_cpu_list"), shared));
                files.push((at("level"), level.to_owned()));
                files.push((at("type"), kind.to_owned()));
                files.push((at("size"), size.to_owned()));
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        let (_dir, root) = tree(&files);
        let mut items = Vec::new();
        let found = caches(&root, &mut items);
        let told: Vec<_> = found
            .iter()
            .map(|c| (c.level, &*c.kind, c.size_bytes, c.shared_by_threads, c.count))
            .collect();
        assert_eq!(
            told,
            [(1, "data", Some(48 << 10), 2, 2), (3, "unified", Some(32 << 20), 4, 1)]
        );
        assert_eq!(items[0].status, PartStatus::Ok);
    }

    #[test]
    fn clocks_and_weaknesses() {
        let (_dir, root) = tree(&[
            ("cpufreq/policy0/scaling_governor", "powersave\n"),
            ("cpufreq/policy1/scaling_governor", "performance\n"),
            ("cpufreq/policy0/cpuinfo_max_freq", "3700000\n"),
            ("cpufreq/policy1/cpuinfo_max_freq", "3500000\n"),
            ("intel_pstate/no_turbo", "1\n"),
            ("vulnerabilities/meltdown", "Not affected\n"),
            (
                "vulnerabilities/mds",
                "Vulnerable: Clear CPU buffers attempted, no microcode\n",
            ),
            ("vulnerabilities/itlb_multihit", "KVM: Mitigation: Split huge pages\n"),
        ]);
        let mut items = Vec::new();
        let clock = frequency(&root, &mut items).unwrap();
        assert_eq!(clock.governors, ["powersave", "performance"]);
        assert_eq!((clock.max_mhz, clock.boost), (Some(3700), Some(false)));
        let found = vulnerabilities(&root, &mut items);
        let bad: Vec<_> = found.iter().filter(|v| v.vulnerable).map(|v| &*v.name).collect();
        assert_eq!((found.len(), bad), (3, vec!["mds"]));
        assert_eq!(smt(&root, &mut items), None);
        assert_eq!(items.last().unwrap().status, PartStatus::Absent);
    }

    #[test]
    fn a_guest_is_told_by_its_flag() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let flags = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = virtualization(&root, &flags(&["lm", "vmx", "hypervisor"]));
        assert_eq!((found.extension.as_deref(), found.guest), (Some("vmx"), Some(true)));
        assert_eq!(virtualization(&root, &flags(&["lm"])).guest, Some(false));
        assert_eq!(virtualization(&root, &flags(&["asimd"])).guest, None);
        fs::create_dir_all(dir.path().join(".recon/cpuid")).unwrap();
        fs::write(dir.path().join(".recon/cpuid/hypervisor"), b"KVMKVMKVM\0\0\0").unwrap();
        assert_eq!(virtualization(&root, &[]).hypervisor.as_deref(), Some("KVMKVMKVM"));
    }

    #[test]
    fn lists_are_counted() {
        for (list, count) in [("", 0), ("0", 1), ("0-3,8,10-11", 7), ("3-1", 0), ("x,1", 1)] {
            assert_eq!(count_list(list), count, "{list}");
        }
        assert_eq!(size("32M"), Some(32 << 20));
        assert_eq!(size("1T"), None);
    }

    proptest! {
        #[test]
        fn any_list_is_counted(list in "[0-9,\\- ]{0,40}", text in "\\PC{0,12}") {
            let _ = (count_list(&list), size(&text));
        }
    }
}
