//! Health for people: short for a healthy machine, and what is wrong stands out.

use super::page::Page;
use super::words::{list, some};
use crate::model::inventory::Health;

/// Log lines shown; the document has more.
const SHOWN_LINES: usize = 5;
/// A clock that is off by more is named.
const CLOCK_SECONDS: u64 = 60;

pub(super) fn lines(page: &mut Page, health: &Health) {
    let begun = page.text().len();
    counted(page, health);
    recorded(page, health);
    if page.text().len() == begun {
        page.item("no errors counted");
    }
    if let Some(log) = &health.kernel_log
        && log.error_lines > 0
    {
        page.item(&format!(
            "kernel log: {} lines of level error and above, the last:",
            log.error_lines
        ));
        let first = log.errors.len().saturating_sub(SHOWN_LINES);
        for line in log.errors.iter().skip(first) {
            page.detail(&format!("{:.1} s {}", line.uptime_ms as f64 / 1000.0, line.text));
        }
    }
}

fn found(page: &mut Page, label: &str, parts: Vec<Option<String>>) {
    if let Some(text) = some(list(parts)) {
        page.item(&format!("{label}: {text}"));
    }
}

/// Errors that were counted.
fn counted(page: &mut Page, health: &Health) {
    let count = |number: u64, what: &str| (number > 0).then(|| format!("{number} {what}"));
    if let Some(checks) = &health.machine_checks {
        let counts = [
            (checks.exceptions, "exceptions"),
            (checks.threshold_interrupts, "interrupts for corrected errors"),
            (checks.deferred_interrupts, "deferred errors"),
        ];
        let told = counts.map(|(number, what)| count(number.unwrap_or(0), what));
        found(page, "MACHINE CHECKS", told.into());
    }
    if let Some(errors) = &health.memory_errors {
        found(
            page,
            "MEMORY ERRORS",
            vec![
                count(errors.corrected, "corrected"),
                count(errors.uncorrected, "UNCORRECTED"),
            ],
        );
    }
    for one in health.pcie_errors.iter().flat_map(|errors| &errors.with_errors) {
        found(
            page,
            &format!("PCIe ERRORS at {}", one.pci_address),
            vec![
                count(one.corrected, "corrected"),
                count(one.nonfatal, "nonfatal"),
                count(one.fatal, "FATAL"),
                some(one.kinds.join(" ")),
            ],
        );
    }
    if let Some(throttling) = &health.throttling {
        found(
            page,
            "THROTTLED for heat",
            vec![
                count(throttling.core_events, "times by core"),
                count(throttling.package_events, "times by package"),
            ],
        );
    }
}

/// What is noted without a count: the last start, crashes, taint, clocks.
fn recorded(page: &mut Page, health: &Health) {
    if let Some(error) = &health.boot_error {
        found(
            page,
            "LAST START",
            vec![Some(format!("firmware recorded a {} error", error.severity))],
        );
    }
    found(
        page,
        "CRASH RECORDS",
        health
            .crash_records
            .iter()
            .take(SHOWN_LINES)
            .cloned()
            .map(Some)
            .collect(),
    );
    if let Some(taint) = health.taint.as_ref().filter(|taint| taint.mask != 0) {
        found(
            page,
            "kernel tainted",
            taint.reasons.iter().cloned().map(Some).collect(),
        );
    }
    if let Some(clock) = &health.clock
        && let Some(offset) = clock.rtc_offset_seconds
        && offset.unsigned_abs() > CLOCK_SECONDS
    {
        let way = if offset > 0 { "ahead of" } else { "behind" };
        let text = format!("{} s {way} the system clock", offset.unsigned_abs());
        found(page, "HARDWARE CLOCK", vec![Some(text)]);
    }
    if let Some(offset) = health.clock.as_ref().and_then(|clock| clock.master_clock_offset_ms)
        && offset.unsigned_abs() > CLOCK_SECONDS * 1000
    {
        let text = format!("{} s off the master's", offset / 1000);
        found(page, "SYSTEM CLOCK", vec![Some(text)]);
    }
}
