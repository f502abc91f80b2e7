//! A capture of what the probes read on one machine: the tree that makes a fixture of a bug report.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::redact::Redaction;
use super::root::{Recorded, Root};
use super::run::without_secrets;

/// What a redacted capture leaves out, by the beginning of its path.
const HIDDEN: [&[u8]; 7] = [
    // Answers of IPMI's Get LAN Configuration Parameters (NetFn Transport 0Ch, command 02h).
    b".recon/ipmi/0c-02",
    // Frames of switches, where addresses are bare bytes as well.
    b".recon/cabling/",
    // GUIDs as bare bytes.
    b".recon/ipmi/06-37",
    b".recon/ipmi/06-08",
    // Field replaceable units, cut into pieces.
    b".recon/ipmi/0a-11-",
    // Boot entries in UTF-16, with addresses in their paths.
    b"sys/firmware/efi/efivars/Boot",
    // Certificates of a TPM.
    b".recon/tpm/",
];

/// Writes what a recording root has read as a tar: files with their content, links, and folders. Unpacked, it is a tree
/// for `Root::at`, which gives the same inventory without the live sources.
///
/// With a redaction, the names it knows are hidden in contents, paths and links. What holds names
/// in a form that cannot be searched (bare bytes, UTF-16, pieces) is then left out.
pub(crate) fn write_tar(root: &Root, redaction: Option<&Redaction>, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (path, what) in root.recorded() {
        let name = path.as_os_str().as_bytes();
        let is_hidden = || HIDDEN.iter().any(|start| name.starts_with(start));
        if name.is_empty() || (redaction.is_some() && is_hidden()) {
            continue;
        }
        let path = hide(redaction, &path);
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
                let content = match redaction {
                    Some(redaction) => redaction.bytes(&content),
                    None => content,
                };
                header.set_size(content.len() as u64);
                archive.append_data(&mut header, &path, content.as_slice())?;
            }
            Recorded::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, &path, hide(redaction, &target))?;
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

fn hide(redaction: Option<&Redaction>, path: &Path) -> PathBuf {
    match redaction {
        Some(redaction) => PathBuf::from(OsString::from_vec(redaction.bytes(path.as_os_str().as_bytes()))),
        None => path.to_owned(),
    }
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
        fs::create_dir_all(dir.path().join("sys/devices/usb1/host0")).unwrap();
        symlink("devices/usb1/host0", dir.path().join("sys/host0")).unwrap();
        let root = Root::recording(dir.path());
        let place = root.resolve("sys/host0").unwrap();
        root.value("sys/device/serial").unwrap();
        root.value("proc/cmdline").unwrap();
        root.list("sys").unwrap();
        let mut tar = Vec::new();
        write_tar(&root, None, &mut tar).unwrap();

        let copy = tempfile::tempdir().unwrap();
        tar::Archive::new(tar.as_slice()).unpack(copy.path()).unwrap();
        let captured = Root::at(copy.path());
        assert_eq!(captured.value("sys/device/serial").as_deref(), Some("S1"));
        assert_eq!(captured.value("proc/cmdline").as_deref(), Some("recon.token=***"));
        assert_eq!(captured.list("sys").unwrap(), ["host0", "device", "devices"]);
        // Of some devices nothing is asked but where they are.
        assert_eq!(captured.resolve("sys/host0").unwrap(), place);
    }
}
