//! Archives that nobody thought of, unpacked here and by GNU tar: the same tree, entry by entry.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{ANY, assert_same};
use super::{Tree, unpack};

/// Folders are there before anything lies in them; a name of the others may be anything by turns.
const FOLDERS: [&str; 4] = ["./", "usr/", "usr/bin/", "var/"];
const PLACES: [&str; 4] = ["", "usr/", "usr/bin/", "bin/"];

#[derive(Debug, Clone)]
enum What {
    File(Vec<u8>),
    /// Of a text that leads nowhere outside.
    Symlink(&'static str),
    /// To one of the names.
    Link(usize),
    Pipe,
    /// The attributes of a folder once more.
    Folder(usize),
}

#[derive(Debug, Clone)]
struct Made {
    name: usize,
    what: What,
    mode: u32,
    seconds: u32,
    /// By which extension a name that is too long is said.
    is_pax: bool,
    attribute: Option<Vec<u8>>,
}

/// A dozen names, one of them longer than a header holds.
fn name(number: usize) -> String {
    let long = "n".repeat(120);
    let last = ["a", "b", long.as_str()][number % 3];
    format!("{}{last}", PLACES[number / 3 % PLACES.len()])
}

fn made() -> impl Strategy<Value = Made> {
    let what = prop_oneof![
        4 => vec(any::<u8>(), 0..2000).prop_map(What::File),
        2 => prop::sample::select(vec!["a", "b", "usr", "nowhere/at all"]).prop_map(What::Symlink),
        2 => (0usize..12).prop_map(What::Link),
        1 => Just(What::Pipe),
        1 => (0usize..FOLDERS.len()).prop_map(What::Folder),
    ];
    let attribute = prop::option::weighted(0.2, vec(any::<u8>(), 1..40));
    (
        0usize..12,
        what,
        0u32..0o10000,
        0u32..2_000_000_000,
        any::<bool>(),
        attribute,
    )
        .prop_map(|(name, what, mode, seconds, is_pax, attribute)| Made {
            name,
            what,
            mode,
            seconds,
            is_pax,
            attribute,
        })
}

fn archive(all: &[Made]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, made: &Made, mode: u32, (link, content): (&str, &[u8])| {
        let mut header = if made.is_pax {
            tar::Header::new_ustar()
        } else {
            tar::Header::new_gnu()
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(made.seconds.into());
        header.set_size(content.len() as u64);
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if let (Some(value), true) = (&made.attribute, kind.is_file()) {
            records.push(("SCHILY.xattr.user.x", value));
        }
        if made.is_pax {
            records.push(("path", path.as_bytes()));
            if !link.is_empty() {
                records.push(("linkpath", link.as_bytes()));
            }
        }
        if !records.is_empty() {
            builder.append_pax_extensions(records).unwrap();
        }
        let done = match (made.is_pax, link) {
            // What a reader without extensions would take it for.
            (true, _) => {
                header.as_mut_bytes()[..5].copy_from_slice(b"wrong");
                header.set_cksum();
                builder.append(&header, content)
            }
            (false, "") => builder.append_data(&mut header, path, content),
            (false, link) => builder.append_link(&mut header, path, link),
        };
        done.unwrap();
    };
    let plain = Made {
        name: 0,
        what: What::Pipe,
        mode: 0,
        seconds: 1_700_000_000,
        is_pax: false,
        attribute: None,
    };
    for folder in FOLDERS {
        add(folder, tar::EntryType::Directory, &plain, 0o755, ("", b""));
    }
    add("bin", tar::EntryType::Symlink, &plain, 0o777, ("usr/bin", b""));
    for made in all {
        let path = name(made.name);
        match &made.what {
            What::File(content) => add(&path, tar::EntryType::Regular, made, made.mode, ("", content)),
            What::Symlink(to) => add(&path, tar::EntryType::Symlink, made, 0o777, (to, b"")),
            What::Link(to) => add(&path, tar::EntryType::Link, made, made.mode, (&name(*to), b"")),
            What::Pipe => add(&path, tar::EntryType::Fifo, made, made.mode, ("", b"")),
            // Whoever is not root could not write into another one.
            What::Folder(number) => add(
                FOLDERS[*number],
                tar::EntryType::Directory,
                made,
                made.mode | 0o700,
                ("", b""),
            ),
        }
    }
    builder.into_inner().unwrap()
}

/// Unpacks as root of a machine would, and gives folders their attributes at the end. False where it refuses something.
fn by_tar(archive: &[u8], folder: &Path) -> bool {
    let mut tar = Command::new("tar")
        .args([
            "--extract",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--preserve-permissions",
            "--delay-directory-restore",
        ])
        .args(["--file", "-", "--directory"])
        .arg(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It may end before it has all.
    let _ = tar.stdin.take().unwrap().write_all(archive);
    tar.wait().unwrap().success()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn any_archive_is_the_same_tree_here_and_by_gnu_tar(all in vec(made(), 0..30)) {
        let archive = archive(&all);
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let done = unpack(&archive[..], Some(&Tree::open(ours.path()).unwrap()), ANY);
        let is_by_tar = by_tar(&archive, theirs.path());
        prop_assert_eq!(done.is_ok(), is_by_tar, "{:?}", done);
        if is_by_tar {
            assert_same(ours.path(), theirs.path());
        }
        // What was made can be taken away, whatever its modes are.
        for folder in [&ours, &theirs] {
            for below in FOLDERS {
                let _ = fs::set_permissions(folder.path().join(below), std::os::unix::fs::PermissionsExt::from_mode(0o700));
            }
        }
    }
}
