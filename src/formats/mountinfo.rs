//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Pure: its text is an argument.

use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `major:minor` of the device below.
    pub device_number: String,
    pub target: PathBuf,
    pub kind: String,
    pub source: String,
    pub read_only: bool,
}

/// What is mounted, in the order of mounting. Lines that do not parse are left out.
pub(crate) fn mounts(text: &str) -> impl DoubleEndedIterator<Item = Mount> + '_ {
    text.lines().filter_map(mount)
}

/// What is mounted at `target`: where several are, the last one covers the others.
pub(crate) fn mounted_at(text: &str, target: &Path) -> Option<Mount> {
    mounts(text).rev().find(|mount| mount.target == target)
}

/// `36 35 8:3 / /mnt rw,noatime master:1 - exfat /dev/sda3 rw`: id, parent, number, root, target, options, optional
/// fields, a dash, type, source, options of the file system.
fn mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let device_number = front.nth(2)?.to_owned();
    let target = unescape(front.nth(1)?);
    let mount_options = front.next()?;
    let mut back = back.split(' ');
    let kind = back.next()?.to_owned();
    let source = unescape(back.next()?);
    let super_options = back.next().unwrap_or_default();
    let is_ro = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        device_number,
        target: target.into(),
        kind,
        source,
        read_only: is_ro(mount_options) || is_ro(super_options),
    })
}

/// Undoes the octal escapes the kernel uses for blanks in paths.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 4);
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_mountinfo() {
        let text = "36 35 8:3 / /mnt/a\\040b rw,noatime master:1 - exfat /dev/sda3 ro,errors=remount-ro\nshort line\n";
        let mounts: Vec<Mount> = mounts(text).collect();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].target, Path::new("/mnt/a b"));
        assert_eq!(
            (
                mounts[0].kind.as_str(),
                mounts[0].source.as_str(),
                mounts[0].device_number.as_str()
            ),
            ("exfat", "/dev/sda3", "8:3")
        );
        assert!(mounts[0].read_only);
    }

    #[test]
    fn the_last_mount_covers_the_others() {
        let text = "21 1 0:20 / /run/initramfs/live rw - tmpfs tmpfs rw\n\
                    40 21 8:1 / /run/initramfs/live ro,relatime shared:5 - iso9660 /dev/sda1 ro,nojoliet\n";
        let live =
            |text| mounted_at(text, Path::new("/run/initramfs/live")).map(|mount| (mount.device_number, mount.source));
        assert_eq!(live(text), Some(("8:1".to_owned(), "/dev/sda1".to_owned())));
        assert_eq!(mounted_at(text, Path::new("/data")), None);
        assert_eq!(live("short line\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[ -~\\n]{0,300}") {
            let _ = mounts(&text).count();
        }
    }
}
