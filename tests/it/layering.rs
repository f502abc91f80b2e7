//! The arrows between folders of `src`, as ARCHITECTURE.md draws them. Read from the syntax tree of what is compiled into the
//! binary: every module from `lib.rs` down, whole, without what stands behind `#[cfg(test)]`, comments and texts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, File, ImplItem, Item, Stmt};

/// Folder → what it may name with `crate::`. Its own folder is always allowed.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("model", &[]),
    ("formats", &["model"]),
    ("config", &["model"]),
    ("sys", &["formats", "model"]),
    ("store", &["formats", "model", "sys"]),
    ("image", &["formats", "model", "sys"]),
    ("probe", &["formats", "model", "sys"]),
    ("stick", &["formats", "model", "store", "sys"]),
    ("service", &["config", "formats", "model", "store", "sys"]),
    (
        "role",
        &[
            "config", "formats", "image", "model", "probe", "service", "stick", "store", "sys",
        ],
    ),
    (
        "cli",
        &[
            "config", "formats", "image", "model", "probe", "role", "service", "stick", "store", "sys",
        ],
    ),
];

/// Folders whose files decide: none sees the system, a socket or a clock, but for those of [`EDGES`].
const PURE: [&str; 9] = [
    "config", "formats", "image", "model", "probe", "role", "service", "stick", "store",
];

/// Files of these folders that act.
const EDGES: &[&str] = &[
    "config/load.rs",
    "formats/gpt/plan.rs",
    "formats/mod.rs",
    "image/check.rs",
    "image/kernel.rs",
    "image/make.rs",
    "image/mod.rs",
    "image/pack.rs",
    "image/source.rs",
    "image/squashfs.rs",
    "image/stage/mod.rs",
    "image/stage/tree.rs",
    "image/unpack.rs",
    "probe/bmc.rs",
    "probe/bmc/ipmi/mod.rs",
    "probe/cabling.rs",
    "probe/collect/collection.rs",
    "probe/collect/live.rs",
    "probe/collect/parts.rs",
    "probe/collect/raw.rs",
    "probe/collect/rights.rs",
    "probe/collect/root.rs",
    "probe/collect/timebox.rs",
    "probe/cpu.rs",
    "probe/cpu/kernel.rs",
    "probe/disks/by_path.rs",
    "probe/disks/content.rs",
    "probe/disks/controllers.rs",
    "probe/disks/drive.rs",
    "probe/disks/list.rs",
    "probe/disks/raid_ask.rs",
    "probe/disks/watch.rs",
    "probe/firmware.rs",
    "probe/health.rs",
    "probe/memory.rs",
    "probe/nics/mod.rs",
    "probe/nics/steps.rs",
    "probe/pci.rs",
    "probe/pci/gpu.rs",
    "probe/security.rs",
    "probe/security/tpm/mod.rs",
    "role/boot_from/last_report.rs",
    "role/boot_from/load.rs",
    "role/boot_from/machine.rs",
    "role/boot_from/run.rs",
    "role/boot_from/session.rs",
    "role/boot_node.rs",
    "role/boot_node/asking.rs",
    "role/boot_node/leases.rs",
    "role/boot_node/link.rs",
    "role/boot_node/uplink.rs",
    "role/failover.rs",
    "role/failsafe.rs",
    "role/first_stage.rs",
    "role/first_stage/drivers.rs",
    "role/first_stage/pack.rs",
    "role/first_stage/watchdog.rs",
    "role/guard.rs",
    "role/init.rs",
    "role/link/address_claim.rs",
    "role/link/ipv4.rs",
    "role/link/ipv6.rs",
    "role/link/ipv6_leases.rs",
    "role/link/listener.rs",
    "role/link/manager.rs",
    "role/link/own_address.rs",
    "role/link/proxy.rs",
    "role/link/reconcile.rs",
    "role/link/services.rs",
    "role/link/shared.rs",
    "role/link/sockets.rs",
    "role/link/state.rs",
    "role/link/tasks.rs",
    "role/master.rs",
    "role/master/status.rs",
    "role/master/storage.rs",
    "role/master/starts.rs",
    "role/master/tarball.rs",
    "role/node.rs",
    "role/node/asking.rs",
    "role/node/own.rs",
    "role/node/places.rs",
    "role/node/root.rs",
    "role/node/system.rs",
    "role/node/up.rs",
    "role/peer.rs",
    "role/peer/collect.rs",
    "role/peer/lease.rs",
    "role/peer/network.rs",
    "role/peer/post.rs",
    "role/peer/post/results.rs",
    "role/peer/post/script.rs",
    "role/peer/power.rs",
    "role/peer/session.rs",
    "role/peer/upload.rs",
    "role/peer/workload.rs",
    "role/ports.rs",
    "role/run.rs",
    "role/settle.rs",
    "service/dhcp4/proxy_server.rs",
    "service/dhcp4/server.rs",
    "service/dhcp4/worker.rs",
    "service/dhcp6/server.rs",
    "service/dns/server.rs",
    "service/fetch/client.rs",
    "service/fetch/connect.rs",
    "service/fetch/resolve.rs",
    "service/fetch/wait.rs",
    "service/http/answer.rs",
    "service/http/body.rs",
    "service/http/boot.rs",
    "service/http/client.rs",
    "service/http/export.rs",
    "service/http/files.rs",
    "service/http/limits.rs",
    "service/http/nodes.rs",
    "service/http/own_files.rs",
    "service/http/sendfile.rs",
    "service/http/server.rs",
    "service/http/short_body.rs",
    "service/http/site.rs",
    "service/http/transfer_queue.rs",
    "service/http/upload.rs",
    "service/loader_choice.rs",
    "service/ra/server.rs",
    "service/tftp/server.rs",
    "service/tftp/socket.rs",
    "service/workers.rs",
    "stick/collect.rs",
    "stick/collect/error.rs",
    "stick/collect/output.rs",
    "stick/collect/uploads.rs",
    "stick/collect/volume.rs",
    "stick/install.rs",
    "stick/medium.rs",
    "stick/partition.rs",
    "stick/partition/medium.rs",
    "service/images.rs",
    "store/fs_ops.rs",
    "store/images.rs",
    "store/leases.rs",
    "store/leases/sync.rs",
    "store/leases/writer.rs",
    "store/json_lines.rs",
    "store/overlays.rs",
    "store/nodes/found.rs",
    "store/nodes/incoming.rs",
    "store/nodes/make_tarball.rs",
    "store/nodes/residents.rs",
    "store/nodes/shared.rs",
    "store/nodes/tarball.rs",
    "store/nodes/tidy.rs",
];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A module of the library, as it is compiled.
pub(crate) struct Module {
    /// Below the package's folder.
    pub(crate) file: PathBuf,
    /// `["role", "elect"]` for `crate::role::elect`.
    path: Vec<String>,
    pub(crate) tokens: TokenStream,
}

