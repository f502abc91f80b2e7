use crate::formats::bytes::hex;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::records::{MAX_KEPT_EVIDENCE, MAX_OF_ONE_NAME, MAX_PROBLEMS};
use super::shared::NAME_LOCKS;
use super::*;
use crate::model::identity::Evidence;
use crate::model::layout;
use crate::store::fs_ops::faults::{Fault, Faulty};
use crate::store::upload::samples;
use crate::store::{UploadName, archive, scratch};

fn node(last: u8) -> NodeId {
    NodeId::from_mac(crate::model::MacAddr([0x52, 0x54, 0, 0, 0, last]))
}

fn sha(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

fn put(store: &NodeStore, id: &NodeId, bytes: &[u8]) -> Result<Stored, StoreError> {
    let mut incoming = store.begin(id, bytes.len() as u64, sha(bytes))?;
    for chunk in bytes.chunks(400) {
        incoming.write(chunk)?;
    }
    incoming.commit()
}

fn open(dir: &Path) -> NodeStore {
    NodeStore::open(dir, Limits::default()).unwrap()
}

/// Names under `nodes/`, folders and files.
fn names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in fs::read_dir(dir.join("nodes")).unwrap() {
        let folder = folder.unwrap();
        names.push(folder.file_name().into_string().unwrap());
        for file in fs::read_dir(folder.path()).unwrap() {
            names.push(file.unwrap().file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

#[test]
fn an_upload_is_there_after_a_restart() {
    let dir = scratch();
    let bytes = samples::upload("SN1");
    let stored = put(&open(dir.path()), &node(1), &bytes).unwrap();
    assert_eq!(
        (stored.seq, stored.size_bytes, stored.already),
        (1, bytes.len() as u64, false)
    );

    let nodes = open(dir.path()).list();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].sha256, stored.sha256);
    assert_eq!(nodes[0].facts().summary.as_deref(), Some("Acme R1 SN1"));
    assert_eq!(fs::read(&nodes[0].path).unwrap(), bytes);
    let copy = fs::read(dir.path().join("nodes").join(node(1).as_str()).join("inventory.json")).unwrap();
    assert_eq!(copy, samples::inventory(&bytes));
}

#[test]
fn the_two_newest_are_kept() {
    let dir = scratch();
    let store = open(dir.path());
    for round in 1..=5 {
        let stored = put(&store, &node(1), &samples::upload(&format!("SN{round}"))).unwrap();
        assert_eq!(stored.seq, round);
    }
    let nodes = store.list();
    assert_eq!((nodes[0].seq, nodes[0].uploads), (5, 2));
    assert_eq!(
        names(dir.path())
            .iter()
            .filter(|name| name.ends_with(".tar.gz"))
            .count(),
        2
    );
}

#[test]
fn the_same_upload_again_is_acknowledged_without_a_copy() {
    let dir = scratch();
    let store = open(dir.path());
    let bytes = samples::upload("SN1");
    put(&store, &node(1), &bytes).unwrap();
    let before = names(dir.path());
    for store in [store, open(dir.path())] {
        let again = put(&store, &node(1), &bytes).unwrap();
        assert_eq!((again.seq, again.already), (1, true));
        assert_eq!(names(dir.path()), before);
    }
}

#[test]
fn the_same_upload_again_is_stored_when_the_first_went_bad() {
    let dir = scratch();
    let store = open(dir.path());
    let bytes = samples::upload("SN1");
    put(&store, &node(1), &bytes).unwrap();
    fs::write(&store.list()[0].path, &bytes[..10]).unwrap();
    let again = put(&store, &node(1), &bytes).unwrap();
    assert_eq!((again.seq, again.already), (2, false));
    assert_eq!(fs::read(&open(dir.path()).list()[0].path).unwrap(), bytes);
}

#[test]
fn what_is_wrong_is_refused_and_leaves_nothing() {
    let dir = scratch();
    let limits = Limits {
        upload_bytes: 5000,
        ..Limits::default()
    };
    let store = NodeStore::open(dir.path(), limits).unwrap();
    let bytes = samples::upload("SN1");
    let length = bytes.len() as u64;

    assert!(matches!(
        store.begin(&node(1), 5001, [0; 32]),
        Err(StoreError::TooLarge { limit: 5000, .. })
    ));

    let mut short = store.begin(&node(1), length, sha(&bytes)).unwrap();
    short.write(&bytes[..10]).unwrap();
    assert!(matches!(
        short.commit(),
        Err(StoreError::LengthMismatch { received: 10, .. })
    ));

    let mut long = store.begin(&node(1), length, sha(&bytes)).unwrap();
    long.write(&bytes).unwrap();
    assert!(matches!(long.write(b"x"), Err(StoreError::LengthMismatch { .. })));
    assert!(matches!(long.commit(), Err(StoreError::LengthMismatch { .. })));

    let mut wrong = store.begin(&node(1), length, [7; 32]).unwrap();
    wrong.write(&bytes).unwrap();
    assert!(matches!(wrong.commit(), Err(StoreError::DigestMismatch { .. })));

    assert!(matches!(
        put(&store, &node(1), b"no tarball"),
        Err(StoreError::NotAnUpload(_))
    ));

    drop(store.begin(&node(1), length, sha(&bytes)).unwrap());
    assert_eq!(names(dir.path()), Vec::<String>::new());
    assert_eq!(store.list(), []);
    put(&store, &node(1), &bytes).unwrap();
}

#[test]
fn room_is_asked_for_before_a_byte_is_written() {
    let dir = scratch();
    let mut medium = Faulty::new(Fault::None);
    medium.free = 20_000;
    let limits = Limits {
        reserve_bytes: 5_000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir.path(), limits, Arc::new(medium)).unwrap();
    let first = store.begin(&node(1), 10_000, [0; 32]).unwrap();
    let second = store.begin(&node(2), 10_000, [0; 32]);
    assert!(
        matches!(
            second,
            Err(StoreError::NoSpace {
                needed: 25_000,
                free: 20_000
            })
        ),
        "counts what is under way"
    );
    drop(first);
    store.begin(&node(2), 10_000, [0; 32]).unwrap();
}

#[test]
fn leftovers_go_and_torn_uploads_are_named() {
    let dir = scratch();
    let store = open(dir.path());
    let (first, second) = (samples::upload("SN1"), samples::upload("SN2"));
    put(&store, &node(1), &first).unwrap();
    put(&store, &node(1), &second).unwrap();
    let newest = store.list()[0].path.clone();
    fs::write(&newest, &second[..100]).unwrap();
    fs::write(newest.with_file_name("incoming-9.part"), b"x").unwrap();
    fs::write(newest.with_file_name("notes.txt"), b"of a person").unwrap();
    fs::create_dir(dir.path().join("nodes/not-a-node")).unwrap();

    let store = open(dir.path());
    let nodes = store.list();
    assert_eq!((nodes[0].seq, nodes[0].uploads), (1, 1));
    assert_eq!(fs::read(&nodes[0].path).unwrap(), first);
    assert!(store.problems()[0].contains("torn"), "{:?}", store.problems());
    let names = names(dir.path());
    assert!(
        names.contains(&"notes.txt".into()) && !names.iter().any(|name| name.ends_with(".part")),
        "{names:?}"
    );

    // The next upload does not take the place of the torn one, and clears it away once newer ones are whole.
    assert_eq!(put(&store, &node(1), &samples::upload("SN3")).unwrap().seq, 3);
    assert_eq!(put(&store, &node(1), &samples::upload("SN4")).unwrap().seq, 4);
    assert!(!newest.exists());
}

#[test]
fn a_new_upload_comes_behind_everything_on_the_medium() {
    let dir = scratch();
    let store = open(dir.path());
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    // Nothing the store knows of: its folder did not read at start.
    let unknown = samples::upload("SN7");
    let path = store.list()[0].path.with_file_name(
        UploadName {
            seq: 7,
            sha256: sha(&unknown),
        }
        .to_string(),
    );
    fs::write(path, unknown).unwrap();
    assert_eq!(put(&store, &node(1), &samples::upload("SN8")).unwrap().seq, 8);
    assert_eq!(open(dir.path()).list()[0].seq, 8);
}

#[test]
fn a_large_store_is_checked_in_the_background() {
    let dir = scratch();
    let store = open(dir.path());
    for last in 0..40 {
        put(&store, &node(last), &samples::upload(&format!("SN{last}"))).unwrap();
    }
    let limits = Limits {
        check_at_open_bytes: 0,
        ..Limits::default()
    };
    let store = NodeStore::open(dir.path(), limits).unwrap();
    assert_eq!(store.list().len(), 40);
    assert_eq!((store.unchecked(), store.list_checked().len()), (0, 40));
}

#[test]
fn many_uploads_at_once_are_all_stored() {
    let dir = scratch();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for last in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..4 {
                    put(&store, &node(last / 2), &samples::upload(&format!("{last}-{round}"))).unwrap();
                }
            });
        }
    });
    let nodes = open(dir.path()).list();
    assert!(
        nodes.len() == 4 && nodes.iter().all(|node| node.seq == 8 && node.uploads == 2),
        "{nodes:?}"
    );
}

