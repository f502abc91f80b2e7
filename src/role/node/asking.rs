//! What a node asks of its master before it has a root, for as long as that takes.

use std::time::Duration;

use anyhow::bail;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};

use crate::model::backoff::{self, Failure};
use crate::model::console::console;
use crate::model::shown;
use crate::role::peer::session::Session;
use crate::service::http::client::{Bounds, ClientError};

/// Longest wait for one answer; files of the site's may be many, and all nodes of a room ask at once.
pub(super) const ASKING: Duration = Duration::from_secs(30);
pub(super) const ASKING_FOR_FILES: Duration = Duration::from_secs(300);
/// Of a master's reason why it does not give something.
const MAX_REASON_CHARS: usize = 500;

/// No other try on this machine changes it: what it was started for is no longer what its master has, or it has too little memory for that.
/// The boot script knows what comes instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Vain(pub(super) String);

/// What the master answers, as soon as it is there.
pub(super) async fn asked(
    session: &Session,
    target: &str,
    time: Duration,
    answer_bytes: usize,
) -> anyhow::Result<Bytes> {
    let bounds = Bounds { time, answer_bytes };
    let mut tries = 0;
    loop {
        let passes = match session.ask(Method::GET, target, Bytes::new(), bounds).await {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(answer.body),
            Ok(answer) => {
                let why: String = String::from_utf8_lossy(&answer.body)
                    .chars()
                    .take(MAX_REASON_CHARS)
                    .collect();
                let why = format!(
                    "the master answers {} to {target}: {}",
                    answer.status,
                    shown::line(why.trim())
                );
                match Failure::of(answer.status.as_u16(), None) {
                    Failure::Transient { .. } if answer.status != StatusCode::INTERNAL_SERVER_ERROR => why,
                    _ if answer.status == StatusCode::NOT_FOUND => return Err(Vain(why).into()),
                    _ => bail!("{why}"),
                }
            }
            Err(error @ ClientError::TooLarge(..)) => bail!("{target}: {error}"),
            Err(error) => error.to_string(),
        };
        console!("waiting for the master, for {target}: {passes}");
        tokio::time::sleep(backoff::wait(tries, rand::random())).await;
        tries += 1;
    }
}
