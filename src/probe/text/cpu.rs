//! Processors for people.

use super::page::Page;
use super::words::{binary_size, labelled, list, plural, some, words};
use crate::model::inventory::{CpuCache, Cpus};

pub(super) fn lines(page: &mut Page, cpus: &Cpus) {
    page.item(&list([
        cpus.model.clone().or_else(|| cpus.vendor.clone()),
        cpus.arch.clone(),
        labelled("microcode", &cpus.microcode),
    ]));
    let smt_off = cpus
        .smt
        .as_ref()
        .is_some_and(|smt| smt.active == Some(false) && matches!(smt.control.as_deref(), Some("off" | "forceoff")));
    page.item(&list([
        cpus.sockets.map(|n| plural(n, "socket")),
        cpus.cores.map(|n| plural(n, "core")),
        cpus.threads.map(|n| plural(n, "thread")),
        smt_off.then(|| "SMT switched off".to_owned()),
        labelled("offline", &cpus.offline_threads),
        cpus.virtualization.extension.clone(),
    ]));
    if cpus.virtualization.guest == Some(true) {
        let under = cpus.virtualization.hypervisor.as_ref();
        let under = under.map(|name| format!("under {name}"));
        page.item(&words([Some("a virtual machine".to_owned()), under]));
    }
    page.item(&list(cpus.caches.iter().map(|cache| Some(cache_text(cache)))));
    if let Some(clock) = &cpus.frequency {
        let range = match (clock.min_mhz, clock.max_mhz) {
            (Some(min), Some(max)) => Some(format!("{min} to {max} MHz")),
            (_, max) => max.map(|max| format!("up to {max} MHz")),
        };
        let limited = clock
            .allowed_max_mhz
            .filter(|allowed| clock.max_mhz.is_some_and(|max| *allowed < max));
        page.item(&list([
            range,
            clock.base_mhz.map(|base| format!("base {base}")),
            limited.map(|limit| format!("LIMITED to {limit}")),
            (clock.boost == Some(false)).then(|| "boost off".to_owned()),
            some(clock.governors.join(" and ")).map(|governors| format!("governor {governors}")),
        ]));
    }
    let vulnerable: Vec<&str> = cpus
        .vulnerabilities
        .iter()
        .filter(|known| known.vulnerable)
        .map(|known| known.name.as_str())
        .collect();
    if !vulnerable.is_empty() {
        page.item(&format!("VULNERABLE: {}", vulnerable.join(", ")));
    }
    for package in cpus.packages.iter().filter(|package| !package.populated) {
        let socket = package.socket.clone().unwrap_or_else(|| "a socket".to_owned());
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