/// A random number generator that is the same everywhere.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let state = AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    move |sides| {
        let mut x = state.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.store(x, Ordering::Relaxed);
        usize::try_from((x >> 16) % sides.max(1) as u64).unwrap()
    }
}

/// What was sent to a store, and the newest that it acknowledged.
#[derive(Default)]
struct Sent {
    all: Vec<Vec<u8>>,
    acknowledged: Option<usize>,
}

/// Uploads, repeats and tarballs, as a master has them, until something fails for good.
fn work(dir: &Path, medium: Arc<dyn Medium>) -> BTreeMap<NodeId, Sent> {
    let mut sent: BTreeMap<NodeId, Sent> = BTreeMap::new();
    let Ok(store) = NodeStore::open_on(dir, Limits::default(), Arc::clone(&medium)) else {
        return sent;
    };
    for (last, round) in [(1, 1), (2, 1), (1, 2), (1, 2), (1, 3), (2, 2), (1, 4)] {
        let bytes = samples::upload(&format!("{last}-{round}"));
        let node_sent = sent.entry(node(last)).or_default();
        node_sent.all.push(bytes.clone());
        if put(&store, &node(last), &bytes).is_ok() {
            node_sent.acknowledged = Some(node_sent.all.len() - 1);
        }
        let _ = store.make_tarball(false, &|| true);
    }
    sent
}

