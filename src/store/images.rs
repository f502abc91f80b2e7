//! Images of diskless nodes on the data partition: brought, listed, taken away. A version is a folder that gets its name once it is whole
//! and never changes; which one counts is one line in a file beside them, so a node that started keeps what it started from.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::fs_ops::{Disk, Medium};
use crate::formats::image::{MAX_SIGNATURE_BYTES, SIGNATURE};
use crate::model::layout::{CURRENT, IMAGES, PART, PREVIOUS, WAS_UP};
use crate::model::{ImageName, ImageVersion};
use crate::sys::file::open_plain;
use crate::sys::mount;

/// Longest content of a file that names a version.
const MAX_POINTER_BYTES: u64 = 64;
/// Room that is left for uploads on the data partition.
const LEFT_BYTES: u64 = 256 << 20;

/// A version that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: ImageName,
    pub(crate) version: ImageVersion,
    pub(crate) is_current: bool,
    pub(crate) is_previous: bool,
}

/// An image that is brought.
pub(crate) struct Brought<'a> {
    pub(crate) name: &'a ImageName,
    pub(crate) version: &'a ImageVersion,
    /// The folder that it lies in.
    pub(crate) source: &'a Path,
    /// Its files below that folder.
    pub(crate) files: &'a [PathBuf],
    /// The signature of its manifest, where it is signed; it may come later than the rest.
    pub(crate) signature: Option<&'a PathBuf>,
    /// Reads an image whole; an error says what is wrong with it.
    pub(crate) check: &'a dyn Fn(&Path) -> Result<(), String>,
}

