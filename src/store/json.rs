//! Reads an inventory without keeping it: proves that it is JSON, and keeps the three words that a table shows.
//!
//! A tree of a document takes up to a hundred times its bytes, and a few kilobytes of gzip unpack to megabytes of brackets. So
//! no tree is made, and what the reader itself has to hold (nesting, the longest string) is bounded before it gets there.

use std::fmt;
use std::io::{self, BufReader, Read};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::shown;

/// Deepest nesting; what serde_json itself takes by default. Deeper documents are refused.
const MAX_DEPTH: usize = 128;
/// Longest string, in bytes as written. A document with a longer one is refused.
const MAX_STRING: usize = 1 << 20;
/// Characters kept of each word of a summary; the rest is cut.
const MAX_WORD_CHARS: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

/// Why a text is no inventory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotJson(String),
    NotAnObject,
}

/// Vendor, product and serial number of an inventory, in one line, as far as it has them. Reads `reader` to its end or to what is
/// wrong. An error of the reader itself is a refusal here as well; who needs to tell them apart has to watch the reader.
pub(crate) fn summary(reader: impl Read) -> Result<Option<String>, Refusal> {
    let mut guard = Guard::new(reader);
    let parsed = serde_json::from_reader::<_, Document>(BufReader::with_capacity(CHUNK, &mut guard));
    match parsed {
        Ok(_) if guard.rest > 0 => Err(Refusal::NotJson(NOT_UTF8.to_owned())),
        Ok(document) => Ok(document.0.line()),
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
    /// Bytes still to come of the character under way, and the values that the next of them may have.
    rest: u8,
    next: (u8, u8),
}

impl<R> Guard<R> {
    fn new(inner: R) -> Self {
        Guard {
            inner,
            depth: 0,
            string: None,
            escaped: false,
            rest: 0,
            next: (0x80, 0xbf),
        }
    }

    /// Well-formed byte sequences: Unicode 16.0, table 3-7.
    fn utf8(&mut self, byte: u8) -> bool {
        if self.rest > 0 {
            let fits = (self.next.0..=self.next.1).contains(&byte);
            self.next = (0x80, 0xbf);
            self.rest -= 1;
            return fits;
        }
        (self.rest, self.next) = match byte {
            0x00..=0x7f => (0, (0x80, 0xbf)),
            0xc2..=0xdf => (1, (0x80, 0xbf)),
            0xe0 => (2, (0xa0, 0xbf)),
            0xed => (2, (0x80, 0x9f)),
            0xe1..=0xef => (2, (0x80, 0xbf)),
            0xf0 => (3, (0x90, 0xbf)),
            0xf1..=0xf3 => (3, (0x80, 0xbf)),
            0xf4 => (3, (0x80, 0x8f)),
            _ => return false,
        };
        true
    }

    fn look(&mut self, byte: u8) -> Result<(), &'static str> {
        if !self.utf8(byte) {
            return Err(NOT_UTF8);
        }
        match &mut self.string {
            Some(length) => {
                *length += 1;
                if *length > MAX_STRING {
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
        for byte in &buffer[..count] {
            self.look(*byte)
                .map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
        }
        Ok(count)
    }
}

/// A name of a member that matters; all others are one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    System,
    Value,
    Vendor,
    Product,
    Serial,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(match text {
                    "system" => Name::System,
                    "value" => Name::Value,
                    "vendor" => Name::Vendor,
                    "product" => Name::Product,
                    "serial" => Name::Serial,
                    _ => Name::Other,
                })
            }
        }
        deserializer.deserialize_identifier(Names)
    }
}

/// What is wanted of any value: something of a string or of an object's members, nothing of the others.
trait Wanted: Default {
    fn text(&mut self, _: &str) {}
    fn member<'de, A: MapAccess<'de>>(&mut self, _: Name, map: &mut A) -> Result<(), A::Error> {
        map.next_value::<IgnoredAny>().map(drop)
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

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.0)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<T, A::Error> {
        while let Some(name) = map.next_key()? {
            self.0.member(name, &mut map)?;
        }
        Ok(self.0)
    }
}

/// Reads whatever value comes.
struct Read1<T>(T);

impl<'de, T: Wanted> Deserialize<'de> for Read1<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(T::default())).map(Read1)
    }
}

#[derive(Default)]
struct Word(Option<String>);

impl Wanted for Word {
    fn text(&mut self, text: &str) {
        // A terminal must not obey what firmware wrote into a string.
        let text: String = shown::line(text.trim()).chars().take(MAX_WORD_CHARS).collect();
        self.0 = (!text.is_empty()).then_some(text);
    }
}

#[derive(Default)]
struct Words {
    vendor: Word,
    product: Word,
    serial: Word,
}

impl Wanted for Words {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: Name, map: &mut A) -> Result<(), A::Error> {
        let word = match name {
            Name::Vendor => &mut self.vendor,
            Name::Product => &mut self.product,
            Name::Serial => &mut self.serial,
            _ => return map.next_value::<IgnoredAny>().map(drop),
        };
        *word = map.next_value::<Read1<Word>>()?.0;
        Ok(())
    }
}

/// The part `system`: its words stand in `value`, or beside it in documents of other makers.
#[derive(Default)]
struct System {
    value: Words,
    own: Words,
}

impl Wanted for System {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: Name, map: &mut A) -> Result<(), A::Error> {
        match name {
            Name::Value => self.value = map.next_value::<Read1<Words>>()?.0,
            name => self.own.member(name, map)?,
        }
        Ok(())
    }
}

