//! Runs a program that is not ours so that nothing of it outlives it, and so that it cannot end us.
//!
//! Between us and the program stands a keeper: a process of ours that blocks every signal and only waits. Where the kernel
//! lets us (CAP_SYS_ADMIN), the program gets a PID namespace, in which our processes have no number and whose end is the end
//! of all in it, whatever sessions they made (pid_namespaces(7)), and a mount namespace. Elsewhere the keeper is the
//! subreaper of what loses its parent (prctl(2)), and what descends from it is looked for in /proc. A control group, where
//! one can be made, bounds processes and memory either way.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// What the program may have.
#[derive(Debug, Clone, Copy)]
pub struct Fence {
    /// Processes and threads at once; never more than half of what the kernel has numbers for. Further ones are refused to
    /// the program.
    pub processes: u64,
    /// Memory that is left to us. Who wants more is ended by the kernel.
    pub spare_bytes: u64,
}

/// Set in the program's environment, so that a process is known for one of it when its parents are gone.
const MARK: &str = "RECON_FENCED";
const GROUPS: &str = "/sys/fs/cgroup";
/// Names of control groups begin so; the number of the process that made it follows.
const GROUP: &str = "recon-fenced-";
/// How long what is killed may take to be gone. A process that a device holds in the kernel does not die.
const GONE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Out of 1000, beside what it has by itself: of all processes, the kernel ends the program first where memory runs out.
const OOM_SCORE: &[u8] = b"500";
/// Largest environment that is looked through for the mark.
const MAX_ENVIRON_BYTES: u64 = 1 << 20;

/// A program behind its fence.
#[derive(Debug)]
pub(crate) struct Fenced {
    keeper: tokio::process::Child,
    /// Standard output and error, in one.
    output: Receiver,
    status: Receiver,
    /// The keeper ends everything when this is closed.
    life: Option<OwnedFd>,
    mark: String,
    groups: Groups,
}

/// What the forked processes need; made before the fork, because nothing may be allocated behind it.
struct Plan {
    status: RawFd,
    life: RawFd,
    joins: Vec<CString>,
}

/// Starts `command` without input. Blocks until the program runs or could not be started.
pub(crate) fn start(mut command: Command, fence: Fence) -> io::Result<Fenced> {
    let (output, writer) = io::pipe()?;
    let (status, tells) = io::pipe()?;
    let (lives, life) = io::pipe()?;
    let mark = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
    let groups = Groups::make(fence, &mark);
    let plan = Plan {
        status: tells.as_raw_fd(),
        life: lives.as_raw_fd(),
        joins: groups.joins(),
    };
    command
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    // SAFETY: between fork and exec only calls that signal-safety(7) allows are made, and nothing is allocated.
    unsafe { command.pre_exec(move || part(&plan)) };
    let mut command = tokio::process::Command::from(command);
    let keeper = command.kill_on_drop(true).spawn()?;
    // Our copies of the other ends go with the command and here, so that their last holder's end is seen.
    drop((command, tells, lives));
    Ok(Fenced {
        keeper,
        output: Receiver::from_owned_fd(output.into())?,
        status: Receiver::from_owned_fd(status.into())?,
        life: Some(life.into()),
        mark,
        groups,
    })
}

impl Fenced {
    /// What the program says, and a wait for its own end, not for that of what it left behind: `None` if all of it was ended
    /// without a status. The wait may be dropped and asked for again.
    pub(crate) fn parts(&mut self) -> (&mut Receiver, impl Future<Output = Option<ExitStatus>>) {
        let status = &mut self.status;
        let ended = async move {
            let mut raw = [0; 4];
            // Written in one piece.
            status.read_exact(&mut raw).await.ok()?;
            Some(ExitStatus::from_raw(i32::from_ne_bytes(raw)))
        };
        (&mut self.output, ended)
    }

