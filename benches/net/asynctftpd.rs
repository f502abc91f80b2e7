//! The files of one folder served by the crate async-tftp, all of them in memory and shared by all clients: what `run.py` puts
//! beside recon's TFTP. tests/it/tftp.rs asks the same server.
//!
//! ```text
//! asynctftpd ADDRESS:PORT FOLDER
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServer, TftpServerBuilder};
use futures_util::io::{AsyncRead, Cursor, Sink};
use hyper::body::Bytes;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, folder] = words.as_slice() else {
        return Err(io::Error::other("asynctftpd ADDRESS:PORT FOLDER"));
    };
    let mut files = HashMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            std::fs::read(entry.path())?.into(),
        );
    }
    let socket = UdpSocket::bind(address)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // What firmware may ask for in its own option, too (RFC 2349).
        let server = server(socket, Shelf::new(files), Duration::from_secs(1)).await?;
        server.serve().await.map_err(io::Error::other)
    })
}

/// `patience`: how long it waits for an acknowledgement before it sends again.
pub async fn server(socket: UdpSocket, shelf: Shelf, patience: Duration) -> io::Result<TftpServer<Shelf>> {
    TftpServerBuilder::with_handler(shelf)
        .std_socket(socket)
        .map_err(io::Error::other)?
        .timeout(patience)
        .max_send_retries(20)
        .build()
        .await
        .map_err(io::Error::other)
}

/// What the crate lets a server see of its transfers, in order.
pub type Seen = Arc<Mutex<Vec<(SocketAddr, &'static str)>>>;

pub struct Shelf {
    files: HashMap<String, Bytes>,
    pub seen: Seen,
}

impl Shelf {
    pub fn new(files: HashMap<String, Bytes>) -> Self {
        Shelf {
            files,
            seen: Seen::default(),
        }
    }
}

impl Handler for Shelf {
    type Reader = Reader;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Reader, Option<u64>), packet::Error> {
        let name = path.to_str().unwrap_or_default().trim_start_matches('/');
        let bytes = self.files.get(name).ok_or(packet::Error::FileNotFound)?;
        let reader = Reader {
            bytes: Cursor::new(bytes.clone()),
            client: *client,
            seen: Arc::clone(&self.seen),
        };
        Ok((reader, Some(bytes.len() as u64)))
    }

    async fn write_req_open(&mut self, _: &SocketAddr, _: &Path, _: Option<u64>) -> Result<Sink, packet::Error> {
        Err(packet::Error::IllegalOperation)
    }
}

pub struct Reader {
    bytes: Cursor<Bytes>,
    client: SocketAddr,
    seen: Seen,
}

impl Reader {
    fn note(&self, what: &'static str) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.push((self.client, what));
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.bytes).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(0))) {
            self.note("read to the end");
        }
        read
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.note("gone");
    }
}
