//! Texts out of devices, firmware and disks, made fit for a document. Pure.

use std::borrow::Cow;

/// Bound of a text that somebody outside made up. One that is longer ends with an ellipsis.
const TEXT_LIMIT_CHARS: usize = 512;

/// Text as devices and firmware store it: UTF-8, or else Latin-1, in which every byte is a character.
pub(crate) fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The text of an identity that a maker burns in: a serial number, a part number, a name. Memory that was never written
/// reads as FFh (an erased EEPROM) or 00h throughout, and is no text.
pub(crate) fn burnt(bytes: &[u8]) -> Option<String> {
    let unprogrammed = |byte: &u8| matches!(byte, 0xff | 0 | b' ');
    // Also behind a text that is shorter than its room.
    let end = bytes.iter().rposition(|byte| !unprogrammed(byte))?;
    clean(&decoded(bytes.get(..=end)?))
}

/// Makes text of the machine fit for a document: control characters become spaces, runs of spaces become one, and the ends are
/// trimmed. Nothing left means nothing told. As long as what it is made of. That it is also fit for a person's eyes is for
/// [`crate::model::shown`] to see to.
pub(crate) fn line(text: &str) -> Option<String> {
    let mut cleaned = String::new();
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    for word in words.filter(|word| !word.is_empty()) {
        if !cleaned.is_empty() {
            cleaned.push(' ');
        }
        cleaned.push_str(word);
    }
    (!cleaned.is_empty()).then_some(cleaned)
}

/// [`line()`] for text that somebody outside made up: after [`TEXT_LIMIT_CHARS`] characters it ends with an ellipsis. Not for
/// lists and numbers, which are wrong when they are cut.
pub(crate) fn clean(text: &str) -> Option<String> {
    let mut cleaned = line(text)?;
    if let Some((end, _)) = cleaned.char_indices().nth(TEXT_LIMIT_CHARS) {
        cleaned.truncate(end);
        cleaned.push('…');
    }
    Some(cleaned)
}

/// The first `max`, and how many more there are.
pub(crate) fn first(texts: &[impl AsRef<str>], max: usize) -> String {
    let shown: Vec<&str> = texts.iter().take(max).map(AsRef::as_ref).collect();
    match texts.len().saturating_sub(max) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Sorts digits by value and, as the kernel counts, `sdz` before `sdaa`.
pub(crate) fn natural_key(name: &str) -> Vec<(usize, String)> {
    let mut runs: Vec<String> = Vec::new();
    let mut digits = None;
    for c in name.chars() {
        let is_digit = c.is_ascii_digit();
        match runs.last_mut() {
            Some(run) if digits == Some(is_digit) => run.push(c),
            _ => runs.push(c.to_string()),
        }
        digits = Some(is_digit);
    }
    let significant = |run: String| match run.trim_start_matches('0') {
        "" => (1, run),
        rest => (rest.len(), rest.to_owned()),
    };
    runs.into_iter().map(significant).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_that_was_never_written_is_no_text() {
        assert_eq!(burnt(&[0xff; 8]), None);
        assert_eq!(burnt(&[0; 8]), None);
        assert_eq!(burnt(b"        "), None);
        assert_eq!(burnt(b"S1\xff\xff\0").as_deref(), Some("S1"));
        assert_eq!(burnt(b"Soci\xe9t\xe9").as_deref(), Some("Société"));
        assert_eq!(burnt("Société".as_bytes()).as_deref(), Some("Société"));
    }

    #[test]
    fn text_cannot_move_a_cursor() {
        assert_eq!(clean(" A\u{1b}[2J  B\0\n").as_deref(), Some("A [2J B"));
        assert_eq!(clean(" \t\n\0"), None);
        assert!(clean(&"x".repeat(10_000)).unwrap().len() <= 600);
        assert_eq!(clean(&"é".repeat(512)), Some("é".repeat(512)));
        assert_eq!(clean(&"é".repeat(513)), Some("é".repeat(512) + "…"));
    }

    proptest! {
        #[test]
        fn cleaned_text_is_printable_and_short(text in any::<String>()) {
            if let Some(text) = clean(&text) {
                prop_assert!(!text.is_empty() && !text.chars().any(char::is_control));
                prop_assert!(text.chars().count() <= 1026);
            }
        }

        #[test]
        fn any_name_has_a_key(text in any::<String>()) {
            let _ = natural_key(&text);
        }
    }
}
