//! Which module goes where, from what the tree has and the table says.

use std::collections::{BTreeMap, BTreeSet};

use crate::formats::modules::depmod;

use super::table::{Table, fits, second};
use super::tree::{Module, Modules};

/// Buses whose devices may be a network port that a machine booted from.
const PORT_BUSES: [&str; 5] = ["pci:", "usb:", "vmbus:", "virtio:", "xen:"];

/// Names of modules.
pub(super) type Names = BTreeSet<String>;

/// Where everything goes. No list has what is in `base` again.
pub(super) struct Plan {
    pub(super) base: Names,
    /// The driver of a kind of port, and everything that its image has.
    pub(super) ports: BTreeMap<String, Names>,
    /// What the image for unknown ports has, which is the boot image's too.
    pub(super) any_port: Names,
    /// What a started machine can fetch, where anything can be fetched.
    pub(super) pack: Names,
    pub(super) has_pack: bool,
    /// Pattern and driver, for who has to choose an image.
    pub(super) patterns: BTreeSet<(String, String)>,
    /// Modules that were asked for and cannot be had, and why.
    pub(super) left_out: BTreeMap<String, String>,
}

pub(super) fn plan(modules: &mut Modules, table: &Table) -> Plan {
    let left_out = take_out_forbidden(modules, table);
    let chosen = |modules: &Modules, globs: &[String]| -> Names {
        let mut names: Names = BTreeSet::new();
        for (name, module) in &modules.all {
            if fits(globs, &module.path) && !modules.blacklist.contains(name) {
                names.insert(name.clone());
            }
        }
        names
    };
    let base = modules.closure(&chosen(modules, &table.base));
    let drivers = chosen(modules, &table.port);
    let drivers = drivers
        .into_iter()
        .filter(|name| port_aliases(&modules.all[name]).next().is_some())
        .filter(|name| !base.contains(name));
    let drivers: Vec<String> = drivers.collect();
    let mut ports = BTreeMap::new();
    let mut any_port = Names::new();
    for name in drivers {
        let path = modules.all[&name].path.clone();
        let more: Vec<String> = second(&table.with, &path).cloned().collect();
        let mut names = chosen(modules, &more);
        // Nobody answers the kernel's call for modprobe, so it is there before the driver calls.
        if let Some(module) = modules.all.get_mut(&name) {
            let more = names
                .iter()
                .filter(|more| **more != name && !module.soft.contains(more));
            let more: Vec<String> = more.cloned().collect();
            module.soft.extend(more);
        }
        names.insert(name.clone());
        let all: Names = modules.closure(&names).difference(&base).cloned().collect();
        if second(&table.rare, &path).next().is_none() {
            any_port.extend(all.iter().cloned());
        }
        ports.insert(name, all);
    }
    let boot = modules.closure(&chosen(modules, &table.boot));
    any_port.extend(boot.difference(&base).cloned());
    let mut pack = modules.closure(&chosen(modules, &table.pack));
    pack.extend(ports.values().flatten().cloned());
    pack.extend(any_port.iter().cloned());
    Plan {
        patterns: patterns(modules, table, base.iter().chain(ports.keys())),
        pack: pack.difference(&base).cloned().collect(),
        has_pack: !table.pack.is_empty(),
        base,
        ports,
        any_port,
        left_out,
    }
}

/// Whatever is never loaded goes, and what cannot be loaded without it. Nothing else sees them.
fn take_out_forbidden(modules: &mut Modules, table: &Table) -> BTreeMap<String, String> {
    let is_forbidden = |name: &String, module: &Module| {
        let by_table = fits(&table.never, &module.path) && !fits(&table.allow, &module.path);
        by_table || modules.never.contains(name)
    };
    let forbidden: Names = modules
        .all
        .iter()
        .filter(|(name, module)| is_forbidden(name, module))
        .map(|(name, _)| name.clone())
        .collect();
    let mut left_out = BTreeMap::new();
    for (name, module) in &modules.all {
        let is_asked = fits(
            table
                .base
                .iter()
                .chain(&table.port)
                .chain(&table.boot)
                .chain(&table.pack),
            &module.path,
        );
        if let Some(need) = module.needs.iter().find(|need| forbidden.contains(*need))
            && !forbidden.contains(name)
            && is_asked
        {
            left_out.insert(name.clone(), format!("it needs {need}"));
        }
    }
    modules
        .all
        .retain(|name, module| !forbidden.contains(name) && !module.needs.iter().any(|need| forbidden.contains(need)));
    left_out
}

fn port_aliases(module: &Module) -> impl Iterator<Item = &String> {
    let aliases = module.aliases.iter();
    aliases.filter(|alias| PORT_BUSES.iter().any(|bus| alias.starts_with(bus)))
}

/// The patterns of these modules, and of drivers that are built in: whoever finds one of those needs no image.
fn patterns<'a>(
    modules: &Modules,
    table: &Table,
    names: impl Iterator<Item = &'a String>,
) -> BTreeSet<(String, String)> {
    let known = names.filter_map(|name| Some((name, modules.all.get(name)?)));
    let told = known.flat_map(|(name, module)| port_aliases(module).map(move |alias| (alias.clone(), name.clone())));
    let inside = modules
        .inside
        .iter()
        .filter_map(|path| Some((path, depmod::module_name(path)?)));
    let inside =
        inside.flat_map(|(path, name)| second(&table.drives, path).map(move |pattern| (pattern.clone(), name.clone())));
    told.chain(inside).collect()
}
