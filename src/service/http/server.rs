//! The loop on a bound listener.

use crate::model::layout;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Empty, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::config::live::REMEDY;
use crate::model::api::StageReport;
use crate::model::shown::{self, Shown};
use crate::model::slice::Slice;
use crate::model::{NodeId, PostAction, Stage};
use crate::service::boot::resolve::BootFile;
use crate::service::boot::{grub, ipxe, memory, programs, request, resolve, script};
use crate::service::metrics::Now;
use crate::service::node_table::LoaderReport;
use crate::sys::clock;
use crate::sys::console::say;

use super::files::{self, Asked, Body};
use super::route::{Decision, NoRoute, Route, Who, route};
use super::site::Site;
use super::workload::prove;
use super::{export, upload};
use crate::service::http::limits;
use crate::service::http::limits::{RETRY_AFTER_SECONDS, Refusal};
use crate::service::http::sendfile::{Holes, Patience, Wire};

/// Clients that are told at once why they are not let in; further ones are cut off without a word.
const MAX_TURNED_AWAY: usize = 64;
/// A client that is turned away has this long to hear it, and is read this far, because what was not read would be answered
/// with a reset that overtakes the words.
const TURN_AWAY_LIMIT: Duration = Duration::from_secs(2);
const TURN_AWAY_BYTES: u64 = 16 * 1024;
/// A client has this long to send its request line and headers, and an open connection may stand idle for as long.
const HEADER_LIMIT: Duration = Duration::from_secs(15);
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Rows of the table that are sent as one body, a kilobyte each; more are sent in pieces.
const MAX_ROWS: usize = 1000;
const ROWS_OF_A_PIECE: usize = 100;
/// Largest body of a stage report.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// At the end connections are waited for this long.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Pause after a failed accept (out of descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`; connections end with it, and as a rule have ended when this returns.
pub async fn run(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) -> io::Result<()> {
    let turned_away = Arc::new(Semaphore::new(MAX_TURNED_AWAY));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let client = from.ip().to_canonical();
        let place = match is_own(client, &stream) {
            true => None,
            false => match site.web.door.connection(client, &site.metrics) {
                Ok(place) => Some(place),
                Err(refusal) => {
                    if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
                        connections.spawn(async move {
                            let _place = place;
                            // It went, or took too long to hear it.
                            tokio::time::timeout(TURN_AWAY_LIMIT, turn_away(stream, &refusal))
                                .await
                                .ok();
                        });
                    }
                    continue;
                }
            },
        };
        // Each worker has its own event loop.
        let Ok(stream) = stream.into_std() else { continue };
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

fn is_own(client: IpAddr, stream: &TcpStream) -> bool {
    limits::is_own(client, stream.local_addr().ok().map(|local| local.ip().to_canonical()))
}

