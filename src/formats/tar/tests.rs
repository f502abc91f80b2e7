use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// All entries with their contents, holes left out.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let (mut content, mut buffer) = (Vec::new(), [0; 700]);
        loop {
            match reader.read(&mut buffer)? {
                0 => break,
                read => content.extend_from_slice(&buffer[..read]),
            }
        }
        found.push((entry, content));
    }
    Ok(found)
}

/// What GNU tar makes of a tree that a script of the shell made.
fn gnu_tar(script: &str, words: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(made.success());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@1.5"])
        .args(words)
        .args(["--file=-", "."]);
    let out = tar
        .current_dir(folder.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout
}

const TREE: &str = r#"
mkdir -p folder/inner; echo hello >folder/file; chmod 4711 folder/file; ln folder/file second; ln -s /etc/passwd link
mkfifo pipe; : >empty; n=$(printf '%0200d' 0); echo long >$n; ln -s $n/$n to-long; ln $n folder/to-long
printf x >holes; printf y | dd of=holes bs=1 seek=1000000 2>/dev/null; printf z | dd of=holes bs=1 seek=3000000 conv=notrunc 2>/dev/null
truncate --size=4000000 holes; truncate --size=70000 only-a-hole
"#;

#[test]
fn archives_of_gnu_tar_are_read_in_each_of_its_formats() {
    for words in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(TREE, words);
        let found = read(&archive).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let long = "0".repeat(200);
        let of = |path: &str| {
            let mut entries = found.iter().filter(|(entry, _)| entry.path == path.as_bytes());
            let entry = entries.next().unwrap_or_else(|| panic!("{words:?}: {path}"));
            assert!(entries.next().is_none(), "{words:?}: {path}");
            entry
        };
        assert_eq!(found.len(), 13, "{words:?}");
        assert_eq!(of("").0.kind, Kind::Folder);
        let (file, content) = of("folder/file");
        assert_eq!(
            (file.kind, file.mode, file.size, &content[..]),
            (Kind::File, 0o4711, 6, &b"hello\n"[..])
        );
        let is_posix = words[0] == "--format=posix";
        let half = if is_posix { 500_000_000 } else { 0 };
        assert_eq!(
            (file.modified.seconds, file.modified.nanoseconds),
            (1, half),
            "{words:?}"
        );
        let (second, _) = of("second");
        assert_eq!((second.kind, &second.link[..]), (Kind::HardLink, &b"folder/file"[..]));
        assert_eq!(
            (of("link").0.kind, &of("link").0.link[..]),
            (Kind::SymbolicLink, &b"/etc/passwd"[..])
        );
        assert_eq!(of("to-long").0.link, format!("{long}/{long}").into_bytes());
        assert_eq!(of("folder/to-long").0.link, long.as_bytes());
        assert_eq!(of(&long).1, b"long\n");
        assert_eq!(of("pipe").0.kind, Kind::Fifo);
        let (holes, content) = of("holes");
        let mut whole = vec![0; 4_000_000];
        let mut at = 0;
        for piece in &holes.pieces {
            let (start, bytes) = (piece.at as usize, piece.bytes as usize);
            whole[start..start + bytes].copy_from_slice(&content[at..at + bytes]);
            at += bytes;
        }
        assert_eq!((holes.size, at), (4_000_000, content.len()), "{words:?}");
        let set: Vec<_> = (0..whole.len())
            .filter(|at| whole[*at] != 0)
            .map(|at| (at, whole[at]))
            .collect();
        assert_eq!(set, [(0, b'x'), (1_000_000, b'y'), (3_000_000, b'z')], "{words:?}");
        let is_sparse = words.contains(&"--sparse");
        assert_eq!(content.len() < 100_000, is_sparse, "{words:?}: {}", content.len());
        assert_eq!(of("only-a-hole").0.size, 70_000);
    }
}

