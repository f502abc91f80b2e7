//! What a machine starts from and what it fetches later, made from a root tree with one kernel: `base.img` (recon as the first program, its
//! manifest, what every machine needs before it has a link), `port/*.img` (a driver of network ports each, with whatever it needs),
//! `ports.img` (all of those that are not rare), `ports.tsv` (which driver a port needs) and `modules.pack` (all else). The same tree
//! gives the same bytes.

mod elf;
mod pieces;
mod plan;
mod report;
pub mod table;
pub mod tree;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::formats::cpio::Archive;
use crate::formats::first_stage::{BASE, PACK, PORTS, PortTable, TABLE};
use crate::formats::image::TRUSTED;
use crate::formats::modules::{Manifest, Parts};

use pieces::{Contents, Group, each, zstd};
use plan::{Names, Plan};
use table::Table;
use tree::{Modules, Tree};

/// Names for the numbers that files and processes have.
const USERS: [(&str, &str); 2] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
];

/// Where the manifest lies in `base.img`.
const MANIFEST: &str = "/usr/lib/recon/first-stage/manifest.tsv";

/// Everything that is written, and what it was made of.
pub struct Stage {
    /// Names of what would be modules elsewhere.
    built_in: Names,
    plan: Plan,
    contents: Contents,
    groups: BTreeMap<String, Group>,
    /// Programs of the table that the tree does not have.
    missing: Vec<String>,
    parts: Parts,
    manifest: String,
    base: Vec<u8>,
    ports: BTreeMap<String, Vec<u8>>,
    any_port: Vec<u8>,
    pack: Vec<u8>,
    patterns: String,
}

impl Stage {
    /// `trusted`: the keys of which one has to have signed what is started then; none where no signature is asked for.
    ///
    /// # Errors
    /// The tree has not this kernel, or without one said, not one alone; no driver of a network port, or something that cannot be read.
    pub fn make(
        tree: &Tree,
        kernel: Option<&str>,
        recon: &[u8],
        table: &Table,
        trusted: Option<&str>,
    ) -> anyhow::Result<Stage> {
        let mut modules = Modules::read(tree, kernel)?;
        let plan = plan::plan(&mut modules, table);
        ensure!(!plan.ports.is_empty(), "no driver of a network port in the tree");
        let all = plan.base.union(&plan.pack).cloned().collect();
        let contents = Contents::read(tree, &modules, table, &all)?;
        let (groups, missing) = pieces::groups(tree, table)?;
        let programs = read_groups(tree, &groups)?;
        let (pack, parts) = pack_and_manifest(&modules, &plan, &contents, &groups, &programs)?;
        let manifest = parts.to_string();
        Manifest::read(&manifest).context("the manifest would not be read")?;
        let ports: Vec<(&String, &Names)> = plan.ports.iter().collect();
        let images = each(&ports, |(name, names)| {
            contents.image(names).map(|image| ((*name).clone(), image))
        });
        let patterns = port_table(&plan);
        PortTable::read(&patterns)
            .map_err(anyhow::Error::msg)
            .context("ports.tsv would not be read")?;
        let built_in = modules
            .inside
            .iter()
            .filter_map(|path| crate::formats::modules::depmod::module_name(path));
        Ok(Stage {
            built_in: built_in.collect(),
            base: base(recon, &contents, &plan.base, &manifest, trusted)?,
            ports: images.into_iter().collect::<anyhow::Result<_>>()?,
            any_port: contents.image(&plan.any_port)?,
            patterns,
            plan,
            contents,
            groups,
            missing,
            parts,
            manifest,
            pack,
        })
    }

    /// Into a folder of their own; what is in it goes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, out: &Path) -> std::io::Result<()> {
        if out.exists() {
            fs::remove_dir_all(out)?;
        }
        fs::create_dir_all(out.join("port"))?;
        for (path, bytes) in self.files() {
            fs::write(out.join(path), bytes)?;
        }
        Ok(())
    }

    /// Whether what starts has this module before it reaches anybody, or needs none.
    pub(crate) fn has(&self, module: &str) -> bool {
        self.plan.base.contains(module) || self.built_in.contains(module)
    }

    /// All of them, by their paths below its folder. One that only nodes start from has no pack.
    pub(crate) fn files(&self) -> Vec<(String, &[u8])> {
        let single = [
            (BASE, &self.base[..]),
            (PORTS, &self.any_port),
            (TABLE, self.patterns.as_bytes()),
            (PACK, &self.pack),
        ];
        let single = single
            .into_iter()
            .filter(|(name, bytes)| *name != PACK || !bytes.is_empty());
        let single = single.map(|(name, bytes)| (name.to_owned(), bytes));
        let ports = self.ports.iter();
        single
            .chain(ports.map(|(name, image)| (format!("port/{name}.img"), &image[..])))
            .collect()
    }
}

