//! The arrows between folders of `src`, as ARCHITECTURE.md draws them. Read from the syntax tree of what is compiled into the
//! binary: every module from `lib.rs` down, whole, without what stands behind `#[cfg(test)]`, comments and texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, File, ImplItem, Item, Stmt};

/// Folder → what it may name with `crate::`. Its own folder is always allowed.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("formats", &["model"]),
    ("config", &["model"]),
    ("sys", &["formats", "model"]),
    ("store", &["formats", "model", "sys"]),
    ("probe", &["formats", "model", "sys"]),
    ("stick", &["formats", "model", "store", "sys"]),
    ("service", &["config", "formats", "model", "store", "sys"]),
    (
        "role",
        &[
            "config", "formats", "model", "probe", "service", "stick", "store", "sys",
        ],
    ),
    (
        "cli",
        &[
            "config", "formats", "model", "probe", "role", "service", "stick", "store", "sys",
        ],
    ),
];

/// Files whose decisions must not see the system, a socket or the clock.
const PURE: &[&str] = &[
    "src/config/cmdline.rs",
    "src/config/routed.rs",
    "src/config/settings.rs",
    "src/config/site_key.rs",
    "src/config/definitions.rs",
    "src/formats/exfat.rs",
    "src/formats/bytes.rs",
    "src/formats/exfat/boot_sector.rs",
    "src/formats/gpt/header.rs",
    "src/formats/iso9660.rs",
    "src/formats/mountinfo.rs",
    "src/formats/signatures/mark.rs",
    "src/model/arch.rs",
    "src/stick/peek.rs",
    "src/model/identity.rs",
    "src/model/identity/document.rs",
    "src/model/identity/same.rs",
    "src/model/lease.rs",
    "src/model/shown.rs",
    "src/model/ula.rs",
    "src/probe/nics/devlink.rs",
    "src/probe/security/efi/device_path.rs",
    "src/probe/security/efi/device_path_names.rs",
    "src/probe/security/efi/load_option.rs",
    "src/probe/bmc/ipmi/events.rs",
    "src/probe/bmc/ipmi/fru_area.rs",
    "src/probe/bmc/ipmi/names.rs",
    "src/probe/bmc/ipmi/sdr_record.rs",
    "src/probe/bmc/ipmi/sel_text.rs",
    "src/probe/bmc/ipmi/supplies.rs",
    "src/probe/collect/joined.rs",
    "src/probe/health/kmsg.rs",
    "src/probe/nics/link_modes.rs",
    "src/probe/cabling/lldp/cdp.rs",
    "src/probe/cabling/lldp/lldp.rs",
    "src/probe/cabling/lldp/mod.rs",
    "src/formats/pcap.rs",
    "src/probe/nics/optics.rs",
    "src/probe/disks/scsi.rs",
    "src/probe/smbios/platform.rs",
    "src/probe/smbios/platform_names.rs",
    "src/probe/cpu/cpuinfo.rs",
    "src/probe/smbios/memory.rs",
    "src/probe/smbios/table.rs",
    "src/probe/smbios/types.rs",
    "src/probe/disks/arrivals.rs",
    "src/probe/disks/ata_smart.rs",
    "src/formats/signatures/filesystems.rs",
    "src/formats/signatures/members.rs",
    "src/probe/disks/nvme.rs",
    "src/formats/partition_types.rs",
    "src/formats/partitions.rs",
    "src/probe/disks/scsi_log.rs",
    "src/formats/signatures/mod.rs",
    "src/probe/disks/raid.rs",
    "src/probe/disks/smartctl.rs",
    "src/probe/security/tpm/command.rs",
    "src/probe/pci/vpd.rs",
    "src/role/link/election.rs",
    "src/role/link/election/reason.rs",
    "src/role/remedy.rs",
    "src/role/peer/retry.rs",
    "src/role/link/proof.rs",
    "src/service/boot/programs.rs",
    "src/service/boot/fallback.rs",
    "src/service/boot/loops.rs",
    "src/service/boot/memory.rs",
    "src/service/dhcp6/relay.rs",
    "src/service/dhcp4/conflicts.rs",
    "src/service/dhcp4/claims.rs",
    "src/service/dhcp4/client.rs",
    "src/service/dhcp4/client_filter.rs",
    "src/service/dhcp4/layout.rs",
    "src/service/dhcp4/leases.rs",
    "src/service/dhcp4/leases/gaps.rs",
    "src/service/dhcp4/reply.rs",
    "src/service/dhcp4/retries.rs",
    "src/service/dhcp4/hardware.rs",
    "src/service/dhcp4/probe.rs",
    "src/service/dhcp4/proxy.rs",
    "src/service/dhcp4/quirks.rs",
    "src/service/dhcp4/relay.rs",
    "src/service/dhcp4/decide.rs",
    "src/service/dhcp4/unsupported.rs",
    "src/service/dhcp4/wire.rs",
    "src/service/dhcp6/client.rs",
    "src/service/dhcp6/leases.rs",
    "src/service/dhcp6/decide.rs",
    "src/service/dhcp6/probe.rs",
    "src/service/dhcp6/wire.rs",
    "src/service/dns/answer.rs",
    "src/service/boot/grub.rs",
    "src/service/http/admission.rs",
    "src/service/http/condition.rs",
    "src/service/http/min_rate.rs",
    "src/service/http/quota.rs",
    "src/service/http/range.rs",
    "src/service/http/route.rs",
    "src/service/http/workload.rs",
    "src/service/boot/ipxe.rs",
    "src/service/node_table.rs",
    "src/service/metrics.rs",
    "src/service/ra/schedule.rs",
    "src/service/ra/watch.rs",
    "src/service/ra/wire.rs",
    "src/service/rate_limit.rs",
    "src/service/boot/script.rs",
    "src/service/fair_share.rs",
    "src/service/boot/autoexec.rs",
    "src/service/tftp/packet.rs",
    "src/service/tftp/transfer.rs",
    "src/store/leases/journal.rs",
    "src/store/nodes/naming.rs",
];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A module of the library, as it is compiled.
struct Module {
    /// Below the package's folder.
    file: PathBuf,
    /// `["role", "elect"]` for `crate::role::elect`.
    path: Vec<String>,
    tokens: TokenStream,
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

fn parsed(file: &Path) -> File {
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

fn modules() -> Vec<Module> {
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

#[test]
fn decisions_see_no_socket_file_or_clock() {
    let modules = modules();
    let mut wrong = BTreeSet::new();
    for file in PURE.iter().copied() {
        let module = modules.iter().find(|module| module.file == Path::new(file));
        let module = module.unwrap_or_else(|| panic!("{file} is not compiled"));
        let mut code = String::new();
        flat(module.tokens.clone(), &mut code);
        for word in [
            "tokio::",
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "Instant::now",
            "SystemTime::now",
            "rand::",
        ] {
            if names(&code, word) {
                wrong.insert(format!("{file} uses {word}"));
            }
        }
        if first_after(&code, "std::").contains("fs") {
            wrong.insert(format!("{file} uses std::fs"));
        }
        if folders_named(&code, &module.path).contains("sys") {
            wrong.insert(format!("{file} uses crate::sys"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