/// Nothing acknowledged is missing, nothing torn is listed.
fn check(dir: &Path, sent: &BTreeMap<NodeId, Sent>, context: &str) {
    let store = open(dir);
    let nodes: BTreeMap<NodeId, Vec<u8>> = store
        .list()
        .into_iter()
        .map(|node| (node.id, fs::read(node.path).unwrap()))
        .collect();
    for (id, sent) in sent {
        let found = nodes.get(id).map(|bytes| {
            let at = sent.all.iter().rposition(|sent| sent == bytes);
            at.unwrap_or_else(|| panic!("{context}: {id} has bytes that nobody sent"))
        });
        assert!(
            found >= sent.acknowledged,
            "{context}: {id} acknowledged {:?}, found {found:?}",
            sent.acknowledged
        );
    }
    // The whole name stands for everything that was acknowledged, whenever the power went.
    if let Ok(file) = std::fs::File::open(dir.join(layout::TARBALL)) {
        let verified = archive::verify(file).unwrap_or_else(|error| panic!("{context}: {error}"));
        let acknowledged = sent.values().filter(|sent| sent.acknowledged.is_some()).count();
        assert!(
            verified.nodes >= acknowledged,
            "{context}: {verified:?}, {acknowledged} acknowledged"
        );
        let inside = inside(&dir.join(layout::TARBALL));
        for (id, sent) in sent {
            let Some(acknowledged) = sent.acknowledged else {
                continue;
            };
            let names: Vec<String> = sent.all[acknowledged..].iter().map(|bytes| hex(&sha(bytes))).collect();
            assert!(
                names.iter().any(|name| inside[id].contains(name)),
                "{context}: the tarball has an older upload of {id}"
            );
        }
    }
    // And the store goes on from there.
    put(&store, &node(1), &samples::upload("after")).unwrap();
}

/// What a tarball says of each node's upload.
fn inside(tarball: &Path) -> BTreeMap<NodeId, String> {
    let bytes = flate2::read::MultiGzDecoder::new(std::fs::File::open(tarball).unwrap());
    let mut inside = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        if let Some(id) = path
            .strip_prefix("nodes/")
            .and_then(|rest| rest.strip_suffix("/upload.sha256"))
        {
            let mut text = String::new();
            io::Read::read_to_string(&mut entry, &mut text).unwrap();
            inside.insert(id.parse().unwrap(), text);
        }
    }
    inside
}

#[test]
fn the_tarball_has_its_name_only_while_it_holds_everything() {
    let dir = scratch();
    let (whole, incomplete) = (
        dir.path().join(layout::TARBALL),
        dir.path().join(layout::TARBALL_INCOMPLETE),
    );
    let there = || (whole.exists(), incomplete.exists());
    let make = |store: &NodeStore| store.make_tarball(true, &|| true).unwrap();
    let store = open(dir.path());
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    assert_eq!(there(), (false, false));
    assert_eq!(make(&store), Made::Current { nodes: 1 });
    assert_eq!((there(), store.current_tarball()), ((true, false), Some(whole.clone())));
    // What fails to be an upload changes nothing; what is one does, before it is acknowledged.
    put(&store, &node(2), b"none").unwrap_err();
    assert_eq!(there(), (true, false));
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    assert_eq!(there(), (true, false), "the same bytes again");
    put(&store, &node(2), &samples::upload("SN2")).unwrap();
    assert_eq!((there(), store.current_tarball()), ((false, true), None));
    assert_eq!(make(&store), Made::Current { nodes: 2 });
    assert_eq!(there(), (true, false), "one of them is there, never both");

    // After a restart the old one is believed by what stands in it.
    let before = fs::metadata(&whole).unwrap().modified().unwrap();
    let store = open(dir.path());
    assert_eq!(store.current_tarball(), None);
    assert_eq!(make(&store), Made::Current { nodes: 2 });
    assert_eq!(
        fs::metadata(&whole).unwrap().modified().unwrap(),
        before,
        "it was not written again"
    );
    fs::remove_dir_all(dir.path().join("nodes").join(node(2).as_str())).unwrap();
    let store = open(dir.path());
    assert_eq!(make(&store), Made::Current { nodes: 1 });
    assert_eq!(inside(&whole).len(), 1);

    // An upload that comes while it is made.
    let again = store.clone();
    put(&store, &node(3), &samples::upload("SN3")).unwrap();
    let once = AtomicU64::new(0);
    let made = store.make_tarball(true, &|| {
        if once.fetch_add(1, Ordering::Relaxed) == 5 {
            put(&again, &node(4), &samples::upload("SN4")).unwrap();
        }
        true
    });
    assert_eq!((made.unwrap(), there()), (Made::Overtaken, (false, false)));
    // Also right before it gets its name.
    let once = AtomicU64::new(0);
    let made = store.make_tarball(false, &|| {
        if once.fetch_add(1, Ordering::Relaxed) == 5 {
            put(&again, &node(5), &samples::upload("SN5")).unwrap();
        }
        true
    });
    assert_eq!((made.unwrap(), there()), (Made::Overtaken, (false, true)));
    assert_eq!(make(&store), Made::Current { nodes: 4 });

    // What is torn is neither in it nor hidden.
    let newest = store.list()[0].path.clone();
    fs::write(
        newest.with_file_name(format!("000009-{}.tar.gz", "0".repeat(64))),
        b"torn",
    )
    .unwrap();
    let store = open(dir.path());
    assert_eq!(store.lacks().len(), 1);
    assert_eq!(
        (make(&store), there()),
        (Made::Lacking { nodes: 4, lacks: 1 }, (false, true))
    );
}

