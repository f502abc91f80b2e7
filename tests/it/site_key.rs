//! What only the site's key, or a person at the machine, decides over HTTP.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use recon::config::live::Accepted;
use recon::config::load::settings_of;
use recon::config::{Live, SiteKey};
use recon::model::PowerOff;
use recon::service::http::client::{Bounds, exchange};
use recon::service::http::workload;
use sha2::{Digest, Sha256};

use crate::lifecycle::{serve, site};

const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(20),
    answer_bytes: 1 << 20,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_master_proves_its_workload_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = SiteKey::new(std::array::from_fn(|at| at as u8));
    std::fs::write(folder.path().join("site.key"), key.text()).unwrap();
    let mut made = Arc::into_inner(site(folder.path())).unwrap();
    made.key = key.clone();
    let (address, stop, running) = serve(Arc::new(made)).await;
    let get = async |target: &str| {
        let asked = exchange(address, Method::GET, target, &[], Bytes::new(), BOUNDS);
        asked.await.unwrap()
    };
    let nonce = [7; 16];
    let target = format!("/api/v1/workload?nonce={}", "07".repeat(16));
    assert_eq!(get(&target).await.0, StatusCode::NOT_FOUND, "there is none");
    for text in ["one", "another one"] {
        std::fs::write(folder.path().join("post.tgz"), text).unwrap();
        let (status, body) = get(&target).await;
        assert_eq!(status, StatusCode::OK);
        let said = serde_json::from_slice(&body).unwrap();
        let sha256: [u8; 32] = Sha256::digest(text).into();
        assert!(workload::is_proven(&key, &nonce, &sha256, &said), "{text}");
        assert!(!workload::is_proven(&SiteKey::new([1; 32]), &nonce, &sha256, &said));
    }
    assert_eq!(get("/api/v1/workload?nonce=07").await.0, StatusCode::BAD_REQUEST);
    for target in [
        "/site.key",
        "/export/../site.key",
        "/nodes/%2e%2e/site.key",
        "/isos\\..\\site.key",
    ] {
        assert_eq!(get(target).await.0, StatusCode::NOT_FOUND, "{target}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_about_settings_with_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| settings_of("recon.toml", Ok(Some(text.as_bytes().to_vec())));
    let mut made = Arc::into_inner(site(folder.path())).unwrap();
    made.settings = Arc::new(Live::new(read("sitte = 1"), Vec::new(), Accepted::default()));
    made.read_settings = Box::new(move || read("[peers]\npoweroff = \"acpi\"\nx = 1"));
    let site = Arc::new(made);
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let post = async |what: &str| {
        let target = format!("/api/v1/settings/{what}");
        let asked = exchange(address, Method::POST, &target, &[], Bytes::new(), BOUNDS);
        String::from_utf8(asked.await.unwrap().1.to_vec()).unwrap()
    };
    let end = || site.settings.now().policy(&[], None).poweroff;
    assert_eq!(end(), PowerOff::Never);
    let answer = post("read").await;
    assert!(answer.contains("line 3") && answer.contains("go and Enter"), "{answer}");
    assert_eq!(end(), PowerOff::Never);
    assert!(post("go").await.contains("going on"));
    assert_eq!(end(), PowerOff::Acpi);
    assert!(post("read").await.contains("at the next start"));
    stop.cancel();
    running.await.unwrap().unwrap();
}
