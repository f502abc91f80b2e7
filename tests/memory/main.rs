//! Memory as the allocator hands it out, byte by byte: the same on every machine. In a program of its own, because it counts for
//! the whole process; and one test at a time, so that nothing else allocates meanwhile.

// clippy.toml allows this in unit tests; it does not see that helpers here are test code too.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod downloads;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use recon::model::{MacAddr, NodeId};
use recon::store::nodes::{Limits, Made, NodeStore};
use recon::store::upload::{UploadError, UploadLimits, check, facts};
use sha2::{Digest, Sha256};

/// Bytes handed out and not given back, and the most since [`peak_of`] began.
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

impl Counting {
    fn more(bytes: usize) {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator.
// An allocator is unsafe by its nature; this one passes everything on.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are there.
        Counting::more(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whoever counts is alone.
static ALONE: Mutex<()> = Mutex::new(());

fn now() -> usize {
    NOW.load(Ordering::Relaxed)
}

/// What `work` gives, and the most bytes it held at once.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = now();
    PEAK.store(before, Ordering::Relaxed);
    let done = work();
    (done, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn tar_gz(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn upload(inventory: String) -> Vec<u8> {
    tar_gz([("inventory.json".to_owned(), inventory.into_bytes())])
}

/// What a stranger sends to cost memory, each a few kilobytes to some hundred.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let many = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let nest = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let names = (0..4900).map(|n| (format!("raw/{}/{n}", "n/".repeat(500)), Vec::new()));
    vec![
        ("empty arrays", upload(format!("{{\"a\":[{}1]}}", many("[],", 2 * MIB)))),
        (
            "empty objects",
            upload(format!("{{\"a\":[{}1]}}", many("{},", 2 * MIB))),
        ),
        (
            "in the part that is read",
            upload(format!(
                "{{\"system\":{{\"value\":{{\"vendor\":[{}1]}}}}}}",
                many("[],", MIB)
            )),
        ),
        (
            "nested arrays",
            upload(format!("{{\"a\":[{}1]}}", many(&format!("{nest},"), 2 * MIB))),
        ),
        (
            "members",
            upload(format!("{{{}\"a\":0}}", many("\"b\":{\"c\":0},", 2 * MIB))),
        ),
        (
            "long strings",
            upload(format!(
                "{{\"system\":{{\"vendor\":\"{0}\",\"{0}\":1}}}}",
                many("s", MIB - KIB)
            )),
        ),
        ("one string", upload(format!("{{\"a\":\"{}\"}}", many("s", 3 * MIB)))),
        ("one name", upload(format!("{{\"{}\":0}}", many("s", 3 * MIB)))),
        ("one number", upload(format!("{{\"a\":{}}}", many("9", 3 * MIB)))),
        ("depth", upload(format!("{{\"a\":{}", many("[", 3 * MIB)))),
        (
            "names of files",
            tar_gz(names.chain([("inventory.json".to_owned(), b"{}".to_vec())])),
        ),
        ("zeros", upload(many("\0", 6 * MIB))),
        ("ports", upload(format!("{{\"nics\":{{\"value\":[{}{{}}]}}}}", ports()))),
    ]
}

/// Ports with long texts where short ones are expected, as many as are looked at.
fn ports() -> String {
    let long = "\u{1f600}".repeat(256);
    let port = format!("{{\"permanent_mac\":\"{long}\",\"driver\":\"{long}\",\"physical_function\":\"{long}\"}},");
    port.repeat(8192)
}

fn node(number: usize) -> NodeId {
    let [a, b, c, d] = (number as u32).to_be_bytes();
    NodeId::from_mac(MacAddr([2, 0, a, b, c, d]))
}

fn put(store: &NodeStore, number: usize, bytes: &[u8]) -> bool {
    let mut incoming = store
        .begin(&node(number), bytes.len() as u64, Sha256::digest(bytes).into())
        .unwrap();
    incoming.write(bytes).unwrap();
    incoming.commit().is_ok()
}

#[test]
fn a_download_costs_little_memory() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let each = downloads::bytes_each();
    writeln!(std::io::stderr(), "a download more: {each} bytes").unwrap();
    // 16 KiB of it are hyper's buffers, of which little is ever written.
    assert!(each < 22 * KIB, "{each} bytes for each download");
}

#[test]
fn what_strangers_send_costs_little_memory() {
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let limits = UploadLimits::default();
    for (what, bytes) in hostile() {
        // One after the other, as the store does.
        let (checked, peak) =
            peak_of(|| check(bytes.as_slice(), &limits).and_then(|_| facts(bytes.as_slice(), &limits).map(drop)));
        assert!(
            matches!(checked, Ok(_) | Err(UploadError::Refused(_))),
            "{what}: {checked:?}"
        );
        writeln!(
            std::io::stderr(),
            "{what}: {} bytes sent, {} KiB held",
            bytes.len(),
            peak / KIB
        )
        .unwrap();
        assert!(peak < 3 * MIB, "{what}: {peak} bytes held to check {}", bytes.len());
    }

    // 32 at once, each with what costs most.
    let folder = tempfile::tempdir().unwrap();
    let store = NodeStore::open(folder.path(), Limits::default()).unwrap();
    let bytes = upload(format!(
        "{{\"system\":{{\"vendor\":\"{0}\",\"{0}\":1}}}}",
        "s".repeat(MIB - KIB)
    ));
    let (taken, peak) = peak_of(|| {
        std::thread::scope(|scope| {
            let puts: Vec<_> = (0..32)
                .map(|n| {
                    scope.spawn({
                        let (store, bytes) = (&store, &bytes);
                        move || put(store, n, bytes)
                    })
                })
                .collect();
            puts.into_iter()
                .map(|put| put.join().unwrap())
                .filter(|taken| *taken)
                .count()
        })
    });
    writeln!(std::io::stderr(), "32 at once: {} KiB held", peak / KIB).unwrap();
    assert_eq!(taken, 32);
    assert!(peak < 12 * MIB, "{peak} bytes held for 32 uploads at once");
    drop(store);

    // What is made of many nodes takes no more than what is made of few, but for the list of nodes itself.
    let mut peaks = Vec::new();
    for count in [200, 800] {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = NodeStore::open(folder.path(), Limits::default()).unwrap();
        let files = |n: usize| {
            [
                ("inventory.json".to_owned(), format!("{{\"n\":{n}}}").into_bytes()),
                ("raw/x".to_owned(), vec![0; 2000]),
            ]
        };
        let ((), stored) = peak_of(|| (0..count).for_each(|n| assert!(put(&store, n, &tar_gz(files(n))))));
        let mut length = 0;
        // Uploads are summed on several threads, which are at their peaks together in some runs only.
        let send = |_| peak_of(|| store.stream_tarball(&mut Count(&mut length), &|| true).unwrap()).1;
        let sent = (0..4).map(send).max().unwrap();
        let (made, written) = peak_of(|| store.make_tarball(true, &|| true).unwrap());
        assert_eq!(made, Made::Current { nodes: count });
        assert!(length > 4 * 200 * count as u64);
        writeln!(
            std::io::stderr(),
            "{count} nodes: {} KiB to store, {} KiB to send, {} KiB to write",
            stored / KIB,
            sent / KIB,
            written / KIB
        )
        .unwrap();
        peaks.push((stored, sent, written));
    }
    let more = |of: fn(&(usize, usize, usize)) -> usize| of(&peaks[1]).saturating_sub(of(&peaks[0])) / 600;
    let (stored, sent, written) = (more(|peak| peak.0), more(|peak| peak.1), more(|peak| peak.2));
    writeln!(std::io::stderr(), "a node more: {stored}, {sent} and {written} bytes").unwrap();
    // A record; a record, a row of the list and sums of three files.
    assert!(
        stored < 600 && sent < 1200 && written < 1200,
        "{stored}, {sent}, {written} bytes a node"
    );
}

/// Counts what is written.
struct Count<'a>(&'a mut u64);

impl Write for Count<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        *self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
