use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::*;
use crate::formats::bytes::hex;

/// An archive of tar: a name that ends in a slash is a folder's, `name -> target` a link's, and all others are files with that content.
fn tar(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mode(0o755);
        header.set_mtime(1);
        header.set_size(0);
        match name.split_once(" -> ") {
            Some((name, target)) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
            None if name.ends_with('/') => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, name, io::empty()).unwrap();
            }
            None => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let done = Command::new("xz").arg("--stdout").stdin(file).output().unwrap();
    assert!(done.status.success());
    done.stdout
}

/// A container image of these layers.
struct Layers {
    folder: tempfile::TempDir,
}

impl Layers {
    fn new(layers: &[(&str, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Layers { folder };
        fs::create_dir_all(made.at("blobs/sha256")).unwrap();
        let list: Vec<String> = layers
            .iter()
            .map(|(kind, bytes)| made.blob(&format!("application/vnd.oci.image.layer.v1.{kind}"), bytes))
            .collect();
        let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, list.join(","));
        let manifest = made.blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        fs::write(
            made.at(INDEX),
            format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#),
        )
        .unwrap();
        fs::write(made.at(LAYOUT), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        made
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> String {
        let sum = hex(&Sha256::digest(bytes));
        fs::write(self.at(&format!("blobs/sha256/{sum}")), bytes).unwrap();
        format!(
            r#"{{"mediaType":"{kind}","digest":"sha256:{sum}","size":{}}}"#,
            bytes.len()
        )
    }
}

/// Every path below, with the content of files and the targets of links.
fn listed(root: &Path) -> BTreeMap<String, String> {
    let (mut found, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let what = match () {
                () if kind.is_dir() => {
                    left.push(path);
                    "/".to_owned()
                }
                () if kind.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()),
                () => fs::read_to_string(path).unwrap(),
            };
            found.insert(name, what);
        }
    }
    found
}

fn of(given: &Path) -> Result<(BTreeMap<String, String>, PathBuf), String> {
    let work = tempfile::tempdir().unwrap();
    let source = Source::of(given, &work.path().join("image")).map_err(|error| error.to_string())?;
    Ok((listed(source.root()), source.root().to_owned()))
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = entries.iter();
    own.map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
        .collect()
}

#[test]
fn a_layer_lies_over_the_others_and_takes_away_what_it_says() {
    let low = tar(&[
        ("a/", ""),
        ("a/one", "1"),
        ("a/two", "2"),
        ("gone/", ""),
        ("gone/x/", ""),
        ("gone/x/y", "y"),
        ("all/", ""),
        ("all/old", "old"),
        ("was-folder/", ""),
        ("was-folder/inside", "i"),
        ("was-link -> a", ""),
        ("usr/", ""),
        ("usr/lib/", ""),
        ("lib -> usr/lib", ""),
    ]);
    let high = tar(&[
        ("a/.wh.one", ""),
        ("a/two", "new"),
        (".wh.gone", ""),
        ("all/", ""),
        // It stands before the whiteout, and is not below it.
        ("all/new", "new"),
        ("all/.wh..wh..opq", ""),
        ("was-folder", "file"),
        ("was-link/", ""),
        ("lib/module", "m"),
        (".wh.never", ""),
        ("none/.wh.nothing", ""),
    ]);
    let top = tar(&[("top", "t")]);
    let image = Layers::new(&[
        ("tar+gzip", gz(&low)),
        ("tar+zstd", zstd::encode_all(&high[..], 3).unwrap()),
        ("tar", top),
    ]);
    let (found, root) = of(&image.at("")).unwrap();
    let wanted = map(&[
        ("a", "/"),
        ("a/two", "new"),
        ("all", "/"),
        ("all/new", "new"),
        ("was-folder", "file"),
        ("was-link", "/"),
        ("usr", "/"),
        ("usr/lib", "/"),
        ("usr/lib/module", "m"),
        ("lib", "-> usr/lib"),
        ("top", "t"),
    ]);
    assert_eq!(found, wanted);
    assert!(!root.exists(), "it goes with who wanted it");
}

#[test]
fn whiteouts_lead_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "k").unwrap();
    let way = format!("out -> {}", outside.path().display());
    let low = tar(&[(&way, ""), ("up -> ../../..", "")]);
    let high = tar(&[("out/.wh.kept", ""), ("out/.wh..wh..opq", ""), ("up/.wh..wh..opq", "")]);
    let image = Layers::new(&[("tar", low), ("tar", high)]);
    // Nothing is below a link that could be taken away.
    let links = map(&[("up", "-> ../../.."), ("out", &way.replace("out -> ", "-> "))]);
    assert_eq!(of(&image.at("")).unwrap().0, links);
    assert!(outside.path().join("kept").exists());
}

