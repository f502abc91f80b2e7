use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::model::MacAddr;
use crate::store::nodes::{Limits, NodeStore, StoredNode};
use crate::store::scratch;
use crate::store::upload::samples;

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

fn build(builder: &mut Builder, nodes: &[StoredNode], out: &Path) -> (Built, Vec<u8>) {
    let built = builder.rebuild(nodes, out).unwrap();
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
    let odd = samples::tar_gz(&[
        ("inventory.json", b"{}"),
        ("post/result/line\nbreak\\slash", b"odd"),
        (&long, b"long"),
        ("elsewhere/file", b"does not belong"),
    ]);
    put(&store, &node(9), &odd);
    let out = dir.path().join(FILE_NAME);
    let (built, _) = build(&mut new(), &store.list(), &out);
    assert_eq!((built.nodes, built.files, built.left_out.len()), (4, 3 * 4 + 4, 0));

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
    let out = dir.path().join(FILE_NAME);
    let mut nodes = store.list();
    let (_, first) = build(&mut new(), &nodes, &out);
    nodes.reverse();
    let (_, second) = build(&mut new(), &nodes, &out);
    assert_eq!(first, second);
    let (_, stamped) = build(&mut new().mtime(1_700_000_000), &nodes, &out);
    assert_ne!(first, stamped);
}

#[test]
fn a_rebuild_copies_what_did_not_change() {
    let dir = scratch();
    let store = store_of(dir.path(), 6);
    let out = dir.path().join(FILE_NAME);
    let mut builder = new();
    assert_eq!(build(&mut builder, &store.list(), &out).0.reused, 0);
    put(&store, &node(2), &samples::upload("SN2 again"));
    put(&store, &node(7), &samples::upload("SN7"));
    let (built, bytes) = build(&mut builder, &store.list(), &out);
    assert_eq!((built.nodes, built.reused), (7, 5));
    assert_eq!(bytes, build(&mut new(), &store.list(), &dir.path().join("anew")).1);
}

#[test]
fn an_old_tarball_that_went_bad_is_not_copied_from() {
    let dir = scratch();
    let store = store_of(dir.path(), 4);
    let out = dir.path().join(FILE_NAME);
    let mut builder = new();
    let (_, whole) = build(&mut builder, &store.list(), &out);
    for at in (0..whole.len()).step_by(97) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&out, bad).unwrap();
        assert_eq!(build(&mut builder, &store.list(), &out).1, whole, "byte {at}");
    }
    std::fs::remove_file(&out).unwrap();
    assert_eq!(build(&mut builder, &store.list(), &out).1, whole);
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
    let (built, _) = build(&mut new(), &nodes, &dir.path().join(FILE_NAME));
    assert_eq!(built.nodes, 2);
    assert_eq!(built.left_out[0].0, nodes[1].id);
}

#[test]
fn an_upload_that_goes_bad_later_is_left_out_later() {
    let dir = scratch();
    let store = store_of(dir.path(), 3);
    let nodes = store.list();
    let out = dir.path().join(FILE_NAME);
    let mut builder = new();
    build(&mut builder, &nodes, &out);
    std::fs::write(&nodes[1].path, b"gone").unwrap();
    assert_eq!(build(&mut builder, &nodes, &out).0.nodes, 3, "the tarball still has it");
    std::fs::remove_file(&out).unwrap();
    let (built, _) = build(&mut builder, &nodes, &out);
    assert_eq!((built.nodes, built.left_out.len()), (2, 1));
}

#[test]
fn a_tarball_without_nodes_is_a_tarball() {
    let dir = scratch();
    let (built, _) = build(&mut new(), &[], &dir.path().join(FILE_NAME));
    assert_eq!((built.nodes, built.files), (0, 0));
}

#[test]
fn machines_of_one_name_are_listed_beside_the_sums() {
    let dir = scratch();
    let store = store_of(dir.path(), 2);
    let uuid = "93d4e5a1-7f46-11e5-bf8b-080027123456";
    let plain = build(&mut new(), &store.list(), &dir.path().join(FILE_NAME));
    for serial in ["A", "B", "C"] {
        let bytes = samples::of_machine(uuid, Some(serial), None, "");
        put(&store, &uuid.parse().unwrap(), &bytes);
    }
    let mut builder = new();
    let out = dir.path().join("with.tar.gz");
    let (_, bytes) = build(&mut builder, &store.list(), &out);
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
    assert_eq!(build(&mut builder, &store.list(), &out).1, bytes);
    assert_eq!(
        build(&mut new(), &store.list(), &dir.path().join("new.tar.gz")).1,
        bytes
    );
}

#[test]
fn reading_back_notices_every_change() {
    let dir = scratch();
    let store = store_of(dir.path(), 2);
    let (_, bytes) = build(&mut new(), &store.list(), &dir.path().join(FILE_NAME));
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
    let out = dir.path().join(FILE_NAME);
    let mut builder = new();
    let time = |builder: &mut Builder| -> (Duration, Built) {
        let begin = Instant::now();
        let built = builder.rebuild(&store.list(), &out).unwrap();
        (begin.elapsed(), built)
    };
    println!("uploads: {total} bytes");
    println!("from nothing: {:?}", time(&mut builder));
    put(&store, &node(5), &large_upload(5000));
    println!("one node new: {:?}", time(&mut builder));
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
