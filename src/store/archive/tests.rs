use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::model::MacAddr;
use crate::model::layout::{TARBALL, TARBALL_INCOMPLETE};
use crate::store::nodes::{Limits, NodeStore, StoredNode};
use crate::store::upload::samples;
use crate::store::{UploadName, scratch};

fn node(number: usize) -> NodeId {
    let [a, b] = u16::try_from(number).unwrap().to_be_bytes();
    NodeId::from_mac(MacAddr([0x52, 0x54, 0, 0, a, b]))
}

fn put(store: &NodeStore, id: &NodeId, bytes: &[u8]) {
    let mut incoming = store
        .begin(id, bytes.len() as u64, Sha256::digest(bytes).into())
        .unwrap();
    incoming.write(bytes).unwrap();
    incoming.commit().unwrap();
}

fn store_of(dir: &Path, count: usize) -> NodeStore {
    let store = NodeStore::open(dir, Limits::default()).unwrap();
    for number in 0..count {
        put(&store, &node(number), &samples::upload(&format!("SN{number}")));
    }
    store
}

fn build(builder: &Builder, nodes: &[StoredNode], out: &Path) -> (Built, Vec<u8>) {
    let built = builder.write(nodes, out, 0, &|| true).unwrap();
    let bytes = std::fs::read(out).unwrap();
    assert_eq!(built.size_bytes, bytes.len() as u64);
    assert_eq!(
        verify(bytes.as_slice()).unwrap(),
        Verified {
            nodes: built.nodes,
            files: built.files
        }
    );
    (built, bytes)
}

fn new() -> Builder {
    Builder::new(UploadLimits::default())
}

#[test]
fn coreutils_and_tar_agree() {
    let dir = scratch();
    let store = store_of(dir.path(), 3);
    let long = format!("post/result/{}/{}", "d".repeat(90), "f".repeat(90));
    // As long as a header has room for, and longer ones whose first part is no name by itself.
    let prefix = format!("nodes/{}/", node(9));
    let fill = |to: usize| format!("post/{}", "e".repeat(to - prefix.len() - "post/".len()));
    let edges = [
        fill(100),
        format!("{}/..x", fill(100 - "/..".len())),
        format!("{}ü beyond", fill(99)),
    ];
    let odd = samples::tar_gz(&[
        (&edges[0], b"exact"),
        (&edges[1], b"dots"),
        (&edges[2], b"umlaut"),
        ("inventory.json", b"{}"),
        ("post/result/line\nbreak\\slash", b"odd"),
        (&long, b"long"),
        ("elsewhere/file", b"does not belong"),
    ]);
    put(&store, &node(9), &odd);
    let out = dir.path().join(TARBALL);
    let (built, _) = build(&new(), &store.list(), &out);
    assert_eq!((built.nodes, built.files, built.left_out.len()), (4, 3 * 4 + 7, 0));
    let mut read_back = tar::Archive::new(flate2::read::MultiGzDecoder::new(File::open(&out).unwrap()));
    let mut names = Vec::new();
    for entry in read_back.entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        names.push(entry.path().unwrap().into_owned());
    }

    let list = Command::new("tar").arg("tzf").arg(&out).output().unwrap();
    assert!(list.status.success() && list.stderr.is_empty(), "{list:?}");
    assert!(list.stdout.starts_with(b"SHA256SUMS\nnodes/"));
    let unpacked = dir.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    assert!(
        Command::new("tar")
            .arg("xzf")
            .arg(&out)
            .arg("-C")
            .arg(&unpacked)
            .status()
            .unwrap()
            .success()
    );
    for edge in edges {
        let name = format!("{prefix}{edge}");
        assert!(
            names.contains(&Path::new(&name).to_owned()) && unpacked.join(&name).is_file(),
            "{name}"
        );
    }
    let sums = Command::new("sha256sum")
        .args(["--strict", "-c", SUMS_NAME])
        .current_dir(&unpacked)
        .output()
        .unwrap();
    assert!(sums.status.success(), "{sums:?}");
    assert_eq!(String::from_utf8_lossy(&sums.stdout).lines().count(), built.files);
    assert!(!unpacked.join("nodes").join(node(9).as_str()).join("elsewhere").exists());
}

