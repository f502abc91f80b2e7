//! A root as a squashfs, made by sqfstar(1) of squashfs-tools out of the very archive that is packed beside it, so that both hold the same.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use super::{ImageError, Summed, unpacked};
use crate::formats::image::Part;
use crate::sys::program::Program;

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
        // The same archive gives the same bytes.
        .args(["-mkfs-time", "0", "-root-time", "0"])
        .args(["-root-mode", &format!("{:o}", metadata.mode() & 0o7777)])
        .args(["-root-uid", &metadata.uid().to_string()])
        .args(["-root-gid", &metadata.gid().to_string()])
        .arg(out)
        // It does not go with the time that is named above.
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Wrong(format!(
            "{program} is not on this machine: install squashfs-tools 4.5 or later (openSUSE: squashfs), or pack with --no-squashfs"
        )),
        _ => ImageError::Wrong(format!("starting {program}: {error}")),
    })?;
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
        Ok(()) => {}
    }
    summed(out)
}

/// An archive of ours, as it was before it was packed.
fn unpacked_of(archive: &Path) -> io::Result<impl Read> {
    unpacked(BufReader::with_capacity(1 << 17, File::open(archive)?))
}

fn said(words: Option<impl Read>) -> String {
    let mut text = Vec::new();
    if let Some(mut words) = words {
        let _ = words.by_ref().take(MAX_WORDS).read_to_end(&mut text);
        // It does not wait for whoever reads it.
        let _ = io::copy(&mut words, &mut io::sink());
    }
    String::from_utf8_lossy(&text).trim().replace('\n', "; ")
}

fn summed(path: &Path) -> Result<Part, ImageError> {
    let at = ImageError::at(path);
    let mut file = Summed::new(File::open(path).map_err(&at)?);
    io::copy(&mut file, &mut io::sink()).map_err(&at)?;
    let (bytes, sha256) = file.sum();
    Ok(Part { bytes, sha256 })
}
