//! The steps that change the medium, as one small trait, so that tests can cut the power between any two of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::model::layout;
use crate::sys::mount;

/// What the stores do to a folder. `Disk` is the real body.
pub trait Medium: Send + Sync {
    /// Makes a file that must not be there yet.
    fn create(&self, path: &Path) -> io::Result<File>;
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Puts a file's content and length on the medium.
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Puts a file's content on the medium where its length has not changed. Spares a journalling file system the commit, which
    /// would wait for what others have written.
    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync_file(file)
    }
    /// Renames inside one folder; replaces what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder if it is empty.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Puts the names in a folder on the medium.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Puts everything the file system still holds on the medium, and reports write errors that went unnoticed.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Makes a folder where there is none. True if it was made.
    fn make_missing_folder(&self, path: &Path) -> io::Result<bool> {
        match self.make_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|()| true),
        }
    }

    /// Removes a file that may be gone already.
    fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        match self.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// A step that failed: what was to be done, and to which file or folder.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct MediumError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MediumError {
    let path = path.to_owned();
    move |source| MediumError {
        operation,
        path,
        source,
    }
}

/// A file that is written through its medium.
pub(crate) struct MediumFile<'a> {
    pub medium: &'a dyn Medium,
    pub file: File,
    pub length: u64,
}

impl io::Write for MediumFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.medium.write(&mut self.file, bytes)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder that a file is in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A folder of the running system.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Disk;

impl Medium for Disk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // FUSE file systems may not know fsync of a folder; `sync_all` follows in every durable path.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            other => other,
        }
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        mount::sync_filesystem(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(mount::space(path)?.free_bytes)
    }
}

/// Replaces `path` with `bytes` in a way that leaves either the old or the new content after a failure of the program:
/// temporary name, fsync, rename, fsync of the folder. The temporary file is removed on error.
pub(crate) fn replace(medium: &dyn Medium, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_lazily(medium, path, |file| {
        medium.write(file, bytes)?;
        medium.sync_file(file)
    })?;
    medium.sync_folder(folder_of(path))
}

/// As `replace`, without waiting for the medium and with the content that `fill` writes: for copies that nobody needs after a
/// power cut.
pub(crate) fn replace_lazily(
    medium: &dyn Medium,
    path: &Path,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(layout::PART);
    let temporary = PathBuf::from(temporary);
    medium.remove_if_there(&temporary)?;
    let written = medium.create(&temporary).and_then(|mut file| fill(&mut file));
    let renamed = written.and_then(|()| medium.rename(&temporary, path));
    renamed.inspect_err(|_| {
        // The first error is the one to report; a leftover is cleared at the next start.
        let _ = medium.remove_file(&temporary);
    })
}

/// A medium that fails when told to, and that loses what was not synced when its power is cut.
#[cfg(test)]
pub(crate) mod faults {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;

