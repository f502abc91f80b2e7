//! A bearer token (RFC 6750) for one server alone, and how another one is had (RFC 6749 §6) where it is old. No I/O.

use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;
use serde::Deserialize;

use super::url::Target;
use crate::model::{secrets, shown};

/// Longest token, in bytes; servers take about 8 KiB of one header.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Most bytes of a token server's answer.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Most letters that are shown of what a token server says.
const MAX_SAID: usize = 200;

/// Where another token is had, and for what.
struct Source {
    url: Target,
    client_id: &'static str,
    refresh_token: Mutex<String>,
}

pub(crate) struct Bearer {
    /// Its server is told the token, and no other.
    place: Target,
    held: Mutex<Option<HeaderValue>>,
    source: Option<Source>,
}

/// `Authorization`, not shown in any log.
fn header(token: &str) -> Result<HeaderValue, String> {
    // `b64token` of RFC 6750 §2.1.
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !token.bytes().all(is_of_one) {
        return Err("it is no token: one line of letters, digits and -._~+/= is".to_owned());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Bearer {
    /// One that is sent until it is too old.
    ///
    /// # Errors
    /// It is no token; the words do not hold it.
    pub(crate) fn given(place: Target, token: &str) -> Result<Self, String> {
        let held = Mutex::new(Some(header(token)?));
        let source = None;
        Ok(Self { place, held, source })
    }

    /// Tokens that `url` gives for a refresh token.
    ///
    /// # Errors
    /// It is no token; the words do not hold it.
    pub(crate) fn refreshed(
        place: Target,
        url: Target,
        client_id: &'static str,
        refresh_token: &str,
    ) -> Result<Self, String> {
        header(refresh_token)?;
        let refresh_token = Mutex::new(refresh_token.to_owned());
        Ok(Self {
            place,
            held: Mutex::default(),
            source: Some(Source {
                url,
                client_id,
                refresh_token,
            }),
        })
    }

    pub(super) fn is_for(&self, target: &Target) -> bool {
        self.place.origin() == target.origin()
    }

    /// What is sent; nothing before one was asked for.
    pub(super) fn held(&self) -> Option<HeaderValue> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom to ask for another one, and with what form; nothing where there is nobody.
    pub(super) fn asks(&self) -> Option<(Target, Vec<(String, String)>)> {
        let source = self.source.as_ref()?;
        let refresh_token = source.refresh_token.lock().unwrap_or_else(PoisonError::into_inner);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", source.client_id),
            ("refresh_token", &refresh_token),
        ];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((source.url.clone(), form.into()))
    }

    /// The answer to that. From now on its token is sent, and where it brings another refresh token, that is asked with.
    ///
    /// # Errors
    /// It has no token, in words without secrets.
    pub(super) fn took(&self, status: u16, body: &[u8]) -> Result<HeaderValue, String> {
        let (token, refresh_token) = read(status, body)?;
        if let (Some(source), Some(new)) = (&self.source, refresh_token) {
            *source.refresh_token.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }
}

/// RFC 6749 §5.1 and §5.2.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    refresh_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The token of an answer, and the refresh token that takes the place of the one that was sent.
fn read(status: u16, body: &[u8]) -> Result<(HeaderValue, Option<String>), String> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let said = answer.as_ref().and_then(|answer| {
        let words = [
            answer.error.as_deref()?,
            answer.error_description.as_deref().unwrap_or_default(),
        ];
        let words: String = words.join(" ").trim().chars().take(MAX_SAID).collect();
        Some(format!(" ({})", shown::line(&secrets::text(&words))))
    });
    let said = said.unwrap_or_default();
    match (status, answer) {
        (400 | 401, _) => Err(format!(
            "the server answers {status}{said}: the refresh token may be too old, or withdrawn; get another one"
        )),
        (200, None) => Err("its answer is no JSON with a token in it".to_owned()),
        (200, Some(answer)) => {
            let token = answer.access_token.filter(|token| !token.is_empty());
            let token = token.ok_or_else(|| format!("its answer has no access_token{said}"))?;
            let token = header(&token).map_err(|_| "its access_token is none that can be sent".to_owned())?;
            let refresh_token = answer.refresh_token.filter(|token| header(token).is_ok());
            Ok((token, refresh_token))
        }
        _ => Err(format!("the server answers {status}{said}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::shown::{EVIL, assert_harmless};

    fn target(url: &str) -> Target {
        Target::read(url).unwrap()
    }

    fn bearer() -> Bearer {
        let (place, url) = (target("https://api.example/x"), target("https://sso.example/token"));
        Bearer::refreshed(place, url, "cloud-services", "old.one").unwrap()
    }

    #[test]
    fn a_token_is_asked_for_as_the_standard_says_and_replaced() {
        let bearer = bearer();
        assert_eq!(bearer.held(), None);
        let form = |bearer: &Bearer| {
            let pairs = bearer.asks().unwrap().1;
            let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            pairs.join("&")
        };
        assert_eq!(
            form(&bearer),
            "grant_type=refresh_token&client_id=cloud-services&refresh_token=old.one"
        );
        let value = bearer.took(200, br#"{"access_token":"a.b","expires_in":900}"#).unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer a.b");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("a.b"));
        assert_eq!(bearer.held(), Some(value));
        bearer
            .took(200, br#"{"access_token":"c","refresh_token":"new"}"#)
            .unwrap();
        assert!(form(&bearer).ends_with("refresh_token=new"));
        let given = Bearer::given(target("http://a/"), "x").unwrap();
        assert!(given.asks().is_none() && given.held().is_some());
    }

    #[test]
    fn only_its_server_is_told() {
        let bearer = bearer();
        for (url, is_for) in [
            ("https://api.example/other?x", true),
            ("https://API.example:443/", true),
            ("http://api.example/x", false),
            ("https://api.example:8443/x", false),
            ("https://images.api.example/x", false),
            ("https://sso.example/token", false),
        ] {
            assert_eq!(bearer.is_for(&target(url)), is_for, "{url}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_told_in_a_sentence() {
        for (status, body, why) in [
            (200, "{}", "has no access_token"),
            (200, r#"{"access_token":""}"#, "has no access_token"),
            (200, r#"{"access_token":"a b"}"#, "none that can be sent"),
            (200, r#"{"access_token":7}"#, "no JSON with a token"),
            (200, "<html>", "no JSON with a token"),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Token is not active"}"#,
                "answers 400 (invalid_grant Token is not active): the refresh token may be too old",
            ),
            (403, r#"{"access_token":"a"}"#, "the server answers 403"),
        ] {
            let error = bearer().took(status, body.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let secret = r#"{"error":"access_token=hunter2"}"#;
        let error = bearer().took(400, secret.as_bytes()).unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_no_token_is_not_sent_nor_shown() {
        for token in [
            "",
            "two words",
            "line\r\nX-Evil: 1",
            "ümlaut",
            &"x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            let why = Bearer::given(target("https://a/"), token).err().unwrap();
            assert!(token.is_empty() || !why.contains(token), "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status in 0_u16..999, body in "(\\{\"(access_token|error|refresh_token)\":\"\\PC{0,40}\"\\}|\\PC{0,40})") {
            if let Err(why) = bearer().took(status, body.as_bytes()) {
                assert_harmless(&why);
                prop_assert!(why.len() < 2000);
            }
        }
    }

    #[test]
    fn words_of_a_server_do_nothing_to_a_terminal() {
        let body = serde_json::json!({ "error": EVIL }).to_string();
        assert_harmless(&bearer().took(400, body.as_bytes()).unwrap_err());
    }
}
