//! `PUT /api/v1/nodes/<id>/upload`: bytes in, an acknowledgement out only when they are durable.
//!
//! In order: is there a place for its address and room on the stick (`limits.rs`, `store/room.rs`); the bytes, as they come, to a thread
//! that writes them (`store/nodes/incoming.rs`); its `commit` checks them, chooses the folder, and syncs file, name and folder; then 201.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes, Incoming as RequestBody};
use hyper::{HeaderMap, Request, StatusCode, header};
use tokio::sync::mpsc;

use crate::model::NodeId;
use crate::service::node_table::NodeTable;
use crate::store::nodes::{NodeStore, StoreError, Stored};

use tokio::time::Instant;

use super::limits::Place;
use super::min_rate::Pace;
use super::refusal::Refusal;
use super::site::Site;

/// Takes one upload of `client` that was sent to `id`; one of `own` machine is let in always.
pub async fn receive(
    site: &Site,
    (client, own): (IpAddr, bool),
    id: NodeId,
    request: Request<RequestBody>,
) -> Result<Stored, Refusal> {
    let exact = request.body().size_hint().exact();
    let length = exact.or_else(|| content_length(request.headers())).ok_or_else(|| {
        let needed = "the upload needs a Content-Length";
        Refusal::new(StatusCode::LENGTH_REQUIRED, needed)
    })?;
    let digest = content_digest(request.headers()).ok_or_else(|| {
        let needed = "the upload needs Content-Digest: sha-256=:BASE64: (RFC 9530)";
        Refusal::new(StatusCode::BAD_REQUEST, needed)
    })?;
    let (mut place, counted) = match own {
        true => (None, true),
        false => {
            let (place, counted) = let_in(site, client, &id, length).await?;
            (Some(place), counted)
        }
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    let store = site.data.uploads.clone();
    let writing = tokio::task::spawn_blocking(move || write(&store, &id, length, digest, receiver));
    let complete = pass_on(request.into_body(), sender).await;
    let written = writing
        .await
        .map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    match written {
        Ok(stored) => {
            place.iter_mut().for_each(Place::stored);
            if !counted && is_one_more(&site.node_table(), &stored.id) {
                site.web.door.was_new_node(client);
            }
            Ok(stored)
        }
        Err(_) if !complete => {
            let reason = "the upload broke off or was too slow";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// Hands the body to the writer. False for one that broke off or was too slow.
async fn pass_on(mut body: RequestBody, sender: mpsc::Sender<Bytes>) -> bool {
    let begun = Instant::now();
    let mut pace = Pace::default();
    loop {
        let frame = tokio::select! {
            // The writer refused: answer now, without the rest of the body.
            () = sender.closed() => return true,
            frame = tokio::time::timeout_at(begun + pace.deadline(), body.frame()) => frame,
        };
        match frame {
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                let (bytes, came) = (data.len() as u64, Instant::now());
                // The writer stops taking once it has an error, which it returns below.
                if sender.send(data).await.is_err() {
                    return true;
                }
                pace.came(bytes, came.elapsed(), begun.elapsed());
            }
            Ok(None) => return true,
            Ok(Some(Err(_))) | Err(_) => return false,
        }
    }
}

/// How long an upload waits for others to end before it is told to come again, and how often it looks. A crowd of machines is
/// taken in one after the other, without pauses in which nobody uploads.
const TURN_LIMIT: Duration = Duration::from_secs(60);
const TURN_LOOK: Duration = Duration::from_millis(50);

/// True for an upload that is kept beside another one of its name and was not there before: which machine it is of is known
/// only when it is stored.
fn is_one_more(node_table: &NodeTable, kept_as: &NodeId) -> bool {
    *kept_as != kept_as.base() && !node_table.is_stored(kept_as)
}

/// The upload's place, if its client has not too much already, and whether its machine was counted as a new one.
async fn let_in(site: &Site, client: IpAddr, id: &NodeId, length: u64) -> Result<(Place, bool), Refusal> {
    let awaited = site.node_table().awaits(id, client);
    let new = match awaited {
        // It may turn out to be one more of its name all the same.
        true => site.web.door.may_name_nodes(client, &site.metrics),
        false => site.web.door.new_node(client, &site.metrics),
    };
    new?;
    let deadline = Instant::now() + TURN_LIMIT;
    while site.web.door.is_full_of_uploads() && Instant::now() < deadline {
        tokio::time::sleep(TURN_LOOK).await;
    }
    let store = site.data.uploads.clone();
    let room = tokio::task::spawn_blocking(move || store.room_bytes()).await;
    // Where that cannot be told, the store says why.
    let room = room.ok().and_then(Result::ok).unwrap_or(u64::MAX);
    let place = site.web.door.upload(client, length, room, &site.metrics)?;
    Ok((place, !awaited))
}

fn write(
    store: &NodeStore,
    id: &NodeId,
    length: u64,
    digest: [u8; 32],
    mut receiver: mpsc::Receiver<Bytes>,
) -> Result<Stored, StoreError> {
    let mut incoming = store.begin(id, length, digest)?;
    while let Some(data) = receiver.blocking_recv() {
        incoming.write(&data)?;
    }
    incoming.commit()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The SHA-256 member of `Content-Digest` (RFC 9530 §2, a structured-field dictionary of byte sequences).
fn content_digest(headers: &HeaderMap) -> Option<[u8; 32]> {
    let text = headers.get("content-digest")?.to_str().ok()?;
    text.split(',').find_map(|member| {
        let encoded = member.trim().strip_prefix("sha-256=:")?.strip_suffix(':')?;
        STANDARD.decode(encoded).ok()?.try_into().ok()
    })
}

/// The header a peer sends.
pub fn digest_header(sha256: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunTime;
    use crate::service::http::limits::Door;
    use crate::service::metrics::Metrics;
    use crate::store::inventory::InventoryFacts;

    /// A client that uploads under a name that is known, with another serial number each time.
    #[test]
    fn one_more_of_a_name_counts_as_a_new_machine() {
        let name: NodeId = "93d4e5a1-7f46-11e5-bf8b-080027123456".parse().unwrap();
        let (door, metrics) = (Door::new(4, 4), Metrics::default());
        let (one, other) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 8]));
        let mut node_table = NodeTable::default();
        let mut stored = |kept_as: &NodeId, number: u16| {
            assert!(number == 0 || node_table.awaits(&name, one), "its name is known");
            let is_more = is_one_more(&node_table, kept_as);
            let mut facts = InventoryFacts::default();
            facts.evidence.system_serial = Some(format!("S{number}"));
            node_table.stored(kept_as, Some(one), "ab".into(), facts, RunTime::from_seconds(1.0));
            is_more
        };
        assert!(!stored(&name, 0), "the first was counted when it came");
        for number in 1..5000u16 {
            let [a, b] = number.to_be_bytes();
            let more = name.told_apart_by([2, 0, 0, 0, a, b]);
            assert!(stored(&more, number));
            door.was_new_node(one);
        }
        assert!(!stored(&name.told_apart_by([2, 0, 0, 0, 0, 1]), 1), "it came again");
        assert!(door.may_name_nodes(one, &metrics).is_err());
        assert!(door.may_name_nodes(other, &metrics).is_ok());
    }

    #[test]
    fn the_digest_is_read_as_it_is_written() {
        let digest = [7u8; 32];
        let mut headers = HeaderMap::new();
        assert_eq!(content_digest(&headers), None);
        headers.insert("content-digest", digest_header(&digest).parse().unwrap());
        assert_eq!(content_digest(&headers), Some(digest));
        headers.insert(
            "content-digest",
            format!("md5=:AAAA:, {}", digest_header(&digest)).parse().unwrap(),
        );
        assert_eq!(content_digest(&headers), Some(digest));
        for bad in ["sha-256=:AAAA:", "sha-256=AAAA", "sha-512=:AAAA:"] {
            headers.insert("content-digest", bad.parse().unwrap());
            assert_eq!(content_digest(&headers), None, "{bad}");
        }
    }
}
