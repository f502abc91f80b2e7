//! Reads `recon.toml` as far as it goes: all of its mistakes are named at once, and what restrains is kept. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::{IMAGES, NETWORK, NODE, Restrains, SETTINGS, SUBNET, Setting, TABLES, TOP};
use super::draft::Draft;
use super::fault::Fault;
use super::node_rules::Node;
use super::routed;
use super::values::{kind, wrong};
use crate::model::image::NoImageWord;

/// More rules than a site has machines are a mistake, and are looked through for every boot script. Further ones are a fault.
const MAX_NODE_RULES: usize = 10_000;

/// The file as far as it can be read.
pub(crate) fn read(text: &str) -> (Draft, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        draft: Draft::default(),
        faults: Vec::new(),
        broken: errors.iter().filter_map(toml::de::Error::span).collect(),
        read: BTreeSet::new(),
    };
    for error in errors {
        reader.fault(error.span(), error.message().trim().to_owned());
    }
    for (key, value) in table.get_ref() {
        reader.top(key, value);
    }
    if !reader.faults.is_empty() {
        reader.salvage();
    }
    let Reader { draft, faults, .. } = reader;
    (draft, faults)
}

struct Reader<'a> {
    text: &'a str,
    /// Where its lines end.
    ends: Vec<usize>,
    draft: Draft,
    faults: Vec<Fault>,
    /// Where the parser stumbled.
    broken: Vec<Range<usize>>,
    /// Lines that were understood.
    read: BTreeSet<usize>,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.ends.partition_point(|end| *end < at)
    }

    fn fault(&mut self, span: Option<Range<usize>>, what: String) {
        let line = span.map(|span| self.line(span.start));
        self.faults.push(Fault { line, what });
    }

    fn top(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = plain(key.get_ref());
        if !TABLES.contains(&name.as_str()) {
            return self.setting(TOP, key, value);
        }
        match (name.as_str(), value.get_ref()) {
            (SUBNET, DeValue::Array(_)) => self.entries(SUBNET, value, routed::MAX_SUBNETS, Self::routed),
            (SUBNET, _) => self.fault(
                Some(key.span()),
                "a network behind a router begins with [[subnet]], in two brackets; the first link's subnet belongs under [network]"
                    .to_owned(),
            ),
            (NODE, DeValue::Array(_)) => self.entries(NODE, value, MAX_NODE_RULES, Self::node),
            (NODE, _) => {
                self.fault(
                    Some(key.span()),
                    "a rule for a machine begins with [[node]], in two brackets".to_owned(),
                );
                self.node(value);
            }
            (IMAGES, DeValue::Table(images)) => {
                for (name, rule) in images {
                    self.image(name, rule);
                }
            }
            (table, DeValue::Table(entries)) => {
                let table = TABLES.into_iter().find(|known| *known == table).unwrap_or(TOP);
                for (key, value) in entries {
                    self.setting(table, key, value);
                }
            }
            (table, other) => {
                self.fault(
                    Some(key.span()),
                    format!(
                        "{table} is a table: write [{table}] on a line of its own, not {}",
                        kind(other)
                    ),
                );
                for setting in SETTINGS.iter().filter(|setting| setting.table == table) {
                    if let Restrains(least) = setting.direction {
                        least(&mut self.draft);
                    }
                }
            }
        }
    }

    /// Every `[[table]]`, up to `most`.
    fn entries(
        &mut self,
        table: &str,
        value: &Spanned<DeValue<'_>>,
        most: usize,
        read: fn(&mut Self, &Spanned<DeValue<'_>>),
    ) {
        let DeValue::Array(entries) = value.get_ref() else {
            return;
        };
        if entries.len() > most {
            let what = format!("{} [[{table}]] entries; at most {most} are read", entries.len());
            self.fault(Some(value.span()), what);
        }
        for entry in entries.iter().take(most) {
            read(self, entry);
        }
    }

    fn routed(&mut self, entry: &Spanned<DeValue<'_>>) {
        let line = self.line(entry.span().start);
        let DeValue::Table(keys) = entry.get_ref() else {
            return self.fault(Some(entry.span()), wrong("a table", entry.get_ref()));
        };
        self.draft.routed.push(routed::Entry {
            line,
            ..routed::Entry::default()
        });
        let before = self.faults.len();
        for (key, value) in keys {
            self.setting(SUBNET, key, value);
        }
        self.draft.routed().broken = self.faults.len() > before;
    }

    fn node(&mut self, rule: &Spanned<DeValue<'_>>) {
        let line = self.line(rule.span().start);
        let DeValue::Table(entries) = rule.get_ref() else {
            self.fault(Some(rule.span()), wrong("a table", rule.get_ref()));
            self.draft.never = true;
            return;
        };
        self.draft.nodes.push(Node {
            line,
            ..Node::default()
        });
        for (key, value) in entries {
            self.setting(NODE, key, value);
        }
    }

    /// `[images.NAME]`.
    fn image(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, rule: &Spanned<DeValue<'_>>) {
        let DeValue::Table(entries) = rule.get_ref() else {
            let what = format!(
                "{:?}: what counts for one image stands under [images.NAME]",
                name.get_ref()
            );
            return self.fault(Some(name.span()), what);
        };
        match name.get_ref().parse() {
            Ok(name) => self.draft.images.name = Some(name),
            Err(error) => {
                self.draft.images.name = None;
                let error: NoImageWord = error;
                self.fault(Some(name.span()), format!("{:?}: {error}", name.get_ref()));
            }
        }
        for (key, value) in entries {
            self.setting(IMAGES, key, value);
        }
    }

    fn setting(&mut self, table: &'static str, key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = plain(key.get_ref());
        let Some(setting) = SETTINGS.iter().find(|s| s.table == table && s.key == name) else {
            let what = format!("unknown key {:?}{}", key.get_ref(), hint(table, &name));
            return self.fault(Some(key.span()), what);
        };
        let result = (setting.read)(value.get_ref(), &mut self.draft);
        // A list or text without an end may be more than was meant, or less.
        let whole = key.span().start..=value.span().end;
        let broken = self
            .broken
            .iter()
            .any(|at| whole.contains(&at.start) || whole.contains(&at.end));
        let first = self.line(*whole.start());
        let last = if broken || result.is_err() {
            first
        } else {
            self.line(*whole.end())
        };
        if table == NETWORK && setting.key == "lease-range" {
            self.draft.lease_range_line = Some(first);
        }
        if let Restrains(least) = setting.direction
            && (broken || result.is_err())
        {
            least(&mut self.draft);
        }
        if let Err(reason) = result {
            let place = match table {
                TOP => setting.key.to_owned(),
                NODE => format!("[[node]] number {}: {}", self.draft.nodes.len(), setting.key),
                SUBNET => format!("[[subnet]] number {}: {}", self.draft.routed.len(), setting.key),
                IMAGES => {
                    let name = self.draft.images.name.as_ref().map_or("NAME", |name| name.as_str());
                    format!("[images.{name}] {}", setting.key)
                }
                table => format!("{table}.{}", setting.key),
            };
            self.fault(Some(value.span()), format!("{place}: {reason}"));
        }
        self.read.extend(first..=last);
    }

    /// Looks through the lines that were not understood for settings that restrain: misspelt, written twice, in the
    /// wrong table, or hidden from the parser by a mistake above them.
    fn salvage(&mut self) {
        for (at, line) in self.text.lines().enumerate() {
            let Some((key, _)) = line.split_once('=').filter(|_| !self.read.contains(&(at + 1))) else {
                continue;
            };
            let name = plain(key.trim().trim_matches(['"', '\'']));
            // `network.silent = …` is a way to write it, too.
            let name = name.rsplit('.').next().unwrap_or_default();
            if TABLES.contains(&name) {
                continue;
            }
            let mut near: Vec<&Setting> = SETTINGS.iter().filter(|s| distance(s.key, name) <= NEAR).collect();
            if let Some(best) = near.iter().map(|s| distance(s.key, name)).min() {
                near.retain(|s| distance(s.key, name) == best);
            }
            // Standing alone, the line has no table: any setting of that name may be meant.
            for setting in near {
                let Restrains(least) = setting.direction else { continue };
                let (alone, errors) = DeTable::parse_recoverable(line);
                let mut other = Draft::default();
                let value = alone.get_ref().iter().next().map(|(_, value)| value.get_ref());
                let understood =
                    errors.is_empty() && value.is_some_and(|value| (setting.read)(value, &mut other).is_ok());
                if !understood {
                    other = Draft::default();
                    least(&mut other);
                }
                self.draft.restrain_by(other);
            }
        }
    }
}

/// A key as it stands in the table above: hyphens and underscores are one.
fn plain(key: &str) -> String {
    key.to_ascii_lowercase().replace('_', "-")
}

/// A key with so many letters wrong is taken for a misspelt one.
const NEAR: usize = 2;

fn hint(table: &str, name: &str) -> String {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) {
        return match setting.table {
            TOP => format!("; {name} belongs above the first [table]"),
            NODE | SUBNET => format!("; {name} belongs under [[{}]]", setting.table),
            IMAGES => format!("; {name} belongs under [images.NAME]"),
            right => format!("; {name} belongs under [{right}]"),
        };
    }
    let here = SETTINGS.iter().filter(|s| s.table == table).map(|s| s.key);
    let tables = TABLES.into_iter().filter(|_| table == TOP);
    let near = here.chain(tables).min_by_key(|key| distance(key, name));
    match near.filter(|key| distance(key, name) <= NEAR) {
        Some(key) => format!("; is {key} meant?"),
        None => String::new(),
    }
}

/// Letters to insert, remove or change until one word is the other (Levenshtein distance). Long words are no misspelt keys.
fn distance(a: &str, b: &str) -> usize {
    if b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
