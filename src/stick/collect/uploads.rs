//! Which uploads a source has, a folder or a volume.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::formats::exfat::{Entry, ExFatError, Stream};
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
    pub(super) content: Content<'a>,
}

/// Where the bytes of a file are, or the entries of a folder.
pub(super) enum Content<'a> {
    Path(PathBuf),
    Volume(&'a Volume<'a>, Stream),
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
        Ok(match &self.content {
            Content::Path(path) => Box::new(file::open_plain(path)?),
            Content::Volume(volume, stream) => Box::new(volume.reader(stream)),
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

/// What is looked for in a folder: folders or files, by their names; at most `most`, and `more` is said where there are more.
struct Wanted<'a> {
    folders: bool,
    name: fn(&str) -> bool,
    most: usize,
    more: &'a str,
}

/// What stands in a folder.
struct Item<'a> {
    name: String,
    size: u64,
    stored_unix: Option<i64>,
    content: Content<'a>,
}

/// Why nothing is known of a folder.
#[derive(Debug, thiserror::Error)]
enum Unlisted {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Volume(#[from] ExFatError),
}

impl<'a> Content<'a> {
    /// What stands in a folder, which people know as `shown`; `unread` hears what it lacks.
    fn list(&self, shown: &str, wanted: &Wanted<'_>, unread: &mut Vec<String>) -> Result<Vec<Item<'a>>, Unlisted> {
        let (volume, mut listing) = match self {
            Content::Path(folder) => return Ok(list_path(folder, wanted, unread)?),
            Content::Volume(volume, stream) => (*volume, volume.list(stream)?),
        };
        match listing.damaged {
            0 => {}
            1 => unread.push(format!("1 damaged entry in {shown}")),
            damaged => unread.push(format!("{damaged} damaged entries in {shown}")),
        }
        if listing.cut {
            unread.push(format!(
                "the rest of {shown}: the folder is larger than any that is read"
            ));
        }
        let entries = &mut listing.entries;
        entries.retain(|entry| entry.is_folder == wanted.folders && (wanted.name)(&entry.name));
        if entries.len() > wanted.most {
            unread.push(wanted.more.to_owned());
            entries.truncate(wanted.most);
        }
        let items = listing.entries.into_iter().map(|entry| Item {
            size: entry.size(),
            stored_unix: entry.modified_unix,
            content: Content::Volume(volume, entry.stream),
            name: entry.name,
        });
        Ok(items.collect())
    }
}

/// As `Content::list`. What has a wanted name counts, whatever it is: nothing that is held or told grows with the folder.
fn list_path<'a>(folder: &Path, wanted: &Wanted<'_>, unread: &mut Vec<String>) -> io::Result<Vec<Item<'a>>> {
    let (mut items, mut count) = (Vec::new(), 0);
    for entry in fs::read_dir(folder)? {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                unread.push(format!("the rest of {}: {error}", folder.display()));
                break;
            }
        };
        let Some(name) = entry.file_name().into_string().ok().filter(|name| (wanted.name)(name)) else {
            continue;
        };
        if count >= wanted.most {
            unread.push(wanted.more.to_owned());
            break;
        }
        count += 1;
        // Of a link its own: what it leads to is not on this medium.
        let problem = match entry.file_type() {
            Ok(kind) if wanted.folders && !kind.is_dir() => Some(" is no folder, left out".to_owned()),
            Ok(_) => None,
            Err(error) => Some(format!(": {error}")),
        };
        if let Some(problem) = problem {
            unread.push(format!("{}{problem}", entry.path().display()));
            continue;
        }
        let metadata = entry.metadata().ok();
        items.push(Item {
            name,
            size: metadata.as_ref().map_or(0, fs::Metadata::len),
            stored_unix: metadata.as_ref().map(MetadataExt::mtime),
            content: Content::Path(entry.path()),
        });
    }
    Ok(items)
}

/// Files read of the folder of a node, of which a store keeps two uploads and a copy.
const MAX_FILES: usize = 1000;

/// The copy of its inventory that a node's folder has for people, beside the upload.
const COPY: &str = layout::INVENTORY;

/// The sentence for a folder with a copy and without an upload.
pub(super) fn gone(id: &NodeId) -> String {
    format!("nodes/{id}: its upload is gone; there is {COPY}, which nothing proves")
}

/// The uploads of a folder that is mounted.
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
    let shown = nodes.display().to_string();
    uploads((&Content::Path(nodes), &shown), (at, source), (most, u64::MAX), found)
}

/// The uploads of a volume of `length` bytes.
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
        Some(nodes) => Content::Volume(volume, nodes.stream),
        None if root.damaged > 0 || root.cut => {
            let reason = "no folder nodes is among what can be read of its root folder";
            return Err(failed(ExFatError::Damaged(reason.into())));
        }
        None => return Err(CollectError::NoNodes { path: path.to_owned() }),
    };
    uploads((&nodes, layout::NODES), (at, path), (most, length), found)
}

/// The uploads in the folders of `nodes`, of which at most `most` are read, up to the length of the medium each.
fn uploads<'a>(
    (nodes, shown): (&Content<'a>, &str),
    (at, source): (usize, &Path),
    (most, length): (usize, u64),
    found: &mut Found<'a>,
) -> Result<(), CollectError> {
    let path = || source.to_owned();
    let wanted = Wanted {
        folders: true,
        name: |name| name.parse::<NodeId>().is_ok(),
        most,
        more: &format!("nodes holds more than {most} nodes; the rest was left alone"),
    };
    let listed = nodes
        .list(shown, &wanted, &mut found.unread)
        .map_err(|error| match error {
            Unlisted::Volume(source) => CollectError::Volume { path: path(), source },
            Unlisted::Io(error) if error.kind() == io::ErrorKind::NotFound => CollectError::NoNodes { path: path() },
            Unlisted::Io(error) => read_error(&source.join(layout::NODES), error),
        })?;
    for folder in listed {
        let Ok(id) = folder.name.parse::<NodeId>() else {
            continue;
        };
        let shown = format!("{shown}/{}", folder.name);
        node_uploads((&folder.content, &shown), (at, id), length, found);
    }
    Ok(())
}

/// The uploads in the folder of one node.
fn node_uploads<'a>(
    (folder, shown): (&Content<'a>, &str),
    (source, id): (usize, NodeId),
    length: u64,
    found: &mut Found<'a>,
) {
    let uploads = found.nodes.entry(id.clone()).or_default();
    let wanted = Wanted {
        folders: false,
        name: |name| name == COPY || UploadName::parse(name).is_some(),
        most: MAX_FILES,
        more: &format!("the rest of {shown}: it holds more than {MAX_FILES} uploads"),
    };
    let files = match folder.list(shown, &wanted, &mut found.unread) {
        Ok(files) => files,
        Err(error) => return found.unread.push(format!("{shown}: {}", cause::told(&error))),
    };
    let (before, mut copied) = (uploads.len(), false);
    for file in files {
        copied |= file.name == COPY;
        let Some(name) = UploadName::parse(&file.name) else {
            continue;
        };
        if file.size > length {
            let text = format!("nodes/{id}/{name}: it claims to be larger than the medium");
            found.unread.push(text);
            continue;
        }
        uploads.push(OnSource {
            source,
            id: id.clone(),
            name,
            size: file.size,
            stored_unix: file.stored_unix,
            summary: None,
            content: file.content,
        });
    }
    if copied && uploads.len() == before {
        found.unread.push(gone(&id));
    }
}
