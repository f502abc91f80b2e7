//! Byte ranges (RFC 9110 §14). Pure.

/// What part of a body to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it, status 200.
    Whole,
    /// `start..end`, status 206.
    Slice { start: u64, end: u64 },
    /// Status 416.
    Unsatisfiable,
}

/// Reads a `Range` header against a body of `length` bytes. What this server does not do (other units, several ranges)
/// and what does not parse is answered with the whole body, as RFC 9110 §14.2 allows.
pub fn part(header: Option<&str>, length: u64) -> Part {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Part::Whole,
        (true, false) => match number(last) {
            Some(0) => Part::Unsatisfiable,
            Some(_) if length == 0 => Part::Unsatisfiable,
            Some(count) => Part::Slice { start: length.saturating_sub(count), end: length },
            None => Part::Whole,
        },
        (false, open) => {
            let last = if open { Some(u64::MAX) } else { number(last) };
            match (number(first), last) {
                (Some(start), Some(last)) if last < start => Part::Whole,
                (Some(start), Some(_)) if start >= length => Part::Unsatisfiable,
                (Some(start), Some(last)) => Part::Slice { start, end: last.saturating_add(1).min(length) },
                _ => Part::Whole,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_as_clients_send_them() {
        let slice = |start, end| Part::Slice { start, end };
        let cases = [
            (None, Part::Whole),
            (Some("bytes=0-0"), slice(0, 1)),
            (Some("bytes=0-499"), slice(0, 100)),
            (Some("bytes=10-"), slice(10, 100)),
            (Some("bytes=-10"), slice(90, 100)),
            (Some("bytes=-500"), slice(0, 100)),
            (Some("bytes=100-"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=5-2"), Part::Whole),
            (Some("bytes=0-1,5-6"), Part::Whole),
            (Some("lines=0-1"), Part::Whole),
            (Some("bytes=-"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
        ];
        for (header, want) in cases {
            assert_eq!(part(header, 100), want, "{header:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_slice_lies_within_the_body(header in "bytes=[0-9,-]{0,30}", length in any::<u64>()) {
            if let Part::Slice { start, end } = part(Some(&header), length) {
                prop_assert!(start < end && end <= length);
            }
        }
    }
}
