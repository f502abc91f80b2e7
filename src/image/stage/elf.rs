//! What ELF files say: a module's `.modinfo`, and the libraries that a program needs.

use std::collections::BTreeMap;

use crate::formats::modules::depmod;
use anyhow::Context;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSection};

use super::tree::Tree;

/// Folders that the loader of a distribution looks in without a cache or a variable. The first stage has neither.
const LIBRARIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The firmware that a module names.
pub(super) fn firmware(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let file = ElfFile64::<object::Endianness>::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no section .modinfo")?;
    let names = depmod::modinfo(section.data()?, "firmware")
        .map(str::to_owned)
        .collect();
    Ok(names)
}

/// What a program or library asks the loader for.
#[derive(Debug, Default)]
pub(super) struct Needs {
    loader: Option<String>,
    libraries: Vec<String>,
    /// Folders to look in before all others.
    folders: Vec<String>,
}

impl Needs {
    pub(super) fn read(program: &[u8]) -> anyhow::Result<Needs> {
        let file = ElfFile64::<object::Endianness>::parse(program)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned);
        let mut needs = Needs::default();
        for header in file.elf_program_headers() {
            if let Some(path) = header.interpreter(file.endian(), file.data())? {
                needs.loader = Some(text(path)?);
            }
        }
        let table = file.elf_dynamic_table()?;
        for entry in &table {
            match entry.tag {
                DT_NEEDED => needs.libraries.push(text(table.string(entry)?)?),
                DT_RPATH | DT_RUNPATH => {
                    needs
                        .folders
                        .extend(text(table.string(entry)?)?.split(':').map(str::to_owned));
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.loader.is_none() && self.libraries.is_empty()
    }
}

/// Files by the paths that they are asked for by, and where each really is in the tree.
pub(super) type Files = BTreeMap<String, String>;

/// Adds a program with its loader and all libraries that it, and those in turn, name.
pub(super) fn add_with_libraries(tree: &Tree, program: &str, files: &mut Files) -> anyhow::Result<()> {
    let mut next = vec![program.to_owned()];
    while let Some(path) = next.pop() {
        if files.contains_key(&path) {
            continue;
        }
        let real = tree.real(&path).with_context(|| format!("no {path} in the tree"))?;
        let bytes = tree.read(&real)?;
        files.insert(path.clone(), real);
        // A script has no libraries.
        if !bytes.starts_with(b"\x7fELF") {
            continue;
        }
        let needs = Needs::read(&bytes).with_context(|| path.clone())?;
        for name in &needs.libraries {
            let folders = needs.folders.iter().map(String::as_str).chain(LIBRARIES);
            let mut places = folders.map(|folder| format!("{folder}/{name}"));
            let found = places.find(|place| tree.real(place).is_some());
            next.push(found.with_context(|| format!("{path} needs {name}, which is where the loader does not look"))?);
        }
        next.extend(needs.loader);
    }
    Ok(())
}
