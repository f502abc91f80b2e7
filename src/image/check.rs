//! Is an image what its manifest says?

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::signature::Trusted;
use super::unpack::{self, Limits, Unpacked};
use super::{ImageError, Summed, kernel, open, unpacked};
use crate::formats::image::{
    FIRST_STAGE, KERNEL, MANIFEST, MAX_BYTES, MAX_SIGNATURE_BYTES, Manifest, Part, ROOT, Root, SIGNATURE, SQUASHFS,
    version,
};
use crate::sys::tree::Tree;

/// The manifest of the image in this folder, and the version that it makes of it.
///
/// # Errors
/// There is none, or none that is understood.
pub(crate) fn manifest(folder: &Path) -> Result<(Manifest, String), ImageError> {
    let path = folder.join(MANIFEST);
    let mut bytes = Vec::new();
    let file = open(&path)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(ImageError::at(&path))?;
    let manifest = Manifest::read(&bytes).map_err(|why| ImageError::Wrong(format!("{}: {why}", path.display())))?;
    Ok((manifest, version(&bytes)))
}

/// Holds the signature of the image in this folder against keys.
///
/// # Errors
/// It has none, or none of these keys signed it.
pub(crate) fn signed(folder: &Path, trusted: &Trusted) -> Result<(), ImageError> {
    let read = |name: &str, most: u64| {
        let path = folder.join(name);
        let mut bytes = Vec::new();
        let mut file = open(&path)?.take(most + 1);
        file.read_to_end(&mut bytes).map_err(ImageError::at(&path))?;
        Ok::<_, ImageError>(bytes)
    };
    let (manifest, signature) = (read(MANIFEST, MAX_BYTES)?, read(SIGNATURE, MAX_SIGNATURE_BYTES)?);
    let wrong = |why: String| ImageError::Wrong(format!("{}: {why}", folder.display()));
    trusted.verify(&manifest, &signature).map_err(wrong)
}

/// Reads the whole image, and its root into a tree where one is given.
///
/// # Errors
/// Something of it is not what the manifest says. What was made in the tree until then stays, and is not to be used.
pub(crate) fn read(folder: &Path, tree: Option<&Tree>) -> Result<(Manifest, String), ImageError> {
    let (manifest, version) = manifest(folder)?;
    let path = folder.join(KERNEL);
    let content = part(&path, &manifest.kernel)?;
    let named = |error: ImageError| ImageError::Wrong(format!("{}: {error}", path.display()));
    kernel::must_be(&content, &manifest.kernel_version).map_err(named)?;
    for (name, said) in &manifest.first {
        part(&folder.join(FIRST_STAGE).join(name), said)?;
    }
    root(&folder.join(ROOT), &manifest, tree)?;
    if let Some(said) = &manifest.squashfs {
        let path = folder.join(SQUASHFS);
        copied(&path, open(&path)?.take(said.bytes + 1), &mut io::sink(), said)?;
    }
    Ok((manifest, version))
}

/// Copies a file that is as it should be. `name`: what messages call it.
///
/// # Errors
/// It is not what was said of it; the copy is not to be used then.
pub(crate) fn copied(name: &Path, from: impl Read, to: &mut impl io::Write, said: &Part) -> Result<(), ImageError> {
    let mut from = Summed::new(from);
    io::copy(&mut from, to).map_err(ImageError::at(name))?;
    must_be(name, from.sum(), said)
}

/// A file that is as it should be.
fn part(path: &Path, said: &Part) -> Result<Vec<u8>, ImageError> {
    let mut content = Vec::new();
    let mut file = Summed::new(open(path)?.take(said.bytes + 1));
    file.read_to_end(&mut content).map_err(ImageError::at(path))?;
    must_be(path, file.sum(), said)?;
    Ok(content)
}

fn root(path: &Path, manifest: &Manifest, tree: Option<&Tree>) -> Result<(), ImageError> {
    let file: File = open(path)?;
    archive(path, file.take(manifest.root.packed.bytes + 1), &manifest.root, tree)
}

