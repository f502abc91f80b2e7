//! The files of the first stage from the plan: contents, images, the pack and its manifest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::formats::cpio::Archive;
use crate::formats::modules::{self, Packed, Parts, alias_matches, depmod};
use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::elf::{self, Files};
use super::plan::{Names, Plan};
use super::table::{Table, fits};
use super::tree::{Modules, Tree};

/// The level that takes longest with a window of 8 MiB, which is the most that a small machine should keep for it.
const ZSTD_LEVEL: i32 = 19;

/// Folders of the tree where firmware lies.
const FIRMWARE: [&str; 2] = ["/usr/lib/firmware", "/lib/firmware"];

/// A module as it goes into an image.
pub(super) struct Content {
    /// Where it lies in an image.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    /// Paths in [`Contents::firmware`].
    pub(super) firmware: Vec<String>,
}

/// Everything that a piece may be made of, by name of the module and by path in an image.
pub(super) struct Contents {
    pub(super) modules: BTreeMap<String, Content>,
    pub(super) firmware: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    /// Reads the modules and whatever firmware they name that the tree has.
    pub(super) fn read(tree: &Tree, modules: &Modules, table: &Table, names: &Names) -> anyhow::Result<Contents> {
        let there = FirmwareTree::new(tree, table);
        let mut contents = Contents {
            modules: BTreeMap::new(),
            firmware: BTreeMap::new(),
        };
        for name in names {
            let path = &modules.all[name].path;
            let bytes = tree.unpacked(&format!("{}/{path}", modules.folder))?;
            let wanted = elf::firmware(&bytes).with_context(|| path.clone())?;
            let mut firmware = Vec::new();
            for name in wanted.iter().flat_map(|pattern| there.named(pattern)) {
                let path = format!("/usr/lib/firmware/{name}");
                if !contents.firmware.contains_key(&path) {
                    contents.firmware.insert(path.clone(), tree.unpacked(&there.0[name])?);
                }
                if !firmware.contains(&path) {
                    firmware.push(path);
                }
            }
            let stem = depmod::stem(path).unwrap_or(path);
            let content = Content {
                path: format!("/usr/lib/modules/{}/{stem}.ko", modules.version),
                bytes,
                firmware,
            };
            contents.modules.insert(name.clone(), content);
        }
        Ok(contents)
    }

    /// Bytes of some modules and of their firmware.
    pub(super) fn sizes(&self, names: &Names) -> (usize, usize) {
        let modules = names.iter().map(|name| self.modules[name].bytes.len()).sum();
        let firmware = self
            .firmware_of(names)
            .iter()
            .map(|path| self.firmware[*path].len())
            .sum();
        (modules, firmware)
    }

    fn firmware_of(&self, names: &Names) -> BTreeSet<&String> {
        names.iter().flat_map(|name| &self.modules[name].firmware).collect()
    }

    /// Adds modules and their firmware to an archive.
    pub(super) fn add(&self, archive: &mut Archive, names: &Names) -> anyhow::Result<()> {
        for content in names.iter().map(|name| &self.modules[name]) {
            archive.file(&content.path, 0o644, &content.bytes)?;
        }
        for path in self.firmware_of(names) {
            archive.file(path, 0o644, &self.firmware[path])?;
        }
        Ok(())
    }

    /// An image of some modules.
    pub(super) fn image(&self, names: &Names) -> anyhow::Result<Vec<u8>> {
        let mut archive = Archive::default();
        self.add(&mut archive, names)?;
        zstd(&archive.finish()?)
    }
}

/// Firmware by the name that a driver asks for, and where it is in the tree.
struct FirmwareTree(BTreeMap<String, String>);

impl FirmwareTree {
    fn new(tree: &Tree, table: &Table) -> FirmwareTree {
        let mut there = BTreeMap::new();
        for folder in FIRMWARE {
            for file in tree.below(folder) {
                let name = [".xz", ".zst"]
                    .iter()
                    .find_map(|ending| file.strip_suffix(ending))
                    .unwrap_or(&file);
                if !table.no_firmware.iter().any(|(glob, _)| fits([glob], name)) {
                    there.insert(name.to_owned(), format!("{folder}/{file}"));
                }
            }
        }
        FirmwareTree(there)
    }

    /// What a module's word means: a name, or a pattern.
    fn named(&self, word: &str) -> Vec<&String> {
        match self.0.get_key_value(word) {
            Some((name, _)) => vec![name],
            None if word.contains('*') => self.0.keys().filter(|name| alias_matches(word, name)).collect(),
            None => Vec::new(),
        }
    }
}

pub(super) fn zstd(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut packer = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    // A damaged image is noticed when it is unpacked.
    packer.include_checksum(true)?;
    Ok(packer.compress(bytes)?)
}