/// `#[cfg(test)]`, alone or among other conditions that must all hold.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.meta.to_token_stream().to_string().replace(' ', "");
        text == "test" || text == "cfg(test)" || text.starts_with("cfg(all(test")
    })
}

/// Takes out of a file what only tests and readers see.
struct Compiled;

impl Compiled {
    fn keeps(item: &Item) -> bool {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            other => panic!("no rule for this kind of item: {}", other.to_token_stream()),
        };
        !for_tests(attributes)
    }
}

impl VisitMut for Compiled {
    fn visit_file_mut(&mut self, file: &mut File) {
        file.items.retain(Self::keeps);
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(Self::keeps);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block
            .items
            .retain(|item| !matches!(item, ImplItem::Fn(method) if for_tests(&method.attrs)));
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block
            .stmts
            .retain(|statement| !matches!(statement, Stmt::Item(item) if !Self::keeps(item)));
        visit_mut::visit_block_mut(self, block);
    }

    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        attributes.retain(|attribute| !attribute.path().is_ident("doc"));
    }
}

pub(crate) fn parsed(file: &Path) -> File {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Compiled.visit_file_mut(&mut parsed);
    parsed
}

/// `file` and every file that it declares. `folder` is where its children lie.
fn gather(file: &Path, folder: &Path, path: &[String], out: &mut Vec<Module>) {
    let parsed = parsed(file);
    for item in &parsed.items {
        let Item::Mod(module) = item else { continue };
        if module.content.is_some() {
            continue;
        }
        let elsewhere = module.attrs.iter().any(|attribute| attribute.path().is_ident("path"));
        assert!(!elsewhere, "{} declares {} by its path", file.display(), module.ident);
        let name = module.ident.to_string();
        let inside = folder.join(&name);
        let flat = folder.join(format!("{name}.rs"));
        let child = if root().join(&flat).exists() {
            flat
        } else {
            inside.join("mod.rs")
        };
        let path = [path, &[name]].concat();
        gather(&child, &inside, &path, out);
    }
    out.push(Module {
        file: file.to_owned(),
        path: path.to_vec(),
        tokens: parsed.into_token_stream(),
    });
}

