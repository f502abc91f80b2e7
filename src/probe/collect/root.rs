//! The tree that probes read: `/`, or one captured from another machine.
//!
//! Symbolic links are followed inside the tree only, so a captured tree from anywhere cannot make us read files of the
//! machine we run on. Every read has a bound. A recording root remembers what was read, which is how captures are made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{lock, rights};
use crate::formats::text::{decoded, line, natural_key};
use crate::model::cause;
use crate::model::inventory::{Item, Part, PartStatus};
use crate::sys::file;

/// Bound of one small attribute. A sysfs attribute is at most one page, and pages have up to 64 KiB.
const ATTRIBUTE_LIMIT: u64 = 64 * 1024;
/// Room for most attributes, so that one read and the one that finds the end suffice.
const SMALL: usize = 256;
/// Bound of one kept answer of the running machine. The longest is udev's names of thousands of disks and partitions.
const ANSWER_LIMIT: u64 = 16 * 1024 * 1024;
/// Bound of what probes keep for the raw captures.
const KEPT_LIMIT: usize = 2 * 1024 * 1024;
/// Where a capture keeps them.
pub(crate) const ANSWERS: &str = ".recon";
/// Bound of a folder listing; the rest is left out, and that is said. The kernel's own bounds are far below: 8192 processors,
/// 65536 PCI functions of one segment, and as many blocks of memory.
const LIST_LIMIT: usize = 128 * 1024;
/// Lists of one part that are said to be cut; there are not that many lists.
const LEFT_OUT_LIMIT: usize = 1024;
/// Links followed for one path, as in the kernel.
const LINK_LIMIT: usize = 40;

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("{path}: not there")]
    Absent { path: String },
    #[error("{path}: {cause}")]
    Denied { path: String, cause: String },
    /// The kernel knows the file, but the device does not answer it: a speed without a carrier, for one.
    #[error("{path}: not supported: {detail}")]
    Unsupported { path: String, detail: String },
    #[error("{path}: {detail}")]
    TimedOut { path: String, detail: String },
    #[error("{path}: larger than {limit} bytes")]
    TooLarge { path: String, limit: u64 },
    #[error("{path}: {detail}")]
    Failed { path: String, detail: String },
}

impl ReadError {
    fn failed(path: &Path, detail: &str) -> Self {
        let (path, detail) = (shown(path), detail.to_owned());
        ReadError::Failed { path, detail }
    }

    /// The piece of a part that could not be read.
    pub(crate) fn gap(&self, item: impl Into<String>) -> Item {
        Item::gap(item, self.status(), self.to_string())
    }

    /// The part that could not be read.
    pub(crate) fn missing<T>(&self, source: impl Into<String>) -> Part<T> {
        Part::missing(self.status(), source, self.to_string())
    }

    /// `live` tells an error of the running machine from one of a captured tree.
    fn from_io(path: &Path, error: &io::Error, live: bool) -> Self {
        let path = shown(path);
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _)
            | (_, Some(libc::ENODEV | libc::ENXIO | libc::ENODATA)) => ReadError::Absent { path },
            (io::ErrorKind::PermissionDenied, _) => {
                let cause = if live {
                    rights::refusal()
                } else {
                    "may not be read here".to_owned()
                };
                ReadError::Denied { path, cause }
            }
            (io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported, _) => ReadError::Unsupported {
                path,
                detail: cause::told(error),
            },
            (io::ErrorKind::TimedOut, _) => ReadError::TimedOut {
                path,
                detail: error.to_string(),
            },
            _ => ReadError::Failed {
                path,
                detail: cause::told(error),
            },
        }
    }

    /// The status a part gets that needed this file.
    pub fn status(&self) -> PartStatus {
        match self {
            ReadError::Absent { .. } => PartStatus::Absent,
            ReadError::Denied { .. } => PartStatus::Denied,
            ReadError::Unsupported { .. } => PartStatus::Unsupported,
            ReadError::TimedOut { .. } => PartStatus::TimedOut,
            ReadError::TooLarge { .. } | ReadError::Failed { .. } => PartStatus::Failed,
        }
    }
}

