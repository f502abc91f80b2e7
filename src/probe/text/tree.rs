//! The whole document as a tree: every field that has a value, for people who want all of it.

use serde_json::Value;

use crate::model::shown::{self, Shown};

/// Renders a document. Fields without a value are left out; lines are as long as their values.
pub(crate) fn render(document: &Value) -> Shown {
    let mut out = String::new();
    children(document, "", &mut out);
    Shown::lines(&out)
}

fn children(value: &Value, indent: &str, out: &mut String) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !is_empty(value))
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(at, value)| (name_of(value, at), value))
            .collect(),
        _ => return,
    };
    let last = entries.len().saturating_sub(1);
    for (at, (key, value)) in entries.into_iter().enumerate() {
        let (branch, below) = if at == last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        out.push_str(indent);
        out.push_str(branch);
        out.push_str(&shown::line(&key));
        match plain(value) {
            Some(text) => {
                out.push_str(": ");
                out.push_str(&shown::line(&text));
                out.push('\n');
            }
            None => {
                out.push('\n');
                children(value, &format!("{indent}{below}"), out);
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A value that fits on the line of its name.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Null => Some("-".to_owned()),
        Value::Array(list) if list.iter().all(|value| value.is_string() || value.is_number()) => {
            let words: Vec<String> = list.iter().filter_map(plain).collect();
            Some(words.join(" "))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// What an entry of a list calls itself, or its place.
fn name_of(value: &Value, at: usize) -> String {
    const NAMES: [&str; 7] = ["name", "item", "address", "locator", "socket", "device", "source"];
    NAMES
        .iter()
        .find_map(|key| value.get(key)?.as_str())
        .map_or_else(|| format!("[{at}]"), |name| format!("[{at}] {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_tree_shows_what_has_a_value() {
        let document = json!({
            "disks": {"value": [{"name": "sda", "serial": null, "read_only": true}, {"size_bytes": 7}]},
            "flags": ["fpu", "vme"],
            "nothing": [],
        });
        assert_eq!(
            &*render(&document),
            "├─ disks\n│  └─ value\n│     ├─ [0] sda\n│     │  ├─ name: sda\n│     │  └─ read_only: yes\n\
             │     └─ [1]\n│        └─ size_bytes: 7\n└─ flags: fpu vme\n"
        );
    }

    #[test]
    fn a_value_makes_no_row_of_its_own() {
        let text = render(&json!({ shown::EVIL: shown::EVIL, "list": [{ "name": shown::EVIL }] }));
        shown::assert_harmless(&text);
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
