//! A manifest's text, as the image's build makes it.

use std::fmt::{self, Write};

use super::manifest::{Module, Packed};

/// The records of a manifest, before anybody looked whether they go together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    pub kernel: String,
    pub modules: Vec<Module>,
    pub builtin: Vec<String>,
    pub files: Vec<Packed>,
    /// Path and target.
    pub links: Vec<(String, String)>,
    /// Name and paths.
    pub groups: Vec<(String, Vec<String>)>,
    /// Pattern and module.
    pub aliases: Vec<(String, String)>,
}

/// The text, which [`super::Manifest::read`] takes or refuses.
impl fmt::Display for Parts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "kernel\t{}", self.kernel)?;
        for file in &self.files {
            let Packed {
                path,
                mode,
                offset,
                packed,
                size,
                sha256,
            } = file;
            write!(out, "file\t{path}\t{mode:o}\t{offset}\t{packed}\t{size}\t")?;
            for byte in sha256 {
                write!(out, "{byte:02x}")?;
            }
            out.write_char('\n')?;
        }
        for (path, target) in &self.links {
            writeln!(out, "link\t{path}\t{target}")?;
        }
        for module in &self.modules {
            let [deps, soft, firmware] = [&module.deps, &module.soft, &module.firmware].map(|list| list.join(","));
            let Module { name, path, .. } = module;
            writeln!(out, "module\t{name}\t{path}\t{deps}\t{soft}\t{firmware}")?;
            if !module.options.is_empty() {
                writeln!(out, "options\t{name}\t{}", module.options)?;
            }
        }
        for (pattern, name) in &self.aliases {
            writeln!(out, "alias\t{pattern}\t{name}")?;
        }
        for name in &self.builtin {
            writeln!(out, "builtin\t{name}")?;
        }
        for (name, paths) in &self.groups {
            writeln!(out, "group\t{name}\t{}", paths.join(","))?;
        }
        Ok(())
    }
}
