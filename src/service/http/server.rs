//! The loop on a bound listener.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::api::StageReport;
use crate::model::{NodeId, Stage};
use crate::service::ladder::Said;
use crate::service::metrics::Now;
use crate::service::names::{self, BootFile};
use crate::service::{bootfiles, grub, ipxe, script};
use crate::sys::clock;
use crate::sys::console::say;

use super::files::{self, Asked, Body};
use super::route::{NoRoute, Route, TARBALL, Who, route};
use super::site::Site;
use super::upload;
use super::wire::{Holes, Patience, Wire};

/// Clients at once on one listener; further ones wait in the kernel's queue and are not refused.
const MAX_CONNECTIONS: usize = 2048;
/// A client has this long to send its request line and headers, and an open connection may stand idle for as long.
const HEADER_LIMIT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Largest body of a stage report.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// At the end connections are waited for this long.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`; connections end with it, and as a rule have ended when this returns.
pub async fn run(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Ok((stream, from, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (worker, site, stop) = (site.workers.place(), Arc::clone(&site), stop.clone());
        let handle = worker.handle().clone();
        let served = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = converse(stream, from, site) => {}
            }
            drop((place, worker));
        };
        connections.spawn_on(served, &handle);
    }
    connections.close();
    // One that waits for a broken medium must not keep the rest from ending.
    tokio::time::timeout(END_LIMIT, connections.wait()).await.ok();
    Ok(())
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
    if let Err(error) = connection(stream, from, Arc::clone(&site)).await {
        site.metrics.http_broken.one();
        tracing::debug!(%from, %error, "HTTP connection");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(std::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    // Each worker has its own event loop.
    Ok((stream.into_std()?, from, place))
}

async fn connection(stream: TcpStream, from: SocketAddr, site: Arc<Site>) -> Result<(), hyper::Error> {
    let local = stream.local_addr().ok();
    stream.set_nodelay(true).ok();
    let metrics = Arc::clone(&site.metrics);
    let _open = metrics.http_connections.hold();
    let holes = Arc::new(Holes::default());
    let wire = Wire::new(stream, Arc::clone(&holes), Patience::default());
    let service = service_fn(move |request| {
        let (site, holes) = (Arc::clone(&site), Arc::clone(&holes));
        async move {
            let response = answer(&site, &holes, from, local, request).await;
            site.metrics.http_answered(response.status().as_u16());
            Ok::<_, Infallible>(response)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // GRUB finds a header only as RFC 9110 writes it.
        .title_case_headers(true)
        // A client that has sent all it will send still waits for the answer (RFC 9112 §9.6).
        .half_close(true)
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(wire, service)
        .await
}

async fn answer(
    site: &Arc<Site>,
    holes: &Arc<Holes>,
    from: SocketAddr,
    local: Option<SocketAddr>,
    request: Request<Incoming>,
) -> Response<Body> {
    let client = from.ip().to_canonical();
    let master = local.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let found = route(request.method().as_str(), target);
    tracing::debug!(%from, method = %request.method(), target, "HTTP request");
    match found {
        Ok(route) => serve(site, holes, client, master, route, request).await,
        Err(NoRoute::NotFound) => files::line(StatusCode::NOT_FOUND, "not here"),
        Err(NoRoute::BadNodeId) => files::line(
            StatusCode::BAD_REQUEST,
            "a node id is a lower-case UUID or mac- and twelve hex digits, and maybe a dash and twelve more",
        ),
        Err(NoRoute::Method(allowed)) => {
            let mut response = files::line(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allowed}"));
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static(allowed));
            response
        }
    }
}

async fn serve(
    site: &Arc<Site>,
    holes: &Arc<Holes>,
    client: IpAddr,
    master: SocketAddr,
    route: Route,
    request: Request<Incoming>,
) -> Response<Body> {
    let head = request.method() == hyper::Method::HEAD;
    let headers = request.headers();
    let asked = Asked {
        site,
        client,
        headers,
        head,
        holes,
    };
    match route {
        Route::Index => files::whole(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        Route::BootScript(who) => {
            site.ladder().script(client, &said(&who), clock::run_seconds());
            boot_script(match who.said_mac {
                true => ipxe::boot(&boot_of(site, master, client, &who)),
                false => ipxe::entry(master),
            })
        }
        Route::GrubScript(who) => {
            site.ladder().script(client, &said(&who), clock::run_seconds());
            boot_script(grub::boot(&boot_of(site, master, client, &who)))
        }
        Route::Menu(who) => boot_script(ipxe::menu(&boot_of(site, master, client, &who))),
        Route::Made(made) => {
            site.ladder().loader_runs(client);
            boot_script(ipxe::made(made, master))
        }
        Route::Kernel => {
            if !head {
                site.ladder().fetched(client, Stage::Kernel, clock::run_seconds());
            }
            files::slice(asked, site.kernel.as_ref()).await
        }
        Route::Initrd => files::slice(asked, site.initrd.as_ref()).await,
        Route::Image => files::slice(asked, site.image.as_ref()).await,
        Route::Loader(name) => match names::boot_file(site, name, master) {
            Some((_, BootFile::File(path))) => {
                if !head {
                    site.ladder().loader_sent(client, name, clock::run_seconds());
                }
                files::file(asked, &path).await
            }
            Some((_, BootFile::Made(bytes))) => files::whole(StatusCode::OK, "application/octet-stream", bytes),
            // What is not here went to nobody, so it is no program that did not start.
            None => files::line(StatusCode::NOT_FOUND, "this master's system does not hold it"),
        },
        Route::Post => files::file(asked, &site.data.join("post.tgz")).await,
        Route::Tarball => files::file(asked, &site.data.join(TARBALL)).await,
        Route::Data(names) => files::data(asked, &names).await,
        Route::Status => json(StatusCode::OK, &(site.status)()),
        Route::Metrics => files::whole(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics_text(site),
        ),
        Route::Nodes => json(StatusCode::OK, &site.ladder().table()),
        Route::Policy(who) => json(StatusCode::OK, &policy_of(site, &who)),
        Route::Stage(id) => stage(site, client, id, request).await,
        Route::Upload(id) => take(site, client, id, request).await,
    }
}

fn metrics_text(site: &Site) -> String {
    let mut nodes: Vec<_> = Stage::ALL.into_iter().map(|stage| (stage, 0)).collect();
    for node in site.ladder().table() {
        if let Some((_, count)) = nodes.iter_mut().find(|(stage, _)| *stage == node.stage) {
            *count += 1;
        }
    }
    let (running, waiting) = site.web.gate.counts();
    site.metrics.text(&Now {
        leases: (site.leases)(),
        nodes,
        nodes_stored: site.ladder().counts().1 as u64,
        big_running: running as u64,
        big_waiting: waiting as u64,
        uptime_seconds: clock::run_seconds() as u64,
        resident_bytes: crate::sys::process::rss_bytes().unwrap_or(0),
    })
}

fn policy_of(site: &Site, who: &Who) -> crate::model::api::Policy {
    let policy = site.settings.policy(who.mac.as_slice(), who.uuid.as_deref());
    crate::model::api::Policy {
        post_action: policy.post_action.as_str().to_owned(),
        poweroff: policy.poweroff.as_str().to_owned(),
        now_ms: Some(clock::unix_millis()),
    }
}

/// A boot script; one that is not complete never leaves, because it would boot a machine into something nobody meant.
fn boot_script(text: String) -> Response<Body> {
    match script::complete(&text) {
        Ok(()) => files::whole(StatusCode::OK, "text/plain; charset=utf-8", text),
        Err(flaw) => {
            say(&format!(
                "a boot script was not sent, because it is not complete: {flaw}"
            ));
            files::line(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("the script is not complete: {flaw}"),
            )
        }
    }
}

fn said(who: &Who) -> Said {
    Said {
        mac: who.mac,
        arch: who.arch.clone(),
        serial: who.serial.clone(),
        trouble: who.arch.as_deref().and_then(ipxe::no_kernel_for),
    }
}

fn boot_of<'a>(site: &'a Site, master: SocketAddr, client: IpAddr, who: &Who) -> ipxe::Boot<'a> {
    ipxe::Boot {
        master,
        client,
        mac: who.mac,
        fills_in: !who.said_mac,
        policy: site.settings.policy(who.mac.as_slice(), who.uuid.as_deref()),
        kernel_arguments: &site.settings.kernel_arguments,
        arch: who.arch.clone(),
        memtest_efi: site.loaders.path(bootfiles::MEMTEST_EFI).is_some(),
        memtest_bios: site.loaders.path(bootfiles::MEMTEST_BIOS).is_some(),
    }
}

async fn stage(site: &Site, client: IpAddr, id: NodeId, request: Request<Incoming>) -> Response<Body> {
    let body = Limited::new(request.into_body(), MAX_REPORT_BYTES).collect();
    let bytes = match tokio::time::timeout(HEADER_LIMIT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return files::line(StatusCode::PAYLOAD_TOO_LARGE, "a stage report has at most 64 KiB"),
        Err(_) => return files::line(StatusCode::REQUEST_TIMEOUT, "the report did not arrive"),
    };
    let report: StageReport = match serde_json::from_slice(&bytes) {
        Ok(report) => report,
        Err(error) => return files::line(StatusCode::BAD_REQUEST, &format!("not a stage report: {error}")),
    };
    // Only the master knows that something is stored.
    if report.stage == Stage::Stored {
        return files::line(StatusCode::BAD_REQUEST, "stored is the master's word");
    }
    let message = report.failure.as_deref().or(report.message.as_deref()).unwrap_or("");
    tracing::info!(node = %id, stage = %report.stage, message, "peer reports");
    site.ladder().report(&id, client, &report, clock::run_seconds());
    files::line(StatusCode::OK, "noted")
}

async fn take(site: &Arc<Site>, client: IpAddr, id: NodeId, request: Request<Incoming>) -> Response<Body> {
    match upload::receive(site, id.clone(), request).await {
        Ok(kept) => {
            let stored = crate::model::api::Stored {
                id: kept.id.clone(),
                sha256: kept.sha256,
                size_bytes: kept.size_bytes,
                durable: site.durable,
            };
            tracing::info!(node = %kept.id, bytes = stored.size_bytes, durable = stored.durable, "inventory stored");
            let uploads = site.uploads.clone();
            let node = kept.id.clone();
            let summary = tokio::task::spawn_blocking(move || {
                uploads
                    .list_checked()
                    .into_iter()
                    .find(|stored| stored.id == node)?
                    .summary()
            });
            let summary = summary.await.ok().flatten();
            let clash = {
                let mut ladder = site.ladder();
                let (sha256, now) = (stored.sha256.clone(), clock::run_seconds());
                ladder.stored(&kept.id, Some(client), sha256, summary, kept.evidence, now);
                // Told when a machine learns that its name is another's; the screen says it as long as it is so.
                ladder.clash(&kept.id).filter(|_| kept.id != id)
            };
            if let Some(clash) = clash {
                say(&clash.to_string());
            }
            site.metrics.uploads_stored.one();
            site.uploads_changed.notify_one();
            json(StatusCode::CREATED, &stored)
        }
        Err((status, reason)) => {
            site.metrics.uploads_refused.one();
            // The peer is at fault, or the stick is: only the latter is for the person at the master.
            if status.is_server_error() {
                say(&format!("node {id}: its inventory cannot be stored: {reason}"));
            } else {
                tracing::warn!(node = %id, %client, %status, reason, "upload not taken");
            }
            files::line(status, &reason)
        }
    }
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec_pretty(value) {
        Ok(bytes) => files::whole(status, "application/json", bytes),
        Err(error) => files::line(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

const INDEX: &str = "<!doctype html><title>recon</title><h1>recon master</h1><ul>\
<li><a href=\"/nodes/\">nodes</a>: every stored inventory\
<li><a href=\"/export/recon-inventory.tar.gz\">recon-inventory.tar.gz</a>: all of them in one file\
<li><a href=\"/api/v1/nodes\">api/v1/nodes</a>: how far each machine came\
<li><a href=\"/api/v1/status\">api/v1/status</a>: links, storage, settings\
<li><a href=\"/metrics\">metrics</a>: counters for Prometheus\
<li><a href=\"/isos/\">isos</a> <a href=\"/install/\">install</a> <a href=\"/export/\">export</a>: folders of the data partition\
</ul>\n";
