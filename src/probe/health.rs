//! Health as the kernel has noticed it: counters of errors, throttling, its own log, its clocks. Each piece is asked
//! in a time box of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bus;
use super::pci::aer_counts;
use crate::formats::bytes::le32;
use crate::formats::text::clean;
use crate::model::inventory::{
    BootError, Clock, Health, Item, MachineChecks, MemoryErrors, PackageThrottling, Part, PartStatus, PcieErrorCount,
    PcieErrors, Taint, Throttling,
};
use crate::probe::collect::root::{ReadError, Root};
use crate::probe::collect::timebox;
use crate::probe::collect::timebox::{Pending, note};
use crate::probe::cpu::kernel;
use crate::probe::disks::why;
use crate::probe::memory::edac;

/// Named when nothing else is known.
pub(crate) const SOURCE: &str = "/sys/devices/system";
const PCI: &str = "/sys/bus/pci/devices";
const CPU: &str = "/sys/devices/system/cpu";
const MACHINE_CHECK: &str = "/sys/devices/system/machinecheck/machinecheck0";
const INTERRUPTS: &str = "/proc/interrupts";
/// A column a thread and a line an interrupt: 256 threads with 2500 interrupts make 7 MiB.
const INTERRUPTS_LIMIT: u64 = 32 * 1024 * 1024;
const TAINTED: &str = "/proc/sys/kernel/tainted";
const PSTORE: &str = "/sys/fs/pstore";
const RTC: &str = "/sys/class/rtc";
const BERT: &str = "/sys/firmware/acpi/tables/data/BERT";
/// Bytes of log lines that are kept; two hundred lines of the kernel's longest fit.
const LOG_BYTES: usize = 512 * 1024;
/// Functions with errors that are listed one by one.
const MAX_FUNCTIONS: usize = 4096;
/// Records of crashes that are named.
const MAX_CRASHES: usize = 256;

/// What a piece that is not there, or cannot be had, says.
type Found<T> = Result<T, (PartStatus, String)>;

fn told(error: ReadError) -> (PartStatus, String) {
    (error.status(), error.to_string())
}

fn absent<T>(reason: impl Display) -> Found<T> {
    Err((PartStatus::Absent, reason.to_string()))
}

/// Health as the kernel has noticed it.
pub(crate) fn health(root: &Root, limit: Duration) -> Part<Health> {
    let deadline = Instant::now() + limit;
    fn start<T: Send + 'static>(root: &Root, work: fn(&Root) -> Found<T>) -> Pending<Found<T>> {
        let root = root.clone();
        timebox::spawn("probe-health", move || work(&root))
    }
    let checks = start(root, machine_checks);
    let memory = start(root, memory_errors);
    let pcie = start(root, pcie_errors);
    let throttling = start(root, throttled);
    let log = start(root, kernel_log);
    let taint = start(root, taint);
    let clock = start(root, clock);
    let crashes = start(root, crash_records);
    let boot = start(root, boot_error);
    let mut items = Vec::new();
    let health = Health {
        machine_checks: settle(&mut items, checks, deadline, "machine_checks", INTERRUPTS),
        memory_errors: settle(&mut items, memory, deadline, "memory_errors", edac::SOURCE),
        pcie_errors: settle(&mut items, pcie, deadline, "pcie_errors", "aer_dev_*"),
        throttling: settle(&mut items, throttling, deadline, "throttling", "thermal_throttle"),
        kernel_log: settle(&mut items, log, deadline, "kernel_log", "/dev/kmsg"),
        taint: settle(&mut items, taint, deadline, "taint", TAINTED),
        clock: settle(&mut items, clock, deadline, "clock", RTC),
        crash_records: settle(&mut items, crashes, deadline, "crash_records", PSTORE).unwrap_or_default(),
        boot_error: settle(&mut items, boot, deadline, "boot_error", BERT),
    };
    Part::ok(SOURCE, health).with_items(items)
}

fn settle<T>(
    items: &mut Vec<Item>,
    pending: Pending<Found<T>>,
    deadline: Instant,
    item: &str,
    source: &str,
) -> Option<T> {
    let (found, took) = match pending.wait(deadline).or_gap(item, source) {
        Ok(answer) => answer,
        Err(gap) => {
            items.push(gap);
            return None;
        }
    };
    note(items, item, source, took, found)
}

