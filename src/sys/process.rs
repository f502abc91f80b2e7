//! This process, and the end of others.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Ends every process of a group. One that is gone already is no error.
pub fn end_group(group: i32) {
    if group > 1 {
        // SAFETY: kill takes no pointers; the group is one this process made.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// Lets the kernel take every other process before this one when memory runs short (proc_pid_oom_score_adj(5)).
pub fn spare_from_oom(process: u32) {
    // It may be gone already; then there is nothing to spare.
    let _ = std::fs::write(format!("/proc/{process}/oom_score_adj"), "-900");
}

/// How many files this process may have open, after asking for as many as it may ask for (getrlimit(2)).
pub fn open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is ours and outlives the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            // What every Linux process has (proc_pid_limits(5)).
            return 1024;
        }
        let mut more = limit;
        more.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &more) == 0 {
            limit = more;
        }
    }
    limit.rlim_cur
}

/// Resident memory of this process in bytes.
pub fn rss_bytes() -> Option<u64> {
    let this = sysinfo::get_current_pid().ok()?;
    let mut system = System::new().ok()?;
    let memory = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[this]), false, memory);
    Some(system.process(this)?.memory())
}

/// True where being root is no remedy any more (geteuid(2)).
pub fn is_root() -> bool {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { libc::geteuid() == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_what_the_kernel_says() {
        let ours = rss_bytes().unwrap();
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kernel: u64 = line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap();
        // Other tests run in this process meanwhile.
        assert!((kernel * 512..kernel * 2048).contains(&ours), "{ours} of {kernel} KiB");
    }
}
