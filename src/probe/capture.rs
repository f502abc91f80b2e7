//! A capture of what the probes read on one machine: the tree that makes a fixture of a bug report.

use std::io::{self, Write};
use std::path::Path;

use super::root::{Recorded, Root};
use super::run::without_secrets;

/// Writes what a recording root has read as a tar: files with their content, links, and folders. Unpacked, it is a tree
/// for `Root::at`, which gives the same inventory without the live sources.
pub fn write_tar(root: &Root, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (path, what) in root.recorded() {
        if path.as_os_str().is_empty() {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        match what {
            Recorded::File(content) => {
                let content = if path == Path::new("proc/cmdline") {
                    without_secrets(&String::from_utf8_lossy(&content)).into_bytes()
                } else {
                    content
                };
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, &path, content.as_slice())?;
            }
            Recorded::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, &path, &target)?;
            }
            Recorded::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(&mut header, &path, io::empty())?;
            }
        }
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_capture_reads_like_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/devices/x")).unwrap();
        fs::create_dir_all(dir.path().join("proc")).unwrap();
        fs::write(dir.path().join("sys/devices/x/serial"), "S1\n").unwrap();
        fs::write(dir.path().join("proc/cmdline"), "recon.token=secret\n").unwrap();
        symlink("devices/x", dir.path().join("sys/device")).unwrap();
        let root = Root::recording(dir.path());
        root.value("sys/device/serial").unwrap();
        root.value("proc/cmdline").unwrap();
        root.list("sys").unwrap();
        let mut tar = Vec::new();
        write_tar(&root, &mut tar).unwrap();

        let copy = tempfile::tempdir().unwrap();
        tar::Archive::new(tar.as_slice()).unpack(copy.path()).unwrap();
        let captured = Root::at(copy.path());
        assert_eq!(captured.value("sys/device/serial").as_deref(), Some("S1"));
        assert_eq!(captured.value("proc/cmdline").as_deref(), Some("recon.token=***"));
        assert_eq!(captured.list("sys").unwrap(), ["device", "devices"]);
    }
}
