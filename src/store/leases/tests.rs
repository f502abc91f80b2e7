use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::writer::{AHEAD_BYTES, COMPACT_BYTES, RETRY_SECONDS, file_name, journals, load};
use super::*;
use crate::model::lease::Lease;
use crate::model::{MacAddr, UnixTime};
use crate::store::fs_ops::faults::{Fault, Faulty};

fn bound(last: u8) -> LeaseChange {
    LeaseChange::Bound(lease(last))
}

fn lease(last: u8) -> Lease {
    Lease {
        mac: MacAddr([0x52, 0x54, 0, 0, 0, last]),
        address: Ipv4Addr::new(192, 168, 219, last),
        expires_unix: UnixTime::from_seconds(1_800_000_000),
    }
}

fn wait(journal: &Journal, ticket: u64) {
    let mut written = journal.written();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { written.wait_for(|number| *number >= ticket).await.unwrap() });
}

/// What a writer does where nobody writes beside it: each change is on the medium before the next one.
fn write(writer: &mut Writer, medium: &dyn Medium, changes: &[LeaseChange], seconds: f64) {
    let now = RunTime::from_seconds(seconds);
    writer.write(changes, now);
    let Some(wish) = writer.take_wish(now) else { return };
    if let Err(error) = wish.sync(medium) {
        writer.not_synced(wish.journal, &error, now);
    }
}

fn leases(book: &Book) -> Vec<Lease> {
    book.leases().cloned().collect()
}

#[test]
fn what_was_told_to_be_written_is_there_without_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, book) = Journal::open(folder.path(), true, 1);
    assert!(book.is_empty());
    for last in 1..=3 {
        wait(&journal, journal.append(vec![bound(last)]));
    }
    // A copy is what a power cut would leave.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let (_, after) = Journal::open(copy.path(), true, 2);
    assert_eq!(leases(&after), [lease(1), lease(2), lease(3)]);
}

#[test]
fn every_start_begins_a_new_file_and_leaves_one() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..4u8 {
        let (journal, book) = Journal::open(folder.path(), run % 2 == 0, run.into());
        assert_eq!(book.leases().count(), usize::from(run));
        journal.append(vec![bound(run + 1)]);
        journal.close();
        assert_eq!(journals(folder.path()).len(), 1);
    }
}

/// Waits until the medium owes nothing.
fn paid(journal: &Journal) {
    let began = Instant::now();
    while journal.owing_since().is_some() {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody syncs");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn many_changes_share_few_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Noting::default());
    let (journal, _) = Journal::on(folder.path(), true, 1, Arc::clone(&medium) as Arc<dyn Medium>);
    let before = medium.0.lock().unwrap().len();
    let began = Instant::now();
    for last in 0..=200 {
        wait(&journal, journal.append(vec![bound(last)]));
    }
    let took = began.elapsed();
    paid(&journal);
    let syncs = medium.0.lock().unwrap().len() - before;
    // One at the end, and one for each moment.
    let most = 2 + took.as_millis() as usize / 20;
    assert!((1..=most).contains(&syncs), "{syncs} syncs for 201 changes in {took:?}");
}

/// A reply that waits for a change leaves while the medium still works on it, or never ends.
#[test]
fn nobody_waits_for_the_medium() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Noting::default());
    let (journal, _) = Journal::on(folder.path(), true, 1, Arc::clone(&medium) as Arc<dyn Medium>);
    let held = medium.0.lock().unwrap();
    for last in 1..=3 {
        wait(&journal, journal.append(vec![bound(last)]));
        // The first one is being synced by then.
        std::thread::sleep(Duration::from_millis(40));
    }
    assert!(journal.owing_since().is_some());
    assert_eq!(leases(&load(folder.path()).0), [lease(1), lease(2), lease(3)]);
    drop(held);
    paid(&journal);
    assert!(!medium.0.lock().unwrap().is_empty());
}

#[test]
fn a_medium_that_fails_beside_the_writer_is_given_up_and_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    // Steps of opening: create, write, three syncs; then a write, and its sync.
    let medium = Arc::new(Faulty::new(Fault::Fail {
        step: 6,
        errno: libc::EIO,
    }));
    let (journal, _) = Journal::on(folder.path(), true, 1, Arc::clone(&medium) as Arc<dyn Medium>);
    wait(&journal, journal.append(vec![bound(1)]));
    paid(&journal);
    let began = Instant::now();
    while journal.syncer.has_failed() {
        assert!(began.elapsed() < Duration::from_secs(20), "the writer is not told");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Nothing is added to a file of which nobody knows what is on the medium.
    wait(&journal, journal.append(vec![bound(2)]));
    assert_eq!(medium.steps(), 7);
}

/// A medium that notes its syncs of files.
#[derive(Default)]
struct Noting(Mutex<Vec<(Sync, u64)>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    File,
    Data,
}

