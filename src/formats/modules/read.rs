//! A manifest from its text: bounded, and refused as a whole where anything is not as it must be.

use std::collections::HashMap;

use super::alias::Aliases;
use super::manifest::{Manifest, Module, Packed};

/// Bounds beyond anything that is built; longer ones are refused.
const MAX_TEXT_BYTES: usize = 16 << 20;
const MAX_FIELD_BYTES: usize = 1024;
/// Of a list between commas.
const MAX_LIST_BYTES: usize = 64 << 10;
/// A file of the pack, unpacked: a peer may have 256 MiB of memory in all.
const MAX_FILE_BYTES: u64 = 128 << 20;
const MAX_PACK_BYTES: u64 = 1 << 40;

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the manifest: {fault}")]
pub struct ManifestError {
    /// From 1; 0 where it is no single line's.
    pub line: usize,
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    #[error("it is too long")]
    TooLong,
    #[error("there is no record of this kind")]
    UnknownRecord,
    #[error("the record has other fields")]
    Fields,
    #[error("a field is not what the record asks for")]
    Malformed,
    #[error("there is another record for the same thing")]
    Duplicate,
    #[error("there is no record for something that it names")]
    Missing,
    #[error("its dependencies are not the whole list, each behind what needs it")]
    DependencyOrder,
    #[error("its bytes in the pack are another file's as well")]
    Overlap,
}

/// A record and the line it stands in.
type Lined<T> = (usize, T);

#[derive(Default)]
struct Records<'a> {
    kernel: Option<&'a str>,
    modules: Vec<Lined<Module>>,
    builtin: Vec<Lined<String>>,
    files: Vec<Lined<Packed>>,
    links: Vec<Lined<(String, String)>>,
    groups: Vec<Lined<(String, Vec<String>)>>,
    options: Vec<Lined<(&'a str, &'a str)>>,
    aliases: Vec<Lined<(&'a str, &'a str)>>,
}

impl Manifest {
    /// Reads a manifest, and fails at the first line that is not right.
    pub fn read(text: &str) -> Result<Manifest, ManifestError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(at(0, Fault::TooLong));
        }
        let mut records = Records::default();
        for (line, row) in (1..).zip(text.lines()) {
            records.add(line, row).map_err(|fault| at(line, fault))?;
        }
        records.checked()
    }
}

fn at(line: usize, fault: Fault) -> ManifestError {
    ManifestError { line, fault }
}

impl<'a> Records<'a> {
    fn add(&mut self, line: usize, row: &'a str) -> Result<(), Fault> {
        let fields: Vec<&str> = row.splitn(9, '\t').collect();
        match fields[..] {
            ["kernel", version] => {
                let version = word(version, ".+~-_")?;
                if self.kernel.replace(version).is_some() {
                    return Err(Fault::Duplicate);
                }
            }
            ["file", path, mode, offset, packed, size, sum] => {
                self.files.push((line, file(path, [mode, offset, packed, size], sum)?));
            }
            ["link", path, target] => self.links.push((line, (absolute(path)?, link_target(path, target)?))),
            ["module", name, path, deps, soft, firmware] => self.modules.push((
                line,
                Module {
                    name: module_name(name)?.to_owned(),
                    path: absolute(path)?,
                    deps: list(deps, |dep| module_name(dep).map(str::to_owned))?,
                    soft: list(soft, |soft| module_name(soft).map(str::to_owned))?,
                    firmware: list(firmware, absolute)?,
                    options: String::new(),
                },
            )),
            ["options", name, text] => self.options.push((line, (module_name(name)?, printable(text)?))),
            ["alias", pattern, name] => self.aliases.push((line, (printable(pattern)?, module_name(name)?))),
            ["builtin", name] => self.builtin.push((line, module_name(name)?.to_owned())),
            ["group", name, paths] => {
                let paths = list(paths, absolute)?;
                self.groups.push((line, (word(name, "_-")?.to_owned(), paths)));
            }
            [
                "kernel" | "file" | "link" | "module" | "options" | "alias" | "builtin" | "group",
                ..,
            ] => {
                return Err(Fault::Fields);
            }
            _ => return Err(Fault::UnknownRecord),
        }
        Ok(())
    }

