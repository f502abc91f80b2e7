//! Processors: the kernel's topology, `/proc/cpuinfo`, SMBIOS type 4, and sysinfo for comparison.

pub(crate) mod cpuinfo;
pub(crate) mod kernel;

use cpuinfo::{kind_names, parse_cpuinfo};

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::smbios::source::{self, Smbios};
use super::smbios::types;
use crate::model::inventory::{CpuPackage, Cpus, Item, Part, PartStatus};
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::Publish;
use crate::probe::collect::{live, timebox};

pub(crate) const CPUINFO: &str = "/proc/cpuinfo";
/// About 2 KiB a thread; the kernel's bound is 8192 threads.
pub(crate) const CPUINFO_LIMIT: u64 = 32 * 1024 * 1024;
const TOPOLOGY: &str = "/sys/devices/system/cpu";
/// What is online.
#[derive(Debug, Clone, Copy)]
struct Topology {
    sockets: u32,
    cores: u32,
    threads: u32,
}

/// From the sets of siblings the kernel lists.
fn topology(root: &Root) -> Option<Topology> {
    let (mut sockets, mut cores, mut threads) = (BTreeSet::new(), BTreeSet::new(), 0u32);
    for name in kernel::numbered(root) {
        // The newer name first; what is offline has no siblings.
        let siblings = |new: &str, old: &str| {
            let path = |file: &str| format!("{TOPOLOGY}/{name}/topology/{file}");
            root.value(path(new)).or_else(|| root.value(path(old)))
        };
        let Some(core) = siblings("core_cpus_list", "thread_siblings_list") else {
            continue;
        };
        cores.insert(core);
        sockets.extend(siblings("package_cpus_list", "core_siblings_list"));
        threads += 1;
    }
    let count = |set: &BTreeSet<String>| u32::try_from(set.len()).ok();
    (threads > 0).then_some(Topology {
        sockets: count(&sockets)?,
        cores: count(&cores)?,
        threads,
    })
}

/// What the sources that are asked first tell.
#[derive(Default)]
struct Asked {
    info: Cpus,
    topology: Option<Topology>,
    packages: Vec<CpuPackage>,
    sources: Vec<&'static str>,
    gaps: Vec<Item>,
}

fn ask(root: &Root, smbios: &Smbios, deadline: Instant) -> Asked {
    let tree = root.clone();
    // On kernels that measure the clock for it, this one asks every processor.
    let cpuinfo = timebox::spawn("probe-cpuinfo", move || tree.text(CPUINFO, CPUINFO_LIMIT));
    let mut asked = Asked::default();
    match cpuinfo.wait(deadline).read_or_gap("cpuinfo", CPUINFO) {
        Ok((text, _)) => {
            asked.sources.push(CPUINFO);
            asked.info = parse_cpuinfo(&text);
        }
        Err(gap) => asked.gaps.push(gap),
    }
    asked.topology = topology(root);
    asked.sources.extend(asked.topology.map(|_| TOPOLOGY));
    match smbios.wait(deadline).or_gap("packages", source::SOURCE) {
        Ok((table, _)) => asked.packages = table.map(|table| types::cpu_packages(&table)).unwrap_or_default(),
        Err(gap) => asked.gaps.push(gap),
    }
    if !asked.packages.is_empty() {
        asked.sources.push(source::SOURCE);
    }
    asked
}

