//! How long a client may take over what it sends, and over what it is sent ([`super::sendfile`]). Pure: time is a duration since the request began.

use std::time::Duration;

/// A client sends and takes at least so much in every window, unless that is all there is: a tenth of the slowest modem's pace. One
/// that stands still for longer has been switched off.
pub(crate) const WINDOW: Duration = Duration::from_secs(30);
pub(crate) const WINDOW_BYTES: u64 = 16 * 1024;
/// For a whole body that is sent to us; as long as a peer waits for its answer.
const WHOLE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Pace {
    end: Duration,
    window_end: Duration,
    came: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            end: WHOLE,
            window_end: WINDOW,
            came: 0,
        }
    }
}

impl Pace {
    /// When the client is too slow, if nothing comes until then.
    pub(crate) fn deadline(&self) -> Duration {
        self.end.min(self.window_end)
    }

    /// Bytes came at `now`, and it took us `held_up` to put the last ones away, which is not the client's fault.
    pub(crate) fn came(&mut self, bytes: u64, held_up: Duration, now: Duration) {
        self.end += held_up;
        self.window_end += held_up;
        self.came = self.came.saturating_add(bytes);
        if self.came >= WINDOW_BYTES {
            self.came = 0;
            self.window_end = now + WINDOW;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until a client is let go that sends `bytes` each second.
    fn lasts(bytes: u64) -> u64 {
        let mut pace = Pace::default();
        let second = (1..1000).find(|second| {
            let late = SECOND * *second > pace.deadline();
            pace.came(bytes, Duration::ZERO, SECOND * *second);
            late
        });
        u64::from(second.unwrap()) - 1
    }

    #[test]
    fn one_that_drips_is_let_go_soon_and_a_slow_one_at_the_end() {
        assert_eq!(lasts(0), 30);
        assert_eq!(lasts(1), 30);
        assert_eq!(lasts(500), 30);
        assert_eq!(lasts(600), 300);
        assert_eq!(lasts(1 << 20), 300);
    }

    #[test]
    fn a_slow_stick_is_not_the_clients_fault() {
        let mut pace = Pace::default();
        pace.came(1, 20 * SECOND, 25 * SECOND);
        assert_eq!(pace.deadline(), 50 * SECOND);
        pace.came(16 * 1024, 10 * SECOND, 45 * SECOND);
        assert_eq!(pace.deadline(), 75 * SECOND);
    }
}
