use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::super::pack::{self, Options};
use super::*;

pub(super) const ANY: Limits = Limits {
    entries: u64::MAX,
    bytes: u64::MAX,
};

fn sh(script: &str, folder: &Path) {
    let done = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(done.success(), "{script}");
}

/// Everything that an entry is, but for the inode's own number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    device: u64,
    size: u64,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path with the same inode.
    same_as: PathBuf,
}

fn listed(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut inodes, mut left) = (BTreeMap::new(), BTreeMap::new(), vec![root.to_owned()]);
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().to_owned();
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            // The last is taken first.
            names.sort_by(|one, other| other.cmp(one));
            left.extend(names);
        }
        let content = match () {
            () if kind.is_file() => fs::read(&path).unwrap(),
            () if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            () => Vec::new(),
        };
        let same_as = inodes.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
        found.insert(
            below,
            Found {
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                device: if kind.is_dir() || kind.is_file() || kind.is_symlink() {
                    0
                } else {
                    metadata.rdev()
                },
                size: if kind.is_dir() { 0 } else { metadata.len() },
                content,
                xattrs: tree::xattrs(&path).unwrap(),
                same_as,
            },
        );
    }
    found
}

pub(super) fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (listed(one), listed(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (path, found) in &one {
        assert_eq!(found, &other[path], "{}", path.display());
    }
}

/// A tree of what anybody may make. The one folder that is closed comes with a file in it.
const TREE: &str = r#"
mkdir -p etc usr/bin closed sticky; ln -s usr/bin bin; ln -s /nowhere absolute; echo x >usr/bin/tool; chmod 6755 usr/bin/tool
echo secret >closed/file; chmod 0400 closed/file; ln usr/bin/tool usr/bin/again; chmod 1777 sticky; mkfifo etc/pipe; : >empty
n=$(printf '%0200d' 0); echo long >"$n"; ln "$n" "etc/$n"; ln -s "$n/$n" to-long; printf 'a\nb' >"new
line"; truncate --size=9000000 holes; printf y | dd of=holes bs=1 seek=5000000 conv=notrunc 2>/dev/null
"#;
/// And of what root may.
const OF_ROOT: &str = r#"
mknod etc/null c 1 3; mknod etc/disk b 259 70000; chown 1000:2000 etc/disk empty; chown 4000000:5000000 usr/bin/tool; chmod 4711 usr/bin/tool
chown -h 7:8 absolute; chown 9:10 etc/pipe
"#;
const TIMES: &str = "find . -depth -exec touch --no-dereference --date=@1700000000 {} +; chmod 0500 closed; touch --date=@1700000000 closed";

fn tree(as_root: bool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    sh(TREE, root.path());
    let set = |path: &str, name: &str, value: &[u8]| {
        let path = root.path().join(path);
        rustix::fs::lsetxattr(&path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("empty", "user.text", b"a\nb=c\n");
    set("etc", "user.of-a-folder", b"x");
    if as_root {
        sh(OF_ROOT, root.path());
        set("absolute", "trusted.of-a-link", b"y");
        set("etc/disk", "trusted.of-a-device", b"z");
        // Permitted: CAP_DAC_OVERRIDE and CAP_FOWNER, which is a newline (linux/capability.h, VFS_CAP_REVISION_2).
        set(
            "holes",
            "security.capability",
            &[0, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
    }
    sh(TIMES, root.path());
    root
}

fn packed(root: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    let options = Options {
        newest: u64::MAX,
        leave_out: &|_| false,
        access_lists: true,
    };
    let packed = pack::pack(root, &mut archive, &options).unwrap();
    let read = unpack(&archive[..], None, ANY).unwrap();
    assert_eq!((read.entries, read.bytes), (packed.entries, packed.bytes));
    archive
}

fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    unpack(archive, Some(&Tree::open(folder.path()).unwrap()), ANY).unwrap();
    folder
}

/// Through this program and through GNU tar, both ways.
fn goes_and_comes_back(as_root: bool) {
    let root = tree(as_root);
    let archive = packed(root.path());
    assert_eq!(archive, packed(root.path()), "the same tree gives the same bytes");
    assert_same(root.path(), unpacked(&archive).path());

    let (file, theirs) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    fs::write(file.path(), &archive).unwrap();
    const ALL: [&str; 4] = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--preserve-permissions",
    ];
    let tar = |words: &[&str], folder: &Path| {
        let mut tar = Command::new("tar");
        let done = tar
            .args(words)
            .args(ALL)
            .arg("--file")
            .arg(file.path())
            .arg("--directory")
            .arg(folder);
        if words == ["--create", "--sparse"] {
            done.arg(".");
        }
        assert!(done.status().unwrap().success());
    };
    tar(&["--extract"], theirs.path());
    assert_same(root.path(), theirs.path());

    tar(&["--create", "--sparse"], root.path());
    assert_same(root.path(), unpacked(&fs::read(file.path()).unwrap()).path());
}

#[test]
fn a_tree_goes_into_an_archive_and_comes_back() {
    goes_and_comes_back(false);
}

#[test]
#[ignore = "wants root: owners, devices, capabilities"]
fn a_root_goes_into_an_archive_and_comes_back() {
    goes_and_comes_back(true);
}

#[test]
fn holes_stay_holes() {
    let root = tree(false);
    let back = unpacked(&packed(root.path()));
    let blocks = fs::metadata(back.path().join("holes")).unwrap().blocks();
    assert!(blocks < 100, "{blocks} blocks of 512 bytes");
}

/// An archive of these entries: kind, path, link.
fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, link) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o700);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_mtime(0);
        let content: &[u8] = if kind.is_file() { b"evil" } else { b"" };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn no_name_leads_out_of_the_tree() {
    use tar::EntryType as Of;
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "good").unwrap();
    let (out, file) = (outside.path().to_str().unwrap(), victim.to_str().unwrap());
    let up = format!("../{}", outside.path().file_name().unwrap().to_str().unwrap());
    for entries in [
        // By a link to a folder outside, absolute or not, and by one that a later entry puts in the place of a folder.
        &[(Of::Symlink, "a", out), (Of::Regular, "a/victim", "")][..],
        &[(Of::Symlink, "a", &up), (Of::Regular, "a/victim", "")],
        &[
            (Of::Directory, "a", ""),
            (Of::Symlink, "a", out),
            (Of::Regular, "a/victim", ""),
        ],
        &[(Of::Symlink, "a", file), (Of::Regular, "a", "")],
        &[(Of::Link, "a", file), (Of::Regular, "a", "")],
        &[(Of::Symlink, "a", file), (Of::Link, "b", "a"), (Of::Regular, "b", "")],
        &[
            (Of::Symlink, "a", "/proc/self/root"),
            (Of::Regular, &format!("a{file}"), ""),
        ],
        &[(Of::Regular, &format!("../../..{file}"), "")],
    ] {
        let tree = tempfile::tempdir().unwrap();
        // Whether it is refused or made inside: it is not made outside.
        let _ = unpack(&archive(entries)[..], Some(&Tree::open(tree.path()).unwrap()), ANY);
        assert_eq!(fs::read(&victim).unwrap(), b"good", "{entries:?}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{entries:?}");
    }
    // A folder's attributes come last, and reach nothing that took its name.
    let before = fs::metadata(outside.path()).unwrap();
    let tree = tempfile::tempdir().unwrap();
    let entries = [(Of::Directory, "a", ""), (Of::Symlink, "a", out)];
    unpack(&archive(&entries)[..], Some(&Tree::open(tree.path()).unwrap()), ANY).unwrap();
    let after = fs::metadata(outside.path()).unwrap();
    assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    use tar::EntryType as Of;
    let entries = [
        (Of::Symlink, "a", "/nowhere"),
        (Of::Regular, "a", ""),
        (Of::Directory, "deep/er", ""),
        (Of::Regular, "not/said/before", ""),
        (Of::Directory, "a", ""),
    ];
    let back = unpacked(&archive(&entries));
    assert!(back.path().join("a").is_dir());
    assert_eq!(fs::read(back.path().join("not/said/before")).unwrap(), b"evil");
    // One that is another name of itself stays.
    let entries = [
        (Of::Regular, "a", ""),
        (Of::Link, "b", "a"),
        (Of::Link, "a", "b"),
        (Of::Link, "b", "b"),
    ];
    let back = unpacked(&archive(&entries));
    assert_eq!(fs::read(back.path().join("a")).unwrap(), b"evil");
    assert_eq!(fs::metadata(back.path().join("b")).unwrap().nlink(), 2);
    // A folder that holds something is not thrown away.
    let folder = tempfile::tempdir().unwrap();
    let entries = [(Of::Regular, "a/b", ""), (Of::Regular, "a", "")];
    let why = unpack(&archive(&entries)[..], Some(&Tree::open(folder.path()).unwrap()), ANY).unwrap_err();
    assert!(why.to_string().starts_with("/a: "), "{why}");
}

#[test]
fn more_than_it_should_be_is_not_unpacked() {
    let root = tree(false);
    let archive = packed(root.path());
    let whole = unpack(&archive[..], None, ANY).unwrap();
    let of = |entries, bytes| unpack(&archive[..], None, Limits { entries, bytes }).map_err(|error| error.to_string());
    assert_eq!(of(whole.entries, whole.bytes), Ok(whole));
    let why = of(whole.entries - 1, whole.bytes).unwrap_err();
    assert_eq!(
        why,
        format!("it holds more than the {} entries that it should", whole.entries - 1)
    );
    assert!(
        of(whole.entries, whole.bytes - 1)
            .unwrap_err()
            .ends_with("bytes that it should")
    );
    for length in [0, 511, 512, archive.len() / 2, archive.len() - 1024] {
        let why = unpack(&archive[..length], None, ANY).unwrap_err().to_string();
        assert!(why.contains("breaks off"), "{length}: {why}");
    }
}