/// Processors of the machine.
pub(crate) fn cpus(
    root: &Root,
    live: Option<&Arc<dyn LiveSources>>,
    smbios: &Smbios,
    limit: Duration,
    publish: &Publish<Part<Cpus>>,
) -> Part<Cpus> {
    let asked = ask(root, smbios, Instant::now() + limit / 2);
    let (mut sources, mut gaps) = (asked.sources, asked.gaps);
    if sources.is_empty() {
        return Part::missing(PartStatus::Failed, CPUINFO, "no source on processors can be read").with_items(gaps);
    }
    let (threads, by_cpuinfo) = (asked.info.threads, asked.info.sockets);
    let by_kernel = asked.topology.map(|topology| topology.sockets).or(by_cpuinfo);
    let mut cpus = first_facts(root, live, asked.info, asked.topology, asked.packages);
    // Without topology, as in a bare capture, the sockets that firmware calls populated are the best there is. And without
    // `physical id`, which x86 has, the kernel's packages may be clusters or nodes within a socket.
    let populated = cpus.packages.iter().filter(|package| package.populated).count();
    let populated = u32::try_from(populated).ok().filter(|count| *count > 0);
    if by_kernel.is_none() || by_cpuinfo.is_none() {
        cpus.sockets = populated.or(by_kernel);
    }
    publish.so_far(Part::ok(sources.join(", "), cpus.clone()).with_items(gaps.clone()));
    cpus.offline_threads = root.value(format!("{TOPOLOGY}/offline"));
    cpus.caches = kernel::caches(root, &mut gaps);
    cpus.frequency = kernel::frequency(root, &mut gaps);
    cpus.smt = kernel::smt(root, &mut gaps);
    cpus.vulnerabilities = kernel::vulnerabilities(root, &mut gaps);
    // What the sources say differently, for the reader of a report.
    let mut remarks = Vec::new();
    let mut compare = |what: &str, ours: Option<u32>, theirs: Option<u32>, who: &str| {
        let differ = ours.zip(theirs).filter(|(ours, theirs)| ours != theirs);
        remarks.extend(differ.map(|(ours, theirs)| format!("{what}: {ours}, but {theirs} by {who}")));
    };
    compare("threads", cpus.threads, threads, CPUINFO);
    compare("sockets", cpus.sockets, by_cpuinfo, CPUINFO);
    compare("sockets", cpus.sockets, by_kernel, TOPOLOGY);
    compare("sockets", cpus.sockets, populated, source::SOURCE);
    match live::totals(live, limit) {
        Some(Ok(totals)) => {
            sources.push("sysinfo");
            compare("threads", cpus.threads, Some(totals.threads), "sysinfo");
            compare("cores", cpus.cores, totals.cores, "sysinfo");
        }
        Some(Err(gap)) => gaps.push(gap),
        None => {}
    }
    if cpus.microcode_revisions.len() > 1 {
        let revisions = cpus.microcode_revisions.join(" and ");
        remarks.push(format!("microcode: {revisions}"));
    }
    let mut part = Part::ok(sources.join(", "), cpus).with_items(gaps);
    part.reason = (!remarks.is_empty()).then(|| format!("sources disagree: {}", remarks.join("; ")));
    part
}

/// What the first sources make of the processors together.
fn first_facts(
    root: &Root,
    live: Option<&Arc<dyn LiveSources>>,
    info: Cpus,
    topology: Option<Topology>,
    packages: Vec<CpuPackage>,
) -> Cpus {
    let by_firmware = || packages.iter().find_map(|package| package.model.clone());
    Cpus {
        arch: root
            .value("/proc/sys/kernel/arch")
            .or_else(|| live.map(|live| live.arch()))
            .or(info.arch),
        model: info.model.or_else(by_firmware).or_else(|| kind_names(&info.kinds)),
        sockets: topology.map(|topology| topology.sockets).or(info.sockets),
        cores: topology.map(|topology| topology.cores).or(info.cores),
        threads: topology.map(|topology| topology.threads).or(info.threads),
        virtualization: kernel::virtualization(root, &info.flags),
        packages,
        ..info
    }
}

#[cfg(test)]
mod tests {
    use super::cpuinfo::{ARM_CORES, arm_core};
    use super::*;
    use proptest::prelude::*;

    fn arm(cores: &[(&str, &str, &str, &str)]) -> String {
        let core = |(number, (implementer, part, variant, revision)): (usize, &(&str, &str, &str, &str))| {
            format!(
                "processor\t: {number}\nFeatures\t: fp asimd\nCPU implementer\t: {implementer}\nCPU architecture: 8\n\
                 CPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
            )
        };
        cores.iter().enumerate().map(core).collect()
    }