impl Noting {
    fn note(&self, sync: Sync, file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.0.lock().unwrap().push((sync, length));
        Ok(())
    }
}

impl Medium for Noting {
    fn create(&self, path: &Path) -> io::Result<File> {
        Disk.create(path)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        Disk.write(file, bytes)
    }
    fn sync_file(&self, file: &File) -> io::Result<()> {
        self.note(Sync::File, file)
    }
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.note(Sync::Data, file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Disk.remove_file(path)
    }
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        Disk.make_folder(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        Disk.remove_folder(path)
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Disk.free_bytes(path)
    }
}

/// Else each sync of a lease would wait for whatever else is written to the medium, uploads above all.
#[test]
fn hardly_a_change_makes_the_journal_longer() {
    let folder = tempfile::tempdir().unwrap();
    let medium = Arc::new(Noting::default());
    let mut writer = Writer::new(folder.path(), true, 1, Arc::clone(&medium) as Arc<dyn Medium>);
    writer.begin(RunTime::from_seconds(0.0));
    for round in 0..2000u32 {
        write(&mut writer, &*medium, &[bound((round % 200) as u8)], 0.0);
    }
    let syncs = medium.0.lock().unwrap().clone();
    assert_eq!(syncs.len(), 2001);
    let longer = syncs.iter().filter(|(sync, _)| *sync == Sync::File).count() as u64;
    assert_eq!(longer, 1 + writer.grown / AHEAD_BYTES, "{} bytes", writer.grown);
    for pair in syncs.windows(2) {
        let is_longer = pair[0].1 != pair[1].1;
        assert_eq!(
            is_longer,
            pair[1].0 == Sync::File,
            "{pair:?}: a new length needs the whole sync"
        );
    }
    let bytes = std::fs::read(folder.path().join(file_name(writer.number))).unwrap();
    let (book, bad) = journal::read(&bytes, writer.number).unwrap();
    assert_eq!((book.len(), bad), (200, 0), "blank lines are no bad lines");
}

#[test]
fn a_medium_that_fails_does_not_stop_anything_and_is_used_again_when_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    // Steps of opening: create, write, three syncs. The first append's sync fails.
    let medium = Arc::new(Faulty::new(Fault::Fail {
        step: 6,
        errno: libc::EIO,
    }));
    let mut writer = Writer::new(folder.path(), true, 1, Arc::clone(&medium) as Arc<dyn Medium>);
    writer.begin(RunTime::from_seconds(0.0));
    assert!(writer.file.is_some());
    write(&mut writer, &*medium, &[bound(1)], 1.0);
    assert!(writer.failing && writer.file.is_none());
    write(&mut writer, &*medium, &[bound(2)], 2.0);
    assert!(writer.failing, "not tried at once");
    write(&mut writer, &*medium, &[bound(3)], 1.0 + RETRY_SECONDS);
    assert!(!writer.failing);
    assert_eq!(leases(&load(folder.path()).0), [lease(1), lease(2), lease(3)]);
}

#[test]
fn a_folder_that_cannot_be_written_to_serves_from_memory() {
    let (journal, book) = Journal::open(Path::new("/nothing/leases"), true, 1);
    assert!(book.is_empty());
    wait(&journal, journal.append(vec![bound(1)]));
}

#[test]
fn the_power_may_go_while_a_new_journal_is_begun() {
    for step in 0..8 {
        for luck in 0..40usize {
            let folder = tempfile::tempdir().unwrap();
            let (first, _) = Journal::open(folder.path(), true, 1);
            first.append(vec![bound(1), bound(2)]);
            first.close();
            let medium = Arc::new(Faulty::new(Fault::Cut { step }));
            let (second, _) = Journal::on(folder.path(), true, 2, Arc::clone(&medium) as Arc<dyn Medium>);
            second.close();
            let mut dice = luck;
            medium.lose(|sides| {
                dice = dice.wrapping_mul(7).wrapping_add(3) % 1009;
                dice % sides
            });
            let (book, _) = load(folder.path());
            assert_eq!(leases(&book), [lease(1), lease(2)], "step {step}, luck {luck}");
        }
    }
}

#[test]
fn a_journal_of_history_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let number = {
        let mut writer = Writer::new(folder.path(), false, 1, Arc::new(Disk));
        writer.begin(RunTime::from_seconds(0.0));
        let many: Vec<LeaseChange> = (0..1000).map(|at| bound((at % 50) as u8)).collect();
        for _ in 0..(COMPACT_BYTES / 100 / 1000 + 2) {
            writer.write(&many, RunTime::from_seconds(0.0));
        }
        assert!(writer.grown < COMPACT_BYTES);
        writer.number
    };
    assert!(number >= 2, "{number}");
    let length = std::fs::metadata(folder.path().join(file_name(number))).unwrap().len();
    assert!(length < COMPACT_BYTES, "{length}");
    assert_eq!(load(folder.path()).0.leases().count(), 50);
}
