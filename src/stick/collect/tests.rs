use crate::formats::Failing;
use crate::formats::bytes::hex;
use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use std::path::PathBuf;

use super::*;
use crate::formats::exfat::ExFat;
use crate::formats::gpt::Table;
use crate::formats::{fixture, gpt};
use crate::store::{UploadName, archive, digest_of, scratch, upload};
use std::io::Read;

/// A stick as it comes home: image, table, and the data volume of the fixture.
fn stick(folder: &Path) -> PathBuf {
    let path = folder.join("stick.img");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    file.write_all(&fixture("kiwi.iso.gz")).unwrap();
    let size = 100 << 20;
    file.set_len(size).unwrap();
    let table = Table::read(&file, size).unwrap();
    let plan = gpt::plan(&table, size, gpt::iso_bytes(&file).unwrap(), None, [7; 16]).unwrap();
    plan.apply(&file).unwrap();
    FileExt::write_all_at(&file, &fixture("data.img.gz"), plan.data.offset).unwrap();
    path
}

fn run(source: &Path, out: &Path) -> Result<Report, CollectError> {
    collect(source, out, Options::default())
}

fn check_fixture(report: &Report) {
    let states: Vec<(&str, State, usize)> = report
        .rows
        .iter()
        .map(|row| (row.id.as_str(), row.state, row.uploads))
        .collect();
    assert_eq!(
        states,
        [
            // Two serial numbers in one folder, as an earlier version let them lie: two machines, and both are taken.
            ("4c4c4544-0042-3510-8052-b4c04f4a3232", State::Whole, 1),
            ("4c4c4544-0042-3510-8052-b4c04f4a3232-33261a8d5285", State::Whole, 1),
            ("4c4c4544-0042-3510-8052-b4c04f4a3233", State::Older, 2),
            ("mac-525400000001", State::Whole, 1),
            ("mac-525400000002", State::Whole, 1),
            ("mac-525400123456", State::Torn, 1),
        ]
    );
    let machines: Vec<Option<&str>> = report.rows.iter().map(|row| row.machine.as_deref()).collect();
    let machine = |serial| Some(serial);
    assert_eq!(
        machines,
        [
            machine("Acme Rack 1 A-2"),
            machine("Acme Rack 1 A-1"),
            machine("Acme Rack 1 B-1"),
            machine("Acme Rack 1 P-1"),
            machine("Acme Rack 1 P-2"),
            None
        ]
    );
    assert_eq!((report.taken(), report.files, report.is_complete()), (5, 21, false));
    assert_eq!(archive::verify(File::open(&report.out).unwrap()).unwrap().nodes, 5);
    assert_eq!(report.clashes.len(), 1);
    assert_eq!(
        digest_of(File::open(&report.out).unwrap()).unwrap().0,
        crate::store::parse_hex(&report.out_sha256).unwrap()
    );
}

#[test]
fn a_stick_a_volume_and_a_folder_give_the_same() {
    let dir = scratch();
    let stick = stick(dir.path());
    let before = fs::read(&stick).unwrap();
    let first = run(&stick, &dir.path().join("a.tar.gz")).unwrap();
    check_fixture(&first);
    assert!(fs::read(&stick).unwrap() == before, "the source is as it was");

    let volume = dir.path().join("volume.img");
    fs::write(&volume, fixture("data.img.gz")).unwrap();
    let second = run(&volume, &dir.path().join("b.tar.gz")).unwrap();
    check_fixture(&second);

    // The same tree as a mounted folder.
    let folder = dir.path().join("mounted");
    let image = File::open(&volume).unwrap();
    let opened = ExFat::open(&image).unwrap();
    let nodes = opened.find(&opened.root(), "nodes").unwrap().unwrap();
    for node in opened.list(&nodes.stream).unwrap().entries {
        let path = folder.join("nodes").join(&node.name);
        fs::create_dir_all(&path).unwrap();
        for file in opened.list(&node.stream).unwrap().entries {
            let mut bytes = Vec::new();
            opened.reader(&file.stream).read_to_end(&mut bytes).unwrap();
            fs::write(path.join(&file.name), bytes).unwrap();
        }
    }
    let third = run(&folder, &dir.path().join("c.tar.gz")).unwrap();
    check_fixture(&third);
    assert_eq!(
        (&first.out_sha256, &first.out_sha256),
        (&second.out_sha256, &third.out_sha256)
    );
    let text = first.to_string();
    assert!(
        text.contains("mac-525400123456") && text.contains("torn, left out"),
        "{text}"
    );
    assert!(text.contains("5 of 6 nodes whole, 21 files checked"), "{text}");
    assert!(
        text.contains("warning: nodes/4c4c4544-0042-3510-8052-b4c04f4a3233/000002-"),
        "{text}"
    );
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 6, "no temporary file stays: {left:?}");
}

