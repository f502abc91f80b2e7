//! Lines, labels and words of an iPXE script. Pure.
//!
//! As iPXE reads them (its `image/script.c` and `core/exec.c`): words are parted by white space and nothing else, quotation marks are
//! letters like others; a backslash at the end joins the next line; a word that begins with `#` begins a comment.

use super::error::{MAX_SCRIPT_BYTES, ScriptError};

/// Longest line, joined as it is; also of one whose settings are filled in.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;
/// Most lines of a script; the longest of the field have some hundreds.
const MAX_LINES: usize = 20_000;

/// A script, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Number of its first line in the file, from 1.
    pub(super) number: usize,
    pub(super) label: Option<String>,
    /// What follows the label.
    command: String,
}

/// White space of C's `isspace`.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Whether these bytes claim to be a script: `#!ipxe` or, as older ones have it, `#!gpxe`, and white space.
pub fn is_script(bytes: &[u8]) -> bool {
    matches!(bytes.get(..6), Some(b"#!ipxe" | b"#!gpxe"))
        && bytes.get(6).is_some_and(|byte| is_space(char::from(*byte)))
}

impl Script {
    /// # Errors
    /// The bytes are no script, too many, or no text.
    pub fn read(bytes: &[u8]) -> Result<Self, ScriptError> {
        if !is_script(bytes) {
            return Err(ScriptError::NoScript);
        }
        if bytes.len() > MAX_SCRIPT_BYTES {
            return Err(ScriptError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ScriptError::NoText)?;
        let mut lines = Vec::new();
        let mut joined = String::new();
        let mut first = 1;
        for (index, part) in text.split('\n').enumerate() {
            joined.push_str(part.strip_suffix('\r').unwrap_or(part));
            if joined.ends_with('\\') {
                joined.pop();
                continue;
            }
            lines.push(Line::read(first, &joined)?);
            joined.clear();
            if lines.len() > MAX_LINES {
                return Err(ScriptError::TooMuch("lines"));
            }
            first = index + 2;
        }
        if !joined.is_empty() {
            lines.push(Line::read(first, &joined)?);
        }
        Ok(Self { lines })
    }

    pub(super) fn line(&self, index: usize) -> Option<&Line> {
        self.lines.get(index)
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let of_line = |line: &Line| line.command.len() + line.label.as_ref().map_or(0, String::len);
        size_of_val(&self.lines[..]) + self.lines.iter().map(of_line).sum::<usize>()
    }

    /// Index of the first line with this label.
    pub(super) fn label(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.label.as_deref() == Some(name))
    }
}

impl Line {
    fn read(number: usize, text: &str) -> Result<Self, ScriptError> {
        if text.len() > MAX_LINE_BYTES {
            return Err(ScriptError::TooMuch("letters in a line"));
        }
        let text = text.trim_start_matches(is_space);
        let (label, command) = match text.strip_prefix(':') {
            Some(rest) => {
                let (label, command) = rest.split_once(is_space).unwrap_or((rest, ""));
                (Some(label.to_owned()), command)
            }
            None => (None, text),
        };
        let command = command.to_owned();
        Ok(Self { number, label, command })
    }

    /// Its words, without a comment.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let words = self.command.split(is_space).filter(|word| !word.is_empty());
        words.take_while(|word| !word.starts_with('#'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(line: &Line) -> Vec<String> {
        line.words().map(str::to_owned).collect()
    }

    fn words(script: &str) -> Vec<Vec<String>> {
        let script = Script::read(script.as_bytes()).unwrap();
        script.lines.iter().map(words_of).collect()
    }

    #[test]
    fn words_are_parted_by_white_space_alone() {
        let read = words("#!ipxe\nkernel http://a/b  x=\"1 2\"\ty # rest\n");
        assert_eq!(read[1], ["kernel", "http://a/b", "x=\"1", "2\"", "y"]);
    }

    #[test]
    fn lines_are_joined_and_labels_found() {
        let script = Script::read(b"#!ipxe\r\n set a \\\r\n b\r\n:again  echo on\n:last").unwrap();
        assert_eq!(words_of(&script.lines[1]), ["set", "a", "b"]);
        assert_eq!(script.lines[1].number, 2);
        assert_eq!(script.label("again"), Some(2));
        assert_eq!(words_of(&script.lines[2]), ["echo", "on"]);
        assert_eq!(script.lines[2].number, 4);
        assert_eq!(script.label("last"), Some(3));
        assert_eq!(script.label("none"), None);
    }

    #[test]
    fn what_is_no_script_is_said() {
        for (bytes, error) in [
            (&b"#!ipxescript\n"[..], ScriptError::NoScript),
            (b"", ScriptError::NoScript),
            (b"#!/bin/sh\n", ScriptError::NoScript),
            (b"#!ipxe\n\xff\n", ScriptError::NoText),
        ] {
            assert_eq!(Script::read(bytes), Err(error));
        }
        let long = [b"#!ipxe\n".as_slice(), &vec![b'a'; MAX_SCRIPT_BYTES]].concat();
        assert_eq!(Script::read(&long), Err(ScriptError::TooLong));
        let line = |bytes| [b"#!ipxe\n".as_slice(), &vec![b'a'; bytes], b"\necho"].concat();
        assert!(Script::read(&line(MAX_LINE_BYTES)).is_ok());
        let refused = Err(ScriptError::TooMuch("letters in a line"));
        assert_eq!(Script::read(&line(MAX_LINE_BYTES + 1)), refused);
        let lines = [b"#!ipxe\n".as_slice(), &vec![b'\n'; MAX_LINES]].concat();
        assert_eq!(Script::read(&lines), Err(ScriptError::TooMuch("lines")));
        assert!(Script::read(b"#!gpxe\nboot").is_ok());
    }
}