    fn checked(mut self) -> Result<Manifest, ManifestError> {
        let kernel = self.kernel.ok_or(at(0, Fault::Missing))?.to_owned();
        sort(&mut self.modules, |module| &module.name)?;
        sort(&mut self.builtin, |name| name)?;
        sort(&mut self.files, |file| &file.path)?;
        sort(&mut self.links, |link| &link.0)?;
        sort(&mut self.groups, |group| &group.0)?;
        self.no_overlap()?;
        self.references()?;
        self.take_options()?;
        let aliases = self.indexed_aliases()?;
        let without_lines = |records: Vec<Lined<Module>>| records.into_iter().map(|(_, module)| module).collect();
        Ok(Manifest {
            kernel,
            modules: without_lines(self.modules),
            builtin: self.builtin.into_iter().map(|(_, name)| name).collect(),
            files: self.files.into_iter().map(|(_, file)| file).collect(),
            links: self.links.into_iter().map(|(_, link)| link).collect(),
            groups: self.groups.into_iter().map(|(_, group)| group).collect(),
            aliases,
        })
    }

    /// Two paths may share a member whole, and nothing else is shared.
    fn no_overlap(&self) -> Result<(), ManifestError> {
        let mut by_offset: Vec<&Lined<Packed>> = self.files.iter().collect();
        by_offset.sort_by_key(|(line, file)| (file.offset, file.packed, *line));
        let same =
            |a: &Packed, b: &Packed| (a.offset, a.packed, a.size, a.sha256) == (b.offset, b.packed, b.size, b.sha256);
        for pair in by_offset.windows(2) {
            if let [(_, before), (line, file)] = pair
                && before.offset + before.packed > file.offset
                && !same(before, file)
            {
                return Err(at(*line, Fault::Overlap));
            }
        }
        Ok(())
    }

    /// Whatever a record names has a record of its own.
    fn references(&self) -> Result<(), ManifestError> {
        let modules: HashMap<&str, &Module> = self
            .modules
            .iter()
            .map(|(_, module)| (module.name.as_str(), module))
            .collect();
        for (line, name) in &self.builtin {
            if modules.contains_key(name.as_str()) {
                return Err(at(*line, Fault::Duplicate));
            }
        }
        for (line, module) in &self.modules {
            let fault = |fault| at(*line, fault);
            for name in module.deps.iter().chain(&module.soft) {
                if !modules.contains_key(name.as_str()) && find(&self.builtin, name, |name| name).is_none() {
                    return Err(fault(Fault::Missing));
                }
            }
            in_order(module, &modules).map_err(fault)?;
        }
        for (line, (path, _)) in &self.links {
            if find(&self.files, path, |file| &file.path).is_some() {
                return Err(at(*line, Fault::Duplicate));
            }
        }
        for (line, (_, paths)) in &self.groups {
            let is_there = |path: &String| {
                find(&self.files, path, |file| &file.path).is_some()
                    || find(&self.links, path, |link| &link.0).is_some()
            };
            if !paths.iter().all(is_there) {
                return Err(at(*line, Fault::Missing));
            }
        }
        Ok(())
    }

    fn take_options(&mut self) -> Result<(), ManifestError> {
        for (line, (name, text)) in std::mem::take(&mut self.options) {
            let number = find(&self.modules, name, |module| &module.name);
            let module = number.and_then(|number| self.modules.get_mut(number));
            let (_, module) = module.ok_or(at(line, Fault::Missing))?;
            if text.is_empty() {
                return Err(at(line, Fault::Malformed));
            }
            if !module.options.is_empty() {
                return Err(at(line, Fault::Duplicate));
            }
            text.clone_into(&mut module.options);
        }
        Ok(())
    }

    fn indexed_aliases(&self) -> Result<Aliases, ManifestError> {
        let mut aliases = Aliases::default();
        for (line, (pattern, name)) in &self.aliases {
            let number = find(&self.modules, name, |module| &module.name).ok_or(at(*line, Fault::Missing))?;
            let number = u32::try_from(number).ok();
            let pushed = number.and_then(|number| aliases.push(pattern, number));
            pushed.ok_or(at(*line, Fault::TooLong))?;
        }
        aliases.sort();
        Ok(aliases)
    }
}

/// Sorts by name, and finds the second record for the same one.
fn sort<T>(records: &mut [Lined<T>], name: impl Fn(&T) -> &String) -> Result<(), ManifestError> {
    records.sort_by(|a, b| (name(&a.1), a.0).cmp(&(name(&b.1), b.0)));
    for pair in records.windows(2) {
        if let [(_, before), (line, record)] = pair
            && name(before) == name(record)
        {
            return Err(at(*line, Fault::Duplicate));
        }
    }
    Ok(())
}

