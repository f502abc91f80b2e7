//! Which uploads are whole, and which of each machine is taken.

use std::io;
use std::path::Path;

use crate::model::cause;
use crate::model::clash::{Claimant, Clash};
use crate::stick::collect::error::CollectError;
use crate::stick::collect::machines;
use crate::stick::collect::output::write;
use crate::stick::collect::report::{Report, Row, State};
use crate::stick::collect::uploads::{Found, OnSource};
use crate::store::archive::Upload;
use crate::store::digest_of;
use crate::store::inventory::InventoryFacts;
use crate::store::upload::{self, UploadError, UploadLimits};

/// Checks every upload, and writes the newest whole ones.
pub(super) fn finish(found: Found<'_>, sources: &[&Path], out: &Path) -> Result<Report, CollectError> {
    let limits = UploadLimits::default();
    let mut report = Report {
        rows: Vec::new(),
        clashes: Vec::new(),
        warnings: found.warnings,
        unread: found.unread,
        out: out.to_owned(),
        out_bytes: 0,
        out_sha256: String::new(),
        files: 0,
    };
    let mut chosen = Vec::new();
    let mut nodes = found.nodes.into_iter().peekable();
    // One name after the other, so that only its evidence is in memory.
    while let Some((id, mut uploads)) = nodes.next() {
        let name = id.base();
        while let Some((_, more)) = nodes.next_if(|(other, _)| other.base() == name) {
            uploads.extend(more);
        }
        let known = checked(uploads, &limits, sources, &mut report);
        let mut found = machines::sort(&name, known);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let mut claimants = Vec::new();
        for machine in found {
            let (upload, claimant) = noted(machine, &mut report);
            chosen.extend(upload);
            claimants.extend(claimant);
        }
        report.clashes.extend(Clash::of(name, claimants));
    }
    report.rows.sort_by(|a, b| a.id.cmp(&b.id));
    if report.rows.is_empty() && report.unread.is_empty() {
        let path = sources.first().map(|source| source.to_path_buf()).unwrap_or_default();
        return Err(CollectError::NoNodes { path });
    }
    if chosen.is_empty() {
        return Err(CollectError::NothingWhole(Box::new(report)));
    }
    write(&chosen, out, &mut report)?;
    Ok(report)
}

/// What the uploads of one name tell; what is not whole is warned of.
fn checked<'a>(
    uploads: Vec<OnSource<'a>>,
    limits: &UploadLimits,
    sources: &[&Path],
    report: &mut Report,
) -> Vec<machines::Known<OnSource<'a>>> {
    let mut known = Vec::new();
    for mut upload in uploads {
        let told = check(&upload, limits).map(|facts| {
            upload.summary = facts.summary;
            facts.evidence
        });
        if let Err(reason) = &told {
            let place = match sources {
                [_] => String::new(),
                _ => format!("{}: ", sources[upload.source].display()),
            };
            let warning = format!("{place}nodes/{}/{} {reason}, left out", upload.id, upload.name);
            report.warnings.push(warning);
        }
        known.push(machines::Known {
            source: upload.source,
            id: upload.id.clone(),
            name: upload.name,
            stored_unix: upload.stored_unix,
            evidence: told.ok(),
            upload,
        });
    }
    known
}

/// Gives a machine its row. Gives the upload that is taken of it, and whose name that claims.
fn noted<'a>(found: machines::Machine<OnSource<'a>>, report: &mut Report) -> (Option<OnSource<'a>>, Option<Claimant>) {
    let machine = found.taken.as_ref().and_then(|upload| upload.summary.clone());
    if found.sources > 1 {
        report.warnings.push(format!(
            "node {} is on {} of the sources; the upload that was stored last, by the clocks of their masters, is taken",
            found.id, found.sources
        ));
    }
    let claimant = found.taken.is_some().then(|| Claimant {
        id: found.id.clone(),
        machine: machine.clone(),
        macs: found.evidence.ports.iter().copied().collect(),
    });
    report.rows.push(Row {
        id: found.id.clone(),
        machine,
        stored_unix: found.taken.as_ref().and_then(|upload| upload.stored_unix),
        size_bytes: found.taken.as_ref().map_or(0, |upload| upload.size),
        uploads: found.uploads,
        state: match (&found.taken, found.newer_torn) {
            (None, _) => State::Torn,
            (Some(_), true) => State::Older,
            (Some(_), false) => State::Whole,
        },
    });
    let chosen = found.taken.map(|mut upload| {
        upload.id = found.id;
        upload
    });
    (chosen, claimant)
}

/// Why an upload is not taken.
#[derive(Debug, thiserror::Error)]
enum LeftOut {
    #[error("is torn")]
    Torn,
    #[error("cannot be read ({0})")]
    Unread(#[from] io::Error),
    #[error("is whole but no upload ({})", cause::told(.0))]
    NoUpload(UploadError),
}

/// What an upload tells of its machine.
fn check(upload: &OnSource<'_>, limits: &UploadLimits) -> Result<InventoryFacts, LeftOut> {
    let (digest, _) = digest_of(upload.open()?)?;
    if digest != upload.name.sha256 {
        return Err(LeftOut::Torn);
    }
    upload::check(upload.open()?, limits).map_err(|error| match error {
        UploadError::Io(error) => LeftOut::Unread(error),
        error => LeftOut::NoUpload(error),
    })
}
