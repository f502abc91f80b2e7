//! Process 1 of the first stage: an initrd that holds this program and little else.
//!
//! It mounts what a system has, keeps the disks read-only as they appear, starts this program once more to do the work, takes the ends of
//! all processes, and starts the work again where it ended. It never ends itself, whatever happens: the kernel would panic.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::model::console::console;
use crate::role::guard;
use crate::sys::console::drain;
use crate::sys::{init, power, process, program};

/// Where the worker's log goes, anew at each start. It says little, so it stays small.
const LOG: &str = "/run/recon.log";
/// That of the worker before.
const OLD_LOG: &str = "/run/recon.log.1";
/// What the worker finds programs by.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Pause before the work is begun again.
const AGAIN: Duration = Duration::from_secs(5);
/// Everything has this long to end before the machine restarts.
const END: Duration = Duration::from_secs(3);
/// A master's figure: more than any port of this machine needs.
const OPEN_FILES: u64 = 65_536;

/// What is done before any other thread is started, so that all have it.
pub(crate) fn begin() {
    let unmounted = init::mount_all();
    // Words have a way from here on; before, there is none.
    let _ = init::leave_console();
    let _ = init::hold_ctrl_alt_del();
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
    watch_ctrl_alt_del();
    watch_disks();
    loop {
        match work() {
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
}

/// Starts the worker and waits for its end; the ends of others are taken meanwhile.
fn work() -> std::io::Result<std::process::ExitStatus> {
    // There is none before the first.
    let _ = std::fs::rename(LOG, OLD_LOG);
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

fn watch_ctrl_alt_del() {
    let watch = || {
        if init::wait_for_ctrl_alt_del().is_err() {
            return;
        }
        console!("Ctrl-Alt-Del: restarting");
        drain();
        init::signal_all(libc::SIGTERM);
        std::thread::sleep(END);
        let _ = power::restart();
    };
    let heard = power::hear_ctrl_alt_del();
    let watched = heard.and_then(|()| std::thread::Builder::new().name("ctrl-alt-del".to_owned()).spawn(watch));
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
}