/// The place of a record in a sorted list.
fn find<T>(records: &[Lined<T>], wanted: &str, name: impl Fn(&T) -> &String) -> Option<usize> {
    records
        .binary_search_by(|(_, record)| name(record).as_str().cmp(wanted))
        .ok()
}

/// Whatever a dependency needs stands behind it. So nothing is in a circle.
fn in_order(module: &Module, modules: &HashMap<&str, &Module>) -> Result<(), Fault> {
    let place: HashMap<&str, usize> = module.deps.iter().map(String::as_str).zip(0..).collect();
    if place.len() < module.deps.len() {
        return Err(Fault::Duplicate);
    }
    for (dep, number) in &place {
        let needs = modules.get(dep).map_or(&[][..], |dep| &dep.deps);
        let is_behind = |need: &String| place.get(need.as_str()).is_some_and(|place| place > number);
        if *dep == module.name || !needs.iter().all(is_behind) {
            return Err(Fault::DependencyOrder);
        }
    }
    Ok(())
}

fn file(path: &str, numbers: [&str; 4], sum: &str) -> Result<Packed, Fault> {
    let [mode, offset, packed, size] = numbers;
    let mode = u32::from_str_radix(digits(mode)?, 8).map_err(|_| Fault::Malformed)?;
    let [offset, packed, size] = [number(offset)?, number(packed)?, number(size)?];
    // A setuid bit has no business here.
    if mode > 0o777 || packed == 0 || packed > MAX_FILE_BYTES || size > MAX_FILE_BYTES || offset > MAX_PACK_BYTES {
        return Err(Fault::Malformed);
    }
    Ok(Packed {
        path: absolute(path)?,
        mode,
        offset,
        packed,
        size,
        sha256: sha256(sum)?,
    })
}

fn digits(text: &str) -> Result<&str, Fault> {
    let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then_some(text).ok_or(Fault::Malformed)
}

fn number(text: &str) -> Result<u64, Fault> {
    digits(text)?.parse().map_err(|_| Fault::Malformed)
}

/// 64 hex digits in lower case.
fn sha256(text: &str) -> Result<[u8; 32], Fault> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 64 || !text.bytes().all(is_hex) {
        return Err(Fault::Malformed);
    }
    let mut sum = [0; 32];
    for (byte, two) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
        let two = std::str::from_utf8(two).map_err(|_| Fault::Malformed)?;
        *byte = u8::from_str_radix(two, 16).map_err(|_| Fault::Malformed)?;
    }
    Ok(sum)
}

/// Letters, digits and some more characters.
fn word<'a>(text: &'a str, more: &str) -> Result<&'a str, Fault> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    if text.is_empty() || text.len() > MAX_FIELD_BYTES || !text.chars().all(is_good) {
        return Err(Fault::Malformed);
    }
    Ok(text)
}

fn module_name(text: &str) -> Result<&str, Fault> {
    word(text, "_")
}

/// Text that ends up on nobody's terminal, in a kernel call or a comparison, and is kept to one line even so.
fn printable(text: &str) -> Result<&str, Fault> {
    if text.len() > MAX_FIELD_BYTES {
        return Err(Fault::TooLong);
    }
    let is_good = text.chars().all(|c| matches!(c, ' '..='~'));
    is_good.then_some(text).ok_or(Fault::Malformed)
}

fn list<T>(text: &str, one: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    if text.len() > MAX_LIST_BYTES {
        return Err(Fault::TooLong);
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(one).collect()
}

/// A path from the root on that leads nowhere else than it seems to.
fn absolute(text: &str) -> Result<String, Fault> {
    let parts = printable(text)?.strip_prefix('/').ok_or(Fault::Malformed)?;
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(',');
    if !parts.split('/').all(is_plain) {
        return Err(Fault::Malformed);
    }
    Ok(text.to_owned())
}

/// A link's target, which stays below the root: absolute, or from the link's own folder on.
fn link_target(path: &str, target: &str) -> Result<String, Fault> {
    if target.starts_with('/') {
        return absolute(target);
    }
    // Behind the first slash, without the link's own name.
    let mut depth = path.matches('/').count().saturating_sub(1);
    for part in printable(target)?.split('/') {
        depth = match part {
            "" | "." => return Err(Fault::Malformed),
            ".." => depth.checked_sub(1).ok_or(Fault::Malformed)?,
            _ => depth + 1,
        };
    }
    Ok(target.to_owned())
}