/// Reads a root archive to its end, and into a tree where one is given. `name`: what messages call it.
///
/// # Errors
/// It is not what was said of it. What was made in the tree until then stays, and is not to be used.
pub(crate) fn archive(name: &Path, packed: impl Read, said: &Root, tree: Option<&Tree>) -> Result<(), ImageError> {
    let mut packed = Summed::new(packed);
    let limits = Limits {
        entries: said.entries,
        bytes: said.unpacked_bytes,
    };
    let mut read = || -> Result<Unpacked, ImageError> {
        let archive = unpacked(BufReader::with_capacity(1 << 17, &mut packed)).map_err(ImageError::at(name))?;
        unpack::unpack(archive, tree, limits).map_err(|error| ImageError::Wrong(format!("{}: {error}", name.display())))
    };
    let found = read();
    // A sum that is wrong says more than what came of it.
    io::copy(&mut packed, &mut io::sink()).map_err(ImageError::at(name))?;
    must_be(name, packed.sum(), &said.packed)?;
    let found = found?;
    match (found.entries, found.bytes) == (said.entries, said.unpacked_bytes) {
        true => Ok(()),
        false => Err(ImageError::Wrong(format!(
            "{}: it has {} entries and {} bytes, and the manifest says {} and {}",
            name.display(),
            found.entries,
            found.bytes,
            said.entries,
            said.unpacked_bytes
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
    use super::super::stage;
    use super::*;
    use crate::formats::boot_image::tests::bzimage_of;
    use crate::formats::first_stage::BASE;

    const ISSUE: usize = 60_000;

    /// A root with a kernel of this version, whose modules are for 6.1.
    fn root(version: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        stage::tests::fill(root.path(), "usr/lib/modules/6.1");
        for folder in ["boot", "sbin"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("sbin/init"), "").unwrap();
        fs::write(root.path().join("boot/vmlinuz-6.1"), bzimage_of(version)).unwrap();
        fs::write(root.path().join("etc/issue"), vec![b'x'; ISSUE]).unwrap();
        root
    }

    /// What a folder holds: entries, itself among them, and bytes of its files.
    fn held(folder: &Path) -> (u64, u64) {
        let mut held = (1, 0);
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let inner = match metadata.is_dir() {
                true => self::held(&entry.path()),
                false => (1, if metadata.is_file() { metadata.len() } else { 0 }),
            };
            held = (held.0 + inner.0, held.1 + inner.1);
        }
        held
    }

    fn made(root: &Path, output: &Path) -> Result<make::Made, ImageError> {
        let recon = tempfile::NamedTempFile::new().unwrap();
        fs::write(recon.path(), stage::tests::alone()).unwrap();
        made_with(root, output, recon.path(), false)
    }

    fn made_with(root: &Path, output: &Path, recon: &Path, squashfs: bool) -> Result<make::Made, ImageError> {
        make::make(&Wishes {
            trusted: None,
            root: root.to_owned(),
            output: output.to_owned(),
            kernel: None,
            recon: recon.to_owned(),
            level: 3,
            newest: u64::MAX,
            squashfs,
        })
    }

    #[test]
    fn the_packed_form_is_held_against_the_manifest_and_goes_where_it_is_not_wanted() {
        let (root, image) = (root("6.1"), tempfile::tempdir().unwrap());
        let recon = tempfile::NamedTempFile::new().unwrap();
        fs::write(recon.path(), stage::tests::alone()).unwrap();
        let made = |squashfs| made_with(root.path(), image.path(), recon.path(), squashfs);
        let why = made(true).unwrap_err().to_string();
        assert!(
            why.contains("loop, squashfs, overlay") && why.contains("--no-squashfs"),
            "{why}"
        );
        let built_in = root.path().join("usr/lib/modules/6.1/modules.builtin");
        let more = "kernel/drivers/block/loop.ko\nkernel/fs/squashfs/squashfs.ko\nkernel/fs/overlayfs/overlay.ko\n";
        fs::write(&built_in, [fs::read(&built_in).unwrap(), more.into()].concat()).unwrap();
        let both = made(true).unwrap();
        let path = image.path().join(SQUASHFS);
        assert_eq!(
            both.manifest.squashfs.unwrap().bytes,
            fs::metadata(&path).unwrap().len()
        );
        read(image.path(), None).unwrap();
        let mut content = fs::read(&path).unwrap();
        content[100] ^= 1;
        fs::write(&path, &content).unwrap();
        let why = read(image.path(), None).unwrap_err().to_string();
        assert!(why.contains(SQUASHFS) && why.contains("SHA-256"), "{why}");
        assert_eq!(made(false).unwrap().manifest.squashfs, None);
        assert!(!path.exists(), "it is of another root by now");
        read(image.path(), None).unwrap();
    }

    #[test]
    fn an_image_is_what_its_manifest_says() {
        let (root, image, again) = (root("6.1"), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let made_one = made(root.path(), image.path()).unwrap();
        let (manifest, version) = read(image.path(), None).unwrap();
        assert_eq!((&manifest, &version), (&made_one.manifest, &made_one.version));
        assert_eq!(manifest.kernel_version, "6.1");
        // The kernel is beside the archive.
        let kernel = fs::metadata(root.path().join("boot/vmlinuz-6.1")).unwrap().len();
        let (entries, bytes) = held(root.path());
        assert_eq!(
            (manifest.root.entries, manifest.root.unpacked_bytes),
            (entries - 1, bytes - kernel)
        );
        made(root.path(), again.path()).unwrap();
        let base = format!("{FIRST_STAGE}/{BASE}");
        for name in [ROOT, KERNEL, MANIFEST, &base] {
            let bytes = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(bytes(image.path()), bytes(again.path()), "{name}");
        }
        let back = tempfile::tempdir().unwrap();
        read(image.path(), Some(&Tree::open(back.path()).unwrap())).unwrap();
        assert_eq!(fs::read(back.path().join("etc/issue")).unwrap().len(), ISSUE);
    }

    #[test]
    fn what_is_not_what_it_was_is_no_image() {
        let (root, image) = (root("6.1"), tempfile::tempdir().unwrap());
        let manifest = made(root.path(), image.path()).unwrap().manifest;
        let base = format!("{FIRST_STAGE}/{BASE}");
        for (name, words) in [
            (ROOT, "SHA-256 is another"),
            (KERNEL, "SHA-256 is another"),
            (&base, "SHA-256 is another"),
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
        let (entries, bytes) = (manifest.root.entries, manifest.root.unpacked_bytes);
        let is = format!("\"entries\": {entries}");
        for (from, to, words) in [
            (
                &*is,
                &*format!("\"entries\": {}", entries + 1),
                &*format!("it has {entries} entries and {bytes} bytes"),
            ),
            (
                &is,
                &format!("\"entries\": {}", entries - 1),
                &format!("more than the {} entries", entries - 1),
            ),
            (
                &format!("\"unpacked-bytes\": {bytes}"),
                &format!("\"unpacked-bytes\": {}", bytes - 1),
                &format!("more than the {} bytes", bytes - 1),
            ),
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
        let version = made(good.path(), image.path()).unwrap().version;
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
        let lame = root("6.1");
        fs::remove_file(lame.path().join("sbin/init")).unwrap();
        let lame = made(lame.path(), image.path()).unwrap_err().to_string();
        assert!(lame.contains("has no /sbin/init"), "{lame}");
        let loose = made_with(good.path(), image.path(), Path::new("/bin/bash"), false)
            .unwrap_err()
            .to_string();
        assert!(loose.starts_with("/bin/bash needs libraries"), "{loose}");
        fs::create_dir(image.path().join(format!("{KERNEL}.part"))).unwrap();
        made(good.path(), image.path()).unwrap_err();
        assert_eq!(read(image.path(), None).unwrap().1, version);
        assert_eq!(fs::read_dir(image.path()).unwrap().count(), 5, "no half file stays");
    }
}