/// Says why, whatever was asked.
async fn turn_away(mut stream: TcpStream, refusal: &Refusal) -> io::Result<()> {
    let (status, reason) = (refusal.status, &refusal.reason);
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Retry-After: {RETRY_AFTER_SECONDS}\r\nConnection: close\r\n\r\n{reason}\n",
        reason.len() + 1
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(TURN_AWAY_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
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
        // Frames of files reach the connection as they are (`wire.rs`), never as a copy.
        .writev(true)
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
    let own = limits::is_own(client, Some(master.ip().to_canonical()));
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
            asks_script(site, client, &who);
            boot_script(match who.said_mac {
                true => ipxe::boot(&boot_of(site, &site.settings.now(), master, client, &who)),
                false => ipxe::entry(master),
            })
        }
        Route::GrubScript(who) => {
            asks_script(site, client, &who);
            boot_script(grub::boot(&boot_of(site, &site.settings.now(), master, client, &who)))
        }
        Route::Menu(who) => {
            asks_script(site, client, &who);
            boot_script(ipxe::menu(&boot_of(site, &site.settings.now(), master, client, &who)))
        }
        Route::Made(made) => {
            site.node_table().loader_runs(client);
            boot_script(resolve::made(made, master))
        }
        Route::Kernel(who) => {
            if let Some(reason) = no_kernel(site, client, &who) {
                if site.node_table().refused(client, &reason) {
                    // Its own statement: nobody waits for the node table while the console is slow.
                    let name = site.node_table().name_of(client);
                    say(&format!("machine {name}: {reason}"));
                }
                return files::line(StatusCode::CONFLICT, &reason);
            }
            if !head {
                site.node_table().fetched(client, Stage::Kernel, clock::run_seconds());
            }
            files::slice(asked, site.kernel.as_ref()).await
        }
        Route::Why(who) => match no_kernel(site, client, &who) {
            Some(reason) => boot_script(ipxe::refusal(&reason)),
            None => files::line(StatusCode::NOT_FOUND, "nothing is known against it"),
        },
        Route::Initrd => {
            if !head {
                site.node_table().initrd(client);
            }
            files::slice(asked, site.initrd.as_ref()).await
        }
        Route::Image => files::slice(asked, site.image.as_ref()).await,
        Route::Loader(name) => match resolve::boot_file(site, name, master) {
            Some((_, BootFile::File(path))) => {
                if !head {
                    site.node_table().loader_sent(client, name, clock::run_seconds());
                }
                files::file(asked, &path).await
            }
            Some((_, BootFile::Made(bytes))) => files::whole(StatusCode::OK, "application/octet-stream", bytes),
            // What is not here went to nobody, so it is no program that did not start.
            None => files::line(StatusCode::NOT_FOUND, "this master's system does not hold it"),
        },
        Route::Post => files::file(asked, &site.data.join(layout::WORKLOAD)).await,
        Route::PostProof(nonce) => workload(site, nonce).await,
        Route::Tarball => export::tarball(asked, own).await,
        Route::Data(names) => files::data(asked, &names).await,
        Route::Status => json(StatusCode::OK, &(site.status)()),
        Route::Metrics => files::whole(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics_text(site),
        ),
        Route::Nodes(rows) => nodes(site, rows, head),
        Route::Policy(who) => json(StatusCode::OK, &policy_of(site, &who)),
        Route::Settings(what) => settings(site, client, what).await,
        Route::Stage(id) => stage(site, (client, own), id, request).await,
        Route::Upload(id) => take(site, (client, own), id, request).await,
    }
}