    /// Lets the keeper go on if the program stopped it, which no process can block. To be called now and then.
    pub(crate) fn go_on(&self) {
        if let Some(keeper) = self.keeper.id().and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: kill takes no pointers, and the process is a child that was not waited for.
            unsafe { libc::kill(keeper, libc::SIGCONT) };
        }
    }

    pub(crate) fn output(&self) -> &Receiver {
        &self.output
    }

    /// Ends whatever is left of the program, and tells how many processes would not go.
    pub(crate) async fn end(mut self) -> usize {
        let keeper = self.keeper.id().and_then(|id| i32::try_from(id).ok());
        let deadline = Instant::now() + GONE_LIMIT;
        // First what the keeper would lose sight of when it ends.
        let mut left = self.kill_all(keeper).len();
        while left > 0 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
            left = self.kill_all(keeper).len();
        }
        drop(self.life.take());
        self.go_on();
        if tokio::time::timeout(GONE_LIMIT, self.keeper.wait()).await.is_err() {
            self.keeper.start_kill().ok();
        }
        let left = self.kill_all(None).len();
        self.groups.remove();
        left
    }

    /// Ends every process of the program that can be found, and names them.
    fn kill_all(&self, keeper: Option<i32>) -> Vec<i32> {
        let mut found = keeper.map(descendants).unwrap_or_default();
        found.extend(marked(&self.mark));
        found.extend(self.groups.members());
        found.sort_unstable();
        found.dedup();
        let ours = i32::try_from(std::process::id()).unwrap_or(0);
        found.retain(|pid| *pid > 1 && *pid != ours && Some(*pid) != keeper);
        for pid in &found {
            // SAFETY: kill takes no pointers.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        found
    }
}

/// The numbers under /proc.
fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State and parent of a process (proc_pid_stat(5)).
fn parent(stat: &str) -> Option<(&str, i32)> {
    // The name in front may hold anything, brackets too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?, fields.next()?.parse().ok()?))
}

fn descendants(root: i32) -> Vec<i32> {
    let of = |pid: i32| {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        let (state, parent) = parent(&stat)?;
        // One that has ended and waits for its parent to look is gone.
        (!matches!(state, "Z" | "X")).then_some((pid, parent))
    };
    let all: Vec<(i32, i32)> = processes().filter_map(of).collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

fn marked(mark: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={mark}");
    let has = |pid: &i32| {
        use std::io::Read;
        let mut environ = Vec::new();
        let read = std::fs::File::open(format!("/proc/{pid}/environ"))
            .and_then(|file| file.take(MAX_ENVIRON_BYTES).read_to_end(&mut environ));
        read.is_ok() && environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
    };
    processes().filter(has).collect()
}

/// Control groups of this run, of version 2 or of the controllers of version 1 (cgroups(7)).
#[derive(Debug, Default)]
struct Groups(Vec<PathBuf>);

impl Groups {
    /// Empty where none may be made.
    fn make(fence: Fence, mark: &str) -> Self {
        let root = Path::new(GROUPS);
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let numbers = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];
        let processes = numbers.iter().filter_map(|path| number(path)).map(|all| all / 2);
        let processes = processes.fold(fence.processes, u64::min);
        let memory = memory_bytes().map(|all| all.saturating_sub(fence.spare_bytes).max(all / 2));
        let name = format!("{GROUP}{mark}");
        let mut groups = Groups::default();
        let mut group = |folder: &Path, limits: &[(&str, Option<u64>)]| {
            let folder = folder.join(&name);
            if std::fs::create_dir(&folder).is_err() {
                return;
            }
            for (file, limit) in limits {
                if let Some(limit) = limit
                    && let Err(error) = std::fs::write(folder.join(file), limit.to_string())
                {
                    tracing::debug!(folder = %folder.display(), file, %error, "a bound of a control group");
                }
            }
            groups.0.push(folder);
        };
        if root.join("cgroup.controllers").exists() {
            // systemd has them on; without it nobody did.
            std::fs::write(root.join("cgroup.subtree_control"), "+pids +memory").ok();
            group(root, &[("pids.max", Some(processes)), ("memory.max", memory)]);
        } else {
            group(&root.join("pids"), &[("pids.max", Some(processes))]);
            group(&root.join("memory"), &[("memory.limit_in_bytes", memory)]);
        }
        groups
    }

    fn joins(&self) -> Vec<CString> {
        let procs = self.0.iter().map(|folder| folder.join("cgroup.procs"));
        procs
            .filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok())
            .collect()
    }

    fn members(&self) -> Vec<i32> {
        let texts = self
            .0
            .iter()
            .filter_map(|folder| std::fs::read_to_string(folder.join("cgroup.procs")).ok());
        texts
            .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    fn remove(&self) {
        for folder in &self.0 {
            // Refused while a process is in it that would not go; it costs nothing.
            std::fs::remove_dir(folder).ok();
        }
    }
}

/// Ends what earlier processes of ours left in control groups because they were ended before they could.
pub(crate) fn end_left_behind() {
    for folder in ["", "pids", "memory"] {
        clear_stale(&Path::new(GROUPS).join(folder));
    }
}

