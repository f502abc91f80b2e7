//! The upload: `inventory.json`, `raw/…`, `post/…` in one tar.gz, within what the master takes.

use std::io::Write;

use anyhow::Context;
use hyper::body::Bytes;

use crate::model::inventory::{Item, PartStatus};
use crate::model::layout;
use crate::store::upload::UploadLimits;

use super::document;
use super::post::Results;
use super::retry::Form;
use crate::role::peer::collect::Snapshot;

/// A name up to this many bytes fits the header of its entry; a longer one costs an entry of its own (tar(5), GNU).
const SHORT_NAME: usize = 100;

/// Packs `snapshot` with what the workload left, in `form`. `notes` are remarks about the upload itself; they stand in `run` of the
/// document.
pub(crate) fn pack(
    snapshot: &Snapshot,
    results: Option<&Results>,
    form: Form,
    notes: &[String],
) -> anyhow::Result<Bytes> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut tar = tar::Builder::new(gzip);
    let mut add = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes)
            .with_context(|| format!("adding {name}"))
    };
    let limits = UploadLimits::default();
    // Beside the document and what post.sh said, so that the master does not refuse all because of one too many.
    let mut room = limits.entries - 3;
    let mut fits = |name: &str| {
        let left = room.checked_sub(1 + usize::from(name.len() > SHORT_NAME));
        room = left.unwrap_or(room);
        left.is_some()
    };
    let results = results.filter(|_| form < Form::WithoutResults);
    let raw = snapshot.raw.iter().filter(|_| form < Form::WithoutRaw);
    let raw = raw.map(|(name, bytes)| (format!("raw/{name}"), bytes));
    let files = results.into_iter().flat_map(|results| &results.files);
    let files = files.map(|(name, bytes)| (format!("post/result/{name}"), bytes));
    let (kept, left_out): (Vec<_>, Vec<_>) = raw.into_iter().chain(files).partition(|(name, _)| fits(name));

    let mut inventory = snapshot.inventory.clone();
    let mut note = |part, text: String| inventory.run.items.push(Item::gap(part, PartStatus::Failed, text));
    notes.iter().cloned().for_each(|text| note("upload", text));
    if let Some((first, _)) = left_out.first() {
        let (some, limit) = (left_out.len(), limits.entries);
        let text = format!("{some} files were left out, {first} first: an upload has at most {limit} entries");
        note("upload", text);
    }
    for problem in results.into_iter().flat_map(|results| &results.status.problems) {
        note("post", problem.clone());
    }
    let limit = usize::try_from(limits.inventory_bytes).unwrap_or(usize::MAX);
    let document = match form {
        Form::Lean => document::lean(&inventory, limit)?,
        _ => document::document(&inventory, limit)?,
    };
    add(layout::INVENTORY, &document)?;
    if let Some(results) = results {
        add("post/status.json", &serde_json::to_vec_pretty(&results.status)?)?;
        add("post/output.txt", &results.output)?;
    }
    for (name, bytes) in kept {
        add(&name, bytes)?;
    }
    let mut gzip = tar.into_inner()?;
    gzip.flush()?;
    Ok(gzip.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::Inventory;
    use crate::probe::{Options, Root, collect};
    use crate::role::peer::post::Status;
    use crate::store::upload;

    fn snapshot(raw: usize) -> Snapshot {
        let dir = tempfile::tempdir().unwrap();
        Snapshot {
            inventory: collect(&Root::at(dir.path()), None, &Options::new("")),
            raw: (0..raw).map(|number| (format!("r{number}"), vec![1])).collect(),
            complete: true,
            awaits_cables: false,
            awaits_storage: None,
        }
    }

    fn results(names: impl Iterator<Item = String>) -> Results {
        Results {
            status: Status {
                succeeded: true,
                exit_code: Some(0),
                problems: vec!["something was cut".to_owned()],
                duration_seconds: 0.0,
            },
            output: b"done\n".to_vec(),
            files: names.map(|name| (name, vec![1])).collect(),
        }
    }

    /// The document of an upload that the master would take, and the names in it.
    fn taken(upload: &[u8]) -> (Inventory, Vec<String>) {
        let mut text = Vec::new();
        upload::inventory(upload, &UploadLimits::default(), |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        upload::check(upload, &UploadLimits::default()).unwrap();
        let mut names = Vec::new();
        upload::walk(upload, &UploadLimits::default(), |item| {
            names.push(item.path.to_owned());
            Ok(())
        })
        .unwrap();
        (serde_json::from_slice(&text).unwrap(), names)
    }

    fn said(inventory: &Inventory) -> String {
        let items = inventory.run.items.iter().filter(|item| item.is_gap());
        let said: Vec<_> = items.filter_map(|item| item.reason.clone()).collect();
        said.join("; ")
    }

    #[test]
    fn however_many_files_there_are_the_master_takes_the_upload() {
        for long in [false, true] {
            let tail = "x".repeat(if long { 200 } else { 0 });
            let results = results((0..12_000).map(|number| format!("{number:05}{tail}")));
            let upload = pack(&snapshot(3), Some(&results), Form::Whole, &[]).unwrap();
            let (inventory, names) = taken(&upload);
            let want = (UploadLimits::default().entries - 6) / if long { 2 } else { 1 };
            assert_eq!(
                names.iter().filter(|name| name.starts_with("post/result/")).count(),
                want
            );
            let said = said(&inventory);
            assert!(
                said.contains(&format!("{} files were left out", 12_000 - want)),
                "{said}"
            );
            assert!(said.contains("something was cut"), "{said}");
        }
    }

    #[test]
    fn each_form_lacks_more_and_says_what() {
        let (snapshot, results) = (snapshot(2), results(["a".to_owned()].into_iter()));
        let notes = ["the master refused it".to_owned()];
        let mut counts = Vec::new();
        for form in [Form::Whole, Form::WithoutResults, Form::WithoutRaw, Form::Lean] {
            let (inventory, names) = taken(&pack(&snapshot, Some(&results), form, &notes).unwrap());
            assert!(said(&inventory).contains("the master refused it"));
            counts.push(names.len());
        }
        assert_eq!(counts, [6, 3, 1, 1]);
    }
}
