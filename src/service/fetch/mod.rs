//! Files from web servers anywhere, for a machine that is to start them: TLS that is always verified, proxies, names, broken connections
//! that go on where they broke. Whatever a server says is bounded, and no secret stands in a message.

pub(crate) mod bearer;
pub(crate) mod client;
mod connect;
mod names;
pub(crate) mod proxy;
pub(crate) mod resolve;
pub(crate) mod tls;
mod transfer;
pub(crate) mod url;
mod wait;

use std::time::Duration;

/// Why a file did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// It will not come either when it is asked for again.
    #[error("{0}")]
    Refused(String),
    /// The server has nothing of this name (404, 410), and will not have it either when it is asked for again.
    #[error("{0}")]
    Absent(String),
    /// It may come; not before `after` where the server said when.
    #[error("{why}")]
    Broke { why: String, after: Option<Duration> },
}

impl FetchError {
    fn broke(why: impl Into<String>) -> Self {
        let why = why.into();
        FetchError::Broke { why, after: None }
    }
}