impl System {
    fn line(self) -> Option<String> {
        let (value, own) = (self.value, self.own);
        let words = [
            value.vendor.0.or(own.vendor.0),
            value.product.0.or(own.product.0),
            value.serial.0.or(own.serial.0),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

#[derive(Default)]
struct Members(System);

impl Wanted for Members {
    fn member<'de, A: MapAccess<'de>>(&mut self, name: Name, map: &mut A) -> Result<(), A::Error> {
        match name {
            Name::System => self.0 = map.next_value::<Read1<System>>()?.0,
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// An object, and nothing else.
struct Document(System);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Document;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                Any(Members::default())
                    .visit_map(map)
                    .map(|members| Document(members.0))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn line(text: &str) -> Option<String> {
        summary(text.as_bytes()).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        match summary(bytes) {
            Err(Refusal::NotJson(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_words_are_found_wherever_they_may_stand() {
        let part = r#"{"a":[{"system":1}],"system":{"status":"ok","value":{"vendor":" Acme ","product":"R1","serial":"7","x":{}}}}"#;
        assert_eq!(line(part).as_deref(), Some("Acme R1 7"));
        assert_eq!(
            line(r#"{"system":{"vendor":"Acme","serial":"7\u001b[2J"}}"#).as_deref(),
            Some("Acme 7\u{fffd}[2J")
        );
        assert_eq!(
            line(r#"{"system":{"value":{"vendor":"A"},"vendor":"B","product":"P"}}"#).as_deref(),
            Some("A P")
        );
        for none in [
            "{}",
            r#"{"system":null}"#,
            r#"{"system":[1,{"vendor":"x"}]}"#,
            r#"{"system":{"value":7,"vendor":{"vendor":"x"},"product":["y"],"serial":true}}"#,
            r#"{"system":"vendor","vendor":"x"}"#,
        ] {
            assert_eq!(line(none), None, "{none}");
        }
        let long = format!(r#"{{"system":{{"vendor":"{}"}}}}"#, "ä".repeat(5000));
        assert_eq!(line(&long), Some("ä".repeat(64)));
    }

    #[test]
    fn what_would_have_to_be_held_is_bounded() {
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(line(&deep(MAX_DEPTH)), None);
        assert!(refusal(deep(MAX_DEPTH + 1).as_bytes()).contains("128 deep"));
        let string = |length: usize| format!(r#"{{"a":"{}"}}"#, "s".repeat(length));
        assert_eq!(line(&string(MAX_STRING - 1)), None);
        assert!(refusal(string(MAX_STRING).as_bytes()).contains("1 MiB"));
        let name = format!(r#"{{"{}":1}}"#, "n".repeat(MAX_STRING));
        assert!(refusal(name.as_bytes()).contains("1 MiB"));
        // A bracket or a quote in a string is neither.
        let brackets = format!(r#"{{"a":"\"{}"}}"#, "[".repeat(1000));
        assert_eq!(line(&brackets), None);
    }

    #[test]
    fn what_is_no_object_or_no_json_is_told_apart() {
        for text in ["[1]", "7", "\"x\"", "null"] {
            assert_eq!(summary(text.as_bytes()), Err(Refusal::NotAnObject), "{text}");
        }
        for text in [
            "",
            "{",
            "{} {}",
            "{\"a\":}",
            "{\"a\" 1}",
            "{\"system\":{\"value\":{\"vendor\":\"\\x\"}}}",
        ] {
            assert!(!refusal(text.as_bytes()).is_empty(), "{text}");
        }
        for bytes in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"a\":\"\xc0\x80\"}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"{\"a\":\"\xf5\x80\x80\x80\"}",
        ] {
            assert!(refusal(bytes).contains("UTF-8"), "{bytes:?}");
        }
    }

    /// Any JSON value.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        let name = prop_oneof!["[a-z\"\\\\]{0,4}", "system|value|vendor|product|serial"];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(name.clone(), inner, 0..6)
                    .prop_map(|members| members.into_iter().collect()),
            ]
        })
    }

    proptest! {
        /// The tree says what the line should be.
        #[test]
        fn it_says_what_a_tree_says(system in value(), other in value()) {
            let document = serde_json::json!({ "system": system, "other": other });
            let word = |name: &str| {
                let text = |path: &str| {
                    let text = document.pointer(path)?.as_str()?.trim();
                    let text: String = shown::line(text).chars().take(64).collect();
                    (!text.is_empty()).then_some(text)
                };
                text(&format!("/system/value/{name}")).or_else(|| text(&format!("/system/{name}")))
            };
            let words: Vec<String> = ["vendor", "product", "serial"].into_iter().filter_map(word).collect();
            let want = (!words.is_empty()).then(|| words.join(" "));
            // An array's elements have paths too, but no names.
            let want = if document["system"].is_array() { None } else { want };
            prop_assert_eq!(summary(document.to_string().as_bytes()), Ok(want));
        }

        /// Text is taken where a tree could be made of it. Numbers beyond a double's range are no fault of a document that nobody
        /// reads as a tree, and half a surrogate pair in an escape is passed over with its string.
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "[\\[\\]{}\",:0-9a\\\\ ]{0,40}") {
            for bytes in [bytes.as_slice(), text.as_bytes(), format!("{{{text}}}").as_bytes()] {
                let tree = serde_json::from_slice::<Value>(bytes);
                let here = summary(bytes);
                match tree {
                    Ok(Value::Object(_)) => prop_assert!(here.is_ok(), "{:?}", here),
                    Ok(_) => prop_assert_eq!(here, Err(Refusal::NotAnObject)),
                    Err(_) => {}
                }
                if std::str::from_utf8(bytes).is_err() {
                    prop_assert!(summary(bytes).is_err());
                }
            }
        }
    }
}
