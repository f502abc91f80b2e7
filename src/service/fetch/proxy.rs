//! Which proxy a URL goes through, as curl(1) reads the environment. Pure.

use std::net::IpAddr;

use super::url::{Host, Scheme, Target};

/// Proxies of both schemes, and who is asked without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Target>,
    https: Option<Target>,
    without: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    /// This name and all below it.
    Name(String),
    Network(IpAddr, u8),
}

impl Proxies {
    /// `given` is the one that was asked for, for everything; else `variable` gives what a variable of the environment says.
    ///
    /// # Errors
    /// A proxy that is none, in words.
    pub(crate) fn of(given: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        if let Some(given) = given {
            let proxy = Some(proxy(given)?);
            return Ok(Self {
                http: proxy.clone(),
                https: proxy,
                without: Vec::new(),
            });
        }
        let all = first(&["all_proxy", "ALL_PROXY"]);
        let read = |value: Option<String>| value.or_else(|| all.clone()).map(|value| proxy(&value)).transpose();
        Ok(Self {
            // Not HTTP_PROXY: a server that runs this program for others lets them set it (CVE-2016-5385).
            http: read(first(&["http_proxy"]))?,
            https: read(first(&["https_proxy", "HTTPS_PROXY"]))?,
            without: first(&["no_proxy", "NO_PROXY"])
                .map(|list| exceptions(&list))
                .unwrap_or_default(),
        })
    }

    pub(crate) fn of_target(&self, target: &Target) -> Option<&Target> {
        if self.without.iter().any(|exception| exception.covers(&target.host)) {
            return None;
        }
        match target.scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }
    }
}

fn proxy(text: &str) -> Result<Target, String> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let target = Target::read(&whole).map_err(|why| format!("the proxy: {why}"))?;
    match target.scheme {
        Scheme::Http => Ok(target),
        Scheme::Https => Err(format!(
            "the proxy {target}: proxies are spoken to in http only; https goes through them by CONNECT"
        )),
    }
}

fn exceptions(list: &str) -> Vec<Exception> {
    let words = list.split([',', ' ']).filter(|word| !word.is_empty());
    let read = |word: &str| match word {
        "*" => Exception::All,
        word => {
            let bare = word.replace(['[', ']'], "");
            let (address, length) = bare.split_once('/').unwrap_or((&bare, "128"));
            match (address.parse(), length.parse()) {
                (Ok(address), Ok(length)) => Exception::Network(address, length),
                _ => Exception::Name(word.trim_matches('.').to_ascii_lowercase()),
            }
        }
    };
    words.map(read).collect()
}

impl Exception {
    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Exception::All, _) => true,
            (Exception::Name(name), Host::Name(host)) => {
                let host = host.trim_end_matches('.');
                host.strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Exception::Network(IpAddr::V4(network), length), Host::Address(IpAddr::V4(address))) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(*length).min(32)
            }
            (Exception::Network(IpAddr::V6(network), length), Host::Address(IpAddr::V6(address))) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(*length).min(128)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies
            .of_target(&Target::read(url).unwrap())
            .map(|proxy| proxy.authority(true))
    }

    #[test]
    fn the_environment_is_read_as_curl_does() {
        let variable = |name: &str| match name {
            "http_proxy" => Some("a.example:3128".to_owned()),
            "HTTPS_PROXY" => Some("http://b.example:8080/".to_owned()),
            "no_proxy" => Some("localhost, .c.example,192.0.2.0/24,[2001:db8::]/32,d.example".to_owned()),
            "HTTP_PROXY" => Some("http://evil.example".to_owned()),
            _ => None,
        };
        let proxies = Proxies::of(None, variable).unwrap();
        for (url, proxy) in [
            ("http://x.example/", Some("a.example:3128")),
            ("https://x.example/", Some("b.example:8080")),
            ("http://localhost/", None),
            ("http://c.example/", None),
            ("https://x.c.example./", None),
            ("http://xc.example/", Some("a.example:3128")),
            ("http://192.0.2.77/", None),
            ("http://192.0.3.77/", Some("a.example:3128")),
            ("http://[2001:db8:1::1]/", None),
            ("http://[2001:db9::1]/", Some("a.example:3128")),
        ] {
            assert_eq!(through(&proxies, url).as_deref(), proxy, "{url}");
        }
        let given = Proxies::of(Some("http://u:p@p.example"), variable).unwrap();
        assert_eq!(through(&given, "http://localhost/").as_deref(), Some("p.example:80"));
        let all = Proxies::of(None, |name| (name == "all_proxy").then(|| "q.example".to_owned())).unwrap();
        assert_eq!(through(&all, "https://localhost/").as_deref(), Some("q.example:80"));
        let none = Proxies::of(None, |name| {
            (name == "no_proxy" || name == "http_proxy").then(|| "*".to_owned())
        });
        assert!(none.unwrap_err().contains("the proxy"), "a star is no proxy");
        assert!(through(&Proxies::default(), "http://x.example/").is_none());
    }

    #[test]
    fn what_is_no_proxy_is_said() {
        assert!(
            Proxies::of(Some("https://p.example"), |_| None)
                .unwrap_err()
                .contains("http only")
        );
        assert!(Proxies::of(Some("http://u:hunter2@"), |_| None).is_err_and(|why| !why.contains("hunter2")));
        let dark = Proxies::of(None, |name| (name == "no_proxy").then(|| "*".to_owned())).unwrap();
        assert!(through(&dark, "http://a/").is_none());
    }
}
