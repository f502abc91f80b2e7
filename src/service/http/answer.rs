//! Which answer a request gets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::header;
use hyper::{Request, Response, StatusCode};
use tracing::Instrument;

use crate::config::live::REMEDY;
use crate::model::console::console;
use crate::model::{PostAction, PowerOff, layout};
use crate::service::boot::resolve;
use crate::service::dhcp4::leases::{LeaseTable, LeaseTables};
use crate::service::http::limits;
use crate::service::http::sendfile::SendfileQueue;
use crate::service::metrics::Now;
use crate::sys::clock;

use super::boot::Reader;
use super::files::{self, Asked};
use super::node_images::{self, Plan};
use super::response::{Body, json, line, set_static, whole};
use super::route::{Decision, NoRoute, Route, Who, route};
use super::site::Site;
use super::workload::prove;
use super::{boot, export, nodes, own_files, set_image};

pub(super) async fn answer(
    site: &Arc<Site>,
    queue: &Arc<SendfileQueue>,
    from: SocketAddr,
    local: Option<SocketAddr>,
    request: Request<Incoming>,
) -> Response<Body> {
    let client = from.ip().to_canonical();
    let master = local.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let found = route(request.method().as_str(), target);
    tracing::debug!(method = %request.method(), target, "HTTP request");
    match found {
        Ok(route) => serve(site, queue, client, master, route, request).await,
        Err(NoRoute::NotFound) => line(StatusCode::NOT_FOUND, "not here"),
        Err(NoRoute::BadNodeId) => line(
            StatusCode::BAD_REQUEST,
            "a node id is a lower-case UUID or mac- and twelve hex digits, and maybe a dash and twelve more",
        ),
        Err(NoRoute::Method(allowed)) => {
            let mut response = line(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allowed}"));
            set_static(&mut response, header::ALLOW, allowed);
            response
        }
    }
}

async fn serve(
    site: &Arc<Site>,
    queue: &Arc<SendfileQueue>,
    client: IpAddr,
    master: SocketAddr,
    route: Route,
    request: Request<Incoming>,
) -> Response<Body> {
    let head = request.method() == hyper::Method::HEAD;
    let own = limits::is_own(client, Some(master.ip().to_canonical()));
    let asked = Asked {
        site,
        client,
        headers: request.headers(),
        head,
        queue,
        went_out: None,
    };
    let from = (client, own);
    match route {
        Route::Index => whole(StatusCode::OK, "text/html; charset=utf-8", INDEX),
        Route::BootScript(who) => boot::ipxe_script(asked, master, &who).await,
        Route::GrubScript(who) => boot::script(asked, master, &who, Reader::Grub).await,
        Route::Menu(who) => boot::script(asked, master, &who, Reader::Menu).await,
        Route::Made(made) => {
            site.node_table().loader_runs(client);
            boot::boot_script(resolve::made(made, master))
        }
        Route::Kernel(who) => boot::kernel(asked, &who).await,
        Route::Why(who) => boot::why(asked, &who),
        Route::Initrd => boot::initrd(asked).await,
        Route::FirstStage(path) => boot::first_stage(asked, &path).await,
        Route::Image => files::slice(asked, site.boot.image.as_ref()).await,
        Route::Loader(name) => boot::loader(asked, master, name).await,
        Route::Post => files::file(asked, &site.data.folder.join(layout::WORKLOAD)).await,
        Route::PostProof(nonce) => workload(site, nonce).await,
        Route::Tarball => export::tarball(asked, own).await,
        Route::NodeImage(names) => boot::image_file(asked, &names).await,
        Route::Data(names) => files::data(asked, &names).await,
        Route::Status => json(StatusCode::OK, &site.master.status(site)),
        Route::Metrics => whole(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics_text(site),
        ),
        Route::Nodes(rows) => nodes::rows(site, rows, head),
        Route::HostKey(who) => own_files::host_key(site, &who),
        Route::OwnFiles(who) => own_files::answer(asked, &who).await,
        Route::Policy(who) => json(StatusCode::OK, &policy_of(site, client, &who).await),
        Route::Retry(id) => nodes::retry(site, client, id.as_ref()),
        Route::SetImage => set_image::set(site, client, request).await,
        Route::Settings(what) => settings(site, client, what).await,
        Route::Stage(id) => nodes::stage(site, from, id, request).await,
        Route::Starts => nodes::starts(site, client, request).await,
        Route::Upload(id) => {
            let span = nodes::upload_span(&id, client);
            nodes::upload(site, from, id, request).instrument(span).await
        }
    }
}

