//! Archives that the kernel unpacks: the `newc` format of cpio (Documentation/driver-api/early-userspace/buffer-format.rst). Pure.

use std::io;

/// Archives, headers and contents begin at multiples of this many bytes.
const ALIGNMENT: u64 = 4;
/// Modes of stat(2).
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

/// Zeroes from here to where the next thing may begin.
pub(crate) fn padding(at: u64) -> &'static [u8] {
    let missing = at.next_multiple_of(ALIGNMENT) - at;
    &[0; ALIGNMENT as usize][..missing as usize]
}

fn header(name: &str, mode: u32, size: u32) -> Vec<u8> {
    let name_bytes = name.len() + 1;
    // Inode 0: with one link only, nothing is looked up by it.
    let mut out = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}",
        0, 0, 0, 1, 0
    )
    .into_bytes();
    out.extend(format!("{:08x}{:08x}{:08x}{:08x}{name_bytes:08x}{:08x}", 0, 0, 0, 0, 0).bytes());
    out.extend(name.bytes().chain([0]));
    let end = padding(out.len() as u64);
    out.extend(end);
    out
}

/// What goes before a file's content: the innermost `folders` of the folders on its path, and its own header. Behind the content go
/// [`padding`] and [`trailer`].
///
/// # Errors
/// It is too long for the format, or its path has a part that leads nowhere.
pub(crate) fn before_file(path: &str, permissions: u32, folders: usize, size: u64) -> io::Result<Vec<u8>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: {why}"));
    let size = u32::try_from(size).map_err(|_| wrong("a file of 4 GiB or more goes into no initrd"))?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty()
        || parts
            .iter()
            .any(|part| matches!(*part, "." | "..") || part.contains('\0'))
    {
        return Err(wrong("no path of a file"));
    }
    let above = parts.len() - 1;
    let mut out = Vec::new();
    for depth in above.saturating_sub(folders)..above {
        out.extend(header(&parts[..=depth].join("/"), FOLDER, 0));
    }
    out.extend(header(&parts.join("/"), FILE | permissions & 0o7777, size));
    Ok(out)
}

/// The end of an archive.
pub(crate) fn trailer() -> Vec<u8> {
    header("TRAILER!!!", 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_itself_reads_what_is_written() {
        let content = b"hello";
        let mut archive = before_file("/etc/a/file", 0o640, 2, content.len() as u64).unwrap();
        archive.extend(content);
        let end = padding(archive.len() as u64);
        archive.extend(end);
        archive.extend(trailer());
        assert!(archive.len().is_multiple_of(4));
        // 110 bytes of numbers, and a name with its closing zero, padded to 4: `etc` makes 116.
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[110..114], b"etc\0");
        assert_eq!(&archive[116..122], b"070701");
        let names: Vec<_> = ["etc\0", "etc/a\0", "etc/a/file\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| archive.windows(name.len()).position(|window| window == name.as_bytes()))
            .collect();
        assert!(names.iter().all(Option::is_some) && names.is_sorted(), "{names:?}");
        assert!(archive.windows(8).any(|window| window == b"000081a0"), "0o100640");
        let Ok(mut cpio) = std::process::Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
        else {
            return;
        };
        std::io::Write::write_all(&mut cpio.stdin.take().unwrap(), &archive).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let listed: Vec<&str> = listed.lines().collect();
        assert!(
            listed.len() == 3 && listed[0].starts_with("drwxr-xr-x") && listed[2].starts_with("-rw-r-----"),
            "{listed:?}"
        );
        assert!(
            listed[2].contains(" 5 ") && listed[2].ends_with("etc/a/file"),
            "{listed:?}"
        );
    }

    #[test]
    fn folders_are_made_as_far_as_is_asked() {
        for (folders, begins) in [(0, "a/b/c\0"), (1, "a/b\0"), (2, "a\0"), (usize::MAX, "a\0")] {
            let archive = before_file("a//b/c", 0o644, folders, 0).unwrap();
            assert!(archive[110..].starts_with(begins.as_bytes()), "{folders}");
        }
        for bad in ["", "/", "a/../b", "./a"] {
            assert!(before_file(bad, 0, 0, 0).is_err(), "{bad}");
        }
        assert!(before_file("a", 0, 0, 1 << 32).is_err());
        assert_eq!([0, 1, 2, 3, 4].map(|at| padding(at).len()), [0, 3, 2, 1, 0]);
    }
}