/// Whether a program runs where there is no other file.
pub(crate) fn is_alone(program: &[u8]) -> bool {
    elf::Needs::read(program).is_ok_and(|needs| needs.is_nothing())
}

/// `ports.tsv`: patterns and drivers, and which of those are in the base or the kernel.
fn port_table(plan: &Plan) -> String {
    let line = |(pattern, name): &(String, String)| {
        let place = if plan.ports.contains_key(name) { "" } else { "\tbase" };
        format!("{pattern}\t{name}{place}\n")
    };
    plan.patterns.iter().map(line).collect()
}

/// Modes and bytes of the programs, by their paths in an image.
fn read_groups(tree: &Tree, groups: &BTreeMap<String, Group>) -> anyhow::Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let mut programs = BTreeMap::new();
    for (name, group) in groups {
        if group.files.is_empty() {
            bail!("nothing of the group {name} is in the tree");
        }
        for (path, real) in &group.files {
            programs.insert(path.clone(), (tree.mode(real)?, tree.read(real)?));
        }
    }
    Ok(programs)
}

fn pack_and_manifest(
    modules: &Modules,
    plan: &Plan,
    contents: &Contents,
    groups: &BTreeMap<String, Group>,
    programs: &BTreeMap<String, (u32, Vec<u8>)>,
) -> anyhow::Result<(Vec<u8>, Parts)> {
    let mut files: BTreeMap<String, (u32, &[u8])> = BTreeMap::new();
    if plan.has_pack {
        for content in plan.pack.iter().map(|name| &contents.modules[name]) {
            files.insert(content.path.clone(), (0o644, &content.bytes));
        }
        let firmware = contents.firmware.iter();
        files.extend(firmware.map(|(path, bytes)| (path.clone(), (0o644, &bytes[..]))));
    }
    files.extend(
        programs
            .iter()
            .map(|(path, (mode, bytes))| (path.clone(), (*mode, &bytes[..]))),
    );
    let (pack, rows) = pieces::pack(&files)?;
    let mut parts = pieces::module_records(modules, plan, contents);
    parts.files = rows;
    let links: BTreeMap<&String, &String> = groups.values().flat_map(|group| &group.links).collect();
    parts.links = links
        .into_iter()
        .map(|(path, target)| (path.clone(), target.clone()))
        .collect();
    for (name, group) in groups {
        let paths = group.files.keys().chain(group.links.keys()).cloned().collect();
        parts.groups.push((name.clone(), paths));
    }
    Ok((pack, parts))
}

/// The archive that every machine gets. Folders and links as programs of a distribution expect them.
fn base(
    recon: &[u8],
    contents: &Contents,
    names: &Names,
    manifest: &str,
    trusted: Option<&str>,
) -> anyhow::Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in [
        "dev",
        "etc",
        "proc",
        "run",
        "sys",
        "usr/lib/firmware",
        "usr/lib/modules",
        "usr/lib64",
        "usr/sbin",
        "usr/bin",
    ] {
        archive.folder(folder, 0o755)?;
    }
    archive.folder("root", 0o700)?;
    archive.folder("tmp", 0o1777)?;
    for name in ["bin", "lib", "lib64", "sbin"] {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.character_device("dev/console", 0o600, 5, 1)?;
    // Where the kernel finds no console, a program of Rust's opens this in its place, or ends.
    archive.character_device("dev/null", 0o666, 1, 3)?;
    archive.file("usr/bin/recon", 0o755, recon)?;
    archive.link("init", "usr/bin/recon")?;
    for (path, text) in USERS {
        archive.file(path, 0o644, text.as_bytes())?;
    }
    archive.file(MANIFEST, 0o644, manifest.as_bytes())?;
    if let Some(keys) = trusted {
        archive.file(TRUSTED, 0o644, keys.as_bytes())?;
    }
    contents.add(&mut archive, names)?;
    zstd(&archive.finish()?)
}
