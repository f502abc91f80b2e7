//! What a node is given besides its image. It has the keys by which others know that node, so it goes to that node's port alone.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hyper::{Response, StatusCode, header};

use crate::config::load::small_file;
use crate::model::layout;
use crate::model::{ImageName, MacAddr, Own, UnixTime};
use crate::service::own_files::{Node, OverlayFile, archive};
use crate::service::workers::blocking;
use crate::store::overlays;
use crate::sys::{clock, neighbours};

use super::files::Asked;
use super::response::{Body, line, set_static, whole};
use super::route::Who;
use super::site::Site;

/// A file of keys that is longer is none.
const MAX_KEYS_BYTES: u64 = 1 << 20;

/// `own`: whoever asks is on this machine.
pub(super) async fn answer(asked: Asked<'_>, own: bool, who: &Who) -> Response<Body> {
    let site = asked.site;
    let Some(mac) = who.mac else {
        return line(StatusCode::BAD_REQUEST, "mac= wants the MAC of the node's port");
    };
    if !own && port_of(site, asked.client).await != Some(mac) {
        let reason = format!("{} is not the port {mac}", asked.client);
        tracing::warn!(client = %asked.client, %mac, "the files of a node were asked for by somebody else");
        return line(StatusCode::FORBIDDEN, &reason);
    }
    let settings = site.settings.now();
    let uuid = who.uuid.as_deref();
    let Some(image) = settings.image(&[mac], uuid).map(|word| word.name.clone()) else {
        return line(StatusCode::NOT_FOUND, &format!("{mac} starts no image"));
    };
    let (given, name) = (settings.own(mac, uuid), settings.site.clone());
    let (from, now) = (Arc::clone(site), clock::unix_time());
    let made = blocking(move || Ok(make(&from, mac, &given, &image, name.as_deref(), now))).await;
    match made.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(bytes) => {
            let mut response = whole(StatusCode::OK, "application/x-tar", bytes);
            set_static(&mut response, header::CACHE_CONTROL, "no-store");
            response
        }
        Err(why) => line(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

/// The port behind an address: as the kernel knows its own links, else, behind a router, as it was leased.
async fn port_of(site: &Site, client: IpAddr) -> Option<MacAddr> {
    let near = neighbours::port_of(client).await.unwrap_or_else(|error| {
        tracing::warn!(%client, %error, "asking the kernel for a neighbour");
        None
    });
    let IpAddr::V4(address) = client else { return near };
    near.or_else(|| {
        let now = clock::unix_time();
        let tables = site.leases.lock().expect("no holder panics");
        tables.values().find_map(|table| {
            let table = table.lock().expect("no holder panics");
            table
                .iter()
                .find(|lease| lease.address == address && lease.expires_unix > now)
                .map(|lease| lease.mac)
        })
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