#[test]
fn a_stick_whose_table_is_gone_is_searched() {
    let dir = scratch();
    let stick = stick(dir.path());
    let file = File::options().write(true).open(&stick).unwrap();
    FileExt::write_all_at(&file, &vec![0; 1 << 20], 0).unwrap();
    FileExt::write_all_at(&file, &vec![0; 1 << 20], (100 << 20) - (1 << 20)).unwrap();
    let report = run(&stick, &dir.path().join("a.tar.gz")).unwrap();
    check_fixture(&report);
    assert!(
        report
            .warnings
            .iter()
            .any(|w| w.contains("the volume was found at byte 1048576")),
        "{report}"
    );
}

#[test]
fn what_cannot_be_collected_is_said() {
    let dir = scratch();
    let out = dir.path().join("a.tar.gz");
    let text = |source: &Path, out: &Path| run(source, out).unwrap_err().to_string();

    assert!(text(Path::new("/nothing"), &out).starts_with("reading /nothing"));
    let zeros = dir.path().join("zeros");
    fs::write(&zeros, vec![0; 3 << 20]).unwrap();
    assert!(text(&zeros, &out).contains("has no RECON-DATA: it has neither"));
    let iso = dir.path().join("fresh.iso");
    fs::write(&iso, fixture("kiwi.iso.gz")).unwrap();
    assert!(text(&iso, &out).contains("was it booted as a master?"));
    let no_file = text(dir.path(), Path::new("/dev/null"));
    assert!(
        no_file.contains("is no file") && !no_file.contains("--force"),
        "it would not help: {no_file}"
    );
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("nodes")).unwrap();
    assert!(text(&empty, &out).contains("no machine finished an upload"));

    // The source is never written to.
    assert!(text(&iso, &iso).contains("never written to"));
    assert!(text(&empty, &empty.join("a.tar.gz")).contains("never written to"));
    assert!(text(&empty, &empty.join("nodes/a.tar.gz")).contains("never written to"));

    let torn = dir.path().join("torn");
    let node = torn.join("nodes/mac-525400123456");
    fs::create_dir_all(&node).unwrap();
    fs::write(node.join(format!("000001-{}.tar.gz", "0".repeat(64))), b"x").unwrap();
    let nothing = text(&torn, &out);
    assert!(
        nothing.contains("no node has a whole upload") && nothing.contains("0 of 1 node whole"),
        "{nothing}"
    );
    assert!(!out.exists());
}

/// A folder with this many nodes, one upload each.
fn folder_of(folder: &Path, count: u32) -> PathBuf {
    let source = folder.join("source");
    for number in 0..count {
        let bytes = crate::store::upload::samples::upload(&format!("SN{number}"));
        let (digest, _) = digest_of(bytes.as_slice()).unwrap();
        let node = source.join(format!("nodes/mac-0200{number:08x}"));
        fs::create_dir_all(&node).unwrap();
        fs::write(node.join(format!("000001-{}.tar.gz", hex(&digest))), bytes).unwrap();
    }
    source
}