#[test]
fn the_tarball_gives_way_to_an_upload() {
    let dir = scratch();
    let mut medium = Faulty::new(Fault::None);
    medium.free = 200_000;
    let limits = Limits {
        reserve_bytes: 1000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir.path(), limits, Arc::new(medium)).unwrap();
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    assert_eq!(store.make_tarball(true, &|| true).unwrap(), Made::Current { nodes: 1 });
    // Where the room of the tarball would not help, it stays.
    assert!(matches!(
        store.begin(&node(2), 10_000_000, [0; 32]),
        Err(StoreError::NoSpace { .. })
    ));
    assert!(store.current_tarball().is_some_and(|path| path.exists()));
    // The room that this medium says it has never changes, so the upload is refused; the tarball went for it all the same.
    assert!(matches!(
        store.begin(&node(2), 199_100, [0; 32]),
        Err(StoreError::NoSpace { .. })
    ));
    assert_eq!(store.current_tarball(), None);
    assert!(!dir.path().join(layout::TARBALL).exists() && !dir.path().join(layout::TARBALL_INCOMPLETE).exists());
}

#[test]
fn copies_of_inventories_leave_half_of_the_room_to_uploads() {
    let dir = scratch();
    let copy = dir.path().join("nodes").join(node(1).as_str()).join("inventory.json");
    let store = |free| {
        let mut medium = Faulty::new(Fault::None);
        medium.free = free;
        let limits = Limits {
            reserve_bytes: 1000,
            ..Limits::default()
        };
        NodeStore::open_on(dir.path(), limits, Arc::new(medium)).unwrap()
    };
    let plenty = store(100_000);
    put(&plenty, &node(1), &samples::upload("SN1")).unwrap();
    assert!(copy.exists() && plenty.copies_left_out() == 0);
    // There is room for the upload and not for the copy; the old copy would be of another upload.
    let scarce = store(2000);
    put(&scarce, &node(1), &samples::upload("SN2")).unwrap();
    assert!(!copy.exists() && scarce.copies_left_out() == 1);
    assert_eq!(scarce.list()[0].facts().summary.as_deref(), Some("Acme R1 SN2"));
}

#[test]
fn the_tarball_leaves_the_reserve_free() {
    let dir = scratch();
    let mut medium = Faulty::new(Fault::None);
    medium.free = 20_000;
    let limits = Limits {
        reserve_bytes: 19_000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir.path(), limits, Arc::new(medium)).unwrap();
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    let error = store.make_tarball(true, &|| true).unwrap_err();
    assert!(error.to_string().starts_with("no room for the tarball: 2"), "{error}");
    assert!(!dir.path().join(layout::TARBALL_INCOMPLETE).exists());
}

#[test]
fn the_tarball_leaves_free_what_uploads_were_promised() {
    let dir = scratch();
    let mut medium = Faulty::new(Fault::None);
    medium.free = 20_000;
    let limits = Limits {
        reserve_bytes: 1000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir.path(), limits, Arc::new(medium)).unwrap();
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    let under_way = store.begin(&node(2), 18_500, [0; 32]).unwrap();
    let error = store.make_tarball(true, &|| true).unwrap_err();
    assert!(error.to_string().starts_with("no room for the tarball"), "{error}");
    drop(under_way);
    assert_eq!(store.make_tarball(true, &|| true).unwrap(), Made::Current { nodes: 1 });
}

/// A medium on which there is only so much room; and a file that somebody else removes once its room was asked for.
struct Small(AtomicU64, Mutex<Option<PathBuf>>);

impl Small {
    fn new(free: u64) -> Arc<Self> {
        Arc::new(Small(AtomicU64::new(free), Mutex::default()))
    }
}

