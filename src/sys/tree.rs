//! Entries of every kind below a folder, and no name leads out of it: links on the way are followed as if that folder were the root
//! (openat2(2), `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// What an entry has beside its content.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    /// Permissions with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Last change, in seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u32),
    /// Extended attributes, lists of access among them.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A device's numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// Those of a device, as stat(2) gives them in one.
pub(crate) fn numbers(device: u64) -> Numbers {
    Numbers {
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
    }
}

/// What is neither a file, a folder nor a link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Special {
    Character(Numbers),
    Block(Numbers),
    Fifo,
}

/// The folder. Paths count from it, without `..` and without a slash before them; an empty one is the folder itself.
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A name in a folder that is open.
struct Place<'a> {
    folder: OwnedFd,
    name: &'a Path,
}

impl Tree {
    /// # Errors
    /// It is no folder, or this kernel has no openat2(2) (Linux 5.6).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let tree = Self {
            root: rustix::fs::open(path, flags, Mode::empty())?,
        };
        tree.folder_at(Path::new(""))?;
        Ok(tree)
    }

    /// A folder, unless one is there; its attributes come with [`Tree::end_folder`], once all is in it.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let place = self.place(path)?;
        if place.is_folder() {
            return Ok(());
        }
        place.fresh(|| rustix::fs::mkdirat(&place.folder, place.name, Mode::RWXU))
    }

    /// Gives a folder its attributes. One whose name was taken by something else since keeps what it has.
    pub(crate) fn end_folder(&self, path: &Path, attributes: &Attributes) -> io::Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = if path.as_os_str().is_empty() {
            self.root.try_clone()?
        } else {
            let place = self.place(path)?;
            match rustix::fs::openat(&place.folder, place.name, flags, Mode::empty()) {
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                opened => opened?,
            }
        };
        settle(&folder, attributes)
    }

    /// An empty file, in the place of whatever has that name.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = self.place(path)?;
        let make = || rustix::fs::openat(&place.folder, place.name, flags, Mode::RUSR | Mode::WUSR);
        Ok(place.fresh(make)?.into())
    }

    pub(crate) fn symbolic_link(&self, path: &Path, target: &Path, attributes: &Attributes) -> io::Result<()> {
        let place = self.place(path)?;
        place.fresh(|| rustix::fs::symlinkat(target, &place.folder, place.name))?;
        place.settle_name(attributes, false)
    }

    /// One more name for what is at `of`, which is not followed where it is a link.
    pub(crate) fn hard_link(&self, path: &Path, of: &Path) -> io::Result<()> {
        let (place, old) = (self.place(path)?, self.place(of)?);
        // Taking the name away first could take the last one.
        let is_same =
            |one: rustix::fs::Stat, other: rustix::fs::Stat| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
        if let (Ok(one), Ok(other)) = (place.looked_at(), old.looked_at())
            && is_same(one, other)
        {
            return Ok(());
        }
        place.fresh(|| rustix::fs::linkat(&old.folder, old.name, &place.folder, place.name, AtFlags::empty()))
    }

    pub(crate) fn special(&self, path: &Path, special: Special, attributes: &Attributes) -> io::Result<()> {
        let (kind, numbers) = match special {
            Special::Character(numbers) => (FileType::CharacterDevice, Some(numbers)),
            Special::Block(numbers) => (FileType::BlockDevice, Some(numbers)),
            Special::Fifo => (FileType::Fifo, None),
        };
        let device = numbers.map_or(0, |numbers| rustix::fs::makedev(numbers.major, numbers.minor));
        let place = self.place(path)?;
        place.fresh(|| rustix::fs::mknodat(&place.folder, place.name, kind, Mode::empty(), device))?;
        place.settle_name(attributes, true)
    }

    /// Takes away what is at a path, with all below it; nothing where nothing is.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self.remove_folder(path)? {
            true => Ok(()),
            false => match self.known_place(path)? {
                Some(place) => absent_is_fine(place.clear()),
                None => Ok(()),
            },
        }
    }

    /// The same of a folder alone. True where one was there.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<bool> {
        let Some(place) = self.known_place(path)?.filter(Place::is_folder) else {
            return Ok(false);
        };
        std::fs::remove_dir_all(within(&place.folder).join(place.name)).map(|()| true)
    }

    /// Takes away all that is in a folder; nothing where there is none, or a link to one.
    pub(crate) fn remove_inside(&self, path: &Path) -> io::Result<()> {
        let is_root = path.as_os_str().is_empty();
        if !is_root && self.known_place(path)?.filter(Place::is_folder).is_none() {
            return Ok(());
        }
        let folder = self.folder_at(path)?;
        for entry in std::fs::read_dir(within(&folder))? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// Where a path leads, if its folder is there.
    fn known_place<'a>(&self, path: &'a Path) -> io::Result<Option<Place<'a>>> {
        match self.folder_at(path.parent().unwrap_or(Path::new(""))) {
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => self.place(path).map(Some),
        }
    }

    /// A folder that is there.
    fn folder_at(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Where a path leads; the folders on its way are made where an archive left them out.
    fn place<'a>(&self, path: &'a Path) -> io::Result<Place<'a>> {
        let no_name = || io::Error::new(io::ErrorKind::InvalidInput, "it is the root itself");
        let name = path.file_name().map(Path::new).ok_or_else(no_name)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let folder = match self.folder_at(above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_above(above)?;
                self.folder_at(above)?
            }
            found => found?,
        };
        Ok(Place { folder, name })
    }

    fn make_above(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for path in above {
            if let Err(error) = self.folder_at(path) {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
                let parent = self.folder_at(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
                // Whatever mask this process has.
                rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// A path below an open folder, for calls that know no descriptors.
fn within(folder: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string())
}

/// Nothing is there, or something on the way is no folder.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if !is_absent(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Place<'_> {
    fn looked_at(&self) -> io::Result<rustix::fs::Stat> {
        Ok(rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn is_folder(&self) -> bool {
        self.looked_at()
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_dir())
    }

    /// Takes away what has the name; of folders only an empty one.
    fn clear(&self) -> io::Result<()> {
        let flags = if self.is_folder() {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        Ok(rustix::fs::unlinkat(&self.folder, self.name, flags)?)
    }

    /// Makes something that has to be new.
    fn fresh<T>(&self, make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear()?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    /// Attributes of what cannot be opened, or is not to be. A change of owner takes setuid and capabilities away, so it comes first.
    fn settle_name(&self, attributes: &Attributes, has_mode: bool) -> io::Result<()> {
        let (uid, gid) = owners(attributes);
        rustix::fs::chownat(&self.folder, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        if has_mode {
            // Just made, and no link.
            rustix::fs::chmodat(&self.folder, self.name, mode(attributes), AtFlags::empty())?;
        }
        let path = within(&self.folder).join(self.name);
        for (name, value) in &attributes.xattrs {
            rustix::fs::lsetxattr(&path, name.as_slice(), value, XattrFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(
            &self.folder,
            self.name,
            &times(attributes),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// Gives an open file or folder its attributes, in the order that loses none of them.
pub(crate) fn settle(file: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = owners(attributes);
    rustix::fs::fchown(&file, uid, gid)?;
    rustix::fs::fchmod(&file, mode(attributes))?;
    for (name, value) in &attributes.xattrs {
        rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(&file, &times(attributes))?)
}

fn owners(attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))
}

fn mode(attributes: &Attributes) -> Mode {
    Mode::from_raw_mode(attributes.mode)
}

fn times(attributes: &Attributes) -> Timestamps {
    let (seconds, nanoseconds) = attributes.modified;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Names and values of the extended attributes of what is at this path, in the order of their names; a link is not followed.
///
/// # Errors
/// What reading them gives; a file system that has none gives none.
pub(crate) fn xattrs(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // The longest list and value of Linux (linux/limits.h, `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
    let mut list = vec![0_u8; 65536];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        read => read?,
    };
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 65536];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}
