//! What a client is refused of what is bounded, in one table. [`Refusal::response`] answers with most of
//! it; a bad stage report gets 400, 408 or 413 in `nodes`, a kernel its 409 in `boot`.
//!
//! | Status | What | Decided in |
//! |---|---|---|
//! | 400, 411 | an upload without digest or length | `upload` |
//! | 408 | an upload that broke off or was too slow | `upload`, `min_rate` |
//! | 409 | the kernel, for a machine with too little memory, or that had it three times and did not start it | `boot` |
//! | 413, 422 | an upload beyond its bound; one that is not what it announced | `store/nodes` |
//! | 429 | a connection, an upload, a tarball, a node's own files: the address holds as many as are left for all others | `fair_share` |
//! | 429 | bytes on the stick: the same; new names of machines: 4096 from one address, then one a second | `quota` |
//! | 503 | a connection, an upload, a tarball, a node's own files: no place is left, or none for IPv6 | `fair_share` |
//! | 503 | a file over 4 MiB: as many wait as may, in all or of one address | `admission` |
//! | 503 | an upload: as many wait to be checked as may | `store/nodes/checking` |
//! | 507 | an upload: the stick is full, or there are too many machines, or too many of one name | `store/nodes` |
//!
//! 429 and 503 are of the moment: they say when to come again, and nothing of them stays in a machine's row.

use std::net::IpAddr;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::response::{Body, line};
use crate::model::cause;
use crate::model::console::console;
use crate::service::fair_share::{Refused, ipv6_places};
use crate::store::nodes::StoreError;

/// When somebody who was refused may ask again, in seconds, where nothing better is known.
const RETRY_AFTER_SECONDS: u64 = 5;

/// A status and a line for who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub reason: String,
    /// When to ask again.
    pub retry_after_seconds: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let passes = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Refusal {
            status,
            reason: reason.into(),
            retry_after_seconds: passes.then_some(RETRY_AFTER_SECONDS),
        }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Refusal {
            retry_after_seconds: Some(seconds),
            ..self
        }
    }

    /// The person is told the first time, with what becomes of it: `then`.
    pub(crate) fn told(status: StatusCode, reason: String, first: bool, then: &str) -> Self {
        if first {
            console!("{reason}{then}");
        }
        Refusal::new(status, reason)
    }

    /// There is no place for `what`.
    pub(crate) fn no_place(refused: Refused, who: IpAddr, what: &str, places: usize) -> Self {
        let (Refused::Share { first, .. } | Refused::Full { first } | Refused::FullOfIpv6 { first }) = refused;
        let status = match refused {
            Refused::Share { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refused::Full { .. } | Refused::FullOfIpv6 { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        let reason = match refused {
            Refused::Share { held, .. } => format!("{who} has {held} {what}; more are refused"),
            Refused::Full { .. } => format!("of {places} places for {what} none is left; more are refused"),
            Refused::FullOfIpv6 { .. } => {
                let most = ipv6_places(places);
                format!("over IPv6 all {most} places for {what} are taken; more are refused, the rest is for IPv4")
            }
        };
        Refusal::told(status, reason, first, "")
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = line(self.status, &self.reason);
        if let Some(seconds) = self.retry_after_seconds {
            let after = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        use StoreError::*;
        let status = match error {
            TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            LengthMismatch { .. } | DigestMismatch { .. } | NotAnUpload { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            NoSpace { .. } | TooManyNodes { .. } | TooManyOfOneName { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, cause::told(&error))
    }
}
