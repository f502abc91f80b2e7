//! Words for a person's eyes: terminals, logs, pages. Whatever somebody else wrote (a peer, a switch, a BMC, firmware, a disk,
//! a server, a kernel line) may hold characters that a terminal obeys or that show a text as another one. [`Shown`] is text
//! without them, and the only thing that terminals, standard output and standard error take (`sys::terminal`). Lines for the
//! consoles (`sys::console`) and for the log (`cli::log`) pass through here by themselves.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Deref;

/// Stands for a character that must not be shown.
const STAND_IN: char = '\u{fffd}';

/// Format characters (Cf), line and paragraph separators (Zl, Zp) and all that Unicode shows as nothing at all
/// (`Default_Ignorable_Code_Point`): direction marks and overrides, zero-width ones, tags, fillers. The tables are those of
/// Unicode 16.0, `DerivedGeneralCategory.txt` and `DerivedCoreProperties.txt`; a test holds them against another copy.
const UNSEEN: [(char, char); 25] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// True for a character that a terminal may obey, or that hides or reorders others: controls (C0, DEL, C1), [`UNSEEN`], and code
/// points that are no characters (Unicode §23.7).
pub fn acts(c: char) -> bool {
    if c < '\u{7f}' {
        return c < ' ';
    }
    let code = u32::from(c);
    c.is_control()
        || code & 0xfffe == 0xfffe
        || (0xfdd0..=0xfdef).contains(&code)
        || UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// Text as one line that only shows itself: line breaks and tabs become spaces, whatever else [`acts`] becomes U+FFFD, one for
/// one, so that nothing is hidden and columns stay where they are.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let stand_in = |c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if acts(c) => STAND_IN,
        c => c,
    };
    Cow::Owned(text.chars().map(stand_in).collect())
}

/// Text that does nothing but show itself. Line feeds in it are ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown(String);

impl Shown {
    /// One line of it, with its end, whatever `text` holds.
    pub fn line(text: &str) -> Self {
        Shown(format!("{}\n", line(text)))
    }

    /// Text whose line feeds were put there by this program; for text in which a stranger's words could hold one,
    /// [`line()`] comes first.
    pub fn lines(text: &str) -> Self {
        if !text.contains(acts) {
            return Shown(text.to_owned());
        }
        let lines: Vec<Cow<'_, str>> = text.split('\n').map(line).collect();
        Shown(lines.join("\n"))
    }

    /// An error, whose words may have line breaks of either kind: what follows the first line is indented, so that it
    /// cannot pass for something else that was said.
    pub fn error(text: &str) -> Self {
        let mut lines = text.trim_end().split('\n');
        let mut out = line(lines.next().unwrap_or_default().trim_end()).into_owned();
        for more in lines {
            // Writing to a String cannot fail.
            let _ = write!(out, "\n    {}", line(more.trim_end()));
        }
        out.push('\n');
        Shown(out)
    }

