//! Words in which a secret may stand (URLs, command lines, sentences that name them), as they may be shown and logged. Pure.
//!
//! What is a secret is told by its place: user and password of a URL, the value of a query parameter or of an argument whose name says
//! so, and a JSON Web Token wherever it stands.

use std::fmt::Write;

/// Stands in the place of a secret.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Whole words of a name that say what its value is.
const WORDS: [&str; 12] = [
    "auth",
    "bearer",
    "credential",
    "credentials",
    "jwt",
    "key",
    "pass",
    "passphrase",
    "psk",
    "pwd",
    "sig",
    "signature",
];
/// The same, as parts of a word: `apikey`, `access_token`, `rootpassword`.
const PARTS: [&str; 5] = ["apikey", "authorization", "passw", "secret", "token"];

/// Whether a value of this name is a secret: `api_key`, `recon.token`, `X-Amz-Signature`.
fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    PARTS.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
}

/// RFC 7519: three parts in base64url, the first a JSON object (`{"` is `eyJ`).
fn is_jwt(text: &str) -> bool {
    text.starts_with("eyJ") && text.matches('.').count() == 2
}

/// A URL without what is nobody's business.
pub(crate) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let segment = |segment: &str| if is_jwt(segment) { HIDDEN } else { segment }.to_owned();
    let path: Vec<String> = path.split('/').map(segment).collect();
    let mut out = format!("{scheme}://{authority}{}", path.join("/"));
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(pair).collect();
        // Writing to a String cannot fail.
        let _ = write!(out, "?{}", pairs.join("&"));
    }
    out
}

/// `name=value` of a query.
fn pair(text: &str) -> String {
    match text.split_once('=') {
        Some((name, value)) if !value.is_empty() && (is_telling(name) || is_jwt(value)) => format!("{name}={HIDDEN}"),
        _ => text.to_owned(),
    }
}

/// A command line or a sentence: URLs in it as [`url`] has them, arguments whose names tell of a secret without their values. A value in
/// quotation marks ends where they do.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quoted = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end_matches(char::is_whitespace);
        let space = &word[bare.len()..];
        if quoted {
            quoted = !bare.contains('"');
            continue;
        }
        let before = bare.find("://").unwrap_or(bare.len());
        match bare.split_once('=') {
            Some((name, value)) if name.len() < before && !value.is_empty() && is_telling(name) => {
                quoted = value.starts_with('"') && !value[1..].contains('"');
                let _ = write!(out, "{name}={HIDDEN}");
            }
            _ if before < bare.len() => {
                let scheme = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
                let start = bare[..before].rfind(scheme).map_or(0, |at| at + 1);
                // The letter before a scheme may be longer than a byte.
                let start = (start..=before).find(|at| bare.is_char_boundary(*at)).unwrap_or(before);
                out.push_str(&bare[..start]);
                out.push_str(&url(&bare[start..]));
            }
            _ if is_jwt(bare) => out.push_str(HIDDEN),
            _ => out.push_str(bare),
        }
        out.push_str(space);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_of_urls_are_hidden_and_all_else_stays() {
        for (given, shown) in [
            ("http://a/b?c=d&e", "http://a/b?c=d&e"),
            ("https://me:pw@a:8/b", "https://[hidden]@a:8/b"),
            (
                "https://a/x?api_key=abc&arch=x86_64",
                "https://a/x?api_key=[hidden]&arch=x86_64",
            ),
            ("https://a/x?image_token=abc", "https://a/x?image_token=[hidden]"),
            (
                "https://a/x?X-Amz-Signature=1&X-Amz-Date=2",
                "https://a/x?X-Amz-Signature=[hidden]&X-Amz-Date=2",
            ),
            ("https://a/bytoken/eyJh.eyJz.c2ln/iso", "https://a/bytoken/[hidden]/iso"),
            ("https://a?q=eyJh.eyJz.c2ln", "https://a?q=[hidden]"),
            ("https://a/b@c?d@e", "https://a/b@c?d@e"),
            ("relative/name", "relative/name"),
        ] {
            assert_eq!(url(given), shown);
        }
    }

    #[test]
    fn secrets_of_command_lines_and_sentences_are_hidden() {
        for (given, shown) in [
            ("console=ttyS0 quiet", "console=ttyS0 quiet"),
            ("recon.token=abc  x=y", "recon.token=[hidden]  x=y"),
            ("root=live:https://a:b@c/d e", "root=live:https://[hidden]@c/d e"),
            ("x.password=\"a b c\" y", "x.password=[hidden] y"),
            ("x.password=\"ab\" y", "x.password=[hidden] y"),
            (
                "line 3: http://a/x?token=1: 404",
                "line 3: http://a/x?token=[hidden] 404",
            ),
            ("vconsole.keymap=us", "vconsole.keymap=us"),
            ("é://x", "é://x"),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_shown_and_no_password_in_it(before in "[ -~é]{0,20}", after in "[ -~é]{0,20}") {
            let shown = text(&format!("{before} https://user:hunter2@host/x?token=hunter2 {after}"));
            prop_assert!(!shown.contains("hunter2") , "{shown}");
            text(&before);
            url(&before);
        }
    }
}
