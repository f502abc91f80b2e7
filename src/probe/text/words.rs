//! How values read: sizes, numbers of things, lists.

use std::fmt::Display;

use crate::model::inventory::is_placeholder;

/// Sizes of disks are sold in powers of ten.
pub(crate) fn decimal_size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Sizes of memory come in powers of two.
pub(super) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

pub(super) fn scaled(bytes: u64, step: f64, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(value < 100.0 && (value - value.round()).abs() >= 0.05);
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"B"))
}

pub(super) fn plural(number: impl TryInto<u64>, noun: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Nothing to say of none.
pub(super) fn counted(number: impl Into<Option<u64>>, what: &str) -> Option<String> {
    let number = number.into().filter(|number| *number > 0)?;
    Some(format!("{number} {what}"))
}

/// `text` where it holds.
pub(super) fn mark(holds: bool, text: &str) -> Option<String> {
    holds.then(|| text.to_owned())
}

pub(super) fn with(label: &str, value: Option<impl Display>) -> Option<String> {
    value.map(|value| format!("{label} {value}"))
}

pub(super) fn unit(value: Option<impl Display>, unit: &str) -> Option<String> {
    value.map(|value| format!("{value} {unit}"))
}

/// For a place beside a name.
pub(super) fn bracketed(value: Option<impl Display>) -> Option<String> {
    value.map(|value| format!("({value})"))
}

pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Leaves out what firmware never filled in; the document has it as it stands.
pub(super) fn labelled(label: &str, value: &Option<String>) -> Option<String> {
    with(label, value.as_ref().filter(|value| !is_placeholder(value)))
}

pub(super) fn prefixed(label: &str, text: String) -> String {
    if text.is_empty() {
        text
    } else {
        format!("{label}: {text}")
    }
}

pub(super) fn words(parts: impl IntoIterator<Item = Option<String>>) -> String {
    Vec::from_iter(parts.into_iter().flatten()).join(" ")
}

pub(super) fn list(parts: impl IntoIterator<Item = Option<String>>) -> String {
    Vec::from_iter(parts.into_iter().flatten()).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        assert_eq!(decimal_size(0), "0 B");
        assert_eq!(decimal_size(480_103_981_056), "480 GB");
        assert_eq!(decimal_size(8_001_563_222_016), "8 TB");
        assert_eq!(decimal_size(1_920_383_410_176), "1.9 TB");
        assert_eq!(binary_size(16 << 30), "16 GiB");
        assert_eq!(binary_size(67_235_033_088), "62.6 GiB");
        assert_eq!(binary_size(u64::MAX), "16 EiB");
    }
}
