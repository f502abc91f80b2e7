//! kiwi/common/first-stage.tsv: what goes where. The words are explained in its head.

use anyhow::{Context, bail};
use recon::formats::modules::{alias_matches, depmod};

/// The table. Each list has its rows in their order; a pattern is one of fnmatch(3).
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) base: Vec<String>,
    pub(crate) port: Vec<String>,
    /// Besides ports, for the image that has nobody to fetch it from.
    pub(crate) boot: Vec<String>,
    pub(crate) pack: Vec<String>,
    pub(crate) never: Vec<String>,
    pub(crate) allow: Vec<String>,
    /// What goes with a module besides what it needs.
    pub(crate) with: Vec<(String, String)>,
    /// Devices of a driver, should it be built in.
    pub(crate) drives: Vec<(String, String)>,
    /// Ports of their own image only, and why.
    pub(crate) rare: Vec<(String, String)>,
    /// Network drivers without an image, and why.
    pub(crate) except: Vec<(String, String)>,
    /// Firmware that is left out, and why.
    pub(crate) no_firmware: Vec<(String, String)>,
    /// Group and program, or `name=program` for a link, or the path of a file.
    pub(crate) groups: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn read(text: &str) -> anyhow::Result<Table> {
        let mut table = Table::default();
        for (line, row) in (1..).zip(text.lines()) {
            if !row.is_empty() && !row.starts_with('#') {
                table.add(row).with_context(|| format!("line {line}: {row}"))?;
            }
        }
        Ok(table)
    }

    fn add(&mut self, row: &str) -> anyhow::Result<()> {
        let fields: Vec<&str> = row.split('\t').collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        match fields[..] {
            ["base", glob, _] => self.base.push(glob.to_owned()),
            ["port", glob] => self.port.push(glob.to_owned()),
            ["boot", glob, _] => self.boot.push(glob.to_owned()),
            ["pack", glob] => self.pack.push(glob.to_owned()),
            ["never", glob, _] => self.never.push(glob.to_owned()),
            ["allow", glob, _] => self.allow.push(glob.to_owned()),
            ["with", glob, more] => self.with.push(pair(glob, more)),
            ["drives", glob, pattern] => self.drives.push(pair(glob, pattern)),
            ["rare", glob, why] => self.rare.push(pair(glob, why)),
            ["except", glob, why] => self.except.push(pair(glob, why)),
            ["nofirmware", glob, why] => self.no_firmware.push(pair(glob, why)),
            ["group", group, program] => self.groups.push(pair(group, program)),
            _ => bail!("no such word, or other fields than it has"),
        }
        Ok(())
    }
}

/// Whether one of the patterns fits a module's path below its version's folder, without `kernel/` and the ending.
pub(crate) fn fits<'a>(patterns: impl IntoIterator<Item = &'a String>, path: &str) -> bool {
    let path = depmod::stem(path).unwrap_or(path);
    let path = path.strip_prefix("kernel/").unwrap_or(path);
    patterns.into_iter().any(|pattern| alias_matches(pattern, path))
}

/// The same for rows of two fields: the second one's.
pub(crate) fn second<'a>(rows: &'a [(String, String)], path: &'a str) -> impl Iterator<Item = &'a String> {
    rows.iter()
        .filter(|(glob, _)| fits([glob], path))
        .map(|(_, second)| second)
}
