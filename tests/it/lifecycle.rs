//! Services on free ports: they serve, stop when told, and leave no socket behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use recon::config::load::{Loaded, settings_of};
use recon::config::{Live, Settings, SiteKey};
use recon::model::NodeId;
use recon::model::api::{NodeStatus, Status, Stored};
use recon::service::http::client::{Bounds, exchange};
use recon::service::http::server;
use recon::service::http::site::{BootFiles, Data, Master, Site};
use recon::service::http::upload::digest_header;
use recon::service::workers::Workers;
use recon::store::nodes::{Limits, NodeStore};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(20),
    answer_bytes: 1 << 20,
};

/// With `recon.toml` as it is when it is read again.
pub(crate) struct Idle {
    pub(crate) settings: &'static str,
}

impl Master for Idle {
    fn status(&self, _: &Site) -> Status {
        Status {
            version: "test".into(),
            site: None,
            uptime_seconds: 0,
            storage: Default::default(),
            settings_problems: vec![],
            settings_held: None,
            links: vec![],
            nodes_seen: 0,
            nodes_stored: 0,
            nodes_unlisted: 0,
            clashes: vec![],
            more_clashes: 0,
            rolling: None,
            rss_bytes: None,
        }
    }

    fn read_settings(&self) -> Loaded {
        settings_of("recon.toml", Ok(Some(self.settings.as_bytes().to_vec())))
    }
}

pub(crate) fn site(folder: &std::path::Path) -> Arc<Site> {
    let limits = Limits {
        reserve_bytes: 0,
        ..Limits::default()
    };
    let data = Data {
        folder: folder.to_owned(),
        uploads: NodeStore::open(folder, limits).unwrap(),
        durable: true,
    };
    let settings = Arc::new(Live::fine(Settings::default()));
    let (key, workers) = (SiteKey::new([1; 32]), Workers::start().unwrap());
    let site = Site::new(
        BootFiles::default(),
        data,
        settings,
        key,
        workers,
        Box::new(Idle { settings: "" }),
    );
    Arc::new(site)
}

/// The HTTP service on a free port: its address, how to stop it, and its end.
async fn start(folder: &std::path::Path) -> Started {
    serve(site(folder)).await
}

pub(crate) type Started = (SocketAddr, CancellationToken, JoinHandle<std::io::Result<()>>);

pub(crate) async fn serve(site: Arc<Site>) -> Started {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(server::run(listener, site, stop.clone()));
    (address, stop, running)
}

fn upload() -> Bytes {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let text = br#"{"schema_version":1}"#;
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, "inventory.json", &text[..]).unwrap();
    tar.into_inner().unwrap().finish().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_acknowledged_listed_and_survives_and_the_port_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let (address, stop, running) = start(folder.path()).await;

    let id: NodeId = "mac-020000000001".parse().unwrap();
    let target = format!("/api/v1/nodes/{id}/upload");
    let body = upload();
    let digest: [u8; 32] = Sha256::digest(&body).into();
    let put = async |headers: &[(&'static str, String)], body: Bytes| {
        exchange(address, Method::PUT, &target, headers, body, BOUNDS)
            .await
            .unwrap()
    };
    let (status, _) = put(&[], body.clone()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "no digest");
    let (status, _) = put(&[("content-digest", digest_header(&[0; 32]))], body.clone()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "another digest");
    let (status, answer) = put(&[("content-digest", digest_header(&digest))], body.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let stored: Stored = serde_json::from_slice(&answer).unwrap();
    assert!(stored.durable && stored.size_bytes == body.len() as u64);

    let (_, nodes) = exchange(address, Method::GET, "/api/v1/nodes", &[], Bytes::new(), BOUNDS)
        .await
        .unwrap();
    let nodes: Vec<NodeStatus> = serde_json::from_slice(&nodes).unwrap();
    assert_eq!(nodes[0].stored_sha256.as_deref(), Some(stored.sha256.as_str()));

    stop.cancel();
    running.await.unwrap().unwrap();
    TcpListener::bind(address).await.expect("the port is free again");
    let again = NodeStore::open(folder.path(), Limits::default()).unwrap();
    assert_eq!(again.list()[0].sha256, stored.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_master_says_that_something_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (address, stop, running) = start(folder.path()).await;
    let target = "/api/v1/nodes/mac-020000000001/stage";
    for (body, want) in [
        (r#"{"stage":"agent","macs":["02:00:00:00:00:01"]}"#, StatusCode::OK),
        (r#"{"stage":"stored"}"#, StatusCode::BAD_REQUEST),
        (r#"{"stage":"flying"}"#, StatusCode::BAD_REQUEST),
        ("not json", StatusCode::BAD_REQUEST),
    ] {
        let (status, _) = exchange(address, Method::POST, target, &[], body.into(), BOUNDS)
            .await
            .unwrap();
        assert_eq!(status, want, "{body}");
    }
    let huge = Bytes::from(vec![b' '; 200 * 1024]);
    let (status, _) = exchange(address, Method::POST, target, &[], huge, BOUNDS)
        .await
        .unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_is_answered_all_the_same() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("isos")).unwrap();
    let content: Vec<u8> = (0..3_000_000u32).map(|at| at as u8).collect();
    std::fs::write(folder.path().join("isos/a"), &content).unwrap();
    let (address, stop, running) = start(folder.path()).await;
    for range in ["bytes=0-99", "bytes=0-"] {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET /isos/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: {range}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 206"), "{range}");
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let length = if range == "bytes=0-" { content.len() } else { 100 };
        assert!(answer[head..] == content[..length], "{range}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
