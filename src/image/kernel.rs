//! Which kernel belongs to a root file system: the one that its modules are for.

use std::fs;
use std::path::{Path, PathBuf};

use super::ImageError;
use super::stage::tree::Tree;
use crate::formats::boot_image;

/// Folders of modules, a folder for each kernel. In a merged root one is a link to the other.
const MODULES: [&str; 2] = ["usr/lib/modules", "lib/modules"];

/// A kernel and its version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    pub(super) version: String,
    pub(super) path: PathBuf,
}

/// Where distributions put the kernel of a version: Debian and openSUSE, then Fedora and openSUSE since their kernels lie in /usr.
fn places(version: &str) -> [String; 4] {
    [
        format!("boot/vmlinuz-{version}"),
        format!("usr/lib/modules/{version}/vmlinuz"),
        format!("boot/Image-{version}"),
        format!("usr/lib/modules/{version}/Image"),
    ]
}

/// The kernel of the root at this path; of several the one with this version.
///
/// # Errors
/// There is none, or none is chosen, with what helps.
pub(super) fn find(root: &Path, wanted: Option<&str>) -> Result<Kernel, ImageError> {
    let mut versions: Vec<String> = Vec::new();
    // Its links are of that root.
    let tree = Tree::new(root);
    let is_file = |path: &str| tree.at(path).is_some_and(|path| path.is_file());
    for folder in MODULES {
        let entries = tree.at(folder).and_then(|folder| fs::read_dir(folder).ok());
        let names = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        versions.extend(names.filter(|name| is_file(&format!("{folder}/{name}/modules.dep"))));
    }
    versions.sort();
    versions.dedup();
    let names = versions.join(", ");
    let version = match (wanted, &versions[..]) {
        (_, []) => Err(format!(
            "{} has no kernel with modules (no usr/lib/modules/VERSION/modules.dep): install its distribution's kernel package in it",
            root.display()
        )),
        (Some(wanted), versions) if versions.iter().any(|version| version == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(format!(
            "there are no modules of a kernel {wanted}; there are those of {names}"
        )),
        (None, [version]) => Ok(version.clone()),
        (None, _) => Err(format!(
            "there are modules of several kernels: say which by --kernel ({names})"
        )),
    };
    let version = version.map_err(ImageError::Wrong)?;
    let path = places(&version)
        .into_iter()
        .find(|place| is_file(place))
        .and_then(|place| tree.at(&place));
    match path {
        Some(path) => Ok(Kernel { version, path }),
        None => Err(ImageError::Wrong(format!(
            "there are modules of the kernel {version}, and the kernel is nowhere: looked for {}",
            places(&version).join(", ")
        ))),
    }
}

/// That these bytes are the kernel of this version, as far as they say so.
///
/// # Errors
/// What they are instead.
pub(super) fn must_be(bytes: &[u8], version: &str) -> Result<(), ImageError> {
    let kernel = boot_image::kernel(bytes).map_err(ImageError::Wrong)?;
    let length = bytes.len() as u64;
    match (boot_image::version(bytes), kernel.least_bytes) {
        (Some(own), _) if own != version => Err(ImageError::Wrong(format!(
            "it is the kernel {own}, and the modules are for {version}"
        ))),
        (_, Some(least)) if length < least => Err(ImageError::Wrong(format!(
            "it is cut short: by its own head it has {least} bytes, and its file has {length}"
        ))),
        _ => Ok(()),
    }
}

/// Whether a path of the root is what a boot loader takes, which a node has from beside the archive: kernels and their initrds in
/// /boot, and Debian's links to them.
pub(super) fn is_for_boot_loader(path: &[u8]) -> bool {
    let name = path.strip_prefix(b"boot/").unwrap_or(path);
    let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word.as_bytes()));
    !name.contains(&b'/') && begins(&["vmlinuz", "initrd", "initramfs", "Image-", "System.map-"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(versions: &[&str], files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let modules = versions
            .iter()
            .map(|version| format!("usr/lib/modules/{version}/modules.dep"));
        for file in modules.chain(files.iter().map(|file| (*file).to_owned())) {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn the_kernel_is_the_one_of_the_modules() {
        let found = |versions: &[&str], files: &[&str], wanted| {
            let root = root(versions, files);
            let found = find(root.path(), wanted);
            found.map(|kernel| {
                let path = kernel.path.strip_prefix(root.path()).unwrap().display().to_string();
                (kernel.version, path)
            })
        };
        let (debian, fedora) = ("boot/vmlinuz-6.1", "usr/lib/modules/6.2/vmlinuz");
        assert_eq!(found(&["6.1"], &[debian], None).unwrap(), ("6.1".into(), debian.into()));
        assert_eq!(
            found(&["6.2"], &[fedora, debian], None).unwrap(),
            ("6.2".into(), fedora.into())
        );
        let both = (&["6.1", "6.2"][..], &[debian, fedora][..]);
        assert_eq!(found(both.0, both.1, Some("6.2")).unwrap().0, "6.2");
        for ((versions, files), wanted, words) in [
            (both, None, "say which by --kernel (6.1, 6.2)"),
            (both, Some("6.3"), "there are those of 6.1, 6.2"),
            ((&[][..], &[debian][..]), None, "has no kernel with modules"),
            (
                (&["6.1"][..], &[fedora][..]),
                None,
                "the kernel is nowhere: looked for boot/vmlinuz-6.1",
            ),
        ] {
            let why = found(versions, files, wanted).unwrap_err().to_string();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn only_what_a_boot_loader_takes_is_beside_the_archive() {
        for (path, is) in [
            ("boot/vmlinuz-6.1", true),
            ("boot/initrd.img-6.1", true),
            ("vmlinuz.old", true),
            ("boot/grub/vmlinuz", false),
            ("boot/config-6.1", false),
            ("usr/lib/modules/6.1/vmlinuz", false),
            ("boot", false),
        ] {
            assert_eq!(is_for_boot_loader(path.as_bytes()), is, "{path}");
        }
    }
}
