//! Byte ranges (RFC 9110 §14). Pure.
//!
//! Read here and not by the crate headers 0.4, whose `Range` has no bound, passes over what it cannot read, takes a suffix
//! longer than the file for none at all, and does not tell "no byte lies in it" (416) from "no range" (200).

use std::ops::Range;

/// Ranges one request may name. More are answered with the whole body, as §14.2 allows: nobody needs them, and many small
/// ranges are a known way to wear a server out.
pub(crate) const MAX_RANGES: usize = 16;

/// What part of a body to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it, status 200.
    Whole,
    /// Status 206: one range as it is, several as `multipart/byteranges`. Never empty; each lies within the body and holds
    /// at least a byte.
    Slices(Vec<Range<u64>>),
    /// Status 416.
    Unsatisfiable,
}

/// Reads a `Range` header against a body of `length` bytes. Other units and what does not parse are answered with the
/// whole body, and so are ranges that together ask for more than the whole (§14.2, §17.15).
pub(crate) fn part(header: Option<&str>, length: u64) -> Part {
    let Some(spec) = header.and_then(|text| {
        let (unit, spec) = text.trim().split_once('=')?;
        unit.eq_ignore_ascii_case("bytes").then_some(spec)
    }) else {
        return Part::Whole;
    };
    let mut slices = Vec::new();
    let mut named = 0;
    // Empty list members are allowed and mean nothing (§5.6.1.2).
    for member in spec.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        named += 1;
        if named > MAX_RANGES {
            return Part::Whole;
        }
        match one(member, length) {
            Some(Some(slice)) => slices.push(slice),
            Some(None) => {}
            None => return Part::Whole,
        }
    }
    let bytes = |slice: &Range<u64>| u128::from(slice.end - slice.start);
    let asked: u128 = slices.iter().map(bytes).sum();
    match (named, slices.is_empty()) {
        (0, _) => Part::Whole,
        (_, true) => Part::Unsatisfiable,
        _ if slices.len() > 1 && asked > u128::from(length) => Part::Whole,
        _ => Part::Slices(slices),
    }
}

/// One range: `None` if it does not parse, `Some(None)` if no byte of the body lies in it.
fn one(member: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (first, last) = member.split_once('-')?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => {
            let count = number(last)?;
            Some((count > 0 && length > 0).then(|| length.saturating_sub(count)..length))
        }
        (false, open) => {
            let start = number(first)?;
            let last = if open { u64::MAX } else { number(last)? };
            if last < start {
                return None;
            }
            Some((start < length).then(|| start..last.saturating_add(1).min(length)))
        }
    }
}

/// Digits and nothing else; more than fit mean "as far as it goes".
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// The head of one part of a `multipart/byteranges` body (§14.6).
pub(crate) fn part_head(boundary: &str, kind: &str, slice: &Range<u64>, length: u64) -> String {
    format!(
        "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
        content_range(slice, length)
    )
}

/// The end of such a body.
pub(crate) fn part_end(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

pub(crate) fn content_range(slice: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", slice.start, slice.end.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_as_clients_send_them() {
        let slices = |list: &[(u64, u64)]| Part::Slices(list.iter().map(|(start, end)| *start..*end).collect());
        let many = format!("bytes={}", vec!["0-0"; MAX_RANGES + 1].join(","));
        let cases = [
            (None, Part::Whole),
            (Some("bytes=0-0"), slices(&[(0, 1)])),
            (Some("Bytes=0-499"), slices(&[(0, 100)])),
            (Some("bytes=10-"), slices(&[(10, 100)])),
            (Some("bytes=-10"), slices(&[(90, 100)])),
            (Some("bytes=-500"), slices(&[(0, 100)])),
            (Some("bytes=99999999999999999999-"), Part::Unsatisfiable),
            (Some("bytes=0-99999999999999999999"), slices(&[(0, 100)])),
            (Some("bytes=100-"), Part::Unsatisfiable),
            (Some("bytes=-0"), Part::Unsatisfiable),
            (Some("bytes=5-2"), Part::Whole),
            (Some("bytes=0-1,5-6"), slices(&[(0, 2), (5, 7)])),
            (Some("bytes=5-6, 0-1 ,,-1"), slices(&[(5, 7), (0, 2), (99, 100)])),
            (Some("bytes=0-1,100-"), slices(&[(0, 2)])),
            (Some("bytes=200-,100-"), Part::Unsatisfiable),
            (Some("bytes=0-1,x"), Part::Whole),
            (Some("bytes=0-,0-,0-"), Part::Whole),
            (Some(many.as_str()), Part::Whole),
            (Some("lines=0-1"), Part::Whole),
            (Some("bytes="), Part::Whole),
            (Some("bytes=-"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("bytes=1 -2"), Part::Whole),
        ];
        for (header, want) in cases {
            assert_eq!(part(header, 100), want, "{header:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
        assert_eq!(part(Some("bytes=-5"), 0), Part::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn slices_lie_within_the_body(header in "bytes=[0-9, -]{0,60}", length in any::<u64>()) {
            if let Part::Slices(slices) = part(Some(&header), length) {
                prop_assert!(!slices.is_empty() && slices.len() <= MAX_RANGES);
                let sum: u128 = slices.iter().map(|slice| u128::from(slice.end - slice.start)).sum();
                prop_assert!(slices.len() == 1 || sum <= u128::from(length));
                for slice in slices {
                    prop_assert!(slice.start < slice.end && slice.end <= length);
                }
            }
        }
    }
}
