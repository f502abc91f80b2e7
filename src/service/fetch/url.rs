//! Where a file is fetched: a URL, taken apart. Pure.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluent_uri::{Uri, UriRef};
use percent_encoding::percent_decode_str;

use crate::model::secrets;

/// Longest URL; servers take about 8 KiB (RFC 9110 §4.1 asks for that).
const MAX_URL_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => write!(f, "{address}"),
        }
    }
}

/// A URL of http or https. Shown (and printed for debugging) without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    uri: Uri<String>,
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// What a request line says: path and query.
    pub(crate) path: String,
    /// Value of `Authorization`, where the URL has a user.
    pub(crate) authorization: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&secrets::url(self.uri.as_str()))
    }
}

impl Target {
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text.len() > MAX_URL_BYTES {
            return Err(format!("a URL of {} bytes is too long", text.len()));
        }
        let uri = Uri::parse(text.to_owned()).ok();
        let uri = uri.filter(|uri| uri.authority().is_some());
        let uri = uri.ok_or_else(|| format!("{} is no URL such as http://192.0.2.1/boot.ipxe", plain(text)))?;
        let shown = secrets::url(text);
        let scheme = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(format!("{shown}: only http and https are fetched, not {other}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{shown} names no host"))?;
        let host = host(authority.host()).ok_or_else(|| format!("{shown}: {} is no host", authority.host()))?;
        let default = match scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port = authority.port_to_u16().ok().map(|port| port.unwrap_or(default));
        let port = port
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("{shown}: there is no such port"))?;
        let authorization = authority.userinfo().map(|user| {
            let user: Vec<u8> = percent_decode_str(user.as_str()).collect();
            basic(&user)
        });
        let path = match uri.path().as_str() {
            "" => "/",
            path => path,
        };
        let path = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Ok(Self {
            scheme,
            host,
            port,
            path,
            authorization,
            uri,
        })
    }

    /// Where a redirection leads (RFC 9110 §15.4). A user that the URL has goes along only to the same place.
    ///
    /// # Errors
    /// It leads to no URL, or out of TLS.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, String> {
        let to = UriRef::parse(location).ok();
        let to = to.and_then(|to| to.resolve_against(&without_fragment(&self.uri)).ok());
        let to = to.ok_or_else(|| "it leads to something that is no URL".to_owned())?;
        let to = Self::read(to.as_str())?;
        if self.scheme == Scheme::Https && to.scheme == Scheme::Http {
            return Err(format!("it leads out of TLS, to {to}: not followed"));
        }
        let user = self.uri.authority().and_then(|authority| authority.userinfo());
        match user {
            // In the URL too: names beside it are asked for as it is.
            Some(user) if to.authorization.is_none() && to.origin() == self.origin() => {
                Self::read(&to.as_str().replacen("://", &format!("://{}@", user.as_str()), 1))
            }
            _ => Ok(to),
        }
    }

    /// Who is asked. What is meant for one of these is sent to no other (RFC 6454).
    pub(crate) fn origin(&self) -> (Scheme, &Host, u16) {
        (self.scheme, &self.host, self.port)
    }

    /// `Host` of a request, and where a proxy is to connect with the port always in it.
    pub(crate) fn authority(&self, with_port: bool) -> String {
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) if !with_port => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The URL whole, with its secrets, for whoever resolves names against it.
    pub(crate) fn as_str(&self) -> &str {
        self.uri.as_str()
    }
}

/// RFC 7617.
pub(super) fn basic(user_and_password: &[u8]) -> String {
    format!("Basic {}", BASE64.encode(user_and_password))
}

/// What is no URL, as far as it may be shown: nobody can tell where a password ends in it.
fn plain(text: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-' | b'_');
    match text.len() <= 60 && text.bytes().all(is_plain) {
        true => text,
        false => "what is given",
    }
}

fn without_fragment(uri: &Uri<String>) -> Uri<String> {
    let text = uri.as_str().split('#').next().unwrap_or_default();
    Uri::parse(text.to_owned()).unwrap_or_else(|_| uri.clone())
}

fn host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        return Some(Host::Address(IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?)));
    }
    if let Ok(address) = text.parse() {
        return Some(Host::Address(IpAddr::V4(address)));
    }
    // RFC 1123 §2.1, and the underscores that people have nevertheless.
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    (name.len() <= 253 && name.split('.').all(label)).then(|| Host::Name(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, authority, port, path, authorization) in [
            ("http://a.example/b?c=d#e", "a.example", 80, "/b?c=d", None),
            ("HTTPS://A.example:8443", "a.example:8443", 8443, "/", None),
            ("http://[2001:db8::1]:80/x", "[2001:db8::1]", 80, "/x", None),
            ("http://192.0.2.1?x", "192.0.2.1", 80, "/?x", None),
            (
                "https://Aladdin:open%20sesame@a/",
                "a",
                443,
                "/",
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
        ] {
            let target = Target::read(text).unwrap();
            assert_eq!(target.authority(false), authority, "{text}");
            assert_eq!(target.port, port, "{text}");
            assert_eq!(target.path, path, "{text}");
            assert_eq!(target.authorization.as_deref(), authorization, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_said_without_secrets() {
        for (text, why) in [
            ("boot.ipxe", "no URL"),
            ("tftp://a/b", "not tftp"),
            ("http:/b", "no URL such as"),
            ("http://u:hunter2/x@a/", "what is given is no URL such as"),
            ("http://u:a?hunter2@a/", "no URL"),
            ("http:u:hunter2@a/", "no URL"),
            ("u:hunter2@a/b", "no URL"),
            ("a/b?token=hunter2", "no URL"),
            ("http://u:hunter2@a b/", "no URL"),
            ("http://u:hunter2@a%20b/", "no host"),
            ("http://u:hunter2@a:99999/", "port"),
            ("http://a:0/?token=hunter2", "port"),
            ("http://-.a..b/", "no host"),
            ("http://[fe80::1%25eth0]/", "no"),
        ] {
            let error = Target::read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{0} {0:?}", Target::read("http://u:hunter2@a/?token=hunter2").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(Target::read(&format!("http://a/{}", "x".repeat(MAX_URL_BYTES))).is_err());
    }

    #[test]
    fn a_redirection_keeps_a_user_at_its_place_and_never_leaves_tls() {
        let target = Target::read("https://u:p@a.example/b/c?d").unwrap();
        for (location, url, user) in [
            ("e", "https://a.example/b/e", true),
            ("/e?f", "https://a.example/e?f", true),
            ("https://b.example/", "https://b.example/", false),
            ("//a.example:444/", "https://a.example:444/", false),
            ("https://a.example/g/h", "https://a.example/g/h", true),
            ("https://v:q@b.example/", "https://[hidden]@b.example/", true),
        ] {
            let to = target.redirect(location).unwrap();
            assert_eq!(to.to_string().replace("[hidden]@a", "a"), url);
            assert_eq!(to.authorization.is_some(), user, "{location}");
            // What lies beside it is asked for in the same way.
            assert_eq!(Target::read(to.as_str()).unwrap(), to);
        }
        assert!(
            target
                .redirect("http://a.example/")
                .unwrap_err()
                .contains("leads out of TLS")
        );
        assert!(target.redirect("ftp://a.example/").is_err());
        assert!(target.redirect("http://").is_err());
        let plain = Target::read("http://a/").unwrap();
        assert_eq!(plain.redirect("https://a/").unwrap().scheme, Scheme::Https);
    }
}
