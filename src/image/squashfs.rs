//! A root as a squashfs, made by sqfstar(1) of squashfs-tools out of the same archive as is packed beside it, but for access lists, which a
//! squashfs cannot hold. What that program leaves out besides, it says, and then there is no such form.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use super::pack::{self, Options};
use super::{ImageError, Summed};
use crate::formats::image::Part;
use crate::sys::program::Program;

/// What it says of the root's own folder, whose attributes it is given by words.
const OF_ROOT: &str = "Empty tar filename";
/// Words of the program that are told where it fails.
const MAX_WORDS: u64 = 4096;

/// Makes `out`, which is overwritten, of the tree at `root`. `packing`: how that is packed.
///
/// # Errors
/// The program is not there, or fails, or the tree cannot be read whole.
pub(crate) fn make(root: &Path, packing: &Options<'_>, out: &Path) -> Result<Part, ImageError> {
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
    let packing = Options {
        access_lists: false,
        ..*packing
    };
    let passed = match input.as_mut() {
        Some(input) => pack::pack(root, BufWriter::with_capacity(1 << 17, input), &packing).map(drop),
        None => Ok(()),
    };
    drop(input);
    let ended = child
        .wait()
        .map_err(|error| ImageError::Wrong(format!("{program}: {error}")))?;
    let words = words.join().unwrap_or_default();
    // Where it did not read on, its words say why.
    let is_broken = matches!(&passed, Err(ImageError::Io { error, .. }) if error.kind() == io::ErrorKind::BrokenPipe);
    if !is_broken {
        passed?;
    }
    match ended.success() {
        false => Err(ImageError::Wrong(format!("{program}: {ended}: {words}"))),
        true if is_broken => Err(ImageError::Wrong(format!("{program} did not read all: {words}"))),
        true if !words.is_empty() => Err(ImageError::Wrong(format!(
            "a squashfs would lack something of this root: {program}: {words}; pack with --no-squashfs"
        ))),
        true => summed(out),
    }
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
        // user::rw-, user:1:rw-, group::r--, mask::rw-, other::--- (acl(5)), which is shown as 0660.
        fs::write(at("listed"), "").unwrap();
        let entries = [
            (1, 6, u32::MAX),
            (2, 6, 1),
            (4, 4, u32::MAX),
            (0x10, 6, u32::MAX),
            (0x20, 0, u32::MAX),
        ];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend([tag, 0, permissions, 0]);
            list.extend(u32::to_le_bytes(id));
        }
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(at("listed"), "system.posix_acl_access", &list, flags).unwrap();
        assert_eq!(fs::metadata(at("listed")).unwrap().mode() & 0o7777, 0o660);
        let options = Options {
            newest: u64::MAX,
            leave_out: &|_| false,
            access_lists: true,
        };
        let made = |name: &str| {
            let out = folder.path().join(name);
            (make(root.path(), &options, &out).unwrap(), out)
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
        assert_eq!(mode(&out.join("listed")), 0o640, "the group has no more than it had");
        let inode = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
        assert_eq!(inode("folder/file"), inode("folder/same"));
    }

    #[test]
    fn what_the_program_says_against_it_is_told() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(root.path().join("file"), vec![b'x'; 3_000_000]).unwrap();
        let options = Options {
            newest: u64::MAX,
            leave_out: &|_| false,
            access_lists: true,
        };
        let none = folder.path().join("none");
        let why = make(root.path(), &options, &none.join("out")).unwrap_err().to_string();
        assert!(why.starts_with("sqfstar: exit status") && why.len() > 40, "{why}");
        assert!(make(&none, &options, &folder.path().join("out")).is_err());
    }
}
