//! Where a master's HTTP answers, and how that is written: as the URL that clients are given, and as the word `pxeaddr=` that
//! their kernels are. Port 80 goes without saying.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Where a master answers HTTP unless a URL or `pxeaddr=` names a port.
pub(crate) const HTTP_PORT: u16 = 80;

/// Address and port of a master's HTTP.
///
/// ```
/// use recon::model::Endpoint;
///
/// let master: Endpoint = "http://192.0.2.1/".parse()?;
/// assert_eq!(master, Endpoint::new([192, 0, 2, 1], 80));
/// assert_eq!((master.to_string().as_str(), master.host().as_str()), ("http://192.0.2.1", "192.0.2.1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint(pub SocketAddr);

impl Endpoint {
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Endpoint(SocketAddr::new(address.into(), port))
    }

    /// Without `http://`: as on the kernel line, and in the name of a device in GRUB. An IPv6 address without a port stands
    /// without brackets.
    pub fn host(self) -> String {
        match self.0.port() {
            HTTP_PORT => self.0.ip().to_string(),
            _ => self.0.to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(v6) if v6.port() == HTTP_PORT => write!(f, "http://[{}]", v6.ip()),
            _ => write!(f, "http://{}", self.host()),
        }
    }
}

/// What is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IP address with an optional port")]
pub struct NotAnEndpoint(String);

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    /// Reads `192.0.2.1`, `192.0.2.1:8080` or `http://192.0.2.1[:port][/]`, and the same with `[fd00::1]` or a bare `fd00::1`.
    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let address = bare
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(bare);
        bare.parse::<SocketAddr>()
            .map(Endpoint)
            .or_else(|_| address.parse::<IpAddr>().map(|ip| Endpoint::new(ip, HTTP_PORT)))
            .map_err(|_| NotAnEndpoint(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_80_goes_without_saying_and_what_is_written_is_read_back() {
        for (address, url, host) in [
            ("192.0.2.1:80", "http://192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:8080", "http://192.0.2.1:8080", "192.0.2.1:8080"),
            ("[fd00::1]:80", "http://[fd00::1]", "fd00::1"),
            ("[fd00::1]:8080", "http://[fd00::1]:8080", "[fd00::1]:8080"),
        ] {
            let endpoint = Endpoint(address.parse().unwrap());
            assert_eq!((endpoint.to_string().as_str(), endpoint.host().as_str()), (url, host));
            assert_eq!(url.parse(), Ok(endpoint));
            assert_eq!(host.parse(), Ok(endpoint));
        }
    }

    #[test]
    fn reads_masters_as_people_write_them() {
        for text in ["10.0.0.1", "10.0.0.1:80", "http://10.0.0.1", "http://10.0.0.1:80/"] {
            assert_eq!(text.parse(), Ok(Endpoint("10.0.0.1:80".parse().unwrap())), "{text}");
        }
        for text in [
            "fd00::1",
            "[fd00::1]",
            "[fd00::1]:80",
            "http://[fd00::1]",
            "http://[fd00::1]:80/",
        ] {
            assert_eq!(text.parse(), Ok(Endpoint("[fd00::1]:80".parse().unwrap())), "{text}");
        }
        for text in [
            "[fd00::1",
            "fd00::1]",
            "[10.0.0.1]:80",
            "fd00::1:",
            "[fd00::1]:99999",
            "http://",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
