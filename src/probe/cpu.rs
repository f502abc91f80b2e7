//! Processors: the kernel's topology, `/proc/cpuinfo`, SMBIOS type 4, and sysinfo for comparison.

pub(crate) mod kernel;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::smbios::{self, types};
use crate::formats::text::clean;
use crate::model::inventory::{CpuKind, Cpus, Item, Part, PartStatus};
use crate::probe::collect::live::LiveSources;
use crate::probe::collect::root::Root;
use crate::probe::collect::timebox::Publish;
use crate::probe::collect::{live, timebox};

const CPUINFO: &str = "/proc/cpuinfo";
/// About 2 KiB a thread; the kernel's bound is 8192 threads.
pub(crate) const CPUINFO_LIMIT: u64 = 32 * 1024 * 1024;
const TOPOLOGY: &str = "/sys/devices/system/cpu";
/// Two are a fault already; a machine has no more than it has sockets.
const MAX_REVISIONS: usize = 256;

/// What the text of `/proc/cpuinfo` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CpuInfo {
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub family_number: Option<u32>,
    pub model_number: Option<u32>,
    pub stepping: Option<u32>,
    pub microcode: Option<String>,
    /// Each revision in use, in the order they come.
    pub microcode_revisions: Vec<String>,
    pub flags: Vec<String>,
    pub threads: u32,
    /// Counted from `physical id` and `core id`, which only x86 has.
    pub sockets: Option<u32>,
    pub cores: Option<u32>,
    /// `x86_64`, `i686` or `aarch64`, as the keys give it away.
    pub arch: Option<String>,
    /// Kinds of cores, in the order they come.
    pub kinds: Vec<CpuKind>,
}

/// Kinds told; a machine mixes two or three.
const MAX_KINDS: usize = 64;
/// Names of Arm cores. The file names its source.
const ARM_CORES: &str = include_str!("arm_cores.tsv");

/// What the lines of one processor say of its core: MIDR_EL1 taken apart, or POWER's name and revision.
#[derive(Default)]
struct Core {
    implementer: Option<String>,
    part: Option<String>,
    variant: Option<u32>,
    revision: Option<String>,
    name: Option<String>,
}

impl Core {
    fn kind(&self) -> Option<(String, Option<String>)> {
        if let Some(name) = &self.name {
            // `2.2 (pvr 004e 1202)`
            let revision = self.revision.as_deref().and_then(|text| text.split(' ').next());
            return Some((name.clone(), revision.map(str::to_owned)));
        }
        let (implementer, part) = (self.implementer.as_deref()?, self.part.as_deref()?);
        let stepping = self.variant.zip(self.revision.as_deref());
        let stepping = stepping.map(|(variant, revision)| format!("r{variant}p{revision}"));
        let name = arm_core(implementer, part).map_or_else(|| format!("part {part}"), str::to_owned);
        Some((name, stepping))
    }
}

fn arm_core(implementer: &str, part: &str) -> Option<&'static str> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let wanted = (number(implementer)?, number(part)?);
    let lines = ARM_CORES.lines().filter(|line| !line.starts_with('#'));
    let mut cores = lines.filter_map(|line| {
        let mut fields = line.split('\t');
        Some(((number(fields.next()?)?, number(fields.next()?)?), fields.next()?))
    });
    cores.find(|(core, _)| *core == wanted).map(|(_, name)| name)
}

/// Counts one processor by what its lines said.
fn count_core(kinds: &mut Vec<CpuKind>, core: &Core) {
    let Some((model, stepping)) = core.kind() else { return };
    let room = kinds.len() < MAX_KINDS;
    match kinds
        .iter_mut()
        .find(|kind| (&kind.model, &kind.stepping) == (&model, &stepping))
    {
        Some(kind) => kind.threads = kind.threads.saturating_add(1),
        None if room => kinds.push(CpuKind {
            model,
            stepping,
            threads: 1,
        }),
        None => {}
    }
}