#[test]
fn the_same_uploads_give_the_same_bytes_in_any_order() {
    let dir = scratch();
    let store = store_of(dir.path(), 5);
    let out = dir.path().join(TARBALL);
    let mut nodes = store.list();
    let (_, first) = build(&new(), &nodes, &out);
    nodes.reverse();
    let (_, second) = build(&new(), &nodes, &out);
    assert_eq!(first, second);
}

#[test]
fn what_replaces_an_older_one_is_what_a_first_build_gives() {
    let dir = scratch();
    let store = store_of(dir.path(), 6);
    let out = dir.path().join(TARBALL);
    build(&new(), &store.list(), &out);
    put(&store, &node(2), &samples::upload("SN2 again"));
    put(&store, &node(7), &samples::upload("SN7"));
    let (built, bytes) = build(&new(), &store.list(), &out);
    assert_eq!(built.nodes, 7);
    assert_eq!(bytes, build(&new(), &store.list(), &dir.path().join("anew")).1);
    // Whatever the old one looks like.
    std::fs::write(&out, b"bad").unwrap();
    assert_eq!(bytes, build(&new(), &store.list(), &out).1);
}

#[test]
fn bounds_of_memory_do_not_change_what_is_written() {
    let dir = scratch();
    let store = store_of(dir.path(), 70);
    // More names than sums are kept of one upload, an upload that is packed streamed, and members that are longer than memory may hold.
    let names: Vec<String> = (0..900)
        .map(|n| format!("post/result/{n}-{}", "n".repeat(80)))
        .collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    files.push(("inventory.json", b"{}"));
    put(&store, &node(200), &samples::tar_gz(&files));
    put(&store, &node(201), &noise(SMALL_BYTES as usize + 5000));
    let nodes = store.list();
    assert!(nodes.iter().any(|node| node.size_bytes > SMALL_BYTES));
    let (built, bytes) = build(&new(), &nodes, &dir.path().join(TARBALL));
    assert_eq!(built.nodes, 72);
    let mut stingy = new();
    (stingy.kept_bytes, stingy.member_bytes) = (1000, 700);
    assert!(bytes == build(&stingy, &nodes, &dir.path().join("stingy")).1);
    let mut streamed = Vec::new();
    stingy.stream(&nodes, &mut streamed, &|| true).unwrap();
    assert!(bytes == streamed);
}

/// An upload with this much that does not pack.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let noise: Vec<u8> = (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    samples::tar_gz(&[("inventory.json", b"{}"), ("raw/noise", &noise)])
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let dir = scratch();
    let store = store_of(dir.path(), 3);
    put(&store, &node(9), &noise(SMALL_BYTES as usize + 5000));
    let out = dir.path().join(TARBALL_INCOMPLETE);
    // Ends everywhere between the first question and the last.
    for asked in 0.. {
        let left = AtomicUsize::new(asked);
        let go_on = || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        };
        match new().write(&store.list(), &out, 0, &go_on) {
            Ok(built) => {
                assert!(built.nodes == 4 && asked > 10, "{asked}");
                break;
            }
            Err(error) => assert!(matches!(error, ArchiveError::Stopped), "{error:?}"),
        }
        assert!(!out.exists(), "{asked}");
    }
    let error = new().write(&store.list(), &out, u64::MAX / 2, &|| true).unwrap_err();
    assert!(matches!(error, ArchiveError::NoSpace { .. }) && !out.exists());
}

