//! The peer's side: one request on one connection, with every wait and size bounded.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::cause;

/// A connection that is not there after this long will not come.
const CONNECT: Duration = Duration::from_secs(5);

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the request's first byte to the answer's last.
    pub time: Duration,
    pub answer_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, String),
    #[error("{0} did not answer in {1} s")]
    TimedOut(SocketAddr, u64),
    #[error("{0} broke off: {1}")]
    Broke(SocketAddr, String),
    #[error("{0} answers with more than {1} bytes")]
    TooLarge(SocketAddr, usize),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Seconds of `Retry-After`; its other form, a date, is nothing that a master of ours says.
    pub retry_after_seconds: Option<u64>,
    pub body: Bytes,
}

/// As [`ask`], for those who want no more than status and body.
pub async fn exchange(
    master: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&'static str, String)],
    body: Bytes,
    bounds: Bounds,
) -> Result<(StatusCode, Bytes), ClientError> {
    let answer = ask(master, method, target, headers, body, bounds).await?;
    Ok((answer.status, answer.body))
}

/// Sends one request and collects the answer, whatever its status.
pub async fn ask(
    master: SocketAddr,
    method: Method,
    target: &str,
    headers: &[(&'static str, String)],
    body: Bytes,
    bounds: Bounds,
) -> Result<Answer, ClientError> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(master)).await;
    let none = |_| io::Error::other(format!("nothing within {} s", CONNECT.as_secs()));
    let stream = connecting.map_err(none).flatten();
    let stream = stream.map_err(|error| ClientError::Connect(master, error.to_string()))?;
    let talk = async {
        // An error of HTTP hides that of the connection behind it.
        let broke = |error: &(dyn std::error::Error + 'static)| ClientError::Broke(master, cause::told(error));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broke(&e))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, master.to_string());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| broke(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| broke(&e))?;
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER);
        let retry_after_seconds = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(answer.into_body(), bounds.answer_bytes).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => ClientError::TooLarge(master, bounds.answer_bytes),
            false => broke(&*error),
        })?;
        driver.abort();
        Ok(Answer {
            status,
            retry_after_seconds,
            body: body.to_bytes(),
        })
    };
    let late = |_| ClientError::TimedOut(master, bounds.time.as_secs());
    tokio::time::timeout(bounds.time, talk).await.map_err(late).flatten()
}