fn machine_checks(root: &Root) -> Found<MachineChecks> {
    let text = root.text(INTERRUPTS, INTERRUPTS_LIMIT).map_err(told)?;
    let mut checks = MachineChecks::default();
    for (name, sum) in architecture_counts(&text) {
        match name {
            "MCE" => checks.exceptions = Some(sum),
            "THR" => checks.threshold_interrupts = Some(sum),
            "DFR" => checks.deferred_interrupts = Some(sum),
            "TRM" => checks.thermal_interrupts = Some(sum),
            _ => {}
        }
    }
    let banks = root.list(MACHINE_CHECK).unwrap_or_default();
    // Read and not only listed, so that a capture holds them.
    let is_bank =
        |name: &&String| bus::is_numbered(name, "bank") && root.value(format!("{MACHINE_CHECK}/{name}")).is_some();
    let count = u32::try_from(banks.iter().filter(is_bank).count()).unwrap_or(u32::MAX);
    checks.banks = (count > 0).then_some(count);
    if checks == MachineChecks::default() {
        return absent("this kernel has no machine checks");
    }
    Ok(checks)
}

/// Interrupts with a name instead of a number, each summed over all threads.
fn architecture_counts(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let name = name.trim();
        if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let counts = rest.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some((name, counts.fold(0, u64::saturating_add)))
    })
}

fn memory_errors(root: &Root) -> Found<MemoryErrors> {
    let controllers = edac::controllers(root, &[]).map_err(told)?;
    if controllers.is_empty() {
        return absent("no driver counts memory errors here");
    }
    let sum = |count: fn(&crate::model::inventory::EccController) -> Option<u64>| {
        controllers.iter().filter_map(count).fold(0, u64::saturating_add)
    };
    Ok(MemoryErrors {
        controllers: u32::try_from(controllers.len()).unwrap_or(u32::MAX),
        corrected: sum(|controller| controller.corrected_errors),
        uncorrected: sum(|controller| controller.uncorrected_errors),
    })
}

/// Documentation/ABI/testing/sysfs-bus-pci-devices-aer.
fn pcie_errors(root: &Root) -> Found<PcieErrors> {
    let mut errors = PcieErrors::default();
    for address in root.list(PCI).map_err(told)? {
        if !bus::is_pci_address(&address) {
            continue;
        }
        let mut kinds = Vec::new();
        let mut total = |file: &str| -> Option<u64> {
            let text = root.text(format!("{PCI}/{address}/{file}"), 64 * 1024).ok()?;
            let (sum, named) = aer_counts(&text);
            let named = named.into_iter();
            kinds.extend(named.filter_map(|(name, count)| Some(format!("{} {count}", clean(&name)?))));
            Some(sum)
        };
        let counts = ["aer_dev_correctable", "aer_dev_nonfatal", "aer_dev_fatal"].map(&mut total);
        let [None, None, None] = counts else {
            let [corrected, nonfatal, fatal] = counts.map(|count| count.unwrap_or(0));
            errors.functions += 1;
            errors.corrected = errors.corrected.saturating_add(corrected);
            errors.nonfatal = errors.nonfatal.saturating_add(nonfatal);
            errors.fatal = errors.fatal.saturating_add(fatal);
            if corrected + nonfatal + fatal > 0 {
                errors.with_errors.push(PcieErrorCount {
                    pci_address: address,
                    corrected,
                    nonfatal,
                    fatal,
                    kinds,
                });
            }
            continue;
        };
    }
    errors.with_errors = root.first("pcie_errors.with_errors.count", errors.with_errors, MAX_FUNCTIONS);
    if errors.functions == 0 {
        return absent("no PCI function counts errors (AER) here");
    }
    Ok(errors)
}

/// Documentation/ABI: thermal_throttle of each thread; threads of a core, and of a package, tell the same number.
fn throttled(root: &Root) -> Found<Throttling> {
    let mut packages: BTreeMap<u32, PackageThrottling> = BTreeMap::new();
    let mut cores = BTreeSet::new();
    for thread in kernel::numbered(root) {
        let at = |file: &str| format!("{CPU}/{thread}/{file}");
        let count = |file: &str| root.number::<u64>(at(&format!("thermal_throttle/{file}")));
        let (core_count, package_count) = (count("core_throttle_count"), count("package_throttle_count"));
        if core_count.is_none() && package_count.is_none() {
            continue;
        }
        let package: u32 = root.number(at("topology/physical_package_id")).unwrap_or(0);
        let core = root
            .value(at("topology/core_cpus_list"))
            .or_else(|| root.value(at("topology/thread_siblings_list")))
            .unwrap_or_else(|| thread.clone());
        let entry = packages.entry(package).or_insert_with(|| PackageThrottling {
            package,
            ..PackageThrottling::default()
        });
        if cores.insert(core) {
            entry.core_events = entry.core_events.saturating_add(core_count.unwrap_or(0));
        }
        entry.package_events = entry.package_events.max(package_count.unwrap_or(0));
        entry.package_millis = entry.package_millis.max(count("package_throttle_total_time_ms"));
    }
    if packages.is_empty() {
        return absent("this processor does not count throttling, or its kernel driver does not");
    }
    let packages: Vec<PackageThrottling> = packages.into_values().collect();
    let sum = |count: fn(&PackageThrottling) -> u64| packages.iter().map(count).fold(0, u64::saturating_add);
    Ok(Throttling {
        core_events: sum(|package| package.core_events),
        package_events: sum(|package| package.package_events),
        packages,
    })
}

