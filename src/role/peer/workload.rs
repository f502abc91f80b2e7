//! The site's `post.tgz` on its way to a peer: fetched, proven to be the site's own where this machine has a stick, run.

use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::config::SiteKey;
use crate::formats::bytes::hex;
use crate::model::Stage;
use crate::model::backoff::Failure;
use crate::model::console::console;
use crate::service::http::client::{Bounds, ClientError};
use crate::service::http::workload;

use crate::role::first_stage::{self, Programs};
use crate::role::peer::post;
use crate::role::peer::session::Session;

const MAX_POST_TGZ: usize = 256 << 20;
const FETCH_POST: Bounds = Bounds {
    time: Duration::from_secs(600),
    answer_bytes: MAX_POST_TGZ,
};
const POST_FOLDER: &str = "/run/recon/post";
const POST_BEGUN: &str = "/run/recon/post-begun";
/// How often `post.tgz` is asked for while the master puts it off, or breaks off after this long each time. The inventory
/// does not wait for it any longer.
const POST_TRIES: u32 = 10;
/// How often the console says that the workload still runs.
const POST_SAID: Duration = Duration::from_secs(60);

fn place() -> post::Place {
    post::Place {
        folder: POST_FOLDER.into(),
        begun: POST_BEGUN.into(),
        own_memory: true,
    }
}

/// To be called when the results are uploaded.
pub(crate) fn forget() {
    post::forget(&place());
}

/// `post.tgz` where the master has one and gives it.
async fn fetch(session: &Session) -> Option<Vec<u8>> {
    let (mut tries, mut put_off) = (0, 0);
    loop {
        let asked = session.ask(Method::GET, "/post.tgz", Bytes::new(), FETCH_POST).await;
        // The one wait without end is for a master that is not there. A bad block of its stick would break every answer.
        put_off += u32::from(!matches!(asked, Err(ClientError::Connect(..))));
        let (failure, problem) = match asked {
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => return None,
            Ok(answer) if answer.status == StatusCode::OK => return Some(answer.body.to_vec()),
            Ok(answer) => {
                let failure = Failure::of(answer.status.as_u16(), answer.retry_after_seconds);
                (failure, format!("the master answered {}", answer.status))
            }
            Err(error @ ClientError::TooLarge(..)) => (Failure::Permanent, error.to_string()),
            Err(error) => (Failure::NO_ANSWER, error.to_string()),
        };
        if failure == Failure::Permanent || put_off >= POST_TRIES {
            console!("post.tgz: {problem}; going on without it");
            return None;
        }
        let wait = failure.wait(tries, rand::random());
        console!(
            "waiting for post.tgz: {problem}; next try in {} s",
            wait.as_secs().max(1)
        );
        tokio::time::sleep(wait).await;
        tries += 1;
    }
}

/// Fetches and runs `post.tgz` where the master has one.
pub(crate) async fn run(session: &Session, key: Option<&SiteKey>) -> Option<post::Results> {
    let archive = fetch(session).await?;
    if let Some(key) = key
        && let Err(error) = prove(session, key, &archive).await
    {
        console!("post.tgz is not run beside this machine's own stick: {error:#}");
        return None;
    }
    first_stage::fetch(Programs::Shell).await;
    let bounds = post::Bounds::default();
    let limit = bounds.run.as_secs();
    let packed = archive.len();
    console!("running post.sh of the site ({packed} bytes packed), for {limit} s at most");
    let message = format!("runs post.sh, for {limit} s at most");
    session.report(Stage::Collected, Some(message), None).await;
    let environment = [
        ("RECON_NODE", session.id.to_string()),
        ("RECON_MASTER", format!("http://{}", session.master)),
    ];
    let place = place();
    let name = hex(&Sha256::digest(&archive));
    let started = Instant::now();
    let mut running = std::pin::pin!(post::run(archive, &name, &place, &environment, bounds));
    let results = loop {
        match tokio::time::timeout(POST_SAID, &mut running).await {
            Ok(results) => break results,
            Err(_) => console!(
                "post.sh has run for {} s, of {limit} at most",
                started.elapsed().as_secs()
            ),
        }
    };
    match results.status.exit_code {
        _ if results.status.succeeded => console!("post.sh succeeded"),
        Some(code) => console!("post.sh failed: exit code {code}; recorded, going on"),
        None => console!("post.sh failed: no exit code; recorded, going on"),
    }
    for problem in &results.status.problems {
        console!("post.sh: {problem}");
    }
    Some(results)
}

/// Whether the master proves that this workload is the site's own. One try: without an answer it is not run.
async fn prove(session: &Session, key: &SiteKey, archive: &[u8]) -> anyhow::Result<()> {
    let sha256: [u8; 32] = Sha256::digest(archive).into();
    let nonce: [u8; 16] = rand::random();
    let target = format!("/api/v1/workload?nonce={:032x}", u128::from_be_bytes(nonce));
    let asked = session.ask(Method::GET, &target, Bytes::new(), FETCH_POST).await;
    let answer = asked.context("asking the master for a proof")?;
    let status = answer.status;
    anyhow::ensure!(status.is_success(), "asked for a proof, the master answered {status}");
    let said = serde_json::from_slice(&answer.body).context("the master's proof is not understood")?;
    let proven = workload::is_proven(key, &nonce, &sha256, &said);
    anyhow::ensure!(proven, "the master does not prove that it is this site's");
    Ok(())
}
