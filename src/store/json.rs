//! Reads JSON without keeping it: proves that a text is an object, and hands what is wanted of it to the types that want it.
//!
//! A tree of a document takes up to a hundred times its bytes, and a few kilobytes of gzip unpack to megabytes of brackets. So
//! no tree is made, and what the reader itself has to hold (nesting, the longest string) is bounded before it gets there.

use std::fmt;
use std::io::{self, BufReader, Read};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Deepest nesting; what serde_json itself takes by default. Deeper documents are refused.
pub(super) const MAX_DEPTH: usize = 128;
/// Longest string, in bytes as written. A document with a longer one is refused.
pub(super) const MAX_STRING_BYTES: usize = 1 << 20;
/// Characters kept of a text that is wanted; SMBIOS strings are shorter.
pub(super) const MAX_TEXT_CHARS: usize = 256;
/// Entries of a list that are looked at; a machine has fewer ports. What stands behind them is not told.
const MAX_ENTRIES: usize = 8192;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Why a text is no inventory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotJson(String),
    NotAnObject,
}

/// Reads `reader`, which is to give one object, to its end or to what is wrong.
pub(super) fn read_object<T: Wanted>(reader: impl Read) -> Result<T, Refusal> {
    let mut guard = Guard::new(reader);
    let parsed = serde_json::from_reader::<_, Object<T>>(BufReader::with_capacity(CHUNK_BYTES, &mut guard));
    match parsed {
        Ok(_) if !guard.tail.is_empty() => Err(Refusal::NotJson(NOT_UTF8.to_owned())),
        Ok(object) => Ok(object.0),
        Err(error) if error.is_data() => Err(Refusal::NotAnObject),
        Err(error) => Err(Refusal::NotJson(error.to_string())),
    }
}

const NOT_UTF8: &str = "it is not UTF-8";

/// Lets bytes through as long as their nesting and their strings are within bounds and they are UTF-8, which skipping a string
/// does not check.
struct Guard<R> {
    inner: R,
    depth: usize,
    /// Bytes of the string under way.
    string: Option<usize>,
    escaped: bool,
    /// The first bytes of a character of which the last ones are still to come.
    tail: Vec<u8>,
}

impl<R> Guard<R> {
    fn new(inner: R) -> Self {
        Guard {
            inner,
            depth: 0,
            string: None,
            escaped: false,
            tail: Vec::new(),
        }
    }

    /// Whether what came so far is UTF-8; the end of it may be a part of a character.
    fn is_utf8(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.tail) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return false,
        };
        self.tail.drain(..whole);
        true
    }

    fn look(&mut self, byte: u8) -> Result<(), &'static str> {
        match &mut self.string {
            Some(length) => {
                *length += 1;
                if *length > MAX_STRING_BYTES {
                    return Err("it has a string of more than 1 MiB");
                }
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.string = None,
                    _ => {}
                }
            }
            None => match byte {
                b'"' => self.string = Some(0),
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err("it is nested more than 128 deep");
                    }
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            },
        }
        Ok(())
    }
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = &buffer[..count];
        let looked = match self.is_utf8(bytes) {
            true => bytes.iter().try_for_each(|byte| self.look(*byte)),
            false => Err(NOT_UTF8),
        };
        looked.map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
        Ok(count)
    }
}

/// What is wanted of any value: something of a string, a boolean, the members of an object or the entries of a list, nothing of
/// the others.
pub(super) trait Wanted: Default {
    fn text(&mut self, _: &str) {}
    fn flag(&mut self, _: bool) {}
    fn member<'de, A: MapAccess<'de>>(&mut self, _: &str, map: &mut A) -> Result<(), A::Error> {
        skip(map)
    }
    fn entries<'de, A: SeqAccess<'de>>(&mut self, _: &mut A) -> Result<(), A::Error> {
        Ok(())
    }
}

/// The value of the member under way.
pub(super) fn next<'de, T: Wanted, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<Value<T>>().map(|value| value.0)
}

/// Passes over the value of the member under way.
pub(super) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Reads whatever value comes.
struct Value<T>(T);

impl<'de, T: Wanted> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(T::default())).map(Value)
    }
}

/// Reads an object, and nothing else.
struct Object<T>(T);

impl<'de, T: Wanted> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Any(T::default())).map(Object)
    }
}

struct Any<T>(T);

impl<'de, T: Wanted> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(mut self, text: &str) -> Result<T, E> {
        self.0.text(text);
        Ok(self.0)
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<T, E> {
        self.0.flag(value);
        Ok(self.0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<T, A::Error> {
        self.0.entries(&mut seq)?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            self.0.member(&name.0, &mut map)?;
        }
        Ok(self.0)
    }
}

/// The name of a member; nothing of one that is longer than any that is wanted.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                let text = if text.len() <= MAX_TEXT_CHARS { text } else { "" };
                Ok(Name(text.to_owned()))
            }
        }
        deserializer.deserialize_identifier(Names)
    }
}

/// A text without blanks around it, where one stands there that is not empty.
#[derive(Default)]
pub(super) struct Text(pub(super) Option<String>);

impl Wanted for Text {
    fn text(&mut self, text: &str) {
        let text: String = text.trim().chars().take(MAX_TEXT_CHARS).collect();
        self.0 = (!text.is_empty()).then_some(text);
    }
}

#[derive(Default)]
pub(super) struct Flag(pub(super) bool);

impl Wanted for Flag {
    fn flag(&mut self, value: bool) {
        self.0 = value;
    }
}

/// Entries of a list, the first ones; none where something else stands there.
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<T: Wanted> Wanted for List<T> {
    fn entries<'de, A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<(), A::Error> {
        while self.0.len() < MAX_ENTRIES
            && let Some(entry) = seq.next_element::<Value<T>>()?
        {
            self.0.push(entry.0);
        }
        Ok(())
    }
}
