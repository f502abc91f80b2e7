//! A connection to whoever has a file: over TCP, through a proxy, in TLS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::select_ok;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::url::{Host, Scheme, Target};
use super::{FetchError, resolve, tls};
use crate::model::cause;

/// A connection, or a handshake of TLS, that is not there after this long will not come.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one address is tried before the next one is as well (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    /// Our own address on it.
    pub(super) local: IpAddr,
}

/// TCP to a host: all its addresses, each a little after the one before; the first that answers is taken.
pub(super) async fn tcp(host: &Host, port: u16) -> Result<TcpStream, FetchError> {
    let addresses = match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolve::addresses(name).await?,
    };
    let count = addresses.len();
    let tries = addresses.into_iter().enumerate().map(|(index, address)| {
        let address = SocketAddr::new(address, port);
        Box::pin(async move {
            sleep(NEXT_ADDRESS * u32::try_from(index).unwrap_or(u32::MAX)).await;
            let late = |_| format!("{address} does not answer");
            let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)?;
            stream.map_err(|error| format!("no connection to {address}: {error}"))
        })
    });
    let first = select_ok(tries).await;
    first.map(|(stream, _)| stream).map_err(|why| match count {
        1 => FetchError::broke(why),
        _ => FetchError::broke(format!("none of {count} addresses of {host} answers; the last: {why}")),
    })
}

/// What `target` is asked over. `proxy` is the one that it goes through.
pub(super) async fn connect(
    target: &Target,
    proxy: Option<&Target>,
    connector: Option<&TlsConnector>,
) -> Result<Connection, FetchError> {
    let asked = proxy.unwrap_or(target);
    let through = |error: FetchError| match (error, proxy) {
        (FetchError::Broke { why, after }, Some(proxy)) => FetchError::Broke {
            why: format!("the proxy {proxy}: {why}"),
            after,
        },
        // What a proxy has not is not what the server has not.
        (FetchError::Refused(why) | FetchError::Absent(why), Some(proxy)) => {
            FetchError::Refused(format!("the proxy {proxy}: {why}"))
        }
        (error, None) => error,
    };
    let stream = tcp(&asked.host, asked.port).await.map_err(through)?;
    let local = stream
        .local_addr()
        .map_err(|error| FetchError::broke(error.to_string()))?
        .ip();
    let stream: Box<dyn Stream> = match (connector, proxy) {
        (None, _) => Box::new(stream),
        (Some(connector), None) => Box::new(encrypted(stream, &target.host, connector).await?),
        (Some(connector), Some(proxy)) => {
            let tunnel = timeout(CONNECT, tunnel(stream, target, proxy)).await;
            let late = |_| FetchError::broke("it does not answer");
            let tunnel = tunnel.map_err(late).flatten().map_err(through)?;
            Box::new(encrypted(tunnel, &target.host, connector).await?)
        }
    };
    Ok(Connection { stream, local })
}

async fn encrypted<S: Stream>(
    stream: S,
    host: &Host,
    connector: &TlsConnector,
) -> Result<tokio_rustls::client::TlsStream<S>, FetchError> {
    let name = match host {
        Host::Address(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| FetchError::Refused(format!("no certificate can be for {name}")))?,
    };
    let shaken = timeout(CONNECT, connector.connect(name, stream)).await;
    let shaken = shaken.map_err(|_| FetchError::broke("it does not answer to TLS"))?;
    shaken.map_err(|error| match tls::told(&error) {
        Some(why) => FetchError::Refused(why),
        None => FetchError::broke(format!("TLS: {error}")),
    })
}

/// A way through a proxy (RFC 9110 §9.3.6).
async fn tunnel(stream: TcpStream, target: &Target, proxy: &Target) -> Result<TokioIo<Upgraded>, FetchError> {
    let broke = |error: hyper::Error| FetchError::broke(cause::told(&error));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    tokio::spawn(driver.with_upgrades());
    let authority = target.authority(true);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(&authority)
        .header(header::HOST, &authority);
    if let Some(authorization) = &proxy.authorization {
        request = request.header(header::PROXY_AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Refused(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broke)?;
    if !answer.status().is_success() {
        let status = answer.status();
        return Err(super::transfer::status_error(status.as_u16(), None));
    }
    Ok(TokioIo::new(hyper::upgrade::on(answer).await.map_err(broke)?))
}

/// What an exchange ended by. What does not speak HTTP may speak TLS.
pub(super) fn broken(scheme: Scheme, error: &hyper::Error) -> FetchError {
    FetchError::broke(match scheme == Scheme::Http && error.is_parse() {
        true => format!("{} (is it https:// there, or another port?)", cause::told(error)),
        false => cause::told(error),
    })
}
