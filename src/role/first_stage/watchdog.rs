//! The watchdog of a first stage: where this program no longer gets anything done, the machine starts again and asks its master, which sees
//! that it loops. Nobody may stand before it.
//!
//! The runtime that does the work feeds it, so that one that hangs does not; a worker that process 1 starts again goes on feeding. Whatever
//! ends in order stops it before: a stop, power off, a restart, another kernel (`sys/power.rs`, `sys/kexec.rs`, `cli/mod.rs`).

use std::path::Path;
use std::time::Duration;

use crate::model::console::console;
use crate::sys::watchdog;

/// Less time than this may pass without food on a machine that is merely slow.
const SHORTEST: Duration = Duration::from_secs(20);

/// How often one is fed of which the kernel says this (Documentation/ABI/testing/sysfs-class-watchdog; the timeout is in seconds).
///
/// # Errors
/// Why it is not started.
fn pause(nowayout: Option<&str>, timeout: Option<&str>) -> Result<Duration, String> {
    // It would go on under a kernel that nobody told to feed it.
    match nowayout {
        Some("0") => {}
        Some(_) => return Err("it cannot be stopped any more once it runs (nowayout)".to_owned()),
        None => return Err("the kernel does not say whether it can be stopped".to_owned()),
    }
    let timeout = timeout.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    match timeout {
        Some(timeout) if timeout >= SHORTEST => Ok(timeout / 4),
        Some(timeout) => Err(format!("it resets the machine after {} s already", timeout.as_secs())),
        None => Err("the kernel does not say after how long it resets the machine".to_owned()),
    }
}

pub(crate) fn is_there() -> bool {
    Path::new(watchdog::DEVICE).exists()
}

/// Starts the one there is, and feeds it from here on. To be called on the runtime that works; again does no harm.
pub(crate) async fn start() {
    if !is_there() {
        return;
    }
    let fact = |name: &str| watchdog::fact(name);
    let pause = match pause(fact("nowayout").as_deref(), fact("timeout").as_deref()) {
        Ok(pause) => pause,
        Err(why) => return tracing::info!(why, "the watchdog is left alone"),
    };
    match tokio::task::spawn_blocking(watchdog::start).await {
        Ok(Ok(true)) => {}
        // It is fed already.
        Ok(Ok(false)) | Err(_) => return,
        Ok(Err(error)) => return tracing::info!(%error, "the watchdog is left alone"),
    }
    tracing::info!(seconds = pause.as_secs(), "the watchdog is fed");
    tokio::spawn(async move {
        loop {
            match watchdog::feed() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => console!("feeding the watchdog: {error}"),
            }
            tokio::time::sleep(pause).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_can_be_stopped_and_leaves_time_is_started() {
        assert_eq!(pause(Some("0"), Some("60")), Ok(Duration::from_secs(15)));
        assert_eq!(pause(Some("0"), Some("20")), Ok(Duration::from_secs(5)));
        for (nowayout, timeout, why) in [
            (Some("1"), Some("60"), "nowayout"),
            (None, Some("60"), "does not say whether"),
            (Some(""), Some("60"), "nowayout"),
            (Some("0"), Some("19"), "after 19 s already"),
            (Some("0"), Some("0"), "after 0 s already"),
            (Some("0"), None, "after how long"),
            (Some("0"), Some("-1"), "after how long"),
        ] {
            let said = pause(nowayout, timeout).unwrap_err();
            assert!(said.contains(why), "{nowayout:?} {timeout:?}: {said}");
        }
    }
}
