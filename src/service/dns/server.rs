//! UDP and TCP loops on bound sockets (RFC 1035, RFC 7766).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::logic::{self, Names};

/// TCP clients at once; further ones wait in the kernel's queue.
const MAX_TCP_CLIENTS: usize = 64;
/// A TCP client that asks nothing for this long is let go.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers on both sockets until `stop`. `names` is asked anew for every query.
pub async fn run<F>(udp: UdpSocket, tcp: TcpListener, names: F, stop: CancellationToken) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let names = Arc::new(names);
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = serve_udp(udp, Arc::clone(&names)) => ended,
        ended = accept_tcp(tcp, names, stop.clone()) => ended,
    }
}

async fn serve_udp<F: Fn() -> Names>(socket: UdpSocket, names: Arc<F>) -> io::Result<()> {
    let mut buffer = [0; 1232];
    loop {
        // Linux reports an earlier reply that nobody took as an error of the next receive.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(reply) = logic::answer(&names(), &buffer[..length])
            && let Err(error) = socket.send_to(&reply, from).await
        {
            tracing::debug!(%from, %error, "sending a DNS reply");
        }
    }
}

async fn accept_tcp<F>(listener: TcpListener, names: Arc<F>, stop: CancellationToken) -> io::Result<()>
where
    F: Fn() -> Names + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_TCP_CLIENTS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (names, stop) = (Arc::clone(&names), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                served = serve_tcp(stream, names) => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "DNS over TCP");
                    }
                }
            }
            drop(place);
        });
    }
}

async fn serve_tcp<F: Fn() -> Names>(mut stream: TcpStream, names: Arc<F>) -> io::Result<()> {
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
        let Some(reply) = logic::answer(&names(), &query) else {
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
