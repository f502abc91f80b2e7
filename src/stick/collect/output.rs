//! The tarball that comes out: whether its place may be written to, and how it is written and read back.

use crate::formats::bytes::hex;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::stick::collect::error::CollectError;
use crate::stick::collect::report::{Report, State};
use crate::stick::collect::uploads::OnSource;
use crate::store::archive::{self, Wrong};
use crate::store::digest_of;
use crate::store::fs_ops::{Disk, Medium, folder_of};
use crate::store::upload::UploadLimits;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace the output file if it exists.
    pub force: bool,
}

/// The output must be a new file (or one that may be replaced), and never on the source; and so must what it is called until it
/// is checked, which is removed as well.
pub(super) fn check_out(source: &Path, out: &Path, options: Options) -> Result<(), CollectError> {
    check_place(source, out, options)?;
    check_place(source, &unchecked(out), options)
}

fn unchecked(out: &Path) -> PathBuf {
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".unchecked");
    temporary.into()
}

fn check_place(source: &Path, out: &Path, options: Options) -> Result<(), CollectError> {
    let on_source = || CollectError::OnSource { path: out.to_owned() };
    if let Ok(existing) = fs::metadata(out) {
        let same = fs::metadata(source).is_ok_and(|s| (s.dev(), s.ino()) == (existing.dev(), existing.ino()));
        if same {
            return Err(on_source());
        }
        if !existing.is_file() {
            return Err(CollectError::NoFile { path: out.to_owned() });
        }
        if !options.force {
            return Err(CollectError::Exists { path: out.to_owned() });
        }
    }
    let folder = folder_of(out).canonicalize();
    if let (Ok(source), Ok(folder)) = (source.canonicalize(), folder)
        && source.is_dir()
        && folder.starts_with(source)
    {
        return Err(on_source());
    }
    Ok(())
}

/// Builds under another name, reads that back and checks every sum, and only then gives it its name.
pub(super) fn write(chosen: &[OnSource<'_>], out: &Path, report: &mut Report) -> Result<(), CollectError> {
    let temporary = unchecked(out);
    let written = write_checked(chosen, &temporary, out, report);
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_checked(
    chosen: &[OnSource<'_>],
    temporary: &Path,
    out: &Path,
    report: &mut Report,
) -> Result<(), CollectError> {
    let archive_error = |source| CollectError::Archive {
        path: out.to_owned(),
        source,
    };
    let write_error = |source| CollectError::Write {
        path: out.to_owned(),
        source,
    };
    let builder = archive::Builder::new(UploadLimits::default());
    let built = builder.write(chosen, temporary, 0, &|| true).map_err(archive_error)?;
    for (id, reason) in built.left_out {
        // Read well a moment ago; a medium this bad deserves the truth in the table as well.
        report
            .warnings
            .push(format!("nodes/{id} changed while it was read: {reason}, left out"));
        for row in report.rows.iter_mut().filter(|row| row.id == id) {
            row.state = State::Torn;
        }
    }
    let verified = File::open(temporary)
        .map_err(write_error)
        .and_then(|file| archive::verify(file).map_err(|wrong| archive_error(wrong.into())))?;
    if verified.nodes != report.taken() {
        let text = format!("{} nodes written, {} read back", report.taken(), verified.nodes);
        return Err(archive_error(Wrong::new(text).into()));
    }
    let (sha256, bytes) = File::open(temporary).and_then(digest_of).map_err(write_error)?;
    fs::rename(temporary, out).map_err(write_error)?;
    Disk.sync_folder(folder_of(out)).map_err(write_error)?;
    report.files = verified.files;
    report.out_bytes = bytes;
    report.out_sha256 = hex(&sha256);
    Ok(())
}
