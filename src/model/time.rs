//! The two clocks that decisions are given: one that only goes on, and the one people read.

use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// A moment of this run, in seconds since its beginning. Nobody sets this clock, so what is due is reckoned with it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct RunTime(f64);

impl RunTime {
    pub const fn from_seconds(seconds: f64) -> Self {
        Self(seconds)
    }

    pub const fn seconds(self) -> f64 {
        self.0
    }
}

impl Add<f64> for RunTime {
    type Output = Self;

    fn add(self, seconds: f64) -> Self {
        Self(self.0 + seconds)
    }
}

impl AddAssign<f64> for RunTime {
    fn add_assign(&mut self, seconds: f64) {
        self.0 += seconds;
    }
}

impl Sub<f64> for RunTime {
    type Output = Self;

    fn sub(self, seconds: f64) -> Self {
        Self(self.0 - seconds)
    }
}

/// Seconds from the second moment to the first.
impl Sub for RunTime {
    type Output = f64;

    fn sub(self, earlier: Self) -> f64 {
        self.0 - earlier.0
    }
}

/// Seconds since 1970 by the machine's clock, which may be wrong by years and be set at any time: for what is kept and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// Seconds from `earlier` to this moment; none where that is later.
    pub const fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Stays at the end of the clock's range.
impl Add<u64> for UnixTime {
    type Output = Self;

    fn add(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
