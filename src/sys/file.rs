//! Files as the network services read them: opened without a way out of their folder, read without waiting for the medium,
//! sent by the kernel without a copy of ours.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::ReadWriteFlags;

/// Opening flags: never wait (a FIFO would), never take a terminal.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Opens `path` below `folder` for reading; a link that leads out of it is refused (openat2(2), `RESOLVE_BENEATH`).
/// With `cached`, only if the kernel knows every name on the way, so that the call cannot wait for the medium.
///
/// # Errors
/// `WouldBlock` where `cached` was asked and the medium would have to be read; `CrossesDevices` for a path that leads out.
pub(crate) fn open_beneath(folder: &File, path: &Path, cached: bool) -> io::Result<File> {
    let resolve = if cached {
        ResolveFlags::BENEATH | ResolveFlags::CACHED
    } else {
        ResolveFlags::BENEATH
    };
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    Ok(rustix::fs::openat2(folder, path, READ, Mode::empty(), resolve)?.into())
}

/// Opens a plain file for reading, and nothing else: a link is not followed, a pipe does not wait for its writer, and a device is not
/// even opened, which alone may do something to it.
///
/// # Errors
/// `InvalidInput` for what is no plain file, with what it is.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    must_be_plain(&File::from(place))?;
    let file = File::from(rustix::fs::open(path, READ | OFlags::NOFOLLOW, Mode::empty())?);
    // Another file may have come to the name meanwhile.
    must_be_plain(&file)?;
    Ok(file)
}

fn must_be_plain(file: &File) -> io::Result<()> {
    let kind = file.metadata()?.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a link",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what}, not a plain file"),
    ))
}

/// Opens a file for reading without waiting: a FIFO or a device that was put in its place holds nobody up.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(path, READ, Mode::empty())?.into())
}

/// The path without links, as the kernel walks it. Nothing is opened for reading, so no device wakes up. `None` where the
/// kernel cannot name it: without /proc, or for what was removed meanwhile.
///
/// # Errors
/// What walking the path gives.
pub(crate) fn real_path(path: &Path) -> io::Result<Option<PathBuf>> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let Ok(real) = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd())) else {
        return Ok(None);
    };
    Ok((real.is_absolute() && !real.as_os_str().as_bytes().ends_with(b" (deleted)")).then_some(real))
}

/// True if the byte at `offset` can be read without waiting for the medium (preadv2(2), `RWF_NOWAIT`). File systems that
/// cannot tell, ISO 9660 among them, give false.
pub(crate) fn is_resident(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    rustix::io::preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
}

/// Reads `buffer.len()` bytes at `offset` if that needs no waiting.
pub(crate) fn read_resident(file: &File, offset: u64, buffer: &mut [u8]) -> bool {
    let wanted = buffer.len();
    let mut buffers = [IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == wanted)
}

/// Brings `length` bytes at `offset` into the page cache. Blocks.
///
/// # Errors
/// What reading gives; `UnexpectedEof` where the file has become shorter.
pub(crate) fn make_resident(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut at, end) = (offset, offset.saturating_add(length));
    while at < end {
        let wanted = (end - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..wanted], at)?;
        at += wanted as u64;
    }
    Ok(())
}

/// Moves up to `count` bytes of `file` from `offset` into a socket (sendfile(2)).
///
/// # Errors
/// `WouldBlock` where the socket takes none now.
pub(crate) fn send(socket: impl AsFd, file: &File, offset: u64, count: usize) -> io::Result<usize> {
    let mut position = offset;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut position), count)?)
}

/// Has the kernel keep what does not fill a packet until more follows, or send it (tcp(7), `TCP_CORK`).
pub(crate) fn cork(socket: impl AsFd, corked: bool) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_cork(socket, corked)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_kernel_names_where_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("a")).unwrap();
        std::os::unix::fs::symlink("a", top.join("b")).unwrap();
        assert_eq!(real_path(&top.join("b/../b")).unwrap(), Some(top.join("a")));
        let error = real_path(&top.join("c")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_link_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("in/file"), "mine").unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        symlink("in/file", folder.path().join("within")).unwrap();
        let root = File::open(folder.path()).unwrap();
        for good in ["in/file", "within", "", "in"] {
            open_beneath(&root, Path::new(good), false).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["out/secret", "../secret", "/etc/passwd", "in/../../x"] {
            open_beneath(&root, Path::new(bad), false).expect_err(bad);
        }
    }

    #[test]
    fn only_plain_files_are_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "text").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink("plain", at("link")).unwrap();
        symlink("/dev/zero", at("to-device")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(open_plain(&at("plain")).unwrap().metadata().unwrap().len(), 4);
        for (name, what) in [
            ("folder", "a folder"),
            ("link", "a link"),
            ("to-device", "a link"),
            ("pipe", "a pipe"),
            ("socket", "a socket"),
            ("/dev/null", "a device"),
        ] {
            let error = open_plain(&at(name)).unwrap_err();
            assert_eq!(error.to_string(), format!("it is {what}, not a plain file"), "{name}");
        }
        assert_eq!(open_plain(&at("none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_file_that_shrank_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![7; 100_000]).unwrap();
        let file = File::open(&path).unwrap();
        make_resident(&file, 10, 99_990).unwrap();
        let error = make_resident(&file, 10, 99_991).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