    /// What the step with this number does.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        None,
        /// Fails with this error, once.
        Fail {
            step: usize,
            errno: i32,
        },
        /// Does not happen, and neither does anything after it.
        Cut {
            step: usize,
        },
    }

    /// A change of names that no folder sync has made durable.
    enum Change {
        Renamed {
            from: PathBuf,
            to: PathBuf,
            replaced: Option<Vec<u8>>,
        },
        Removed {
            path: PathBuf,
            bytes: Vec<u8>,
        },
        Created {
            path: PathBuf,
        },
    }

    #[derive(Default)]
    struct Unsynced {
        step: usize,
        content: BTreeSet<PathBuf>,
        open: BTreeMap<u64, PathBuf>,
        names: Vec<Change>,
        cut: bool,
    }

    pub(crate) struct Faulty {
        fault: Fault,
        pub free: u64,
        state: Mutex<Unsynced>,
    }

    impl Faulty {
        pub(crate) fn new(fault: Fault) -> Self {
            Faulty {
                fault,
                free: 1 << 40,
                state: Mutex::default(),
            }
        }

        /// Steps taken so far.
        pub(crate) fn steps(&self) -> usize {
            self.state.lock().unwrap().step
        }

        fn step(&self) -> io::Result<std::sync::MutexGuard<'_, Unsynced>> {
            let mut state = self.state.lock().unwrap();
            let step = state.step;
            state.step += 1;
            match self.fault {
                _ if state.cut => return Err(io::Error::from_raw_os_error(libc::EIO)),
                Fault::Fail { step: at, errno } if at == step => return Err(io::Error::from_raw_os_error(errno)),
                Fault::Cut { step: at } if at == step => {
                    state.cut = true;
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                _ => {}
            }
            Ok(state)
        }

        fn inode(file: &File) -> u64 {
            use std::os::unix::fs::MetadataExt;
            file.metadata().unwrap().ino()
        }

        /// Lets the medium forget what was not synced, as the dice fall. Nobody may use the store any more.
        pub(crate) fn lose(&self, mut dice: impl FnMut(usize) -> usize) {
            let mut state = self.state.lock().unwrap();
            for path in std::mem::take(&mut state.content) {
                let Ok(bytes) = fs::read(&path) else { continue };
                match dice(4) {
                    0 => {}
                    1 => fs::write(&path, &bytes[..dice(bytes.len() + 1)]).unwrap(),
                    2 => fs::write(&path, vec![0; bytes.len()]).unwrap(),
                    _ => fs::write(&path, b"").unwrap(),
                }
            }
            for change in std::mem::take(&mut state.names).into_iter().rev() {
                if dice(2) == 0 {
                    continue;
                }
                match change {
                    Change::Created { path } => drop(fs::remove_file(path)),
                    Change::Removed { path, bytes } => drop(fs::write(path, bytes)),
                    Change::Renamed { from, to, replaced } => {
                        // A rename over a file can lose both names on FAT.
                        match dice(3) {
                            0 => drop(fs::remove_file(&to)),
                            _ => drop(fs::rename(&to, &from)),
                        }
                        if let Some(bytes) = replaced
                            && dice(2) == 0
                        {
                            fs::write(&to, bytes).unwrap();
                        }
                    }
                }
            }
        }
    }

    impl Medium for Faulty {
        fn create(&self, path: &Path) -> io::Result<File> {
            let mut state = self.step()?;
            let file = Disk.create(path)?;
            state.content.insert(path.to_owned());
            state.open.insert(Faulty::inode(&file), path.to_owned());
            state.names.push(Change::Created { path: path.to_owned() });
            Ok(file)
        }

        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            let mut state = match self.step() {
                Ok(state) => state,
                Err(error) => {
                    // A failing write may leave a part behind.
                    let _ = Disk.write(file, &bytes[..bytes.len() / 2]);
                    return Err(error);
                }
            };
            if let Some(path) = state.open.get(&Faulty::inode(file)).cloned() {
                state.content.insert(path);
            }
            Disk.write(file, bytes)
        }

        fn sync_file(&self, file: &File) -> io::Result<()> {
            let mut state = self.step()?;
            if let Some(path) = state.open.get(&Faulty::inode(file)).cloned() {
                state.content.remove(&path);
            }
            Ok(())
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            let mut state = self.step()?;
            let replaced = fs::read(to).ok();
            Disk.rename(from, to)?;
            if state.content.remove(from) {
                state.content.insert(to.to_owned());
            }
            for path in state.open.values_mut().filter(|path| *path == from) {
                *path = to.to_owned();
            }
            state.names.push(Change::Renamed {
                from: from.to_owned(),
                to: to.to_owned(),
                replaced,
            });
            Ok(())
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            let mut state = self.step()?;
            let bytes = fs::read(path);
            Disk.remove_file(path)?;
            state.content.remove(path);
            state.names.push(Change::Removed {
                path: path.to_owned(),
                bytes: bytes?,
            });
            Ok(())
        }

        fn make_folder(&self, path: &Path) -> io::Result<()> {
            drop(self.step()?);
            Disk.make_folder(path)
        }

        fn remove_folder(&self, path: &Path) -> io::Result<()> {
            drop(self.step()?);
            Disk.remove_folder(path)
        }

        fn sync_folder(&self, path: &Path) -> io::Result<()> {
            let mut state = self.step()?;
            state.names.retain(|change| {
                let (Change::Renamed { to: at, .. } | Change::Removed { path: at, .. } | Change::Created { path: at }) =
                    change;
                at.parent() != Some(path)
            });
            Ok(())
        }

        fn sync_all(&self, _: &Path) -> io::Result<()> {
            let mut state = self.step()?;
            state.names.clear();
            state.content.clear();
            Ok(())
        }

        fn free_bytes(&self, _: &Path) -> io::Result<u64> {
            Ok(self.free)
        }
    }
}