#[test]
fn more_nodes_than_are_read_are_not_called_complete() {
    let dir = scratch();
    let source = folder_of(dir.path(), 12);
    // What is no node does not count.
    for number in 0..20 {
        fs::create_dir(source.join(format!("nodes/other-{number}"))).unwrap();
    }
    let within =
        |most: usize, out: &str| collect_within(&[&source], &dir.path().join(out), Options::default(), most).unwrap();
    let all = within(12, "all.tar.gz");
    assert!(all.is_complete() && all.taken() == 12, "{all}");
    let some = within(11, "some.tar.gz");
    assert!(!some.is_complete() && some.taken() == 11);
    let text = some.to_string();
    assert!(text.contains("not read: nodes holds more than 11 nodes"), "{text}");
    assert!(text.contains("11 of 11 nodes that were found whole"), "{text}");

    // Each source has the bound for itself.
    let others = folder_with(
        &dir.path().join("others"),
        &[
            ("mac-020000001001", 1, &crate::store::upload::samples::upload("SN1001")),
            ("mac-020000001002", 1, &crate::store::upload::samples::upload("SN1002")),
        ],
    );
    let both = [source.as_path(), others.as_path()];
    let both = collect_within(&both, &dir.path().join("both.tar.gz"), Options::default(), 12).unwrap();
    assert!(both.is_complete() && both.taken() == 14, "{both}");

    // What is no folder counts, and so does what else has the name of an upload.
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("nodes")).unwrap();
    for number in 0..20 {
        fs::write(files.join(format!("nodes/mac-0300000000{number:02}")), b"").unwrap();
    }
    let none = collect_within(&[&files], &dir.path().join("none.tar.gz"), Options::default(), 14);
    let Err(CollectError::NothingWhole(none)) = none else {
        panic!("{none:?}")
    };
    assert!(none.unread.len() == 15 && none.unread[14].contains("nodes holds more than 14 nodes"));
    for number in 0..=1000 {
        let name = format!("000002-{number:064}.tar.gz");
        fs::write(others.join("nodes/mac-020000001001").join(name), b"").unwrap();
    }
    let some = run(&others, &dir.path().join("uploads.tar.gz")).unwrap();
    assert!(
        some.unread.len() == 1 && some.unread[0].contains("it holds more than 1000"),
        "{some}"
    );
    assert!(some.rows.iter().map(|row| row.uploads).sum::<usize>() <= 1001);

    let volume = dir.path().join("volume.img");
    fs::write(&volume, fixture("data.img.gz")).unwrap();
    let some = collect_within(&[&volume], &dir.path().join("v.tar.gz"), Options::default(), 2).unwrap();
    // Two folders, in one of which are two machines.
    assert!(some.rows.len() == 3 && some.unread.len() == 1, "{some}");
}

#[test]
fn a_copy_without_its_upload_is_not_called_complete() {
    let dir = scratch();
    let source = folder_of(dir.path(), 2);
    fs::create_dir(source.join("nodes/mac-020000000077")).unwrap();
    let report = run(&source, &dir.path().join("a.tar.gz")).unwrap();
    assert!(
        report.is_complete(),
        "the folder of an upload that never finished: {report}"
    );
    fs::write(source.join("nodes/mac-020000000077/inventory.json"), b"{}").unwrap();
    let report = run(&source, &dir.path().join("b.tar.gz")).unwrap();
    assert!(!report.is_complete() && report.taken() == 2);
    assert!(
        report.unread[0].contains("mac-020000000077: its upload is gone"),
        "{report}"
    );
}

