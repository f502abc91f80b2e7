//! Images of diskless nodes on the data partition: which version a word of the settings means now, and what a node starts from it.
//! A version never changes, so one that was read is remembered for as long as it is there; which one is the current one is looked up each
//! time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::formats::first_stage::FirstStage;
use crate::formats::image::{self, FIRST_STAGE, KERNEL, MANIFEST, MAX_BYTES, Manifest, ROOT, SQUASHFS};
use crate::model::slice::Slice;
use crate::model::{ImageName, ImageVersion, ImageWord, PinnedImage, layout};
use crate::store::images;
use crate::sys::file::open_plain;

/// Versions that are remembered; beyond them all are read anew.
const MAX_KNOWN: usize = 64;

/// What nodes start from this master.
#[derive(Debug)]
pub struct Images {
    data: PathBuf,
    known: Mutex<HashMap<(ImageName, ImageVersion), Arc<Image>>>,
}

/// A version of an image.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) pinned: PinnedImage,
    pub(crate) kernel_bytes: u64,
    pub(crate) first_stage: FirstStage,
}

impl Images {
    /// `data`: the root of the data partition.
    pub(crate) fn new(data: &Path) -> Self {
        Images {
            data: data.to_owned(),
            known: Mutex::default(),
        }
    }

    /// What a word means now. Blocks.
    ///
    /// # Errors
    /// There is no such image, or what is there is not whole; as a sentence.
    pub(crate) fn find(&self, word: &ImageWord) -> Result<Arc<Image>, String> {
        let wrong = |why: String| format!("image {word}: {why}");
        let version = match &word.version {
            Some(version) => version.clone(),
            None => images::current(&self.data, &word.name).map_err(wrong)?,
        };
        let key = (word.name.clone(), version);
        let is_there = self.folder(&key.0, &key.1).join(MANIFEST).is_file();
        if let Some(image) = self
            .known
            .lock()
            .expect("no holder panics")
            .get(&key)
            .filter(|_| is_there)
        {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(self.read(&key.0, &key.1).map_err(wrong)?);
        let mut known = self.known.lock().expect("no holder panics");
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, Arc::clone(&image));
        Ok(image)
    }

    /// The version that counted before this one, where the settings leave it open which counts. Blocks.
    pub(crate) fn previous(&self, word: &ImageWord) -> Option<ImageVersion> {
        match word.version {
            Some(_) => None,
            None => images::previous(&self.data, &word.name),
        }
    }

    /// Whether a version was up on some node. Blocks.
    pub(crate) fn was_up(&self, name: &ImageName, version: &ImageVersion) -> bool {
        images::was_up(&self.data, name, version)
    }

    /// A version is up on some node. Blocks.
    ///
    /// # Errors
    /// It cannot be kept.
    pub(crate) fn mark_up(&self, name: &ImageName, version: &ImageVersion) -> io::Result<()> {
        images::mark_up(&self.data, name, version)
    }

    fn folder(&self, name: &ImageName, version: &ImageVersion) -> PathBuf {
        let images = self.data.join(layout::IMAGES);
        images.join(name.as_str()).join(version.as_str())
    }

    fn read(&self, name: &ImageName, version: &ImageVersion) -> Result<Image, String> {
        let folder = self.folder(name, version);
        let bytes = manifest(&folder)?;
        let manifest = Manifest::read(&bytes)?;
        if image::version(&bytes) != version.as_str() {
            return Err(format!(
                "its {MANIFEST} is that of the version {}",
                image::version(&bytes)
            ));
        }
        let parts = [(KERNEL, &manifest.kernel), (ROOT, &manifest.root.packed)];
        let squashfs = manifest.squashfs.as_ref().map(|part| (SQUASHFS, part));
        for (file, part) in parts.into_iter().chain(squashfs) {
            as_long_as_it_should_be(&folder.join(file), part.bytes)?;
        }
        for (file, part) in &manifest.first {
            as_long_as_it_should_be(&folder.join(FIRST_STAGE).join(file), part.bytes)?;
        }
        let slice = |names: &[&str]| {
            let path = folder.join(FIRST_STAGE).join(names.join("/"));
            let length = open_plain(&path)?.metadata()?.len();
            Ok(Slice {
                path,
                offset: 0,
                length,
                patches: Vec::new(),
            })
        };
        let first_stage = FirstStage::read(&slice, &whole)?.ok_or("it has no first stage")?;
        Ok(Image {
            pinned: PinnedImage {
                name: name.clone(),
                version: version.clone(),
                sum: image::sum(&bytes),
            },
            kernel_bytes: manifest.kernel.bytes,
            first_stage,
        })
    }
}

fn manifest(folder: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = open_plain(&folder.join(MANIFEST)).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("it is not on this master".to_owned()),
        Err(error) => Err(format!("{MANIFEST}: {error}")),
    }
}

/// A file that was cut is seen before a node comes to its end.
fn as_long_as_it_should_be(path: &Path, bytes: u64) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let is = open_plain(path).and_then(|file| file.metadata());
    let is = is.map_err(|error| format!("{name}: {error}"))?.len();
    match is == bytes {
        true => Ok(()),
        false => Err(format!(
            "{name} has {is} bytes, and its manifest says {bytes}: bring the image again"
        )),
    }
}

/// The bytes of a slice that is short.
fn whole(slice: &Slice) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(slice.length).map_err(io::Error::other)?];
    File::open(&slice.path)?.read_exact_at(&mut bytes, slice.offset)?;
    Ok(bytes)
}
