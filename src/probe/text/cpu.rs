//! Processors for people.

use super::page::Page;
use super::words::{binary_size, labelled, mark, plural, some, with, words};
use crate::model::inventory::{CpuCache, Cpus};

pub(super) fn lines(page: &mut Page, cpus: &Cpus) {
    page.facts([
        cpus.model.clone().or_else(|| cpus.vendor.clone()),
        cpus.arch.clone(),
        labelled("microcode", &cpus.microcode),
    ]);
    let smt_off = cpus
        .smt
        .as_ref()
        .is_some_and(|smt| smt.active == Some(false) && matches!(smt.control.as_deref(), Some("off" | "forceoff")));
    page.facts([
        cpus.sockets.map(|n| plural(n, "socket")),
        cpus.cores.map(|n| plural(n, "core")),
        cpus.threads.map(|n| plural(n, "thread")),
        mark(smt_off, "SMT switched off"),
        labelled("offline", &cpus.offline_threads),
        cpus.virtualization.extension.clone(),
    ]);
    if cpus.virtualization.guest == Some(true) {
        let under = with("under", cpus.virtualization.hypervisor.as_ref());
        page.item(&words([Some("a virtual machine".to_owned()), under]));
    }
    page.facts(cpus.caches.iter().map(|cache| Some(cache_text(cache))));
    if let Some(clock) = &cpus.frequency {
        let range = match (clock.min_mhz, clock.max_mhz) {
            (Some(min), Some(max)) => Some(format!("{min} to {max} MHz")),
            (_, max) => max.map(|max| format!("up to {max} MHz")),
        };
        let is_below = |allowed: &u32| clock.max_mhz.is_some_and(|max| *allowed < max);
        page.facts([
            range,
            with("base", clock.base_mhz),
            with("LIMITED to", clock.allowed_max_mhz.filter(is_below)),
            mark(clock.boost == Some(false), "boost off"),
            with("governor", some(clock.governors.join(" and "))),
        ]);
    }
    let vulnerable = cpus.vulnerabilities.iter().filter(|known| known.vulnerable);
    page.group("VULNERABLE")
        .facts(vulnerable.map(|known| Some(known.name.clone())));
    for package in cpus.packages.iter().filter(|package| !package.populated) {
        let socket = package.socket.as_deref().unwrap_or("a socket");
        page.item(&format!("{socket}: empty"));
    }
}

/// `L1d 16 x 48 KiB`
fn cache_text(cache: &CpuCache) -> String {
    let kind = match cache.kind.as_str() {
        "data" => "d",
        "instruction" => "i",
        _ => "",
    };
    let size = cache.size_bytes.map_or_else(|| "?".to_owned(), binary_size);
    format!("L{}{kind} {} x {size}", cache.level, cache.count)
}