impl Medium for Small {
    fn create(&self, path: &Path) -> io::Result<fs::File> {
        Disk.create(path)
    }
    fn write(&self, file: &mut fs::File, bytes: &[u8]) -> io::Result<()> {
        let taken = |free: u64| free.checked_sub(bytes.len() as u64);
        let full = |_| io::Error::from_raw_os_error(libc::ENOSPC);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .map_err(full)?;
        Disk.write(file, bytes)
    }
    fn sync_file(&self, file: &fs::File) -> io::Result<()> {
        Disk.sync_file(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let length = fs::metadata(path)?.len();
        Disk.remove_file(path)?;
        self.0.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        Disk.make_folder(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Disk.sync_folder(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Disk.sync_all(path)
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let free = self.0.load(Ordering::Relaxed);
        match self.1.lock().unwrap().take() {
            Some(path) => self.remove_file(&path).map(|()| free),
            None => Ok(free),
        }
    }
}

/// A store with an upload that does not pack, on a medium with this much room.
fn on_small(dir: &Path, free: u64) -> (NodeStore, Arc<Small>) {
    let medium = Small::new(free);
    let limits = Limits {
        reserve_bytes: 1000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir, limits, medium.clone()).unwrap();
    let noise: Vec<u8> = (0..25_000u32).flat_map(|n| Sha256::digest(n.to_be_bytes())).collect();
    let bytes = samples::tar_gz(&[("inventory.json", b"{}"), ("raw/noise", &noise)]);
    put(&store, &node(1), &bytes).unwrap();
    (store, medium)
}

#[test]
fn a_tarball_for_which_the_room_ends_says_what_was_free_then() {
    let dir = scratch();
    let (store, medium) = on_small(dir.path(), 8 << 20);
    let part = dir.path().join(layout::TARBALL_INCOMPLETE);
    // Something else takes all that is left once a part is written.
    let fill = || {
        if fs::metadata(&part).is_ok_and(|part| part.len() > 0) {
            medium.0.store(0, Ordering::Relaxed);
        }
        true
    };
    let error = store.make_tarball(false, &fill).unwrap_err();
    assert!(error.to_string().ends_with("bytes needed, 0 free"), "{error}");
    assert!(!part.exists() && medium.0.load(Ordering::Relaxed) > 0);
}

#[test]
fn the_room_of_a_tarball_that_gave_way_to_another_upload_counts() {
    let dir = scratch();
    let (store, medium) = on_small(dir.path(), 8 << 20);
    store.make_tarball(false, &|| true).unwrap();
    let tarball = store.current_tarball().unwrap();
    let length = fs::metadata(&tarball).unwrap().len();
    let free = 1000 + length / 2;
    medium.0.store(free, Ordering::Relaxed);
    *medium.1.lock().unwrap() = Some(tarball);
    store.begin(&node(2), length, [0; 32]).unwrap();
    assert_eq!(medium.0.load(Ordering::Relaxed), free + length);
}

#[test]
fn an_upload_that_moves_to_its_own_folder_needs_its_room_twice() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    let medium = Small::new(1 << 20);
    let limits = Limits {
        reserve_bytes: 4000,
        ..Limits::default()
    };
    let store = NodeStore::open_on(dir.path(), limits, medium.clone()).unwrap();
    put(&store, &shared, &of_board(1, "")).unwrap();
    let before = names(dir.path());
    let bytes = of_board(2, "");
    let length = bytes.len() as u64;
    // Enough for one copy and what is kept free, not for two: the reserve stays what it is.
    medium.0.store(4000 + length + length / 2, Ordering::Relaxed);
    let error = put(&store, &shared, &bytes).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!((names(dir.path()), store.0.lock().reserved_bytes), (before, 0));
    medium.0.store(4000 + 2 * length, Ordering::Relaxed);
    assert_ne!(put(&store, &shared, &bytes).unwrap().id, shared);
    assert_eq!(store.0.lock().reserved_bytes, 0);
}

#[test]
fn who_ends_does_not_wait_for_uploads_that_are_still_hashed() {
    let dir = scratch();
    let store = open(dir.path());
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    // As while a thread hashes what an earlier run left.
    let name = UploadName {
        seq: 1,
        sha256: [7; 32],
    };
    store.0.lock().to_check.push((node(2), Record::found(name, 1)));
    let asked = AtomicU64::new(0);
    let go_on = || asked.fetch_add(1, Ordering::Relaxed) < 2;
    assert_eq!(store.list_while(&go_on), None);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let stopped = store.make_tarball(false, &|| false).unwrap_err();
    assert!(matches!(stopped, archive::ArchiveError::Stopped), "{stopped}");
    let stopped = store.stream_tarball(&mut io::sink(), &|| false).unwrap_err();
    assert!(matches!(stopped, archive::ArchiveError::Stopped), "{stopped}");
    std::thread::scope(|scope| {
        let list = scope.spawn(|| store.list_while(&|| true));
        store.0.lock().to_check.clear();
        store.0.checked.notify_all();
        assert_eq!(list.join().unwrap().map(|nodes| nodes.len()), Some(1));
    });
}

#[test]
fn a_slow_file_of_one_name_does_not_hold_up_the_others() {
    let dir = scratch();
    let store = open(dir.path());
    let shared: NodeId = SHARED.parse().unwrap();
    assert_eq!(
        ByName::place_of(&shared),
        ByName::place_of(&shared.told_apart_by([1; 6]))
    );
    let others = (0..=255).map(node);
    let places: std::collections::BTreeSet<usize> = others.map(|id| ByName::place_of(&id)).collect();
    assert!(places.len() > NAME_LOCKS / 2, "{places:?}");
    let elsewhere = |id: &NodeId| ByName::place_of(id) != ByName::place_of(&node(1));
    let other = (2..=255).map(node).find(elsewhere).unwrap();
    let (_placing, _tidying) = (store.0.placing.lock(&node(1)), store.0.tidying.lock(&node(1)));
    put(&store, &other, &samples::upload("SN1")).unwrap();
}

#[test]
fn a_store_takes_so_many_nodes_and_says_what_it_leaves_alone() {
    let dir = scratch();
    let limits = |nodes| Limits {
        nodes,
        ..Limits::default()
    };
    let store = NodeStore::open(dir.path(), limits(2)).unwrap();
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    put(&store, &node(2), &samples::upload("SN2")).unwrap();
    let error = put(&store, &node(3), &samples::upload("SN3")).unwrap_err();
    assert!(matches!(error, StoreError::TooManyNodes { limit: 2 }), "{error}");
    put(&store, &node(1), &samples::upload("SN1 again")).unwrap();
    assert_eq!((store.stored(), store.lacks().len()), (2, 0));
    // A stick of a master that took more.
    let store = NodeStore::open(dir.path(), limits(1)).unwrap();
    assert_eq!((store.list().len(), store.problems().len()), (1, 1));
    assert!(store.lacks()[0].contains("more than 1 nodes"), "{:?}", store.lacks());
    assert!(matches!(
        store.make_tarball(true, &|| true).unwrap(),
        Made::Lacking { nodes: 1, lacks: 1 }
    ));
}

#[test]
fn problems_that_are_too_many_for_the_screen_are_counted() {
    let dir = scratch();
    let folder = dir.path().join("nodes").join(node(1).as_str());
    fs::create_dir_all(&folder).unwrap();
    for seq in 0..MAX_PROBLEMS + 3 {
        fs::write(
            folder.join(format!("{:06}-{}.tar.gz", seq + 1, "0".repeat(64))),
            b"torn",
        )
        .unwrap();
    }
    let problems = open(dir.path()).problems();
    assert_eq!(problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(problems[MAX_PROBLEMS], "and 3 more like these, in the log");
}

fn total_steps() -> usize {
    let dir = scratch();
    let medium = Arc::new(Faulty::new(Fault::None));
    let sent = work(dir.path(), medium.clone());
    assert!(sent.values().all(|sent| sent.acknowledged == Some(sent.all.len() - 1)));
    check(dir.path(), &sent, "no fault");
    medium.steps()
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    for step in 0..total_steps() {
        for seed in 0..3 {
            let dir = scratch();
            let medium = Arc::new(Faulty::new(Fault::Cut { step }));
            let sent = work(dir.path(), medium.clone());
            if seed > 0 {
                medium.lose(dice(seed + 1000 * step as u64));
            }
            check(dir.path(), &sent, &format!("cut at step {step}, seed {seed}"));
        }
    }
}

#[test]
fn a_failing_step_loses_nothing_acknowledged() {
    for step in 0..total_steps() {
        for errno in [libc::EIO, libc::ENOSPC] {
            let dir = scratch();
            let sent = work(dir.path(), Arc::new(Faulty::new(Fault::Fail { step, errno })));
            check(dir.path(), &sent, &format!("error {errno} at step {step}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes of stored files change, are cut off or vanish: what is listed is still whole.
    #[test]
    fn damage_is_never_listed(
        damage in proptest::collection::vec((0usize..64, any::<u64>(), 0u8..4), 1..6)
    ) {
        let dir = scratch();
        let store = open(dir.path());
        for last in 0..4 {
            for round in 0..2 {
                put(&store, &node(last), &samples::upload(&format!("{last}-{round}"))).unwrap();
            }
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for folder in fs::read_dir(dir.path().join("nodes")).unwrap() {
            files.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap().path()));
        }
        files.sort();
        let mut touched = std::collections::BTreeSet::new();
        for (file, at, kind) in damage {
            let path = &files[file % files.len()];
            touched.insert(path.clone());
            let Ok(mut bytes) = fs::read(path) else { continue };
            let at = usize::try_from(at % bytes.len().max(1) as u64).unwrap();
            match kind {
                0 if !bytes.is_empty() => bytes[at] ^= 0x40,
                1 => bytes.truncate(at),
                2 => bytes.extend_from_slice(b"more"),
                _ => { fs::remove_file(path).unwrap(); continue; }
            }
            fs::write(path, bytes).unwrap();
        }
        let nodes = open(dir.path()).list();
        for node in &nodes {
            prop_assert_eq!(hex(&sha(&fs::read(&node.path).unwrap())), node.sha256.clone());
        }
        for path in files.iter().filter(|path| !touched.contains(*path)) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Some(name) = UploadName::parse(name) {
                let id = path.parent().unwrap().file_name().unwrap().to_str().unwrap().parse::<NodeId>().unwrap();
                let listed = nodes.iter().find(|node| node.id == id);
                prop_assert!(listed.is_some_and(|node| node.seq >= name.seq), "{} is whole and not listed", path.display());
            }
        }
    }
}

const SHARED: &str = "93d4e5a1-7f46-11e5-bf8b-080027123456";

/// The upload of a board whose firmware has one UUID for all of them.
fn of_board(last: u8, mark: &str) -> Vec<u8> {
    let (serial, mac) = (format!("BOARD-{last}"), format!("d0:63:b4:00:00:{last:02x}"));
    samples::of_machine(SHARED, Some(&serial), Some(&mac), mark)
}

/// Name and content of every upload that is kept.
fn kept(dir: &Path) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut kept = BTreeMap::new();
    for folder in fs::read_dir(dir.join("nodes")).unwrap() {
        let folder = folder.unwrap();
        let mut uploads: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        uploads.retain(|path| path.extension().is_some_and(|end| end == "gz"));
        uploads.sort();
        let uploads = uploads.iter().map(|path| fs::read(path).unwrap()).collect();
        kept.insert(folder.file_name().into_string().unwrap(), uploads);
    }
    kept
}

#[test]
fn two_machines_of_one_name_are_two_nodes_and_stay_so() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    let second = shared.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, 2]);
    for visit in 1..=3 {
        // As after a restart of the master between two uploads.
        for board in [1, 2] {
            let stored = put(&open(dir.path()), &shared, &of_board(board, &format!("{visit}"))).unwrap();
            assert_eq!(stored.id, if board == 1 { shared.clone() } else { second.clone() });
            assert_eq!(stored.seq, visit);
        }
    }
    let wanted: BTreeMap<String, Vec<Vec<u8>>> = [(1, &shared), (2, &second)]
        .map(|(board, id)| (id.to_string(), vec![of_board(board, "2"), of_board(board, "3")]))
        .into();
    assert_eq!(kept(dir.path()), wanted);
    let listed = open(dir.path()).list();
    let summaries: Vec<_> = listed
        .iter()
        .map(|node| (node.id.clone(), node.facts().summary.unwrap()))
        .collect();
    let machine = |board: u8| format!("Acme R1 BOARD-{board}");
    assert_eq!(summaries, [(shared.clone(), machine(1)), (second.clone(), machine(2))]);
    assert_eq!(listed[1].facts().evidence.system_serial.as_deref(), Some("BOARD-2"));
    // What was announced for the other one's folder left nothing there, and the copies for people are each one's own.
    for (id, board) in [(&shared, 1), (&second, 2)] {
        let folder = dir.path().join("nodes").join(id.as_str());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "{id}");
        let copy = fs::read_to_string(folder.join("inventory.json")).unwrap();
        assert!(copy.contains(&format!("BOARD-{board}")), "{copy}");
    }
}

