//! What a node is given besides its image. It has the keys by which others know that node, so it goes to that node's port alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Response, StatusCode, header};

use crate::config::Settings;
use crate::config::load::small_file;
use crate::model::layout;
use crate::model::{ImageName, MacAddr, Own, UnixTime};
use crate::service::own_files::{Node, OverlayFile, archive, known_host};
use crate::service::workers::blocking;
use crate::store::overlays;
use crate::sys::{clock, neighbours};

use super::files::Asked;
use super::limits::Place;
use super::response::{Body, line, set_static, whole};
use super::route::Who;
use super::site::Site;

/// A file of keys that is longer is none.
const MAX_KEYS_BYTES: u64 = 1 << 20;
const PIECE_BYTES: usize = 256 << 10;
/// Ports of a machine that are held against its address.
const MAX_PORTS: usize = 8;

pub(super) async fn answer(asked: Asked<'_>, who: &Who) -> Response<Body> {
    let (site, client) = (asked.site, asked.client);
    let Some(mac) = who.mac else {
        return line(StatusCode::BAD_REQUEST, "mac= wants the MAC of the node's port");
    };
    let settings = site.settings.now();
    match is_one_of(site, &settings, client, &[mac]).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(%client, %mac, "the files of a node were asked for by somebody else");
            return line(StatusCode::FORBIDDEN, &format!("{client} is not the port {mac}"));
        }
        Err(error) => {
            let reason = format!("nobody knows here which port {client} is: {error}");
            return line(StatusCode::INTERNAL_SERVER_ERROR, &reason);
        }
    }
    let Some(image) = settings.image(&[mac], who.marks()).map(|word| word.name.clone()) else {
        return line(StatusCode::NOT_FOUND, &format!("{mac} starts no image"));
    };
    let place = match site.web.door.own_files(client, &site.metrics) {
        Ok(place) => place,
        Err(refusal) => return refusal.response(),
    };
    let (given, name) = (settings.own(mac), settings.site.clone());
    let (from, now) = (Arc::clone(site), clock::unix_time());
    let made = blocking(move || Ok(make(&from, mac, &given, &image, name.as_deref(), now))).await;
    match made.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(bytes) => in_pieces(bytes.into(), place),
        Err(why) => line(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

/// The line by which ssh knows a node. It is no secret.
pub(super) fn host_key(site: &Site, who: &Who) -> Response<Body> {
    let Some(mac) = who.mac else {
        return line(StatusCode::BAD_REQUEST, "mac= wants the MAC of the node's port");
    };
    match known_host(&site.key, mac, &site.settings.now().own(mac).hostname) {
        Ok(text) => whole(StatusCode::OK, "text/plain; charset=utf-8", text),
        Err(why) => line(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

/// An answer that keeps its place at the door for as long as it is in memory.
fn in_pieces(bytes: Bytes, place: Place) -> Response<Body> {
    let length = bytes.len();
    let pieces = stream::unfold((bytes, place), |(mut bytes, place)| async move {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
        (!piece.is_empty()).then(|| (Ok(Frame::data(piece)), (bytes, place)))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
    set_static(&mut response, header::CONTENT_TYPE, "application/x-tar");
    set_static(&mut response, header::CACHE_CONTROL, "no-store");
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// Whether it is certain enough who asks for what changes something of a machine: by its address and one of these ports. A person at the
/// master may do as if.
pub(super) async fn is_believed(site: &Site, settings: &Settings, client: IpAddr, macs: &[MacAddr]) -> bool {
    let macs = &macs[..macs.len().min(MAX_PORTS)];
    client.is_loopback() || is_one_of(site, settings, client, macs).await.unwrap_or(false)
}

/// Whether an address is that of one of these ports: as the kernel knows its own links, or, in a network behind a router, as it was leased
/// there.
///
/// # Errors
/// The kernel does not answer.
async fn is_one_of(site: &Site, settings: &Settings, client: IpAddr, macs: &[MacAddr]) -> io::Result<bool> {
    match client {
        IpAddr::V4(address) if settings.is_routed(address) => {
            let now = clock::unix_time();
            Ok(macs.iter().any(|mac| has_leased(site, *mac, address, now)))
        }
        _ if macs.is_empty() => Ok(false),
        _ => Ok(neighbours::port_of(client)
            .await?
            .is_some_and(|port| macs.contains(&port))),
    }
}

/// Whether this port asked for this address, and was given it until later than now.
fn has_leased(site: &Site, mac: MacAddr, address: Ipv4Addr, now: UnixTime) -> bool {
    let tables = site.leases.lock().expect("no holder panics");
    tables.values().any(|table| {
        let table = table.lock().expect("no holder panics");
        table
            .get(mac)
            .is_some_and(|lease| lease.address == address && lease.expires_unix > now)
    })
}

fn make(
    site: &Site,
    mac: MacAddr,
    own: &Own,
    image: &ImageName,
    name: Option<&str>,
    now: UnixTime,
) -> Result<Vec<u8>, String> {
    let data = &site.data.folder;
    let files = overlays::files(data, &own.overlays)?;
    let files = files.into_iter().map(|(path, content)| OverlayFile { path, content });
    let node = Node {
        mac,
        own,
        image,
        site: name,
    };
    archive(&site.key, &node, &authorized(data)?, files.collect(), now)
}

/// Who may come in everywhere.
fn authorized(data: &Path) -> Result<String, String> {
    let name = layout::AUTHORIZED_KEYS;
    let bytes = small_file(&data.join(name), MAX_KEYS_BYTES).map_err(|error| format!("{name}: {error}"))?;
    String::from_utf8(bytes.unwrap_or_default()).map_err(|_| format!("{name}: it is not text"))
}