#[test]
fn what_does_not_read_is_not_called_complete() {
    let dir = scratch();
    let source = folder_of(dir.path(), 2);
    // A folder that is none stands for one that fails to open.
    fs::write(source.join("nodes/mac-020000000009"), b"").unwrap();
    let report = run(&source, &dir.path().join("a.tar.gz")).unwrap();
    assert_eq!((report.taken(), report.is_complete()), (2, false), "{report}");
    assert!(report.to_string().contains("not read: ") && report.unread[0].contains("mac-020000000009"));

    // Alone it is not "no nodes" either.
    let alone = dir.path().join("alone");
    fs::create_dir_all(alone.join("nodes")).unwrap();
    fs::write(alone.join("nodes/mac-020000000009"), b"").unwrap();
    let error = run(&alone, &dir.path().join("b.tar.gz")).unwrap_err();
    assert!(
        matches!(&error, CollectError::NothingWhole(report) if report.unread.len() == 1),
        "{error}"
    );

    // An entry with a wrong sum may have been a node, or an upload.
    let mut image = fixture("data.img.gz");
    let opened = ExFat::open(&image).unwrap();
    let nodes = opened.find(&opened.root(), "nodes").unwrap().unwrap();
    let mut bytes = vec![0; 32];
    opened.reader(&nodes.stream).read_exact(&mut bytes).unwrap();
    let at = image.windows(32).position(|window| window == bytes.as_slice()).unwrap();
    image[at + 8] ^= 1;
    let volume = dir.path().join("volume.img");
    fs::write(&volume, image).unwrap();
    let report = run(&volume, &dir.path().join("c.tar.gz")).unwrap();
    assert_eq!(report.unread, ["1 damaged entry in nodes"]);
    assert!(!report.is_complete());

    // Where the entry of nodes itself is bad, nobody says that there were none.
    let mut image = fixture("data.img.gz");
    let name: Vec<u8> = "nodes".bytes().flat_map(|letter| [letter, 0]).collect();
    let at = image
        .windows(name.len())
        .position(|window| window == name.as_slice())
        .unwrap();
    image[at] ^= 1;
    let volume = dir.path().join("rootless.img");
    fs::write(&volume, image).unwrap();
    let error = run(&volume, &dir.path().join("d.tar.gz")).unwrap_err();
    assert!(matches!(&error, CollectError::Volume { .. }), "{error}");
}

#[test]
fn a_machine_has_one_row_whatever_it_calls_itself() {
    let report = |words: &str| Report {
        rows: vec![Row {
            id: "mac-525400000001".parse().unwrap(),
            machine: Some(words.to_owned()),
            stored_unix: None,
            size_bytes: 1,
            uploads: 1,
            state: State::Whole,
        }],
        clashes: vec![],
        unread: vec![],
        warnings: vec![words.to_owned()],
        out: PathBuf::from(words),
        out_bytes: 1,
        out_sha256: String::new(),
        files: 1,
    };
    let text = report(crate::model::shown::EVIL).to_string();
    crate::model::shown::assert_harmless(&text);
    assert_eq!(
        text.lines().count(),
        report("plain").to_string().lines().count(),
        "{text}"
    );
}

#[test]
fn pipes_and_links_of_a_folder_are_left_out_and_said() {
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::fs::symlink;
    let pipe = |path: &Path| mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).unwrap();
    let dir = scratch();
    let image = fixture("data.img.gz");
    let opened = ExFat::open(&image).unwrap();
    let nodes = opened.find(&opened.root(), "nodes").unwrap().unwrap();
    let (folder, elsewhere) = (dir.path().join("mounted/nodes"), dir.path().join("elsewhere"));
    for node in opened.list(&nodes.stream).unwrap().entries {
        let inside = match node.name.as_str() {
            // One that is elsewhere as a whole, and one whose upload is.
            "mac-525400000001" | "mac-525400000002" => elsewhere.join(&node.name),
            _ => folder.join(&node.name),
        };
        fs::create_dir_all(&inside).unwrap();
        for file in opened.list(&node.stream).unwrap().entries {
            let mut bytes = Vec::new();
            opened.reader(&file.stream).read_to_end(&mut bytes).unwrap();
            fs::write(inside.join(&file.name), bytes).unwrap();
        }
    }
    symlink(elsewhere.join("mac-525400000001"), folder.join("mac-525400000001")).unwrap();
    fs::create_dir(folder.join("mac-525400000002")).unwrap();
    for upload in fs::read_dir(elsewhere.join("mac-525400000002")).unwrap() {
        let upload = upload.unwrap();
        symlink(upload.path(), folder.join("mac-525400000002").join(upload.file_name())).unwrap();
    }
    let name = |digit: &str| format!("000009-{}.tar.gz", digit.repeat(64));
    let node = folder.join("4c4c4544-0042-3510-8052-b4c04f4a3232");
    pipe(&node.join(name("a")));
    symlink("/dev/zero", node.join(name("b"))).unwrap();
    pipe(&folder.join("mac-525400000007"));

    let report = run(&dir.path().join("mounted"), &dir.path().join("a.tar.gz")).unwrap();
    let taken: Vec<&str> = report
        .rows
        .iter()
        .filter(|row| row.state != State::Torn)
        .map(|row| row.id.as_str())
        .collect();
    assert_eq!(
        taken,
        [
            "4c4c4544-0042-3510-8052-b4c04f4a3232",
            "4c4c4544-0042-3510-8052-b4c04f4a3232-33261a8d5285",
            "4c4c4544-0042-3510-8052-b4c04f4a3233"
        ]
    );
    let said = [report.warnings, report.unread].concat().join("\n");
    for words in [
        "cannot be read (it is a pipe, not a plain file)",
        "cannot be read (it is a link, not a plain file)",
        "mac-525400000001 is no folder, left out",
        "mac-525400000007 is no folder, left out",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let source = dir.path().join("pipe");
    pipe(&source);
    let error = run(&source, &dir.path().join("b.tar.gz")).unwrap_err().to_string();
    assert!(
        error.contains("neither a disk, nor an image of one, nor a folder"),
        "{error}"
    );
    let linked = dir.path().join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(&folder, linked.join("nodes")).unwrap();
    let error = run(&linked, &dir.path().join("b.tar.gz")).unwrap_err().to_string();
    assert!(error.contains("nodes is no folder"), "{error}");
}

