//! Is an image what its manifest says?

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::manifest::{self, Manifest, Part};
use super::unpack::{self, Limits, Unpacked};
use super::{ImageError, KERNEL, MANIFEST, ROOT, Summed, kernel, open, unpacked};
use crate::sys::tree::Tree;

/// The manifest of the image in this folder.
///
/// # Errors
/// There is none, or none that is understood.
pub(crate) fn manifest(folder: &Path) -> Result<Manifest, ImageError> {
    let path = folder.join(MANIFEST);
    let mut bytes = Vec::new();
    let file = open(&path)?;
    file.take(manifest::MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(ImageError::at(&path))?;
    let wrong = |error: ImageError| ImageError::Wrong(format!("{}: {error}", path.display()));
    match bytes.len() as u64 > manifest::MAX_BYTES {
        true => Err(wrong(ImageError::Wrong("it is too long for a manifest".to_owned()))),
        false => Manifest::read(&bytes).map_err(wrong),
    }
}

/// Reads the whole image, and into a tree where one is given.
///
/// # Errors
/// Something of it is not what the manifest says. What was made in the tree until then stays, and is not to be used.
pub(crate) fn read(folder: &Path, tree: Option<&Tree>) -> Result<Manifest, ImageError> {
    let manifest = manifest(folder)?;
    let path = folder.join(KERNEL);
    let mut content = Vec::new();
    let mut file = Summed::new(open(&path)?.take(manifest.kernel.bytes + 1));
    file.read_to_end(&mut content).map_err(ImageError::at(&path))?;
    must_be(&path, file.sum(), &manifest.kernel)?;
    let named = |error: ImageError| ImageError::Wrong(format!("{}: {error}", path.display()));
    kernel::must_be(&content, &manifest.kernel_version).map_err(named)?;
    root(&folder.join(ROOT), &manifest, tree)?;
    Ok(manifest)
}

fn root(path: &Path, manifest: &Manifest, tree: Option<&Tree>) -> Result<(), ImageError> {
    let root = &manifest.root;
    let file: File = open(path)?;
    let mut packed = Summed::new(file.take(root.packed.bytes + 1));
    let limits = Limits {
        entries: root.entries,
        bytes: root.unpacked_bytes,
    };
    let mut read = || -> Result<Unpacked, ImageError> {
        let archive = unpacked(BufReader::with_capacity(1 << 17, &mut packed)).map_err(ImageError::at(path))?;
        unpack::unpack(archive, tree, limits).map_err(|error| ImageError::Wrong(format!("{}: {error}", path.display())))
    };
    let found = read();
    // A sum that is wrong says more than what came of it.
    io::copy(&mut packed, &mut io::sink()).map_err(ImageError::at(path))?;
    must_be(path, packed.sum(), &root.packed)?;
    let found = found?;
    let said = (root.entries, root.unpacked_bytes);
    match (found.entries, found.bytes) == said {
        true => Ok(()),
        false => Err(ImageError::Wrong(format!(
            "{}: it has {} entries and {} bytes, and the manifest says {} and {}",
            path.display(),
            found.entries,
            found.bytes,
            said.0,
            said.1
        ))),
    }
}

fn must_be(path: &Path, (bytes, sha256): (u64, String), said: &Part) -> Result<(), ImageError> {
    let why = match () {
        () if bytes > said.bytes => format!("it is longer than the {} bytes that the manifest says", said.bytes),
        () if bytes < said.bytes => format!("it has {bytes} bytes, and the manifest says {}", said.bytes),
        () if sha256 != said.sha256 => "its SHA-256 is another than the manifest says".to_owned(),
        () => return Ok(()),
    };
    Err(ImageError::Wrong(format!("{}: {why}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::make::{self, Wishes};
    use super::*;
    use crate::formats::boot_image::tests::bzimage_of;

    /// A root with a kernel of this version, whose modules are for 6.1.
    fn root(version: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["boot", "etc", "usr/lib/modules/6.1"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("usr/lib/modules/6.1/modules.dep"), "").unwrap();
        fs::write(root.path().join("boot/vmlinuz-6.1"), bzimage_of(version)).unwrap();
        fs::write(root.path().join("etc/issue"), "hello\n".repeat(10_000)).unwrap();
        root
    }

    fn made(root: &Path, output: &Path) -> Result<Manifest, ImageError> {
        make::make(&Wishes {
            root: root.to_owned(),
            output: output.to_owned(),
            kernel: None,
            level: 3,
            newest: u64::MAX,
        })
    }

    #[test]
    fn an_image_is_what_its_manifest_says() {
        let (root, image, again) = (root("6.1"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let manifest = made(root.path(), image.path()).unwrap();
        assert_eq!(read(image.path(), None).unwrap(), manifest);
        assert_eq!(manifest.kernel_version, "6.1");
        // The kernel is beside the archive.
        assert_eq!((manifest.root.entries, manifest.root.unpacked_bytes), (9, 60_000));
        made(root.path(), again.path()).unwrap();
        for name in [ROOT, KERNEL, MANIFEST] {
            let bytes = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(bytes(image.path()), bytes(again.path()), "{name}");
        }
        let back = tempfile::tempdir().unwrap();
        read(image.path(), Some(&Tree::open(back.path()).unwrap())).unwrap();
        assert_eq!(fs::read(back.path().join("etc/issue")).unwrap().len(), 60_000);
    }

    #[test]
    fn what_is_not_what_it_was_is_no_image() {
        let (root, image) = (root("6.1"), tempfile::tempdir().unwrap());
        made(root.path(), image.path()).unwrap();
        for (name, words) in [
            (ROOT, "SHA-256 is another"),
            (KERNEL, "SHA-256 is another"),
            (MANIFEST, "no manifest of an image"),
        ] {
            let path = image.path().join(name);
            let whole = fs::read(&path).unwrap();
            let mut other = whole.clone();
            let middle = other.len() / 2;
            other[middle] ^= 0x80;
            fs::write(&path, &other).unwrap();
            let why = read(image.path(), None).unwrap_err().to_string();
            assert!(why.contains(words) && why.contains(name), "{why}");
            for length in [0, whole.len() - 1] {
                fs::write(&path, &whole[..length]).unwrap();
                let is_whole = name == MANIFEST && length > 0;
                assert_eq!(read(image.path(), None).is_ok(), is_whole, "{name} of {length} bytes");
            }
            fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
            assert_eq!(read(image.path(), None).is_ok(), name == MANIFEST, "{name}");
            fs::remove_file(&path).unwrap();
            let why = read(image.path(), None).unwrap_err().to_string();
            assert!(why.contains(name), "{why}");
            fs::write(&path, &whole).unwrap();
        }
        // A manifest of another archive.
        let path = image.path().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        for (from, to, words) in [
            ("\"entries\": 9", "\"entries\": 10", "it has 9 entries and 60000 bytes"),
            ("\"entries\": 9", "\"entries\": 8", "more than the 8 entries"),
            ("60000", "59999", "more than the 59999 bytes"),
            (
                "\"6.1\"",
                "\"6.2\"",
                "it is the kernel 6.1, and the modules are for 6.2",
            ),
        ] {
            let other = text.replace(from, to);
            assert_ne!(other, text);
            fs::write(&path, other).unwrap();
            let why = read(image.path(), None).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn what_cannot_be_made_leaves_what_was_there() {
        let (good, image) = (root("6.1"), tempfile::tempdir().unwrap());
        let manifest = made(good.path(), image.path()).unwrap();
        let other = root("6.2");
        let why = made(other.path(), image.path()).unwrap_err().to_string();
        assert!(
            why.ends_with("boot/vmlinuz-6.1: it is the kernel 6.2, and the modules are for 6.1"),
            "{why}"
        );
        let inside = made(good.path(), &good.path().join("image")).unwrap_err().to_string();
        assert!(inside.contains("name another folder"), "{inside}");
        assert!(!good.path().join("image").exists(), "what is packed stays as it is");
        let gone = made(&good.path().join("gone"), image.path()).unwrap_err().to_string();
        assert!(gone.contains("No such file"), "{gone}");
        let file = made(&good.path().join("etc/issue"), image.path())
            .unwrap_err()
            .to_string();
        assert!(file.ends_with("etc/issue is no folder"), "{file}");
        fs::create_dir(image.path().join(format!("{KERNEL}.part"))).unwrap();
        made(good.path(), image.path()).unwrap_err();
        assert_eq!(read(image.path(), None).unwrap(), manifest);
        assert_eq!(fs::read_dir(image.path()).unwrap().count(), 4, "no half file stays");
    }
}
