//! Health for people: short for a healthy machine, and what is wrong stands out.

use super::page::Page;
use super::words::{counted, some};
use crate::model::inventory::Health;

/// Log lines shown; the document has more.
const SHOWN_LINES: usize = 5;
/// A clock that is off by more is named.
const CLOCK_SECONDS: u64 = 60;

pub(super) fn lines(page: &mut Page, health: &Health) {
    let begun = page.text().len();
    counts(page, health);
    recorded(page, health);
    if page.text().len() == begun {
        page.item("no errors counted");
    }
    if let Some(log) = &health.kernel_log
        && log.error_lines > 0
    {
        let count = log.error_lines;
        page.item(&format!(
            "kernel log: {count} lines of level error and above, the last:"
        ));
        let first = log.errors.len().saturating_sub(SHOWN_LINES);
        for line in log.errors.iter().skip(first) {
            page.detail(&format!("{:.1} s {}", line.uptime_ms as f64 / 1000.0, line.text));
        }
    }
}

/// Errors that were counted.
fn counts(page: &mut Page, health: &Health) {
    if let Some(checks) = &health.machine_checks {
        page.group("MACHINE CHECKS").facts([
            counted(checks.exceptions, "exceptions"),
            counted(checks.threshold_interrupts, "interrupts for corrected errors"),
            counted(checks.deferred_interrupts, "deferred errors"),
        ]);
    }
    if let Some(errors) = &health.memory_errors {
        page.group("MEMORY ERRORS").facts([
            counted(errors.corrected, "corrected"),
            counted(errors.uncorrected, "UNCORRECTED"),
        ]);
    }
    for one in health.pcie_errors.iter().flat_map(|errors| &errors.with_errors) {
        page.group(&format!("PCIe ERRORS at {}", one.pci_address)).facts([
            counted(one.corrected, "corrected"),
            counted(one.nonfatal, "nonfatal"),
            counted(one.fatal, "FATAL"),
            some(one.kinds.join(" ")),
        ]);
    }
    if let Some(throttling) = &health.throttling {
        page.group("THROTTLED for heat").facts([
            counted(throttling.core_events, "times by core"),
            counted(throttling.package_events, "times by package"),
        ]);
    }
}

/// What is noted without a count: the last start, crashes, taint, clocks.
fn recorded(page: &mut Page, health: &Health) {
    if let Some(error) = &health.boot_error {
        page.item(&format!("LAST START: firmware recorded a {} error", error.severity));
    }
    let crashes = health.crash_records.iter().take(SHOWN_LINES);
    page.group("CRASH RECORDS").facts(crashes.cloned().map(Some));
    if let Some(taint) = health.taint.as_ref().filter(|taint| taint.mask != 0) {
        page.group("kernel tainted")
            .facts(taint.reasons.iter().cloned().map(Some));
    }
    let clock = health.clock.as_ref();
    if let Some(offset) = clock.and_then(|clock| clock.rtc_offset_seconds)
        && offset.unsigned_abs() > CLOCK_SECONDS
    {
        let way = if offset > 0 { "ahead of" } else { "behind" };
        let seconds = offset.unsigned_abs();
        page.item(&format!("HARDWARE CLOCK: {seconds} s {way} the system clock"));
    }
    if let Some(offset) = clock.and_then(|clock| clock.master_clock_offset_ms)
        && offset.unsigned_abs() > CLOCK_SECONDS * 1000
    {
        page.item(&format!("SYSTEM CLOCK: {} s off the master's", offset / 1000));
    }
}
