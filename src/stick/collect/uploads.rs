//! Which uploads a source has, a folder or a volume.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::formats::exfat::{Entry, ExFatError, Listing};
use crate::model::{NodeId, cause, layout};
use crate::stick::collect::error::{CollectError, read_error};
use crate::stick::collect::volume::Volume;
use crate::store::UploadName;
use crate::store::archive::Upload;
use crate::sys::file;

/// One upload on the source.
pub(super) struct OnSource<'a> {
    /// Which source, by its place on the command line.
    pub(super) source: usize,
    /// Its folder there; in the end the name it is taken under.
    pub(super) id: NodeId,
    pub(super) name: UploadName,
    pub(super) size: u64,
    pub(super) stored_unix: Option<i64>,
    /// One line of its machine, once it is checked.
    pub(super) summary: Option<String>,
    pub(super) place: Place<'a>,
}

pub(super) enum Place<'a> {
    Path(PathBuf),
    Volume(&'a Volume<'a>, Entry),
}

impl Upload for OnSource<'_> {
    fn id(&self) -> &NodeId {
        &self.id
    }

    fn name(&self) -> UploadName {
        self.name
    }

    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.place {
            Place::Path(path) => Box::new(file::open_plain(path)?),
            Place::Volume(volume, entry) => Box::new(volume.reader(&entry.stream)),
        })
    }
}

#[derive(Default)]
pub(super) struct Found<'a> {
    /// By folder; sources may share the name of one.
    pub(super) nodes: BTreeMap<NodeId, Vec<OnSource<'a>>>,
    pub(super) warnings: Vec<String>,
    pub(super) unread: Vec<String>,
}

impl Found<'_> {
    /// What a listing of `folder` says that it lacks.
    fn entries_unread(&mut self, folder: &str, listing: &Listing) {
        match listing.damaged {
            0 => {}
            1 => self.unread.push(format!("1 damaged entry in {folder}")),
            damaged => self.unread.push(format!("{damaged} damaged entries in {folder}")),
        }
        if listing.cut {
            self.unread.push(format!(
                "the rest of {folder}: the folder is larger than any that is read"
            ));
        }
    }
}

/// The copy of its inventory that a node's folder has for people, beside the upload.
const COPY: &str = layout::INVENTORY;

/// The sentence for a folder with a copy and without an upload.
pub(super) fn gone(id: &NodeId) -> String {
    format!("nodes/{id}: its upload is gone; there is {COPY}, which nothing proves")
}

/// The sentence for a bound that was met.
fn too_many(most: usize) -> String {
    format!("nodes holds more than {most} nodes; the rest was left alone")
}

pub(super) fn folder_uploads(
    (at, source): (usize, &Path),
    most: usize,
    found: &mut Found<'_>,
) -> Result<(), CollectError> {
    let nodes = source.join(layout::NODES);
    // What a link leads to is not on this medium.
    if fs::symlink_metadata(&nodes).is_ok_and(|found| !found.is_dir()) {
        return Err(CollectError::NoData {
            path: source.to_owned(),
            reason: "nodes is no folder".to_owned(),
        });
    }
    let entries = match fs::read_dir(&nodes) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::NoNodes {
                path: source.to_owned(),
            });
        }
        Err(error) => return Err(read_error(&nodes, error)),
    };
    let mut folders = 0;
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.unread.push(format!("the rest of {}: {error}", nodes.display()));
                break;
            }
        };
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<NodeId>().ok()) else {
            continue;
        };
        if folders >= most {
            found.unread.push(too_many(most));
            break;
        }
        folders += 1;
        let shown = entry.path().display().to_string();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => {
                found.unread.push(format!("{shown} is no folder, left out"));
                continue;
            }
            Err(error) => {
                found.unread.push(format!("{shown}: {error}"));
                continue;
            }
        }
        node_folder(&entry.path(), &id, at, found);
    }
    Ok(())
}

/// The uploads in the folder of one node.
fn node_folder(folder: &Path, id: &NodeId, source: usize, found: &mut Found<'_>) {
    let shown = folder.display();
    let uploads = found.nodes.entry(id.clone()).or_default();
    let (before, mut copied) = (uploads.len(), false);
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) => {
            found.unread.push(format!("{shown}: {error}"));
            return;
        }
    };
    for file in files {
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                found.unread.push(format!("the rest of {shown}: {error}"));
                break;
            }
        };
        copied |= file.file_name() == COPY;
        let Some(name) = file.file_name().to_str().and_then(UploadName::parse) else {
            continue;
        };
        let metadata = file.metadata().ok();
        uploads.push(OnSource {
            source,
            id: id.clone(),
            name,
            size: metadata.as_ref().map_or(0, fs::Metadata::len),
            stored_unix: metadata.as_ref().map(MetadataExt::mtime),
            summary: None,
            place: Place::Path(file.path()),
        });
    }
    if copied && uploads.len() == before {
        found.unread.push(gone(id));
    }
}

pub(super) fn volume_uploads<'a>(
    volume: &'a Volume<'a>,
    length: u64,
    (at, path): (usize, &Path),
    most: usize,
    found: &mut Found<'a>,
) -> Result<(), CollectError> {
    let failed = |source| CollectError::Volume {
        path: path.to_owned(),
        source,
    };
    let root = volume.list(&volume.root()).map_err(failed)?;
    let is_nodes = |entry: &&Entry| entry.is_folder && entry.name.eq_ignore_ascii_case(layout::NODES);
    let nodes = match root.entries.iter().find(is_nodes) {
        Some(nodes) => nodes,
        None if root.damaged > 0 || root.cut => {
            let reason = "no folder nodes is among what can be read of its root folder";
            return Err(failed(ExFatError::Damaged(reason.into())));
        }
        None => return Err(CollectError::NoNodes { path: path.to_owned() }),
    };
    let listing = volume.list(&nodes.stream).map_err(failed)?;
    found.entries_unread(layout::NODES, &listing);
    let mut folders = 0;
    for folder in listing.entries.into_iter().filter(|entry| entry.is_folder) {
        let Ok(id) = folder.name.parse::<NodeId>() else {
            continue;
        };
        if folders >= most {
            found.unread.push(too_many(most));
            break;
        }
        folders += 1;
        node_entries((volume, length), &folder, &id, at, found);
    }
    Ok(())
}

/// The uploads in the folder of one node on a volume of `length` bytes.
fn node_entries<'a>(
    (volume, length): (&'a Volume<'a>, u64),
    folder: &Entry,
    id: &NodeId,
    source: usize,
    found: &mut Found<'a>,
) {
    found.nodes.entry(id.clone()).or_default();
    let files = match volume.list(&folder.stream) {
        Ok(files) => files,
        Err(error) => {
            found.unread.push(format!("nodes/{id}: {}", cause::told(&error)));
            return;
        }
    };
    found.entries_unread(&format!("nodes/{id}"), &files);
    let uploads = found.nodes.entry(id.clone()).or_default();
    let (before, mut copied) = (uploads.len(), false);
    for entry in files.entries {
        copied |= entry.name == COPY;
        let Some(name) = UploadName::parse(&entry.name).filter(|_| !entry.is_folder) else {
            continue;
        };
        if entry.size() > length {
            found
                .unread
                .push(format!("nodes/{id}/{name}: it claims to be larger than the medium"));
            continue;
        }
        uploads.push(OnSource {
            source,
            id: id.clone(),
            name,
            size: entry.size(),
            stored_unix: entry.modified_unix,
            summary: None,
            place: Place::Volume(volume, entry),
        });
    }
    if copied && uploads.len() == before {
        found.unread.push(gone(id));
    }
}
