//! What systemd hears of this process (sd_notify(3)); outside of systemd nothing happens.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A failure only costs the notice.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "notifying systemd");
    }
}

/// This process serves, or reports as somebody's peer. Nothing is watched until a [`Watchdog`] starts.
pub(crate) fn ready(status: &str) {
    notify(&[
        NotifyState::WatchdogUsec(0),
        NotifyState::Ready,
        NotifyState::Status(status),
    ]);
}

pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// As long as this lives, systemd restarts the process when nobody feeds it for the time that `WatchdogSec=` of its unit says.
pub(crate) struct Watchdog {
    limit: Option<Duration>,
    fed: Option<Instant>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let limit = sd_notify::watchdog_enabled();
        if let Some(limit) = limit {
            // What systemd takes is bounded by this number's size, about 71 minutes.
            let usec = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
            notify(&[NotifyState::WatchdogUsec(usec), NotifyState::Watchdog]);
        }
        Watchdog { limit, fed: None }
    }

    /// To be called as often as one likes: systemd hears of it eight times within its limit.
    pub(crate) fn feed(&mut self, now: Instant) {
        let is_due = |limit: Duration| self.fed.is_none_or(|fed| now.duration_since(fed) >= limit / 8);
        if self.limit.is_some_and(is_due) {
            self.fed = Some(now);
            notify(&[NotifyState::Watchdog]);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if self.limit.is_some() {
            notify(&[NotifyState::WatchdogUsec(0)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// What a service does, where a service's environment is: started by the test below.
    #[test]
    #[ignore = "started by the other one, as a unit would be"]
    fn as_a_unit() {
        let start = Instant::now();
        ready("peer");
        let mut watchdog = Watchdog::start();
        // Half a second each.
        (0..9).for_each(|n| watchdog.feed(start + Duration::from_millis(500) * n));
        drop(watchdog);
        stopping();
    }

    fn heard(limit: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut unit = std::process::Command::new(std::env::current_exe().unwrap());
        unit.args(["--exact", &format!("{module}::as_a_unit"), "--ignored"])
            .env("NOTIFY_SOCKET", &path)
            .env_remove("WATCHDOG_PID")
            .env_remove("WATCHDOG_USEC")
            .envs(limit.map(|limit| ("WATCHDOG_USEC", limit)));
        assert!(unit.output().unwrap().status.success());
        let mut buffer = [0; 200];
        let words = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        words.map(|words| String::from_utf8(words).unwrap()).collect()
    }

    #[test]
    fn the_watchdog_watches_while_it_lives_and_only_then() {
        let before = "WATCHDOG_USEC=0\nREADY=1\nSTATUS=peer\n";
        assert_eq!(heard(None), [before, "STOPPING=1\n"]);
        let mut watched = vec![before, "WATCHDOG_USEC=8000000\nWATCHDOG=1\n"];
        watched.extend(["WATCHDOG=1\n"; 5]);
        watched.extend(["WATCHDOG_USEC=0\n", "STOPPING=1\n"]);
        assert_eq!(heard(Some("8000000")), watched);
    }
}
