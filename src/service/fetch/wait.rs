//! Waiting for a server, with a word for whoever waits as well.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// Somebody who looks at a screen on which nothing happens wants to know why after this long.
const SILENCE: Duration = Duration::from_secs(5);

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
