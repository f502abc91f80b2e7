//! Process 1 of the first stage: an initrd that holds this program and little else.
//!
//! It mounts what a system has, keeps the disks read-only as they appear, starts this program once more to do the work, takes the ends of
//! all processes, and starts the work again where it ended, in whatever way; the console says why it ended. It never ends itself: the kernel
//! would panic, and restart the machine half a minute later (`panic=30` on every kernel line of ours). There is no shell.
//!
//! Ctrl-Alt-Del or SIGTERM restarts the machine, SIGPWR powers it off, both in the order of [`end`].

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::formats::image::INIT;
use crate::model::console::console;
use crate::role::boot_from::run::READING;
use crate::role::guard;
use crate::role::node::HANDED_OVER;
use crate::sys::console::drain;
use crate::sys::{init, power, process, program, watchdog};

/// Where the worker's log goes, anew at each start. It says little, so it stays small.
const LOG: &str = "/run/recon.log";
/// That of the worker before.
const OLD_LOG: &str = "/run/recon.log.1";
/// What the worker finds programs by.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Pause before the work is begun again.
const AGAIN: Duration = Duration::from_secs(5);
/// The worker has this long to end when it is asked to, and this long when it is no longer asked.
const END: Duration = Duration::from_secs(3);
const KILLED: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);
/// A master's figure: more than any port of this machine needs.
const OPEN_FILES: u64 = 65_536;

/// The machine is about to end: nothing is begun any more.
static ENDING: AtomicBool = AtomicBool::new(false);
/// There is a worker.
static AT_WORK: AtomicBool = AtomicBool::new(false);

/// What is done before any other thread is started, so that all have it.
pub(crate) fn begin() {
    let unmounted = init::mount_all();
    // Words have a way from here on; before, there is none.
    let _ = init::leave_console();
    let _ = init::hold_end_signals();
    console!("first stage of recon {}", env!("CARGO_PKG_VERSION"));
    for (place, error) in unmounted {
        console!("mounting {place}: {error}");
    }
}

/// Works for ever.
pub(crate) fn run() -> ! {
    if let Err(error) = init::allow_open_files(OPEN_FILES) {
        console!("allowing {OPEN_FILES} open files: {error}");
    }
    watch_end();
    watch_disks();
    while !ENDING.load(Ordering::SeqCst) {
        let ended = work();
        AT_WORK.store(false, Ordering::SeqCst);
        if let Some(root) = handed_over(&ended).filter(|_| !ENDING.load(Ordering::SeqCst)) {
            go_to(&root);
        }
        match ended {
            _ if ENDING.load(Ordering::SeqCst) => break,
            Ok(how) => console!(
                "recon ended ({how}{}); it starts again in {} s",
                last_words(),
                AGAIN.as_secs()
            ),
            Err(error) => console!(
                "recon could not be started ({error}); next try in {} s",
                AGAIN.as_secs()
            ),
        }
        std::thread::sleep(AGAIN);
    }
    loop {
        // Whoever is left; the machine ends meanwhile.
        if init::reap().is_err() {
            std::thread::sleep(STEP);
        }
    }
}

/// The root of the system that the worker made in this one's place, where it ended well after that.
fn handed_over(ended: &std::io::Result<std::process::ExitStatus>) -> Option<PathBuf> {
    let is_well = ended.as_ref().is_ok_and(std::process::ExitStatus::success);
    let root = std::fs::read_to_string(HANDED_OVER).ok().filter(|_| is_well)?;
    Some(PathBuf::from(root.trim_end()))
}