fn told(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// The version that nodes start.
///
/// # Errors
/// None is named, or not one; as a sentence.
pub(crate) fn current(data: &Path, name: &ImageName) -> Result<ImageVersion, String> {
    let folder = data.join(IMAGES).join(name.as_str());
    match pointer(&folder, CURRENT) {
        Ok(Some(version)) => Ok(version),
        Ok(None) if folder.is_dir() => Err(format!("no version of it counts: {CURRENT} is missing")),
        Ok(None) => Err("it is not on this master".to_owned()),
        Err(why) => Err(why),
    }
}

/// The version that counted before; none where there is no other, or it is gone.
pub(crate) fn previous(data: &Path, name: &ImageName) -> Option<ImageVersion> {
    let folder = data.join(IMAGES).join(name.as_str());
    let version = pointer(&folder, PREVIOUS).ok().flatten()?;
    folder.join(version.as_str()).is_dir().then_some(version)
}

/// A file that says that a version was up on some node.
fn was_up_mark(data: &Path, name: &ImageName, version: &ImageVersion) -> PathBuf {
    data.join(IMAGES).join(name.as_str()).join(format!("{version}{WAS_UP}"))
}

/// Whether a version was up on some node, as this data partition has it.
pub(crate) fn was_up(data: &Path, name: &ImageName, version: &ImageVersion) -> bool {
    was_up_mark(data, name, version).is_file()
}

/// A version is up on some node.
///
/// # Errors
/// It cannot be written.
pub(crate) fn mark_up(data: &Path, name: &ImageName, version: &ImageVersion) -> io::Result<()> {
    let mark = was_up_mark(data, name, version);
    match mark.is_file() || !mark.with_extension("").is_dir() {
        true => Ok(()),
        false => File::create(&mark)?.sync_all(),
    }
}

fn pointer(folder: &Path, name: &str) -> Result<Option<ImageVersion>, String> {
    let mut text = String::new();
    let read = open_plain(&folder.join(name)).and_then(|file| file.take(MAX_POINTER_BYTES).read_to_string(&mut text));
    match read {
        Ok(_) => text
            .trim_end()
            .parse()
            .map(Some)
            .map_err(|error| format!("{name}: {error}")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Every version of every image, by name.
///
/// # Errors
/// A folder or a file that names a version cannot be read; as a sentence.
pub(crate) fn list(data: &Path) -> Result<Vec<Listed>, String> {
    let images = data.join(IMAGES);
    let mut listed = Vec::new();
    for name in folders(&images)?
        .iter()
        .filter_map(|name| name.parse::<ImageName>().ok())
    {
        let folder = images.join(name.as_str());
        let (current, previous) = (pointer(&folder, CURRENT)?, pointer(&folder, PREVIOUS)?);
        let versions = folders(&folder)?;
        listed.extend(
            versions
                .iter()
                .filter_map(|version| version.parse().ok())
                .map(|version| Listed {
                    name: name.clone(),
                    is_current: current.as_ref() == Some(&version),
                    is_previous: previous.as_ref() == Some(&version),
                    version,
                }),
        );
    }
    Ok(listed)
}

/// Names of what is in a folder, in their order; none where there is no such folder.
fn folders(folder: &Path) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(told(folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(told(folder))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Copies an image to the data partition, reads the copy whole, and has nodes start it from then on.
///
/// # Errors
/// There is no room, or something cannot be copied, or is not what it should be; as a sentence. What nodes start stays what it was.
pub(crate) fn add(data: &Path, brought: &Brought<'_>) -> Result<(), String> {
    if !data.is_dir() {
        return Err(format!(
            "{}: there is no such folder: is the data partition mounted?",
            data.display()
        ));
    }
    let folder = data.join(IMAGES).join(brought.name.as_str());
    fs::create_dir_all(&folder).map_err(told(&folder))?;
    let added = alone(&folder).and_then(|_alone| add_alone(data, &folder, brought));
    if added.is_err() {
        // Only one in which nothing is goes by this.
        let _ = fs::remove_dir(&folder);
    }
    added
}

fn add_alone(data: &Path, folder: &Path, brought: &Brought<'_>) -> Result<(), String> {
    remove_parts(folder)?;
    let place = folder.join(brought.version.as_str());
    if !place.exists() || (brought.check)(&place).is_err() {
        let part = folder.join(format!("{}{PART}", brought.version));
        must_have_room(data, brought)?;
        let copied = copy(brought, &part).and_then(|()| (brought.check)(&part));
        if let Err(why) = copied {
            // What went wrong is said; half an image is in the way of the next one.
            let _ = remove_tree(&part);
            return Err(why);
        }
        Disk.sync_all(data).map_err(told(data))?;
        // One that is not whole any more was in use until now.
        remove_tree(&place).map_err(told(&place))?;
        fs::rename(&part, &place).map_err(told(&place))?;
        Disk.sync_folder(folder).map_err(told(folder))?;
    }
    if let Some(signature) = brought.signature {
        put(&place, SIGNATURE, |file| {
            io::copy(&mut open_plain(signature)?.take(MAX_SIGNATURE_BYTES), file).map(drop)
        })?;
        Disk.sync_all(data).map_err(told(data))?;
    }
    point(data, brought.name, brought.version)
}

/// Nobody else brings this image or takes it away meanwhile. Given back when the file is closed.
fn alone(folder: &Path) -> Result<File, String> {
    let file = File::open(folder).map_err(told(folder))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(format!(
            "{}: another recon is at work on this image; try again when it is done",
            folder.display()
        )),
        Err(error) => Err(told(folder)(error.into())),
    }
}

/// What was begun and not brought to its end.
fn remove_parts(folder: &Path) -> Result<(), String> {
    for name in folders(folder)?.iter().filter(|name| name.ends_with(PART)) {
        let part = folder.join(name);
        remove_tree(&part).map_err(told(&part))?;
    }
    Ok(())
}

/// Nodes start this version from now on; what they started until now is the one before.
///
/// # Errors
/// It is not there, or it cannot be written; as a sentence.
pub(crate) fn point(data: &Path, name: &ImageName, version: &ImageVersion) -> Result<(), String> {
    let folder = data.join(IMAGES).join(name.as_str());
    if !folder.join(version.as_str()).is_dir() {
        return Err(format!("there is no version {version} of {name}"));
    }
    let now = pointer(&folder, CURRENT).unwrap_or_default();
    if now.as_ref() == Some(version) {
        return Ok(());
    }
    if let Some(now) = now {
        put(&folder, PREVIOUS, |file| writeln!(file, "{now}"))?;
    }
    put(&folder, CURRENT, |file| writeln!(file, "{version}"))?;
    Disk.sync_all(data).map_err(told(data))
}

/// A small file under its name once it is whole.
fn put(folder: &Path, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), String> {
    let (path, part) = (folder.join(name), folder.join(format!("{name}{PART}")));
    let written = || {
        let mut file = File::create(&part)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        Disk.sync_folder(folder)
    };
    written().map_err(told(&path))
}

/// Takes a version away, or without one the whole image.
///
/// # Errors
/// It is the version that nodes start, or not there, or cannot be removed; as a sentence.
pub(crate) fn remove(data: &Path, name: &ImageName, version: Option<&ImageVersion>) -> Result<(), String> {
    let folder = data.join(IMAGES).join(name.as_str());
    if !folder.is_dir() {
        return Err(format!("{} is not there", folder.display()));
    }
    let _alone = alone(&folder)?;
    remove_parts(&folder)?;
    let place = match version {
        Some(version) if pointer(&folder, CURRENT)?.as_ref() == Some(version) => {
            return Err(format!(
                "nodes start {name}@{version}: bring another version first, or remove all of {name}"
            ));
        }
        Some(version) => folder.join(version.as_str()),
        None => folder.clone(),
    };
    if !place.is_dir() {
        return Err(format!("{} is not there", place.display()));
    }
    if version.is_none() {
        // From here on no node starts it, whatever happens to the rest.
        Disk.remove_if_there(&folder.join(CURRENT)).map_err(told(&folder))?;
    }
    if let Some(version) = version {
        let mark = was_up_mark(data, name, version);
        Disk.remove_if_there(&mark).map_err(told(&mark))?;
    }
    remove_tree(&place).map_err(told(&place))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn must_have_room(data: &Path, brought: &Brought<'_>) -> Result<(), String> {
    let mut bytes = 0;
    for file in brought.files {
        let path = brought.source.join(file);
        bytes += fs::metadata(&path).map_err(told(&path))?.len();
    }
    let free = mount::space(data).map_err(told(data))?.free_bytes;
    match bytes.saturating_add(LEFT_BYTES) <= free {
        true => Ok(()),
        false => Err(format!(
            "the image has {} MB, {} has {} MB free, and {} MB are kept for inventories: remove an image or take a larger stick",
            bytes.div_ceil(1_000_000),
            data.display(),
            free / 1_000_000,
            LEFT_BYTES.div_ceil(1_000_000)
        )),
    }
}

fn copy(brought: &Brought<'_>, to: &Path) -> Result<(), String> {
    for file in brought.files {
        let (from, path) = (brought.source.join(file), to.join(file));
        let copied = || {
            fs::create_dir_all(path.parent().unwrap_or(to))?;
            let mut copy = File::create(&path)?;
            io::copy(&mut open_plain(&from)?, &mut copy)?;
            copy.sync_all()
        };
        copied().map_err(told(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::scratch;
    use super::*;

    fn version(digit: &str) -> ImageVersion {
        digit.repeat(12).parse().unwrap()
    }

    /// An image of this content.
    fn add_one(data: &Path, digit: &str, check: &dyn Fn(&Path) -> Result<(), String>) -> Result<(), String> {
        let source = scratch();
        fs::create_dir(source.path().join("first")).unwrap();
        let files: Vec<PathBuf> = ["kernel", "first/base.img"].map(PathBuf::from).into();
        for file in &files {
            fs::write(source.path().join(file), digit).unwrap();
        }
        add(
            data,
            &Brought {
                name: &"compute".parse().unwrap(),
                version: &version(digit),
                source: source.path(),
                files: &files,
                signature: None,
                check,
            },
        )
    }

    #[test]
    fn what_counts_is_whole_and_the_one_before_stays() {
        let data = scratch();
        let name: ImageName = "compute".parse().unwrap();
        assert!(current(data.path(), &name).unwrap_err().contains("not on this master"));
        let fine = |folder: &Path| {
            assert!(folder.join("first/base.img").is_file());
            Ok(())
        };
        for digit in ["a", "b"] {
            add_one(data.path(), digit, &fine).unwrap();
            assert_eq!(current(data.path(), &name), Ok(version(digit)));
        }
        let bad = |_: &Path| Err("it is not whole".to_owned());
        assert_eq!(add_one(data.path(), "c", &bad), Err("it is not whole".to_owned()));
        let listed = list(data.path()).unwrap();
        let is = |one: &Listed| (one.version.clone(), one.is_current, one.is_previous);
        assert_eq!(
            listed.iter().map(is).collect::<Vec<_>>(),
            [(version("a"), false, true), (version("b"), true, false)]
        );
        // Back, and it may be brought again.
        add_one(data.path(), "a", &fine).unwrap();
        assert_eq!(current(data.path(), &name), Ok(version("a")));
        assert!(
            remove(data.path(), &name, Some(&version("a")))
                .unwrap_err()
                .contains("nodes start")
        );
        remove(data.path(), &name, Some(&version("b"))).unwrap();
        assert!(remove(data.path(), &name, Some(&version("b"))).is_err());
        assert!(point(data.path(), &name, &version("b")).is_err());
        assert_eq!(list(data.path()).unwrap().len(), 1);
        remove(data.path(), &name, None).unwrap();
        assert_eq!(list(data.path()).unwrap(), []);
    }

    /// It may come after the rest.
    #[test]
    fn a_signature_comes_along() {
        let (data, source) = (scratch(), scratch());
        let files = [PathBuf::from("kernel")];
        fs::write(source.path().join("kernel"), "a").unwrap();
        let signature = source.path().join(SIGNATURE);
        let name: ImageName = "compute".parse().unwrap();
        let add = |signature: Option<&PathBuf>| {
            add(
                data.path(),
                &Brought {
                    name: &name,
                    version: &version("a"),
                    source: source.path(),
                    files: &files,
                    signature,
                    check: &|_| Ok(()),
                },
            )
        };
        let kept = data.path().join("images/compute/aaaaaaaaaaaa").join(SIGNATURE);
        add(None).unwrap();
        assert!(!kept.exists());
        for text in ["one", "two"] {
            fs::write(&signature, text).unwrap();
            add(Some(&signature)).unwrap();
            assert_eq!(fs::read_to_string(&kept).unwrap(), text);
        }
        add(None).unwrap();
        assert!(kept.exists());
        let left = fs::read_dir(kept.parent().unwrap()).unwrap().count();
        assert_eq!(left, 2, "no half file stays");
    }

    #[test]
    fn that_a_version_was_up_is_kept_for_as_long_as_it_is_there() {
        let data = scratch();
        let name: ImageName = "compute".parse().unwrap();
        mark_up(data.path(), &name, &version("a")).unwrap();
        assert!(!was_up(data.path(), &name, &version("a")), "there is no such version");
        let fine = |_: &Path| Ok(());
        for digit in ["a", "b"] {
            add_one(data.path(), digit, &fine).unwrap();
        }
        assert_eq!(previous(data.path(), &name), Some(version("a")));
        mark_up(data.path(), &name, &version("a")).unwrap();
        assert!(was_up(data.path(), &name, &version("a")) && !was_up(data.path(), &name, &version("b")));
        remove(data.path(), &name, Some(&version("a"))).unwrap();
        assert!(!was_up(data.path(), &name, &version("a")));
        assert_eq!(previous(data.path(), &name), None);
        assert_eq!(list(data.path()).unwrap().len(), 1);
    }

    /// A power cut while it is copied, or bytes that went bad since.
    #[test]
    fn what_is_not_whole_any_more_is_brought_anew() {
        let data = scratch();
        let whole = |folder: &Path| match fs::read(folder.join("kernel")) {
            Ok(bytes) if bytes == b"a" => Ok(()),
            other => Err(format!("{other:?}")),
        };
        let folder = data.path().join("images/compute");
        for part in ["aaaaaaaaaaaa.part", "bbbbbbbbbbbb.part"] {
            fs::create_dir_all(folder.join(part).join("first/base.img")).unwrap();
        }
        add_one(data.path(), "a", &whole).unwrap();
        let left = folders(&folder).unwrap();
        assert_eq!(left, ["aaaaaaaaaaaa"], "what others began and left is gone");
        let kernel = folder.join("aaaaaaaaaaaa/kernel");
        fs::write(&kernel, "x").unwrap();
        add_one(data.path(), "a", &whole).unwrap();
        assert_eq!(fs::read(&kernel).unwrap(), b"a");
        // The one that is damaged stays until another one is whole.
        fs::write(&kernel, "x").unwrap();
        assert!(add_one(data.path(), "a", &|_| Err("no".to_owned())).is_err());
        assert_eq!(fs::read(&kernel).unwrap(), b"x");
        let other = alone(&folder).unwrap();
        let why = add_one(data.path(), "a", &whole).unwrap_err();
        assert!(why.contains("another recon is at work"), "{why}");
        drop(other);
        let nowhere = data.path().join("nowhere");
        let why = add_one(&nowhere, "a", &whole).unwrap_err();
        assert!(why.contains("no such folder") && !nowhere.exists(), "{why}");
        fs::write(folder.join(CURRENT), "../../elsewhere").unwrap();
        let why = current(data.path(), &"compute".parse().unwrap()).unwrap_err();
        assert!(why.starts_with("current: a version"), "{why}");
    }
}
