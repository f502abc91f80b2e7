//! What the text of `/proc/cpuinfo` says, whatever the architecture. Pure.

use std::collections::BTreeSet;

use crate::formats::text::clean;
use crate::model::inventory::{CpuKind, Cpus};

/// Two are a fault already; a machine has no more than it has sockets.
const MAX_REVISIONS: usize = 256;

/// Kinds told; a machine mixes two or three.
const MAX_KINDS: usize = 64;
/// Names of Arm cores. The file names its source.
pub(super) const ARM_CORES: &str = include_str!("../arm_cores.tsv");

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
    /// Takes one line in.
    fn note(&mut self, key: &str, value: &str) {
        match key {
            "CPU implementer" => self.implementer = clean(value),
            "CPU part" => self.part = clean(value),
            "CPU variant" => {
                let hex = value.strip_prefix("0x");
                self.variant = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
            }
            "CPU revision" | "revision" => self.revision = clean(value),
            // POWER: `POWER9, altivec supported`.
            "cpu" if value.starts_with("POWER") => self.name = value.split(',').next().and_then(clean),
            _ => {}
        }
    }

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

pub(super) fn arm_core(implementer: &str, part: &str) -> Option<&'static str> {
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

/// Reads the text of `/proc/cpuinfo`, whatever the architecture. Sockets and cores are counted from `physical id` and `core id`,
/// which only x86 has. The architecture is `x86_64`, `i686` or `aarch64`, as the keys give it away. Revisions of microcode and
/// kinds of cores are each one in use, in the order they come.
pub(crate) fn parse_cpuinfo(text: &str) -> Cpus {
    let mut info = Cpus::default();
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
                info.threads = info.threads.or(Some(0)).map(|threads| threads.saturating_add(1));
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
            "microcode" => note_microcode(&mut info, value),
            "flags" | "Features" if info.flags.is_empty() => {
                info.flags = value.split_whitespace().take(4096).filter_map(clean).collect();
            }
            "CPU implementer" => info.vendor = info.vendor.take().or_else(|| implementer(value)),
            "cpu" if value.starts_with("POWER") => keep(&mut info.vendor, "IBM"),
            "CPU architecture" if value == "8" => info.arch = Some("aarch64".to_owned()),
            _ => {}
        }
        core.note(key, value);
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

fn note_microcode(info: &mut Cpus, revision: &str) {
    keep(&mut info.microcode, revision);
    let known = &mut info.microcode_revisions;
    let fresh = clean(revision).filter(|revision| known.len() < MAX_REVISIONS && !known.contains(revision));
    known.extend(fresh);
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

/// `Cortex-X925, Cortex-A725`
pub(crate) fn kind_names(kinds: &[CpuKind]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for kind in kinds {
        if !names.contains(&kind.model.as_str()) {
            names.push(&kind.model);
        }
    }
    (!names.is_empty()).then(|| names.join(", "))
}
