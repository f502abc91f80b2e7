//! `/api/v1/nodes`: the table of machines, what a peer reports of its own row, and its upload.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header;
use hyper::{Request, Response, StatusCode};
use tracing::Span;

use crate::config::{Marks, Settings};
use crate::model::api::{NextStart, StageReport};
use crate::model::console::console;
use crate::model::start_report::{self, StartReport};
use crate::model::{ImageWord, NodeId, Stage, shown};
use crate::service::workers::blocking;
use crate::store::nodes::Stored;
use crate::sys::clock;

use super::node_images::{self, Plan};
use super::own_files::is_believed;
use super::refusal::Refusal;
use super::response::{Body, json, line, set_static};
use super::route::Who;
use super::set_image;
use super::short_body::body_of;
use super::site::Site;
use super::upload;

/// Rows of the table that are sent as one body, a kilobyte each; more are sent in pieces.
const MAX_ROWS: usize = 1000;
const ROWS_OF_A_PIECE: usize = 100;
/// Largest body of a stage report.
const MAX_REPORT_BYTES: usize = 64 * 1024;

/// The table. A long one is sent in pieces as it is made: tens of thousands of rows for each of a crowd that asks would be all of
/// the memory.
pub(super) fn rows(site: &Arc<Site>, rows: Option<usize>, head: bool) -> Response<Body> {
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
    set_static(&mut response, header::CONTENT_TYPE, "application/json");
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

pub(super) async fn stage(
    site: &Arc<Site>,
    (client, own): (IpAddr, bool),
    id: NodeId,
    request: Request<Incoming>,
) -> Response<Body> {
    let bytes = match body_of(request, MAX_REPORT_BYTES).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let report: StageReport = match serde_json::from_slice(&bytes) {
        Ok(report) => report,
        Err(error) => return line(StatusCode::BAD_REQUEST, &format!("not a stage report: {error}")),
    };
    // Only the master knows that something is stored.
    if report.stage == Stage::Stored {
        return line(StatusCode::BAD_REQUEST, "stored is the master's word");
    }
    let known = own || site.node_table().knows(&id, client, &report);
    if !known && let Err(refusal) = site.web.door.new_node(client, &site.metrics) {
        return refusal.response();
    }
    let message = report.failure.as_deref().or(report.message.as_deref()).unwrap_or("");
    tracing::info!(node = %id, stage = %report.stage, message, "peer reports");
    // Asked of the kernel only where something comes of it.
    let settings = site.settings.now();
    let gives_up = report.stage != Stage::Up && report.failure.is_some();
    let image = report.image.as_ref().filter(|_| report.stage == Stage::Up || gives_up);
    let is_given = |said: &ImageWord| {
        let marks = Marks {
            uuid: Some(id.as_str()),
            serial: report.evidence.as_ref().and_then(|told| told.system_serial.as_deref()),
        };
        let given = settings.image(&report.macs, marks);
        given.is_some_and(|given| given.name == said.name)
    };
    let is_believed = image.is_some() && is_believed(site, &settings, client, &report.macs).await;
    let is_its = is_believed && image.is_some_and(is_given);
    let up = site
        .node_table()
        .report(&id, client, &report, is_its, clock::run_time());
    if let Some((name, version)) = up {
        let from = Arc::clone(site);
        let marked = blocking(move || from.images.mark_up(&name, &version)).await;
        if let Err(error) = marked {
            tracing::warn!(%error, "keeping that an image came up");
        }
    }
    let is_other = match image {
        None => return line(StatusCode::OK, "noted"),
        Some(image) if gives_up => is_its && has_other(site, &settings, client, (&report, image)).await,
        Some(_) => is_believed && set_image::starts_again(site, &settings, &report, &id).await,
    };
    json(StatusCode::OK, &NextStart { is_other })
}

/// Notes that a machine cannot start what it was given. True where its boot script has something else for it now.
async fn has_other(
    site: &Arc<Site>,
    settings: &Settings,
    client: IpAddr,
    (report, image): (&StageReport, &ImageWord),
) -> bool {
    let Some(version) = image.version.clone() else {
        return false;
    };
    let given = (image.name.clone(), version);
    let end = (
        settings.failsafe_after(&given.0),
        report.failure.as_deref().unwrap_or_default(),
    );
    let is_noted = site.node_table().gave_up(client, &report.macs, &given, end);
    if !is_noted {
        return false;
    }
    let who = Who {
        mac: report.macs.first().copied(),
        uuid: report.evidence.as_ref().and_then(|told| told.uuid.clone()),
        serial: report.evidence.as_ref().and_then(|told| told.system_serial.clone()),
        ..Who::default()
    };
    let found = node_images::found(site, settings, &who).await;
    match node_images::plan(site, settings, (who.mac, client), found).await {
        Plan::Image(next) => (&next.pinned.name, &next.pinned.version) != (&given.0, &given.1),
        Plan::Failsafe(_) => true,
        Plan::NoNode | Plan::Missing(..) => false,
    }
}

/// A person at the master wants images tried again. Nobody else may: it would take a machine out of the failsafe system.
pub(super) fn retry(site: &Site, client: IpAddr, id: Option<&NodeId>) -> Response<Body> {
    if !client.is_loopback() {
        return line(StatusCode::FORBIDDEN, "only on this machine itself");
    }
    match (site.node_table().retry(id), id) {
        (0, Some(id)) => line(StatusCode::NOT_FOUND, &format!("no machine is called {id}")),
        (count, _) => line(
            StatusCode::OK,
            &format!(
                "{count} machines try their images again; one that is in the failsafe system starts again within a minute"
            ),
        ),
    }
}

/// The last word of recon on a machine: what it starts in its own place. In its row, in the log, and on the console; there not of a crowd.
pub(super) async fn starts(site: &Site, client: IpAddr, request: Request<Incoming>) -> Response<Body> {
    let bytes = match body_of(request, start_report::MAX_BYTES).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let report = match StartReport::read(&bytes) {
        Ok(report) => report,
        Err(why) => return line(StatusCode::BAD_REQUEST, &format!("not a report of a start: {why}")),
    };
    let sentence = report.sentence();
    tracing::info!(%client, sentence, "a machine starts something else");
    let told = {
        let mut node_table = site.node_table();
        let is_news = node_table.starts_other(client, report.mac, &sentence, clock::run_time());
        is_news.then(|| node_table.name_of(client))
    };
    if let Some(name) = told {
        console!("machine {name}: {sentence}");
    }
    line(StatusCode::OK, "noted")
}

/// Takes an upload, and says what became of it: to the peer, in its row, in the log, and where a person has to know, on the console.
pub(super) async fn upload(
    site: &Arc<Site>,
    (client, own): (IpAddr, bool),
    id: NodeId,
    request: Request<Incoming>,
) -> Response<Body> {
    match upload::receive(site, (client, own), id.clone(), request).await {
        Ok(kept) => stored(site, client, &id, kept),
        Err(refusal) => {
            not_taken(site, client, &id, &refusal);
            refusal.response()
        }
    }
}

/// What the lines of one upload have in common, down to its warnings.
pub(crate) fn upload_span(node: &NodeId, client: IpAddr) -> Span {
    tracing::warn_span!("upload", %node, %client)
}

fn stored(site: &Site, client: IpAddr, id: &NodeId, kept: Stored) -> Response<Body> {
    let stored = crate::model::api::Stored {
        id: kept.id.clone(),
        sha256: kept.sha256,
        size_bytes: kept.size_bytes,
        durable: site.data.durable,
    };
    tracing::info!(kept_as = %kept.id, bytes = stored.size_bytes, durable = stored.durable, "inventory stored");
    let clash = {
        let mut node_table = site.node_table();
        let (sha256, now) = (stored.sha256.clone(), clock::run_time());
        node_table.stored(&kept.id, Some(client), sha256, kept.facts, now);
        // Told when a machine learns that its name is another's; the screen says it as long as it is so.
        (kept.id != *id).then(|| node_table.clash(&kept.id)).flatten()
    };
    if let Some(clash) = clash {
        console!("{clash}");
    }
    site.metrics.uploads_stored.one();
    json(StatusCode::CREATED, &stored)
}

fn not_taken(site: &Site, client: IpAddr, id: &NodeId, refusal: &Refusal) {
    let Refusal { status, reason, .. } = refusal;
    site.metrics.uploads_refused.one();
    // The peer is at fault, or the stick is: only the latter is for the person at the master.
    if refusal.retry_after_seconds.is_some() {
        // It was told once, and a crowd must not fill the log.
        tracing::debug!(%status, reason, "upload not taken");
    } else if status.is_server_error() {
        // In its row for as long as it is so; on the console once.
        let problem = format!("its inventory cannot be stored: {reason}");
        let first = site.node_table().refused(client, &problem);
        if first {
            console!("node {id}: {problem}");
        }
    } else {
        tracing::warn!(%status, reason, "upload not taken");
    }
}
