//! What a node gets to start: the script by its settings, the version that counts, and the files of both.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use recon::config::Live;
use recon::config::load::settings_of;
use recon::service::http::site::Site;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::http::{get, staged};
use crate::lifecycle::{serve, site};

const PORTS: &str = "pci:v00008086d0000100Esv*sd*bc*sc*i*\te1000\npci:v00001AF4d*sv*sd*bc*sc*i*\tvirtio_pci\tbase\n";
const NODE: &str = "mac=52-54-00-00-00-01&uuid=&arch=x86_64&serial=&bus=01-80-86-10-0e";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a version of the image `compute` on the data partition, whose kernel says this; gives its version and the sum of its manifest.
fn bring(data: &Path, kernel: &str) -> (String, String) {
    let parts = [
        ("base.img", "base"),
        ("ports.img", "all ports"),
        ("ports.tsv", PORTS),
        ("port/e1000.img", "a driver"),
    ];
    let part = |content: &str| json!({ "bytes": content.len(), "sha256": hex(content.as_bytes()) });
    let first: serde_json::Map<_, _> = parts
        .iter()
        .map(|(name, content)| ((*name).to_owned(), part(content)))
        .collect();
    let manifest = json!({
        "format": 1,
        "arch": "x86_64",
        "kernel-version": "6.12.1",
        "kernel": part(kernel),
        "first": first,
        "root": { "bytes": 4, "sha256": hex(b"root"), "entries": 1, "unpacked-bytes": 4 },
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let sum = hex(&manifest);
    let folder = data.join("images/compute").join(&sum[..12]);
    fs::create_dir_all(folder.join("first/port")).unwrap();
    for (name, content) in parts {
        fs::write(folder.join("first").join(name), content).unwrap();
    }
    fs::write(folder.join("kernel"), kernel).unwrap();
    fs::write(folder.join("root.tar.zst"), "root").unwrap();
    fs::write(folder.join("image.json"), &manifest).unwrap();
    count(data, &sum[..12]);
    (sum[..12].to_owned(), sum)
}

/// This version counts from now on.
fn count(data: &Path, version: &str) {
    fs::write(data.join("images/compute/current"), format!("{version}\n")).unwrap();
}

/// A master with these settings.
fn master(folder: &Path, settings: &str) -> Arc<Site> {
    let mut site = site(folder);
    let loaded = settings_of("recon.toml", Ok(Some(settings.as_bytes().to_vec())));
    assert_eq!(loaded.problems, [""; 0]);
    Arc::get_mut(&mut site).unwrap().settings = Arc::new(Live::fine(loaded.settings));
    site
}

async fn script(address: SocketAddr, asked: &str) -> String {
    let answer = get(address, &format!("/boot.ipxe?{asked}"), &[]).await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap()
}

async fn post(address: SocketAddr, target: &str, body: &str) -> u16 {
    let done = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", body])
        .arg(format!("http://{address}{target}"))
        .output()
        .unwrap();
    String::from_utf8(done.stdout).unwrap().parse().unwrap()
}

/// A start that ends before the node is up.
async fn start(address: SocketAddr, version: Option<&str>) -> String {
    let text = script(address, NODE).await;
    let folder = version.map_or("boot/x86_64".to_owned(), |version| format!("images/compute/{version}"));
    assert!(text.contains(&format!("/{folder}/kernel?")), "{folder}: {text}");
    for file in ["kernel?action=x", "first/base.img", "first/port/e1000.img"] {
        assert_eq!(
            get(address, &format!("/{folder}/{file}"), &[]).await.status,
            200,
            "{file}"
        );
    }
    text
}

/// A node that does not come up gets the version before, then the failsafe system, until a person says so; one that came up anywhere is not
/// taken from others for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_come_up_ends_in_failsafe_and_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let (old, _) = bring(data.path(), "kernel 1");
    let (new, _) = bring(data.path(), "kernel 2");
    fs::write(data.path().join("images/compute/previous"), format!("{old}\n")).unwrap();
    let settings = "[peers]\nimage = \"compute\"\nfailsafe-after = 2\n";
    let mut site = staged(data.path());
    let loaded = settings_of("recon.toml", Ok(Some(settings.as_bytes().to_vec())));
    Arc::get_mut(&mut site).unwrap().settings = Arc::new(Live::fine(loaded.settings));
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    for version in [&new, &new, &old, &old] {
        start(address, Some(version)).await;
    }
    let policy = async || {
        let answer = get(address, "/api/v1/policy?mac=52-54-00-00-00-01", &[]).await;
        String::from_utf8(answer.body).unwrap()
    };
    let text = start(address, None).await;
    let why = format!("compute@{new} was started 2 times and did not come up, nor did the one before, compute@{old}");
    assert!(
        text.contains(" postaction=failsafe recon.poweroff=never ") && text.contains(" recon.why=compute%40"),
        "{text}"
    );
    assert!(policy().await.contains("\"failsafe\""));
    let row = |site: &Site| site.node_table().all()[0].clone();
    assert_eq!(row(&site).failsafe, Some(why));
    // And again, whatever it says meanwhile.
    start(address, None).await;
    assert_eq!(post(address, "/api/v1/nodes/mac-525400000002/retry", "").await, 404);
    assert_eq!(post(address, "/api/v1/nodes/mac-525400000001/retry", "").await, 200);
    assert!(policy().await.contains("\"image\""));
    start(address, Some(&new)).await;
    let up = format!(r#"{{"stage": "up", "macs": ["52:54:00:00:00:01"], "image": "compute@{new}"}}"#);
    assert_eq!(post(address, "/api/v1/nodes/mac-525400000001/stage", &up).await, 200);
    let mark = data.path().join(format!("images/compute/{new}.up"));
    assert!(mark.is_file());
    // It came up once, so the version before is no better.
    for _ in 0..2 {
        start(address, Some(&new)).await;
    }
    start(address, None).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_the_version_that_counts() {
    let data = tempfile::tempdir().unwrap();
    let (old, _) = bring(data.path(), "kernel 1");
    let (new, sum) = bring(data.path(), "kernel 2");
    assert_ne!(old, new);
    let settings = format!(
        "[[node]]\nmac = \"52:54:00:00:00:01\"\nimage = \"compute\"\n[[node]]\nmac = \"52:54:00:00:00:02\"\nimage = \"compute@{old}\"\nroot = \"squashfs\"\n"
    );
    let (address, stop, running) = serve(master(data.path(), &settings)).await;
    let text = script(address, NODE).await;
    assert!(!text.contains("recon.root="), "{text}");
    for words in [
        &*format!("/images/compute/{new}/kernel?memory="),
        &format!("initrd --name base.img http://{address}/images/compute/{new}/first/base.img ||"),
        &format!("initrd --name e1000.img http://{address}/images/compute/{new}/first/port/e1000.img ||"),
        " postaction=image recon.poweroff=never ",
        &format!(" recon.image=compute@{new}:{sum} "),
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    // Its version is its own, whatever counts.
    let other = script(address, &NODE.replace("00-01", "00-02")).await;
    assert!(other.contains(&format!("/images/compute/{old}/kernel?")), "{other}");
    assert!(other.contains(" recon.root=squashfs "), "{other}");
    // Of whom nothing is said takes an inventory, and asks the medium for it.
    let peer = script(address, &NODE.replace("00-01", "00-03")).await;
    assert!(
        peer.contains("/boot/x86_64/kernel?") && !peer.contains("images"),
        "{peer}"
    );
    // Who does not say what its port is, is asked.
    let entry = script(address, "mac=52-54-00-00-00-01").await;
    assert!(
        entry.contains("chain --replace") && !entry.contains("kernel"),
        "{entry}"
    );
    // GRUB cannot say it.
    let grub = get(address, "/boot.grub?mac=52:54:00:00:00:01", &[]).await;
    let grub = String::from_utf8(grub.body).unwrap();
    let initrds =
        format!("/images/compute/{new}/first/base.img (http,{address})/images/compute/{new}/first/ports.img;");
    assert!(grub.contains(&initrds), "{grub}");
    count(data.path(), &old);
    let text = script(address, NODE).await;
    assert!(text.contains(&format!("/images/compute/{old}/kernel?")), "{text}");
    // What a node began with stays there, in parts as well.
    let kernel = get(
        address,
        &format!("/images/compute/{new}/kernel?memory=&action=image"),
        &[],
    )
    .await;
    assert_eq!((kernel.status, &kernel.body[..]), (200, &b"kernel 2"[..]));
    let rest = get(
        address,
        &format!("/images/compute/{new}/root.tar.zst"),
        &["Range: bytes=2-"],
    )
    .await;
    assert_eq!((rest.status, &rest.body[..]), (206, &b"ot"[..]));
    let none = get(address, "/images/compute/../../recon.toml", &[]).await;
    assert_eq!(none.status, 404);
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_image_starts_nothing() {
    let data = tempfile::tempdir().unwrap();
    let settings = "[peers]\nimage = \"compute\"\n";
    let (address, stop, running) = serve(master(data.path(), settings)).await;
    let waits = async |why: &str| {
        let text = script(address, NODE).await;
        assert!(
            text.contains("the image compute is not here, or not whole; asking again"),
            "{text}"
        );
        assert!(!text.contains("kernel"), "{text}");
        let nodes = get(address, "/api/v1/nodes", &[]).await;
        let nodes = String::from_utf8(nodes.body).unwrap();
        assert!(nodes.contains(why), "{why}\n{nodes}");
    };
    // So that the master has a row of it.
    waits("it is not on this master").await;
    let (version, _) = bring(data.path(), "kernel");
    let folder = data.path().join("images/compute").join(&version);
    for (file, content, why) in [
        ("kernel", "kern", "kernel has 4 bytes, and its manifest says 6"),
        ("root.tar.zst", "", "root.tar.zst has 0 bytes"),
        ("first/port/e1000.img", "a drive", "e1000.img has 7 bytes"),
        ("image.json", "{}", "no manifest of an image"),
    ] {
        let whole = fs::read(folder.join(file)).unwrap();
        fs::write(folder.join(file), content).unwrap();
        waits(why).await;
        fs::write(folder.join(file), whole).unwrap();
    }
    count(data.path(), "../../../etc");
    waits("current: a version of an image has").await;
    count(data.path(), "000000000000");
    waits("it is not on this master").await;
    fs::create_dir(data.path().join("images/compute/000000000000")).unwrap();
    fs::copy(
        folder.join("image.json"),
        data.path().join("images/compute/000000000000/image.json"),
    )
    .unwrap();
    waits(&format!("its image.json is that of the version {version}")).await;
    count(data.path(), &version);
    let text = script(address, NODE).await;
    assert!(text.contains(&format!("/images/compute/{version}/kernel?")), "{text}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// What the master says to a POST.
fn answer(address: SocketAddr, target: &str, body: &str) -> String {
    let done = Command::new("curl")
        .args(["-s", "--data-binary", body])
        .arg(format!("http://{address}{target}"))
        .output()
        .unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// A node's word; true where it is to start something else.
fn says(address: SocketAddr, port: u8, stage: &str, image: &str, failure: Option<&str>) -> bool {
    let report =
        json!({ "stage": stage, "macs": [format!("52:54:00:00:00:{port:02x}")], "image": image, "failure": failure });
    let target = format!("/api/v1/nodes/mac-5254000000{port:02x}/stage");
    let said = answer(address, &target, &report.to_string());
    serde_json::from_str::<serde_json::Value>(&said).unwrap_or_else(|error| panic!("{said}: {error}"))["is_other"]
        == true
}

/// What a node itself finds wrong needs no further starts of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_gives_up_is_not_given_to_it_again() {
    let data = tempfile::tempdir().unwrap();
    let (old, _) = bring(data.path(), "kernel 1");
    let (new, _) = bring(data.path(), "kernel 2");
    fs::write(data.path().join("images/compute/previous"), format!("{old}\n")).unwrap();
    let mut site = staged(data.path());
    let settings = "[peers]\nimage = \"compute\"\n[images.compute]\nfailsafe-after = 5\nkernel-arguments = \"a=b\"\nroot = \"tmpfs\"\n";
    let loaded = settings_of("recon.toml", Ok(Some(settings.as_bytes().to_vec())));
    Arc::get_mut(&mut site).unwrap().settings = Arc::new(Live::fine(loaded.settings));
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let text = start(address, Some(&new)).await;
    assert!(
        text.contains(" recon.root=tmpfs ") && text.contains(" a=b ||"),
        "{text}"
    );
    let why = Some("too little memory");
    // That is not what it was given.
    assert!(!says(address, 1, "agent", &format!("compute@{old}"), why));
    start(address, Some(&new)).await;
    assert!(says(address, 1, "agent", &format!("compute@{new}"), why));
    start(address, Some(&old)).await;
    assert!(says(address, 1, "agent", &format!("compute@{old}"), why));
    let text = start(address, None).await;
    assert!(
        text.contains(" postaction=failsafe ") && text.contains("compute%40"),
        "{text}"
    );
    let why = format!("compute@{new} does not start there: too little memory, nor did the one before, compute@{old}");
    assert_eq!(site.node_table().all()[0].failsafe, Some(why));
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Rules by the serial number of a system, as firmware says it.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_number_says_what_a_machine_starts() {
    let data = tempfile::tempdir().unwrap();
    let (version, _) = bring(data.path(), "kernel");
    let settings = "[[node]]\nserial = \"CZ3407 a1\"\nimage = \"compute\"\n";
    let (address, stop, running) = serve(master(data.path(), settings)).await;
    for (serial, is_node) in [("cz3407%20A1", true), ("CZ3407", false), ("", false)] {
        let text = script(address, &NODE.replace("serial=", &format!("serial={serial}"))).await;
        assert_eq!(
            text.contains(&format!("/images/compute/{version}/kernel")),
            is_node,
            "{serial}: {text}"
        );
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A change goes through a room one batch after the other, and ends with the first node that does not come up.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_gets_another_version_in_batches() {
    let data = tempfile::tempdir().unwrap();
    let (old, _) = bring(data.path(), "kernel 1");
    let (new, _) = bring(data.path(), "kernel 2");
    let (old, new) = (format!("compute@{old}"), format!("compute@{new}"));
    let mut site = staged(data.path());
    let settings = format!("[peers]\nimage = \"{old}\"\nfailsafe-after = 1\n");
    let loaded = settings_of("recon.toml", Ok(Some(settings.as_bytes().to_vec())));
    Arc::get_mut(&mut site).unwrap().settings = Arc::new(Live::fine(loaded.settings));
    let (address, stop, running) = serve(Arc::clone(&site)).await;
    let of_port = |port: u8| NODE.replace("00-01", &format!("00-{port:02x}"));
    let boot = async |port: u8, image: &str| {
        let folder = image.replace('@', "/");
        let text = script(address, &of_port(port)).await;
        assert!(
            text.contains(&format!("/images/{folder}/kernel")),
            "{port} {image}: {text}"
        );
        for file in ["kernel?action=x", "first/base.img", "first/port/e1000.img"] {
            get(address, &format!("/images/{folder}/{file}"), &[]).await;
        }
    };
    for port in 1..=4 {
        boot(port, &old).await;
        assert!(!says(address, port, "up", &old, None));
    }
    for (wish, words) in [
        (json!({ "whom": "all", "start": "other" }), "it is not on this master"),
        (json!({ "whom": "node7", "start": "compute" }), "is no machine"),
        (
            json!({ "whom": "all", "start": "failsafe", "batch": 1 }),
            "--batch goes with an image",
        ),
        (json!({ "whom": "all", "start": new, "batch": 0 }), "--batch is 1 to"),
        (
            json!({ "whom": "52:54:00:00:00:*", "start": new, "batch": 2 }),
            "2 at a time",
        ),
    ] {
        let said = answer(address, "/api/v1/set-image", &wish.to_string());
        assert!(said.contains(words), "{wish}: {said}");
    }
    // Two are told, and the others wait; one that did not hear it is told again.
    let told = |port| says(address, port, "up", &old, None);
    assert_eq!(
        [told(1), told(2), told(3), told(1), told(4)],
        [true, true, false, true, false]
    );
    boot(1, &new).await;
    assert!(!told(3));
    assert!(!says(address, 1, "up", &new, None));
    assert!(told(3) && !told(4));
    // One is back with its boot program, and gets the failsafe system: it came up elsewhere.
    boot(2, &new).await;
    let text = script(address, &of_port(2)).await;
    assert!(text.contains("postaction=failsafe"), "{text}");
    boot(3, &new).await;
    assert!(!says(address, 3, "up", &new, None));
    assert!(!told(4));
    let kept = fs::read_to_string(data.path().join("start-choices.jsonl")).unwrap();
    assert!(
        kept.contains("\"told\":[\"52:54:00:00:00:01\",\"52:54:00:00:00:02\",\"52:54:00:00:00:03\"]"),
        "{kept}"
    );
    // Whoever is at the master has it tried again, and the room goes on once that is up.
    assert_eq!(post(address, "/api/v1/nodes/mac-525400000002/retry", "").await, 200);
    assert!(told(4));
    boot(2, &new).await;
    assert!(!says(address, 2, "up", &new, None));
    // A choice without a batch ends it.
    let wish = json!({ "whom": "all", "start": "as-settings" });
    assert!(answer(address, "/api/v1/set-image", &wish.to_string()).contains("recon.toml"));
    assert!(!told(4));
    boot(4, &old).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
