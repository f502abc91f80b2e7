//! How long a client may take over what it sends. Pure: time is a duration since the request began.

use std::time::Duration;

/// What is asked of a client that sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The whole body; as long as a peer waits for its answer.
    pub whole: Duration,
    /// It sends at least `bytes` in every `window`, unless that is all there is. As little as one is asked to take
    /// ([`crate::service::http::sendfile::StallLimit`]).
    pub window: Duration,
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            whole: Duration::from_secs(300),
            window: Duration::from_secs(30),
            bytes: 16 * 1024,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pace {
    limits: Limits,
    end: Duration,
    window_end: Duration,
    came: u64,
}

impl Pace {
    pub(crate) fn new(limits: Limits) -> Self {
        Pace {
            limits,
            end: limits.whole,
            window_end: limits.window,
            came: 0,
        }
    }

    /// When the client is too slow, if nothing comes until then.
    pub(crate) fn deadline(&self) -> Duration {
        self.end.min(self.window_end)
    }

    /// Bytes came at `now`, and it took us `held_up` to put the last ones away, which is not the client's fault.
    pub(crate) fn came(&mut self, bytes: u64, held_up: Duration, now: Duration) {
        self.end += held_up;
        self.window_end += held_up;
        self.came = self.came.saturating_add(bytes);
        if self.came >= self.limits.bytes {
            self.came = 0;
            self.window_end = now + self.limits.window;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until a client is let go that sends `bytes` each second.
    fn lasts(bytes: u64) -> u64 {
        let mut pace = Pace::new(Limits::default());
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
        let mut pace = Pace::new(Limits::default());
        pace.came(1, 20 * SECOND, 25 * SECOND);
        assert_eq!(pace.deadline(), 50 * SECOND);
        pace.came(16 * 1024, 10 * SECOND, 45 * SECOND);
        assert_eq!(pace.deadline(), 75 * SECOND);
    }
}