pub(crate) fn modules() -> Vec<Module> {
    let mut out = Vec::new();
    gather(Path::new("src/lib.rs"), Path::new("src"), &[], &mut out);
    // A walk that stops early would find nothing wrong.
    assert!(out.len() > 150, "{} modules", out.len());
    out
}

/// What is compiled of every file, with its texts, and without comments and tests: its path below `src`, and itself.
pub(crate) fn programs() -> Vec<(String, String)> {
    modules()
        .into_iter()
        .map(|module| {
            let name = module.file.strip_prefix("src").unwrap().to_str().unwrap().to_owned();
            let mut code = String::new();
            flat_with(module.tokens, &mut code, &|literal| literal.to_string());
            (name, code)
        })
        .collect()
}

/// The program without texts: names with a blank between two of them, everything else without.
fn flat(tokens: TokenStream, out: &mut String) {
    flat_with(tokens, out, &|_| " \"\" ".to_owned());
}

fn flat_with(tokens: TokenStream, out: &mut String, literal: &dyn Fn(&Literal) -> String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                flat_with(group.stream(), out, literal);
                out.push_str(close);
            }
            TokenTree::Ident(ident) => {
                if out.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    out.push(' ');
                }
                out.push_str(&ident.to_string());
            }
            TokenTree::Punct(punct) => out.push(punct.as_char()),
            TokenTree::Literal(value) => out.push_str(&literal(&value)),
        }
    }
}

/// Folders that are named from `path` with `crate::`, alone or in a list, and with enough `super::`.
fn folders_named(code: &str, path: &[String]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let root = [
        "crate::".to_owned(),
        // One `super` less where the path of a function inside a module is counted from the module.
        "super::".repeat(path.len().max(1)),
    ];
    for start in root {
        out.extend(first_after(code, &start));
    }
    out
}

fn first_after(code: &str, start: &str) -> BTreeSet<String> {
    code.split(start).skip(1).flat_map(first_names).collect()
}

/// `a` of `a::b`, `a` and `c` of `{a::b,c::{d,e}}`.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(list) = text.strip_prefix('{') else {
        return vec![name(text)];
    };
    let (mut depth, mut out, mut begins) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        if begins && depth == 0 {
            out.push(name(&list[at..]));
        }
        begins = c == ',';
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    out
}

/// Every path of `text` that begins behind `start`, whole: `a::b` and `a::c::d` of `{a::{b,c::d}}`.
fn paths_after(code: &str, start: &str) -> Vec<Vec<String>> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let begins = code.match_indices(start);
    let begins = begins.filter(|(at, _)| !code[..*at].ends_with(|c: char| part(c) || c == ':'));
    begins
        .flat_map(|(at, _)| {
            let mut out = Vec::new();
            tree(&code[at + start.len()..], &[], &mut out);
            out
        })
        .collect()
}

