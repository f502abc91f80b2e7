//! TFTP (RFC 1350, 2347-2349, 7440) for the loaders, read only, through async-tftp.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServerBuilder};
use futures_lite::io::{Cursor, Sink};
use tokio_util::sync::CancellationToken;

use crate::model::Stage;
use crate::service::http::site::Site;
use crate::service::{bootfiles, ipxe};
use crate::sys::clock;

/// A loader larger than this is none; it is held in memory while it is sent.
const MAX_LOADER_BYTES: u64 = 16 << 20;
/// Firmware asks again on its own after about this long.
const RESEND_AFTER: Duration = Duration::from_secs(1);
const MAX_RESENDS: u32 = 10;

/// Serves on a bound socket until `stop`. The socket must be bound to the address clients ask, because replies leave
/// from it. `master` is where the link's clients reach HTTP.
pub async fn run(socket: UdpSocket, master: SocketAddrV4, site: Arc<Site>, stop: CancellationToken) -> io::Result<()> {
    let server = TftpServerBuilder::with_handler(Loaders { master, site })
        .std_socket(socket)
        .map_err(io::Error::other)?
        .timeout(RESEND_AFTER)
        .max_send_retries(MAX_RESENDS)
        .build()
        .await
        .map_err(io::Error::other)?;
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = server.serve() => ended.map_err(io::Error::other),
    }
}

struct Loaders {
    master: SocketAddrV4,
    site: Arc<Site>,
}

impl Handler for Loaders {
    type Reader = Cursor<Vec<u8>>;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Self::Reader, Option<u64>), packet::Error> {
        if path.to_str().is_some_and(bootfiles::is_autoexec) {
            let script = ipxe::autoexec(self.master).into_bytes();
            let length = script.len() as u64;
            tracing::debug!(%client, "TFTP read of the start script");
            return Ok((Cursor::new(script), Some(length)));
        }
        let wanted = path.to_str().and_then(bootfiles::loader_named);
        let Some((name, file)) = wanted.and_then(|(name, _)| Some((name, self.site.loaders.path(name)?))) else {
            tracing::info!(%client, path = %path.display(), "TFTP: no such file");
            return Err(packet::Error::FileNotFound);
        };
        let bytes = read(file).map_err(|error| {
            tracing::warn!(%client, name, %error, "reading a loader");
            packet::Error::Msg("the file cannot be read".to_owned())
        })?;
        if let IpAddr::V4(client) = client.ip() {
            let mut ladder = self.site.ladder();
            ladder.fetched(client, Stage::Loader, clock::run_seconds());
            ladder.sent(client, bytes.len() as u64);
        }
        tracing::debug!(%client, name, "TFTP read");
        let length = bytes.len() as u64;
        Ok((Cursor::new(bytes), Some(length)))
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> Result<Self::Writer, packet::Error> {
        tracing::warn!(%client, path = %path.display(), "TFTP write refused");
        Err(packet::Error::PermissionDenied)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_LOADER_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