fn clear_stale(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix(GROUP)?.split('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|maker| !Path::new(&format!("/proc/{maker}")).exists()) {
            let stale = Groups(vec![entry.path()]);
            for pid in stale.members() {
                // SAFETY: kill takes no pointers.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            // One whose processes are still going is removed by the next.
            stale.remove();
        }
    }
}

/// Memory of this machine, from /proc/meminfo.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Behind the fork: this process becomes the keeper and never returns; a child of it returns, and becomes the program.
fn part(plan: &Plan) -> io::Result<()> {
    // SAFETY: plain system calls on integers, on structures of our own, and on strings that were made before the fork.
    unsafe {
        libc::setsid();
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, &mut before);
        let walled = libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) == 0;
        if !walled {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        }
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            child => keep(plan, child, walled),
        }
        // It ends with the keeper, whoever ends that.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        write_once(c"/proc/self/oom_score_adj", OOM_SCORE);
        for path in &plan.joins {
            write_once(path, b"0");
        }
        if walled {
            // What is mounted here stays here; what others mount is seen. /proc tells of this namespace alone, unless that
            // would reach ours.
            let (root, nothing) = (c"/".as_ptr(), std::ptr::null());
            let apart = libc::MS_REC | libc::MS_SLAVE;
            if libc::mount(c"none".as_ptr(), root, std::ptr::null(), apart, nothing) == 0 {
                let (proc, flags) = (c"proc".as_ptr(), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC);
                libc::mount(proc, c"/proc".as_ptr(), proc, flags, nothing);
            }
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                child => first(plan, child),
            }
        }
        // Of its own session, so that a signal to a group reaches only what is the program's.
        libc::setsid();
        libc::sigprocmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
    Ok(())
}

/// The first process of the namespace: takes in who lost its parent, tells how the program ended, and with its own end ends
/// the rest.
unsafe fn first(plan: &Plan, program: i32) -> ! {
    // SAFETY: as in `part`.
    unsafe {
        close_all_but(plan.status, plan.status);
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &mut status, 0);
            if ended == program {
                tell(plan.status, status);
            }
            if ended == program || (ended < 0 && *libc::__errno_location() != libc::EINTR) {
                libc::_exit(0);
            }
        }
    }
}

/// Waits until nothing is left, or until it is told to end what is.
unsafe fn keep(plan: &Plan, child: i32, walled: bool) -> ! {
    // SAFETY: as in `part`.
    unsafe {
        if walled {
            close_all_but(plan.life, plan.life);
        } else {
            close_all_but(plan.life.min(plan.status), plan.life.max(plan.status));
        }
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &mut status, libc::WNOHANG);
            if ended == child && !walled {
                tell(plan.status, status);
            }
            if ended < 0 {
                libc::_exit(0);
            }
            if ended > 0 {
                continue;
            }
            let mut life = libc::pollfd {
                fd: plan.life,
                events: libc::POLLIN,
                revents: 0,
            };
            if libc::poll(&mut life, 1, 20) > 0 {
                libc::kill(child, libc::SIGKILL);
                if !walled {
                    libc::kill(-child, libc::SIGKILL);
                    libc::_exit(0);
                }
                // All of the namespace are gone when its first process is.
                libc::waitpid(child, &mut status, 0);
                libc::_exit(0);
            }
        }
    }
}

unsafe fn tell(pipe: RawFd, status: i32) {
    let bytes = status.to_ne_bytes();
    // SAFETY: the bytes outlive the call; four of them are taken whole or not at all (pipe(7)).
    unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
}

/// Writes where it can be written; a bound that the kernel does not take is one less.
unsafe fn write_once(path: &std::ffi::CStr, bytes: &[u8]) {
    // SAFETY: a NUL-terminated path and bytes that outlive the calls.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, bytes.as_ptr().cast(), bytes.len());
            libc::close(file);
        }
    }
}

/// Closes every descriptor but two, `low` ≤ `high`: what this process held open, nobody would see end.
unsafe fn close_all_but(low: RawFd, high: RawFd) {
    /// More than a kernel before 5.9, without close_range(2), is asked to close one by one.
    const MANY: RawFd = 1024;
    let close = |first: RawFd, last: RawFd| {
        if first > last {
            return;
        }
        // SAFETY: descriptors of this forked process, which nothing of it uses any more.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
                for one in first..=last.min(MANY) {
                    libc::close(one);
                }
            }
        }
    };
    close(0, low - 1);
    close(low + 1, high - 1);
    close(high + 1, RawFd::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("7 (a) R 1) S 42 7 7"), Some(("S", 42)));
        assert_eq!(parent("7 (sh"), None);
    }
}
