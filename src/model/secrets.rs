//! Words in which a secret may stand (URLs, command lines, sentences that name them), as they may be shown and logged. Pure.
//!
//! What is a secret is told by its place: user and password of a URL, the value of a query parameter or of an argument whose name says
//! so, and a JSON Web Token wherever it stands.

use std::fmt::Write;

/// Stands in the place of a secret.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Whole words of a name that say what its value is.
const WORDS: [&str; 16] = [
    "auth",
    "bearer",
    "credential",
    "credentials",
    "jwt",
    "key",
    "otp",
    "pass",
    "passphrase",
    "pin",
    "psk",
    "pw",
    "pwd",
    "sig",
    "signature",
    "wpa",
];
/// How a word of a name ends that does: `rootpass`, `vncpass`, `rootpw`.
const ENDS: [&str; 2] = ["pass", "pw"];
/// The same, as parts of a word: `apikey`, `access_token`, `rootpassword`.
const PARTS: [&str; 5] = ["apikey", "authorization", "passw", "secret", "token"];

/// Whether a value of this name is a secret: `api_key`, `recon.token`, `X-Amz-Signature`.
fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let is_one = |word: &str| WORDS.contains(&word) || ENDS.iter().any(|end| word.ends_with(end));
    PARTS.iter().any(|part| name.contains(part)) || words.any(is_one)
}

/// Most URLs inside one another, or behind one another in a word, that are looked at; what follows them is hidden.
const MAX_URLS: usize = 16;

/// Text without JSON Web Tokens (RFC 7519): three parts in base64url or more, the first a JSON object (`{"` is `eyJ`).
fn without_jwts(text: &str) -> String {
    let is_of_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("eyJ") {
        let (before, from) = rest.split_at(start);
        let (token, after) = from.split_at(from.find(|c| !is_of_one(c)).unwrap_or(from.len()));
        out.push_str(before);
        out.push_str(if token.matches('.').count() >= 2 { HIDDEN } else { token });
        rest = after;
    }
    out + rest
}

/// The value of a setting, if it may be shown.
pub(crate) fn value<'a>(name: &str, value: &'a str) -> &'a str {
    if is_telling(name) { HIDDEN } else { value }
}

/// A URL without what is nobody's business.
pub(crate) fn url(text: &str) -> String {
    without_jwts(&one_url(text, MAX_URLS))
}

/// Where the scheme begins whose end is at this byte.
fn scheme_start(text: &str, end: usize) -> usize {
    let is_of_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text[..end].trim_end_matches(is_of_one).len()
}

/// How dracut.cmdline(7) has a target of iSCSI, behind which a user and a password may stand before an `@`.
const ISCSI: &str = "iscsi:";

/// A word with URLs in it.
fn urls(text: &str, most: usize) -> String {
    let Some(end) = text.find("://") else {
        let parts = text
            .split_once(ISCSI)
            .map(|(before, rest)| (before, rest.rsplit_once('@')));
        return match parts {
            Some((before, Some((_, target)))) => format!("{before}{ISCSI}{HIDDEN}@{target}"),
            _ => text.to_owned(),
        };
    };
    let (before, from) = text.split_at(scheme_start(text, end));
    match most {
        0 => format!("{before}{HIDDEN}"),
        _ => format!("{before}{}", one_url(from, most - 1)),
    }
}

/// Whether this may be an authority: where what stands for a port is none, its end is in the middle of a password.
fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
    // Behind a URL in a sentence.
    let behind = behind.trim_end_matches([',', '.', ';', ')', '"', '\'']);
    let port = behind.rsplit_once(':').map_or("", |(_, port)| port);
    port.bytes().all(|byte| byte.is_ascii_digit())
}

/// One that may have others behind or in it.
fn one_url(text: &str, most: usize) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let mut end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The next one's scheme, as in `http://a,http://b`.
    if rest[..end].ends_with(':') && rest[end..].starts_with("//") {
        end = scheme_start(rest, end - 1);
    }
    let (authority, rest) = match rest.split_at(end) {
        (authority, after) if is_authority(authority) => (authority, after),
        _ => rest.split_at(rest.rfind('@').unwrap_or(rest.len())),
    };
    let (authority, rest) = match rest.strip_prefix('@') {
        Some(rest) => (format!("{HIDDEN}@"), rest),
        None if !is_authority(authority) => (HIDDEN.to_owned(), rest),
        None => match authority.rsplit_once('@') {
            Some((_, host)) => (format!("{HIDDEN}@{host}"), rest),
            None => (authority.to_owned(), rest),
        },
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let mut out = format!("{scheme}://{authority}{}", urls(path, most));
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(|text| pair(text, most)).collect();
        // Writing to a String cannot fail.
        let _ = write!(out, "?{}", pairs.join("&"));
    }
    out
}

/// `name=value` of a query.
fn pair(text: &str, most: usize) -> String {
    match text.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_telling(name) => format!("{name}={HIDDEN}"),
        _ => urls(text, most),
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
            _ => out.push_str(&urls(bare, MAX_URLS)),
        }
        out.push_str(space);
    }
    without_jwts(&out)
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
            ("https://u:p/w@a:8/b", "https://[hidden]@a:8/b"),
            ("https://u:p?w@a/b?token=c", "https://[hidden]@a/b?token=[hidden]"),
            ("https://u:p/w", "https://[hidden]"),
            ("https://[::1]:8/b", "https://[::1]:8/b"),
            (
                "https://a/?to=http://u:p@b/?key=c&d=e",
                "https://a/?to=http://[hidden]@b/?key=[hidden]&d=e",
            ),
            ("https://a/?key=http://b", "https://a/?key=[hidden]"),
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
            (
                "rootpass=a inst.rootpw=b netcfg/wireless_wpa=c",
                "rootpass=[hidden] inst.rootpw=[hidden] netcfg/wireless_wpa=[hidden]",
            ),
            (
                "iommu=pt iommu.passthrough=1 apparmor=0",
                "iommu=pt iommu.passthrough=1 apparmor=0",
            ),
            (
                "netroot=iscsi:me:pw@10.0.0.1::::iqn",
                "netroot=iscsi:[hidden]@10.0.0.1::::iqn",
            ),
            (
                "netroot=iscsi:10.0.0.1::::iqn crashkernel=1M@2M",
                "netroot=iscsi:10.0.0.1::::iqn crashkernel=1M@2M",
            ),
            (
                "a=http://u:p@a/x,http://u:p@b/y",
                "a=http://[hidden]@a/x,http://[hidden]@b/y",
            ),
            ("a=http://u:p@a,http://u:p@b", "a=http://[hidden]@a,http://[hidden]@b"),
            ("(eyJh.eyJz.c2ln), x:eyJh.eyJz.c2ln.", "([hidden]), x:[hidden]"),
            ("a=eyJh.eyJz.c2ln b=eyJ", "a=[hidden] b=eyJ"),
            ("http://a:80, http://b: no", "http://a:80, http://b: no"),
            ("é://x", "é://x"),
        ] {
            assert_eq!(text(given), shown);
        }
    }

    #[test]
    fn a_word_of_many_urls_is_soon_done() {
        let shown = text(&"http://a:b@c/".repeat(5000));
        assert!(shown.len() < 1000 && !shown.contains("a:b"), "{shown}");
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
