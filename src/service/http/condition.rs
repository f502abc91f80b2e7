//! Conditional requests (RFC 9110 §13). Pure.
//!
//! Read here and not by the crate headers 0.4: its `If-Range` goes on with any date that is not before ours, where §13.1.5 wants
//! the very one, and its other types would replace these few lines by as many that turn them into our verdicts.

use std::time::{Duration, SystemTime};

/// What tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validator {
    /// Opaque tag with its quotes, never weak: `"5f3a…"`.
    pub etag: String,
    /// In whole seconds, as the header says it; `None` for what has no date, a disk for one.
    pub modified: Option<SystemTime>,
}

impl Validator {
    /// `modified` loses the part below a second, which no header can carry.
    pub(crate) fn new(etag: String, modified: Option<SystemTime>) -> Self {
        let modified = modified.and_then(|time| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
        });
        Validator { etag, modified }
    }
}

/// The headers that carry conditions, as text; what is not ASCII counts as absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions<'a> {
    pub if_match: Option<&'a str>,
    pub if_unmodified_since: Option<&'a str>,
    pub if_none_match: Option<&'a str>,
    pub if_modified_since: Option<&'a str>,
    pub if_range: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on. `ranges` says whether a `Range` header counts.
    Send { ranges: bool },
    /// Status 304.
    NotModified,
    /// Status 412.
    Failed,
}

/// Judges a GET or HEAD, in the order of §13.2.2.
pub(crate) fn judge(conditions: Conditions<'_>, now: &Validator) -> Verdict {
    if let Some(tags) = conditions.if_match {
        if !names(tags, &now.etag, Compare::Strong) {
            return Verdict::Failed;
        }
    } else if let (Some(limit), Some(modified)) = (date(conditions.if_unmodified_since), now.modified)
        && modified > limit
    {
        return Verdict::Failed;
    }
    if let Some(tags) = conditions.if_none_match {
        if names(tags, &now.etag, Compare::Weak) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(conditions.if_modified_since), now.modified)
        && modified <= since
    {
        return Verdict::NotModified;
    }
    let ranges = match conditions.if_range.map(str::trim) {
        None => true,
        Some(tag) if tag.starts_with(['"', 'W']) && tag.ends_with('"') => names(tag, &now.etag, Compare::Strong),
        // A date must be the very one we gave (§13.1.5).
        Some(text) => date(Some(text)).is_some_and(|date| Some(date) == now.modified),
    };
    Verdict::Send { ranges }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// True if the list of tags holds ours, or `*`. A tag may hold commas, so the list is read tag by tag.
fn names(list: &str, ours: &str, compare: Compare) -> bool {
    let mut rest = list.trim();
    if rest == "*" {
        return true;
    }
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some(end) = quoted.strip_prefix('"').and_then(|inside| inside.find('"')) else {
            return false;
        };
        let (tag, tail) = quoted.split_at(end + 2);
        if tag == ours && !(weak && compare == Compare::Strong) {
            return true;
        }
        rest = tail.trim_start_matches([' ', '\t', ',']);
    }
    false
}

fn date(text: Option<&str>) -> Option<SystemTime> {
    httpdate::parse_http_date(text?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEFORE: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
    const AT: &str = "Sun, 22 Nov 2026 00:00:00 GMT";
    const AFTER: &str = "Mon, 23 Nov 2026 00:00:00 GMT";

    fn ours() -> Validator {
        let modified = httpdate::parse_http_date(AT).unwrap() + Duration::from_millis(999);
        Validator::new("\"a,b\"".to_owned(), Some(modified))
    }

    #[test]
    fn conditions_as_clients_send_them() {
        let send = Verdict::Send { ranges: true };
        let whole = Verdict::Send { ranges: false };
        let none = Conditions::default;
        let cases = [
            (none(), send),
            (
                Conditions {
                    if_none_match: Some("\"a,b\""),
                    ..none()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_none_match: Some("\"x\", W/\"a,b\""),
                    ..none()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_none_match: Some("*"),
                    ..none()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_none_match: Some("\"a\""),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_none_match: Some("a,b"),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_modified_since: Some(AT),
                    ..none()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_modified_since: Some(AFTER),
                    ..none()
                },
                Verdict::NotModified,
            ),
            (
                Conditions {
                    if_modified_since: Some(BEFORE),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_modified_since: Some("yesterday"),
                    ..none()
                },
                send,
            ),
            // A tag counts before a date.
            (
                Conditions {
                    if_none_match: Some("\"x\""),
                    if_modified_since: Some(AFTER),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_match: Some("\"x\",\"a,b\""),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_match: Some("*"),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_match: Some("W/\"a,b\""),
                    ..none()
                },
                Verdict::Failed,
            ),
            (
                Conditions {
                    if_match: Some("\"x\""),
                    ..none()
                },
                Verdict::Failed,
            ),
            (
                Conditions {
                    if_unmodified_since: Some(BEFORE),
                    ..none()
                },
                Verdict::Failed,
            ),
            (
                Conditions {
                    if_unmodified_since: Some(AT),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_match: Some("*"),
                    if_unmodified_since: Some(BEFORE),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_range: Some("\"a,b\""),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_range: Some("W/\"a,b\""),
                    ..none()
                },
                whole,
            ),
            (
                Conditions {
                    if_range: Some("\"x\""),
                    ..none()
                },
                whole,
            ),
            (
                Conditions {
                    if_range: Some(AT),
                    ..none()
                },
                send,
            ),
            (
                Conditions {
                    if_range: Some(AFTER),
                    ..none()
                },
                whole,
            ),
            (
                Conditions {
                    if_range: Some("nonsense"),
                    ..none()
                },
                whole,
            ),
        ];
        for (conditions, want) in cases {
            assert_eq!(judge(conditions, &ours()), want, "{conditions:?}");
        }
    }

    #[test]
    fn a_file_without_a_date_knows_tags_only() {
        let ours = Validator::new("\"t\"".to_owned(), None);
        let dated = Conditions {
            if_modified_since: Some(AFTER),
            if_unmodified_since: Some(BEFORE),
            ..Conditions::default()
        };
        assert_eq!(judge(dated, &ours), Verdict::Send { ranges: true });
        let ranged = Conditions {
            if_range: Some(AT),
            ..Conditions::default()
        };
        assert_eq!(judge(ranged, &ours), Verdict::Send { ranges: false });
    }

    proptest! {
        #[test]
        fn a_list_names_what_is_in_it(tags in proptest::collection::vec("[a-z,]{0,4}", 1..6), pick in any::<prop::sample::Index>()) {
            let list = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ");
            let ours = format!("\"{}\"", pick.get(&tags));
            prop_assert!(names(&list, &ours, Compare::Strong));
            prop_assert!(!names(&list, "\"Z\"", Compare::Weak));
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,40}") {
            let conditions = Conditions { if_match: Some(&text), if_none_match: Some(&text), if_range: Some(&text), ..Conditions::default() };
            judge(conditions, &ours());
        }
    }
}
