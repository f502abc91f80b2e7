//! The root tree of the image: paths as they are inside it, files unpacked, and what its kernel's modules say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::formats::modules::alias_matches;
use crate::formats::modules::depmod::{self, Setting};
use anyhow::{Context, bail};
use lzma_rust2::XzReader;

/// Links on one way through a tree; more is a circle.
const MAX_LINKS: usize = 40;
/// What unpacking one file of xz may take; its highest level takes 65 MiB (xz(1)).
pub(crate) const XZ_MEMORY_KIB: u32 = 128 << 10;

/// A folder that is some system's root: links lead nowhere outside.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(root: &Path) -> Tree {
        Tree { root: root.to_owned() }
    }

    /// Where a path of the tree leads, as a path of the tree that no link is part of. `None` where nothing is.
    pub(crate) fn real(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut real: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    real.pop();
                    continue;
                }
                _ => real.push(part),
            }
            let here = self.outside(&real.join("/"));
            let Ok(target) = fs::read_link(&here) else {
                here.symlink_metadata().ok()?;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            let target = target.to_str()?.to_owned();
            real.pop();
            if target.starts_with('/') {
                real.clear();
            }
            rest.extend(target.split('/').rev().map(str::to_owned));
        }
        Some(format!("/{}", real.join("/")))
    }

    /// The same as a path on this machine.
    pub(crate) fn at(&self, path: &str) -> Option<PathBuf> {
        Some(self.outside(&self.real(path)?))
    }

    /// The path on this machine of a path in the tree.
    fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn read(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let real = self.real(path).with_context(|| format!("no {path} in the tree"))?;
        fs::read(self.outside(&real)).with_context(|| format!("reading {path} of the tree"))
    }

    fn text(&self, path: &str) -> anyhow::Result<String> {
        String::from_utf8(self.read(path)?).with_context(|| format!("{path} is no text"))
    }

    /// Whether a link to /dev/null lies there: an empty file, also where the tree has no such device.
    fn is_masked(&self, path: &str) -> bool {
        let place = path.rsplit_once('/');
        let place = place.and_then(|(folder, name)| Some(format!("{}/{name}", self.real(folder)?)));
        let target = place.and_then(|place| fs::read_link(self.outside(&place)).ok());
        target.is_some_and(|target| target == Path::new("/dev/null"))
    }

    /// What a file holds, unpacked by its ending.
    pub(super) fn unpacked(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let packed = self.read(path)?;
        let mut bytes = Vec::new();
        let unpacked = match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "gz" => flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut bytes)
                .map(|_| bytes),
            "zst" => zstd::stream::decode_all(&packed[..]),
            "xz" => unxz(&packed),
            _ => return Ok(packed),
        };
        unpacked.with_context(|| format!("unpacking {path}"))
    }

    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let real = self.real(folder).map(|real| fs::read_dir(self.outside(&real)));
        let entries = real.into_iter().flatten().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub(super) fn mode(&self, path: &str) -> anyhow::Result<u32> {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::metadata(self.outside(path))?.permissions().mode() & 0o777)
    }

    /// Every file and link below a folder, as paths from there, sorted.
    pub(super) fn below(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut next = vec![String::new()];
        while let Some(part) = next.pop() {
            for name in self.names(&format!("{folder}/{part}")) {
                let inner = if part.is_empty() {
                    name
                } else {
                    format!("{part}/{name}")
                };
                match self.real(&format!("{folder}/{inner}")) {
                    Some(real) if self.outside(&real).is_dir() => next.push(inner),
                    Some(_) => found.push(inner),
                    None => {}
                }
            }
        }
        found.sort();
        found
    }
}

/// With one stream and nothing behind it, as kernels and drivers read it.
fn unxz(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    XzReader::new_mem_limit(packed, false, XZ_MEMORY_KIB).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A kernel module of the tree.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Below the folder of the version, as modules.dep has it.
    pub(super) path: String,
    /// Names, each behind what needs it.
    pub(super) needs: Vec<String>,
    /// Names of modules that should be before it.
    pub(super) soft: Vec<String>,
    pub(super) aliases: Vec<String>,
    pub(super) options: String,
}

/// All that modules.* and modprobe.d tell.
pub(super) struct Modules {
    pub(super) version: String,
    /// In the tree.
    pub(super) folder: String,
    pub(super) all: BTreeMap<String, Module>,
    pub(super) builtin: BTreeSet<String>,
    /// Paths of those that are built in. They do not tell which devices they drive.
    pub(super) inside: Vec<String>,
    /// Those that modprobe.d forbids.
    pub(super) never: BTreeSet<String>,
    /// Those that are not loaded for the sake of a device.
    pub(super) blacklist: BTreeSet<String>,
}

