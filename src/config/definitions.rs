//! Every setting of `recon.toml`: where it stands, how it is read, and what holds where it cannot be read. A file with
//! mistakes is read as far as it goes, so that all of them are named at once and what restrains is kept. No I/O.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::MacAddr;

use super::routed;
use super::settings::{LinkRule, parse_subnet};
use crate::model::{PostAction, PowerOff};

/// A mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, counted from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Which way a setting works, so what its absence costs. Every setting has to say.
enum Direction {
    /// It may forbid something. Where it stands in the file and cannot be read, this holds: the least that any value of
    /// it allows.
    Restrains(fn(&mut Draft)),
    /// It names, chooses or allows something. What cannot be read is left at its default, which holds only once a person said so.
    Chooses,
}
use Direction::{Chooses, Restrains};

/// One setting.
struct Setting {
    /// Its table in the file; empty: the top.
    table: &'static str,
    key: &'static str,
    direction: Direction,
    /// Reads its value. An error is a sentence without the key's name.
    read: fn(&DeValue<'_>, &mut Draft) -> Result<(), String>,
}

const TOP: &str = "";
const NETWORK: &str = "network";
const PEERS: &str = "peers";
const NODE: &str = "node";
const SUBNET: &str = "subnet";
const TABLES: [&str; 4] = [NETWORK, PEERS, NODE, SUBNET];

/// Seconds.
pub(crate) const LEASE_SECONDS: RangeInclusive<u32> = 120..=604_800;
/// RFC 2348; below 512 the setting would miss all who ask for no size (RFC 1350).
pub(crate) const TFTP_BLOCK_SIZE: RangeInclusive<u16> = 512..=65464;
/// More links than a machine has are a mistake.
const MAX_SILENT: usize = 64;
/// More rules than a site has machines are a mistake, and are looked through for every boot script. Further ones are a fault.
const MAX_NODE_RULES: usize = 10_000;
/// Faults that are named; the rest is counted.
const MAX_FAULTS: usize = 20;

const SETTINGS: [Setting; 21] = [
    Setting {
        table: TOP,
        key: "site",
        direction: Chooses,
        read: |value, draft| {
            let text = string(value)?;
            if text.len() > 200 || text.chars().any(char::is_control) {
                return Err("at most 200 bytes on one line".to_owned());
            }
            draft.site = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "subnet",
        direction: Chooses,
        read: |value, draft| {
            draft.subnet = Some(parse_subnet(string(value)?)?);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "lease-range",
        direction: Chooses,
        read: |value, draft| {
            draft.lease_range = Some(ends(value)?);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "lease-seconds",
        direction: Chooses,
        read: |value, draft| {
            draft.lease_seconds = Some(number(value, LEASE_SECONDS)?);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "serve-all",
        direction: Restrains(|draft| draft.serve_all = Some(false)),
        read: |value, draft| {
            let DeValue::Boolean(all) = value else {
                return Err(wrong("true or false", value));
            };
            draft.serve_all = Some(*all);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "tftp-block-size",
        direction: Restrains(|draft| draft.tftp_block_size = Some(*TFTP_BLOCK_SIZE.start())),
        read: |value, draft| {
            draft.tftp_block_size = Some(number(value, TFTP_BLOCK_SIZE)?);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "mode",
        direction: Restrains(|draft| draft.mode = Some(LinkRule::Silent)),
        read: |value, draft| {
            draft.mode = Some(string(value)?.parse()?);
            Ok(())
        },
    },
    Setting {
        table: NETWORK,
        key: "silent",
        direction: Restrains(|draft| draft.mode = Some(LinkRule::Silent)),
        read: |value, draft| {
            let DeValue::Array(links) = value else {
                return Err(wrong("a list such as [\"eno2\"]", value));
            };
            if links.len() > MAX_SILENT {
                return Err(format!("{} entries; at most {MAX_SILENT} are read", links.len()));
            }
            for link in links.iter() {
                draft.silent.push(link_name(string(link.get_ref())?)?);
            }
            Ok(())
        },
    },
    Setting {
        table: PEERS,
        key: "post-action",
        direction: Chooses,
        read: |value, draft| {
            draft.post_action = Some(string(value)?.parse()?);
            Ok(())
        },
    },
    Setting {
        table: PEERS,
        key: "poweroff",
        direction: Restrains(|draft| draft.never = true),
        read: |value, draft| {
            draft.poweroff = Some(string(value)?.parse()?);
            Ok(())
        },
    },
    Setting {
        table: PEERS,
        key: "kernel-arguments",
        direction: Chooses,
        read: |value, draft| {
            let text = string(value)?;
            if text.chars().any(|c| c.is_control() || c == '$') {
                return Err("control characters and $ would break the boot script".to_owned());
            }
            draft.kernel_arguments = Some(text.to_owned());
            Ok(())
        },
    },
    // A rule of which nobody knows whose it is may be the one that keeps any machine on.
    Setting {
        table: NODE,
        key: "mac",
        direction: Restrains(|draft| draft.never = true),
        read: |value, draft| {
            draft.node().mac = Some(string(value)?.parse::<MacAddr>().map_err(|error| error.to_string())?);
            Ok(())
        },
    },
    Setting {
        table: NODE,
        key: "uuid",
        direction: Restrains(|draft| draft.never = true),
        read: |value, draft| {
            draft.node().uuid = Some(string(value)?.trim().to_ascii_lowercase());
            Ok(())
        },
    },
    Setting {
        table: NODE,
        key: "address",
        direction: Chooses,
        read: |value, draft| {
            draft.node().address = Some(address(string(value)?)?);
            Ok(())
        },
    },
    Setting {
        table: NODE,
        key: "post-action",
        direction: Chooses,
        read: |value, draft| {
            draft.node().post_action = Some(string(value)?.parse()?);
            Ok(())
        },
    },
    Setting {
        table: NODE,
        key: "poweroff",
        direction: Restrains(|draft| draft.node().poweroff = Some(PowerOff::Never)),
        read: |value, draft| {
            draft.node().poweroff = Some(string(value)?.parse()?);
            Ok(())
        },
    },
    // One of a network behind a router that cannot be read leaves that network out: its machines get no address.
    Setting {
        table: SUBNET,
        key: "subnet",
        direction: Chooses,
        read: |value, draft| {
            draft.routed().subnet = Some(parse_subnet(string(value)?)?);
            Ok(())
        },
    },
    Setting {
        table: SUBNET,
        key: "lease-range",
        direction: Chooses,
        read: |value, draft| {
            draft.routed().lease_range = Some(ends(value)?);
            Ok(())
        },
    },
    Setting {
        table: SUBNET,
        key: "router",
        direction: Chooses,
        read: |value, draft| {
            draft.routed().router = Some(address(string(value)?)?);
            Ok(())
        },
    },
    Setting {
        table: SUBNET,
        key: "via",
        direction: Chooses,
        read: |value, draft| {
            draft.routed().via = Some(address(string(value)?)?);
            Ok(())
        },
    },
    Setting {
        table: SUBNET,
        key: "relays",
        direction: Chooses,
        read: |value, draft| {
            let DeValue::Array(relays) = value else {
                return Err(wrong("a list of addresses", value));
            };
            if relays.len() > routed::MAX_RELAYS {
                return Err(format!(
                    "{} relays; at most {} are read",
                    relays.len(),
                    routed::MAX_RELAYS
                ));
            }
            for relay in relays.iter() {
                let relay = address(string(relay.get_ref())?)?;
                draft.routed().relays.push(relay);
            }
            Ok(())
        },
    },
];

/// What the file says, before its values are held against each other.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub site: Option<String>,
    /// Network address and prefix length.
    pub subnet: Option<(u32, u8)>,
    pub lease_range: Option<(Ipv4Addr, Ipv4Addr)>,
    pub lease_seconds: Option<u32>,
    pub serve_all: Option<bool>,
    pub tftp_block_size: Option<u16>,
    pub mode: Option<LinkRule>,
    /// Interface names and MACs in lower case.
    pub silent: Vec<String>,
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
    /// No machine is powered off, whatever else is said.
    pub never: bool,
    pub kernel_arguments: Option<String>,
    pub nodes: Vec<Node>,
    pub routed: Vec<routed::Entry>,
    /// Line of `lease-range`, whose fault shows only beside `subnet`.
    pub lease_range_line: Option<usize>,
}

/// One `[[node]]`.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub line: usize,
    pub mac: Option<MacAddr>,
    pub uuid: Option<String>,
    pub address: Option<Ipv4Addr>,
    pub post_action: Option<PostAction>,
    pub poweroff: Option<PowerOff>,
}

impl Draft {
    /// The rule that is being read.
    fn node(&mut self) -> &mut Node {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        self.nodes.last_mut().expect("one was put there")
    }

    /// The network behind a router that is being read.
    fn routed(&mut self) -> &mut routed::Entry {
        if self.routed.is_empty() {
            self.routed.push(routed::Entry::default());
        }
        self.routed.last_mut().expect("one was put there")
    }

    /// Takes over what forbids something, and nothing else, of lines that stand at a wrong place or under a wrong name.
    fn restrain_by(&mut self, other: Draft) {
        let stricter = |rule: LinkRule| (rule > self.mode.unwrap_or_default()).then_some(rule);
        self.mode = other.mode.and_then(stricter).or(self.mode);
        self.silent.extend(other.silent);
        let kept_on = other.nodes.iter().any(|node| node.poweroff == Some(PowerOff::Never));
        self.never |= other.never || kept_on || other.poweroff == Some(PowerOff::Never);
        if other.serve_all == Some(false) {
            self.serve_all = Some(false);
        }
        if let Some(size) = other.tftp_block_size {
            self.tftp_block_size = Some(self.tftp_block_size.map_or(size, |known| known.min(size)));
        }
    }
}

/// The file as far as it can be read.
pub(crate) fn read(text: &str) -> (Draft, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        ends: text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at)
            .collect(),
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

/// The faults as they are shown, with a count in place of those that nobody reads to the end of.
pub(crate) fn shown(faults: &[Fault]) -> Vec<String> {
    let mut lines: Vec<String> = faults.iter().take(MAX_FAULTS).map(Fault::to_string).collect();
    if let Some(more) = faults.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
        lines.push(format!("and {more} more"));
    }
    lines
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
            (SUBNET, DeValue::Array(entries)) => {
                if entries.len() > routed::MAX_SUBNETS {
                    let what = format!(
                        "{} [[subnet]] entries; at most {} are read",
                        entries.len(),
                        routed::MAX_SUBNETS
                    );
                    self.fault(Some(value.span()), what);
                }
                for entry in entries.iter().take(routed::MAX_SUBNETS) {
                    self.routed(entry);
                }
            }
            (SUBNET, _) => self.fault(
                Some(key.span()),
                "a network behind a router begins with [[subnet]], in two brackets; the first link's subnet belongs under [network]"
                    .to_owned(),
            ),
            (NODE, DeValue::Array(rules)) => {
                if rules.len() > MAX_NODE_RULES {
                    self.fault(
                        Some(value.span()),
                        format!("{} [[node]] entries; at most {MAX_NODE_RULES} are read", rules.len()),
                    );
                }
                for rule in rules.iter().take(MAX_NODE_RULES) {
                    self.node(rule);
                }
            }
            (NODE, _) => {
                self.fault(
                    Some(key.span()),
                    "a rule for a machine begins with [[node]], in two brackets".to_owned(),
                );
                self.node(value);
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

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wrong(wanted: &str, value: &DeValue<'_>) -> String {
    format!("{wanted} is wanted, not {}", kind(value))
}

fn string<'a>(value: &'a DeValue<'_>) -> Result<&'a str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(wrong("a text in quotation marks", other)),
    }
}

fn number<T>(value: &DeValue<'_>, range: RangeInclusive<T>) -> Result<T, String>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let DeValue::Integer(digits) = value else {
        return Err(wrong("a whole number", value));
    };
    let parsed = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
    let number = parsed.and_then(|number| T::try_from(number).ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{digits} is not between {} and {}", range.start(), range.end()))
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))
}

/// First and last address of a range.
fn ends(value: &DeValue<'_>) -> Result<(Ipv4Addr, Ipv4Addr), String> {
    let DeValue::Array(ends) = value else {
        return Err(wrong("two addresses in brackets", value));
    };
    let [first, last] = ends.iter().collect::<Vec<_>>()[..] else {
        return Err(format!("two addresses are wanted, not {}", ends.len()));
    };
    let read = |end: &Spanned<DeValue<'_>>| address(string(end.get_ref())?);
    Ok((read(first)?, read(last)?))
}

/// An interface name, or a MAC in lower case.
fn link_name(text: &str) -> Result<String, String> {
    match text.trim().parse::<MacAddr>() {
        Ok(mac) => Ok(mac.to_string()),
        // IFNAMSIZ, with its closing zero byte.
        Err(_) if (1..=15).contains(&text.len()) && !text.contains(['/', ':', ' ']) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is neither an interface name nor a MAC")),
    }
}

#[cfg(test)]
mod tests;
