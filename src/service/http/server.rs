//! The loop on a bound listener.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::answer::answer;
use super::limits;
use super::refusal::Refusal;
use super::sendfile::{SendfileQueue, Wire};
use super::site::Site;

/// Clients that are told at once why they are not let in; further ones are cut off without a word.
const MAX_TURNED_AWAY: usize = 64;
/// A client that is turned away has this long to hear it, and is read this far, because what was not read would be answered
/// with a reset that overtakes the words.
const TURN_AWAY_LIMIT: Duration = Duration::from_secs(2);
const TURN_AWAY_BYTES: u64 = 16 * 1024;
/// A client has this long to send its request line and headers, and an open connection may stand idle for as long.
const HEADER_LIMIT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// At the end connections are waited for this long.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`; connections end with it, and as a rule have ended when this returns.
pub async fn run(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) -> io::Result<()> {
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let client = from.ip().to_canonical();
        let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
        let own = limits::is_own(client, local);
        let place = (!own).then(|| site.web.door.connection(client, &site.metrics));
        let place = match place.transpose() {
            Ok(place) => place,
            Err(refusal) => {
                if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
                    connections.spawn(async move {
                        let _place = place;
                        // It went, or took too long to hear it.
                        let told = tokio::time::timeout(TURN_AWAY_LIMIT, turn_away(stream, &refusal));
                        told.await.ok();
                    });
                }
                continue;
            }
        };
        // Each worker has its own event loop.
        let Ok(stream) = stream.into_std() else { continue };
        let (worker, site, stop) = (site.workers.place(), Arc::clone(&site), stop.clone());
        let handle = worker.handle().clone();
        let served = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(stream, from, site) => {}
            }
            drop((place, worker));
        };
        connections.spawn_on(served.instrument(connection_span(from)), &handle);
    }
    connections.close();
    // One that waits for a broken medium must not keep the rest from ending.
    tokio::time::timeout(END_LIMIT, connections.wait()).await.ok();
    Ok(())
}

/// What the lines of one connection have in common. Off unless `-v`: it would be entered for every request.
pub(crate) fn connection_span(peer: SocketAddr) -> Span {
    tracing::debug_span!("http", %peer)
}

/// Serves a client until it or an error ends that. `stream` belongs to no runtime yet.
async fn converse(stream: std::net::TcpStream, from: SocketAddr, site: Arc<Site>) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%from, %error, "HTTP connection");
            return;
        }
    };
    let local = stream.local_addr().ok();
    stream.set_nodelay(true).ok();
    let metrics = Arc::clone(&site.metrics);
    let open = metrics.http_connections.hold();
    let queue = Arc::new(SendfileQueue::default());
    let wire = Wire::new(stream, Arc::clone(&queue));
    let service = service_fn(move |request| {
        let (site, queue) = (Arc::clone(&site), Arc::clone(&queue));
        // hyper keeps room for this future as long as the connection lives; the future itself, some kilobytes for the sake of
        // uploads, is gone before the body is sent.
        Box::pin(async move {
            let response = answer(&site, &queue, from, local, request).await;
            site.metrics.http_answered(response.status().as_u16());
            Ok::<_, Infallible>(response)
        })
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // GRUB finds a header only as RFC 9110 writes it.
        .title_case_headers(true)
        // A client that has sent all it will send still waits for the answer (RFC 9112 §9.6).
        .half_close(true)
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        // Frames of files reach the connection as they are (`sendfile.rs`), never as a copy.
        .writev(true)
        .serve_connection(wire, service)
        .await;
    // Who sees that it broke off sees that it is not open.
    drop(open);
    if let Err(error) = served {
        metrics.http_broken.one();
        tracing::debug!(%error, "HTTP connection");
    }
}

/// Says why, whatever was asked.
async fn turn_away(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    let Refusal {
        status,
        reason,
        retry_after_seconds,
    } = refusal;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Retry-After: {}\r\nConnection: close\r\n\r\n{reason}\n",
        reason.len() + 1,
        retry_after_seconds.unwrap_or_default()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(TURN_AWAY_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