/// Does the same to each, on all processors; the answers are in the order of the questions.
pub(super) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some((number, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|number| Some((number, items.get(number)?)))
                {
                    let answer = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((number, answer));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, answer)| answer).collect()
}

/// Programs that are fetched together.
#[derive(Default)]
pub(super) struct Group {
    /// Path in an image, and where it is in the tree.
    pub(super) files: BTreeMap<String, String>,
    pub(super) links: BTreeMap<String, String>,
}

/// The groups of the table, and the programs that the tree does not have.
pub(super) fn groups(tree: &Tree, table: &Table) -> anyhow::Result<(BTreeMap<String, Group>, Vec<String>)> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, program) in &table.groups {
        let group = groups.entry(name.clone()).or_default();
        let (called, program) = program.split_once('=').unwrap_or((program, program));
        let is_file = program.starts_with('/');
        let folders: &[&str] = match is_file {
            true => &[""],
            false => &["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"],
        };
        let mut places = folders.iter().map(|folder| format!("{folder}{program}"));
        let Some(path) = places.find(|path| tree.real(path).is_some()) else {
            // Of files each distribution has its own.
            if !is_file {
                missing.push(format!("{name}: {program}"));
            }
            continue;
        };
        let mut files = Files::new();
        elf::add_with_libraries(tree, &path, &mut files)?;
        for (asked, real) in &files {
            let (asked, kept) = (merged(asked), merged(real));
            if asked != kept {
                group.links.insert(asked, kept.clone());
            }
            group.files.insert(kept, real.clone());
        }
        if called != program {
            let real = merged(&files[&path]);
            group.links.insert(format!("/usr/bin/{called}"), real);
        }
    }
    // A path that is a file by one way and a link by another is the file.
    for group in groups.values_mut() {
        group.links.retain(|path, _| !group.files.contains_key(path));
    }
    Ok((groups, missing))
}

/// A path in the first stage, where everything is below /usr.
fn merged(path: &str) -> String {
    let folders = ["/bin/", "/sbin/", "/lib/", "/lib64/"];
    let is_outside = folders.iter().any(|folder| path.starts_with(folder));
    if is_outside {
        format!("/usr{path}")
    } else {
        path.to_owned()
    }
}

/// The pack: gzip members one after another, and where each is.
pub(super) fn pack(files: &BTreeMap<String, (u32, &[u8])>) -> anyhow::Result<(Vec<u8>, Vec<Packed>)> {
    let sums: BTreeMap<&String, [u8; 32]> = files
        .iter()
        .map(|(path, (_, bytes))| (path, Sha256::digest(bytes).into()))
        .collect();
    // What lies under two names is packed once.
    let different: BTreeMap<[u8; 32], &[u8]> = files.iter().map(|(path, (_, bytes))| (sums[path], *bytes)).collect();
    let different: Vec<([u8; 32], &[u8])> = different.into_iter().collect();
    let members = each(&different, |(sum, bytes)| gzip(bytes).map(|member| (*sum, member)));
    let members: HashMap<[u8; 32], Vec<u8>> = members.into_iter().collect::<std::io::Result<_>>()?;
    let mut places: HashMap<[u8; 32], u64> = HashMap::new();
    let (mut out, mut rows) = (Vec::new(), Vec::new());
    for (path, (mode, bytes)) in files {
        let sha256 = sums[path];
        let member = &members[&sha256];
        let offset = *places.entry(sha256).or_insert_with(|| {
            let offset = out.len() as u64;
            out.extend(member);
            offset
        });
        rows.push(Packed {
            path: path.clone(),
            mode: *mode,
            offset,
            packed: member.len() as u64,
            size: bytes.len() as u64,
            sha256,
        });
    }
    Ok((out, rows))
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes)?;
    packer.finish()
}

/// The manifest's records of all modules of the plan.
pub(super) fn module_records(modules: &Modules, plan: &Plan, contents: &Contents) -> Parts {
    let mut parts = Parts {
        kernel: modules.version.clone(),
        builtin: modules.builtin.iter().cloned().collect(),
        ..Parts::default()
    };
    for name in plan.base.iter().chain(&plan.pack) {
        let (module, content) = (&modules.all[name], &contents.modules[name]);
        let soft = module.soft.iter().filter(|soft| contents.modules.contains_key(*soft));
        parts.modules.push(modules::Module {
            name: name.clone(),
            path: content.path.clone(),
            deps: module.needs.clone(),
            soft: soft.cloned().collect(),
            firmware: content.firmware.clone(),
            options: module.options.clone(),
        });
        if !modules.blacklist.contains(name) {
            let aliases = module.aliases.iter();
            parts.aliases.extend(aliases.map(|alias| (alias.clone(), name.clone())));
        }
    }
    parts
}