    #[test]
    fn kinds_of_arm_cores_have_names_and_steppings() {
        let (big, small) = (("0x41", "0xd85", "0x0", "1"), ("0x41", "0xd87", "0x0", "1"));
        let info = parse_cpuinfo(&arm(&[small, small, big, ("0x41", "0xfff", "0x2", "0")]));
        let told: Vec<(&str, Option<&str>, u32)> = info
            .kinds
            .iter()
            .map(|kind| (&*kind.model, kind.stepping.as_deref(), kind.threads))
            .collect();
        assert_eq!(
            told,
            [
                ("Cortex-A725", Some("r0p1"), 2),
                ("Cortex-X925", Some("r0p1"), 1),
                ("part 0xfff", Some("r2p0"), 1),
            ]
        );
        assert_eq!(
            kind_names(&info.kinds[..2]).as_deref(),
            Some("Cortex-A725, Cortex-X925")
        );
        assert_eq!(arm_core("0x46", "0x001"), Some("A64FX"));
        let lines = ARM_CORES.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().all(|line| {
            let mut fields = line.split('\t');
            arm_core(fields.next().unwrap(), fields.next().unwrap()) == fields.next()
        }));
        let x86 = "processor : 0\nvendor_id : GenuineIntel\nrevision : 1\n";
        assert!(parse_cpuinfo(x86).kinds.is_empty());
    }

    #[test]
    fn a_power_machine_tells_its_processor() {
        let one = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nrevision\t: 2.2 (pvr 004e 1202)\n\n";
        let info = parse_cpuinfo(&(one.to_owned() + &one.replace(": 0", ": 1") + "model\t\t: 8335-GTH\n"));
        assert_eq!(info.vendor.as_deref(), Some("IBM"));
        assert_eq!(info.kinds.len(), 1);
        assert_eq!(
            (&*info.kinds[0].model, info.kinds[0].stepping.as_deref()),
            ("POWER9", Some("2.2"))
        );
        assert_eq!(info.kinds[0].threads, 2);
    }

    /// Four clusters of two that the kernel calls packages, and firmware's one socket.
    #[test]
    fn clusters_are_no_sockets() {
        use std::fs;
        let told = |text: &str, sockets: usize| {
            let dir = tempfile::tempdir().unwrap();
            let write = |path: &str, bytes: &[u8]| {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            };
            write("proc/cpuinfo", text.as_bytes());
            for thread in 0..8 {
                let cluster = thread / 2 * 2;
                let at = |file: &str| format!("sys/devices/system/cpu/cpu{thread}/topology/{file}");
                write(&at("core_cpus_list"), thread.to_string().as_bytes());
                write(
                    &at("package_cpus_list"),
                    format!("{cluster}-{}", cluster + 1).as_bytes(),
                );
            }
            let socket = |number: usize| {
                let mut body = vec![0u8; 0x2c];
                (body[1], body[0x14]) = (3, 0x41);
                crate::probe::smbios::testing::structure(4, number as u16, &body, &["CPU"])
            };
            let table: Vec<u8> = (0..sockets).flat_map(socket).collect();
            if sockets > 0 {
                write("sys/firmware/dmi/tables/DMI", &table);
            }
            let limit = Duration::from_secs(60);
            let part = cpus(
                &Root::at(dir.path()),
                None,
                &source::start(&Root::at(dir.path())),
                limit,
                &Publish::nowhere(),
            );
            (part.value.unwrap().sockets, part.reason.unwrap_or_default())
        };
        let text = arm(&[("0x46", "0x001", "0x1", "0"); 8]);
        let (sockets, remark) = told(&text, 1);
        assert_eq!(sockets, Some(1));
        assert!(
            remark.contains("sockets: 1, but 4 by /sys/devices/system/cpu"),
            "{remark}"
        );
        assert_eq!(told(&text, 4), (Some(4), String::new()));
        assert_eq!(told(&text, 0), (Some(4), String::new()));
        // x86 says which package a thread is in; firmware that says otherwise is remarked.
        let mut x86 = String::new();
        for thread in 0..8 {
            x86 += &format!(
                "processor : {thread}\nphysical id : {}\ncore id : {thread}\n\n",
                thread / 2
            );
        }
        let (sockets, remark) = told(&x86, 1);
        assert_eq!(sockets, Some(4));
        assert!(remark.contains("sockets: 4, but 1 by"), "{remark}");
    }

    #[test]
    fn two_sockets_with_threads() {
        let mut text = String::new();
        for thread in 0..8 {
            text += &format!(
                "processor\t: {thread}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
                 model name\t: Intel(R) Xeon(R)   Gold 6130 CPU @ 2.10GHz\nstepping\t: 4\nmicrocode\t: 0x2006e05\n\
                 physical id\t: {}\ncore id\t\t: {}\nflags\t\t: fpu lm vmx\n\n",
                thread % 2,
                thread / 4
            );
        }
        let info = parse_cpuinfo(&text);
        assert_eq!((info.sockets, info.cores, info.threads), (Some(2), Some(4), Some(8)));
        assert_eq!(info.model.as_deref(), Some("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz"));
        assert_eq!(
            (info.family_number, info.model_number, info.stepping),
            (Some(6), Some(85), Some(4))
        );
        assert_eq!(info.arch.as_deref(), Some("x86_64"));
        assert_eq!(info.flags, ["fpu", "lm", "vmx"]);
    }

    #[test]
    fn arm_has_no_model_name() {
        let info = parse_cpuinfo(
            "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU implementer\t: 0xc0\nCPU architecture: 8\n\
             CPU variant\t: 0x1\nCPU part\t: 0xac3\nCPU revision\t: 1\n\n",
        );
        assert_eq!(info.vendor.as_deref(), Some("Ampere"));
        assert_eq!(info.arch.as_deref(), Some("aarch64"));
        assert_eq!((info.threads, info.sockets), (Some(1), None));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z ]{0,12}[\t:]{0,3}[0-9a-z ]{0,12}\n){0,20}") {
            let info = parse_cpuinfo(&text);
            prop_assert!(info.flags.len() <= 1024);
        }
    }
}