/// The table. A long one is sent in pieces as it is made: tens of thousands of rows for each of a crowd that asks would be all of
/// the memory.
fn nodes(site: &Arc<Site>, rows: Option<usize>, head: bool) -> Response<Body> {
    if let Some(most) = rows {
        return json(StatusCode::OK, &site.node_table().first(most.min(MAX_ROWS)));
    }
    let (first, next) = site.node_table().page(0, MAX_ROWS);
    if next.is_none() {
        return json(StatusCode::OK, &first);
    }
    let mut response = Response::new(match head {
        true => Empty::new().map_err(|never| match never {}).boxed(),
        false => table(Arc::clone(site)),
    });
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// All rows as a JSON array.
fn table(site: Arc<Site>) -> Body {
    let frames = stream::try_unfold((Some(0), "["), move |(from, before)| {
        let site = Arc::clone(&site);
        async move {
            let Some(from) = from else {
                return Ok::<_, io::Error>(None);
            };
            let (rows, next) = site.node_table().page(from, ROWS_OF_A_PIECE);
            let mut text = Vec::new();
            let mut before = before;
            for row in &rows {
                text.extend_from_slice(before.as_bytes());
                before = ",\n";
                text.extend_from_slice(shown::json_text(&serde_json::to_string(row)?).as_bytes());
            }
            if next.is_none() {
                text.extend_from_slice(if before == "[" { b"[]" } else { b"]\n" });
            }
            Ok(Some((Frame::data(Bytes::from(text)), (next, before))))
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

fn metrics_text(site: &Site) -> String {
    let (nodes, nodes_beyond_share) = {
        let node_table = site.node_table();
        (node_table.stages(), node_table.beyond())
    };
    let (running, waiting) = site.web.gate.counts();
    site.metrics.text(&Now {
        leases: (site.leases)(),
        nodes,
        nodes_stored: site.uploads.stored() as u64,
        nodes_beyond_share,
        big_running: running as u64,
        big_waiting: waiting as u64,
        uptime_seconds: clock::run_seconds() as u64,
        resident_bytes: crate::sys::process::rss_bytes().unwrap_or(0),
    })
}

/// Proves to who has the key that `post.tgz` is this site's own.
async fn workload(site: &Site, nonce: Option<[u8; 16]>) -> Response<Body> {
    let Some(nonce) = nonce else {
        return files::line(StatusCode::BAD_REQUEST, "nonce= wants 32 hex digits");
    };
    match site.web.workload(site.data.join(layout::WORKLOAD)).await {
        Ok(sha256) => json(StatusCode::OK, &prove(&site.key, &nonce, &sha256)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => files::line(StatusCode::NOT_FOUND, "not here"),
        Err(error) => files::line(StatusCode::INTERNAL_SERVER_ERROR, &format!("post.tgz: {error}")),
    }
}

/// A person at this machine decides about settings that are held. Nobody else's word counts: only who is on this machine has
/// an address of the loopback.
async fn settings(site: &Arc<Site>, client: IpAddr, what: Decision) -> Response<Body> {
    if !client.is_loopback() {
        return files::line(StatusCode::FORBIDDEN, "only on this machine itself");
    }
    let site = Arc::clone(site);
    let counts = match what {
        Decision::Go => site.settings.go(),
        Decision::Read => {
            let reader = Arc::clone(&site);
            match tokio::task::spawn_blocking(move || (reader.read_settings)()).await {
                Ok(loaded) => site.settings.read_again(loaded),
                Err(error) => return files::line(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            }
        }
    };
    let answer = match (counts, site.settings.is_held()) {
        (false, _) => "the settings are in use already; a changed file counts at the next start".to_owned(),
        (true, true) => format!("{}; {REMEDY}", site.settings.problems().join("; ")),
        (true, false) if what == Decision::Go => "going on with the settings that were understood".to_owned(),
        (true, false) => "the settings were read whole and are in use".to_owned(),
    };
    say(&format!("settings: {answer}"));
    files::line(StatusCode::OK, &answer)
}

fn policy_of(site: &Site, who: &Who) -> crate::model::api::Policy {
    let policy = site.settings.now().policy(who.mac.as_slice(), who.uuid.as_deref());
    crate::model::api::Policy {
        post_action: policy.post_action,
        poweroff: policy.poweroff,
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

/// Notes that a boot program asks for its script, and tells the person at the master of a machine that loops.
fn asks_script(site: &Site, client: IpAddr, who: &Who) {
    let policy = site.settings.now().policy(who.mac.as_slice(), who.uuid.as_deref());
    let said = LoaderReport {
        needed_mib: needed_mib(site, policy.post_action),
        ..said(who)
    };
    let told = {
        let mut node_table = site.node_table();
        let news = node_table.script(client, &said, clock::run_seconds());
        news.map(|news| (node_table.name_of(client), news))
    };
    if let Some((name, news)) = told {
        say(&format!("machine {name}: {news}"));
    }
}

/// Memory that a machine needs at least, where this master has something to boot it with.
fn needed_mib(site: &Site, action: PostAction) -> Option<u64> {
    let size = |slice: &Option<Slice>| slice.as_ref().map(|slice| slice.length);
    let sizes = memory::Sizes {
        kernel: size(&site.kernel)?,
        initrd: size(&site.initrd)?,
        image: size(&site.image).unwrap_or(0),
    };
    Some(memory::needed_mib(sizes, action))
}

/// Why a machine's boot script gets no kernel. Who asks without one gets it: a person, a program that measures.
fn no_kernel(site: &Site, client: IpAddr, who: &Who) -> Option<String> {
    let stuck = || who.action.and_then(|_| site.node_table().stuck(client));
    too_little_memory(site, client, who).or_else(stuck)
}

/// Why a machine gets no kernel, by what its boot program says of its memory.
fn too_little_memory(site: &Site, client: IpAddr, who: &Who) -> Option<String> {
    let has = who.memory_mib?;
    site.node_table().memory(client, has);
    let action = who.action.unwrap_or(PostAction::Inventory);
    memory::too_little(has, needed_mib(site, action)?)
}

fn said(who: &Who) -> LoaderReport {
    LoaderReport {
        needed_mib: None,
        mac: who.mac,
        arch: who.arch.clone(),
        serial: who.serial.clone(),
        trouble: who.arch.as_deref().and_then(ipxe::no_kernel_for),
    }
}

fn boot_of<'a>(
    site: &Site,
    settings: &'a Settings,
    master: SocketAddr,
    client: IpAddr,
    who: &Who,
) -> request::Boot<'a> {
    request::Boot {
        master,
        client,
        mac: who.mac,
        fills_in: !who.said_mac,
        policy: settings.policy(who.mac.as_slice(), who.uuid.as_deref()),
        kernel_arguments: &settings.kernel_arguments,
        arch: who.arch.clone(),
        memtest_efi: site.loaders.path(programs::MEMTEST_EFI).is_some(),
        memtest_bios: site.loaders.path(programs::MEMTEST_BIOS).is_some(),
        pause_seconds: site.node_table().pause_seconds(client),
    }
}

async fn stage(site: &Site, (client, own): (IpAddr, bool), id: NodeId, request: Request<Incoming>) -> Response<Body> {
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
    let known = own || site.node_table().knows(&id, client, &report);
    if !known && let Err(refusal) = site.web.door.new_node(client, &site.metrics) {
        return refused(refusal.status, &refusal.reason);
    }
    let message = report.failure.as_deref().or(report.message.as_deref()).unwrap_or("");
    tracing::info!(node = %id, stage = %report.stage, message, "peer reports");
    site.node_table().report(&id, client, &report, clock::run_seconds());
    files::line(StatusCode::OK, "noted")
}

/// A refusal; one of the moment says when to come again.
fn refused(status: StatusCode, reason: &str) -> Response<Body> {
    let mut response = files::line(status, reason);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let after = HeaderValue::from(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

async fn take(
    site: &Arc<Site>,
    (client, own): (IpAddr, bool),
    id: NodeId,
    request: Request<Incoming>,
) -> Response<Body> {
    match upload::receive(site, (client, own), id.clone(), request).await {
        Ok(kept) => {
            let stored = crate::model::api::Stored {
                id: kept.id.clone(),
                sha256: kept.sha256,
                size_bytes: kept.size_bytes,
                durable: site.durable,
            };
            tracing::info!(node = %kept.id, bytes = stored.size_bytes, durable = stored.durable, "inventory stored");
            let clash = {
                let mut node_table = site.node_table();
                let (sha256, now) = (stored.sha256.clone(), clock::run_seconds());
                node_table.stored(&kept.id, Some(client), sha256, kept.facts, now);
                // Told when a machine learns that its name is another's; the screen says it as long as it is so.
                (kept.id != id).then(|| node_table.clash(&kept.id)).flatten()
            };
            if let Some(clash) = clash {
                say(&clash.to_string());
            }
            site.metrics.uploads_stored.one();
            json(StatusCode::CREATED, &stored)
        }
        Err((status, reason)) => {
            site.metrics.uploads_refused.one();
            // The peer is at fault, or the stick is: only the latter is for the person at the master.
            if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                // It was told once, and a crowd must not fill the log.
                tracing::debug!(node = %id, %client, %status, reason, "upload not taken");
            } else if status.is_server_error() {
                // In its row for as long as it is so; on the console once.
                let problem = format!("its inventory cannot be stored: {reason}");
                let first = site.node_table().refused(client, &problem);
                if first {
                    say(&format!("node {id}: {problem}"));
                }
            } else {
                tracing::warn!(node = %id, %client, %status, reason, "upload not taken");
            }
            refused(status, &reason)
        }
    }
}

fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match Shown::json(value) {
        Ok(text) => files::whole(status, "application/json", text.into_string()),
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