/// Reads the text of `/proc/cpuinfo`, whatever the architecture.
pub(crate) fn parse_cpuinfo(text: &str) -> CpuInfo {
    let mut info = CpuInfo::default();
    let (mut sockets, mut cores) = (BTreeSet::new(), BTreeSet::new());
    let mut socket = None;
    let mut core = Core::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        let number = || value.parse::<u32>().ok();
        match key {
            // In lower case with a number it opens a block; 32-bit ARM has a text under the same name.
            "processor" if number().is_some() => {
                info.threads = info.threads.saturating_add(1);
                socket = None;
                count_core(&mut info.kinds, &std::mem::take(&mut core));
            }
            "physical id" => {
                socket = number();
                sockets.extend(socket);
            }
            "core id" => {
                if let (Some(socket), Some(core)) = (socket, number()) {
                    cores.insert((socket, core));
                }
            }
            // Processors of one machine are equal in these; the first tells for all.
            "vendor_id" => keep(&mut info.vendor, value),
            "model name" => keep(&mut info.model, value),
            "cpu family" => info.family_number = info.family_number.or_else(number),
            "model" => info.model_number = info.model_number.or_else(number),
            "stepping" => info.stepping = info.stepping.or_else(number),
            "microcode" => {
                keep(&mut info.microcode, value);
                let revision = clean(value).filter(|revision| !info.microcode_revisions.contains(revision));
                info.microcode_revisions
                    .extend(revision.filter(|_| info.microcode_revisions.len() < MAX_REVISIONS));
            }
            "flags" | "Features" if info.flags.is_empty() => {
                info.flags = value.split_whitespace().take(4096).filter_map(clean).collect();
            }
            "CPU implementer" => {
                core.implementer = clean(value);
                info.vendor = info.vendor.take().or_else(|| implementer(value));
            }
            "CPU part" => core.part = clean(value),
            "CPU variant" => {
                core.variant = value
                    .strip_prefix("0x")
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok());
            }
            "CPU revision" | "revision" => core.revision = clean(value),
            // POWER: `POWER9, altivec supported`.
            "cpu" if value.starts_with("POWER") => {
                core.name = value.split(',').next().and_then(clean);
                keep(&mut info.vendor, "IBM");
            }
            "CPU architecture" if value == "8" => info.arch = Some("aarch64".to_owned()),
            _ => {}
        }
    }
    count_core(&mut info.kinds, &core);
    if info.flags.iter().any(|flag| flag == "lm") {
        info.arch = Some("x86_64".to_owned());
    } else if info.family_number.is_some() {
        info.arch = Some("i686".to_owned());
    }
    let count = |number: usize| u32::try_from(number).ok().filter(|number| *number > 0);
    info.sockets = count(sockets.len());
    info.cores = count(cores.len());
    info
}

fn keep(field: &mut Option<String>, value: &str) {
    if field.is_none() {
        *field = clean(value);
    }
}

/// Who designed an ARM core (Arm ARM, MIDR_EL1.Implementer); the number where we do not know it.
fn implementer(code: &str) -> Option<String> {
    let name = match code {
        "0x41" => "ARM",
        "0x42" => "Broadcom",
        "0x43" => "Cavium",
        "0x46" => "Fujitsu",
        "0x48" => "HiSilicon",
        "0x4e" => "NVIDIA",
        "0x50" => "APM",
        "0x51" => "Qualcomm",
        "0x61" => "Apple",
        "0x6d" => "Microsoft",
        "0xc0" => "Ampere",
        other => return clean(other),
    };
    Some(name.to_owned())
}

/// Sockets, cores and threads that are online, from the sets of siblings the kernel lists.
fn topology(root: &Root) -> Option<(u32, u32, u32)> {
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
    (threads > 0).then_some((count(&sockets)?, count(&cores)?, threads))
}