/// Leaves the machine to the system in this root. Returns only where that fails.
fn go_to(root: &Path) {
    // The programs of this system would go on in that one.
    for (signal, limit) in [(libc::SIGTERM, KILLED), (libc::SIGKILL, KILLED)] {
        init::signal_all(signal);
        std::thread::sleep(limit);
    }
    if let Err(error) = watchdog::stop_left() {
        console!("the watchdog goes on: {error}");
    }
    drain();
    let error = init::switch_root(root, INIT);
    // What there was of this system may be gone already.
    console!(
        "{INIT} of the node's system could not be started: {error}; this machine starts again in {} s",
        READING.as_secs()
    );
    std::thread::sleep(READING);
    if let Err(error) = power::restart() {
        console!("it could not be done: {error}");
    }
}

/// Starts the worker and waits for its end; the ends of others are taken meanwhile.
fn work() -> std::io::Result<std::process::ExitStatus> {
    // There is none before the first.
    let _ = std::fs::rename(LOG, OLD_LOG);
    // A worker before that failed after it had one.
    let _ = std::fs::remove_file(HANDED_OVER);
    let log = OpenOptions::new().write(true).create(true).truncate(true).open(LOG);
    let log = || {
        log.as_ref()
            .ok()
            .and_then(|log| log.try_clone().ok())
            .map_or_else(Stdio::null, Stdio::from)
    };
    let worker = program::this()
        .args(["run", "--first-stage"])
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log())
        .stderr(log())
        .spawn()?;
    AT_WORK.store(true, Ordering::SeqCst);
    // Memory that runs short is taken from the site's workload first.
    process::spare_from_oom(worker.id());
    loop {
        match init::reap() {
            Ok((child, how)) if child == worker.id() => return Ok(how),
            Ok(_) => {}
            // Two workers must not be.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The last line of the worker's log, which says why it ended.
fn last_words() -> String {
    let log = std::fs::read(LOG).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let line = log.lines().rev().find(|line| !line.trim().is_empty());
    line.map(|line| format!("; {line}")).unwrap_or_default()
}

/// Does not return before no disk can be missed.
fn watch_disks() {
    let (heard, hears) = mpsc::channel();
    let watch = move || {
        // It goes on whatever happens: a disk that nobody guards is what must not be.
        loop {
            let hears = || {
                let _ = heard.send(());
            };
            let ended = std::panic::catch_unwind(|| guard::protect_as_they_come(hears));
            if let Ok(Err(error)) = ended {
                console!("disks that appear are not set read-only at once: {error}; trying again");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    if let Err(error) = std::thread::Builder::new().name("disks".to_owned()).spawn(watch) {
        console!("disks are not watched: {error}");
    }
    // Drivers of disks are loaded by the worker, so nothing is missed before it hears.
    let _ = hears.recv();
}

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Restart,
    PowerOff,
}

/// What happens to a machine that ends, as [`end`] orders it.
trait Machine {
    fn say(&mut self, words: &str);
    /// All processes but the first get it.
    fn signal_all(&mut self, signal: libc::c_int);
    fn is_at_work(&self) -> bool;
    fn rest(&mut self, pause: Duration);
    /// Of a worker that did not do it.
    fn stop_watchdog(&mut self);
    /// Writes out what is cached, too. Returns only on failure.
    fn leave(&mut self, how: How) -> std::io::Result<()>;
}

/// The worker is asked to end and stops its watchdog by that; who does not is ended. Only then the machine goes.
fn end(machine: &mut impl Machine, signal: libc::c_int) {
    let (how, words) = match signal {
        libc::SIGPWR => (How::PowerOff, "SIGPWR: powering off"),
        libc::SIGINT => (How::Restart, "Ctrl-Alt-Del: restarting"),
        _ => (How::Restart, "SIGTERM: restarting"),
    };
    machine.say(words);
    for (signal, limit) in [(libc::SIGTERM, END), (libc::SIGKILL, KILLED)] {
        machine.signal_all(signal);
        let mut waited = Duration::ZERO;
        while machine.is_at_work() && waited < limit {
            machine.rest(STEP);
            waited += STEP;
        }
    }
    machine.stop_watchdog();
    if let Err(error) = machine.leave(how) {
        machine.say(&format!("it could not be done: {error}"));
    }
}

struct ThisMachine;

impl Machine for ThisMachine {
    fn say(&mut self, words: &str) {
        console!("{words}");
        drain();
    }

    fn signal_all(&mut self, signal: libc::c_int) {
        init::signal_all(signal);
    }

    fn is_at_work(&self) -> bool {
        AT_WORK.load(Ordering::SeqCst)
    }

    fn rest(&mut self, pause: Duration) {
        std::thread::sleep(pause);
    }

    fn stop_watchdog(&mut self) {
        if let Err(error) = watchdog::stop_left() {
            self.say(&format!("the watchdog goes on: {error}"));
        }
    }

    fn leave(&mut self, how: How) -> std::io::Result<()> {
        match how {
            How::Restart => power::restart(),
            How::PowerOff => power::off_at_once(),
        }
    }
}

fn watch_end() {
    let watch = || {
        while let Ok(signal) = init::wait_for_end() {
            ENDING.store(true, Ordering::SeqCst);
            end(&mut ThisMachine, signal);
        }
    };
    let heard = power::hear_ctrl_alt_del();
    let watched = heard.and_then(|()| std::thread::Builder::new().name("end".to_owned()).spawn(watch));
    if let Err(error) = watched {
        console!("listening for Ctrl-Alt-Del: {error}");
    }
}

/// True where this process is the first one of an initrd of ours, which names it `init`.
pub fn is_init(process: u32, program: Option<&str>) -> bool {
    process == 1
        && program
            .and_then(|program| Path::new(program).file_name())
            .is_some_and(|name| name == "init")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_process_1_by_that_name_is_init() {
        assert!(is_init(1, Some("/init")) && is_init(1, Some("init")));
        assert!(!is_init(2, Some("/init")) && !is_init(1, Some("/usr/bin/recon")) && !is_init(1, None));
    }

    /// A worker that ends when it gets this signal.
    struct Told {
        said: Vec<String>,
        obeys: Option<libc::c_int>,
        at_work: bool,
        rested: Duration,
    }

    impl Machine for Told {
        fn say(&mut self, words: &str) {
            self.said.push(words.to_owned());
        }

        fn signal_all(&mut self, signal: libc::c_int) {
            self.at_work &= self.obeys != Some(signal);
            self.said.push(format!("signal {signal}"));
        }

        fn is_at_work(&self) -> bool {
            self.at_work
        }

        fn rest(&mut self, pause: Duration) {
            self.rested += pause;
        }

        fn stop_watchdog(&mut self) {
            self.said.push("watchdog stopped".to_owned());
        }

        fn leave(&mut self, how: How) -> std::io::Result<()> {
            self.said.push(format!("{how:?}"));
            Err(std::io::Error::from_raw_os_error(libc::EPERM))
        }
    }

    #[test]
    fn a_machine_ends_in_order() {
        let (term, kill) = (format!("signal {}", libc::SIGTERM), format!("signal {}", libc::SIGKILL));
        for (signal, words, how) in [
            (libc::SIGINT, "Ctrl-Alt-Del: restarting", "Restart"),
            (libc::SIGTERM, "SIGTERM: restarting", "Restart"),
            (libc::SIGPWR, "SIGPWR: powering off", "PowerOff"),
        ] {
            // One that obeys costs no time, one that hangs its limit, and one in the kernel that nothing ends a little more.
            for (obeys, rested) in [
                (Some(libc::SIGTERM), Duration::ZERO),
                (Some(libc::SIGKILL), END),
                (None, END + KILLED),
            ] {
                let mut machine = Told {
                    said: Vec::new(),
                    obeys,
                    at_work: true,
                    rested: Duration::ZERO,
                };
                end(&mut machine, signal);
                let failed = "it could not be done: Operation not permitted (os error 1)";
                assert_eq!(machine.said, [words, &term, &kill, "watchdog stopped", how, failed]);
                assert_eq!(machine.rested, rested, "{obeys:?}");
            }
        }
    }
}
