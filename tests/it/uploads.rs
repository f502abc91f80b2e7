//! Peers and strangers that upload to a real HTTP service on a real store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recon::model::NodeId;
use recon::model::inventory::Inventory;
use recon::probe::{Options, Root, collect};
use recon::role::peer::collect::Snapshot;
use recon::role::peer::post::{Results, Status};
use recon::role::peer::upload::{Kept, upload};
use recon::service::http::site::Site;
use recon::store::nodes::{Limits, NodeStore};
use recon::store::upload::UploadLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::lifecycle::{serve, site};

fn take(raw: usize) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    Snapshot {
        inventory: collect(&Root::at(folder.path()), None, &Options::new("")),
        raw: (0..raw).map(|number| (format!("r{number}"), vec![1])).collect(),
        complete: true,
        awaits_cables: false,
        awaits_storage: None,
    }
}

fn results(files: usize) -> Results {
    Results {
        status: Status {
            succeeded: true,
            exit_code: Some(0),
            problems: Vec::new(),
            duration_seconds: 0.0,
        },
        output: Vec::new(),
        files: (0..files).map(|number| (format!("f{number}"), vec![1])).collect(),
    }
}

/// A master that takes uploads of so many entries.
fn strict(folder: &std::path::Path, entries: usize) -> Arc<Site> {
    let mut site = site(folder);
    let limits = Limits {
        reserve_bytes: 0,
        upload: UploadLimits {
            entries,
            ..UploadLimits::default()
        },
        ..Limits::default()
    };
    Arc::get_mut(&mut site).unwrap().uploads = NodeStore::open(folder, limits).unwrap();
    site
}

/// Why pieces of the upload are missing, as its document says.
fn remarks(site: &Site) -> Vec<String> {
    let stored = site.uploads.list();
    let inventory: Inventory = inventory_of(&stored[0]);
    let gaps = inventory.run.items.into_iter().filter(|item| item.item == "upload");
    gaps.filter_map(|item| item.reason).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_master_refuses_is_left_out_and_said_and_the_rest_is_stored() {
    let id: NodeId = "mac-020000000001".parse().unwrap();
    // Document, three raw captures, two files of the workload and ten of its results.
    for (entries, said) in [
        (16, vec![]),
        (15, vec!["the results of post.sh"]),
        (3, vec!["the results of post.sh", "the raw captures"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let site = strict(folder.path(), entries);
        let (address, stop, running) = serve(Arc::clone(&site)).await;
        let kept = upload(address, Vec::new(), &mut id.clone(), &take(3), Some(&results(10)))
            .await
            .unwrap();
        assert_eq!(kept, Kept::Durable, "{entries} entries");
        let remarks = remarks(&site);
        assert_eq!(remarks.len(), said.len(), "{remarks:?}");
        for (remark, word) in remarks.iter().zip(said) {
            assert!(
                remark.contains(word) && remark.contains("422") && remark.contains("entries"),
                "{remark}"
            );
        }
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_takes_nothing_is_not_asked_for_ever() {
    let id: NodeId = "mac-020000000001".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let site = strict(folder.path(), 0);
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let (take, results) = (take(3), results(10));
    let mut asked_as = id.clone();
    let asked = upload(address, Vec::new(), &mut asked_as, &take, Some(&results));
    let kept = tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(&kept, Kept::Refused(why) if why.contains("entries")),
        "{kept:?}"
    );
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Answers one request after the other with these, and tells what came in their bodies.
async fn scripted(answers: Vec<&'static str>) -> (SocketAddr, tokio::task::JoinHandle<Vec<(Instant, usize)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            asked.push((Instant::now(), body.len()));
            let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    });
    (address, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_busy_gets_the_same_again_when_it_said() {
    let id: NodeId = "mac-020000000001".parse().unwrap();
    let (address, serving) = scripted(vec![
        "503 Busy\r\nRetry-After: 3\r\n",
        "507 Full\r\n",
        "429 Slow down\r\n",
        "422 What\r\n",
        "201 Created\r\n",
    ])
    .await;
    let kept = upload(address, Vec::new(), &mut id.clone(), &take(3), Some(&results(1)))
        .await
        .unwrap();
    assert_eq!(kept, Kept::Memory, "it did not say that it is durable");
    let asked = serving.await.unwrap();
    assert!(asked.iter().all(|(_, bytes)| *bytes == asked[0].1), "{asked:?}");
    let wait = asked[1].0.duration_since(asked[0].0);
    assert!(
        wait >= Duration::from_secs(3) && wait < Duration::from_secs(9),
        "{wait:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_drips_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (address, stop, running) = serve(site(folder.path())).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "PUT /api/v1/nodes/mac-020000000001/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\
                Content-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = Vec::new();
    // It may be cut off behind the answer, as it goes on sending.
    tokio::time::timeout(Duration::from_secs(60), reader.read_to_end(&mut answer))
        .await
        .unwrap()
        .ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(25) && took < Duration::from_secs(50),
        "{took:?}"
    );
    dripping.abort();
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// The document in a stored upload.
fn inventory_of(stored: &recon::store::nodes::StoredNode) -> Inventory {
    let mut text = Vec::new();
    let file = std::fs::File::open(&stored.path).unwrap();
    recon::store::upload::inventory(file, &Default::default(), |bytes| {
        text.extend_from_slice(bytes);
        Ok(())
    })
    .unwrap();
    serde_json::from_slice(&text).unwrap()
}
