//! kiwi/common/first-stage.tsv: what goes where. The words are explained in its head.

use crate::formats::modules::{alias_matches, depmod};
use anyhow::{Context, bail};

/// As every first stage of ours is made.
const OF_IMAGES: &str = include_str!("../../../kiwi/common/first-stage.tsv");

/// The table. Each list has its rows in their order; a pattern is one of fnmatch(3).
#[derive(Debug, Default)]
pub struct Table {
    pub(super) base: Vec<String>,
    pub(super) port: Vec<String>,
    /// Besides ports, for the image that has nobody to fetch it from.
    pub(super) boot: Vec<String>,
    /// In the base of a diskless node.
    pub(super) node: Vec<String>,
    pub(super) pack: Vec<String>,
    pub(super) never: Vec<String>,
    pub(super) allow: Vec<String>,
    /// What goes with a module besides what it needs.
    pub(super) with: Vec<(String, String)>,
    /// Devices of a driver, should it be built in.
    pub(super) drives: Vec<(String, String)>,
    /// Ports of their own image only, and why.
    pub(super) rare: Vec<(String, String)>,
    /// Network drivers without an image, and why.
    pub(super) except: Vec<(String, String)>,
    /// Firmware that is left out, and why.
    pub(super) no_firmware: Vec<(String, String)>,
    /// Group and program, or `name=program` for a link, or the path of a file.
    pub(super) groups: Vec<(String, String)>,
}

impl Table {
    /// # Errors
    /// The first line that says nothing, with its number.
    pub fn read(text: &str) -> anyhow::Result<Table> {
        let mut table = Table::default();
        for (line, row) in (1..).zip(text.lines()) {
            if !row.is_empty() && !row.starts_with('#') {
                table.add(row).with_context(|| format!("line {line}: {row}"))?;
            }
        }
        Ok(table)
    }

    /// For a node, which fetches a whole root in the place of single parts.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub(crate) fn of_nodes() -> anyhow::Result<Table> {
        let mut table = Table::read(OF_IMAGES)?;
        table.allow.extend(table.node.iter().cloned());
        table.base.append(&mut table.node);
        Ok(Table {
            pack: Vec::new(),
            groups: Vec::new(),
            ..table
        })
    }

    fn add(&mut self, row: &str) -> anyhow::Result<()> {
        let fields: Vec<&str> = row.split('\t').collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        match fields[..] {
            ["base", glob, _] => self.base.push(glob.to_owned()),
            ["port", glob] => self.port.push(glob.to_owned()),
            ["boot", glob, _] => self.boot.push(glob.to_owned()),
            ["node", glob, _] => self.node.push(glob.to_owned()),
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
pub(super) fn fits<'a>(patterns: impl IntoIterator<Item = &'a String>, path: &str) -> bool {
    let path = depmod::stem(path).unwrap_or(path);
    let path = path.strip_prefix("kernel/").unwrap_or(path);
    patterns.into_iter().any(|pattern| alias_matches(pattern, path))
}

/// The same for rows of two fields: the second one's.
pub(super) fn second<'a>(rows: &'a [(String, String)], path: &'a str) -> impl Iterator<Item = &'a String> {
    rows.iter()
        .filter(|(glob, _)| fits([glob], path))
        .map(|(_, second)| second)
}
