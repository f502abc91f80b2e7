//! A root as a squashfs, made by sqfstar(1) of squashfs-tools out of the very archive that is packed beside it, so that both hold the same. What
//! that program leaves out, it says, and then there is no such form.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use super::{ImageError, Summed, unpacked};
use crate::formats::image::Part;
use crate::sys::program::Program;

/// What it says of the root's own folder, whose attributes it is given by words.
const OF_ROOT: &str = "Empty tar filename";
/// Words of the program that are told where it fails.
const MAX_WORDS: u64 = 4096;

/// Makes `out`, which is overwritten, of the archive of a root. `root`: that root, whose own folder the program does not take from an archive.
///
/// # Errors
/// The program is not there, or fails, or the archive cannot be read.
pub(crate) fn make(root: &Path, archive: &Path, out: &Path) -> Result<Part, ImageError> {
    let program = Program::Sqfstar;
    let metadata = fs::metadata(root).map_err(ImageError::at(root))?;
    let started = program
        .command()
        .args(["-force", "-comp", "zstd", "-no-progress", "-quiet"])
        // The same archive gives the same bytes, with the same version of that program.
        .args(["-mkfs-time", "0", "-root-time", "0"])
        .args(["-root-mode", &format!("{:o}", metadata.mode() & 0o7777)])
        .args(["-root-uid", &metadata.uid().to_string()])
        .args(["-root-gid", &metadata.gid().to_string()])
        .arg(out)
        // A time of its own does not go with that.
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(not_started)?;
    let mut input = child.stdin.take();
    let words = child.stderr.take();
    let words = std::thread::spawn(move || said(words));
    let passed = unpacked_of(archive).and_then(|mut tar| match &mut input {
        Some(input) => io::copy(&mut tar, input).map(drop),
        None => Ok(()),
    });
    drop(input);
    let ended = child
        .wait()
        .map_err(|error| ImageError::Wrong(format!("{program}: {error}")))?;
    let words = words.join().unwrap_or_default();
    match passed {
        // It did not read on: its words say why.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(ImageError::at(archive)(error)),
        _ if !ended.success() => return Err(ImageError::Wrong(format!("{program}: {ended}: {words}"))),
        Err(error) => return Err(ImageError::Wrong(format!("{program}: {error}: {words}"))),
        Ok(()) if !words.is_empty() => {
            return Err(ImageError::Wrong(format!(
                "a squashfs would lack something of this root, such as access lists (POSIX ACLs): {program}: {words}; pack with --no-squashfs"
            )));
        }
        Ok(()) => {}
    }
    summed(out)
}

/// Before anything is packed.
///
/// # Errors
/// The program cannot be started, with what helps.
pub(crate) fn must_be_here() -> Result<(), ImageError> {
    let version = Program::Sqfstar
        .command()
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.map(drop).map_err(not_started)
}

fn not_started(error: io::Error) -> ImageError {
    let program = Program::Sqfstar;
    ImageError::Wrong(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{program} is not on this machine: install squashfs-tools 4.5 or later (openSUSE: squashfs), or pack with --no-squashfs"
        ),
        _ => format!("starting {program}: {error}"),
    })
}

/// An archive of ours, as it was before it was packed.
fn unpacked_of(archive: &Path) -> io::Result<impl Read> {
    unpacked(BufReader::with_capacity(1 << 17, File::open(archive)?))
}

fn said(words: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(mut words) = words {
        let _ = words.by_ref().take(MAX_WORDS).read_to_end(&mut text);
        // It would wait for whoever does not read it to its end.
        let _ = io::copy(&mut words, &mut io::sink());
    }
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with(OF_ROOT))
        .collect();
    lines.join("; ")
}

fn summed(path: &Path) -> Result<Part, ImageError> {
    let at = ImageError::at(path);
    let mut file = Summed::new(File::open(path).map_err(&at)?);
    io::copy(&mut file, &mut io::sink()).map_err(&at)?;
    let (bytes, sha256) = file.sum();
    Ok(Part { bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::super::pack::{self, Options};
    use super::*;

    /// unsquashfs, of the same package, is the witness.
    #[test]
    fn both_forms_hold_the_same_and_a_tree_gives_the_same_bytes() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/file"), vec![b'x'; 300_000]).unwrap();
        fs::hard_link(at("folder/file"), at("folder/same")).unwrap();
        symlink("folder/file", at("link")).unwrap();
        fs::write(at("program"), "#!").unwrap();
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let archive = folder.path().join("root.tar.zst");
        let mut packed = zstd::Encoder::new(File::create(&archive).unwrap(), 3).unwrap();
        let options = Options {
            newest: u64::MAX,
            leave_out: &|_| false,
        };
        pack::pack(root.path(), &mut packed, &options).unwrap();
        packed.finish().unwrap();
        let made = |name: &str| {
            let out = folder.path().join(name);
            (make(root.path(), &archive, &out).unwrap(), out)
        };
        // In the place of an older one, too.
        fs::write(folder.path().join("again"), vec![0; 3_000_000]).unwrap();
        let ((one, path), (again, _)) = (made("one"), made("again"));
        assert_eq!(one, again);
        assert_eq!(one.bytes, fs::metadata(&path).unwrap().len());
        assert!(one.bytes.is_multiple_of(512), "a loop device shows whole sectors only");
        let out = folder.path().join("out");
        let mut unsquashfs = Command::new("unsquashfs");
        let done = unsquashfs
            .args(["-quiet", "-no-progress", "-dest"])
            .args([&out, &path])
            .status();
        assert!(done.unwrap().success());
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .args([root.path(), &out])
            .status();
        assert!(same.unwrap().success());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&out), mode(&out.join("program"))), (0o711, 0o4755));
        let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
        assert_eq!(inode("folder/file"), inode("folder/same"));
    }

    #[test]
    fn what_the_program_says_against_an_archive_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a");
        fs::write(&archive, zstd::encode_all(&b"no archive"[..], 3).unwrap()).unwrap();
        let why = make(folder.path(), &archive, &folder.path().join("out"))
            .unwrap_err()
            .to_string();
        assert!(why.starts_with("sqfstar: exit status") && why.len() > 40, "{why}");
        let why = make(folder.path(), &folder.path().join("none"), &folder.path().join("out")).unwrap_err();
        assert!(why.to_string().contains("none"), "{why}");
    }
}
