//! Stores many nodes on one stick as peers do, over HTTP, and shows what each thousand took.
//!
//! `cargo run --release --example storeload -- --folder DIR --nodes 50000`: DIR is a mounted stick or any empty folder. Ends with the
//! ratio of the last thousand to the first (1 is linear), what the tarball and `collect` made of it, and exit status 1 if
//! anything is missing.

// It is a tool by hand: what fails ends it.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use recon::config::load::Loaded;
use recon::config::{Live, Settings, SiteKey};
use recon::model::api::Status;
use recon::model::layout::TARBALL;
use recon::model::{MacAddr, NodeId};
use recon::role::master::tarball::Keeper;
use recon::service::http::client::{Bounds, exchange};
use recon::service::http::server;
use recon::service::http::site::{BootFiles, Data, Master, Site};
use recon::service::http::upload::digest_header;
use recon::service::workers::Workers;
use recon::stick::collect;
use recon::store::archive::verify;
use recon::store::nodes::{Limits, NodeStore};
use recon::sys::process;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Args {
    /// Where they are stored: an empty folder, on the file system in question
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value_t = 50_000)]
    nodes: usize,
    /// Uploads under way at once
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Size of an inventory before it is packed, in KiB
    #[arg(long, default_value_t = 60)]
    kib: usize,
}

const UPLOAD: Bounds = Bounds {
    time: Duration::from_secs(300),
    answer_bytes: 1 << 20,
};
const STEP: usize = 1000;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.nodes >= 2 * STEP, "--nodes: at least {}", 2 * STEP);
    std::fs::create_dir_all(&args.folder).context("making the folder")?;
    ensure!(
        !args.folder.join("nodes").exists(),
        "{} is in use",
        args.folder.display()
    );
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let site = site(args)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server::run(listener, Arc::clone(&site), stop.clone()));
    let keeper = Keeper::new(site.data.uploads.clone(), true);
    let keeping = tokio::spawn(keeper.clone().keep(stop.clone()));

    println!("{:>8}  {:>8}  {:>8}", "nodes", "seconds", "memory");
    let mut seconds = Vec::new();
    for start in (0..args.nodes).step_by(STEP) {
        let begun = Instant::now();
        thousand(address, start..(start + STEP).min(args.nodes), args).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        let table = exchange(address, Method::GET, "/metrics", &[], Bytes::new(), UPLOAD).await?;
        ensure!(table.0 == StatusCode::OK, "/metrics: {}", table.0);
        println!(
            "{:>8}  {:>8.2}  {:>5} MB",
            start + STEP,
            seconds[seconds.len() - 1],
            process::rss_bytes().unwrap_or(0) / 1_000_000
        );
    }
    let (first, last) = (seconds[0], seconds[args.nodes / STEP - 1]);
    println!("last thousand to first: {:.2}", last / first);

    let begun = Instant::now();
    let out = args.folder.join("fetched.part");
    let bytes = fetch(address, &out).await?;
    let fetched = verify(std::fs::File::open(&out)?)?;
    std::fs::remove_file(&out)?;
    println!(
        "tarball on request: {} nodes, {} MB, {:.1} s, {} MB of memory",
        fetched.nodes,
        bytes / 1_000_000,
        begun.elapsed().as_secs_f64(),
        process::rss_bytes().unwrap_or(0) / 1_000_000
    );
    stop.cancel();
    serving.await??;
    keeping.await??;
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || keeper.end()).await?;
    let whole = args.folder.join(TARBALL);
    println!(
        "at the end: {TARBALL} {} after {:.1} s",
        if whole.exists() { "is whole" } else { "is not there" },
        begun.elapsed().as_secs_f64()
    );
    drop(site);

    let begun = Instant::now();
    let out = std::env::temp_dir().join(format!("storeload-{}.tar.gz", std::process::id()));
    let report = collect::collect(&args.folder, &out, collect::Options::default())?;
    std::fs::remove_file(&out)?;
    let complete = report.is_complete();
    println!(
        "collect: {} nodes, complete: {complete}, {:.1} s",
        report.taken(),
        begun.elapsed().as_secs_f64()
    );
    ensure!(
        complete && report.taken() == args.nodes && fetched.nodes == args.nodes && whole.exists(),
        "something is missing"
    );
    Ok(())
}