/// A data folder with these uploads: folder, number, content.
fn folder_with(dir: &Path, uploads: &[(&str, u64, &[u8])]) -> PathBuf {
    for (node, seq, bytes) in uploads {
        let folder = dir.join("nodes").join(node);
        fs::create_dir_all(&folder).unwrap();
        let name = UploadName {
            seq: *seq,
            sha256: digest_of(*bytes).unwrap().0,
        };
        fs::write(folder.join(name.to_string()), bytes).unwrap();
    }
    dir.to_owned()
}

/// Two masters each gave the UUID to the machine that came first to them.
#[test]
fn sticks_are_collected_together_and_a_clash_is_loud() {
    let dir = scratch();
    let uuid = "93d4e5a1-7f46-11e5-bf8b-080027123456";
    let board = |last: u8| {
        let (serial, mac) = (format!("BOARD-{last}"), format!("d0:63:b4:00:00:0{last}"));
        upload::samples::of_machine(uuid, Some(&serial), Some(&mac), "")
    };
    let marked = |last: u8| format!("{uuid}-d063b400000{last}");
    let (a, b, c) = (board(1), board(2), board(3));
    let first = folder_with(&dir.path().join("1"), &[(uuid, 1, &a), (&marked(2), 1, &b)]);
    let second = folder_with(
        &dir.path().join("2"),
        &[
            (uuid, 1, &b),
            (&marked(3), 1, &c),
            ("mac-525400000001", 1, &upload::samples::upload("x")),
        ],
    );
    let out = dir.path().join("a.tar.gz");
    let report = collect_all(&[&first, &second], &out, Options::default()).unwrap();
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.id.to_string(), row.machine.clone().unwrap()))
        .collect();
    let machine = |last: u8| (marked(last), format!("Acme R1 BOARD-{last}"));
    let (one, two, three) = (machine(1), machine(2), machine(3));
    assert_eq!(rows, [one, two, three, ("mac-525400000001".into(), "Acme R1 x".into())]);
    assert!(report.is_complete());
    let text = report.to_string();
    let clash = format!(
        "CLASH: three machines name themselves by the UUID {uuid}: node {}",
        marked(1)
    )
    .replace("three", "3");
    assert!(
        text.contains(&clash) && text.contains("BOARD-3, d0:63:b4:00:00:03"),
        "{text}"
    );
    assert!(
        text.contains(&format!("warning: node {} is on 2 of the sources", marked(2))),
        "{text}"
    );
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(File::open(&out).unwrap()));
    let mut found = Vec::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        if path.ends_with("inventory.json") {
            let mut inventory = String::new();
            entry.read_to_string(&mut inventory).unwrap();
            found.push((path, inventory));
        }
    }
    for last in 1..=3 {
        let path = format!("nodes/{}/inventory.json", marked(last));
        let inventory = &found.iter().find(|(other, _)| *other == path).unwrap().1;
        assert!(inventory.contains(&format!("BOARD-{last}")), "{inventory}");
    }
    // A stick without nodes is said, and does not keep the others from coming home.
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("nodes")).unwrap();
    let report = collect_all(&[&empty, &first], &dir.path().join("b.tar.gz"), Options::default()).unwrap();
    assert_eq!(
        report.rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>(),
        [uuid.to_owned(), marked(2)]
    );
    let none = collect_all(
        &[&empty, &first.join("nodes")],
        &dir.path().join("c.tar.gz"),
        Options::default(),
    );
    assert!(none.unwrap_err().to_string().contains("no machine finished an upload"));
}

