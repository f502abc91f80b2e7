//! The page: labels, lines of 80 columns, and what is missing of a part.

use super::words::list;
use crate::model::inventory::{Item, Part};
use crate::model::shown;

const WIDTH: usize = 80;
/// Column where the text begins.
const INDENT: usize = 10;

/// What is missing, a line each; the same piece of many devices for the same reason is one line.
fn folded(items: &[Item]) -> Vec<String> {
    // The reason often names the device itself.
    fn split(item: &Item) -> (&str, &str, String) {
        let (device, piece) = item.item.rsplit_once('.').unwrap_or(("", &item.item));
        let reason = item.reason.as_deref().unwrap_or("no reason given");
        let common = if device.is_empty() {
            reason.to_owned()
        } else {
            reason.replace(&format!("/{device}/"), "/*/")
        };
        (device, piece, common)
    }
    let mut groups: Vec<(&Item, Vec<&str>)> = Vec::new();
    for item in items.iter().filter(|item| item.is_gap()) {
        let (device, piece, reason) = split(item);
        let same = |(first, _): &&mut (&Item, Vec<&str>)| {
            let (other, other_piece, other_reason) = split(first);
            first.status == item.status
                && !device.is_empty()
                && !other.is_empty()
                && (piece, &reason) == (other_piece, &other_reason)
        };
        match groups.iter_mut().find(same) {
            Some((_, devices)) => devices.push(device),
            None => groups.push((item, vec![device])),
        }
    }
    let told = |(item, devices): (&Item, Vec<&str>)| {
        let status = item.status.as_str().replace('_', " ");
        let (_, piece, reason) = split(item);
        match devices.as_slice() {
            [_] => format!("{} {status}: {}", item.item, item.reason.as_deref().unwrap_or(&reason)),
            many => format!("{piece} {status}: {reason} ({})", many.join(", ")),
        }
    };
    groups.into_iter().map(told).collect()
}

#[derive(Default)]
pub(super) struct Page {
    out: String,
    /// Stands before the next item, then is gone.
    label: &'static str,
}

impl Page {
    pub(super) fn text(&self) -> &str {
        &self.out
    }

    pub(super) fn part<T>(&mut self, label: &'static str, part: &Part<T>, lines: impl FnOnce(&mut Page, &T)) {
        self.label = label;
        match &part.value {
            Some(value) => lines(self, value),
            None => {
                let reason = part.reason.as_deref().unwrap_or("no reason given");
                let status = part.status.as_str().replace('_', " ");
                self.item(&format!("{}: {reason}", status.to_uppercase()));
            }
        }
        if part.value.is_some()
            && let Some(reason) = &part.reason
        {
            self.item(&format!("note: {reason}"));
        }
        for gap in folded(&part.items) {
            self.item(&format!("! {gap}"));
        }
        self.label = "";
    }

    /// One thing, wrapped at spaces; its further lines stand two columns deeper.
    pub(super) fn item(&mut self, text: &str) {
        if !text.is_empty() {
            let label = std::mem::take(&mut self.label);
            self.wrapped(text, format!("{label:<INDENT$}"), INDENT + 2);
        }
    }

    /// Facts in a row, those that are known.
    pub(super) fn facts(&mut self, facts: impl IntoIterator<Item = Option<String>>) {
        self.item(&list(facts));
    }

    /// A thing that is told of by its name, with or without facts.
    pub(super) fn entry<'a>(&'a mut self, name: &'a str) -> Entry<'a> {
        let always = true;
        Entry {
            page: self,
            name,
            always,
        }
    }

    /// Facts under a name, which is not told without any.
    pub(super) fn group<'a>(&'a mut self, name: &'a str) -> Entry<'a> {
        let always = false;
        Entry {
            page: self,
            name,
            always,
        }
    }

    /// More about the item above, two columns deeper.
    pub(super) fn detail(&mut self, text: &str) {
        self.wrapped(text, " ".repeat(INDENT + 2), INDENT + 4);
    }

    /// `line` is how the first line begins; the further ones begin in column `next`.
    fn wrapped(&mut self, text: &str, mut line: String, next: usize) {
        if text.is_empty() {
            return;
        }
        let mut used = line.chars().count();
        let mut fresh = true;
        // A line break in a value makes no row of its own.
        for word in shown::line(text).split(' ') {
            let mut word = word;
            loop {
                let length = word.chars().count();
                let gap = usize::from(!fresh);
                if used + gap + length <= WIDTH {
                    if gap == 1 {
                        line.push(' ');
                    }
                    line.push_str(word);
                    used += gap + length;
                    fresh = false;
                    break;
                }
                if fresh {
                    // A word longer than a line is cut where the line ends.
                    let cut = word.char_indices().nth(WIDTH - used).map_or(word.len(), |(at, _)| at);
                    let (head, tail) = word.split_at(cut);
                    line.push_str(head);
                    word = tail;
                }
                self.end_line(&line);
                used = next;
                line = " ".repeat(used);
                fresh = true;
            }
        }
        self.end_line(&line);
    }

    fn end_line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

/// `name: facts`, until its facts are told.
pub(super) struct Entry<'a> {
    page: &'a mut Page,
    name: &'a str,
    always: bool,
}

impl Entry<'_> {
    pub(super) fn facts(self, facts: impl IntoIterator<Item = Option<String>>) {
        let facts = list(facts);
        if self.always || !facts.is_empty() {
            self.page.item(&format!("{}: {facts}", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_gap_of_many_devices_is_one_line() {
        let gap = |item: &str, reason: &str| Item::gap(item, crate::model::inventory::PartStatus::Denied, reason);
        let items = [
            gap("sda.smart", "block/sda/0-512: no"),
            gap("numa", "no"),
            gap("sdb.smart", "block/sdb/0-512: no"),
            gap("sdb.content", "no"),
            Item::ok("sdc.smart", "x", 0),
        ];
        assert_eq!(
            folded(&items),
            [
                "smart denied: block/*/0-512: no (sda, sdb)",
                "numa denied: no",
                "sdb.content denied: no"
            ]
        );
    }

    #[test]
    fn a_value_makes_no_row_of_its_own() {
        let mut page = Page {
            label: "Disks",
            ..Page::default()
        };
        page.item("sda: SSD\nsdb: 480 GB");
        page.detail("a\rb");
        assert_eq!(page.out, "Disks     sda: SSD sdb: 480 GB\n            a b\n");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_console(text in "[a-zé ]{0,300}", long in "[a-z]{0,200}") {
            let mut page = Page { label: "Network", ..Page::default() };
            page.item(&text);
            page.detail(&long);
            for line in page.out.lines() {
                prop_assert!(line.chars().count() <= WIDTH, "{line:?}");
            }
            let kept: usize = page.out.replace("Network", "").chars().filter(|c| !c.is_whitespace()).count();
            let given = format!("{text}{long}").chars().filter(|c| !c.is_whitespace()).count();
            prop_assert_eq!(kept, given);
        }
    }
}
