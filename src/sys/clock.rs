//! Wall clock and run clock, read here and handed on as numbers.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{RunTime, UnixTime};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Seconds since the epoch; 0 where the clock stands before it, as a dead RTC may.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Milliseconds since 1970 by the system clock; negative before.
pub(crate) fn unix_millis() -> i64 {
    let clamped = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => clamped(since.as_millis()),
        Err(before) => -clamped(before.duration().as_millis()),
    }
}

/// Seconds since this process first asked.
pub(crate) fn run_seconds() -> f64 {
    START.elapsed().as_secs_f64()
}

/// This moment of the run.
pub(crate) fn run_time() -> RunTime {
    RunTime::from_seconds(run_seconds())
}

/// This moment by the machine's clock; 1970 where it stands before that, as a dead RTC may.
pub(crate) fn unix_time() -> UnixTime {
    UnixTime::from_seconds(unix_seconds())
}