/// `Cortex-X925, Cortex-A725`
fn kind_names(kinds: &[CpuKind]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        if !names.contains(&kind.model.as_str()) {
            names.push(&kind.model);
        }
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// Processors of the machine.
pub(crate) fn cpus(
    root: &Root,
    live: Option<&Arc<dyn LiveSources>>,
    limit: Duration,
    publish: &Publish<Part<Cpus>>,
) -> Part<Cpus> {
    let deadline = Instant::now() + limit / 2;
    let tree = root.clone();
    // On kernels that measure the clock for it, this one asks every processor.
    let cpuinfo = timebox::spawn("probe-cpuinfo", move || tree.text(CPUINFO, CPUINFO_LIMIT));
    let table = smbios::start(root);
    let mut sources: Vec<&str> = Vec::new();
    let mut gaps = Vec::new();
    let info = match cpuinfo.wait(deadline).read_or_gap("cpuinfo", CPUINFO) {
        Ok((text, _)) => {
            sources.push(CPUINFO);
            parse_cpuinfo(&text)
        }
        Err(gap) => {
            gaps.push(gap);
            CpuInfo::default()
        }
    };
    let topology = topology(root);
    if topology.is_some() {
        sources.push(TOPOLOGY);
    }
    let packages = match table.wait(deadline).or_gap("packages", smbios::SOURCE) {
        Ok((raw, _)) => raw.map(|raw| types::cpu_packages(&raw.table())).unwrap_or_default(),
        Err(gap) => {
            gaps.push(gap);
            Vec::new()
        }
    };
    if !packages.is_empty() {
        sources.push(smbios::SOURCE);
    }
    if sources.is_empty() {
        return Part::missing(PartStatus::Failed, CPUINFO, "no source on processors can be read").with_items(gaps);
    }
    let known_threads = (info.threads > 0).then_some(info.threads);
    let mut cpus = Cpus {
        arch: root
            .value("/proc/sys/kernel/arch")
            .or_else(|| live.map(|live| live.arch()))
            .or(info.arch),
        vendor: info.vendor,
        model: info
            .model
            .or_else(|| packages.iter().find_map(|package| package.model.clone()))
            .or_else(|| kind_names(&info.kinds)),
        kinds: info.kinds,
        family_number: info.family_number,
        model_number: info.model_number,
        stepping: info.stepping,
        microcode: info.microcode,
        microcode_revisions: info.microcode_revisions,
        sockets: topology.map(|t| t.0).or(info.sockets),
        cores: topology.map(|t| t.1).or(info.cores),
        threads: topology.map(|t| t.2).or(known_threads),
        virtualization: kernel::virtualization(root, &info.flags),
        flags: info.flags,
        packages,
        ..Cpus::default()
    };
    // Without topology, as in a bare capture, the sockets that firmware calls populated are the best there is. And without
    // `physical id`, which x86 has, the kernel's packages may be clusters or nodes within a socket.
    let populated = cpus.packages.iter().filter(|package| package.populated).count();
    let populated = u32::try_from(populated).ok().filter(|count| *count > 0);
    let by_kernel = cpus.sockets;
    if cpus.sockets.is_none() || info.sockets.is_none() {
        cpus.sockets = populated.or(cpus.sockets);
    }
    publish.so_far(Part::ok(sources.join(", "), cpus.clone()).with_items(gaps.clone()));
    cpus.offline_threads = root.value(format!("{TOPOLOGY}/offline"));
    cpus.caches = kernel::caches(root, &mut gaps);
    cpus.frequency = kernel::frequency(root, &mut gaps);
    cpus.smt = kernel::smt(root, &mut gaps);
    cpus.vulnerabilities = kernel::vulnerabilities(root, &mut gaps);
    let mut remarks = Vec::new();
    let mut compare = |what: &str, ours: Option<u32>, theirs: Option<u32>, who: &str| {
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            remarks.push(format!("{what}: {ours}, but {theirs} by {who}"));
        }
    };
    compare("threads", cpus.threads, known_threads, CPUINFO);
    compare("sockets", cpus.sockets, info.sockets, CPUINFO);
    compare("sockets", cpus.sockets, by_kernel, TOPOLOGY);
    compare("sockets", cpus.sockets, populated, smbios::SOURCE);
    match live::totals(live, limit) {
        Some(Ok(totals)) => {
            sources.push("sysinfo");
            compare("threads", cpus.threads, Some(totals.threads), "sysinfo");
            compare("cores", cpus.cores, totals.cores, "sysinfo");
        }
        Some(Err(reason)) => gaps.push(Item::gap("sysinfo".to_owned(), PartStatus::Failed, reason)),
        None => {}
    }
    if cpus.microcode_revisions.len() > 1 {
        remarks.push(format!("microcode: {}", cpus.microcode_revisions.join(" and ")));
    }
    let mut part = Part::ok(sources.join(", "), cpus).with_items(gaps);
    part.reason = (!remarks.is_empty()).then(|| format!("sources disagree: {}", remarks.join("; ")));
    part
}

#[cfg(test)]
mod tests {
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
                smbios::testing::structure(4, number as u16, &body, &["CPU"])
            };
            let table: Vec<u8> = (0..sockets).flat_map(socket).collect();
            if sockets > 0 {
                write("sys/firmware/dmi/tables/DMI", &table);
            }
            let limit = Duration::from_secs(60);
            let part = cpus(&Root::at(dir.path()), None, limit, &Publish::nowhere());
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
        assert_eq!((info.sockets, info.cores, info.threads), (Some(2), Some(4), 8));
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
        assert_eq!((info.threads, info.sockets), (1, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([a-z ]{0,12}[\t:]{0,3}[0-9a-z ]{0,12}\n){0,20}") {
            let info = parse_cpuinfo(&text);
            prop_assert!(info.flags.len() <= 1024);
        }
    }
}