impl Modules {
    pub(super) fn read(tree: &Tree, kernel: Option<&str>) -> anyhow::Result<Modules> {
        let (version, folder) = version(tree, kernel)?;
        let text = |name: &str| tree.text(&format!("{folder}/{name}"));
        let mut all: BTreeMap<String, Module> = BTreeMap::new();
        for row in depmod::dependencies(&text("modules.dep")?) {
            let name = |path: &&str| depmod::module_name(path).with_context(|| format!("modules.dep names {path}"));
            let module = Module {
                path: row.path.to_owned(),
                needs: row.needs.iter().map(name).collect::<anyhow::Result<_>>()?,
                ..Module::default()
            };
            all.insert(name(&row.path)?, module);
        }
        for (pattern, name) in depmod::aliases(&text("modules.alias")?) {
            if let Some(module) = all.get_mut(name) {
                module.aliases.push(pattern.to_owned());
            }
        }
        let mut modules = Modules {
            version,
            builtin: depmod::builtin(&text("modules.builtin")?).collect(),
            all,
            inside: text("modules.builtin")?.lines().map(str::to_owned).collect(),
            never: BTreeSet::new(),
            blacklist: BTreeSet::new(),
            folder: folder.clone(),
        };
        let mut texts = vec![text("modules.softdep")?];
        texts.extend(modprobe_d(tree)?);
        for text in &texts {
            modules.add_settings(text);
        }
        Ok(modules)
    }

    fn add_settings(&mut self, text: &str) {
        for setting in depmod::settings(text) {
            match setting {
                Setting::Never(name) => drop(self.never.insert(name.replace('-', "_"))),
                Setting::Blacklist(name) => drop(self.blacklist.insert(name.replace('-', "_"))),
                Setting::Options(name, text) => {
                    if let Some(module) = self.all.get_mut(&name.replace('-', "_")) {
                        let blank = if module.options.is_empty() { "" } else { " " };
                        module.options.push_str(blank);
                        module.options.push_str(text);
                    }
                }
            }
        }
        for (name, before) in depmod::soft_dependencies(text) {
            let before: Vec<String> = before.into_iter().flat_map(|one| self.called(one)).collect();
            if let Some(module) = self.all.get_mut(&name.replace('-', "_")) {
                let new: Vec<String> = before.into_iter().filter(|one| !module.soft.contains(one)).collect();
                module.soft.extend(new);
            }
        }
    }

    /// The modules that a soft dependency means: by name, or else by alias. None for what is built in or not there.
    fn called(&self, word: &str) -> Vec<String> {
        let name = word.replace('-', "_");
        if self.all.contains_key(&name) {
            return vec![name];
        }
        if self.builtin.contains(&name) {
            return Vec::new();
        }
        let fits = |module: &Module| module.aliases.iter().any(|alias| alias_matches(alias, word));
        let found = self.all.iter().filter(|(_, module)| fits(module));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// Names with everything that those need, and what should be loaded before; a name that is not there is left out.
    pub(super) fn closure<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut next: Vec<&String> = names.into_iter().collect();
        while let Some(name) = next.pop() {
            if let Some(module) = self.all.get(name)
                && all.insert(name.clone())
            {
                next.extend(module.needs.iter().chain(&module.soft));
            }
        }
        all
    }
}

/// Version and folder of a kernel, or of the only one.
fn version(tree: &Tree, wanted: Option<&str>) -> anyhow::Result<(String, String)> {
    let mut found = Vec::new();
    // Where /lib is not a link to /usr/lib yet, it is there.
    for folder in ["/usr/lib/modules", "/lib/modules"] {
        for name in tree.names(folder) {
            let real = tree.real(&format!("{folder}/{name}/modules.dep"));
            if let Some(real) = real.and_then(|real| real.strip_suffix("/modules.dep").map(str::to_owned)) {
                found.push((name, real));
            }
        }
    }
    found.dedup();
    found.retain(|(name, _)| wanted.is_none_or(|wanted| wanted == name));
    match <[_; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(found) => bail!(
            "the tree has modules of {} kernels, and must have those of one: {found:?}",
            found.len()
        ),
    }
}

/// The texts of modprobe.d. A file in a folder named earlier stands for those of the same name in later ones (modprobe.d(5)).
fn modprobe_d(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let mut files = BTreeMap::new();
    for folder in [
        "/lib/modprobe.d",
        "/usr/lib/modprobe.d",
        "/run/modprobe.d",
        "/etc/modprobe.d",
    ] {
        for name in tree.names(folder).into_iter().filter(|name| name.ends_with(".conf")) {
            let path = format!("{folder}/{name}");
            files.insert(name, path);
        }
    }
    let read = files.values().filter(|path| !tree.is_masked(path));
    read.map(|path| tree.text(path)).collect()
}