fn kernel_log(root: &Root) -> Found<crate::model::inventory::KernelLog> {
    let answer = root.ask("kmsg", || crate::sys::kmsg::records(kmsg::WORST, LOG_BYTES));
    let log = answer
        .map(|bytes| kmsg::parse(&String::from_utf8_lossy(&bytes)))
        .map_err(|error| (error.status(), why(&error)))?;
    if log.error_lines > log.errors.len() as u64 {
        let all = format!("{} lines of level error and above", log.error_lines);
        root.leave_out("kernel_log.errors.count", &all, log.errors.len());
    }
    Ok(log)
}

fn taint(root: &Root) -> Found<Taint> {
    let text = root.attribute(TAINTED).map_err(told)?.unwrap_or_default();
    let Ok(mask) = text.parse::<u64>() else {
        return Err((PartStatus::Failed, format!("{TAINTED} says {text:?}")));
    };
    Ok(Taint {
        mask,
        reasons: taint_reasons(mask),
    })
}

/// Documentation/admin-guide/tainted-kernels.
fn taint_reasons(mask: u64) -> Vec<String> {
    const REASONS: [&str; 20] = [
        "a proprietary module was loaded",
        "a module was loaded by force",
        "the processor or system is out of its specification",
        "a module was unloaded by force",
        "a processor reported a machine check",
        "a bad memory page was found",
        "a user asked for it",
        "the kernel died before (oops or bug)",
        "an ACPI table was overridden",
        "the kernel issued a warning",
        "a staging driver was loaded",
        "a firmware fault was worked around",
        "a module from outside the kernel tree was loaded",
        "an unsigned module was loaded",
        "a soft lockup occurred",
        "the kernel was live patched",
        "auxiliary taint of the distributor",
        "built with the struct randomization plugin",
        "an in-kernel test ran",
        "user space wrote to firmware through fwctl",
    ];
    let bits = (0..64).filter(|bit| mask & (1 << bit) != 0);
    bits.map(|bit: usize| match REASONS.get(bit) {
        Some(reason) => (*reason).to_owned(),
        None => format!("bit {bit}"),
    })
    .collect()
}

fn clock(root: &Root) -> Found<Clock> {
    let names = root.list(RTC).map_err(told)?;
    let Some(rtc) = names.into_iter().find(|name| name.starts_with("rtc")) else {
        return absent("no hardware clock");
    };
    let at = |file: &str| format!("{RTC}/{rtc}/{file}");
    let text = root.attribute(at("since_epoch")).map_err(told)?.unwrap_or_default();
    // Read right behind it.
    let now = root.ask("clock/realtime-ms", || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(since.as_millis().to_string().into_bytes())
    });
    let Ok(rtc_seconds) = text.parse::<i64>() else {
        return Err((PartStatus::Failed, format!("the hardware clock says {text:?}")));
    };
    let now = now
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<i64>().ok());
    Ok(Clock {
        rtc_driver: root.value(at("name")),
        rtc_offset_seconds: now.and_then(|millis| rtc_seconds.checked_sub(millis.div_euclid(1000))),
        rtc,
        rtc_seconds,
        master_clock_offset_ms: None,
    })
}

fn crash_records(root: &Root) -> Found<Vec<String>> {
    let mut names = root.list(PSTORE).map_err(told)?;
    names.retain(|name| !name.starts_with('.'));
    let names = root.first("crash_records.count", names, MAX_CRASHES);
    Ok(names.iter().filter_map(|name| clean(name)).collect())
}

/// The boot error region: ACPI 6.5, table 18.2 and 18.3.2.7 (generic error status block).
fn boot_error(root: &Root) -> Found<BootError> {
    let bytes = root.bytes(BERT, 1024 * 1024).map_err(told)?;
    parse_boot_error(&bytes).map_or_else(|| absent("firmware recorded no error"), Ok)
}

fn parse_boot_error(bytes: &[u8]) -> Option<BootError> {
    let status = le32(bytes, 0)?;
    // Bits 0 to 3 say that there is an error; bits 4 to 13 count the entries.
    if status & 0xf == 0 {
        return None;
    }
    let severity = match le32(bytes, 16)? {
        0 => "recoverable",
        1 => "fatal",
        2 => "corrected",
        _ => "none",
    };
    Some(BootError {
        severity: severity.to_owned(),
        entries: (status >> 4) & 0x3ff,
    })
}

pub(crate) mod kmsg;
#[cfg(test)]
mod tests;
