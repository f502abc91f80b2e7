//! One file on its way, over as many connections as it takes: what each of them asks for, and what to make of its answer. Pure.
//!
//! A file goes on where it broke only where the server vouches that it is the same one: `Range` with `If-Range` (RFC 9110 §13.1.5, §14).

use std::time::Duration;

use super::FetchError;
use crate::model::backoff::Failure;

/// What the head of an answer says, as far as it counts here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_length: Option<u64>,
    pub(super) content_range: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) etag: Option<String>,
    /// Seconds since 1970, as those of `date`.
    pub(super) last_modified: Option<(String, u64)>,
    pub(super) date: Option<u64>,
    pub(super) retry_after_seconds: Option<u64>,
}

/// Where the bytes of an answer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Whatever came before is void.
    Anew,
    GoesOn,
}

#[derive(Debug)]
pub(super) struct Transfer {
    limit: u64,
    have: u64,
    total: Option<u64>,
    /// For `If-Range`: a strong validator of what we have.
    validator: Option<String>,
    furthest: u64,
}

impl Transfer {
    /// `limit`: most bytes that are taken; a longer file is refused as soon as that is known.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            have: 0,
            total: None,
            validator: None,
            furthest: 0,
        }
    }

    /// How far any connection came: one that comes no further has brought nothing.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest
    }

    pub(super) fn have(&self) -> u64 {
        self.have
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// `Range` and `If-Range` of the next request; none, where all of it is wanted.
    pub(super) fn resumes(&self) -> Option<(String, String)> {
        let validator = self.validator.clone().filter(|_| self.have > 0)?;
        Some((format!("bytes={}-", self.have), validator))
    }

    /// # Errors
    /// The answer brings nothing of the file.
    pub(super) fn begins(&mut self, head: &Head) -> Result<Start, FetchError> {
        if let Some(coding) = head.content_encoding.as_deref().filter(|coding| *coding != "identity") {
            return Err(FetchError::Refused(format!(
                "it comes packed ({coding}), which was not asked for"
            )));
        }
        match head.status {
            200 => {
                self.anew();
                self.total = head.content_length;
                self.validator = validator(head);
                self.bounded()?;
                Ok(Start::Anew)
            }
            206 if self.resumes().is_some() => self.goes_on(head),
            // The file became shorter meanwhile.
            416 if self.have > 0 => {
                self.anew();
                Err(FetchError::broke("it is another file by now"))
            }
            status => Err(status_error(status, head.retry_after_seconds)),
        }
    }

    fn anew(&mut self) {
        (self.have, self.total, self.validator) = (0, None, None);
    }

    fn goes_on(&mut self, head: &Head) -> Result<Start, FetchError> {
        let range = head.content_range.as_deref().and_then(content_range);
        let same_tag = head.etag.is_none()
            || !self.validator.as_deref().is_some_and(|own| own.starts_with('"'))
            || head.etag == self.validator;
        let fits = range.filter(|(first, last, total)| {
            *first == self.have
                && first <= last
                && last.checked_add(1).is_some_and(|end| end <= *total)
                && self.total.is_none_or(|known| known == *total)
                && head
                    .content_length
                    .is_none_or(|length| last.checked_sub(*first) == length.checked_sub(1))
        });
        let Some((.., total)) = fits.filter(|_| same_tag) else {
            self.anew();
            return Err(FetchError::broke("it sends another part than it was asked for"));
        };
        self.total = Some(total);
        self.bounded()?;
        Ok(Start::GoesOn)
    }

    fn bounded(&self) -> Result<(), FetchError> {
        match self.total {
            Some(total) if total > self.limit => Err(FetchError::Refused(format!(
                "it has {total} bytes, and {} are the most here",
                self.limit
            ))),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// More came than there can be.
    pub(super) fn took(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.have = self.have.saturating_add(bytes as u64);
        if let Some(total) = self.total.filter(|total| self.have > *total) {
            return Err(FetchError::Refused(format!(
                "it sends more than the {total} bytes that it has"
            )));
        }
        if self.have > self.limit {
            return Err(FetchError::Refused(format!(
                "it has more than {} bytes, the most here",
                self.limit
            )));
        }
        self.furthest = self.furthest.max(self.have);
        Ok(())
    }

    /// The answer ended as an answer should.
    ///
    /// # Errors
    /// It is not all.
    pub(super) fn ended(&self) -> Result<(), FetchError> {
        match self.total {
            Some(total) if self.have < total => Err(FetchError::broke(format!(
                "it ended after {} of {total} bytes",
                self.have
            ))),
            _ => Ok(()),
        }
    }
}

/// What an answer that is no success means.
pub(super) fn status_error(status: u16, retry_after_seconds: Option<u64>) -> FetchError {
    let reason = hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let hint = match status {
        400 => " (some servers say so where https:// is meant)",
        401 => " (it wants to know who asks: a header, a token, or a user in the URL)",
        403 => " (it refuses whoever asks, by header, token, user or address; some stores say so of what is not there)",
        407 => " (it wants a user and a password in its URL)",
        _ => "",
    };
    let answer = format!("the server answers {status} {}", reason.unwrap_or_default());
    let why = format!("{}{hint}", answer.trim_end());
    match Failure::of(status, retry_after_seconds) {
        Failure::Transient { retry_after } if status >= 400 => FetchError::Broke {
            why,
            after: retry_after,
        },
        _ if matches!(status, 404 | 410) => FetchError::Absent(why),
        _ => FetchError::Refused(why),
    }
}

/// A strong validator: an entity tag that is not weak, else a date of change that the server saw a minute ago at least (RFC 9110
/// §8.8.2.2).
fn validator(head: &Head) -> Option<String> {
    const SETTLED_SECONDS: u64 = 60;
    match &head.etag {
        Some(tag) => Some(tag.clone()).filter(|tag| tag.starts_with('"')),
        None => {
            let (text, changed) = head.last_modified.as_ref()?;
            let settled = head.date?.checked_sub(*changed)? >= SETTLED_SECONDS;
            settled.then(|| text.clone())
        }
    }
}

/// `bytes FIRST-LAST/TOTAL`, nothing for any other form.
pub(super) fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

/// How long to wait before the next try. `fruitless`: tries that brought nothing since one did.
pub(super) fn pause(error: &FetchError, fruitless: u32, noise: f64) -> Duration {
    match error {
        FetchError::Broke { after, .. } => Failure::Transient { retry_after: *after }.wait(fruitless, noise),
        FetchError::Refused(_) | FetchError::Absent(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(status: u16) -> Head {
        Head {
            status,
            content_length: Some(10),
            etag: Some("\"a\"".to_owned()),
            ..Head::default()
        }
    }

    fn part(range: &str) -> Head {
        Head {
            content_length: None,
            content_range: Some(range.to_owned()),
            ..head(206)
        }
    }

    fn at(have: usize) -> Transfer {
        let mut transfer = Transfer::new(100);
        transfer.begins(&head(200)).unwrap();
        transfer.took(have).unwrap();
        transfer
    }

    #[test]
    fn a_file_goes_on_where_it_broke() {
        let mut transfer = at(4);
        assert_eq!(transfer.resumes(), Some(("bytes=4-".to_owned(), "\"a\"".to_owned())));
        assert_eq!(transfer.begins(&part("bytes 4-9/10")), Ok(Start::GoesOn));
        assert!(transfer.ended().is_err());
        transfer.took(6).unwrap();
        transfer.ended().unwrap();
    }

    #[test]
    fn another_part_or_another_file_begins_anew() {
        for answer in [
            part("bytes 3-9/10"),
            part("bytes 5-9/10"),
            part("bytes 4-9/11"),
            part("bytes 4-10/10"),
            part("bytes 4-9/*"),
            part("4-9/10"),
            Head {
                content_range: None,
                ..part("")
            },
            Head {
                etag: Some("\"b\"".to_owned()),
                ..part("bytes 4-9/10")
            },
            Head {
                content_length: Some(7),
                ..part("bytes 4-9/10")
            },
            Head {
                content_length: Some(0),
                ..part("bytes 4-3/10")
            },
            head(416),
        ] {
            let mut transfer = at(4);
            assert!(
                matches!(transfer.begins(&answer), Err(FetchError::Broke { .. })),
                "{answer:?}"
            );
            assert_eq!((transfer.have(), transfer.resumes()), (0, None), "{answer:?}");
            assert_eq!(transfer.furthest(), 4);
        }
        let mut transfer = at(4);
        assert_eq!(transfer.begins(&head(200)), Ok(Start::Anew), "the whole file again");
        assert_eq!(transfer.have(), 0);
    }

    #[test]
    fn only_a_strong_validator_lets_a_file_go_on() {
        let dated = |date| Head {
            etag: None,
            last_modified: Some(("then".to_owned(), 1000)),
            date,
            ..head(200)
        };
        for (answer, goes_on) in [
            (head(200), Some("\"a\"")),
            (
                Head {
                    etag: Some("W/\"a\"".to_owned()),
                    ..head(200)
                },
                None,
            ),
            (dated(Some(1060)), Some("then")),
            (dated(Some(1059)), None),
            (dated(None), None),
            (
                Head {
                    etag: None,
                    ..head(200)
                },
                None,
            ),
        ] {
            let mut transfer = Transfer::new(100);
            transfer.begins(&answer).unwrap();
            transfer.took(1).unwrap();
            assert_eq!(
                transfer.resumes().map(|(_, validator)| validator).as_deref(),
                goes_on,
                "{answer:?}"
            );
        }
        let mut none = Transfer::new(100);
        none.begins(&head(200)).unwrap();
        assert_eq!(none.resumes(), None, "nothing came yet");
        assert!(
            none.begins(&part("bytes 0-9/10")).is_err(),
            "a part that nobody asked for"
        );
    }

    #[test]
    fn every_bound_holds() {
        let mut small = Transfer::new(9);
        assert!(matches!(small.begins(&head(200)), Err(FetchError::Refused(_))));
        let unsaid = Head {
            content_length: None,
            ..head(200)
        };
        let mut small = Transfer::new(9);
        small.begins(&unsaid).unwrap();
        small.took(9).unwrap();
        small.ended().unwrap();
        assert!(matches!(small.took(1), Err(FetchError::Refused(_))));
        assert!(matches!(at(10).took(1), Err(FetchError::Refused(_))));
        let packed = Head {
            content_encoding: Some("gzip".to_owned()),
            ..head(200)
        };
        assert!(matches!(Transfer::new(9).begins(&packed), Err(FetchError::Refused(_))));
    }

    #[test]
    fn what_may_come_later_is_told_from_what_will_not() {
        let of = |status| {
            Transfer::new(9)
                .begins(&Head {
                    retry_after_seconds: Some(7),
                    ..head(status)
                })
                .unwrap_err()
        };
        for status in [204, 301, 304, 400, 401, 403, 416] {
            assert!(matches!(of(status), FetchError::Refused(_)), "{status}");
        }
        for status in [404, 410] {
            assert!(matches!(of(status), FetchError::Absent(_)), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            let after = Some(Duration::from_secs(7));
            assert!(
                matches!(of(status), FetchError::Broke { after: said, .. } if said == after),
                "{status}"
            );
        }
        assert_eq!(of(404).to_string(), "the server answers 404 Not Found");
        assert!(of(403).to_string().contains("token, user or address"));
        assert_eq!(of(599).to_string(), "the server answers 599");
    }

    proptest! {
        /// Whatever answers come in whatever order, no more than the file is taken, and what is taken as whole has its length.
        #[test]
        fn no_answers_make_a_wrong_file(
            answers in proptest::collection::vec(
                (prop_oneof![Just(200_u16), Just(206), Just(416), Just(503)], any::<bool>(), 0..12_u64, 0..12_u64, 0..12_u64, 0..12_usize),
                1..20,
            ),
        ) {
            let mut transfer = Transfer::new(10);
            let mut bytes = 0_u64;
            for (status, same, first, last, total, sent) in answers {
                let answer = Head {
                    status,
                    content_length: (status == 200).then_some(total),
                    content_range: Some(format!("bytes {first}-{last}/{total}")),
                    etag: Some(if same { "\"a\"" } else { "\"b\"" }.to_owned()),
                    ..Head::default()
                };
                match transfer.begins(&answer) {
                    Ok(Start::Anew) => bytes = 0,
                    Ok(Start::GoesOn) => prop_assert_eq!(first, bytes),
                    Err(_) => continue,
                }
                if transfer.took(sent).is_err() {
                    break;
                }
                bytes += sent as u64;
                prop_assert!(bytes <= 10);
                if transfer.ended().is_ok() {
                    prop_assert_eq!(transfer.total(), Some(bytes));
                    break;
                }
            }
        }
    }
}
