//! Waiting for a server, with a word for whoever waits as well.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::model::console::console;

/// Somebody who looks at a screen on which nothing happens wants to know why after this long.
const SILENCE: Duration = Duration::from_secs(5);

/// How long is waited for what does not come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Tries that may bring nothing, one after the other.
    pub(crate) tries: u32,
    /// Of the waits between them, which grow from 1 s to 60 s.
    pub(crate) scale: f64,
    /// A connection over which nothing comes for this long is broken.
    pub(crate) idle: Duration,
    /// Whoever waits sees the consoles of this machine, and not only the log.
    pub(crate) is_at_console: bool,
}

impl Patience {
    pub(crate) const USUAL: Self = Self {
        tries: 6,
        scale: 1.0,
        idle: Duration::from_secs(30),
        is_at_console: true,
    };

    /// What somebody who waits wants to know.
    pub(super) fn tell(&self, words: &str) {
        match self.is_at_console {
            true => console!("{words}"),
            false => tracing::info!("{words}"),
        }
    }

    /// Waits for `done`, and tells for what where that takes long.
    pub(super) async fn waits_for<T>(&self, what: impl FnOnce() -> String, done: impl Future<Output = T>) -> T {
        waited(|| self.tell(&format!("waiting for {}", what())), done).await
    }
}

/// Waits for `done`; `tell` says for what, once, where that takes long.
pub(super) async fn waited<T>(tell: impl FnOnce(), done: impl Future<Output = T>) -> T {
    let mut done = pin!(done);
    if let Ok(done) = timeout(SILENCE, &mut done).await {
        return done;
    }
    tell();
    done.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_told_once() {
        for (seconds, times) in [(4, 0), (6, 1), (60, 1)] {
            let mut told = 0;
            let took = waited(|| told += 1, async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                seconds
            });
            assert_eq!((took.await, told), (seconds, times));
        }
    }
}
