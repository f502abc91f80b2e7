//! Wall clock and run clock, read here and handed on as values.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::{RunTime, UnixTime};

use super::checked;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since 1970 by the system clock; negative before.
pub(crate) fn unix_millis() -> i64 {
    let clamped = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => clamped(since.as_millis()),
        Err(before) => -clamped(before.duration().as_millis()),
    }
}

/// Sets the system's clock, in seconds since 1970; the one that goes on while the machine is off is left as it is.
pub(crate) fn set(seconds: i64) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    // SAFETY: the time outlives the call.
    checked(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) }).map(drop)
}

/// This moment of the run, which began when this process first asked.
pub(crate) fn run_time() -> RunTime {
    RunTime::from_seconds(START.elapsed().as_secs_f64())
}

/// How long this system has been running.
pub(crate) fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time outlives the call. Every Linux has this clock (clock_gettime(2)), so that nothing is lost with the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::from_secs(time.tv_sec.unsigned_abs())
}

/// This moment by the machine's clock; 1970 where it stands before that, as a dead RTC may.
pub(crate) fn unix_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime::from_seconds(since.map_or(0, |time| time.as_secs()))
}