#[test]
fn what_a_tarball_holds_is_known_from_its_sums() {
    let dir = scratch();
    let store = store_of(dir.path(), 3);
    let named = samples::tar_gz(&[("inventory.json", b"{}"), ("post/result/upload.sha256", b"of the site")]);
    put(&store, &node(3), &named);
    let out = dir.path().join(TARBALL);
    let nodes = store.list();
    let (_, bytes) = build(&new(), &nodes, &out);
    assert!(holds(bytes.as_slice(), &nodes));
    assert!(!holds(bytes.as_slice(), &nodes[1..]) && !holds(&bytes[..bytes.len() / 9], &nodes));
    put(&store, &node(2), &samples::upload("SN2 again"));
    assert!(!holds(bytes.as_slice(), &store.list()));
    let (_, lacking) = build(&new().lacks(vec!["nodes/x: torn".into()]), &store.list(), &out);
    assert!(!holds(lacking.as_slice(), &store.list()));
    assert!(!holds(&b"no tarball"[..], &[] as &[StoredNode]));
}

#[test]
fn what_is_missing_stands_in_it() {
    let dir = scratch();
    let store = store_of(dir.path(), 2);
    let nodes = store.list();
    std::fs::write(&nodes[1].path, b"gone").unwrap();
    let out = dir.path().join(TARBALL);
    let (built, _) = build(&new().lacks(vec!["nodes/x/y is torn".into()]), &nodes, &out);
    assert_eq!((built.nodes, built.left_out.len()), (1, 1));
    let text = Command::new("tar")
        .arg("xzOf")
        .arg(&out)
        .arg(LACKS_NAME)
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0] == "nodes/x/y is torn" && lines[1].starts_with(&format!("nodes/{}: ", nodes[1].id)),
        "{text}"
    );
}

/// A reader that gives other bytes each time: as long as they are summed, one upload; then another.
struct Fickle<'a> {
    node: &'a StoredNode,
    opened: AtomicUsize,
    from: usize,
    then: Vec<u8>,
}

impl Upload for Fickle<'_> {
    fn id(&self) -> &NodeId {
        &self.node.id
    }
    fn name(&self) -> UploadName {
        self.node.name()
    }
    fn size_bytes(&self) -> u64 {
        self.node.size_bytes
    }
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self.opened.fetch_add(1, Ordering::Relaxed) >= self.from {
            true => Ok(Box::new(self.then.as_slice())),
            false => self.node.open(),
        }
    }
}

#[test]
fn bytes_that_change_while_they_are_read_are_never_taken() {
    let dir = scratch();
    let store = store_of(dir.path(), 1);
    let nodes = store.list();
    let mut stingy = new();
    stingy.kept_bytes = 0;
    for (builder, opens) in [(new(), 2), (stingy, 3)] {
        for from in 1..=opens {
            let fickle = [Fickle {
                node: &nodes[0],
                opened: AtomicUsize::new(0),
                from,
                then: samples::upload("another"),
            }];
            let streamed = builder.stream(&fickle, &mut Vec::new(), &|| true);
            assert_eq!(streamed.is_ok(), from == opens, "changed after {from} of {opens}");
        }
    }
}

#[test]
fn an_upload_that_went_bad_is_left_out() {
    let dir = scratch();
    let store = store_of(dir.path(), 3);
    let nodes = store.list();
    let mut bytes = std::fs::read(&nodes[1].path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&nodes[1].path, bytes).unwrap();
    let (built, _) = build(&new(), &nodes, &dir.path().join(TARBALL));
    assert_eq!(built.nodes, 2);
    assert_eq!(built.left_out[0].0, nodes[1].id);
}

#[test]
fn a_tarball_without_nodes_is_a_tarball() {
    let dir = scratch();
    let (built, _) = build(&new(), &[], &dir.path().join(TARBALL));
    assert_eq!((built.nodes, built.files), (0, 0));
}