/// Reads one path or list, and tells how many bytes it is long.
fn tree(text: &str, before: &[String], out: &mut Vec<Vec<String>>) -> usize {
    if let Some(list) = text.strip_prefix('{') {
        let mut at = 0;
        while !list[at..].starts_with('}') && at < list.len() {
            let read = tree(&list[at..], before, out);
            at += read + usize::from(list[at + read..].starts_with(','));
            if read == 0 && !list[at..].starts_with('}') {
                at += list[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        return at + 2;
    }
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut path = before.to_vec();
    if !name.is_empty() && name != "self" {
        path.push(name.clone());
    }
    let length = name.len();
    if let Some(rest) = text[length..].strip_prefix("::") {
        return length + 2 + tree(rest, &path, out);
    }
    out.push(path);
    // `a as b` of a list.
    let renamed = text[length..].strip_prefix(" as ").map(|rest| {
        let new: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        4 + new.len()
    });
    length + renamed.unwrap_or(0)
}

/// For every module the modules it takes something from; what a module passes on with `pub use` is its owner's.
fn arrows(modules: &[Module]) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let code: BTreeMap<&[String], String> = modules
        .iter()
        .map(|module| {
            let mut code = String::new();
            flat(module.tokens.clone(), &mut code);
            (module.path.as_slice(), code)
        })
        .collect();
    let absolute = |path: &[String]| -> Vec<Vec<String>> {
        let code = &code[path];
        let mut out = paths_after(code, "crate::");
        out.extend(
            paths_after(code, "self::")
                .into_iter()
                .map(|rest| [path, &rest].concat()),
        );
        for up in 1..=path.len() {
            let parent = &path[..path.len() - up];
            let found = paths_after(code, &"super::".repeat(up));
            out.extend(found.into_iter().map(|rest| [parent, &rest].concat()));
        }
        for child in modules
            .iter()
            .filter(|other| other.path.len() == path.len() + 1 && other.path.starts_with(path))
        {
            let name = child.path.last().unwrap();
            let found = paths_after(code, &format!("{name}::"));
            out.extend(found.into_iter().map(|rest| [&child.path[..], &rest].concat()));
        }
        out
    };
    // Module and name → the path that `pub use` made of it.
    let mut passed: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (path, code) in &code {
        for start in ["pub use ", "pub(crate)use ", "pub(super)use "] {
            for used in paths_after(code, start) {
                let from = match used.first().map(String::as_str) {
                    Some("crate") => used[1..].to_vec(),
                    Some("super") => [&path[..path.len() - 1], &used[1..]].concat(),
                    _ => [path, &used[..]].concat(),
                };
                passed.insert([path, &used[used.len() - 1..]].concat(), from);
            }
        }
    }
    let owner = |mut path: Vec<String>| -> Option<Vec<String>> {
        for _ in 0..4 {
            let longest = (0..=path.len())
                .rev()
                .find(|length| code.contains_key(&path[..*length]))?;
            let named = path.get(..=longest).and_then(|named| passed.get(named));
            match named {
                Some(from) if *from != path[..=longest] => path = [&from[..], &path[longest + 1..]].concat(),
                _ => return Some(path[..longest].to_vec()),
            }
        }
        None
    };
    code.keys()
        .map(|path| {
            let mut targets: BTreeSet<_> = absolute(path).into_iter().filter_map(owner).collect();
            targets.remove(*path);
            targets.remove(&Vec::new());
            (path.to_vec(), targets)
        })
        .collect()
}

/// The groups of modules of which each leads back to itself.
fn circles(arrows: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> BTreeSet<BTreeSet<String>> {
    let reach = |from: &Vec<String>| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(path) = next.pop() {
            for target in arrows.get(&path).into_iter().flatten() {
                if seen.insert(target.clone()) {
                    next.push(target.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<_, _> = arrows.keys().map(|path| (path.clone(), reach(path))).collect();
    all.iter()
        .filter(|(path, seen)| seen.contains(*path))
        .map(|(path, seen)| {
            let group = seen.iter().filter(|other| all[*other].contains(path));
            group.map(|path| path.join("::")).collect()
        })
        .collect()
}

#[test]
fn no_file_leads_back_to_itself() {
    let found = circles(&arrows(&modules()));
    assert!(found.is_empty(), "{found:#?}");
}

/// Each part of the inventory has its room below `probe`. What all of them stand on, and what puts them together, are files of
/// `collect`, which are looked at one by one.
#[test]
fn no_room_below_probe_leads_back_to_itself() {
    let room = |path: &[String]| {
        let depth = if path.get(1).is_some_and(|name| name == "collect") {
            3
        } else {
            2
        };
        path[..path.len().min(depth)].to_vec()
    };
    let mut rooms: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (path, targets) in arrows(&modules()) {
        let targets = targets
            .iter()
            .filter(|target| target[0] == "probe")
            .map(|target| room(target));
        if path.len() > 1 && path[0] == "probe" {
            let others = targets.filter(|target| *target != room(&path) && target.len() > 1);
            rooms.entry(room(&path)).or_default().extend(others);
        }
    }
    assert!(rooms.len() > 20, "{} rooms", rooms.len());
    let found = circles(&rooms);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn folders_use_only_what_they_may() {
    let mut wrong = BTreeSet::new();
    for module in modules() {
        let Some(folder) = module.path.first() else { continue };
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| name == folder)
            .unwrap_or_else(|| panic!("{folder} has no rule"));
        let mut code = String::new();
        flat(module.tokens, &mut code);
        for name in folders_named(&code, &module.path) {
            let known = ALLOWED.iter().any(|(folder, _)| *folder == name);
            if known && name != *folder && !allowed.contains(&name.as_str()) {
                wrong.insert(format!("{} uses crate::{name}", module.file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What of the system a program names.
fn acts(module: &Module) -> Option<&'static str> {
    let mut code = String::new();
    flat(module.tokens.clone(), &mut code);
    let words = [
        "tokio::",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "Instant::now",
        "SystemTime::now",
        "rand::",
    ];
    let word = words.into_iter().find(|word| names(&code, word));
    let files = || first_after(&code, "std::").contains("fs").then_some("std::fs");
    let system = || {
        folders_named(&code, &module.path)
            .contains("sys")
            .then_some("crate::sys")
    };
    word.or_else(files).or_else(system)
}

#[test]
fn decisions_see_no_socket_file_or_clock() {
    let mut wrong = BTreeSet::new();
    let mut edges = BTreeSet::from_iter(EDGES.iter().copied());
    for module in modules() {
        let file = module.file.to_str().unwrap();
        let decides = module
            .path
            .first()
            .is_some_and(|folder| PURE.contains(&folder.as_str()));
        if !edges.remove(file.trim_start_matches("src/"))
            && decides
            && let Some(word) = acts(&module)
        {
            wrong.insert(format!("{file} uses {word}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(edges.is_empty(), "not there: {edges:#?}");
}

#[test]
fn every_edge_is_one() {
    for module in modules() {
        let file = module.file.to_str().unwrap();
        if EDGES.contains(&file.trim_start_matches("src/")) {
            assert!(acts(&module).is_some(), "{file} decides only");
        }
    }
}

/// Whether `word` stands in the program, not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let goes_on = word.ends_with(part) && code[at + word.len()..].starts_with(part);
        !code[..at].ends_with(part) && !goes_on
    })
}

/// The compiler denies `unsafe` (Cargo.toml); one module lifts that.
#[test]
fn only_sys_is_unsafe() {
    let lifting: Vec<_> = modules()
        .into_iter()
        .filter(|module| {
            let mut code = String::new();
            flat(module.tokens.clone(), &mut code);
            code.contains("unsafe_code")
        })
        .map(|module| module.file)
        .collect();
    assert_eq!(lifting, [Path::new("src/sys/mod.rs")]);
}

#[test]
fn the_reader_sees_what_it_must() {
    let mut file = syn::parse_file(
        "/// crate::cli\n use crate::{model::{a, media}, sys as b}; #[cfg(test)] mod tests { use crate::role; }\n\
         fn f() { #[cfg(test)] use crate::config; let text = \"crate::cli\"; super::super::probe::x(); Instant::now(); }\n\
         impl T { #[cfg(test)] fn g() { crate::role::h() } } macro_rules! m { () => { crate::store::y() } }",
    )
    .unwrap();
    Compiled.visit_file_mut(&mut file);
    let mut code = String::new();
    flat(file.into_token_stream(), &mut code);
    let found = folders_named(&code, &["service".to_owned(), "x".to_owned()]);
    assert_eq!(Vec::from_iter(found), ["model", "probe", "store", "sys"]);
    assert!(names(&code, "Instant::now") && !names(&code, "Instant::no") && !names(&code, "tant::now"));
}