#[test]
fn the_same_bytes_of_the_second_machine_are_acknowledged_without_a_copy() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    put(&open(dir.path()), &shared, &of_board(1, "")).unwrap();
    let stored = put(&open(dir.path()), &shared, &of_board(2, "")).unwrap();
    let before = kept(dir.path());
    for asked in [&shared, &stored.id] {
        let again = put(&open(dir.path()), asked, &of_board(2, "")).unwrap();
        assert_eq!((again.id, again.already), (stored.id.clone(), true));
    }
    assert_eq!(kept(dir.path()), before);
}

#[test]
fn machines_of_one_name_that_upload_at_once_are_all_kept() {
    let dir = scratch();
    let store = open(dir.path());
    let shared: NodeId = SHARED.parse().unwrap();
    std::thread::scope(|scope| {
        for board in 1..=8 {
            let (store, shared) = (store.clone(), &shared);
            scope.spawn(move || {
                for round in 0..3 {
                    put(&store, shared, &of_board(board, &format!("{round}"))).unwrap();
                }
            });
        }
    });
    let (kept, listed) = (kept(dir.path()), store.list());
    assert_eq!((kept.len(), listed.len()), (8, 8));
    let serials: std::collections::BTreeSet<_> = listed
        .iter()
        .map(|node| node.facts().evidence.system_serial.unwrap())
        .collect();
    assert_eq!(serials.len(), 8);
    assert!(kept.values().all(|uploads| uploads.len() == 2));
}