/// What a recording root saw at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    File(Vec<u8>),
    /// A link, as the text it holds.
    Link(PathBuf),
    Folder,
}

/// A tree to read from. Cheap to clone.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let names = folder.path().join("sys/class/dmi/id");
/// std::fs::create_dir_all(&names)?;
/// std::fs::write(names.join("product_name"), "Example R1\n")?;
///
/// let root = recon::probe::Root::at(folder.path());
/// assert_eq!(root.value("/sys/class/dmi/id/product_name").as_deref(), Some("Example R1"));
/// assert_eq!(root.value("/sys/class/dmi/id/product_serial"), None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Root {
    inner: Arc<Inner>,
    /// Lists that were cut while reading, by what they list.
    left_out: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Debug, Default)]
struct Inner {
    path: PathBuf,
    record: Option<Mutex<BTreeMap<PathBuf, Recorded>>>,
    /// Raw bytes that a probe assembled from many answers, by name.
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Files that never answer, for tests of time boxes.
    #[cfg(test)]
    stuck: Vec<PathBuf>,
}

impl Root {
    /// The machine we run on.
    pub fn live() -> Root {
        Root::at("/")
    }

    /// A captured tree.
    pub fn at(path: impl Into<PathBuf>) -> Root {
        Root::over(Inner {
            path: path.into(),
            ..Inner::default()
        })
    }

    /// A tree that remembers what is read from it.
    pub fn recording(path: impl Into<PathBuf>) -> Root {
        Root::over(Inner {
            path: path.into(),
            record: Some(Mutex::default()),
            ..Inner::default()
        })
    }

    /// A captured tree in which reading these files, named without links, never ends.
    #[cfg(test)]
    pub fn stuck(path: impl Into<PathBuf>, stuck: Vec<PathBuf>) -> Root {
        Root::over(Inner {
            path: path.into(),
            stuck,
            ..Inner::default()
        })
    }

    fn over(inner: Inner) -> Root {
        Root {
            inner: Arc::new(inner),
            left_out: Arc::default(),
        }
    }

    /// The same tree for one part of the inventory, which is told what was left out of it and of no other part.
    pub fn for_part(&self) -> Root {
        Root {
            inner: Arc::clone(&self.inner),
            left_out: Arc::default(),
        }
    }

    /// The first `max` of what was found. That there is more is said among the part's items, as `<what>`.
    pub fn first<T>(&self, what: &str, mut found: Vec<T>, max: usize) -> Vec<T> {
        if found.len() > max {
            self.leave_out(what, &found.len().to_string(), max);
            found.truncate(max);
        }
        found
    }

    /// Has the part say that of `all` things only `told` are in it.
    pub fn leave_out(&self, what: &str, all: &str, told: usize) {
        let mut left_out = lock(&self.left_out);
        let name = if left_out.len() < LEFT_OUT_LIMIT { what } else { "more" };
        left_out.insert(name.to_owned(), format!("{all}, of which {told} are here"));
    }

    /// What was left out, an item a list.
    pub fn left_out(&self) -> Vec<Item> {
        let left_out = lock(&self.left_out);
        let item = |(what, reason): (&String, &String)| Item::gap(what, PartStatus::Failed, reason);
        left_out.iter().map(item).collect()
    }

    /// True for the running machine itself, where live sources may be asked as well.
    pub fn is_live(&self) -> bool {
        self.inner.path == Path::new("/")
    }

