//! Ending processes.

/// Ends every process of a group. One that is gone already is no error.
pub fn end_group(group: i32) {
    if group > 1 {
        // SAFETY: kill takes no pointers; the group is one this process made.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// Resident memory of this process in bytes, from /proc/self/status.
pub fn rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// True where being root is no remedy any more (geteuid(2)).
pub fn is_root() -> bool {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { libc::geteuid() == 0 }
}
