//! Hiding what identifies a machine, consistently: the same serial gets the same stand-in wherever it appears. Pure.
//!
//! Which fields identify is said by the schema ([`super::schema::SENSITIVE`]), next to the types. Their values are looked
//! for in all other text as well (a MAC in the kernel's command line, a serial in an error message) and, for captures, in
//! the bytes of the recorded files.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::schema::SENSITIVE;
use crate::model::MacAddr;
use crate::model::inventory::is_placeholder;

/// Shorter values would be found inside unrelated text.
const SHORTEST_SEARCHED: usize = 5;

/// Stand-ins for the sensitive values of one document.
#[derive(Debug, Default)]
pub(crate) struct Redaction {
    /// Exact values of sensitive fields.
    values: BTreeMap<String, String>,
    /// The same in every spelling they are known to appear in, longest first, for text and bytes around the fields.
    spellings: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Redaction {
    /// Finds what is sensitive in `document`. `key` is random; without it the stand-ins cannot be turned back by
    /// trying serials.
    pub(crate) fn of(document: &Value, schema: &Value, key: &[u8]) -> Redaction {
        let mut values = BTreeMap::new();
        find(document, schema, schema, &mut |value| {
            if !is_placeholder(value) {
                values.entry(value.to_owned()).or_insert_with(|| stand_in(value, key));
            }
        });
        let mut spellings: Vec<(Vec<u8>, Vec<u8>)> = values
            .iter()
            .filter(|(value, _)| value.len() >= SHORTEST_SEARCHED)
            .flat_map(|(value, stand_in)| spelled(value, stand_in))
            .collect();
        spellings.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        spellings.dedup();
        Redaction { values, spellings }
    }

    /// Replaces the sensitive values in a document, and their spellings in all its other text.
    pub(crate) fn apply(&self, document: &mut Value) {
        match document {
            Value::String(text) => match self.values.get(text) {
                Some(stand_in) => text.clone_from(stand_in),
                None => *text = String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned(),
            },
            Value::Array(list) => list.iter_mut().for_each(|value| self.apply(value)),
            Value::Object(map) => map.values_mut().for_each(|value| self.apply(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Replaces every spelling in a file. Text keeps its length, so that binary tables stay readable.
    pub(crate) fn bytes(&self, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(content.len());
        let mut rest = content;
        while let Some(first) = rest.first() {
            let found = self
                .spellings
                .iter()
                .find(|(from, _)| from.first() == Some(first) && rest.starts_with(from));
            match found {
                Some((from, to)) => {
                    out.extend_from_slice(to);
                    rest = &rest[from.len()..];
                }
                None => {
                    out.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        out
    }
}

/// Calls `found` for every text that the schema marks as sensitive.
fn find<'a>(value: &'a Value, schema: &Value, whole: &Value, found: &mut dyn FnMut(&'a str)) {
    let Some(schema) = schema.as_object() else { return };
    if schema.get(SENSITIVE) == Some(&Value::Bool(true)) {
        every_text(value, found);
        return;
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Some(target) = target.strip_prefix('#').and_then(|pointer| whole.pointer(pointer))
    {
        find(value, target, whole, found);
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema.get(choice).and_then(Value::as_array).into_iter().flatten() {
            find(value, schema, whole, found);
        }
    }
    match value {
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                list.iter().for_each(|value| find(value, items, whole, found));
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                let declared = schema.get("properties").and_then(|properties| properties.get(key));
                if let Some(schema) = declared.or_else(|| schema.get("additionalProperties")) {
                    find(value, schema, whole, found);
                }
            }
        }
        _ => {}
    }
}

fn every_text<'a>(value: &'a Value, found: &mut dyn FnMut(&'a str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(list) => list.iter().for_each(|value| every_text(value, found)),
        Value::Object(map) => map.values().for_each(|value| every_text(value, found)),
        _ => {}
    }
}

/// A value of the same shape that tells nothing: letters stay letters, digits stay digits, and addresses stay addresses.
fn stand_in(value: &str, key: &[u8]) -> String {
    match value.parse() {
        // TEST-NET-style ranges are too small; 10/8 and fd00::/8 belong to nobody.
        Ok(IpAddr::V4(_)) => {
            let [a, b, c, ..] = digest(value, key, 0);
            return format!("10.{a}.{b}.{c}");
        }
        Ok(IpAddr::V6(_)) => {
            let bytes = digest(value, key, 0);
            let groups = bytes
                .chunks(2)
                .take(7)
                .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]));
            return format!("fd00:{}", groups.collect::<Vec<_>>().join(":"));
        }
        Err(_) => {}
    }
    let hex = value
        .chars()
        .all(|c| c.is_ascii_hexdigit() || !c.is_ascii_alphanumeric());
    let is_mac = value.parse::<MacAddr>().is_ok();
    let mut noise = (0u32..).flat_map(|block| digest(value, key, block));
    let mut out = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        let random = noise.next().unwrap_or_default();
        let pick = |from: &[u8]| char::from(from[usize::from(random) % from.len()]);
        out.push(match c {
            // Locally administered, for one port.
            _ if is_mac && at == 1 => '2',
            'a'..='f' | '0'..='9' if hex && value.bytes().any(|b| b.is_ascii_lowercase()) => pick(b"0123456789abcdef"),
            'A'..='F' | '0'..='9' if hex && value.bytes().any(|b| b.is_ascii_uppercase()) => pick(b"0123456789ABCDEF"),
            '0'..='9' => pick(b"0123456789"),
            'a'..='z' => pick(b"abcdefghijklmnopqrstuvwxyz"),
            'A'..='Z' => pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            c if c.is_ascii() => c,
            // As many bytes as before, so that binary tables keep their lengths.
            c => "x".repeat(c.len_utf8()).chars().next().unwrap_or('x'),
        });
    }
    out
}

fn digest(value: &str, key: &[u8], block: u32) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(block.to_be_bytes());
    hash.update(value.as_bytes());
    hash.finalize().into()
}

/// Every way a value is written in the files of a machine, with its stand-in written the same way.
fn spelled(value: &str, stand_in: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = |from: String, to: String| (from.into_bytes(), to.into_bytes());
    let mut all = vec![text(value.to_owned(), stand_in.to_owned())];
    for (from, to) in [
        (value.to_ascii_uppercase(), stand_in.to_ascii_uppercase()),
        (value.to_ascii_lowercase(), stand_in.to_ascii_lowercase()),
    ] {
        if from != value {
            all.push(text(from, to));
        }
    }
    if let (Ok(from), Ok(to)) = (value.parse::<MacAddr>(), stand_in.parse::<MacAddr>()) {
        all.push((from.0.to_vec(), to.0.to_vec()));
        all.push(text(from.dashed(), to.dashed()));
        all.push(text(from.to_string().replace(':', ""), to.to_string().replace(':', "")));
    }
    let uuid = |text: &str| Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    if let (Some(from), Some(to)) = (uuid(value), uuid(stand_in)) {
        all.push((from.into_bytes().to_vec(), to.into_bytes().to_vec()));
        // As in SMBIOS since 2.6: the first three fields little-endian.
        all.push((from.to_bytes_le().to_vec(), to.to_bytes_le().to_vec()));
    }
    // "naa.5000c500…" stands in sysfs as it is, and as 0x5000c500… elsewhere.
    if let (Some((_, from)), Some((_, to))) = (value.split_once('.'), stand_in.split_once('.'))
        && from.len() >= 16
        && from.bytes().all(|b| b.is_ascii_hexdigit())
    {
        all.push(text(from.to_owned(), to.to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::collect::schema::schema;
    use proptest::prelude::*;
    use serde_json::json;

    fn golden(machine: &str) -> Value {
        let path = format!(
            "{}/tests/fixtures/machines/{machine}/expected.json",
            env!("CARGO_MANIFEST_DIR")
        );
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_redacted_machine_is_a_machine_without_its_names() {
        let before = golden("server-2s");
        let redaction = Redaction::of(&before, &schema(), b"key");
        let mut after = before.clone();
        redaction.apply(&mut after);
        let text = after.to_string();
        let names = [
            &before["system"]["value"]["serial"],
            &before["system"]["value"]["uuid"],
            &before["disks"]["value"][0]["serial"],
            &before["nics"]["value"][0]["mac"],
        ];
        for name in names {
            let name = name.as_str().unwrap();
            assert!(!text.contains(name), "{name}");
        }
        assert_eq!(
            after["system"]["value"]["product"],
            before["system"]["value"]["product"]
        );
        let again: crate::model::inventory::Inventory = serde_json::from_value(after.clone()).unwrap();
        assert!(!again.node_id_facts().1.is_empty(), "the addresses are still addresses");
        assert!(jsonschema::is_valid(&schema(), &after));
    }

    #[test]
    fn the_same_value_gets_the_same_stand_in_everywhere() {
        let schema = json!({"properties": {
            "mac": {"$ref": "#/$defs/Mac"},
            "inner": {"anyOf": [{"properties": {"serial": {"type": "string", "x-sensitive": true}}}, {"type": "null"}]},
        }, "$defs": {"Mac": {"type": "string", "x-sensitive": true}}});
        let mut document = json!({
            "mac": "52:54:00:aa:bb:cc", "inner": {"serial": "CZ3407A1BC"},
            "line": "BOOTIF=01-52-54-00-aa-bb-cc quiet", "remark": "disk CZ3407A1BC is slow", "n": 7,
        });
        let redaction = Redaction::of(&document, &schema, b"key");
        redaction.apply(&mut document);
        let mac: MacAddr = document["mac"].as_str().unwrap().parse().unwrap();
        assert!(!mac.is_unusable());
        assert_eq!(document["line"], format!("BOOTIF=01-{} quiet", mac.dashed()));
        let serial = document["inner"]["serial"].as_str().unwrap();
        assert_ne!(serial, "CZ3407A1BC");
        assert_eq!(document["remark"], format!("disk {serial} is slow"));
        let other = Redaction::of(&json!({"mac": "52:54:00:aa:bb:cc"}), &schema, b"another key");
        assert_ne!(other.values["52:54:00:aa:bb:cc"], mac.to_string());
    }

    #[test]
    fn binary_tables_keep_their_length() {
        let schema = json!({"properties": {"uuid": {"x-sensitive": true}}});
        let document = json!({"uuid": "00112233-4455-6677-8899-aabbccddeeff"});
        let redaction = Redaction::of(&document, &schema, b"key");
        let table = [
            0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
        ];
        let hidden = redaction.bytes(&[&[1, 2, 3][..], &table, b"end"].concat());
        assert_eq!(hidden.len(), 22);
        assert_eq!((&hidden[..3], &hidden[19..]), (&[1u8, 2, 3][..], &b"end"[..]));
        assert_ne!(hidden[3..19], table);
    }

    proptest! {
        #[test]
        fn a_stand_in_has_the_shape_of_its_value(value in "[A-Za-z0-9 ._-]{1,40}") {
            let made = stand_in(&value, b"key");
            if value.parse::<IpAddr>().is_err() {
                prop_assert_eq!(made.len(), value.len());
            }
            prop_assert_eq!(made, stand_in(&value, b"key"));
        }

        #[test]
        fn any_bytes_are_taken(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let schema = json!({"x-sensitive": true});
            let redaction = Redaction::of(&json!(["CZ3407A1BC", "52:54:00:aa:bb:cc"]), &schema, b"key");
            prop_assert_eq!(redaction.bytes(&content).len(), content.len());
        }
    }
}