struct Idle;

impl Master for Idle {
    fn status(&self, _: &Site) -> Status {
        Status {
            version: "bench".into(),
            site: None,
            uptime_seconds: 0,
            storage: Default::default(),
            settings_problems: vec![],
            settings_held: None,
            clashes: vec![],
            more_clashes: 0,
            links: vec![],
            nodes_seen: 0,
            nodes_stored: 0,
            nodes_unlisted: 0,
            rolling: None,
            rss_bytes: None,
        }
    }

    fn read_settings(&self) -> Loaded {
        unreachable!("nobody asks for it")
    }
}

fn site(args: &Args) -> anyhow::Result<Arc<Site>> {
    let data = Data {
        folder: args.folder.clone(),
        uploads: NodeStore::open(&args.folder, Limits::default())?,
        durable: true,
    };
    let settings = Arc::new(Live::fine(Settings::default()));
    let (key, workers) = (SiteKey::new([0; 32]), Workers::start()?);
    let site = Site::new(BootFiles::default(), data, settings, key, workers, Box::new(Idle));
    Ok(Arc::new(site))
}

/// Uploads the nodes of these numbers.
async fn thousand(address: SocketAddr, numbers: std::ops::Range<usize>, args: &Args) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let clients = (0..args.clients.max(1)).map(|_| {
        let (next, end, kib) = (Arc::clone(&next), numbers.end, args.kib);
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return anyhow::Ok(());
                }
                let id = NodeId::from_mac(MacAddr([
                    2,
                    0,
                    (number >> 24) as u8,
                    (number >> 16) as u8,
                    (number >> 8) as u8,
                    number as u8,
                ]));
                let body: Bytes = upload(number, kib).into();
                let digest: [u8; 32] = Sha256::digest(&body).into();
                let headers = [("content-digest", digest_header(&digest))];
                let target = format!("/api/v1/nodes/{id}/upload");
                let (status, answer) = exchange(address, Method::PUT, &target, &headers, body, UPLOAD).await?;
                ensure!(
                    status == StatusCode::CREATED,
                    "{status}: {}",
                    String::from_utf8_lossy(&answer)
                );
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(())
}

/// An upload that packs about as well as an inventory: names that come again and again, values that do not.
fn upload(number: usize, kib: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut text =
        format!("{{\"system\":{{\"value\":{{\"vendor\":\"Acme\",\"product\":\"R1\",\"serial\":\"{number}\"}}}}");
    while text.len() < kib * 1024 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            ",\n  \"field-{}\": {{\"status\": \"ok\", \"value\": \"{state:08x}\"}}",
            state >> 58
        ));
    }
    text.push('}');
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (name, bytes) in [("inventory.json", text.as_bytes()), ("raw/cmdline.txt", b"quiet")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Fetches the tarball into a file, as it comes.
async fn fetch(address: SocketAddr, out: &std::path::Path) -> anyhow::Result<u64> {
    use http_body_util::{BodyExt, Empty};
    use std::io::Write;
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("/export/{TARBALL}"))
        .header("host", "x")
        .body(Empty::<Bytes>::new())?;
    let mut answer = sender.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "/export: {}", answer.status());
    let mut file = std::fs::File::create(out)?;
    let mut length = 0;
    while let Some(frame) = answer.body_mut().frame().await {
        if let Ok(bytes) = frame?.into_data() {
            length += bytes.len() as u64;
            file.write_all(&bytes)?;
        }
    }
    Ok(length)
}
