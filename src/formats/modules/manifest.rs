//! What a manifest answers once it was read.

use super::alias::Aliases;

/// A kernel module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Module {
    /// As the kernel calls it, with `_`.
    pub name: String,
    /// Absolute in the root.
    pub path: String,
    /// All that it needs, each behind whatever needs it.
    pub deps: Vec<String>,
    /// What should be loaded before it, where that works.
    pub soft: Vec<String>,
    /// Paths of firmware files it may ask for.
    pub firmware: Vec<String>,
    /// Parameters, as finit_module(2) takes them.
    pub options: String,
}

/// A file in the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Absolute in the root.
    pub path: String,
    pub mode: u32,
    /// Of its gzip member, in bytes from the beginning of the pack.
    pub offset: u64,
    /// Bytes of the gzip member.
    pub packed: u64,
    /// Bytes that come out.
    pub size: u64,
    /// Of what comes out.
    pub sha256: [u8; 32],
}

/// Files and links that are of use only together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    pub files: Vec<&'a Packed>,
    /// Path and target.
    pub links: Vec<(&'a str, &'a str)>,
}

/// A manifest whose references all lead somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub(super) kernel: String,
    /// This and the next four are sorted by their first field.
    pub(super) modules: Vec<Module>,
    pub(super) builtin: Vec<String>,
    pub(super) files: Vec<Packed>,
    pub(super) links: Vec<(String, String)>,
    pub(super) groups: Vec<(String, Vec<String>)>,
    pub(super) aliases: Aliases,
}

impl Manifest {
    /// The kernel's version, as uname(2) tells it.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// The modules for a device, in the order of the aliases.
    pub fn modules_for(&self, modalias: &str) -> Vec<&Module> {
        let numbers = self.aliases.modules_for(modalias).into_iter();
        numbers.filter_map(|number| self.modules.get(number as usize)).collect()
    }

    /// A module by its name, in which `-` and `_` are the same. `None` also for one that is built in.
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(self.number(&name.replace('-', "_"))?)
    }

    /// Whether the kernel has it without loading anything.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.binary_search(&name.replace('-', "_")).is_ok()
    }

    /// Every module, sorted by name.
    pub fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Every file of the pack, sorted by path.
    pub fn files(&self) -> &[Packed] {
        &self.files
    }

    /// A file of the pack. `None` for one that lies in the initrd.
    pub fn packed(&self, path: &str) -> Option<&Packed> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    pub fn group(&self, name: &str) -> Option<Group<'_>> {
        let at = self.groups.binary_search_by(|group| group.0.as_str().cmp(name)).ok()?;
        let paths = &self.groups.get(at)?.1;
        Some(Group {
            files: paths.iter().filter_map(|path| self.packed(path)).collect(),
            links: paths.iter().filter_map(|path| self.link(path)).collect(),
        })
    }

    fn link(&self, path: &str) -> Option<(&str, &str)> {
        let at = self.links.binary_search_by(|link| link.0.as_str().cmp(path)).ok()?;
        self.links
            .get(at)
            .map(|(path, target)| (path.as_str(), target.as_str()))
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.modules
            .binary_search_by(|module| module.name.as_str().cmp(name))
            .ok()
    }

    /// What to load for a module, in this order: what it should have before, what it needs, itself; each once, and without what is
    /// built in. Whatever a module needs is always before it, also where soft dependencies go in a circle: only
    /// there it may not be the last one. Empty for a name that is not known or built in.
    pub fn load_order(&self, name: &str) -> Vec<&Module> {
        let mut order = Vec::new();
        let mut loads = vec![false; self.modules.len()];
        for number in self.soft_order(name) {
            for one in self.needed(number) {
                if let Some(module) = self.modules.get(one)
                    && let Some(loaded) = loads.get_mut(one)
                    && !std::mem::replace(loaded, true)
                {
                    order.push(module);
                }
            }
        }
        order
    }

    /// A module's dependencies in the order of loading, and itself.
    fn needed(&self, number: usize) -> impl Iterator<Item = usize> + '_ {
        let deps = self.modules.get(number).map_or(&[][..], |module| &module.deps);
        let deps = deps.iter().rev().filter_map(|dep| self.number(dep));
        deps.chain([number])
    }

    /// The module behind whatever it, or something that it needs, should have before; and so on for those. Where that goes in a
    /// circle, it is cut.
    fn soft_order(&self, name: &str) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.modules.len()];
        let mut begin = |number: usize| {
            let is_new = seen.get_mut(number).is_some_and(|seen| !std::mem::replace(seen, true));
            let wanted = self.needed(number).filter_map(|one| self.modules.get(one));
            is_new.then(|| (number, wanted.flat_map(|module| &module.soft)))
        };
        // Not by recursion: a chain may be as long as the manifest.
        let first = self.number(&name.replace('-', "_"));
        let mut open: Vec<_> = first.and_then(&mut begin).into_iter().collect();
        while let Some((number, wanted)) = open.last_mut() {
            match wanted.next() {
                Some(soft) => open.extend(self.number(soft).and_then(&mut begin)),
                None => {
                    order.push(*number);
                    open.pop();
                }
            }
        }
        order
    }
}
