//! What a peer starts from and what it fetches later, made from the root tree of an image:
//!
//! ```text
//! first-stage --root TREE --recon BINARY --patterns kiwi/common/first-stage.tsv --out DIR
//! ```
//!
//! leaves in DIR `base.img` (recon as the first program, its manifest, what every machine needs before it has a link), `port/*.img`
//! (a driver of network ports each, with whatever it needs), `ports.img` (all of those that are not rare), `ports.tsv` (which driver
//! a port needs) and `modules.pack` (all else). The same tree gives the same bytes. A table of sizes is printed.

// Its answer is standard output, and nobody else writes words into it.
#![allow(clippy::print_stdout)]

mod elf;
mod pieces;
mod plan;
mod table;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use recon::formats::cpio::Archive;
use recon::formats::first_stage::PortTable;
use recon::formats::modules::{Manifest, Parts};

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

const MANIFEST: &str = "/usr/lib/recon/first-stage/manifest.tsv";

#[derive(Parser)]
struct Arguments {
    /// Root tree of the image
    #[arg(long)]
    root: PathBuf,
    /// The static binary
    #[arg(long)]
    recon: PathBuf,
    /// What goes where
    #[arg(long)]
    patterns: PathBuf,
    /// Folder to write into; what is in it goes
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let reading = || arguments.patterns.display().to_string();
    let table = Table::read(&fs::read_to_string(&arguments.patterns).with_context(reading)?).with_context(reading)?;
    let recon = fs::read(&arguments.recon).with_context(|| arguments.recon.display().to_string())?;
    let stage = Stage::make(&Tree::new(&arguments.root), &recon, &table)?;
    stage
        .write(&arguments.out)
        .with_context(|| arguments.out.display().to_string())?;
    stage.say(&recon)
}

/// Everything that is written, and what it was made of.
struct Stage {
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
    fn make(tree: &Tree, recon: &[u8], table: &Table) -> anyhow::Result<Stage> {
        let mut modules = Modules::read(tree)?;
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
        Ok(Stage {
            base: base(recon, &contents, &plan.base, &manifest)?,
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

    fn write(&self, out: &Path) -> std::io::Result<()> {
        if out.exists() {
            fs::remove_dir_all(out)?;
        }
        fs::create_dir_all(out.join("port"))?;
        fs::write(out.join("base.img"), &self.base)?;
        fs::write(out.join("ports.img"), &self.any_port)?;
        fs::write(out.join("ports.tsv"), &self.patterns)?;
        fs::write(out.join("modules.pack"), &self.pack)?;
        for (name, image) in &self.ports {
            fs::write(out.join(format!("port/{name}.img")), image)?;
        }
        Ok(())
    }

    fn say(&self, recon: &[u8]) -> anyhow::Result<()> {
        let (plan, contents, parts) = (&self.plan, &self.contents, &self.parts);
        println!("base.img {}", bytes(self.base.len()));
        println!("  recon {} of {}", bytes(zstd(recon)?.len()), bytes(recon.len()));
        let manifest = self.manifest.as_bytes();
        println!(
            "  manifest {} of {}",
            bytes(zstd(manifest)?.len()),
            bytes(manifest.len())
        );
        println!(
            "  modules {} of {}",
            bytes(contents.image(&plan.base)?.len()),
            unpacked(contents, &plan.base)
        );
        for name in &plan.base {
            println!("    {name} {}", bytes(contents.modules[name].bytes.len()));
        }
        println!(
            "ports.img {} of {}",
            bytes(self.any_port.len()),
            unpacked(contents, &plan.any_port)
        );
        let mut largest: Vec<(usize, &String)> = self.ports.iter().map(|(name, image)| (image.len(), name)).collect();
        largest.sort_by(|a, b| b.cmp(a));
        let all: usize = largest.iter().map(|(size, _)| size).sum();
        println!("port/*.img {}: {} images; the largest:", bytes(all), largest.len());
        for (size, name) in largest.iter().take(10) {
            println!(
                "  {name} {} of {}",
                bytes(*size),
                unpacked(contents, &plan.ports[*name])
            );
        }
        println!(
            "modules.pack {}: {} modules and {} files of firmware, {}",
            bytes(self.pack.len()),
            plan.pack.len(),
            contents.firmware.len(),
            unpacked(contents, &plan.pack)
        );
        for (name, group) in &self.groups {
            let rows = parts.files.iter().filter(|file| group.files.contains_key(&file.path));
            let (packed, size) = rows.fold((0, 0), |(packed, size), row| (packed + row.packed, size + row.size));
            println!(
                "  group {name} {} of {}: {} files",
                bytes(packed as usize),
                bytes(size as usize),
                group.files.len()
            );
        }
        println!(
            "ports.tsv {}: {} patterns",
            bytes(self.patterns.len()),
            plan.patterns.len()
        );
        println!(
            "manifest: {} modules, {} aliases, {} files",
            parts.modules.len(),
            parts.aliases.len(),
            parts.files.len()
        );
        for (name, why) in &plan.left_out {
            println!("left out: {name}, because {why}");
        }
        for program in &self.missing {
            println!("the tree has no program for {program}");
        }
        Ok(())
    }
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
    for content in plan.pack.iter().map(|name| &contents.modules[name]) {
        files.insert(content.path.clone(), (0o644, &content.bytes));
    }
    files.extend(
        contents
            .firmware
            .iter()
            .map(|(path, bytes)| (path.clone(), (0o644, &bytes[..]))),
    );
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
fn base(recon: &[u8], contents: &Contents, names: &Names, manifest: &str) -> anyhow::Result<Vec<u8>> {
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
    contents.add(&mut archive, names)?;
    zstd(&archive.finish()?)
}

fn unpacked(contents: &Contents, names: &Names) -> String {
    let (modules, firmware) = contents.sizes(names);
    format!("{} (firmware {})", bytes(modules + firmware), bytes(firmware))
}

fn bytes(count: usize) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.2} MB", count as f64 / 1e6),
    }
}