    /// A question to the running machine that no file answers: an ioctl, an IPMI command, a program. The raw answer is
    /// kept in a capture as `.recon/<name>`, and with a captured tree it comes from there; `question` is then not asked.
    pub fn ask(&self, name: &str, question: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<Vec<u8>, ReadError> {
        let path = Path::new(ANSWERS).join(name);
        if !self.is_live() {
            return match self.bytes(&path, ANSWER_LIMIT) {
                Err(ReadError::Absent { path }) => Err(ReadError::Unsupported {
                    path,
                    detail: "only the running machine can tell".to_owned(),
                }),
                other => other,
            };
        }
        match question() {
            Ok(answer) => {
                self.note(&path, || Recorded::File(answer.clone()));
                Ok(answer)
            }
            Err(error) => Err(ReadError::from_io(Path::new(name), &error, true)),
        }
    }

    /// Keeps what a probe put together from many answers and took apart, for the raw captures; a second call with the
    /// same name replaces the first. Together they stay within [`KEPT_LIMIT`]; what goes beyond is not kept.
    pub fn keep(&self, name: &str, bytes: &[u8]) {
        let mut kept = lock(&self.inner.kept);
        kept.remove(name);
        let used: usize = kept.values().map(Vec::len).sum();
        if !bytes.is_empty() && used.saturating_add(bytes.len()) <= KEPT_LIMIT {
            kept.insert(name.to_owned(), bytes.to_vec());
        }
    }

    /// What probes kept, by name.
    pub fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.inner.kept).clone()
    }

    /// What was read so far, by path without the leading slash. Empty unless recording.
    pub fn recorded(&self) -> BTreeMap<PathBuf, Recorded> {
        self.record().map(|record| record.clone()).unwrap_or_default()
    }

    /// A file that was read already, where the root records.
    pub fn seen(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let real = self.resolve(path).ok()?;
        match self.record()?.get(&real)? {
            Recorded::File(bytes) => Some(bytes.clone()),
            Recorded::Link(_) | Recorded::Folder => None,
        }
    }

    fn failure(&self, path: &Path, error: &io::Error) -> ReadError {
        ReadError::from_io(path, error, self.is_live())
    }

    /// What was read so far, where the root records.
    fn record(&self) -> Option<MutexGuard<'_, BTreeMap<PathBuf, Recorded>>> {
        self.inner.record.as_ref().map(lock)
    }

    fn note(&self, path: &Path, what: impl FnOnce() -> Recorded) {
        if let Some(mut record) = self.record() {
            record.insert(path.to_owned(), what());
        }
    }

    /// A folder of which only that it is there was asked.
    fn note_folder(&self, real: &Path) {
        if self.inner.path.join(real).is_dir() {
            self.note(real, || Recorded::Folder);
        }
    }

    /// An entry of a listed folder, so that the captured folder lists the same, even if nothing below is read.
    fn note_entry(&self, path: &Path, entry: &fs::DirEntry) {
        if self.inner.record.is_none() {
            return;
        }
        let what = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => fs::read_link(entry.path()).ok().map(Recorded::Link),
            Ok(kind) if kind.is_dir() => Some(Recorded::Folder),
            // A file's name without its content would be a false file.
            _ => None,
        };
        if let (Some(what), Some(mut record)) = (what, self.record()) {
            record.entry(path.to_owned()).or_insert(what);
        }
    }

    /// The kernel may walk paths itself: there is nothing beyond the root, and no link to remember. It needs one call where
    /// a walk in steps needs one for each name, and a machine has thousands of attributes.
    fn walks_by_kernel(&self) -> bool {
        self.is_live() && self.inner.record.is_none()
    }

    /// Where a path is opened. Relative to the root, it is what a recording keeps it by.
    fn place(&self, path: &Path) -> Result<PathBuf, ReadError> {
        if self.walks_by_kernel() {
            return Ok(parts(path).into_iter().rev().collect());
        }
        self.resolve(path)
    }

    /// The path without links, relative to the root. `..` stops at the root, as in a chroot.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf, ReadError> {
        let path = path.as_ref();
        if self.walks_by_kernel() {
            let place = self.inner.path.join(self.place(path)?);
            match file::real_path(&place) {
                Ok(Some(real)) => return Ok(parts(&real).into_iter().rev().collect()),
                Ok(None) => {}
                Err(error) => return Err(self.failure(path, &error)),
            }
        }
        let mut todo: Vec<PathBuf> = parts(path);
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == Path::new("..") {
                done.pop();
                continue;
            }
            done.push(&part);
            let here = self.inner.path.join(&done);
            let kind = fs::symlink_metadata(&here).map_err(|error| self.failure(path, &error))?;
            if !kind.is_symlink() {
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(ReadError::failed(path, "too many links"));
            }
            let target = fs::read_link(&here).map_err(|error| self.failure(path, &error))?;
            self.note(&done, || Recorded::Link(target.clone()));
            done.pop();
            if target.is_absolute() {
                done = PathBuf::new();
            }
            todo.extend(parts(&target));
        }
        // Where something is can be all that is asked of it, and a captured link has to lead somewhere.
        if self.inner.record.is_some() {
            self.note_folder(&done);
        }
        Ok(done)
    }

    /// The whole content of a file of at most `limit` bytes.
    pub fn bytes(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, ReadError> {
        let path = path.as_ref();
        let real = self.place(path)?;
        let full = self.inner.path.join(&real);
        let failed = |error: &io::Error| self.failure(path, error);
        #[cfg(test)]
        while self.inner.stuck.contains(&real) {
            std::thread::park();
        }
        // Opening a pipe would wait for a writer; devices are no business of a probe.
        if !fs::metadata(&full).map_err(|error| failed(&error))?.is_file() {
            return Err(ReadError::failed(path, "not a plain file"));
        }
        let file = File::open(&full).map_err(|error| failed(&error))?;
        let mut content = Vec::with_capacity(SMALL);
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| failed(&error))?;
        if content.len() as u64 > limit {
            let path = shown(path);
            return Err(ReadError::TooLarge { path, limit });
        }
        self.note(&real, || Recorded::File(content.clone()));
        Ok(content)
    }

    /// The text of a file of at most `limit` bytes.
    pub fn text(&self, path: impl AsRef<Path>, limit: u64) -> Result<String, ReadError> {
        self.bytes(path, limit)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A one-line attribute, cleaned and whole; `None` where it is empty. It may be a list of thousands of numbers.
    pub fn attribute(&self, path: impl AsRef<Path>) -> Result<Option<String>, ReadError> {
        let bytes = self.bytes(path, ATTRIBUTE_LIMIT)?;
        // What a device never had written into it reads as ones.
        let unprogrammed = !bytes.is_empty() && bytes.trim_ascii().iter().all(|byte| *byte == 0xff);
        Ok(line(&decoded(&bytes)).filter(|_| !unprogrammed))
    }

    /// A one-line attribute, or nothing where it cannot be had. For values whose absence is ordinary.
    pub fn value(&self, path: impl AsRef<Path>) -> Option<String> {
        self.attribute(path).ok().flatten()
    }

    /// A number in decimal, or nothing.
    pub fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Option<T> {
        self.value(path)?.parse().ok()
    }

    /// `1` is true, `0` is false, all else nothing.
    pub fn flag(&self, path: impl AsRef<Path>) -> Option<bool> {
        match self.value(path)?.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }

    /// Names in a folder, in natural order (`sd2` before `sd10`).
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, ReadError> {
        self.list_up_to(path.as_ref(), LIST_LIMIT)
    }

    fn list_up_to(&self, path: &Path, limit: usize) -> Result<Vec<String>, ReadError> {
        let real = self.place(path)?;
        let failed = |error: &io::Error| self.failure(path, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.inner.path.join(&real)).map_err(|error| failed(&error))? {
            if names.len() == limit {
                self.leave_out(&shown(path), &format!("more than {limit} entries"), limit);
                break;
            }
            let entry = entry.map_err(|error| failed(&error))?;
            if let Ok(name) = entry.file_name().into_string() {
                self.note_entry(&real.join(&name), &entry);
                names.push(name);
            }
        }
        self.note(&real, || Recorded::Folder);
        names.sort_by_cached_key(|name| natural_key(name));
        Ok(names)
    }

    /// True when there is something at the path.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        if self.walks_by_kernel() {
            return self
                .place(path.as_ref())
                .is_ok_and(|place| self.inner.path.join(place).exists());
        }
        self.resolve(path).inspect(|real| self.note_folder(real)).is_ok()
    }

    /// Last name of what a link leads to: `driver` → `ixgbe`.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        let real = self.resolve(path).ok()?;
        self.note_folder(&real);
        Some(real.file_name()?.to_string_lossy().into_owned())
    }
}

