//! Waiting for a server, with a word for whoever waits as well.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::model::console::console;

/// Somebody who looks at a screen on which nothing happens wants to know why after this long.
const SILENCE: Duration = Duration::from_secs(5);

/// Waits for `done`, and says once what for where that takes long.
pub(super) async fn waited<T>(what: impl FnOnce() -> String, done: impl Future<Output = T>) -> T {
    let mut done = pin!(done);
    if let Ok(done) = timeout(SILENCE, &mut done).await {
        return done;
    }
    console!("waiting for {}", what());
    done.await
}
