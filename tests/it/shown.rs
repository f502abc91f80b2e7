//! Words of strangers never act: not on a terminal, in a log, on a page or in a table. Each outlet of the program is shown one
//! string with a character of every kind that could; what comes out must hold none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use recon::model::shown::acts;
use recon::service::http::client::{Bounds, exchange};
use recon::service::http::upload::digest_header;
use sha2::{Digest, Sha256};

use crate::layering::{programs, root};
use crate::lifecycle::{serve, site};

/// A title for the window, colours, a return, a line of its own, a direction override, C1 controls, marks of byte order, tags.
const EVIL: &str = "A\u{1b}]0;owned\u{7}B\u{1b}[2JC\rD\nE\u{202e}F\u{85}G\u{feff}H\u{7f}I\u{9b}31mJ\u{2028}K\u{200f}L\u{200b}M\u{e0041}N";
/// As a kernel attribute, a file name or a line of a file may hold it.
const EVIL_LINE: &str = "A\u{1b}[2JB\u{202e}C\u{85}D\u{feff}E\u{9b}31mF\u{2028}G\u{200f}H\u{e0041}I";

#[track_caller]
fn harmless(text: &str) {
    let found: BTreeSet<char> = text.chars().filter(|c| acts(*c) && *c != '\n').collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

fn recon(words: &[&Path]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_recon"))
        .args(words)
        .env("RECON_LOG", "trace")
        .output()
        .unwrap();
    for stream in [&output.stdout, &output.stderr] {
        harmless(std::str::from_utf8(stream).unwrap());
    }
    output
}

/// Only these files may name what leads to a person's eyes without [`recon::model::shown::Shown`]; clippy.toml forbids some of it
/// by itself, and this finds the rest.
#[test]
fn words_leave_by_the_doors_that_are_guarded() {
    const DOORS: [&str; 4] = [
        "sys/terminal.rs",
        "sys/console.rs",
        "cli/log.rs",
        "service/http/response.rs",
    ];
    const WAYS: [&str; 14] = [
        "println!",
        "print!(",
        "eprint",
        "io::stdout",
        "io::stderr",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/tty",
        "/dev/console",
        "/dev/kmsg",
        "/dev/pts",
        "Full::new(",
        "set_hook",
        "tracing_subscriber",
    ];
    // What is read only, or carries no words for people.
    const OTHERS: [(&str, &str); 6] = [
        ("sys/kmsg.rs", "/dev/kmsg"),
        ("probe/health.rs", "/dev/kmsg"),
        ("service/http/client.rs", "Full::new("),
        ("sys/init.rs", "/dev/pts"),
        // What the system that follows starts with as its standard streams.
        ("sys/init.rs", "/dev/console"),
        ("service/fetch/client.rs", "Full::new("),
    ];
    let mut wrong = Vec::new();
    for (name, text) in programs() {
        if DOORS.contains(&name.as_str()) {
            continue;
        }
        let used = WAYS
            .iter()
            .filter(|way| text.contains(*way) && !OTHERS.contains(&(name.as_str(), way)));
        wrong.extend(used.map(|way| format!("{name}: {way}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A captured machine in which every text says [`EVIL_LINE`] as well.
fn evil_machine(to: &Path) {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let (path, target) = (entry.path(), to.join(entry.file_name()));
            if path.is_symlink() {
                std::os::unix::fs::symlink(std::fs::read_link(&path).unwrap(), &target).unwrap();
            } else if path.is_dir() {
                copy(&path, &target);
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                let worded = std::str::from_utf8(&bytes)
                    .is_ok_and(|text| text.lines().count() == 1 && text.trim().parse::<f64>().is_err());
                if worded {
                    bytes.truncate(bytes.trim_ascii_end().len());
                    bytes.extend_from_slice(EVIL_LINE.as_bytes());
                    bytes.push(b'\n');
                }
                std::fs::write(&target, bytes).unwrap();
            }
        }
    }
    copy(&root().join("tests/fixtures/machines/qemu-q35-everything/tree"), to);
}

#[test]
fn an_inventory_is_shown_harmless_and_kept_faithful() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    evil_machine(&tree);
    let run = |format: &str| {
        let output = recon(&[
            Path::new("inventory"),
            Path::new("--root"),
            &tree,
            Path::new("--format"),
            Path::new(format),
        ]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for format in ["text", "tree"] {
        let text = run(format);
        assert!(text.contains("[2JB\u{fffd}C"), "the machine's words are shown: {text}");
    }
    let json = run("json");
    assert!(json.contains("[2JB\\u202eC"), "{json}");
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(document.to_string().contains("[2JB\u{202e}C"), "the value is as it was");
}

fn upload(inventory: &serde_json::Value) -> Bytes {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let text = inventory.to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, "inventory.json", text.as_bytes()).unwrap();
    tar.into_inner().unwrap().finish().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_peer_writes_on_no_screen() {
    const BOUNDS: Bounds = Bounds {
        time: std::time::Duration::from_secs(20),
        answer_bytes: 1 << 20,
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("isos")).unwrap();
    std::fs::write(folder.path().join("isos").join(EVIL_LINE), "x").unwrap();
    let (address, stop, running) = serve(site(folder.path())).await;
    let ask = async |method: Method, target: &str, headers: &[(&'static str, String)], body: Bytes| {
        let (status, body) = exchange(address, method, target, headers, body, BOUNDS).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        harmless(&text);
        (status, text)
    };
    let get = async |target: &str| ask(Method::GET, target, &[], Bytes::new()).await;

    let report = serde_json::json!({ "stage": "agent", "macs": [], "message": EVIL, "failure": EVIL });
    let target = "/api/v1/nodes/mac-020000000001/stage";
    let (status, _) = ask(Method::POST, target, &[], report.to_string().into()).await;
    assert_eq!(status, StatusCode::OK);
    // What is wrong with a body is told in words of that body.
    let odd = serde_json::json!({ EVIL: EVIL, "stage": EVIL }).to_string();
    assert_eq!(
        ask(Method::POST, target, &[], odd.into()).await.0,
        StatusCode::BAD_REQUEST
    );

    let system = serde_json::json!({ "vendor": EVIL, "product": "Rack 1", "serial": EVIL });
    let body = upload(&serde_json::json!({ "schema_version": 1, "system": { "value": system } }));
    let digest: [u8; 32] = Sha256::digest(&body).into();
    let target = "/api/v1/nodes/mac-020000000002/upload";
    let headers = [("content-digest", digest_header(&digest))];
    assert_eq!(ask(Method::PUT, target, &headers, body).await.0, StatusCode::CREATED);

    let who = "mac=02-00-00-00-00-03&arch=%E2%80%AEx&serial=%E2%80%AEevil%1b";
    for target in ["/boot.ipxe", "/boot.grub", "/menu.ipxe"] {
        get(&format!("{target}?{who}")).await;
    }
    for target in [
        "/metrics",
        "/%1b%5b2J",
        "/nodes/%E2%80%AE",
        "/isos/",
        "/",
        "/loaders/%E2%80%AE",
    ] {
        get(target).await;
    }
    let (_, nodes) = get("/api/v1/nodes").await;
    assert!(nodes.contains("\\u202e"), "{nodes}");
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let of = |id: &str| nodes.as_array().unwrap().iter().find(|node| node["id"] == id).unwrap();
    assert_eq!(of("mac-020000000001")["failure"], EVIL, "programs get what was said");

    let (plain, screen) = tokio::task::spawn_blocking(move || {
        let master = address.to_string();
        let words = ["status", "--master", &master].map(Path::new);
        let output = recon(&words);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    })
    .await
    .unwrap();
    assert!(plain && screen.contains("]0;owned"), "{screen}");
    // One row a machine: the line feed of its words made none.
    let rows = screen
        .lines()
        .filter(|line| line.starts_with("02:00") || line.starts_with("5254") || line.starts_with("0200"));
    assert_eq!(rows.count(), 3, "{screen}");
    stop.cancel();
    running.await.unwrap().unwrap();

    let out = folder.path().join(format!("out{EVIL_LINE}.tar.gz"));
    let copy = std::fs::read_to_string(folder.path().join("nodes/mac-020000000002/inventory.json")).unwrap();
    harmless(&copy);
    let copy: serde_json::Value = serde_json::from_str(&copy).unwrap();
    assert_eq!(copy["system"]["value"]["serial"], EVIL);
    let elsewhere = tempfile::tempdir().unwrap();
    let stick = elsewhere.path().join(format!("stick{EVIL_LINE}"));
    std::fs::rename(folder.path().join("nodes"), {
        std::fs::create_dir(&stick).unwrap();
        stick.join("nodes")
    })
    .unwrap();
    let collected = recon(&[Path::new("collect"), &stick, Path::new("-o"), &out]);
    let table = String::from_utf8(collected.stdout).unwrap();
    assert!(
        collected.status.success() && table.contains("1 of 1 node whole"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn what_is_wrong_is_told_without_obeying_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let settings = file(
        &format!("{EVIL_LINE}.toml"),
        &format!("\"{EVIL_LINE}\" = 1\n{EVIL_LINE}\n"),
    );
    let image = file(&format!("{EVIL}.img"), EVIL);
    let out = folder.path().join(format!("{EVIL}.tar.gz"));
    for words in [
        vec![Path::new("settings"), &settings],
        vec![Path::new("settings"), &image],
        vec![Path::new("collect"), &image, Path::new("-o"), &out],
        vec![Path::new("inventory"), Path::new("--root"), &image],
        vec![Path::new("write-disk"), Path::new("--image"), &image],
    ] {
        let output = recon(&words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words:?}");
        // Nothing that a file is called can look like a sentence of ours.
        let ours = text.lines().filter(|line| !line.starts_with("    "));
        assert!(
            ours.clone()
                .all(|line| line.starts_with("recon: ") || line.starts_with("20")),
            "{text}"
        );
        assert_eq!(ours.filter(|line| line.starts_with("recon: ")).count(), 1, "{text}");
    }
}

#[test]
fn a_log_that_is_no_terminal_has_no_colours() {
    // Nothing answers on the discard port of loopback; the failure is on standard error, which is a pipe here.
    let output = Command::new(env!("CARGO_BIN_EXE_recon"))
        .args(["inventory", "--root", "/nothing/at/all", "-vv"])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains('\u{1b}'));
}