/// The path as the machine itself would name it.
fn shown(path: &Path) -> String {
    format!("/{}", path.display().to_string().trim_start_matches('/'))
}

/// Components in reverse, ready to be popped.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(PathBuf::from(name)),
            Component::ParentDir => Some(PathBuf::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        (dir, root)
    }

    #[test]
    fn links_stay_inside_the_tree() {
        let (dir, root) = tree();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::create_dir_all(dir.path().join("sys/devices/x")).unwrap();
        fs::write(dir.path().join("sys/devices/x/serial"), "S1\n").unwrap();
        fs::write(dir.path().join("etc/hostname"), "captured\n").unwrap();
        symlink("../../../../../../etc/hostname", dir.path().join("sys/up")).unwrap();
        symlink("/etc/hostname", dir.path().join("sys/absolute")).unwrap();
        symlink("/etc/passwd", dir.path().join("sys/outside")).unwrap();
        symlink("devices/x", dir.path().join("sys/device")).unwrap();
        symlink("loop", dir.path().join("sys/loop")).unwrap();
        assert_eq!(root.value("sys/up").as_deref(), Some("captured"));
        assert_eq!(root.value("/sys/absolute").as_deref(), Some("captured"));
        assert_eq!(root.value("sys/device/serial").as_deref(), Some("S1"));
        assert_eq!(root.link_name("sys/device").as_deref(), Some("x"));
        assert!(matches!(root.attribute("sys/outside"), Err(ReadError::Absent { .. })));
        assert!(matches!(root.attribute("sys/loop"), Err(ReadError::Failed { .. })));
    }

    #[test]
    fn a_file_that_was_never_written_has_no_value() {
        let (dir, root) = tree();
        fs::write(dir.path().join("serial"), b"\xff\xff\xff\xff\n").unwrap();
        fs::write(dir.path().join("vendor"), b"Soci\xe9t\xe9\n").unwrap();
        assert_eq!(root.value("serial"), None);
        assert_eq!(root.value("vendor").as_deref(), Some("Société"));
    }

    #[test]
    fn names_sort_as_people_count() {
        let (dir, root) = tree();
        for name in ["sdaa", "sdb", "nvme10n1", "nvme2n1", "sda", "nvme2n10", "nvme02n1"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = root.list("").unwrap();
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        assert!(place("sda") < place("sdb") && place("sdb") < place("sdaa"));
        assert!(place("nvme2n1") < place("nvme2n10") && place("nvme2n10") < place("nvme10n1"));
        assert!(place("nvme02n1") < place("nvme10n1"));
    }

    #[test]
    fn a_list_of_numbers_is_whole() {
        let (dir, root) = tree();
        let list: Vec<String> = (0..4096).map(|thread| (thread * 2).to_string()).collect();
        let list = list.join(",");
        fs::write(dir.path().join("cpulist"), list.clone() + "\n").unwrap();
        assert!(list.len() > 16 * 1024);
        assert_eq!(root.value("cpulist"), Some(list));
    }

    #[test]
    fn what_is_left_out_is_said_in_its_own_part() {
        let (dir, root) = tree();
        for number in 0..5 {
            fs::create_dir_all(dir.path().join(format!("many/{number}"))).unwrap();
        }
        let (one, other) = (root.for_part(), root.for_part());
        assert_eq!(one.clone().list_up_to(Path::new("many"), 5).unwrap().len(), 5);
        assert!(one.left_out().is_empty());
        assert_eq!(one.clone().list_up_to(Path::new("/many"), 4).unwrap().len(), 4);
        assert_eq!(one.first("count", vec![1, 2, 3], 2), [1, 2]);
        let said: Vec<(String, Option<String>)> = one
            .left_out()
            .into_iter()
            .map(|item| (item.item, item.reason))
            .collect();
        assert_eq!(
            said,
            [
                (
                    "/many".to_owned(),
                    Some("more than 4 entries, of which 4 are here".to_owned())
                ),
                ("count".to_owned(), Some("3, of which 2 are here".to_owned())),
            ]
        );
        assert!(other.left_out().is_empty());
    }

    #[test]
    fn reads_have_a_bound_and_pipes_are_not_opened() {
        let (dir, root) = tree();
        fs::write(dir.path().join("big"), vec![b'x'; 100]).unwrap();
        assert_eq!(root.bytes("big", 100).unwrap().len(), 100);
        assert!(matches!(root.bytes("big", 99), Err(ReadError::TooLarge { .. })));
        assert!(matches!(root.bytes("", 99), Err(ReadError::Failed { .. })));
        let status = std::process::Command::new("mkfifo")
            .arg(dir.path().join("pipe"))
            .status()
            .unwrap();
        assert!(status.success());
        assert!(matches!(root.bytes("pipe", 99), Err(ReadError::Failed { .. })));
    }

    #[test]
    fn the_running_machine_reads_the_same_by_the_kernel_and_in_steps() {
        let (by_kernel, in_steps) = (Root::live(), Root::recording("/"));
        for path in [
            "proc/self/status",
            "sys/class/net/lo",
            "/sys/class/net/lo/../lo/mtu",
            "sys/no",
            "etc/passwd/x",
        ] {
            assert_eq!(by_kernel.exists(path), in_steps.exists(path), "{path}");
            // What names this process differs between its threads, and nothing else does.
            if !path.contains("self") {
                assert_eq!(by_kernel.resolve(path), in_steps.resolve(path), "{path}");
                assert_eq!(by_kernel.attribute(path), in_steps.attribute(path), "{path}");
                assert_eq!(by_kernel.list(path), in_steps.list(path), "{path}");
            }
        }
        assert_eq!(by_kernel.link_name("sys/class/net/lo").as_deref(), Some("lo"));
    }

    #[test]
    fn a_recording_root_remembers_what_it_took_to_read() {
        let (dir, _) = tree();
        fs::create_dir_all(dir.path().join("sys/devices/x")).unwrap();
        fs::write(dir.path().join("sys/devices/x/serial"), "S1\n").unwrap();
        fs::write(dir.path().join("sys/devices/x/unread"), "no\n").unwrap();
        symlink("devices/x", dir.path().join("sys/device")).unwrap();
        let root = Root::recording(dir.path());
        assert_eq!(root.value("sys/device/serial").as_deref(), Some("S1"));
        let recorded = root.recorded();
        assert_eq!(recorded.len(), 2);
        assert_eq!(recorded[Path::new("sys/device")], Recorded::Link("devices/x".into()));
        assert_eq!(
            recorded[Path::new("sys/devices/x/serial")],
            Recorded::File(b"S1\n".to_vec())
        );
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let root = Root::at("/nonexistent");
        root.keep("a", &[1, 2, 3]);
        root.keep("a", &[4]);
        root.keep("big", &vec![0; KEPT_LIMIT]);
        root.keep("none", &[]);
        assert_eq!(root.kept().into_iter().collect::<Vec<_>>(), [("a".to_owned(), vec![4])]);
    }
}