/// A stick on which an earlier version let one machine's upload stand beside another's.
#[test]
fn a_folder_with_two_machines_loses_neither() {
    let dir = scratch();
    let folder = dir.path().join("nodes").join(SHARED);
    fs::create_dir_all(&folder).unwrap();
    for (seq, board) in [(1, 1), (2, 2)] {
        let bytes = of_board(board, "old");
        let name = UploadName {
            seq,
            sha256: sha(&bytes),
        };
        fs::write(folder.join(name.to_string()), bytes).unwrap();
    }
    let shared: NodeId = SHARED.parse().unwrap();
    for round in 0..4 {
        for board in [1, 2] {
            put(&open(dir.path()), &shared, &of_board(board, &format!("{round}"))).unwrap();
        }
    }
    let all: Vec<Vec<u8>> = kept(dir.path()).into_values().flatten().collect();
    for board in [1, 2] {
        assert!(all.contains(&of_board(board, "old")), "{board}");
        assert!(all.contains(&of_board(board, "3")), "{board}");
    }
}

/// One whose inventory tells nothing may be any machine: it replaces none, and none replaces it.
#[test]
fn an_upload_that_names_no_machine_stands_alone() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    let quick = |mark: &str| samples::of_machine(SHARED, None, None, mark);
    put(&open(dir.path()), &shared, &quick("of the first")).unwrap();
    let board = put(&open(dir.path()), &shared, &of_board(2, "")).unwrap();
    assert_eq!(board.id, shared.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, 2]));
    let another = put(&open(dir.path()), &shared, &quick("of whom")).unwrap();
    assert!(another.id != shared && another.id != board.id);
    assert_eq!(kept(dir.path()).len(), 3);
}

/// An unknown folder of the name, such as one that did not read at start.
#[test]
fn a_folder_that_was_not_read_at_start_is_read_before_it_is_used() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    put(&open(dir.path()), &shared, &of_board(1, "")).unwrap();
    let store = open(dir.path());
    // It does not hear of this one.
    put(&open(dir.path()), &shared, &of_board(2, "1")).unwrap();
    assert_eq!(put(&store, &shared, &of_board(2, "2")).unwrap().seq, 2);
    assert_eq!(put(&store, &shared, &of_board(3, "")).unwrap().seq, 1);
    let kept = kept(dir.path());
    assert_eq!(kept[SHARED], [of_board(1, "")]);
    assert_eq!(kept.len(), 3);
}

/// A clash under every fault: what was acknowledged of each machine is there.
fn clash(dir: &Path, medium: Arc<dyn Medium>) -> Vec<(u8, Vec<u8>)> {
    let Ok(store) = NodeStore::open_on(dir, Limits::default(), medium) else {
        return Vec::new();
    };
    let mut acknowledged = Vec::new();
    for (board, mark) in [(1, "a"), (2, "a"), (2, "b"), (1, "b")] {
        let bytes = of_board(board, mark);
        if put(&store, &SHARED.parse().unwrap(), &bytes).is_ok() {
            acknowledged.push((board, bytes));
        }
    }
    acknowledged
}

#[test]
fn a_clash_under_any_fault_loses_nothing_acknowledged() {
    let count = Arc::new(Faulty::new(Fault::None));
    assert_eq!(clash(scratch().path(), count.clone()).len(), 4);
    for step in 0..count.steps() {
        for fault in [
            Fault::Cut { step },
            Fault::Fail { step, errno: libc::EIO },
            Fault::Fail {
                step,
                errno: libc::ENOSPC,
            },
        ] {
            let dir = scratch();
            let medium = Arc::new(Faulty::new(fault));
            let acknowledged = clash(dir.path(), medium.clone());
            if matches!(fault, Fault::Cut { .. }) {
                medium.lose(dice(step as u64));
            }
            let newest: BTreeMap<u8, Vec<u8>> = acknowledged.into_iter().collect();
            let listed: Vec<Vec<u8>> = open(dir.path())
                .list()
                .iter()
                .map(|node| fs::read(&node.path).unwrap())
                .collect();
            for (board, bytes) in newest {
                let later = [of_board(board, "a"), of_board(board, "b")];
                let found = listed.iter().any(|found| *found == bytes || later.contains(found));
                assert!(found, "{fault:?}: board {board} is not listed");
            }
        }
    }
}

