//! How long to wait between tries of what an HTTP server does not take or give. Pure.

use std::time::Duration;

/// Doubles from 1 s to 60 s and stays there, for ever. `noise` in 0..1 takes up to a quarter off, so that machines that
/// lost one master together do not come back together.
pub(crate) fn wait(tries: u32, noise: f64) -> Duration {
    let seconds = 2f64.powi(tries.min(6) as i32).min(60.0);
    Duration::from_secs_f64((seconds * (1.0 - noise.clamp(0.0, 1.0) / 4.0)).max(1.0))
}

/// Longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// What an answer other than "taken" means, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The same bytes will not be taken later either (RFC 9110 §15.5).
    Permanent,
    /// They may be, not before `retry_after` where the server said when (RFC 9110 §10.2.3).
    Transient { retry_after: Option<Duration> },
}

impl Failure {
    /// No answer at all.
    pub(crate) const NO_ANSWER: Failure = Failure::Transient { retry_after: None };

    /// `status`: of an answer that is no success. Time-outs (408), Too Early (425) and Too Many Requests (429, RFC 6585) are
    /// of the moment, and so is whatever is the server's own fault.
    pub(crate) fn of(status: u16, retry_after_seconds: Option<u64>) -> Self {
        if (400..=499).contains(&status) && !matches!(status, 408 | 425 | 429) {
            return Failure::Permanent;
        }
        let retry_after = retry_after_seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        Failure::Transient { retry_after }
    }

    /// How long to wait after this many tries.
    pub(crate) fn wait(self, tries: u32, noise: f64) -> Duration {
        let own = wait(tries, noise);
        match self {
            // What was asked for, and a little more for each machine, so that they do not all come at once.
            Failure::Transient {
                retry_after: Some(after),
            } => own.max(after + after.mul_f64(noise.clamp(0.0, 1.0) / 4.0)),
            _ => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_one_second_to_a_minute() {
        let waits: Vec<f64> = [0, 1, 2, 5, 6, 7, u32::MAX]
            .iter()
            .map(|tries| wait(*tries, 0.0).as_secs_f64())
            .collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 32.0, 60.0, 60.0, 60.0]);
        assert_eq!(wait(6, 1.0).as_secs_f64(), 45.0);
        assert_eq!(wait(0, 1.0).as_secs_f64(), 1.0);
    }

    #[test]
    fn what_is_refused_is_told_from_what_may_be_taken_later() {
        for status in [400, 401, 404, 405, 409, 411, 413, 422, 431] {
            assert_eq!(Failure::of(status, Some(7)), Failure::Permanent, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 507, 302, 200] {
            assert_eq!(Failure::of(status, None), Failure::NO_ANSWER, "{status}");
        }
        let asked = Failure::of(503, Some(30));
        assert_eq!(asked.wait(0, 0.0), Duration::from_secs(30));
        assert_eq!(asked.wait(0, 1.0), Duration::from_millis(37_500));
        assert_eq!(
            asked.wait(9, 0.0),
            Duration::from_secs(60),
            "our own wait where it is longer"
        );
        assert_eq!(Failure::of(429, Some(u64::MAX)).wait(0, 0.0), MAX_RETRY_AFTER);
    }
}