/// Leases that run.
fn held(tables: &LeaseTables) -> u64 {
    let now = clock::unix_time();
    let tables = tables.lock().expect("no holder panics");
    let running = |table: &Arc<Mutex<LeaseTable>>| table.lock().expect("no holder panics").held(now);
    tables.values().map(running).sum::<usize>() as u64
}

fn metrics_text(site: &Site) -> String {
    let (nodes, nodes_beyond_share) = {
        let node_table = site.node_table();
        (node_table.stages(), node_table.beyond())
    };
    let (running, waiting) = site.web.gate.counts();
    site.metrics.text(&Now {
        leases: held(&site.leases),
        nodes,
        nodes_stored: site.data.uploads.stored() as u64,
        nodes_beyond_share,
        big_running: running as u64,
        big_waiting: waiting as u64,
        uptime_seconds: clock::run_time().seconds() as u64,
        resident_bytes: crate::sys::process::rss_bytes().unwrap_or(0),
    })
}

/// Proves to who has the key that `post.tgz` is this site's own.
async fn workload(site: &Site, nonce: Option<[u8; 16]>) -> Response<Body> {
    let Some(nonce) = nonce else {
        return line(StatusCode::BAD_REQUEST, "nonce= wants 32 hex digits");
    };
    match site.web.workload(site.data.folder.join(layout::WORKLOAD)).await {
        Ok(sha256) => json(StatusCode::OK, &prove(&site.key, &nonce, &sha256)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => line(StatusCode::NOT_FOUND, "not here"),
        Err(error) => line(StatusCode::INTERNAL_SERVER_ERROR, &format!("post.tgz: {error}")),
    }
}

/// A person at this machine decides about settings that are held. Nobody else's word counts: only who is on this machine has
/// an address of the loopback.
async fn settings(site: &Arc<Site>, client: IpAddr, what: Decision) -> Response<Body> {
    if !client.is_loopback() {
        return line(StatusCode::FORBIDDEN, "only on this machine itself");
    }
    let site = Arc::clone(site);
    let counts = match what {
        Decision::Go => site.settings.go(),
        Decision::Read => {
            let reader = Arc::clone(&site);
            match tokio::task::spawn_blocking(move || reader.master.read_settings()).await {
                Ok(loaded) => site.settings.read_again(loaded),
                Err(error) => return line(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            }
        }
    };
    let answer = match (counts, site.settings.is_held()) {
        (false, _) => "the settings are in use already; a changed file counts at the next start".to_owned(),
        (true, true) => format!("{}; {REMEDY}", site.settings.problems().join("; ")),
        (true, false) if what == Decision::Go => "going on with the settings that were understood".to_owned(),
        (true, false) => "the settings were read whole and are in use".to_owned(),
    };
    console!("settings: {answer}");
    line(StatusCode::OK, &answer)
}

async fn policy_of(site: &Arc<Site>, client: IpAddr, who: &Who) -> crate::model::api::Policy {
    let settings = site.settings.now();
    let mut policy = settings.policy(who.mac.as_slice(), who.marks());
    let found = node_images::found(site, &settings, who).await;
    // One that is in failsafe asks whether it still should be, and where its image cannot be read at the moment, it should.
    let is_there = site.node_table().is_in_failsafe(who.mac, client);
    if is_there && own_files::is_believed(site, &settings, client, who.mac.as_slice()).await {
        site.node_table().spoke(client, clock::run_time());
    }
    let is_failsafe = match node_images::plan(site, &settings, (who.mac, client), found).await {
        Plan::Failsafe(_) => true,
        Plan::Missing(..) => is_there,
        Plan::Image(_) | Plan::NoNode => false,
    };
    if is_failsafe {
        policy.post_action = PostAction::Failsafe;
        policy.poweroff = PowerOff::Never;
    }
    crate::model::api::Policy {
        post_action: policy.post_action,
        poweroff: policy.poweroff,
        now_ms: Some(clock::unix_millis()),
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