    /// JSON for people and programs alike: what must not be shown stands as `\u202e`, so that no value is changed.
    pub fn json(value: &impl serde::Serialize) -> serde_json::Result<Self> {
        let mut text = json_text(&serde_json::to_string_pretty(value)?).into_owned();
        text.push('\n');
        Ok(Shown(text))
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Deref for Shown {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The same JSON document with every character of its strings that [`acts`] written as an escape (RFC 8259 §7). Outside of
/// strings JSON has none but line breaks and tabs, which stay.
pub fn json_text(document: &str) -> Cow<'_, str> {
    let unfit = |c: char| acts(c) && !matches!(c, '\n' | '\r' | '\t');
    if !document.contains(unfit) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if unfit(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// [`json_text`] for a document that comes in pieces, which may end within a character.
#[derive(Debug, Default)]
pub struct JsonStream {
    /// The beginning of a character whose end is still to come: three bytes at most.
    rest: Vec<u8>,
}

impl JsonStream {
    /// What the next piece looks like, as far as its characters are whole. Bytes that are no UTF-8 become U+FFFD.
    pub fn feed(&mut self, piece: &[u8]) -> String {
        self.rest.extend_from_slice(piece);
        let (mut out, mut at) = (String::new(), 0);
        for chunk in self.rest.utf8_chunks() {
            out.push_str(&json_text(chunk.valid()));
            at += chunk.valid().len();
            // Only the last chunk can be a character that is cut; all others are wrong for good.
            let cut = at + chunk.invalid().len() == self.rest.len() && could_go_on(chunk.invalid());
            if cut {
                break;
            }
            if !chunk.invalid().is_empty() {
                out.push(STAND_IN);
                at += chunk.invalid().len();
            }
        }
        self.rest.drain(..at);
        out
    }
}

/// True for the beginning of a character of UTF-8 that is not yet whole.
fn could_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

/// One of each kind that must not reach a terminal, for the tests of whatever shows words.
#[cfg(test)]
pub const EVIL: &str = "A\u{1b}]0;owned\u{7}B\u{1b}[2JC\rD\nE\u{202e}F\u{85}G\u{feff}H\0I\u{7f}J\u{9b}31mK\u{2028}L\u{2066}M\
                        \u{200f}N\u{61c}O\u{200b}P\u{e0041}Q\u{ffff}R\u{fdd0}S\tT\u{2029}U\u{10ffff}";

/// Fails where `text` holds anything that acts, but for line feeds.
#[cfg(test)]
pub fn assert_harmless(text: &str) {
    let found: Vec<char> = text.chars().filter(|c| acts(*c) && *c != '\n').collect();
    assert!(found.is_empty(), "{found:?} in {text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_in_pieces_looks_like_the_whole() {
        let document = format!("{{\"a\": \"é漢\u{10348}{EVIL}\",\n\"b\": 1}}");
        for size in [1, 2, 3, 7, 1000] {
            let mut stream = JsonStream::default();
            let pieces: String = document
                .as_bytes()
                .chunks(size)
                .map(|piece| stream.feed(piece))
                .collect();
            assert_eq!(pieces, json_text(&document), "{size}");
        }
        let mut stream = JsonStream::default();
        assert_eq!(
            stream.feed(b"a\xffb\xe2\x82") + &stream.feed(b"\xac"),
            "a\u{fffd}b\u{20ac}"
        );
        assert_eq!(stream.feed(b"\xe2\x82") + &stream.feed(b"x"), "\u{fffd}x");
    }

    #[test]
    fn what_acts_is_what_unicode_says() {
        let witness = regex::Regex::new(r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{DI}\p{NChar}]$").unwrap();
        // In a pattern without `s`, classes match line feeds too.
        for c in '\0'..=char::MAX {
            let named = witness.is_match(c.encode_utf8(&mut [0; 4]));
            assert_eq!(acts(c), named, "{c:?}");
        }
        assert!(UNSEEN.is_sorted());
    }

    #[test]
    fn what_only_shows_itself_stays() {
        for plain in [
            "",
            "Dell PowerEdge R740, 3 × 2.4 GHz",
            "Größe … Ω 漢字 עברית العربية 😀",
            "a\u{301}",
        ] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain));
            assert_eq!(&*Shown::lines(plain), plain);
        }
    }

    #[test]
    fn what_acts_is_seen_but_does_nothing() {
        assert_harmless(EVIL.replace(acts, "").as_str());
        let shown = line(EVIL);
        assert_harmless(&shown);
        assert!(!shown.contains('\n'));
        assert_eq!(shown.chars().count(), EVIL.chars().count());
        assert!(
            shown.starts_with("A\u{fffd}]0;owned\u{fffd}B\u{fffd}[2JC D E\u{fffd}F"),
            "{shown}"
        );
        assert_eq!(&*Shown::lines("a\nb\u{1b}c\n"), "a\nb\u{fffd}c\n");
    }

    #[test]
    fn an_error_cannot_pass_for_two() {
        let text = Shown::error("reading x: bad\nrecon: everything is stored\u{1b}[1A\r\n");
        assert_eq!(&*text, "reading x: bad\n    recon: everything is stored\u{fffd}[1A\n");
    }

    proptest! {
        #[test]
        fn json_says_the_same(text in any::<String>(), key in any::<String>()) {
            let value = serde_json::json!({ (format!("{key}{EVIL}")): [text, EVIL, 1.5, null] });
            let shown = Shown::json(&value).unwrap();
            assert_harmless(&shown);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn whatever_is_shown_is_harmless(text in any::<String>()) {
            let text = format!("{text}{EVIL}{text}");
            assert_harmless(&Shown::lines(&text));
            assert_harmless(&Shown::error(&text));
            prop_assert_eq!(Shown::line(&text).matches('\n').count(), 1);
        }
    }
}
