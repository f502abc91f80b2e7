//! Images that a script fetched, and what is to be started of them. Pure.

use std::sync::Arc;

use super::error::ScriptError;
use super::lex::Script;

/// Most images at a time; each is a fetch that somebody else pays for.
const MAX_IMAGES: usize = 64;

/// One fetched image. Its bytes are with whoever fetched it, under its number.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) url: String,
    /// Where it was found in the end, where that is elsewhere.
    pub(super) found: Option<String>,
    /// What follows the URL: the command line of a kernel, path and mode of an initrd.
    pub(super) args: String,
    pub(super) script: Option<Arc<Script>>,
    /// A script that runs is no image until it ends, so that it may chain to another state of itself.
    pub(super) is_running: bool,
    /// It was named to be run, and not to be handed to a kernel.
    pub(super) has_run: bool,
}

/// A file that the kernel unpacks before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initrd {
    /// The number that [`super::Request::Fetch`] gave it.
    pub image: usize,
    pub name: String,
    pub url: String,
    /// Where the file is to be, when it is a plain one that has to be packed.
    pub place: Option<Place>,
}

/// `initrd URL /PATH mode=755 mkdir=1`: a plain file and its place in the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// How many of the folders that it lies in are made, the innermost first.
    pub folders: usize,
}

/// What a script wants started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The kernel's number, as in [`super::Request::Fetch`].
    pub kernel: usize,
    pub url: String,
    pub command_line: String,
    /// In the order in which they are to be unpacked.
    pub initrds: Vec<Initrd>,
}

/// All images that were fetched and not freed, and which of them is selected.
#[derive(Debug, Default)]
pub(super) struct Images {
    images: Vec<Image>,
    selected: Option<usize>,
    taken: usize,
}

impl Images {
    /// # Errors
    /// There are as many as may be.
    pub(super) fn number(&mut self) -> Result<usize, ScriptError> {
        if self.images.len() >= MAX_IMAGES {
            return Err(ScriptError::TooMuch("images"));
        }
        self.taken += 1;
        Ok(self.taken)
    }

    /// One of the same name gives way, as in iPXE. Returns whether that was the selected one, and none is now.
    pub(super) fn keep(&mut self, image: Image, selected: bool) -> bool {
        let had = self.has_selected();
        self.images.retain(|other| other.name != image.name);
        if selected {
            self.selected = Some(image.number);
        }
        self.images.push(image);
        had && !self.has_selected()
    }

    fn has_selected(&self) -> bool {
        self.selected.is_some_and(|number| self.has(number))
    }

    pub(super) fn is_selected(&self, number: usize) -> bool {
        self.selected == Some(number)
    }

    /// By its name alone, as in iPXE: the same URL is fetched again.
    pub(super) fn find(&self, name: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.name == name && !image.is_running)
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut Image> {
        let mut images = self.images.iter_mut();
        images.find(|image| image.name == name && !image.is_running)
    }

    pub(super) fn set_running(&mut self, number: usize, is_running: bool) {
        if let Some(image) = self.images.iter_mut().find(|image| image.number == number) {
            image.is_running = is_running;
            image.has_run |= is_running;
        }
    }

    pub(super) fn has(&self, number: usize) -> bool {
        self.images.iter().any(|image| image.number == number)
    }

    pub(super) fn scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.images.iter().filter_map(|image| image.script.as_ref())
    }

    pub(super) fn select(&mut self, number: usize) {
        self.selected = Some(number);
    }

    /// The one that `boot` without a name means: the selected one, or the only one there is.
    pub(super) fn selected(&self) -> Option<&Image> {
        let mut images = self.images.iter().filter(|image| !image.is_running);
        match self.selected {
            Some(selected) => images.find(|image| image.number == selected),
            None => images.next().filter(|_| images.next().is_none()),
        }
    }

    /// Frees one image, or all.
    pub(super) fn free(&mut self, number: Option<usize>) {
        self.images
            .retain(|image| number.is_some_and(|number| image.number != number));
        self.selected = self
            .selected
            .filter(|selected| self.images.iter().any(|image| image.number == *selected));
    }

    /// What starting this kernel means: every other image is an initrd, but for scripts that ran. One that did not was named for the
    /// kernel, by mistake or as a plain file: whoever starts it looks at that.
    pub(super) fn plan(&self, kernel: &Image) -> Plan {
        let others = self
            .images
            .iter()
            .filter(|image| image.number != kernel.number && !image.has_run);
        let initrd = |image: &Image| Initrd {
            image: image.number,
            name: image.name.clone(),
            url: image.url.clone(),
            place: place(&image.args),
        };
        Plan {
            kernel: kernel.number,
            url: kernel.url.clone(),
            command_line: kernel.args.clone(),
            initrds: others.map(initrd).collect(),
        }
    }
}

/// What iPXE packs into a cpio archive of its own (its `core/cpio.c`): only what has a path that begins with a slash.
fn place(args: &str) -> Option<Place> {
    let mut words = args.split(' ').filter(|word| !word.is_empty());
    let path = words.next().filter(|word| word.starts_with('/'))?;
    let value = |name: &str| words.clone().find_map(|word| word.strip_prefix(name));
    let mode = value("mode=").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let folders = match value("mkdir=") {
        // All of them.
        Some("-1") => usize::MAX,
        Some(count) => count.parse().unwrap_or(0),
        None => 0,
    };
    Some(Place {
        path: path.trim_start_matches('/').to_owned(),
        mode: mode.unwrap_or(0o644) & 0o7777,
        folders,
    })
}