/// One entry of a small archive, and what ends it.
fn one(kind: u8, path: &str, link: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

#[test]
fn a_path_stays_below_the_root() {
    let of = |path: &str, kind: u8, link: &str| {
        read(&[&one(kind, path, link, 0)[..], &END].concat()).map(|found| found[0].0.clone())
    };
    for (path, clean) in [("/etc/x", "etc/x"), ("./a//b/./c", "a/b/c"), ("./", ""), ("...", "...")] {
        assert_eq!(of(path, b'0', "").unwrap().path, clean.as_bytes());
    }
    for path in ["../x", "a/../../x", "a/.."] {
        assert!(matches!(of(path, b'0', ""), Err(TarError::Refused { .. })), "{path}");
        assert!(of("x", b'1', path).is_err(), "{path}");
        // Where a symbolic link leads is for whoever follows it.
        assert_eq!(of("x", b'2', path).unwrap().link, path.as_bytes());
    }
}

#[test]
fn what_is_not_whole_is_no_archive() {
    let content = [&one(b'0', "a", "", 600)[..], &[1; 1024]].concat();
    let whole = [&content[..], &END].concat();
    assert_eq!(read(&whole).unwrap()[0].1, [1; 600]);
    for length in 0..content.len() + BLOCK {
        assert!(
            matches!(read(&whole[..length]), Err(TarError::BreaksOff { .. })),
            "{length}"
        );
    }
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    assert!(matches!(read(&damaged), Err(TarError::Damaged { .. })));
}

#[test]
fn what_would_take_memory_or_mean_two_things_is_refused() {
    for header in [
        one(b'x', "pax", "", MAX_PAX + 1),
        one(b'L', "long", "", MAX_NAME as u64 + 2),
        one(b'L', "long", "", u64::MAX / 4),
        one(b'M', "of several volumes", "", 0),
        one(b'2', "link", "x", 512),
        one(b'6', "pipe", "", 512),
    ] {
        let archive = [&header[..], &[0; 8 * BLOCK]].concat();
        assert!(matches!(
            read(&archive),
            Err(TarError::Refused { .. } | TarError::Damaged { .. })
        ));
    }
    // Nothing follows these, whatever they say.
    for kind in [b'1', b'5'] {
        let archive = [&one(kind, "a", "b", 512)[..], &one(b'0', "c", "", 0), &END].concat();
        assert_eq!(read(&archive).unwrap().len(), 2);
    }
}

fn with_pax(records: &[(&str, &str)], stored: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions(records.iter().map(|(word, value)| (*word, value.as_bytes())))
        .unwrap();
    let mut archive = builder.into_inner().unwrap();
    archive.truncate(archive.len() - END.len());
    archive.extend(one(b'0', "a", "", stored.len() as u64));
    archive.extend(stored);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    archive.extend(END);
    archive
}

#[test]
fn a_map_that_goes_astray_is_refused() {
    let of = |map: &str, size: &str, stored: &[u8]| {
        let records = [
            ("GNU.sparse.major", "0"),
            ("GNU.sparse.map", map),
            ("GNU.sparse.size", size),
        ];
        read(&with_pax(&records, stored)).map(|found| found[0].0.pieces.len())
    };
    assert_eq!(of("0,1,5,2", "7", b"abc").unwrap(), 2);
    for (map, size) in [
        ("0,1,5,2", "6"),
        ("0,1,0,2", "7"),
        ("5,2,0,1", "7"),
        ("0,1,5,1", "7"),
        ("0,1,5,3", "8"),
        ("0,1,5", "7"),
        ("0,18446744073709551615,1,4", "7"),
        ("x", "7"),
    ] {
        assert!(of(map, size, b"abc").is_err(), "{map} {size}");
    }
    let in_content = |text: &str| {
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", "9"),
        ];
        let mut stored = text.as_bytes().to_vec();
        stored.resize(BLOCK, 0);
        stored.extend(b"abc");
        read(&with_pax(&records, &stored)).map(|found| found[0].1.clone())
    };
    assert_eq!(in_content("1\n2\n3\n").unwrap(), b"abc");
    for wrong in ["", "1\n2\n", "2\n1\n1\n", "9999999\n", "1\n2\n4\n", "1\n7\n3\n", "-1\n"] {
        assert!(in_content(wrong).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_archive_or_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..4000), kind in any::<u8>(), has_head in any::<bool>()) {
        if has_head {
            let mut archive = one(kind, "a/b", "c", bytes.len() as u64);
            archive.append(&mut bytes);
            bytes = archive;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn an_archive_with_a_byte_changed_is_read_or_refused(at in 0_usize..40_000, to in any::<u8>()) {
        thread_local!(static ARCHIVE: Vec<u8> = gnu_tar(TREE, &["--format=posix", "--sparse"]));
        let mut archive = ARCHIVE.with(Clone::clone);
        let at = at % archive.len();
        archive[at] = to;
        let _ = read(&archive);
    }
}

/// The writer that other tests use is no witness for names of any length: the crate's own is.
#[test]
fn what_the_crate_writes_is_read() {
    let mut builder = tar::Builder::new(Vec::new());
    let name = format!("a/{}", "ü".repeat(150));
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, &name, &b"abc"[..]).unwrap();
    let mut out = builder.into_inner().unwrap();
    out.flush().unwrap();
    let found = read(&out).unwrap();
    assert_eq!((&found[0].0.path[..], &found[0].1[..]), (name.as_bytes(), &b"abc"[..]));
}
