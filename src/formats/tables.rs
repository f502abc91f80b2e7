//! Tables of numbers and their names, which stand as text (`*.tsv`) beside their readers: a row a line, fields between tabs. Lines
//! that begin with `#` are comments and name the source.

/// The first `N` fields of each row; one that is not there is empty.
pub(crate) fn rows<const N: usize>(table: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields)
}

fn fields<const N: usize>(line: &'static str) -> [&'static str; N] {
    let mut fields = line.split('\t');
    std::array::from_fn(|_| fields.next().unwrap_or_default())
}

/// A number as tables have them: decimal, or hex behind `0x`.
pub(crate) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The name of a number in one list of a table of several: list, number or `first-last`, name. The list is in the table.
pub(crate) fn name(table: &'static str, list: &str, code: impl Into<u32>) -> Option<&'static str> {
    debug_assert!(lines_of(table, list).next().is_some(), "no list {list:?}");
    name_if_listed(table, list, code)
}

/// The same where there may be no such list.
pub(crate) fn name_if_listed(table: &'static str, list: &str, code: impl Into<u32>) -> Option<&'static str> {
    let code = code.into();
    let is_named = |codes: &str| {
        let (first, last) = codes.split_once('-').unwrap_or((codes, codes));
        Some(number(first)? <= code && code <= number(last)?)
    };
    let mut rows = lines_of(table, list).map(fields);
    let row = rows.find(|[codes, _]| is_named(codes) == Some(true));
    row.map(|[_, name]| name)
}

fn lines_of(table: &'static str, list: &str) -> impl Iterator<Item = &'static str> {
    table
        .lines()
        .filter_map(move |line| line.strip_prefix(list)?.strip_prefix('\t'))
}

/// The names of the bits that are set, from bit 0 on; bits that are not listed are left out.
pub(crate) fn set_names(table: &'static str, list: &str, bits: impl Into<u32>) -> Vec<String> {
    let bits = bits.into();
    let set = (0..u32::BITS).filter(|bit| bits >> bit & 1 == 1);
    set.filter_map(|bit| name(table, list, bit))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# source\nslot\t0x03\tISA\nslot\t0x0f-0x11\tAGP\nentity\t15\tdrive backplane\twell\n";

    #[test]
    fn numbers_have_the_name_of_their_list() {
        assert_eq!(name(TABLE, "slot", 3u8), Some("ISA"));
        assert_eq!(name(TABLE, "slot", 0x11u8), Some("AGP"));
        assert_eq!(name(TABLE, "slot", 0x12u8), None);
        assert_eq!(name(TABLE, "entity", 15u8), Some("drive backplane"));
        assert_eq!(name(TABLE, "entity", 3u8), None);
        let marks: Vec<_> = rows(TABLE).map(|[_, _, _, mark]| mark).collect();
        assert_eq!(marks, ["", "", "well"]);
    }

    #[test]
    #[should_panic = "no list \"slots\""]
    #[cfg(debug_assertions)]
    fn a_list_that_is_not_there_is_a_mistake() {
        assert_eq!(name_if_listed(TABLE, "slots", 3u8), None);
        name(TABLE, "slots", 3u8);
    }

    #[test]
    fn every_row_has_its_fields_and_numbers() {
        let numbered = [
            include_str!("../probe/cabling/lldp/names.tsv"),
            include_str!("../probe/nics/optics.tsv"),
            include_str!("../probe/disks/ata_attributes.tsv"),
        ];
        for [list, code, name, rest] in numbered.into_iter().flat_map(rows) {
            let whole = !list.is_empty() && !name.is_empty() && rest.is_empty();
            assert!(whole && number(code).is_some(), "{list} {code} {name} {rest}");
        }
        let told = ["firmware", "model", "option rom", "serial", "driver version"];
        for [what, file, rest] in rows(include_str!("../probe/disks/host_attributes.tsv")) {
            assert!(
                told.contains(&what) && !file.is_empty() && rest.is_empty(),
                "{what} {file} {rest}"
            );
        }
    }

    #[test]
    fn bits_are_named_from_the_lowest() {
        assert_eq!(set_names("bit\t0\ta\nbit\t3\td\n", "bit", 0b1011u8), ["a", "d"]);
    }
}
