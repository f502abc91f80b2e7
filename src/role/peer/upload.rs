//! An inventory on its way to the master, until it is taken in one form or refused in all.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::model::api::Stored;
use crate::model::backoff::Failure;
use crate::model::console::console;
use crate::model::{NodeId, shown};
use crate::service::http::client::{Bounds, ask};
use crate::service::http::upload::digest_header;

use super::post::Results;
use super::retry::{Has, Next, Sending};
use crate::role::peer::collect::Snapshot;
use crate::role::peer::pack::pack;

const UPLOAD: Bounds = Bounds {
    time: Duration::from_secs(300),
    answer_bytes: 1 << 20,
};
/// Of an answer's text, what is shown.
const SHOWN_CHARS: usize = 300;

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// On the stick.
    Durable,
    /// In the master's memory.
    Memory,
    /// Nowhere: the master takes it in no form. Its words.
    Refused(String),
}

/// Words of a stranger on our console and in our document.
fn short(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let short: String = text.trim().chars().take(SHOWN_CHARS).collect();
    shown::line(&short).into_owned()
}

/// Reads the master's acknowledgement.
fn kept(answer: &[u8], id: &mut NodeId) -> Kept {
    let Ok(stored) = serde_json::from_slice::<Stored>(answer) else {
        return Kept::Memory;
    };
    if stored.id != *id {
        console!(
            "another machine names itself by {} as well: this one is kept as {}",
            id.described(),
            stored.id
        );
        *id = stored.id;
    }
    match stored.durable {
        true => Kept::Durable,
        false => Kept::Memory,
    }
}

/// Uploads until the master acknowledges, for ever while it may, and with less where it refuses more. What was left out stands
/// in the document, and is said on the console. `id` becomes the name that the master keeps it under.
pub async fn upload(
    master: SocketAddr,
    headers: Vec<(&'static str, String)>,
    id: &mut NodeId,
    snapshot: &Snapshot,
    results: Option<&Results>,
) -> anyhow::Result<Kept> {
    let target = format!("/api/v1/nodes/{id}/upload");
    let mut sending = Sending::new(Has {
        results: results.is_some(),
        raw: !snapshot.raw.is_empty(),
    });
    let mut notes = Vec::new();
    loop {
        let form = sending.form();
        let upload = pack(snapshot, results, form, &notes).context("packing the upload")?;
        let digest: [u8; 32] = Sha256::digest(&upload).into();
        let of_upload = [
            ("content-digest", digest_header(&digest)),
            ("content-type", "application/gzip".to_owned()),
        ];
        let headers = [headers.as_slice(), &of_upload].concat();
        while sending.form() == form {
            let sent = ask(master, Method::PUT, &target, &headers, upload.clone(), UPLOAD).await;
            let (failure, problem) = match sent {
                Ok(answer) if answer.status == StatusCode::CREATED => return Ok(kept(&answer.body, id)),
                Ok(answer) => {
                    let problem = format!("the master answered {}: {}", answer.status, short(&answer.body));
                    let failure = Failure::of(answer.status.as_u16(), answer.retry_after_seconds);
                    (failure, problem)
                }
                Err(error) => (Failure::NO_ANSWER, error.to_string()),
            };
            match sending.failed(failure, rand::random()) {
                Next::Again(wait) => {
                    let seconds = wait.as_secs().max(1);
                    console!("waiting to store the inventory: {problem}; next try in {seconds} s");
                    tokio::time::sleep(wait).await;
                }
                Next::Leaner => {
                    let lacks = sending.form().lacks();
                    console!("the inventory is not taken: {problem}; now without {lacks}");
                    notes.push(format!("uploaded without {lacks}, because with it {problem}"));
                }
                Next::GiveUp => {
                    console!("the inventory is not taken in any form: {problem}");
                    return Ok(Kept::Refused(problem));
                }
            }
        }
    }
}
