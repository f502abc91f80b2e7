//! Words for the numbers of SMBIOS.

use crate::formats::tables;

/// The lists, each with its clause.
const NAMES: &str = include_str!("names.tsv");

/// What a number is called by one of the lists; nothing where that has nothing to tell.
pub(crate) fn name(list: &str, code: u8) -> Option<String> {
    let listed = tables::name(NAMES, list, code).map(str::to_owned);
    // Nearly everywhere 0 stands for none, and 2 for unknown.
    let is_told = !matches!(code, 0 | 2);
    listed.or_else(|| {
        let [.., word] = tables::rows(NAMES).find(|[of, code, _]| is_told && *of == list && *code == "*")?;
        Some(format!("{word} {code:#04x}"))
    })
}

/// What the bits that are set are called by one of the lists.
pub(crate) fn set(list: &str, bits: u16) -> Vec<String> {
    tables::set_names(NAMES, list, bits)
}

/// Kind of a chassis (7.4.1).
pub(crate) fn chassis_kind(kind: u8) -> Option<String> {
    name("chassis kind", kind).or_else(|| (!matches!(kind, 0 | 2)).then(|| format!("type {kind}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pci_express_slots_count_through_generations_and_widths() {
        for (kind, name) in [
            (0xa5, "PCI Express"),
            (0xaa, "PCI Express x16"),
            (0xab, "PCI Express 2"),
            (0xb6, "PCI Express 3 x16"),
            (0xb8, "PCI Express 4"),
            (0xbd, "PCI Express 4 x16"),
            (0xc3, "PCI Express 5 x16"),
        ] {
            assert_eq!(super::name("slot kind", kind).as_deref(), Some(name), "{kind:#x}");
        }
        assert_eq!(name("slot kind", 0xb7).as_deref(), Some("type 0xb7"));
    }

    #[test]
    fn every_number_is_told_or_not() {
        let (mut last, mut begun) = (("", None), BTreeSet::new());
        for [list, codes, word] in tables::rows(NAMES) {
            let (first, end) = codes.split_once('-').unwrap_or((codes, codes));
            let ends = [first, end].map(|code| tables::number(code).and_then(|code| u8::try_from(code).ok()));
            match ends {
                [Some(first), Some(end)] => {
                    // A list stands in one place, in the order of its numbers.
                    let next = if list == last.0 {
                        last.1 < Some(first)
                    } else {
                        begun.insert(list)
                    };
                    assert!(next, "{list} {codes}");
                    last = (list, Some(end));
                    assert!(first <= end && (first..=end).all(|code| name(list, code).as_deref() == Some(word)));
                }
                _ => assert_eq!(codes, "*", "{list}"),
            }
        }
        assert_eq!(name("slot width", 0x40).as_deref(), Some("width 0x40"));
        assert_eq!(name("board kind", 0x40), None);
        assert_eq!((name("form factor", 0), name("form factor", 2)), (None, None));
    }
}