#[test]
fn machines_of_one_name_are_listed_beside_the_sums() {
    let dir = scratch();
    let store = store_of(dir.path(), 2);
    let uuid = "93d4e5a1-7f46-11e5-bf8b-080027123456";
    let plain = build(&new(), &store.list(), &dir.path().join(TARBALL));
    for serial in ["A", "B", "C"] {
        let bytes = samples::of_machine(uuid, Some(serial), None, "");
        put(&store, &uuid.parse().unwrap(), &bytes);
    }
    let builder = new();
    let out = dir.path().join("with.tar.gz");
    let (_, bytes) = build(&builder, &store.list(), &out);
    let text = |bytes: &[u8]| {
        let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes));
        let mut found = None;
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap() == Path::new(CLASHES_NAME) {
                found = Some(std::io::read_to_string(&mut entry).unwrap());
            }
        }
        found
    };
    assert_eq!(text(&plain.1), None);
    let said = text(&bytes).unwrap();
    assert!(
        said.starts_with(&format!(
            "3 machines name themselves by the UUID {uuid}: nodes/{uuid} nodes/{uuid}-"
        )),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    // Again with members copied from the one before: the same, byte for byte.
    assert_eq!(build(&builder, &store.list(), &out).1, bytes);
    assert_eq!(build(&new(), &store.list(), &dir.path().join("new.tar.gz")).1, bytes);
}

#[test]
fn reading_back_notices_every_change() {
    let dir = scratch();
    let store = store_of(dir.path(), 2);
    let (_, bytes) = build(&new(), &store.list(), &dir.path().join(TARBALL));
    for cut in (0..bytes.len()).step_by(31) {
        assert!(verify(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let one = samples::tar_gz(&[("SHA256SUMS", b""), ("nodes/x", b"1")]);
    assert!(
        verify(one.as_slice())
            .unwrap_err()
            .to_string()
            .contains("is not in SHA256SUMS")
    );
    let line = format!("{}  nodes/x\n", "0".repeat(64));
    let missing = samples::tar_gz(&[("SHA256SUMS", line.as_bytes())]);
    assert!(
        verify(missing.as_slice())
            .unwrap_err()
            .to_string()
            .contains("is missing")
    );
    let wrong = samples::tar_gz(&[("SHA256SUMS", line.as_bytes()), ("nodes/x", b"1")]);
    assert!(
        verify(wrong.as_slice())
            .unwrap_err()
            .to_string()
            .contains("another sum")
    );
}

/// Text that packs about as well as an inventory with its raw captures: some 50 kB as an upload.
fn large_upload(number: usize) -> Vec<u8> {
    let mut state = number as u64 + 1;
    let mut text = String::new();
    while text.len() < 200_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            "  \"field-{}\": \"{:016x}\", \"unit\": \"bytes\", \"status\": \"ok\",\n",
            state >> 60,
            state
        ));
    }
    samples::tar_gz(&[("inventory.json", b"{\"system\":{}}"), ("raw/capture", text.as_bytes())])
}

/// The figure for a full data center; run it with `--release --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_thousand_nodes_take_seconds() {
    let dir = scratch();
    let store = NodeStore::open(dir.path(), Limits::default()).unwrap();
    let mut total = 0;
    for number in 0..1000 {
        let bytes = large_upload(number);
        total += bytes.len();
        put(&store, &node(number), &bytes);
    }
    let out = dir.path().join(TARBALL);
    let builder = new();
    let time = |builder: &Builder| -> (Duration, Built) {
        let begin = Instant::now();
        let built = builder.write(&store.list(), &out, 0, &|| true).unwrap();
        (begin.elapsed(), built)
    };
    println!("uploads: {total} bytes");
    println!("from nothing: {:?}", time(&builder));
    put(&store, &node(5), &large_upload(5000));
    println!("one node new: {:?}", time(&builder));
    let begin = Instant::now();
    let reopened = NodeStore::open(dir.path(), Limits::default()).unwrap();
    println!(
        "open: {:?}, list: {} after {:?}",
        begin.elapsed(),
        reopened.list().len(),
        begin.elapsed()
    );
    let begin = Instant::now();
    verify(File::open(&out).unwrap()).unwrap();
    println!("verify: {:?}", begin.elapsed());
}
