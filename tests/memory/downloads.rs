//! What the master holds for each of many that download at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use recon::config::load::Loaded;
use recon::config::settings::Settings;
use recon::config::{Live, SiteKey};
use recon::model::api::Status;
use recon::service::http::server;
use recon::service::http::site::{BootFiles, Data, Master, Site};
use recon::service::workers::Workers;
use recon::store::nodes::{Limits, NodeStore};
use tokio_util::sync::CancellationToken;

use crate::now;

struct Idle;

impl Master for Idle {
    fn status(&self, _: &Site) -> Status {
        unreachable!("nobody asks for it")
    }

    fn read_settings(&self) -> Loaded {
        unreachable!("nobody asks for it")
    }
}

/// Asks for the file and reads the head of the answer; the body is left to wait.
fn begin(master: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(master).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // As long as what curl sends.
    let request = "GET /export/big HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Bytes that a download more costs while it is under way.
pub(crate) fn bytes_each() -> usize {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("export")).unwrap();
    let file = std::fs::File::create(folder.path().join("export/big")).unwrap();
    file.set_len(64 << 20).unwrap();
    let data = Data {
        folder: folder.path().to_owned(),
        uploads: NodeStore::open(folder.path(), Limits::default()).unwrap(),
        durable: false,
    };
    let (settings, workers) = (Arc::new(Live::fine(Settings::default())), Workers::start().unwrap());
    let (key, boot) = (SiteKey::new([1; 32]), BootFiles::default());
    let site = Arc::new(Site::new(boot, data, settings, key, workers, Box::new(Idle)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (master, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let running = runtime.spawn(server::run(listener, site, stop.clone()));

    let mut open = Vec::new();
    let mut held = |clients: usize| {
        while open.len() < clients {
            open.push(begin(master));
        }
        now()
    };
    // The first ones pay for what all share, and for tables that grow by doubling.
    let few = held(100);
    let each = held(400).saturating_sub(few) / 300;
    stop.cancel();
    runtime.block_on(running).unwrap().unwrap();
    each
}
