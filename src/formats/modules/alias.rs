//! Patterns of `modules.alias`, and which of many fit a device's `modalias`. Pure.
//!
//! As libkmod has it: fnmatch(3) without flags on bytes, after each `-` outside of brackets became `_`. Classes such as
//! `[[:alpha:]]`, which no kernel writes, are taken for plain brackets.

/// Whether a pattern of `modules.alias` fits the `modalias` of a device.
pub fn alias_matches(pattern: &str, modalias: &str) -> bool {
    fits(underscored(pattern).as_bytes(), modalias.replace('-', "_").as_bytes())
}

/// `-` and `_` are one outside of brackets, where `-` makes a range.
fn underscored(pattern: &str) -> String {
    let mut inside = false;
    let one = |c: char| {
        inside = c == '[' || (inside && c != ']');
        if c == '-' && !inside { '_' } else { c }
    };
    pattern.chars().map(one).collect()
}

/// fnmatch(3). Of several stars only the last one is ever tried again, so it takes pattern × text steps at most.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    // Behind the last star, and where its text ends so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'*') {
            at += 1;
            star = Some((at, next));
            continue;
        }
        match text.get(next) {
            None if rest.is_empty() => return true,
            // Whatever a star takes, the text is too short.
            None => return false,
            Some(byte) => {
                if let Some(taken) = one(rest, *byte) {
                    at += taken;
                    next += 1;
                    continue;
                }
            }
        }
        let Some((behind, end)) = &mut star else {
            return false;
        };
        *end += 1;
        (at, next) = (*behind, *end);
    }
}

/// How many bytes of a pattern stand for this one byte, if it fits.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', list @ ..] => match bracket(list, byte) {
            Some((true, length)) => Some(1 + length),
            Some((false, _)) => None,
            // One that is never closed stands for itself.
            None => (byte == b'[').then_some(1),
        },
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        // Nothing is escaped.
        [b'\\'] => None,
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// Whether the byte is in the list behind `[`, and the length of the list with its end. `None` where it has no end.
fn bracket(list: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(list.first(), Some(b'!' | b'^'));
    let first = usize::from(negated);
    let mut at = first;
    let mut found = false;
    loop {
        let mut low = *list.get(at)?;
        // The first one is a member, and not the end.
        if low == b']' && at > first {
            return Some((found != negated, at + 1));
        }
        at += 1;
        if low == b'\\' {
            low = *list.get(at)?;
            at += 1;
        }
        let mut high = low;
        if list.get(at) == Some(&b'-') && list.get(at + 1).is_some_and(|end| *end != b']') {
            high = *list.get(at + 1)?;
            at += 2;
            if high == b'\\' {
                high = *list.get(at)?;
                at += 1;
            }
        }
        found |= (low..=high).contains(&byte);
    }
}

/// Many patterns, each with the number of its module. All texts are one, because there are ten thousand of them and the machine may
/// be small; they are sorted by bus, the text before the first `:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Aliases {
    text: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    start: u32,
    length: u16,
    /// Of `length`, or [`ANY_BUS`].
    bus: u16,
    module: u32,
}

/// The bus itself is a pattern: `acpi*:PNP0501:*`.
const ANY_BUS: u16 = 0;

impl Aliases {
    /// Adds a pattern; `None` where it, or all of them, are longer than can be numbered here.
    pub(crate) fn push(&mut self, pattern: &str, module: u32) -> Option<()> {
        let bus = pattern.find([':', '*', '?', '[', '\\']);
        let bus = match bus {
            Some(end) if pattern[end..].starts_with(':') => end,
            Some(_) => usize::from(ANY_BUS),
            None => pattern.len(),
        };
        let row = Row {
            start: u32::try_from(self.text.len()).ok()?,
            length: u16::try_from(pattern.len()).ok()?,
            bus: u16::try_from(bus).ok()?,
            module,
        };
        self.text.push_str(&underscored(pattern));
        self.rows.push(row);
        Some(())
    }

    /// To be called once behind the last [`Aliases::push`].
    pub(crate) fn sort(&mut self) {
        self.text.shrink_to_fit();
        self.rows.shrink_to_fit();
        let text = &self.text;
        self.rows.sort_by_key(|row| (bus(text, *row), row.start));
    }

    /// The modules whose patterns fit, each once, in the order of the patterns.
    pub(crate) fn modules_for(&self, modalias: &str) -> Vec<u32> {
        let modalias = modalias.replace('-', "_");
        let own = modalias.split(':').next().unwrap_or_default();
        let mut found: Vec<Row> = Vec::new();
        for name in ["", own] {
            let first = self.rows.partition_point(|row| bus(&self.text, *row) < name);
            let same = self.rows.get(first..).unwrap_or_default().iter();
            let same = same.take_while(|row| bus(&self.text, **row) == name);
            found.extend(same.filter(|row| fits(self.pattern(**row).as_bytes(), modalias.as_bytes())));
        }
        found.sort_by_key(|row| row.start);
        let mut modules = Vec::new();
        for row in found {
            if !modules.contains(&row.module) {
                modules.push(row.module);
            }
        }
        modules
    }

    fn pattern(&self, row: Row) -> &str {
        let start = row.start as usize;
        self.text
            .get(start..start + usize::from(row.length))
            .unwrap_or_default()
    }
}

fn bus(text: &str, row: Row) -> &str {
    let start = row.start as usize;
    text.get(start..start + usize::from(row.bus)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_fit_as_fnmatch_has_it() {
        for (pattern, modalias, expected) in [
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Esv00008086sd0000001Ebc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d0000100Esv*sd*bc*sc*i*",
                "pci:v00008086d0000100Fsv00008086sd0000001Ebc02sc00i00",
                false,
            ),
            ("usb:v13FDp3940d0[0-2]*dc*", "usb:v13FDp3940d0209dc00", true),
            ("usb:v13FDp3940d0[0-2]*dc*", "usb:v13FDp3940d0309dc00", false),
            ("acpi*:IPI0001:*", "acpi:IPI0001:", true),
            ("xen-backend:vif", "xen_backend:vif", true),
            ("of:Nx-yT*", "of:Nx_yTz", true),
            ("a[!b]c", "abc", false),
            ("a[]]c", "a]c", true),
            ("a[b", "a[b", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
        ] {
            assert_eq!(alias_matches(pattern, modalias), expected, "{pattern} {modalias}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!alias_matches(&pattern, &"a".repeat(4000)));
    }

    proptest! {
        #[test]
        fn of_many_patterns_the_same_fit_as_one_by_one(
            patterns in prop::collection::vec("[ab*?:-]{0,6}|[ab]{1,2}:[ab*?\\[\\]-]{0,5}", 0..40),
            modalias in "[ab]{0,2}(:[ab-]{0,4})?",
        ) {
            let mut aliases = Aliases::default();
            for (number, pattern) in (0..).zip(&patterns) {
                // Two patterns a module.
                aliases.push(pattern, number / 2).unwrap();
            }
            aliases.sort();
            let mut expected: Vec<u32> = (0..).zip(&patterns)
                .filter(|(_, pattern)| alias_matches(pattern, &modalias))
                .map(|(number, _)| number / 2)
                .collect();
            expected.dedup();
            prop_assert_eq!(aliases.modules_for(&modalias), expected);
        }
    }
}
