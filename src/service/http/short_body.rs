//! The body of a short question, read whole.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};

use super::response::{Body, line};

/// It has this long to arrive.
const LIMIT: Duration = Duration::from_secs(15);

/// # Errors
/// The answer to one that is longer than `most` bytes, or does not come.
pub(super) async fn body_of(request: Request<Incoming>, most: usize) -> Result<Bytes, Box<Response<Body>>> {
    let body = Limited::new(request.into_body(), most).collect();
    let (status, why) = match tokio::time::timeout(LIMIT, body).await {
        Ok(Ok(body)) => return Ok(body.to_bytes()),
        Ok(Err(_)) => {
            let most = most >> 10;
            (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("such a report has at most {most} KiB"),
            )
        }
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the report did not arrive".to_owned()),
    };
    Err(Box::new(line(status, &why)))
}