#[test]
fn a_root_without_an_entry_of_its_own_is_the_same_each_time() {
    let work = tempfile::tempdir().unwrap();
    let given = work.path().join("root.tar");
    fs::write(&given, tar(&[("a", "1")])).unwrap();
    let source = Source::of(&given, &work.path().join("image/")).unwrap();
    let metadata = fs::metadata(source.root()).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o755, 0));
    let above = fs::metadata(source.root().parent().unwrap()).unwrap();
    assert_eq!(above.mode() & 0o7777, 0o700);
    assert!(source.root().starts_with(work.path().join("image.root.part")));
    // A link that somebody put there is taken away, and not what it leads to.
    drop(source);
    let (part, theirs) = (work.path().join("image.root.part"), work.path().join("theirs"));
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::symlink(&theirs, &part).unwrap();
    let _source = Source::of(&given, &work.path().join("image")).unwrap();
    assert!(!part.is_symlink() && fs::read_dir(&theirs).unwrap().next().is_none());
}

#[test]
fn what_is_not_as_its_digest_says_is_refused() {
    let image = Layers::new(&[("tar", tar(&[("a", "1")]))]);
    let blob = |bytes: usize| {
        let blobs = fs::read_dir(image.at("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        blobs
            .into_iter()
            .find(|path| fs::metadata(path).unwrap().len() == bytes as u64)
            .unwrap()
    };
    let layer = blob(2048);
    fs::write(&layer, tar(&[("a", "2")])).unwrap();
    assert!(of(&image.at("")).unwrap_err().contains("digest"));
    fs::remove_file(&layer).unwrap();
    assert!(of(&image.at("")).unwrap_err().contains("No such file"));
    let other = Layers::new(&[("tar", tar(&[("a", "3")]))]);
    let manifest = |image: &Layers| {
        let blobs = fs::read_dir(image.at("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        blobs
            .into_iter()
            .find(|path| fs::read(path).unwrap().starts_with(b"{"))
            .unwrap()
    };
    fs::copy(manifest(&other), manifest(&image)).unwrap();
    let why = of(&image.at("")).unwrap_err();
    assert!(why.contains("digest"), "{why}");
    fs::write(image.at(INDEX), "{").unwrap();
    assert!(of(&image.at("")).unwrap_err().contains(INDEX));
}

#[test]
fn an_archive_is_a_root_whatever_packed_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = tar(&[("a/", ""), ("a/.wh.b", "no whiteout")]);
    let wanted = map(&[("a", "/"), ("a/.wh.b", "no whiteout")]);
    let packed = [
        gz(&plain),
        zstd::encode_all(&plain[..], 3).unwrap(),
        xz(&plain),
        plain.clone(),
    ];
    let given = folder.path().join("root.tar");
    for bytes in packed {
        fs::write(&given, &bytes).unwrap();
        assert_eq!(of(&given).unwrap().0, wanted);
        fs::write(&given, &bytes[..bytes.len() / 3]).unwrap();
        assert!(of(&given).unwrap_err().contains("root.tar"));
    }
    fs::write(&given, "nothing of that kind").unwrap();
    assert!(of(&given).is_err());
    fs::write(&given, tar(&[("oci-layout", "{}"), ("index.json", "{}")])).unwrap();
    assert!(of(&given).unwrap_err().contains("skopeo"));
    let tree = Source::of(folder.path(), &folder.path().join("image")).unwrap();
    assert_eq!(tree.root(), folder.path(), "a tree is packed where it lies");
}
