//! UDP and TCP loops on bound sockets (RFC 1035, RFC 7766).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::service::metrics::Metrics;

use super::logic::{self, Names};

/// TCP clients at once; further ones wait in the kernel's queue.
const MAX_TCP_CLIENTS: usize = 64;
/// A TCP client that asks nothing for this long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers on both sockets until `stop`. `names` is asked anew for every query.
pub async fn run<F>(
    udp: UdpSocket,
    tcp: TcpListener,
    names: F,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let desk = Arc::new(Desk { names, metrics });
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = serve_udp(udp, Arc::clone(&desk)) => ended,
        ended = accept_tcp(tcp, desk, stop.clone()) => ended,
    }
}

/// Where answers come from, and where they are counted.
struct Desk<F> {
    names: F,
    metrics: Arc<Metrics>,
}

impl<F: Fn() -> Names> Desk<F> {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let reply = logic::answer(&(self.names)(), query)?;
        // The low half of the fourth byte is the response code (RFC 1035 §4.1.1).
        self.metrics.dns_answered(reply.get(3).map_or(0, |flags| flags & 0x0f));
        Some(reply)
    }
}

async fn serve_udp<F: Fn() -> Names>(socket: UdpSocket, desk: Arc<Desk<F>>) -> io::Result<()> {
    let mut buffer = [0; 1232];
    loop {
        // Linux reports an earlier reply that nobody took as an error of the next receive.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(reply) = desk.answer(&buffer[..length])
            && let Err(error) = socket.send_to(&reply, from).await
        {
            tracing::debug!(%from, %error, "sending a DNS reply");
        }
    }
}

async fn accept_tcp<F>(listener: TcpListener, desk: Arc<Desk<F>>, stop: CancellationToken) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_TCP_CLIENTS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (desk, stop) = (Arc::clone(&desk), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                served = serve_tcp(stream, desk) => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "DNS over TCP");
                    }
                }
            }
            drop(place);
        });
    }
}

async fn serve_tcp<F: Fn() -> Names>(mut stream: TcpStream, desk: Arc<Desk<F>>) -> io::Result<()> {
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await?;
            io::Result::Ok(query)
        };
        let query = match tokio::time::timeout(TCP_IDLE, read).await {
            Ok(Ok(query)) => query,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(reply) = desk.answer(&query) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(reply.len()) else {
            return Ok(());
        };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(reply);
        tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}