#[test]
fn machines_of_one_name_count_as_nodes() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    let limits = Limits {
        nodes: 2,
        ..Limits::default()
    };
    let store = NodeStore::open(dir.path(), limits).unwrap();
    put(&store, &shared, &of_board(1, "")).unwrap();
    put(&store, &shared, &of_board(2, "")).unwrap();
    let before = names(dir.path());
    // Its name is there already, so it was let in; the folder that it would get is one too many.
    let error = put(&store, &shared, &of_board(3, "")).unwrap_err();
    assert!(matches!(error, StoreError::TooManyNodes { limit: 2 }), "{error}");
    assert_eq!((names(dir.path()), store.0.lock().nodes.len()), (before, 2));
    // Of those that are begun before one is there, no more are taken either.
    fs::remove_dir_all(dir.path().join("nodes")).unwrap();
    let store = NodeStore::open(dir.path(), limits).unwrap();
    let begun: Vec<_> = (1..=3)
        .map(|last| {
            let bytes = samples::upload(&format!("SN{last}"));
            let mut incoming = store.begin(&node(last), bytes.len() as u64, sha(&bytes)).unwrap();
            incoming.write(&bytes).unwrap();
            incoming
        })
        .collect();
    let taken: Vec<bool> = begun.into_iter().map(|incoming| incoming.commit().is_ok()).collect();
    assert_eq!((taken, store.stored()), (vec![true, true, false], 2));
}

#[test]
fn so_many_machines_are_taken_of_one_name() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    let folder = |board: u8| match board {
        0 => shared.clone(),
        other => shared.told_apart_by([0xd0, 0x63, 0xb4, 0, 0, other]),
    };
    for board in 0..=255 {
        let bytes = of_board(board, "");
        let name = UploadName {
            seq: 1,
            sha256: sha(&bytes),
        };
        let folder = dir.path().join("nodes").join(folder(board).as_str());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name.to_string()), bytes).unwrap();
    }
    let store = open(dir.path());
    let before = names(dir.path());
    let further = samples::of_machine(SHARED, Some("FURTHER"), Some("d0:63:b4:00:01:00"), "");
    let error = put(&store, &shared, &further).unwrap_err();
    assert!(
        matches!(error, StoreError::TooManyOfOneName { limit: 256, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("remove the folders"), "{error}");
    assert_eq!(names(dir.path()), before);
    // Those that are there go on, and other names are none the worse.
    assert_eq!(put(&store, &shared, &of_board(200, "again")).unwrap().id, folder(200));
    put(&store, &node(1), &samples::upload("SN1")).unwrap();
    // A stick with one more, from elsewhere: who asks for its own name is known, who asks for the shared one may not be.
    let one_more = shared.told_apart_by([0xff; 6]);
    fs::create_dir(dir.path().join("nodes").join(one_more.as_str())).unwrap();
    let name = UploadName {
        seq: 1,
        sha256: sha(&further),
    };
    let path = dir.path().join("nodes").join(one_more.as_str()).join(name.to_string());
    fs::write(path, &further).unwrap();
    let store = open(dir.path());
    assert_eq!(store.0.residents(&shared).unwrap().len(), MAX_OF_ONE_NAME);
    let again = samples::of_machine(SHARED, Some("FURTHER"), Some("d0:63:b4:00:01:00"), "again");
    assert!(matches!(
        put(&store, &shared, &again),
        Err(StoreError::TooManyOfOneName { .. })
    ));
    assert_eq!(put(&store, &one_more, &again).unwrap().id, one_more);
}

#[test]
fn evidence_stays_in_memory_only_where_it_is_small_and_little() {
    use crate::model::MacAddr;
    let inner = Inner::default();
    let ports = |count: u8| Evidence {
        ports: (0..count).map(|last| MacAddr([2, 0, 0, 0, 0, last])).collect(),
        ..Evidence::default()
    };
    let text = |length: usize| Evidence {
        system_serial: Some("s".repeat(length)),
        ..Evidence::default()
    };
    assert!(inner.kept(&ports(32)).is_some() && inner.kept(&text(512)).is_some());
    assert!(inner.kept(&ports(33)).is_none() && inner.kept(&text(513)).is_none());
    let mut all: Vec<_> = (0..MAX_KEPT_EVIDENCE).map(|_| inner.kept(&ports(1)).unwrap()).collect();
    assert!(inner.kept(&ports(1)).is_none());
    all.pop();
    assert!(inner.kept(&ports(1)).is_some(), "what is gone makes room");
}

#[test]
fn what_did_not_read_once_is_read_the_next_time() {
    let dir = scratch();
    let shared: NodeId = SHARED.parse().unwrap();
    put(&open(dir.path()), &shared, &of_board(1, "")).unwrap();
    let second = put(&open(dir.path()), &shared, &of_board(2, "")).unwrap().id;
    let store = open(dir.path());
    let path = store.list().into_iter().find(|node| node.id == second).unwrap().path;
    // It fails, and it is not that there is no such file.
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    put(&store, &shared, &of_board(3, "")).unwrap();
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(put(&store, &shared, &of_board(2, "again")).unwrap().id, second);
    assert_eq!(store.stored(), 3);
}