#[test]
fn an_existing_file_is_replaced_only_when_asked() {
    let dir = scratch();
    let stick = stick(dir.path());
    let out = dir.path().join("a.tar.gz");
    fs::write(&out, b"of yesterday").unwrap();
    assert!(matches!(run(&stick, &out), Err(CollectError::Exists { .. })));
    assert_eq!(fs::read(&out).unwrap(), b"of yesterday");
    check_fixture(&collect(&stick, &out, Options { force: true }).unwrap());
}

#[test]
fn what_has_the_name_of_a_file_on_its_way_is_not_lost() {
    let dir = scratch();
    let (out, unchecked) = (dir.path().join("a"), dir.path().join("a.unchecked"));
    let volume = fixture("data.img.gz");
    fs::write(&unchecked, &volume).unwrap();
    let linked = dir.path().join("linked");
    fs::hard_link(&unchecked, &linked).unwrap();
    let force = Options { force: true };
    for source in [&unchecked, &linked] {
        let error = collect(source, &out, force).unwrap_err().to_string();
        assert!(
            error.contains("a.unchecked is on the source, which is never"),
            "{error}"
        );
    }
    assert!(fs::read(&unchecked).unwrap() == volume);

    fs::remove_file(&unchecked).unwrap();
    fs::write(&unchecked, b"of somebody").unwrap();
    let error = run(&linked, &out).unwrap_err();
    assert!(
        matches!(&error, CollectError::Exists { path } if *path == unchecked),
        "{error}"
    );
    assert_eq!(fs::read(&unchecked).unwrap(), b"of somebody");
    check_fixture(&collect(&linked, &out, force).unwrap());
    assert!(!unchecked.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A stick with bytes changed anywhere in its volume: what is taken is whole, and it never fails otherwise than
    /// with a reason.
    #[test]
    fn a_damaged_stick_gives_only_what_is_whole(
        damage in proptest::collection::vec((any::<u32>(), any::<u8>(), 0usize..3), 1..60),
    ) {
        let mut image = fixture("data.img.gz");
        for (at, byte, where_to) in damage {
            let span = [image.len(), 2 << 20, 4 << 20][where_to];
            let at = at as usize % span;
            image[at] = byte;
        }
        let dir = scratch();
        let source = dir.path().join("volume.img");
        fs::write(&source, image).unwrap();
        if let Ok(report) = run(&source, &dir.path().join("a.tar.gz")) {
            let verified = archive::verify(File::open(&report.out).unwrap()).unwrap();
            prop_assert_eq!(verified.nodes, report.taken());
            for row in report.rows.iter().filter(|row| row.state != State::Torn) {
                prop_assert!(row.machine.as_deref().is_some_and(|machine| machine.starts_with("Acme Rack 1")));
            }
        }
    }
}

#[test]
fn a_table_that_does_not_read_leads_to_the_search() {
    let failing = |content: &[u8]| {
        let mut disk = vec![0; 1 << 20];
        disk.extend_from_slice(content);
        disk.resize(disk.len() + (1 << 20), 0);
        let from = disk.len() as u64 - 4096;
        let length = disk.len() as u64;
        (Failing { disk, from }, length)
    };
    let (disk, length) = failing(&fixture("data.img.gz"));
    let (volume, warnings) = find_volume(&disk, length, Path::new("/dev/x")).unwrap();
    assert!(!volume.list(&volume.root()).unwrap().entries.is_empty());
    assert!(
        warnings.len() == 1 && warnings[0].contains("os error 5") && warnings[0].contains("found at byte 1048576"),
        "{warnings:?}"
    );
    // Where there is no volume, the error is what is told.
    let (disk, length) = failing(&[]);
    let found = find_volume(&disk, length, Path::new("/dev/x"));
    assert!(matches!(found, Err(CollectError::Read { .. })));
}
