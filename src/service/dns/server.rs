//! UDP and TCP loops on bound sockets (RFC 1035, RFC 7766).

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::service::fair_share::Shares;
use crate::service::metrics::Metrics;

use crate::service::dns::answer;
use crate::service::dns::answer::Names;

/// TCP clients at once, no address with more of them than are free; further ones are cut off, and ask again.
const MAX_TCP_CLIENTS: usize = 64;
/// A TCP client that asks nothing for this long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on both sockets until `stop`. `names` is asked anew for every query.
pub(crate) async fn run<F>(
    udp: UdpSocket,
    tcp: TcpListener,
    names: F,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let responder = Arc::new(Responder { names, metrics });
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = serve_udp(udp, Arc::clone(&responder)) => ended,
        ended = accept_tcp(tcp, responder, stop.clone()) => ended,
    }
}

/// Where answers come from, and where they are counted.
struct Responder<F> {
    names: F,
    metrics: Arc<Metrics>,
}

impl<F: Fn() -> Names> Responder<F> {
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let reply = answer::answer(&(self.names)(), query)?;
        // The low half of the fourth byte is the response code (RFC 1035 §4.1.1).
        self.metrics.dns_answered(reply.get(3).map_or(0, |flags| flags & 0x0f));
        Some(reply)
    }
}

async fn serve_udp<F: Fn() -> Names>(socket: UdpSocket, responder: Arc<Responder<F>>) -> io::Result<()> {
    let mut buffer = [0; 1232];
    loop {
        // Linux reports an earlier reply that nobody took as an error of the next receive.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(reply) = responder.answer(&buffer[..length])
            && let Err(error) = socket.send_to(&reply, from).await
        {
            tracing::debug!(%from, %error, "sending a DNS reply");
        }
    }
}

async fn accept_tcp<F>(listener: TcpListener, responder: Arc<Responder<F>>, stop: CancellationToken) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let slots = Arc::new(Mutex::new(Shares::new(MAX_TCP_CLIENTS)));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, say: no reason to spin.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(slot) = ClientSlot::take(&slots, from.ip().to_canonical()) else {
            tracing::debug!(%from, "DNS over TCP: too many clients");
            continue;
        };
        let (responder, stop) = (Arc::clone(&responder), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                served = serve_tcp(stream, responder) => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "DNS over TCP");
                    }
                }
            }
            drop(slot);
        });
    }
}

/// A slot of a TCP client, given back when it is dropped.
struct ClientSlot {
    shares: Arc<Mutex<Shares>>,
    who: IpAddr,
}

impl ClientSlot {
    fn take(shares: &Arc<Mutex<Shares>>, who: IpAddr) -> Option<Self> {
        shares.lock().expect("no holder panics").take(who).ok()?;
        Some(ClientSlot {
            shares: Arc::clone(shares),
            who,
        })
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.shares.lock().expect("no holder panics").give(self.who);
    }
}

async fn serve_tcp<F: Fn() -> Names>(mut stream: TcpStream, responder: Arc<Responder<F>>) -> io::Result<()> {
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
        let Some(reply) = responder.answer(&query) else {
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
